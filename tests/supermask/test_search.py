from __future__ import annotations

import math
import zlib
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import nn
from torch.func import functional_call

import lth_tutorial as lt
import lth_tutorial.supermask.search as search_module
from lth_tutorial.supermask.design import batch_norm_parameters
from lth_tutorial.supermask.frozen import draw_scores, maskable_weights
from lth_tutorial.supermask.group import SCORE, MaskedGroup
from lth_tutorial.supermask.selection import _by_sorting, highest
from lth_tutorial.supermask.weights import Sampled, choose_masks, rescaling
from lth_tutorial.training import checkpoints

METHODS = ("edge_popup", "biprop", "sampled")


def network(data, seed=0, name="mlp_12_6", norm=False, keep=None) -> nn.Module:
    model = lt.build_model(name, seed=seed, data=data)
    if norm:
        model = lt.with_batch_norm(model)
    lt.signed_constant_(model, seed, keep=keep)
    return model


def design(method: str, **options) -> lt.SupermaskConfig:
    return lt.SupermaskConfig(method, None if method == "sampled" else 0.5, **options)


def by_sorting(values: torch.Tensor, count: int) -> torch.Tensor:
    """Return the mask of the highest values by a full, stable sort: the slow definition."""
    mask = np.zeros(values.numel(), dtype=bool)
    mask[np.argsort(-values.numpy().ravel(), kind="stable")[:count]] = True
    return torch.from_numpy(mask).view(values.shape)


# Which scores are the highest


@pytest.mark.parametrize("n", [1, 2, 7, 100, 5_003])
@pytest.mark.parametrize("keep", [0.02, 0.3, 0.5, 0.97, 1.0])
@pytest.mark.parametrize("decimals", [0, 1, 6])
def test_a_mask_is_that_of_a_full_sort_with_ties_by_index(n, keep, decimals):
    scores = torch.randn(n, generator=torch.Generator().manual_seed(n)).round(decimals=decimals)
    count = round(keep * n)
    if count == 0:
        with pytest.raises(ValueError, match=f"keeps none of the {n} weights"):
            lt.top_k_mask(scores, keep)
        return
    assert torch.equal(lt.top_k_mask(scores, keep).bool(), by_sorting(scores, count))


def test_rows_with_ties_get_their_own_exact_count():
    values = torch.tensor([[1.0, 1, 1, 1], [4, 3, 2, 1], [0, 2, 2, 2]])
    expected = [[1, 1, 0, 0], [1, 1, 0, 0], [0, 1, 1, 0]]
    assert highest(values, 2).int().tolist() == expected


def test_the_selection_of_a_gpu_gives_the_same_masks():
    generator = torch.Generator().manual_seed(0)
    for decimals in (0, 1, 6):
        values = torch.randn(3, 500, generator=generator).round(decimals=decimals)
        assert torch.equal(_by_sorting(values, 123), highest(values, 123))


def test_half_precision_gives_the_gains_of_full_precision(tiny_data, config):
    model = network(tiny_data)
    lt.kaiming_normal_(model, 0)
    found = lt.biprop(model, tiny_data, 0.5, replace(config, precision="bf16"))
    for name, kept in found.mask.items():
        weight = dict(model.named_parameters())[name].detach()
        assert found.gains[name] == pytest.approx(weight[kept].abs().mean().item(), rel=1e-5)
    group = group_of(model, "biprop")
    x = tiny_data.normalize(tiny_data.x_train[:4])[None]
    seen = []
    group.weights = lambda: seen.append(torch.is_autocast_enabled("cpu")) or weights()
    weights = MaskedGroup.weights.__get__(group)
    with torch.autocast("cpu", torch.bfloat16):
        group.logits(x)
    assert seen == [False]


def test_a_row_of_nan_takes_nothing_from_the_others():
    values = torch.tensor([[math.nan] * 4, [1.0, 1, 1, 1]])
    assert highest(values, 2)[1].tolist() == [True, True, False, False]


