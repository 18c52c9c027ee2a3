"""All arms of a round as one stack: the numbers of the plain loop, also after a kill."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import torch
from torch import nn

import lth_tutorial as lt
from lth_tutorial.tickets import arms as arms_module
from lth_tutorial.tickets import together
from lth_tutorial.tickets.arms import OTHER_INITIALIZATION
from lth_tutorial.tickets.together import Arm, train_arms
from lth_tutorial.training import checkpoints, groups, identity, replicates
from lth_tutorial.training.steps import Step

IMP = lt.IMPConfig(rounds=2, fraction=0.4)
ARMS = ("ticket", "reinit", "random", "one_shot")
DEVICES = [
    "cpu",
    pytest.param(
        "cuda",
        marks=[
            pytest.mark.gpu,
            pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device"),
        ],
    ),
]


@pytest.fixture
def always(monkeypatch):
    """Merge whatever can be stacked, large or small."""
    monkeypatch.setattr(together, "is_worth_merging", groups.can_stack)


@pytest.fixture
def trained(monkeypatch):
    """List the networks of every step that is taken."""
    sizes, call = [], Step.__call__

    def counting(self, *arguments):
        sizes.append(self.group.size)
        return call(self, *arguments)

    monkeypatch.setattr(Step, "__call__", counting)
    return sizes


def convolutional(seed: int) -> nn.Module:
    model = nn.Sequential(
        nn.Conv2d(1, 4, 3, padding=1, bias=False), nn.BatchNorm2d(4), nn.ReLU(), nn.MaxPool2d(2),
        nn.Conv2d(4, 5, 3), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(5, 10),
    )  # fmt: skip
    lt.reinitialize(model, seed)
    return model


def build(name: str, data: lt.Dataset, seed: int) -> nn.Module:
    made = convolutional(seed) if name == "conv" else lt.build_model(name, seed=seed, data=data)
    return made.to(data.device)


def arms_of(build_one, seeds) -> dict[str, Arm]:
    """Return four arms with starts and masks of their own."""
    arms = {}
    for i, name in enumerate(ARMS):
        models = {seed: build_one(seed + 100 * i) for seed in seeds}
        dense = {seed: lt.dense_mask(model) for seed, model in models.items()}
        masks = {s: lt.prune(lt.random_scores(m, s + i), m, 0.4) for s, m in dense.items()}
        arms[name] = Arm({s: lt.snapshot(m) for s, m in models.items()}, masks, None)
    return arms


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("optimizer", ["sgd", "adam"])
@pytest.mark.parametrize("name", ["mlp_12_6", "mlp_bn_12_6", "conv"])
def test_every_arm_and_seed_gets_the_numbers_of_its_own_run(
    digits, config, always, monkeypatch, name, optimizer, device
):
    monkeypatch.setattr(torch.backends.cudnn, "allow_tf32", False)
    data = digits.to(device)
    config = replace(config, optimizer=optimizer, lr=0.05 if optimizer == "sgd" else 5e-3)
    seeds, step = [3, 5], 10
    weights, points = (1e-4, 2e-3) if device == "cpu" else (5e-3, 2e-2)
    models = {seed: build(name, data, seed) for seed in seeds}
    arms = arms_of(lambda seed: build(name, data, seed), seeds)
    found = train_arms(models, arms, data, config, step, on_step=lambda: None, workdir=None)
    for arm, results in found:
        for seed in seeds:
            alone, mask = build(name, data, 0), arms[arm].masks[seed]
            alone.load_state_dict(arms[arm].starts[seed])
            expected = lt.train(alone, data, config, mask=mask, start_step=step, data_seed=seed)
            for theirs, ours in (
                (expected.start, results[seed].start),
                (expected.final, results[seed].final),
                (expected.final, lt.snapshot(models[seed])),
            ):
                assert set(theirs) == set(ours)
                for key, tensor in theirs.items():
                    assert torch.allclose(tensor, ours[key], atol=weights), (arm, key)
            assert all(bool((results[seed].final[n][~m] == 0).all()) for n, m in mask.items())
            for a, b in zip(expected.history, results[seed].history, strict=True):
                assert a == pytest.approx(b, abs=points)


def experiment(data, config, name="mlp_12_6", arms=ARMS, seeds=(0, 1), imp=IMP, workdir=None):
    return lt.lottery_experiment(
        name, data, config, imp, arms=arms, seeds=seeds, workdir=workdir
    )  # fmt: skip


@pytest.mark.parametrize("name", ["mlp_12_6", "mlp_bn_12_6"])
@pytest.mark.parametrize("way", ["rewind", "fine_tune"])
def test_an_experiment_has_the_rows_of_one_arm_after_the_other(
    tiny_data, config, monkeypatch, trained, name, way
):
    imp = replace(IMP, rewind_step=5, after_pruning=way)
    arms = [arm for arm in ARMS if way == "rewind" or arm != "reinit"]
    merged = experiment(tiny_data, config, name, arms, imp=imp)
    assert trained.count(2 * len(arms)) == 2 * 35, "both rounds as one stack"
    monkeypatch.setattr(together, "is_worth_merging", lambda models: False)
    apart = experiment(tiny_data, config, name, arms, imp=imp)
    if name == "mlp_12_6":
        pd.testing.assert_frame_equal(merged, apart, check_exact=True)
    assert merged["accuracy"].to_numpy() == pytest.approx(apart["accuracy"].to_numpy(), abs=0.02)


def test_arms_of_few_seeds_are_joined_side_by_side(digits, config, monkeypatch, trained):
    """What a GPU does with networks that cannot be stacked: here to the bits of one by one."""
    config, imp = replace(config, steps=4, eval_every=None), replace(IMP, rounds=1)
    monkeypatch.setattr(arms_module, "available_workers", lambda: 1)
    apart = experiment(digits, config, "vit_8_2_1", imp=imp)
    assert set(trained) == {1}
    trained.clear()
    monkeypatch.setattr(together, "is_worth_joining", lambda models: True)
    monkeypatch.setattr(replicates, "can_branch", lambda models: True)
    joined = experiment(digits, config, "vit_8_2_1", imp=imp)
    assert set(trained) == {1, len(ARMS)}, "seed by seed: the dense network, then all arms"
    pd.testing.assert_frame_equal(joined, apart, check_exact=True)


def test_one_seed_on_a_cpu_keeps_the_bits_of_the_plain_loop(tiny_data, config, trained):
    experiment(tiny_data, config, seeds=[0])
    assert set(trained) == {1}


def test_what_is_worth_merging(digits):
    def some(n, name):
        return [build(name, digits, seed) for seed in range(n)]

    assert groups.is_worth_merging(some(10, "mlp_100_50"))
    assert not groups.is_worth_merging(some(1, "mlp_100_50")), "to the bits of train"
    assert not groups.is_worth_merging(some(10, "mlp_300_200")), "bound by memory"
    assert not groups.is_worth_merging(some(2, "conv"))
    assert not groups.is_worth_merging([nn.Sequential(nn.Linear(3, 3), nn.Tanh())] * 2)


def test_finished_arms_are_not_trained_again(tiny_data, config, tmp_path, trained):
    def steps(arms, rounds=2) -> int:
        trained.clear()
        experiment(tiny_data, config, arms=arms, imp=replace(IMP, rounds=rounds), workdir=tmp_path)
        return sum(trained)

    per_arm = 2 * 40  # seeds times steps
    assert steps(["ticket", "random"]) == (1 + 2 * 2) * per_arm
    assert steps(["ticket"]) == 0
    assert steps(["reinit", "one_shot"]) == 2 * 2 * per_arm
    assert steps(ARMS, rounds=3) == 4 * per_arm
    assert steps(ARMS, rounds=3) == 0
    assert not list(tmp_path.rglob("*+*"))


def test_every_step_of_every_arm_is_reported(tiny_data, config, tmp_path, bars_of):
    bars = bars_of("lth_tutorial.tickets.arms")
    imp = replace(IMP, rewind_step=5)
    for arms in (["ticket", "random"], ARMS, ARMS):
        experiment(tiny_data, config, arms=arms, imp=imp, workdir=tmp_path)
    experiment(tiny_data, config, "mlp_bn_12_6", imp=imp)
    assert len(bars) == 4 and all(bar.n == bar.total for bar in bars)


class Kill(BaseException):
    pass


def killed_at(monkeypatch, n: int, *places: tuple[object, str]) -> None:
    """Raise before the n-th call of some functions, counted together."""
    calls = [0]

    def before(function):
        def counting(*arguments, **options):
            calls[0] += 1
            if calls[0] == n:
                raise Kill
            return function(*arguments, **options)

        return counting

    for owner, name in places:
        monkeypatch.setattr(owner, name, before(getattr(owner, name)))


def bits(frame: pd.DataFrame) -> str:
    return frame.to_csv(float_format="%.17g")


@pytest.mark.parametrize("kind", ["file", "step"])
def test_a_run_killed_at_any_moment_continues_to_the_same_bits(
    digits, config, tmp_path, monkeypatch, trained, kind
):
    """With batch norm, where a smaller stack would round otherwise."""
    imp, config = replace(IMP, rounds=1, rewind_step=2), replace(config, steps=12, eval_every=4)

    def go(workdir):
        arms = ["ticket", "random"]
        return bits(experiment(digits, config, "mlp_bn_12_6", arms, imp=imp, workdir=workdir))

    expected, ended = go(None), 0
    places = {
        "file": [
            (checkpoints, "write_atomically"),
            (identity, "write_atomically"),
            (arms_module, "remove_run"),
            (together, "remove_run"),
        ],
        "step": [(Step, "__call__")],
    }[kind]
    if kind == "step":
        monkeypatch.setattr(checkpoints, "SAVE_EVERY_S", 0.0)
    for n in range(1, 100):
        folder = tmp_path / str(n)
        with monkeypatch.context() as now:
            killed_at(now, n, *places)
            try:
                go(folder)
                ended += 1
            except Kill:
                pass
        trained.clear()
        assert go(folder) == expected, n
        if kind == "file":
            assert trained.count(2) in (0, 12), "the dense networks; no arm alone"
        assert not list(folder.rglob("*+*"))
        if ended:
            break
    assert ended and n > 10, "kills fell into the work"


def test_arms_asked_for_after_a_kill_join_those_that_were_begun(
    tiny_data, config, tmp_path, monkeypatch, trained
):
    monkeypatch.setattr(checkpoints, "SAVE_EVERY_S", 0.0)
    imp = replace(IMP, rounds=1)
    with monkeypatch.context() as now:
        killed_at(now, 71, (Step, "__call__"))  # in step 30 of the round
        with pytest.raises(Kill):
            experiment(tiny_data, config, arms=["ticket", "random"], imp=imp, workdir=tmp_path)
    trained.clear()
    rows = experiment(tiny_data, config, imp=imp, workdir=tmp_path)
    assert trained == [4] * 10 + [4] * 40, "the rest of two arms, then the other two"
    pd.testing.assert_frame_equal(rows, experiment(tiny_data, config, imp=imp))


def test_a_control_that_diverges_leaves_the_others_alone(tiny_data, config):
    def with_a_fault(seed):
        model = lt.build_model("mlp_12_6", seed=seed, data=tiny_data)
        if seed == OTHER_INITIALIZATION + 1:
            with torch.no_grad():
                model.fc1.weight.fill_(torch.inf)
        return model

    with pytest.warns(lt.DivergenceWarning, match="step 0 of 40 .data_seed 1"):
        rows = experiment(tiny_data, config, with_a_fault)
    whole = experiment(tiny_data, config)
    bad = (rows["arm"] == "reinit") & (rows["seed"] == 1) & (rows["round"] > 0)
    assert rows["diverged_step"].notna().equals(bad) and bad.sum() == 2
    a, b = (each.loc[~bad, "accuracy"].to_numpy() for each in (rows, whole))
    assert np.allclose(a, b, atol=0.02)


def test_a_ticket_that_diverges_has_no_later_rounds(tiny_data, config, monkeypatch):
    start = lt.snapshot(lt.build_model("mlp_12_6", seed=1, data=tiny_data))

    def spoiling(model, rewind_point, mask):
        lt.rewind_(model, rewind_point, mask)
        if lt.state_hash(rewind_point) == lt.state_hash(start):
            with torch.no_grad():
                model.output.bias.fill_(torch.inf)

    monkeypatch.setattr(together, "rewind_", spoiling)
    monkeypatch.setattr("lth_tutorial.tickets.lottery.check_rewound", lambda *arguments: None)
    with pytest.warns(lt.DivergenceWarning, match="data_seed 1"):
        rows = experiment(tiny_data, config)
    assert set(rows[rows["round"] == 1]["seed"]) == {0, 1}
    assert set(rows[rows["round"] == 2]["seed"]) == {0}


def test_a_rewind_that_did_not_happen_is_caught(tiny_data, config, monkeypatch):
    monkeypatch.setattr(together, "rewind_", lambda model, start, mask: lt.apply_mask_(model, mask))
    with pytest.raises(RuntimeError, match="the rewind is missing"):
        experiment(tiny_data, config)
