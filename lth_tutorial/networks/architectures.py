"""The networks of the papers: fully connected, Conv-N, ResNet and VGG for small images.

Each function returns an untrained module; `build.build_model` chooses by name and draws the
weights. Layers have names, so that masks and figures can be read: `conv1.weight`, `fc2.weight`,
`output.weight`.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence
from itertools import pairwise

import torch
from torch import Tensor, nn

from lth_tutorial.safety.arguments import checked
from lth_tutorial.safety.kinds import is_whole

Shape = tuple[int, ...]
POOL = 0  # stands for a 2×2 max-pooling in a list of widths

VGG_WIDTHS = {
    "vgg_tiny": (16, POOL, 32, POOL, 32),  # for live cells on the digits
    "vgg_11": (64, POOL, 128, POOL, 256, 256, POOL, 512, 512, POOL, 512, 512),
    "vgg_16": (
        64, 64, POOL, 128, 128, POOL, 256, 256, 256, POOL, 512, 512, 512, POOL, 512, 512, 512,
    ),
}  # fmt: skip
VGG_SMALL_WIDTHS = (128, 128, POOL, 256, 256, POOL, 512, 512, POOL)


@checked
def mlp(sizes: Sequence[int], *, batch_norm: bool = False) -> nn.Sequential:
    """Return a fully connected ReLU network, e.g. `mlp((64, 100, 50, 10))`.

    Its prunable weights are `fc1.weight`, `fc2.weight`, …, `output.weight`, each of shape
    [outputs, inputs].

    Args:
        sizes: inputs, hidden widths, outputs: at least two whole numbers of at least 1.
        batch_norm: normalise before every ReLU; hidden layers then have no bias of their own.

    Raises:
        ValueError: for other sizes.
    """
    if len(sizes) < 2 or not all(is_whole(size) and size >= 1 for size in sizes):
        raise ValueError(f"sizes are inputs, hidden widths and outputs, ≥ 1 each; got {sizes!r}")
    layers = _dense_layers(sizes, batch_norm=batch_norm)
    return nn.Sequential(OrderedDict(flatten=nn.Flatten(), **layers))


class Residual(nn.Sequential):
    """Layers beside a shortcut: x + layers(x)."""

    def forward(self, x: Tensor) -> Tensor:
        """Map [batch, width] to [batch, width]."""
        return x + super().forward(x)


def residual_mlp(
    width: int, depth: int, inputs: int, classes: int, *, batch_norm: bool = False
) -> nn.Sequential:
    """Return a layer, `depth` residual blocks x + ReLU(W x + b) of one width, and an output.

    Its prunable weights are `fc1.weight`, `block1.fc.weight`, …, `output.weight`.

    Args:
        batch_norm: normalise before every ReLU; those layers then have no bias of their own.
    """

    def layer(inputs: int) -> OrderedDict[str, nn.Module]:
        layers: OrderedDict[str, nn.Module] = OrderedDict()
        layers["fc"] = nn.Linear(inputs, width, bias=not batch_norm)
        if batch_norm:
            layers["norm"] = nn.BatchNorm1d(width)
        layers["relu"] = nn.ReLU()
        return layers

    first = {f"{name}1": module for name, module in layer(inputs).items()}
    blocks = {f"block{i}": Residual(layer(width)) for i in range(1, depth + 1)}
    layers = OrderedDict(flatten=nn.Flatten(), **first, **blocks)
    layers["output"] = nn.Linear(width, classes)
    return nn.Sequential(layers)


def conv_n(depth: int, shape: Shape, classes: int) -> nn.Sequential:
    """Return Conv-2, -4, -6 or -8 (Frankle & Carbin 2019; Conv-8: Ramanujan et al. 2020).

    Pairs of 3×3 convolutions of 64, 128, 256 and 512 channels, each pair followed by 2×2
    max-pooling; then two hidden layers of 256 units. No batch norm.
    """
    widths = [w for width in (64, 128, 256, 512)[: depth // 2] for w in (width, width, POOL)]
    layers, channels, size = _convolutions(widths, shape, batch_norm=False)
    layers["flatten"] = nn.Flatten()
    return nn.Sequential(layers | _dense_layers((channels * size, 256, 256, classes)))


def vgg(widths: Sequence[int], shape: Shape, classes: int) -> nn.Sequential:
    """Return a VGG for 32×32 images: convolutions with batch norm, average pooling, one layer."""
    layers, channels, _ = _convolutions(widths, shape, batch_norm=True)
    layers["average"] = nn.AdaptiveAvgPool2d(1)
    layers["flatten"] = nn.Flatten()
    layers["output"] = nn.Linear(channels, classes)
    return nn.Sequential(layers)


def vgg_small(shape: Shape, classes: int) -> nn.Sequential:
    """Return VGG-Small, the network of the binary literature: six convolutions, one dense layer."""
    layers, channels, size = _convolutions(VGG_SMALL_WIDTHS, shape, batch_norm=True)
    layers["flatten"] = nn.Flatten()
    layers["output"] = nn.Linear(channels * size, classes)
    return nn.Sequential(layers)


class ResNet(nn.Module):
    """A residual network for small images (He et al. 2016), with projections as shortcuts.

    Stem, `stages` of basic blocks of the given widths (each stage after the first halves the
    image), average pooling, one dense layer.
    """

    def __init__(self, stages: Sequence[tuple[int, int]], shape: Shape, classes: int) -> None:
        """Take (width, number of blocks) for each stage."""
        super().__init__()
        width = stages[0][0]
        self.conv1 = nn.Conv2d(shape[0], width, 3, padding=1, bias=False)
        self.norm1 = nn.BatchNorm2d(width)
        blocks = []
        for i, (wider, count) in enumerate(stages):
            for j in range(count):
                stride = 2 if i > 0 and j == 0 else 1
                blocks.append(_Block(width, wider, stride))
                width = wider
        self.blocks = nn.Sequential(*blocks)
        self.output = nn.Linear(width, classes)

    def forward(self, x: Tensor) -> Tensor:
        """Map images [batch, channels, height, width] to logits [batch, classes]."""
        x = self.blocks(self.norm1(self.conv1(x)).relu())
        return self.output(x.mean(dim=(2, 3)))


class _Block(nn.Module):
    """Two 3×3 convolutions beside a shortcut; a 1×1 projection where shapes differ."""

    def __init__(self, inputs: int, width: int, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(inputs, width, 3, stride=stride, padding=1, bias=False)
        self.norm1 = nn.BatchNorm2d(width)
        self.conv2 = nn.Conv2d(width, width, 3, padding=1, bias=False)
        self.norm2 = nn.BatchNorm2d(width)
        self.shortcut = nn.Sequential()
        if stride != 1 or inputs != width:
            project = nn.Conv2d(inputs, width, 1, stride=stride, bias=False)
            self.shortcut = nn.Sequential(project, nn.BatchNorm2d(width))

    def forward(self, x: Tensor) -> Tensor:
        inner = self.norm1(self.conv1(x)).relu()
        return (self.norm2(self.conv2(inner)) + self.shortcut(x)).relu()


def _dense_layers(sizes: Sequence[int], *, batch_norm: bool = False) -> OrderedDict[str, nn.Module]:
    layers: OrderedDict[str, nn.Module] = OrderedDict()
    pairs = list(pairwise(sizes))
    for i, (fan_in, fan_out) in enumerate(pairs[:-1], start=1):
        layers[f"fc{i}"] = nn.Linear(fan_in, fan_out, bias=not batch_norm)
        if batch_norm:
            layers[f"norm{i}"] = nn.BatchNorm1d(fan_out)
        layers[f"fc{i}_relu"] = nn.ReLU()
    layers["output"] = nn.Linear(*pairs[-1])
    return layers


def _convolutions(
    widths: Sequence[int], shape: Shape, *, batch_norm: bool
) -> tuple[OrderedDict[str, nn.Module], int, int]:
    """Return the layers, and how many channels of how many pixels come out of them."""
    channels, height, width = shape
    if min(height, width) < 2 ** list(widths).count(POOL):
        raise ValueError(f"images of {height} by {width} pixels are too small for this network")
    layers: OrderedDict[str, nn.Module] = OrderedDict()
    convolutions = pools = 0
    for size in widths:
        if size == POOL:
            pools += 1
            layers[f"pool{pools}"] = nn.MaxPool2d(2)
            height, width = height // 2, width // 2
            continue
        convolutions += 1
        i = convolutions
        layers[f"conv{i}"] = nn.Conv2d(channels, size, 3, padding=1, bias=not batch_norm)
        if batch_norm:
            layers[f"norm{i}"] = nn.BatchNorm2d(size)
        layers[f"conv{i}_relu"] = nn.ReLU()
        channels = size
    return layers, channels, height * width


def glorot_normal_(model: nn.Module, generator: torch.Generator) -> None:
    """Draw weights from N(0, 2 / (fan_in + fan_out)); biases 0 (Glorot & Bengio 2010)."""
    _draw(model, lambda w: nn.init.xavier_normal_(w, generator=generator))


def kaiming_normal_(model: nn.Module, generator: torch.Generator) -> None:
    """Draw weights from N(0, 2 / fan_in); biases 0, batch norm the identity (He et al. 2015)."""
    _draw(model, lambda w: nn.init.kaiming_normal_(w, nonlinearity="relu", generator=generator))


def uniform_(model: nn.Module, generator: torch.Generator) -> None:
    """Draw weights from U(−1/√fan_in, 1/√fan_in), PyTorch's own default; biases 0.

    Their variance is 1 / (3 · fan_in): a third of Glorot's where a layer is as wide as the next.
    Before batch norm the size of weights does not change what a network computes, but a step of
    the same length turns small weights further: training is as if at a higher rate.
    """

    def fill(weight: torch.Tensor) -> torch.Tensor:
        bound = weight[0].numel() ** -0.5
        return nn.init.uniform_(weight, -bound, bound, generator=generator)

    _draw(model, fill)


@torch.no_grad()
def _draw(model: nn.Module, fill) -> None:
    # Drawn on the CPU whatever the model's device, so that a seed means the same everywhere.
    for module in model.modules():
        if isinstance(module, (nn.modules.batchnorm._BatchNorm, nn.LayerNorm)):
            module.reset_parameters()
            continue
        for parameter in module.parameters(recurse=False):
            drawn = torch.zeros(parameter.shape)
            parameter.copy_(fill(drawn) if parameter.ndim >= 2 else drawn)
