"""MobileNet V2: Sandler, Howard, Zhu, Zhmoginov, Chen, "MobileNetV2: Inverted Residuals and Linear
Bottlenecks", 2018, arXiv 1801.04381.

Layer names are torchvision's, so weights move between the two by transposing.
"""

from __future__ import annotations

import numpy as np

from .. import nn
from ..backend import F
from .arguments import check_stem, check_width

__all__ = ["InvertedResidual", "MobileNetV2", "scaled"]

# Table 2: expansion t, output channels c, repeats n, stride s of each stage.
STAGES = (
    (1, 16, 1, 1),
    (6, 24, 2, 2),
    (6, 32, 3, 2),
    (6, 64, 4, 2),
    (6, 96, 3, 1),
    (6, 160, 3, 2),
    (6, 320, 1, 1),
)
STEM_WIDTH, LAST_WIDTH = 32, 1280


def scaled(channels: float) -> int:
    """Round to the nearest multiple of 8, but never down by more than a tenth.

    >>> [scaled(c * 0.75) for c in (32, 16, 24, 96)], scaled(24 * 0.4)
    ([24, 16, 24, 72], 16)
    """
    near = max(8, int(channels + 4) // 8 * 8)
    return near if near >= 0.9 * channels else near + 8


def _conv(
    in_channels: int, out_channels: int, kernel: int, stride: int = 1, groups: int = 1
) -> nn.Sequential:
    """Convolution, batch norm, ReLU6."""
    return nn.Sequential(
        nn.Conv2d(
            in_channels, out_channels, kernel, stride, kernel // 2, groups=groups, bias=False
        ),
        nn.BatchNorm2d(out_channels),
        nn.ReLU6(),
    )


class InvertedResidual(nn.Module):
    """The inverted residual with linear bottleneck (Figure 4d).

    1x1 to t times as many channels, 3x3 depthwise, 1x1 down again with no ReLU behind it ("linear
    bottleneck"). Where the shape does not change, the input is added.

    Parameters
    ----------
    in_channels, out_channels : int
    stride : int
        1 or 2.
    expansion : int
        t; with 1 the first 1x1 is left out.
    """

    def __init__(self, in_channels: int, out_channels: int, stride: int, expansion: int) -> None:
        self.residual = stride == 1 and in_channels == out_channels
        middle = in_channels * expansion
        self.conv = nn.Sequential(
            *([_conv(in_channels, middle, 1)] if expansion != 1 else []),
            _conv(middle, middle, 3, stride, groups=middle),
            nn.Conv2d(middle, out_channels, 1, bias=False),
            nn.BatchNorm2d(out_channels),
        )

    def forward(self, x: np.ndarray) -> np.ndarray:
        y = self.conv(x)
        return F.add(x, y) if self.residual else y

    def backward(self, dy: np.ndarray) -> np.ndarray:
        if not self.residual:
            return self.conv.backward(dy)
        dshortcut, dconv = F.add_backward(dy)
        return F.add(dshortcut, self.conv.backward(dconv))


class MobileNetV2(nn.Sequential):
    """MobileNet V2 (Table 2).

    Parameters
    ----------
    width : float
        The width multiplier; channels become the multiple of 8 near it (:func:`scaled`), as in
        the authors' code. The last convolution is made wider by it, never narrower (section 6.1).
    num_classes : int
    stem : {"imagenet", "cifar"}
        For "cifar" the first convolution and the stage of 24 channels have stride 1, as in
        chenyaofo's nets.
    """

    def __init__(
        self, width: float = 1.0, num_classes: int = 1000, stem: str = "imagenet"
    ) -> None:
        width = check_width(width)
        small = check_stem(stem) == "cifar"
        channels = scaled(STEM_WIDTH * width)
        layers: list[nn.Module] = [_conv(3, channels, 3, 1 if small else 2)]
        for expansion, base, repeat, first_stride in STAGES:
            out = scaled(base * width)
            for i in range(repeat):
                stride = first_stride if i == 0 and not (small and base == 24) else 1
                layers.append(InvertedResidual(channels, out, stride, expansion))
                channels = out
        last = scaled(LAST_WIDTH * max(1.0, width))
        layers.append(_conv(channels, last, 1))
        super().__init__(
            features=nn.Sequential(*layers),
            globalpool=nn.GlobalAvgPool(),
            classifier=nn.Sequential(nn.Dropout(0.2), nn.Linear(last, num_classes)),
        )
        nn.init.kaiming_normal(self)
        nn.init.normal(self, 0.01)
