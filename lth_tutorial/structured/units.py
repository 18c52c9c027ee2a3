"""Units: the neurons, filters and heads of a network, in groups that are coupled.

Chapter 3 needs this. A *group* holds the units of one layer, or of several layers whose outputs
are added and can only lose the same unit together. *Units* are a dictionary from a group's name to
a boolean tensor, True = kept: a mask over units, made by `prune` from scores over units.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn.modules.conv import _ConvNd, _ConvTransposeNd

from lth_tutorial.criteria import random_scores
from lth_tutorial.networks.transformer import Attention
from lth_tutorial.networks.weights import check_stored
from lth_tutorial.pruning.masks import Scores
from lth_tutorial.runtime import choose
from lth_tutorial.safety.arguments import checked
from lth_tutorial.states import check_initialized
from lth_tutorial.structured.labels import Trace
from lth_tutorial.structured.tracing import UntraceableError, trace_units

Units = dict[str, Tensor]
"""Group name to boolean tensor over its units, True = kept."""

CRITERIA = ("l1", "bn_scale", "random")


@dataclass(frozen=True)
class UnitGroup:
    """Units that are made by one layer, or by several whose outputs are added.

    Attributes:
        name: of the first layer that makes them; of the attention, for heads.
        kind: "neuron", "filter" or "head".
        size: number of units.
        rows: layer name to the unit of each of its outputs, shape [outputs]. More than one layer:
            they are *coupled*, and lose a unit together.
        columns: layer name to the unit of each of its inputs, shape [inputs]; −1 where an input
            is no unit of this group. A dense layer behind `flatten` reads a filter by many inputs.
        norms: name of a batch norm, instance norm or PReLU to the unit of each channel, likewise.
        pinned: why no unit can be removed, or None.
        own: name of a parameter or buffer that the model uses by itself, a scale for instance, to
            the dimension along which it has units, and the unit of each index there, likewise.
        transposed: layers among these whose weight has the inputs first.
    """

    name: str
    kind: Literal["neuron", "filter", "head"]
    size: int
    rows: dict[str, Tensor]
    columns: dict[str, Tensor]
    norms: dict[str, Tensor]
    pinned: str | None
    own: dict[str, tuple[int, Tensor]] = field(default_factory=dict)
    transposed: frozenset[str] = frozenset()


@checked
def unit_groups(model: nn.Module, x: Tensor) -> dict[str, UnitGroup]:
    """Find the units of a network, and which layers are coupled.

    The network is recorded by torch.fx, and labels of units are followed through it: additions
    couple layers, concatenations put units side by side, and a layer norm, the network's output
    or a fixed input pins them.

    Args:
        model: any module that torch.fx can record, on any device.
        x: an example input [batch, …]; only its shape matters.

    Returns:
        groups by name, in the order of the forward pass; pinned ones too.

    Raises:
        UntraceableError: if the coupling cannot be traced; names the operation. It is a ValueError.
    """
    check_initialized(model)
    check_stored(model, "unit_groups")
    trace = trace_units(model, x)
    _check_untied(model, {*trace.rows, *trace.columns, *trace.norms})
    _pin_tied(model, trace)
    layers: dict[int, list[str]] = {}  # label that stands for a group, to its layers
    group_of = list(range(len(trace.parents)))

    def top(label: int) -> int:
        label = trace.find(label)
        while group_of[label] != label:
            label = trace.find(group_of[label])
        return label

    owned = {name: labels for name, labels in trace.rows.items() if int(labels.max()) >= 0}
    for labels in owned.values():
        for label in labels.unique().tolist():
            a, b = sorted((top(int(labels[0])), top(label)))
            group_of[b] = a
    for name, labels in owned.items():
        layers.setdefault(top(int(labels[0])), []).append(name)
    groups = [_group(model, trace, names) for names in layers.values()]
    return {group.name: group for group in groups}


@checked
def all_units(groups: Mapping[str, UnitGroup]) -> Units:
    """Return the units that keep everything: the start for `prune`. Pinned groups are left out.

    Raises:
        ValueError: if every group is pinned; says why.
    """
    free = {g.name: torch.ones(g.size, dtype=torch.bool) for g in groups.values() if not g.pinned}
    if not free:
        reasons = "; ".join(f"{g.name}: {g.pinned}" for g in groups.values())
        raise ValueError(f"no unit of this network can be removed ({reasons})")
    return free


@checked
def unit_scores(
    model: nn.Module,
    groups: Mapping[str, UnitGroup],
    by: Literal["l1", "bn_scale", "random"] = "l1",
    *,
    seed: int = 0,
) -> Scores:
    """Return the importance of every unit that can be removed, higher = keep.

    Args:
        by: "l1", the sum of |w| over all rows of a unit (Li et al. 2017, section 3.1), of all
            coupled layers together; "bn_scale", the mean |γ| of its batch norms (network slimming,
            Liu et al. 2017, section 3), which may be compared across layers; or "random".
        seed: draws the random scores.

    Returns:
        group name to scores [units], for `prune` with `all_units(groups)`.

    Raises:
        ValueError: for an unknown criterion, "bn_scale" where a group has no batch norm, or groups
            of another network.
    """
    choose("criterion", by, CRITERIA)
    check_groups(groups, dict(model.named_parameters(remove_duplicate=False)))
    places = {name: i for i, (name, _) in enumerate(model.named_modules())}
    units = all_units({n: groups[n] for n in sorted(groups, key=lambda n: places.get(n, -1))})
    if by == "random":
        return random_scores(units, seed)
    scores = {}
    for name in units:
        group, total, count = groups[name], torch.zeros(groups[name].size), 0
        parts = group.rows if by == "l1" else group.norms
        for layer, index in parts.items():
            module = model.get_submodule(layer)
            weight = getattr(module, "weight", None)
            if weight is None or isinstance(module, nn.PReLU):
                continue
            own, weight = index >= 0, weight.movedim(row_dim(module), 0)
            values = weight.detach().abs().flatten(1).sum(dim=1) if by == "l1" else weight.abs()
            total.index_add_(0, index[own], values.detach().float().cpu()[own])
            count += 1
        if not count:
            raise ValueError(
                f"bn_scale ranks by the scales of batch norm, and {name} has none; take by='l1'"
            )
        scores[name] = total if by == "l1" else total / count
    return scores


def _group(model: nn.Module, trace: Trace, names: list[str]) -> UnitGroup:
    roots = dict.fromkeys(trace.find(v) for n in names for v in trace.rows[n].tolist())
    unit_of = {root: i for i, root in enumerate(roots)}

    def units(labels: Tensor) -> Tensor:
        found = [unit_of.get(trace.find(v), -1) if v >= 0 else -1 for v in labels.tolist()]
        return torch.tensor(found, dtype=torch.long)

    def table(labels: Mapping[str, Tensor]) -> dict[str, Tensor]:
        found = {name: units(each) for name, each in labels.items()}
        return {name: index for name, index in found.items() if bool((index >= 0).any())}

    first, _, part = names[0].rpartition(".")
    heads = part == "query" and isinstance(model.get_submodule(first), Attention)
    filters = isinstance(model.get_submodule(names[0]), _ConvNd)
    own, uncut = {}, []
    for name, labels in trace.own.items():
        index = units(labels.flatten()).view(labels.shape)
        if bool((index >= 0).any()):
            dims = [d for d in range(index.ndim) if _is_along(index, d)]
            if dims:
                own[name] = (
                    dims[0],
                    index.movedim(dims[0], 0).reshape(index.shape[dims[0]], -1)[:, 0],
                )
            else:
                uncut.append(f"{name} holds it in several dimensions")
    reasons = [trace.pinned[root] for root in roots if root in trace.pinned] + uncut
    return UnitGroup(
        name=first if heads else names[0],
        kind="head" if heads else "filter" if filters else "neuron",
        size=len(roots),
        rows={name: units(trace.rows[name]) for name in names},
        columns=table(trace.columns),
        norms=table(trace.norms),
        pinned=reasons[0] if reasons else None,
        own=own,
        transposed=frozenset(
            n for n in (*trace.rows, *trace.columns) if row_dim(model.get_submodule(n))
        ),
    )


def _is_along(index: Tensor, dim: int) -> bool:
    flat = index.movedim(dim, 0).reshape(index.shape[dim], -1)
    return bool((flat == flat[:, :1]).all())


def check_groups(groups: Mapping[str, UnitGroup], weights: Mapping[str, Tensor]) -> None:
    """Raise a ValueError unless groups of units are those of a network with these weights."""
    for group in groups.values():
        for layer, index in group.rows.items() if not group.pinned else ():
            weight = weights.get(f"{layer}.weight")
            dim = 1 if layer in group.transposed else 0
            if weight is None or weight.ndim < 2 or weight.shape[dim] != len(index):
                got = "no such layer" if weight is None else f"shape {tuple(weight.shape)}"
                raise ValueError(
                    f"these groups are of another network: they make {len(index)} outputs by "
                    f"{layer}.weight, and here is {got}; unit_groups(model, x) finds its own"
                )


def row_dim(module: nn.Module) -> int:
    """Return which of the first two dimensions of a layer's weight holds its outputs."""
    return 1 if isinstance(module, _ConvTransposeNd) else 0


