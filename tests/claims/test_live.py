"""Live verdicts: noted while a chapter runs, kept, shown, and compared with those of a build."""

import json
import math
import re

import numpy as np
import pandas as pd
import pytest
from bootstrap import ROOT
from measured import compare, differences
from normalise_notebooks import main, running_time, with_running_time

import lth_tutorial as lt
from lth_tutorial.claims import agreement, live
from lth_tutorial.claims.afterwards import AFTERWARDS
from lth_tutorial.claims.rules import Claim, Effect, Measured, Part, Setting
from lth_tutorial.results.intervals import Interval


def fine_tuning(seeds=8, pruned=0.97):
    """Return rows that decide three of the four claims of chapter 1."""
    return pd.DataFrame(
        [
            {"arm": arm, "seed": s, "round": r, "density": 0.5**r, "accuracy": value + s / 1000}
            for arm, value in (("fine_tuned", pruned), ("random", 0.5), ("one_shot", 0.9))
            for s in range(seeds)
            for r in range(6)
        ]
    )


def test_a_chapter_notes_its_verdicts_where_it_is_asked_to(tmp_path, monkeypatch):
    lt.claims({"digits-fine-tuning": fine_tuning()}, chapter=1)
    monkeypatch.setenv("LTH_TUTORIAL_VERDICTS", str(tmp_path))
    lt.claims(chapter=1)
    assert not list(tmp_path.iterdir()), "without rows of its own a chapter measures nothing"
    lt.claims({"digits-fine-tuning": fine_tuning(seeds=3)}, chapter=1)
    table = lt.claims({"digits-fine-tuning": fine_tuning()}, chapter=1).set_index("key")
    entries = {entry["key"]: entry for entry in live.noted(tmp_path, 1)}
    assert entries.keys() == set(table.index) - {"retraining-matters"}, "its arm is missing"
    assert live.noted(tmp_path, 2) == []
    for key, entry in entries.items():
        assert entry["verdict"] == table.loc[key, "verdict"]
        assert entry["criterion"] == table.loc[key, "criterion"]
        (part,) = live.parts_of(entry)
        assert part.interval.n == 8 and agreement([part]) == table.loc[key, "agree"]


def test_a_verdict_that_is_kept_comes_back_as_it_was():
    effects = (Effect("a", lambda rows: Measured([0.1, 0.2, 0.4]), 0.05),)
    missing = (Effect("b", lambda rows: Measured([]), 0.05),)
    claim = Claim("k", 1, "s", "s", "r", "n", (Setting("x", effects), Setting("y", missing)))
    parts = claim.parts(pd.DataFrame())
    entry = json.loads(json.dumps(live.as_entry(claim, parts), allow_nan=False))
    again = live.parts_of(entry)
    assert claim.joined(again) == claim.verdict(pd.DataFrame()) == "not enough runs (0 of 3)"
    assert again[0].interval == pytest.approx(parts[0].interval, rel=1e-5)
    assert math.isnan(again[1].interval.mean) and again[1].interval.n == 0


def one(low, high, verdict, mean=None, n=8, key="most-weights-can-go", **change):
    """Return what is kept of a claim whose threshold is −0.005."""
    part = {
        "setting": "25 %", "effect": "e", "n": n, "low": low, "high": high, "agree": 1,
        "mean": (low + high) / 2 if mean is None else mean, "verdict": verdict,
    }  # fmt: skip
    return {"key": key, "criterion": "c", "verdict": verdict, "parts": [part], **change}


