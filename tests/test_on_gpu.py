"""What a GPU must agree with: the plain loop on the CPU. Skipped where there is none.

Rounding differs between devices, and training makes the difference grow. So one step from equal
states is compared closely (in double precision, where the package computes in what it is given),
ten steps loosely, and the ends of runs statistically.

With LTH_TUTORIAL_PRETEND_GPU=1 the tests themselves are rehearsed on a CPU.
"""

import copy
import os
from dataclasses import replace

import pytest
import torch
from torch import nn

import lth_tutorial as lt
from lth_tutorial.data.dataset import DataOrder
from lth_tutorial.pruning import radix
from lth_tutorial.supermask.group import MaskedGroup
from lth_tutorial.supermask.selection import highest, largest
from lth_tutorial.training import steps
from lth_tutorial.training.branches import Branches, can_branch
from lth_tutorial.training.groups import Stack, can_stack
from lth_tutorial.training.plan import Plan
from lth_tutorial.training.precision import arithmetic
from lth_tutorial.training.progress import Run
from lth_tutorial.training.steps import Graphs, PlannedStep, Step, masked_parameters

ON_GPU = torch.cuda.is_available()
PRETENDED = not ON_GPU and os.environ.get("LTH_TUTORIAL_PRETEND_GPU") == "1"
GPU, CPU = torch.device("cuda" if ON_GPU else "cpu"), torch.device("cpu")
pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not (ON_GPU or PRETENDED), reason="needs a CUDA device"),
]
needs_gpu = pytest.mark.skipif(not ON_GPU, reason="cannot be pretended")

CONFIG = lt.TrainConfig(steps=30, batch_size=20, lr=0.05, eval_every=10, schedule="cosine")
ADAM = replace(CONFIG, optimizer="adam", lr=3e-3)
SEEDS = [0, 1]


class Called:
    """Stands in for recordings in pretence."""

    def warm_up(self, run):
        return run()

    def record(self, run):
        return run


def graphs():
    return Graphs(GPU) if ON_GPU else Called()


@pytest.fixture(scope="module")
def images() -> lt.Dataset:
    generator = torch.Generator().manual_seed(0)
    y = torch.arange(300) % 10
    side = 8 if PRETENDED else 32
    x = torch.randint(0, 256, (300, 3, side, side), dtype=torch.uint8, generator=generator)
    x[:, :, : side // 4] = (25 * y).view(-1, 1, 1, 1).to(torch.uint8)  # something to learn
    return lt.make_dataset("noise", (x, y), (x[:50], y[:50]), (x[:50], y[:50]))


def networks(name, data, device=CPU, seeds=SEEDS):
    return [lt.build_model(name, seed=s, data=data).to(device) for s in seeds]


def random_masks(models, seeds=SEEDS):
    device = next(models[0].parameters()).device
    dense = {n: kept.cpu() for n, kept in lt.dense_mask(models[0]).items()}
    masks = [lt.prune(lt.random_scores(dense, s), dense, 0.5, scope="layer") for s in seeds]
    return [{n: kept.to(device) for n, kept in mask.items()} for mask in masks]


def make_step(group, data, config, masks=None):
    masked = masked_parameters(group, masks)
    steps.apply_masks(masked)
    return Step(group, Run(group, data, config, 0).optimizer, config, masked, data.device)


def distance(state, other, floor=0.01) -> float:
    """Return the largest distance of two states, tensor by tensor, relative to the tensor.

    In root mean squares; what is smaller than `floor`, a step's change, counts as that large: some
    gradients are exactly zero (of the keys' biases in attention), and rounding all that is left.
    """

    def size(tensor):
        return float(tensor.cpu().double().square().mean().sqrt())

    return max(
        size(state[n].cpu().double() - other[n].cpu().double()) / (size(other[n]) + floor)
        for n in other
        if other[n].is_floating_point() and other[n].numel()
    )


# Of the transformer: its table of positions is no weight.
@pytest.mark.filterwarnings("ignore::lth_tutorial.networks.weights.LeftOutWarning")
@pytest.mark.parametrize("config", [CONFIG, ADAM], ids=["sgd", "adam"])
@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("mlp_bn_48_48", Stack), ("vgg_tiny", Stack), ("conv_2", Branches),
        ("resnet_20", Branches), ("vit_16_2_1", Branches),
    ],
)  # fmt: skip
def test_one_step_in_double_precision_is_that_of_the_cpu(images, name, kind, config):
    """Weights, masks, momentum and batch norm, of two replicates; ten steps loosely."""
    config = replace(config, weight_decay=1e-3, bn_l1=1e-4 if "bn" in name else 0.0)
    order, found = DataOrder(images, 20, SEEDS, augmented=False), {}
    for device in (CPU, GPU):
        models = [model.double() for model in networks(name, images, device)]
        group = kind(models, channels_last=True) if kind is Branches else kind(models)
        step = make_step(group, images.to(device), config, random_masks(models))
        after = []
        for i in range(10):
            x, y = order.batch(i)
            step(x.double().to(device), y.to(device), 0.01)
            after.append({n: t.cpu().clone() for n, t in group.state().items()})
        found[device.type, device is CPU] = after
    here, there = found[CPU.type, True], found[GPU.type, False]
    for n, mask in random_masks(networks(name, images))[1].items():
        for after in (here[0], there[0], there[-1]):
            assert not after[n][1][~mask].any(), f"{n}: the same weights are pruned"
    assert distance(there[0], here[0]) < 1e-8
    assert distance(there[-1], here[-1]) < 1e-4


