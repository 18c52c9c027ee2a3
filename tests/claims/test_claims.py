from __future__ import annotations

import math
import re
import sys

import pandas as pd
import pytest
from scipy import stats

import lth_tutorial as lt
from lth_tutorial.claims import CLAIMS
from lth_tutorial.claims.rules import Claim, Effect, Measured, Setting, difference
from lth_tutorial.results.intervals import Interval


def effect(values, threshold=0.5, beyond="above", **bounds):
    return Effect("quantity", lambda rows: Measured(values, **bounds), threshold, beyond, unit="")


def three_with_interval(low, high):
    """Return three numbers with exactly this 95 % interval."""
    middle, half = (low + high) / 2, (high - low) / 2
    spread = half / (stats.t.ppf(0.975, 2) / math.sqrt(3))
    return [middle - spread, middle, middle + spread]


@pytest.mark.parametrize(
    ("low", "high", "above", "below"),
    [
        (0.6, 0.9, "holds", "fails here"),
        (0.501, 0.9, "holds", "fails here"),
        (0.499, 0.9, "inconclusive", "inconclusive"),
        (0.1, 0.4, "fails here", "holds"),
        (0.1, 0.501, "inconclusive", "inconclusive"),
    ],
)
def test_the_whole_interval_decides(low, high, above, below):
    values = three_with_interval(low, high)
    assert effect(values, beyond="above").verdict(None) == above
    assert effect(values, beyond="below").verdict(None) == below


def test_an_interval_that_touches_the_threshold_counts_as_beyond_it():
    assert effect([0.5, 0.5, 0.5], beyond="above").verdict(None) == "holds"
    assert effect([0.5, 0.5, 0.5], beyond="below").verdict(None) == "holds"


@pytest.mark.parametrize(
    ("values", "verdict"),
    [
        ([], "not yet run"),
        ([0.9], "not enough runs (1 of 3)"),
        ([0.9, 0.9], "not enough runs (2 of 3)"),
    ],
)
def test_fewer_than_three_replicates_decide_nothing(values, verdict):
    assert effect(values).verdict(None) == verdict


def test_below_the_declared_minimum_nothing_is_decided():
    assert effect(UP).verdict(None, minimum_n=3) == "holds"
    assert effect(UP).verdict(None, minimum_n=5) == "not enough runs (3 of 5)"
    five = Claim("k", 4, "s", "s", "r", "n", (Setting("s", (effect(UP),)),), minimum_n=5)
    assert five.verdict(pd.DataFrame()) == "not enough runs (3 of 5)"


def test_values_that_are_only_bounds_do_not_carry_a_verdict_to_their_open_side():
    """All runs of both arms censored gave "fails here" once: 600 − 1.5 · 600 < 0."""
    assert effect(UP, at_least=True).verdict(None) == "holds"
    assert effect(UP, at_most=True).verdict(None) == "inconclusive"
    assert effect(DOWN, at_most=True).verdict(None) == "fails here"
    assert effect(DOWN, at_least=True).verdict(None) == "inconclusive"
    assert effect(DOWN, beyond="below", at_least=True).verdict(None) == "inconclusive"
    assert effect(UP, beyond="below", at_most=True).verdict(None) == "inconclusive"


UP, DOWN, OPEN = [0.8, 0.9, 0.85], [0.1, 0.2, 0.15], [0.1, 0.9, 0.5]


@pytest.mark.parametrize(
    ("values", "need_all", "need_any"),
    [
        ((UP, UP), "holds", "holds"),
        ((UP, DOWN), "fails here", "holds"),
        ((UP, OPEN), "inconclusive", "holds"),
        ((OPEN, DOWN), "fails here", "inconclusive"),
        ((DOWN, DOWN), "fails here", "fails here"),
        ((OPEN, OPEN), "inconclusive", "inconclusive"),
        ((UP, [0.9]), "not enough runs (1 of 3)", "not enough runs (1 of 3)"),
        ((UP, []), "not enough runs (0 of 3)", "not enough runs (0 of 3)"),
        (([], []), "not yet run", "not yet run"),
    ],
)
def test_several_effects_are_joined_by_all_or_any(values, need_all, need_any):
    effects = tuple(effect(v) for v in values)
    assert Setting("s", effects, "all").verdict(None) == need_all
    assert Setting("s", effects, "any").verdict(None) == need_any