def _pin_tied(model: nn.Module, trace: Trace) -> None:
    """Pin the units that a layer makes or reads with a weight that is another module's as well."""
    places: dict[int, list[tuple[str, str]]] = {}
    for path, module in model.named_modules():
        for name, parameter in module.named_parameters(recurse=False):
            places.setdefault(id(parameter), []).append((path, name))
    for shared in places.values():
        for layer, name in shared:
            other = next((".".join(each) for each in shared if each[0] != layer), None)
            for table in (trace.rows, trace.columns, trace.norms) if other else ():
                if layer in table:
                    trace.pin(table[layer], f"{layer}.{name} is {other} as well, not to be cut")


def _check_untied(model: nn.Module, seen: set[str]) -> None:
    """Raise an UntraceableError for a weight that layers share, if the recording saw one."""
    modules = [(n, m) for n, m in model.named_modules() if isinstance(m, (nn.Linear, _ConvNd))]
    parameters = {n: m._parameters.get("weight") for n, m in modules if n in seen}
    places = Counter(id(m._parameters.get("weight")) for _, m in modules)
    tied = [n for n, p in parameters.items() if p is not None and places[id(p)] > 1]
    if tied:
        raise UntraceableError(
            f"{', '.join(tied)} share one weight, so that a unit of one would be cut from all: "
            f"give each layer a weight of its own"
        )
