"""Pruning a random network onto a target network: the construction in the proofs, carried out.

One target weight w between an input x and a neuron becomes a small bundle of paths: x → random
hidden neuron → output. A path with first weight v and second weight u multiplies x by u·v, as long
as v·x > 0 so that the ReLU between them is open. Keep those paths whose products add up to w. Each
layer of the target takes two random layers; no weight is ever changed.
"""

from __future__ import annotations

import copy
from collections import OrderedDict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn

from lth_tutorial.data.dataset import Dataset, generator_for
from lth_tutorial.networks.architectures import kaiming_normal_, mlp
from lth_tutorial.networks.first_pass import taking
from lth_tutorial.pruning.masks import Mask, apply_mask_
from lth_tutorial.runtime import choose, is_whole
from lth_tutorial.safety.arguments import checked
from lth_tutorial.theory.subsets import LARGEST, best_single, best_subset

Search = Literal["subset", "single"]
_SEARCHES = {"subset": best_subset, "single": best_single}
MOST_WEIGHTS = 200_000_000  # of one random network: 0.8 GB


@dataclass(frozen=True)
class RandomLayer:
    """Two random layers, and the weights to keep so that they act like one target layer.

    Attributes:
        first: random weights [hidden, inputs].
        second: random weights [outputs, hidden].
        first_kept, second_kept: boolean, of the same shapes; True = kept.
        error: |target weight − sum of kept products|, shape [2, outputs, inputs]: for positive
            inputs and for negative ones. The second is 0 where inputs are never negative.
    """

    first: Tensor
    second: Tensor
    first_kept: Tensor
    second_kept: Tensor
    error: Tensor


@dataclass(frozen=True)
class PrunedRandomNetwork:
    """A random network, and the mask under which it imitates a target.

    Attributes:
        random: the whole random network, as drawn.
        pruned: a copy of it with the pruned weights zero; nothing else differs.
        mask: what is kept, by parameter name.
        errors: for each target weight, by the target's parameter name, as `RandomLayer.error`.
        target_weights, random_weights, kept_weights: how many weights each network has.
    """

    random: nn.Sequential
    pruned: nn.Sequential
    mask: Mask
    errors: dict[str, Tensor]
    target_weights: int
    random_weights: int
    kept_weights: int


@checked
def relu_network(sizes: Sequence[int], *, seed: int) -> nn.Sequential:
    """Return a fully connected ReLU network without biases, e.g. `relu_network((64, 32, 10), …)`.

    The theorems are about such networks. Names are those of `mlp`: `fc1.weight`, …,
    `output.weight`; weights are drawn Kaiming normal.

    Args:
        sizes: inputs, hidden widths, outputs: at least two whole numbers of at least 1.
        seed: draws the weights.

    Raises:
        ValueError: for other sizes or a bad seed.
    """
    if len(sizes) < 2 or not all(is_whole(size) and size >= 1 for size in sizes):
        raise ValueError(f"sizes are inputs, hidden widths and outputs, ≥ 1 each; got {sizes!r}")
    with torch.random.fork_rng(devices=[]):  # PyTorch's own initialisation, which is overwritten
        model = mlp(sizes)
    for layer in model:
        if isinstance(layer, nn.Linear):
            layer.bias = None
    kaiming_normal_(model, generator_for("initial weights", seed))
    return model