OLD = one(-0.004, 0.004, "holds")  # an eighth of its width above the threshold
FAR = one(-0.002, 0.006, "holds")  # three eighths


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        (OLD, OLD, None),
        (OLD, one(-0.003, 0.007, "holds"), None),
        (OLD, one(-0.001, 0.011, "holds"), "outside the kept interval"),
        (OLD, one(-0.009, 0.001, "inconclusive", mean=-0.0041), "outside the kept interval"),
        (OLD, one(-0.007, 0.001, "inconclusive"), None),
        (FAR, one(-0.006, 0.004, "inconclusive"), "clear of the threshold"),
        (one(-0.02, -0.006, "fails here"), one(-0.02, -0.002, "inconclusive"), None),
        (one(-0.02, -0.012, "fails here"), one(-0.027, -0.003, "inconclusive"), "clear of"),
        (one(-0.02, 0.01, "inconclusive"), one(-0.004, 0.01, "holds"), None),
        (OLD, one(-0.004, 0.004, "holds", n=7), "8 seeds, now 7"),
        (OLD, one(-0.004, 0.004, "holds", criterion="d"), "judged by"),
        (OLD, one(-0.004, 0.004, "holds") | {"verdict": "inconclusive"}, "no part of it"),
        (one(1, 1, "holds"), one(1, 1, "holds"), None),
        (one(1, 1, "holds"), one(0.9, 0.9, "holds"), "outside the kept interval"),
    ],
)
def test_a_build_must_measure_what_is_kept(old, new, words):
    found = differences([old], [new])
    assert found == [] if words is None else (len(found) == 1 and words in found[0])


def test_a_claim_of_several_parts_changes_only_with_a_part_that_may():
    """Its verdict may follow a part that lies near its threshold, and no other."""
    key = "two"
    effects = {key: [Effect(name, lambda rows: Measured([]), -0.005) for name in "ab"]}
    old = one(0, 0, "holds", key=key, parts=OLD["parts"] + FAR["parts"])
    near = one(-0.007, 0.001, "inconclusive")["parts"] + FAR["parts"]
    far = OLD["parts"] + one(-0.006, 0.004, "inconclusive")["parts"]
    new = {"verdict": "inconclusive"}
    assert differences([old], [old | new | {"parts": near}], effects) == []
    (text,) = differences([old], [old | new | {"parts": far}], effects)
    assert "clear of the threshold" in text


def test_what_a_clock_measured_is_not_compared_but_must_be_there():
    far, new = FAR, one(-0.02, -0.011, "fails here")
    assert len(differences([far], [new])) == 1
    effects = {far["key"]: [Effect("e", lambda rows: Measured([]), -0.005, timed=True)]}
    assert differences([far], [new], effects) == []
    (text,) = differences([far], [one(-0.02, -0.011, "fails here", n=7)], effects)
    assert "8 seeds, now 7" in text
    (text,) = differences([far], [], effects)
    assert "not measured any more" in text


def test_no_claim_gets_lost_and_none_slips_in():
    other = one(0, 1, "holds", key="retraining-matters")
    assert differences([OLD, other], [OLD]) == [
        "retraining-matters: kept, and not measured any more"
    ]
    assert differences([OLD], [other, OLD]) == ["retraining-matters: measured, and not kept"]


def test_a_build_in_which_no_chapter_noted_anything_is_no_agreement(tmp_path):
    found = compare(tmp_path)
    assert any("not measured any more" in text for text in found)


CHAPTERS = sorted((ROOT / "notebooks").glob("*.ipynb"))


def test_every_chapter_is_measured_and_every_live_claim_kept():
    assert list(live.kept()) == [path.stem for path in CHAPTERS]
    entries = live.live_entries(live.kept().values())
    every = {claim.key: claim for claim in lt.CLAIMS}
    assert entries.keys() <= every.keys()
    assert {key for key, claim in every.items() if claim.live_only} <= entries.keys()
    for stem, chapter in live.kept().items():
        assert {every[entry["key"]].chapter for entry in chapter["verdicts"]} <= {int(stem[:2])}
    for key, entry in entries.items():
        claim = every[key]
        parts = live.parts_of(entry)
        assert [(p.setting, p.effect) for p in parts] == [
            (s.name, e.name) for s in claim.settings for e in s.effects
        ]
        assert entry["criterion"] == "; ".join(s.criterion() for s in claim.settings), key
        assert claim.joined(parts) == entry["verdict"], f"{key}: the rules have changed"


