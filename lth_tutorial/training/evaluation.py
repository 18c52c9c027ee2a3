"""Loss and accuracy of one network, or of many replicates at once."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lth_tutorial.data.dataset import Dataset, chunk_lengths
from lth_tutorial.networks.first_pass import explained
from lth_tutorial.safety.arguments import checked
from lth_tutorial.training.attacks import Adversary, Attack, check_attack
from lth_tutorial.training.groups import SingleModel, Stack
from lth_tutorial.training.outcome import Metrics

_CHUNK = 2_000


@checked
@explained
def evaluate(
    model: nn.Module,
    data: Dataset,
    split: str = "test",
    *,
    attack: Attack | None = None,
    seed: int = 0,
) -> Metrics:
    """Return the mean loss and the accuracy of a model on "train", "val" or "test".

    Args:
        attack: made by `fgsm` or `pgd`: then the *robust* loss and accuracy. An example counts as
            correct if it is so after each restart, and its loss is the largest.
        seed: draws the random starts of the attack.

    Raises:
        ValueError: for an unknown or empty split, or an attack that does not fit.
    """
    group = SingleModel(model)
    data.split(split)
    if attack is not None:
        check_attack(attack, group, data)
    try:
        loss, accuracy = evaluate_group(group, data, split, attack, seed)
    finally:
        group.restore_modes()
    return Metrics(loss.item(), accuracy.item())


@torch.no_grad()
def evaluate_group(
    group: SingleModel | Stack,
    data: Dataset,
    split: str,
    attack: Attack | None = None,
    seed: int = 0,
) -> tuple[Tensor, Tensor]:
    """Return the loss and the accuracy of every replicate, each of shape [replicates].

    With an attack every replicate sees the same random starts.
    """
    x_all, y_all = data.split(split)
    adversary = None if attack is None else Adversary(attack, data, [seed])
    group.set_training(False)
    loss = correct = 0
    parts = chunk_lengths(len(y_all), _CHUNK)
    for chunk, (x, y) in enumerate(zip(x_all.split(parts), y_all.split(parts), strict=True)):
        x, y = data.normalize(x).expand(group.size, *x.shape), y.expand(group.size, -1)
        each, right = None, None
        for restart in range(attack.restarts if attack else 1):
            seen = x if adversary is None else adversary(group, x, y, (chunk << 20) + restart)
            logits = group.logits(seen).float()
            now = _each_loss(logits, y), logits.argmax(dim=2) == y
            each = now[0] if each is None else torch.maximum(each, now[0])
            right = now[1] if right is None else right & now[1]
        loss = loss + each.mean(dim=1) * y.shape[1]
        correct = correct + right.sum(dim=1)
    return loss / len(y_all), correct / len(y_all)


def losses(logits: Tensor, y: Tensor) -> Tensor:
    """Return the mean loss of every replicate from logits [replicates, batch, classes]."""
    return _each_loss(logits, y).mean(dim=1)


def _each_loss(logits: Tensor, y: Tensor) -> Tensor:
    return F.cross_entropy(logits.flatten(0, 1), y.flatten(), reduction="none").view(y.shape)
