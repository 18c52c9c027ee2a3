"""Pruning with a look at the masks: three procedures, biases as weights, and matched units."""

from __future__ import annotations

import pytest
import torch

import lth_tutorial as lt
from lth_tutorial.variants.matching import match_units, overlaps_between_seeds, shuffled_layers
from lth_tutorial.variants.sifting import (
    count_biases,
    locality_experiment,
    sifting_network,
    small_convolution,
)

CONFIG = lt.TrainConfig(steps=20, batch_size=50, lr=0.05, momentum=0.0)


def halves(rounds=2, **changes):
    fraction = {"fc1.weight": 0.5, "fc2.weight": 0.5, "output.weight": 0.25}
    return lt.IMPConfig(**{"rounds": rounds, "fraction": fraction, "scope": "layer"} | changes)


def test_biases_of_a_sifting_network_are_its_last_columns(digits):
    model = sifting_network((6, 5), digits, seed=0)
    mask = lt.dense_mask(model)
    assert [tuple(kept.shape) for kept in mask.values()] == [(6, 65), (5, 7), (10, 6)]
    assert count_biases(mask) == 21 and not any("bias" in name for name in mask)
    model.eval()
    x = digits.normalize(digits.x_test[:5]).flatten(1)
    with torch.no_grad():
        before = model(x.view(-1, *digits.shape))
        model.output.weight[3, -1] += 2.0
        after = model(x.view(-1, *digits.shape))
    expected = torch.zeros(10)
    expected[3] = 2.0
    assert torch.allclose(after - before, expected.expand(5, 10), atol=1e-5)
    with torch.no_grad():  # drawn with zero biases, and again by reinitialize
        lt.reinitialize(model, 1)
        assert not model.fc1.weight[:, -1].any() and model.fc1.weight[:, :-1].all()


def test_a_sifting_network_trains_as_a_stack_as_it_does_alone(digits):
    alone = [sifting_network((6, 5), digits, seed) for seed in range(2)]
    together = [sifting_network((6, 5), digits, seed) for seed in range(2)]
    for seed, model in enumerate(alone):
        lt.train(model, digits, CONFIG, data_seed=seed)
    lt.train_replicates(together, digits, CONFIG, data_seeds=range(2))
    for a, b in zip(alone, together, strict=True):
        for name, tensor in lt.snapshot(a).items():
            assert torch.allclose(tensor.float(), lt.snapshot(b)[name].float(), atol=1e-4), name


def run(digits, arm, imp, build=None, **options):
    seen = {}
    rows = locality_experiment(
        build or (lambda seed: lt.build_model("mlp_12_8", seed=seed, data=digits)),
        digits, CONFIG, imp, arm=arm, seeds=(0, 1),
        on_masks=lambda index, masks: seen.__setitem__(index, masks), **options,
    )  # fmt: skip
    return rows, seen


def test_a_ticket_is_that_of_iterative_magnitude_pruning(digits):
    rows, seen = run(digits, "ticket", halves())
    model = lt.build_model("mlp_12_8", seed=1, data=digits)
    rounds = lt.iterative_magnitude_pruning(model, digits, CONFIG, halves(), data_seed=1)
    for one in rounds:
        assert lt.overlap(one.mask, seen[one.index][1]) > 0.99
    own = rows[rows["seed"] == 1].set_index("round")
    assert own.loc[2, "density"] == pytest.approx(rounds[2].density)
    assert own.loc[2, "first_density"] == pytest.approx(0.25)
    assert own.loc[0, "neighbours"] == own.loc[0, "neighbours_matched"] == 1
    assert own.loc[2, "weights"] == sum(int(m.sum()) for m in rounds[2].mask.values())
    kept = seen[2][1]["fc1.weight"]
    assert own.loc[2, "neighbours"] == pytest.approx(lt.neighbour_share(kept, (8, 8)))
    paths = lt.paths_to(seen[2][1], 2) > 0
    assert own.loc[2, "second_neighbours"] == pytest.approx(lt.neighbour_share(paths, (8, 8)))


def test_one_shot_prunes_the_dense_network_to_each_count(digits):
    rows, seen = run(digits, "one_shot", halves())
    dense = lt.build_model("mlp_12_8", seed=0, data=digits)
    state = lt.train(dense, digits, CONFIG, data_seed=0).final
    scores = lt.magnitude_scores(state, lt.dense_mask(dense))
    for index in (1, 2):
        mask = seen[index][0]
        keep = {name: int(kept.sum()) for name, kept in mask.items()}
        assert lt.overlap(mask, lt.keep_best(scores, lt.dense_mask(dense), keep)) > 0.99
    assert set(rows["arm"]) == {"one_shot"}


def test_sifting_rewinds_the_weights_and_not_the_steps(digits, monkeypatch):
    """Each round trains for all the steps, from the weights of step k."""
    from lth_tutorial.tickets import lottery

    began = []
    plain = lottery.train_all

    def watched(models, data, config, **options):
        began.append(options.get("start_step", 0))
        return plain(models, data, config, **options)

    monkeypatch.setattr(lottery, "train_all", watched)
    imp = halves(rewind_step=5)
    run(digits, "ticket", imp)
    assert began == [0, 5, 5]
    began.clear()
    fraction = {"fc1.weight": 0.5, "fc2.weight": 0.5, "output.weight": 0.0}
    rows, seen = run(
        digits, "sifted", halves(rewind_step=5, fraction=fraction),
        build=lambda seed: sifting_network((12, 8), digits, seed),
    )  # fmt: skip
    assert began == [0, 0, 0]
    last = seen[2][0]
    assert last["output.weight"].all()  # the last layer is left alone
    own = rows[rows["seed"] == 0].set_index("round")
    assert own.loc[2, "biases"] == count_biases(last)
    assert 0 < count_biases(last) < 12 + 8 + 10  # some biases are pruned with the weights


