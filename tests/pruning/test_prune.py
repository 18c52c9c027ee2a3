from __future__ import annotations

import math
import warnings

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn.utils import prune as torch_prune

import lth_tutorial as lt


def vector(*values: float) -> dict[str, torch.Tensor]:
    return {"w": torch.tensor(values)}


def full(scores: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    return {name: torch.ones_like(s, dtype=torch.bool) for name, s in scores.items()}


@pytest.mark.filterwarnings("ignore::lth_tutorial.TiedScoresWarning")
def test_exact_counts_with_ties_and_the_lower_index_wins():
    scores = vector(0.5, 0.5, 0.5, 0.5, 0.1)
    assert lt.prune(scores, full(scores), 0.4)["w"].tolist() == [True, True, True, False, False]


def test_five_rounds_at_20_percent_leave_0_8_to_the_fifth():
    scores = {"a": torch.rand(700), "b": torch.rand(20, 15)}
    mask = full(scores)
    for _ in range(5):
        smaller = lt.prune(scores, mask, 0.2)
        assert all(bool((mask[n] | ~smaller[n]).all()) for n in mask), "masks are nested"
        mask = smaller
    assert abs(lt.density(mask) - 0.8**5) < 3 / 1000


@pytest.mark.parametrize("scope", ["global", "layer"])
def test_the_smallest_kept_score_is_at_least_the_largest_pruned_one(scope):
    scores = {"a": torch.rand(300), "b": 10 * torch.rand(200)}
    mask = lt.prune(scores, full(scores), 0.3, scope=scope)
    groups = [("a", "b")] if scope == "global" else [("a",), ("b",)]
    for group in groups:
        kept = torch.cat([scores[n][mask[n]] for n in group])
        gone = torch.cat([scores[n][~mask[n]] for n in group])
        assert kept.min() >= gone.max()


@pytest.mark.filterwarnings("ignore::lth_tutorial.TiedScoresWarning")
@given(
    values=st.lists(st.sampled_from([0.0, 0.25, 0.5, 1.0, 3.0]), min_size=1, max_size=40),
    fraction=st.floats(0.01, 0.99),
    gone=st.integers(0, 2**16),
)
@settings(max_examples=80, deadline=None)
def test_pruning_agrees_with_brute_force(values, fraction, gone):
    scores = vector(*values)
    mask = {"w": torch.tensor([(gone >> (i % 16)) & 1 == 0 for i in range(len(values))])}
    remaining = [i for i, kept in enumerate(mask["w"].tolist()) if kept]
    keep = len(remaining) - round(fraction * len(remaining))
    best = sorted(remaining, key=lambda i: (-values[i], i))[:keep]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", lt.LayerCollapseWarning)
        result = lt.prune(scores, mask, fraction)
    assert result["w"].nonzero().flatten().tolist() == sorted(best)


def test_global_pruning_gives_the_mask_of_torch(tiny_model):
    scores = lt.magnitude_scores(lt.snapshot(tiny_model), lt.dense_mask(tiny_model))
    ours = lt.prune(scores, lt.dense_mask(tiny_model), 0.55)
    layers = [tiny_model.fc1, tiny_model.fc2, tiny_model.output]
    torch_prune.global_unstructured(
        [(layer, "weight") for layer in layers], torch_prune.L1Unstructured, amount=0.55
    )
    theirs = [layer.weight_mask.bool() for layer in layers]
    assert all(torch.equal(a, b) for a, b in zip(ours.values(), theirs, strict=True))


def test_every_layer_has_its_own_fraction():
    scores = {"a": torch.rand(100), "b": torch.rand(50)}
    mask = lt.prune(scores, full(scores), {"a": 0.2, "b": 0.0}, scope="layer")
    assert (int(mask["a"].sum()), int(mask["b"].sum())) == (80, 50)


def test_pruned_weights_never_return_even_with_the_highest_score():
    scores, mask = vector(9.0, 1.0, 2.0, 3.0), {"w": torch.tensor([False, True, True, True])}
    assert lt.prune(scores, mask, 0.34)["w"].tolist() == [False, False, True, True]


def test_the_inputs_are_left_alone():
    scores = vector(1.0, 2.0, 3.0, 4.0)
    mask = full(scores)
    lt.prune(scores, mask, 0.5, min_per_layer=1)
    assert mask["w"].all() and scores["w"].tolist() == [1, 2, 3, 4]


def test_a_minimum_per_layer_is_kept_and_the_total_stays_exact():
    scores = {"weak": torch.rand(20) / 100, "strong": 1 + torch.rand(80)}
    with pytest.warns(lt.LayerCollapseWarning, match="weak has no weights left"):
        assert lt.prune(scores, full(scores), 0.5)["weak"].sum() == 0
    mask = lt.prune(scores, full(scores), 0.5, min_per_layer=7)
    assert int(mask["weak"].sum()) == 7 and lt.density(mask) == 0.5
    assert scores["weak"][mask["weak"]].min() >= scores["weak"][~mask["weak"]].max()


def test_a_layer_about_to_die_is_named():
    scores = {
        "fc1": torch.cat([torch.rand(97) / 100, torch.ones(3) * 5]),
        "fc2": 1 + torch.rand(100),
    }
    with pytest.warns(lt.LayerCollapseWarning, match="fc1 is about to die: 3 of 100"):
        lt.prune(scores, full(scores), 0.485)


def test_halving_does_not_cry_wolf():
    scores = {"fc1": torch.rand(100)}
    mask = full(scores)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for _ in range(4):
            mask = lt.prune(scores, mask, 0.5)


@pytest.mark.parametrize("fraction", [0, 1, -0.1, 1.2, math.nan, "0.2", True, None])
def test_a_fraction_out_of_range_is_repeated(fraction):
    with pytest.raises(ValueError, match=r"(in \(0, 1\)|a number); got"):
        lt.prune(vector(1.0, 2.0), full(vector(1.0, 2.0)), fraction)


@pytest.mark.parametrize(
    ("fraction", "scope", "message"),
    [
        (0.5, "layerwise", "Did you mean 'layer'"),
        ({"a": 0.5, "b": 0.5}, "global", "scope='layer'"),
        ({"a": 0.5}, "layer", "no fraction for b"),
        ({"a": 0.5, "b": 0.5, "c": 0.5}, "layer", "unknown layer in fraction: 'c'"),
        ({"a": 0.5, "b": math.nan}, "layer", "nan for b"),
    ],
)
def test_fractions_that_do_not_fit_are_refused(fraction, scope, message):
    scores = {"a": torch.rand(4), "b": torch.rand(4)}
    with pytest.raises(ValueError, match=message):
        lt.prune(scores, full(scores), fraction, scope=scope)


def test_nan_scores_are_counted_and_named():
    scores = {"a": torch.tensor([1.0, math.nan]), "b": torch.ones(2)}
    with pytest.raises(ValueError, match="1 of 2 scores of a are NaN"):
        lt.prune(scores, full(scores), 0.5)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda s: lt.prune(s, {"a": s["a"]}, 0.5), "a mask is boolean"),
        (lambda s: lt.prune(s | {"c": s["a"]}, full(s), 0.5), "unknown layer in the scores"),
        (lambda s: lt.prune({"a": s["a"]}, full(s), 0.5), "no scores for b"),
        (lambda s: lt.prune({"a": s["a"][:2], "b": s["b"]}, full(s), 0.5), r"shape \(2,\)"),
        (lambda s: lt.prune(s, full(s), 0.5, min_per_layer=-1), "at least 0; got -1"),
        (lambda s: lt.prune(s, full(s), 0.5, min_per_layer=2.5), "got 2.5"),
        (lambda s: lt.keep_best(s, full(s), {"a": 3}), "keep says nothing about b"),
        (lambda s: lt.keep_best(s, full(s), {"a": 3, "b": 9}), "cannot keep 9 weights of b"),
    ],
)
def test_what_does_not_fit_together_is_named(call, message):
    scores = {"a": torch.rand(4), "b": torch.rand(4)}
    with pytest.raises((ValueError, TypeError), match=message):
        call(scores)


def test_a_minimum_that_protects_too_much_is_refused():
    scores = {"a": torch.rand(10), "b": torch.rand(10)}
    with pytest.raises(ValueError, match="protects 20 weights, but only 10"):
        lt.prune(scores, full(scores), 0.5, min_per_layer=10)


@pytest.mark.parametrize("scope", ["global", "layer"])
def test_prune_like_takes_the_counts_of_another_mask(scope):
    scores = {"a": torch.rand(100), "b": torch.rand(100)}
    target = lt.prune(scores, full(scores), {"a": 0.9, "b": 0.3}, scope="layer")
    mask = lt.prune_like(scores, full(scores), target, scope=scope)
    assert lt.density(mask) == lt.density(target)
    assert (lt.layer_densities(mask) == lt.layer_densities(target)) == (scope == "layer")


def test_prune_like_cannot_bring_weights_back():
    scores = vector(1.0, 2.0)
    with pytest.raises(ValueError, match="cannot keep 2 weights of the network: 1 remain"):
        lt.prune_like(scores, {"w": torch.tensor([True, False])}, full(scores))
