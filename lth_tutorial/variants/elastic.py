"""Elastic tickets: a ticket moved to a network of another depth (chapter 13).

A ticket (mask, and the weights it was rewound to, batch norm with them) is cut into blocks, and
the blocks of a deeper or shallower network are filled with copies of them; everything outside the
blocks is copied as it is. `block_stages` finds the blocks of a network, a list says which block of
the source each block of the target gets, and `transfer_ticket` copies.
Source: Chen et al. 2021 (the elastic lottery ticket hypothesis), section 3.
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence

from torch import nn

from lth_tutorial.networks.architectures import Residual
from lth_tutorial.networks.weights import prunable_weights
from lth_tutorial.pruning.masks import Mask, check_mask
from lth_tutorial.runtime import is_whole
from lth_tutorial.safety.arguments import checked
from lth_tutorial.states import State

Block = tuple[str, ...]
"""Names of the modules that make up one block."""


@checked
def transfer_ticket(
    state: State, mask: Mask, target: nn.Module, blocks: Mapping[str, str]
) -> tuple[State, Mask]:
    """Return a ticket for `target`, filled with the blocks of a source's ticket.

    Args:
        state: the weights that the source's ticket was rewound to (its whole state).
        mask: the source's.
        target: the network to move it to; it is left as it is.
        blocks: from a block of the target to the block of the source that fills it, each the name
            of a module: {"blocks.3": "blocks.2"}. Everything whose name belongs to no block keeps
            its name, and is copied.

    Returns:
        a state and a mask of the target. Nothing of the target's own weights is left in them.

    Raises:
        ValueError: naming the blocks or tensors, if the map names a block that either network
            lacks, leaves a tensor of the target unfilled, or joins different widths; or if the mask
            does not belong to the state.
    """
    _check_ticket(state, mask)
    own = target.state_dict()
    for side, names, known in (
        ("target", blocks.keys(), own), ("source", blocks.values(), state),
    ):  # fmt: skip
        absent = sorted({b for b in names if not any(key.startswith(f"{b}.") for key in known)})
        if absent:
            raise ValueError(f"the {side} has no block {', '.join(absent)}")
    inside = sorted({b for b in blocks for c in blocks if b != c and b.startswith(f"{c}.")})
    if inside:
        raise ValueError(f"{', '.join(inside)} would be filled twice: it lies in another block")
    origin = {name: _origin(name, blocks) for name in own}
    empty = [name for name, source in origin.items() if source not in state]
    if empty:
        raise ValueError(
            f"nothing fills {_listed(empty)} of the target; name the blocks that hold them in the "
            f"map, or they would keep fresh weights and no mask"
        )
    moved = {name: state[source].detach().clone() for name, source in origin.items()}
    for name, tensor in moved.items():
        if tensor.shape != own[name].shape:
            raise ValueError(
                f"{name} of the target has shape {tuple(own[name].shape)}, {origin[name]} of the "
                f"source {tuple(tensor.shape)}: a ticket moves between depths, not widths"
            )
    weights = prunable_weights(target)
    unmasked = [name for name in weights if origin[name] not in mask]
    if unmasked:
        raise ValueError(f"the mask says nothing about what fills {_listed(unmasked)}")
    return moved, {name: mask[origin[name]].clone() for name in weights}


def _check_ticket(state: State, mask: Mask) -> None:
    strange = [name for name in mask if name not in state]
    if strange:
        raise ValueError(
            f"the mask names {_listed(strange)}, and the state has no such weight: they belong to "
            f"different networks"
        )
    check_mask(mask, {name: state[name] for name in mask})


def _origin(name: str, blocks: Mapping[str, str]) -> str:
    """Return the name of the source's tensor that fills a tensor of the target."""
    for block, source in blocks.items():
        if name.startswith(f"{block}."):
            return source + name[len(block) :]
    return name


