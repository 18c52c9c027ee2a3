"""Tickets in several bases, side by side: the experiment of chapter 13's bases."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from torch import nn

from lth_tutorial.data.dataset import Dataset
from lth_tutorial.pruning.masks import shuffle_within_layers
from lth_tutorial.runtime import choose, progress_bar
from lth_tutorial.safety.arguments import checked, different_seeds
from lth_tutorial.safety.locks import one_writer
from lth_tutorial.states import state_hash
from lth_tutorial.tickets.arms import model_builder
from lth_tutorial.tickets.lottery import (
    IMPRound,
    as_rounds,
    check_fits,
    check_rewound,
    converged,
    dense_round,
    imp_rounds,
    round_folder,
    train_from,
)
from lth_tutorial.tickets.measures import rows_of
from lth_tutorial.training.config import IMPConfig, TrainConfig
from lth_tutorial.training.identity import within
from lth_tutorial.variants.bases import KINDS, Basis, bases_of, in_basis
from lth_tutorial.variants.coefficients import prune_groups, stored_numbers

if TYPE_CHECKING:
    import pandas as pd


@checked
@one_writer
def basis_experiment(
    model: str | Callable[[int], nn.Module],
    data: Dataset,
    train_config: TrainConfig,
    imp_config: IMPConfig,
    *,
    bases: Sequence[str] = KINDS,
    groups: bool = False,
    shuffled: Sequence[str] = (),
    seeds: Sequence[int] = range(8),
    workdir: str | Path | None = None,
) -> pd.DataFrame:
    """Compare iterative magnitude pruning of coefficients in several bases; tidy rows.

    All networks of a seed begin as the same function. In each basis they are trained, their
    coefficients pruned by magnitude and rewound to their own values, in the same basis.

    Args:
        model: a name for `build_model`, or a function from a seed to a module.
        bases: any of `variants.bases.KINDS`; see `bases_of`. "svd" takes the singular vectors of
            the dense network of the same seed, trained in the identity basis; where that diverged,
            there are none, and no rows.
        groups: prune whole rows by their ℓ2 norm in place of single coefficients, the same share
            of every layer, the output layer left alone.
        shuffled: bases whose tickets' masks are also shuffled within layers and trained from the
            same weights: the arms "identity_shuffled" and the like, the controls.
        seeds: replicates; a seed draws initial weights, rotations and the order of the data.
        workdir: folder to continue from.

    Returns:
        A frame with the columns of `lottery_experiment`, the arm being the basis, and `stored`:
        stored numbers over those of the dense network (see `stored_numbers`).

    Raises:
        ValueError: for unknown or repeated bases, repeated seeds, or what training refuses.
    """
    import pandas as pd

    bases, seeds = _check(bases, shuffled, seeds)
    build = model_builder(model, data)
    first = build(seeds[0])
    check_fits(first, train_config, imp_config)
    for kind in (kind for kind in bases if kind != "svd"):
        in_basis(first, bases_of(first, kind, shape=tuple(data.shape)))
    runs = len(bases) + ("svd" in bases and "identity" not in bases)
    total = runs * train_config.steps
    pruned = (len(bases) + len(shuffled)) * imp_config.rounds
    total += pruned * (train_config.steps - imp_config.rewind_step)
    rows: list[dict] = []
    trained: dict[int, IMPRound] = {}
    with progress_bar(total * len(seeds), "bases") as bar:
        if "svd" in bases and "identity" not in bases:
            models = {seed: build(seed) for seed in seeds}
            folder = within(workdir, "for_svd")
            trained = dense_round(models, data, train_config, (), bar.update, folder)
        for kind in sorted(bases, key=KINDS.index):
            own = {
                seed: bases_of(
                    build(seed), kind, shape=tuple(data.shape), seed=seed,
                    trained=trained[seed].state if kind == "svd" else None,
                )
                for seed in seeds
                if kind != "svd" or converged(trained[seed].result)
            }  # fmt: skip
            if not own:
                continue
            models = {seed: in_basis(build(seed), own[seed]) for seed in own}
            rounds = _group_rounds if groups else imp_rounds
            folder = within(workdir, kind)
            done = list(rounds(models, data, train_config, imp_config, bar.update, folder))
            if kind == "identity":
                trained = done[0]
            for found in done:
                rows += _rows(kind, models, data, found, own)
            if kind in shuffled:
                arm, folder = f"{kind}_shuffled", within(workdir, f"{kind}_shuffled")
                rows += _rows(arm, models, data, done[0], own)
                for found in _shuffled_rounds(
                    models, data, train_config, imp_config, done, bar.update, folder
                ):
                    rows += _rows(arm, models, data, found, own)
    frame = pd.DataFrame(rows)
    steps = ("early_stop_step", "steps_to_90", "steps_to_95", "diverged_step")
    return frame.astype(dict.fromkeys(steps, "Int64"))


def _rows(kind: str, models, data: Dataset, found, bases: Mapping[int, Mapping[str, Basis]]):
    rows = rows_of(kind, models, data, found)
    for row in rows:
        seed = row["seed"]
        # The dense network needs no basis: its weights are stored as they are.
        dense = row["round"] == 0
        row["stored"] = 1.0 if dense else stored_numbers(found[seed].mask, bases[seed]).share
    return rows


def _group_rounds(
    models: dict[int, nn.Module],
    data: Dataset,
    config: TrainConfig,
    imp: IMPConfig,
    on_step: Callable[[], object],
    workdir: str | Path | None = None,
) -> Iterator[dict[int, IMPRound]]:
    """Yield rounds as `imp_rounds` does, pruning whole rows of coefficients."""
    k, folder = imp.rewind_step, partial(round_folder, workdir)
    rounds = dense_round(models, data, config, {k}, on_step, folder(0))
    yield rounds
    points = {seed: r.result.snapshots[k] for seed, r in rounds.items() if converged(r.result)}
    hashes = {seed: state_hash(point) for seed, point in points.items()}
    for index in range(1, imp.rounds + 1):
        masks = {
            seed: prune_groups(
                r.state, r.mask, dict.fromkeys(list(r.mask)[:-1], imp.fraction)
            )
            for seed, r in rounds.items()
            if converged(r.result)
        }  # fmt: skip
        if not masks:
            return
        results = train_from(
            {seed: models[seed] for seed in masks}, points, masks, data, config, k,
            on_step=on_step, workdir=folder(index),
        )  # fmt: skip
        for seed, result in results.items():
            check_rewound(result.start, points[seed], masks[seed], hashes[seed])
        rounds = as_rounds(index, models, data, masks, results)
        yield rounds


def _shuffled_rounds(
    models, data, config, imp: IMPConfig, done: Sequence[dict[int, IMPRound]], on_step, workdir
) -> Iterator[dict[int, IMPRound]]:
    """Yield rounds with the masks of finished ones shuffled within layers, on the same weights."""
    k = imp.rewind_step
    points = {s: r.result.snapshots[k] for s, r in done[0].items() if converged(r.result)}
    for found in done[1:]:
        masks = {seed: shuffle_within_layers(r.mask, seed) for seed, r in found.items()}
        index = next(iter(found.values())).index
        own = {seed: models[seed] for seed in masks}
        results = train_from(
            own, points, masks, data, config, k, on_step=on_step,
            workdir=round_folder(workdir, index),
        )  # fmt: skip
        yield as_rounds(index, own, data, masks, results)


def _check(
    bases: Sequence[str], shuffled: Sequence[str], seeds: Sequence[int]
) -> tuple[list[str], list[int]]:
    bases = [bases] if isinstance(bases, str) else list(bases)
    for kind in bases:
        choose("basis", kind, KINDS)
    if not bases or len(set(bases)) < len(bases):
        raise ValueError(f"bases are one or more different names; got {bases}")
    for kind in shuffled:
        choose("basis to shuffle:", kind, bases)
    return bases, different_seeds(seeds)