def test_all_scores_equal_keep_the_first_ones():
    assert lt.top_k_mask(torch.zeros(2, 3), 0.5).tolist() == [[1, 1, 1], [0, 0, 0]]


def test_the_gradient_passes_straight_through_the_mask():
    scores = torch.randn(4, 5, requires_grad=True)
    upstream = torch.randn(4, 5)
    lt.top_k_mask(scores, 0.3).backward(upstream)
    assert torch.equal(scores.grad, upstream)


def test_a_global_mask_ranks_all_layers_together():
    generator = torch.Generator().manual_seed(0)
    scores = {"a": torch.rand(1, 30, generator=generator), "b": torch.rand(1, 50)}
    masks = choose_masks(scores, 0.25, "global")
    joined = torch.cat([scores["a"], scores["b"]], dim=1)
    expected = by_sorting(joined, 20)
    assert torch.equal(torch.cat([masks["a"], masks["b"]], dim=1), expected)


@pytest.mark.parametrize("keep", [0, -0.1, 1.2, True, "half", math.nan])
def test_a_share_out_of_range_is_refused(keep):
    with pytest.raises(ValueError, match=r"(in \(0, 1\]|keep is a number); got"):
        lt.top_k_mask(torch.randn(10), keep)


def test_nan_scores_are_refused():
    with pytest.raises(ValueError, match="1 of 3 scores are NaN"):
        lt.top_k_mask(torch.tensor([1.0, math.nan, 2.0]), 0.5)


# Frozen weights


@pytest.mark.parametrize("keep", [None, 0.3])
def test_a_signed_constant_has_one_magnitude_per_layer_and_random_signs(keep):
    model = lt.build_model("lenet_300_100", seed=0)
    lt.signed_constant_(model, 3, keep=keep)
    for weight in maskable_weights(model).values():
        expected = math.sqrt(2 / (weight.shape[1] * (keep or 1)))
        assert torch.allclose(weight.abs(), torch.full_like(weight, expected))
        share = (weight > 0).double().mean().item()
        assert abs(share - 0.5) < 4 * 0.5 / math.sqrt(weight.numel())


@pytest.mark.parametrize("keep", [None, 0.3])
def test_kaiming_normal_weights_have_the_right_spread_and_shape(keep):
    model = lt.build_model("lenet_300_100", seed=0)
    lt.kaiming_normal_(model, 3, keep=keep)
    weight = model.fc1.weight.detach().double()
    scaled = weight / math.sqrt(2 / (784 * (keep or 1)))
    n = scaled.numel()
    assert abs(scaled.mean()) < 4 / math.sqrt(n)
    assert abs(scaled.var() - 1) < 4 * math.sqrt(2 / n)
    assert abs((scaled**4).mean() - 3) < 4 * math.sqrt(96 / n)
    within = [(scaled.abs() < z).double().mean().item() for z in (0.5, 1, 2)]
    assert within == pytest.approx([0.3829, 0.6827, 0.9545], abs=0.005)


def test_convolutions_count_every_input_of_a_unit():
    model = lt.build_model("conv_2", seed=0)
    lt.signed_constant_(model, 0)
    assert model.conv2.weight[0].abs().max().item() == pytest.approx(math.sqrt(2 / (64 * 9)))


def philox(key: tuple[int, int], block: int) -> list[int]:
    """Return four 64-bit numbers of Philox 4×64, ten rounds (Salmon et al. 2011), by the book."""
    word, (k0, k1) = 2**64, key
    c = [block, 0, 0, 0]
    for _ in range(10):
        high0, low0 = divmod(0xD2E7470EE14C6C93 * c[0], word)
        high1, low1 = divmod(0xCA5A826395121157 * c[2], word)
        c = [high1 ^ c[1] ^ k0, low1, high0 ^ c[3] ^ k1, low0]
        k0, k1 = (k0 + 0x9E3779B97F4A7C15) % word, (k1 + 0xBB67AE8584CAA73B) % word
    return c


