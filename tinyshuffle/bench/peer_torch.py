"""ShuffleNet V1 and V2 as a PyTorch user would write them: the peers that tinyshuffle is held to.

Written from the papers, not from ``tinyshuffle.models``: only the names of the layers are shared,
which for V2 are torchvision's. The tests hold tinyshuffle to these nets' numbers, the benchmark to
their speed. Only what has PyTorch may import this module.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import nn

from ..weights.names import torch_layout

__all__ = [
    "ShuffleNetV1", "ShuffleNetV2", "SqueezeExcitation", "blocks", "copy_weights", "load_state",
    "torch_layout",
]  # fmt: skip

# V1, Table 1: output channels of stage 2 for each number of groups. Each stage doubles them.
V1_STAGE2 = {1: 144, 2: 200, 3: 240, 4: 272, 8: 384}
# The authors' released 0.5x nets have a stem of 12 channels, 16 for 8 groups.
V1_STEM = {(0.5, 1): 12, (0.5, 3): 12, (0.5, 8): 16, (1.0, 1): 24, (1.0, 3): 24, (1.0, 8): 24}
# V2, Table 5: output channels of stages 2, 3, 4 and of conv5.
V2_WIDTHS = {
    0.5: (48, 96, 192, 1024),
    1.0: (116, 232, 464, 1024),
    1.5: (176, 352, 704, 1024),
    2.0: (244, 488, 976, 2048),
}
REPEATS = 4, 8, 4


def conv1x1(c: int, o: int, groups: int = 1) -> nn.Conv2d:
    return nn.Conv2d(c, o, 1, groups=groups, bias=False)


def depthwise3x3(c: int, stride: int) -> nn.Conv2d:
    return nn.Conv2d(c, c, 3, stride, padding=1, groups=c, bias=False)


def stem_layers(channels: int, stem: str) -> tuple[nn.Module, nn.Module]:
    """The first convolution and the pool: for ImageNet both of stride 2, for CIFAR none is."""
    large = stem == "imagenet"
    conv = nn.Conv2d(3, channels, 3, 2 if large else 1, padding=1, bias=False)
    pool = nn.MaxPool2d(3, stride=2, padding=1) if large else nn.Identity()
    return nn.Sequential(conv, nn.BatchNorm2d(channels), nn.ReLU()), pool


class Shuffle(nn.Module):
    """Channels as a (groups, n) table, transposed, laid flat."""

    def __init__(self, groups: int) -> None:
        super().__init__()
        self.groups = groups

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x.unflatten(1, (self.groups, -1)).transpose(1, 2).flatten(1, 2)


class SqueezeExcitation(nn.Module):
    def __init__(self, channels: int, reduction: int = 16) -> None:
        super().__init__()
        self.fc1 = nn.Linear(channels, max(1, channels // reduction))
        self.fc2 = nn.Linear(max(1, channels // reduction), channels)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        s = self.fc2(torch.relu(self.fc1(x.mean((2, 3)))))
        return x * torch.sigmoid(s)[:, :, None, None]


class UnitV1(nn.Module):
    """V1, Figure 2 (b) and (c)."""

    def __init__(self, c: int, o: int, groups: int, stride: int, first_groups: int) -> None:
        super().__init__()
        self.stride = stride
        middle, branch = o // 4, o - c if stride == 2 else o
        self.residual = nn.Sequential(
            OrderedDict(
                compress=conv1x1(c, middle, first_groups),
                bn1=nn.BatchNorm2d(middle),
                relu1=nn.ReLU(),
                shuffle=Shuffle(groups),
                depthwise=depthwise3x3(middle, stride),
                bn2=nn.BatchNorm2d(middle),
                expand=conv1x1(middle, branch, groups),
                bn3=nn.BatchNorm2d(branch),
            )
        )
        self.shortcut = nn.AvgPool2d(3, stride=2, padding=1)
        self.relu = nn.ReLU()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        if self.stride == 1:
            return self.relu(x + self.residual(x))
        return self.relu(torch.cat([self.shortcut(x), self.residual(x)], 1))


class ShuffleNetV1(nn.Module):
    """V1, Table 1."""

    stage2: nn.Module
    stage3: nn.Module
    stage4: nn.Module

    def __init__(
        self, width: float = 1.0, groups: int = 3, num_classes: int = 1000, stem: str = "imagenet"
    ) -> None:
        super().__init__()
        c = V1_STEM[width, groups]
        self.conv1, self.maxpool = stem_layers(c, stem)
        for stage, repeats in zip((2, 3, 4), REPEATS, strict=True):
            o = int(V1_STAGE2[groups] * width) * 2 ** (stage - 2)
            units = []
            for i in range(repeats):
                # the very first input has few channels, so its pointwise layer is not grouped
                first_groups = 1 if stage == 2 and i == 0 else groups
                units.append(UnitV1(c, o, groups, 2 if i == 0 else 1, first_groups))
                c = o
            setattr(self, f"stage{stage}", nn.Sequential(*units))
        self.fc = nn.Linear(c, num_classes)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.maxpool(self.conv1(x))
        x = self.stage4(self.stage3(self.stage2(x)))
        return self.fc(x.mean((2, 3)))


class UnitV2(nn.Module):
    """V2, Figure 3 (c) and (d)."""

    def __init__(self, c: int, o: int, stride: int, downsample: str, residual: bool) -> None:
        super().__init__()
        self.stride, self.residual = stride, residual and stride == 1
        middle = o // 2
        if stride == 2:
            # torchvision halves the output; the authors keep the input's channels on the shortcut
            kept = c if downsample == "paper" else middle
            self.branch1 = nn.Sequential(
                depthwise3x3(c, 2), nn.BatchNorm2d(c),
                conv1x1(c, kept), nn.BatchNorm2d(kept), nn.ReLU(),
            )  # fmt: skip
        else:
            c = kept = middle
        self.branch2 = nn.Sequential(
            conv1x1(c, middle), nn.BatchNorm2d(middle), nn.ReLU(),
            depthwise3x3(middle, stride), nn.BatchNorm2d(middle),
            conv1x1(middle, o - kept), nn.BatchNorm2d(o - kept),
            *([] if self.residual else [nn.ReLU()]),
        )  # fmt: skip
        self.relu, self.shuffle = nn.ReLU(), Shuffle(2)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        if self.stride == 1:
            left, right = x.chunk(2, dim=1)
        else:
            left, right = self.branch1(x), x
        main = self.branch2(right)
        if self.residual:
            main = self.relu(right + main)
        return self.shuffle(torch.cat([left, main], 1))


class ShuffleNetV2(nn.Module):
    """V2, Table 5."""

    stage2: nn.Module
    stage3: nn.Module
    stage4: nn.Module

    def __init__(
        self,
        width: float = 1.0,
        num_classes: int = 1000,
        stem: str = "imagenet",
        downsample: str = "torchvision",
        stage_channels: Sequence[int] | None = None,
        conv5_channels: int | None = None,
        residual: bool = False,
    ) -> None:
        super().__init__()
        *stages, last = V2_WIDTHS[width]
        stages, last = list(stage_channels or stages), conv5_channels or last
        c = 24
        self.conv1, self.maxpool = stem_layers(c, stem)
        for stage, o, repeats in zip((2, 3, 4), stages, REPEATS, strict=True):
            first = UnitV2(c, o, 2, downsample, residual)
            rest = [UnitV2(o, o, 1, downsample, residual) for _ in range(repeats - 1)]
            setattr(self, f"stage{stage}", nn.Sequential(first, *rest))
            c = o
        self.conv5 = nn.Sequential(conv1x1(c, last), nn.BatchNorm2d(last), nn.ReLU())
        self.fc = nn.Linear(last, num_classes)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.maxpool(self.conv1(x))
        x = self.conv5(self.stage4(self.stage3(self.stage2(x))))
        return self.fc(x.mean((2, 3)))


class Added(nn.ModuleList):
    """Branches that see the same input and are added up; one without layers is a shortcut."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        first, *others = (branch(x) for branch in self)
        for y in others:
            first = first + y
        return first


