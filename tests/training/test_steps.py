"""The recorded step: all but the recording itself, which needs a GPU (tests/test_on_gpu.py)."""

from types import SimpleNamespace

import pytest
import torch

import lth_tutorial as lt
from lth_tutorial.data.dataset import DataOrder
from lth_tutorial.supermask.group import MaskedGroup
from lth_tutorial.training import steps
from lth_tutorial.training.branches import Branches
from lth_tutorial.training.groups import SingleModel, Stack
from lth_tutorial.training.plan import Plan
from lth_tutorial.training.progress import Run
from lth_tutorial.training.steps import (
    WARM_UP,
    CalledStep,
    PlannedStep,
    Step,
    make_update,
    masked_parameters,
)

SETTINGS = {
    "sgd": {"optimizer": "sgd", "lr": 0.2, "weight_decay": 1e-3},
    "adam": {"optimizer": "adam", "lr": 3e-3},
}


class Pretended:
    """Graphs that call the function again: what a replay computes, it computes in Python."""

    def __init__(self):
        self.log = []

    def warm_up(self, run):
        self.log.append("warm up")
        return run()

    def record(self, run):
        self.log.append("record")

        def replay():
            self.log.append("replay")
            return run()

        return replay


def group_of(data, kind):
    models = [lt.build_model("mlp_bn_12_6", seed=s, data=data) for s in range(2)]
    if kind == "supermasks":
        return MaskedGroup(models, lt.SupermaskConfig("biprop", 0.5), 12, [0, 1])
    if kind == "branches":
        return Branches(models)
    return Stack(models) if kind == "stack" else SingleModel(models[0])


def run_steps(data, kind, settings, recorded):
    """Return the weights after twelve steps, the losses, and what the graphs were asked for."""
    config = lt.TrainConfig(steps=12, batch_size=20, schedule="cosine", **settings)
    group, graphs = group_of(data, kind), Pretended()
    masks = None
    if kind != "supermasks":
        dense = lt.dense_mask(group.models[0])
        masks = [
            lt.prune(lt.random_scores(dense, s), dense, 0.5, scope="layer")
            for s in range(group.size)
        ]
    masked, optimizer = masked_parameters(group, masks), Run(group, data, config, 0).optimizer
    step = Step(group, optimizer, config, masked, data.device)
    seeds = list(range(group.size))
    if recorded:
        update = PlannedStep(step, Plan(data, config, seeds, 0, config.steps), graphs)
    else:
        update = CalledStep(step, DataOrder(data, config.batch_size, seeds, augmented=False))
    losses = [float(update(i)[0]) for i in range(config.steps)]
    return group.state(), losses, graphs.log, update


@pytest.mark.parametrize("settings", SETTINGS)
@pytest.mark.parametrize("kind", ["single", "stack", "branches", "supermasks"])
def test_a_recorded_step_is_the_step(tiny_data, kind, settings):
    weights, losses, _, _ = run_steps(tiny_data, kind, SETTINGS[settings], recorded=False)
    again, losses_again, log, update = run_steps(tiny_data, kind, SETTINGS[settings], recorded=True)
    assert losses_again == pytest.approx(losses, rel=1e-4)
    assert losses[0] > losses[-1], "the steps train"
    for name, tensor in weights.items():
        assert torch.allclose(again[name].double(), tensor.double(), atol=1e-5), name
    assert log == ["warm up"] * WARM_UP + ["record"] + ["replay"] * (12 - WARM_UP)
    assert update.calls == 12


def test_a_replay_reads_batch_and_rate_where_the_counter_says(tiny_data):
    """What a recording holds are addresses: those of the plan stay the same through all epochs."""
    config = lt.TrainConfig(steps=20, batch_size=40, lr=0.1, schedule="cosine")
    plan, order = Plan(tiny_data, config, [3, 1], 0, 20), DataOrder(
        tiny_data, 40, [3, 1], augmented=False
    )  # fmt: skip
    places, seen = set(), []

    def step(x, y, lr, number):
        places.add((plan.rows.data_ptr(), plan.rates.data_ptr(), plan.counter.data_ptr()))
        seen.append((x.clone(), y.clone(), float(lr), int(number)))
        return x.sum(), x

    update = PlannedStep(step, plan, Pretended())
    for i in range(20):
        _, _, labels = update(i)
        x, y = order.batch(i)
        assert torch.equal(seen[i][0], x) and torch.equal(seen[i][1], y)
        assert torch.equal(labels, y)
        assert seen[i][3] == i and seen[i][2] == pytest.approx(
            lt.learning_rate(config, i), rel=1e-6
        )
    assert len(places) == 1 and len(seen) == 20