@checked
def prune_random_layer(
    weight: Tensor,
    n: int,
    *,
    seed: int | tuple[int, ...],
    nonnegative: bool = False,
    search: Search = "subset",
) -> RandomLayer:
    """Draw two random layers and choose what to keep so that they multiply by `weight`.

    Every input gets 2n hidden neurons of its own: the others of its row are pruned away. On
    average n of them have a positive first weight and serve positive inputs, n a negative one for
    negative inputs; outputs share hidden neurons, but each keeps second weights of its own. First
    weights are uniform in [−1, 1], second weights uniform in ±2·max|weight|, so that targets lie
    in the middle of what sums can reach.

    Args:
        weight: the target layer, shape [outputs, inputs].
        n: expected number of paths to choose from, per weight and sign of the input; 1 to 20 for
            subsets.
        seed: draws all weights: a number, or several that are mixed.
        nonnegative: inputs are never negative (they come out of a ReLU): half of the hidden
            neurons stay unused then.
        search: "subset" keeps the best subset of the products (Pensia et al. 2020), "single" the
            best one (Malach et al. 2020, kindly read; see `best_single`).

    Raises:
        ValueError: for a weight that is not a finite matrix, n out of range, an unknown search, or
            a random network of more than 200 million weights.

    Source: Pensia et al. 2020, section 3; Malach et al. 2020, section 3.
    """
    choose("search", search, _SEARCHES)
    weight = weight.detach()
    if weight.ndim != 2 or not weight.numel() or not weight.isfinite().all():
        raise ValueError(
            f"weight is a matrix [outputs, inputs] of finite numbers; got shape "
            f"{tuple(weight.shape)}{'' if weight.isfinite().all() else ', with NaN or infinity'}"
        )
    outputs, inputs = weight.shape
    _check_number(n, search, (inputs, outputs))
    key = seed if isinstance(seed, tuple) else (seed,)
    generator = generator_for("random network to prune", *key)
    scale = 2 * weight.abs().max().item()
    first = _uniform(2 * n * inputs, inputs, generator=generator).to(weight)
    second = scale * _uniform(outputs, 2 * n * inputs, generator=generator).to(weight)
    first_kept = torch.zeros_like(first, dtype=torch.bool)
    second_kept = torch.zeros_like(second, dtype=torch.bool)
    error = torch.zeros(2, outputs, inputs, dtype=torch.float64, device=weight.device)
    for i in range(inputs):
        own = torch.arange(2 * n * i, 2 * n * (i + 1), device=weight.device)
        v = first[own, i]
        for sign, open_paths in enumerate((v > 0, v < 0)):
            if nonnegative and sign == 1:
                continue
            paths = own[open_paths]
            if not len(paths):
                error[sign, :, i] = weight[:, i].abs()
                continue
            products = second[:, paths].double() * first[paths, i].double()
            found = _SEARCHES[search](products, weight[:, i])
            second_kept[:, paths] = found.kept
            first_kept[paths, i] = found.kept.any(dim=0)
            error[sign, :, i] = found.error
    return RandomLayer(first, second, first_kept, second_kept, error)


@checked
def prune_random_network(
    target: nn.Sequential, n: int, *, seed: int, search: Search = "subset"
) -> PrunedRandomNetwork:
    """Prune a random network of twice the depth onto `target`, without training it.

    Each linear layer of the target becomes two random ones with a ReLU between them, pruned by
    `prune_random_layer`. The target is read, not changed. With a target of one layer and one
    output this prunes a random two-layer network onto a neuron.

    Args:
        target: a sequence of `nn.Linear` without bias, `nn.ReLU` and `nn.Flatten`. (The theorems
            are about such networks. A bias would be the weight of an input that is always 1.)
        n: as for `prune_random_layer`.
        seed: draws the random network.
        search: "subset" or "single".

    Raises:
        ValueError: for a target with other layers or with biases (names the layer), and as
            `prune_random_layer`.
        TypeError: if the target is not an `nn.Sequential`.

    Source: Pensia et al. 2020, theorem 1; Malach et al. 2020, theorem 2.1.
    """
    check_imitation(target, n, search)
    layers = list(_layers(target))
    widths = [layer.weight.shape for _, layer, _ in layers if isinstance(layer, nn.Linear)]
    modules: OrderedDict[str, nn.Module] = OrderedDict()
    mask: Mask = {}
    errors: dict[str, Tensor] = {}
    for index, (name, layer, nonnegative) in enumerate(layers):
        if not isinstance(layer, nn.Linear):
            modules[name] = copy.deepcopy(layer)
            continue
        drawn = prune_random_layer(
            layer.weight, n, seed=(seed, index), nonnegative=nonnegative, search=search
        )
        modules[f"{name}_first"] = _linear(drawn.first)
        modules[f"{name}_relu"] = nn.ReLU()
        modules[f"{name}_second"] = _linear(drawn.second)
        mask[f"{name}_first.weight"] = drawn.first_kept
        mask[f"{name}_second.weight"] = drawn.second_kept
        errors[f"{name}.weight"] = drawn.error
    random = nn.Sequential(modules)
    pruned = copy.deepcopy(random)
    apply_mask_(pruned, mask)
    return PrunedRandomNetwork(
        random, pruned, mask, errors,
        target_weights=sum(outputs * inputs for outputs, inputs in widths),
        random_weights=sum(kept.numel() for kept in mask.values()),
        kept_weights=sum(int(kept.sum()) for kept in mask.values()),
    )  # fmt: skip


