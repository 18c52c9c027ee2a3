"""What Zhou et al. (2019) did with the masks and the signs of lottery tickets."""

from __future__ import annotations

from typing import Literal

import torch

from lth_tutorial.data.dataset import generator_for
from lth_tutorial.networks.parametrized import weight_in
from lth_tutorial.pruning.masks import Mask, Scores, check_mask_of
from lth_tutorial.pruning.prune import Scope, keep_best
from lth_tutorial.runtime import choose
from lth_tutorial.safety.arguments import checked
from lth_tutorial.states import State
from lth_tutorial.supermask.selection import kept_count
from lth_tutorial.supermask.weights import rescaling, signs

KEPT_VALUES = ("rewind", "redraw", "shuffle", "constant")


@checked
def large_final_mask(
    start: State,
    final: State,
    mask: Mask,
    keep: float,
    *,
    same_sign: bool = False,
    scope: Scope = "layer",
) -> Mask:
    """Return the mask of the weights that training made large, without training any further.

    Args:
        start, final: the weights before and after training.
        mask: the weights that may be kept, e.g. `dense_mask(model)`.
        keep: share of these that are kept, in (0, 1].
        same_sign: prefer weights that did not change their sign, by the score w_final · sign
            (w_start): a weight that flipped comes after all that did not.
        scope: "layer" keeps this share of every layer, "global" of the network.

    Raises:
        ValueError: for a `keep` that keeps nothing of a layer, or states that do not fit.

    Source: Zhou et al. 2019, sections 2 and 5 ("large final", "large final, same sign").
    """
    choose("scope", scope, ("global", "layer"))
    check_mask_of(mask, start)
    check_mask_of(mask, final)
    scores: Scores = {
        name: weight_in(final, name) * start[name].sign()
        if same_sign
        else weight_in(final, name).abs()
        for name in start
        if name in mask
    }
    remaining = {name: int(mask[name].sum()) for name in scores}
    if scope == "global":
        return keep_best(scores, mask, kept_count(sum(remaining.values()), keep, "the network"))
    return keep_best(scores, mask, {n: kept_count(r, keep, n) for n, r in remaining.items()})


@checked
def rescale_kept(state: State, mask: Mask) -> State:
    """Return the state with pruned weights zero and kept ones times size / kept, layer by layer.

    "Dynamic weight rescaling": what a layer passes on stays about as large as without a mask.

    Raises:
        ValueError: if the mask does not fit the state.

    Source: Zhou et al. 2019, section 5.
    """
    check_mask_of(mask, state)
    changed = {name: tensor.clone() for name, tensor in state.items()}
    for name, kept in mask.items():
        changed[name] = state[name] * kept * rescaling(kept[None].float())
    return changed


@checked
def replace_kept(
    start: State,
    mask: Mask,
    values: Literal["rewind", "redraw", "shuffle", "constant"],
    seed: int,
    *,
    same_sign: bool,
) -> State:
    """Return start weights under a mask with other values: what matters about a ticket's weights?

    Args:
        start: the initial weights.
        mask: the weights to keep; the others are zero.
        values: "rewind" keeps the magnitudes; "redraw" draws normal ones with the layer's standard
            deviation; "shuffle" permutes the kept ones of a layer; "constant" gives every kept
            weight that standard deviation as magnitude.
        seed: draws magnitudes and signs.
        same_sign: give every weight the sign of its initial value; else a random sign.

    Raises:
        ValueError: for unknown `values`, or a mask that does not fit.

    Source: Zhou et al. 2019, section 3 (mask-1 actions).
    """
    choose("values", values, KEPT_VALUES)
    check_mask_of(mask, start)
    changed = {name: tensor.clone() for name, tensor in start.items()}
    for i, name in enumerate(name for name in start if name in mask):
        kept = mask[name]
        generator = generator_for("kept values", seed, i)
        weight = start[name].cpu()
        magnitude = weight.abs()
        if values == "redraw":
            magnitude = (torch.randn(weight.shape, generator=generator) * weight.std()).abs()
        elif values == "shuffle":
            order = torch.randperm(int(kept.sum()), generator=generator)
            magnitude[kept.cpu()] = magnitude[kept.cpu()][order]
        elif values == "constant":
            magnitude = torch.full_like(weight, weight.std().item())
        coin = torch.rand(weight.shape, generator=generator) < 0.5
        sign = signs(weight) if same_sign else torch.where(coin, 1.0, -1.0)
        changed[name] = (magnitude * sign).to(kept.device) * kept
    return changed
