"""Removal: from units to a smaller dense network that computes what the masked one computes.

A filter that is set to zero is not yet gone: the batch norm behind it still adds its shift, and
the next layer still reads it. `unit_mask` and `silence_` therefore take a unit's rows *and* the
columns that read it. `remove_units` cuts both out, and proves on an example that nothing changed.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn
from torch.nn.modules.conv import _ConvNd
from torch.utils._pytree import tree_flatten

from lth_tutorial.networks.calls import copied
from lth_tutorial.networks.first_pass import taking
from lth_tutorial.networks.transformer import Attention
from lth_tutorial.pruning.masks import (
    Mask,
    apply_mask_,
    check_boolean,
    dense_mask,
    weights_under,
)
from lth_tutorial.runtime import choose
from lth_tutorial.safety.arguments import checked
from lth_tutorial.structured.units import UnitGroup, Units, check_groups, row_dim, unit_groups

TOLERANCE = 1e-3
"""Largest difference of outputs that counts as rounding, as a share of the largest output."""


@checked
def unit_mask(model: nn.Module, units: Units, groups: Mapping[str, UnitGroup]) -> Mask:
    """Return the weight mask of some units: without the rows and the columns of the others.

    Training under it never revives a unit, and removing the unit afterwards changes nothing.

    Raises:
        ValueError: if the units do not fit the groups, or leave a group empty.
    """
    check_units(units, groups)
    rows, columns, _ = _kept_parts(units, groups)
    mask = dense_mask(model)
    check_groups(groups, dict(model.named_parameters(remove_duplicate=False)))
    for layer, kept in rows.items():
        if not bool(kept.all()):  # of a pinned layer the weight may be no prunable one
            _by_rows(groups, layer, mask[f"{layer}.weight"])[~kept] = False
    for layer, kept in columns.items():
        if not bool(kept.all()):
            _by_rows(groups, layer, mask[f"{layer}.weight"])[:, ~kept] = False
    return mask


def _by_rows(groups: Mapping[str, UnitGroup], layer: str, weight: Tensor) -> Tensor:
    """Return a view of a layer's weight with its outputs first and its inputs second."""
    transposed = any(layer in group.transposed for group in groups.values())
    return weight.transpose(0, 1) if transposed else weight


@checked
def kept_units(mask: Mask, groups: Mapping[str, UnitGroup]) -> Units:
    """Return the units that a weight mask keeps: the inverse of `unit_mask`.

    A unit counts as removed if all weights of its rows are, in every layer of its group. The
    columns that read it may still be there.

    Raises:
        ValueError: if the mask is not structured: a unit is partly kept, or removed from one of
            several coupled layers. Names the layer and the unit.
    """
    check_boolean(mask)
    check_groups(groups, mask)
    units: Units = {}
    places = {name: i for i, name in enumerate(mask)}
    free = [group for group in groups.values() if not group.pinned]
    for group in sorted(free, key=lambda g: places.get(f"{next(iter(g.rows))}.weight", -1)):
        alive = {}
        for layer, index in group.rows.items():
            kept = _by_rows(groups, layer, mask[f"{layer}.weight"]).flatten(1).any(dim=1).cpu()
            alive[layer] = torch.zeros(group.size, dtype=torch.bool).index_put((index[kept],), _ON)
        first, *others = alive
        for other in others:
            differing = (alive[first] != alive[other]).nonzero().flatten().tolist()
            if differing:
                gone, kept = (first, other) if alive[other][differing[0]] else (other, first)
                raise ValueError(
                    f"{group.kind} {differing[0]} is removed from {gone} and kept in {kept}, but "
                    f"the two are coupled (their outputs are joined): remove it from all of "
                    f"{', '.join(alive)}"
                )
        units[group.name] = alive[first]
    check_units(units, groups)
    rows, columns, _ = _kept_parts(units, groups)
    kinds = {layer: group.kind for group in groups.values() for layer in group.rows}
    for name, kept in mask.items():
        layer = name.removesuffix(".weight")
        if layer not in rows and layer not in columns:
            continue  # the recording never saw it, and nothing is cut from it
        kept = _by_rows(groups, layer, kept)
        part = kept.cpu()[rows[layer]] if layer in rows else kept.cpu()
        part = part[:, columns[layer]] if layer in columns else part
        partly = (~part.flatten(1).all(dim=1)).nonzero().flatten().tolist()
        if partly:
            own = rows[layer].nonzero().flatten() if layer in rows else range(len(part))
            row, n = int(own[partly[0]]), int(part[partly[0]].sum())
            raise ValueError(
                f"the mask is not structured: {_row_name(kinds.get(layer), row)} of {name} is "
                f"partly kept, {n} of its {part[0].numel()} weights. Only whole units can be "
                f"removed; make the mask by unit_mask"
            )
    return units


