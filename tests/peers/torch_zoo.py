"""The zoo's nets as a PyTorch user would write them, layer by layer, with torchvision's names.

Written from torchvision's names and the papers' tables, not from ``tinyshuffle.models``. Each has
the stem for small images where that keeps it light; :data:`TWINS` says which.
"""

from __future__ import annotations

from collections import OrderedDict

import torch
from torch import nn

__all__ = ["TWINS"]

Flat = nn.Flatten


class Average(nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x.mean((2, 3))


def named(**layers: nn.Module) -> nn.Sequential:
    return nn.Sequential(OrderedDict(layers))


def conv(c: int, o: int, k: int, s: int = 1, p: int | None = None, g: int = 1) -> nn.Conv2d:
    return nn.Conv2d(c, o, k, s, k // 2 if p is None else p, groups=g, bias=False)


def conv_bn(c: int, o: int, k: int, s: int = 1, g: int = 1, act=nn.ReLU) -> nn.Sequential:
    return nn.Sequential(conv(c, o, k, s, g=g), nn.BatchNorm2d(o), act())


def alexnet(classes: int, act=nn.ReLU) -> nn.Module:
    pool = nn.MaxPool2d(3, 2, 1)
    return named(
        features=nn.Sequential(
            nn.Conv2d(3, 64, 3, padding=1), act(), pool,
            nn.Conv2d(64, 192, 5, padding=2), act(), pool,
            nn.Conv2d(192, 384, 3, padding=1), act(),
            nn.Conv2d(384, 256, 3, padding=1), act(),
            nn.Conv2d(256, 256, 3, padding=1), act(), pool,
        ),
        avgpool=nn.AdaptiveAvgPool2d(1),
        flat=Flat(),
        classifier=nn.Sequential(
            nn.Identity(), nn.Linear(256, 256), act(),
            nn.Identity(), nn.Linear(256, 256), act(), nn.Linear(256, classes),
        ),
    )  # fmt: skip


def alexnet_original(classes: int) -> nn.Module:
    relu, pool = nn.ReLU, nn.MaxPool2d(3, 2, 1)

    def norm():
        return nn.LocalResponseNorm(5, alpha=5e-4, beta=0.75, k=2.0)

    return named(
        features=nn.Sequential(
            nn.Conv2d(3, 96, 3, padding=1), relu(), norm(), pool,
            nn.Conv2d(96, 256, 5, padding=2, groups=2), relu(), norm(), pool,
            nn.Conv2d(256, 384, 3, padding=1), relu(),
            nn.Conv2d(384, 384, 3, padding=1, groups=2), relu(),
            nn.Conv2d(384, 256, 3, padding=1, groups=2), relu(), pool,
        ),
        avgpool=nn.AdaptiveAvgPool2d(1),
        flat=Flat(),
        classifier=nn.Sequential(
            nn.Identity(), nn.Linear(256, 256), relu(),
            nn.Identity(), nn.Linear(256, 256), relu(), nn.Linear(256, classes),
        ),
    )  # fmt: skip


def vgg(plan: tuple, norm: bool, classes: int) -> nn.Module:
    """``plan`` has widths, of 3x3 convolutions, of 1x1 ones if negative, and "M", "L"."""
    layers, c = [], 3
    for o in plan:
        if o == "M":
            layers.append(nn.MaxPool2d(2))
        elif o == "L":
            layers.append(nn.LocalResponseNorm(5, alpha=5e-4, beta=0.75, k=2.0))
        else:
            kernel, o = (1, -o) if o < 0 else (3, o)
            layers.append(nn.Conv2d(c, o, kernel, padding=kernel // 2))
            layers += [nn.BatchNorm2d(o), nn.ReLU()] if norm else [nn.ReLU()]
            c = o
    head = nn.Sequential(
        nn.Linear(512, 512), nn.ReLU(), nn.Identity(),
        nn.Linear(512, 512), nn.ReLU(), nn.Identity(), nn.Linear(512, classes),
    )  # fmt: skip
    return named(
        features=nn.Sequential(*layers), pool=nn.AdaptiveAvgPool2d(1), flat=Flat(), classifier=head
    )


def vgg11_bn(classes: int) -> nn.Module:
    return vgg((64, "M", 128, "M", 256, 256, "M", 512, 512, "M", 512, 512, "M"), True, classes)


def nin(classes: int) -> nn.Module:
    layers = OrderedDict()
    relu = nn.ReLU

    def add(name: str, module: nn.Module) -> None:
        layers[name] = module
        layers["after_" + name] = relu()

    def pool(i: int) -> None:
        layers[f"pool{i}"] = nn.MaxPool2d(3, 2, ceil_mode=True)

    add("conv1", nn.Conv2d(3, 96, 11, 4))
    add("cccp1", nn.Conv2d(96, 96, 1))
    add("cccp2", nn.Conv2d(96, 96, 1))
    pool(1)
    add("conv2", nn.Conv2d(96, 256, 5, padding=2))
    add("cccp3", nn.Conv2d(256, 256, 1))
    add("cccp4", nn.Conv2d(256, 256, 1))
    pool(2)
    add("conv3", nn.Conv2d(256, 384, 3, padding=1))
    add("cccp5", nn.Conv2d(384, 384, 1))
    add("cccp6", nn.Conv2d(384, 384, 1))
    pool(3)
    add("conv4", nn.Conv2d(384, 1024, 3, padding=1))
    add("cccp7", nn.Conv2d(1024, 1024, 1))
    add("cccp8", nn.Conv2d(1024, classes, 1))
    return nn.Sequential(OrderedDict(**layers, average=Average()))


class Basic(nn.Module):
    def __init__(self, c: int, o: int, stride: int) -> None:
        super().__init__()
        self.conv1, self.bn1 = conv(c, o, 3, stride), nn.BatchNorm2d(o)
        self.conv2, self.bn2 = conv(o, o, 3), nn.BatchNorm2d(o)
        if stride != 1 or c != o:
            self.downsample = nn.Sequential(conv(c, o, 1, stride), nn.BatchNorm2d(o))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = torch.relu(self.bn1(self.conv1(x)))
        y = self.bn2(self.conv2(y))
        return torch.relu(y + (self.downsample(x) if hasattr(self, "downsample") else x))


class Bottleneck(nn.Module):
    def __init__(self, c: int, m: int, o: int, stride: int, groups: int = 1) -> None:
        super().__init__()
        self.conv1, self.bn1 = conv(c, m, 1), nn.BatchNorm2d(m)
        self.conv2, self.bn2 = conv(m, m, 3, stride, g=groups), nn.BatchNorm2d(m)
        self.conv3, self.bn3 = conv(m, o, 1), nn.BatchNorm2d(o)
        if stride != 1 or c != o:
            self.downsample = nn.Sequential(conv(c, o, 1, stride), nn.BatchNorm2d(o))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = torch.relu(self.bn1(self.conv1(x)))
        y = torch.relu(self.bn2(self.conv2(y)))
        y = self.bn3(self.conv3(y))
        return torch.relu(y + (self.downsample(x) if hasattr(self, "downsample") else x))


def resnet(classes: int, large: bool, repeats, block, widths) -> nn.Module:
    layers = OrderedDict(
        conv1=conv(3, 64, 7, 2) if large else conv(3, 64, 3), bn1=nn.BatchNorm2d(64), relu=nn.ReLU()
    )
    if large:
        layers["maxpool"] = nn.MaxPool2d(3, 2, 1)
    c = 64
    for stage, (repeat, (m, o)) in enumerate(zip(repeats, widths, strict=True), 1):
        blocks = []
        for i in range(repeat):
            blocks.append(block(c, m, o, 2 if stage > 1 and i == 0 else 1))
            c = o
        layers[f"layer{stage}"] = nn.Sequential(*blocks)
    return nn.Sequential(OrderedDict(**layers, average=Average(), fc=nn.Linear(c, classes)))


def resnet18(classes: int) -> nn.Module:
    widths = [(w, w) for w in (64, 128, 256, 512)]
    return resnet(classes, True, (2, 2, 2, 2), lambda c, m, o, s: Basic(c, o, s), widths)


def resnet50(classes: int) -> nn.Module:
    widths = [(w, 4 * w) for w in (64, 128, 256, 512)]
    return resnet(classes, False, (3, 4, 6, 3), Bottleneck, widths)


def resnext50(classes: int) -> nn.Module:
    widths = [(2 * w, 4 * w) for w in (64, 128, 256, 512)]
    return resnet(
        classes, True, (3, 4, 6, 3), lambda c, m, o, s: Bottleneck(c, m, o, s, 32), widths
    )


class Fire(nn.Module):
    def __init__(self, c: int, s: int, e: int) -> None:
        super().__init__()
        self.squeeze = nn.Conv2d(c, s, 1)
        self.expand1x1 = nn.Conv2d(s, e, 1)
        self.expand3x3 = nn.Conv2d(s, e, 3, padding=1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = torch.relu(self.squeeze(x))
        return torch.relu(torch.cat([self.expand1x1(x), self.expand3x3(x)], 1))


def squeezenet1_0(classes: int) -> nn.Module:
    def pool():
        return nn.MaxPool2d(3, 2, ceil_mode=True)

    return named(
        features=nn.Sequential(
            nn.Conv2d(3, 96, 7, 2), nn.ReLU(), pool(),
            Fire(96, 16, 64), Fire(128, 16, 64), Fire(128, 32, 128), pool(),
            Fire(256, 32, 128), Fire(256, 48, 192), Fire(384, 48, 192), Fire(384, 64, 256), pool(),
            Fire(512, 64, 256),
        ),
        classifier=nn.Sequential(nn.Identity(), nn.Conv2d(512, classes, 1), nn.ReLU(), Average()),
    )  # fmt: skip


class Dense(nn.Module):
    def __init__(self, c: int) -> None:
        super().__init__()
        self.norm1, self.conv1 = nn.BatchNorm2d(c), conv(c, 128, 1)
        self.norm2, self.conv2 = nn.BatchNorm2d(128), conv(128, 32, 3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = self.conv1(torch.relu(self.norm1(x)))
        return torch.cat([x, self.conv2(torch.relu(self.norm2(y)))], 1)


def densenet121(classes: int) -> nn.Module:
    features = OrderedDict(
        conv0=conv(3, 64, 7, 2), norm0=nn.BatchNorm2d(64), relu0=nn.ReLU(),
        pool0=nn.MaxPool2d(3, 2, 1),
    )  # fmt: skip
    c = 64
    for block, repeat in enumerate((6, 12, 24, 16), 1):
        dense = {f"denselayer{i + 1}": Dense(c + 32 * i) for i in range(repeat)}
        features[f"denseblock{block}"] = named(**dense)
        c += 32 * repeat
        if block < 4:
            features[f"transition{block}"] = named(
                norm=nn.BatchNorm2d(c), relu=nn.ReLU(), conv=conv(c, c // 2, 1),
                pool=nn.AvgPool2d(2),
            )
            c //= 2
    features |= {"norm5": nn.BatchNorm2d(c), "relu5": nn.ReLU()}
    return named(
        features=nn.Sequential(features), average=Average(), classifier=nn.Linear(c, classes)
    )


def mobilenet_v1_x0_25(classes: int) -> nn.Module:
    units, c = [], 8
    for o, s in [(16, 1), (32, 2), (32, 1), (64, 2), (64, 1), (128, 2), *[(128, 1)] * 5, (256, 2),
                 (256, 1)]:  # fmt: skip
        units.append(named(
            depthwise=conv(c, c, 3, s, g=c), bn1=nn.BatchNorm2d(c), relu1=nn.ReLU(),
            pointwise=conv(c, o, 1), bn2=nn.BatchNorm2d(o), relu2=nn.ReLU(),
        ))  # fmt: skip
        c = o
    return named(
        conv1=conv_bn(3, 8, 3, 2), features=nn.Sequential(*units), average=Average(),
        fc=nn.Linear(c, classes),
    )  # fmt: skip


class Inverted(nn.Module):
    def __init__(self, c: int, o: int, stride: int, t: int) -> None:
        super().__init__()
        m = c * t
        expand = [conv_bn(c, m, 1, act=nn.ReLU6)] if t > 1 else []
        self.conv = nn.Sequential(
            *expand, conv_bn(m, m, 3, stride, m, nn.ReLU6), conv(m, o, 1), nn.BatchNorm2d(o)
        )
        self.add = stride == 1 and c == o

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x + self.conv(x) if self.add else self.conv(x)


def mobilenet_v2(classes: int) -> nn.Module:
    layers, c = [conv_bn(3, 32, 3, 2, act=nn.ReLU6)], 32
    for t, o, n, s in ((1, 16, 1, 1), (6, 24, 2, 2), (6, 32, 3, 2), (6, 64, 4, 2), (6, 96, 3, 1),
                       (6, 160, 3, 2), (6, 320, 1, 1)):  # fmt: skip
        for i in range(n):
            layers.append(Inverted(c, o, s if i == 0 else 1, t))
            c = o
    layers.append(conv_bn(c, 1280, 1, act=nn.ReLU6))
    return named(
        features=nn.Sequential(*layers), average=Average(),
        classifier=nn.Sequential(nn.Identity(), nn.Linear(1280, classes)),
    )  # fmt: skip


def basic_conv(c: int, o: int, k: int, s: int = 1) -> nn.Sequential:
    return named(conv=conv(c, o, k, s), bn=nn.BatchNorm2d(o, eps=0.001), relu=nn.ReLU())


class Inception(nn.Module):
    kernel = 3

    def __init__(self, c: int, o1: int, r3: int, o3: int, r5: int, o5: int, p: int) -> None:
        super().__init__()
        self.branch1 = basic_conv(c, o1, 1)
        self.branch2 = nn.Sequential(basic_conv(c, r3, 1), basic_conv(r3, o3, 3))
        self.branch3 = nn.Sequential(basic_conv(c, r5, 1), basic_conv(r5, o5, self.kernel))
        self.branch4 = nn.Sequential(nn.MaxPool2d(3, 1, 1, ceil_mode=True), basic_conv(c, p, 1))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.cat([getattr(self, f"branch{i}")(x) for i in (1, 2, 3, 4)], 1)


def auxiliary(c: int, classes: int) -> nn.Module:
    return named(
        pool=nn.AdaptiveAvgPool2d(4), conv=basic_conv(c, 128, 1), flat=Flat(),
        fc1=nn.Linear(2048, 1024), relu=nn.ReLU(), fc2=nn.Linear(1024, classes),
    )  # fmt: skip


class GoogLeNet(nn.Module):
    def __init__(self, classes: int) -> None:
        super().__init__()
        self.conv1, self.conv2 = basic_conv(3, 64, 7, 2), basic_conv(64, 64, 1)
        self.conv3 = basic_conv(64, 192, 3)
        self.inception3a = Inception(192, 64, 96, 128, 16, 32, 32)
        self.inception3b = Inception(256, 128, 128, 192, 32, 96, 64)
        self.inception4a = Inception(480, 192, 96, 208, 16, 48, 64)
        self.inception4b = Inception(512, 160, 112, 224, 24, 64, 64)
        self.inception4c = Inception(512, 128, 128, 256, 24, 64, 64)
        self.inception4d = Inception(512, 112, 144, 288, 32, 64, 64)
        self.inception4e = Inception(528, 256, 160, 320, 32, 128, 128)
        self.inception5a = Inception(832, 256, 160, 320, 32, 128, 128)
        self.inception5b = Inception(832, 384, 192, 384, 48, 128, 128)
        self.aux1, self.aux2 = auxiliary(512, classes), auxiliary(528, classes)
        self.fc = nn.Linear(1024, classes)
        self.pool3 = nn.MaxPool2d(3, 2, ceil_mode=True)
        self.pool2 = nn.MaxPool2d(2, 2, ceil_mode=True)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.conv3(self.conv2(self.pool3(self.conv1(x))))
        x = self.pool3(self.inception3b(self.inception3a(self.pool3(x))))
        x = self.inception4a(x)
        first = self.aux1(x)
        x = self.inception4d(self.inception4c(self.inception4b(x)))
        second = self.aux2(x)
        x = self.inception5b(self.inception5a(self.pool2(self.inception4e(x))))
        return torch.cat([self.fc(x.mean((2, 3))), first, second], 1)


# name, its twin, the stem, the side of the images, and a variant of the net
TWINS: list[tuple] = [
    ("alexnet", alexnet, "cifar", 17, {}),
    ("alexnet_original", alexnet_original, "cifar", 17, {}),
    ("vgg11_bn", vgg11_bn, "cifar", 33, {}),
    ("nin", nin, "imagenet", 48, {}),
    ("resnet18", resnet18, "imagenet", 41, {}),
    ("resnet50", resnet50, "cifar", 9, {}),
    ("resnext50_32x4d", resnext50, "imagenet", 34, {}),
    ("squeezenet1_0", squeezenet1_0, "imagenet", 46, {}),
    ("densenet121", densenet121, "imagenet", 43, {}),
    ("mobilenet_v1_x0_25", mobilenet_v1_x0_25, "imagenet", 47, {}),
    ("mobilenet_v2", mobilenet_v2, "imagenet", 47, {}),
    ("googlenet", GoogLeNet, "imagenet", 40, {"aux_logits": True}),
]
