"""Costs, training from scratch, and the experiment that puts them together."""

from __future__ import annotations

import copy
import math
from dataclasses import replace

import pytest
import torch
from torch import nn

import lth_tutorial as lt
import lth_tutorial.structured.experiment
from lth_tutorial.structured.cost import NO_GAIN

CONFIG = lt.TrainConfig(steps=12, batch_size=20, lr=0.05, lr_drops=(8,), warmup_steps=2)
FINETUNE = lt.TrainConfig(steps=5, batch_size=20, lr=0.02)


def half(model, x):
    groups = lt.unit_groups(model, x)
    units = lt.prune(lt.unit_scores(model, groups), lt.all_units(groups), 0.5, scope="layer")
    return units, groups


def test_flops_of_known_layers_are_counted_by_hand():
    x = torch.ones(7, 3, 8, 8)
    model = nn.Sequential(
        nn.Conv2d(3, 4, 3, padding=1), nn.ReLU(), nn.Flatten(), nn.Linear(4 * 64, 5)
    )
    assert lt.flops(model, x) == 2 * (3 * 4 * 9 * 64 + 4 * 64 * 5)


def test_flops_of_attention_include_its_products(digits):
    model, x = lt.build_model("vit_32_4_2", seed=0, data=digits), torch.ones(3, 1, 8, 8)
    tokens, width, blocks = 16, 32, 2
    projections = 4 * width * width + 2 * width * 2 * width
    attention = 2 * tokens * width
    by_hand = 2 * (tokens * (4 * width + blocks * (projections + attention)) + width * 10)
    assert lt.flops(model, x) == by_hand


class Around(nn.Module):
    def __init__(self, body, call, width):
        super().__init__()
        self.body, self.call, self.output = body, call, nn.Linear(width, 3)

    def forward(self, x):
        return self.output(self.call(self.body, x))


ATTENTION = 5 * 8 * 24 + 2 * 5 * 5 * 8 + 5 * 8 * 8
FUSED = {  # a layer, how it is called, its width, and multiply-adds by hand for 5 tokens of 8
    "rnn": (nn.RNN(8, 6, batch_first=True), lambda m, x: m(x)[0][:, -1], 6, 5 * 6 * 14),
    "gru": (nn.GRU(8, 6, batch_first=True), lambda m, x: m(x)[0][:, -1], 6, 5 * 3 * 6 * 14),
    "lstm": (nn.LSTM(8, 6, batch_first=True), lambda m, x: m(x)[0][:, -1], 6, 5 * 4 * 6 * 14),
    "cell": (nn.LSTMCell(8, 6), lambda m, x: m(x[:, 0])[0], 6, 4 * 6 * 14),
    "attention": (
        nn.MultiheadAttention(8, 2, batch_first=True), lambda m, x: m(x, x, x)[0].mean(1), 8,
        ATTENTION,
    ),
    "encoder": (
        nn.TransformerEncoderLayer(8, 2, 16, batch_first=True), lambda m, x: m(x).mean(1), 8,
        ATTENTION + 2 * 5 * 8 * 16,
    ),
    "bilinear": (nn.Bilinear(8, 8, 6), lambda m, x: m(x[:, 0], x[:, 1]), 6, 6 * 8 * 8),
    "vector": (nn.Linear(8, 8), lambda m, x: (m.weight @ x[0, 0])[None], 8, 8 * 8),
}  # fmt: skip


@pytest.mark.parametrize("name", FUSED)
def test_layers_computed_in_one_piece_are_counted_by_hand(name):
    body, call, width, products = FUSED[name]
    model = Around(body, call, width)
    assert lt.flops(model, torch.randn(2, 5, 8)) == 2 * (products + 3 * width)
    assert torch.backends.mha.get_fastpath_enabled()


def test_a_kernel_that_hides_its_products_is_named():
    class InOnePiece(nn.Module):
        def forward(self, x):
            return torch.ops.aten._addmm_activation(x[0], x, x)

    with pytest.raises(ValueError, match="_addmm_activation, which InOnePiece computes in one"):
        lt.flops(InOnePiece(), torch.randn(1, 1))


def test_counting_leaves_modes_and_batch_norm_alone():
    model = lt.build_model("resnet_20", seed=0)
    before = lt.state_hash(lt.snapshot(model))
    lt.cost_table({"one": model}, torch.ones(2, 3, 32, 32), repeats=1)
    assert model.training and lt.state_hash(lt.snapshot(model)) == before


