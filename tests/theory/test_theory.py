"""Subset sums against brute force, and random networks pruned onto targets against the algebra."""

import itertools
import math

import numpy as np
import pytest
import torch
from torch import nn

import lth_tutorial as lt

SEARCHES = [lt.best_subset, lt.best_single]


def numbers(n, seed=0, rows=1):
    return lt.random_products(rows, n, seed=seed)


def brute_force(values, target, most=None):
    """Return the smallest |target − sum| over all subsets (of at most `most` numbers)."""
    n = len(values)
    picks = np.array(list(itertools.product((0, 1), repeat=n)))
    if most is not None:
        picks = picks[picks.sum(1) <= most]
    return np.abs(picks @ np.asarray(values) - target).min()


# Subset sums.


@pytest.mark.parametrize("n", [*range(1, 14), 16])
def test_the_search_finds_what_brute_force_finds(n):
    for seed, target in enumerate((0.0, 0.37, -0.9)):
        values = numbers(n, seed)[0]
        found = lt.best_subset(values, target)
        assert found.error.item() == pytest.approx(brute_force(values, target), abs=1e-14)


@pytest.mark.parametrize("n", [1, 2, 7, 12])
def test_the_best_single_number_is_brute_force_over_at_most_one(n):
    for seed, target in enumerate((0.0, 0.37, -0.9)):
        values = numbers(n, seed)[0]
        found = lt.best_single(values, target)
        assert found.error.item() == pytest.approx(brute_force(values, target, 1), abs=1e-14)
        assert found.kept.sum() <= 1


@pytest.mark.parametrize("search", SEARCHES)
@pytest.mark.parametrize("n", [6, 15])
def test_total_and_error_are_those_of_the_kept_numbers(search, n):
    values, target = numbers(n, rows=20), torch.linspace(-1, 1, 20)
    found = search(values, target)
    assert found.kept.dtype == torch.bool and found.kept.shape == (20, n)
    totals = [values[i][found.kept[i]].sum().item() for i in range(20)]
    assert found.total.tolist() == pytest.approx(totals, abs=1e-14)
    assert found.error.tolist() == pytest.approx(
        [abs(t - s) for t, s in zip(target.tolist(), totals, strict=True)], abs=1e-14
    )


@pytest.mark.parametrize("n", [8, 15])
def test_rows_are_searched_independently(n):
    values, target = numbers(n, rows=30), torch.linspace(-1, 1, 30, dtype=torch.float64)
    together = lt.best_subset(values, target)
    for i in range(30):
        alone = lt.best_subset(values[i], target[i].item())
        assert torch.equal(alone.kept, together.kept[i])


def test_many_rows_are_searched_in_parts_with_the_same_result(monkeypatch):
    values, target = numbers(13, rows=50), torch.linspace(-1, 1, 50)
    whole = lt.best_subset(values, target)
    monkeypatch.setattr("lth_tutorial.theory.subsets._CHUNK", 300)
    assert torch.equal(lt.best_subset(values, target).kept, whole.kept)


@pytest.mark.parametrize("n", [9, 14])
def test_the_order_and_the_sign_of_the_numbers_do_not_change_the_error(n):
    values = numbers(n, seed=3)[0]
    error = lt.best_subset(values, 0.4).error.item()
    order = torch.randperm(n, generator=torch.Generator().manual_seed(1))
    assert lt.best_subset(values[order], 0.4).error.item() == pytest.approx(error, abs=1e-14)
    assert lt.best_subset(-values, -0.4).error.item() == pytest.approx(error, abs=1e-14)
    assert lt.best_subset(8 * values, 3.2).error.item() == pytest.approx(8 * error, abs=1e-13)


@pytest.mark.parametrize("n", [9, 14])
def test_one_more_number_never_makes_the_error_larger(n):
    values, target = numbers(n + 1, rows=50), torch.linspace(-1, 1, 50)
    with_it, without = (lt.best_subset(values[:, :m], target).error for m in (n + 1, n))
    assert (with_it <= without + 1e-14).all()


