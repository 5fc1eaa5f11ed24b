"""ResNet: He, Zhang, Ren, Sun, "Deep Residual Learning for Image Recognition", 2015, arXiv
1512.03385; and ResNeXt: Xie, Girshick, Dollár, Tu, He, "Aggregated Residual Transformations for
Deep Neural Networks", 2016, arXiv 1611.05431, which is the same net with a grouped 3x3
convolution in the middle of each block: the idea that ShuffleNet V1 carries on to the 1x1s.

As torchvision has them: in a bottleneck the stride sits on the 3x3 convolution (in the paper, on
the first 1x1), which costs 0.2 G multiply-adds more in ResNet-50. Layer names are torchvision's,
so weights move between the two by transposing. The paper's small nets for CIFAR (section 4.2) and
the plain twins of all nets, without shortcuts, are here too.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from .. import nn
from ..backend import F
from ..errors import TinyshuffleError
from ..text import shown
from ..values import flags
from .arguments import check_count, check_stem

__all__ = ["CifarResNet", "PaddedBlock", "ResNet", "ResidualBlock", "basic_block", "bottleneck"]

# Table 1: blocks in each stage; the deeper nets are made of bottlenecks.
REPEATS = {
    18: (2, 2, 2, 2),
    34: (3, 4, 6, 3),
    50: (3, 4, 6, 3),
    101: (3, 4, 23, 3),
    152: (3, 8, 36, 3),
}
BOTTLENECK_FROM = 50
WIDTHS = (64, 128, 256, 512)
EXPANSION = 4
CIFAR_WIDTHS = (16, 32, 64)
SHORTCUTS = ("projection", "padding", "none")


class ResidualBlock(nn.Sequential):
    """A chain of layers with a shortcut around it: y = relu(chain(x) + shortcut(x)).

    Parameters
    ----------
    shortcut : Module or None
        None is the identity.
    **chain : Module
        The layers, by name.
    """

    def __init__(self, shortcut: nn.Module | None, **chain: nn.Module) -> None:
        super().__init__(**chain)
        self.downsample = shortcut
        self.relu = nn.ReLU()

    def children(self) -> Iterator[tuple[str, nn.Module]]:
        yield from nn.Sequential.children(self)
        yield from nn.Module.children(self)

    def forward(self, x: np.ndarray) -> np.ndarray:
        shortcut = x if self.downsample is None else self.downsample(x)
        return self.relu(F.add(super().forward(x), shortcut))

    def backward(self, dy: np.ndarray) -> np.ndarray:
        dchain, dshortcut = F.add_backward(self.relu.backward(dy))
        if self.downsample is not None:
            dshortcut = self.downsample.backward(dshortcut)
        return F.add(super().backward(dchain), dshortcut)


class PaddedBlock(ResidualBlock):
    """The shortcut is every second pixel, and zeros for the new channels (option A, section 3.3).

    To add zeros is to add nothing: the shortcut goes to the first channels only.

    Parameters
    ----------
    in_channels, out_channels, stride : int
    **chain : Module
        The layers, by name.
    """

    def __init__(
        self, in_channels: int, out_channels: int, stride: int, **chain: nn.Module
    ) -> None:
        super().__init__(nn.AvgPool2d(1, stride), **chain)  # of windows of a single pixel
        self.channels = [in_channels, out_channels - in_channels]

    def forward(self, x: np.ndarray) -> np.ndarray:
        assert self.downsample is not None
        old, new = F.channel_split(nn.Sequential.forward(self, x), self.channels[0])
        return self.relu(F.concat([F.add(old, self.downsample(x)), new]))

    def backward(self, dy: np.ndarray) -> np.ndarray:
        assert self.downsample is not None
        dold, dnew = F.concat_backward(self.relu.backward(dy), self.channels)
        dold, dshortcut = F.add_backward(dold)
        dx = nn.Sequential.backward(self, F.channel_split_backward(dold, dnew))
        return F.add(dx, self.downsample.backward(dshortcut))


def basic_block(
    in_channels: int, out_channels: int, stride: int, shortcut: str = "projection"
) -> nn.Sequential:
    """Return a block of two 3x3 convolutions (Figure 5, left)."""
    return _around(
        shortcut, in_channels, out_channels, stride,
        conv1=nn.Conv2d(in_channels, out_channels, 3, stride, padding=1, bias=False),
        bn1=nn.BatchNorm2d(out_channels),
        relu1=nn.ReLU(),
        conv2=nn.Conv2d(out_channels, out_channels, 3, padding=1, bias=False),
        bn2=nn.BatchNorm2d(out_channels),
    )  # fmt: skip


@flags
def bottleneck(
    in_channels: int,
    middle: int,
    out_channels: int,
    stride: int,
    groups: int = 1,
    stride_first: bool = False,
    shortcut: str = "projection",
) -> nn.Sequential:
    """Return a block of 1x1, 3x3, 1x1 (ResNet, Figure 5, right; ResNeXt, Figure 3c).

    Multiply-adds: hw(2cm + 9m²/g) at stride 1, for c channels and a bottleneck of m (V1, section
    3.2). ``stride_first`` puts the stride on the first 1x1, as in the ResNet paper.
    """
    first, second = (stride, 1) if stride_first else (1, stride)
    return _around(
        shortcut, in_channels, out_channels, stride,
        conv1=nn.Conv2d(in_channels, middle, 1, first, bias=False),
        bn1=nn.BatchNorm2d(middle),
        relu1=nn.ReLU(),
        conv2=nn.Conv2d(middle, middle, 3, second, padding=1, groups=groups, bias=False),
        bn2=nn.BatchNorm2d(middle),
        relu2=nn.ReLU(),
        conv3=nn.Conv2d(middle, out_channels, 1, bias=False),
        bn3=nn.BatchNorm2d(out_channels),
    )  # fmt: skip


def _around(
    shortcut: str, in_channels: int, out_channels: int, stride: int, **chain: nn.Module
) -> nn.Sequential:
    """Lay a shortcut around layers: the identity, and what is asked for where the shape changes."""
    if shortcut == "none":
        return nn.Sequential(**chain, relu=nn.ReLU())
    if stride == 1 and in_channels == out_channels:
        return ResidualBlock(None, **chain)
    if shortcut == "padding":
        return PaddedBlock(in_channels, out_channels, stride, **chain)
    projection = nn.Conv2d(in_channels, out_channels, 1, stride, bias=False)
    return ResidualBlock(nn.Sequential(projection, nn.BatchNorm2d(out_channels)), **chain)


class ResNet(nn.Sequential):
    """ResNet (Table 1) and ResNeXt (Table 1 of its paper).

    Parameters
    ----------
    depth : int
        18, 34, 50, 101 or 152.
    num_classes : int
    stem : {"imagenet", "cifar"}
        7x7 with stride 2 and a max pool, or 3x3 with stride 1 and none.
    groups : int
        ResNeXt's cardinality, of the 3x3 convolution in a bottleneck.
    width_per_group : int
        Channels of each group in the first stage's bottlenecks; ResNet's are 64 wide, 1x64d.
    stride_first : bool
        The stride of a bottleneck is in its first 1x1 convolution, as in the paper.
    shortcut : {"projection", "padding", "none"}
        Where the shape changes: option B of section 3.3, option A, or no shortcuts anywhere, which
        is the plain net of Figure 3.
    """

    @flags
    def __init__(
        self,
        depth: int = 50,
        num_classes: int = 1000,
        stem: str = "imagenet",
        groups: int = 1,
        width_per_group: int = 64,
        stride_first: bool = False,
        shortcut: str = "projection",
    ) -> None:
        if depth not in REPEATS:
            raise TinyshuffleError(
                f"no ResNet has {depth} layers; depths are {', '.join(map(str, REPEATS))}"
            )
        groups = check_count("groups", groups)
        width_per_group = check_count("width_per_group", width_per_group)
        deep = depth >= BOTTLENECK_FROM
        _check_shortcut(shortcut)
        for what, value, usual in (
            ("groups", groups, 1),
            ("width_per_group", width_per_group, 64),
            ("stride_first", stride_first, False),
        ):
            if value != usual and not deep:
                raise TinyshuffleError(
                    f"{what}={value} need bottlenecks, which ResNet-{depth} has not; "
                    f"use a depth from {BOTTLENECK_FROM} up"
                )
        widest = WIDTHS[-1] * width_per_group // WIDTHS[0] * groups
        check_count(f"with width_per_group={width_per_group} and groups={groups}, channels", widest)
        channels = 64
        large = check_stem(stem) == "imagenet"
        layers: dict[str, nn.Module] = {
            "conv1": nn.Conv2d(3, channels, 7, stride=2, padding=3, bias=False)
            if large
            else nn.Conv2d(3, channels, 3, padding=1, bias=False),
            "bn1": nn.BatchNorm2d(channels),
            "relu": nn.ReLU(),
        }
        if large:
            layers["maxpool"] = nn.MaxPool2d(3, stride=2, padding=1)
        for stage, (width, repeat) in enumerate(zip(WIDTHS, REPEATS[depth], strict=True), 1):
            blocks = []
            for i in range(repeat):
                stride = 2 if stage > 1 and i == 0 else 1
                if deep:
                    middle, out = width * width_per_group // 64 * groups, width * EXPANSION
                    blocks.append(
                        bottleneck(channels, middle, out, stride, groups, stride_first, shortcut)
                    )
                else:
                    out = width
                    blocks.append(basic_block(channels, out, stride, shortcut))
                channels = out
            layers[f"layer{stage}"] = nn.Sequential(*blocks)
        super().__init__(**layers, avgpool=nn.GlobalAvgPool(), fc=nn.Linear(channels, num_classes))
        nn.init.kaiming_normal(self)


class CifarResNet(nn.Sequential):
    """ResNet for 32x32 images (section 4.2): 6n + 2 layers, three stages of 16, 32, 64 channels.

    Parameters
    ----------
    depth : int
        20, 32, 44, 56, 110: any 6n + 2.
    num_classes : int
    stem : {"imagenet", "cifar"}
        3x3 with stride 1; "imagenet", which is nobody's published net, adds stride 2 and a pool.
    shortcut : {"padding", "projection", "none"}
        See :class:`ResNet`. The paper has padding here; ports often have projections.
    """

    def __init__(
        self,
        depth: int = 20,
        num_classes: int = 10,
        stem: str = "cifar",
        shortcut: str = "padding",
    ) -> None:
        depth = check_count("depth", depth)
        _check_shortcut(shortcut)
        if depth < 8 or (depth - 2) % 6:
            raise TinyshuffleError(
                f"no ResNet for CIFAR has {depth} layers; depths are 6n + 2, such as 20, 56, 110"
            )
        channels = CIFAR_WIDTHS[0]
        large = check_stem(stem) == "imagenet"
        layers: dict[str, nn.Module] = {
            "conv1": nn.Conv2d(3, channels, 3, stride=2 if large else 1, padding=1, bias=False),
            "bn1": nn.BatchNorm2d(channels),
            "relu": nn.ReLU(),
        }
        if large:
            layers["maxpool"] = nn.MaxPool2d(3, stride=2, padding=1)
        for stage, width in enumerate(CIFAR_WIDTHS, 1):
            blocks = []
            for i in range((depth - 2) // 6):
                stride = 2 if stage > 1 and i == 0 else 1
                blocks.append(basic_block(channels, width, stride, shortcut))
                channels = width
            layers[f"layer{stage}"] = nn.Sequential(*blocks)
        super().__init__(**layers, avgpool=nn.GlobalAvgPool(), fc=nn.Linear(channels, num_classes))
        nn.init.kaiming_normal(self)


def _check_shortcut(shortcut: str) -> None:
    if shortcut not in SHORTCUTS:
        raise TinyshuffleError(
            f"shortcut={shown(shortcut)} is unknown; use {', '.join(SHORTCUTS)}"
        )
