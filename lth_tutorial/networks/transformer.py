"""A small vision transformer, with attention heads that can be removed."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class Attention(nn.Module):
    """Self-attention in heads that can be counted, ranked and removed one by one.

    Each head projects the tokens to queries, keys and values of `width / heads` numbers, and the
    output layer reads all heads. Unlike `nn.MultiheadAttention`, whose width is tied to the number
    of heads, it still works with some heads removed: `head_width` stays.
    """

    def __init__(self, width: int, heads: int) -> None:
        """Take the width of a token and the number of heads that share it.

        Raises:
            ValueError: if the heads do not divide the width.
        """
        super().__init__()
        if heads < 1 or width % heads:
            fitting = ", ".join(str(n) for n in range(1, width + 1) if width % n == 0)
            raise ValueError(f"{heads} heads do not divide a width of {width}; {fitting} would")
        self.heads, self.head_width = heads, width // heads
        self.query, self.key, self.value = (nn.Linear(width, width) for _ in range(3))
        self.output = nn.Linear(width, width)

    def forward(self, x: Tensor) -> Tensor:
        """Map tokens [batch, tokens, width] to tokens of the same shape."""
        split = (
            layer(x).unflatten(2, (self.heads, self.head_width)).transpose(1, 2)
            for layer in (self.query, self.key, self.value)
        )
        return self.output(F.scaled_dot_product_attention(*split).transpose(1, 2).flatten(2))


class VisionTransformer(nn.Module):
    """A small vision transformer (Dosovitskiy et al. 2021), its tokens averaged at the end.

    Patches of the image become tokens; each block adds attention, and then a two-layer network,
    to its tokens, both behind a layer norm.
    """

    def __init__(
        self, width: int, heads: int, depth: int, shape: tuple[int, ...], classes: int
    ) -> None:
        """Take the width of a token, heads per block, and the number of blocks.

        Patches have 2 by 2 pixels on images of up to 16 pixels a side, else 4 by 4.

        Raises:
            ValueError: if the heads do not divide the width, or the patches the image.
        """
        super().__init__()
        channels, high, wide = shape
        patch = 2 if max(high, wide) <= 16 else 4
        if high % patch or wide % patch:
            raise ValueError(f"patches of {patch} by {patch} do not divide {high} by {wide} pixels")
        self.patches = nn.Conv2d(channels, width, patch, stride=patch)
        self.position = nn.Parameter(torch.zeros(1, (high // patch) * (wide // patch), width))
        self.blocks = nn.Sequential(*(_TransformerBlock(width, heads) for _ in range(depth)))
        self.norm = nn.LayerNorm(width)
        self.output = nn.Linear(width, classes)

    def forward(self, x: Tensor) -> Tensor:
        """Map images [batch, channels, height, width] to logits [batch, classes]."""
        tokens = self.patches(x).flatten(2).transpose(1, 2) + self.position
        return self.output(self.norm(self.blocks(tokens)).mean(dim=1))


class _TransformerBlock(nn.Module):
    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.norm1, self.norm2 = nn.LayerNorm(width), nn.LayerNorm(width)
        self.attention = Attention(width, heads)
        self.fc1, self.fc2 = nn.Linear(width, 2 * width), nn.Linear(2 * width, width)

    def forward(self, x: Tensor) -> Tensor:
        x = x + self.attention(self.norm1(x))
        return x + self.fc2(F.gelu(self.fc1(self.norm2(x))))
