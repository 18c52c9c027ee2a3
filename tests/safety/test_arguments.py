"""Bad input: every argument of the public API, wrong in kind, range or fit, has a clear error.

Clear means: a ValueError or TypeError, before the first step, that repeats what was given and says
what would work.
"""

from __future__ import annotations

import inspect
from fractions import Fraction
from typing import Literal, get_origin

import numpy as np
import pandas as pd
import pytest
import torch
from torch import nn

import lth_tutorial as lt
from lth_tutorial.safety.arguments import ArgumentError, check_kinds, different_arms
from lth_tutorial.safety.kinds import hints
from lth_tutorial.training.steps import Step

WRONG = {
    "a string": "mlp_8",
    "a number": 3.7,
    "none": None,
    "a list": [[object()]],
    "a class": nn.Linear,
    "a model": nn.Linear(2, 2),
    "an array": np.zeros(3),
    "a set of strings": {"a"},
    "an object": object(),
}


def public_functions() -> dict:
    found = {}
    for name in lt.__all__:
        value = getattr(lt, name)
        ours = inspect.isfunction(value) and value.__module__.startswith("lth_tutorial.")
        if ours:
            found[name] = value
    return found


FUNCTIONS = public_functions()
FAST = {
    "learning_rate", "batch_indices", "top_k_mask", "limit_threads", "watching", "random_products",
}  # fmt: skip
"""Called at every step, or for anything: these check what they must by themselves."""


def test_every_public_function_checks_the_kinds_of_its_arguments():
    unchecked = [
        name
        for name, function in FUNCTIONS.items()
        if inspect.signature(function).parameters
        and "check_kinds" not in function.__code__.co_names
        and name not in FAST
    ]
    assert not unchecked


def good_kinds(meant: object, hint: str) -> set[str]:
    """Return which of the wrong values are of the right kind for an annotation."""
    good = set()
    if hint.endswith("| None"):
        good.add("none")
    plain = hint.removesuffix(" | None")
    words = {
        "str": {"a string"}, "float": {"a number"}, "nn.Module": {"a model"}, "int": {"a number"},
        "nn.Sequential": {"a model"},
        "torch.nn.Module": {"a model"}, "object": set(WRONG), "Any": set(WRONG),
    }  # fmt: skip
    for word, kinds in words.items():
        if word in plain.replace("[", "|").replace("]", "|").split(" | ") or plain == word:
            good |= kinds
    if plain.startswith("str") or "str |" in plain or "| str" in plain:
        good.add("a string")
    if get_origin(meant) is Literal or "Literal" in plain:
        good.add("a string")
    if "Callable" in plain or "Criterion" in plain:
        good |= {"a class"} | ({"a model"} if "str" in plain else set())
    if "Sequence" in plain or "Iterable" in plain or "list" in plain or "tuple" in plain:
        good |= {"a list", "an array", "a set of strings", "a string"}
    if get_origin(meant) is tuple:
        good.add("an array")
    if "float" in plain or "int" in plain:
        good.add("a number")  # which ones, the functions say
    if "Any" in plain or plain in ("dict", "Experiment"):
        good |= set(WRONG)
    return good


CASES = [
    (name, parameter.name, kind)
    for name, function in FUNCTIONS.items()
    if name not in FAST and "check_kinds" in function.__code__.co_names
    for parameter in inspect.signature(function).parameters.values()
    if parameter.name in hints(function)
    for kind in WRONG
    if kind not in good_kinds(*hints(function)[parameter.name])
]


def test_the_table_is_large():
    assert len(CASES) > 1_200 and len({name for name, *_ in CASES}) > 100


def test_a_value_of_a_wrong_kind_is_refused_by_name():
    """Each argument of each function, one at a time, the others left out: it is checked first."""
    silent = []
    for name, parameter, kind in CASES:
        function, value = FUNCTIONS[name], WRONG[kind]
        if inspect.signature(function).parameters[parameter].default is value:
            continue
        try:
            check_kinds(function, {parameter: value})
        except ArgumentError as error:
            message = str(error)
            assert (
                message.startswith((f"{parameter} is ", f"{parameter} are "))
                and "; got " in message
            ), message
            assert f"The order is {name}(" in message
            continue
        silent.append((name, parameter, kind))
    assert not silent, silent[:40]