def test_signs_are_the_bits_of_philox_so_that_tickets_outlive_versions():
    model = nn.Sequential(nn.Linear(20, 15))
    lt.signed_constant_(model, 7)
    numbers = [n for i in range(1, 3) for n in philox((zlib.crc32(b"0.weight"), 7), i)]
    bits = [(n >> i) & 1 for n in numbers for i in range(64)]
    assert (model[0].weight > 0).int().flatten().tolist() == bits[:300]


def test_normal_numbers_are_those_of_philox_by_box_and_muller():
    model = nn.Sequential(nn.Linear(2, 3))
    lt.kaiming_normal_(model, 5)  # standard deviation 1: fan_in is 2
    raw = [n for i in range(1, 3) for n in philox((zlib.crc32(b"0.weight"), 5), i)][:6]
    u = [(n >> 11) / 2**53 for n in raw]
    radius = [math.sqrt(-2 * math.log(1 - a)) for a in u[:3]]
    angle = [2 * math.pi * b for b in u[3:]]
    pairs = list(zip(radius, angle, strict=True))
    drawn = [r * math.cos(t) for r, t in pairs] + [r * math.sin(t) for r, t in pairs]
    expected = [round(z * 2**16) / 2**16 for z in drawn]
    assert model[0].weight.flatten().tolist() == expected


def test_drawing_is_a_pure_function_of_the_seed():
    model = nn.Sequential(nn.Linear(4, 3), nn.ReLU(), nn.Linear(3, 2))
    before = torch.random.get_rng_state()
    lt.kaiming_normal_(model, 7)
    first = model[0].weight.detach().clone()
    lt.kaiming_normal_(model, 8)
    assert not torch.equal(first, model[0].weight)
    lt.kaiming_normal_(model, 7)
    assert torch.equal(first, model[0].weight)
    assert torch.equal(before, torch.random.get_rng_state())


def test_layers_of_the_same_shape_get_different_weights():
    model = nn.Sequential(nn.Linear(8, 8), nn.ReLU(), nn.Linear(8, 8))
    lt.kaiming_normal_(model, 0)
    assert not torch.equal(model[0].weight, model[2].weight)


def test_drawing_resets_biases_and_batch_norm(tiny_data):
    model = lt.with_batch_norm(lt.build_model("mlp_5", seed=0, data=tiny_data))
    with torch.no_grad():
        for p in model.parameters():
            p.fill_(3.0)
        model.norm_fc1.running_var.fill_(9.0)
    lt.kaiming_normal_(model, 0)
    assert not model.fc1.bias.any() and not model.norm_fc1.bias.any()
    assert (model.norm_fc1.weight == 1).all() and (model.norm_fc1.running_var == 1).all()


@pytest.mark.parametrize("seed", [-1, 1.5, True, 2**63])
def test_a_bad_seed_is_refused(seed, tiny_model):
    with pytest.raises(ValueError, match="seed is a whole number"):
        lt.signed_constant_(tiny_model, seed)


def test_scores_are_kaiming_uniform_and_differ_by_seed():
    weights = maskable_weights(lt.build_model("lenet_300_100", seed=0))
    scores = draw_scores(weights, 0)["fc1.weight"]
    bound = 1 / math.sqrt(784)
    assert bound * 0.999 < scores.abs().max().item() <= bound
    assert scores.std().item() == pytest.approx(bound / math.sqrt(3), rel=0.01)
    assert not torch.equal(scores, draw_scores(weights, 1)["fc1.weight"])


def test_scores_of_sampled_masks_start_at_zero(tiny_data):
    group = group_of(network(tiny_data), "sampled")
    assert not any(bool(score.any()) for score in group.scores.values())


# From scores to weights


def group_of(model, method, **options) -> MaskedGroup:
    return MaskedGroup([model], design(method, **options), 10, [0])


