"""Do two seeds keep the same weights, once their hidden units are matched?

Hidden units have no names: the first unit of one network may be the fifth of another, so the plain
overlap of two masks says little. Matching relabels the units of one network so that the masks
overlap most. But matching raises *any* overlap, also that of random masks, so the number to compare
with is that of masks shuffled over units, matched in the same way.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from lth_tutorial.pruning.masks import Mask, check_boolean, check_mask, overlap
from lth_tutorial.safety.arguments import checked
from lth_tutorial.variants.locality import shuffle_units

if TYPE_CHECKING:
    import pandas as pd


@checked
def match_units(a: Mask, b: Mask) -> Mask:
    """Return mask b with its hidden units relabelled so that it overlaps with a, layer by layer.

    Each layer's units are paired so that the rows of the two masks share most weights (an
    assignment problem, solved exactly); the columns of the next layer are relabelled likewise.
    Outputs keep their labels, because they have names: the classes.

    Args:
        a, b: masks of two fully connected networks of the same shape, layers in order.

    Raises:
        ValueError: if the masks belong to different networks, or a layer is no matrix.
    """
    from scipy.optimize import linear_sum_assignment

    check_mask(b, a)
    check_boolean(a)
    order: Tensor | None = None
    matched, names = {}, list(a)
    for name in names:
        if a[name].ndim != 2:
            raise ValueError(
                f"{name} has shape {tuple(a[name].shape)}; units are matched in fully connected "
                f"layers, whose masks are matrices"
            )
        own = b[name] if order is None else _columns(b[name], order)
        if name == names[-1]:
            matched[name] = own
            break
        shared = (a[name].double() @ own.double().T).cpu().numpy()
        _, columns = linear_sum_assignment(shared, maximize=True)
        order = torch.from_numpy(columns).to(own.device)
        matched[name] = own[order]
    return matched


def _columns(kept: Tensor, order: Tensor) -> Tensor:
    # A column beyond the units (the bias of a sifting network) stays where it is.
    rest = torch.arange(len(order), kept.shape[1], device=kept.device)
    return kept[:, torch.cat([order, rest])]


@checked
def shuffled_layers(mask: Mask, seed: int) -> Mask:
    """Return masks shuffled over units, layer by layer, every row and column with its counts."""
    check_boolean(mask)
    return {
        name: shuffle_units(kept, 1_000 * seed + i) for i, (name, kept) in enumerate(mask.items())
    }


@checked
def overlaps_between_seeds(masks: Sequence[Mask], *, shuffles: int = 1) -> pd.DataFrame:
    """Return the overlap of the masks of several seeds, before and after matching their units.

    Args:
        masks: one per seed, of networks of one shape.
        shuffles: null masks per pair.

    Returns:
        one row per pair: the first mask with the second, the third with the fourth and so on (so
        that no mask is in two pairs; the last of an odd number is in none). Columns: pair, plain,
        matched (Jaccard indices, [0, 1]; see `overlap`), and the same of shuffled masks, plain_null
        and matched_null.

    Raises:
        ValueError: for fewer than two masks, or masks that do not fit.
    """
    import pandas as pd

    if len(masks) < 2:
        raise ValueError(f"an overlap is that of two masks; got {len(masks)}")
    rows = []
    for i in range(0, len(masks) - 1, 2):
        a, b = masks[i], masks[i + 1]
        nulls = [
            (shuffled_layers(a, 2 * j), shuffled_layers(b, 2 * j + 1)) for j in range(shuffles)
        ]
        rows.append(
            {
                "pair": i // 2,
                "plain": overlap(a, b),
                "matched": overlap(a, match_units(a, b)),
                "plain_null": sum(overlap(x, y) for x, y in nulls) / shuffles,
                "matched_null": sum(overlap(x, match_units(x, y)) for x, y in nulls) / shuffles,
            }
        )
    return pd.DataFrame(rows)
