"""Which tensors of a model are weights that can be pruned: decided here, once, for everybody.

A layer of PyTorch says by its type which of its parameters are weights; of a class that nobody
here knows, `uses` asks the forward pass. The words in a parameter's name decide nothing. What a
layer computes from other tensors (weight norm and the like) is a weight only where a zero of the
stored tensor is a zero of the weight.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator

from torch import Tensor, nn
from torch.nn.modules.batchnorm import _NormBase
from torch.nn.modules.conv import _ConvNd
from torch.nn.utils import parametrize
from torch.nn.utils.parametrizations import _SpectralNorm, _WeightNorm
from torch.utils._pytree import tree_leaves

from lth_tutorial.networks.in_basis import InBasis
from lth_tutorial.networks.uses import multiplied, zeros_are_lost
from lth_tutorial.safety.warn import warn
from lth_tutorial.states import check_initialized

LAYERS: dict[type[nn.Module], str] = {
    nn.Linear: "weight",
    nn.Bilinear: "weight",
    _ConvNd: "weight",
    nn.RNNBase: r"weight_(ih|hh|hr)_l\d+(_reverse)?",
    nn.RNNCellBase: "weight_(ih|hh)",
    nn.MultiheadAttention: "(in|q|k|v)_proj_weight",
}
"""Types of layers, and the names that PyTorch gave their weights (a regular expression)."""

NORMS = (_NormBase, nn.LayerNorm, nn.GroupNorm, nn.RMSNorm)
SPARED = (nn.Embedding, nn.EmbeddingBag, *NORMS)
"""Types whose `weight` is a table or a scale."""

LARGE = 0.2
"""Share of a model's matrices from which on it is said that they are left out."""

ZEROS_SURVIVE = {
    (_WeightNorm,): "original1", (_SpectralNorm,): "original", (InBasis,): "original",
}  # fmt: skip
"""Parametrizations to the stored tensor whose zeros are those of the weight.

In a basis it is the coefficients that are pruned and counted, and not the weight that they make.
"""

_OLD = ("orig", "v", "raw")  # what the tensors are called that hooks compute an attribute from
LISTS = (nn.ParameterList, nn.ParameterDict)


class LeftOutWarning(UserWarning):
    """A large part of a model is no weight that a mask could prune; density does not count it."""


class LostZerosWarning(UserWarning):
    """A layer makes numbers of the zeros of a weight: what a mask prunes is not zero there."""


def prunable_weights(model: nn.Module) -> dict[str, Tensor]:
    """Return the model's prunable weights by parameter name, in the model's order.

    They are the matrices and kernels of linear, bilinear, convolutional, recurrent and attention
    layers, trained or frozen; embedding tables, norms and biases are left alone. Of parameters of
    other classes, those that enter a matrix product or a convolution; where `torch.fx` cannot
    record the forward pass, every matrix whose first dimension is above 1. One that is frozen
    beside trained ones of its module is a constant, no weight.

    Under weight norm the weight is `original1` (the directions), under spectral norm `original`:
    their zeros are zeros of the weight.

    Raises:
        ValueError: if the model has none, a layer is not initialised yet, a weight is complex,
            shares its memory with another, or is computed from other tensors, so that a mask would
            not do what it says; names it.
    """
    check_initialized(model)
    roles = list(_roles(model))
    spared = {id(p) for p, is_weight in roles if not is_weight}  # a tied embedding is a table
    own = {id(p) for p, is_weight in roles if is_weight} - spared
    weights = {name: p for name, p in model.named_parameters() if id(p) in own}
    if not weights:
        raise ValueError(
            f"{type(model).__name__} has no prunable weights; a model needs at least one "
            f"linear or convolutional layer"
        )
    for name, weight in weights.items():
        if weight.is_complex():
            raise ValueError(
                f"{name} is {weight.dtype}: masks, scores and supermasks are of real weights; keep "
                f"real and imaginary parts as two parameters"
            )
    memory = Counter(weight.data_ptr() for weight in weights.values())
    tied = [name for name, w in weights.items() if memory[w.data_ptr()] > 1 and not w.is_meta]
    if tied:
        raise ValueError(
            f"{', '.join(tied)} are several parameters in one memory (as by a.data = b.data), so "
            f"that a mask of one would prune the others: make them one parameter, or copy it"
        )
    return weights