def blocks(spec: list[Any]) -> nn.Sequential:
    """Build what ``tinyshuffle.bench.blocks`` describes."""
    layers: list[nn.Module] = []
    for word, *arguments in spec:
        if word == "conv":
            c, o, kernel, groups = arguments
            layers.append(
                nn.Conv2d(c, o, kernel, padding=kernel // 2, groups=groups, bias=False)
            )
        elif word == "relu":
            layers.append(nn.ReLU())
        else:
            layers.append(Added([blocks(branch) for branch in arguments]))
    return nn.Sequential(*layers)


def copy_weights(ts_net: Any, torch_net: nn.Module) -> None:
    """Give the PyTorch net the parameters and statistics of a net or layer of tinyshuffle's."""
    load_state(ts_net.state_dict(), torch_net)


def load_state(state: dict[str, np.ndarray], torch_net: nn.Module) -> None:
    """Give the PyTorch net a ``state_dict`` of tinyshuffle's.

    Nothing is broadcast, cast, left out or left over: names, shapes and dtypes must agree.
    """
    mine = {name: torch_layout(value) for name, value in state.items()}
    theirs = {name: value.numpy() for name, value in torch_net.state_dict().items()}
    if mine.keys() != theirs.keys():
        raise ValueError(f"only on one side: {sorted(mine.keys() ^ theirs.keys())}")
    for name, value in mine.items():
        here, there = (value.shape, value.dtype), (theirs[name].shape, theirs[name].dtype)
        if here != there:
            raise ValueError(f"{name} is {here} in tinyshuffle and {there} in PyTorch")
    torch_net.load_state_dict({name: torch.tensor(value) for name, value in mine.items()})