def test_exchanged_arguments_say_the_order(tiny_data, tiny_model, config):
    with pytest.raises(TypeError, match=r"model is a Module; got a Dataset 'blobs'.*build_model"):
        lt.train(tiny_data, tiny_model, config)
    with pytest.raises(ValueError, match=r"The order is train\(model, data, config, …\)"):
        lt.train(tiny_model, config, tiny_data)
    with pytest.raises(ValueError, match="got the class Linear itself: make one, Linear"):
        lt.evaluate(nn.Linear, tiny_data)
    with pytest.raises(ValueError, match=r"range\(3\) makes 3 of them"):
        lt.lottery_experiment("mlp_8", tiny_data, config, lt.IMPConfig(), seeds=3)
    with pytest.raises(ValueError, match="missing a required argument: 'data'"):
        lt.train(tiny_model)


@pytest.fixture
def no_step(monkeypatch):
    """Fail at the first training step."""

    def step(*arguments, **options):
        raise AssertionError("a step was made before the error")

    monkeypatch.setattr(Step, "__call__", step)


IMP = lt.IMPConfig(rounds=1, fraction=0.5)
C = lt.TrainConfig(steps=5, batch_size=20)


def frozen(model):
    return model.requires_grad_(False)


FITS = {
    "instability split": (lambda d, m: lt.instability(
        "mlp_8", d, C, branch_steps=[2], seeds=[0], split="dev"), "split 'dev'"),
    "instability seeds": (lambda d, m: lt.instability(
        "mlp_8", d, C, branch_steps=[2], seeds=[0.5]), "0.5"),
    "instability mask": (lambda d, m: lt.instability(
        "mlp_8", d, C, branch_steps=[2], seeds=[0], masks={0: lt.dense_mask(m)}), "fc"),
    "rewinding split": (lambda d, m: lt.rewinding_experiment(
        "mlp_8", d, C, IMP, rewind_steps=[0], seeds=[0], split="dev"), "split 'dev'"),
    "lottery criterion": (lambda d, m: lt.lottery_experiment(
        "mlp_8", d, C, IMP, seeds=[0], criterion="magnitude"), "'magnitude'"),
    "lottery workers": (lambda d, m: lt.lottery_experiment(
        "mlp_8", d, C, IMP, seeds=[0], workers=0), "workers is a whole number of at least 1"),
    "lottery arms": (lambda d, m: lt.lottery_experiment(
        "mlp_8", d, C, IMP, seeds=[0], arms=[]), "arms are one or more"),
    "lottery seeds": (lambda d, m: lt.lottery_experiment(
        "mlp_8", d, C, IMP, seeds=[0, 0]), "different"),
    "retraining workers": (lambda d, m: lt.retraining_experiment(
        "mlp_8", d, C, IMP, seeds=[0], workers=-1), "workers"),
    "train frozen": (lambda d, m: lt.train(frozen(m), d, C), "frozen"),
    "train save_at": (lambda d, m: lt.train(m, d, C, save_at=[2.5]), "2.5"),
    "train data_seed": (lambda d, m: lt.train(m, d, C, data_seed=-1), "-1"),
    "train step": (lambda d, m: lt.train(m, d, C, start_step=-1), "-1"),
    "replicates second": (lambda d, m: lt.train_replicates(
        [m, lt.build_model("mlp_12_6", seed=0)], d, C, data_seeds=[0, 1]), "cannot take"),
    "replicates shared": (lambda d, m: lt.train_replicates(
        [m, nn.Sequential(m)], d, C, data_seeds=[0, 1]), "share"),
    "structured fractions": (lambda d, m: lt.structured_experiment(
        "mlp_8", d, C, C, fractions=[1.5], seeds=[0]), "1.5"),
    "structured seeds": (lambda d, m: lt.structured_experiment(
        "mlp_8", d, C, C, seeds=[]), "one or more different"),
    "scratch seeds": (lambda d, m: lt.scratch([m], d, C, seeds=[0, 1]), "1 models, 2 seeds"),
    "keep_best": (lambda d, m: lt.keep_best(
        lt.random_scores(lt.dense_mask(m), 0), lt.dense_mask(m), True), "True"),
    "layer_densities": (lambda d, m: lt.layer_densities({}), "the mask is empty"),
    "shuffle": (lambda d, m: lt.shuffle_within_layers({}, 0), "the mask is empty"),
    "random_scores": (lambda d, m: lt.random_scores({}, 0), "the mask is empty"),
    "learning_rate": (lambda d, m: lt.learning_rate(C, -1), "-1"),
    "batch_indices": (lambda d, m: lt.batch_indices(10, 5, -1, 0), "-1"),
    "claims record": (lambda d, m: lt.claims(record="digits-wining-tickets"), "Did you mean"),
    "widen": (lambda d, m: lt.widen(pd.DataFrame({"arm": ["a"], "seed": [0]})), "wide already"),
    "paired": (lambda d, m: lt.paired_difference(
        pd.DataFrame({"arm": ["a"], "value": [0], "metric": ["x"]}), "a", "a"), "widen"),
    "unit": (lambda d, m: lt.difference_table(
        pd.DataFrame({"arm": ["a"], "seed": [0], "round": [0], "density": [1.0]}), "a", ["b"],
        unit="percent"), "unit 'percent'"),
    "summarize": (lambda d, m: lt.summarize(pd.DataFrame({"a": [1]}), []), "by names"),
}  # fmt: skip


