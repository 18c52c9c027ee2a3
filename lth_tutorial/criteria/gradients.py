"""Criteria from first derivatives of the loss, and from what they do to each other (GraSP)."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lth_tutorial.criteria.passes import (
    check_finite,
    gradients,
    logits,
    masked_weights,
    scoring_mode,
    training_chunks,
)
from lth_tutorial.criteria.second_derivatives import (
    LeanSecondDerivatives,
    differentiable_twice,
)
from lth_tutorial.data.dataset import Dataset
from lth_tutorial.networks.first_pass import explained
from lth_tutorial.pruning.masks import Mask, Scores
from lth_tutorial.runtime import is_whole
from lth_tutorial.safety.arguments import checked


@checked
@explained
def snip_scores(
    model: nn.Module,
    data: Dataset,
    mask: Mask,
    *,
    examples: int | None = None,
    data_seed: int = 0,
) -> Scores:
    """Return |w · ∂L/∂w|: how strongly the loss reacts to scaling each weight of the mask.

    The product is the derivative of the loss with respect to the weight's own mask entry, taken
    at 1: to first order, what removing the weight changes. Pruned weights score zero. The paper
    divides by the sum over all weights, which changes no ranking.

    Args:
        model: usually untrained. It is left as it was.
        data: its training examples are used; batch norm takes the statistics of each chunk.
        mask: the weights that remain; the loss is that of the masked network.
        examples: training examples to average over, drawn by `data_seed`; None for all. The
            paper takes one minibatch (100 for MNIST).

    Raises:
        ValueError: if the mask does not fit, or scores are NaN or infinite.

    Source: Lee et al. 2019, section 4.
    """
    weights = masked_weights(model, mask)
    chunks, n = training_chunks(data, examples, data_seed)
    gradient = _mean_gradient(model, weights, chunks, n)
    return _product("snip_scores", weights, gradient)


@checked
@explained
def gradient_scores(
    model: nn.Module,
    data: Dataset,
    mask: Mask,
    *,
    base: Scores | None = None,
    batch_size: int | None = None,
    examples: int | None = None,
    data_seed: int = 0,
) -> Scores:
    """Return a criterion times the size of the loss gradient, |w| · |∂L/∂w| by default.

    At the minimum of the training loss the mean gradient is zero, and this is noise. A
    `batch_size` takes the mean of |∂L/∂w| over minibatches instead, which is not.

    Args:
        model: usually trained. It is left as it was.
        data, mask, examples, data_seed: as for `snip_scores`.
        base: what is multiplied; default the magnitudes. `random_scores(mask, seed)` makes the
            random control that knows the gradient.
        batch_size: examples per gradient; None for one gradient of the mean loss.

    Raises:
        ValueError: if the mask or the base does not fit, or scores are NaN or infinite.

    Source: Lévai & Zombori 2020 (data-dependent pruning), after Lee et al. 2019.
    """
    weights = masked_weights(model, mask)
    if batch_size is not None and (not is_whole(batch_size) or batch_size < 1):
        raise ValueError(f"batch_size is a whole number of at least 1; got {batch_size!r}")
    if base is not None and {n: s.shape for n, s in base.items()} != _shapes(weights):
        raise ValueError(
            f"base needs one score per weight of {', '.join(weights)}, in their shapes; got "
            f"{', '.join(f'{n} {tuple(s.shape)}' for n, s in base.items())}"
        )
    if batch_size is None:
        chunks, n = training_chunks(data, examples, data_seed)
        size = {k: g.abs() for k, g in _mean_gradient(model, weights, chunks, n).items()}
    else:
        chunks, n = training_chunks(data, examples, data_seed, batch_size)
        parts = [_mean_gradient(model, weights, [chunk], len(chunk[0])) for chunk in chunks]
        share = [len(x) / n for x, _ in chunks]
        size = {
            name: sum(s * part[name].abs() for s, part in zip(share, parts, strict=True))
            for name in weights
        }
    return _product("gradient_scores", base or weights, size)


@checked
@explained
def grasp_scores(
    model: nn.Module,
    data: Dataset,
    mask: Mask,
    *,
    examples: int | None = None,
    data_seed: int = 0,
    temperature: float = 200.0,
) -> Scores:
    """Return w · (H g): how much of the gradient's squared norm each weight is worth.

    g is the gradient of the loss and H its Hessian. Removing a weight changes ‖g‖² by about
    −2 w (H g); weights whose removal would lower it most are kept. The paper scores −w (H g) and
    removes the highest; here higher means keep, as everywhere.

    Args:
        model, data, mask, examples, data_seed: as for `snip_scores`. The paper takes ten
            examples of every class.
        temperature: the logits are divided by it, as in the authors' code; 1 for none.

    Raises:
        ValueError: if the mask does not fit, the temperature is not above 0, or scores are NaN or
            infinite.

    Source: Wang et al. 2020, section 4 and equation 8.
    """
    if not temperature > 0:
        raise ValueError(f"temperature divides the logits and is above 0; got {temperature!r}")
    weights = masked_weights(model, mask)
    chunks, n = training_chunks(data, examples, data_seed)
    # One chunk's own first derivative is the gradient over all examples.
    gradient = _mean_gradient(model, weights, chunks, n, temperature) if len(chunks) > 1 else {}
    product = {name: torch.zeros_like(w) for name, w in weights.items()}
    with (
        scoring_mode(model, batch_statistics=True),
        differentiable_twice(model, "grasp_scores"),
    ):
        for x, y in chunks:
            # The derivative of g(w) · g, with the second g held fixed, is H g.
            with LeanSecondDerivatives():
                output = logits(model, weights, x)
            loss = F.cross_entropy(output / temperature, y) * (len(x) / n)
            first = gradients(loss, weights, create_graph=True)
            held = gradient or {name: each.detach() for name, each in first.items()}
            dot = sum((first[name] * held[name]).sum() for name in weights)
            for name, part in gradients(dot, weights).items():
                product[name] += part
    scores = {name: (w * product[name]).detach() for name, w in weights.items()}
    return check_finite("grasp_scores", scores)


def _mean_gradient(
    model: nn.Module,
    weights: dict[str, Tensor],
    chunks: list[tuple[Tensor, Tensor]],
    n: int,
    temperature: float = 1.0,
) -> dict[str, Tensor]:
    """Return the gradient of the mean loss over the chunks' n examples."""
    total = {name: torch.zeros_like(w) for name, w in weights.items()}
    with scoring_mode(model, batch_statistics=True):
        for x, y in chunks:
            loss = F.cross_entropy(logits(model, weights, x) / temperature, y) * (len(x) / n)
            for name, part in gradients(loss, weights).items():
                total[name] += part
    return total


def _product(criterion: str, base: Scores, factor: Scores) -> Scores:
    scores = {name: (base[name].detach() * factor[name]).abs() for name in factor}
    return check_finite(criterion, scores)


def _shapes(scores: Scores) -> dict[str, torch.Size]:
    return {name: values.shape for name, values in scores.items()}
