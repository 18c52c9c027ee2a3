"""What stands inside an argument, or does not fit the others: refused with what was given."""

from __future__ import annotations

import pandas as pd
import pytest
import torch
from torch import nn

import lth_tutorial as lt


def network():
    torch.manual_seed(0)
    return nn.Sequential(nn.Flatten(), nn.Linear(64, 8), nn.ReLU(), nn.Linear(8, 10))


MODEL = network()
DENSE = lt.dense_mask(MODEL)
STATE = lt.snapshot(MODEL)
SCORES = lt.random_scores(DENSE, 0)
X = torch.zeros(2, 64)
OTHER = nn.Sequential(nn.Linear(2, 2))
GROUPS = lt.unit_groups(MODEL, X)
UNITS = lt.all_units(GROUPS)
EMPTY = {name: ~kept for name, kept in DENSE.items()}
NOTHING = dict.fromkeys(DENSE)
NUMBERS = {name: kept.float() for name, kept in DENSE.items()}
SPARSE = {name: values.to_sparse() for name, values in SCORES.items()}
BASES = lt.bases_of(MODEL, "dct")
SHORT = {name: kept[:1] for name, kept in DENSE.items()}
FIRST = {"1.weight": DENSE["1.weight"]}

CASES = {
    "no tensor in scores": (lambda: lt.prune(NOTHING, DENSE, 0.5), r"\['1.weight'\] is None"),
    "a mask for scores": (lambda: lt.prune(DENSE, DENSE, 0.5), "torch.bool"),
    "sparse scores": (lambda: lt.keep_best(SPARSE, DENSE, 5), "sparse"),
    "no tensor in a mask": (lambda: lt.overlap(DENSE, NOTHING), r"\['1.weight'\] is None"),
    "numbers for a second mask": (lambda: lt.overlap(DENSE, NUMBERS), "a mask is boolean"),
    "no tensor in a state": (lambda: lt.state_hash(NOTHING), r"state\['1.weight'\] is None"),
    "a mask for a state": (lambda: lt.magnitude_scores(DENSE, DENSE), "real numbers; got torch.bo"),
    "a mask for a start": (lambda: lt.movement_scores(STATE, DENSE, DENSE), "real numbers"),
    "a mask for weights": (lambda: lt.rank_correlation(DENSE, DENSE), "real numbers"),
    "no TrainConfig": (lambda: lt.learning_rate(None, 0), "config is a TrainConfig; got None"),
    "numbers, no tensor": (lambda: lt.top_k_mask([0.5], 0.5), "scores are a tensor"),
    "whole numbers to rank": (lambda: lt.top_k_mask(torch.arange(4), 0.5), "torch.int64"),
    "nothing left to keep": (
        lambda: lt.large_final_mask(STATE, STATE, EMPTY, 0.5), "no weight of 1.weight is left"
    ),
    "scores that are NaN": (
        lambda: lt.draw_mask({"a": torch.tensor([float("nan"), 1])}, 0.5), "NaN in"
    ),
    "masks of other shapes": (lambda: lt.mask_distance(SHORT, DENSE), "shape"),
    "masks of fewer layers": (lambda: lt.mask_distance(FIRST, DENSE), "says nothing about"),
    "unrelated, of fewer layers": (lambda: lt.unrelated_distance(DENSE, FIRST), "3.weight"),
    "a tensor for a group": (lambda: lt.all_units(DENSE), r"groups\['1.weight'\] is a Tensor"),
    "a number for a network": (lambda: lt.cost_table({"a": 1}, X), r"models\['a'\] is 1"),
    "an x for another network": (lambda: lt.cost_table({"a": MODEL}, X[0]), "cannot take x of sh"),
    "a tensor for a basis": (lambda: lt.in_basis(MODEL, DENSE), r"bases\['1.weight'\] is a Tens"),
    "a basis of no weight": (lambda: lt.stored_numbers(FIRST, BASES), "3.weight"),
    "groups of another network": (lambda: lt.unit_scores(OTHER, GROUPS), "of another network"),
    "groups that do not fit": (lambda: lt.silence_(OTHER, UNITS, GROUPS), "of another network"),
    "a mask of another network": (lambda: lt.kept_units(FIRST | SHORT, GROUPS), "another network"),
    "a state of another network": (lambda: lt.load_state_(OTHER, STATE), "0.weight, 1.bias"),
    "a start of other shapes": (
        lambda: lt.rewind_(network(), STATE | {"1.bias": X[0]}, DENSE), r"\(64,\), the model \(8,\)"
    ),
    "columns that are shown": (lambda: lt.verdicts(pd.DataFrame({"n": [1]})), "rows with chapter"),
    "a rank of units": (lambda: lt.count_biases({"a": torch.ones(3) > 0}), r"shape \(3,\)"),
    "a layer without rows": (lambda: lt.connected_units({"a": torch.ones(3) > 0}), "a matrix"),
    "numbers to match": (lambda: lt.match_units(NUMBERS, DENSE), "a mask is boolean"),
    "a table for a name": (lambda: lt.TrainConfig(optimizer=pd.DataFrame()), "unknown optimizer"),
    "True for a power": (lambda: lt.Removal(power=True), "power must be 1, 2 or 3; got True"),
    "a seed of more than 63 bits": (lambda: lt.build_model("mlp_8", seed=2**70), "below 2⁶³"),
}  # fmt: skip


