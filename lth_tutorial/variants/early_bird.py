"""Early-bird tickets: a mask of channels that is drawn while training is still going on.

Chapter 9 needs this. At the start of every epoch the units of the whole network are ranked by the
scales of their batch norm; once the masks of the last epochs hardly differ, the ticket is drawn,
the channels are really removed, and training goes on with what is left (You et al. 2020).
The rule is in `drawn_masks`; `early_bird` is the search, `train_on` the three ways to train on.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

from torch import nn

from lth_tutorial.data.dataset import Dataset
from lth_tutorial.networks.calls import copied
from lth_tutorial.networks.initialization import reinitialize
from lth_tutorial.pruning.masks import Mask, Scores
from lth_tutorial.runtime import choose, is_number, is_whole, progress_bar
from lth_tutorial.safety.arguments import checked
from lth_tutorial.safety.warn import warn
from lth_tutorial.states import State, load_state_, snapshot
from lth_tutorial.structured.removal import remove_units, unit_mask
from lth_tutorial.structured.units import unit_groups
from lth_tutorial.tickets.arms import OTHER_INITIALIZATION
from lth_tutorial.training.config import TrainConfig
from lth_tutorial.training.groups import SingleModel, Stack, can_stack
from lth_tutorial.training.loop import fit, train
from lth_tutorial.training.outcome import TrainResult, divergence_message
from lth_tutorial.training.steps import apply_masks, masked_parameters
from lth_tutorial.variants.drawn_masks import (
    CRITERIA,
    draw_mask,
    drawing_epoch,
    keeps_any,
    mask_distance,
    scorer,
    with_every_group,
)

WAYS = ("fresh", "momentum", "reinit")


class TicketWarning(UserWarning):
    """No early-bird ticket was found, or the rule that finds it means little with these numbers."""


@dataclass(frozen=True)
class EarlyBird:
    """What a search for an early-bird ticket found; the model holds the weights at its end.

    Attributes:
        by: "bn_scale" (masks over units, by group name) or "magnitude" (masks over weights).
        mask: the ticket, True = kept, or None if the rule was never met. A group of units that
            the threshold empties keeps its best one here.
        epoch, step: when it was drawn, or None.
        masks: those of every epoch up to then, as the rule saw them; the first is that of the
            untrained network.
        distances: for every epoch, from its mask to those before it, newest first; up to
            `window − 1` of them.
        start: the weights before the first step.
    """

    by: str
    mask: Mask | None
    epoch: int | None
    step: int | None
    masks: list[Mask]
    distances: list[list[float]]
    start: State


class _Drawn(Exception):
    """Ends the training in which a ticket was looked for."""


@checked
def early_bird(
    model: nn.Module,
    data: Dataset,
    config: TrainConfig,
    *,
    fraction: float = 0.5,
    threshold: float = 0.1,
    window: int = 5,
    by: Literal["bn_scale", "magnitude"] = "bn_scale",
    data_seed: int = 0,
) -> EarlyBird:
    """Train the model in place until its masks settle, and return the ticket drawn there.

    Args:
        config: of the whole training, from which only the beginning is used. `bn_l1` is the
            penalty s that tells channels apart (the paper's s is 1e-4).
        fraction: share p of the units (or weights) of the whole network to remove, in (0, 1).
        threshold, window: see `drawing_epoch`; 0.1 and 5 are the paper's.
        by: "bn_scale" ranks units by |γ| (the mean over coupled batch norms); "magnitude" ranks
            weights, for networks without batch norm.

    Raises:
        ValueError: for settings out of range, too few epochs, a fraction that leaves less than a
            unit per group, or "bn_scale" for a network without batch norm.
        UntraceableError: if the coupling of units cannot be traced.
        FloatingPointError: if the loss becomes NaN or infinite.

    Warns:
        TicketWarning: if no ticket was found, or unrelated masks would pass the rule.
        LayerCollapseWarning: if the threshold leaves nothing of a group; its best unit is kept.
    """
    epoch_steps = _check(data, config, fraction, threshold, window, by)
    score = scorer(model, data, by)
    _check_counts(score(), fraction, by)
    chance = 2 * fraction * (1 - fraction)
    if threshold >= chance:
        warn(
            f"unrelated masks that remove {fraction:g} differ by {chance:.3f} on average: they "
            f"pass a threshold of {threshold:g}, so meeting it says nothing; lower it",
            TicketWarning,
        )
    group, start, steps = SingleModel(model), snapshot(model), 0
    masks = [draw_mask(score(), fraction)]

    def look() -> None:
        nonlocal steps
        steps += 1
        bar.update()
        if steps % epoch_steps == 0:
            masks.append(draw_mask(score(), fraction))
            if drawing_epoch(masks[-window:], threshold=threshold, window=window) is not None:
                raise _Drawn

    with progress_bar(config.steps, "early bird") as bar:
        try:
            (result,) = fit(
                group, data, config, masks=None, start_step=0, data_seeds=[data_seed], on_step=look
            )
            if result.diverged_step is not None:
                raise FloatingPointError(
                    divergence_message(result.diverged_step, data_seed, config)
                )
        except _Drawn:
            pass
        finally:
            group.restore_modes()
    distances = [
        [mask_distance(mask, older) for older in masks[max(0, e - window + 1) : e][::-1]]
        for e, mask in enumerate(masks)
    ]
    epoch = drawing_epoch(masks, threshold=threshold, window=window)
    if epoch is None:
        _warn_of_no_ticket(masks, distances, threshold, window)
        return EarlyBird(by, None, None, None, masks, distances, start)
    ticket = with_every_group(masks[epoch], score()) if by == "bn_scale" else masks[epoch]
    return EarlyBird(by, ticket, epoch, epoch * epoch_steps, masks, distances, start)


@checked
def train_on(
    model: nn.Module,
    data: Dataset,
    config: TrainConfig,
    ticket: EarlyBird,
    *,
    how: Literal["fresh", "momentum", "reinit"] = "fresh",
    seed: int = 0,
    data_seed: int = 0,
) -> tuple[nn.Module, TrainResult]:
    """Train an early-bird ticket to the end of the budget; return the network and its result.

    The removed units are really gone from the network that is returned, and from the one that is
    trained (with "momentum" from the one that is returned). The model is left as it is.

    Args:
        model: as `early_bird` left it.
        config: the same as for `early_bird`: search and rest together take `config.steps`.
        how: "fresh" goes on from the weights with an empty optimiser, as the authors' code does;
            "momentum" keeps the optimiser's state as well (the search is run again for it);
            "reinit" goes on from new weights, at the same place of the schedule.
        seed: draws the new weights of "reinit".

    Raises:
        ValueError: if no ticket was drawn.

    Source: You et al. 2020, section 3.3.
    """
    choose("how", how, WAYS)
    if ticket.mask is None:
        raise ValueError("no ticket was drawn, so there is nothing to train on")
    x = data.normalize(data.x_train[:2])
    weights, structured = ticket.mask, ticket.by == "bn_scale"
    if structured:
        weights = unit_mask(model, ticket.mask, unit_groups(model, x))
    if how == "momentum":
        network = copied(model)
        load_state_(network, ticket.start)
        (result,) = train_masked_from(
            [network], data, config, [weights], step=ticket.step, data_seeds=[data_seed]
        )
        small = remove_units(network, ticket.mask, x) if structured else network
        return small, result
    small = remove_units(model, ticket.mask, x) if structured else copied(model)
    if how == "reinit":
        reinitialize(small, seed + OTHER_INITIALIZATION)
    mask = None if structured else weights
    result = train(small, data, config, mask=mask, start_step=ticket.step, data_seed=data_seed)
    return small, result


def train_masked_from(
    models: Sequence[nn.Module],
    data: Dataset,
    config: TrainConfig,
    masks: Sequence[Mask],
    *,
    step: int,
    data_seeds: Sequence[int],
    on_step: Callable[[], object] = lambda: None,
) -> list[TrainResult]:
    """Train models in place from step 0, under masks from a step on: one run, one optimiser."""
    together = len(models) > 1 and can_stack(models)
    parts = [range(len(models))] if together else [[i] for i in range(len(models))]
    results = []
    for members in parts:
        own = [models[i] for i in members]
        group = Stack(own) if together else SingleModel(own[0])
        masked = masked_parameters(group, [masks[i] for i in members])
        results += fit(
            group, data, config, masks=None, start_step=0,
            data_seeds=[data_seeds[i] for i in members], on_step=_prune_late(masked, step, on_step),
        )  # fmt: skip
    return results


def _prune_late(masked, step: int, on_step: Callable[[], object]) -> Callable[[], None]:
    """Return what to do after every step: from `step` on, set the pruned weights to zero."""
    taken = 0

    def after_step() -> None:
        nonlocal taken
        taken += 1
        on_step()
        if taken >= step:
            apply_masks(masked)

    return after_step


def _warn_of_no_ticket(masks, distances, threshold: float, window: int) -> None:
    full = [max(each) for each in distances if len(each) == window - 1]
    reason = f"the smallest of the largest distances was {min(full, default=math.nan):.3f}"
    if not any(map(keeps_any, masks)):
        reason = (
            "all scores stayed equal, so that every mask was empty (is bn_l1 0, the rate tiny?)"
        )
    warn(
        f"no ticket: in {len(masks) - 1} epochs no {window} masks in a row came within "
        f"{threshold:g}; {reason}. The result holds all distances",
        TicketWarning,
    )


def _check(data, config, fraction, threshold, window, by) -> int:
    """Return the steps of an epoch, or raise a ValueError that says what would work."""
    choose("by", by, CRITERIA)
    for name, value in (("fraction", fraction), ("threshold", threshold)):
        if not is_number(value) or not 0 < value < 1:
            raise ValueError(f"{name} is a share in (0, 1); got {value!r}")
    if not is_whole(window) or window < 2:
        raise ValueError(f"window is a number of masks, at least 2; got {window!r}")
    steps = len(data.x_train) // config.batch_size
    if steps < 1 or config.steps < (window - 1) * steps:
        raise ValueError(
            f"the rule needs {window} masks, so {window - 1} epochs of {steps} steps; the budget "
            f"is {config.steps} steps of batches of {config.batch_size}"
        )
    return steps


def _check_counts(scores: Scores, fraction: float, by: str) -> None:
    n = sum(values.numel() for values in scores.values())
    kept = n - int(fraction * n) - 1
    least = len(scores) if by == "bn_scale" else 1
    if kept < least:
        raise ValueError(
            f"fraction={fraction:g} leaves {kept} of {n} for {len(scores)} layers: whole layers "
            f"would be gone; take a smaller fraction"
        )