def test_a_diverged_replicate_leaves_the_sum_also_of_a_recorded_step(tiny_data):
    group = group_of(tiny_data, "stack")
    config = lt.TrainConfig(steps=12, batch_size=20, lr=0.1)
    with torch.no_grad():
        group.parameters["output.weight"][1].fill_(float("nan"))
    step = Step(group, Run(group, tiny_data, config, 0).optimizer, config, [], tiny_data.device)
    order = DataOrder(tiny_data, 20, [0, 1], augmented=False)
    assert step(*order.batch(0), 0.0)[0].isnan()
    step.drop(1)
    update = PlannedStep(step, Plan(tiny_data, config, [0, 1], 0, 12), Pretended())
    before = group.state()["fc1.weight"][0].clone()
    for i in range(5):
        assert update(i)[0].isfinite()
    now = group.state()["fc1.weight"][0]
    assert now.isfinite().all() and not torch.equal(now, before)


@pytest.mark.parametrize(
    ("device", "recordable", "count", "expected"),
    [
        ("cuda", True, 100, "recorded"),
        ("cuda", False, 100, "planned"),
        ("cuda", True, 5, "planned"),
        ("cpu", True, 100, "called"),
    ],
)
def test_what_is_recorded(tiny_data, monkeypatch, device, recordable, count, expected):
    monkeypatch.setattr(steps, "Graphs", lambda device: "graphs")
    group = SimpleNamespace(is_recordable=recordable)
    config = lt.TrainConfig(steps=100, batch_size=20)
    step = SimpleNamespace(device=torch.device(device), group=group, config=config)
    update = make_update(step, DataOrder(tiny_data, 20, [0], augmented=False), 0, count)
    if expected == "called":
        assert type(update) is CalledStep
    else:
        assert update.graphs == ("graphs" if expected == "recorded" else None)


def test_the_first_error_of_a_recording_counts(monkeypatch):
    """A recording that ran out of memory cannot be ended either, which is no other fault."""

    class Recording:
        def __init__(self, graph, stream):
            pass

        def __enter__(self):
            pass

        def __exit__(self, *_):
            raise RuntimeError("CUDA error: operation failed due to a previous error")

    monkeypatch.setattr(torch.cuda, "graph", Recording)
    monkeypatch.setattr(torch.cuda, "CUDAGraph", object)
    graphs = steps.Graphs.__new__(steps.Graphs)
    graphs.stream = None

    def full():
        raise torch.OutOfMemoryError("CUDA out of memory")

    with pytest.raises(torch.OutOfMemoryError):
        graphs.record(full)
    with pytest.raises(RuntimeError, match="previous error"):
        graphs.record(lambda: (1,))


def test_random_layers_and_drawn_masks_are_not_recorded(tiny_data):
    dropout = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Dropout(), torch.nn.Linear(64, 10))
    assert not SingleModel(dropout).is_recordable
    assert SingleModel(lt.build_model("resnet_20", seed=0)).is_recordable
    model = lt.build_model("mlp_12_6", seed=0, data=tiny_data)
    for design, expected in (
        (lt.SupermaskConfig("sampled", None), False),
        (lt.SupermaskConfig("edge_popup", 0.5, anneal=0.5), False),
        (lt.SupermaskConfig("edge_popup", 0.5), True),
    ):
        assert MaskedGroup([model], design, 10, [0]).is_recordable is expected


@pytest.mark.parametrize("kind", ["branches", "supermasks"])
def test_channels_last_changes_the_order_in_memory_and_nothing_else(kind):
    """On a GPU in reduced precision; here asked for in full precision, where results compare."""
    generator = torch.Generator().manual_seed(0)
    x = torch.randint(0, 256, (40, 3, 32, 32), dtype=torch.uint8, generator=generator)
    data = lt.make_dataset("noise", (x, torch.arange(40) % 4), None, (x, torch.arange(40) % 4))
    config = lt.TrainConfig(steps=3, batch_size=8, lr=0.05, augment=True)
    weights, orders = [], []
    for last in (False, True):
        models = [lt.build_model("vgg_tiny", seed=s, data=data) for s in range(2)]
        for model in models:
            model.conv2.register_forward_pre_hook(
                lambda _, inputs: orders.append(
                    inputs[0].is_contiguous(memory_format=torch.channels_last)
                )
            )
        if kind == "supermasks":
            design = lt.SupermaskConfig("edge_popup", 0.5)
            group = MaskedGroup(models, design, 3, [0, 1], channels_last=last)
            assert group.stack is None
        else:
            group = Branches(models, channels_last=last)
        step = Step(group, Run(group, data, config, 0).optimizer, config, [], data.device)
        update = PlannedStep(step, Plan(data, config, [0, 1], 0, 3, channels_last=last))
        for i in range(config.steps):
            update(i)
        weights.append(group.state())
    assert orders == [False] * 6 + [True] * 6
    for name, tensor in weights[0].items():
        assert torch.allclose(tensor.double(), weights[1][name].double(), atol=1e-4), name
