"""ShuffleNet V2*: V2 with a larger receptive field, for detection (V2, section 4, Table 7).

"An additional 3x3 depthwise convolution before the first pointwise convolution in each building
block", with BN behind it as behind every depthwise convolution of V2.
"""

from __future__ import annotations

from collections.abc import Sequence

from .. import nn
from ..values import flags
from .shufflenet_v2 import ShuffleNetV2, ShuffleUnitV2

__all__ = ["ShuffleNetV2Star", "ShuffleUnitV2Star"]


class ShuffleUnitV2Star(ShuffleUnitV2):
    """The ShuffleNet V2 unit whose main branch begins with a depthwise 3x3 of stride 1.

    Parameters as of :class:`ShuffleUnitV2`.
    """

    @flags
    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        stride: int,
        downsample: str = "torchvision",
        se: bool = False,
        residual: bool = False,
    ) -> None:
        super().__init__(in_channels, out_channels, stride, downsample, se, residual)
        _look_further(self)


class ShuffleNetV2Star(ShuffleNetV2):
    """ShuffleNet V2*. Parameters as of :class:`ShuffleNetV2`."""

    @flags
    def __init__(
        self,
        width: float = 1.0,
        num_classes: int = 1000,
        stem: str = "imagenet",
        downsample: str = "torchvision",
        se: bool = False,
        residual: bool = False,
        fc_bias: bool = True,
        stage_channels: Sequence[int] | None = None,
    ) -> None:
        super().__init__(
            width, num_classes, stem, downsample, se, residual, fc_bias,
            stage_channels=stage_channels,
        )  # fmt: skip
        for stage in (self.stage2, self.stage3, self.stage4):
            for unit in stage:
                assert isinstance(unit, ShuffleUnitV2)
                _look_further(unit)


def _look_further(unit: ShuffleUnitV2) -> None:
    first = unit.branch2[0]
    assert isinstance(first, nn.Conv2d)
    c = first.in_channels
    unit.branch2 = nn.Sequential(
        nn.Conv2d(c, c, 3, padding=1, groups=c, bias=False), nn.BatchNorm2d(c), *unit.branch2
    )
