"""The gallery: every experiment is in it, and everything it says follows from the rows."""

from __future__ import annotations

import html
import importlib.util
import re

import matplotlib
import numpy as np
import pandas as pd
import pytest
from bootstrap import ROOT

import lth_tutorial as lt
from lth_tutorial import plotting
from lth_tutorial.experiments import EXPERIMENTS, experiment
from lth_tutorial.gallery.figures import FIGURES, figures, part_rows
from lth_tutorial.gallery.papers import NUMBERS, best, cell
from lth_tutorial.results import records
from lth_tutorial.results.records import lengthen

matplotlib.use("Agg")
NAMES = [design.name for design in EXPERIMENTS]
RECORDED = [name for name in NAMES if name in lt.recorded()]


def extension():
    """Return the Sphinx extension of the book, which lists the experiments."""
    place = ROOT / "book" / "_ext" / "lth_book.py"
    spec = importlib.util.spec_from_file_location("lth_book", place)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def cells_of(part) -> list[dict]:
    """Return the settings that a part measures: arm, round, density, step where it has one."""
    kind = type(part).__name__
    arms = part.criteria if kind == "CriteriaPart" else getattr(part, "arms", ("dense",))
    if kind == "UnstructuredPart":
        arms = ("fine_tuned", "scratch_e", "scratch_b")
    if kind in ("LocalityPart", "ConvolutionPart"):
        arm, rounds = getattr(part, "arm", "conv"), part.imp.rounds if kind[0] == "L" else 0
        return [
            {"arm": arm, "round": r, "density": 0.7**r, "step": pd.NA, "first_density": 0.7**r}
            | {f"neighbours{null}": 0.8**r for null in ("", "_matched", "_uniform")}
            for r in range(rounds + 1)
        ]
    if kind == "BasesPart":
        return [
            {"arm": arm, "round": r, "density": 0.5**r, "step": pd.NA, "stored": 0.5**r}
            for arm in part.bases
            for r in range(part.imp.rounds + 1)
        ]
    if kind == "ElasticPart":
        own = {name for pair in part.pairs for name in pair}
        arms = [f"{name}, ticket" for name in sorted(own)]
        arms += [f"{a} to {b}, {arm}" for a, b in part.pairs for arm in part.arms]
        return [
            {"arm": arm, "round": r, "density": 0.5**r, "step": pd.NA}
            for arm in arms
            for r in (0, part.imp.rounds)
        ]
    if kind == "DualPart":
        rounds = {"regularised": len(part.strengths)}
        return [
            {"arm": arm, "round": r, "density": 1 if r == 0 else part.density, "step": pd.NA}
            | ({"strength": part.strengths[r - 1]} if arm == "regularised" and r else {})
            for arm in ("regularised", "scratch", "one_shot", "ticket")
            for r in range(rounds.get(arm, 1) + 1)
        ]
    if kind in ("DescentPart", "MasksPart", "SpiralPrunersPart"):
        arms = {"DescentPart": ("search",), "MasksPart": ("exhaustive",)}.get(kind, arms)
        counts = getattr(part, "counts", getattr(part, "weights", (20, 19, 18)))
        return [
            {"arm": arm, "round": r, "density": n / 300, "step": pd.NA, "weights": n}
            for arm in arms
            for r, n in enumerate((300, *counts))
        ]
    if kind == "SettlingPart":
        return [
            {
                "arm": f"p {p:g}{random}",
                "round": epoch,
                "step": pd.NA,
                "to_final": 0.5 / (1 + epoch),
            }
            for p in part.fractions
            for random in ("", ", random")
            for epoch in range(4)
        ]
    if kind == "EarlyBirdPart":
        steps = (0, *part.draw_steps)
        return [
            {"arm": arm, "round": r, "step": step} for arm in arms for r, step in enumerate(steps)
        ]
    if kind == "BoostingPart":
        return [
            {"arm": arm, "round": r, "step": step, "robust_accuracy": step / 9_999}
            for arm in arms
            for r, step in enumerate(part.measure_steps, start=1)
        ]
    if kind == "InstabilityPart":
        return [{"arm": "dense", "round": 0, "step": step} for step in part.branch_steps]
    if kind == "RewindingPart":
        pairs = [("dense", 0), *((arm, r) for arm in arms for r in part.rounds if r)]
        return [
            {"arm": arm, "round": r, "density": 0.8**r, "step": step}
            for arm, r in pairs
            for step in part.rewind_steps
        ]
    shares = {
        "SupermaskPart": lambda: part.keeps,
        "BeforeTrainingPart": lambda: part.densities,
        "StructuredPart": lambda: [1 - share for share in part.fractions],
        "UnstructuredPart": lambda: [1 - share for share in part.fractions],
    }.get(kind, lambda: [0.8 ** (1 + r) for r in range(part.imp.rounds)])()
    steps = part.rewind_steps if kind == "RetrainingPart" else (pd.NA,)
    rounds = list(enumerate([1.0, *shares]))
    if getattr(part, "dense", True) is None:
        rounds = rounds[1:]
    return [
        {"arm": arm, "round": r, "density": share, "step": step}
        for arm in arms
        for r, share in rounds
        for step in steps
    ]


