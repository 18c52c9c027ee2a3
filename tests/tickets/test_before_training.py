from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch import nn

import lth_tutorial as lt
from lth_tutorial.experiments import experiment, run
from lth_tutorial.experiments.criteria import CHECKED, CRITERIA
from lth_tutorial.tickets import before_training
from lth_tutorial.tickets.before_training import METHODS, initial_mask


def go(data, config, arms, **options):
    options = {"densities": [0.5, 0.3], "seeds": [0, 1], "synflow_rounds": 5} | options
    return lt.prune_before_training("mlp_12_6", data, config, arms=arms, **options)


def test_every_arm_has_its_rows_at_the_densities_asked_for(tiny_data, config):
    rows = go(tiny_data, config, CHECKED)
    assert len(rows) == len(CHECKED) * 2 * 3 and list(dict.fromkeys(rows["arm"])) == list(CHECKED)
    sizes = 12 * 8 + 6 * 12 + 3 * 6
    assert rows["density"].round(9).unique().tolist() == pytest.approx(
        [1, round(0.5 * sizes) / sizes, round(0.3 * sizes) / sizes], abs=1e-9
    )
    assert rows["accuracy"].between(0, 1).all()
    assert (rows["connected"] <= rows["density"] + 1e-12).all()
    dense = rows[rows["round"] == 0].groupby("seed")["accuracy"].nunique()
    assert (dense == 1).all()


def test_an_arm_is_its_mask_on_the_seeds_own_weights_trained_by_train(tiny_data, config):
    rows = go(tiny_data, config, ["snip"], densities=[0.3]).set_index(["seed", "round"])
    for seed in (0, 1):
        model = lt.build_model("mlp_12_6", seed=seed, data=tiny_data)
        mask = lt.prune_to_density(lt.snip_scores, model, tiny_data, 0.3)
        lt.train(model, tiny_data, config, mask=mask, data_seed=seed)
        assert rows.loc[(seed, 1), "accuracy"] == pytest.approx(
            lt.evaluate(model, tiny_data).accuracy, abs=1e-6
        )


def test_the_checks_spoil_what_they_say(tiny_data, config, monkeypatch):
    seen = {}

    def train_all(models, data, config, *, masks, **options):
        seen[len(seen)] = masks, [lt.snapshot(model) for model in models.values()], data
        return lottery_train_all(models, data, config, masks=masks, **options)

    from lth_tutorial.tickets import before_training

    lottery_train_all = before_training.train_all
    monkeypatch.setattr(before_training, "train_all", train_all)
    arms = ["snip", "snip/shuffled", "snip/reinit", "snip/random_labels"]
    go(tiny_data, config, arms, densities=[0.3])
    _, snip, shuffled, reinit, labels = seen.values()
    same = lambda a, b: all(torch.equal(a[n], b[n]) for n in a)  # noqa: E731
    for i in range(2):
        assert lt.layer_densities(snip[0][i]) == lt.layer_densities(shuffled[0][i])
        assert not same(snip[0][i], shuffled[0][i]) and same(snip[1][i], shuffled[1][i])
        assert same(snip[0][i], reinit[0][i]) and not same(snip[1][i], reinit[1][i])
        assert not same(snip[0][i], labels[0][i]) and same(snip[1][i], labels[1][i])
    assert labels[2] is tiny_data  # only the criterion looked at the wrong labels


def test_after_training_keeps_the_largest_trained_weights(tiny_data, config):
    model = lt.build_model("mlp_12_6", seed=0, data=tiny_data)
    state = lt.train(model, tiny_data, config).final
    mask = initial_mask("after_training", model, tiny_data, 0.3, 0, trained=state)
    dense = lt.dense_mask(model)
    expected = lt.keep_best(lt.magnitude_scores(state, dense), dense, round(0.3 * 186))
    assert all(torch.equal(mask[n], expected[n]) for n in mask)


@pytest.mark.parametrize("method", METHODS)
def test_a_mask_belongs_to_model_and_seed(method, tiny_data):
    model = lt.build_model("mlp_12_6", seed=0, data=tiny_data)
    state = lt.snapshot(lt.build_model("mlp_12_6", seed=5, data=tiny_data))
    a, b = (initial_mask(method, model, tiny_data, 0.4, 3, trained=state) for _ in range(2))
    assert all(torch.equal(a[n], b[n]) for n in a) and lt.density(a) == round(0.4 * 186) / 186


