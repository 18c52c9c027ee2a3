from __future__ import annotations

import math

import pytest
import torch
from safetensors.torch import save_file
from torch import nn

import lth_tutorial as lt
from lth_tutorial.networks.weights import prunable_weights
from lth_tutorial.pruning.masks import check_mask, masked_state


def test_biases_norms_and_embeddings_are_never_prunable():
    class Model(nn.Module):
        def __init__(self):
            super().__init__()
            self.table = nn.Embedding(5, 4)
            self.conv = nn.Conv2d(1, 2, 3)
            self.norm = nn.BatchNorm2d(2)
            self.layer_norm = nn.LayerNorm([8, 8])
            self.attention = nn.MultiheadAttention(4, 2)

    assert set(lt.dense_mask(Model())) == {
        "conv.weight",
        "attention.in_proj_weight",
        "attention.out_proj.weight",
    }


def test_a_model_without_prunable_weights_is_refused():
    with pytest.raises(ValueError, match="BatchNorm1d has no prunable weights"):
        lt.dense_mask(nn.BatchNorm1d(3))


def test_apply_mask_zeroes_the_pruned_and_nothing_else(tiny_model):
    before, mask = lt.snapshot(tiny_model), lt.dense_mask(tiny_model)
    mask["fc1.weight"][0] = False
    lt.apply_mask_(tiny_model, mask)
    after = lt.snapshot(tiny_model)
    assert after["fc1.weight"][0].abs().max() == 0
    assert torch.equal(after["fc1.weight"][1:], before["fc1.weight"][1:])
    assert torch.equal(after["fc2.weight"], before["fc2.weight"])
    assert lt.state_hash(after) == lt.state_hash(masked_state(before, mask))


def test_negative_weights_are_not_taken_for_pruned_ones(tiny_model):
    """A much-copied repository tested `weight > 0` for "not pruned" and froze negative weights."""
    weights = prunable_weights(tiny_model)
    with torch.no_grad():
        for weight in weights.values():
            weight.copy_(-weight.abs() - 0.1)
    lt.apply_mask_(tiny_model, lt.dense_mask(tiny_model))
    assert all(bool((weight < 0).all()) for weight in weights.values())


@pytest.mark.parametrize(
    ("spoil", "error", "message"),
    [
        (lambda m: m | {"fc9.weight": m["fc1.weight"]}, ValueError, "Did you mean"),
        (lambda m: {"fc1.weight": m["fc1.weight"]}, ValueError, "says nothing about fc2.weight"),
        (lambda m: m | {"fc1.weight": m["fc1.weight"][:1]}, ValueError, r"shape \(1, 8\)"),
        (lambda m: m | {"fc1.weight": m["fc1.weight"].float()}, TypeError, "torch.float32"),
        (lambda m: m | {"fc1.weight": [True]}, TypeError, "list"),
    ],
)
def test_a_mask_that_does_not_fit_is_refused(tiny_model, spoil, error, message):
    with pytest.raises(error, match=message):
        lt.apply_mask_(tiny_model, spoil(lt.dense_mask(tiny_model)))


def test_density_counts_weights_not_layers():
    mask = {"a": torch.tensor([True] * 3 + [False]), "b": torch.zeros(12, dtype=torch.bool)}
    assert lt.density(mask) == 3 / 16
    assert lt.layer_densities(mask) == {"a": 0.75, "b": 0.0}


def test_the_density_of_something_else_is_refused():
    with pytest.raises(TypeError, match="torch.float32"):
        lt.density({"a": torch.ones(3)})
    with pytest.raises(ValueError, match="the mask is empty"):
        lt.density({})


def test_overlap_is_symmetric_and_1_with_itself():
    a = {"w": torch.tensor([True, True, False, False])}
    b = {"w": torch.tensor([True, False, True, False])}
    assert lt.overlap(a, b) == lt.overlap(b, a) == 1 / 3
    assert lt.overlap(a, a) == 1


def test_unrelated_masks_overlap_as_the_docstring_says():
    masks = [
        {"w": torch.rand(100_000, generator=torch.Generator().manual_seed(s)) < 0.3} for s in (1, 2)
    ]
    assert math.isclose(lt.overlap(*masks), 0.3 / 1.7, rel_tol=0.03)


def test_shuffling_keeps_the_count_of_every_layer_and_follows_the_seed(tiny_model):
    mask = lt.prune(lt.magnitude_scores(lt.snapshot(tiny_model), lt.dense_mask(tiny_model)),
                    lt.dense_mask(tiny_model), 0.6)  # fmt: skip
    shuffled = lt.shuffle_within_layers(mask, 1)
    assert lt.layer_densities(shuffled) == lt.layer_densities(mask)
    assert lt.overlap(shuffled, mask) < 0.6
    assert lt.overlap(shuffled, lt.shuffle_within_layers(mask, 1)) == 1
    assert lt.overlap(shuffled, lt.shuffle_within_layers(mask, 2)) < 0.6


