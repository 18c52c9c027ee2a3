"""What a training run checks before its first step: that model, data, masks and steps fit."""

from __future__ import annotations

from torch import Tensor, nn

from lth_tutorial.data.dataset import Dataset
from lth_tutorial.networks.first_pass import first_pass
from lth_tutorial.pruning.masks import weights_under
from lth_tutorial.runtime import is_whole
from lth_tutorial.training.attacks import check_attack
from lth_tutorial.training.precision import check_precision


def check_run(group, data, config, masks, start_step, stop_step, data_seeds, save_at) -> None:
    """Raise a ValueError unless the arguments of `loop.fit` fit each other."""
    whole = is_whole(start_step) and is_whole(stop_step)
    if not (whole and 0 <= start_step <= stop_step <= config.steps):
        raise ValueError(
            f"a run goes from start_step to stop_step within 0 … {config.steps}; "
            f"got {start_step!r} to {stop_step!r}"
        )
    if not all(map(is_whole, save_at)):
        raise ValueError(f"save_at are whole numbers, steps of the run; got {list(save_at)}")
    outside = sorted(s for s in save_at if not start_step <= s <= stop_step)
    if outside:
        raise ValueError(
            f"cannot save at {outside}: this run goes from step {start_step} to {stop_step}"
        )
    if config.batch_size > len(data.x_train):
        raise ValueError(
            f"batch_size {config.batch_size} exceeds the {len(data.x_train)} training examples "
            f"of {data.name}"
        )
    if any(not is_whole(seed) or seed < 0 for seed in data_seeds):
        raise ValueError(f"a data_seed is a whole number of at least 0; got {list(data_seeds)}")
    if config.removal is not None and masks is None:
        raise ValueError(
            "config.removal draws the weights that a mask prunes to zero, and there is no mask; "
            "pass one"
        )
    if config.augment and len(data.shape) != 3:
        raise ValueError(
            f"augment shifts and mirrors images [channels, height, width]; {data.name} has "
            f"examples of shape {data.shape}"
        )
    check_precision(config.precision, data.device)
    for model, mask in zip(group.models, masks or [None] * group.size, strict=True):
        if mask is not None:
            weights_under(model, mask)
    check_model(group, data, config.batch_size)
    if config.bn_l1 and not batch_norm_scales(group):
        raise ValueError(
            f"bn_l1 is {config.bn_l1!r}, but {type(group.models[0]).__name__} has no batch norm "
            f"with trained scales to draw to zero; take such a network, or bn_l1=0"
        )
    if config.attack is not None:
        check_attack(config.attack, group, data)


def batch_norm_scales(group) -> list[Tensor]:
    """Return the trained scales γ of all batch norms, each [channels] or [replicates, channels]."""
    names = [
        f"{name}.weight" if name else "weight"
        for name, module in group.models[0].named_modules()
        if isinstance(module, nn.modules.batchnorm._BatchNorm)
    ]
    return [scale for name in names for scale in group.leaves(name) if scale.requires_grad]


def check_model(group, data: Dataset, batch_size: int = 2) -> None:
    """Raise a ValueError unless the group's models take the data and return enough classes.

    The first forward pass tells, in evaluation and in training mode; it changes nothing, no
    running statistics and no random state.
    """
    if not group.parameters:
        raise ValueError("the model has no parameters: there is nothing to train")
    if not any(parameter.requires_grad for parameter in group.parameters.values()):
        raise ValueError(
            "all parameters of the model are frozen (requires_grad is False): there is nothing to "
            "train; set requires_grad_(True) for some"
        )
    device = next(iter(group.parameters.values())).device
    if device != data.device:
        raise ValueError(
            f"the model is on {device}, the data on {data.device}; move one: model.to(device), "
            f"data.to(device)"
        )
    for model in group.models:
        first_pass(model, data, min(batch_size, 2))
