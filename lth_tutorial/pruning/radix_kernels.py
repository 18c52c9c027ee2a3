"""The kernels of `radix`: one program per block of numbers, or per segment.

Written for a reader who knows CUDA: `tl.program_id` is the block's number, a vector of `BLOCK`
numbers is loaded at once, and `mask` leaves out what lies beyond the end.
"""

# No annotations from the future here: Triton reads them.
import triton
import triton.language as tl


@triton.jit
def _load(bits, segments, starts, lengths, MAGNITUDES: tl.constexpr, BLOCK: tl.constexpr):
    block = tl.program_id(0)
    segment, start = tl.load(segments + block), tl.load(starts + block)
    place = tl.arange(0, BLOCK)
    inside = place < tl.load(lengths + block)
    key = tl.load(bits + start + place, mask=inside, other=0).to(tl.uint32, bitcast=True)
    if MAGNITUDES:
        key = key & 0x7FFFFFFF
    return segment, start + place, inside, key


@triton.jit
def count_digits(
    bits, segments, starts, lengths, prefixes, histograms,
    MAGNITUDES: tl.constexpr, SHIFT: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    """Add to a segment's histogram the digits of those that begin like its prefix."""
    segment, _, inside, key = _load(bits, segments, starts, lengths, MAGNITUDES, BLOCK)
    if SHIFT < 24:
        prefix = tl.load(prefixes + segment).to(tl.uint32, bitcast=True)
        inside = inside & ((key >> (SHIFT + 8)) == (prefix >> (SHIFT + 8)))
    digit = ((key >> SHIFT) & 255).to(tl.int32)
    counts = tl.histogram(digit, 256, mask=inside)
    tl.atomic_add(histograms + segment * 256 + tl.arange(0, 256), counts, mask=counts > 0)


@triton.jit
def choose_digit(histograms, prefixes, lefts, SHIFT: tl.constexpr):
    """Append to a prefix the digit in which the threshold lies; clear the histogram."""
    segment = tl.program_id(0)
    digit = tl.arange(0, 256)
    counts = tl.load(histograms + segment * 256 + digit)
    left = tl.load(lefts + segment)
    above = tl.sum(counts) - tl.cumsum(counts)
    chosen = (above < left) & (above + counts >= left)
    # In one digit at most: a sum picks it out. Shifted, its highest bit is that of the sign.
    best = tl.sum(tl.where(chosen, digit, 0)) << SHIFT
    tl.store(prefixes + segment, tl.load(prefixes + segment) | best)
    tl.store(lefts + segment, left - tl.sum(tl.where(chosen, above, 0)))
    tl.store(histograms + segment * 256 + digit, tl.zeros([256], tl.int32))


@triton.jit
def count_ties(
    bits, segments, starts, lengths, prefixes, ties, MAGNITUDES: tl.constexpr, BLOCK: tl.constexpr
):
    """Write how many of a block equal its segment's threshold."""
    segment, _, inside, key = _load(bits, segments, starts, lengths, MAGNITUDES, BLOCK)
    threshold = tl.load(prefixes + segment).to(tl.uint32, bitcast=True)
    tl.store(ties + tl.program_id(0), tl.sum((inside & (key == threshold)).to(tl.int32)))


@triton.jit
def write(
    bits, segments, starts, lengths, prefixes, lefts, wanted, before, out,
    MAGNITUDES: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    """Write 1 for what is above the threshold, and for as many of the first ties as are left."""
    segment, place, inside, key = _load(bits, segments, starts, lengths, MAGNITUDES, BLOCK)
    threshold = tl.load(prefixes + segment).to(tl.uint32, bitcast=True)
    tied = (inside & (key == threshold)).to(tl.int32)
    rank = tl.load(before + tl.program_id(0)) + tl.cumsum(tied) - tied
    taken = (key > threshold) | ((tied > 0) & (rank < tl.load(lefts + segment)))
    taken = taken & (tl.load(wanted + segment) > 0)
    tl.store(out + place, taken.to(out.dtype.element_ty), mask=inside)
