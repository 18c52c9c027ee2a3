"""What goes wrong on a GPU in the middle of a run: its memory is full, or it is gone."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import torch

from lth_tutorial.safety.warn import warn

Tick = Callable[[], object]

_FULL = ("out of memory", "ALLOC_FAILED")
_GONE = ("CUDA error", "cuDNN error", "CUDNN_STATUS")
_NOT_GONE = ("NOT_SUPPORTED", "no kernel image")


class MemoryWarning(UserWarning):
    """Networks that were to train at once do not fit into memory and are trained in parts."""


class _OnceEach:
    """Reports steps, but none again that an attempt before this one has reported."""

    def __init__(self, on_step: Tick) -> None:
        self.on_step, self.taken, self.reported = on_step, 0, 0

    def __call__(self) -> None:
        self.taken += 1
        if self.taken > self.reported:
            self.reported = self.taken
            self.on_step()


def in_parts(
    run: Callable[[Sequence[int], Tick], list], members: Sequence[int], on_step: Tick
) -> list:
    """Return `run(members, on_step)`, or the same in halves, and so on, where memory runs out.

    Args:
        run: trains the members as one and returns a list with one result for each. It leaves what
            it was given as it was if memory runs out.
        on_step: called once for every step of every member, however often one is tried.

    Warns:
        MemoryWarning: saying how many are trained at once from then on.

    Raises:
        RuntimeError: if a single one does not fit.
    """
    return _in_parts(run, members, _OnceEach(on_step))


def _in_parts(run, members: Sequence[int], on_step: _OnceEach) -> list:
    before = on_step.taken
    try:
        return run(members, on_step)
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
    on_step.taken = before
    half = len(members) // 2
    text = f"{len(members)} networks at once do not fit into the memory of the GPU: training "
    warn(text + f"{half} and {len(members) - half}", MemoryWarning)
    return _in_parts(run, members[:half], on_step) + _in_parts(run, members[half:], on_step)


@contextmanager
def explained(workdir: str | Path | None) -> Iterator[None]:
    """Say, when a GPU fails in mid-run, what it means and where the run can go on.

    Raises:
        torch.OutOfMemoryError: where a library says in other words that memory is full.
        RuntimeError: in place of another error of the GPU, which is its cause.
    """
    try:
        yield
    except torch.OutOfMemoryError:
        raise
    except RuntimeError as error:
        reason = str(error).splitlines()[0] if str(error) else ""
        if not any(sign in reason for sign in _GONE) or any(sign in reason for sign in _NOT_GONE):
            raise
        if any(sign in reason for sign in _FULL):
            raise torch.OutOfMemoryError(reason) from error
        if workdir is None:
            rest = "nothing was kept: a workdir makes a run go on where it was"
        else:
            rest = f"the same call goes on at the last checkpoint in {workdir}"
        if "assert" in reason:
            rest += ". An assertion is mostly a label or an index out of range: look there first"
        raise RuntimeError(
            f"the GPU failed ({reason}), and this process cannot use it any more. Start a new "
            f"one; {rest}"
        ) from error
