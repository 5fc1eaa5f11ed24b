"""The two ways into a net: for ImageNet's large images, and for CIFAR's small ones."""

from __future__ import annotations

from .. import nn
from .arguments import check_stem

__all__ = ["stem_layers"]


def stem_layers(channels: int, stem: str) -> tuple[nn.Sequential, nn.Sequential]:
    """Return the first convolution (with BN and ReLU) and the max pool, which may be empty.

    "imagenet" is the papers' (V1 Table 1, V2 Table 5): 3x3 stride 2, max pool 3x3 stride 2. It
    would leave a 32x32 image 8x8 pixels; "cifar" is 3x3 stride 1 without a pool.
    """
    large = check_stem(stem) == "imagenet"
    conv = nn.Conv2d(3, channels, 3, stride=2 if large else 1, padding=1, bias=False)
    pool = [nn.MaxPool2d(3, stride=2, padding=1)] if large else []
    return nn.Sequential(conv, nn.BatchNorm2d(channels), nn.ReLU()), nn.Sequential(*pool)