def test_a_saved_mask_comes_back(tiny_model, tmp_path):
    mask = lt.shuffle_within_layers(lt.dense_mask(tiny_model), 0)
    mask["fc1.weight"][2] = False
    lt.save_mask(mask, tmp_path / "deep" / "mask.safetensors")
    loaded = lt.load_mask(tmp_path / "deep" / "mask.safetensors")
    check_mask(loaded, mask)
    assert lt.overlap(loaded, mask) == 1
    assert [p.name for p in (tmp_path / "deep").iterdir()] == ["mask.safetensors"]


def test_a_damaged_or_foreign_file_is_not_taken_for_a_mask(tiny_model, tmp_path):
    path = tmp_path / "mask.safetensors"
    lt.save_mask(lt.dense_mask(tiny_model), path)
    path.write_bytes(path.read_bytes()[:-3])
    with pytest.raises(ValueError, match="damaged"):
        lt.load_mask(path)
    save_file({"w": torch.ones(3)}, path)
    with pytest.raises(ValueError, match="not a mask"):
        lt.load_mask(path)
    with pytest.raises(FileNotFoundError):
        lt.load_mask(tmp_path / "missing.safetensors")


def test_no_turned_bit_of_a_mask_is_taken_in_silence(tmp_path):
    mask = {"b.weight": torch.rand(5, 4) < 0.5, "a.weight": torch.rand(3, 5) < 0.5}
    path = tmp_path / "mask"
    lt.save_mask(mask, path)
    raw, refused = path.read_bytes(), 0
    for i in range(8 * len(raw)):
        turned = bytearray(raw)
        turned[i // 8] ^= 1 << i % 8
        path.write_bytes(turned)
        try:
            found = lt.load_mask(path)
        except ValueError:
            refused += 1
            continue
        assert lt.state_hash(found) == lt.state_hash(mask)  # a space became another
    assert refused > 0.9 * 8 * len(raw)


def test_a_saved_mask_keeps_the_order_of_its_layers(tmp_path):
    mask = {name: torch.ones(2, 2, dtype=torch.bool) for name in ("z", "a", "m")}
    lt.save_mask(mask, tmp_path / "mask")
    assert list(lt.load_mask(tmp_path / "mask")) == ["z", "a", "m"]


def test_a_mask_of_an_earlier_version_loads_with_a_note_and_gets_a_checksum(tmp_path):
    mask, path = {"w": torch.tensor([True, False])}, tmp_path / "mask"
    save_file(mask, path)
    with pytest.warns(lt.UncheckedFileWarning, match="was written without a checksum"):
        found = lt.load_mask(path)
    assert torch.equal(found["w"], mask["w"])
    lt.save_mask(found, path)
    lt.load_mask(path)
    raw = bytearray(path.read_bytes())
    save_file(mask, path)
    raw = bytearray(path.read_bytes())
    raw[-1] = 0xFF
    path.write_bytes(raw)
    with pytest.raises(ValueError, match="a byte is neither True nor False"):
        lt.load_mask(path)


@pytest.mark.parametrize(
    "mask",
    [
        {}, {"w": torch.ones(3)}, {"w": [True]}, {3: torch.ones(2, dtype=torch.bool)},
        {"__metadata__": torch.ones(2, dtype=torch.bool)},
        {"\ud800": torch.ones(2, dtype=torch.bool)},
        {"w": torch.ones(2, 2, dtype=torch.bool).to_sparse()},
        {"w": torch.ones(2, dtype=torch.bool, device="meta")},
    ],
    ids=["empty", "float", "list", "number", "reserved", "surrogate", "sparse", "meta"],
)  # fmt: skip
def test_a_mask_that_could_not_be_loaded_is_refused_on_saving(tmp_path, mask):
    lt.save_mask({"w": torch.ones(2, dtype=torch.bool)}, tmp_path / "mask")
    before = (tmp_path / "mask").read_bytes()
    with pytest.raises((ValueError, TypeError), match="mask"):
        lt.save_mask(mask, tmp_path / "mask")
    assert (tmp_path / "mask").read_bytes() == before


def test_tensors_that_share_memory_are_saved(tmp_path):
    kept = torch.rand(4, 4) < 0.5
    mask = {"a": kept, "b": kept, "c": kept.T}
    lt.save_mask(mask, tmp_path / "mask")
    assert lt.state_hash(lt.load_mask(tmp_path / "mask")) == lt.state_hash(mask)


@pytest.mark.parametrize("odd", [lambda kept: kept.to_sparse(), lambda kept: kept.to("meta")])
def test_a_mask_is_dense_and_somewhere(tiny_model, odd):
    mask = {name: odd(kept) for name, kept in lt.dense_mask(tiny_model).items()}
    for call in (
        lambda: lt.density(mask),
        lambda: lt.apply_mask_(tiny_model, mask),
        lambda: lt.shuffle_within_layers(mask, 0),
    ):
        with pytest.raises(ValueError, match=r"where mask\['fc1.weight'\] is of torch.bool, "):
            call()