@pytest.mark.parametrize("n", [3, 20])
def test_a_sum_that_can_be_met_is_met(n):
    values = numbers(n, seed=5)[0]
    target = values[::2].sum().item()
    assert lt.best_subset(values, target).error < 1e-14


@pytest.mark.parametrize("search", SEARCHES)
def test_numbers_that_cannot_help_are_all_left_out(search):
    for values in (torch.ones(4), torch.ones(14)):
        assert not search(values, -1.0).kept.any()


def test_equal_numbers_give_one_of_the_equally_good_subsets():
    for n in (6, 16):
        assert lt.best_subset(torch.full((n,), 0.25), 0.5).kept.sum() == 2


def test_forty_numbers_are_searched_to_machine_precision():
    assert lt.best_subset(numbers(40), 0.3).error < 1e-9


@pytest.mark.parametrize(
    ("values", "target", "words"),
    [
        (torch.zeros(0), 0.0, ("at least one number",)),
        (torch.zeros(3, 0), 0.0, ("at least one number",)),
        (torch.tensor(1.0), 0.0, ("at least one number",)),
        (torch.tensor([1.0, math.nan]), 0.0, ("values must be finite", "nan")),
        (torch.ones(3), math.inf, ("target must be finite", "inf")),
        (torch.ones(4, 3), torch.ones(5), ("one target per row", "(4,)", "(5,)")),
    ],
)
@pytest.mark.parametrize("search", SEARCHES)
def test_bad_numbers_and_targets_are_refused(search, values, target, words):
    with pytest.raises(ValueError) as error:
        search(values, target)
    assert all(word in str(error.value) for word in words)


def test_too_many_numbers_are_refused_before_memory_runs_out():
    with pytest.raises(ValueError, match="45 numbers.*at most 44"):
        lt.best_subset(torch.ones(45), 0.5)


def test_products_have_the_moments_of_two_uniform_factors():
    products = lt.random_products(100_000, seed=0)
    assert products.abs().max() <= 1
    # Standard errors: 0.001 of the mean, 0.0007 of the mean square.
    assert products.mean().item() == pytest.approx(0, abs=0.004)
    assert products.square().mean().item() == pytest.approx(1 / 9, abs=0.003)


def test_products_belong_to_the_seed_and_leave_the_global_generator_alone():
    torch.manual_seed(0)
    expected = torch.rand(1)
    torch.manual_seed(0)
    first = lt.random_products(5, seed=1)
    assert torch.equal(torch.rand(1), expected)
    assert torch.equal(first, lt.random_products(5, seed=1))
    assert not torch.equal(first, lt.random_products(5, seed=2))


@pytest.mark.parametrize("shape", [(), (0,), (3, -1), (2.5,), (True,)])
def test_a_shape_that_is_none_is_refused(shape):
    with pytest.raises(ValueError, match="whole numbers of at least 1"):
        lt.random_products(*shape, seed=0)


def test_the_error_about_halves_with_every_number_and_counting_says_so():
    rows = lt.subset_sum_experiment(range(8, 17), arms=["subset"], seeds=range(4), targets=100)
    error = rows.groupby("products")["median_error"].mean()
    slope = np.polyfit(error.index, np.log2(error), 1)[0]
    assert slope == pytest.approx(-1, abs=0.1)
    # The heuristic is for targets near 0; these lie in [−1, 1], where sums are rarer.
    assert all(1 < error[n] / lt.typical_error(n) < 4 for n in error.index)


def test_the_typical_error_is_that_of_targets_near_zero():
    for n in (6, 10):
        # 0 itself is met by the empty subset, so the target is near it but not it.
        values = numbers(n, seed=1, rows=2000)
        error = lt.best_subset(values, 0.2).error.median().item()
        assert error / lt.typical_error(n, target=0.2) == pytest.approx(1, abs=0.5)


