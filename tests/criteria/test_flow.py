"""SynFlow and connectivity, against an enumeration of all paths."""

from __future__ import annotations

import copy
import itertools

import pytest
import torch
from torch import nn

import lth_tutorial as lt


@pytest.fixture
def net(tiny_data):
    """8-4-5-3 units without biases, half of the weights pruned."""
    model = nn.Sequential(
        nn.Linear(8, 4, bias=False), nn.ReLU(), nn.Linear(4, 5, bias=False), nn.ReLU(),
        nn.Linear(5, 3, bias=False),
    )  # fmt: skip
    lt.reinitialize(model, 0)
    mask = lt.dense_mask(model)
    return model, lt.keep_best(lt.random_scores(mask, 3), mask, 28)


def enumerate_paths(model, mask):
    """Return the number of paths and, for every weight, what runs through it."""
    layers = [(model[i].weight.detach().double().abs(), mask[f"{i}.weight"]) for i in (0, 2, 4)]
    through = {
        f"{i}.weight": torch.zeros_like(w) for i, (w, _) in zip((0, 2, 4), layers, strict=True)
    }
    total = 0
    for units in itertools.product(range(8), range(4), range(5), range(3)):
        places = [(b, a) for a, b in itertools.pairwise(units)]
        if all(kept[place] for (_, kept), place in zip(layers, places, strict=True)):
            total += 1
            product = 1.0
            for (w, _), place in zip(layers, places, strict=True):
                product *= w[place].item()
            for name, place in zip(through, places, strict=True):
                through[name][place] += product
    return total, through


def test_synflow_adds_up_the_paths_through_a_weight(net, tiny_data):
    model, mask = net
    _, through = enumerate_paths(model, mask)
    scores = lt.synflow_scores(model, tiny_data, mask)
    for name in mask:
        assert torch.allclose(scores[name].double(), through[name], rtol=1e-5)


def test_synaptic_flow_is_conserved_from_layer_to_layer(net, tiny_data):
    sums = [s.sum().item() for s in lt.synflow_scores(net[0], tiny_data, net[1]).values()]
    assert sums == pytest.approx([sums[0]] * 3)


def test_synflow_looks_at_no_example(net, tiny_data):
    model, mask = net
    other = lt.corrupt_data(tiny_data, "random_labels", 0)
    a, b = (lt.synflow_scores(model, d, mask) for d in (tiny_data, other.subset(1)))
    assert all(torch.equal(a[n], b[n]) for n in mask)


def test_paths_are_counted_and_weights_without_one_are_named(net, tiny_data):
    model, mask = net
    total, through = enumerate_paths(model, mask)
    connected = lt.connected_weights(model, tiny_data, mask)
    assert lt.count_paths(model, tiny_data, mask) == total > 0
    assert all(torch.equal(connected[n], through[n] > 0) for n in mask)
    assert any((connected[n] != mask[n]).any() for n in mask)  # some kept weights do nothing


def test_an_empty_layer_leaves_no_path(net, tiny_data):
    model, mask = net
    mask = mask | {"2.weight": torch.zeros_like(mask["2.weight"])}
    assert lt.count_paths(model, tiny_data, mask) == 0
    connected = lt.connected_weights(model, tiny_data, mask)
    assert not any(kept.any() for kept in connected.values())


def test_paths_do_not_run_through_biases_or_depend_on_weights(tiny_data):
    model = lt.build_model("mlp_4", seed=0, data=tiny_data)
    with torch.no_grad():
        model.fc1.bias.fill_(5)
        model.fc1.weight[0] = 0
    assert lt.count_paths(model, tiny_data, lt.dense_mask(model)) == 8 * 4 * 3


@pytest.mark.parametrize("name", ["resnet_20", "vgg_11"])
def test_batch_norm_and_shortcuts_are_counted_through(name):
    x = torch.randint(256, (4, 3, 32, 32), dtype=torch.uint8)
    data = lt.make_dataset("noise", (x, torch.arange(4) % 2), None, (x, torch.arange(4) % 2))
    model = lt.build_model(name, seed=0, data=data)
    mask = lt.dense_mask(model)
    assert all(kept.all() for kept in lt.connected_weights(model, data, mask).values())
    paths = lt.count_paths(model, data, mask)
    assert paths > 1e6
    if name == "resnet_20":  # a shortcut goes round an empty layer
        first = "blocks.0.conv1.weight"
        around = mask | {first: torch.zeros_like(mask[first])}
        assert 0 < lt.count_paths(model, data, around) < paths


def test_a_shortcut_adds_its_paths(tiny_data):
    class Residual(nn.Module):
        def __init__(self):
            super().__init__()
            self.inner, self.output = nn.Linear(8, 8), nn.Linear(8, 3)

        def forward(self, x):
            return self.output(x + self.inner(x).relu())

    model = Residual()
    assert lt.count_paths(model, tiny_data, lt.dense_mask(model)) == 8 * 3 + 8 * 8 * 3


def test_synflow_of_a_deep_network_does_not_overflow(tiny_data):
    model = lt.build_model("mlp" + "_200" * 42, seed=0, data=tiny_data)
    scores = lt.synflow_scores(model, tiny_data, lt.dense_mask(model))
    weights = dict(model.named_parameters())
    assert all(torch.equal(s > 0, weights[n] != 0) for n, s in scores.items())
    sums = [s.sum().item() for s in scores.values()]
    assert sums == pytest.approx([sums[0]] * 43)
    assert sums[0] > torch.finfo(torch.float32).max  # what single precision cannot hold
    assert all(s.dtype == torch.float64 for s in scores.values())