def test_a_masked_network_costs_what_the_dense_one_does_and_the_table_says_so(digits):
    model, x = lt.build_model("mlp_40_20", seed=0, data=digits), torch.ones(16, 1, 8, 8)
    units, groups = half(model, x)
    masked = copy.deepcopy(model)
    lt.apply_mask_(masked, lt.unit_mask(model, units, groups))
    networks = {"dense": model, "masked": masked, "removed": lt.remove_units(model, units, x)}
    table = lt.cost_table(networks, x, repeats=3).set_index("network")
    assert table["note"].tolist() == ["", NO_GAIN, ""]
    assert table.loc["masked", "parameters"] == table.loc["dense", "parameters"]
    assert table.loc["masked", "bytes"] == table.loc["dense", "bytes"]
    assert table.loc["masked", "flops"] == table.loc["dense", "flops"]
    parameters = 64 * 20 + 20 + 20 * 10 + 10 + 10 * 10 + 10
    assert table.loc["removed", "parameters"] == parameters
    assert table.loc["removed", "bytes"] == 4 * parameters
    assert table.loc["removed", "flops"] == 2 * (64 * 20 + 20 * 10 + 10 * 10)
    biases = 40 + 20 + 10  # zero at initialisation
    assert table.loc["dense", "nonzeros"] == 64 * 40 + 40 * 20 + 20 * 10 + 70 - biases
    assert table.loc["masked", "nonzeros"] == table.loc["removed", "nonzeros"]


def test_a_larger_network_takes_measurably_longer():
    x = torch.ones(64, 500)
    networks = {"large": nn.Linear(500, 4000), "small": nn.Linear(500, 40)}
    assert lt.cost_table(networks, x, repeats=9)["speedup"][1] > 2


def test_costs_of_nothing_are_refused():
    with pytest.raises(ValueError, match="at least one network"):
        lt.cost_table({}, torch.ones(1, 2))
    with pytest.raises(ValueError, match="repeats is a whole number of at least 1; got 0"):
        lt.cost_table({"a": nn.Linear(2, 2)}, torch.ones(1, 2), repeats=0)


def test_scratch_e_is_the_same_budget_and_scratch_b_the_same_flops(digits):
    dense, x = lt.build_model("mlp_40_20", seed=0, data=digits), torch.ones(2, 1, 8, 8)
    small = lt.remove_units(dense, half(dense, x)[0], x)
    assert lt.scratch_config(CONFIG, dense, small, x, budget="epochs") == CONFIG
    longer = lt.scratch_config(CONFIG, dense, small, x, budget="flops", longest=math.inf)
    ratio = (64 * 40 + 40 * 20 + 20 * 10) / (64 * 20 + 20 * 10 + 10 * 10)
    assert longer.steps == round(12 * ratio)
    assert longer.lr_drops == (round(8 * ratio),)
    assert longer.warmup_steps == round(2 * ratio)
    assert lt.scratch_config(CONFIG, dense, small, x, budget="flops").steps == 24


def test_exchanged_networks_are_noticed(digits):
    dense, x = lt.build_model("mlp_40_20", seed=0, data=digits), torch.ones(2, 1, 8, 8)
    small = lt.remove_units(dense, half(dense, x)[0], x)
    with pytest.raises(ValueError, match="were they exchanged"):
        lt.scratch_config(CONFIG, small, dense, x, budget="flops")


def test_training_from_scratch_forgets_the_inherited_weights(digits):
    dense, x = lt.build_model("mlp_40_20", seed=3, data=digits), torch.ones(2, 1, 8, 8)
    small = lt.remove_units(dense, half(dense, x)[0], x)
    other = copy.deepcopy(small)
    with torch.no_grad():
        other.fc1.weight.fill_(7.0)
    a, b = (lt.scratch([model], digits, CONFIG, seeds=[3])[0] for model in (small, other))
    assert lt.state_hash(a.final) == lt.state_hash(b.final)
    first = lt.build_model("mlp_40_20", seed=3, data=digits).fc1.weight[:20]
    assert not torch.allclose(a.start["fc1.weight"] / first, torch.tensor(1.0), atol=0.3)


def test_a_budget_in_flops_needs_the_dense_network(digits):
    model = lt.build_model("mlp_4", seed=0, data=digits)
    with pytest.raises(ValueError, match="pass dense"):
        lt.scratch([model], digits, CONFIG, seeds=[0], budget="flops")
    with pytest.raises(ValueError, match="unknown budget 'flop'. Did you mean 'flops'"):
        lt.scratch([model], digits, CONFIG, seeds=[0], budget="flop", dense=model)


