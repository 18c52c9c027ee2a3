"""Networks by name, initialised from a seed of their own.

LeNet-300-100 is the fully connected network of the first lottery ticket paper; the live cells use
smaller ones of the same shape, which train in a second. Functions of this package take any
`torch.nn.Module`; `architectures` and `transformer` define only those that the chapters use.
"""

from __future__ import annotations

import re

import torch
from torch import nn

from lth_tutorial.data.dataset import Dataset
from lth_tutorial.networks.architectures import (
    VGG_WIDTHS,
    ResNet,
    conv_n,
    glorot_normal_,
    kaiming_normal_,
    mlp,
    residual_mlp,
    uniform_,
    vgg,
    vgg_small,
)
from lth_tutorial.networks.initialization import reinitialize
from lth_tutorial.networks.transformer import VisionTransformer
from lth_tutorial.runtime import choose
from lth_tutorial.safety.arguments import checked

MODELS = (
    "lenet_300_100", "mlp_WIDTH_WIDTH_…", "mlp_bn_WIDTH_WIDTH_…", "mlp_bn_uniform_WIDTH_WIDTH_…",
    "conv_2", "conv_4", "conv_6", "conv_8",
    "resnet_8", "resnet_14", "resnet_20", "resnet_32", "resnet_44", "resnet_56",
    "resnet_18", "vgg_11", "vgg_16", "vgg_small", "vgg_tiny", "vit_WIDTH_HEADS_DEPTH",
    "resmlp_WIDTH_DEPTH", "resmlp_bn_WIDTH_DEPTH",
)  # fmt: skip
RESNETS = {
    # Of He et al. 2016 for small images: three stages of n blocks, 6 n + 2 layers.
    **{f"resnet_{6 * n + 2}": ((16, n), (32, n), (64, n)) for n in (1, 2, 3, 5, 7, 9)},
    "resnet_18": ((64, 2), (128, 2), (256, 2), (512, 2)),
}

_MNIST, _CIFAR = (1, 28, 28), (3, 32, 32)


@checked
def build_model(name: str, *, seed: int, data: Dataset | None = None) -> nn.Module:
    """Return a network whose initial weights belong to `seed` alone.

    Args:
        name: "lenet_300_100" (two hidden layers of 300 and 100 units; Frankle & Carbin 2019), or
            "mlp_100_50" and the like: fully connected with the hidden widths in the name, and
            "mlp_bn_64_64": the same with batch norm before every ReLU; "mlp_bn_uniform_64_64": that
            with PyTorch's own, smaller weights (see `uniform_`); "conv_2", "conv_4",
            "conv_6", "conv_8"; "resnet_8" to "resnet_56", "resnet_18"; "vgg_11", "vgg_16",
            "vgg_small", "vgg_tiny" (see `architectures`); "vit_32_4_2" and the like: a transformer
            with the width, the heads and the number of blocks in the name (see `transformer`);
            "resmlp_64_3" and "resmlp_bn_64_3": residual blocks of fully connected layers, width
            and number in the name.
        seed: draws the initial weights. The global random state is neither read nor changed.
        data: gives the shape of one example and the number of classes; default the papers': MNIST
            for fully connected networks, CIFAR-10 for the others.

    LeNet, its kind and Conv-N are drawn Glorot normal as in the first lottery ticket paper, the
    transformer too; ResNet and VGG Kaiming normal; "mlp_bn_uniform" uniform; biases are zero.

    Raises:
        ValueError: for an unknown name, images too small for the network, or heads that do not
            divide the width.
    """
    residual = re.fullmatch(r"resmlp(_bn)?_([1-9]\d*)_([1-9]\d*)", str(name))
    vit = re.fullmatch(r"vit_([1-9]\d*)_([1-9]\d*)_([1-9]\d*)", str(name))
    widths = re.fullmatch(r"(?:mlp(_bn(_uniform)?)?|lenet(?=_300_100$))((?:_[1-9]\d*)+)", str(name))
    flat = widths or residual
    if flat is None and vit is None:
        choose("model", name, MODELS)
    default = _MNIST if flat else _CIFAR
    shape, classes = (data.shape, data.num_classes) if data else (default, 10)
    if flat is None and len(shape) != 3:
        raise ValueError(f"{name} takes images (channels, height, width); got examples of {shape}")
    with torch.random.fork_rng(devices=[]):  # PyTorch's own initialisation, which is overwritten
        if widths:
            hidden = [int(width) for width in widths.group(3).split("_")[1:]]
            sizes = (torch.Size(shape).numel(), *hidden, classes)
            model: nn.Module = mlp(sizes, batch_norm=widths.group(1) is not None)
        elif residual:
            norm, width, depth = residual.groups()
            inputs = torch.Size(shape).numel()
            model = residual_mlp(
                int(width), int(depth), inputs, classes, batch_norm=norm is not None
            )
        elif vit:
            width, heads, depth = (int(size) for size in vit.groups())
            model = VisionTransformer(width, heads, depth, shape, classes)
        elif name.startswith("conv_"):
            model = conv_n(int(name.removeprefix("conv_")), shape, classes)
        elif name in RESNETS:
            model = ResNet(RESNETS[name], shape, classes)
        elif name == "vgg_small":
            model = vgg_small(shape, classes)
        else:
            model = vgg(VGG_WIDTHS[name], shape, classes)
    kaiming = name in RESNETS or name.startswith("vgg")
    uniform = widths is not None and widths.group(2) is not None
    model.initialization = (
        uniform_ if uniform else kaiming_normal_ if kaiming else glorot_normal_
    )  # fmt: skip
    reinitialize(model, seed)
    return model
