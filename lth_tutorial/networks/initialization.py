"""Drawing a model's weights anew from a seed, by the model's own rules where it has any."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator
from functools import partial

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _NormBase
from torch.nn.utils import parametrize
from torch.nn.utils.prune import BasePruningMethod

from lth_tutorial.data.dataset import generator_for
from lth_tutorial.networks.parametrized import follow_weights
from lth_tutorial.networks.weights import (
    LISTS,
    ZEROS_SURVIVE,
    class_of,
    computed_refusal,
    computed_tensors,
    is_matrix,
    own_parameters,
    parametrizations_of,
)
from lth_tutorial.safety.arguments import checked
from lth_tutorial.safety.warn import warn
from lth_tutorial.states import check_initialized, tensors_of

OTHER_SIZE = 1.5
"""Factor beyond which most of a model's weights are of another size than before."""
ENOUGH = 200
"""Numbers whose size (root mean square) two draws give to 10 %: this factor is no chance."""


class InitializationWarning(UserWarning):
    """New weights were drawn from another distribution than the model's weights had."""


@checked
def reinitialize(model: nn.Module, seed: int) -> None:
    """Draw all of the model's weights anew, in place, from `seed`.

    Networks of this package are drawn as `build_model` draws them, inside another module too. Of
    any other module, the first rule that it has counts: its own `reset_parameters()`, called after
    those of the modules inside; a new one of its class, if its constructor needs no arguments and
    gives the same shapes; PyTorch's `reset_parameters()` of the layers inside. Masks of
    `torch.nn.utils.prune` stay.

    Raises:
        ValueError: if a module has parameters and no such rule, a layer is not initialised yet, a
            weight is computed in a way that cannot be turned round, or a rule draws nothing.

    Warns:
        InitializationWarning: if new weights differ from the old ones in size as training does not
            make them: then the model's initialisation was another one, e.g. in the constructor of
            a class that needs arguments. Give it a `reset_parameters`, or build a new model.
    """
    check_initialized(model)
    if seed >= 2**63:
        raise ValueError(f"seed is a whole number of at least 0 and below 2⁶³; got {seed}")
    tensors_of(model)  # what has no numbers is named first
    before = {name: p.detach().clone() for name, p in model.named_parameters()}
    ours = _networks_of_the_package(model)
    known = {id(p) for module in ours for p in module.parameters()}
    draws = list(_draws(model, "", {id(module) for module in ours}))
    for i, module in enumerate(ours):
        module.initialization(module, generator_for("initial weights", seed, *([i] if i else [])))
    with torch.random.fork_rng(), torch.no_grad():
        torch.manual_seed(seed)
        for draw in draws:
            draw()
        state = tensors_of(model)
        for name, tensor in follow_weights(state).items():
            if tensor is not state[name]:  # a vector of spectral norm
                state[name].copy_(tensor)
    now = {name: p.detach() for name, p in model.named_parameters() if id(p) not in known}
    _compare({name: (before[name], p) for name, p in now.items()}, seed)


def _networks_of_the_package(model: nn.Module) -> list[nn.Module]:
    """Return the outermost networks inside a model that know how `build_model` draws them."""
    if hasattr(model, "initialization"):
        return [model]
    return [found for child in model.children() for found in _networks_of_the_package(child)]


def _draws(module: nn.Module, path: str, done: set[int]) -> Iterator[Callable[[], None]]:
    """Yield what draws a module's weights, those inside it first; `done` are drawn otherwise."""
    if id(module) in done or isinstance(module, (*LISTS, parametrize.ParametrizationList)):
        return
    done.add(id(module))
    reset = getattr(module, "reset_parameters", getattr(module, "_reset_parameters", None))
    mixed = any(id(inside) in done for inside in list(module.modules())[1:])
    if reset is None and not mixed and _can_be_built_anew(module):
        yield partial(_build_anew, module)
        return
    for name, child in module.named_children():
        yield from _draws(child, f"{path}.{name}" if path else name, done)
    if reset is not None:
        _check_computed(module, path)
        yield partial(_reset, module, reset)
    elif any(True for _ in own_parameters(module)):
        raise ValueError(
            f"cannot re-initialise {path or 'the model'!r} ({type(module).__name__}): it has "
            f"parameters but no reset_parameters(); give it one"
        )


