"""Networks on the Cubist Spiral, small enough to be drawn with all their weights.

The spiral (`cubist_spiral` in the room `data`) has two inputs and a handful of units solve it. What
a pruning method leaves can be compared with the fewest weights that are known to be enough. Read on
in `spiral_search` and `spiral_pruners`; chapter 14 uses all three.

Source: Zhang & Papyan 2024, "Sparsest models elude pruning".
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from lth_tutorial.criteria import connected_weights
from lth_tutorial.data.dataset import Dataset
from lth_tutorial.networks.initialization import reinitialize
from lth_tutorial.networks.layers import LogitPair
from lth_tutorial.pruning.masks import Mask
from lth_tutorial.runtime import is_whole
from lth_tutorial.safety.arguments import checked
from lth_tutorial.training.evaluation import evaluate_group
from lth_tutorial.training.groups import Stack


@checked
def spiral_network(widths: int | Sequence[int], seed: int) -> nn.Sequential:
    """Return a network 2-w-w-w-1 with ReLU, drawn as PyTorch draws linear layers by default.

    Its one logit becomes the pair (0, z), so that cross-entropy is binary cross-entropy and every
    weight counts. Prunable: `fc1.weight`, `fc2.weight`, `fc3.weight`, `output.weight`.

    Args:
        widths: of the three hidden layers, or one number for all of them.
        seed: draws weights and biases.

    Raises:
        ValueError: for other numbers of widths, or widths below 1.
    """
    each = [widths] * 3 if isinstance(widths, int) else list(widths)
    if len(each) != 3 or not all(is_whole(w) and w >= 1 for w in each):
        raise ValueError(
            f"widths is a whole number of at least 1, or three of them; got {widths!r}"
        )
    sizes = [2, *each, 1]
    layers: OrderedDict[str, nn.Module] = OrderedDict()
    for i, name in enumerate(("fc1", "fc2", "fc3", "output")):
        layers[name] = nn.Linear(sizes[i], sizes[i + 1])
        if name != "output":
            layers[f"{name}_relu"] = nn.ReLU()
    layers["pair"] = LogitPair()
    model = nn.Sequential(layers)
    reinitialize(model, seed)
    return model


@checked
def needed_weights(model: nn.Module, data: Dataset, mask: Mask) -> int:
    """Return how many weights the masked network needs to compute what it computes.

    Only weights on a path from an input to the output count. A unit that no weight leaves changes
    nothing, its bias included. A unit that no weight enters is a constant, which the biases behind
    it can take over. Biases themselves are not counted, as in the paper.
    """
    return sum(int(kept.sum()) for kept in connected_weights(model, data, mask).values())


def accuracies(models: Sequence[nn.Module], data: Dataset) -> Tensor:
    """Return loss and accuracy on the training points of small networks of one shape, [2, n]."""
    parts = [
        torch.stack(evaluate_group(Stack(models[i : i + 512]), data, "train"))
        for i in range(0, len(models), 512)
    ]
    return torch.cat(parts, dim=1)
