"""Tickets moved between depths: every tensor is filled by the right one, or the move is refused."""

from __future__ import annotations

import pytest
import torch
import torchvision
from torch import nn

import lth_tutorial as lt
from lth_tutorial.networks.architectures import POOL, ResNet, vgg


def ticket(model):
    """Return weights and a mask with other densities in every layer."""
    mask = lt.dense_mask(model)
    for name, parameter in model.named_parameters():
        torch.manual_seed(len(name))
        nn.init.normal_(parameter)
    shares = {name: 0.2 + 0.1 * (i % 6) for i, name in enumerate(mask)}
    pruned = lt.prune(lt.magnitude_scores(model.state_dict(), mask), mask, shares, scope="layer")
    return lt.snapshot(model), pruned


def move(source, target, lists):
    return lt.transfer_ticket(*ticket(source), target, lt.block_map(source, target, lists))


def test_resnet18_becomes_resnet34_as_by_hand():
    torch.manual_seed(0)
    source = torchvision.models.resnet18(num_classes=10)
    target = torchvision.models.resnet34(num_classes=10)
    state, mask = ticket(source)
    lists = [lt.append_blocks(2, n) for n in (3, 4, 6, 3)]
    assert lists == [[0, 1, 1], [0, 1, 1, 1], [0, 1, 1, 1, 1, 1], [0, 1, 1]]
    moved, moved_mask = lt.transfer_ticket(state, mask, target, lt.block_map(source, target, lists))
    # By hand: layer L, block b of the target is block min(b, 1) of the source; all else by name.
    kept = total = 0
    for name, tensor in target.state_dict().items():
        parts = name.split(".")
        if parts[0].startswith("layer") and int(parts[1]) > 1:
            parts[1] = "1"
        origin = ".".join(parts)
        assert torch.equal(moved[name], state[origin])
        if name in moved_mask:
            assert torch.equal(moved_mask[name], mask[origin])
            kept, total = kept + int(mask[origin].sum()), total + tensor.numel()
    assert lt.density(moved_mask) == kept / total
    assert set(moved_mask) == set(lt.dense_mask(target))
    target.load_state_dict(moved)
    lt.apply_mask_(target, moved_mask)
    assert target(torch.randn(2, 3, 32, 32)).shape == (2, 10)


def test_a_moved_ticket_trains_on_and_shares_no_memory(digits):
    source = lt.build_model("resmlp_bn_16_2", seed=0, data=digits)
    target = lt.build_model("resmlp_bn_16_4", seed=5, data=digits)
    state, mask = ticket(source)
    before, own = lt.state_hash(state), lt.state_hash(lt.snapshot(target))
    moved, moved_mask = lt.transfer_ticket(
        state, mask, target, lt.block_map(source, target, [0, 1, 1, 1])
    )
    assert lt.state_hash(lt.snapshot(target)) == own
    target.load_state_dict(moved)
    lt.train(target, digits, lt.TrainConfig(steps=5, batch_size=20, lr=0.01), mask=moved_mask)
    assert lt.state_hash(state) == before
    assert torch.equal(moved["block4.fc.weight"], state["block2.fc.weight"])
    assert torch.equal(moved["block4.norm.running_var"], state["block2.norm.running_var"])


def test_stretched_and_squeezed_back_a_ticket_is_itself():
    small, large = lt.build_model("resnet_14", seed=0), lt.build_model("resnet_32", seed=1)
    state, mask = ticket(small)
    for lists, back in (([0, 1, 1, 1, 1], [0, 2]), ([0, 1, 1, 1, 1], [0, 4])):
        moved = lt.transfer_ticket(state, mask, large, lt.block_map(small, large, lists))
        again = lt.transfer_ticket(*moved, small, lt.block_map(large, small, back))
        assert lt.state_hash(again[0]) == lt.state_hash(state)
        assert lt.state_hash(again[1]) == lt.state_hash(mask)


