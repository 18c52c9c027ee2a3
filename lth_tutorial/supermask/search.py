"""Finding a supermask: edge-popup, biprop and sampled masks, for one network or many seeds.

The networks keep every weight with which they arrive; a hash before and after proves it. What
comes back is a `Supermask`, and `effective_state` turns it into weights for an ordinary network.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
from torch import nn

from lth_tutorial.data.dataset import Dataset
from lth_tutorial.networks.layers import with_sign_activations
from lth_tutorial.pruning.masks import Mask, Scores, check_mask
from lth_tutorial.pruning.prune import LayerCollapseWarning, Scope
from lth_tutorial.runtime import is_whole, progress_bar, tick
from lth_tutorial.safety.arguments import checked
from lth_tutorial.safety.locks import one_writer
from lth_tutorial.safety.warn import warn
from lth_tutorial.states import State, snapshot, state_hash
from lth_tutorial.supermask.design import SupermaskConfig, check_design
from lth_tutorial.supermask.frozen import maskable_weights
from lth_tutorial.supermask.group import SCORE, MaskedGroup
from lth_tutorial.supermask.weights import signs
from lth_tutorial.training.branches import can_branch
from lth_tutorial.training.config import TrainConfig
from lth_tutorial.training.evaluation import evaluate_group
from lth_tutorial.training.failures import Tick, in_parts
from lth_tutorial.training.groups import can_stack
from lth_tutorial.training.identity import claim_folder, describe_model, within
from lth_tutorial.training.loop import fit
from lth_tutorial.training.outcome import DivergenceWarning, divergence_message


@dataclass(frozen=True)
class Supermask:
    """A mask found for weights that never changed.

    Attributes:
        mask: True = kept; names every prunable weight.
        scores: what was trained in place of the weights.
        gains: per layer, the factor of the kept weights (edge-popup: 1) or of their signs
            (biprop: the mean magnitude of the kept weights).
        accuracy: on the test set, in [0, 1].
        others: everything else the network computes with: biases, batch norm.
        history: validation points, as `train` returns them.
        weights_hash: SHA-256 of the frozen weights, the same before and after (see `state_hash`).
        design: how it was found.
        diverged_step: where the loss became NaN or infinite, else None.
    """

    mask: Mask
    scores: Scores
    gains: dict[str, float]
    accuracy: float
    others: State
    history: list[dict]
    weights_hash: str
    design: SupermaskConfig
    diverged_step: int | None = None


@checked
def edge_popup(
    model: nn.Module,
    data: Dataset,
    keep: float,
    config: TrainConfig,
    *,
    seed: int = 0,
    data_seed: int = 0,
    scope: Scope = "layer",
    anneal: float = 0.0,
    learn_batchnorm: bool = False,
    workdir: str | Path | None = None,
) -> Supermask:
    """Find a subnetwork of an untrained network by training a score per weight.

    The weights are frozen as they arrive (draw them with `signed_constant_` or `kaiming_normal_`);
    biases too. Every forward pass uses the weights with the highest |score|, backward all scores
    receive the gradient of their weight times the weight.

    Args:
        model: any module with prunable weights (see `dense_mask`); it is not changed.
        keep: share of the weights that the mask keeps, in (0, 1].
        config: how to train the scores; the papers use SGD with momentum and a cosine schedule.
        seed: draws the initial scores.
        data_seed: draws the order of the data.
        scope, anneal, learn_batchnorm: see `SupermaskConfig`.
        workdir: folder to continue from, as for `train`.

    Raises:
        ValueError: for a `keep` out of range or that empties a layer, a model without layers to
            mask or with shared weights, and as `train`.
        FloatingPointError: if the loss becomes NaN or infinite; names the step.

    Source: Ramanujan et al. 2020, section 3.
    """
    design = SupermaskConfig(
        "edge_popup", keep, scope, anneal, learn_batchnorm=learn_batchnorm
    )  # fmt: skip
    return _search_one(model, data, design, config, seed, data_seed, workdir)


@checked
def biprop(
    model: nn.Module,
    data: Dataset,
    keep: float,
    config: TrainConfig,
    *,
    seed: int = 0,
    data_seed: int = 0,
    scope: Scope = "layer",
    anneal: float = 0.0,
    binary_activations: bool = False,
    learn_batchnorm: bool = False,
    workdir: str | Path | None = None,
) -> Supermask:
    """Find a binary subnetwork of an untrained network: a multi-prize ticket.

    As `edge_popup`, but the network computes with the signs of the kept weights times one gain
    per layer, their mean magnitude. With `binary_activations` its activations are ±1 too
    (MPT-1/1; else MPT-1/32).

    Raises:
        ValueError: as `edge_popup`; also binary activations on a network without an activation
            module to replace, or `learn_batchnorm` without batch norm.

    Source: Diffenderfer & Kailkhura 2021, algorithm 1.
    """
    design = SupermaskConfig("biprop", keep, scope, anneal, binary_activations, learn_batchnorm)
    return _search_one(model, data, design, config, seed, data_seed, workdir)


@checked
def learned_supermask(
    model: nn.Module,
    data: Dataset,
    config: TrainConfig,
    *,
    seed: int = 0,
    data_seed: int = 0,
    rescale: bool = False,
    workdir: str | Path | None = None,
) -> Supermask:
    """Find a supermask by training the probability of every weight to be kept.

    Every step draws a mask with probabilities σ(score), and the mask returned is such a draw; all
    scores start at 0. The density is an outcome. Gradients are small, so learning rates are large
    (the paper: 100 for LeNet).

    Args:
        seed: draws the masks.
        rescale: multiply the kept weights of a layer by size / kept. As in the authors' code the
            gradient passes through that factor too, which lowers the density.

    Raises:
        ValueError, FloatingPointError: as `edge_popup`.

    Source: Zhou et al. 2019, section 5.
    """
    design = SupermaskConfig("sampled", None, rescale=rescale)
    return _search_one(model, data, design, config, seed, data_seed, workdir)


@checked
@one_writer
def train_supermasks(
    models: Sequence[nn.Module],
    data: Dataset,
    design: SupermaskConfig,
    config: TrainConfig,
    *,
    seeds: Sequence[int],
    data_seeds: Sequence[int] | None = None,
    on_step: Callable[[], object] = lambda: None,
    workdir: str | Path | None = None,
) -> list[Supermask]:
    """Find one supermask per model; small plain networks are trained as one stack.

    Args:
        models: networks of the same shape, each with its own frozen weights; not changed.
        seeds: draw the scores, or the masks where these are sampled, one per model.
        data_seeds: draw the orders of the data; default the `seeds`.
        on_step: called once for every step of every model.
        workdir: folder to continue from.

    Warns:
        DivergenceWarning: naming step and seed of a replicate whose loss became NaN or infinite.
        LayerCollapseWarning: if a global or sampled mask keeps nothing of a layer.
        MemoryWarning: if the memory of a GPU holds only some of them at once.

    Raises:
        ValueError: as `edge_popup`, and if the numbers of models and seeds differ.
        RuntimeError: if a GPU has too little memory for one model, or fails.
    """
    models, seeds = list(models), list(seeds)
    data_seeds = seeds if data_seeds is None else list(data_seeds)
    if not models or not len(models) == len(seeds) == len(data_seeds):
        raise ValueError(
            f"one seed and one data seed per model are needed; got {len(models)} models, "
            f"{len(seeds)} seeds and {len(data_seeds)} data seeds"
        )
    if any(not is_whole(seed) or seed < 0 for seed in seeds):
        raise ValueError(f"a seed is a whole number of at least 0; got {seeds}")
    for model in models:
        check_design(model, design)
    before = [_hash_of_weights(model) for model in models]
    if workdir is not None:
        arrived = [state_hash(snapshot(model)) for model in models]
        structure = describe_model(models[0])
        about = {"design": asdict(design), "model": structure, "initial_states": arrived}
        if design.method == "sampled":  # searches of before began, and went on, otherwise
            about["scores"] = "from 0, gradients through size / kept"
        claim_folder(workdir, about | {"seeds": seeds})
    networks = list(map(with_sign_activations, models)) if design.binary_activations else models
    kind = _trained_as(networks, design, workdir)

    def search_members(members: Sequence[int], on_step: Tick) -> list[Supermask]:
        some = [networks[i] for i in members]
        group = MaskedGroup(
            some, design, config.steps, [seeds[i] for i in members],
            channels_last=can_branch(some) and config.precision != "fp32",
        )  # fmt: skip
        first, last = members[0], members[-1]
        split = kind == "stack" and len(members) < len(models)
        folder = f"part_{first}_{last}" if split else f"part_{first}"
        if kind == "branches":
            folder = f"branches_{first}_{last}"
        return _search(
            group, data, config, [data_seeds[i] for i in members],
            lambda: tick(on_step, len(members)), within(workdir, folder),
            [before[i] for i in members],
        )  # fmt: skip

    everyone = list(range(len(models)))
    found: list[Supermask] = []
    for members in [[i] for i in everyone] if kind == "model" else [everyone]:
        found += in_parts(search_members, members, on_step)
    for model, seed, result, expected in zip(models, data_seeds, found, before, strict=True):
        if _hash_of_weights(model) != expected:
            raise RuntimeError("a frozen weight changed while its scores were trained")
        if result.diverged_step is not None:
            message = divergence_message(result.diverged_step, seed, config)
            warn(message, DivergenceWarning)
    _warn_of_collapse(found)
    return found


def _trained_as(models: Sequence[nn.Module], design: SupermaskConfig, workdir) -> str:
    """Return as what masks are searched: "stack", "branches" (both at once) or each "model" alone.

    What a folder holds is continued as it was begun, on whatever machine.
    """
    if len(models) == 1:
        return "model"
    begun = {} if workdir is None else {each.name for each in Path(workdir).glob("*_*")}
    if any(name.startswith("branches") for name in begun):
        return "branches"
    if can_stack(models):
        return "stack"
    drawn = design.method == "sampled"  # on the host, which would keep the branches waiting
    return "branches" if can_branch(models) and not drawn and not begun else "model"


@checked
def effective_state(model: nn.Module, supermask: Supermask) -> State:
    """Return the weights that the network really computes with, for `model.load_state_dict`.

    Kept weights as they are, or ±gain; all others zero. A mask found with binary activations
    belongs into `with_sign_activations(model)`.

    Args:
        model: with the frozen weights that the mask was found for.

    Raises:
        ValueError: if the mask does not fit the model, or was found for other weights.
    """
    weights = maskable_weights(model)
    check_mask(supermask.mask, weights)
    if _hash_of_weights(model) != supermask.weights_hash:
        raise ValueError(
            "the supermask was found for other weights: load those into the model first (a mask "
            "alone is worth nothing on other weights)"
        )
    return effective_weights(weights, supermask) | {
        name: tensor.clone() for name, tensor in supermask.others.items()
    }


@torch.no_grad()
def effective_weights(weights: State, supermask: Supermask) -> State:
    """Return frozen weights (or their signs) times mask times gain."""
    state = {}
    for name, weight in weights.items():
        values = signs(weight) if supermask.design.binary else weight.detach()
        gain = torch.tensor(supermask.gains[name], device=weight.device)
        state[name] = values * gain * supermask.mask[name]
    return state


def _search_one(model, data, design, config, seed, data_seed, workdir) -> Supermask:
    with progress_bar(config.steps, design.method) as bar, warnings.catch_warnings():
        warnings.simplefilter("ignore", DivergenceWarning)  # raised below
        (found,) = train_supermasks(
            [model], data, design, config, seeds=[seed], data_seeds=[data_seed],
            on_step=bar.update, workdir=workdir,
        )  # fmt: skip
    if found.diverged_step is not None:
        raise FloatingPointError(divergence_message(found.diverged_step, data_seed, config))
    return found


def _search(group, data, config, data_seeds, on_step, workdir, hashes) -> list[Supermask]:
    results = fit(
        group, data, config, masks=None, start_step=0, data_seeds=data_seeds, on_step=on_step,
        workdir=workdir,
    )  # fmt: skip
    group.done.fill_(config.steps)  # a replicate that diverged left the loop earlier
    masks = group.masks()
    _, accuracy = evaluate_group(group, data, "test")
    group.restore_modes()
    factors = {name: group.factor(name, mask.float()) for name, mask in masks.items()}
    return [
        Supermask(
            mask={name: mask[i].clone() for name, mask in masks.items()},
            scores={name: result.final[f"{SCORE}{name}"] for name in masks},
            gains={n: 1.0 if f is None else f[i].item() for n, f in factors.items()},
            accuracy=accuracy[i].item(),
            others={name: t[i].detach().clone() for name, t in group.tensors.items()},
            history=result.history,
            weights_hash=hashes[i],
            design=group.design,
            diverged_step=result.diverged_step,
        )
        for i, result in enumerate(results)
    ]


def _hash_of_weights(model: nn.Module) -> str:
    return state_hash({n: w.detach() for n, w in maskable_weights(model).items()})


def _warn_of_collapse(found: Sequence[Supermask]) -> None:
    whole = [one for one in found if one.diverged_step is None]
    empty = {name for one in whole for name, kept in one.mask.items() if not kept.any()}
    if empty:
        text = f"{', '.join(sorted(empty))}: the mask keeps no weight, nothing passes through"
        warn(text, LayerCollapseWarning)
