"""What a GPU is told to compute in, with a GPU that is made up."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

import lth_tutorial as lt
from lth_tutorial.training import checks
from lth_tutorial.training.precision import arithmetic, check_precision

GPU, CPU = torch.device("cuda"), torch.device("cpu")


@pytest.fixture
def old_gpu(monkeypatch):
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: (7, 5))
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda device: "Tesla T4")


@pytest.mark.parametrize("precision", ["bf16", "tf32"])
def test_a_gpu_that_cannot_says_so_and_names_what_to_use(old_gpu, precision):
    with pytest.raises(
        ValueError, match=f"'{precision}' needs .* 8.0 .*Tesla T4 has 7.5; .*'fp32'"
    ):
        check_precision(precision, GPU)
    check_precision("fp32", GPU)
    check_precision(precision, CPU)


def test_it_says_so_before_the_first_step(tiny_data, config, monkeypatch):
    def refuse(precision, device):
        raise ValueError(f"not {precision}")

    monkeypatch.setattr(checks, "check_precision", refuse)
    steps = []
    models = [lt.build_model("mlp_12", seed=0, data=tiny_data)]
    with pytest.raises(ValueError, match="not bf16"):
        lt.train_replicates(
            models, tiny_data, replace(config, precision="bf16"), data_seeds=[0],
            on_step=lambda: steps.append(1),
        )  # fmt: skip
    assert not steps


@pytest.mark.parametrize("precision", ["fp32", "tf32", "bf16"])
def test_settings_of_pytorch_are_put_back(monkeypatch, precision):
    monkeypatch.setattr(torch.cuda, "device", lambda device: torch.no_grad())

    def settings():
        cudnn = torch.backends.cudnn
        return torch.backends.cuda.matmul.allow_tf32, cudnn.allow_tf32, cudnn.benchmark

    before = settings()
    with pytest.raises(KeyError), arithmetic(precision, GPU):
        assert settings() == (precision == "tf32", precision == "tf32", True)
        raise KeyError
    assert settings() == before
    with arithmetic("tf32", CPU):
        assert settings() == before


def test_on_a_cpu_tf32_is_fp32(tiny_data, config):
    states = []
    for precision in ("fp32", "tf32"):
        model = lt.build_model("mlp_12", seed=0, data=tiny_data)
        result = lt.train(model, tiny_data, replace(config, precision=precision))
        states.append(lt.state_hash(result.final))
    assert states[0] == states[1]
    with pytest.raises(ValueError, match="'tf23'.*Did you mean 'tf32'"):
        replace(config, precision="tf23")