@checked
def block_stages(model: nn.Module) -> list[list[Block]]:
    """Return the names of a network's blocks, one list for every run of blocks of one width.

    Residual networks (ours and torchvision's): their blocks; the first of a stage changes the
    width. Plain ones (fully connected, VGG): hidden layers, each with the norm behind it; a stage
    ends where the width changes or a pooling stands between. Embedding and output are no blocks.

    Raises:
        ValueError: if there are none to be found; a dictionary of names does without.
    """
    found = _residual_stages(model) or _plain_stages(model)
    if not found:
        raise ValueError(
            f"no blocks of equal width found in {type(model).__name__}; pass the blocks to "
            f"transfer_ticket by name"
        )
    return found


@checked
def block_map(
    source: nn.Module, target: nn.Module, lists: Sequence[int] | Sequence[Sequence[int]]
) -> dict[str, str]:
    """Return the map of `transfer_ticket` that block lists describe.

    Args:
        lists: per stage, which block of the source (counted from 0) every block of the target
            gets: [0, 1, 2, 1, 2] appends copies, [0, 1, 1, 2, 2] interpolates, [0, 2] drops one. A
            single list serves all stages. The first block of a stage stays the first.

    Raises:
        ValueError: for a list that leaves a block of the target empty, names one that it or the
            source lacks, or moves the first block of a stage; names the stage and the blocks.
    """
    from_stages, to_stages = block_stages(source), block_stages(target)
    if len(from_stages) != len(to_stages):
        raise ValueError(
            f"the source has {len(from_stages)} stages, the target {len(to_stages)}: a ticket "
            f"moves between networks with the same number of them"
        )
    if not lists or all(is_whole(each) for each in lists):
        lists = [list(lists)] * len(to_stages)
    if len(lists) != len(to_stages):
        raise ValueError(f"{len(lists)} block lists for {len(to_stages)} stages; one each, or one")
    joined = {}
    for i, (have, need, picks) in enumerate(zip(from_stages, to_stages, lists, strict=True), 1):
        _check_list(i, have, need, list(picks))
        for block, j in zip(need, picks, strict=True):
            joined |= dict(zip(block, have[j], strict=True))
    return joined


def _check_list(i: int, have: list[Block], need: list[Block], picks: list[int]) -> None:
    have, need = ["+".join(block) for block in have], ["+".join(block) for block in need]
    if len(picks) < len(need):
        raise ValueError(
            f"stage {i}: the list {picks} leaves {', '.join(need[len(picks) :])} empty"
        )
    if len(picks) > len(need):
        raise ValueError(
            f"stage {i}: the list {picks} fills {len(picks)} blocks, the target has {len(need)}: "
            f"{', '.join(need)}"
        )
    wrong = [j for j in picks if not is_whole(j) or not 0 <= j < len(have)]
    if wrong:
        known = f"0 to {len(have) - 1} ({', '.join(have)})"
        raise ValueError(f"stage {i}: the source has blocks {known}; the list names {wrong}")
    if picks[0] != 0:
        raise ValueError(
            f"stage {i}: the first block of a stage stays the first (it changes the width); the "
            f"list begins with {picks[0]}"
        )


@checked
def append_blocks(blocks: int, wanted: int) -> list[int]:
    """Return the block list that repeats blocks 1 … n − 1 behind the last, or drops the last.

    append_blocks(3, 5) is [0, 1, 2, 1, 2].
    """
    _check_counts(blocks, wanted)
    again = itertools.cycle(range(1, blocks) if blocks > 1 else [0])
    kept = list(range(min(blocks, wanted)))
    return kept + list(itertools.islice(again, wanted - len(kept)))