def claim(*settings):
    return Claim("k", 4, "statement", "source", "digits-r", "network", settings)


def test_settings_that_differ_are_named():
    rows = pd.DataFrame()
    high, low = Setting("A", (effect(UP),)), Setting("B", (effect(DOWN),))
    assert claim(high, low).verdict(rows) == "holds only if A"
    assert claim(low, high, Setting("C", (effect(OPEN),))).verdict(rows) == "holds only if A"
    assert claim(high).verdict(None) == "not yet run"


@pytest.mark.parametrize(
    ("settings", "verdict"),
    [
        ((DOWN, OPEN), "fails here"),
        ((OPEN, DOWN, OPEN, OPEN), "fails here"),
        ((DOWN, DOWN), "fails here"),
        ((OPEN, OPEN), "inconclusive"),
        ((UP, OPEN), "holds only if 0"),
        ((OPEN, UP, DOWN, UP), "holds only if 1 or 3"),
    ],
)
def test_a_claim_that_holds_in_no_setting_and_fails_in_one_fails(settings, verdict):
    """At −45 points in one setting a claim was once inconclusive because another setting was."""
    each = [Setting(str(name), (effect(values),)) for name, values in enumerate(settings)]
    assert claim(*each).verdict(pd.DataFrame()) == verdict


def test_a_measure_is_one_paired_number_per_seed():
    rows = pd.DataFrame(
        [
            {"arm": arm, "seed": s, "round": r, "density": 0.5**r, "steps": value + s + r}
            for arm, value in (("ticket", 10), ("reinit", 40))
            for s in (0, 1)
            for r in (0, 1, 2)
        ]
    )
    assert list(difference("steps", "reinit", "ticket", round=1)(rows).values) == [30, 30]
    assert list(difference("steps", "reinit", "ticket", round=1, factor=2)(rows).values) == [19, 18]
    assert list(difference("steps", "dense", "ticket", round=2)(rows).values) == [-2, -2]
    for missing in (rows[rows["arm"] == "ticket"], rows[rows["round"] < 1]):
        assert list(difference("steps", "reinit", "ticket", round=1)(missing).values) == []
    flags = rows.assign(steps_censored=(rows["arm"] == "reinit") & (rows["seed"] == 1))
    assert difference("steps", "reinit", "ticket", round=1)(flags)[1:] == (True, False)
    assert difference("steps", "ticket", "reinit", round=1)(flags)[1:] == (False, True)


@pytest.fixture(scope="module")
def live_rows():
    return lt.widen(lt.load_rows("digits-winning-tickets"))


def verdicts(rows):
    table = lt.claims({"digits-winning-tickets": rows}, chapter=4, level="live")
    return table.set_index("key")["verdict"]


def test_altered_rows_change_the_verdicts(live_rows):
    """The table is computed: make the ticket as bad as its controls, and it must say so."""
    before = verdicts(live_rows)
    assert before["mask-matters"] == before["iterative-beats-one-shot"] == "holds"
    worse = live_rows.copy()
    ticket, random = (worse["arm"] == arm for arm in ("ticket", "random"))
    worse.loc[ticket, "accuracy"] = worse.loc[random, "accuracy"].to_numpy()
    after = verdicts(worse)
    assert after["mask-matters"] == after["tickets-match"] == "fails here"
    assert set(verdicts(live_rows[live_rows["seed"] < 2])) == {"not enough runs (2 of 3)"}
    lucky = live_rows.copy()
    lucky.loc[(lucky["arm"] == "ticket") & (lucky["round"] == 1), "accuracy"] = 1.0
    assert before["inverted-u"] != "holds" and verdicts(lucky)["inverted-u"] == "holds"