@pytest.mark.parametrize("scope", ["layer", "global"])
@pytest.mark.parametrize("method", ["edge_popup", "biprop", "sampled"])
@pytest.mark.parametrize("name", ["mlp_bn_48_48", "resnet_20"])
def test_one_step_of_a_supermask_is_that_of_the_cpu(images, name, method, scope):
    """In single precision: gradients differ in the last bits, and with them scores; masks that
    are chosen by the same scores do not differ at all."""
    keep = None if method == "sampled" else 0.3
    design = lt.SupermaskConfig(method, keep, scope, learn_batchnorm=True)
    order, found = DataOrder(images, 20, SEEDS, augmented=False), []
    for device in (CPU, GPU):
        group = MaskedGroup(networks(name, images, device), design, 30, SEEDS)
        step = make_step(group, images.to(device), CONFIG)
        first = {n: mask.cpu() for n, mask in group.masks().items()}
        with arithmetic("fp32", device):
            x, y = order.batch(0)
            step(x.to(device), y.to(device), 0.1)
        found.append((first, {n: t.cpu().clone() for n, t in group.state().items()}))
    (mask, state), (mask_there, state_there) = found
    if method != "sampled":  # there a number is compared with a sigmoid, which may round otherwise
        assert all(torch.equal(mask[n], mask_there[n]) for n in mask)
    assert distance(state_there, state) < 1e-3


@pytest.mark.parametrize("config", [CONFIG, ADAM], ids=["sgd", "adam"])
@pytest.mark.parametrize("kind", ["stack", "branches", "edge_popup", "biprop"])
def test_a_recording_computes_what_python_calls_compute(images, kind, config):
    """From equal states on equal batches, ten steps, of them seven replayed."""
    data, states = images.to(GPU), []
    config = replace(config, lr=1e-3, augment=True)
    for recorded in (False, True):
        name = "mlp_bn_48_48" if kind == "stack" else "resnet_20"
        models = networks(name, images, GPU)
        if kind == "stack":
            group = Stack(models)
        elif kind == "branches":
            group = Branches(models)
        else:
            group = MaskedGroup(models, lt.SupermaskConfig(kind, 0.5), 30, SEEDS)
        masks = None if kind in ("edge_popup", "biprop") else random_masks(models)
        step = make_step(group, data, config, masks)
        update = PlannedStep(step, Plan(data, config, SEEDS, 0, 30), graphs() if recorded else None)
        with arithmetic("fp32", GPU):
            for i in range(10):
                loss, logits, y = update(i)
        assert loss.isfinite() and logits.shape[:2] == y.shape == (2, 20)
        states.append(group.state())
    assert distance(states[1], states[0]) < 2e-2