def test_the_experiment_has_a_row_per_arm_seed_and_fraction(digits):
    rows = lt.structured_experiment(
        "mlp_16_8", digits, CONFIG, FINETUNE, fractions=(0.5, 0.75), seeds=range(2)
    )
    assert len(rows) == 4 * 2 * 3
    assert list(rows["arm"].unique()) == list(lt.structured.experiment.ARMS)
    dense = rows[rows["round"] == 0]
    assert dense.groupby("seed")["accuracy"].nunique().eq(1).all()
    steps = rows[rows["round"] == 1].groupby("arm")["steps"].first()
    assert steps.to_dict() == {"scratch_b": 24, "scratch_e": 12, "units_l1": 5, "units_random": 5}
    small = rows[rows["round"] == 2]
    assert set(small["parameters"]) == {64 * 4 + 4 + 4 * 2 + 2 + 2 * 10 + 10}
    assert small["density"].nunique() == 1
    assert small.loc[small["arm"] == "scratch_e", "start_accuracy"].isna().all()


def test_the_experiment_continues_to_the_same_rows(digits, tmp_path):
    options = dict(arms=("units_l1", "scratch_e"), seeds=range(2))
    whole = lt.structured_experiment("mlp_16_8", digits, CONFIG, FINETUNE, **options)
    for _ in range(2):
        again = lt.structured_experiment(
            "mlp_16_8", digits, CONFIG, FINETUNE, workdir=tmp_path, **options
        )
        assert again.equals(whole)
    with pytest.raises(ValueError, match="another configuration"):
        longer = replace(FINETUNE, steps=6)
        lt.structured_experiment("mlp_16_8", digits, CONFIG, longer, workdir=tmp_path, **options)


def test_an_experiment_that_inherits_nothing_is_refused(digits):
    with pytest.raises(ValueError, match="one arm must choose units: units_l1"):
        lt.structured_experiment("mlp_16_8", digits, CONFIG, FINETUNE, arms=("scratch_e",))


@pytest.mark.parametrize(
    ("twice", "words"),
    [
        ({"arms": ("units_l1", "units_l1")}, "arms are one or more different names"),
        ({"fractions": (0.5, 0.5)}, "fractions are .*different"),
    ],
)
def test_an_experiment_measures_nothing_twice(digits, twice, words):
    with pytest.raises(ValueError, match=words):
        lt.structured_experiment("mlp_16_8", digits, CONFIG, FINETUNE, **twice)


# What training costs: measured on copies, counted as three forward passes

TRAINING = lt.TrainConfig(steps=1, batch_size=50)


def test_a_small_network_trains_with_fewer_operations_and_is_left_alone(digits):
    networks = {n: lt.build_model(f"mlp_{n}", seed=0, data=digits) for n in (400, 8)}
    before = {name: lt.state_hash(lt.snapshot(model)) for name, model in networks.items()}
    table = lt.training_cost(networks, digits, TRAINING, repeats=1).set_index("network")
    x = digits.normalize(digits.x_test[:1])
    assert all(table["flops"][name] == 3 * lt.flops(model, x) for name, model in networks.items())
    assert (table["step_ms"] > 0).all() and table["speedup"][400] == 1
    assert before == {name: lt.state_hash(lt.snapshot(model)) for name, model in networks.items()}


@pytest.mark.parametrize("repeats", [0, 1.5])
def test_a_wrong_number_of_repeats_is_refused(digits, repeats):
    model = lt.build_model("mlp_8", seed=0, data=digits)
    with pytest.raises(ValueError, match=f"got {repeats}"):
        lt.training_cost({"one": model}, digits, TRAINING, repeats=repeats)
    with pytest.raises(ValueError, match="training_cost needs at least one network"):
        lt.training_cost({}, digits, TRAINING)


class Queries(nn.Module):
    """Learned queries: a module inside is called with a parameter itself."""

    def __init__(self):
        super().__init__()
        self.queries = nn.Parameter(torch.ones(3, 8))
        self.inner, self.out = nn.Linear(8, 8, bias=False), nn.Linear(8, 4, bias=False)

    def forward(self, x):
        return self.out(self.inner(self.queries).mean(0) + x)


def test_a_module_that_is_called_with_a_parameter_counts():
    model = Queries()
    model.out.weight.requires_grad_(False)
    assert lt.flops(model, torch.ones(2, 8)) == 2 * (3 * 8 * 8 + 8 * 4)
    assert [p.requires_grad for p in model.parameters()] == [True, True, False]


def test_a_lazy_layer_is_not_initialised_by_looking_at_it(digits):
    model = nn.Sequential(nn.Flatten(), nn.LazyLinear(10))
    x = digits.normalize(digits.x_test[:2])
    for look in (lambda: lt.flops(model, x), lambda: lt.evaluate(model, digits),
                 lambda: lt.cost_table({"a": model}, x)):  # fmt: skip
        with pytest.raises(ValueError, match="layer 1 is not initialised yet"):
            look()