@pytest.mark.filterwarnings("ignore::lth_tutorial.LayerCollapseWarning")
def test_sifting_stops_when_few_units_are_connected(digits):
    fraction = {"fc1.weight": 0.6, "fc2.weight": 0.6, "output.weight": 0.0}
    rows, _ = run(
        digits, "sifted", halves(rounds=8, fraction=fraction),
        build=lambda seed: sifting_network((12, 8), digits, seed),
    )  # fmt: skip
    last = rows["round"].max()
    assert last < 8
    shares = rows.groupby("round")["connected"].min()
    assert shares[last] < 0.2 and (shares[shares.index < last] >= 0.2).all()


def test_permuted_pixels_are_measured_in_both_orders(digits):
    moved = lt.permute_pixels(digits, 0)
    rows = locality_experiment(
        lambda seed: lt.build_model("mlp_12", seed=seed, data=digits), moved, CONFIG,
        lt.IMPConfig(rounds=1, fraction=0.5, scope="layer"), seeds=(0,),
        restore=lambda kept: lt.restore_pixels(kept, digits, 0),
    )  # fmt: skip
    assert (rows["neighbours_here"] != rows["neighbours"]).iloc[-1]


def test_networks_whose_first_layer_is_not_fully_connected_are_refused_before_training(digits):
    def convolution(seed):
        return lt.build_model("vgg_tiny", seed=seed, data=digits)

    with pytest.raises(ValueError, match="conv1.weight has shape .* fully connected first layer"):
        run(digits, "ticket", lt.IMPConfig(rounds=1), build=convolution)
    with pytest.raises(ValueError, match="sifted"):
        run(digits, "sift", halves())


def test_the_small_convolution_has_about_five_thousand_weights_on_mnist(digits):
    x, y = torch.rand(20, 1, 28, 28), torch.arange(20) % 10
    data = lt.make_dataset("like mnist", (x, y), None, (x, y))
    mask = lt.dense_mask(small_convolution(data, 0))
    assert sum(m.numel() for m in mask.values()) == 8 * 25 + 16 * 8 * 25 + 10 * 16 * 9
    assert small_convolution(data, 0)(x).shape == (20, 10)
    assert small_convolution(digits, 0)(digits.normalize(digits.x_test[:3])).shape == (3, 10)


def relabel(mask, orders):
    """Return the mask with hidden units in other orders, as a trap for `match_units`."""
    first, second = orders
    a, b, c = mask.values()
    new = (a[first], b[second][:, first], c[:, second])
    return dict(zip(mask, new, strict=True))


def some_mask(seed, density=0.3):
    shapes = {"fc1.weight": (20, 50), "fc2.weight": (10, 20), "output.weight": (4, 10)}
    generator = torch.Generator().manual_seed(seed)
    return {name: torch.rand(s, generator=generator) < density for name, s in shapes.items()}


def test_matching_finds_the_units_of_a_relabelled_network():
    mask = some_mask(0)
    orders = [torch.randperm(n, generator=torch.Generator().manual_seed(1)) for n in (20, 10)]
    other = relabel(mask, orders)
    assert lt.overlap(mask, other) < 0.5
    assert lt.overlap(mask, match_units(mask, other)) == 1


def test_matching_raises_the_overlap_of_unrelated_masks_too():
    a, b = some_mask(0), some_mask(1)
    plain, matched = lt.overlap(a, b), lt.overlap(a, match_units(a, b))
    assert plain == pytest.approx(0.3 / 1.7, abs=0.05) and matched > plain + 0.03
    table = overlaps_between_seeds([a, b, some_mask(2), some_mask(3), some_mask(4)])
    assert table["pair"].tolist() == [0, 1]  # pairs share no mask; the odd one is left out
    assert table.loc[0, "matched"] == matched
    # Random masks are like their own null, both before and after matching.
    assert (table["matched"] - table["matched_null"]).abs().max() < 0.03
    assert (table["plain"] - table["plain_null"]).abs().max() < 0.05


def test_matching_leaves_a_column_of_biases_where_it_is():
    mask = {n: torch.cat([m, torch.ones(len(m), 1, dtype=torch.bool)], 1)
            for n, m in some_mask(0).items()}  # fmt: skip
    matched = match_units(some_mask(5) | mask, mask)
    assert all(kept[:, -1].all() for kept in matched.values())


def test_shuffled_layers_keep_all_counts():
    mask = some_mask(0)
    for name, kept in shuffled_layers(mask, 0).items():
        assert torch.equal(kept.sum(0), mask[name].sum(0))
        assert torch.equal(kept.sum(1), mask[name].sum(1))


def test_what_cannot_be_matched_is_refused():
    mask = some_mask(0)
    with pytest.raises(ValueError, match="fc1.weight"):
        match_units(mask, {n: m[:, :-1] if n == "fc1.weight" else m for n, m in mask.items()})
    kernel = {"conv1.weight": torch.ones(4, 3, 3, 3, dtype=torch.bool)}
    with pytest.raises(ValueError, match="matrices"):
        match_units(kernel, kernel)
    with pytest.raises(ValueError, match="two masks; got 1"):
        overlaps_between_seeds([mask])
