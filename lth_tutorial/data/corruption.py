"""Sanity checks for pruning data: does a criterion notice when its examples make no sense?"""

from __future__ import annotations

from dataclasses import replace

import torch

from lth_tutorial.data.dataset import Dataset, generator_for
from lth_tutorial.runtime import choose
from lth_tutorial.safety.arguments import checked

CORRUPTIONS = ("random_labels", "shuffled_pixels", "half")


@checked
def corrupt_data(data: Dataset, how: str, seed: int) -> Dataset:
    """Return the data set with training examples spoilt for the purpose of pruning.

    Validation and test sets, `mean` and `std` stay as they are. Score with the corrupted data,
    train with the original: a criterion that reads information from its data must get worse.

    Args:
        how: "random_labels" draws every label anew, uniformly over the classes;
            "shuffled_pixels" puts the pixels of each image into an order of its own, channels
            together; "half" leaves a random half of the examples.
        seed: draws all of it.

    Raises:
        ValueError: for an unknown corruption.

    Source: Su et al. 2020, section 3.1.
    """
    choose("corruption", how, CORRUPTIONS)
    n = len(data.x_train)
    if how == "half":
        return data.subset(max(1, n // 2), seed)
    name, generator = f"{data.name}[{how}]", generator_for(how, seed)
    if how == "random_labels":
        y = torch.randint(data.num_classes, (n,), generator=generator).to(data.device)
        return replace(data, name=name, y_train=y)
    x = data.x_train
    # Examples without pixels, such as [n, features], have their features shuffled.
    flat = x.flatten(2) if x.ndim > 2 else x[:, None, :]
    order = torch.rand(n, 1, flat.shape[2], generator=generator).argsort(dim=2).to(x.device)
    shuffled = flat.gather(2, order.expand_as(flat)).view_as(x)
    return replace(data, name=name, x_train=shuffled)