def both_precisions(model, data):
    """Return the scores, and those of a copy of the model in double precision."""
    mask = lt.dense_mask(model)
    found = [lt.synflow_scores(m, data, mask) for m in (model, copy.deepcopy(model).double())]
    assert all(s.dtype == torch.float64 for s in found[1].values())
    return found


@pytest.mark.parametrize("name", ["mlp_100_50", "conv_2", "vgg_tiny", "resnet_20"])
def test_synflow_in_single_precision_is_that_in_double(digits, name):
    scores, exact = both_precisions(lt.build_model(name, seed=0, data=digits), digits)
    for n in exact:
        assert scores[n].dtype == torch.float32
        assert torch.allclose(scores[n].double(), exact[n], rtol=1e-5, atol=0)


def chain(gains, norm=nn.Identity):
    model = nn.Sequential(nn.Flatten())
    for gain in gains:
        model.extend([nn.Linear(8, 8, bias=False), norm(), nn.ReLU()])
        with torch.no_grad():
            model[-3].weight.copy_(torch.rand(8, 8, generator=torch.Generator().manual_seed(0)))
            model[-3].weight.add_(0.1).mul_(gain)
    return model


@pytest.mark.parametrize(
    "gains",
    [
        [1e-2] * 30,  # no path is left in single precision
        [1e-6] * 4 + [1e6] * 4,  # small activations, an ordinary output
        [1e6] * 4 + [1e-6] * 4,  # small gradients
        [1, 1e-30, 1e30, 1],
        [1e19, 1e-6, 1e19],  # gradients of weights too large, though not the output
        [1e-30, 1e-30, 1e30, 1e30],  # activations of zero in single precision
    ],
    ids=str,
)
def test_synflow_of_numbers_out_of_single_precision_is_exact(gains, tiny_data):
    scores, exact = both_precisions(chain(gains), tiny_data)
    assert all(torch.equal(scores[n], exact[n]) and (exact[n] > 0).all() for n in exact)


def test_one_tiny_weight_keeps_its_score(tiny_data):
    model = chain([1, 1])
    with torch.no_grad():
        model[1].weight[0, 0] = 1e-43
    scores, exact = both_precisions(model, tiny_data)
    assert all(torch.equal(scores[n], exact[n]) for n in exact)
    assert scores["1.weight"][0, 0] > 0


def test_synflow_of_layers_that_subtract_is_in_double_precision(tiny_data):
    trained = chain([1, 1], lambda: nn.BatchNorm1d(8))
    assert both_precisions(trained, tiny_data)[0]["1.weight"].dtype == torch.float32
    trained[2].running_mean.fill_(0.5)
    for model in (trained, chain([1, 1], lambda: nn.LayerNorm(8))):
        scores, exact = both_precisions(model, tiny_data)
        assert all(torch.equal(scores[n], exact[n]) for n in exact)


def test_pruned_zeros_do_not_count_as_small(net, tiny_data):
    model, mask = net
    scores = lt.synflow_scores(model, tiny_data, mask)
    lt.apply_mask_(model, mask)
    again = lt.synflow_scores(model, tiny_data, mask)
    assert all(torch.equal(scores[n], again[n]) for n in mask)
    assert again["0.weight"].dtype == torch.float32


def test_no_hook_stays_behind(net, tiny_data):
    model, mask = net
    lt.synflow_scores(model, tiny_data, mask)
    narrow = lt.make_dataset("ones", *[(torch.ones(4, 7), torch.arange(4))] * 3)
    with pytest.raises(ValueError, match="cannot take examples"):
        lt.synflow_scores(model, narrow, mask)
    assert not any(module._forward_hooks for module in model.modules())


def test_differences_are_taken_in_double_precision(tiny_data):
    """Batch norm without running statistics subtracts the batch's mean; so may any forward."""
    x = torch.randint(256, (4, 3, 8, 8), dtype=torch.uint8)
    data = lt.make_dataset("noise", (x, torch.arange(4) % 2), None, (x, torch.arange(4) % 2))
    normed = nn.Sequential(
        nn.Conv2d(3, 4, 3, bias=False), nn.BatchNorm2d(4, track_running_stats=False), nn.ReLU(),
        nn.Flatten(), nn.Linear(4 * 36, 2, bias=False),
    )  # fmt: skip

    class Own(nn.Module):
        def __init__(self):
            super().__init__()
            self.layer = nn.Linear(8, 3)

        def forward(self, x):
            return self.layer(x).log_softmax(dim=1)

    for model, own in ((normed, data), (Own(), tiny_data)):
        scores = lt.synflow_scores(model, own, lt.dense_mask(model))
        assert {s.dtype for s in scores.values()} == {torch.float64}


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_the_model_is_left_as_it_was(net, tiny_data, dtype):
    """In double precision too, where a conversion copies nothing by itself."""
    model, mask = net
    model.to(dtype)
    before = lt.state_hash(lt.snapshot(model))
    lt.synflow_scores(model, tiny_data, mask)
    lt.connected_weights(model, tiny_data, mask)
    assert lt.state_hash(lt.snapshot(model)) == before