@checked
def silence_(model: nn.Module, units: Units, groups: Mapping[str, UnitGroup]) -> None:
    """Set everything of the removed units to zero, in place: the network keeps its size.

    Their rows, biases, batch-norm scales and *shifts*, and the columns that read them.

    Raises:
        ValueError: if the units do not fit the groups, or leave a group empty.
    """
    apply_mask_(model, unit_mask(model, units, groups))
    rows, _, norms = _kept_parts(units, groups)
    with torch.no_grad():
        for layer, kept in rows.items():
            _zero(model.get_submodule(layer).bias, kept)
        for layer, kept in norms.items():
            norm = model.get_submodule(layer)
            _zero(norm.weight, kept)
            _zero(getattr(norm, "bias", None), kept)


@checked
def remove_units(model: nn.Module, units: Units | Mask, x: Tensor) -> nn.Module:
    """Return a smaller copy of the network, without the units that are not kept.

    It computes what the network computes with those units silenced. That is checked on `x`.

    Args:
        units: by group name, True = kept (groups that are missing stay whole), or a structured
            weight mask by parameter name.
        x: some example inputs [batch, …] on the model's device; a few are enough.

    Returns:
        a new module of the same class with smaller layers, in the model's mode.

    Raises:
        ValueError: if the removal would empty a group (names it), units or mask do not fit, the
            mask is not structured, or the smaller network does not compute what it should: then
            a size is written into the forward pass.
        UntraceableError: if the coupling cannot be traced.

    Source: Li et al. 2017, section 3.1; network slimming, Liu et al. 2017, section 3.
    """
    groups = unit_groups(model, x)
    if units and not set(units) <= set(groups) and all(n.endswith("weight") for n in units):
        weights_under(model, units)
        units = kept_units(units, groups)
    check_units(units, groups)
    rows, columns, norms = _kept_parts(units, groups)
    small = copied(model)
    for layer in {**rows, **columns, **norms}:
        module = small.get_submodule(layer)
        _cut(module, rows.get(layer), columns.get(layer), norms.get(layer))
    for name, (dim, kept) in _kept_own(units, groups).items():
        owner, _, attribute = name.rpartition(".")
        _keep(small.get_submodule(owner), attribute, kept, dim)
    for name, module in small.named_modules():
        if isinstance(module, Attention) and name in units:
            module.heads = int(units[name].sum())
    _prove(model, small, units, groups, x)
    return small


def check_units(units: Units, groups: Mapping[str, UnitGroup]) -> None:
    """Raise a ValueError unless units fit the groups and leave each of them at least one."""
    for name, kept in units.items():
        group = groups[choose("group of units", name, groups)]
        if kept.dtype != torch.bool or kept.shape != (group.size,):
            raise ValueError(
                f"units of {name} are a boolean tensor of {group.size}, True = kept; got "
                f"{kept.dtype} of shape {tuple(kept.shape)}"
            )
        if group.pinned and not bool(kept.all()):
            raise ValueError(f"no {group.kind} of {name} can be removed: {group.pinned}")
        if not bool(kept.any()):
            raise ValueError(
                f"this would remove all {group.size} {group.kind}s of {name}, and nothing would "
                f"pass through; keep a minimum: prune(…, min_per_layer=1)"
            )


_ON = torch.tensor(True)


def _row_name(kind: str | None, row: int) -> str:
    return f"output {row} (of a head)" if kind == "head" else f"{kind or 'output'} {row}"


def _kept_parts(
    units: Units, groups: Mapping[str, UnitGroup]
) -> tuple[dict[str, Tensor], dict[str, Tensor], dict[str, Tensor]]:
    """Return which rows, columns and batch-norm channels are kept, by layer, on the CPU.

    Raises:
        ValueError: if a layer would keep none: one of several that share a group may have few.
    """
    parts: tuple[dict, dict, dict] = ({}, {}, {})
    for name, group in groups.items():
        kept = units.get(name, torch.ones(group.size, dtype=torch.bool)).cpu()
        for part, table in zip(parts, (group.rows, group.columns, group.norms), strict=True):
            for layer, index in table.items():
                own = torch.where(index >= 0, kept[index], _ON)
                part[layer] = part[layer] & own if layer in part else own
    for what, part in zip(("outputs", "inputs", "channels"), parts, strict=True):
        for layer, own in part.items():
            if not bool(own.any()):
                raise ValueError(
                    f"this would remove all {len(own)} {what} of {layer}, and nothing would pass "
                    f"through; keep other units of the groups that it belongs to"
                )
    return parts