@pytest.mark.parametrize("name", CASES)
def test_what_does_not_fit_is_refused_with_what_was_given(name):
    call, message = CASES[name]
    with pytest.raises((ValueError, TypeError), match=message):
        call()


def test_a_state_that_does_not_fit_leaves_the_model_as_it_was():
    model, before = network(), lt.state_hash(STATE)
    for wrong in (STATE | {"1.bias": X[0]}, {n: 2 * t for n, t in STATE.items() if n != "1.bias"}):
        with pytest.raises(ValueError, match="of another network"):
            lt.load_state_(model, wrong)
    with pytest.raises(ValueError, match="says nothing about"):
        lt.rewind_(model, {n: 2 * t for n, t in STATE.items()}, FIRST)
    assert lt.state_hash(lt.snapshot(model)) == before


def test_a_function_that_makes_no_model_is_named(tiny_data, config):
    with pytest.raises(ValueError, match="of seed 0 it gives None"):
        lt.lottery_experiment(lambda seed: None, tiny_data, config, lt.IMPConfig(), seeds=[0])


def test_examples_and_networks_that_do_not_fit_are_named(tiny_data, tiny_model):
    x, y = tiny_data.x_test[:4], tiny_data.y_test[:4]
    for wrong in ((x[:, :1], y), (x, y[:3]), (torch.tensor(1.0), y)):
        with pytest.raises(ValueError, match="x are examples of shape"):
            lt.adversarial_examples(tiny_model, *wrong, tiny_data, lt.fgsm(0.1))
    with pytest.raises(ValueError, match="cannot take x of shape"):
        lt.output_error(nn.Linear(3, 2), tiny_model, tiny_data)
    with pytest.raises(ValueError, match="the model's outputs have shape"):
        lt.output_error(nn.Identity(), tiny_model, tiny_data)
    with pytest.raises(ValueError, match="got rows of no dimension"):
        lt.restore_pixels(torch.tensor(1.0), lt.load_dataset("digits"), 0)


def test_an_error_beyond_what_counting_tells_is_infinite():
    assert lt.typical_error(3, 0.3, 1e9) == float("inf")
    assert lt.typical_error(5000) == 0.0


def test_an_empty_claims_table_says_that_it_is_empty():
    shown = lt.verdicts(pd.DataFrame(), filters=True)._repr_html_()
    assert shown == "<p>No claim of this kind has been measured yet.</p>"


def test_an_extra_state_that_is_no_tensor_may_stand_in_a_state():
    class Layer(nn.Linear):
        def get_extra_state(self):
            return {"version": 1}

        def set_extra_state(self, state):
            assert state == {"version": 1}

    model = Layer(3, 2)
    lt.load_state_(model, model.state_dict())
    assert lt.state_hash(model.state_dict()) == lt.state_hash(lt.snapshot(model))
    assert list(lt.magnitude_scores(model.state_dict(), lt.dense_mask(model))) == ["weight"]
