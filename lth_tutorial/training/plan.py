"""The batches of a run as a plan on the device, read at a counter that lies there too.

A batch that comes from the host at every step makes host and GPU take turns. Here the row numbers,
shifts and mirrors of a whole epoch lie on the device, and the learning rates of the whole run. A
step reads them where a counter says, and a recording of it can be replayed without a word from
the host. The batches are those of `batch_indices` and `augment`, bit for bit.
"""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import NamedTuple

import torch
from torch import Tensor

from lth_tutorial.data.dataset import PAD, Dataset, augmentation, epoch_permutation, pick
from lth_tutorial.training.config import TrainConfig, learning_rate


class _Epoch(NamedTuple):
    """The steps of one epoch that belong to the run, drawn on the CPU.

    Attributes:
        first: the first of these steps.
        rows: numbers of training examples, int32 [steps, replicates, batch].
        draws: shift down, shift right and mirror, uint8 [steps, replicates, batch, 3], or None.
    """

    first: int
    rows: Tensor
    draws: Tensor | None


class Plan:
    """Batches of every replicate's own data order, with the learning rate of their step.

    Call `prepare` before each step, on the host, then `read` and `advance`, which a recording may
    hold.
    """

    def __init__(
        self, data: Dataset, config: TrainConfig, data_seeds: Sequence[int], start_step: int,
        stop_step: int, *, channels_last: bool = False,
    ) -> None:  # fmt: skip
        """Plan the steps from `start_step` to before `stop_step`.

        Args:
            channels_last: whether augmented images may lie in memory with their channels side by
                side, as they are made.
        """
        self.data, self.config, self.data_seeds = data, config, list(data_seeds)
        self.start, self.stop, self.channels_last = start_step, stop_step, channels_last
        self.per_epoch = len(data.x_train) // config.batch_size
        device = data.device
        rates = [learning_rate(config, step) for step in range(start_step, stop_step)]
        self.rates = torch.tensor(rates, dtype=torch.float32).to(device)
        # The step, counted from the start of the plan and from 0, and its place in what lies ready.
        # At the same addresses for good.
        self.counter = torch.zeros(3, dtype=torch.int64, device=device)
        steps = min(self.per_epoch, stop_step - start_step)
        shape = (steps, len(self.data_seeds), config.batch_size)
        self.rows = torch.zeros(shape, dtype=torch.int32, device=device)
        self.draws = torch.zeros((*shape, 3), dtype=torch.uint8, device=device)
        # One row of channels per pixel.
        self.pixels = data.x_train.movedim(1, -1).reshape(-1, data.shape[0])
        if not config.augment:
            self.draws = self.pixels = torch.empty(0)
        self.epoch = self.next_step = -1
        self.worker = ThreadPoolExecutor(1)
        self.coming: tuple[int, Future] | None = None

    def prepare(self, step: int) -> None:
        """Be ready to read the batch of a step of the run: nothing to do within an epoch."""
        epoch = step // self.per_epoch
        if epoch != self.epoch:
            drawn = self._drawn(epoch)
            _write(self.rows, drawn.rows)
            if drawn.draws is not None:
                _write(self.draws, drawn.draws)
            self.epoch, self.first = epoch, drawn.first
            self._count_from(step)
            self._draw_ahead(epoch + 1)
        elif step != self.next_step:
            self._count_from(step)
        self.next_step = step + 1

    def _count_from(self, step: int) -> None:
        _write(self.counter, torch.tensor([step - self.start, step, step - self.first]))

    def read(self) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Return normalised examples and labels [replicates, batch, …], learning rate and step.

        The step is the counter itself, which `advance` changes.
        """
        since, step, place = self.counter[:1], self.counter[1], self.counter[2:]
        rows = self.rows.index_select(0, place)[0]
        lr = self.rates.index_select(0, since)[0]
        if self.config.augment:
            draws = self.draws.index_select(0, place)[0]
            x = shifted(self.pixels, self.data, rows, draws)
            x = x if self.channels_last else x.contiguous()
        else:
            x = self.data.normalize(pick(self.data.x_train, rows))
        return x, pick(self.data.y_train, rows), lr, step

    def advance(self) -> None:
        """Count a step, on the device."""
        self.counter.add_(1)

    def _drawn(self, epoch: int) -> _Epoch:
        if self.coming is not None and self.coming[0] == epoch:
            return self.coming[1].result()
        return self._draw(epoch)

    def _draw_ahead(self, epoch: int) -> None:
        """Draw an epoch while the device is busy with the one before."""
        self.coming = None
        if epoch * self.per_epoch < self.stop:
            self.coming = epoch, self.worker.submit(self._draw, epoch)

    def _draw(self, epoch: int) -> _Epoch:
        n, size, opening = len(self.data.x_train), self.config.batch_size, epoch * self.per_epoch
        first, end = max(self.start, opening), min(self.stop, opening + self.per_epoch)
        part = slice((first - opening) * size, (end - opening) * size)
        orders = [epoch_permutation(n, seed, epoch)[part] for seed in self.data_seeds]
        rows = torch.stack(orders).int().view(len(orders), -1, size).transpose(0, 1).contiguous()
        if not self.config.augment:
            return _Epoch(first, rows, None)
        draws = [
            torch.stack([augmentation(size, step, seed) for seed in self.data_seeds])
            for step in range(first, end)
        ]
        return _Epoch(first, rows, torch.stack(draws))


def shifted(pixels: Tensor, data: Dataset, rows: Tensor, draws: Tensor, pad: int = PAD) -> Tensor:
    """Return normalised images, shifted and mirrored, [replicates, batch, channels, height, width].

    Each pixel is looked up where it comes from; what comes from outside the image is 0, the mean
    colour. In memory the channels of a pixel lie side by side.

    Args:
        pixels: the stored images, [n · height · width, channels].
        rows: which of the images, [replicates, batch].
        draws: as from `dataset.augmentation`, [replicates, batch, 3].
    """
    channels, height, width = data.shape
    down, right, mirror = draws.flatten(0, 1).long().unsqueeze(2).unbind(1)
    y, x = (torch.arange(size, device=rows.device) for size in (height, width))
    y = y + down - pad
    x = torch.where(mirror > 0, width - 1 - x, x) + right - pad
    inside = _within(y, height)[:, :, None] & _within(x, width)[:, None, :]
    y = rows.flatten().long()[:, None] * height + y.clamp(0, height - 1)
    index = y[:, :, None] * width + x.clamp(0, width - 1)[:, None, :]
    found = pixels.index_select(0, index.flatten()).float()
    found = (found - data.mean) * (1 / data.std)
    found = torch.where(inside.flatten()[:, None], found, 0.0)
    return found.view(*rows.shape, height, width, channels).movedim(-1, 2)


def _within(places: Tensor, size: int) -> Tensor:
    return (places >= 0) & (places < size)


def _write(target: Tensor, source: Tensor) -> None:
    """Copy to the beginning of a tensor on the device, without waiting for it."""
    if target.is_cuda:
        source = source.pin_memory()
    target[: len(source)].copy_(source, non_blocking=True)
