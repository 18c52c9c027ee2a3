from __future__ import annotations

import pytest
import torch

import lth_tutorial as lt


def test_lenet_300_100_has_the_papers_266_200_weights():
    model = lt.build_model("lenet_300_100", seed=0)
    assert sum(kept.numel() for kept in lt.dense_mask(model).values()) == 266_200
    assert model(torch.zeros(2, 1, 28, 28)).shape == (2, 10)


def test_the_live_network_has_11_900_weights(digits):
    model = lt.build_model("mlp_100_50", seed=0, data=digits)
    assert {n: tuple(m.shape) for n, m in lt.dense_mask(model).items()} == {
        "fc1.weight": (100, 64),
        "fc2.weight": (50, 100),
        "output.weight": (10, 50),
    }


def test_weights_are_glorot_normal_and_biases_zero():
    model = lt.build_model("lenet_300_100", seed=0)
    weight = model.fc1.weight
    assert abs(weight.std().item() / (2 / (784 + 300)) ** 0.5 - 1) < 0.01
    assert all(p.abs().max() == 0 for name, p in model.named_parameters() if "bias" in name)


def test_a_uniform_network_has_weights_of_the_size_that_pytorch_draws():
    model = lt.build_model("mlp_bn_uniform_300_300", seed=0)
    own = torch.nn.Linear(300, 300).weight
    assert abs(model.fc2.weight.std().item() / own.std().item() - 1) < 0.01
    assert model.fc2.weight.abs().max() <= 300**-0.5
    assert all(p.abs().max() == 0 for name, p in model.named_parameters() if "bias" in name)
    again = lt.build_model("mlp_bn_uniform_300_300", seed=1)
    lt.reinitialize(again, 0)
    assert torch.equal(model.fc2.weight, again.fc2.weight)


def test_initial_weights_belong_to_the_seed_alone():
    torch.manual_seed(0)
    state = torch.get_rng_state()
    a = lt.snapshot(lt.build_model("mlp_7", seed=5))
    assert torch.equal(state, torch.get_rng_state()), "the global generator was used"
    torch.manual_seed(99)
    assert lt.state_hash(a) == lt.state_hash(lt.snapshot(lt.build_model("mlp_7", seed=5)))
    assert lt.state_hash(a) != lt.state_hash(lt.snapshot(lt.build_model("mlp_7", seed=6)))


@pytest.mark.parametrize(
    "name", ["lenet_300_10", "mlp_", "mlp_0", "mlp_uniform_10", "mlp_10_", "resnet"]
)
def test_an_unknown_network_is_refused(name):
    with pytest.raises(ValueError, match="unknown model"):
        lt.build_model(name, seed=0)


def test_a_snapshot_is_not_changed_by_training(tiny_model, tiny_data, config):
    """BERT-Tickets#19: a rewind state stored by reference was trained away."""
    start = lt.snapshot(tiny_model)
    before = lt.state_hash(start)
    lt.train(tiny_model, tiny_data, config)
    assert lt.state_hash(start) == before != lt.state_hash(lt.snapshot(tiny_model))


def test_state_hash_sees_one_changed_bit_and_a_renamed_tensor():
    state = {"a": torch.zeros(3), "b": torch.zeros(3)}
    changed = {"a": torch.tensor([0.0, 0.0, -0.0]), "b": torch.zeros(3)}
    renamed = {"a": torch.zeros(3), "c": torch.zeros(3)}
    assert len({lt.state_hash(s) for s in (state, changed, renamed)}) == 3
