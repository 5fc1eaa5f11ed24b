"""The authors' own ShuffleNets, with their names and their order of channels, in PyTorch.

Written from what github.com/megvii-model/ShuffleNet-Series calls its layers and how it shuffles.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import nn

__all__ = ["AUTHORS_NETS"]

REPEATS = 4, 8, 4


def conv(c: int, o: int, kernel: int, stride: int = 1, groups: int = 1) -> list[nn.Module]:
    conv = nn.Conv2d(c, o, kernel, stride, kernel // 2, groups=groups, bias=False)
    return [conv, nn.BatchNorm2d(o)]


class UnitV1(nn.Module):
    def __init__(self, c: int, o: int, groups: int, stride: int, first: int) -> None:
        super().__init__()
        m = o // 4
        self.groups, self.stride = groups, stride
        self.branch_main_1 = nn.Sequential(
            *conv(c, m, 1, groups=first), nn.ReLU(), *conv(m, m, 3, stride, m)
        )
        self.branch_main_2 = nn.Sequential(*conv(m, o - c if stride == 2 else o, 1, groups=groups))
        self.branch_proj = nn.AvgPool2d(3, 2, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = self.branch_main_1(x)
        if self.groups > 1:
            y = y.unflatten(1, (-1, self.groups)).transpose(1, 2).flatten(1, 2)
        y = self.branch_main_2(y)
        if self.stride == 1:
            return torch.relu(x + y)
        return torch.cat([self.branch_proj(x), torch.relu(y)], 1)


class UnitV2(nn.Module):
    def __init__(self, c: int, o: int, stride: int) -> None:
        super().__init__()
        m, relu = o // 2, nn.ReLU()
        c = c if stride == 2 else m
        self.stride = stride
        self.branch_main = nn.Sequential(
            *conv(c, m, 1), relu, *conv(m, m, 3, stride, m), *conv(m, o - c, 1), relu
        )
        if stride == 2:
            self.branch_proj = nn.Sequential(*conv(c, c, 3, 2, c), *conv(c, c, 1), relu)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        if self.stride == 1:
            return torch.cat([x[:, 0::2], self.branch_main(x[:, 1::2])], 1)
        return torch.cat([self.branch_proj(x), self.branch_main(x)], 1)


class Net(nn.Module):
    def __init__(
        self,
        stem: int,
        widths: tuple[int, ...],
        last: int | None,
        unit: Callable[[int, int, int, bool], nn.Module],
    ) -> None:
        super().__init__()
        self.first_conv = nn.Sequential(*conv(3, stem, 3, 2), nn.ReLU())
        self.maxpool = nn.MaxPool2d(3, 2, 1)
        units, c = [], stem
        for o, repeat in zip(widths, REPEATS, strict=True):
            for i in range(repeat):
                units.append(unit(c, o, 1 if i else 2, not units))
                c = o
        self.features = nn.Sequential(*units)
        if last is not None:
            self.conv_last = nn.Sequential(*conv(c, last, 1), nn.ReLU())
        self.classifier = nn.Sequential(nn.Linear(last or c, 1000, bias=False))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Return logits of images whose channels are blue, green, red."""
        x = self.features(self.maxpool(self.first_conv(x)))
        if hasattr(self, "conv_last"):
            x = self.conv_last(x)
        return self.classifier(x.mean((2, 3)))


def v1(stem: int, first: int, groups: int) -> Callable[[], nn.Module]:
    def unit(c: int, o: int, stride: int, dense: bool) -> nn.Module:
        return UnitV1(c, o, groups, stride, 1 if dense else groups)

    return lambda: Net(stem, (first, 2 * first, 4 * first), None, unit)


def v2(first: int, last: int) -> Callable[[], nn.Module]:
    def unit(c: int, o: int, stride: int, _: bool) -> nn.Module:
        return UnitV2(c, o, stride)

    return lambda: Net(24, (first, 2 * first, 4 * first), last, unit)


# all that they have released
AUTHORS_NETS: dict[str, Callable[[], nn.Module]] = {
    "shufflenet_v1_x0_5_g3": v1(12, 120, 3),
    "shufflenet_v1_x0_5_g8": v1(16, 192, 8),
    "shufflenet_v1_x1_0_g3": v1(24, 240, 3),
    "shufflenet_v1_x1_0_g8": v1(24, 384, 8),
    "shufflenet_v1_x1_5_g3": v1(24, 360, 3),
    "shufflenet_v1_x1_5_g8": v1(24, 576, 8),
    "shufflenet_v1_x2_0_g3": v1(48, 480, 3),
    "shufflenet_v1_x2_0_g8": v1(48, 768, 8),
    "shufflenet_v2_x0_5": v2(48, 1024),
    "shufflenet_v2_x1_0": v2(116, 1024),
    "shufflenet_v2_x1_5": v2(176, 1024),
    "shufflenet_v2_x2_0": v2(244, 2048),
}
