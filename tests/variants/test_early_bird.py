"""Early-bird tickets: the rule by hand, the search on foreign networks, and what it refuses."""

from __future__ import annotations

import copy
import math
from dataclasses import replace

import pytest
import torch
from torch import nn

import lth_tutorial as lt
from lth_tutorial.variants.drawn_masks import CRITERIA
from lth_tutorial.variants.early_bird import train_masked_from

CONFIG = lt.TrainConfig(steps=240, batch_size=50, lr=0.1, schedule="cosine", bn_l1=1e-4)


def mask(*places):
    return {"all": torch.tensor([p == "1" for p in "".join(places)])}


def test_kept_is_what_lies_strictly_above_the_threshold_over_all_layers():
    scores = {"a": torch.tensor([0.1, 0.9]), "b": torch.tensor([0.5, 0.5, 0.7, 0.2])}
    drawn = lt.draw_mask(scores, 0.5)  # sorted: .1 .2 .5 .5 .7 .9; place 3 is .5
    assert drawn["a"].tolist() == [False, True]
    assert drawn["b"].tolist() == [False, False, True, False], "ties at the threshold go"


def test_equal_scores_keep_nothing():
    assert not lt.draw_mask({"a": torch.ones(7)}, 0.3)["a"].any()


def test_the_distance_is_the_share_of_places_that_differ():
    a, b = mask("1100", "10"), mask("1010", "10")
    assert lt.mask_distance(a, b) == pytest.approx(2 / 6) == lt.mask_distance(b, a)
    assert lt.mask_distance(a, a) == 0


def test_random_masks_are_as_far_apart_as_is_said():
    """2p(1 − p); the mean of 200 pairs of 300 places is within 0.01 of it."""
    for p in (0.05, 0.3, 0.7):
        generator = torch.Generator().manual_seed(0)
        pairs = [
            [lt.draw_mask({"a": torch.rand(300, generator=generator)}, p) for _ in range(2)]
            for _ in range(200)
        ]
        mean = sum(lt.mask_distance(*pair) for pair in pairs) / 200
        assert mean == pytest.approx(2 * p * (1 - p), abs=0.01)
        assert mean == pytest.approx(lt.unrelated_distance(*pairs[0]), abs=0.01)


A, B, FAR = "11111111110000000000", "11111111101000000000", "00000000001111111111"


@pytest.mark.parametrize(
    ("masks", "epoch"),
    [
        ([A] * 5, 4),
        ([FAR] + [A] * 5, 5),
        ([A] * 4, None),
        ([A, A, A, A, B], 4),  # exactly 0.1 apart
        ([A, A, A, A, FAR, A, A, A, A, A], 9),
        (["0" * 20] * 9, None),  # nothing kept
        (["0" * 20] + [A] * 5, 5),
    ],
)
def test_a_ticket_is_drawn_where_all_four_distances_are_small(masks, epoch):
    assert lt.drawing_epoch([mask(m) for m in masks]) == epoch


def test_a_slow_slide_is_no_ticket():
    masks = [mask("0" * i + "1" * 10 + "0" * (10 - i)) for i in range(10)]
    assert lt.mask_distance(masks[0], masks[1]) == pytest.approx(0.1)
    assert lt.drawing_epoch(masks) is None


@pytest.fixture(scope="module")
def drawn(digits):
    model = lt.build_model("mlp_bn_64_64", seed=0, data=digits)
    start = lt.snapshot(model)
    return model, lt.early_bird(model, digits, CONFIG, fraction=0.5), start


def test_a_search_ends_where_the_rule_is_first_met(drawn, digits):
    _model, ticket, start = drawn
    assert 4 <= ticket.epoch < 12 and ticket.step == 20 * ticket.epoch
    assert len(ticket.masks) == ticket.epoch + 1 == len(ticket.distances)
    assert lt.drawing_epoch(ticket.masks) == ticket.epoch
    assert lt.drawing_epoch(ticket.masks[:-1]) is None
    assert max(ticket.distances[-1]) <= 0.1 and len(ticket.distances[-1]) == 4
    assert not any(kept.any() for kept in ticket.masks[0].values()), "all γ are equal at the start"
    kept = sum(int(kept.sum()) for kept in ticket.mask.values())
    assert kept == 128 - 64 - 1, "the threshold itself goes too"
    assert lt.state_hash(ticket.start) == lt.state_hash(start)


def test_the_search_is_the_beginning_of_the_whole_training(drawn, digits):
    model, ticket, _start = drawn
    straight = lt.build_model("mlp_bn_64_64", seed=0, data=digits)
    lt.train(straight, digits, CONFIG, stop_step=ticket.step)
    assert lt.state_hash(lt.snapshot(straight)) == lt.state_hash(lt.snapshot(model))


