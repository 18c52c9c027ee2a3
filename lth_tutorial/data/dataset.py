"""Data sets as tensors on one device, and the order in which they are visited.

Read this first: everything else takes a `Dataset`. There is no data loader. Images stay as
they were stored (bytes, usually) and each minibatch is normalised on its way into the network,
so that the whole of MNIST needs 55 MB and a batch is one indexing operation.
"""

from __future__ import annotations

import zlib
from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from functools import cached_property, lru_cache

import numpy as np
import torch
from torch import Tensor

from lth_tutorial.runtime import check_device, choose, is_whole
from lth_tutorial.safety.arguments import checked

SPLITS = ("train", "val", "test")
PAD = 4
"""Largest shift of augmented images, in pixels."""


@dataclass(frozen=True)
class Dataset:
    """Training, validation and test examples as tensors on one device.

    Make your own with `make_dataset`; it checks the tensors and computes `mean` and `std`.

    Attributes:
        name: says the source too; it is printed in captions and written into records.
        x_train, x_val, x_test: examples first, then any shape, e.g. [n, channels, height, width];
            bytes or float; whole numbers of any wider type are token indices, which no one
            normalises. The validation set may be empty (length 0).
        y_train, y_val, y_test: int64 class labels in 0 … num_classes − 1, shape [n].
        num_classes: number of classes.
        mean, std: one number per channel (dimension 1 of the examples) of the training examples,
            in the units in which they are stored (0 to 255 for MNIST).
    """

    name: str
    x_train: Tensor
    y_train: Tensor
    x_val: Tensor
    y_val: Tensor
    x_test: Tensor
    y_test: Tensor
    num_classes: int
    mean: Tensor
    std: Tensor

    @property
    def device(self) -> torch.device:
        """The device of all tensors."""
        return self.x_train.device

    @property
    def shape(self) -> tuple[int, ...]:
        """The shape of one example, e.g. (1, 28, 28)."""
        return tuple(self.x_train.shape[1:])

    @cached_property
    def fingerprint(self) -> str:
        """A SHA-256 digest of all examples and labels: equal for equal data on any device."""
        from lth_tutorial.states import state_hash

        tensors = {f.name: getattr(self, f.name) for f in fields(self)}
        return state_hash({k: v for k, v in tensors.items() if isinstance(v, Tensor)})

    def to(self, device: torch.device | str) -> Dataset:
        """Return the same data set with every tensor on `device`.

        Raises:
            ValueError: if there is no such device here, or it does not work.
        """
        check_device(device)
        tensors = {f.name: getattr(self, f.name) for f in fields(self)}
        moved = {k: v.to(device) for k, v in tensors.items() if isinstance(v, Tensor)}
        return replace(self, **moved)

    def subset(self, n: int, seed: int = 0) -> Dataset:
        """Return the data set with `n` of its training examples, drawn without replacement.

        Validation and test sets, `mean` and `std` stay as they are, so that accuracies remain
        comparable with those of the full data set.

        Raises:
            ValueError: if there are fewer than `n` training examples.
        """
        available = len(self.x_train)
        if not is_whole(n) or not 0 < n <= available:
            raise ValueError(f"a subset takes 1 to {available} training examples; got {n!r}")
        order = permutation(available, "subset", seed)[:n].to(self.device)
        name = f"{self.name}[{n}]"
        return replace(self, name=name, x_train=self.x_train[order], y_train=self.y_train[order])

    def split(self, name: str) -> tuple[Tensor, Tensor]:
        """Return examples and labels of the split "train", "val" or "test".

        Raises:
            ValueError: if there is no such split, or it is empty.
        """
        choose("split", name, SPLITS)
        x, y = getattr(self, f"x_{name}"), getattr(self, f"y_{name}")
        if len(x) == 0:
            raise ValueError(
                f"{self.name} has no {name} examples; load it with val=… greater than 0"
                if name == "val"
                else f"{self.name} has no {name} examples"
            )
        return x, y

    def normalize(self, x: Tensor) -> Tensor:
        """Return `x` as float32, minus `mean`, over `std`; token indices as they are.

        Args:
            x: examples of any of the splits, shape [..., channels, *rest].
        """
        if are_tokens(x):
            return x
        trailing = (1,) * (len(self.shape) - 1)
        shift, scale = self.mean.view(-1, *trailing), (1 / self.std).view(-1, *trailing)
        return (x.float() - shift).mul_(scale)  # in place: half the time, the same bits


