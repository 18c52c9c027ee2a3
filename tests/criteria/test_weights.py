from __future__ import annotations

import pytest
import torch

import lth_tutorial as lt


def test_magnitude_scores_are_the_absolute_weights(tiny_model):
    state, mask = lt.snapshot(tiny_model), lt.dense_mask(tiny_model)
    scores = lt.magnitude_scores(state, mask)
    assert set(scores) == set(mask)
    assert all(torch.equal(scores[n], state[n].abs()) for n in mask)


def test_scores_are_copies(tiny_model):
    state, mask = lt.snapshot(tiny_model), lt.dense_mask(tiny_model)
    lt.magnitude_scores(state, mask)["fc1.weight"].zero_()
    assert state["fc1.weight"].abs().max() > 0


def test_a_model_in_place_of_a_state_is_refused(tiny_model):
    with pytest.raises(TypeError, match="snapshot"):
        lt.magnitude_scores(tiny_model, lt.dense_mask(tiny_model))


def test_a_mask_of_another_network_is_refused(tiny_model, digits):
    other = lt.build_model("mlp_5", seed=0, data=digits)
    with pytest.raises(ValueError):
        lt.magnitude_scores(lt.snapshot(tiny_model), lt.dense_mask(other))


def test_random_scores_know_nothing_of_the_initial_weights(digits):
    """The same seed drew both from one stream once: rank correlation 0.3 in the first layer."""
    from scipy import stats

    for seed in range(3):
        model = lt.build_model("mlp_100_50", seed=seed, data=digits)
        state, mask = lt.snapshot(model), lt.dense_mask(model)
        scores = lt.random_scores(mask, seed)
        for name in mask:
            pair = state[name].abs().flatten(), scores[name].flatten()
            assert abs(stats.spearmanr(*pair).statistic) < 4 / mask[name].numel() ** 0.5


def test_random_scores_follow_the_seed_and_not_the_weights(tiny_model):
    mask = lt.dense_mask(tiny_model)
    a, b, c = (lt.random_scores(mask, s) for s in (0, 0, 1))
    assert all(torch.equal(a[n], b[n]) and not torch.equal(a[n], c[n]) for n in mask)
    assert not torch.equal(a["fc1.weight"].flatten()[:5], a["fc2.weight"].flatten()[:5])


def test_movement_and_increase_compare_with_the_start(tiny_model):
    start, mask = lt.snapshot(tiny_model), lt.dense_mask(tiny_model)
    state = {name: tensor.clone() for name, tensor in start.items()}
    state["fc1.weight"][0, 0] = 2 * start["fc1.weight"][0, 0]
    state["fc1.weight"][0, 1] = -start["fc1.weight"][0, 1]
    w = start["fc1.weight"].abs()
    moved = lt.movement_scores(state, start, mask)["fc1.weight"]
    grown = lt.magnitude_increase_scores(state, start, mask)["fc1.weight"]
    assert torch.allclose(moved[0, :3], torch.stack([w[0, 0], 2 * w[0, 1], w[0, 2] * 0]))
    assert torch.allclose(grown[0, :3], torch.stack([w[0, 0], w[0, 1] * 0, w[0, 2] * 0]))
    with pytest.raises(TypeError, match=r"state.*as snapshot\(model\) returns.*got a Sequential"):
        lt.movement_scores(tiny_model, start, mask)