@pytest.mark.parametrize(("n", "std"), [(0, 1.0), (3, 0.0), (2.5, 1.0), (3, math.nan)])
def test_a_typical_error_of_nothing_is_refused(n, std):
    with pytest.raises(
        ValueError, match="n is (at least 1, std above 0|a whole number).*got"
    ) as error:
        lt.typical_error(n, std)
    assert repr(n if n in (0, 2.5) else std) in str(error.value)


# One layer.


def effective(layer, sign):
    """Return what the pruned layers multiply an input by that is positive or negative."""
    first, second = layer.first * layer.first_kept, layer.second * layer.second_kept
    return second.double() @ (first * (first * sign > 0)).double()


WEIGHT = torch.randn(4, 6, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize("search", ["subset", "single"])
def test_the_kept_paths_add_up_to_the_target_within_the_reported_error(search):
    layer = lt.prune_random_layer(WEIGHT, 5, seed=0, search=search)
    for sign in (0, 1):
        gap = (effective(layer, 1 - 2 * sign) - WEIGHT).abs()
        assert torch.allclose(gap, layer.error[sign], atol=1e-6)


def test_each_hidden_neuron_reads_one_input_and_is_kept_only_if_it_is_read():
    layer = lt.prune_random_layer(WEIGHT, 5, seed=0)
    assert layer.first.shape == (60, 6) and layer.second.shape == (4, 60)
    assert (layer.first_kept.sum(1) <= 1).all()
    assert torch.equal(layer.first_kept.any(1), layer.second_kept.any(0))


def test_the_output_is_off_by_no_more_than_the_errors_of_the_weights_allow():
    layer = lt.prune_random_layer(WEIGHT, 4, seed=1)
    first, second = layer.first * layer.first_kept, layer.second * layer.second_kept
    x = torch.randn(50, 6, generator=torch.Generator().manual_seed(2))
    gap = ((x @ first.T).relu() @ second.T - x @ WEIGHT.T).abs()
    bound = x.clamp(min=0) @ layer.error[0].T.float() + (-x).clamp(min=0) @ layer.error[1].T.float()
    assert (gap <= bound + 1e-5).all()


def test_inputs_that_are_never_negative_need_no_paths_for_negative_ones():
    layer = lt.prune_random_layer(WEIGHT, 5, seed=0, nonnegative=True)
    assert (layer.first[layer.first_kept] > 0).all()
    assert not layer.error[1].any()
    both = lt.prune_random_layer(WEIGHT, 5, seed=0)
    assert torch.equal(layer.error[0], both.error[0])


def test_random_weights_are_uniform_and_as_large_as_the_target_asks():
    layer = lt.prune_random_layer(WEIGHT, 20, seed=0, search="single")
    assert layer.first.abs().max() <= 1
    scale = 2 * WEIGHT.abs().max()
    assert 0.95 * scale < layer.second.abs().max() <= scale
    assert layer.first.std().item() == pytest.approx(1 / math.sqrt(3), abs=0.05)


def test_an_input_without_open_paths_is_reported_as_lost():
    # With n = 1 an input has two hidden neurons; in a quarter of cases both first weights are
    # negative, and nothing can pass positive inputs on.
    layer = lt.prune_random_layer(torch.ones(1, 200), 1, seed=0)
    blocked = (layer.first[torch.arange(400), torch.arange(400) // 2].view(200, 2) < 0).all(1)
    assert 20 < blocked.sum() < 80
    assert (layer.error[0][0, blocked] == 1).all()


# Whole networks.


def target_network(seed=0):
    return lt.relu_network((8, 5, 3), seed=seed)


def test_a_network_without_biases_has_the_promised_names_and_depends_on_the_seed_alone():
    model = target_network()
    shapes = {name: tuple(p.shape) for name, p in model.named_parameters()}
    assert shapes == {"fc1.weight": (5, 8), "output.weight": (3, 5)}
    same, other = target_network().state_dict(), target_network(1).state_dict()
    assert torch.equal(model.fc1.weight, same["fc1.weight"])
    assert not torch.equal(model.fc1.weight, other["fc1.weight"])


@pytest.mark.parametrize("sizes", [(3,), (3, 0), (3, 2.5), ()])
def test_a_network_without_layers_is_refused(sizes):
    with pytest.raises(
        ValueError, match="(hidden widths and outputs|each of it a whole number).*got"
    ):
        lt.relu_network(sizes, seed=0)


def test_pruning_a_random_network_changes_no_weight_it_keeps():
    found = lt.prune_random_network(target_network(), 4, seed=0)
    for name, kept in found.mask.items():
        drawn, pruned = found.random.state_dict()[name], found.pruned.state_dict()[name]
        assert torch.equal(pruned[kept], drawn[kept]) and not pruned[~kept].any()
        assert drawn.all()


def test_counts_are_those_of_the_networks():
    target = target_network()
    found = lt.prune_random_network(target, 4, seed=0)
    assert found.target_weights == 8 * 5 + 5 * 3
    hidden = 2 * 4 * 8, 2 * 4 * 5
    assert found.random_weights == hidden[0] * (8 + 5) + hidden[1] * (5 + 3)
    assert found.random_weights == sum(p.numel() for p in found.random.parameters())
    assert found.kept_weights == sum(int((p != 0).sum()) for p in found.pruned.parameters())


def test_with_enough_products_the_pruned_network_computes_the_target():
    target, x = target_network(), torch.randn(200, 8, generator=torch.Generator().manual_seed(1))
    gaps = []
    for n in (2, 14, 20):
        found = lt.prune_random_network(target, n, seed=0)
        gaps.append((found.pruned(x) - target(x)).abs().max().item())
    assert gaps[0] > 3 * gaps[1] > 9 * gaps[2]
    assert gaps[2] < 0.01 * target(x).abs().max()


def test_a_single_neuron_is_a_target_too():
    neuron = nn.Sequential(nn.Linear(3, 1, bias=False), nn.ReLU())
    found = lt.prune_random_network(neuron, 12, seed=0)
    x = 2 * torch.rand(500, 3, generator=torch.Generator().manual_seed(1)) - 1
    assert [type(layer).__name__ for layer in found.pruned] == ["Linear", "ReLU", "Linear", "ReLU"]
    assert (found.pruned(x) - neuron(x)).abs().max() < 0.02


def test_the_target_and_the_global_generator_are_left_alone():
    target = target_network()
    before = lt.state_hash(lt.snapshot(target))
    torch.manual_seed(0)
    expected = torch.rand(1)
    torch.manual_seed(0)
    lt.prune_random_network(target, 3, seed=0)
    assert torch.equal(torch.rand(1), expected)
    assert lt.state_hash(lt.snapshot(target)) == before


def test_the_same_seed_gives_the_same_network_and_layers_are_drawn_independently():
    target = lt.relu_network((4, 4, 4), seed=0)
    one, two = (lt.prune_random_network(target, 3, seed=0).random for _ in range(2))
    assert lt.state_hash(one.state_dict()) == lt.state_hash(two.state_dict())
    assert not torch.equal(one.fc1_first.weight, one.output_first.weight)
    other = lt.prune_random_network(target, 3, seed=1).random
    assert not torch.equal(one.fc1_first.weight, other.fc1_first.weight)


def test_layers_without_a_relu_between_them_may_have_negative_inputs():
    target = nn.Sequential(nn.Linear(3, 2, bias=False), nn.Linear(2, 2, bias=False))
    found = lt.prune_random_network(target, 12, seed=0)
    x = torch.randn(100, 3, generator=torch.Generator().manual_seed(1))
    gap = (found.pruned(x) - target(x)).abs().max()
    assert gap < 0.02 * target(x).abs().max()


@pytest.mark.parametrize(
    ("target", "words"),
    [
        (lt.mlp((4, 3, 2)), ("'fc1' has a bias", "bias=False")),
        (nn.Sequential(nn.Linear(3, 2, bias=False), nn.Tanh()), ("'1' is Tanh", "nn.ReLU")),
        (nn.Sequential(nn.Flatten(), nn.ReLU()), ("no nn.Linear",)),
    ],
)
def test_a_target_that_the_construction_is_not_for_is_refused_by_layer(target, words):
    with pytest.raises(ValueError) as error:
        lt.prune_random_network(target, 3, seed=0)
    assert all(word in str(error.value) for word in words)


def test_a_target_that_is_no_sequence_is_refused():
    with pytest.raises(TypeError, match=r"nn\.Sequential; got Linear"):
        lt.prune_random_network(nn.Linear(3, 2, bias=False), 3, seed=0)


@pytest.mark.parametrize("n", [0, -1, 21, 2.5, True])
def test_a_number_of_products_out_of_range_is_refused(n):
    with pytest.raises(ValueError, match=rf"whole number.*got {n}"):
        lt.prune_random_network(target_network(), n, seed=0)


def test_a_random_network_beyond_all_measure_is_refused_with_its_size():
    target = lt.relu_network((784, 300), seed=0)
    with pytest.raises(ValueError, match="1,699,712,000 weights"):
        lt.prune_random_network(target, 1000, seed=0, search="single")


def test_an_unknown_search_is_refused():
    with pytest.raises(ValueError, match="unknown search 'subsets'.*Did you mean 'subset'"):
        lt.prune_random_layer(WEIGHT, 3, seed=0, search="subsets")


@pytest.mark.parametrize("weight", [torch.ones(3), torch.ones(0, 3), torch.full((2, 2), math.nan)])
def test_a_weight_that_is_no_finite_matrix_is_refused(weight):
    odd = "with NaN or infinity" if not weight.isfinite().all() else r"got shape \(.*\)$"
    with pytest.raises(ValueError, match=f"matrix.*{odd}"):
        lt.prune_random_layer(weight, 3, seed=0)


# Measured.


def test_the_output_error_is_relative_to_the_targets_outputs(tiny_data):
    target = lt.relu_network((8, 5, 3), seed=0)
    double = lt.relu_network((8, 5, 3), seed=0)
    with torch.no_grad():
        double.output.weight.mul_(2)
    assert lt.output_error(target, target, tiny_data) == (0, 0)
    rms, largest = lt.output_error(double, target, tiny_data)
    assert rms == pytest.approx(1, rel=1e-5)
    outputs = target(tiny_data.normalize(tiny_data.x_test))
    expected = outputs.abs().max() / outputs.square().mean().sqrt()
    assert largest == pytest.approx(expected.item(), rel=1e-4)


def test_the_output_error_of_an_empty_split_is_refused(tiny_data):
    from dataclasses import replace

    empty = replace(tiny_data, x_val=tiny_data.x_val[:0], y_val=tiny_data.y_val[:0])
    model = lt.relu_network((8, 5, 3), seed=0)
    with pytest.raises(ValueError, match="blobs has no val examples"):
        lt.output_error(model, model, empty, "val")


def test_more_products_keep_the_first_ones_so_that_errors_only_fall():
    rows = lt.subset_sum_experiment((3, 6, 9), seeds=range(2), targets=20)
    assert list(rows.columns) == ["arm", "seed", "round", "products", "median_error", "worst_error"]
    assert len(rows) == 2 * 2 * 3
    for _, one in rows.groupby(["arm", "seed"]):
        assert one["worst_error"].is_monotonic_decreasing
    wide = rows.pivot(index=["seed", "products"], columns="arm", values="median_error")
    assert (wide["subset"] <= wide["single"]).all()


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"numbers": ()}, "increasing whole numbers"),
        ({"numbers": (3, 2)}, "increasing whole numbers"),
        ({"numbers": (2,), "arms": ["subsets"]}, "unknown arm 'subsets'"),
        ({"numbers": (2,), "arms": ["single", "single"]}, "different names; got"),
        ({"numbers": (2,), "seeds": [0, 0]}, "different whole numbers"),
        ({"numbers": (2,), "targets": 0}, "targets is a whole number"),
    ],
)
def test_a_bad_experiment_is_refused(arguments, words):
    with pytest.raises(ValueError, match=words):
        lt.subset_sum_experiment(**arguments)