@checked
@torch.no_grad()
def output_error(
    model: nn.Module, target: nn.Module, data: Dataset, split: str = "test"
) -> tuple[float, float]:
    """Return how far a model's outputs are from the target's: root mean square, and largest.

    Both are relative to the root mean square of the target's outputs, over all examples of the
    split and all outputs, at least 0: 0.01 is one percent.

    Raises:
        ValueError: for an unknown split or an empty one, or networks that do not take the data or
            have other outputs than each other.
    """
    batches = [data.normalize(part) for part in data.split(split)[0].split(1000)]
    outputs = []
    for network in (target, model):
        with taking(network, batches[0]):
            outputs.append(torch.cat([network(part) for part in batches]).double())
    wanted, got = outputs
    if got.shape != wanted.shape:
        raise ValueError(
            f"for {len(got)} examples the model's outputs have shape {tuple(got.shape)} and the "
            f"target's {tuple(wanted.shape)}"
        )
    gap = got - wanted
    unit = wanted.square().mean().sqrt()
    return (gap.square().mean().sqrt() / unit).item(), (gap.abs().max() / unit).item()


def check_imitation(target: nn.Sequential, n: int, search: Search) -> None:
    """Raise, saying what would work, unless `prune_random_network` takes these arguments."""
    choose("search", search, _SEARCHES)
    if not isinstance(target, nn.Sequential):
        raise TypeError(f"target is an nn.Sequential; got {type(target).__name__}")
    if not any(isinstance(layer, nn.Linear) for layer in target):
        raise ValueError("the target has no nn.Linear: there is no weight to imitate")
    for name, layer in target.named_children():
        if not isinstance(layer, (nn.Linear, nn.ReLU, nn.Flatten)):
            raise ValueError(
                f"layer {name!r} is {type(layer).__name__}; the construction is for nn.Linear "
                f"without bias, nn.ReLU and nn.Flatten"
            )
        if getattr(layer, "bias", None) is not None:
            raise ValueError(
                f"layer {name!r} has a bias; the construction is for layers without: see "
                f"relu_network, or nn.Linear(…, bias=False)"
            )
        if isinstance(layer, nn.Linear):
            _check_number(n, search, (layer.in_features, layer.out_features))


def _layers(target: nn.Sequential) -> Iterator[tuple[str, nn.Module, bool]]:
    """Yield name and layer, and whether the layer's inputs are never negative."""
    nonnegative = False
    for name, layer in target.named_children():
        yield name, layer, nonnegative
        if not isinstance(layer, nn.Flatten):
            nonnegative = isinstance(layer, nn.ReLU)


def _check_number(n: int, search: str, widths: tuple[int, int]) -> None:
    most = LARGEST // 2 - 2 if search == "subset" else 10**6
    if not (is_whole(n) and 1 <= n <= most):
        raise ValueError(
            f"n, the expected number of products per weight, is a whole number in 1 … {most} for "
            f"search={search!r}; got {n!r}"
        )
    inputs, outputs = widths
    weights = 2 * n * inputs * (inputs + outputs)
    if weights > MOST_WEIGHTS:
        raise ValueError(
            f"n={n} for a layer of {inputs} inputs and {outputs} outputs takes a random network "
            f"of {weights:,} weights; at most {MOST_WEIGHTS:,} are drawn. Try a smaller n or layer"
        )


def _uniform(*shape: int, generator: torch.Generator) -> Tensor:
    return 2 * torch.rand(*shape, generator=generator) - 1


def _linear(weight: Tensor) -> nn.Linear:
    # On the meta device, so that PyTorch's own initialisation draws nothing.
    layer = nn.Linear(weight.shape[1], weight.shape[0], bias=False, device="meta")
    layer.weight = nn.Parameter(weight, requires_grad=False)
    return layer
