from __future__ import annotations

import pytest
import torch
from torch import nn

import lth_tutorial as lt
from lth_tutorial.pruning.schedules import RULES

CNN = {"conv": (16, 3, 3, 3), "conv2": (32, 16, 3, 3), "fc": (64, 512), "output": (10, 64)}


def mask_of(shapes):
    return {name: torch.ones(shape, dtype=torch.bool) for name, shape in shapes.items()}


@pytest.mark.parametrize(
    ("schedule", "expected"),
    [("exponential", [60, 30, 15]), ("linear", [85, 50, 15])],
)
def test_each_round_scores_the_mask_so_far_and_leaves_the_schedules_density(
    tiny_data, schedule, expected
):
    model = nn.Sequential(nn.Linear(8, 12), nn.ReLU(), nn.Linear(12, 2, bias=False))
    data = lt.make_dataset("two", (tiny_data.x_train, tiny_data.y_train % 2), None,
                           (tiny_data.x_test, tiny_data.y_test % 2))  # fmt: skip
    seen = []

    def criterion(model, data, mask):
        seen.append(sum(int(m.sum()) for m in mask.values()))
        return lt.random_scores(mask, len(seen))

    mask = lt.prune_to_density(criterion, model, data, 0.125, rounds=3, schedule=schedule)
    seen.append(sum(int(m.sum()) for m in mask.values()))
    assert seen == [120, *expected]


def test_masks_of_more_rounds_are_nested_in_the_first_round(digits):
    model = lt.build_model("mlp_20", seed=0, data=digits)
    first = lt.prune_to_density(lt.synflow_scores, model, digits, 0.5)
    final = lt.prune_to_density(lt.synflow_scores, model, digits, 0.25, rounds=2)
    assert all((final[n] <= first[n]).all() for n in final) and lt.density(final) == 0.25


def test_one_round_is_one_shot_pruning(digits):
    model = lt.build_model("mlp_20", seed=0, data=digits)
    dense = lt.dense_mask(model)
    once = lt.prune(lt.snip_scores(model, digits, dense), dense, 0.9)
    mask = lt.prune_to_density(lt.snip_scores, model, digits, 0.1)
    assert all(torch.equal(once[n], mask[n]) for n in dense)


def test_synflow_in_steps_keeps_a_path_where_one_step_of_magnitudes_leaves_none(digits):
    model = lt.build_model("mlp_40_40_40_40_40_40", seed=0, data=digits)

    def magnitude(model, data, mask):
        return lt.magnitude_scores(lt.snapshot(model), mask)

    density = 0.005
    flow = lt.prune_to_density(lt.synflow_scores, model, digits, density, rounds=100)
    size = lt.prune_to_density(magnitude, model, digits, density)
    assert lt.density(flow) == lt.density(size)
    assert lt.count_paths(model, digits, flow) > 0 == lt.count_paths(model, digits, size)
    connected = lt.connected_weights(model, digits, flow)
    assert lt.density(connected) == lt.density(flow)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"density": 1.0}, r"in .0, 1.; got 1.0"),
        ({"density": 0}, r"in .0, 1.; got 0"),
        ({"density": 0.5, "rounds": 0}, "at least 1; got 0"),
        ({"density": 0.5, "schedule": "exponent"}, "Did you mean 'exponential'"),
        ({"density": 0.8, "half": True}, "keeps .* already"),
    ],
)
def test_wrong_settings_are_refused_before_anything_is_scored(options, message, digits):
    model = lt.build_model("mlp_20", seed=0, data=digits)
    options = dict(options)
    if options.pop("half", False):
        dense = lt.dense_mask(model)
        options["mask"] = lt.prune(lt.random_scores(dense, 0), dense, 0.5)

    def criterion(model, data, mask):
        raise AssertionError("nothing may be scored")

    with pytest.raises(ValueError, match=message):
        lt.prune_to_density(criterion, model, digits, options.pop("density"), **options)


def test_scores_that_are_nan_stop_the_schedule(digits):
    model = lt.build_model("mlp_20", seed=0, data=digits)

    def criterion(model, data, mask):
        return {n: torch.full(m.shape, torch.nan) for n, m in mask.items()}

    with pytest.raises(ValueError, match="NaN"):
        lt.prune_to_density(criterion, model, digits, 0.5)


@pytest.mark.parametrize("rule", RULES)
@pytest.mark.parametrize("density", [0.05, 0.33, 0.9])
def test_counts_add_up_and_fit_into_their_layers(rule, density):
    mask = mask_of(CNN)
    counts = lt.layer_counts(mask, density, rule)
    total = sum(m.numel() for m in mask.values())
    assert sum(counts.values()) == round(density * total)
    assert all(0 <= counts[n] <= mask[n].numel() for n in mask)
    drawn = lt.keep_best(lt.random_scores(mask, 0), mask, counts)
    assert {n: int(k.sum()) for n, k in drawn.items()} == counts


@pytest.mark.parametrize(
    ("rule", "ratio"),
    [
        # densities of fc over conv2, by hand from the shapes
        ("uniform", 1.0),
        ("erdos_renyi", ((64 + 512) / (64 * 512)) / ((32 + 16) / (32 * 16))),
        ("erdos_renyi_kernel", ((64 + 512) / (64 * 512)) / ((32 + 16 + 3 + 3) / (32 * 16 * 9))),
        ("smart", (2 * 2 + 2) / (3 * 3 + 3)),
    ],
)
def test_layers_have_the_rules_densities(rule, ratio):
    mask = mask_of(CNN)
    counts = lt.layer_counts(mask, 0.08, rule)
    share = {n: counts[n] / mask[n].numel() for n in mask}
    assert share["fc"] / share["conv2"] == pytest.approx(ratio, rel=0.01)


