"""Criteria from the curvature of the loss: Optimal Brain Damage and the Fisher information."""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.func import grad, vmap

from lth_tutorial.criteria.passes import (
    check_finite,
    gradients,
    logits,
    masked_weights,
    own_statistics,
    scoring_mode,
    training_chunks,
)
from lth_tutorial.criteria.second_derivatives import differentiable_twice
from lth_tutorial.data.dataset import Dataset
from lth_tutorial.networks.calls import call_with
from lth_tutorial.networks.first_pass import explained
from lth_tutorial.pruning.masks import Mask, Scores
from lth_tutorial.runtime import choose
from lth_tutorial.safety.arguments import checked

_ELEMENTS = 20_000_000  # of gradients that are held at the same time: 80 MB


@checked
@explained
def obd_scores(
    model: nn.Module,
    data: Dataset,
    mask: Mask,
    *,
    curvature: Literal["gauss_newton", "hessian"] = "gauss_newton",
    examples: int | None = None,
    data_seed: int = 0,
) -> Scores:
    """Return w² h / 2: by how much the loss grows when the weight alone is removed.

    h is the second derivative of the mean training loss with respect to the weight. The formula
    is a Taylor expansion at a minimum: first derivatives zero, interactions between weights left
    out, and the loss quadratic all the way down to w = 0.

    Args:
        model: usually trained. It is left as it was; batch norm uses its running statistics, or
            those of the examples where it keeps none.
        data, mask, examples, data_seed: as for `snip_scores`.
        curvature: "gauss_newton" takes the diagonal of the Gauss-Newton matrix, which for this
            loss is the expected Fisher information, never negative; it costs one pass with a
            gradient for each example per class. In networks of linear layers, ReLU and max
            pooling it *is* the diagonal of the Hessian: no path runs through a weight twice.
            "hessian" differentiates twice, one weight at a time: right for any network, and for
            tiny ones only.

    Raises:
        ValueError: if the mask does not fit, the curvature is unknown, or scores are NaN or
            infinite.

    Source: LeCun, Denker & Solla 1989, section 2 (saliency); the Gauss-Newton form is their
    Levenberg-Marquardt approximation, section 3.
    """
    choose("curvature", curvature, ("gauss_newton", "hessian"))
    weights = masked_weights(model, mask)
    chunks, n = _chunks(data, weights, examples, data_seed)
    with scoring_mode(model, batch_statistics=False), own_statistics(model, weights, chunks):
        if curvature == "hessian":
            with differentiable_twice(model, "obd_scores"):
                h = _hessian_diagonal(model, weights, chunks, n)
        else:
            h = _sum_of_squares(model, weights, chunks, _all_classes, data.num_classes)
            h = {name: total / n for name, total in h.items()}
    scores = {name: (w.square() * h[name] / 2).detach() for name, w in weights.items()}
    return check_finite("obd_scores", scores)


@checked
@explained
def fisher_scores(
    model: nn.Module,
    data: Dataset,
    mask: Mask,
    *,
    examples: int | None = None,
    data_seed: int = 0,
) -> Scores:
    """Return w² F / 2, with F the mean of the squared loss gradients of single examples.

    F is the *empirical* Fisher information: with the labels of the data where the expected one
    averages over the labels that the network would draw. Ranking by |w| √F is the same.

    Args:
        model, data, mask, examples, data_seed: as for `obd_scores`.

    Raises:
        ValueError: if the mask does not fit, or scores are NaN or infinite.

    Source: Theis et al. 2018 (Fisher pruning), section 2; the expansion is that of Optimal Brain
    Damage.
    """
    weights = masked_weights(model, mask)
    chunks, n = _chunks(data, weights, examples, data_seed)
    with scoring_mode(model, batch_statistics=False), own_statistics(model, weights, chunks):
        squares = _sum_of_squares(model, weights, chunks, _own_label, 1)
    scores = {n_: (w.square() * squares[n_] / (2 * n)).detach() for n_, w in weights.items()}
    return check_finite("fisher_scores", scores)


def _chunks(data, weights, examples, data_seed):
    size = max(1, min(500, _ELEMENTS // sum(w.numel() for w in weights.values())))
    return training_chunks(data, examples, data_seed, size)


Loss = Callable[[Tensor, Tensor, int], Tensor]


def _own_label(log_p: Tensor, y: Tensor, k: int) -> Tensor:
    return -log_p.gather(0, y[None])[0]


def _all_classes(log_p: Tensor, y: Tensor, k: int) -> Tensor:
    # Its squared gradient is that of class k, weighted by the class's probability.
    return -log_p[k] * (log_p[k].detach() / 2).exp()


def _sum_of_squares(
    model: nn.Module, weights: dict[str, Tensor], chunks, loss: Loss, terms: int
) -> dict[str, Tensor]:
    """Return the sum over examples and terms of the squared gradient of each example's loss."""
    leaves = {name: w.detach().requires_grad_() for name, w in weights.items()}
    fixed = {name: w.detach() for name, w in weights.items()}
    total = {name: torch.zeros_like(w) for name, w in fixed.items()}

    def one(values: dict[str, Tensor], x: Tensor, y: Tensor, k: int) -> Tensor:
        return loss(call_with(model, values, x[None])[0].log_softmax(0), y, k)

    each = vmap(grad(one), in_dims=(None, 0, 0, None), randomness="error")

    def at_once(x: Tensor, y: Tensor, k: int) -> None:
        found = each(fixed, x, y, k)  # whole, before anything is added
        for name, gradient in found.items():
            total[name] += gradient.square().sum(dim=0)

    def one_by_one(x: Tensor, y: Tensor, k: int) -> None:
        for example, label in zip(x, y, strict=True):
            for name, gradient in gradients(one(leaves, example, label, k), leaves).items():
                total[name] += gradient.square()

    add = at_once
    for x, y in chunks:
        for k in range(terms):
            try:
                add(x, y, k)
            except torch.OutOfMemoryError:
                raise
            except RuntimeError as error:  # a layer that vmap cannot take, a recurrent one say
                if "randomness" in str(error):
                    raise ValueError(
                        f"{type(model).__name__} draws random numbers in evaluation mode too: its "
                        f"scores would be others each time ({error})"
                    ) from error
                if add is one_by_one:
                    raise
                add = one_by_one
                add(x, y, k)
    return total


def _hessian_diagonal(model, weights: dict[str, Tensor], chunks, n: int) -> dict[str, Tensor]:
    """Return the second derivative of the mean loss with respect to every weight."""
    total = {name: torch.zeros_like(w) for name, w in weights.items()}
    for x, y in chunks:
        loss = F.cross_entropy(logits(model, weights, x), y) * (len(x) / n)
        for name, gradient in gradients(loss, weights, create_graph=True).items():
            flat = total[name].view(-1)
            if not gradient.requires_grad:  # of a layer that is not used
                continue
            for i, derivative in enumerate(gradient.flatten()):
                second = gradients(derivative, {name: weights[name]}, retain_graph=True)[name]
                flat[i] += second.flatten()[i]
    return total