@pytest.mark.parametrize("method", ["edge_popup", "biprop"])
def test_a_score_receives_the_gradient_of_its_weight_times_the_weight(tiny_data, method):
    """The oracle: ordinary gradients of a network with the same effective weights."""
    model = lt.build_model("mlp_12_6", seed=0, data=tiny_data)
    group = group_of(model, method)
    x, y = tiny_data.normalize(tiny_data.x_train[:30]), tiny_data.y_train[:30]
    effective = {name: w[0].detach().requires_grad_() for name, w in group.weights().items()}
    others = {n: t for n, t in model.state_dict().items() if n not in effective}
    loss = nn.functional.cross_entropy(functional_call(model, others | effective, (x,)), y)
    upstream = torch.autograd.grad(loss, list(effective.values()))
    nn.functional.cross_entropy(group.logits(x[None])[0], y).backward()
    for (name, score), gradient in zip(group.scores.items(), upstream, strict=True):
        weight = dict(model.named_parameters())[name].detach()
        expected = gradient * weight * score.detach()[0].sign()
        assert torch.allclose(score.grad[0], expected, atol=1e-7), name
        dropped = group.masks()[name][0] == 0
        assert score.grad[0][dropped].abs().max() > 0, "pruned weights must be able to return"


def test_edge_popup_agrees_with_top_k_mask(tiny_data):
    model = lt.build_model("mlp_12_6", seed=0, data=tiny_data)
    group = group_of(model, "edge_popup")
    for name, effective in group.weights().items():
        score = group.scores[name].detach()[0].requires_grad_()
        weight = dict(model.named_parameters())[name].detach()
        ours = weight * lt.top_k_mask(score.abs(), 0.5)
        assert torch.equal(ours, effective[0])
        ours.sum().backward()
        group.scores[name].grad = None
        effective.sum().backward(retain_graph=True)
        assert torch.equal(score.grad, group.scores[name].grad[0])


def test_a_binary_layer_has_three_values_and_the_gain_is_the_mean_kept_magnitude(tiny_data, config):
    model = lt.build_model("mlp_12_6", seed=0, data=tiny_data)
    lt.kaiming_normal_(model, 1)
    with torch.no_grad():
        model.fc1.weight[0, 0] = 0.0  # has no sign of its own
    found = lt.biprop(model, tiny_data, 0.6, config)
    state = lt.effective_state(model, found)
    for name, kept in found.mask.items():
        weight = dict(model.named_parameters())[name].detach()
        gain = np.abs(weight.numpy()[kept.numpy()]).mean()
        assert found.gains[name] == pytest.approx(gain, rel=1e-5)
        values = state[name].unique()
        assert len(values) == 3
        assert values.tolist() == pytest.approx([-gain, 0.0, gain], rel=1e-5)
        assert torch.equal(state[name] != 0, kept)
        assert int(kept.sum()) == round(0.6 * kept.numel())


def test_the_gain_is_the_best_multiple_of_the_signs():
    """Least squares by brute force over multiples."""
    weight = torch.randn(40, generator=torch.Generator().manual_seed(0))
    factors = torch.linspace(0, 2, 2_001)
    errors = [((weight - a * weight.sign()) ** 2).sum().item() for a in factors]
    best = factors[int(np.argmin(errors))].item()
    assert weight.abs().mean().item() == pytest.approx(best, abs=1e-3)


@pytest.mark.parametrize("method", METHODS)
def test_the_effective_state_gives_the_network_that_was_measured(tiny_data, config, method):
    model = network(tiny_data, norm=True)
    found = lt.train_supermasks([model], tiny_data, design(method, rescale=True), config, seeds=[2])
    ordinary = network(tiny_data, norm=True)
    ordinary.load_state_dict(lt.effective_state(model, found[0]))
    assert lt.evaluate(ordinary, tiny_data).accuracy == found[0].accuracy