def test_a_record_that_does_not_exist_is_not_yet_run():
    table = lt.claims()
    missing = table[~table["record"].isin(lt.recorded())]
    assert (missing["verdict"] == "not yet run").all() and (missing["n"] == 0).all()
    assert (missing["effect"] == "–").all()


def test_a_missing_arm_costs_its_claims_and_not_the_table(live_rows):
    alone = verdicts(live_rows[live_rows["arm"] != "reinit"])
    assert alone["initialisation-matters"] == "not yet run"
    assert alone["mask-matters"] == "holds"


def test_a_record_run_at_a_smaller_scale_says_so(live_rows, tmp_path, monkeypatch):
    rows = lt.load_rows("digits-winning-tickets").assign(scale=0.1)
    monkeypatch.setattr(sys.modules["lth_tutorial.claims"], "load_rows", lambda name: rows)
    setting = lt.claims(chapter=4, level="live")["setting"]
    assert setting.str.contains("run at scale 0.1: 10% of the steps", regex=False).all()


def test_the_table_shows_every_claim_with_source_criterion_and_effect():
    table = lt.claims()
    assert (
        list(table["key"]) == [c.key for c in CLAIMS if not c.live_only] and table["key"].is_unique
    )
    assert {"chapter", "claim", "source", "setting", "n", "effect", "verdict"} <= set(table)
    assert (table["criterion"].str.contains("[≥≤]")).all()
    run = table[table["verdict"] != "not yet run"]
    assert (run["n"] >= 3).all() and run["effect"].str.contains(r"\[.*, .*\]").all()


def test_the_table_can_be_filtered():
    assert set(lt.claims(level="live")["level"]) == {"live"}
    assert lt.claims(chapter=99).empty
    with pytest.raises(ValueError, match="Did you mean 'live'"):
        lt.claims(level="lives")


def test_every_claim_names_an_experiment_and_rounds_that_it_has():
    from lth_tutorial.experiments import experiment

    for one in (claim for claim in CLAIMS if not claim.live_only):
        told = experiment(one.record).chapter
        # The acts of one record are told in two chapters: the third, the rescue, in the next.
        assert one.chapter == told or (one.key.startswith("quarrel-") and one.chapter == told + 1)


def test_a_claim_without_a_record_is_listed_where_its_rows_are_given():
    rows = pd.DataFrame(
        [
            {"arm": arm, "seed": s, "round": r, "density": 0.5**r, "accuracy": value + s / 1000}
            for arm, value in (("fine_tuned", 0.97), ("random", 0.5), ("one_shot", 0.9))
            for s in range(3)
            for r in range(6)
        ]
    )
    assert lt.claims(chapter=1).empty
    table = lt.claims({"digits-fine-tuning": rows}, chapter=1).set_index("key")["verdict"]
    assert table["most-weights-can-go"] == table["in-rounds-beats-once"] == "holds"
    assert table["retraining-matters"] == "not yet run", "its arm is missing"


def test_numbers_are_printed_in_their_unit():
    shown = Effect("x", lambda r: [], -0.005).describe(Interval(0.0123, -0.0042, math.pi / 100, 4))
    assert shown == "+1.23 [−0.42, +3.14] points"
    assert Effect("x", lambda r: [], -0.005).criterion() == "x ≥ −0.50 points"


def test_a_setting_without_a_name_leaves_no_gap():
    assert not any(setting.endswith((", ", ",")) for setting in lt.claims(live=True)["setting"])


@pytest.mark.parametrize("column", ["claim", "source", "setting", "criterion", "effect", "verdict"])
def test_the_table_holds_names_and_no_keys(column):
    for text in lt.claims(live=True)[column]:
        assert not re.findall(r"\b[a-z]\w*_\w+", text), text
