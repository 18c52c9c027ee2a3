"""Answers that were once accepted or refused wrongly, each for the idea that it gets wrong."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from samples import assert_names
from scipy import stats

from lth_tutorial import exercises as check


def matching(factor, deviation=lambda d: np.std(d, ddof=1), root=math.sqrt):
    """Return a test of matching with its own idea of the half-width of an interval."""

    def test(pruned, dense, margin):
        d = np.subtract(pruned, dense)
        if len(d) < 3:
            return False
        return d.mean() - factor(len(d)) * deviation(d) / root(len(d)) >= -margin

    return test


def student(n):
    return stats.t.ppf(0.975, n - 1)


@pytest.mark.parametrize(
    ("wrong", "words"),
    [
        (matching(lambda n: stats.t.ppf(0.95, n - 1)), ("*each* side", "two-sided")),
        (matching(student, root=lambda n: 1.0), ("√n",)),
        (matching(student, deviation=np.std), ("n − 1",)),
        (matching(lambda n: stats.t.ppf(0.975, n)), ("2 degrees of freedom",)),
        (matching(lambda n: 1.96), ("not 1.96",)),
        (matching(lambda n: 2.0), ("each* side",)),
        (matching(lambda n: 3.0), ("each* side",)),
        (matching(lambda n: 4.303), ("the factor falls as n grows",)),
        (matching(lambda n: stats.t.ppf(0.995, n - 1)), ("no further",)),
    ],
)
def test_a_half_width_that_is_not_students_is_told(wrong, words):
    assert_names(check.matching_test(wrong), *words)


def test_students_half_width_passes_however_it_is_computed():
    assert check.matching_test(matching(student))
    assert check.matching_test(
        lambda a, b, m: (
            len(a) > 2
            and stats.t.interval(
                0.95, len(a) - 1, np.subtract(a, b).mean(), stats.sem(np.subtract(a, b)) or 1e-12
            )[0]
            > -m
        )
    )

    def by_torch(pruned, dense, margin):
        d = torch.tensor(pruned, dtype=torch.float64) - torch.tensor(dense, dtype=torch.float64)
        return len(d) >= 3 and bool(d.mean() - student(len(d)) * d.std() / len(d) ** 0.5 > -margin)

    assert check.matching_test(by_torch)


def rates(schedule, way, k):
    return [schedule[-1]] * (len(schedule) - k) if way == "fine_tune" else list(schedule[k:])


def test_rates_in_single_precision_pass_and_the_smallest_rate_is_not_the_last():
    assert check.rates_after_pruning(lambda *a: np.array(rates(*a), dtype=np.float32))
    assert check.rates_after_pruning(lambda *a: torch.tensor(rates(*a)))
    wrong = check.rates_after_pruning(
        lambda s, way, k: [min(s)] * (len(s) - k) if way == "fine_tune" else s[k:]
    )
    assert_names(wrong, "*last* rate")


def test_a_mean_of_exactly_two_points_is_not_below():
    def at_most(heights):
        steps = sorted(heights)
        good = [np.mean(heights[s]) <= 0.02 for s in steps]
        return next((s for i, s in enumerate(steps) if all(good[i:])), None)

    assert_names(check.stable_from(at_most), "*below* 2 points")


def test_mixing_whole_numbers_is_told_and_not_taken_for_an_open_exercise():
    def lerp(a, b, alpha):
        return {name: torch.lerp(a[name], b[name], alpha) for name in a}

    assert_names(check.interpolation(lerp), "counts batches", "must not be mixed")

    def stub(a, b, alpha):
        raise NotImplementedError

    assert check.interpolation(stub).passed is None


def test_a_control_with_one_density_for_all_layers_is_told():
    def same_density(mask, seed):
        share = sum(int(m.sum()) for m in mask.values()) / sum(m.numel() for m in mask.values())
        generator = torch.Generator().manual_seed(seed)
        new = {}
        for name, m in mask.items():
            order = torch.randperm(m.numel(), generator=generator)
            new[name] = (order < round(share * m.numel())).view_as(m)
        return new

    assert_names(check.control(same_density), "layer")


def test_a_stub_that_does_nothing_is_open():
    assert check.rewind(lambda model, start, mask: ...).passed is False  # `...` is a value here

    def body(model, start, mask): ...

    assert check.rewind(body).passed is None
    assert "copy" in check.rewind(body).message

    def step(model, mask, optimizer, loss): ...

    assert check.masked_step(step).passed is None


def good_step(model, mask, optimizer, loss):
    optimizer.zero_grad()
    loss().backward()
    optimizer.step()
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if name in mask:
                parameter.mul_(mask[name])


def test_an_optimiser_robbed_of_its_averages_is_told():
    def forgetful(model, mask, optimizer, loss):
        good_step(model, mask, optimizer, loss)
        optimizer.state.clear()

    def masks_momentum_too(model, mask, optimizer, loss):
        good_step(model, mask, optimizer, loss)
        for name, parameter in model.named_parameters():
            for value in optimizer.state.get(parameter, {}).values():
                if name in mask and getattr(value, "shape", None) == parameter.shape:
                    value.mul_(mask[name])

    assert_names(check.masked_step(forgetful), "remembers")
    assert check.masked_step(good_step)
    assert check.masked_step(masks_momentum_too)


def test_masked_biases_are_told_in_words():
    def every_parameter(model, mask, optimizer, loss):
        good_step(model, mask, optimizer, loss)
        for name, parameter in model.named_parameters():
            parameter.data.mul_(mask[name])

    assert_names(check.masked_step(every_parameter), "biases have no mask")


def test_neurons_in_another_order_are_the_same_network():
    def backwards(w1, b1, w2, kept):
        places = kept.nonzero().flatten().flip(0)
        return w1[places], b1[places], w2[:, places]

    def half_backwards(w1, b1, w2, kept):
        places = kept.nonzero().flatten()
        return w1[places.flip(0)], b1[places], w2[:, places]

    def rows_of_both(w1, b1, w2, kept):
        return w1[kept], b1[kept], w2[kept]

    assert check.remove_neurons(backwards)
    assert_names(check.remove_neurons(half_backwards), "other values in w1")
    assert_names(check.remove_neurons(rows_of_both), "*column* of w2")


def test_a_mask_says_the_same_as_a_list_of_places():
    assert check.kept_by_hand([False, True, False, True, False, True])
    assert check.kept_by_hand(torch.tensor([False, True, False, True, False, True]))
    assert check.kept_by_hand({5, 1, 3})
    assert not check.kept_by_hand([True, True, False, True, False, False])
    assert_names(check.kept_by_hand([True, False, False, True, False, True]), "*magnitudes*")


def test_a_supermask_rounded_down_is_told():
    def down(scores, keep):
        flat = scores.abs().flatten()
        mask = torch.zeros_like(flat, dtype=torch.bool)
        mask[flat.argsort(descending=True, stable=True)[: int(keep * flat.numel())]] = True
        return mask.view_as(scores)

    assert_names(check.edge_popup_mask(down), "round(keep * n)")


def test_a_residual_block_pruned_in_place_is_told():
    from torch import nn

    def cut(model, kept):
        n = int(kept.sum())
        new = {"stem": nn.Conv2d(2, n, 3, padding=1), "conv1": nn.Conv2d(n, 4, 3, padding=1)}
        new |= {"conv2": nn.Conv2d(4, n, 3, padding=1), "output": nn.Linear(n, 3)}
        rows = {"stem": 0, "conv1": 1, "conv2": 0, "output": 1}
        for name, layer in new.items():
            old = getattr(model, name)
            weight = old.weight[kept] if rows[name] == 0 else old.weight[:, kept]
            bias = old.bias[kept] if rows[name] == 0 else old.bias
            layer.weight.data, layer.bias.data = weight.detach().clone(), bias.detach().clone()
            setattr(model, name, layer)
        return model

    import copy

    assert check.prune_residual(lambda model, kept: cut(copy.deepcopy(model), kept))
    assert_names(check.prune_residual(cut), "changed the model that it was given")