def _kept_own(units: Units, groups: Mapping[str, UnitGroup]) -> dict[str, tuple[int, Tensor]]:
    """Return what is kept of parameters that the model uses by itself, and in which dimension."""
    parts: dict[str, tuple[int, Tensor]] = {}
    for name, group in groups.items():
        kept = units.get(name, torch.ones(group.size, dtype=torch.bool)).cpu()
        for parameter, (dim, index) in group.own.items():
            own = torch.where(index >= 0, kept[index], _ON)
            before = parts.get(parameter, (dim, torch.ones_like(own)))[1]
            parts[parameter] = (dim, before & own)
    return {name: part for name, part in parts.items() if not bool(part[1].all())}


def _zero(parameter: Tensor | None, kept: Tensor) -> None:
    if parameter is not None:
        parameter[~kept] = 0


@torch.no_grad()
def _cut(module: nn.Module, rows: Tensor | None, columns: Tensor | None, norm: Tensor | None):
    """Keep some rows, columns or channels of a layer, in place, and correct its sizes."""
    if norm is not None:
        for name in ("weight", "bias", "running_mean", "running_var"):
            _keep(module, name, norm, 0)
        for size in ("num_features", "num_parameters", "num_channels", "num_groups"):
            if hasattr(module, size):
                setattr(module, size, int(norm.sum()))
        return
    sizes = ("out_channels", "in_channels") if isinstance(module, _ConvNd) else _LINEAR
    if rows is not None:
        _keep(module, "weight", rows, row_dim(module))
        _keep(module, "bias", rows, 0)
        setattr(module, sizes[0], int(rows.sum()))
    if columns is not None:
        _keep(module, "weight", columns, 1 - row_dim(module))
        setattr(module, sizes[1], int(columns.sum()))
    elif isinstance(module, _ConvNd) and rows is not None and module.groups > 1:
        per_input = len(rows) // module.groups  # depthwise: inputs and outputs go together
        module.groups = module.in_channels = int(rows.sum()) // per_input


_LINEAR = ("out_features", "in_features")


def _keep(module: nn.Module, name: str, kept: Tensor, dim: int) -> None:
    old = getattr(module, name, None)
    if old is None or bool(kept.all()):  # a weight that other modules share stays theirs
        return
    new = old.detach().index_select(dim, kept.nonzero().flatten().to(old.device)).clone()
    if isinstance(old, nn.Parameter):
        new = nn.Parameter(new, requires_grad=old.requires_grad)
    setattr(module, name, new)


def _outputs(value) -> list[Tensor]:
    return [leaf for leaf in tree_flatten(value)[0] if isinstance(leaf, Tensor)]


def _fault_in_training(model: nn.Module, x: Tensor) -> str:
    """Return what a forward pass in training mode raises, if it does."""
    try:
        with torch.random.fork_rng():
            copied(model).train()(torch.cat([x[:2], x[:2]]))  # batch norm takes no lone example
    except Exception as error:
        return str(error) or type(error).__name__
    return ""


@torch.no_grad()
def _prove(model: nn.Module, small: nn.Module, units: Units, groups, x: Tensor) -> None:
    silenced = copied(model).eval()
    silence_(silenced, units, groups)
    training = {name: module.training for name, module in small.named_modules()}
    with taking(model, x):
        expected = _outputs(silenced(x[:2].clone()))  # a forward pass may write into it
    if not expected:
        raise ValueError(
            f"{type(model).__name__} returns no tensor: nothing shows what it computes"
        )
    try:
        got = _outputs(small.eval()(x[:2].clone()))
        off = max((a - b).abs().max().item() for a, b in zip(got, expected, strict=True))
    except Exception as error:  # whatever a forward pass raises on fewer units
        raise ValueError(
            f"the smaller {type(model).__name__} does not run, so a size is written into its "
            f"forward pass: {error}"
        ) from error
    fault = _fault_in_training(small, x)
    if fault and not _fault_in_training(model, x):
        raise ValueError(
            f"the smaller {type(model).__name__} does not run in training mode: a layer that only "
            f"this mode uses, such as an auxiliary head, reads the units; pass model.train(), "
            f"whose recording has that layer: {fault}"
        )
    for name, module in small.named_modules():
        module.training = training[name]
    if not off <= TOLERANCE * max(v.abs().max().item() for v in expected):
        raise ValueError(
            f"the smaller {type(model).__name__} differs by {off:.2g} from the silenced one, so "
            f"its forward pass depends on a number of units in a way that was not seen"
        )