def warn_of_left_out(model: nn.Module, weights: dict[str, Tensor]) -> None:
    """Warn if matrices that are no prunable weights are a large part of the model; name them.

    And of layers in plain lists or dictionaries, of which the model knows nothing.
    """
    hidden = list(_hidden(model))
    if hidden:
        warn(
            f"{', '.join(hidden)} hold weights of which {type(model).__name__} knows nothing: they "
            f"are neither trained nor pruned nor saved; put them into an nn.ModuleList, "
            f"nn.ModuleDict, nn.ParameterList or nn.Parameter",
            LeftOutWarning,
        )
    seen = {id(weight) for weight in weights.values()}
    seen |= {
        id(parameter)
        for module in model.modules()
        if isinstance(module, NORMS)
        for parameter in module.parameters(recurse=False)
    }
    left = {n: p.numel() for n, p in model.named_parameters() if id(p) not in seen and is_matrix(p)}
    share = sum(left.values()) / (sum(left.values()) + sum(w.numel() for w in weights.values()))
    if share >= LARGE:
        warn(
            f"{', '.join(left)} are tables, scales or constants, not weights: {share:.0%} of the "
            f"matrices of {type(model).__name__} are never pruned, and its density does not count "
            f"them",
            LeftOutWarning,
        )


def _hidden(model: nn.Module) -> Iterator[str]:
    """Yield the attributes with layers or tensors to be trained that are no part of the model."""
    known = {id(part) for part in (*model.modules(), *model.parameters())}
    for path, module in model.named_modules():
        computed = _computed(module)
        for attribute, value in vars(module).items():
            if attribute.startswith("_") or attribute in computed:
                continue
            for leaf in tree_leaves(value):
                parts = leaf.parameters() if isinstance(leaf, nn.Module) else [leaf]
                own = (p for p in parts if isinstance(p, Tensor) and p.is_leaf and p.requires_grad)
                if id(leaf) not in known and any(id(part) not in known for part in own):
                    yield f"{path}.{attribute}" if path else attribute
                    break


def warn_of_lost_zeros(model: nn.Module) -> None:
    """Warn, naming them, of weights that a forward pass changes so that zeros are none."""
    lost = [
        f"{path}.{attribute} ({class_of(module).__name__})" if path else attribute
        for path, module in model.named_modules()
        if _is_written_by_others(module) and not isinstance(module, LISTS)
        for attribute, parameter in own_parameters(module)
        if _is_weight(module, attribute, parameter) and zeros_are_lost(module, attribute)
    ]
    if lost:
        warn(
            f"{', '.join(lost)}: the forward pass computes another weight from what is stored, in "
            f"which its zeros are numbers; masks prune what is stored, and density counts that",
            LostZerosWarning,
        )


def shared_weights(model: nn.Module) -> list[str]:
    """Return the names of parameters that stand in several places of the model."""
    places = Counter(id(p) for _, p in model.named_parameters(remove_duplicate=False))
    return [name for name, p in model.named_parameters() if places[id(p)] > 1]


def computed_tensors(model: nn.Module) -> dict[str, str]:
    """Return the tensors that layers compute from others before they use them, and by what.

    By name as the layer calls them: {"0.weight": "parametrized by _WeightNorm"}. Nothing is
    computed to find out: reading such a tensor may change what it is computed from.
    """
    return {
        f"{path}.{attribute}" if path else attribute: how
        for path, module in model.named_modules()
        for attribute, how in _computed(module).items()
    }


def check_stored(model: nn.Module, who: str) -> None:
    """Raise a ValueError, naming it, if a tensor is computed from others: `who` cannot take it."""
    for name, how in computed_tensors(model).items():
        raise ValueError(f"{who} cannot take {computed_refusal(name, how)}")


