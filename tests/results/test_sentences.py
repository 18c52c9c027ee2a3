"""Words that follow from rows."""

import pandas as pd
import pytest

import lth_tutorial as lt


def test_a_difference_is_told_with_its_direction_only_where_the_interval_leaves_no_doubt():
    assert lt.told(lt.Interval(0.0058, 0.0031, 0.0086, 8)) == "0.58 points more [+0.31, +0.86]"
    assert lt.told(lt.Interval(-12.0, -20.0, -4.0, 8), "steps", less="fewer") == (
        "12 steps fewer [−20, −4]"
    )
    unresolved = lt.told(lt.Interval(0.0122, -0.0003, 0.0248, 12))
    assert unresolved == "not told apart: +1.22 points [−0.03, +2.48]"
    assert lt.told(lt.Interval(0.0, 0.0, 0.0, 8)).startswith("not told apart")


def test_a_difference_that_was_measured_once_is_not_told_apart():
    assert lt.told(lt.t_interval([0.3])).startswith("not told apart")


def test_the_difference_of_one_round_is_that_of_the_table():
    rows = pd.DataFrame(
        [
            {"arm": arm, "seed": seed, "round": r, "density": 0.5**r, "accuracy": a + seed / 10 * r}
            for arm, a in (("x", 0.5), ("y", 0.25))
            for seed in range(3)
            for r in (0, 1)
        ]
    )
    found = lt.difference_at(rows, "x", "y", round=1)
    assert found.mean == pytest.approx(0.25) and found.n == 3
    with pytest.raises(ValueError, match="no pairs in round 7; in 0, 1"):
        lt.difference_at(rows, "x", "y", round=7)


def test_answers_are_folded_and_numbered_in_every_front_end():
    shown = lt.answers("One\n  line.", "Two.")
    assert shown._repr_markdown_().startswith("<details>\n<summary>What figure and table answer")
    assert "\n\n1. One line.\n2. Two.\n\n</details>" in shown._repr_markdown_()
    assert repr(shown) == "1. One line.\n2. Two."
    assert repr(lt.answers("Three.", "Four.", first=3)) == "3. Three.\n4. Four."
    with pytest.raises(ValueError, match="none of them empty"):
        lt.answers("One.", " ")
    with pytest.raises(ValueError, match="number of a question"):
        lt.answers("One.", first=0)
