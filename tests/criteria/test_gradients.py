"""Criteria that look at the loss, each against a formula of its own on a tiny network."""

from __future__ import annotations

from functools import partial

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn

import lth_tutorial as lt

NEED_DATA = [lt.snip_scores, lt.gradient_scores, lt.grasp_scores, lt.fisher_scores, lt.obd_scores]
ALL = [*NEED_DATA, lt.synflow_scores]


def by_name(function):
    return function.__name__


@pytest.fixture
def few(tiny_data):
    return tiny_data.subset(30)


def tiny(data, activation=nn.ReLU, seed=0) -> nn.Module:
    """Return a network of 8-4-3 units with biases that are not zero."""
    model = nn.Sequential(nn.Linear(8, 4), activation(), nn.Linear(4, 3))
    lt.reinitialize(model, seed)
    return model


def masked(model, seed=0) -> dict:
    mask = lt.dense_mask(model)
    return lt.prune(lt.random_scores(mask, seed), mask, 0.3)


def batch(data):
    return data.normalize(data.x_train), data.y_train


def flat_loss(model, mask, data, temperature=1.0):
    """Return the loss as a function of one vector of prunable weights, and that vector."""
    x, y = batch(data)
    weights = {n: p.detach() for n, p in model.named_parameters()}
    sizes = [mask[n].numel() for n in mask]

    def loss(vector):
        parts = zip(mask, vector.split(sizes), strict=True)
        own = {n: part.view_as(mask[n]) for n, part in parts}
        return F.cross_entropy(torch.func.functional_call(model, weights | own, x) / temperature, y)

    return loss, torch.cat([(weights[n] * mask[n]).flatten() for n in mask])


def flat(scores):
    return torch.cat([s.flatten() for s in scores.values()])


def test_snip_is_the_derivative_with_respect_to_the_mask(few):
    model = tiny(few)
    mask = masked(model)
    x, y = batch(few)
    gates = {n: m.float().requires_grad_() for n, m in mask.items()}
    weights = dict(model.named_parameters())
    gated = {n: weights[n].detach() * gate for n, gate in gates.items()}
    loss = F.cross_entropy(torch.func.functional_call(model, gated, x), y)
    for (name, gate), d in zip(
        gates.items(), torch.autograd.grad(loss, list(gates.values())), strict=True
    ):
        scores = lt.snip_scores(model, few, mask)[name]
        assert torch.allclose(scores, d.abs() * gate.detach(), atol=1e-7)


def test_snip_on_logistic_regression_is_the_textbook_gradient(few):
    model = nn.Sequential(nn.Linear(8, 3))
    lt.reinitialize(model, 1)
    x, y = (t.numpy().astype(float) for t in batch(few))
    w, b = (p.detach().numpy().astype(float) for p in model.parameters())
    z = x @ w.T + b
    p = np.exp(z) / np.exp(z).sum(axis=1, keepdims=True)
    gradient = (p - np.eye(3)[y.astype(int)]).T @ x / len(x)
    scores = lt.snip_scores(model, few, lt.dense_mask(model))["0.weight"]
    assert np.allclose(scores.numpy(), np.abs(w * gradient), atol=1e-6)


def test_a_mean_over_chunks_is_the_mean_over_all_examples(digits):
    """The 1,000 training images are scored in two chunks."""
    model = lt.build_model("mlp_12", seed=0, data=digits)
    mask = lt.dense_mask(model)
    loss, vector = flat_loss(model, mask, digits)
    gradient = torch.func.grad(loss)(vector)
    assert torch.allclose(
        flat(lt.snip_scores(model, digits, mask)), (vector * gradient).abs(), rtol=1e-4, atol=1e-7
    )
    norm = lambda v: torch.func.grad(loss)(v).square().sum() / 2  # noqa: E731
    expected = vector * torch.func.grad(norm)(vector)  # the derivative of |g|²/2 is H g
    scores = flat(lt.grasp_scores(model, digits, mask, temperature=1))
    assert torch.allclose(scores, expected, rtol=1e-3, atol=1e-6)


@pytest.mark.parametrize("temperature", [1.0, 200.0])
def test_grasp_is_weight_times_the_whole_hessian_times_the_gradient(few, temperature):
    model = tiny(few)
    mask = masked(model)
    loss, vector = flat_loss(model, mask, few, temperature)
    hessian = torch.autograd.functional.hessian(loss, vector)
    expected = vector * (hessian @ torch.func.grad(loss)(vector))
    scores = flat(lt.grasp_scores(model, few, mask, temperature=temperature))
    assert torch.allclose(scores, expected, rtol=1e-3, atol=expected.abs().max() * 1e-4)


def test_grasp_predicts_what_a_removal_does_to_the_gradients_norm(few):
    """The sign, by finite differences: shrink one weight a little, and see."""
    model = tiny(few, nn.Tanh)
    mask = lt.dense_mask(model)
    loss, vector = flat_loss(model, mask, few)
    norm = lambda v: torch.func.grad(loss)(v).square().sum()  # noqa: E731
    scores = flat(lt.grasp_scores(model, few, mask, temperature=1)).double()
    for i in range(len(vector)):
        changed = vector.clone().double()
        changed[i] *= 0.99
        change = (norm(changed.float()) - norm(vector)).item() / 0.01
        assert change == pytest.approx(-2 * scores[i].item(), abs=2e-3)