def test_every_claim_stands_in_the_one_table():
    table = lt.claims(live=True)
    assert set(table["key"]) == {claim.key for claim in lt.CLAIMS}
    assert set(table["measured"]) == {"live", "recorded, small", "recorded, large"}
    assert not table.duplicated(["key", "measured"]).any()
    alone = lt.claims()
    assert len(table) == len(alone) + len(live.live_entries(live.kept().values()))
    assert "live" not in set(alone["measured"])
    run = table[table["n"] > 0]
    assert run["agree"].str.match(r"[\d, and]+ (of \d+ )?.*seeds agree.*\.$").all()


@pytest.mark.parametrize(
    ("counts", "words"),
    [
        ([(18, 24)], "18 of 24 seeds agree."),
        ([(0, 8)], "0 of 8 seeds agree."),
        ([(8, 8), (8, 8)], "8 of 8 seeds agree in each comparison."),
        ([(3, 8), (8, 8)], "3 and 8 of 8 seeds agree, in the order above."),
        ([(3, 8), (1, 8), (8, 8)], "3, 1 and 8 of 8 seeds agree, in the order above."),
        ([(3, 8), (4, 5)], "3 of 8 and 4 of 5 seeds agree, in the order above."),
        ([(0, 0)], ""),
        ([], ""),
    ],
)
def test_one_sentence_says_how_many_seeds_agree(counts, words):
    assert agreement([Part("s", "e", Interval(0, 0, 0, n), k, "") for k, n in counts]) == words


def test_seeds_agree_that_lie_beyond_the_threshold_each_by_itself():
    values = [0.4, 0.5, 0.6, math.nan]
    counted = Effect("e", None, 0.5).agreeing(Measured(np.array(values)))
    assert counted == 2 and json.dumps(counted) == "2", "kept as JSON"
    assert Effect("e", None, 0.5, "below").agreeing(Measured(values)) == 2


def test_what_was_decided_after_rows_were_seen_is_told_of_claims_that_exist():
    table = lt.claims(live=True).set_index("key")
    assert AFTERWARDS.keys() <= set(table.index)
    for key, words in AFTERWARDS.items():
        shown = lt.verdicts(table.loc[[key]].reset_index())._repr_html_()
        assert words.split(",")[0].split("'")[0] in shown


def test_one_rule_says_where_a_setting_departs_from_the_papers():
    table = lt.claims(live=True).set_index("key")["departs"]
    assert table["cifar10-snip-beats-random"].startswith("another network")
    assert table["cifar10-short-snip-beats-random"] == "smaller than the paper's"
    assert table["convolutional-tickets"] == ""
    assert table["tickets-match-mnist"] == "run at scale 0.12: 12% of the steps"
    table = lt.claims(live=True)
    assert (table[table["level"] == "live"].query("record != 'subset-sums'")["departs"] != "").all()


@pytest.mark.parametrize(
    ("seconds", "words"),
    [(2.1, "5 seconds"), (42.4, "40 seconds"), (88, "90 seconds"), (95, "1.5 minutes"),
     (118, "2 minutes")],
)  # fmt: skip
def test_the_running_time_is_rounded_sensibly(seconds, words):
    text = running_time(seconds)
    assert text == f"Running everything takes about {words} of one processor core."
    opening = "You need *masks*. Running everything takes 1.5 minutes or 2. More."
    assert with_running_time(opening, seconds) == f"You need *masks*. {text} More."
    with pytest.raises(ValueError, match="Running everything takes"):
        with_running_time("You need *masks*.", seconds)


@pytest.mark.parametrize("path", CHAPTERS, ids=lambda path: path.stem)
def test_a_chapter_says_the_time_that_was_measured(path):
    opening = "".join(json.loads(path.read_text())["cells"][0]["source"])
    seconds = live.kept()[path.stem]["seconds"]
    assert re.findall(r"Running everything.*?core\.", opening) == [running_time(seconds)]


def test_a_running_time_that_nobody_measured_is_found(tmp_path, monkeypatch):
    path = tmp_path / CHAPTERS[0].name
    monkeypatch.setattr("sys.argv", ["normalise_notebooks.py", "--check", str(path)])
    text = CHAPTERS[0].read_text()
    path.write_text(text)
    assert main() == 0
    measured = running_time(live.kept()[path.stem]["seconds"])
    path.write_text(text.replace(measured, "Running everything takes about ten seconds."))
    assert main() == 1