def chunk_lengths(n: int, size: int) -> list[int]:
    """Return how many of n examples go through a network at a time; none goes alone at the end.

    Batch norm in training, and a forward pass that squeezes, cannot take a lone example.
    """
    whole, rest = divmod(n, size)
    if rest == 1 and whole and size > 1:
        return [size] * (whole - 1) + [size + 1]
    return [size] * whole + [rest] * (rest > 0)


def are_tokens(x: Tensor) -> bool:
    """Return whether examples are whole numbers wider than a byte: indices for an embedding."""
    return not x.is_floating_point() and x.element_size() > 1


@checked
def make_dataset(
    name: str,
    train: tuple[Tensor, Tensor],
    val: tuple[Tensor, Tensor] | None,
    test: tuple[Tensor, Tensor],
) -> Dataset:
    """Return a `Dataset` of your own tensors, checked.

    Args:
        name: what captions and records will call it.
        train, val, test: pairs of examples [n, channels, …] and integer labels [n];
            `val` may be None.

    Raises:
        TypeError: for anything but tensors.
        ValueError: for lengths, shapes or devices that do not agree, an empty training or test
            set, NaN or infinite examples, or labels outside 0 … classes − 1.
    """
    _check_split(name, "train", *train, like=train[0])
    if val is None:
        val = train[0][:0], train[1][:0]
    _check_split(name, "val", *val, like=train[0])
    _check_split(name, "test", *test, like=train[0])
    # Examples are constants: one that is still being computed would be differentiated at each step.
    parts = {"train": train, "val": val, "test": test}
    parts = {s: (x.detach() if x.requires_grad else x, y) for s, (x, y) in parts.items()}
    train, val, test = parts.values()
    num_classes = int(train[1].max()) + 1
    if num_classes > 1_000 + 10 * len(train[1]):
        raise ValueError(
            f"{name}: a training label is {num_classes - 1}, which makes {num_classes:,} classes "
            f"of {len(train[1])} examples; labels count the classes from 0"
        )
    for split, (_, y) in parts.items():
        if len(y) and not 0 <= int(y.min()) <= int(y.max()) < num_classes:
            raise ValueError(
                f"{name}: {split} labels lie in {int(y.min())} … {int(y.max())}, but the training "
                f"labels name the classes 0 … {num_classes - 1}"
            )
    mean, std = _channel_statistics(train[0])
    (x, y), (xv, yv), (xt, yt) = train, val, test
    return Dataset(name, x, y.long(), xv, yv.long(), xt, yt.long(), num_classes, mean, std)


