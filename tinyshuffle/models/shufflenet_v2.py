"""ShuffleNet V2: Ma, Zhang, Zheng, Sun, "ShuffleNet V2: Practical Guidelines for Efficient CNN
Architecture Design", 2018, arXiv 1807.11164.

Layer names are torchvision's, so weights move between the two by transposing.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from .. import nn
from ..backend import F
from ..errors import TinyshuffleError
from ..values import flags
from .arguments import check_channels, check_repeats, check_stages, check_strides
from .stem import stem_layers

__all__ = ["ShuffleNetV2", "ShuffleUnitV2"]

# Table 5: output channels of stages 2, 3, 4 and of conv5.
WIDTHS = {
    0.5: (48, 96, 192, 1024),
    1.0: (116, 232, 464, 1024),
    1.5: (176, 352, 704, 1024),
    2.0: (244, 488, 976, 2048),
}
STEM_WIDTH = 24
REPEATS = (4, 8, 4)


class ShuffleUnitV2(nn.Module):
    """The ShuffleNet V2 unit, Figure 3 (c) and, with stride 2, (d).

    Stride 1: half of the channels passes untouched; the other half goes through 1x1 convolution,
    3x3 depthwise, 1x1 convolution, each with BN, the pointwise ones with ReLU. Stride 2: both
    branches see all channels, and the shortcut is 3x3 depthwise, 1x1. Then both are put side by
    side and shuffled with two groups.

    Parameters
    ----------
    in_channels, out_channels : int
    stride : int
        1 or 2. At stride 1 with other channels than came in, the unit is built as with stride 2:
        the paper has no such unit.
    downsample : {"torchvision", "paper"}
        Where nothing is split the shortcut makes half of the output (torchvision), or as many
        channels as the input had (the authors' code, whose count is the one printed in Table 5).
    se : bool
        Squeeze-and-excitation at the end of the main branch (section 3, "generalization").
    residual : bool
        At stride 1 add the main branch's input to its output before the last ReLU, as the paper
        does in very deep nets.
    authors : bool
        The order of channels in the authors' released code: nothing is shuffled behind a unit, and
        at stride 1 the even channels pass and the odd ones are worked on. As many channels pass
        as often, but not the same ones.
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
        authors: bool = False,
    ) -> None:
        self.authors = authors
        self.splits = stride == 1 and in_channels == out_channels
        residual = residual and self.splits
        middle = out_channels // 2
        if self.splits:
            self.untouched, first = middle, middle
        else:
            self.untouched = in_channels if downsample == "paper" else middle
            if self.untouched >= out_channels:
                raise TinyshuffleError(
                    f"a unit of {out_channels} channels has none left for its main branch, if its "
                    f"shortcut passes on the {in_channels} that come in: give it more, or "
                    "downsample='torchvision'"
                )
            first = in_channels
            self.branch1 = nn.Sequential(
                nn.Conv2d(first, first, 3, stride, padding=1, groups=first, bias=False),
                nn.BatchNorm2d(first),
                nn.Conv2d(first, self.untouched, 1, bias=False),
                nn.BatchNorm2d(self.untouched),
                nn.ReLU(),
            )
        self.made = out_channels - self.untouched
        main = nn.Residual if residual else nn.Sequential
        self.branch2 = main(
            nn.Conv2d(first, middle, 1, bias=False),
            nn.BatchNorm2d(middle),
            nn.ReLU(),
            nn.Conv2d(middle, middle, 3, stride, padding=1, groups=middle, bias=False),
            nn.BatchNorm2d(middle),
            nn.Conv2d(middle, self.made, 1, bias=False),
            nn.BatchNorm2d(self.made),
            *([] if residual else [nn.ReLU()]),
            **({"se": nn.SqueezeExcitation(self.made)} if se else {}),
            **({"relu": nn.ReLU()} if residual else {}),
        )

    def forward(self, x: np.ndarray) -> np.ndarray:
        if self.splits:
            if self.authors:  # the even channels, then the odd ones
                x = F.channel_shuffle(x, self.untouched)
            y1, x2 = F.channel_split(x, self.untouched)
            y2 = self.branch2(x2)
        else:
            y1, y2 = self.branch1(x), self.branch2(x)
        y = F.concat([y1, y2])
        return y if self.authors else F.channel_shuffle(y, groups=2)

    def backward(self, dy: np.ndarray) -> np.ndarray:
        if not self.authors:
            dy = F.channel_shuffle_backward(dy, groups=2)
        dy1, dy2 = F.concat_backward(dy, [self.untouched, self.made])
        if not self.splits:
            return F.add(self.branch1.backward(dy1), self.branch2.backward(dy2))
        dx = F.channel_split_backward(dy1, self.branch2.backward(dy2))
        return F.channel_shuffle_backward(dx, self.untouched) if self.authors else dx


