"""What a GPU must agree with: the plain loop on the CPU. Skipped where there is none."""

import copy
from dataclasses import replace

import pytest
import torch

import lth_tutorial as lt
from lth_tutorial.training.groups import can_stack

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device"),
]

CONFIG = lt.TrainConfig(steps=30, batch_size=20, lr=0.1, eval_every=10, schedule="cosine")
ADAM = replace(CONFIG, optimizer="adam", lr=3e-3)
IMP = lt.IMPConfig(rounds=2, fraction=0.3)


@pytest.fixture(scope="module")
def images() -> lt.Dataset:
    generator = torch.Generator().manual_seed(0)
    y = torch.arange(300) % 10
    x = torch.randint(0, 256, (300, 3, 32, 32), dtype=torch.uint8, generator=generator)
    x[:, :, :8] = (25 * y).view(-1, 1, 1, 1).to(torch.uint8)  # something to learn
    return lt.make_dataset("noise", (x, y), (x[:50], y[:50]), (x[:50], y[:50]))


def both(train, data):
    return train(data), train(data.to("cuda"))


@pytest.fixture(autouse=True)
def full_precision():
    """Convolutions in TF32 would hide a wrong step behind their rounding."""
    before = torch.backends.cudnn.allow_tf32
    torch.backends.cudnn.allow_tf32 = False
    yield
    torch.backends.cudnn.allow_tf32 = before


@pytest.mark.parametrize("config", [CONFIG, ADAM], ids=["sgd", "adam"])
@pytest.mark.parametrize("name", ["conv_2", "resnet_20", "vgg_tiny", "vit_64_4_2"])
def test_one_network_trains_as_on_the_cpu(images, name, config):
    config = replace(config, steps=25, lr=config.lr / 10)

    def train(data):
        model = lt.build_model(name, seed=0, data=data).to(data.device)
        dense = lt.dense_mask(model)
        mask = {n: m.to(data.device) for n, m in lt.prune(
            lt.random_scores(dense, 0), dense, 0.5, scope="layer").items()}  # fmt: skip
        return lt.train(model, data, config, mask=mask)

    cpu, gpu = both(train, images)
    for here, there in zip(cpu.history, gpu.history, strict=True):
        assert there["val_loss"] == pytest.approx(here["val_loss"], rel=2e-2)
    for name, tensor in cpu.final.items():
        if tensor.is_floating_point():
            there = gpu.final[name].cpu()
            assert torch.equal(there == 0, tensor == 0), "the same weights are pruned"
            assert torch.allclose(there, tensor, atol=5e-3), name


@pytest.mark.parametrize("config", [CONFIG, ADAM], ids=["sgd", "adam"])
@pytest.mark.parametrize("name", ["mlp_48_48", "mlp_bn_48_48"])
def test_a_lottery_experiment_gives_the_rows_of_the_cpu(digits, name, config):
    def rows(data):
        return lt.lottery_experiment(name, data, config, IMP, seeds=range(3))

    cpu, gpu = both(rows, digits)
    assert cpu[["arm", "seed", "round"]].equals(gpu[["arm", "seed", "round"]])
    assert gpu["accuracy"].to_numpy() == pytest.approx(cpu["accuracy"].to_numpy(), abs=0.02)


@pytest.mark.parametrize("method", ["edge_popup", "biprop", "sampled"])
def test_supermasks_are_those_of_the_cpu(digits, method):
    config = replace(CONFIG, lr=50.0 if method == "sampled" else 0.5)
    design = lt.SupermaskConfig(method, None if method == "sampled" else 0.5)

    def search(data):
        models = [lt.build_model("mlp_48_48", seed=s, data=data).to(data.device) for s in (0, 1)]
        return lt.train_supermasks(models, data, design, config, seeds=[0, 1])

    cpu, gpu = both(search, digits)
    for here, there in zip(cpu, gpu, strict=True):
        mask = {name: kept.cpu() for name, kept in there.mask.items()}
        assert lt.overlap(here.mask, mask) > 0.97
        assert there.accuracy == pytest.approx(here.accuracy, abs=0.05)


def test_a_recording_computes_what_python_calls_compute(digits, monkeypatch):
    data = digits.to("cuda")

    def final(shortest):
        monkeypatch.setattr("lth_tutorial.training.steps._SHORTEST", shortest)
        models = [lt.build_model("mlp_48_48", seed=s, data=data).to("cuda") for s in range(3)]
        return lt.train_replicates(models, data, ADAM, data_seeds=range(3))

    for recorded, called in zip(final(0), final(10**9), strict=True):
        for name, tensor in recorded.final.items():
            assert torch.allclose(tensor, called.final[name], atol=1e-5)


def test_a_run_continues_from_its_folder(digits, tmp_path, monkeypatch):
    data = digits.to("cuda")

    def train(folder):
        model = lt.build_model("mlp_48_48", seed=0, data=data).to("cuda")
        return lt.train(model, data, ADAM, workdir=folder)

    whole = train(None)
    monkeypatch.setattr("lth_tutorial.training.checkpoints.Checkpoints.is_due", lambda self: True)
    monkeypatch.setattr("lth_tutorial.training.checkpoints.Checkpoints.save_results", _stop)
    with pytest.raises(KeyboardInterrupt):
        train(tmp_path)
    monkeypatch.undo()
    again = train(tmp_path)
    for name, tensor in whole.final.items():
        assert torch.allclose(tensor, again.final[name], atol=1e-4)


def _stop(*_):
    raise KeyboardInterrupt


@pytest.mark.parametrize("affine", [True, False])
def test_criteria_score_as_on_the_cpu(images, affine):
    model = lt.build_model("resnet_20", seed=0, data=images)
    for module in model.modules() if not affine else ():
        if isinstance(module, torch.nn.BatchNorm2d):
            module.affine, module.weight, module.bias = False, None, None
    mask = lt.dense_mask(model)
    for criterion in (lt.snip_scores, lt.grasp_scores, lt.synflow_scores):
        cpu = criterion(model, images, mask)
        there = {name: kept.cuda() for name, kept in mask.items()}
        gpu = criterion(copy.deepcopy(model).cuda(), images.to("cuda"), there)
        for name in mask:
            scale = cpu[name].abs().max()
            assert torch.allclose(gpu[name].cpu().double() / scale, cpu[name].double() / scale,
                                  atol=1e-3), (criterion.__name__, name)  # fmt: skip


def test_dense_networks_are_stacked_at_any_size_and_large_convolutions_not():
    def stacked(name):
        return can_stack([lt.build_model(name, seed=s).cuda() for s in range(2)])

    assert stacked("lenet_300_100") and stacked("mlp_1000_1000") and stacked("vgg_tiny")
    assert not stacked("conv_6") and not stacked("vgg_16")


def test_bfloat16_with_channels_last_learns_as_full_precision_does(images):
    config = replace(CONFIG, steps=60, batch_size=50)
    losses = {}
    for precision in ("fp32", "bf16"):
        model = lt.build_model("vgg_11", seed=0, data=images).cuda()
        config = replace(config, precision=precision)
        losses[precision] = lt.train(model, images.to("cuda"), config).history[-1]["val_loss"]
    assert losses["bf16"] == pytest.approx(losses["fp32"], abs=0.3)