@pytest.mark.parametrize("how", ["fresh", "momentum", "reinit"])
def test_what_trains_on_is_really_smaller_and_learns(drawn, digits, how):
    model, ticket, _ = drawn
    before = lt.state_hash(lt.snapshot(model))
    small, _result = lt.train_on(model, digits, CONFIG, ticket, how=how)
    assert [len(kept) for kept in ticket.mask.values()] == [64, 64]
    widths = [int(kept.sum()) for kept in ticket.mask.values()]
    assert [small.fc1.out_features, small.fc2.out_features] == widths
    assert lt.evaluate(small, digits).accuracy > 0.9
    assert lt.state_hash(lt.snapshot(model)) == before, "the model is left as it is"
    x = digits.normalize(digits.x_test[:1])
    assert lt.flops(small, x) < 0.75 * lt.flops(model, x)


def test_momentum_kept_and_lost_differ_and_without_momentum_they_do_not(digits):
    for momentum in (0.0, 0.9):
        config = replace(CONFIG, momentum=momentum, lr=0.05, steps=140)
        model = lt.build_model("mlp_bn_32", seed=1, data=digits)
        ticket = lt.early_bird(model, digits, config, threshold=0.4)
        ends = [
            lt.snapshot(lt.train_on(model, digits, config, ticket, how=how)[0])
            for how in ("fresh", "momentum")
        ]
        off = max((a - b).abs().max() for a, b in zip(*map(dict.values, ends), strict=True))
        assert (off < 1e-3) == (momentum == 0)


def test_units_pruned_in_mid_training_stay_zero_from_there_on(digits):
    model = lt.build_model("mlp_16", seed=0, data=digits)
    kept = lt.prune(lt.random_scores(lt.dense_mask(model), 0), lt.dense_mask(model), 0.5)
    whole = copy.deepcopy(model)
    config = lt.TrainConfig(steps=12, batch_size=50)
    lt.train(whole, digits, config, stop_step=8)
    (result,) = train_masked_from([model], digits, config, [kept], step=8, data_seeds=[0])
    assert all((result.final[name][~k] == 0).all() for name, k in kept.items())
    assert all((whole.state_dict()[name][~k] != 0).any() for name, k in kept.items())


# Foreign networks


def test_a_torchvision_resnet_draws_a_ticket_and_is_cut():
    from torchvision.models import resnet18

    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = resnet18(num_classes=3)
    generator = torch.Generator().manual_seed(0)

    def some(n):
        y = torch.arange(n) % 3
        x = torch.randint(0, 99, (n, 3, 32, 32), generator=generator) + 50 * y[:, None, None, None]
        return x.to(torch.uint8), y

    data = lt.make_dataset("stripes", some(12), None, some(6))
    config = lt.TrainConfig(steps=6, batch_size=6, lr=0.01, bn_l1=1e-3)
    ticket = lt.early_bird(model, data, config, fraction=0.3, window=2, threshold=0.4)
    assert ticket.epoch is not None and len(ticket.mask) > 5, "coupled layers lose units together"
    small, _ = lt.train_on(model, data, config, ticket)
    x = data.normalize(data.x_test[:1])
    assert lt.flops(small, x) < lt.flops(model, x)


class Plain(nn.Module):
    def __init__(self):
        super().__init__()
        self.first, self.second = nn.Linear(64, 20), nn.Linear(20, 10)

    def forward(self, x):
        return self.second(self.first(x.flatten(1)).tanh())


def test_a_plain_network_draws_a_mask_of_weights(digits):
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = Plain()
    config = lt.TrainConfig(steps=300, batch_size=50, lr=0.05)
    ticket = lt.early_bird(model, digits, config, by="magnitude", fraction=0.7)
    assert set(ticket.mask) == {"first.weight", "second.weight"}
    assert lt.density(ticket.mask) == pytest.approx(0.3, abs=0.01)
    same, result = lt.train_on(model, digits, config, ticket)
    assert all((result.final[name][~kept] == 0).all() for name, kept in ticket.mask.items())
    assert lt.evaluate(same, digits).accuracy > 0.8


# Bad input


