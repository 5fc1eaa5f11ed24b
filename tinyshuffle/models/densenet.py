"""DenseNet: Huang, Liu, van der Maaten, Weinberger, "Densely Connected Convolutional Networks",
2016, arXiv 1608.06993.

Each layer sees the outputs of all before it, side by side: the "feature reuse" that ShuffleNet
V2's channel split gets at a lower price (V2, section 3). Layer names are torchvision's, so
weights move between the two by transposing.
"""

from __future__ import annotations

import numpy as np

from ..backend import F
from ..errors import TinyshuffleError
from ..nn import (
    AvgPool2d,
    BatchNorm2d,
    Conv2d,
    GlobalAvgPool,
    Linear,
    MaxPool2d,
    Module,
    ReLU,
    Sequential,
    init,
)
from .arguments import check_stem

__all__ = ["DenseLayer", "DenseNet"]

# Table 1: dense layers in each block, by the depth of the net; and the growth rate k.
REPEATS = {121: (6, 12, 24, 16), 169: (6, 12, 32, 32), 201: (6, 12, 48, 32)}
GROWTH = 32
BOTTLENECK = 4  # a layer's 1x1 convolution makes 4 k channels (DenseNet-B)
STEM_WIDTH = 64


class DenseLayer(Sequential):
    """BN, ReLU, 1x1, BN, ReLU, 3x3, whose output is laid beside the input (section 3)."""

    def __init__(self, in_channels: int, growth: int) -> None:
        self.channels = [in_channels, growth]
        middle = BOTTLENECK * growth
        super().__init__(
            norm1=BatchNorm2d(in_channels),
            relu1=ReLU(),
            conv1=Conv2d(in_channels, middle, 1, bias=False),
            norm2=BatchNorm2d(middle),
            relu2=ReLU(),
            conv2=Conv2d(middle, growth, 3, padding=1, bias=False),
        )

    def forward(self, x: np.ndarray) -> np.ndarray:
        return F.concat([x, super().forward(x)])

    def backward(self, dy: np.ndarray) -> np.ndarray:
        dx, dnew = F.concat_backward(dy, self.channels)
        return F.add(dx, super().backward(dnew))


class DenseNet(Sequential):
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
        layers: dict[str, Module] = {
            "conv0": Conv2d(3, channels, 7, stride=2, padding=3, bias=False)
            if large
            else Conv2d(3, channels, 3, padding=1, bias=False),
            "norm0": BatchNorm2d(channels),
            "relu0": ReLU(),
        }
        if large:
            layers["pool0"] = MaxPool2d(3, stride=2, padding=1)
        for block, repeat in enumerate(REPEATS[depth], 1):
            dense: dict[str, Module] = {}
            for i in range(1, repeat + 1):
                dense[f"denselayer{i}"] = DenseLayer(channels, GROWTH)
                channels += GROWTH
            layers[f"denseblock{block}"] = Sequential(**dense)
            if block < len(REPEATS[depth]):
                layers[f"transition{block}"] = Sequential(
                    norm=BatchNorm2d(channels),
                    relu=ReLU(),
                    conv=Conv2d(channels, channels // 2, 1, bias=False),
                    pool=AvgPool2d(2),
                )
                channels //= 2
        layers |= {"norm5": BatchNorm2d(channels), "relu5": ReLU()}
        super().__init__(
            features=Sequential(**layers),
            globalpool=GlobalAvgPool(),
            classifier=(classifier := Linear(channels, num_classes)),
        )
        init.kaiming_normal(self, "fan_in")
        init.zeros(classifier.bias)