def batch_indices(n: int, batch_size: int, step: int, data_seed: int) -> Tensor:
    """Return which of `n` training examples make up the minibatch of a step, shape [batch_size].

    A pure function of (data_seed, step): training from a step-k snapshot sees the batches that
    the uninterrupted run would have seen. Each epoch is a new permutation without its incomplete
    last batch.

    Raises:
        ValueError: if a batch is larger than the data.
    """
    if not is_whole(n) or n < 1:
        raise ValueError(f"n is a whole number of at least 1; got {n!r}")
    if not is_whole(step) or step < 0:
        raise ValueError(f"step is a whole number of at least 0; got {step!r}")
    if not is_whole(batch_size) or not 0 < batch_size <= n:
        raise ValueError(f"batch_size lies in 1 … {n}, the number of examples; got {batch_size!r}")
    epoch, i = divmod(step, n // batch_size)
    order = epoch_permutation(n, data_seed, epoch)
    return order[i * batch_size : (i + 1) * batch_size].clone()  # the order itself is cached


@lru_cache(maxsize=64)
def epoch_permutation(n: int, data_seed: int, epoch: int) -> Tensor:
    """Return the order in which an epoch visits `n` examples, shape [n]."""
    return permutation(n, "data order", data_seed, epoch)


class DataOrder:
    """Minibatches [replicates, batch, …] of every replicate's own data order.

    The same batches as by `batch_indices`, with an epoch's orders kept on the data's device.
    """

    def __init__(
        self, data: Dataset, batch_size: int, data_seeds: Sequence[int], *, augmented: bool
    ) -> None:
        self.data, self.batch_size, self.augmented = data, batch_size, augmented
        self.data_seeds = data_seeds
        self.epoch, self.order = -1, torch.empty(0)

    def batch(self, step: int) -> tuple[Tensor, Tensor]:
        """Return normalised examples and labels of a step."""
        n, size = len(self.data.x_train), self.batch_size
        epoch, i = divmod(step, n // size)
        if epoch != self.epoch:
            orders = [epoch_permutation(n, seed, epoch) for seed in self.data_seeds]
            self.epoch, self.order = epoch, torch.stack(orders).to(self.data.device)
        rows = self.order[:, i * size : (i + 1) * size]
        x = self.data.normalize(pick(self.data.x_train, rows))
        if self.augmented:
            pairs = zip(x, self.data_seeds, strict=True)
            x = torch.stack([augment(images, step, seed) for images, seed in pairs])
        return x, pick(self.data.y_train, rows)


def pick(examples: Tensor, rows: Tensor) -> Tensor:
    """Return `examples[rows]`, in a seventh of the time."""
    return examples.index_select(0, rows.flatten()).view(*rows.shape, *examples.shape[1:])


def augment(x: Tensor, step: int, data_seed: int, pad: int = PAD) -> Tensor:
    """Return images randomly shifted by up to `pad` pixels and mirrored left to right.

    The usual CIFAR augmentation, as a pure function of (data_seed, step), computed on the
    images' own device.

    Args:
        x: normalised images, shape [batch, channels, height, width]; the border is filled with
            zeros, that is, with the mean colour.
    """
    n, _, height, width = x.shape
    dy, dx, mirror = augmentation(n, step, data_seed, pad).long().unsqueeze(2).unbind(1)
    columns = torch.arange(width).expand(n, width)
    columns = torch.where(mirror > 0, width - 1 - columns, columns) + dx
    rows = torch.arange(height) + dy
    padded = torch.nn.functional.pad(x, (pad, pad, pad, pad))
    image = torch.arange(n, device=x.device)[:, None, None]
    rows, columns = rows.to(x.device)[:, :, None], columns.to(x.device)[:, None, :]
    return padded.permute(0, 2, 3, 1)[image, rows, columns].permute(0, 3, 1, 2)


def augmentation(n: int, step: int, data_seed: int, pad: int = PAD) -> Tensor:
    """Return how `augment` changes `n` images: shift down, shift right (0 … 2·pad), mirror (0, 1).

    A pure function of (data_seed, step), shape [n, 3], uint8.
    """
    generator = generator_for("augmentation", data_seed, step)
    shifts = torch.randint(0, 2 * pad + 1, (2, n, 1), generator=generator)
    mirror = torch.rand(n, 1, generator=generator) < 0.5
    return torch.cat([*shifts, mirror], dim=1).to(torch.uint8)


def generator_for(purpose: str, *key: int) -> torch.Generator:
    """Return a CPU generator whose stream belongs to a purpose and some whole numbers alone.

    The same seed gives unrelated streams for different purposes: random scores must know nothing
    of the initial weights. The numbers are mixed, not added: (1, 2) is unrelated to (2, 1).

    Raises:
        ValueError: if a number of the key is negative or not whole.
    """
    for number in key:
        if not is_whole(number) or number < 0:
            raise ValueError(
                f"a seed is a whole number of at least 0; got {number!r} for {purpose}"
            )
    words = [zlib.crc32(purpose.encode()), len(key), *(int(number) for number in key)]
    seed = np.random.SeedSequence(words).generate_state(1, np.uint64)[0]
    return torch.Generator().manual_seed(int(seed) >> 1)


def permutation(n: int, purpose: str, *key: int) -> Tensor:
    """Return an order of `n` things, shape [n], that belongs to a purpose and a key alone."""
    return torch.randperm(n, generator=generator_for(purpose, *key))


def _check_split(name: str, split: str, x: Tensor, y: Tensor, like: Tensor) -> None:
    if x.ndim < 2:
        raise ValueError(
            f"{name}: {split} examples need a channel dimension, shape [n, channels, …]; "
            f"got {tuple(x.shape)}"
        )
    if len(x) != len(y) or y.ndim != 1:
        raise ValueError(
            f"{name}: {split} has {len(x)} examples and labels of shape {tuple(y.shape)}; "
            f"one label per example is needed"
        )
    if len(x) == 0 and split != "val":
        raise ValueError(f"{name}: the {split} set is empty")
    if x.shape[1:] != like.shape[1:] or x.device != like.device or y.device != like.device:
        raise ValueError(
            f"{name}: {split} examples are {tuple(x.shape[1:])} on {x.device} with labels on "
            f"{y.device}, training examples are {tuple(like.shape[1:])} on {like.device}"
        )
    if y.is_floating_point() or y.is_complex() or y.dtype == torch.bool:
        raise ValueError(f"{name}: {split} labels are whole numbers; got {y.dtype}")
    kinds = {x.layout, y.layout} - {torch.strided}
    if kinds or x.is_meta or y.is_meta:
        found = "on no device (meta)" if x.is_meta or y.is_meta else ", ".join(map(str, kinds))
        raise ValueError(f"{name}: {split} examples and labels are dense tensors; got {found}")
    if x.is_floating_point() and x.element_size() < 2:
        raise ValueError(f"{name}: {split} examples are bytes, or wider numbers; got {x.dtype}")
    if x.is_complex() or x.dtype == torch.bool:
        raise ValueError(f"{name}: {split} examples are real numbers; got {x.dtype}")
    if x.dtype != like.dtype:
        raise ValueError(
            f"{name}: {split} examples are {x.dtype}, training examples {like.dtype}: they would "
            f"be normalised alike though they mean other brightness; store all of them alike"
        )
    if x.is_floating_point() and not bool(torch.isfinite(x).all()):
        bad = int((~torch.isfinite(x)).flatten(1).any(dim=1).sum())
        raise ValueError(f"{name}: {bad} of {len(x)} {split} examples contain NaN or infinity")


def _channel_statistics(x: Tensor) -> tuple[Tensor, Tensor]:
    if are_tokens(x):
        return torch.zeros(x.shape[1], device=x.device), torch.ones(x.shape[1], device=x.device)
    # float64, in slices: a float copy of all of CIFAR-10 would need 1.2 GB, and what large slices
    # need is not given back to the system.
    channels = x.shape[1]
    total = torch.zeros(channels, dtype=torch.float64, device=x.device)
    squares, count = torch.zeros_like(total), 0
    for part in x.split(200):
        part = part.transpose(0, 1).reshape(channels, -1).double()
        total, squares = total + part.sum(dim=1), squares + (part * part).sum(dim=1)
        count += part.shape[1]
    mean = total / count
    std = (squares / count - mean * mean).clamp(min=0).sqrt()
    # A constant channel carries no information; dividing by 1 leaves it at zero. What rounding
    # makes of its deviation is below this share of its mean, whatever the unit.
    least = (1e-7 * mean.abs()).clamp(min=1e-30)
    std = torch.where(std > least, std, torch.ones_like(std))
    return mean.float(), std.float()