def _roles(model: nn.Module) -> Iterator[tuple[Tensor, bool]]:
    """Yield every parameter, place by place, and whether it is a weight there."""
    for path, module in model.named_modules():
        if isinstance(module, (*LISTS, parametrize.ParametrizationList)):
            continue  # comes with the module whose parameters it holds
        for attribute, how in _computed(module).items():
            steps = parametrizations_of(module).get(attribute)
            stored = {} if steps is None else dict(steps.named_parameters())
            main = None if steps is None else ZEROS_SURVIVE.get(tuple(map(type, steps)))
            # Of parametrizations that nobody here knows, what they are computed from says enough.
            shown = stored.get(main or "original", next(iter(stored.values()), None))
            shown = vars(module).get(attribute) if shown is None else shown
            is_weight = shown is not None and _is_weight(module, attribute, shown)
            if is_weight and main is None:
                name = f"{path}.{attribute}" if path else attribute
                raise ValueError(f"a mask cannot take {computed_refusal(name, how)}")
            yield from ((parameter, is_weight and n == main) for n, parameter in stored.items())
        for attribute, parameter in own_parameters(module):
            yield parameter, _is_weight(module, attribute, parameter)


def _is_weight(module: nn.Module, attribute: str, tensor: Tensor) -> bool:
    if any(isinstance(module, kind) and re.fullmatch(n, attribute) for kind, n in LAYERS.items()):
        return tensor.ndim >= 2 and tensor.numel() > 0
    if isinstance(module, SPARED) and attribute == "weight":
        return False
    if not _is_written_by_others(module) or not is_matrix(tensor):
        return False
    if not tensor.requires_grad and any(p.requires_grad for p in module.parameters()):
        return False
    products = multiplied(module)
    return tensor.shape[0] > 1 if products is None else attribute in products


def _is_written_by_others(module: nn.Module) -> bool:
    return not class_of(module).__module__.startswith("torch.nn.")


def is_matrix(tensor: Tensor) -> bool:
    """Return whether a tensor extends in two or more directions."""
    return sum(size > 1 for size in tensor.shape) >= 2


def _computed(module: nn.Module) -> dict[str, str]:
    found = {
        attribute: "parametrized by " + " and ".join(type(step).__name__ for step in steps)
        for attribute, steps in parametrizations_of(module).items()
    }
    for attribute, value in vars(module).items():
        # The older way: hooks set an attribute anew before each forward pass.
        if isinstance(value, Tensor) and {f"{attribute}_{part}" for part in _OLD} & _own(module):
            hooks = [type(hook).__name__ for hook in module._forward_pre_hooks.values()]
            found[attribute] = " and ".join(hooks) or "a hook"
    return found


def _own(module: nn.Module) -> set[str]:
    return {name for name, _ in module.named_parameters(recurse=False)}


def own_parameters(module: nn.Module) -> Iterator[tuple[str, Tensor]]:
    """Yield the parameters that a module holds itself, in lists and dictionaries too."""
    yield from module.named_parameters(recurse=False)
    for name, child in module.named_children():
        if isinstance(child, LISTS):
            yield from child.named_parameters(prefix=name)


def parametrizations_of(module: nn.Module) -> dict[str, parametrize.ParametrizationList]:
    """Return what a module computes by torch.nn.utils.parametrize, by attribute."""
    return dict(module.parametrizations.items()) if parametrize.is_parametrized(module) else {}


def class_of(module: nn.Module) -> type:
    """Return the class that somebody wrote."""
    # A parametrized module has a class that was made for it alone.
    kind = type(module)
    return kind.__bases__[0] if parametrize.is_parametrized(module) else kind


def computed_refusal(name: str, how: str) -> str:
    """Return why what reads or writes stored weights cannot take one that is computed."""
    attribute = name.rpartition(".")[2]
    removal = {
        "WeightNorm": "torch.nn.utils.remove_weight_norm(layer)",
        "SpectralNorm": "torch.nn.utils.remove_spectral_norm(layer)",
    }.get(how, f"torch.nn.utils.prune.remove(layer, {attribute!r})")
    if how.startswith("parametrized"):
        removal = f"torch.nn.utils.parametrize.remove_parametrizations(layer, {attribute!r})"
    return (
        f"{name}: it is computed from other tensors ({how}), and zeros or points in between of "
        f"those are not those of the weight; make it an ordinary weight first: {removal}"
    )