def test_the_effective_state_of_other_weights_is_refused(tiny_data, config):
    found = lt.edge_popup(network(tiny_data), tiny_data, 0.5, config)
    with pytest.raises(ValueError, match="found for other weights"):
        lt.effective_state(network(tiny_data, seed=1), found)


# The search


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("optimizer", ["sgd", "adam"])
def test_frozen_weights_are_bit_identical_afterwards(tiny_data, config, method, optimizer):
    model = network(tiny_data, norm=True)
    before = lt.state_hash(lt.snapshot(model))
    config = replace(config, optimizer=optimizer, lr=0.1, weight_decay=1e-2)
    options = {} if method == "sampled" else {"learn_batchnorm": True}
    (found,) = lt.train_supermasks([model], tiny_data, design(method, **options), config, seeds=[0])
    assert lt.state_hash(lt.snapshot(model)) == before, "batch norm is not changed either"
    first = draw_scores(maskable_weights(model), None if method == "sampled" else 0)
    assert all(not torch.equal(found.scores[name], first[name]) for name in first)


@pytest.mark.parametrize("rescale", [False, True])
def test_gradients_of_sampled_masks_are_those_of_the_paper_s_code(rescale):
    """There a mask is a draw whose gradient is that of σ(score), in size / Σ mask too."""
    generator = torch.Generator().manual_seed(0)
    values, upstream, score = (torch.randn(3, 5, 7, generator=generator) for _ in range(3))
    mask = (torch.rand(3, 5, 7, generator=generator) < score.sigmoid()).float()
    ours, theirs = (score.clone().requires_grad_() for _ in range(2))
    factor = rescaling(mask) if rescale else None
    effective = Sampled.apply(ours, mask, values, factor)
    soft = mask + theirs.sigmoid() - theirs.sigmoid().detach()
    expected = values * soft
    if rescale:
        expected = expected * (35 / soft.sum(dim=(1, 2), keepdim=True))
    assert torch.allclose(effective, expected)
    for each in (effective, expected):
        (each * upstream).sum().backward()
    assert torch.allclose(ours.grad, theirs.grad, rtol=1e-4, atol=1e-6)


def test_an_empty_sampled_layer_has_finite_gradients():
    score = torch.zeros(1, 4, 3, requires_grad=True)
    mask = torch.zeros(1, 4, 3)
    Sampled.apply(score, mask, torch.ones(1, 4, 3), rescaling(mask)).sum().backward()
    assert bool(score.grad.isfinite().all())


def test_every_layer_keeps_exactly_its_share(tiny_data, config):
    found = lt.edge_popup(network(tiny_data), tiny_data, 0.37, config)
    for kept in found.mask.values():
        assert int(kept.sum()) == round(0.37 * kept.numel())


def test_a_global_mask_keeps_its_share_in_total(tiny_data, config):
    found = lt.edge_popup(network(tiny_data), tiny_data, 0.37, config, scope="global")
    total = sum(kept.numel() for kept in found.mask.values())
    assert sum(int(kept.sum()) for kept in found.mask.values()) == round(0.37 * total)
    assert len(set(lt.layer_densities(found.mask).values())) > 1


@pytest.mark.parametrize("method", METHODS)
def test_the_search_learns_something(digits, method):
    """Accuracies of three seeds lay above 0.9; chance is 0.1."""
    model = network(digits, name="mlp_48_48", norm=method == "biprop")
    lr = 200.0 if method == "sampled" else 1.0
    config = lt.TrainConfig(steps=150, batch_size=50, lr=lr, schedule="cosine")
    (found,) = lt.train_supermasks([model], digits, design(method), config, seeds=[0])
    assert found.accuracy > 0.7


