"""What goes wrong on a GPU in the middle of a run: its memory is full, or it is gone."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import torch


class MemoryWarning(UserWarning):
    """Networks that were to train at once do not fit into memory and are trained in parts."""


def in_parts(run: Callable[[Sequence[int]], list], members: Sequence[int]) -> list:
    """Return `run(members)`, or the same in halves, and those in halves, where memory runs out.

    Args:
        run: trains the members as one and returns a list with one result for each. It leaves what
            it was given as it was if memory runs out.

    Warns:
        MemoryWarning: saying how many are trained at once from then on.

    Raises:
        RuntimeError: if a single one does not fit.
    """
    try:
        return run(members)
    except torch.OutOfMemoryError as error:
        reason = str(error).splitlines()[0]
    # Only here, where the error holds its tensors no longer, can their memory be used again.
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
    if len(members) == 1:
        raise RuntimeError(
            f"the GPU has too little memory for a single network: {reason} Take a smaller "
            f"batch_size, precision 'bf16', or a smaller network"
        )
    half = len(members) // 2
    text = f"{len(members)} networks at once do not fit into the memory of the GPU: training "
    warnings.warn(text + f"{half} and {len(members) - half}", MemoryWarning, stacklevel=3)
    return in_parts(run, members[:half]) + in_parts(run, members[half:])


@contextmanager
def explained(workdir: str | Path | None) -> Iterator[None]:
    """Say, when a GPU fails in mid-run, what it means and where the run can go on.

    Raises:
        RuntimeError: in place of the error of the GPU, which is its cause.
    """
    try:
        yield
    except torch.OutOfMemoryError:
        raise
    except RuntimeError as error:
        reason = str(error).splitlines()[0] if str(error) else ""
        if not any(sign in reason for sign in ("CUDA error", "cuDNN error", "CUDNN_STATUS")):
            raise
        if workdir is None:
            rest = "nothing was kept: a workdir makes a run go on where it was"
        else:
            rest = f"the same call goes on at the last checkpoint in {workdir}"
        raise RuntimeError(
            f"the GPU failed ({reason}), and this process cannot use it any more. Start a new "
            f"one; {rest}"
        ) from error
