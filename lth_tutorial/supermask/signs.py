"""What matters about a ticket: its values, its signs or its mask (Zhou et al. 2019)."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

from torch import nn

from lth_tutorial.data.dataset import Dataset
from lth_tutorial.pruning.masks import dense_mask, density, masked_state, shuffle_within_layers
from lth_tutorial.runtime import progress_bar
from lth_tutorial.safety.arguments import checked, different_seeds
from lth_tutorial.safety.files import remove_run
from lth_tutorial.safety.locks import one_writer
from lth_tutorial.states import State, load_state_
from lth_tutorial.supermask.zhou import large_final_mask, replace_kept, rescale_kept
from lth_tutorial.tickets.arms import model_builder
from lth_tutorial.tickets.lottery import IMPRound, check_fits, imp_rounds, train_all
from lth_tutorial.training.checkpoints import read_checked_json, write_checked_json
from lth_tutorial.training.config import IMPConfig, TrainConfig
from lth_tutorial.training.evaluation import evaluate
from lth_tutorial.training.identity import claim_folder, describe_model, within

if TYPE_CHECKING:
    import pandas as pd

RETRAINED = {
    "ticket": ("rewind", True),
    "ticket_signs_random": ("rewind", False),
    "constant": ("constant", True),
    "constant_signs_random": ("constant", False),
    "redrawn": ("redraw", True),
    "redrawn_signs_random": ("redraw", False),
}
"""Arms that are trained again: values of the kept weights, and whether they keep their signs."""

UNTRAINED = ("large_final", "same_sign", "random")


@checked
@one_writer
def signs_experiment(
    model: str | Callable[[int], nn.Module],
    data: Dataset,
    train_config: TrainConfig,
    imp_config: IMPConfig,
    *,
    seeds: Sequence[int] = range(5),
    workdir: str | Path | None = None,
) -> pd.DataFrame:
    """Find tickets by magnitude pruning, and change the values and signs of their kept weights.

    Args:
        model: a name for `build_model`, or a function from a seed to a module.
        train_config, imp_config: of the tickets, rewound to the start.
        seeds: replicates; a seed draws initial weights, changes and the order of the data.
        workdir: folder to continue from, seed by seed.

    Returns:
        A frame with the columns arm, seed, round, density, accuracy (test, after training,
        [0, 1]) and start_accuracy (before training). The arms "ticket", "constant" and "redrawn"
        keep the signs, those with "_signs_random" do not. Of the arms "large_final", "same_sign"
        and "random" only the untrained network is measured: masks of as many weights as the
        ticket's from the dense network's training, on its initial weights, as they are
        (start_accuracy) and rescaled by size / kept (rescaled_accuracy).

    Raises:
        ValueError: for tickets that are not rewound to the start, or bad seeds.

    Source: Zhou et al. 2019, sections 3 and 5.
    """
    import pandas as pd

    if imp_config.rewind_step or imp_config.after_pruning != "rewind":
        raise ValueError("signs are about initial weights: take rewind_step=0 and 'rewind'")
    seeds, build, rows = different_seeds(seeds), model_builder(model, data), []
    check_fits(build(seeds[0]), train_config, imp_config)
    trainings = 1 + imp_config.rounds * len(RETRAINED)
    with progress_bar(trainings * train_config.steps * len(seeds), "signs and masks") as bar:
        for seed in seeds:
            folder = within(workdir, f"seed_{seed}")
            rows += _one_seed(build, data, train_config, imp_config, seed, bar.update, folder)
    return pd.DataFrame(rows)


def _one_seed(build, data, config, imp, seed: int, on_step, folder: Path | None) -> list[dict]:
    identity = ""
    if folder is not None:
        settings = {"train": config, "imp": asdict(imp), "data": data.fingerprint, "seed": seed}
        settings["model"] = describe_model(build(seed))
        identity = claim_folder(folder, settings)
        done = read_checked_json(folder / "rows.json", identity, what="rows")
        if done is not None:
            return done
    models = {seed: build(seed)}
    tickets = imp_rounds(models, data, config, imp, on_step, within(folder, "ticket"))
    dense = next(tickets)[seed]
    row = {"seed": seed, "round": 0, "density": 1.0, "accuracy": dense.accuracy}
    rows = [{"arm": arm, **row} for arm in RETRAINED]
    for ticket in tickets:
        arms_folder = within(folder, f"round_{ticket[seed].index}")
        rows += _retrained(
            models[seed], data, config, seed, dense, ticket[seed], on_step, arms_folder
        )
        rows += _untrained(models[seed], data, seed, dense, ticket[seed])
    if folder is not None:
        write_checked_json(folder / "rows.json", identity, rows, what="rows")
        for name in ("ticket", *(f"round_{index}" for index in range(1, imp.rounds + 1))):
            remove_run(folder / name)
    return rows


def _retrained(model, data, config, seed, dense, ticket: IMPRound, on_step, folder) -> list[dict]:
    rows = []
    for arm, (values, same_sign) in RETRAINED.items():
        if arm == "ticket":
            start, accuracy = ticket.start, ticket.accuracy
            before = _accuracy(model, data, start)
        else:
            start = replace_kept(dense.start, ticket.mask, values, seed, same_sign=same_sign)
            before = _accuracy(model, data, start)
            train_all(
                {seed: model}, data, config, masks=[ticket.mask], on_step=on_step,
                workdir=within(folder, arm),
            )  # fmt: skip
            accuracy = evaluate(model, data).accuracy
        rows.append(_row(arm, seed, ticket) | {"accuracy": accuracy, "start_accuracy": before})
    return rows


def _untrained(model, data, seed: int, dense: IMPRound, ticket: IMPRound) -> list[dict]:
    everything, keep = dense_mask(model), density(ticket.mask)
    by_size = large_final_mask(dense.start, dense.state, everything, keep)
    same_sign = large_final_mask(dense.start, dense.state, everything, keep, same_sign=True)
    masks = [by_size, same_sign, shuffle_within_layers(by_size, seed)]
    return [
        _row(arm, seed, ticket) | {
            "start_accuracy": _accuracy(model, data, masked_state(dense.start, mask)),
            "rescaled_accuracy": _accuracy(model, data, rescale_kept(dense.start, mask)),
        }
        for arm, mask in zip(UNTRAINED, masks, strict=True)
    ]  # fmt: skip


def _accuracy(model: nn.Module, data: Dataset, state: State) -> float:
    load_state_(model, state)
    return evaluate(model, data).accuracy


def _row(arm: str, seed: int, ticket: IMPRound) -> dict:
    return {"arm": arm, "seed": seed, "round": ticket.index, "density": ticket.density}
