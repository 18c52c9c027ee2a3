"""Networks side by side: on a CPU a plain loop, with the bits of each network trained alone."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch import nn

import lth_tutorial as lt
from lth_tutorial.supermask.group import MaskedGroup
from lth_tutorial.training import replicates
from lth_tutorial.training.branches import Branches, Lanes, alone, can_branch, is_worth_joining
from lth_tutorial.training.groups import SingleModel

CONFIG = lt.TrainConfig(
    steps=8, batch_size=20, lr=0.05, schedule="cosine", weight_decay=1e-3, eval_every=4
)


class Twice(nn.Module):
    """A network of nobody's: one weight in two places, a buffer, an own parameter."""

    def __init__(self):
        super().__init__()
        self.first, self.second = nn.Linear(64, 10), nn.Linear(10, 10)
        self.third = self.second
        self.scale = nn.Parameter(torch.ones(1))
        self.register_buffer("seen", torch.zeros((), dtype=torch.int64))

    def forward(self, x):
        if self.training:
            self.seen += len(x)
        return self.third(self.second(self.first(x.flatten(1)).tanh())) * self.scale


def make(name, seed, data):
    if name == "twice":
        torch.manual_seed(seed)
        return Twice()
    if name == "frozen part":
        model = lt.build_model("mlp_bn_12_6", seed=seed, data=data)
        model.norm1.eval()
        model.fc1.weight.requires_grad_(False)
        return model
    return lt.build_model(name, seed=seed, data=data)


@pytest.fixture
def side_by_side(monkeypatch):
    """Pretend that networks on the CPU can be branches."""
    monkeypatch.setattr(replicates, "can_branch", lambda models: True)
    monkeypatch.setattr(replicates, "can_stack", lambda models, at_any_size=False: False)
    sizes = []
    fit = replicates.fit
    monkeypatch.setattr(
        replicates, "fit", lambda group, *a, **k: sizes.append(group.size) or fit(group, *a, **k)
    )
    return sizes


def trained(name, data, config, folder=None, masked=True, on_step=lambda: None):
    models = [make(name, seed, data) for seed in range(3)]
    masks = None
    if masked:
        dense = lt.dense_mask(models[0])
        masks = [lt.prune(lt.random_scores(dense, s), dense, 0.5, scope="layer") for s in range(3)]
    results = lt.train_replicates(
        models, data, config, data_seeds=[3, 1, 4], masks=masks, save_at={2}, workdir=folder,
        on_step=on_step,
    )  # fmt: skip
    return results, models


def hashes(results, models):
    states = [{n: lt.state_hash(r.states[n]) for n in r.states} for r in results]
    return states, [r.history for r in results], [lt.state_hash(m.state_dict()) for m in models]


@pytest.mark.parametrize("optimizer", ["sgd", "adam"])
@pytest.mark.parametrize("name", ["mlp_12_6", "vit_8_2_1", "twice", "frozen part"])
def test_branches_have_the_bits_of_each_network_alone(digits, request, name, optimizer):
    config = replace(CONFIG, optimizer=optimizer, lr=0.05 if optimizer == "sgd" else 1e-3)
    masked = name != "twice"  # a mask of a shared weight is refused elsewhere
    alone = [
        lt.train(make(name, s, digits), digits, config, data_seed=d, save_at={2}, mask=mask)
        for s, d, mask in zip(
            range(3), [3, 1, 4], masks_of(name, digits, masked=masked), strict=True
        )
    ]
    sizes = request.getfixturevalue("side_by_side")
    results, models = trained(name, digits, config, masked=masked)
    assert sizes == [3]
    for one, other, model in zip(alone, results, models, strict=True):
        assert one.history == other.history
        for state in one.states:
            assert lt.state_hash(one.states[state]) == lt.state_hash(other.states[state]), state
        assert lt.state_hash(model.state_dict()) == lt.state_hash(one.final)


def masks_of(name, data, n=3, masked=True):
    dense = lt.dense_mask(make(name, 0, data))
    return [
        lt.prune(lt.random_scores(dense, s), dense, 0.5, scope="layer") if masked else None
        for s in range(n)
    ]


def test_residual_networks_too(digits, request):
    config = replace(CONFIG, steps=2, eval_every=None, augment=True)
    expected = [hashes(*trained("resnet_20", digits, config))[0]]
    request.getfixturevalue("side_by_side")
    assert [hashes(*trained("resnet_20", digits, config))[0]] == expected


def test_networks_of_different_shapes_form_groups(digits, side_by_side):
    names = ["mlp_12", "mlp_9", "mlp_12", "mlp_7", "mlp_12"]
    models = [lt.build_model(n, seed=i, data=digits) for i, n in enumerate(names)]
    results = lt.train_replicates(models, digits, CONFIG, data_seeds=range(5))
    assert side_by_side == [3, 1, 1]
    for i, name in enumerate(names):
        model = lt.build_model(name, seed=i, data=digits)
        one = lt.train(model, digits, CONFIG, data_seed=i)
        assert lt.state_hash(one.final) == lt.state_hash(results[i].final), "in the order asked for"