@pytest.mark.parametrize("case", FITS)
def test_arguments_that_do_not_fit_are_refused_before_the_first_step(
    tiny_data, tiny_model, no_step, case
):
    call, named = FITS[case]
    with pytest.raises((ValueError, TypeError)) as caught:
        call(tiny_data, tiny_model)
    assert named in str(caught.value), str(caught.value)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"steps": 10.0}, "steps must be at least 1; got 10.0: a whole number is written 10"),
        ({"augment": "no"}, "augment must be True or False; got 'no'"),
        ({"augment": 1}, "augment must be True or False; got 1"),
        ({"lr": True}, r"lr must be above 0; got True \(bool\)"),
        ({"lr": "0.1"}, r"lr must be above 0; got '0.1' \(str\)"),
        ({"lr": None}, "lr must be above 0; got None"),
        ({"momentum": 1.5}, "momentum must be in"),
        ({"steps": True}, "steps must be at least 1; got True"),
        ({"eval_every": 2.5}, "eval_every must be at least 1; got 2.5"),
        ({"lr_drops": [1]}, "lr_drops must be a tuple"),
        ({"removal": "ridge"}, "removal must be a Removal"),
    ],
)
def test_a_wrong_setting_says_what_is_wrong_with_it(settings, message):
    with pytest.raises(ValueError, match=message):
        lt.TrainConfig(**settings)


def test_numbers_of_numpy_are_numbers():
    config = lt.TrainConfig(steps=np.int64(5), lr=np.float32(0.5), momentum=np.float64(0.5))
    assert (config.steps, config.lr, config.momentum) == (5, 0.5, 0.5)
    assert {type(v) for v in (config.steps, config.lr, config.momentum)} == {int, float}
    assert lt.IMPConfig(fraction=np.float32(0.5)).fraction == 0.5


@pytest.mark.parametrize(
    ("train", "test", "message"),
    [
        ((torch.uint8, 3), (torch.float32, 3), "test examples are torch.float32, training"),
        ((torch.complex64, 3), (torch.complex64, 3), "real numbers; got torch.complex64"),
        ((torch.float32, 10**9), (torch.float32, 3), "1,000,000,000 classes"),
    ],
)
def test_examples_that_would_be_misread_are_refused(train, test, message):
    def part(dtype, classes):
        y = torch.arange(6) % 3
        y[0] = classes - 1
        return torch.ones(6, 2).to(dtype), y

    with pytest.raises(ValueError, match=message):
        lt.make_dataset("d", part(*train), None, part(*test))


def test_images_of_16_bits_are_refused(tmp_path):
    from PIL import Image

    for split in ("train", "test"):
        for label in "ab":
            folder = tmp_path / split / label
            folder.mkdir(parents=True)
            pixels = np.full((4, 4), 40_000, dtype=np.uint16)
            Image.fromarray(pixels).save(folder / "1.png")
    with pytest.raises(ValueError, match="more than 8 bits per pixel"):
        lt.load_dataset(f"folder:{tmp_path}")


