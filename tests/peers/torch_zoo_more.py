"""More of the zoo as a PyTorch user would write it: the papers' variants, and the later nets."""

from __future__ import annotations

from collections import OrderedDict
from functools import partial
from itertools import pairwise

import torch
from peers.torch_zoo import (
    Average,
    Basic,
    Bottleneck,
    GoogLeNet,
    Inception,
    alexnet,
    conv,
    conv_bn,
    named,
    resnet,
    vgg,
)
from torch import nn

__all__ = ["MORE_TWINS"]


def vgg11_lrn(classes: int) -> nn.Module:
    plan = (64, "L", "M", 128, "M", 256, 256, "M", 512, 512, "M", 512, 512, "M")
    return vgg(plan, False, classes)


def vgg16_c(classes: int) -> nn.Module:
    plan = (64, 64, "M", 128, 128, "M", 256, 256, -256, "M", 512, 512, -512, "M",
            512, 512, -512, "M")  # fmt: skip
    return vgg(plan, True, classes)


class Padded(Basic):
    """The shortcut of option A: a strided slice, with zeros behind its channels."""

    def __init__(self, c: int, o: int, stride: int) -> None:
        super().__init__(c, o, 1 if c == o else stride)
        self.more, self.stride = o - c, stride
        if c != o:
            del self.downsample

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = torch.relu(self.bn1(self.conv1(x)))
        y = self.bn2(self.conv2(y))
        x = x[:, :, :: self.stride, :: self.stride]
        return torch.relu(y + nn.functional.pad(x, (0, 0, 0, 0, 0, self.more)))


class Plain(Basic):
    def __init__(self, c: int, o: int, stride: int) -> None:
        super().__init__(c, o, stride)
        if hasattr(self, "downsample"):
            del self.downsample

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.relu(self.bn2(self.conv2(torch.relu(self.bn1(self.conv1(x))))))


def small_resnet(block: type[nn.Module], classes: int) -> nn.Module:
    """ResNet-20 for 32x32 images."""
    layers = OrderedDict(conv1=conv(3, 16, 3), bn1=nn.BatchNorm2d(16), relu=nn.ReLU())
    c = 16
    for stage, o in enumerate((16, 32, 64), 1):
        blocks = [block(c, o, 2 if stage > 1 else 1), block(o, o, 1), block(o, o, 1)]
        layers[f"layer{stage}"], c = nn.Sequential(*blocks), o
    return nn.Sequential(OrderedDict(**layers, average=Average(), fc=nn.Linear(c, classes)))


def resnet18(block: type[nn.Module], classes: int) -> nn.Module:
    widths = [(w, w) for w in (64, 128, 256, 512)]
    return resnet(classes, False, (2, 2, 2, 2), lambda c, m, o, s: block(c, o, s), widths)


class StrideFirst(Bottleneck):
    def __init__(self, c: int, m: int, o: int, stride: int) -> None:
        super().__init__(c, m, o, stride)
        self.conv1, self.conv2 = conv(c, m, 1, stride), conv(m, m, 3)


def resnet50_stride_first(classes: int) -> nn.Module:
    widths = [(w, 4 * w) for w in (64, 128, 256, 512)]
    return resnet(classes, False, (3, 4, 6, 3), StrideFirst, widths)


def googlenet_5x5(classes: int) -> nn.Module:
    Inception.kernel = 5
    try:
        return GoogLeNet(classes)
    finally:
        Inception.kernel = 3


MOBILENET = [(64, 1), (128, 2), (128, 1), (256, 2), (256, 1), (512, 2), *[(512, 1)] * 5,
             (1024, 2), (1024, 1)]  # fmt: skip