def made_up(name: str) -> pd.DataFrame:
    """Return long rows of the shape that an experiment has, with made-up numbers."""
    design, random = experiment(name), np.random.default_rng(0)
    tables = []
    for part in design.parts:
        kind = type(part).__name__
        rows = []
        for seed in design.seeds:
            for each in cells_of(part):
                # Round 0 is the same dense network in every arm.
                noise = random.uniform(0, 0.01) if each["round"] else seed / 1000
                row = {"density": 1.0, "seed": seed} | each | {"accuracy": 0.9 + noise}
                if kind == "LotteryPart":
                    row |= {"early_stop_step": 100 + each["round"], "early_stop_accuracy": 0.9}
                if kind in ("InstabilityPart", "RewindingPart"):
                    row["height"] = noise
                rows.append(row)
        wide = pd.DataFrame(rows).assign(step=lambda table: table["step"].astype("Int64"))
        if part.label:
            wide = wide.assign(arm=f"{part.label}: " + wide["arm"])
        tables.append(lengthen(wide, record=name, data=design.dataset))
    return pd.concat(tables, ignore_index=True)


def pictures(entry) -> list[str]:
    """Return the alternative texts of the figures of an entry."""
    return re.findall(r'<img src="data:image/png[^"]*" alt="([^"]*)"', entry._repr_html_())


# Every experiment


@pytest.mark.parametrize("name", NAMES)
def test_an_entry_says_how_to_run_its_experiment_and_what_its_figures_show(name):
    entry = lt.gallery(name)
    page, text = entry._repr_html_(), repr(entry)
    assert f"run {name}" in page and f"run {name}" in text
    assert ("Not yet run" in page) == (name not in RECORDED)
    alts = re.findall(r'<img src="data:image/png[^"]*" alt="([^"]*)"', page)
    assert bool(alts) == (name in RECORDED)
    captions = re.findall(r"<figcaption[^>]*>(.*?)</figcaption>", page)
    for caption, alt in zip(captions, alts, strict=True):  # they say what is to be seen
        assert "n = " in caption and re.search(r"lie between -?[\d.]", alt), (caption, alt)
        assert not re.search(r"[a-z]\w*_\w", caption + alt), "a key where a name belongs"
    for claim in lt.CLAIMS:
        if claim.record == name and name in RECORDED:
            assert html.escape(claim.statement) in page


