"""The rule of early-bird tickets: what is ranked, how a mask is drawn, and when masks have settled.

`scorer` ranks units by the scales of their batch norm (or weights by magnitude), `draw_mask` makes
a mask of the scores, `mask_distance` compares two of them, and `drawing_epoch` says at which epoch
the last ones hardly differ (You et al. 2020).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import nn

from lth_tutorial.criteria.weights import magnitude_scores
from lth_tutorial.data.dataset import Dataset
from lth_tutorial.pruning.masks import Mask, Scores, check_boolean, check_mask, dense_mask, density
from lth_tutorial.pruning.prune import LayerCollapseWarning
from lth_tutorial.safety.arguments import checked
from lth_tutorial.safety.warn import warn
from lth_tutorial.states import snapshot
from lth_tutorial.structured.units import UnitGroup, unit_groups, unit_scores

CRITERIA = ("bn_scale", "magnitude")
"""What masks are drawn by."""


def scorer(model: nn.Module, data: Dataset, by: str) -> Callable[[], Scores]:
    """Return a function that scores the model's units or weights as they are then, on the CPU.

    Raises:
        ValueError: for "bn_scale" where there is no batch norm to rank by.
    """
    if by == "magnitude":
        names = dense_mask(model)
        return lambda: {n: s.cpu() for n, s in magnitude_scores(snapshot(model), names).items()}
    ranked = ranked_groups(model, data)
    return lambda: unit_scores(model, ranked, "bn_scale")


def ranked_groups(model: nn.Module, data: Dataset) -> dict[str, UnitGroup]:
    """Return the groups of units that have scales of batch norm to be ranked by.

    Raises:
        ValueError: if there are none.
    """
    groups = unit_groups(model, data.normalize(data.x_train[:2]))
    ranked = {
        name: group
        for name, group in groups.items()
        if not group.pinned
        and any(getattr(model.get_submodule(n), "weight", None) is not None for n in group.norms)
    }
    if not ranked:
        raise ValueError(
            f"{type(model).__name__} has no batch norm with trained scales γ behind units that "
            f"can be removed; take by='magnitude', or a network with batch norm"
        )
    return ranked


def keeps_any(mask: Mask) -> bool:
    """Return whether a mask keeps anything at all."""
    return any(bool(kept.any()) for kept in mask.values())


def with_every_group(mask: Mask, scores: Scores | None = None) -> Mask:
    """Return the mask with one unit in every group that it leaves empty: the best, or the first.

    Warns:
        LayerCollapseWarning: naming each such group, if scores are given.
    """
    whole = {}
    for name, kept in mask.items():
        whole[name] = kept
        if not bool(kept.any()):
            best = 0 if scores is None else int(scores[name].argmax())
            whole[name] = torch.arange(len(kept)) == best
        if scores is not None and not bool(kept.any()):
            warn(
                f"the threshold leaves no unit of {name}; its best one is kept, or nothing would "
                f"pass through: remove a smaller fraction",
                LayerCollapseWarning,
            )
    return whole


@checked
def draw_mask(scores: Scores, fraction: float) -> Mask:
    """Return the mask of the scores strictly above the threshold, over the whole network.

    The threshold is the score in place int(fraction · n) of the sorted n, so that at least one
    more goes than that, and with equal scores many more: where all are equal, nothing is kept.

    Raises:
        ValueError: for a fraction outside [0, 1), no scores, or scores that are NaN.

    Source: You et al. 2020, section 3.1; the strict inequality is that of the authors' code.
    """
    check_drawn(fraction)
    broken = [name for name, values in scores.items() if bool(values.isnan().any())]
    if broken or not scores:
        raise ValueError(f"scores are numbers; got {f'NaN in {broken}' if broken else 'none'}")
    every = torch.cat([values.flatten() for values in scores.values()])
    threshold = every.sort().values[int(fraction * len(every))]
    return {name: values > threshold for name, values in scores.items()}


def check_drawn(fraction: float) -> None:
    """Raise a ValueError unless a fraction is one that `draw_mask` can remove."""
    if not 0 <= fraction < 1:
        raise ValueError(f"fraction lies in [0, 1); got {fraction!r}")


@checked
def mask_distance(a: Mask, b: Mask) -> float:
    """Return the share of places in which two masks differ, in [0, 1].

    Two unrelated masks that each remove the share p differ in 2p(1 − p) of the places: compare
    with `unrelated_distance`.

    Raises:
        ValueError: if the masks belong to different networks.
    """
    check_mask(a, b)
    check_boolean(b)
    differing = sum(int((a[name] != b[name]).sum()) for name in a)
    return differing / sum(kept.numel() for kept in a.values())


@checked
def unrelated_distance(a: Mask, b: Mask) -> float:
    """Return the expected distance of two masks that keep as much as these, but at random.

    Raises:
        ValueError: if the masks belong to different networks.
    """
    check_mask(a, b)
    share_a, share_b = density(a), density(b)
    return share_a * (1 - share_b) + share_b * (1 - share_a)


@checked
def drawing_epoch(masks: Sequence[Mask], *, threshold: float = 0.1, window: int = 5) -> int | None:
    """Return the first epoch at which the rule is met, or None.

    It is met where the distances from the newest of the last `window` masks to all the older ones
    are at most the threshold. Masks that keep nothing (all scores equal) do not count.

    Source: You et al. 2020, algorithm 1.
    """
    for epoch in range(window - 1, len(masks)):
        newest, *older = masks[epoch - window + 1 : epoch + 1][::-1]
        if all(map(keeps_any, (newest, *older))) and all(
            mask_distance(newest, mask) <= threshold for mask in older
        ):
            return epoch
    return None
