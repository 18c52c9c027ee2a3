"""Every check passes right answers in several styles and tells wrong ones what they missed."""

from __future__ import annotations

import copy
import random
import sys

import answers
import numpy as np
import pytest
import torch
import wrong_answers
from samples import assert_names

from lth_tutorial import exercises as check

NAMES = check.__all__[1:]
OF_FUNCTIONS = [name for name in NAMES if "fn" in getattr(check, name).__annotations__]
# An answer may well be warned by PyTorch, SciPy or the package; a reader sees that too.
pytestmark = pytest.mark.filterwarnings("ignore")
SILENT = "the answer has no usable form"


def test_every_check_has_six_wrong_answers_and_three_right_ones():
    few = {n: (len(answers.WRONG.get(n, ())), len(answers.RIGHT.get(n, ()))) for n in NAMES}
    assert {n: counts for n, counts in few.items() if counts[0] < 6 or counts[1] < 3} == {}
    assert set(answers.WRONG) == set(answers.RIGHT) == set(NAMES)


@pytest.mark.parametrize("name", NAMES)
def test_right_answers_pass_in_any_style(name):
    outcomes = [getattr(check, name)(answer) for answer in answers.RIGHT[name]]
    assert [outcome for outcome in outcomes if outcome.passed is not True] == []


@pytest.mark.parametrize("name", NAMES)
def test_wrong_answers_are_told_the_idea_that_they_missed(name):
    for answer, *words in answers.WRONG[name]:
        outcome = getattr(check, name)(answer)
        assert_names(outcome, *words)
        assert not outcome.message.startswith(SILENT), (answer, outcome)


def test_the_table_of_wrong_answers_and_messages():
    """`pytest -s -k table_of_wrong` shows it, and so does `python tests/tools/wrong_answers.py`."""
    table = list(wrong_answers.rows())
    wrong_answers.show(table)
    assert len(table) == sum(map(len, answers.WRONG.values())) >= 6 * len(NAMES)
    # A message that many different mistakes share names none of them.
    by_message: dict[tuple[str, str], list[str]] = {}
    for name, source, message in table:
        by_message.setdefault((name, message), []).append(source)
    assert {key: who for key, who in by_message.items() if len(who) > 4} == {}


@pytest.mark.parametrize("name", NAMES)
def test_what_is_not_answered_is_open(name):
    one = getattr(check, name)
    assert one(None) == one() == one(...) == check.Check(None, "not attempted yet")
    assert not one(None)


@pytest.mark.parametrize("name", OF_FUNCTIONS)
def test_stubs_are_open(name):
    def body(*arguments): ...

    def returns_dots(*arguments):
        return ...

    def raises(*arguments):
        raise NotImplementedError

    for stub in (body, returns_dots, raises):
        outcome = getattr(check, name)(stub)
        assert outcome.passed is None and "not attempted yet" in outcome.message


@pytest.mark.parametrize("name", OF_FUNCTIONS)
def test_functions_that_raise_or_are_none_are_failed_checks(name):
    def broken(*arguments):
        raise OSError("fc9.weight")

    one = getattr(check, name)
    assert_names(one(broken), "your function raised OSError", "fc9.weight")
    assert_names(one(lambda: None), "your function raised TypeError")
    assert_names(one(3), "takes the function itself", "int")
    odd = ("text", 1.5, [], {}, object(), np.array([[1, 2]]), torch.zeros(2, 2), True)
    for value in odd:
        assert isinstance(one(lambda *arguments, value=value: value), check.Check)


def spoil(thing):
    """Change a tensor, a list or a dictionary in place; return whether there was one to change."""
    if isinstance(thing, torch.Tensor):
        thing.logical_not_() if thing.dtype == torch.bool else thing.add_(1)
    elif isinstance(thing, list):
        thing.append(thing[0])
    elif isinstance(thing, dict):
        thing["another"] = next(iter(thing.values()))
    else:
        return False
    return True


@pytest.mark.parametrize("name", OF_FUNCTIONS)
def test_answers_that_spoil_what_they_were_given_fail(name):
    right, one, spoilt = answers.RIGHT[name][0], getattr(check, name), set()
    for i in range(4):

        def spoils(*arguments, i=i):
            value = copy.deepcopy(right(*arguments))
            with torch.no_grad():
                if i < len(arguments) and spoil(arguments[i]):
                    spoilt.add(i)
            return value

        outcome = one(spoils)
        assert outcome.passed is (i not in spoilt), (i, outcome)
        assert i not in spoilt or "changed" in outcome.message or "in place" in outcome.message or (
            "leave the snapshot" in outcome.message or "wrote into" in outcome.message
        )  # fmt: skip


