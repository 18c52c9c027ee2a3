"""What the records of chapter 14 leave behind besides rows: masks to look at, and the sparsest
networks that were found on the spiral."""

from __future__ import annotations

import hashlib
import io
import json
from collections.abc import Mapping
from importlib.resources import files
from pathlib import Path

import numpy as np
import torch
from torch import nn

from lth_tutorial.pruning.masks import Mask
from lth_tutorial.runtime import choose
from lth_tutorial.safety.arguments import checked
from lth_tutorial.safety.files import UncheckedFileWarning, read_json
from lth_tutorial.safety.warn import warn
from lth_tutorial.states import load_state_
from lth_tutorial.variants.spiral import spiral_network
from lth_tutorial.variants.spiral_search import Found

MasksByCell = dict[tuple[str, int, int], Mask]
"""Arm, seed and round to mask."""

SOLUTIONS = "solutions"
_DIGEST, _PARTS = "sha256", {"weights", "accuracy", "widths", "state", "mask"}
SEARCHES = ("spiral-search", "spiral-masks")
"""The records that ship the sparsest networks they found."""


def shipped_files(record: str, *, root: str | Path | None = None) -> Path:
    """Return the folder with what a record has left behind besides its rows."""
    base = files("lth_tutorial") / "_data" / "shipped" if root is None else Path(root) / "shipped"
    return Path(str(base)) / record


def pack_masks(masks: Mapping[tuple[str, int, int], Mask]) -> bytes:
    """Return masks as one compressed file, a bit per weight before compression.

    Args:
        masks: by arm, seed and round.
    """
    arrays = {}
    for (arm, seed, index), mask in masks.items():
        for name, kept in mask.items():
            shape = ",".join(map(str, kept.shape))
            arrays[f"{arm}|{seed}|{index}|{name}|{shape}"] = np.packbits(kept.cpu().numpy())
    buffer = io.BytesIO()
    np.savez_compressed(buffer, **arrays)
    return buffer.getvalue()


def unpack_masks(content: bytes) -> MasksByCell:
    """Return the masks that `pack_masks` packed, on the CPU.

    Raises:
        ValueError: if the content is damaged or holds something else.
    """
    masks: MasksByCell = {}
    try:
        arrays = np.load(io.BytesIO(content), allow_pickle=False)
        for key in arrays.files:
            arm, seed, index, name, shape = key.split("|")
            sides = [int(side) for side in shape.split(",")]
            bits = np.unpackbits(arrays[key], count=int(np.prod(sides))).astype(bool)
            cell = masks.setdefault((arm, int(seed), int(index)), {})
            cell[name] = torch.from_numpy(bits.reshape(sides))
    except Exception as error:  # of many kinds, according to where a bit has turned
        raise ValueError(f"these are no packed masks, or they are damaged: {error}") from error
    return masks


@checked
def load_masks(record: str, *, root: str | Path | None = None) -> MasksByCell:
    """Return the masks that come with a record, by arm, seed and round.

    Raises:
        FileNotFoundError: if the record has none, or has not been run.
        ValueError: if a file is damaged.
    """
    folder = shipped_files(record, root=root)
    paths = sorted(folder.glob("*.npz")) if folder.is_dir() else []
    if not paths:
        raise FileNotFoundError(
            f"no masks come with {record!r}; to make them: "
            f"python -m lth_tutorial.experiments run {record}"
        )
    masks: MasksByCell = {}
    for path in paths:
        try:
            masks |= unpack_masks(path.read_bytes())
        except ValueError as error:
            raise ValueError(f"{path}: {error}") from error
    return masks


def pack_solutions(found: Mapping[str, Found]) -> bytes:
    """Return the networks of a search as readable text: widths, kept weights, biases.

    Args:
        found: by the target that each one reaches, e.g. "0.95".
    """
    solutions = {}
    for target, one in found.items():
        solutions[target] = {
            "weights": one.weights,
            "accuracy": one.accuracy,
            "kind": "upper bound: so many weights are enough, fewer may be",
            "widths": [len(kept) for kept in list(one.mask.values())[:-1]],
            "state": {name: tensor.tolist() for name, tensor in one.state.items()},
            "mask": {name: kept.int().tolist() for name, kept in one.mask.items()},
        }
    return (json.dumps(solutions | {_DIGEST: _digest(solutions)}, indent=1) + "\n").encode()


def _digest(solutions: Mapping) -> str:
    own = {target: each for target, each in solutions.items() if target != _DIGEST}
    return hashlib.sha256(json.dumps(own, sort_keys=True).encode()).hexdigest()


def unpack_solutions(path: Path) -> dict[str, dict]:
    """Return the networks of a search, by target, from the file that `pack_solutions` made.

    Raises:
        ValueError: naming the file, if it is damaged.

    Warns:
        UncheckedFileWarning: if an earlier version wrote it, without a checksum.
    """
    try:
        found = read_json(path.read_bytes())
        if not isinstance(found, dict) or found.get(_DIGEST, _digest(found)) != _digest(found):
            raise ValueError("it does not have its checksum")
        wrong = [t for t, each in found.items() if t != _DIGEST and not _PARTS <= set(each)]
        if wrong:
            raise ValueError(f"{wrong[0]} is no network")
    except (TypeError, ValueError) as error:
        raise ValueError(f"{path} is damaged: {error}") from error
    if found.pop(_DIGEST, None) is None:
        text = f"{path} was written without a checksum and is taken as it stands"
        warn(text, UncheckedFileWarning)
    return found


@checked
def load_solution(
    target: float = 0.95, *, record: str | None = None, root: str | Path | None = None
) -> tuple[nn.Sequential, Mask]:
    """Return the sparsest network known to reach an accuracy on the spiral, and its mask.

    It is an upper bound: so many weights are enough. That fewer are not, nobody has shown.

    Args:
        target: 0.95 or 0.995.
        record: of a search; default all of them, `SEARCHES`.

    Raises:
        FileNotFoundError: if no search has been run.
        ValueError: for a target that was not searched for, or a file that is damaged.
    """
    records = SEARCHES if record is None else (record,)
    folders = [shipped_files(name, root=root) for name in records]
    paths = [path for folder in folders for path in sorted(folder.glob(f"{SOLUTIONS}*.json"))]
    if not paths:
        raise FileNotFoundError(
            f"no solution comes with {' or '.join(records)}; to search: "
            f"python -m lth_tutorial.experiments run {records[0]}"
        )
    known = [unpack_solutions(path) for path in paths]
    targets = sorted({name for solutions in known for name in solutions})
    key = choose("target", f"{target:g}", targets)
    one = min(
        (solutions[key] for solutions in known if key in solutions),
        key=lambda each: (each["weights"], -each["accuracy"]),
    )
    model = spiral_network(one["widths"], 0)
    load_state_(model, {name: torch.tensor(values) for name, values in one["state"].items()})
    mask = {name: torch.tensor(kept, dtype=torch.bool) for name, kept in one["mask"].items()}
    return model, mask