class ShuffleNetV2(nn.Module):
    """ShuffleNet V2 (Table 5).

    Parameters
    ----------
    width : float
        0.5, 1, 1.5 or 2.
    num_classes : int
    stem : {"imagenet", "cifar"}
        3x3 stride 2 and max pool, or 3x3 stride 1 alone.
    downsample, se, residual
        See :class:`ShuffleUnitV2`.
    fc_bias : bool
        False is the authors' released head.
    authors : bool
        The net that the authors' released weights are for: the paper's downsampling, their order of
        channels, and no bias in the head.
    stage_channels : three int, optional
        Other widths of stages 2, 3 and 4 than Table 5's: even numbers.
    stage_repeats : three int, optional
        Other numbers of units in stages 2, 3 and 4.
    conv5_channels : int, optional
        Another width of the last convolution.
    stage_strides : three int, optional
        1 or 2, of the first unit of stages 2, 3 and 4 instead of 2: with (1, 2, 2) stage 2 sees
        small images as they are, as a CIFAR ResNet's first stage does.
    """

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
        authors: bool = False,
        stage_channels: Sequence[int] | None = None,
        stage_repeats: Sequence[int] | None = None,
        conv5_channels: int | None = None,
        stage_strides: Sequence[int] | None = None,
    ) -> None:
        if width not in WIDTHS:
            raise TinyshuffleError(
                f"no ShuffleNet V2 with width={width}; widths are {', '.join(map(str, WIDTHS))}"
            )
        if downsample not in ("torchvision", "paper"):
            raise TinyshuffleError(
                f"unknown downsample {downsample!r}; use 'torchvision' or 'paper'"
            )
        if authors:
            downsample, fc_bias = "paper", False
        *stages, last = WIDTHS[width]
        if stage_channels is not None:
            stages = check_stages(stage_channels, 2)
        if conv5_channels is not None:
            last = check_channels("conv5_channels", conv5_channels)
        repeats = REPEATS if stage_repeats is None else check_repeats(stage_repeats)
        strides = (2, 2, 2) if stage_strides is None else check_strides(stage_strides)
        channels = STEM_WIDTH
        self.authors = authors
        self.conv1, self.maxpool = stem_layers(channels, stem)
        built = []
        for out, repeat, stride in zip(stages, repeats, strides, strict=True):
            units = [ShuffleUnitV2(channels, out, stride, downsample, se, authors=authors)]
            units += [
                ShuffleUnitV2(out, out, 1, se=se, residual=residual, authors=authors)
                for _ in range(repeat - 1)
            ]
            built.append(nn.Sequential(*units))
            channels = out
        self.stage2, self.stage3, self.stage4 = built
        self.conv5 = nn.Sequential(
            nn.Conv2d(channels, last, 1, bias=False), nn.BatchNorm2d(last), nn.ReLU()
        )
        self.globalpool = nn.GlobalAvgPool()
        self.fc = nn.Linear(last, num_classes, bias=fc_bias)

    def forward(self, x: np.ndarray) -> np.ndarray:
        """Return logits (N, num_classes) of images (N, H, W, 3)."""
        x = self.maxpool(self.conv1(x))
        x = self.conv5(self.stage4(self.stage3(self.stage2(x))))
        return self.fc(self.globalpool(x))

    def backward(self, dy: np.ndarray) -> np.ndarray:
        """Return the images' gradient, given that of the logits."""
        dy = self.globalpool.backward(self.fc.backward(dy))
        dy = self.stage4.backward(self.conv5.backward(dy))
        dy = self.stage2.backward(self.stage3.backward(dy))
        return self.conv1.backward(self.maxpool.backward(dy))
