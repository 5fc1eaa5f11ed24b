"""IGCV3: Sun, Li, Liu, Wang, "IGCV3: Interleaved Low-Rank Group Convolutions for Efficient Deep
Neural Networks", 2018, arXiv 1806.00178.

MobileNet V2 with its 1x1 convolutions in two groups, a shuffle behind each, and twice as many
units ("D", deeper). ShuffleNet V2's Table 8 compares with it. As in the authors' code, only the
depthwise convolution has an activation behind it, and a stage's first unit has no shortcut.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from .. import nn
from ..backend import F
from ..values import flags
from .arguments import check_stem, check_width
from .mobilenet_v2 import STAGES

__all__ = ["IGCV3", "InterleavedUnit"]

GROUPS = 2
STEM_WIDTH, LAST_WIDTH = 32, 1280


def even(channels: float) -> int:
    """Round to a whole number, and up to an even one, which the two groups need.

    >>> [even(c * 0.7) for c in (16, 24, 96)]
    [12, 18, 68]
    """
    whole = int(channels + 0.5)
    return whole + whole % 2


class InterleavedUnit(nn.Sequential):
    """1x1 in groups, shuffle, 3x3 depthwise, 1x1 in groups, shuffle back; the input is added.

    Parameters
    ----------
    in_channels, middle, out_channels : int
    stride : int
    residual : bool
        Whether the input is added.
    """

    @flags
    def __init__(
        self, in_channels: int, middle: int, out_channels: int, stride: int, residual: bool
    ) -> None:
        self.residual = residual
        super().__init__(
            expand=nn.Conv2d(in_channels, middle, 1, groups=GROUPS, bias=False),
            bn1=nn.BatchNorm2d(middle),
            shuffle1=nn.ChannelShuffle(GROUPS),
            depthwise=nn.Conv2d(middle, middle, 3, stride, padding=1, groups=middle, bias=False),
            bn2=nn.BatchNorm2d(middle),
            relu=nn.ReLU6(),
            project=nn.Conv2d(middle, out_channels, 1, groups=GROUPS, bias=False),
            bn3=nn.BatchNorm2d(out_channels),
            shuffle2=nn.ChannelShuffle(out_channels // GROUPS),
        )

    def forward(self, x: np.ndarray) -> np.ndarray:
        y = super().forward(x)
        return F.add(x, y) if self.residual else y

    def backward(self, dy: np.ndarray) -> np.ndarray:
        if not self.residual:
            return super().backward(dy)
        dshortcut, dbranch = F.add_backward(dy)
        return F.add(dshortcut, super().backward(dbranch))


class IGCV3(nn.Sequential):
    """IGCV3-D.

    Parameters
    ----------
    width : float
        The width multiplier; channels are rounded to even numbers. The last convolution is made
        wider by it, never narrower. How the paper's 0.7 and 1.4 are rounded is unpublished: no
        rule tried comes near 0.7's 210 M multiply-adds.
    num_classes : int
    stem : {"imagenet", "cifar"}
        For "cifar" the first convolution and the stage of 24 channels have stride 1.
    """

    def __init__(
        self, width: float = 1.0, num_classes: int = 1000, stem: str = "imagenet"
    ) -> None:
        width = check_width(width)
        small = check_stem(stem) == "cifar"
        channels = even(STEM_WIDTH * width)
        last = max(LAST_WIDTH, even(LAST_WIDTH * width))
        conv1 = nn.Sequential(
            nn.Conv2d(3, channels, 3, 1 if small else 2, padding=1, bias=False),
            nn.BatchNorm2d(channels),
            nn.ReLU6(),
        )
        units = list(_units(channels, width, small))
        channels = even(STAGES[-1][1] * width)
        super().__init__(
            conv1=conv1,
            features=nn.Sequential(*units),
            conv2=nn.Sequential(
                nn.Conv2d(channels, last, 1, bias=False), nn.BatchNorm2d(last), nn.ReLU6()
            ),
            globalpool=nn.GlobalAvgPool(),
            fc=nn.Linear(last, num_classes),
        )
        nn.init.kaiming_normal(self)
        nn.init.normal(self, 0.01)


def _units(channels: int, width: float, small: bool) -> Iterator[nn.Sequential]:
    """MobileNet V2's stages; all of several units have twice as many."""
    for expansion, base, repeat, first_stride in STAGES:
        out = even(base * width)
        for i in range(2 * repeat if repeat > 1 else 1):
            stride = first_stride if i == 0 and not (small and base == 24) else 1
            yield InterleavedUnit(channels, expansion * channels, out, stride, i > 0)
            channels = out