@pytest.fixture(scope="module")
def imitated(tiny_data):
    config = lt.TrainConfig(steps=60, batch_size=20, lr=0.05)
    return lt.imitation_experiment(
        lambda seed: lt.relu_network((8, 6, 3), seed=seed), tiny_data, config,
        numbers=(2, 10), seeds=range(3),
    )  # fmt: skip


def test_an_imitation_has_a_row_for_every_arm_seed_and_number(imitated):
    counts = imitated.groupby(["arm", "round"])["seed"].nunique()
    assert len(counts) == 9 and set(counts) == {3}
    start = imitated[imitated["round"] == 0]
    assert (start["density"] == 1).all() and (start["output_error"] == 0).all()
    assert (start.groupby("seed")["accuracy"].nunique() == 1).all()


def test_an_imitation_measures_what_the_functions_measure(imitated, tiny_data):
    config = lt.TrainConfig(steps=60, batch_size=20, lr=0.05)
    target = lt.relu_network((8, 6, 3), seed=1)
    lt.train(target, tiny_data, config, data_seed=1)
    found = lt.prune_random_network(target, 10, seed=1)
    row = imitated.query("arm == 'subset' and seed == 1 and round == 2").iloc[0]
    assert row["accuracy"] == lt.evaluate(found.pruned, tiny_data).accuracy
    error, _ = lt.output_error(found.pruned, target, tiny_data)
    # Stacked training differs in the last bits, and the search amplifies no error beyond its own.
    assert row["output_error"] == pytest.approx(error, abs=0.02)
    assert row["kept_weights"] == pytest.approx(found.kept_weights, rel=0.05)
    assert row["density"] == row["kept_weights"] / row["random_weights"]


