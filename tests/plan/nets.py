"""Nets drawn at random: rows of layers, branches, residuals, splits, subclasses, own layers."""

from __future__ import annotations

import numpy as np
from hypothesis import strategies as st

from tinyshuffle import nn
from tinyshuffle.backend import F
from tinyshuffle.models import ShuffleUnitV1, ShuffleUnitV2


class Swish(nn.Module):
    """A layer that computes by itself."""

    def forward(self, x):
        self.save(x)
        return x / (1 + np.exp(-x))

    def backward(self, dy):
        (x,) = self.saved()
        s = 1 / (1 + np.exp(-x))
        return dy * (s + x * s * (1 - s))


class Doubling(nn.BatchNorm2d):
    """A subclass that asks the operations for more than its base does."""

    def forward(self, x):
        return F.add(*(2 * [super().forward(x)]))

    def backward(self, dy):
        return super().backward(F.add(dy, dy))


class Branches(nn.Module):
    """Two branches that see the same, side by side."""

    def __init__(self, left, right, channels):
        self.left, self.right, self.channels = left, right, channels

    def forward(self, x):
        return F.concat([self.left(x), self.right(x)])

    def backward(self, dy):
        dy1, dy2 = F.concat_backward(dy, self.channels)
        return F.add(self.left.backward(dy1), self.right.backward(dy2))


class Split(nn.Module):
    """Half of the channels pass by, and the other half goes first."""

    def __init__(self, branch, first):
        self.branch, self.first = branch, first

    def forward(self, x):
        x1, x2 = F.channel_split(x, self.first)
        return F.concat([self.branch(x2), x1])

    def backward(self, dy):
        dy2, dy1 = F.concat_backward(dy, [dy.shape[-1] - self.first, self.first])
        return F.channel_split_backward(dy1, self.branch.backward(dy2))


def conv(rng, c, o, kernel=1, stride=1):
    groups = int(rng.choice([g for g in (1, 2, 4) if c % g == 0 and o % g == 0]))
    return nn.Conv2d(c, o, kernel, stride, kernel // 2, 1, groups, bool(rng.random() < 0.2))


def layer(rng, c, depth):
    """Return a layer for images of C channels, and its output's channels."""
    o = int(rng.choice([4, 8, 12]))
    kinds = ["conv", "depthwise", "norm", "relu", "shuffle", "swish", "doubling", "pool", "dropout"]
    deep = ["row", "residual", "branches", "split", "v1", "v2", "se"]
    kind = rng.choice(kinds + deep * (depth > 0))
    if kind == "conv":
        return conv(rng, c, o, int(rng.choice([1, 3]))), o
    if kind == "depthwise":
        return nn.Conv2d(c, c, 3, int(rng.choice([1, 2])), 1, 1, c, False), c
    if kind == "row":
        return row(rng, c, depth - 1)
    if kind == "residual":
        inner = nn.Conv2d(c, c, 1, bias=False), nn.BatchNorm2d(c)
        return nn.Residual(*inner, nn.ReLU()), c
    if kind == "branches":
        (left, a), (right, b) = (
            (nn.Sequential(conv(rng, c, n), nn.BatchNorm2d(n), nn.ReLU()), n)
            for n in rng.choice([4, 8], 2).tolist()
        )
        return Branches(left, right, [a, b]), a + b
    if kind == "split":
        first = c // 2
        return Split(nn.Sequential(conv(rng, c - first, o), nn.BatchNorm2d(o)), first), first + o
    if kind == "v1" and c % 4 == 0:
        return ShuffleUnitV1(c, c, 1, 1), c
    if kind == "v2":
        return ShuffleUnitV2(c, c, 1, residual=bool(rng.random() < 0.5)), c
    return {
        "norm": nn.BatchNorm2d(c),
        "relu": nn.ReLU(),
        "shuffle": nn.ChannelShuffle(2),
        "swish": Swish(),
        "doubling": Doubling(c),
        "pool": nn.MaxPool2d(3, 1, 1),
        "dropout": nn.Dropout(0.3),
        "se": nn.SqueezeExcitation(c, 2),
        "v1": nn.ReLU(),
    }[str(kind)], c


def row(rng, c, depth):
    """Return a few layers in a row, many of them as they stand in a ShuffleNet."""
    layers = []
    for _ in range(int(rng.integers(1, 5))):
        if rng.random() < 0.5:
            o = int(rng.choice([4, 8, 12]))
            layers += [nn.Conv2d(c, o, 1, bias=False), nn.BatchNorm2d(o), nn.ReLU()]
            layers += [nn.ChannelShuffle(2)] * (rng.random() < 0.5)
            c = o
        else:
            one, c = layer(rng, c, depth)
            layers.append(one)
    return nn.Sequential(*layers), c


def random_net(seed):
    """Return a net that takes images of 3 channels, with scales and shifts that are not 1 and 0."""
    return net_of(np.random.default_rng(seed), seed)


def net_of(rng, seed=0):
    """The same, of somebody's draws; the seed is that of the weights."""
    body, c = row(rng, 8, 2)
    rng = np.random.default_rng(seed)
    net = nn.Sequential(nn.Conv2d(3, 8, 3, padding=1, bias=False), body, nn.GlobalAvgPool())
    net = nn.Sequential(net, nn.Linear(c, 5)).initialise(seed)
    for module in net.modules():
        if isinstance(module, nn.BatchNorm2d):
            n = module.num_features
            module.weight.data = rng.uniform(0.5, 1.5, n).astype(np.float32)
            module.bias.data = rng.normal(0, 0.5, n).astype(np.float32)
    return net


class Draws:
    """What the functions above ask of a generator, drawn by Hypothesis, which finds small nets."""

    def __init__(self, data):
        self.data = data

    def choice(self, values, size=None):
        one = st.sampled_from(list(values))
        drawn = [self.data.draw(one) for _ in range(size or 1)]
        return drawn[0] if size is None else np.array(drawn)

    def integers(self, low, high):
        return self.data.draw(st.integers(low, high - 1))

    def random(self):
        return self.data.draw(st.sampled_from([0.0, 0.3, 0.6, 0.9]))
