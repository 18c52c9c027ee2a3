"""What "fp32", "tf32" and "bf16" mean on a GPU, and whether it can do them."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch

_SINCE = (8, 0)
"""Compute capability from which on a GPU multiplies bfloat16 and TF32 (Ampere, 2020)."""


def check_precision(precision: str, device: torch.device) -> None:
    """Raise a ValueError, naming what to use, if a GPU cannot compute in a precision."""
    if device.type != "cuda" or precision == "fp32":
        return
    found = torch.cuda.get_device_capability(device)
    if found < _SINCE:
        raise ValueError(
            f"precision {precision!r} needs a GPU of compute capability {_SINCE[0]}.{_SINCE[1]} or "
            f"newer, and {torch.cuda.get_device_name(device)} has {found[0]}.{found[1]}; take "
            f"precision 'fp32'"
        )


@contextmanager
def arithmetic(precision: str, device: torch.device) -> Iterator[None]:
    """Multiply on a GPU as a precision says, with convolutions tried out; then as before.

    PyTorch's own default lets convolutions round to TF32 and matrix products not; here "fp32"
    means both not, and "tf32" both. Of "bf16", what autocast leaves in single precision stays so.
    """
    if device.type != "cuda":
        yield
        return
    wanted = [
        (torch.backends.cuda.matmul, "allow_tf32", precision == "tf32"),
        (torch.backends.cudnn, "allow_tf32", precision == "tf32"),
        (torch.backends.cudnn, "benchmark", True),
    ]
    before = [(where, name, getattr(where, name)) for where, name, _ in wanted]
    try:
        for where, name, value in wanted:
            setattr(where, name, value)
        with torch.cuda.device(device):
            yield
    finally:
        for where, name, value in before:
            setattr(where, name, value)