def test_the_mask_of_trained_probabilities_is_a_draw_from_them(digits):
    """As in the code of Zhou et al.: not the mask of all probabilities above one half."""
    model = network(digits, name="mlp_48_48")
    config = lt.TrainConfig(steps=150, batch_size=50, lr=20.0, schedule="cosine")
    once, again = (
        lt.learned_supermask(model, digits, config, seed=3, rescale=True) for _ in range(2)
    )
    kept = torch.cat([kept.flatten() for kept in once.mask.values()]).double()
    chance = torch.cat([s.flatten() for s in once.scores.values()]).double().sigmoid()
    assert kept[chance < 0.4].sum() > 100, "unlikely weights are kept too"
    spread = (chance * (1 - chance)).sum().sqrt()
    assert abs(kept.sum() - chance.sum()) < 5 * spread
    assert all(torch.equal(once.mask[name], again.mask[name]) for name in once.mask)
    model.load_state_dict(lt.effective_state(model, once))
    assert lt.evaluate(model, digits).accuracy == once.accuracy


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("norm", [False, True])
def test_every_replicate_of_a_stack_gets_the_mask_of_its_own_run(tiny_data, config, method, norm):
    models = [network(tiny_data, seed=s, norm=norm) for s in range(3)]
    options = {"learn_batchnorm": norm}
    found = lt.train_supermasks(
        models, tiny_data, design(method, **options), config, seeds=[4, 5, 6], data_seeds=[7, 8, 9]
    )
    for i, one in enumerate(found):
        (alone,) = lt.train_supermasks(
            [models[i]], tiny_data, design(method, **options), config, seeds=[4 + i],
            data_seeds=[7 + i],
        )  # fmt: skip
        assert lt.overlap(one.mask, alone.mask) > 0.99
        for name in one.scores:
            assert torch.allclose(one.scores[name], alone.scores[name], atol=1e-4)


@pytest.mark.parametrize(("method", "scope"), [("edge_popup", "layer"), ("biprop", "global")])
def test_searches_side_by_side_have_the_bits_of_one_by_one(
    digits, config, monkeypatch, tmp_path, method, scope
):
    """As on a GPU, here a plain loop; what was begun so goes on so on a machine without one."""
    about = design(method, scope=scope, learn_batchnorm=True)
    short = replace(config, steps=3, eval_every=None)

    def search(workdir=None):
        models = [lt.build_model("resnet_20", seed=s, data=digits) for s in range(2)]
        return lt.train_supermasks(
            models, digits, about, short, seeds=[4, 5], data_seeds=[7, 8], workdir=workdir
        )

    expected, sizes, fit = search(), [], search_module.fit
    monkeypatch.setattr(
        search_module, "fit", lambda group, *a, **k: sizes.append(group.size) or fit(group, *a, **k)
    )
    with monkeypatch.context() as on_gpu:
        on_gpu.setattr(search_module, "can_branch", lambda models: True)
        found = search(tmp_path)
    again = search(tmp_path)
    assert sizes == [2, 2]
    for each in (found, again):
        for one, other in zip(expected, each, strict=True):
            assert one.accuracy == other.accuracy and one.gains == other.gains
            for part in ("scores", "mask", "others"):
                assert lt.state_hash(getattr(one, part)) == lt.state_hash(getattr(other, part))


def test_seeds_of_scores_and_of_data_are_independent(tiny_data, config):
    def scores(**seeds):
        found = lt.edge_popup(network(tiny_data), tiny_data, 0.5, config, **seeds)
        return lt.state_hash(found.scores)

    hashes = {scores(), scores(seed=1), scores(data_seed=1)}
    assert len(hashes) == 3
    assert scores(seed=1) in hashes


@pytest.mark.parametrize("learn", [False, True])
def test_batch_norm_is_learned_only_when_asked(tiny_data, config, learn):
    model = network(tiny_data, norm=True)
    found = lt.biprop(model, tiny_data, 0.5, config, learn_batchnorm=learn)
    names = batch_norm_parameters(model)
    assert names == ["norm_fc1.weight", "norm_fc1.bias", "norm_fc2.weight", "norm_fc2.bias"]
    for name in names:
        identity = float(name.endswith("weight"))
        assert bool((found.others[name] == identity).all()) is not learn
    assert found.others["norm_fc1.running_mean"].any(), "statistics follow in both cases"


