"""The large nets of the V2 paper: Appendix Table 2, whose results are in Table 6.

ShuffleNet V1-50, V2-50 and SE-ShuffleNet V2-164, with ResNet-50's plan: four stages, the first of
which keeps the 56x56 pixels that come out of the pool. What the paper leaves open is settled by
its multiply-adds where they decide:

* The table gives each unit as three layers of equal width ("1x1, 244; 3x3, 244; 1x1, 244"). It is
  the width of the unit's output, and the layers inside have half of it: so it is in V2 anyway, and
  for V1-50 it makes 2.30 G as printed. (V1's quarter would make 1.2 G, equal widths 4.6 G.)
* The first unit of the first stage has stride 1 and makes the channels more. In V2 it is the
  downsampling unit with stride 1: 2.30 G as printed. In V1-50 nothing fits: a shortcut beside the
  branch would leave it 296 channels, which 3 groups do not divide, and a projection makes 2.37 G.
  Here this one unit has no shortcut.
* SE-V2-164 then has 12.5 G; the paper prints 12.7, and no reading of the table makes that.
"""

from __future__ import annotations

from .. import nn
from ..values import flags
from .arguments import check_stem
from .shufflenet_v1 import ShuffleUnitV1
from .shufflenet_v2 import ShuffleUnitV2

__all__ = ["SEShuffleNetV2_164", "ShuffleNetV1_50", "ShuffleNetV2_50", "WideningUnitV2"]

# Appendix Table 2: output channels of conv2_x, conv3_x, conv4_x, conv5_x, and units in each.
V1_50_WIDTHS = (360, 720, 1440, 2880)
V2_50_WIDTHS = (244, 488, 976, 1952)
V2_164_WIDTHS = (340, 680, 1360, 2720)
REPEATS_50 = (3, 4, 6, 3)
REPEATS_164 = (10, 10, 23, 10)
STEM_50 = (64,)
STEM_164 = (64, 64, 128)
LAST_WIDTH = 2048  # conv6, of the V2 nets
V1_GROUPS = 3


class WideningUnitV2(ShuffleUnitV2):
    """V2's downsampling unit (Figure 3d) with stride 1: it makes only the channels more."""

    @flags
    def __init__(
        self, in_channels: int, out_channels: int, downsample: str = "torchvision", se: bool = False
    ) -> None:
        super().__init__(in_channels, out_channels, 2, downsample, se)
        for conv in (*self.branch1, *self.branch2):
            if isinstance(conv, nn.Conv2d):
                conv.stride = (1, 1)


class _LargeV2(nn.Sequential):
    def __init__(
        self,
        widths: tuple[int, ...],
        repeats: tuple[int, ...],
        stem_widths: tuple[int, ...],
        num_classes: int,
        stem: str,
        downsample: str = "torchvision",
        se: bool = False,
        residual: bool = False,
    ) -> None:
        layers = _stem(stem_widths, stem)
        channels = stem_widths[-1]
        for stage, (out, repeat) in enumerate(zip(widths, repeats, strict=True), 2):
            units: list[nn.Module] = [
                WideningUnitV2(channels, out, downsample, se)
                if stage == 2
                else ShuffleUnitV2(channels, out, 2, downsample, se)
            ]
            units += [
                ShuffleUnitV2(out, out, 1, se=se, residual=residual) for _ in range(repeat - 1)
            ]
            layers[f"conv{stage}"] = nn.Sequential(*units)
            channels = out
        super().__init__(
            **layers,
            conv6=nn.Sequential(
                nn.Conv2d(channels, LAST_WIDTH, 1, bias=False),
                nn.BatchNorm2d(LAST_WIDTH),
                nn.ReLU(),
            ),
            globalpool=nn.GlobalAvgPool(),
            fc=nn.Linear(LAST_WIDTH, num_classes),
        )


