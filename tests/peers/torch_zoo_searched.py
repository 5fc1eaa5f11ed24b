"""NASNet-A and PNASNet-5 as a PyTorch user would write them: each cell spelled out."""

from __future__ import annotations

import torch
from peers.torch_zoo import conv
from torch import nn

__all__ = ["SEARCHED_TWINS"]


def sep(c: int, o: int, k: int, s: int = 1) -> nn.Module:
    return nn.Sequential(
        nn.ReLU(), conv(c, c, k, s, g=c), conv(c, o, 1), nn.BatchNorm2d(o),
        nn.ReLU(), conv(o, o, k, g=o), conv(o, o, 1), nn.BatchNorm2d(o),
    )  # fmt: skip


def point(c: int, o: int, s: int = 1) -> nn.Module:
    return nn.Sequential(nn.ReLU(), conv(c, o, 1, s), nn.BatchNorm2d(o))


def avg(s: int = 1) -> nn.Module:
    return nn.AvgPool2d(3, s, 1, count_include_pad=False)


class Halve(nn.Module):
    def __init__(self, c: int, o: int) -> None:
        super().__init__()
        self.conv1, self.conv2 = conv(c, o // 2, 1), conv(c, o - o // 2, 1)
        self.bn = nn.BatchNorm2d(o)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = torch.relu(x)
        shifted = nn.functional.pad(x, (0, 1, 0, 1))[:, :, 1:, 1:]
        even, odd = x[:, :, ::2, ::2], shifted[:, :, ::2, ::2]
        return self.bn(torch.cat([self.conv1(even), self.conv2(odd)], 1))


class Base(nn.Module):
    outputs = 0

    def __init__(self, before: int, last: int, f: int, halve: bool, adjust: bool) -> None:
        super().__init__()
        if adjust:
            self.before = (Halve if halve else point)(before, f)
        self.last = point(last, f)

    def forward(self, before: torch.Tensor, last: torch.Tensor) -> torch.Tensor:
        p = self.before(before) if hasattr(self, "before") else before
        return torch.cat(self.nodes(p, self.last(last)), 1)


class Normal(Base):
    outputs = 6

    def __init__(self, before, last, f, halve=False, adjust=True, stride=1) -> None:
        super().__init__(before, last, f, halve, adjust)
        self.left0, self.right0 = sep(f, f, 5), sep(f, f, 3)
        self.left1, self.right1 = sep(f, f, 5), sep(f, f, 3)
        self.left2, self.left3, self.right3 = avg(), avg(), avg()
        self.left4 = sep(f, f, 3)

    def nodes(self, p, h):
        return [
            p, self.left0(h) + self.right0(p), self.left1(p) + self.right1(p), self.left2(h) + p,
            self.left3(p) + self.right3(p), self.left4(h) + h,
        ]  # fmt: skip


class Reduction(Base):
    outputs = 4

    def __init__(self, before, last, f, halve=False, adjust=True, stride=2) -> None:
        super().__init__(before, last, f, halve, adjust)
        c = f if adjust else before
        self.left0, self.right0 = sep(f, f, 5, 2), sep(c, f, 7, 2)
        self.left1, self.right1 = nn.MaxPool2d(3, 2, 1), sep(c, f, 7, 2)
        self.left2, self.right2 = avg(2), sep(c, f, 5, 2)
        self.left3 = avg()
        self.left4, self.right4 = sep(f, f, 3), nn.MaxPool2d(3, 2, 1)

    def nodes(self, p, h):
        a = self.left0(h) + self.right0(p)
        b = self.left1(h) + self.right1(p)
        c = self.left2(h) + self.right2(p)
        return [b, c, self.left3(a) + b, self.left4(a) + self.right4(h)]


class Progressive(Base):
    outputs = 5

    def __init__(self, before, last, f, halve=False, adjust=True, stride=1) -> None:
        super().__init__(before, last, f, halve, adjust)
        self.left0, self.right0 = sep(f, f, 5, stride), nn.MaxPool2d(3, stride, 1)
        self.left1, self.right1 = sep(f, f, 7, stride), nn.MaxPool2d(3, stride, 1)
        self.left2, self.right2 = sep(f, f, 5, stride), sep(f, f, 3, stride)
        self.left3, self.right3 = sep(f, f, 3), nn.MaxPool2d(3, stride, 1)
        self.left4 = sep(f, f, 3, stride)
        if stride == 2:
            self.right4 = point(f, f, 2)

    def nodes(self, p, h):
        c = self.left2(h) + self.right2(h)
        return [
            self.left0(p) + self.right0(p), self.left1(h) + self.right1(h), c,
            self.left3(c) + self.right3(h),
            self.left4(p) + (self.right4(h) if hasattr(self, "right4") else h),
        ]  # fmt: skip


class Searched(nn.Module):
    """``plan`` has (cell, filters, stride, whether the one before is twice as large)."""

    def __init__(self, plan: list[tuple], large: bool, adjust_first: bool, classes: int) -> None:
        super().__init__()
        self.conv0 = nn.Sequential(conv(3, 32, 3, 2, 0) if large else conv(3, 32, 3),
                                   nn.BatchNorm2d(32))  # fmt: skip
        before = last = 32
        for i, (cell, f, stride, halve) in enumerate(plan):
            built = cell(before, last, f, halve, adjust_first or i > 0, stride)
            setattr(self, f"cell{i}", built)
            before, last = last, f * cell.outputs
        self.count, self.fc = len(plan), nn.Linear(last, classes)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        before = last = self.conv0(x)
        for i in range(self.count):
            before, last = last, getattr(self, f"cell{i}")(before, last)
        return self.fc(torch.relu(last).mean((2, 3)))


def nasnet(classes: int) -> nn.Module:
    plan = [(Reduction, 11, 2, False), (Reduction, 22, 2, True)]
    plan += [(Normal, 44, 1, True), *[(Normal, 44, 1, False)] * 3]
    plan += [(Reduction, 88, 2, False), (Normal, 88, 1, True), *[(Normal, 88, 1, False)] * 3]
    plan += [(Reduction, 176, 2, False), (Normal, 176, 1, True), *[(Normal, 176, 1, False)] * 3]
    return Searched(plan, True, False, classes)


def pnasnet(classes: int) -> nn.Module:
    cell = Progressive
    plan = [(cell, 54, 1, False)] * 3
    plan += [(cell, 108, 2, False), (cell, 108, 1, True), (cell, 108, 1, False)]
    plan += [(cell, 216, 2, False), (cell, 216, 1, True), (cell, 216, 1, False)]
    return Searched(plan, False, True, classes)


SEARCHED_TWINS: list[tuple] = [
    ("nasnet_a_mobile", nasnet, "imagenet", 71, {}),
    ("pnasnet5_mobile", pnasnet, "cifar", 11, {}),
]