def test_annealing_starts_dense_and_ends_at_the_density_asked_for():
    slow = lt.SupermaskConfig("edge_popup", 0.01, "global", anneal=0.5)
    densities = [slow.density(step, 100) for step in range(101)]
    assert densities[0] == 1 and densities[25] == pytest.approx(0.1)
    assert densities[50:] == [0.01] * 51
    assert densities == sorted(densities, reverse=True)


def test_an_annealed_search_ends_with_the_exact_count(tiny_data, config):
    model = network(tiny_data)
    found = lt.edge_popup(model, tiny_data, 0.1, config, scope="global", anneal=0.5)
    total = sum(kept.numel() for kept in found.mask.values())
    assert sum(int(kept.sum()) for kept in found.mask.values()) == round(0.1 * total)


def test_any_module_with_linear_and_convolutional_layers_can_be_masked():
    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.body = nn.ModuleDict({"conv": nn.Conv2d(1, 4, 3), "norm": nn.BatchNorm2d(4)})
            self.drop = nn.Dropout(0.1)
            self.head = nn.Linear(4, 3)

        def forward(self, x):
            x = self.body["norm"](self.body["conv"](x)).relu()
            return self.head(self.drop(x.mean(dim=(2, 3))))

    generator = torch.Generator().manual_seed(0)
    x, y = torch.randn(60, 1, 6, 6, generator=generator), torch.arange(60) % 3
    data = lt.make_dataset("noise", (x, y), None, (x, y))
    config = lt.TrainConfig(steps=5, batch_size=20)
    model = Net().eval()
    found = lt.edge_popup(model, data, 0.5, config)
    assert list(found.mask) == ["body.conv.weight", "head.weight"]
    assert not model.training and not model.body["norm"].running_mean.any()


def test_a_search_that_was_interrupted_continues_to_the_same_bits(
    tiny_data, config, tmp_path, monkeypatch
):
    monkeypatch.setattr(checkpoints, "SAVE_EVERY_S", 0.0)
    models = [network(tiny_data, seed=s, norm=True) for s in (0, 1)]
    for method in METHODS:
        how = design(method, learn_batchnorm=True)
        anneal = {"anneal": 0.8} if method == "edge_popup" else {}
        how = replace(how, **anneal)

        def search(workdir, stop=None, how=how):
            done = [0]

            def on_step():
                done[0] += 1
                if done[0] == stop:
                    raise KeyboardInterrupt

            found = lt.train_supermasks(
                models, tiny_data, how, config, seeds=[1, 2], on_step=on_step, workdir=workdir
            )
            return [(lt.state_hash(f.scores), lt.state_hash(f.others), f.accuracy) for f in found]

        whole = search(None)
        with pytest.raises(KeyboardInterrupt):
            search(tmp_path / method, stop=50)
        assert search(tmp_path / method) == whole
        assert search(tmp_path / method) == whole, "a finished one is read back"
        with pytest.raises(ValueError, match="another configuration"):
            search(tmp_path / method, how=replace(how, rescale=True))


def test_a_diverging_search_says_at_which_step(tiny_data, config):
    model = network(tiny_data)
    with torch.no_grad():
        model.fc1.weight.mul_(1e30)
        model.fc2.weight.mul_(1e30)
    with pytest.raises(FloatingPointError, match="step 0 of 40"):
        lt.edge_popup(model, tiny_data, 0.5, config)


# Bad input


def test_a_share_that_empties_a_layer_names_it(tiny_data, config):
    with pytest.raises(ValueError, match=r"keeps none of the 18 weights of output\.weight"):
        lt.edge_popup(network(tiny_data), tiny_data, 0.02, config)


