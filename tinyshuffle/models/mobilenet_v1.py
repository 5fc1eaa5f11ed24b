"""MobileNet V1: Howard et al., "MobileNets: Efficient Convolutional Neural Networks for Mobile
Vision Applications", 2017, arXiv 1704.04861.
"""

from __future__ import annotations

from .. import nn
from ..values import flags
from .arguments import check_count, check_stem, check_width

__all__ = ["MobileNetV1", "dense", "separable"]

# Table 1: output channels and stride of each depthwise separable convolution. The last one is
# printed with stride 2 and an input of 7x7; the classifier's 7x7 pool says that it is 1.
STEM_WIDTH = 32
UNITS = (
    (64, 1), (128, 2), (128, 1), (256, 2), (256, 1), (512, 2),
    (512, 1), (512, 1), (512, 1), (512, 1), (512, 1), (1024, 2), (1024, 1),
)  # fmt: skip


def separable(in_channels: int, out_channels: int, stride: int) -> nn.Sequential:
    """Return a depthwise separable convolution (Figure 3, right): 3x3 depthwise, then 1x1."""
    return nn.Sequential(
        depthwise=nn.Conv2d(
            in_channels, in_channels, 3, stride, padding=1, groups=in_channels, bias=False
        ),
        bn1=nn.BatchNorm2d(in_channels),
        relu1=nn.ReLU(),
        pointwise=nn.Conv2d(in_channels, out_channels, 1, bias=False),
        bn2=nn.BatchNorm2d(out_channels),
        relu2=nn.ReLU(),
    )


def dense(in_channels: int, out_channels: int, stride: int) -> nn.Sequential:
    """Return the standard convolution that :func:`separable` stands for (Figure 3, left)."""
    return nn.Sequential(
        conv=nn.Conv2d(in_channels, out_channels, 3, stride, padding=1, bias=False),
        bn=nn.BatchNorm2d(out_channels),
        relu=nn.ReLU(),
    )


class MobileNetV1(nn.Sequential):
    """MobileNet V1 (Table 1).

    Parameters
    ----------
    width : float
        The width multiplier α of section 3.3; all channels are scaled by it. The paper trains
        1, 0.75, 0.5 and 0.25.
    num_classes : int
    stem : {"imagenet", "cifar"}
        The first convolution has stride 2, or 1.
    factorised : bool
        False has standard convolutions in place of the separable ones (Table 4's "Conv MobileNet").
    shallow : bool
        Without the five layers of 14x14x512 (Table 5).
    last_stride : {2, 1}
        Of the last of the layers that halve the map. 1 leaves a map of as many pixels as those of
        ShuffleNet and MobileNet V2 with the stem "cifar", for comparisons.
    """

    @flags
    def __init__(
        self,
        width: float = 1.0,
        num_classes: int = 1000,
        stem: str = "imagenet",
        factorised: bool = True,
        shallow: bool = False,
        last_stride: int = 2,
    ) -> None:
        width = check_width(width)
        last_stride = check_count("last_stride", last_stride, 2)
        channels = max(1, int(STEM_WIDTH * width))
        stride = 2 if check_stem(stem) == "imagenet" else 1
        units: list[nn.Module] = []
        conv1 = nn.Sequential(
            nn.Conv2d(3, channels, 3, stride, padding=1, bias=False),
            nn.BatchNorm2d(channels),
            nn.ReLU(),
        )
        unit = separable if factorised else dense
        last = (UNITS[11][0], last_stride), UNITS[12]
        for base, unit_stride in UNITS[: 6 if shallow else 11] + last:
            out = max(1, int(base * width))
            units.append(unit(channels, out, unit_stride))
            channels = out
        super().__init__(
            conv1=conv1,
            features=nn.Sequential(*units),
            globalpool=nn.GlobalAvgPool(),
            fc=nn.Linear(channels, num_classes),
        )
        nn.init.kaiming_normal(self)
        nn.init.normal(self, 0.01)
