"""CondenseNet: Huang, Liu, van der Maaten, Weinberger, "CondenseNet: An Efficient DenseNet using
Learned Group Convolutions", 2017, arXiv 1711.09224.

DenseNet with grouped convolutions, a shuffle between the two of a layer, growth that doubles from
block to block, and transitions that only pool. In the paper the groups of the 1x1 convolutions are
learned: training starts from dense ones and drops the least of their weights. Here is the net that
comes out of it, as the authors convert it for use, with each group's channels in their order, and
not chosen: the same layers, parameters and multiply-adds.
"""

from __future__ import annotations

import numpy as np

from .. import nn
from ..backend import F
from ..errors import TinyshuffleError
from ..ops import Cost
from ..values import whole
from .arguments import check_stem

__all__ = ["CondenseLayer", "CondenseNet", "FirstChannels"]

# Layers and growth of each block: Table 1's CondenseNet-74 for ImageNet, CondenseNet-86 for CIFAR.
BLOCKS = {
    "imagenet": ((4, 8), (6, 16), (8, 32), (10, 64), (8, 128)),
    "cifar": ((14, 8), (14, 16), (14, 32)),
}
BOTTLENECK = 4
GROUPS = (4, 8)


class CondenseLayer(nn.Sequential):
    """BN, ReLU, grouped 1x1, shuffle, BN, ReLU, grouped 3x3; its output is laid beside the input.

    Parameters
    ----------
    in_channels, growth, groups : int
    """

    def __init__(self, in_channels: int, growth: int, groups: int) -> None:
        self.channels = [in_channels, growth]
        middle = BOTTLENECK * growth
        super().__init__(
            norm1=nn.BatchNorm2d(in_channels),
            relu1=nn.ReLU(),
            conv1=nn.Conv2d(in_channels, middle, 1, groups=groups, bias=False),
            shuffle=nn.ChannelShuffle(groups),
            norm2=nn.BatchNorm2d(middle),
            relu2=nn.ReLU(),
            conv2=nn.Conv2d(middle, growth, 3, padding=1, groups=groups, bias=False),
        )

    def forward(self, x: np.ndarray) -> np.ndarray:
        return F.concat([x, super().forward(x)])

    def backward(self, dy: np.ndarray) -> np.ndarray:
        dx, dnew = F.concat_backward(dy, self.channels)
        return F.add(dx, super().backward(dnew))


class FirstChannels(nn.Module):
    """The first of the channels; the others go nowhere, and their gradient is 0.

    The converted classifier sees half of the features.
    """

    def __init__(self, channels: int) -> None:
        self.channels = channels

    def forward(self, x: np.ndarray) -> np.ndarray:
        first, rest = F.channel_split(x, self.channels)
        self.save(rest.shape)
        return first

    def backward(self, dy: np.ndarray) -> np.ndarray:
        (rest,) = self.saved()
        return F.channel_split_backward(dy, np.zeros(rest, dy.dtype))

    def cost(self, x: tuple[int, ...]) -> Cost:
        """Cost: none; the first channels are looked at where they lie."""
        return Cost(output=(*x[:-1], self.channels))


class CondenseNet(nn.Sequential):
    """CondenseNet-74 (Table 1), converted.

    Parameters
    ----------
    groups : int
        4 or 8: of all convolutions but the first, and the condensation factor (G = C).
    num_classes : int
    stem : {"imagenet", "cifar"}
        For "cifar" it is CondenseNet-86: three blocks, and stride 1 in the first convolution.
    """

    def __init__(self, groups: int = 8, num_classes: int = 1000, stem: str = "imagenet") -> None:
        if whole(groups) not in GROUPS:
            raise TinyshuffleError(f"no CondenseNet has {groups} groups; give 4 or 8")
        blocks = BLOCKS[check_stem(stem)]
        channels = 2 * blocks[0][1]
        layers: dict[str, nn.Module] = {
            "init_conv": nn.Conv2d(
                3, channels, 3, stride=2 if stem == "imagenet" else 1, padding=1, bias=False
            )
        }
        for number, (repeat, growth) in enumerate(blocks, 1):
            dense = []
            for _ in range(repeat):
                dense.append(CondenseLayer(channels, growth, groups))
                channels += growth
            layers[f"block{number}"] = nn.Sequential(*dense)
            if number < len(blocks):
                layers[f"transition{number}"] = nn.AvgPool2d(2)
        super().__init__(
            **layers,
            norm=nn.BatchNorm2d(channels),
            relu=nn.ReLU(),
            globalpool=nn.GlobalAvgPool(),
            select=FirstChannels(channels // 2),
            classifier=(classifier := nn.Linear(channels // 2, num_classes)),
        )
        nn.init.kaiming_normal(self)
        nn.init.zeros(classifier.bias)
