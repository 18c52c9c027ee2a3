"""What the training loop trains: one model, or many small ones as one stack.

Both kinds have the same few methods, with the replicate dimension first, so that there is one
training loop. A stack keeps the weights of R networks in tensors [R, outputs, inputs]: each layer
is one batched product for all of them, which for small networks is several times faster.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from lth_tutorial.models import State

_LARGEST_STACKED = 100_000
"""Weights per network up to which stacking pays on a CPU; above, memory bandwidth is the limit."""


class SingleModel:
    """One model, seen as a stack of one."""

    def __init__(self, model: nn.Module) -> None:
        self.models = [model]
        self.parameters = dict(model.named_parameters())
        self.size = 1
        random_layers = (nn.modules.dropout._DropoutNd, nn.RReLU)
        self.is_random = any(isinstance(m, random_layers) for m in model.modules())

    def set_training(self, training: bool) -> None:
        """Switch between training and evaluation behaviour (dropout, batch norm)."""
        if self.models[0].training != training:
            self.models[0].train(training)

    def logits(self, x: Tensor) -> Tensor:
        """Map [1, batch, …] to [1, batch, classes]."""
        return self.models[0](x[0])[None]

    def combine(self, tensors: Sequence[Tensor]) -> Tensor:
        """Arrange one tensor per replicate like the parameters."""
        return tensors[0]

    def state(self) -> dict[str, Tensor]:
        """Return live views of the state with the replicate dimension first."""
        return {name: t.detach()[None] for name, t in self.models[0].state_dict().items()}

    def write_back(self) -> None:
        """Nothing to do: the model itself was trained."""


class Stack:
    """Sequential networks of linear layers and ReLUs with the same shapes, trained as one."""

    is_random = False

    def __init__(self, models: Sequence[nn.Module]) -> None:
        self.models, self.size = list(models), len(models)
        named = [dict(model.named_parameters()) for model in models]
        self.parameters = {
            name: torch.stack([each[name].detach() for each in named]).requires_grad_()
            for name in named[0]
        }
        self.layers = [(name, module) for name, module in models[0].named_children()]

    def set_training(self, training: bool) -> None:
        """Nothing differs between training and evaluation in these layers."""

    def logits(self, x: Tensor) -> Tensor:
        """Map [replicates, batch, …] to [replicates, batch, classes]."""
        for name, layer in self.layers:
            if isinstance(layer, nn.Flatten):
                x = x.flatten(2)
            elif isinstance(layer, nn.ReLU):
                x = x.relu()
            else:
                weight = self.parameters[f"{name}.weight"].transpose(1, 2)
                bias = self.parameters.get(f"{name}.bias")
                x = (
                    torch.bmm(x, weight)
                    if bias is None
                    else torch.baddbmm(bias[:, None], x, weight)
                )
        return x

    def combine(self, tensors: Sequence[Tensor]) -> Tensor:
        """Arrange one tensor per replicate like the parameters."""
        return torch.stack(list(tensors))

    def state(self) -> dict[str, Tensor]:
        """Return live views of the state with the replicate dimension first."""
        return {name: parameter.detach() for name, parameter in self.parameters.items()}

    @torch.no_grad()
    def write_back(self) -> None:
        """Copy the trained weights into the models that were stacked."""
        for i, model in enumerate(self.models):
            for name, parameter in model.named_parameters():
                parameter.copy_(self.parameters[name][i])


def can_stack(models: Sequence[nn.Module]) -> bool:
    """Return whether the models can be, and are worth being, trained as one."""
    first = models[0]
    if not isinstance(first, nn.Sequential):
        return False
    known = all(
        (type(layer) is nn.Flatten and layer.start_dim == 1 and layer.end_dim == -1)
        or type(layer) in (nn.ReLU, nn.Linear)
        for layer in first
    )
    parameters = dict(first.named_parameters())
    trainable = all(p.requires_grad and p.dtype == torch.float32 for p in parameters.values())
    small = sum(p.numel() for p in parameters.values()) <= _LARGEST_STACKED
    on_gpu = next(iter(parameters.values())).is_cuda if parameters else False
    same = all(str(model) == str(first) for model in models)
    return known and trainable and same and (small or on_gpu)


def split_states(stacked: dict[str, Tensor]) -> list[State]:
    """Return one copied state per replicate from a state with the replicate dimension first."""
    n = len(next(iter(stacked.values())))
    return [{name: tensor[i].clone() for name, tensor in stacked.items()} for i in range(n)]
