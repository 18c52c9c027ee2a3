from __future__ import annotations

import hashlib
import json
import re
from dataclasses import replace

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import save_file
from torch import nn

import lth_tutorial as lt


def network(data, seed=3, name="mlp_40_30", norm=True, init=lt.kaiming_normal_) -> nn.Module:
    model = lt.build_model(name, seed=0, data=data)
    model = lt.with_batch_norm(model) if norm else model
    init(model, seed)
    return model


@pytest.fixture
def ticket(tiny_data, config, tmp_path):
    """A packed multi-prize ticket: its path, the network it came from, and what was found."""
    model = network(tiny_data)
    found = lt.biprop(model, tiny_data, 0.5, config, learn_batchnorm=True)
    path = tmp_path / "ticket.safetensors"
    size = lt.save_ticket(path, model, found, init=lt.kaiming_normal_, seed=3)
    return path, model, found, size


@pytest.mark.parametrize("kind", ["edge_popup", "1/32", "1/1", "1/1 learned", "no norm"])
def test_a_packed_ticket_rebuilds_the_outputs_exactly(tiny_data, config, tmp_path, kind):
    model = network(tiny_data, norm=kind != "no norm")
    if kind == "edge_popup":
        found = lt.edge_popup(model, tiny_data, 0.5, config)
    else:
        options = {"binary_activations": "1/1" in kind, "learn_batchnorm": "learned" in kind}
        found = lt.biprop(model, tiny_data, 0.5, config, **options)
    path = tmp_path / "ticket.safetensors"
    lt.save_ticket(path, model, found, init=lt.kaiming_normal_, seed=3)

    plain = network(tiny_data, norm=kind != "no norm")
    original = lt.with_sign_activations(plain) if "1/1" in kind else plain
    original.load_state_dict(lt.effective_state(model, found))
    rebuilt = lt.load_ticket(path, network(tiny_data, seed=99, norm=kind != "no norm"))
    x = tiny_data.normalize(tiny_data.x_test)
    assert torch.equal(rebuilt(x), original.eval()(x))
    assert lt.state_hash(lt.snapshot(rebuilt)) == lt.state_hash(lt.snapshot(original))
    assert lt.evaluate(rebuilt, tiny_data).accuracy == found.accuracy


def test_scaled_signed_constants_come_back_too(tiny_data, config, tmp_path):
    model = network(tiny_data, norm=False)
    lt.signed_constant_(model, 5, keep=0.3)
    found = lt.edge_popup(model, tiny_data, 0.3, config)
    path = tmp_path / "t"
    lt.save_ticket(path, model, found, init=lt.signed_constant_, seed=5, init_keep=0.3)
    rebuilt = lt.load_ticket(path, network(tiny_data, norm=False))
    assert lt.evaluate(rebuilt, tiny_data).accuracy == found.accuracy


def test_a_large_ticket_takes_about_one_bit_per_weight(tmp_path, tiny_data):
    model = lt.build_model("lenet_300_100", seed=0)
    lt.kaiming_normal_(model, 0)
    generator = torch.Generator().manual_seed(0)
    x, y = torch.randn(20, 1, 28, 28, generator=generator), torch.arange(20) % 10
    data = lt.make_dataset("noise", (x, y), None, (x, y))
    config = lt.TrainConfig(steps=1, batch_size=10)
    found = lt.biprop(model, data, 0.5, config)
    path = tmp_path / "t"
    size = lt.save_ticket(path, model, found, init=lt.kaiming_normal_, seed=0)
    assert size.weights == 266_200
    assert size.total_bytes == path.stat().st_size
    assert 1.0 < size.bits_per_weight < 1.1
    assert size.dense_bytes == 4 * (266_200 + 410)
    assert size.times_smaller == pytest.approx(32, rel=0.08)


def test_the_size_counts_every_byte(ticket):
    path, model, found, size = ticket
    assert size.total_bytes == path.stat().st_size
    assert size.mask_bytes == sum(-(-m.numel() // 8) for m in found.mask.values())
    assert size.dense_bytes == sum(
        t.numel() * t.element_size() for t in model.state_dict().values()
    )


def test_no_weight_stands_in_the_file(ticket):
    path, _, found, _ = ticket
    with safe_open(path, "pt") as file:
        shapes = {name: file.get_slice(name).get_shape() for name in file.keys()}
    assert not any(len(shape) > 1 for shape in shapes.values())
    assert {n for n in shapes if n.startswith("mask/")} == {f"mask/{n}" for n in found.mask}


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"init": lt.kaiming_normal_, "seed": 4}, "seed 4 and keep=None does not give the weights"),
        ({"init": lt.signed_constant_, "seed": 3}, "signed_constant_ with seed 3"),
        ({"init": lt.kaiming_normal_, "seed": 3, "init_keep": 0.5}, "keep=0.5 does not give"),
        ({"init": torch.nn.init.normal_, "seed": 3}, "init is one of signed_constant_"),
    ],
)
def test_a_recipe_that_does_not_give_the_weights_is_refused(ticket, tmp_path, options, message):
    _, model, found, _ = ticket
    path = tmp_path / "new"
    with pytest.raises(ValueError, match=message):
        lt.save_ticket(path, model, found, **options)
    assert not path.exists()


def test_a_missing_file_is_called_missing(tmp_path, tiny_data):
    with pytest.raises(FileNotFoundError, match="no packed ticket"):
        lt.load_ticket(tmp_path / "none", network(tiny_data))


