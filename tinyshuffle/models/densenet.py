"""DenseNet: Huang, Liu, van der Maaten, Weinberger, "Densely Connected Convolutional Networks",
2016, arXiv 1608.06993.

Each layer sees the outputs of all before it, side by side: the "feature reuse" that ShuffleNet
V2's channel split gets at a lower price (V2, section 3). Layer names are torchvision's, so
weights move between the two by transposing.
"""

from __future__ import annotations

import numpy as np

from .. import nn
from ..backend import F
from ..errors import TinyshuffleError
from .arguments import check_stem

__all__ = ["DenseLayer", "DenseNet"]

# Table 1: dense layers in each block, by the depth of the net; and the growth rate k.
REPEATS = {121: (6, 12, 24, 16), 169: (6, 12, 32, 32), 201: (6, 12, 48, 32)}
GROWTH = 32
BOTTLENECK = 4  # a layer's 1x1 convolution makes 4 k channels (DenseNet-B)
STEM_WIDTH = 64


class DenseLayer(nn.Sequential):
    """BN, ReLU, 1x1, BN, ReLU, 3x3, whose output is laid beside the input (section 3)."""

    def __init__(self, in_channels: int, growth: int) -> None:
        self.channels = [in_channels, growth]
        middle = BOTTLENECK * growth
        super().__init__(
            norm1=nn.BatchNorm2d(in_channels),
            relu1=nn.ReLU(),
            conv1=nn.Conv2d(in_channels, middle, 1, bias=False),
            norm2=nn.BatchNorm2d(middle),
            relu2=nn.ReLU(),
            conv2=nn.Conv2d(middle, growth, 3, padding=1, bias=False),
        )

    def forward(self, x: np.ndarray) -> np.ndarray:
        return F.concat([x, super().forward(x)])

    def backward(self, dy: np.ndarray) -> np.ndarray:
        dx, dnew = F.concat_backward(dy, self.channels)
        return F.add(dx, super().backward(dnew))


class DenseNet(nn.Sequential):
    """DenseNet-BC (Table 1).

    Parameters
    ----------
    depth : int
        121, 169 or 201.
    num_classes : int
    stem : {"imagenet", "cifar"}
        7x7 with stride 2 and a max pool, or 3x3 with stride 1 and none.
    """

    def __init__(self, depth: int = 121, num_classes: int = 1000, stem: str = "imagenet") -> None:
        if depth not in REPEATS:
            raise TinyshuffleError(
                f"no DenseNet has {depth} layers; depths are {', '.join(map(str, REPEATS))}"
            )
        channels = STEM_WIDTH
        large = check_stem(stem) == "imagenet"
        layers: dict[str, nn.Module] = {
            "conv0": nn.Conv2d(3, channels, 7, stride=2, padding=3, bias=False)
            if large
            else nn.Conv2d(3, channels, 3, padding=1, bias=False),
            "norm0": nn.BatchNorm2d(channels),
            "relu0": nn.ReLU(),
        }
        if large:
            layers["pool0"] = nn.MaxPool2d(3, stride=2, padding=1)
        for block, repeat in enumerate(REPEATS[depth], 1):
            dense: dict[str, nn.Module] = {}
            for i in range(1, repeat + 1):
                dense[f"denselayer{i}"] = DenseLayer(channels, GROWTH)
                channels += GROWTH
            layers[f"denseblock{block}"] = nn.Sequential(**dense)
            if block < len(REPEATS[depth]):
                layers[f"transition{block}"] = nn.Sequential(
                    norm=nn.BatchNorm2d(channels),
                    relu=nn.ReLU(),
                    conv=nn.Conv2d(channels, channels // 2, 1, bias=False),
                    pool=nn.AvgPool2d(2),
                )
                channels //= 2
        layers |= {"norm5": nn.BatchNorm2d(channels), "relu5": nn.ReLU()}
        super().__init__(
            features=nn.Sequential(**layers),
            globalpool=nn.GlobalAvgPool(),
            classifier=(classifier := nn.Linear(channels, num_classes)),
        )
        nn.init.kaiming_normal(self, "fan_in")
        nn.init.zeros(classifier.bias)