def test_a_network_without_batch_norm_is_refused_before_training(digits):
    with pytest.raises(ValueError, match=r"no batch norm.*by='magnitude'"):
        lt.early_bird(lt.build_model("mlp_8", seed=0, data=digits), digits, lt.TrainConfig(200, 50))


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"fraction": 0}, "fraction is a share in"),
        ({"fraction": 1.5}, "got 1.5"),
        ({"fraction": 0.99}, "whole layers would be gone"),
        ({"threshold": 0}, "threshold is a share in"),
        ({"threshold": "0.1"}, "got '0.1'"),
        ({"window": 1}, "at least 2; got 1"),
        ({"by": "bn"}, "by"),
    ],
)
def test_wrong_settings_are_refused_before_training(digits, settings, message):
    model = lt.build_model("mlp_bn_8_8", seed=0, data=digits)
    before = lt.state_hash(lt.snapshot(model))
    with pytest.raises(ValueError, match=message):
        lt.early_bird(model, digits, CONFIG, **settings)
    assert lt.state_hash(lt.snapshot(model)) == before
    assert CRITERIA == ("bn_scale", "magnitude")


def test_a_budget_of_fewer_epochs_than_the_rule_needs_is_refused(digits):
    model = lt.build_model("mlp_bn_8", seed=0, data=digits)
    with pytest.raises(ValueError, match="4 epochs of 20 steps; the budget is 79"):
        lt.early_bird(model, digits, replace(CONFIG, steps=79))


def test_a_rule_that_chance_would_pass_is_warned_of(digits):
    model = lt.build_model("mlp_bn_64", seed=0, data=digits)
    with pytest.warns(lt.TicketWarning, match=r"differ by 0.077 .*pass a threshold of 0.1"):
        ticket = lt.early_bird(model, digits, CONFIG, fraction=0.04)
    assert ticket.epoch == 5, "as soon as five masks keep anything"


def test_a_rule_that_is_never_met_says_so_and_returns_the_distances(digits):
    model = lt.build_model("mlp_bn_64", seed=0, data=digits)
    with pytest.warns(lt.TicketWarning, match=r"no ticket: in 5 epochs .* distances was 0\.\d+"):
        ticket = lt.early_bird(model, digits, replace(CONFIG, steps=100), threshold=0.001)
    assert ticket.mask is None and ticket.epoch is None and len(ticket.distances) == 6
    with pytest.raises(ValueError, match="no ticket was drawn"):
        lt.train_on(model, digits, CONFIG, ticket)


def test_scales_that_stay_equal_draw_no_ticket(digits):
    """All masks are equal then, and empty: met at once by the letter, and worth nothing."""
    model = lt.build_model("mlp_bn_8", seed=0, data=digits)
    still = lt.TrainConfig(steps=100, batch_size=50, lr=1e-30)
    with pytest.warns(lt.TicketWarning, match="all scores stayed equal"):
        ticket = lt.early_bird(model, digits, still)
    assert ticket.mask is None and max(max(d, default=0) for d in ticket.distances) == 0


def test_a_layer_that_the_threshold_empties_keeps_its_best_unit(digits):
    model = lt.build_model("mlp_bn_16_16", seed=0, data=digits)
    with torch.no_grad():
        model.norm1.weight.mul_(0.01)
        model.norm1.weight[3] = 0.02
    config = replace(CONFIG, lr=1e-6, steps=100)
    with pytest.warns(lt.LayerCollapseWarning, match="no unit of fc1"):
        ticket = lt.early_bird(model, digits, config, fraction=0.6)
    assert ticket.mask["fc1"].nonzero().tolist() == [[3]]


def test_a_search_that_diverges_says_where(digits):
    model = lt.build_model("mlp_bn_8", seed=0, data=digits)
    with torch.no_grad():
        model.output.weight.fill_(float("nan"))
    with pytest.raises(FloatingPointError, match="no longer finite"):
        lt.early_bird(model, digits, CONFIG)


# Over seeds


def test_settling_rows_measure_what_the_rule_sees(digits):
    rows = lt.settling_experiment(
        "mlp_bn_16", digits, replace(CONFIG, steps=140), fractions=(0.5,), seeds=range(2)
    )
    assert set(rows["arm"]) == {"p 0.5", "p 0.5, random"} and rows["round"].max() == 7
    own = rows[rows["arm"] == "p 0.5"]
    assert (own[own["round"] == 7]["to_final"] == 0).all()
    assert own[own["round"] == 2]["largest"].isna().all()
    chance = rows[(rows["arm"] == "p 0.5, random") & (rows["round"] < 7)]
    assert chance["to_final"].mean() == pytest.approx(1, abs=0.3)
    assert (chance["drawn"] == 0).all()