@pytest.mark.parametrize("precision", ["fp32", "tf32", "bf16"])
def test_branches_learn_as_each_network_alone(images, precision):
    config = replace(CONFIG, precision=precision, lr=0.02, augment=True)
    data, seeds = images.to(GPU), [0, 1, 2]
    alone = [
        lt.train(model, data, config, data_seed=s)
        for s, model in zip(seeds, networks("resnet_20", images, GPU, seeds), strict=True)
    ]
    models = networks("resnet_20", images, GPU, seeds)
    assert can_branch(models) or PRETENDED
    together = lt.train_replicates(models, data, config, data_seeds=seeds)
    for one, other in zip(alone, together, strict=True):
        assert one.history[0]["val_loss"] == pytest.approx(other.history[0]["val_loss"], rel=1e-2)
        assert lt.state_hash(one.start) == lt.state_hash(other.start)
    losses = [[r.history[-1]["val_loss"] for r in results] for results in (alone, together)]
    before = sum(r.history[0]["val_loss"] for r in alone) / 3
    means = [sum(each) / 3 for each in losses]
    assert means[1] < before and means[1] == pytest.approx(means[0], abs=0.3 * before)


def test_batches_are_those_of_the_cpu_bit_for_bit(images):
    """Before normalisation, which is taken out here: mean 0, deviation 1."""
    plain = replace(images, mean=torch.zeros(3), std=torch.ones(3))
    for augment in (True, False):
        config = replace(CONFIG, augment=augment)
        plan = Plan(plain.to(GPU), config, [3, 7], 4, 30)
        order = DataOrder(plain, 20, [3, 7], augmented=augment)
        for i in range(4, 30):
            plan.prepare(i)
            x, y, lr, _ = plan.read()
            plan.advance()
            assert torch.equal(x.cpu(), order.batch(i)[0])
            assert torch.equal(y.cpu(), order.batch(i)[1])
            assert float(lr) == pytest.approx(lt.learning_rate(config, i), rel=1e-6)