def mobilenet_dense(classes: int) -> nn.Module:
    units, c = [], 8
    for o, s in MOBILENET:
        units.append(named(conv=conv(c, o // 4, 3, s), bn=nn.BatchNorm2d(o // 4), relu=nn.ReLU()))
        c = o // 4
    return named(
        conv1=conv_bn(3, 8, 3, 2), features=nn.Sequential(*units), average=Average(),
        fc=nn.Linear(c, classes),
    )  # fmt: skip


def mobilenet_shallow(classes: int) -> nn.Module:
    units, c = [], 8
    for o, s in MOBILENET[:6] + MOBILENET[-2:]:
        units.append(named(
            depthwise=conv(c, c, 3, s, g=c), bn1=nn.BatchNorm2d(c), relu1=nn.ReLU(),
            pointwise=conv(c, o // 4, 1), bn2=nn.BatchNorm2d(o // 4), relu2=nn.ReLU(),
        ))  # fmt: skip
        c = o // 4
    return named(
        conv1=conv_bn(3, 8, 3, 2), features=nn.Sequential(*units), average=Average(),
        fc=nn.Linear(c, classes),
    )  # fmt: skip


class Interleaved(nn.Module):
    def __init__(self, c: int, o: int, stride: int, t: int, add: bool) -> None:
        super().__init__()
        m = c * t
        self.expand, self.bn1 = conv(c, m, 1, g=2), nn.BatchNorm2d(m)
        self.depthwise, self.bn2 = conv(m, m, 3, stride, g=m), nn.BatchNorm2d(m)
        self.project, self.bn3 = conv(m, o, 1, g=2), nn.BatchNorm2d(o)
        self.there, self.back, self.add = nn.ChannelShuffle(2), nn.ChannelShuffle(o // 2), add

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = self.there(self.bn1(self.expand(x)))
        y = nn.functional.relu6(self.bn2(self.depthwise(y)))
        y = self.back(self.bn3(self.project(y)))
        return x + y if self.add else y


def igcv3(classes: int) -> nn.Module:
    units, c = [], 8
    for t, o, n, s in ((1, 4, 1, 1), (6, 6, 4, 2), (6, 8, 6, 2), (6, 16, 8, 2), (6, 24, 6, 1),
                       (6, 40, 6, 2), (6, 80, 1, 1)):  # fmt: skip
        for i in range(n):
            units.append(Interleaved(c, o, s if i == 0 else 1, t, i > 0))
            c = o
    return named(
        conv1=conv_bn(3, 8, 3, 2, act=nn.ReLU6), features=nn.Sequential(*units),
        conv2=conv_bn(c, 1280, 1, act=nn.ReLU6), average=Average(), fc=nn.Linear(1280, classes),
    )  # fmt: skip


def separable(c: int, o: int) -> nn.Module:
    return named(depthwise=conv(c, c, 3, g=c), pointwise=conv(c, o, 1), bn=nn.BatchNorm2d(o))


class XceptionBlock(nn.Module):
    def __init__(self, *widths: int, halves: bool = True, first: bool = False) -> None:
        super().__init__()
        layers = []
        for c, o in pairwise(widths):
            layers += [nn.ReLU(), separable(c, o)]
        if halves:
            layers.append(nn.MaxPool2d(3, 2, 1))
            self.shortcut = nn.Sequential(
                conv(widths[0], widths[-1], 1, 2), nn.BatchNorm2d(widths[-1])
            )
        self.chain = nn.Sequential(*layers[1:] if first else layers)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.chain(x) + (self.shortcut(x) if hasattr(self, "shortcut") else x)


def xception(classes: int) -> nn.Module:
    middle = [XceptionBlock(728, 728, 728, 728, halves=False) for _ in range(8)]
    return named(
        conv=nn.Sequential(
            conv(3, 32, 3), nn.BatchNorm2d(32), nn.ReLU(),
            conv(32, 64, 3), nn.BatchNorm2d(64), nn.ReLU(),
        ),
        blocks=nn.Sequential(
            XceptionBlock(64, 128, 128, first=True), XceptionBlock(128, 256, 256),
            XceptionBlock(256, 728, 728), *middle, XceptionBlock(728, 728, 1024),
        ),
        exit=nn.Sequential(
            separable(1024, 1536), nn.ReLU(), separable(1536, 2048), nn.ReLU()
        ),
        average=Average(), fc=nn.Linear(2048, classes),
    )  # fmt: skip


class Condense(nn.Module):
    def __init__(self, c: int, growth: int, groups: int) -> None:
        super().__init__()
        m = 4 * growth
        self.norm1, self.conv1 = nn.BatchNorm2d(c), conv(c, m, 1, g=groups)
        self.norm2, self.conv2 = nn.BatchNorm2d(m), conv(m, growth, 3, g=groups)
        self.shuffle = nn.ChannelShuffle(groups)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = self.shuffle(self.conv1(torch.relu(self.norm1(x))))
        return torch.cat([x, self.conv2(torch.relu(self.norm2(y)))], 1)


class Half(nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x[:, : x.shape[1] // 2]


def condensenet(classes: int) -> nn.Module:
    layers = OrderedDict(init_conv=conv(3, 16, 3, 2))
    c = 16
    for number, (repeat, growth) in enumerate(((4, 8), (6, 16), (8, 32), (10, 64), (8, 128)), 1):
        block = [Condense(c + i * growth, growth, 8) for i in range(repeat)]
        layers[f"block{number}"] = nn.Sequential(*block)
        c += repeat * growth
        if number < 5:
            layers[f"transition{number}"] = nn.AvgPool2d(2)
    layers |= {"norm": nn.BatchNorm2d(c), "relu": nn.ReLU(), "average": Average(), "select": Half()}
    return nn.Sequential(OrderedDict(**layers, classifier=nn.Linear(c // 2, classes)))


# name, its twin, the stem, the side of the images, and a variant of the net
MORE_TWINS: list[tuple] = [
    ("alexnet", partial(alexnet, act=nn.Tanh), "cifar", 17, {"tanh": True}),
    ("vgg11", vgg11_lrn, "cifar", 33, {"lrn": True}),
    ("vgg16_bn", vgg16_c, "cifar", 33, {"conv1x1": True}),
    ("resnet20", lambda n: small_resnet(Padded, n), "cifar", 13, {}),
    ("resnet20", lambda n: small_resnet(Basic, n), "cifar", 13, {"shortcut": "projection"}),
    ("resnet20", lambda n: small_resnet(Plain, n), "cifar", 13, {"shortcut": "none"}),
    ("resnet18", lambda n: resnet18(Padded, n), "cifar", 9, {"shortcut": "padding"}),
    ("resnet18", lambda n: resnet18(Plain, n), "cifar", 9, {"shortcut": "none"}),
    ("resnet50", resnet50_stride_first, "cifar", 9, {"stride_first": True}),
    ("googlenet", googlenet_5x5, "imagenet", 40, {"aux_logits": True, "branch5x5": True}),
    ("mobilenet_v1_x0_25", mobilenet_dense, "imagenet", 47, {"factorised": False}),
    ("mobilenet_v1_x0_25", mobilenet_shallow, "imagenet", 47, {"shallow": True}),
    ("igcv3", igcv3, "imagenet", 47, {"width": 0.25}),
    ("xception", xception, "cifar", 19, {}),
    ("condensenet74_g8", condensenet, "imagenet", 40, {}),
]