@pytest.mark.parametrize("name", RECORDED)
def test_a_record_says_scale_seeds_device_date_and_time(name):
    rows, entry = lt.load_rows(name), lt.gallery(name)
    about = rows.attrs["provenance"]
    assert entry.command == about["command"]
    for fact in (about["device"], about["date"], f"n = {len(about['seeds'])} seeds"):
        assert fact in entry.facts
    assert f"Scale {rows['scale'].iloc[0]:g} " in entry.facts
    assert re.search(r"\d (seconds|minutes)", entry.facts)


@pytest.mark.parametrize("name", [name for name in NAMES if name not in RECORDED])
def test_an_experiment_shows_once_it_is_recorded(name):
    entry = lt.gallery(name, made_up(name))
    assert "Not yet run" not in entry._repr_html_()
    alts = pictures(entry)
    assert alts and all("Shown: " in alt and "lie between" in alt for alt in alts)
    for number, interval in entry.beside_papers():
        assert interval.n == len(experiment(name).seeds), number.quantity


def test_every_type_of_part_has_its_figure():
    assert {type(part) for design in EXPERIMENTS for part in design.parts} == set(FIGURES)


def test_a_new_type_of_part_is_drawn_against_density():
    class Other:
        label = ""

    design = experiment("cifar10-conv2-imp")
    rows = lt.widen(made_up(design.name))
    other = type(design)(design.name, 4, "?", "mnist", (0,), (Other(),))
    (drawn,) = figures(other, rows)
    assert drawn.caption.startswith("test accuracy against the weights that remain; n = 3.")
    means = rows[rows["round"] == rows["round"].max()].groupby("arm")["accuracy"].mean()
    assert lt.arm_name(means.idxmax()) in drawn.caption.partition(" the lowest of ")[0]
    assert lt.arm_name(means.idxmin()) in drawn.caption.partition(" the lowest of ")[2]


def test_rows_of_a_part_are_those_with_its_label():
    design = experiment("digits-stability")
    rows = lt.widen(lt.load_rows(design.name))
    sizes = [len(part_rows(part, rows)) for part in design.parts]
    assert all(sizes) and sum(sizes) == len(rows)


# What it says follows from the rows


def test_altered_rows_alter_numbers_and_verdicts():
    rows = lt.load_rows("mnist-lenet-imp")
    before = lt.gallery("mnist-lenet-imp")
    same = lt.gallery("mnist-lenet-imp", rows)
    assert same.beside_papers() == before.beside_papers()
    assert list(same.verdicts["verdict"]) == list(before.verdicts["verdict"])

    worse, own = rows.copy(), rows["arm"].eq("ticket") & rows["round"].gt(0)
    worse.loc[own & worse["metric"].eq("early_stop_step"), "value"] *= 2
    worse.loc[own & worse["metric"].isin(["accuracy", "early_stop_accuracy"]), "value"] -= 0.1
    after = lt.gallery("mnist-lenet-imp", worse)
    (_, ratio), (_, gain) = before.beside_papers()
    (_, new_ratio), (_, new_gain) = after.beside_papers()
    assert new_ratio.mean == pytest.approx(ratio.mean / 2)
    assert new_gain.mean == pytest.approx(gain.mean - 0.1)
    page = after._repr_html_()
    assert f"{new_ratio.mean:.2f} [" in page and f"{ratio.mean:.2f} [" not in page
    verdicts = after.verdicts.set_index("key")["verdict"]
    assert set(verdicts[["tickets-match-mnist", "mask-matters-mnist"]]) == {"fails here"}
    assert "✗ fails here" in page and "✗ fails here" not in before._repr_html_()
    assert pictures(after) != pictures(before)


def test_time_on_a_gpu_is_in_gpu_minutes():
    rows = made_up("cifar10-conv2-imp")
    rows.attrs["provenance"] = {"device": "NVIDIA H100", "wall_time_s": 930.0, "resumed": True}
    facts = lt.gallery("cifar10-conv2-imp", rows).facts
    assert "at least 15.5 GPU-minutes (a run in several parts)" in facts