def test_a_model_that_stands_twice_is_trained_from_its_weights_each_time(tiny_data, config):
    def build():
        return lt.build_model("mlp_12_6", seed=0, data=tiny_data)

    one = build()
    twice = lt.train_replicates([one, one], tiny_data, config, data_seeds=[0, 1])
    apart = lt.train_replicates([build(), build()], tiny_data, config, data_seeds=[0, 1])
    for a, b in zip(twice, apart, strict=True):
        assert lt.state_hash(a.start) == lt.state_hash(b.start)
        assert lt.state_hash(a.final) == lt.state_hash(b.final)
    assert lt.state_hash(lt.snapshot(one)) == lt.state_hash(twice[1].final)


def test_a_check_costs_next_to_nothing(tiny_model):
    import time

    mask = lt.dense_mask(tiny_model)
    plain = inspect.unwrap(lt.density)
    times = []
    for function in (lt.density, plain):
        started = time.perf_counter()
        for _ in range(2_000):
            function(mask)
        times.append(time.perf_counter() - started)
    assert (times[0] - times[1]) / 2_000 < 1e-3


@pytest.mark.parametrize("path", ["~/runs", "~"])
def test_a_path_from_home_is_refused_before_a_folder_of_that_name_is_made(
    tiny_model, tiny_data, config, path, tmp_path, monkeypatch
):
    monkeypatch.chdir(tmp_path)
    mask = lt.dense_mask(tiny_model)
    for call in (
        lambda: lt.train(tiny_model, tiny_data, config, workdir=path),
        lambda: lt.save_mask(mask, path),
        lambda: lt.load_rows("any", root=path),
    ):
        with pytest.raises(ArgumentError, match=f"~ is not expanded .*got '{path}'"):
            call()
    assert not list(tmp_path.iterdir())
    lt.save_mask(mask, "~not-a-user-of-this-machine")


@pytest.mark.parametrize("share", [np.float32(0.5), np.float64(0.5), Fraction(1, 2)])
def test_a_share_may_be_any_kind_of_number(tiny_model, tiny_data, share, tmp_path):
    config = lt.TrainConfig(steps=2, batch_size=20)
    mask, state = lt.dense_mask(tiny_model), lt.snapshot(tiny_model)
    assert lt.density(lt.prune(lt.magnitude_scores(state, mask), mask, share)) == 0.5
    assert lt.layer_counts(mask, share, "uniform") == lt.layer_counts(mask, 0.5, "uniform")
    pruned = lt.prune_to_density(lt.snip_scores, tiny_model, tiny_data, share)
    assert lt.density(pruned) == 0.5
    assert lt.state_hash(lt.interpolate(state, state, share)) == lt.state_hash(state)
    found = lt.edge_popup(
        tiny_model, tiny_data, share, config, anneal=share, workdir=tmp_path / "e"
    )
    assert lt.density(found.mask) == 0.5 and found.design.keep == 0.5
    for i, experiment in enumerate(
        (
            lambda **options: lt.supermask_experiment(
                "mlp_8", tiny_data, config, keeps=[share], **options
            ),
            lambda **options: lt.prune_before_training(
                "mlp_8", tiny_data, config, densities=[share], arms=["random"], **options
            ),
            lambda **options: lt.structured_experiment(
                "mlp_8", tiny_data, config, config, fractions=[share], **options
            ),
        )
    ):
        rows = experiment(seeds=[0], workdir=tmp_path / str(i))
        assert len(rows)
    attack = lt.fgsm(share, bounds=(np.float32(-9), 9))
    model = lt.build_model("mlp_8", seed=0, data=tiny_data)
    config = lt.TrainConfig(steps=2, batch_size=20, attack=attack, lr=share)
    assert lt.train(model, tiny_data, config, workdir=tmp_path / "attacked").steps == 2


def test_one_arm_is_as_good_as_a_list_of_it():
    assert different_arms("ticket", ("ticket", "random")) == ["ticket"]
    assert different_arms(("random", "ticket"), ("ticket", "random")) == ["random", "ticket"]
    for odd, words in (
        (["tickets"], "unknown arm 'tickets'.*Did you mean 'ticket'"),
        (["ticket", "ticket"], "one or more different names; got .*'ticket', 'ticket'"),
        ([], "one or more different names"),
    ):
        with pytest.raises(ValueError, match=words):
            different_arms(odd, ("ticket", "random"))
    rows = lt.subset_sum_experiment((2,), arms="single", seeds=[0], targets=2)
    assert list(rows["arm"]) == ["single"]
