"""States: a network's weights as a dictionary, copied so that training cannot reach them.

Everything that is rewound, compared or written to disk is a `State`. `state_hash` is the proof
that two of them are the same to the bit.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping

import torch
from torch import Tensor, nn

from lth_tutorial.safety.arguments import checked

__all__ = ["State", "load_state_", "snapshot", "state_hash"]

State = dict[str, Tensor]
"""A detached copy of a model's `state_dict()`: parameter name to tensor."""


@checked
def snapshot(model: nn.Module) -> State:
    """Return a copy of the model's state that later training cannot change.

    Of tensors alone: what a module's `get_extra_state()` gives beside them stays with the module;
    `load_state_` knows that.

    Raises:
        ValueError: if a lazy layer is not initialised yet; names it.
    """
    check_initialized(model)
    return {name: tensor.detach().clone() for name, tensor in tensors_of(model).items()}


def check_initialized(model: nn.Module) -> None:
    """Raise a ValueError, naming it, if a lazy layer does not know its shape yet.

    Or if the model was traced or exported: what is left of it is no module like others.
    """
    if type(model).__name__ == "TopLevelTracedModule" or "_guards_fn" in model._modules:
        raise ValueError(
            f"{type(model).__name__} was recorded by torch.jit.trace or torch.export and cannot be "
            f"changed or asked for its layers; pass the module that it was made from"
        )
    for name, tensor in (*model.named_parameters(), *model.named_buffers()):
        if nn.parameter.is_lazy(tensor):
            layer = name.rpartition(".")[0] or type(model).__name__
            raise ValueError(
                f"layer {layer} is not initialised yet: run one batch through the model first"
            )
    for name, parameter in model.named_parameters():
        if parameter.layout is not torch.strided or parameter.is_inference():
            kind = "an inference tensor" if parameter.is_inference() else parameter.layout
            raise ValueError(
                f"{name} is {kind}: parameters are dense tensors that can be trained; build the "
                f"model outside torch.inference_mode()"
            )


def tensors_of(model: nn.Module) -> State:
    """Return the tensors of a model's `state_dict()`, not copied.

    Raises:
        ValueError: if it leaves a parameter out, or gives it another name: what is not in a state
            could be neither kept nor rewound. Or if it has a tensor that is sparse, or without
            numbers.
    """
    state = _tensors(model.state_dict())
    missing = [name for name, _ in model.named_parameters() if name not in state]
    if missing:
        raise ValueError(
            f"state_dict() of {type(model).__name__} says nothing about {', '.join(missing[:5])}"
            f"{' …' if missing[5:] else ''}: it must hold every parameter by its own name, to be "
            f"kept and rewound; wrap a model whose state_dict says otherwise"
        )
    empty = [name for name, tensor in state.items() if tensor.is_meta]
    if empty:
        raise ValueError(
            f"{', '.join(empty[:5])}{' …' if empty[5:] else ''}: on the device 'meta' tensors have "
            f"no numbers, which this needs; build the model on another"
        )
    sparse = [name for name, tensor in state.items() if tensor.layout is not torch.strided]
    if sparse:
        raise ValueError(
            f"{', '.join(sparse)}: a state holds dense tensors; a sparse constant belongs into "
            f"register_buffer(…, persistent=False)"
        )
    return state


def _tensors(state: Mapping[str, object]) -> State:
    return {name: tensor for name, tensor in state.items() if isinstance(tensor, Tensor)}


@checked
def load_state_(model: nn.Module, state: State) -> None:
    """Give the model the weights of a state, in place.

    As `model.load_state_dict(state)`, except that a module with an extra state that is no tensor
    keeps its own, and that a model which the state does not fit stays as it was.

    Raises:
        ValueError: if this is the state of another network; names the tensors.
    """
    own = model.state_dict()
    check_state(_tensors(state), _tensors(own), type(model).__name__)
    model.load_state_dict({n: v for n, v in own.items() if not isinstance(v, Tensor)} | state)


def check_state(state: State, own: State, model: str) -> None:
    """Raise a ValueError unless a state has the names and the shapes of a model's own."""
    odd = sorted(set(state) ^ set(own)) or [n for n in own if own[n].shape != state[n].shape]
    if odd:
        shapes = [
            "none" if odd[0] not in each else str(tuple(each[odd[0]].shape))
            for each in (state, own)
        ]
        raise ValueError(
            f"the state is of another network than this {model}: {', '.join(odd[:5])}"
            f"{' …' if odd[5:] else ''} differ; of {odd[0]} the state has shape {shapes[0]}, the "
            f"model {shapes[1]}"
        )


@checked
def state_hash(state: State) -> str:
    """Return a SHA-256 digest of names, types, shapes and bits of a state's tensors.

    Equal digests mean bit-identical weights: the proof that a ticket was rewound.
    """
    digest, state = hashlib.sha256(), _tensors(state)
    for name in sorted(state):
        tensor = state[name].detach().cpu().contiguous()
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode())
        digest.update(tensor.reshape(-1).view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()