def test_an_unknown_name_is_refused():
    with pytest.raises(ValueError, match="Did you mean 'mnist-lenet-imp'"):
        lt.gallery("mnist-lenet-ipm")


# The papers' numbers


def test_numbers_name_an_experiment_and_where_they_were_seen():
    assert {number.record for number in NUMBERS} <= set(NAMES)
    for number in NUMBERS:
        assert number.url.startswith("https://arxiv.org/abs/") and number.seen
        assert re.search(r"\d", number.paper)


@pytest.mark.parametrize("number", NUMBERS, ids=lambda number: number.quantity[:40])
def test_without_its_rows_a_number_is_not_measured(number):
    nothing = pd.DataFrame([
        {"arm": "other", "seed": 0, "round": 0, "density": 1.0, "accuracy": 0.5, "products": 0}
    ])  # fmt: skip
    assert len(number.measure(nothing, 1.0)) == 0


def test_a_cell_is_that_of_the_nearest_density_and_step():
    rows = pd.DataFrame([
        {"arm": "a", "seed": s, "round": r, "density": d, "step": k, "accuracy": 10 * k + r + s}
        for s in (0, 1) for r, d in ((0, 1.0), (1, 0.5), (2, 0.2)) for k in (0, 5)
    ])  # fmt: skip
    assert cell(rows, "a", 0.3, step=6).to_dict() == {0: 52, 1: 53}
    assert cell(rows, "a", 1.0, step=0).to_dict() == {0: 0, 1: 1}
    assert best(rows[rows["step"] == 0], "a").to_dict() == {0: 2, 1: 3}


# The page, and the figure of several networks


def test_every_experiment_is_on_the_page_once():
    listing = extension().results_listing()
    assert sorted(re.findall(r"^### (.+)$", listing, re.M)) == sorted(NAMES)
    measured, waiting = listing.split("## Not yet run")
    assert set(re.findall(r"lt\.gallery\('(.+)'\)", measured)) == set(RECORDED)
    assert set(re.findall(r"lt\.gallery\('(.+)'\)", waiting)) == set(NAMES) - set(RECORDED)
    assert all(design.question in listing for design in EXPERIMENTS)


def test_a_record_that_is_added_leaves_those_not_yet_run(tmp_path, monkeypatch):
    monkeypatch.setattr(records, "records_folder", lambda root: tmp_path)
    assert "## Chapter" not in extension().results_listing()
    about = {key: "" for key in records.PROVENANCE} | {"command": "the command", "wall_time_s": 3}
    lt.save_rows(made_up("cifar10-conv2-imp"), "cifar10-conv2-imp", about, root=tmp_path)
    measured, waiting = extension().results_listing().split("## Not yet run")
    assert measured.startswith("## Chapter 4\n\n### cifar10-conv2-imp\n")
    assert "### cifar10-conv2-imp\n" not in waiting
    entry = lt.gallery("cifar10-conv2-imp")
    assert entry.command == "the command" and len(pictures(entry)) == 2


def test_networks_are_drawn_at_their_means_with_every_seed():
    rows = pd.DataFrame([
        {"network": n, "arm": "biprop", "seed": s, "round": r, "accuracy": a + s / 100}
        for n, accuracies in (("one", (0.9, 0.7)), ("two", (0.8, 0.6)))
        for r, a in enumerate(accuracies) for s in range(3)
    ])  # fmt: skip
    (axes,) = plotting.accuracy_by_network(rows).axes
    assert [tick.get_text() for tick in axes.get_yticklabels()] == ["one", "two"]
    means = {c.get_label(): c.lines[0].get_xdata() for c in axes.containers}
    assert means[plotting.METHODS["dense"]["label"]] == pytest.approx([91, 81])
    assert means[plotting.METHODS["biprop"]["label"]] == pytest.approx([71, 61])
    with pytest.raises(ValueError, match="network"):
        plotting.accuracy_by_network(rows.drop(columns="network"))