def test_a_run_goes_on_as_it_was_begun(digits, tmp_path, monkeypatch):
    """Begun side by side on a GPU, continued on a CPU; begun one by one, continued so."""
    reference = [states["final"] for states in hashes(*one_by_one(digits))[0]]
    for kind, patch in (("branches", True), ("model", False)):
        folder, steps = tmp_path / kind, []
        with monkeypatch.context() as here:
            here.setattr(replicates, "can_stack", lambda models, at_any_size=False: False)
            here.setattr(replicates, "can_branch", lambda models, patch=patch: patch)
            here.setattr("lth_tutorial.training.checkpoints.SAVE_EVERY_S", 0)

            def killed(steps=steps):
                steps.append(1)
                if len(steps) == 14:
                    raise KeyboardInterrupt

            with pytest.raises(KeyboardInterrupt):
                trained("mlp_12_6", digits, CONFIG, folder, on_step=killed)
        assert any(each.name.startswith(kind) for each in folder.iterdir())
        with monkeypatch.context() as here:
            here.setattr(replicates, "can_branch", lambda models, patch=patch: not patch)
            here.setattr(replicates, "can_stack", lambda models, at_any_size=False: False)
            found = hashes(*trained("mlp_12_6", digits, CONFIG, folder))
        assert not any(each.name.startswith("stack") for each in folder.iterdir())
        if kind == "model":
            assert not any(each.name.startswith("branches") for each in folder.iterdir())
        assert [states["final"] for states in found[0]] == reference


def one_by_one(data):
    pairs = zip(range(3), [3, 1, 4], masks_of("mlp_12_6", data), strict=True)
    models = [make("mlp_12_6", s, data) for s in range(3)]
    return [
        lt.train(models[s], data, CONFIG, data_seed=d, mask=mask, save_at={2})
        for s, d, mask in pairs
    ], models


def test_memory_that_branches_read_is_not_used_again_before(monkeypatch):
    """Every tensor that comes from the main stream is recorded on every other one, before any of
    them starts."""
    log = []

    class Stream:
        def __init__(self, name):
            self.name = name

        def wait_stream(self, other):
            log.append((self.name, "waits for", other.name))

    class Given:
        def record_stream(self, stream):
            log.append(("kept for", stream.name))

    class Here:
        def __init__(self, stream):
            self.stream = stream

        def __enter__(self):
            log.append(("on", self.stream.name))

        def __exit__(self, *_):
            pass

    monkeypatch.setattr(torch.cuda, "current_stream", lambda device: Stream("main"))
    monkeypatch.setattr(torch.cuda, "stream", Here)
    lanes = Lanes(1, torch.device("cpu"))
    lanes.streams = [Stream("a"), Stream("b")]
    assert lanes([lambda: 1, lambda: 2], [Given()]) == [1, 2]
    assert log == [
        ("kept for", "a"), ("kept for", "b"), ("a", "waits for", "main"),
        ("b", "waits for", "main"), ("on", "a"), ("on", "b"), ("main", "waits for", "a"),
        ("main", "waits for", "b"),
    ]  # fmt: skip


def test_what_branches_read_is_said(digits, monkeypatch):
    """The batch, and the effective weights of a search, which are made on the main stream."""
    models = [lt.build_model("vgg_tiny", seed=s, data=digits) for s in range(2)]
    seen = []

    def lanes(calls, inputs=()):
        seen.append([tuple(each.shape) for each in inputs])
        return [call() for call in calls]

    x = digits.normalize(digits.x_train[:4]).expand(2, -1, -1, -1, -1)
    design = lt.SupermaskConfig("edge_popup", 0.5)
    for group in (Branches(models), MaskedGroup(models, design, 5, [0, 1], channels_last=True)):
        if isinstance(group, MaskedGroup):
            group.stack, group.singles = None, [SingleModel(model) for model in models]
        group.lanes = lanes
        group.logits(x)
    weights = [(2, *model_weight.shape) for model_weight in lt.dense_mask(models[0]).values()]
    assert seen == [[tuple(x.shape)], [tuple(x.shape), *weights]]


def test_only_the_gpu_has_branches_and_only_of_what_repeats_itself(digits):
    models = [lt.build_model("resnet_20", seed=s) for s in range(2)]
    assert not can_branch(models) and not is_worth_joining(models)
    assert type(alone(models[0], CONFIG)).__name__ == "SingleModel"


def test_the_models_stay_as_they_are_until_the_end(digits):
    models = [lt.build_model("mlp_12", seed=s, data=digits) for s in range(2)]
    before = [lt.state_hash(m.state_dict()) for m in models]
    group = Branches(models)
    with torch.no_grad():
        for parameter in group.parameters.values():
            parameter.add_(1)
    assert [lt.state_hash(m.state_dict()) for m in models] == before
    group.write_back()
    for model, old in zip(models, before, strict=True):
        assert lt.state_hash(model.state_dict()) != old
        assert model.fc1.weight.is_contiguous()