@needs_gpu
def test_masks_are_chosen_at_once_as_on_the_cpu():
    assert radix.is_available(GPU), "Triton comes with PyTorch for CUDA"
    generator = torch.Generator().manual_seed(0)
    many = torch.randn(1, 11_000_000, generator=generator)
    many[:, ::7] = many[0, 3]
    small = torch.randint(-2, 3, (3, 5_000), generator=generator).float()
    zeros = torch.zeros(2, 9_000)
    zeros[:, ::2] *= -1
    for rows in (many, small, zeros, torch.ones(1, 1), torch.randn(4, 4_097, generator=generator)):
        n = rows.shape[1]
        for count in {1, max(1, n // 5), n}:
            choose = radix.Highest([(i, n) for i in range(len(rows))], [count] * len(rows), GPU)
            flat = rows.flatten().to(GPU)
            found = choose(flat.view(torch.int32), magnitudes=True).cpu().view(rows.shape)
            assert torch.equal(found, largest(rows, count)), count
            found = choose(radix.ordered_bits(flat)).cpu().view(rows.shape)
            assert torch.equal(found, highest(rows, count)), count


@pytest.mark.parametrize("scope", ["layer", "global"])
def test_pruning_is_that_of_the_cpu(images, scope):
    model = lt.build_model("resnet_20", seed=0, data=images)
    mask, scores = lt.dense_mask(model), lt.snapshot(model)
    scores = {name: scores[name].round(decimals=2) for name in mask}  # ties
    there = {name: kept.to(GPU) for name, kept in mask.items()}
    for _ in range(3):
        mask = lt.prune(scores, mask, 0.4, scope=scope)
        on_gpu = {name: each.to(GPU) for name, each in scores.items()}
        there = lt.prune(on_gpu, there, 0.4, scope=scope)
        assert all(torch.equal(mask[name], there[name].cpu()) for name in mask)


@pytest.mark.parametrize("name", ["mlp_48_48", "mlp_bn_48_48"])
def test_a_lottery_experiment_ends_where_the_cpu_ends(digits, name):
    """Means over five seeds; the accuracies of seeds spread by about 0.015 here."""
    config = replace(ADAM, steps=120, eval_every=None)
    imp = lt.IMPConfig(rounds=2, fraction=0.3)
    cpu, gpu = (
        lt.lottery_experiment(name, digits.to(device), config, imp, seeds=range(5))
        for device in (CPU, GPU)
    )
    assert cpu[["arm", "seed", "round"]].equals(gpu[["arm", "seed", "round"]])
    assert gpu["density"].tolist() == pytest.approx(cpu["density"].tolist())
    means = [f.groupby(["arm", "round"])["accuracy"].mean() for f in (cpu, gpu)]
    assert (means[0] > 0.7).all()
    assert (means[1] - means[0]).abs().max() < 0.05


@pytest.mark.parametrize("method", ["edge_popup", "biprop", "sampled"])
def test_supermasks_end_where_those_of_the_cpu_end(digits, method):
    config = replace(CONFIG, steps=120, lr=50.0 if method == "sampled" else 0.5, eval_every=None)
    design = lt.SupermaskConfig(method, None if method == "sampled" else 0.5)
    seeds, means = list(range(4)), []
    for device in (CPU, GPU):
        models = networks("mlp_48_48", digits, device, seeds)
        found = lt.train_supermasks(models, digits.to(device), design, config, seeds=seeds)
        means.append(sum(each.accuracy for each in found) / 4)
    assert means[1] == pytest.approx(means[0], abs=0.06) and means[0] > 0.5


@pytest.mark.parametrize("name", ["mlp_48_48", "resnet_20"])
@pytest.mark.parametrize("continued_on", ["gpu", "cpu"])
def test_a_run_continues_from_its_folder(images, tmp_path, monkeypatch, name, continued_on):
    """Also on another machine, without a GPU."""
    seeds, config = [0, 1], replace(ADAM, steps=24, eval_every=12)

    def train(folder, device, on_step=lambda: None):
        models = networks(name, images, device, seeds)
        return lt.train_replicates(
            models, images.to(device), config, data_seeds=seeds, workdir=folder, on_step=on_step
        )

    taken = []

    def killed():
        taken.append(1)
        if len(taken) == 41:
            raise KeyboardInterrupt

    monkeypatch.setattr("lth_tutorial.training.checkpoints.SAVE_EVERY_S", 0)
    with pytest.raises(KeyboardInterrupt):
        train(tmp_path, GPU, killed)
    monkeypatch.undo()
    updates = []
    monkeypatch.setattr(
        "lth_tutorial.training.loop.make_update",
        lambda *a: updates.append(a[2]) or steps.make_update(*a),
    )
    again = train(tmp_path, GPU if continued_on == "gpu" else CPU)
    assert updates and updates[0] > 0, "not from the start"
    whole = train(None, CPU)
    for one, other in zip(whole, again, strict=True):
        assert [p["step"] for p in other.history] == [0, 12, 24]
        before = one.history[0]["val_loss"]
        assert other.history[-1]["val_loss"] == pytest.approx(
            one.history[-1]["val_loss"], abs=0.3 * before
        )


class InDouble(nn.Module):
    """A network that takes what it is given in double precision."""

    def __init__(self, model):
        super().__init__()
        self.model = model.double()

    def forward(self, x):
        return self.model(x.double())


@pytest.mark.parametrize("affine", [True, False])
@pytest.mark.parametrize("name", ["snip_scores", "grasp_scores", "synflow_scores"])
def test_criteria_score_as_on_the_cpu(images, name, affine):
    """In double precision: a loss that is near its minimum has scores of little but rounding."""
    model = lt.build_model("resnet_20", seed=0, data=images)
    for module in model.modules() if not affine else ():
        if isinstance(module, nn.BatchNorm2d):
            module.affine, module.weight, module.bias = False, None, None
    model, criterion = InDouble(model), getattr(lt, name)
    mask = lt.dense_mask(model)
    cpu = criterion(model, images, mask)
    there = {name: kept.to(GPU) for name, kept in mask.items()}
    gpu = criterion(copy.deepcopy(model).to(GPU), images.to(GPU), there)
    assert distance(gpu, cpu, floor=0) < 1e-5


def test_what_trains_as_one():
    def on_gpu(name):
        return networks(name, None, GPU)

    if ON_GPU:
        for name in ("lenet_300_100", "mlp_1000_1000", "vgg_tiny"):
            assert can_stack(on_gpu(name))
        for name in ("conv_6", "vgg_16", "resnet_20", "vit_16_2_1"):
            assert not can_stack(on_gpu(name)) and can_branch(on_gpu(name))
    dropout = nn.Sequential(nn.Flatten(), nn.Dropout(), nn.Linear(64, 10)).to(GPU)
    assert not can_branch([dropout, copy.deepcopy(dropout)])


@pytest.mark.parametrize("name", ["resnet_20"] if PRETENDED else ["vgg_11", "resnet_20"])
def test_reduced_precision_learns_as_full_precision_does(images, name):
    losses = {}
    for precision in ("fp32", "tf32", "bf16"):
        (model,) = networks(name, images, GPU, [0])
        config = replace(CONFIG, steps=60, batch_size=50, precision=precision)
        losses[precision] = lt.train(model, images.to(GPU), config).history[-1]["val_loss"]
        assert next(model.parameters()).is_contiguous(), "the order in memory is the user's"
    assert losses["bf16"] == pytest.approx(losses["fp32"], abs=0.3)
    assert losses["tf32"] == pytest.approx(losses["fp32"], abs=0.3)


def test_a_diverged_branch_is_named_and_the_others_go_on(images):
    models = networks("resnet_20", images, GPU, [0, 1])
    with torch.no_grad():
        models[1].output.weight.fill_(float("nan"))
    config = replace(CONFIG, eval_every=None)
    with pytest.warns(lt.DivergenceWarning, match="data_seed 1"):
        results = lt.train_replicates(models, images.to(GPU), config, data_seeds=[0, 1])
    assert [r.diverged_step is None for r in results] == [True, False]
    assert all(t.isfinite().all() for t in results[0].final.values())


@needs_gpu
def test_what_does_not_fit_is_trained_in_parts(images):
    """Real memory: as much as three of six networks need, found by training two."""
    config = replace(CONFIG, steps=25, batch_size=250, eval_every=None)
    data, total = images.to(GPU), torch.cuda.get_device_properties(GPU).total_memory

    def train(seeds):
        models = networks("resnet_20", images, GPU, seeds)
        return lt.train_replicates(models, data, config, data_seeds=seeds)

    torch.cuda.empty_cache()
    torch.cuda.reset_peak_memory_stats()
    train([0, 1])
    needed = torch.cuda.max_memory_reserved()
    torch.cuda.empty_cache()
    torch.cuda.set_per_process_memory_fraction(min(1.0, 1.7 * needed / total))
    try:
        with pytest.warns(lt.MemoryWarning, match="6 networks at once do not fit"):
            results = train(range(6))
    finally:
        torch.cuda.set_per_process_memory_fraction(1.0)
        torch.cuda.empty_cache()
    assert all(t.isfinite().all() for r in results for t in r.final.values())
