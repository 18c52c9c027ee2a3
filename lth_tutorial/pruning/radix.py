"""Which of many scores are the highest, of all layers at once on a GPU, without sorting.

The threshold of a segment (a layer, or the whole network) is found digit by digit: four times a
histogram of 256 bins over those numbers whose higher digits agree with it so far. Nothing is read
back, so that a recording can hold it. The kernels are written in Triton, which PyTorch for CUDA
brings along; where it is missing, whoever asks sorts instead (`is_available`).
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache, lru_cache
from itertools import accumulate

import torch
from torch import Tensor

from lth_tutorial.safety.warn import warn

_BLOCK = 4_096
_BINS = 256
_DIGITS = (24, 16, 8, 0)
"""First bits of the four digits of a number, the highest first.

Of ResNet-18's 11 million weights on an H200, 20 % of each layer: 321 µs, and 3,590 by sorting.
Three digits of 11 bits took 1,033; blocks of 2,048 and 16,384 took 335 and 1,114.
"""


class Highest:
    """Where the highest of every segment stand, for vectors of fixed lengths and fixed counts.

    Segments are ranked one by one, ties going to the lower index. A segment's pieces need not lie
    side by side. Its tables stay on the device: keep it as long as a recording that used it.
    """

    def __init__(
        self, pieces: Sequence[tuple[int, int]], counts: Sequence[int], device: torch.device,
        *, block: int = _BLOCK,
    ) -> None:  # fmt: skip
        """Take pairs of a segment's number and a length, in order, and every segment's count."""
        starts = [0, *accumulate(length for _, length in pieces)]
        blocks = [
            (segment, start + offset, min(block, length - offset))
            for start, (segment, length) in zip(starts, pieces, strict=False)
            for offset in range(0, length, block)
        ]
        # By segment, so that the ties of all blocks before one can be counted.
        blocks.sort(key=lambda each: each[0])
        first: dict[int, int] = {}
        for i, (segment, _, _) in enumerate(blocks):
            first.setdefault(segment, i)
        table = torch.tensor([(*each, first[each[0]]) for each in blocks], dtype=torch.int64)
        self.segment, self.start, self.length, self.first = table.to(device).unbind(1)
        self.segment, self.start, self.length, self.first = (
            each.contiguous() for each in (self.segment, self.start, self.length, self.first)
        )
        self.counts = torch.tensor(list(counts), dtype=torch.int32).to(device)
        self.total, self.block = starts[-1], block

    @torch.no_grad()
    def __call__(
        self, bits: Tensor, *, magnitudes: bool = False, dtype: torch.dtype = torch.bool
    ) -> Tensor:
        """Return booleans, exactly `counts` of every segment True; or as numbers of another type.

        Args:
            bits: all vectors, one after the other, int32: their order is that of unsigned numbers
                (see `ordered_bits`); or with `magnitudes` the bits of float32 numbers, whose sign
                does not count.
        """
        kernels, blocks, segments = _kernels(), len(self.segment), len(self.counts)
        prefix, left = torch.zeros_like(self.counts), self.counts.clone()
        histogram = self.counts.new_zeros(segments * _BINS)
        where = (self.segment, self.start, self.length)
        for shift in _DIGITS:
            kernels.count_digits[(blocks,)](
                bits, *where, prefix, histogram, magnitudes, shift, self.block
            )
            kernels.choose_digit[(segments,)](histogram, prefix, left, shift)
        ties = self.counts.new_zeros(blocks)
        kernels.count_ties[(blocks,)](bits, *where, prefix, ties, magnitudes, self.block)
        before = ties.cumsum(0) - ties
        before -= before.index_select(0, self.first)
        chosen = torch.empty(self.total, dtype=dtype, device=bits.device)
        kernels.write[(blocks,)](
            bits, *where, prefix, left, self.counts, before,
            chosen.view(torch.uint8) if dtype == torch.bool else chosen, magnitudes,
            self.block,
        )  # fmt: skip
        return chosen


def ordered_bits(values: Tensor, allowed: Tensor | None = None) -> Tensor:
    """Return float32 numbers as int32 that have the same order when read as unsigned.

    Zeros of both signs are equal. What is not `allowed` becomes 0, below every number.
    """
    bits = (values + 0.0).view(torch.int32)  # −0 + 0 is +0
    ordered = torch.where(bits < 0, ~bits, bits ^ torch.iinfo(torch.int32).min)
    return ordered if allowed is None else torch.where(allowed, ordered, 0)


def is_available(device: torch.device) -> bool:
    """Return whether the kernels run on a device; tried once.

    Warns:
        UserWarning: if Triton is there, but does not work on this GPU.
    """
    return device.type == "cuda" and _works(device.index or 0)


@cache
def _works(index: int) -> bool:
    try:
        import triton  # noqa: F401
    except ImportError:
        return False
    device = torch.device("cuda", index)
    scores = torch.tensor([1.0, -3.0, 2.0, 3.0], device=device)
    try:
        found = Highest([(0, 4)], [2], device)(scores.view(torch.int32), magnitudes=True).tolist()
    except Exception as error:  # of the compiler, of its search for a C compiler, of the driver
        reason = f"{type(error).__name__}: {error}".splitlines()[0]
    else:
        if found == [False, True, False, True]:
            return True
        reason = "it chose wrongly"
    warn(
        f"Triton does not work here ({reason}); masks are chosen by sorting, which on a "
        f"GPU takes about ten times as long"
    )
    return False


@lru_cache(maxsize=1)
def _kernels():
    from lth_tutorial.pruning import radix_kernels

    return radix_kernels
