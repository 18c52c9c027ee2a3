"""Random masks with and without a growing penalty: the experiment of dual tickets."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from torch import nn

from lth_tutorial.criteria import magnitude_scores
from lth_tutorial.data.dataset import Dataset
from lth_tutorial.pruning.masks import Mask, dense_mask
from lth_tutorial.pruning.prune import prune_like
from lth_tutorial.runtime import progress_bar
from lth_tutorial.safety.arguments import at_least, checked, different_arms, different_seeds
from lth_tutorial.safety.locks import one_writer
from lth_tutorial.states import State, load_state_
from lth_tutorial.tickets.arms import model_builder
from lth_tutorial.tickets.lottery import (
    IMPRound,
    as_rounds,
    check_fits,
    converged,
    dense_round,
    imp_rounds,
    train_all,
    train_from,
)
from lth_tutorial.tickets.measures import rows_of
from lth_tutorial.training.config import IMPConfig, Removal, TrainConfig
from lth_tutorial.training.evaluation import evaluate
from lth_tutorial.training.identity import within
from lth_tutorial.variants.dual import check_random, check_share, random_mask, removed_power

if TYPE_CHECKING:
    import pandas as pd


@checked
@one_writer
def dual_experiment(
    model: str | Callable[[int], nn.Module],
    data: Dataset,
    train_config: TrainConfig,
    *,
    density: float,
    penalised_steps: int,
    ramp: int,
    strengths: Sequence[float] = (0.0, 0.1, 1.0),
    power: int = 1,
    every: int = 1,
    rounds: int = 4,
    arms: Sequence[str] = ("regularised", "scratch", "one_shot", "ticket"),
    seeds: Sequence[int] = range(8),
    workdir: str | Path | None = None,
) -> pd.DataFrame:
    """Turn random masks into tickets by a growing penalty, beside controls; tidy rows.

    Every arm but "ticket" trains `penalised_steps` at the peak rate of `train_config` and then
    `train_config.steps` by its schedule: the same number of steps in all.

    Args:
        model: a name for `build_model`, or a function from a seed to a module.
        train_config: how the network is trained after the removal.
        density: share of every layer's weights that the random mask keeps, in (0, 1).
        penalised_steps: steps before the removal.
        ramp: of them, the steps over which the penalty grows.
        strengths: the final values of λ. 0 trains without a penalty and removes all at once.
        power, every: see `Removal`.
        rounds: of iterative magnitude pruning for "ticket".
        arms: any of "regularised" (a round for every strength, in order from 1), "scratch" (the
            random mask from the start, one schedule over all steps), "one_shot" (trained dense
            for `penalised_steps`, then pruned by magnitude to the random mask's counts in every
            layer), "ticket" (iterative magnitude pruning layer by layer, every round of it trained
            for as many steps as another arm in all: `rounds` + 1 times the budget).
        seeds: replicates; a seed draws initial weights, masks and the order of the data.
        workdir: folder to continue from.

    Returns:
        A frame with the columns of `lottery_experiment` and, for "regularised", `strength` (λ),
        `power_removed` (share of the squared weights that the removal takes, in [0, 1]) and
        `accuracy_before` (test, before the removal). Round 0 of every arm is the dense network,
        trained for all steps; the others' rounds count from 1.

    Raises:
        ValueError: for a λ that is negative, not finite or too large for the rate, a ramp longer
            than the steps, repeated arms, strengths or seeds, or a mask that is not random.

    Source: Bai et al. 2022, section 3.
    """
    import pandas as pd

    arms, strengths, seeds = _check(arms, strengths, seeds)
    check_share(density)
    at_least("rounds", rounds, 1)
    at_least("penalised_steps", penalised_steps, 1)
    first = replace(
        train_config, steps=penalised_steps, schedule="steps", lr_drops=(), warmup_steps=0
    )
    removals = [Removal(strength, ramp, power, every) for strength in strengths]
    penalised = [replace(first, removal=removal) for removal in removals]
    whole = replace(train_config, steps=penalised_steps + train_config.steps)
    imp = IMPConfig(rounds=rounds, fraction=1 - density ** (1 / rounds), scope="layer")
    build = model_builder(model, data)
    check_fits(build(seeds[0]), whole, imp)
    masks = {seed: random_mask(build(seed), density, seed) for seed in seeds}
    for seed, mask in masks.items():
        check_random(mask, build(seed).state_dict())
    each = {"regularised": len(strengths), "ticket": rounds + 1}
    runs = 1 + sum(each.get(arm, 1) for arm in arms)
    with progress_bar(runs * whole.steps * len(seeds), "dual tickets") as bar:
        setting = _Setting(
            build, masks, data, first, penalised, train_config, whole, imp, bar.update
        )
        models = setting.new()
        dense = dense_round(models, data, whole, (), bar.update, within(workdir, "dense"))
        rows = [row | {"arm": arm} for arm in arms for row in rows_of("", models, data, dense)]
        for arm in arms:
            rows += _MEASURES[arm](setting, within(workdir, arm))
    frame = pd.DataFrame(rows)
    steps = ("early_stop_step", "steps_to_90", "steps_to_95", "diverged_step")
    return frame.astype(dict.fromkeys(steps, "Int64"))


@dataclass(frozen=True)
class _Setting:
    """What all arms share: the networks, the random masks by seed, and how they are trained."""

    build: Callable[[int], nn.Module]
    masks: Mapping[int, Mask]
    data: Dataset
    first: TrainConfig
    penalised: Sequence[TrainConfig]
    then: TrainConfig
    whole: TrainConfig
    imp: IMPConfig
    on_step: Callable[[], object]

    def new(self) -> dict[int, nn.Module]:
        """Return the networks of all seeds at their initial weights."""
        return {seed: self.build(seed) for seed in self.masks}

    def train(
        self, config: TrainConfig, starts: Mapping[int, State], masks: Mapping[int, Mask],
        folder: Path | None, index: int,
    ) -> tuple[dict[int, nn.Module], dict[int, IMPRound]]:  # fmt: skip
        """Train masked networks from their starts; return them and round `index` of each."""
        models = {seed: self.build(seed) for seed in starts}
        results = train_from(
            models, starts, masks, self.data, config, 0, on_step=self.on_step, workdir=folder
        )
        return models, as_rounds(index, models, self.data, masks, results)


def _regularised(setting: _Setting, folder: Path | None) -> list[dict]:
    """Push the weights to be removed to zero, remove them and train on; a round per strength."""
    rows = []
    for index, config in enumerate(setting.penalised, start=1):
        at = within(folder, f"strength_{index}")
        ends, seen = _penalise(setting, config, within(at, "first"))
        models, found = setting.train(setting.then, ends, setting.masks, within(at, "then"), index)
        new = rows_of("regularised", models, setting.data, found)
        rows += [row | seen[row["seed"]] for row in new]
    return rows


def _scratch(setting: _Setting, folder: Path | None) -> list[dict]:
    """Train the random masks from the start, by one schedule over all steps."""
    starts = {seed: model.state_dict() for seed, model in setting.new().items()}
    models, found = setting.train(setting.whole, starts, setting.masks, folder, 1)
    return rows_of("scratch", models, setting.data, found)


def _one_shot(setting: _Setting, folder: Path | None) -> list[dict]:
    """Train dense, prune by magnitude to the random masks' counts, and train on."""
    trained = train_all(
        setting.new(), setting.data, setting.first, on_step=setting.on_step,
        workdir=within(folder, "first"),
    )  # fmt: skip
    ends = _ends(trained)
    own = {seed: _largest(setting.build(seed), e, setting.masks[seed]) for seed, e in ends.items()}
    models, found = setting.train(setting.then, ends, own, within(folder, "then"), 1)
    return rows_of("one_shot", models, setting.data, found)