def test_a_killed_run_continues_to_the_same_rows(tiny_data, config, tmp_path, monkeypatch):
    import lth_tutorial.training.replicates

    arms = ["random", "snip/shuffled"]
    straight = go(tiny_data, config, arms)
    left, fit = {"calls": 3}, lth_tutorial.training.replicates.fit

    def fit_thrice(*arguments, **options):
        left["calls"] -= 1
        if left["calls"] < 0:
            raise RuntimeError("killed")
        return fit(*arguments, **options)

    with monkeypatch.context() as short:
        short.setattr("lth_tutorial.training.replicates.fit", fit_thrice)
        with pytest.raises(RuntimeError, match="killed"):
            go(tiny_data, config, arms, workdir=tmp_path)
    resumed = go(tiny_data, config, arms, workdir=tmp_path)
    assert resumed.equals(straight)
    more = go(tiny_data, config, [*arms, "smart"], workdir=tmp_path)
    assert more[more["arm"] != "smart"].equals(straight)
    with pytest.raises(ValueError, match="another configuration .train_config"):
        go(tiny_data, replace(config, lr=0.01), arms, workdir=tmp_path)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"arms": ["snap"]}, "Did you mean 'snip'"),
        ({"arms": ["snip/shuffle"]}, "Did you mean 'shuffled'"),
        ({"arms": ["snip", "snip"]}, "arms are one or more different"),
        ({"densities": [1.5]}, r"in .0, 1.; got .1.5"),
        ({"densities": []}, "densities are one or more"),
        ({"seeds": [-1]}, "got .-1"),
    ],
)
def test_a_wrong_design_is_refused(options, message, tiny_data, config):
    options = {"arms": ["snip"]} | options
    with pytest.raises(ValueError, match=message):
        go(tiny_data, config, options.pop("arms"), **options)


# The named experiments


@pytest.mark.parametrize("name", ["mnist-data-dependent", "mnist-pruning-at-init"])
def test_the_mnist_experiments_run_at_smoke_scale(name, digits, tmp_path):
    design = replace(experiment(name), seeds=(0, 1))
    rows, about = run(design, digits, scale=0.01, workdir=tmp_path / "work")
    lt.save_rows(rows, name, about, root=tmp_path)
    wide = lt.widen(lt.load_rows(name, root=tmp_path))
    arms = set(CRITERIA) if name == "mnist-data-dependent" else set(CHECKED)
    assert set(wide["arm"]) == arms and about["parts"][0]["train"]["steps"] == 40
    table = lt.claims({name: wide})
    least = 5 if name == "mnist-data-dependent" else 3
    own = table[table["record"] == name]
    assert set(own["verdict"]) == {f"not enough runs (2 of {least})"}


def test_the_cifar_experiment_runs_at_smoke_scale():
    x = torch.randint(256, (300, 3, 32, 32), dtype=torch.uint8)
    y = torch.arange(300) % 10
    data = lt.make_dataset("noise", (x[:200], y[:200]), None, (x[250:], y[250:]))
    design = experiment("cifar10-pruning-at-init")
    part = replace(
        design.parts[0], densities=(0.05,), arms=("snip", "snip/shuffled"), synflow_rounds=2
    )
    rows, _ = run(replace(design, seeds=(0,), parts=(part,)), data, scale=1e-4)
    assert set(lt.widen(rows)["arm"]) == {"snip", "snip/shuffled"}


class Sorts(nn.Module):
    def __init__(self):
        super().__init__()
        self.layer = nn.Linear(8, 3)

    def forward(self, x):
        return self.layer(x.sort(dim=1).values)


def test_what_no_criterion_can_score_is_refused_before_any_training(tiny_data, monkeypatch):
    monkeypatch.setattr(before_training, "train_all", lambda *_, **__: pytest.fail("it trained"))
    with pytest.raises(ValueError, match="cannot follow paths through sort in Sorts"):
        lt.prune_before_training(
            lambda seed: Sorts(), tiny_data, lt.TrainConfig(steps=2), densities=[0.5], seeds=[0]
        )