@pytest.mark.parametrize("keep", [0.0, 1.5, -1, "all", None])
def test_the_search_refuses_a_share_out_of_range(tiny_data, config, keep):
    for search in (lt.edge_popup, lt.biprop):
        with pytest.raises(ValueError, match=r"(in \(0, 1\]|keep is a number); got"):
            search(network(tiny_data), tiny_data, keep, config)


def test_a_model_without_layers_to_mask_is_refused(tiny_data, config):
    with pytest.raises(ValueError, match="Sequential has no prunable weights"):
        lt.edge_popup(nn.Sequential(nn.Flatten(), nn.ReLU()), tiny_data, 0.5, config)


def test_shared_weights_are_refused_by_name(tiny_data, config):
    layer = nn.Linear(8, 8)
    tied = nn.Sequential(layer, nn.ReLU(), layer, nn.ReLU(), nn.Linear(8, 3))
    with pytest.raises(ValueError, match=r"0\.weight stands in several places"):
        lt.edge_popup(tied, tiny_data, 0.5, config)


def test_learned_batch_norm_needs_batch_norm(tiny_data, config):
    with pytest.raises(ValueError, match="no batch norm"):
        lt.biprop(network(tiny_data), tiny_data, 0.5, config, learn_batchnorm=True)


def test_binary_activations_need_an_activation_to_replace(tiny_data, config):
    with pytest.raises(ValueError, match="no nn.ReLU module"):
        lt.biprop(nn.Linear(8, 3), tiny_data, 0.5, config, binary_activations=True)


def test_numbers_of_models_and_seeds_must_agree(tiny_data, config):
    with pytest.raises(ValueError, match="got 1 models, 2 seeds"):
        lt.train_supermasks([network(tiny_data)], tiny_data, design("biprop"), config, seeds=[0, 1])


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"method": "edgepopup"}, "Did you mean 'edge_popup'"),
        ({"scope": "net"}, "unknown scope"),
        ({"anneal": 1.0}, r"in \[0, 1\); got 1.0"),
        ({"method": "sampled"}, "finds its own density; got keep=0.5"),
    ],
)
def test_a_wrong_design_is_refused_when_it_is_made(options, message):
    with pytest.raises(ValueError, match=message):
        lt.SupermaskConfig(**options)


def test_a_mask_that_empties_a_layer_warns(tiny_data, config):
    # Scores of the wide first layer start smaller, so a sparse global mask takes none of it.
    model = nn.Sequential(nn.Linear(8, 200), nn.ReLU(), nn.Linear(200, 3))
    config = replace(config, steps=1, lr=1e-9, eval_every=None)
    with pytest.warns(lt.LayerCollapseWarning, match=r"2\.weight"):
        lt.edge_popup(model, tiny_data, 0.01, config, scope="global")


def test_scores_travel_under_names_of_their_own(tiny_data):
    group = group_of(network(tiny_data), "edge_popup")
    assert all(name.startswith(SCORE) for name in group.parameters)
    assert not set(group.parameters) & set(group.models[0].state_dict())


class Centred(nn.Linear):
    """Subtracts the mean of its weight before it multiplies."""

    def forward(self, x):
        return nn.functional.linear(x, self.weight - self.weight.mean(), self.bias)


@pytest.mark.parametrize(
    ("layers", "warning", "named"),
    [
        ([Centred(64, 10)], lt.LostZerosWarning, "1.weight"),
        (
            [nn.Embedding(5_000, 12), nn.Flatten(), nn.Linear(768, 10)],
            lt.LeftOutWarning,
            "1.weight",
        ),
    ],
)
def test_what_a_supermask_cannot_cover_is_named(layers, warning, named, digits):
    data = digits
    if warning is lt.LeftOutWarning:
        x = digits.x_train.flatten(1).long()
        data = lt.make_dataset("tokens", (x, digits.y_train), None, (x[:50], digits.y_train[:50]))
    model = nn.Sequential(nn.Flatten(), *layers)
    with pytest.warns(warning, match=named):
        lt.edge_popup(model, data, 0.5, lt.TrainConfig(steps=1, batch_size=10))
