"""Xception: Chollet, "Xception: Deep Learning with Depthwise Separable Convolutions", 2016, arXiv
1610.02357 (Figure 5). For images of 299x299 pixels.

V1 and V2 compare with nets "like Xception" of far lower cost, which are not this one: V1's is in
:mod:`other_units`, and V2 does not print the widths of its own.
"""

from __future__ import annotations

from itertools import pairwise

import numpy as np

from .. import nn
from ..backend import F
from ..values import flags
from .arguments import check_stem

__all__ = ["Xception", "XceptionBlock", "separable"]

# Figure 5: the widths along each block with a shortcut, from its input on, and whether it halves
# the map. The eight of the middle flow are alike.
BLOCKS = (
    ((64, 128, 128), True),
    ((128, 256, 256), True),
    ((256, 728, 728), True),
    *[((728, 728, 728, 728), False)] * 8,
    ((728, 728, 1024), True),
)
STEM, EXIT = (32, 64), (1024, 1536, 2048)


def separable(in_channels: int, out_channels: int) -> nn.Sequential:
    """Return a separable convolution: 3x3 depthwise, 1x1, BN; no activation between the two."""
    return nn.Sequential(
        depthwise=nn.Conv2d(
            in_channels, in_channels, 3, padding=1, groups=in_channels, bias=False
        ),
        pointwise=nn.Conv2d(in_channels, out_channels, 1, bias=False),
        bn=nn.BatchNorm2d(out_channels),
    )


class XceptionBlock(nn.Module):
    """ReLU and separable convolution, several times, and a shortcut around them all.

    Parameters
    ----------
    widths : ints
        Channels along the chain, from the input on.
    halves : bool
        A 3x3 max pool with stride 2 at the end, and a 1x1 convolution with stride 2 beside it.
    first_relu : bool
        False leaves the first ReLU out: the net's first block, whose input comes out of one.
    """

    @flags
    def __init__(self, widths: tuple[int, ...], halves: bool, first_relu: bool = True) -> None:
        layers: list[nn.Module] = []
        for into, out in pairwise(widths):
            layers += [nn.ReLU(), separable(into, out)]
        if halves:
            layers.append(nn.MaxPool2d(3, stride=2, padding=1))
        self.chain = nn.Sequential(*layers[0 if first_relu else 1 :])
        self.shortcut = None
        if halves:
            self.shortcut = nn.Sequential(
                nn.Conv2d(widths[0], widths[-1], 1, stride=2, bias=False),
                nn.BatchNorm2d(widths[-1]),
            )

    def forward(self, x: np.ndarray) -> np.ndarray:
        shortcut = x if self.shortcut is None else self.shortcut(x)
        return F.add(self.chain(x), shortcut)

    def backward(self, dy: np.ndarray) -> np.ndarray:
        dchain, dshortcut = F.add_backward(dy)
        if self.shortcut is not None:
            dshortcut = self.shortcut.backward(dshortcut)
        return F.add(self.chain.backward(dchain), dshortcut)


class Xception(nn.Sequential):
    """Xception (Figure 5).

    Parameters
    ----------
    num_classes : int
    stem : {"imagenet", "cifar"}
        The first convolution has stride 2 and none of the two has padding; or stride 1 and
        padding.
    """

    def __init__(self, num_classes: int = 1000, stem: str = "imagenet") -> None:
        small = check_stem(stem) == "cifar"
        stride, padding = (1, 1) if small else (2, 0)
        a, b = STEM
        conv = nn.Sequential(
            nn.Conv2d(3, a, 3, stride, padding, bias=False), nn.BatchNorm2d(a), nn.ReLU(),
            nn.Conv2d(a, b, 3, 1, padding, bias=False), nn.BatchNorm2d(b), nn.ReLU(),
        )  # fmt: skip
        blocks = [
            XceptionBlock(widths, halves, first_relu=i > 0)
            for i, (widths, halves) in enumerate(BLOCKS)
        ]
        last: list[nn.Module] = []
        for into, out in pairwise(EXIT):
            last += [separable(into, out), nn.ReLU()]
        super().__init__(
            conv=conv,
            blocks=nn.Sequential(*blocks),
            exit=nn.Sequential(*last),
            globalpool=nn.GlobalAvgPool(),
            fc=nn.Linear(EXIT[-1], num_classes),
        )
        nn.init.kaiming_normal(self)
        nn.init.normal(self, 0.01)