@pytest.mark.parametrize("activation", [nn.ReLU, nn.Tanh])
def test_obd_with_second_derivatives_is_the_diagonal_of_the_hessian(few, activation):
    model = tiny(few, activation)
    mask = masked(model)
    loss, vector = flat_loss(model, mask, few)
    diagonal = torch.autograd.functional.hessian(loss, vector).diagonal()
    scores = flat(lt.obd_scores(model, few, mask, curvature="hessian"))
    assert torch.allclose(scores, vector.square() * diagonal / 2, atol=1e-6)


def test_gauss_newton_is_the_hessians_diagonal_with_relu_and_not_with_tanh(few):
    for activation, equal in ((nn.ReLU, True), (nn.Tanh, False)):
        model = tiny(few, activation)
        mask = masked(model)
        gn, exact = (
            flat(lt.obd_scores(model, few, mask, curvature=kind))
            for kind in ("gauss_newton", "hessian")
        )
        assert torch.allclose(gn, exact, atol=1e-6) is equal
        assert (gn >= 0).all()


def test_gauss_newton_is_the_expected_fisher_information(few):
    model = tiny(few, nn.Tanh)
    mask = lt.dense_mask(model)
    _, vector = flat_loss(model, mask, few)
    x, _ = batch(few)
    total = torch.zeros_like(vector)
    for image in x:
        p = model(image[None]).softmax(1)[0].detach()
        for k in range(3):
            model.zero_grad()
            F.cross_entropy(model(image[None]), torch.tensor([k])).backward()
            gradient = torch.cat([dict(model.named_parameters())[n].grad.flatten() for n in mask])
            total += p[k] * gradient.square()
    expected = vector.square() * total / len(x) / 2
    assert torch.allclose(flat(lt.obd_scores(model, few, mask)), expected, atol=1e-6)


def test_gauss_newton_of_a_convolution_with_pooling_is_exact_too():
    x = torch.rand(6, 1, 4, 4, generator=torch.Generator().manual_seed(0))
    data = lt.make_dataset("rand", (x, torch.arange(6) % 2), None, (x, torch.arange(6) % 2))
    model = nn.Sequential(
        nn.Conv2d(1, 2, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2), nn.Flatten(), nn.Linear(8, 2)
    )
    lt.reinitialize(model, 0)
    mask = lt.dense_mask(model)
    kinds = [lt.obd_scores(model, data, mask, curvature=k) for k in ("gauss_newton", "hessian")]
    assert torch.allclose(flat(kinds[0]), flat(kinds[1]), atol=1e-6)


def test_fisher_is_the_mean_of_squared_gradients_of_single_examples(few):
    model = tiny(few)
    mask = masked(model)
    lt.apply_mask_(model, mask)
    total = {n: torch.zeros(m.shape) for n, m in mask.items()}
    for image, label in zip(*batch(few), strict=True):
        model.zero_grad()
        F.cross_entropy(model(image[None]), label[None]).backward()
        for name, weight in model.named_parameters():
            if name in mask:
                total[name] += weight.grad.square()
    scores = lt.fisher_scores(model, few, mask)
    for name, weight in model.named_parameters():
        if name in mask:
            expected = weight.detach().square() * total[name] / len(few.x_train) / 2
            assert torch.allclose(scores[name], expected, atol=1e-7)


def test_the_gradient_factor_multiplies_any_base(few):
    model = tiny(few)
    mask = masked(model)
    snip, base = lt.snip_scores(model, few, mask), lt.random_scores(mask, 0)
    plain, product = (lt.gradient_scores(model, few, mask, base=b) for b in (None, base))
    for name, weight in model.named_parameters():
        if name in mask:
            assert torch.equal(plain[name], snip[name])
            gradient = snip[name] / weight.detach().abs()
            kept = mask[name]
            assert torch.allclose(product[name][kept], (base[name] * gradient)[kept], rtol=1e-4)


def test_gradients_of_minibatches_do_not_cancel(few):
    model = tiny(few)
    mask = lt.dense_mask(model)
    single = lt.gradient_scores(model, few, mask, batch_size=1)
    expected = 0
    for image, label in zip(*batch(few), strict=True):
        model.zero_grad()
        F.cross_entropy(model(image[None]), label[None]).backward()
        expected = expected + model[0].weight.grad.abs() / len(few.x_train)
    assert torch.allclose(single["0.weight"], model[0].weight.abs() * expected, atol=1e-6)
    assert (flat(single) >= flat(lt.gradient_scores(model, few, mask)) - 1e-7).all()


def test_some_examples_are_those_of_the_data_seed(few):
    model = tiny(few)
    mask = lt.dense_mask(model)
    a, b, c = (flat(lt.snip_scores(model, few, mask, examples=9, data_seed=s)) for s in (0, 0, 1))
    assert torch.equal(a, b) and not torch.equal(a, c)
    rows = lt.batch_indices(30, 9, 0, 0)
    part = lt.make_dataset(
        "part", (few.x_train[rows], few.y_train[rows]), None, (few.x_test, few.y_test)
    )
    part = few.__class__(**{**vars(part), "mean": few.mean, "std": few.std})
    assert torch.allclose(a, flat(lt.snip_scores(model, part, mask)))