@checked
def interpolate_blocks(blocks: int, wanted: int) -> list[int]:
    """Return the block list that keeps the order: copies stand beside their originals.

    Block 0 once, all others as equally often as they can be: interpolate_blocks(3, 5) is
    [0, 1, 1, 2, 2]; to fewer blocks it drops in even steps: interpolate_blocks(5, 3) is [0, 2, 4].
    """
    _check_counts(blocks, wanted)
    if wanted == 1 or blocks == 1:
        return [0] * wanted
    if wanted >= blocks:
        return [0] + [1 + i * (blocks - 1) // (wanted - 1) for i in range(wanted - 1)]
    return [round(i * (blocks - 1) / (wanted - 1)) for i in range(wanted)]


@checked
def parse_block_map(text: str) -> list[int]:
    """Return the block list that a map in the notation of the authors' code describes.

    "0:0;1:1,3;2:2,4" fills the target's blocks 1 and 3 with the source's block 1: [0, 1, 2, 1, 2].

    Raises:
        ValueError: if it cannot be read, or leaves a block of the target empty or fills one twice.
    """
    filled: dict[int, int] = {}
    for piece in text.split(";"):
        source, _, targets = piece.partition(":")
        try:
            pairs = [(int(target), int(source)) for target in targets.split(",")]
        except ValueError:
            raise ValueError(
                f"a map reads 'source:target,target;…' with whole numbers; got {piece!r} in "
                f"{text!r}"
            ) from None
        for target, origin in pairs:
            if target in filled:
                raise ValueError(f"{text!r} fills block {target} of the target twice")
            filled[target] = origin
    if min(filled) < 0:
        raise ValueError(f"{text!r} fills block {min(filled)} of the target; blocks count from 0")
    empty = [i for i in range(max(filled)) if i not in filled]
    if empty:
        raise ValueError(f"{text!r} leaves blocks {empty} of the target empty")
    return [filled[i] for i in range(len(filled))]


def _listed(names: Sequence[str]) -> str:
    return ", ".join(names[:6]) + (f" and {len(names) - 6} more" if len(names) > 6 else "")


def _check_counts(blocks: int, wanted: int) -> None:
    for count in (blocks, wanted):
        if not is_whole(count) or count < 1:
            raise ValueError(f"numbers of blocks are whole and at least 1; got {count!r}")


def _residual_stages(model: nn.Module) -> list[list[Block]]:
    """Return runs of children of one class and one width in the model's sequences."""
    found: list[list[Block]] = []
    for name, sequence in model.named_modules():
        inside = any(name.startswith(f"{b}.") or name == b for stage in found for (b,) in stage)
        if inside or not isinstance(sequence, nn.Sequential) or isinstance(sequence, Residual):
            continue
        prefix = f"{name}." if name else ""
        blocks = [(prefix + n, m) for n, m in sequence._modules.items() if _is_residual(m)]
        for _, run in itertools.groupby(blocks, lambda pair: (type(pair[1]), _width(pair[1]))):
            found.append([(key,) for key, _ in run])
    return found


def _is_residual(module: nn.Module) -> bool:
    """Return whether a module may be a residual block: neither a plain layer nor a container."""
    own = not type(module).__module__.startswith("torch.nn.") and any(
        True for _ in module.parameters()
    )
    return own and any(True for _ in module.children())


def _width(module: nn.Module) -> int:
    return len(list(module.parameters())[-1])


def _plain_stages(model: nn.Module) -> list[list[Block]]:
    """Return runs of layers of one width, each with the norm behind it; the output is left out."""
    found: list[list[Block]] = []
    width = None
    leaves = [(n, m) for n, m in model.named_modules() if not any(m.children())]
    layers = [name for name, m in leaves if isinstance(m, (nn.Linear, nn.Conv2d))]
    for name, module in leaves:
        if name in layers[:-1]:
            if len(module.weight) != width:
                found.append([])
            width = len(module.weight)
            found[-1].append((name,))
        elif "Norm" in type(module).__name__ and width is not None and name not in layers:
            found[-1][-1] += (name,)
        elif "Pool" in type(module).__name__:
            width = None
    return found
