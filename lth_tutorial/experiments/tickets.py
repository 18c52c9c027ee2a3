"""Packed tickets of the best runs of an experiment."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from lth_tutorial.data.dataset import Dataset
from lth_tutorial.experiments.design import Experiment
from lth_tutorial.experiments.supermasks import SupermaskPart
from lth_tutorial.results.records import widen
from lth_tutorial.supermask import SupermaskConfig
from lth_tutorial.supermask.comparison import ARMS, WEIGHTS, draw_models
from lth_tutorial.supermask.packed import save_ticket
from lth_tutorial.supermask.search import train_supermasks
from lth_tutorial.supermask.shipped import SUFFIX, ticket_name
from lth_tutorial.training.identity import within

if TYPE_CHECKING:
    import pandas as pd


def has_tickets(design: Experiment) -> bool:
    """Return whether an experiment names arms to pack."""
    return any(isinstance(part, SupermaskPart) and part.packed for part in design.parts)


def pack_tickets(
    design: Experiment,
    data: Dataset,
    rows: pd.DataFrame,
    folder: Path,
    *,
    workdir: str | Path | None = None,
) -> list[Path]:
    """Write the best supermask of every arm that is to be packed; return the files' paths.

    Args:
        data: what the experiment was measured on.
        rows: its long rows, which say which seed is the best on the test set.
        folder: for the files.
        workdir: of the run that gave the rows: its supermasks are read from there. Without it,
            the best seed is searched again, and the file says what it reached.
    """
    wide, paths = widen(rows), []
    for i, part in enumerate(design.parts):
        for arm in part.packed if isinstance(part, SupermaskPart) else ():
            name = f"{part.label}: {arm}" if part.label else arm
            own = wide[(wide["arm"] == name) & (wide["round"] == 1)].set_index("seed")["accuracy"]
            best, keep = int(own.idxmax()), part.keeps[0]
            seeds = [best] if workdir is None else list(design.seeds)
            init_keep = keep if part.scaled else None
            models = draw_models(
                part.model, data, weights=part.weights, batch_norm=part.batch_norm, seeds=seeds,
                keep=init_keep,
            )  # fmt: skip
            found = train_supermasks(
                models, data, SupermaskConfig(**ARMS[arm], keep=keep), part.search, seeds=seeds,
                workdir=within(workdir, f"part_{i}", arm, "round_1"),
            )  # fmt: skip
            place = seeds.index(best)
            about = {
                "record": design.name, "data": data.name, "network": part.model, "arm": arm,
                "batch_norm": part.batch_norm, "n": int(own.count()),
                "weights": sum(mask.numel() for mask in found[place].mask.values()),
            }  # fmt: skip
            paths.append(folder / f"{ticket_name(about)}{SUFFIX}")
            save_ticket(
                paths[-1], models[place], found[place], init=WEIGHTS[part.weights], seed=best,
                init_keep=init_keep, about=about,
            )  # fmt: skip
    return paths
