"""ShuffleNet V1: Zhang, Zhou, Lin, Sun, "ShuffleNet: An Extremely Efficient Convolutional Neural
Network for Mobile Devices", 2017, arXiv 1707.01083.

Table 1 fixes the 1x nets. "ShuffleNet s x" multiplies every width by s (section 4.1), which does
not always give whole groups, and the paper does not print the widths it used. The rule here:

* A stage's width is s times Table 1's, rounded up to a multiple of 4 g. A unit's bottleneck is a
  quarter of its output and stands between two grouped convolutions, so 4 g must divide the width;
  the literal half fails for 0.5x with g = 2 or 4, for example. Where s x Table 1 is divisible,
  which is so for all that the authors released, nothing is rounded.
* The stem has 12, 24, 24, 48 channels at 0.5x, 1x, 1.5x, 2x: only these give the multiply-adds
  that the paper prints (38 M at 0.5x need 12; 292 M at 1.5x need 24, not 36; 524 M at 2x need 48).
  It is rounded up to a multiple of g, which is what the authors' 0.5x g = 8 does.
* At 0.25x plain scaling would miss the paper's 13 M by 2 M. The stem has the multiple of g, up to
  12, that comes nearest to it: 12, 10, 12, 8, 8 channels for g = 1, 2, 3, 4, 8.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import numpy as np

from .. import nn
from ..backend import F
from ..errors import TinyshuffleError
from ..values import flags, whole
from .arguments import check_channels, check_repeats, check_stages
from .stem import stem_layers

__all__ = ["ShuffleNetV1", "ShuffleUnitV1", "stage_widths", "stem_width"]

# Table 1: output channels of stage 2; each later stage doubles them.
STAGE2_WIDTH = {1: 144, 2: 200, 3: 240, 4: 272, 8: 384}
STEM_WIDTH = {0.5: 12, 1.0: 24, 1.5: 24, 2.0: 48}
STEM_WIDTH_QUARTER = {1: 12, 2: 10, 3: 12, 4: 8, 8: 8}
REPEATS = (4, 8, 4)
# The shallow 0.5x (Table 5) has half of the units and the same complexity, so it must be wider.
# Its widths are unpublished; of those that 4 g divides, this one comes nearest to 40 M.
SHALLOW_REPEATS = (2, 4, 2)
SHALLOW_STAGE2_WIDTH = 180


def stage_widths(width: float, groups: int) -> tuple[int, int, int]:
    """Return the output channels of stages 2, 3 and 4.

    >>> stage_widths(1.0, 3), stage_widths(0.5, 4)
    ((240, 480, 960), (144, 272, 544))
    """
    multiple = 4 * groups
    scaled = [int(STAGE2_WIDTH[groups] * width * 2**i) for i in range(3)]
    return tuple(-(-c // multiple) * multiple for c in scaled)  # type: ignore[return-value]


def stem_width(width: float, groups: int) -> int:
    """Return the channels of the first convolution.

    >>> stem_width(0.5, 3), stem_width(0.5, 8), stem_width(0.25, 8)
    (12, 16, 8)
    """
    if width == 0.25:
        return STEM_WIDTH_QUARTER[groups]
    return -(-STEM_WIDTH[width] // groups) * groups


class ShuffleUnitV1(nn.Module):
    """The ShuffleNet unit, Figure 2 (b) and, with stride 2, (c).

    1x1 grouped convolution, BN, ReLU, channel shuffle, 3x3 depthwise convolution, BN, 1x1 grouped
    convolution, BN; then the shortcut is added and a ReLU follows. At stride 2 a 3x3 average pool
    of the input is put beside it instead; it comes out of a ReLU and is positive already, so only
    the residual branch goes through another. Multiply-adds: hw(2cm/g + 9m) at stride 1, for a
    bottleneck of m.

    Parameters
    ----------
    in_channels, out_channels : int
        Equal at stride 1. At stride 2 the residual branch makes the difference.
    groups : int
        g, of both pointwise convolutions.
    stride : int
        1 or 2.
    first_groups : int, optional
        Groups of the first pointwise convolution: 1 in the first unit of stage 2, whose input
        has few channels (section 3.2).
    shuffle : bool
        False leaves out the shuffle, as in Table 3.
    se : bool
        Squeeze-and-excitation on the residual branch, as in Table 5.
    authors : bool
        The shuffle of the authors' released code: behind the depthwise convolution, and the other
        way round, (n, G) → (G, n). It mixes as well, but weights that were trained with one do not
        suit the other.
    """

    @flags
    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        groups: int,
        stride: int,
        first_groups: int | None = None,
        shuffle: bool = True,
        se: bool = False,
        authors: bool = False,
    ) -> None:
        self.in_channels, self.stride = in_channels, stride
        middle = out_channels // 4
        branch = out_channels - in_channels if stride == 2 else out_channels
        layers: dict[str, nn.Module] = {
            "compress": nn.Conv2d(
                in_channels, middle, 1, groups=first_groups or groups, bias=False
            ),
            "bn1": nn.BatchNorm2d(middle),
            "relu1": nn.ReLU(),
        }
        shuffled = shuffle and groups > 1
        if shuffled and not authors:
            layers["shuffle"] = nn.ChannelShuffle(groups)
        layers |= {
            "depthwise": nn.Conv2d(
                middle, middle, 3, stride=stride, padding=1, groups=middle, bias=False
            ),
            "bn2": nn.BatchNorm2d(middle),
        }
        if shuffled and authors:
            layers["shuffle"] = nn.ChannelShuffle(middle // groups)
        layers |= {
            "expand": nn.Conv2d(middle, branch, 1, groups=groups, bias=False),
            "bn3": nn.BatchNorm2d(branch),
        }
        if se:
            layers["se"] = nn.SqueezeExcitation(branch)
        if stride == 1:
            self.residual: nn.Sequential = nn.Residual(**layers, relu=nn.ReLU())
        else:
            self.residual, self.relu = nn.Sequential(**layers), nn.ReLU()
            self.shortcut = nn.AvgPool2d(3, stride=2, padding=1)

    def forward(self, x: np.ndarray) -> np.ndarray:
        if self.stride == 1:
            return self.residual(x)
        return F.concat([self.shortcut(x), self.relu(self.residual(x))])

    def backward(self, dy: np.ndarray) -> np.ndarray:
        if self.stride == 1:
            return self.residual.backward(dy)
        channels = self.in_channels, dy.shape[-1] - self.in_channels
        dshortcut, dresidual = F.concat_backward(dy, channels)
        dx = self.residual.backward(self.relu.backward(dresidual))
        return F.add(dx, self.shortcut.backward(dshortcut))


class ShuffleNetV1(nn.Module):
    """ShuffleNet V1 (Table 1).

    Parameters
    ----------
    width : float
        0.25, 0.5, 1, 1.5 or 2: the "s x" of the paper.
    groups : int
        1, 2, 3, 4 or 8.
    num_classes : int
    stem : {"imagenet", "cifar"}
        3x3 stride 2 and max pool, or 3x3 stride 1 alone.
    shuffle, se : bool
        See :class:`ShuffleUnitV1`.
    shallow : bool
        Half of the units, wider (Table 5's "0.5x (shallow, g = 3)"; only that net has it).
    fc_bias : bool
        False is the authors' released head.
    authors : bool
        The net that the authors' released weights are for: their shuffle, and no bias in the head.
    stage_channels : three int, optional
        Widths of stages 2, 3 and 4 between those of the paper: growing multiples of 4 g.
    stage_repeats : three int, optional
        Other numbers of units in stages 2, 3 and 4.
    stem_channels : int, optional
        Width of the first convolution: a multiple of g, below that of stage 2.
    """

    @flags
    def __init__(
        self,
        width: float = 1.0,
        groups: int = 3,
        num_classes: int = 1000,
        stem: str = "imagenet",
        shuffle: bool = True,
        se: bool = False,
        shallow: bool = False,
        fc_bias: bool = True,
        authors: bool = False,
        stage_channels: Sequence[int] | None = None,
        stage_repeats: Sequence[int] | None = None,
        stem_channels: int | None = None,
    ) -> None:
        if width not in (0.25, *STEM_WIDTH) or whole(groups) not in STAGE2_WIDTH:
            raise TinyshuffleError(
                f"no ShuffleNet V1 with width={width} and groups={groups}; "
                "widths are 0.25, 0.5, 1, 1.5, 2 and groups 1, 2, 3, 4, 8"
            )
        widths: Sequence[int] = stage_widths(width, groups)
        repeats: Sequence[int] = REPEATS
        if shallow:
            if (width, groups) != (0.5, 3):
                raise TinyshuffleError(
                    "the shallow net exists as 0.5x with 3 groups only (Table 5); "
                    "use width=0.5, groups=3"
                )
            first = SHALLOW_STAGE2_WIDTH
            widths, repeats = (first, 2 * first, 4 * first), SHALLOW_REPEATS
        channels = stem_width(width, groups)
        if stem_channels is not None:
            channels = check_channels("stem_channels", stem_channels)
        if stage_channels is not None:
            widths = check_stages(stage_channels, 4 * groups)
        if stage_repeats is not None:
            repeats = check_repeats(stage_repeats)
        steps = [channels, *widths]
        if channels % groups or any(a >= b for a, b in pairwise(steps)):
            raise TinyshuffleError(
                f"stage_channels={list(widths)} after stem_channels={channels} do not suit "
                f"{groups} groups: give three growing multiples of {4 * groups} after a smaller "
                f"multiple of {groups}"
            )
        self.authors = authors
        self.conv1, self.maxpool = stem_layers(channels, stem)
        stages = []
        for stage, (out, repeat) in enumerate(zip(widths, repeats, strict=True)):
            units = []
            for i in range(repeat):
                dense = 1 if stage == i == 0 else None
                stride = 2 if i == 0 else 1
                units.append(
                    ShuffleUnitV1(channels, out, groups, stride, dense, shuffle, se, authors)
                )
                channels = out
            stages.append(nn.Sequential(*units))
        self.stage2, self.stage3, self.stage4 = stages
        self.globalpool = nn.GlobalAvgPool()
        self.fc = nn.Linear(channels, num_classes, bias=fc_bias and not authors)

    def forward(self, x: np.ndarray) -> np.ndarray:
        """Return logits (N, num_classes) of images (N, H, W, 3)."""
        x = self.maxpool(self.conv1(x))
        x = self.stage4(self.stage3(self.stage2(x)))
        return self.fc(self.globalpool(x))

    def backward(self, dy: np.ndarray) -> np.ndarray:
        """Return the images' gradient, given that of the logits."""
        dy = self.globalpool.backward(self.fc.backward(dy))
        dy = self.stage2.backward(self.stage3.backward(self.stage4.backward(dy)))
        return self.conv1.backward(self.maxpool.backward(dy))