def _ticket(setting: _Setting, folder: Path | None) -> list[dict]:
    """Find tickets by iterative magnitude pruning; their last round counts as round 1."""
    models = setting.new()
    rounds = imp_rounds(models, setting.data, setting.whole, setting.imp, setting.on_step, folder)
    *_, last = rounds
    return [row | {"round": 1} for row in rows_of("ticket", models, setting.data, last)]


_MEASURES = {
    "regularised": _regularised, "scratch": _scratch, "one_shot": _one_shot, "ticket": _ticket
}  # fmt: skip
ARMS = tuple(_MEASURES)


def _penalise(
    setting: _Setting, config: TrainConfig, workdir: Path | None
) -> tuple[dict[int, State], dict[int, dict]]:
    """Train under the penalty; return the weights at its end and what was seen there, by seed."""
    models, data, masks = setting.new(), setting.data, setting.masks
    results = train_all(
        models, data, config, masks=list(masks.values()), on_step=setting.on_step, workdir=workdir
    )
    ends, seen = _ends(results), {}
    for seed, end in ends.items():
        load_state_(models[seed], end)
        seen[seed] = {
            "strength": config.removal.largest,
            "accuracy_before": evaluate(models[seed], data).accuracy,
            "power_removed": removed_power(end, masks[seed]),
        }
    return ends, seen


def _ends(results) -> dict[int, State]:
    return {seed: result.final for seed, result in results.items() if converged(result)}


def _largest(model: nn.Module, state: State, like: Mask) -> Mask:
    """Return the mask of the largest weights, as many in every layer as another mask keeps."""
    full = dense_mask(model)
    return prune_like(magnitude_scores(state, full), full, like, scope="layer")


def _check(arms, strengths, seeds) -> tuple[list[str], list[float], list[int]]:
    arms, strengths = different_arms(arms, ARMS), list(strengths)
    if not strengths or len(set(strengths)) < len(strengths):
        raise ValueError(f"strengths are one or more different ones; got {strengths}")
    return arms, strengths, different_seeds(seeds)