@pytest.mark.parametrize(
    ("model", "expected"),
    [
        (lambda: lt.build_model("resnet_14", seed=0), [2, 2, 2]),
        (lambda: lt.build_model("resnet_18", seed=0), [2, 2, 2, 2]),
        (lambda: ResNet(((8, 1), (16, 4)), (3, 32, 32), 10), [1, 4]),
        (lambda: torchvision.models.resnet50(), [3, 4, 6, 3]),
        (lambda: lt.build_model("mlp_300_300_300_100", seed=0), [3, 1]),
        (lambda: lt.build_model("mlp_bn_30_30_20_20", seed=0), [2, 2]),
        (lambda: lt.build_model("vgg_16", seed=0), [2, 2, 3, 3, 3]),
        (lambda: torchvision.models.vgg11_bn(), [1, 1, 2, 2, 2, 2]),
        (lambda: lt.build_model("resmlp_16_5", seed=0), [5]),
        (lambda: lt.build_model("vit_16_2_3", seed=0), [3]),
    ],
)
def test_blocks_are_found_stage_by_stage(model, expected):
    assert [len(stage) for stage in lt.block_stages(model())] == expected


def test_a_norm_goes_with_its_layer():
    model = lt.build_model("mlp_bn_30_30_20", seed=0)
    assert lt.block_stages(model) == [[("fc1", "norm1"), ("fc2", "norm2")], [("fc3", "norm3")]]


def test_vgg_is_stretched_within_its_stages():
    source = vgg((8, POOL, 16, 16, POOL, 16, 16), (3, 32, 32), 10)
    target = vgg((8, POOL, 16, 16, 16, POOL, 16, 16), (3, 32, 32), 10)
    moved, mask = move(source, target, [[0], [0, 1, 1], [0, 1]])
    state, own = ticket(source)
    for new, old in (("4", "3"), ("5", "4"), ("6", "5"), ("3", "3")):
        assert torch.equal(moved[f"conv{new}.weight"], state[f"conv{old}.weight"])
        assert torch.equal(moved[f"norm{new}.bias"], state[f"norm{old}.bias"])
        assert torch.equal(mask[f"conv{new}.weight"], own[f"conv{old}.weight"])


def test_the_papers_mlp_is_stretched_by_its_equal_layers():
    source = lt.build_model("mlp_30_30_10", seed=0)
    target = lt.build_model("mlp_30_30_30_30_10", seed=1)
    moved, _ = move(source, target, [lt.append_blocks(2, 4), [0]])
    state, _ = ticket(source)
    for name, origin in (("fc3", "fc2"), ("fc4", "fc2"), ("fc5", "fc3"), ("fc1", "fc1")):
        assert torch.equal(moved[f"{name}.weight"], state[f"{origin}.weight"])
        assert torch.equal(moved[f"{name}.bias"], state[f"{origin}.bias"])


class Gated(nn.Module):
    """A block of a reader's, with a parameter that is no layer's."""

    def __init__(self, width):
        super().__init__()
        self.gate = nn.Parameter(torch.ones(width))
        self.cell = nn.GRU(width, width, batch_first=True)
        self.norm = nn.LayerNorm(width)

    def forward(self, x):
        return self.norm(x + self.gate * self.cell(x)[0])


class Reader(nn.Module):
    def __init__(self, depth, width=6):
        super().__init__()
        self.read = nn.Linear(4, width)
        self.body = nn.ModuleDict({f"layer_{i}": Gated(width) for i in range(depth)})
        self.output = nn.Linear(width, 3)

    def forward(self, x):
        x = self.read(x)
        for block in self.body.values():
            x = block(x)
        return self.output(x.mean(1))


def test_any_two_modules_by_a_dictionary_of_names():
    source, target = Reader(2), Reader(3)
    names = {f"body.layer_{i}": f"body.layer_{min(i, 1)}" for i in range(3)}
    state, mask = ticket(source)
    moved, moved_mask = lt.transfer_ticket(state, mask, target, names)
    for tensor in ("gate", "cell.weight_hh_l0", "norm.bias"):
        assert torch.equal(moved[f"body.layer_2.{tensor}"], state[f"body.layer_1.{tensor}"])
    hidden = "body.layer_2.cell.weight_hh_l0"
    assert torch.equal(moved_mask[hidden], mask["body.layer_1.cell.weight_hh_l0"])
    target.load_state_dict(moved)
    lt.apply_mask_(target, moved_mask)


