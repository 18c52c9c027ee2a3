"""The Cubist Spiral, what its networks need, and the searches for the sparsest one."""

from __future__ import annotations

import math
from itertools import pairwise, permutations, product

import pytest
import torch
import torch.nn.functional as F

import lth_tutorial as lt
from lth_tutorial.data.generated import cubist_spiral, spiral_vertices
from lth_tutorial.variants.spiral import (
    accuracies,
    needed_weights,
    spiral_network,
)
from lth_tutorial.variants.spiral_pruners import PRUNERS, compare_on_spiral, fewest_weights
from lth_tutorial.variants.spiral_search import (
    descend,
    enumerate_masks,
    random_masks,
    train_masks,
)

QUICK = lt.TrainConfig(steps=60, batch_size=40, optimizer="adam", lr=1e-2)


def count(mask):
    return sum(int(kept.sum()) for kept in mask.values())


def test_the_corners_are_those_of_the_paper():
    vertices = spiral_vertices()
    assert vertices.shape == (2, 17, 2)
    for i in range(17):
        theta = math.pi + 4 * math.pi * i / 16 + 0.4 * math.pi
        for arm, side in enumerate((15, -15)):
            radius = 10 * theta + math.pi + side
            expected = (radius * math.cos(theta), radius * math.sin(theta))
            assert vertices[arm, i].tolist() == pytest.approx(expected)


