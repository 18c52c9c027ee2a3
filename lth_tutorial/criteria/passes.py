"""Forward passes for criteria: under a mask, with weights of their own, the model untouched."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, nullcontext

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from lth_tutorial.data.dataset import Dataset, batch_indices, chunk_lengths
from lth_tutorial.networks.calls import call_with
from lth_tutorial.pruning.masks import Mask, Scores, weights_under
from lth_tutorial.runtime import is_whole

_CHUNK = 500


def masked_weights(model: nn.Module, mask: Mask) -> dict[str, Tensor]:
    """Return copies of the prunable weights, pruned ones zero, that record gradients.

    Raises:
        ValueError: if the mask does not fit the model.
    """
    weights = weights_under(model, mask)
    masked = {n: w.detach().masked_fill(~mask[n], 0.0) for n, w in weights.items()}
    return {name: w.requires_grad_() for name, w in masked.items()}


def logits(model: nn.Module, weights: dict[str, Tensor], x: Tensor) -> Tensor:
    """Return the model's output for normalised inputs with these weights in place of its own."""
    # With copies of the buffers, so that batch norm writes its statistics into those.
    buffers = {name: buffer.clone() for name, buffer in model.named_buffers()}
    return call_with(model, weights | buffers, x)


def gradients(
    of: Tensor,
    weights: dict[str, Tensor],
    *,
    create_graph: bool = False,
    retain_graph: bool | None = None,
) -> dict[str, Tensor]:
    """Return the gradients of a number with respect to the weights, zero for unused layers."""
    found = torch.autograd.grad(
        of, list(weights.values()), None, retain_graph, create_graph, allow_unused=True
    )
    pairs = zip(weights.items(), found, strict=True)
    return {name: torch.zeros_like(w) if g is None else g for (name, w), g in pairs}


@contextmanager
def scoring_mode(model: nn.Module, *, batch_statistics: bool) -> Iterator[None]:
    """Switch dropout off, and batch norm to the statistics of the batch or to its running ones.

    An untrained network has no running statistics worth the name: in evaluation mode its batch
    norm would do nothing, and what is scored would be another network.
    """
    before = [(module, module.training) for module in model.modules()]
    model.eval()
    for module, training in before if batch_statistics else ():
        # One in evaluation mode inside a model in training mode is frozen on purpose.
        if isinstance(module, _BatchNorm) and (training or not before[0][1]):
            module.training = True
    # cuDNN's recurrent layers have no gradient in evaluation mode, and never a second one.
    recurrent = any(isinstance(module, nn.RNNBase) for module in model.modules())
    try:
        with torch.backends.cudnn.flags(enabled=False) if recurrent else nullcontext():
            yield
    finally:
        for module, training in before:
            module.training = training


@contextmanager
def own_statistics(model: nn.Module, weights: dict[str, Tensor], chunks) -> Iterator[None]:
    """Give batch norm that keeps no statistics those of the chunks, so that examples go alone."""
    norms = [m for m in model.modules() if isinstance(m, _BatchNorm) and m.running_mean is None]
    seen: dict[nn.Module, list[tuple[Tensor, Tensor]]] = {norm: [] for norm in norms}

    def watch(norm: nn.Module, args: tuple) -> None:
        x = args[0].detach()
        seen[norm].append(torch.var_mean(x, [0, *range(2, x.ndim)]))

    handles = [norm.register_forward_pre_hook(watch) for norm in norms]
    try:
        with torch.no_grad():
            for x, _ in chunks if norms else ():
                logits(model, weights, x)
        for norm, parts in seen.items():
            if parts:
                variances, means = zip(*parts, strict=True)
                norm._buffers["running_mean"] = torch.stack(means).mean(dim=0)
                norm._buffers["running_var"] = torch.stack(variances).mean(dim=0)
        for handle in handles:
            handle.remove()
        yield
    finally:
        for handle in handles:
            handle.remove()
        for norm in norms:
            norm._buffers["running_mean"] = norm._buffers["running_var"] = None


def training_chunks(
    data: Dataset, examples: int | None, data_seed: int, size: int = _CHUNK
) -> tuple[list[tuple[Tensor, Tensor]], int]:
    """Return normalised training examples with labels in chunks, and their number.

    Args:
        examples: how many, drawn without replacement by `data_seed`; None for all.

    Raises:
        ValueError: if there are fewer examples.
    """
    x, y = data.split("train")
    if examples is not None:
        if not is_whole(examples) or not 0 < examples <= len(x):
            raise ValueError(f"examples are 1 to {len(x)} of {data.name}'s; got {examples!r}")
        rows = batch_indices(len(x), examples, 0, data_seed).to(x.device)
        x, y = x[rows], y[rows]
    parts = chunk_lengths(len(x), size)
    pairs = zip(x.split(parts), y.split(parts), strict=True)
    return [(data.normalize(part), labels) for part, labels in pairs], len(x)


def check_finite(criterion: str, scores: Scores) -> Scores:
    """Return the scores, or raise a ValueError that names the layers with NaN or infinity."""
    # A sum is finite only if all of its terms are.
    broken = [
        name
        for name, values in scores.items()
        if not bool(values.sum().isfinite() or values.isfinite().all())
    ]
    if broken:
        raise ValueError(
            f"{criterion} gives NaN or infinity for {', '.join(broken)}: are the model's weights "
            f"finite? A run that diverged cannot be scored"
        )
    return scores