@pytest.mark.parametrize("share", [0.0, 0.1, 0.5, 0.99])
def test_a_truncated_file_is_refused(ticket, tiny_data, share):
    path = ticket[0]
    raw = path.read_bytes()
    path.write_bytes(raw[: int(share * len(raw))])
    with pytest.raises(ValueError, match="damaged or truncated"):
        lt.load_ticket(path, network(tiny_data))


def test_any_flipped_byte_is_noticed(ticket, tiny_data):
    path = ticket[0]
    raw = path.read_bytes()
    for at in range(8, len(raw), 97):
        changed = bytearray(raw)
        changed[at] ^= 0b100
        path.write_bytes(bytes(changed))
        with pytest.raises(ValueError, match=r"damaged|no packed ticket|another architecture"):
            lt.load_ticket(path, network(tiny_data))


def rewrite_header(path, **changes) -> None:
    """Change the header with a right checksum, as another version of the package might write it."""
    with safe_open(path, "pt") as file:
        header = json.loads(file.metadata()["header"]) | changes
        tensors = {name: file.get_tensor(name) for name in file.keys()}
    text = json.dumps(header)
    digest = hashlib.sha256(text.encode()).hexdigest()
    save_file(tensors, path, {"header": text, "sha256": digest})


def test_a_wrong_seed_in_the_file_is_noticed(ticket, tiny_data):
    rewrite_header(ticket[0], seed=4)
    with pytest.raises(ValueError, match="seed 4 and keep=None does not give the weights"):
        lt.load_ticket(ticket[0], network(tiny_data))


def test_a_file_of_another_version_is_refused(ticket, tiny_data):
    rewrite_header(ticket[0], version=2)
    with pytest.raises(ValueError, match="version 2; this package reads version 1"):
        lt.load_ticket(ticket[0], network(tiny_data))


@pytest.mark.parametrize(
    ("other", "message"),
    [
        ({"name": "mlp_40_31"}, r"fc2\.\w+|norm_fc2|output"),
        ({"name": "mlp_40"}, "none in the model|there"),
        ({"norm": False}, "norm_fc"),
    ],
)
def test_another_architecture_is_refused_by_name(ticket, tiny_data, other, message):
    with pytest.raises(ValueError, match="ticket of another architecture") as caught:
        lt.load_ticket(ticket[0], network(tiny_data, **other))
    assert re.search(message, str(caught.value))


def test_another_safetensors_file_is_no_ticket(tmp_path, tiny_data, tiny_model):
    lt.save_mask(lt.dense_mask(tiny_model), tmp_path / "mask")
    with pytest.raises(ValueError, match="no packed ticket"):
        lt.load_ticket(tmp_path / "mask", network(tiny_data))


def test_the_model_that_is_passed_is_not_changed(ticket, tiny_data):
    model = network(tiny_data, seed=8).train()
    before = lt.state_hash(lt.snapshot(model))
    rebuilt = lt.load_ticket(ticket[0], model)
    assert lt.state_hash(lt.snapshot(model)) == before and model.training and not rebuilt.training


def test_no_turned_bit_of_a_ticket_gives_another_network_or_another_error(tmp_path, tiny_data):
    model = lt.build_model("mlp_5", seed=0, data=tiny_data)
    lt.signed_constant_(model, 5)
    config = lt.TrainConfig(steps=2, batch_size=20)
    found, path = lt.edge_popup(model, tiny_data, 0.5, config), tmp_path / "t"
    lt.save_ticket(path, model, found, init=lt.signed_constant_, seed=5)
    raw, expected = path.read_bytes(), lt.state_hash(lt.snapshot(lt.load_ticket(path, model)))
    for i in range(len(raw)):
        turned = bytearray(raw)
        turned[i] ^= 1 << i % 8
        path.write_bytes(turned)
        try:
            network = lt.load_ticket(path, model)
        except ValueError:
            continue
        assert lt.state_hash(lt.snapshot(network)) == expected


def test_a_bias_of_minus_zero_comes_back(ticket, tiny_data, tmp_path):
    _, model, found, _ = ticket
    others = found.others | {"output.bias": -torch.zeros_like(found.others["output.bias"])}
    found = replace(found, others=others)
    lt.save_ticket(tmp_path / "new", model, found, init=lt.kaiming_normal_, seed=3)
    bias = lt.load_ticket(tmp_path / "new", model).output.bias
    assert bool(bias.signbit().all())


@pytest.mark.parametrize(
    "about", [{"data": torch.ones(1)}, {"path": object()}, {"set": {1}}], ids=["tensor", "o", "set"]
)
def test_a_ticket_that_could_not_be_loaded_is_refused_on_saving(ticket, tmp_path, about):
    path, model, found, _ = ticket
    before = path.read_bytes()
    with pytest.raises(ValueError, match="this ticket could not be loaded again"):
        lt.save_ticket(path, model, found, init=lt.kaiming_normal_, seed=3, about=about)
    assert path.read_bytes() == before


def test_the_first_tickets_without_a_digest_still_load(ticket, tiny_data):
    expected = lt.state_hash(lt.snapshot(lt.load_ticket(ticket[0], network(tiny_data))))
    rewrite_header(ticket[0], digest=None)
    assert lt.state_hash(lt.snapshot(lt.load_ticket(ticket[0], network(tiny_data)))) == expected