@pytest.mark.parametrize("points", [68, 500, 2_000])
def test_points_lie_evenly_on_the_arms_and_are_standardised(points):
    data = cubist_spiral(points)
    assert data.x_train.shape == (points, 2) and data.y_train.sum() == points // 2
    assert torch.allclose(data.x_train.mean(0), torch.zeros(2), atol=1e-5)
    assert torch.allclose(data.x_train.std(0, correction=0), torch.ones(2), atol=1e-5)
    assert data.x_test is data.x_train and len(data.x_val) == 0
    # Undo the standardisation by the two ends of the first arm, then measure along the arm.
    raw = torch.cat(list(spiral_vertices()))
    ends = data.x_train[[0, points // 2 - 1]].double()
    scale = (raw[16] - raw[0]) / (ends[1] - ends[0])
    arm = (data.x_train[: points // 2].double() - ends[0]) * scale + raw[0]
    steps = (arm[1:] - arm[:-1]).norm(dim=1)
    corners = 16  # across a corner the straight distance is a little shorter
    assert (steps < steps.median() * 0.999).sum() <= corners
    assert steps.max() < steps.median() * 1.001


@pytest.mark.parametrize("points", [67, 2, 0, 2_000.5, True, "many"])
def test_a_wrong_number_of_points_is_refused(points):
    with pytest.raises(ValueError, match="points, at least 68|points is a whole number; got"):
        cubist_spiral(points)


def test_cross_entropy_of_the_pair_is_binary_cross_entropy_of_the_logit():
    data, model = cubist_spiral(100), spiral_network(5, 0)
    pair = model(data.x_train)
    assert pair.shape == (100, 2) and not pair[:, 0].any()
    binary = F.binary_cross_entropy_with_logits(pair[:, 1], data.y_train.float())
    assert F.cross_entropy(pair, data.y_train).item() == pytest.approx(binary.item(), abs=1e-6)


def test_a_network_is_drawn_as_pytorch_does_and_belongs_to_its_seed():
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(3)
        layer = torch.nn.Linear(2, 6)
    assert torch.equal(spiral_network((6, 4, 2), 3).fc1.weight, layer.weight)
    shapes = {n: tuple(m.shape) for n, m in lt.dense_mask(spiral_network((6, 4, 2), 0)).items()}
    assert list(shapes.values()) == [(6, 2), (4, 6), (2, 4), (1, 2)]
    for widths in (0, (3, 3), (3, 3, 0), (3, 3, 1.5)):
        with pytest.raises(ValueError, match="three of them; got|each of it a whole number; got"):
            spiral_network(widths, 0)


def fold_constants(model, mask):
    """Remove what is not needed, and let biases take over what constant units gave."""
    data = cubist_spiral(100)
    needed = lt.connected_weights(model, data, mask)
    names = list(mask)
    with torch.no_grad():
        lt.apply_mask_(model, mask)
        for i, name in enumerate(names[:-1]):
            layer, after = model.get_submodule(name[:-7]), model.get_submodule(names[i + 1][:-7])
            constant = ~layer.weight.any(dim=1)
            after.bias += after.weight[:, constant] @ layer.bias[constant].relu()
            after.weight[:, constant] = 0
        lt.apply_mask_(model, needed)
    return needed


@pytest.mark.parametrize("seed", range(5))
def test_a_network_computes_the_same_with_the_weights_that_it_needs(seed):
    """Also the reason why units without outgoing weights lose their bias."""
    data, model = cubist_spiral(100), spiral_network(5, seed)
    mask = lt.shuffle_within_layers({n: torch.arange(m.numel()).view(m.shape) < 0.3 * m.numel()
                                     for n, m in lt.dense_mask(model).items()}, seed)  # fmt: skip
    lt.apply_mask_(model, mask)
    before = model(data.x_train)
    needed = needed_weights(model, data, mask)
    smaller = fold_constants(model, mask)
    assert count(smaller) == needed < count(mask)
    assert torch.allclose(model(data.x_train), before, atol=1e-5)


def test_networks_are_evaluated_together_as_they_are_alone():
    data = cubist_spiral(200)
    models = [spiral_network(4, seed) for seed in range(5)]
    loss, accuracy = accuracies(models, data)
    for i, model in enumerate(models):
        alone = lt.evaluate(model, data)
        assert float(loss[i]) == pytest.approx(alone.loss, abs=1e-5)
        assert float(accuracy[i]) == pytest.approx(alone.accuracy)


def all_masks(widths, weights):
    """Return every mask by trying all of them, as nested tuples."""
    a, b, c = widths
    shapes = ((a, 2), (b, a), (c, b), (1, c))
    total = sum(x * y for x, y in shapes)
    for bits in range(1 << total):
        if bits.bit_count() == weights:
            flat = [bits >> i & 1 for i in range(total)]
            layers, start = [], 0
            for x, y in shapes:
                layers.append(torch.tensor(flat[start : start + x * y]).view(x, y).bool())
                start += x * y
            if all(p.any(1).all() and q.any(0).all() for p, q in pairwise(layers)):
                yield layers


def relabelled(layers, widths):
    for orders in product(*(permutations(range(width)) for width in widths)):
        rows = [list(o) for o in orders] + [[0]]
        columns = [[0, 1]] + [list(o) for o in orders]
        yield tuple(
            tuple(w[rows[i]][:, columns[i]].flatten().tolist()) for i, w in enumerate(layers)
        )


@pytest.mark.parametrize(("widths", "weights"), [((2, 2, 1), 7), ((2, 1, 2), 6), ((2, 2, 2), 9)])
def test_every_mask_is_listed_once_up_to_the_names_of_hidden_units(widths, weights):
    classes = {min(relabelled(layers, widths)) for layers in all_masks(widths, weights)}
    found = enumerate_masks(widths, weights)
    listed = [min(relabelled(list(mask.values()), widths)) for mask in found]
    assert sorted(listed) == sorted(classes)
    assert all(count(mask) == weights for mask in found)


def test_a_space_too_large_is_refused_with_its_size():
    with pytest.raises(ValueError, match=r"27 weights, and 17,383,860 masks keep 15"):
        enumerate_masks((3, 3, 3), 15)
    with pytest.raises(ValueError, match="1 to 27 weights; got 28"):
        enumerate_masks((3, 3, 3), 28)
    with pytest.raises(ValueError, match="fewer than one mask in 2,000"):
        random_masks((9, 9, 9), 20, 1, 0)


def test_random_masks_connect_all_units_and_belong_to_the_seed():
    masks = random_masks((3, 3, 2), 16, 5, seed=0)
    for mask in masks:
        layers = list(mask.values())
        assert count(mask) == 16
        assert all(a.any(1).all() and b.any(0).all() for a, b in pairwise(layers))
    again = random_masks((3, 3, 2), 16, 5, seed=0)
    assert all(lt.overlap(a, b) == 1 for a, b in zip(masks, again, strict=True))


def test_masks_are_trained_and_come_back_best_first():
    data = cubist_spiral(200)
    results = train_masks((3, 2, 2), enumerate_masks((3, 2, 2), 17), data, QUICK, seed=0)
    scores = [(-accuracy, loss) for _, _, loss, accuracy in results]
    assert scores == sorted(scores)
    for model, mask, _, accuracy in results[:3]:
        assert lt.evaluate(model, data).accuracy == pytest.approx(accuracy)
        assert all(
            not tensor[~mask[n]].any() for n, tensor in model.named_parameters() if n in mask
        )


def test_a_descent_removes_one_weight_at_a_time_and_keeps_what_it_promises():
    data = cubist_spiral(200)
    found = descend(
        (3, 3, 2), data, QUICK, QUICK, seed=1, restarts=6, pool=3, children=5, fewest=20, floor=0.0
    )
    assert [one.weights for one in found] == [23, 22, 21, 20]
    assert [one.trainings for one in found] == [6, 11, 16, 21]
    for smaller, larger in zip(found[1:], found, strict=False):
        assert count(smaller.mask) == count(larger.mask) - 1
    model = spiral_network((3, 3, 2), 0)
    model.load_state_dict(found[-1].state)
    assert lt.evaluate(model, data).accuracy == pytest.approx(found[-1].accuracy)
    with pytest.raises(ValueError, match="pool is a whole number of at least 1; got 0"):
        descend((3, 3, 2), data, QUICK, QUICK, seed=1, pool=0)


@pytest.fixture(scope="module")
def compared():
    return compare_on_spiral(
        cubist_spiral(200), QUICK, width=4, counts=(30, 20), seeds=(0, 1), fraction=0.25
    )


def test_every_pruner_leaves_the_number_of_weights_that_was_asked(compared):
    rows = compared
    assert set(rows["arm"]) == set(PRUNERS)
    dense = rows[rows["round"] == 0]
    assert (dense["kept"] == 44).all() and dense.groupby("seed")["accuracy"].nunique().eq(1).all()
    for arm in set(PRUNERS) - {"ticket", "edge_popup"}:
        own = rows[(rows["arm"] == arm) & (rows["round"] > 0)]
        # In four rounds every pruning is rounded.
        assert own["kept"].tolist() == pytest.approx([30, 30, 20, 20], abs=arm == "four_rounds")
    ticket = rows[(rows["arm"] == "ticket") & (rows["seed"] == 0)]["kept"].tolist()
    assert ticket == [44, 33, 25, 19, 14][: len(ticket)] and ticket[-1] < 20 / 0.75
    assert (rows["weights"] <= rows["kept"]).all() and rows["accuracy"].between(0, 1).all()


def test_the_fewest_weights_are_those_of_the_sparsest_network_that_is_good_enough(compared):
    rows = compared[compared["arm"] == "snip"].assign(accuracy=[1, 0.97, 0.99, 0.2, 0.96, 0.1])
    table = fewest_weights(rows, 0.95).set_index("seed")
    own = rows[(rows["seed"] == 0)]
    assert table.loc[0, "weights"] == own["weights"].iloc[-1] and table.loc[0, "reached"]
    assert table.loc[0, "pruned"]
    # The other seed gets there dense only: an upper bound, and it says so.
    assert table.loc[1, "weights"] == 44 and table.loc[1, "reached"] and not table.loc[1, "pruned"]
    none = fewest_weights(rows.assign(accuracy=0.5), 0.95)
    assert none["weights"].eq(44).all() and not none["reached"].any() and not none["pruned"].any()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"arms": ("sinp",)}, "sinp"),
        ({"counts": (20, 30)}, "falling; got .20, 30."),
        ({"counts": (44,)}, "below the 44 of a network of width 4"),
        ({"counts": ()}, "falling"),
        ({"seeds": (1, 1)}, "different whole numbers of at least 0; got"),
    ],
)
def test_a_comparison_that_makes_no_sense_is_refused(change, message):
    settings = {"width": 4, "counts": (30, 20), "seeds": (0,)} | change
    with pytest.raises(ValueError, match=message):
        compare_on_spiral(cubist_spiral(200), QUICK, **settings)