def test_a_shuffled_mask_keeps_as_many_weights_and_imitates_nothing(imitated):
    wide = imitated[imitated["round"] == 2].pivot(index="seed", columns="arm")
    assert (wide["kept_weights"]["random"] == wide["kept_weights"]["subset"]).all()
    assert (wide["output_error"]["subset"] < 0.4).all()
    assert (wide["output_error"]["random"] > 0.8).all()


def test_a_seed_is_imitated_once(tiny_data, config):
    with pytest.raises(ValueError, match="different whole numbers.*got \\[0, 0\\]"):
        lt.imitation_experiment(
            lambda seed: lt.relu_network((8, 6, 3), seed=seed), tiny_data, config,
            numbers=(2,), seeds=[0, 0],
        )  # fmt: skip


def test_a_target_that_does_not_fit_is_refused_before_training(tiny_data, config):
    with pytest.raises(ValueError, match="has a bias"):
        lt.imitation_experiment(
            lambda seed: lt.build_model("mlp_6", seed=seed, data=tiny_data), tiny_data, config,
            numbers=(2,),
        )  # fmt: skip


def test_an_imitation_continues_to_the_same_rows(tiny_data, config, tmp_path):
    def run(workdir=None):
        return lt.imitation_experiment(
            lambda seed: lt.relu_network((8, 4, 3), seed=seed), tiny_data, config,
            numbers=(3,), seeds=range(2), workdir=workdir,
        )  # fmt: skip

    first, again = run(tmp_path), run(tmp_path)
    assert any(tmp_path.rglob("*"))
    assert first.equals(again) and first.equals(run())
