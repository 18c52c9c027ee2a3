"""The recorded step: all but the recording itself, which needs a GPU (tests/test_on_gpu.py)."""

from types import SimpleNamespace

import pytest
import torch

import lth_tutorial as lt
from lth_tutorial.data.dataset import DataOrder
from lth_tutorial.supermask.group import MaskedGroup
from lth_tutorial.training.groups import SingleModel, Stack
from lth_tutorial.training.progress import Run
from lth_tutorial.training.steps import WARM_UP, RecordedStep, Step, make_step, masked_parameters

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
    order = DataOrder(data, config.batch_size, range(group.size), augmented=False)
    masked, optimizer = masked_parameters(group, masks), Run(group, data, config, 0).optimizer
    step = Step(group, optimizer, config, masked, data.device)
    update = RecordedStep(step, graphs) if recorded else step
    losses = [
        float(update(*order.batch(i), lt.learning_rate(config, i))[0]) for i in range(config.steps)
    ]
    return group.state(), losses, graphs.log, update


@pytest.mark.parametrize("settings", SETTINGS)
@pytest.mark.parametrize("kind", ["single", "stack", "supermasks"])
def test_a_recorded_step_is_the_step(tiny_data, kind, settings):
    weights, losses, _, _ = run_steps(tiny_data, kind, SETTINGS[settings], recorded=False)
    again, losses_again, log, update = run_steps(tiny_data, kind, SETTINGS[settings], recorded=True)
    assert losses_again == pytest.approx(losses, rel=1e-4)
    assert losses[0] > losses[-1], "the steps train"
    for name, tensor in weights.items():
        assert torch.allclose(again[name].double(), tensor.double(), atol=1e-5), name
    assert log == ["warm up"] * WARM_UP + ["record"] + ["replay"] * (12 - WARM_UP)
    assert update.calls == 12


def test_a_replay_reads_batch_and_rate_from_the_tensors_of_the_recording(tiny_data):
    seen = []

    def step(x, y, lr, number):
        places = (x.data_ptr(), y.data_ptr(), lr.data_ptr(), number.data_ptr())
        seen.append((places, x.clone(), float(lr), int(number)))
        return x.sum(), x

    update = RecordedStep(step, Pretended())
    batches = [torch.full((1, 2, 3), float(i)) for i in range(6)]
    for i, x in enumerate(batches):
        update(x, torch.zeros(1, 2), 0.1 * i, i)
    assert len({one[0] for one in seen}) == 1, "always at the same addresses"
    assert [float(one[1].mean()) for one in seen] == [0, 1, 2, 3, 4, 5]
    assert [one[2] for one in seen] == pytest.approx([0, 0.1, 0.2, 0.3, 0.4, 0.5])
    assert [one[3] for one in seen] == [0, 1, 2, 3, 4, 5]


def test_a_diverged_replicate_leaves_the_sum_also_of_a_recorded_step(tiny_data):
    group = group_of(tiny_data, "stack")
    config = lt.TrainConfig(steps=12, batch_size=20, lr=0.1)
    with torch.no_grad():
        group.parameters["output.weight"][1].fill_(float("nan"))
    step = Step(group, Run(group, tiny_data, config, 0).optimizer, config, [], tiny_data.device)
    order = DataOrder(tiny_data, 20, [0, 1], augmented=False)
    assert step(*order.batch(0), 0.0)[0].isnan()
    step.drop(1)
    update, before = RecordedStep(step, Pretended()), group.state()["fc1.weight"][0].clone()
    for i in range(5):
        loss, _ = update(*order.batch(i), 0.1)
        assert loss.isfinite()
    now = group.state()["fc1.weight"][0]
    assert now.isfinite().all() and not torch.equal(now, before)


@pytest.mark.parametrize(
    ("device", "recordable", "steps", "expected"),
    [
        ("cuda", True, 100, RecordedStep),
        ("cuda", False, 100, SimpleNamespace),
        ("cuda", True, 5, SimpleNamespace),
        ("cpu", True, 100, SimpleNamespace),
    ],
)
def test_what_is_recorded(device, recordable, steps, expected):
    group = SimpleNamespace(is_recordable=recordable)
    step = SimpleNamespace(device=torch.device(device), group=group)
    assert type(make_step(step, steps)) is expected


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


@pytest.mark.parametrize("kind", ["single", "supermask"])
def test_channels_last_changes_the_order_in_memory_and_nothing_else(kind):
    """On a GPU in bfloat16; here switched on by hand, in full precision, where results compare."""
    generator = torch.Generator().manual_seed(0)
    x = torch.randint(0, 256, (40, 3, 32, 32), dtype=torch.uint8, generator=generator)
    data = lt.make_dataset("noise", (x, torch.arange(40) % 4), None, (x, torch.arange(40) % 4))
    config = lt.TrainConfig(steps=3, batch_size=8, lr=0.05)
    weights, orders = [], []
    for switched_on in (False, True):
        model = lt.build_model("vgg_tiny", seed=0, data=data)
        model.conv2.register_forward_pre_hook(
            lambda _, inputs: orders.append(
                inputs[0].is_contiguous(memory_format=torch.channels_last)
            )
        )
        design = lt.SupermaskConfig("edge_popup", 0.5)
        group = MaskedGroup([model], design, 3, [0]) if kind == "supermask" else SingleModel(model)
        step = Step(group, Run(group, data, config, 0).optimizer, config, [], data.device)
        assert not step.channels_last
        step.channels_last = switched_on
        order = DataOrder(data, config.batch_size, [0], augmented=False)
        for i in range(config.steps):
            step(*order.batch(i), config.lr)
        weights.append(group.state())
    assert orders == [False] * 3 + [True] * 3
    for name, tensor in weights[0].items():
        assert torch.allclose(tensor.double(), weights[1][name].double(), atol=1e-4), name