def test_smart_ratios_keep_three_tenths_of_the_output_layer():
    assert lt.layer_counts(mask_of(CNN), 0.1, "smart")["output"] == 192
    with pytest.raises(ValueError, match="keep 0.3 of output, 192 weights; density 0.001"):
        lt.layer_counts(mask_of(CNN), 0.001, "smart")


def test_a_layer_that_would_keep_more_than_it_has_keeps_all():
    counts = lt.layer_counts(mask_of(CNN), 0.5, "erdos_renyi")
    assert counts["conv"] == 16 * 27 and counts["output"] == 640


def test_the_ratios_of_another_mask_are_kept_at_another_density():
    mask = mask_of(CNN)
    fractions = dict(zip(CNN, (0.2, 0.5, 0.8, 0.5), strict=True))
    like = lt.prune(lt.random_scores(mask, 0), mask, fractions, scope="layer")
    same = lt.layer_counts(mask, lt.density(like), like)
    assert same == {n: int(k.sum()) for n, k in like.items()}
    half = lt.layer_counts(mask, lt.density(like) / 2, like)
    assert all(abs(half[n] - same[n] / 2) <= 1 for n in half)


@pytest.mark.parametrize(
    ("density", "rule", "message"),
    [(2, "uniform", r"in .0, 1.; got 2"), (0.5, "smrt", "Did you mean 'smart'"), (0.5, {}, "mask")],
)
def test_wrong_counts_are_refused(density, rule, message):
    with pytest.raises(ValueError, match=message):
        lt.layer_counts(mask_of(CNN), density, rule)


# Corrupted data


def test_random_labels_are_uniform_and_images_stay(digits):
    spoilt = lt.corrupt_data(digits, "random_labels", 0)
    assert torch.equal(spoilt.x_train, digits.x_train)
    share = spoilt.y_train.bincount(minlength=10) / 1000
    assert share.min() > 0.05 and share.max() < 0.15
    assert (spoilt.y_train == digits.y_train).float().mean() < 0.15


def test_shuffled_pixels_are_those_of_the_same_image_in_an_order_of_its_own(digits):
    spoilt = lt.corrupt_data(digits, "shuffled_pixels", 0)
    old, new = digits.x_train.flatten(1), spoilt.x_train.flatten(1)
    assert torch.equal(old.sort(dim=1).values, new.sort(dim=1).values)
    assert not torch.equal(old, new) and torch.equal(spoilt.y_train, digits.y_train)
    sums = new.float().mean(dim=0)
    assert sums.max() / sums.min() < 2  # no pixel is dark in all images any more
    assert old.float().mean(dim=0).min() == 0


def test_the_channels_of_a_pixel_stay_together():
    x = torch.arange(2 * 3 * 4).float().view(2, 3, 2, 2)
    data = lt.make_dataset("rgb", (x, torch.arange(2)), None, (x, torch.arange(2)))
    new = lt.corrupt_data(data, "shuffled_pixels", 1).x_train
    assert torch.equal(new[:, 1] - new[:, 0], torch.full((2, 2, 2), 4.0))


def test_half_of_the_examples_are_left(digits):
    assert len(lt.corrupt_data(digits, "half", 0).x_train) == 500


@pytest.mark.parametrize("how", ["random_labels", "shuffled_pixels", "half"])
def test_a_corruption_belongs_to_its_seed_and_spares_the_other_splits(how, digits):
    a, b, c = (lt.corrupt_data(digits, how, seed) for seed in (0, 0, 1))
    assert a.fingerprint == b.fingerprint != c.fingerprint != digits.fingerprint
    for name in ("x_val", "y_val", "x_test", "y_test", "mean", "std"):
        assert torch.equal(getattr(a, name), getattr(digits, name))
    assert a.name != digits.name


def test_an_unknown_corruption_is_refused(digits):
    with pytest.raises(ValueError, match="Did you mean 'random_labels'"):
        lt.corrupt_data(digits, "random_label", 0)


class ZeroHead(nn.Module):
    """Its last layer starts at zero, as in many vision transformers."""

    def __init__(self):
        super().__init__()
        self.body, self.head = nn.Linear(8, 6), nn.Linear(6, 3)
        nn.init.zeros_(self.head.weight)

    def forward(self, x):
        return self.head(self.body(x).relu())


@pytest.mark.parametrize("criterion", [lt.snip_scores, lt.synflow_scores])
@pytest.mark.filterwarnings("ignore::lth_tutorial.LayerCollapseWarning")
def test_scores_that_are_all_equal_are_told(criterion, tiny_data):
    model = ZeroHead()
    with pytest.warns(lt.TiedScoresWarning, match="66 of 66 scores are equal .0., and 33 of these"):
        lt.prune_to_density(criterion, model, tiny_data, 0.5)
    scores = criterion(model, tiny_data, lt.dense_mask(model))
    with pytest.warns(lt.TiedScoresWarning):
        lt.prune(scores, lt.dense_mask(model), 0.5)


@pytest.mark.parametrize("schedule", ["exponential", "linear"])
@pytest.mark.parametrize("rounds", [1, 4])
def test_every_schedule_warns_of_a_layer_that_collapses(schedule, rounds, tiny_data):
    model = lt.build_model("mlp_6", seed=0, data=tiny_data)

    def first_layer_only(model, data, mask):
        scores = lt.random_scores(mask, 0)
        return {n: s + 2.0 * n.startswith("fc1") for n, s in scores.items()}

    with pytest.warns(lt.LayerCollapseWarning, match="output.weight has no weights left"):
        lt.prune_to_density(
            first_layer_only, model, tiny_data, 0.3, rounds=rounds, schedule=schedule
        )