@pytest.mark.parametrize("name", OF_FUNCTIONS)
def test_functions_that_end_or_return_now_and_then_are_failed_checks(name):
    right, one, calls = answers.RIGHT[name][0], getattr(check, name), []

    def once(*arguments):
        calls.append(arguments)
        return right(*arguments) if len(calls) == 1 else None

    assert bool(one(once)) is (len(calls) == 1)
    assert_names(one(lambda *arguments: sys.exit()), "your function raised SystemExit")
    assert_names(one(lambda *a, **b: 1 - torch.tensor(True)), "`~mask` inverts")


class Unspeakable:
    """Cannot be shown, compared, counted or iterated over."""

    def fails(self, *_):
        raise OSError

    __repr__ = __eq__ = __float__ = __iter__ = tolist = item = fails
    __hash__ = None


@pytest.mark.parametrize("name", [name for name in NAMES if name not in OF_FUNCTIONS])
def test_odd_answers_by_hand_are_failed_checks(name):
    odd = (np.array([[1, 2]]), torch.ones(3, 3), 10**400, 1j, object(), "", "1,2", float("nan"))
    for value in (*odd, float("inf"), {}, [None], lambda: 1, Unspeakable(), [Unspeakable()] * 6):
        assert getattr(check, name)(value).passed is False
    for value in ([7] * 10_000, "a" * 10_000, torch.zeros(10_000)):
        assert len(getattr(check, name)(value).message) < 400


@pytest.mark.parametrize("name", OF_FUNCTIONS)
def test_a_check_leaves_the_readers_state_alone(name):
    right = answers.RIGHT[name][0]

    def messy(*arguments):
        torch.manual_seed(0), np.random.seed(0), random.seed(0)
        torch.set_grad_enabled(False)
        torch.set_default_dtype(torch.float64)
        torch.set_grad_enabled(True)
        torch.set_default_dtype(torch.float32)
        return right(*arguments)

    def state():
        return (
            torch.get_rng_state().sum(), np.random.get_state()[1].sum(), random.getstate(),
            torch.is_grad_enabled(), torch.get_default_dtype(),
        )  # fmt: skip

    before = state()
    assert getattr(check, name)(messy)
    assert state() == before
    with torch.no_grad():  # a setting of the reader's that would make the check stumble
        assert getattr(check, name)(right)
        assert not torch.is_grad_enabled()


def test_settings_that_an_answer_leaves_behind_are_undone():
    def careless(w1, b1, w2, kept):
        torch.set_grad_enabled(False)
        torch.set_default_dtype(torch.float64)
        return w1[kept], b1[kept], w2[:, kept]

    check.remove_neurons(careless)
    assert torch.is_grad_enabled() and torch.get_default_dtype() == torch.float32


def test_a_check_says_its_verdict_in_words_and_escapes_html():
    failed = check.Check(False, "1 < 2")
    assert repr(failed) == "✗ not yet: 1 < 2"
    assert "1 &lt; 2" in failed._repr_html_() and "✗ not yet" in failed._repr_html_()
    assert repr(check.Check(True, "nested")) == "✓ passed: nested"
    assert bool(check.Check(True, "")) and not failed


def test_a_model_left_as_it_was_mentions_the_copy():
    assert "copy" in check.rewind(lambda model, start, mask: None).message


def test_the_network_of_chapter_14_needs_as_many_weights_as_the_package_says():
    """The network of the exercise, with a third layer that passes on what it gets."""
    import lth_tutorial as lt

    data, model = lt.cubist_spiral(100), lt.spiral_network((3, 2, 1), 0)
    mask = {
        "fc1.weight": torch.tensor([[1, 1], [1, 0], [0, 0]]).bool(),
        "fc2.weight": torch.tensor([[1, 0, 1], [0, 1, 0]]).bool(),
        "fc3.weight": torch.tensor([[1, 0]]).bool(),
        "output.weight": torch.tensor([[1]]).bool(),
    }
    assert lt.needed_weights(model, data, mask) == 4 + 1