class ShuffleNetV2_50(_LargeV2):
    """ShuffleNet V2-50 (Appendix Table 2).

    Parameters
    ----------
    num_classes : int
    stem : {"imagenet", "cifar"}
        3x3 with stride 2 and a max pool, or 3x3 with stride 1 and none.
    downsample : {"torchvision", "paper"}
        See :class:`ShuffleUnitV2`.
    """

    def __init__(
        self, num_classes: int = 1000, stem: str = "imagenet", downsample: str = "torchvision"
    ) -> None:
        super().__init__(V2_50_WIDTHS, REPEATS_50, STEM_50, num_classes, stem, downsample)


class SEShuffleNetV2_164(_LargeV2):
    """SE-ShuffleNet V2-164 (Appendix Table 2): squeeze-and-excitation and residual units.

    A stem of three convolutions. Parameters as of :class:`ShuffleNetV2_50`.
    """

    def __init__(
        self, num_classes: int = 1000, stem: str = "imagenet", downsample: str = "torchvision"
    ) -> None:
        super().__init__(
            V2_164_WIDTHS, REPEATS_164, STEM_164, num_classes, stem, downsample, True, True
        )


class ShuffleNetV1_50(nn.Sequential):
    """ShuffleNet V1-50 with 3 groups (Appendix Table 2).

    Parameters
    ----------
    num_classes : int
    stem : {"imagenet", "cifar"}
        3x3 with stride 2 and a max pool, or 3x3 with stride 1 and none.
    """

    def __init__(self, num_classes: int = 1000, stem: str = "imagenet") -> None:
        layers = _stem(STEM_50, stem)
        channels = STEM_50[-1]
        for stage, (out, repeat) in enumerate(zip(V1_50_WIDTHS, REPEATS_50, strict=True), 2):
            units: list[nn.Module] = []
            for i in range(repeat):
                if stage == 2 and i == 0:
                    units.append(nn.Sequential(*_residual(channels, out, out, 1, 1), nn.ReLU()))
                else:
                    units.append(_unit_v1(channels, out, 2 if i == 0 else 1))
                channels = out
            layers[f"conv{stage}"] = nn.Sequential(*units)
        super().__init__(
            **layers, globalpool=nn.GlobalAvgPool(), fc=nn.Linear(channels, num_classes)
        )


def _stem(widths: tuple[int, ...], stem: str) -> dict[str, nn.Module]:
    """conv1_x, of which the first convolution has stride 2, and the pool."""
    large = check_stem(stem) == "imagenet"
    layers: list[nn.Module] = []
    channels = 3
    for i, width in enumerate(widths):
        stride = 2 if large and i == 0 else 1
        conv = nn.Conv2d(channels, width, 3, stride, padding=1, bias=False)
        layers += [conv, nn.BatchNorm2d(width), nn.ReLU()]
        channels = width
    pool = {"maxpool": nn.MaxPool2d(3, stride=2, padding=1)} if large else {}
    return {"conv1": nn.Sequential(*layers), **pool}


def _unit_v1(in_channels: int, out_channels: int, stride: int) -> ShuffleUnitV1:
    """V1's unit with a bottleneck of half of its output, in place of a quarter."""
    unit = ShuffleUnitV1(in_channels, out_channels, V1_GROUPS, stride)
    branch = out_channels - in_channels if stride == 2 else out_channels
    unit.residual = nn.Sequential(*_residual(in_channels, out_channels, branch, stride, V1_GROUPS))
    return unit


def _residual(
    in_channels: int, out_channels: int, branch: int, stride: int, first_groups: int
) -> list[nn.Module]:
    middle = out_channels // 2
    return [
        nn.Conv2d(in_channels, middle, 1, groups=first_groups, bias=False),
        nn.BatchNorm2d(middle),
        nn.ReLU(),
        nn.ChannelShuffle(V1_GROUPS),
        nn.Conv2d(middle, middle, 3, stride, padding=1, groups=middle, bias=False),
        nn.BatchNorm2d(middle),
        nn.Conv2d(middle, branch, 1, groups=V1_GROUPS, bias=False),
        nn.BatchNorm2d(branch),
    ]