def test_every_arm_trains_with_its_mask_and_an_equal_budget(digits):
    rows = lt.early_bird_experiment(
        "mlp_bn_32_32", digits, replace(CONFIG, steps=100), draw_epochs=(2,), seeds=range(2)
    )
    drawn = rows[rows["round"] == 1]
    assert len(rows) == 2 * 2 * 6 and drawn["accuracy"].between(0.3, 1).all()
    density = drawn.pivot(index="seed", columns="arm", values="density")
    same = ["early_bird", "early_bird_momentum", "same_counts", "early_bird_reinit"]
    assert (density[same].nunique(axis=1) == 1).all()
    assert (drawn["step"] == 40).all() and (drawn["smallest_layer"] >= 1).all()
    dense = rows[rows["round"] == 0].groupby("seed")["accuracy"].nunique()
    assert (dense == 1).all(), "every arm has the same dense network"


def test_an_experiment_refuses_epochs_and_arms_that_are_not_there(digits):
    with pytest.raises(ValueError, match="between 0 and 12"):
        lt.early_bird_experiment("mlp_bn_8", digits, CONFIG, draw_epochs=(12,))
    with pytest.raises(ValueError, match="arm"):
        lt.early_bird_experiment("mlp_bn_8", digits, CONFIG, arms=("early",))


# Boosting


def test_relative_magnitudes_have_mean_one_in_every_layer():
    state = {"a": torch.tensor([[1.0, -3.0]]), "b": torch.tensor([[10.0, 30.0, -20.0]])}
    kept = {"a": torch.tensor([[True, True]]), "b": torch.tensor([[True, False, True]])}
    scores = lt.relative_magnitude_scores(state, kept)
    assert scores["a"].tolist() == [[0.5, 1.5]]
    assert scores["b"][kept["b"]].mean() == pytest.approx(1)
    scaled = {"a": state["a"], "b": 100 * state["b"]}
    again = lt.relative_magnitude_scores(scaled, kept)
    assert torch.allclose(again["b"], scores["b"]), "the scale of a layer does not count"
    zero = lt.relative_magnitude_scores({"a": torch.zeros(1, 2), "b": state["b"]}, kept)
    assert not zero["a"].isnan().any()


def test_a_boosting_mask_leaves_the_model_where_it_started(digits):
    model = lt.build_model("mlp_16", seed=0, data=digits)
    start = lt.state_hash(lt.snapshot(model))
    found = lt.boosting_mask(model, digits, lt.TrainConfig(steps=30, batch_size=50, lr=0.01))
    assert lt.density(found) == pytest.approx(0.2, abs=0.01)
    assert lt.state_hash(lt.snapshot(model)) == start


def test_boosting_arms_are_what_their_names_say(digits):
    fast = lt.TrainConfig(steps=20, batch_size=50, optimizer="adam", lr=5e-3, attack=lt.fgsm(3))
    rows = lt.boosting_experiment(
        "mlp_16", digits, fast, replace(fast, lr=5e-4),
        measure_steps=(0, 20), arms=("low_mask", "low_mask_random", "strong_mask", "narrow",
                                     "dense", "low_mask_reinit", "natural_mask"),
        measure=lt.pgd(3, steps=2), strong=lt.pgd(3, steps=2), narrow="mlp_4", seeds=range(2),
    )  # fmt: skip
    assert len(rows) == 7 * 2 * 2
    wide = rows.pivot(index=["seed", "step"], columns="arm", values="density")
    masked = [c for c in wide if c not in ("dense", "narrow")]
    assert wide[masked].stack().between(0.19, 0.21).all() and (wide["dense"] == 1).all()
    assert rows["robust_accuracy"].le(rows["accuracy"] + 1e-9).all()
    ends = rows[rows["step"] == 20].groupby("arm")["accuracy"].mean()
    assert ends["dense"] > 0.18 and not math.isclose(ends["low_mask"], ends["low_mask_random"])


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"measure_steps": (30,)}, "lie in 0 … 20"),
        ({"measure_steps": ()}, "lie in 0 … 20"),
        ({"arms": ("narrow",)}, "needs narrow="),
        ({"arms": ("strong_mask",)}, "needs strong="),
        ({"arms": ("low",)}, "arm"),
    ],
)
def test_a_boosting_experiment_refuses_what_does_not_fit(digits, settings, message):
    config = lt.TrainConfig(steps=20, batch_size=50)
    with pytest.raises(ValueError, match=message):
        lt.boosting_experiment(
            "mlp_8", digits, config, config, **{"measure_steps": (20,), **settings}
        )


def test_trainings_that_all_diverge_have_no_masks_and_say_so(digits):
    wild = lt.TrainConfig(steps=12, batch_size=50, lr=1e30)
    with (
        pytest.warns(lt.DivergenceWarning),
        pytest.raises(FloatingPointError, match=r"every seed diverged \(0, 1\).*lower lr"),
    ):
        lt.settling_experiment("mlp_bn_8", digits.subset(200), wild, seeds=(0, 1))
