"""Labels of units: which elements belong together, and which units cannot be removed.

Every element of an activation carries the label of the unit that it comes from. Two labels become
one where units are added to each other; a unit is pinned by a reason why it must stay.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import torch
from torch import Tensor

NO_UNIT = -1
"""The label of elements that belong to no unit: the network's input, or a parameter."""

PADDING = -2
"""The label of zeros that a forward pass puts beside units: their number is written into it."""

REASONS = {
    NO_UNIT: "joins it to a fixed input or parameter",
    PADDING: "joins it to zeros that the forward pass puts beside other units, and their number "
    "is written there",
}


@dataclass
class Trace:
    """What is known of a network's units: labels by layer, in the order of the forward pass.

    Attributes:
        rows: labels of the outputs of each layer that makes units, shape [outputs].
        columns: labels of the inputs of each layer that reads units, shape [inputs].
        norms: labels of the channels of each batch or instance norm, and PReLU.
        own: labels of every element of a parameter or buffer that the model uses by itself.
        parents: label to an equal one; itself for the one that stands for all.
        pinned: such a label to the reason why it cannot be removed.
    """

    rows: dict[str, Tensor] = field(default_factory=dict)
    columns: dict[str, Tensor] = field(default_factory=dict)
    norms: dict[str, Tensor] = field(default_factory=dict)
    own: dict[str, Tensor] = field(default_factory=dict)
    parents: list[int] = field(default_factory=list)
    pinned: dict[int, str] = field(default_factory=dict)

    def new(self, n: int) -> Tensor:
        """Return `n` new labels."""
        first = len(self.parents)
        self.parents += range(first, first + n)
        return torch.arange(first, first + n)

    def find(self, label: int) -> int:
        """Return the label that stands for all that are equal to this one."""
        while self.parents[label] != label:
            label = self.parents[label]
        return label

    def of_model(self, tensor: Tensor, name: str) -> Tensor:
        """Return labels for a tensor of the model: a scale may lose elements with its units."""
        if not tensor.is_floating_point():
            return torch.full(tensor.shape, NO_UNIT)
        if name not in self.own:
            self.own[name] = self.new(tensor.numel()).view(tensor.shape)
        return self.own[name]

    def is_own(self, labels: Tensor) -> Tensor:
        """Return which labels are those of tensors of the model."""
        spans = [(int(own.min()), int(own.max())) for own in self.own.values() if own.numel()]
        result = torch.zeros(labels.shape, dtype=torch.bool)
        for low, high in spans:
            result |= (labels >= low) & (labels <= high)
        return result

    def join(self, one: int, other: int) -> None:
        """Make two labels one."""
        one, other = sorted((self.find(one), self.find(other)))
        self.parents[other] = one
        if other in self.pinned:
            self.pinned.setdefault(one, self.pinned[other])

    def unite(self, a: Tensor, b: Tensor, what: str) -> Tensor:
        """Make two tensors of labels equal, element by element, and return them as one.

        An element of the model's own that meets one unit goes with it; one that meets several,
        such as a common factor, binds none of them.
        """
        a, b = torch.broadcast_tensors(a, b)
        pairs = torch.stack([a.flatten(), b.flatten()]).unique(dim=1)
        own, met = self.is_own(pairs), {}
        for (one, other), (first, second) in zip(pairs.T.tolist(), own.T.tolist(), strict=True):
            if first != second:
                met.setdefault(one if first else other, set()).add(other if first else one)
            elif min(one, other) < 0:
                if max(one, other) >= 0:
                    self.pin(torch.tensor(max(one, other)), f"{what} {REASONS[min(one, other)]}")
            else:
                self.join(one, other)
        for label, units in met.items():
            if len({self.find(unit) if unit >= 0 else unit for unit in units}) == 1:
                unit = units.pop()
                if unit >= 0:
                    self.join(unit, label)
        return torch.where(self.is_own(a), b, torch.where(self.is_own(b), a, torch.maximum(a, b)))

    def pin(self, labels: Tensor, why: str) -> None:
        """Say why units cannot be removed; the first reason stays."""
        for label in labels.unique().tolist():
            if label >= 0:
                self.pinned.setdefault(self.find(label), why)

    def record(self, table: dict[str, Tensor], layer: str, labels: Tensor) -> Tensor:
        """Note the labels of a layer; those of a layer used twice become equal."""
        if layer in table:
            labels = self.unite(table[layer], labels, f"{layer} is used twice, which")
        table[layer] = labels
        return labels