@pytest.mark.parametrize(
    ("names", "message"),
    [
        ({"body.layer_2": "body.layer_7"}, "the source has no block body.layer_7"),
        ({"body.layer_9": "body.layer_1"}, "the target has no block body.layer_9"),
        ({}, r"nothing fills body\.layer_2\.gate.* and 1 more of the target"),
        ({"body.layer_1": "body.layer_1"}, r"nothing fills body\.layer_2\.gate"),
        ({"body": "body", "body.layer_2": "body.layer_1"}, "filled twice"),
    ],
)
def test_a_map_that_fills_nothing_or_twice_is_refused_by_name(names, message):
    state, mask = ticket(Reader(2))
    with pytest.raises(ValueError, match=message):
        lt.transfer_ticket(state, mask, Reader(3), names)


def test_other_widths_and_other_networks_are_refused():
    state, mask = ticket(Reader(2))
    names = {f"body.layer_{i}": f"body.layer_{min(i, 1)}" for i in range(3)}
    with pytest.raises(ValueError, match="between depths, not widths"):
        lt.transfer_ticket(state, mask, Reader(3, width=8), names)
    with pytest.raises(ValueError, match=r"fc1\.weight.*different networks"):
        lt.transfer_ticket(state, ticket(lt.build_model("mlp_4", seed=0))[1], Reader(2), {})
    partial = {name: kept for name, kept in mask.items() if "layer_1" not in name}
    with pytest.raises(ValueError, match=r"says nothing about what fills body\.layer_1"):
        lt.transfer_ticket(state, partial, Reader(3), names)
    with pytest.raises(ValueError, match="3 stages, the target 4"):
        lt.block_map(lt.build_model("resnet_8", seed=0), lt.build_model("resnet_18", seed=0), [0])
    with pytest.raises(ValueError, match="by name"):
        lt.block_stages(nn.Sequential(nn.Linear(3, 2)))


@pytest.mark.parametrize(
    ("lists", "message"),
    [
        ([0, 1], r"leaves blocks\.2, blocks\.3, blocks\.4 empty"),
        ([0, 1, 1, 1, 1, 1], "fills 6 blocks, the target has 5"),
        ([0, 1, 2, 1, 2], r"the source has blocks 0 to 1.*names \[2, 2\]"),
        ([0, 1, -1, 1, 1], r"names \[-1\]"),
        ([1, 0, 1, 0, 1], "the first block of a stage stays the first"),
        ([[0, 1, 1, 1, 1]], "1 block lists for 3 stages"),
        ([], r"stage 1: the list \[\] leaves blocks\.0"),
        ([[0, 1, 1, 1, 1]] * 2, "2 block lists for 3 stages"),
    ],
)
def test_a_list_that_does_not_fit_names_stage_and_blocks(lists, message):
    source, target = lt.build_model("resnet_14", seed=0), lt.build_model("resnet_32", seed=0)
    with pytest.raises(ValueError, match=message):
        lt.block_map(source, target, lists)


def test_lists_append_interpolate_and_drop():
    assert lt.append_blocks(3, 5) == [0, 1, 2, 1, 2]
    assert lt.append_blocks(3, 2) == [0, 1]
    assert lt.append_blocks(1, 3) == [0, 0, 0]
    assert lt.interpolate_blocks(3, 5) == [0, 1, 1, 2, 2]
    assert lt.interpolate_blocks(5, 3) == [0, 2, 4]
    assert lt.interpolate_blocks(3, 3) == lt.append_blocks(3, 3) == [0, 1, 2]
    for blocks in range(1, 8):
        for wanted in range(1, 12):
            for lists in (lt.append_blocks, lt.interpolate_blocks):
                found = lists(blocks, wanted)
                assert len(found) == wanted and found[0] == 0 and max(found) < blocks
                counts = [found.count(j) for j in range(1, blocks)]
                assert wanted < blocks or not counts or max(counts) - min(counts) <= 1
    with pytest.raises(ValueError, match="at least 1; got 0"):
        lt.append_blocks(3, 0)


def test_the_authors_notation_is_read():
    assert lt.parse_block_map("0:0;1:1,3;2:2,4") == [0, 1, 2, 1, 2]
    assert lt.parse_block_map("0:0;1:1,2;2:3,4") == [0, 1, 1, 2, 2]
    for text, message in (
        ("0:0;1:1,1", "fills block 1 of the target twice"),
        ("0:0;1:2", r"leaves blocks \[1\]"),
        ("0-0", "source:target"),
        ("", "source:target"),
        ("0:0;1:a", "1:a"),
        ("0:-1", "fills block -1 of the target; blocks count from 0"),
    ):
        with pytest.raises(ValueError, match=message):
            lt.parse_block_map(text)