@pytest.mark.parametrize("criterion", ALL, ids=by_name)
def test_a_criterion_leaves_the_model_as_it_was(criterion):
    x = torch.rand(12, 1, 6, 6, generator=torch.Generator().manual_seed(0))
    data = lt.make_dataset("rand", (x, torch.arange(12) % 3), None, (x, torch.arange(12) % 3))
    model = nn.Sequential(
        nn.Conv2d(1, 3, 3),
        nn.BatchNorm2d(3),
        nn.ReLU(),
        nn.Dropout(0.5),
        nn.Flatten(),
        nn.Linear(48, 3),
    )
    lt.reinitialize(model, 0)
    model[1].eval()
    before, draws = lt.state_hash(lt.snapshot(model)), torch.get_rng_state()
    first, second = (criterion(model, data, lt.dense_mask(model)) for _ in range(2))
    assert lt.state_hash(lt.snapshot(model)) == before
    assert [m.training for m in model] == [True, False, True, True, True, True] and model.training
    assert all(p.grad is None and p.requires_grad for p in model.parameters())
    assert torch.equal(draws, torch.get_rng_state())
    assert all(torch.equal(first[n], second[n]) for n in first)  # no dropout, nothing remembered


@pytest.mark.parametrize("criterion", ALL, ids=by_name)
def test_scores_are_of_the_masked_network_and_zero_where_pruned(criterion, few):
    model, other = tiny(few), tiny(few)
    mask = masked(model)
    lt.apply_mask_(other, mask)
    scores, same = criterion(model, few, mask), criterion(other, few, mask)
    for name in mask:
        assert torch.equal(scores[name], same[name])
        assert (scores[name][~mask[name]] == 0).all()
    dense = criterion(model, few, lt.dense_mask(model))
    assert not torch.equal(
        dense["2.weight"][mask["2.weight"]], scores["2.weight"][mask["2.weight"]]
    )


@pytest.mark.parametrize("criterion", ALL, ids=by_name)
def test_a_criterion_takes_any_module(criterion, few):
    class Odd(nn.Module):
        def __init__(self):
            super().__init__()
            self.a, self.b = nn.Linear(8, 8), nn.Linear(8, 3)

        def forward(self, x):
            return self.b(torch.sin(self.a(x)) + x)

    model = Odd()
    lt.reinitialize(model, 0)
    scores = criterion(model, few, lt.dense_mask(model))
    assert {n: s.shape for n, s in scores.items()} == {
        "a.weight": (8, 8), "b.weight": (3, 8),
    }  # fmt: skip


@pytest.mark.parametrize("criterion", NEED_DATA, ids=by_name)
def test_a_criterion_that_needs_data_says_so(criterion, few):
    model = tiny(few)
    with pytest.raises(TypeError, match=f"data is a Dataset; got None.*{criterion.__name__}"):
        criterion(model, None, lt.dense_mask(model))


@pytest.mark.parametrize("criterion", ALL, ids=by_name)
def test_weights_that_are_not_finite_give_no_scores(criterion, few):
    model = tiny(few)
    with torch.no_grad():
        model[2].weight[0, 0] = torch.nan
    with pytest.raises(
        ValueError, match=f"{criterion.__name__} gives NaN or infinity for .*2.weight"
    ):
        criterion(model, few, lt.dense_mask(model))


@pytest.mark.parametrize("criterion", ALL, ids=by_name)
def test_a_mask_of_another_network_is_refused(criterion, few, digits):
    with pytest.raises(ValueError, match="mask"):
        criterion(tiny(few), few, lt.dense_mask(lt.build_model("mlp_5", seed=0, data=digits)))


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (partial(lt.obd_scores, curvature="hesian"), "Did you mean 'hessian'"),
        (partial(lt.grasp_scores, temperature=0), "above 0, and finite; got 0"),
        (partial(lt.gradient_scores, batch_size=0), "at least 1; got 0"),
        (partial(lt.gradient_scores, base={"0.weight": torch.ones(2, 2)}), r"got 0.weight .2, 2."),
        (partial(lt.snip_scores, examples=31), "31"),
    ],
)
def test_wrong_settings_are_refused(call, message, few):
    model = tiny(few)
    with pytest.raises(ValueError, match=message):
        call(model, few, lt.dense_mask(model))


def test_a_model_that_draws_random_numbers_in_evaluation_too_is_named(digits):
    torch.manual_seed(0)
    model = nn.Sequential(
        nn.Conv2d(1, 2, 3),
        nn.FractionalMaxPool2d(2, output_size=3),
        nn.Flatten(),
        nn.Linear(18, 10),
    )
    for criterion in (lt.fisher_scores, lt.obd_scores):
        with pytest.raises(ValueError, match="Sequential draws random numbers in evaluation mode"):
            criterion(model, digits, lt.dense_mask(model), examples=4)
