"""Loss and accuracy of one network, or of many replicates at once."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lth_tutorial.data.dataset import Dataset
from lth_tutorial.training.groups import SingleModel, Stack
from lth_tutorial.training.outcome import Metrics

_CHUNK = 2_000


def evaluate(model: nn.Module, data: Dataset, split: str = "test") -> Metrics:
    """Return the mean loss and the accuracy of a model on "train", "val" or "test".

    Raises:
        ValueError: for an unknown or empty split.
    """
    group = SingleModel(model)
    loss, accuracy = evaluate_group(group, data, split)
    group.restore_modes()
    return Metrics(loss.item(), accuracy.item())


@torch.no_grad()
def evaluate_group(group: SingleModel | Stack, data: Dataset, split: str) -> tuple[Tensor, Tensor]:
    """Return the loss and the accuracy of every replicate, each of shape [replicates]."""
    x_all, y_all = data.split(split)
    group.set_training(False)
    loss = correct = 0
    for x, y in zip(x_all.split(_CHUNK), y_all.split(_CHUNK), strict=True):
        x = data.normalize(x)
        logits = group.logits(x.expand(group.size, *x.shape)).float()
        y = y.expand(group.size, -1)
        loss = loss + losses(logits, y) * len(x)
        correct = correct + (logits.argmax(dim=2) == y).sum(dim=1)
    return loss / len(y_all), correct / len(y_all)


def losses(logits: Tensor, y: Tensor) -> Tensor:
    """Return the mean loss of every replicate from logits [replicates, batch, classes]."""
    each = F.cross_entropy(logits.flatten(0, 1), y.flatten(), reduction="none")
    return each.view(y.shape).mean(dim=1)
