"""A small U-Net that keeps the resolution of its input."""

from collections.abc import Sequence
from itertools import pairwise

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn


def conv_norm_relu(in_channels: int, out_channels: int) -> nn.Sequential:
    """3x3 convolution, group norm (groups of 4 channels where they divide), ReLU.

    Group norm, not batch norm: data sets that alternate between steps would mix their batch statistics.
    """
    groups = out_channels // 4 if out_channels % 4 == 0 else 1
    return nn.Sequential(
        nn.Conv2d(in_channels, out_channels, 3, padding=1, bias=False), nn.GroupNorm(groups, out_channels), nn.ReLU(inplace=True)
    )


class UNet(nn.Module):
    """Encoder by max-pooling, decoder by nearest upsampling and concatenation; `channels[0]` features at input resolution.

    Any input size works; a level of odd size is pooled downwards and upsampled back to its size.

    Args:
        in_channels: channels of the input.
        channels: width of each level, finest first.
    """

    def __init__(self, in_channels: int, channels: Sequence[int] = (8, 12, 16)):
        super().__init__()
        inputs = [in_channels, *channels[:-1]]
        self.encoder = nn.ModuleList(conv_norm_relu(a, b) for a, b in zip(inputs, channels, strict=True))
        self.bottom = conv_norm_relu(channels[-1], channels[-1])
        self.decoder = nn.ModuleList(conv_norm_relu(a + b, a) for a, b in pairwise(channels))

    def forward(self, images: Float[Tensor, "B C H W"]) -> Float[Tensor, "B D H W"]:
        return self.with_bottom(images)[0]

    def with_bottom(self, images: Float[Tensor, "B C H W"]) -> tuple[Float[Tensor, "B D H W"], Float[Tensor, "B E h w"]]:
        """The features at input resolution, and those at the coarsest level, which see the most of the image."""
        skips = [self.encoder[0](images)]
        for level in self.encoder[1:]:
            skips.append(level(F.max_pool2d(skips[-1], 2)))
        features = bottom = self.bottom(skips.pop())
        for level in reversed(self.decoder):
            skip = skips.pop()
            features = level(torch.cat([skip, F.interpolate(features, size=skip.shape[-2:])], dim=1))
        return features, bottom
