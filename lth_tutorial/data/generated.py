"""Data that are generated: exact, offline, as many examples as are asked for.

`cubist_spiral` is a problem in the plane whose sparsest networks can be searched for; `bar_images`
are small images in which what tells the classes apart is local. Chapter 14 uses both.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from lth_tutorial.data.dataset import Dataset, generator_for, make_dataset
from lth_tutorial.runtime import is_whole
from lth_tutorial.safety.arguments import checked

VERTICES = 17
_TURNS, _TURNED, _SPREAD = (math.pi, 5 * math.pi), 0.4 * math.pi, 15.0


@checked
def spiral_vertices() -> Tensor:
    """Return the corners of both arms of the spiral before it is standardised, [2, 17, 2].

    The angle θ goes from π to 5π in equal steps, turned by 0.4π; along each ray one arm lies 15
    beyond the radius 10θ + π and the other 15 short of it. Double precision.
    """
    angle = torch.linspace(*_TURNS, VERTICES, dtype=torch.float64) + _TURNED
    ray = torch.stack([angle.cos(), angle.sin()], dim=1)
    radius = 10 * angle + math.pi
    return torch.stack([(radius + side)[:, None] * ray for side in (_SPREAD, -_SPREAD)])


@checked
def cubist_spiral(points: int = 2_000) -> Dataset:
    """Return the Cubist Spiral: half of the points on each arm, at equal distances, no noise.

    Two arms of 16 straight segments wind around each other; each coordinate has mean 0 and standard
    deviation 1. The test points *are* the training points, as in the paper: the question is what a
    network can express and what training finds, not what it generalises to.

    Args:
        points: an even number; the paper has 50,000.

    Raises:
        ValueError: unless `points` is even and at least two per corner.

    Source: Zhang & Papyan 2024, section 3.
    """
    if not is_whole(points) or points % 2 or points < 4 * VERTICES:
        raise ValueError(
            f"the spiral takes an even number of points, at least {4 * VERTICES} (two at every "
            f"corner of both arms); got {points!r}"
        )
    x = torch.cat([_along(line, points // 2) for line in spiral_vertices()])
    x = ((x - x.mean(dim=0)) / x.std(dim=0, correction=0)).float()
    y = torch.arange(2).repeat_interleave(points // 2)
    return make_dataset(f"cubist_spiral[{points}]", (x, y), None, (x, y))


def _along(line: Tensor, n: int) -> Tensor:
    """Return n points at equal distances along a line of segments, both ends included."""
    lengths = (line[1:] - line[:-1]).norm(dim=1)
    corners = torch.cat([torch.zeros(1, dtype=line.dtype), lengths.cumsum(dim=0)])
    at = torch.linspace(0, float(corners[-1]), n, dtype=line.dtype)
    segment = (torch.searchsorted(corners, at, right=True) - 1).clamp(0, len(lengths) - 1)
    share = ((at - corners[segment]) / lengths[segment])[:, None]
    return (1 - share) * line[segment] + share * line[segment + 1]


@checked
def bar_images(
    n: int = 10_000, side: int = 10, *, classes: int = 2, noise: float = 0.1, seed: int = 0
) -> Dataset:
    """Return grey images of one short bar each, anywhere; its direction is the class.

    No pixel alone says anything, and where the bar is says nothing: what tells the classes apart is
    how neighbouring pixels go together. Images have no border (a bar that leaves on one side comes
    back on the other), so that all pixels are alike and a mask that looks local is.

    Args:
        n: training examples; a sixteenth as many for validation, an eighth for testing.
        side: height and width in pixels.
        classes: directions, evenly spread over half a turn.
        noise: standard deviation of the noise on every pixel; a bar has the height 1.
        seed: draws the images.

    Raises:
        ValueError: for sizes too small or negative noise.
    """
    good = is_whole(n) and n >= 16 and is_whole(side) and side >= 4 and is_whole(classes)
    if not good or classes < 2 or not noise >= 0:
        raise ValueError(
            f"bar images need at least 16 examples, 4 pixels a side, 2 classes and noise of at "
            f"least 0; got n={n!r}, side={side!r}, classes={classes!r}, noise={noise!r}"
        )

    def draw(split: str, n: int) -> tuple[Tensor, Tensor]:
        generator = generator_for(f"bar images, {split}", seed)
        y = torch.randint(classes, (n,), generator=generator)
        middle = torch.rand(2, n, 1, 1, generator=generator) * side
        at = torch.arange(side, dtype=torch.float32)
        # The shorter way round, as on a torus.
        dy = (at[:, None] - middle[0] + side / 2) % side - side / 2
        dx = (at[None, :] - middle[1] + side / 2) % side - side / 2
        angle = (math.pi * y / classes)[:, None, None]
        along = dx * angle.cos() + dy * angle.sin()
        across = dy * angle.cos() - dx * angle.sin()
        bar = torch.exp(-((along / 2) ** 2) - (across / 0.7) ** 2)
        x = bar + noise * torch.randn(n, side, side, generator=generator)
        return x[:, None], y

    return make_dataset(
        f"bars[{side}×{side}]", draw("train", n), draw("val", n // 16), draw("test", n // 8)
    )
