"""Which figures an experiment has: a function for each type of part, in the form of the papers.

An experiment that consists of a new type of part needs one more line in `FIGURES`; until then it
is drawn as accuracy against the weights that remain.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, NamedTuple

from lth_tutorial import plotting
from lth_tutorial.experiments.after_pruning import RetrainingPart
from lth_tutorial.experiments.criteria import BeforeTrainingPart, CriteriaPart
from lth_tutorial.experiments.design import Experiment, InstabilityPart, LotteryPart, Part
from lth_tutorial.experiments.early import BoostingPart, EarlyBirdPart, SettlingPart
from lth_tutorial.experiments.generalised import BasesPart, DualPart, ElasticPart
from lth_tutorial.experiments.looks import ConvolutionPart, LocalityPart
from lth_tutorial.experiments.pruned_random import ImitationPart
from lth_tutorial.experiments.spiral import DescentPart, MasksPart, SpiralPrunersPart
from lth_tutorial.experiments.stability import RewindingPart
from lth_tutorial.experiments.structured import StructuredPart, UnstructuredPart
from lth_tutorial.experiments.supermasks import SignsPart, SupermaskPart
from lth_tutorial.gallery.parts import part_rows
from lth_tutorial.results.names import arm_name
from lth_tutorial.variants.spiral_pruners import fewest_weights

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.figure import Figure


class Drawn(NamedTuple):
    """A figure, what it shows in one line, and what it shows for those who do not see it."""

    figure: Figure
    caption: str
    alt: str


class Measured(NamedTuple):
    """A part of an experiment and its own wide rows, arms without the label."""

    part: Part
    rows: pd.DataFrame

    def named(self, caption: str) -> str:
        """Return a caption that says which part is shown, where there are several."""
        return f"{self.part.label}: {caption}" if self.part.label else caption


def figures(design: Experiment, rows: pd.DataFrame) -> list[Drawn]:
    """Return the figures of a record.

    Args:
        design: the experiment, with the steps of the scale at which it was run.
        rows: wide rows.
    """
    kinds: dict[type, list[Measured]] = {}
    for part in design.parts:
        own = part_rows(part, rows)
        if len(own):
            kinds.setdefault(type(part), []).append(Measured(part, own))
    return [drawn for kind, parts in kinds.items() for drawn in FIGURES.get(kind, _density)(parts)]


def _drawn(figure: Figure, caption: str, rows: pd.DataFrame, value: str = "accuracy") -> Drawn:
    arms = [a for a in plotting.METHODS if a in set(rows["arm"])]
    values = rows[value].dropna().astype(float)
    percent = "%" in plotting.VALUES.get(value, "") or value in ("accuracy", "height")
    scale, unit = (100, " points" if value == "height" else " %") if percent else (1, "")
    labels = ", ".join(map(arm_name, arms))
    # Not less than what is drawn: the values of single seeds.
    extent = f"Values of single runs lie between {scale * values.min():.4g} and " + (
        f"{scale * values.max():.4g}{unit}."
    )
    seen = _extremes(rows.dropna(subset=[value]), arms, value, scale, unit)
    shown = f"{caption}; {_replicates(rows, value)}{seen}"  # the page adds the full stop
    return Drawn(figure, shown, f"{caption}. Shown: {labels}{seen}. {extent}")


def _replicates(rows: pd.DataFrame, value: str) -> str:
    """Return over how many seeds there is a value, e.g. "n = 5 to 8"."""
    counts = rows.dropna(subset=[value]).groupby("arm")["seed"].nunique()
    low, high = counts.min(), counts.max()
    return f"n = {high}" if low == high else f"n = {low} to {high}"


def _extremes(rows: pd.DataFrame, arms: Sequence[str], value: str, scale: int, unit: str) -> str:
    """Return in words which arm ends highest and which lowest: what there is to see."""
    masked = rows[(rows["round"] > 0) & rows["arm"].isin(arms)]
    if masked["arm"].nunique() < 2:
        return ""
    last = masked[masked["round"] == masked.groupby("arm")["round"].transform("max")]
    means = last.astype({value: float}).groupby("arm")[value].mean().sort_values()
    ends = [f"{arm_name(arm)} ({scale * means[arm]:.4g}{unit})" for arm in means.index[[-1, 0]]]
    return f". At the end the highest mean is that of {ends[0]}, the lowest of {ends[1]}"


def _known(rows: pd.DataFrame, value: str = "accuracy") -> pd.DataFrame:
    """Return the rows that have a value and an arm with a colour of its own."""
    return rows[rows["arm"].isin(plotting.METHODS) & rows[value].notna()]


def _density(parts: Sequence[Measured]) -> Iterator[Drawn]:
    for each in parts:
        rows = _known(each.rows)
        if len(rows):
            caption = each.named("test accuracy against the weights that remain")
            yield _drawn(plotting.accuracy_vs_density(rows), caption, rows)


def _lottery(parts: Sequence[Measured]) -> Iterator[Drawn]:
    for each in parts:
        yield from _density([each])
        steps = "early_stop_step"
        if steps in each.rows and each.rows[steps].notna().any():
            rows = _known(each.rows, steps)
            caption = each.named("step of the lowest validation loss against the weights left")
            yield _drawn(plotting.steps_vs_density(rows, value=steps), caption, rows, steps)


def _instability(parts: Sequence[Measured]) -> Iterator[Drawn]:
    import pandas as pd

    rows = pd.concat([each.rows.assign(network=each.part.label) for each in parts])
    if "height" not in rows:
        return  # no copy ended better than a constant answer
    by = "network" if len(parts) > 1 else None
    caption = "error barrier against the step at which two copies part"
    yield _drawn(plotting.barrier_vs_step(rows, step="step", by=by), caption, rows, "height")


def _rewinding(parts: Sequence[Measured]) -> Iterator[Drawn]:
    import pandas as pd

    shared = set.intersection(*(set(each.rows["round"]) for each in parts))
    sparse = max(shared)
    for each in _joined(parts):
        if each.rows["step"].nunique() > 2 and "height" in each.rows:
            rows = each.rows[each.rows["round"].isin((0, sparse))]
            share = rows.loc[rows["round"] == sparse, "density"].mean()
            caption = f"barrier and test error against rewind step, {100 * share:.3g} % of weights"
            figure = plotting.stability_and_error(rows, step="step")
            yield _drawn(figure, each.named(caption), rows)
    if len(parts) > 1:
        rows = pd.concat([each.rows.assign(network=each.part.label) for each in parts])
        rows = rows[(rows["step"] == 0) & rows["round"].isin((0, sparse))]
        if rows.empty:
            return
        share = rows.loc[rows["round"] == sparse, "density"].mean()
        caption = f"test accuracy with rewind step 0, {100 * share:.3g} % of weights"
        yield _drawn(plotting.accuracy_by_network(rows), caption, rows)


def _joined(parts: Sequence[Measured]) -> list[Measured]:
    """Return parts as they are, those that differ in nothing but the rewind step as one."""
    import pandas as pd

    groups: dict[str, list[Measured]] = {}
    for each in parts:
        same = replace(each.part, rewind_steps=(), label="")
        groups.setdefault(repr(same), []).append(each)
    return [
        group[0] if len(group) == 1 else Measured(
            replace(group[0].part, label=""), pd.concat([each.rows for each in group])
        )
        for group in groups.values()
    ]  # fmt: skip


def _retraining(parts: Sequence[Measured]) -> Iterator[Drawn]:
    for each in parts:
        rows = _known(each.rows)
        if not len(rows):
            continue
        first, last = rows["step"].min(), rows["round"].max()
        caption = each.named(f"test accuracy against the weights that remain, k = {first}")
        early = rows[rows["step"] == first]
        yield _drawn(plotting.accuracy_vs_density(early), caption, early)
        figure = plotting.accuracy_vs_budget(
            rows.rename(columns={"step": "rewind_step"}), steps=each.part.train.steps, round=last
        )
        caption = each.named("test error against the steps of training after pruning")
        yield _drawn(figure, caption, rows[rows["round"] == last])


def _unstructured(parts: Sequence[Measured]) -> Iterator[Drawn]:
    # These are pruned once, unlike the arm of chapter 1 that has the same name.
    yield from _density([
        each._replace(rows=each.rows.replace({"arm": {"fine_tuned": "fine_tune"}}))
        for each in parts
    ])  # fmt: skip


def _supermasks(parts: Sequence[Measured]) -> Iterator[Drawn]:
    import pandas as pd

    for each in parts:
        if len(each.part.keeps) > 2:
            caption = each.named("test accuracy against density")
            yield _drawn(plotting.supermasks_vs_density(each.rows), caption, each.rows)
    if len(parts) == 1 and len(parts[0].part.keeps) > 2:
        return
    tables = []
    for part, rows in parts:
        keep = 0.5 if 0.5 in part.keeps else part.keeps[0]
        rows = rows[rows["round"].isin((0, 1 + part.keeps.index(keep)))]
        sampled = all(arm.startswith("sampled") for arm in part.arms)
        name = part.label if sampled else f"{part.label}, keep {keep:g}"
        width = part.model.split("_")[1] if part.model.startswith("mlp_") else pd.NA
        tables.append(rows.assign(network=name, width=width))
    rows = _known(pd.concat(tables))
    if rows["width"].notna().all() and rows["width"].nunique() > 1:
        rows = rows.assign(width=rows["width"].astype(int)).sort_values("width", kind="stable")
        caption = "test accuracy against the width of the hidden layers, half of the weights kept"
        yield _drawn(plotting.supermask_accuracy(rows, "width"), caption, rows)
    else:
        caption = "test accuracy of each network"
        yield _drawn(plotting.accuracy_by_network(rows), caption, rows)


def _signs(parts: Sequence[Measured]) -> Iterator[Drawn]:
    for each in parts:
        yield from _density([each])
        untrained = _known(each.rows[each.rows["accuracy"].isna()], "start_accuracy")
        figure = plotting.accuracy_vs_density(untrained, value="start_accuracy")
        caption = each.named("masks of a trained network on its untrained weights")
        yield _drawn(figure, caption, untrained, "start_accuracy")


def _imitation(parts: Sequence[Measured]) -> Iterator[Drawn]:
    for each in parts:
        caption = "accuracy and output error of the pruned random network against products"
        yield _drawn(plotting.imitation(each.rows), each.named(caption), each.rows)


def _locality(parts: Sequence[Measured]) -> Iterator[Drawn]:
    import pandas as pd

    first = parts[0]
    caption = first.named("kept neighbours of kept pixels against first-layer weights that remain")
    figure = plotting.neighbours_vs_density(first.rows)
    yield _drawn(figure, caption, first.rows, "neighbours")
    tables, labels = [], {}
    for part, rows in parts:
        last = rows[rows["round"] == rows.groupby("seed")["round"].transform("max")]
        excess = last["neighbours"] - last["neighbours_matched"]
        labels[part.label] = part.label
        tables.append(last.assign(arm=part.label, excess=excess))
    every = pd.concat(tables)
    caption = "kept neighbours beyond the matched null, last round of every part"
    low, high = 100 * every["excess"].min(), 100 * every["excess"].max()
    alt = f"{caption}. Shown: {', '.join(labels)}. "
    alt += f"Values of single runs lie between {low:.3g} and {high:.3g} points."
    caption += f"; {_replicates(every, 'excess')}"
    yield Drawn(plotting.excess_by_arm(every, labels), caption, alt)


def _spiral(parts: Sequence[Measured]) -> Iterator[Drawn]:
    import pandas as pd

    rows = pd.concat([each.rows for each in parts])
    caption = "accuracy on the spiral against the weights needed"
    yield _drawn(plotting.weights_vs_accuracy(rows), caption, rows)


def _spiral_widths(parts: Sequence[Measured]) -> Iterator[Drawn]:
    import pandas as pd

    for target in (0.95, 0.995):
        tables = [
            fewest_weights(rows[["arm", "seed", "round", "weights", "accuracy"]], target).assign(
                width=part.width
            )
            for part, rows in parts
        ]
        table = pd.concat(tables)
        figure = plotting.weights_vs_width(table, target=f"{target:.3g}")
        caption = f"weights needed for an accuracy of {100 * target:.3g} % against the width"
        low, high = table["weights"].min(), table["weights"].max()
        arms = ", ".join(map(arm_name, table["arm"].unique()))
        alt = f"{caption}. Shown: {arms}. "
        alt += f"Values of single runs lie between {low:.0f} and {high:.0f} weights."
        yield Drawn(figure, f"{caption}; {_replicates(table, 'weights')}", alt)


def _settling(parts: Sequence[Measured]) -> Iterator[Drawn]:
    for each in parts:
        value, rows = "to_final", each.rows
        caption = each.named("distance of every epoch's mask to the last one")
        values = rows[value].dropna().astype(float)
        arms = ", ".join(map(arm_name, rows["arm"].unique()))
        alt = (
            f"{caption}, over that of unrelated masks. Shown: {arms}. "
            f"Values of single runs lie between {values.min():.4g} and {values.max():.4g}."
        )
        caption += f"; {_replicates(rows, value)}"
        yield Drawn(plotting.settling(rows.astype({value: float})), caption, alt)


def _early_birds(parts: Sequence[Measured]) -> Iterator[Drawn]:
    for each in parts:
        caption = each.named("accuracy at the end against the step at which a mask was drawn")
        yield _drawn(plotting.accuracy_vs_drawing(each.rows), caption, each.rows)


def _boosting(parts: Sequence[Measured]) -> Iterator[Drawn]:
    for each in parts:
        robust = "robust_accuracy"
        under = robust in each.rows and each.rows[robust].notna().any()
        value = robust if under else "accuracy"
        text = "accuracy under attack" if under else "test accuracy"
        caption = each.named(f"{text} against the step of training")
        rows = each.rows.astype({value: float})
        yield _drawn(plotting.accuracy_vs_step(rows, value=value), caption, rows, value)


def _bases(parts: Sequence[Measured]) -> Iterator[Drawn]:
    for each in parts:
        rows = _known(each.rows)
        if len(rows):
            caption = each.named("test accuracy against what has to be stored, basis included")
            yield _drawn(plotting.accuracy_vs_stored(rows), caption, rows)


def _elastic(parts: Sequence[Measured]) -> Iterator[Drawn]:
    for each in parts:
        there = set(each.rows["arm"])
        pairs = [(a, b) for a, b in each.part.pairs if f"{a} to {b}, stretched" in there]
        if pairs:
            last = each.rows[each.rows["round"] == each.rows["round"].max()]
            plain = last.assign(arm=last["arm"].str.rpartition(", ")[2])
            caption = each.named("test accuracy of moved tickets and their controls")
            yield _drawn(plotting.moved_tickets(each.rows, pairs), caption, plain)


def _dual(parts: Sequence[Measured]) -> Iterator[Drawn]:
    for each in parts:
        caption = each.named("test accuracy against the strength of the penalty")
        yield _drawn(plotting.accuracy_vs_penalty(each.rows), caption, each.rows)


FIGURES: dict[type, Callable[[Sequence[Measured]], Iterator[Drawn]]] = {
    LotteryPart: _lottery,
    InstabilityPart: _instability,
    RewindingPart: _rewinding,
    RetrainingPart: _retraining,
    StructuredPart: _density,
    UnstructuredPart: _unstructured,
    CriteriaPart: _density,
    BeforeTrainingPart: _density,
    SupermaskPart: _supermasks,
    SignsPart: _signs,
    ImitationPart: _imitation,
    LocalityPart: _locality,
    ConvolutionPart: lambda parts: iter(()),  # a number beside the others, no figure of its own
    DescentPart: _spiral,
    MasksPart: _spiral,
    SpiralPrunersPart: _spiral_widths,
    SettlingPart: _settling,
    EarlyBirdPart: _early_birds,
    BoostingPart: _boosting,
    BasesPart: _bases,
    ElasticPart: _elastic,
    DualPart: _dual,
}
