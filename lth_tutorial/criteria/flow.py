"""Criteria and counts that follow paths from input to output: SynFlow, and what is connected."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.utils.checkpoint import CheckpointError

from lth_tutorial.criteria import blocks  # noqa: F401  for its rules, and those of `rules`
from lth_tutorial.criteria.passes import check_finite, scoring_mode
from lth_tutorial.criteria.paths import MASKED, Path, counting, path, plain, refuse
from lth_tutorial.data.dataset import Dataset
from lth_tutorial.networks.calls import call_with
from lth_tutorial.networks.first_pass import explained
from lth_tutorial.pruning.masks import Mask, Scores, weights_under
from lth_tutorial.safety.arguments import checked

_SMALL = 1e-12  # the product of three such numbers is still a normal one in single precision
_ONLY_ADD_AND_SCALE = (
    nn.Linear, nn.Conv2d, nn.BatchNorm1d, nn.BatchNorm2d, nn.ReLU, nn.Identity, nn.Flatten,
    nn.Sequential, nn.Dropout, nn.MaxPool2d, nn.AvgPool2d, nn.AdaptiveAvgPool2d,
)  # fmt: skip


@checked
@explained
def synflow_scores(model: nn.Module, data: Dataset, mask: Mask) -> Scores:
    """Return w · ∂R/∂w, with R the sum of the outputs for an input of ones and weights |w|.

    In a network without biases, R adds up all paths from input to output, each the product of its
    weights' magnitudes, and a weight's score is the sum over the paths that run through it. As the
    authors' networks have only ReLU and batch norm, which pass on what they are given, activations
    and norms of any other network are made to: see `criteria.paths`. The scores of every layer sum
    to R, so a thin layer has large scores: pruned in many small steps (see `prune_to_density`), no
    layer is emptied before the others.

    Args:
        model: usually untrained. It is left as it was; batch norm uses its running statistics.
        data: gives the shape of an input and the device. No example and no label is looked at.
        mask: the weights that remain; pruned weights score zero.

    Returns:
        scores in single precision where that is known to lose no path (on a CPU, for common
        layers whose numbers are neither tiny nor huge); else in double precision.

    Raises:
        ValueError: if the mask does not fit, scores are NaN or infinite, or the model has an
            operation through which paths cannot be followed; names it.

    Source: Tanaka et al. 2020, section 6 and algorithm 1.
    """
    mask = {name: mask[name] for name in weights_under(model, mask)}
    tensors = {**dict(model.named_parameters()), **dict(model.named_buffers())}
    absolute = {name: _magnitudes(tensor.detach()) for name, tensor in tensors.items()}
    # A GPU may round the factors of single-precision products to 10 bits (TF32).
    single = data.device.type == "cpu" and _single_may_do(model, absolute)
    for name in mask:
        absolute[name].masked_fill_(~mask[name], 0.0)
    scores = _scores_in_single(model, data, absolute, list(mask)) if single else None
    if scores is None:
        _, scores = _flow(model, data, _as_double(absolute), list(mask))
    return check_finite("synflow_scores", scores)


@checked
@explained
def connected_weights(model: nn.Module, data: Dataset, mask: Mask) -> Mask:
    """Return the kept weights that lie on a path of kept weights from input to output.

    A kept weight that is not connected does nothing: no input reaches it, or no output reads it.
    Where nothing is connected, the network has collapsed. (Biases are no inputs; learned tokens
    are. Of the inputs of a max pooling only the one with most paths counts.)

    Paths run through activations and norms as through wires, and enter a product of activations,
    such as a gate or attention, by either factor.

    Args:
        model: gives the structure; its weights play no role.
        data: gives the shape of an input.
        mask: the weights that remain.

    Raises:
        ValueError: if the mask does not fit the model, or the model has an operation through which
            paths cannot be followed; names it.
    """
    mask = {name: mask[name] for name in weights_under(model, mask)}
    _, scores = _flow(model, data, _ones(model, mask), list(mask), counts=True)
    return {name: mask[name] & (scores[name] > 0) for name in mask}


@checked
@explained
def count_paths(model: nn.Module, data: Dataset, mask: Mask) -> float:
    """Return the number of paths of kept weights from an input to an output.

    Without shortcuts every layer is crossed by all of them. An average over n elements counts
    each path through it as 1/n; more paths than double precision can hold are infinitely many.

    Args:
        model, data, mask: as for `connected_weights`.

    Raises:
        ValueError: as `connected_weights`.
    """
    total, _ = _flow(model, data, _ones(model, mask), list(mask), counts=True)
    return total


def _ones(model: nn.Module, mask: Mask) -> dict[str, Tensor]:
    """Return tensors with which the model counts paths: weights 1 or 0, other constants too.

    What is added, a bias for instance, does not count: see `paths`.
    """
    weights_under(model, mask)
    tensors = {**dict(model.named_parameters()), **dict(model.named_buffers())}
    owned = {id(parameter) for parameter in model.parameters()}
    values = {}
    for name, t in tensors.items():
        t = t.detach()
        if not t.is_floating_point():
            values[name] = t
        elif id(tensors[name]) in owned:
            values[name] = torch.ones_like(t, dtype=torch.float64)
        else:  # what hides scores of attention goes on hiding them
            values[name] = t.double().where(t <= MASKED, (t != 0).double())
    return values | {name: kept.double() for name, kept in mask.items()}


def _magnitudes(t: Tensor) -> Tensor:
    if t.dtype == torch.bool:
        return t
    return t.abs() if not t.is_floating_point() or not bool((t <= MASKED).any()) else t


def _as_double(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """Return them in double precision: products over many layers leave the range of single."""
    return {n: t.detach().double() if t.is_floating_point() else t for n, t in tensors.items()}


def _single_may_do(model: nn.Module, values: dict[str, Tensor]) -> bool:
    """Return whether no layer takes a difference and no value is so small that products vanish."""
    for module in model.modules():
        ours = type(module).__module__.startswith("lth_tutorial.") and list(module.children())
        if not ours and type(module) not in _ONLY_ADD_AND_SCALE:
            return False
        if isinstance(module, _BatchNorm) and module.running_mean is None:
            return False  # it subtracts the batch's mean
    for name, t in values.items():
        if name.endswith("running_mean") and bool(t.any()):
            return False  # batch norm subtracts it
        if t.is_floating_point() and not (t.dtype == torch.float32 and _none_small(t)):
            return False
    return True


def _none_small(t: Tensor) -> bool:
    """Return whether every value is zero or at least `_SMALL` in size."""
    size = t.detach().abs()
    if bool(size.amin() == 0):
        size = size.where(size > 0, 1.0)
    return bool(size.amin() >= _SMALL)  # not where one is NaN


def _scores_in_single(
    model: nn.Module, data: Dataset, values: dict[str, Tensor], names: list[str]
) -> Scores | None:
    """Return the scores of `_flow`, or None if single precision cannot hold all that flows.

    Where every weight, every output of a layer and its gradient is zero or at least `_SMALL`, no
    product of them turns zero, and where the result is finite too, nothing overflowed: only the
    last digits differ from double precision.
    """
    safe = []

    def watch(module: nn.Module, args: tuple, output: Tensor) -> None:
        safe.append(isinstance(output, Tensor) and _none_small(plain(output)))
        if safe[-1] and plain(output).requires_grad:
            output.register_hook(lambda gradient: safe.append(_none_small(plain(gradient))))

    leaves = [module for module in model.modules() if not list(module.children())]
    handles = [module.register_forward_hook(watch) for module in leaves]
    try:
        total, scores = _flow(model, data, values, names, torch.float32)
    finally:
        for handle in handles:
            handle.remove()
    finite = math.isfinite(total) and all(bool(s.sum().isfinite()) for s in scores.values())
    return scores if finite and all(safe) else None


def _flow(
    model: nn.Module,
    data: Dataset,
    values: dict[str, Tensor],
    names: list[str],
    dtype: torch.dtype = torch.float64,
    *,
    counts: bool = False,
) -> tuple[float, Scores]:
    """Return the sum R of the outputs for an input of ones, and w · ∂R/∂w of the named weights."""
    for module in model.modules():
        if module._backward_hooks or module._backward_pre_hooks:
            refuse(f"a backward hook of {type(module).__name__}; remove it first")
    weights = {name: values[name].requires_grad_() for name in names}
    given = values | {name: path(w, of_input=False) for name, w in weights.items()}
    x = path(torch.ones((1, *data.shape), dtype=dtype, device=data.device))
    with scoring_mode(model, batch_statistics=False), counting(counts):
        output = call_with(model, given, x)
    if not isinstance(output, Path) or not output.of_input:
        refuse(f"the forward pass to an output of type {type(output).__name__}")
    total = plain(output).sum()
    try:
        gradients = torch.autograd.grad(total, list(weights.values()), allow_unused=True)
    except CheckpointError:
        refuse("torch.utils.checkpoint, which computes a part of the network twice")
    scores = {}
    for (name, w), gradient in zip(weights.items(), gradients, strict=True):
        # In place: memory that is new costs more time than the product.
        scores[name] = torch.zeros_like(w) if gradient is None else gradient.mul_(w.detach())
    return total.item(), scores