def _can_be_built_anew(module: nn.Module) -> bool:
    """Return whether the class's constructor, without arguments, gives the same parameters."""
    kind = class_of(module)
    if kind.__module__.startswith("torch.") or not any(True for _ in module.parameters()):
        return False
    try:
        inspect.signature(kind).bind()
        with torch.random.fork_rng():
            new = kind()
    except Exception:  # a signature that asks for arguments, or whatever a constructor raises
        return False
    shapes = [[(n, p.shape) for n, p in each.named_parameters()] for each in (module, new)]
    return shapes[0] == shapes[1]


def _build_anew(module: nn.Module) -> None:
    drawn = dict(class_of(module)().named_parameters())
    for name, parameter in module.named_parameters():
        parameter.copy_(drawn[name])
    for inside in module.modules():
        if isinstance(inside, _NormBase):
            inside.reset_running_stats()


def _reset(module: nn.Module, reset: Callable[[], None]) -> None:
    computed = list(parametrizations_of(module))
    with parametrize.cached():  # else what the rule writes into a computed weight is lost
        reset()
        values = {attribute: getattr(module, attribute).clone() for attribute in computed}
    for attribute, value in values.items():
        setattr(module, attribute, value)
    for hook in _pruning_hooks(module):
        stored = getattr(module, f"{hook._tensor_name}_orig")
        stored.copy_(getattr(module, hook._tensor_name))
        hook(module, ())


def _pruning_hooks(module: nn.Module) -> list[BasePruningMethod]:
    return [h for h in module._forward_pre_hooks.values() if isinstance(h, BasePruningMethod)]


def _check_computed(module: nn.Module, path: str) -> None:
    known = {hook._tensor_name for hook in _pruning_hooks(module)}
    known |= {
        attribute
        for attribute, steps in parametrizations_of(module).items()
        if tuple(map(type, steps)) in ZEROS_SURVIVE
    }
    for attribute, how in computed_tensors(module).items():
        if attribute not in known and "." not in attribute:
            name = f"{path}.{attribute}" if path else attribute
            raise ValueError(f"reinitialize cannot take {computed_refusal(name, how)}")


def _compare(pairs: dict[str, tuple[Tensor, Tensor]], seed: int) -> None:
    """Raise if a matrix was not drawn anew, warn if weights are of another size than before."""
    matrices = {name: pair for name, pair in pairs.items() if is_matrix(pair[0])}
    same = [n for n, (a, b) in matrices.items() if torch.equal(a, b) and a.unique().numel() > 1]
    if same:
        raise ValueError(
            f"{', '.join(same)}: the model's own rule does not draw this anew, or these are the "
            f"weights of seed {seed} already (by torch.manual_seed before the model was "
            f"built): take another seed"
        )
    ratio = {
        n: float(a.norm() / b.norm())
        for n, (a, b) in matrices.items()
        if a.numel() >= ENOUGH and a.any() and b.any()
    }
    odd = [n for n, r in ratio.items() if not 1 / OTHER_SIZE < r < OTHER_SIZE]
    filled = [n for n, (a, b) in pairs.items() if _is_constant(a) and not torch.equal(a, b)]
    sizes = [sum(matrices[n][0].numel() for n in names) for names in (odd, ratio)]
    if filled or 2 * sizes[0] > sizes[1]:
        name = (odd + filled)[0]
        was, now = (float(each.square().mean().sqrt()) for each in pairs[name])
        warn(
            f"{name} had a size (root mean square) of {was:.3g} and has {now:.3g} now, and others "
            f"likewise: if the old weights were initial ones, the model's own initialisation is "
            f"not the one that was drawn from. Give its class a reset_parameters(), or build new "
            f"models under torch.manual_seed",
            InitializationWarning,
        )


def _is_constant(tensor: Tensor) -> bool:
    """Return whether all numbers are one, as an initialisation leaves them and no training."""
    return tensor.numel() > 1 and bool((tensor == tensor.flatten()[0]).all())
