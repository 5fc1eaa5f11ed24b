"""Notebook 06: the unit of ShuffleNet V1."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from ... import nn, ops
from ...cost.profile import profile
from ...models import ShuffleUnitV1
from ..exercise import Exercise, Mistake

__all__ = ["EXERCISES"]


def _pointwise(hw: int, c: int, o: int, g: int) -> int:
    return ops.pointwise_conv2d_cost((1, 1, hw, c), (1, 1, c // g, o), groups=g).multiply_adds


def _depthwise(hw: int, c: int) -> int:
    return ops.depthwise_conv2d_cost((1, 1, hw, c), (3, 3, c), padding=1).multiply_adds


def _unit(hw: int, c: int, m: int, g: int) -> int:
    return _pointwise(hw, c, m, g) + _depthwise(hw, m) + _pointwise(hw, m, c, g)


def _stride2(hw: int, c_in: int, c_out: int, g: int) -> int:
    side = round(hw**0.5)
    unit = ShuffleUnitV1(c_in, c_out, groups=g, stride=2)
    return profile(unit, (1, side, side, c_in)).total.multiply_adds


def _stride2_with(
    middle: Callable[[int, int], float] = lambda c_in, c_out: c_out / 4,
    made: Callable[[int, int], float] = lambda c_in, c_out: c_out - c_in,
    maps: tuple[float, float, float] = (1, 1 / 4, 1 / 4),
) -> Any:
    """The formula with other channels, or with the three convolutions on other maps."""

    def wrong(hw: int, c_in: int, c_out: int, g: int) -> float:
        m, (first, second, third) = middle(c_in, c_out), maps
        return hw * (first * c_in * m / g + second * 9 * m + third * m * made(c_in, c_out) / g)

    return wrong


def _layers(seed: int, c: int, m: int, g: int, size: int) -> tuple[Any, ...]:
    """(dy, y, layers) of a unit y = relu(x + layers(x)) whose layers have run."""
    rng = np.random.default_rng(seed)
    layers: list[Any] = [
        nn.Conv2d(c, m, 1, groups=g, bias=False), nn.BatchNorm2d(m), nn.ReLU(),
        nn.ChannelShuffle(g), nn.Conv2d(m, m, 3, padding=1, groups=m, bias=False),
        nn.BatchNorm2d(m), nn.Conv2d(m, c, 1, groups=g, bias=False), nn.BatchNorm2d(c),
    ]  # fmt: skip
    x = rng.standard_normal((2, size, size, c))
    f = x
    for layer in layers:
        layer.astype("float64").train()
        for p in layer.parameters():
            p.data = rng.standard_normal(p.shape)
        f = layer(f)
    return rng.standard_normal(x.shape), np.maximum(x + f, 0), layers


def _back(d: np.ndarray, layers: list[Any]) -> np.ndarray:
    for layer in reversed(layers):
        d = layer.backward(d)
    return d


def _unit_dx(dy: np.ndarray, y: np.ndarray, layers: list[Any]) -> np.ndarray:
    dz = ops.relu_backward(dy, y)
    return dz + _back(dz, layers)


def _whole_unit(
    *given: Any, shuffle: bool = True, unshuffle: bool = True, first: bool = True,
    second: bool = True, middle: bool = True, shortcut: bool = True, thin: bool = False,
) -> tuple[np.ndarray, ...]:  # fmt: skip
    x, dy, w1, wd, w2, groups = given
    h = ops.pointwise_conv2d(x, w1, groups=groups)
    h = ops.relu(h) if first else h
    s = ops.channel_shuffle(h, groups) if shuffle else h
    d = ops.depthwise_conv2d(s, wd, padding=1)
    d = ops.relu(d) if thin else d
    z = x + ops.pointwise_conv2d(d, w2, groups=groups)
    y = ops.relu(z) if second else z
    dz = ops.relu_backward(dy, y) if second else dy
    dd, dw2, _ = ops.pointwise_conv2d_backward(dz, d, w2, groups)
    dd = ops.relu_backward(dd, d) if thin else dd
    ds, dwd, _ = ops.depthwise_conv2d_backward(dd, s, wd, padding=1)
    if shuffle:
        ds = (ops.channel_shuffle_backward if unshuffle else ops.channel_shuffle)(ds, groups)
    dh = ops.relu_backward(ds, h) if first and middle else ds
    dx, dw1, _ = ops.pointwise_conv2d_backward(dh, x, w1, groups)
    return y, dx + dz if shortcut else dx, dw1, dwd, dw2


def _there_and_back(
    x: np.ndarray, dy: np.ndarray, w1: np.ndarray, wd: np.ndarray, w2: np.ndarray, groups: int
) -> tuple[np.ndarray, ...]:
    return _whole_unit(x, dy, w1, wd, w2, groups)


def _whole_cases() -> list[tuple[Any, ...]]:
    rng = np.random.default_rng(42)
    return [
        (*rng.standard_normal((2, n, h, w, c)), rng.standard_normal((1, 1, c // g, m)),
         rng.standard_normal((3, 3, m)), rng.standard_normal((1, 1, m // g, c)), g)
        for n, h, w, c, m, g in ((1, 2, 3, 4, 8, 2), (2, 4, 3, 6, 12, 3))
    ]  # fmt: skip


EXERCISES = (
    Exercise(
        key="06.1",
        title="hw(2cm/g + 9m)",
        name="unit_multiply_adds",
        reference=_unit,
        cases=lambda: [(1, 4, 2, 1), (4, 8, 4, 2), (784, 240, 60, 3), (196, 768, 192, 8)],
        section=1,
        hints=(
            "Three convolutions: c → m and m → c, both 1×1 with g groups, and a depthwise "
            "3×3 on m channels between them.",
            "hw · c · m / g, hw · 9 · m, hw · m · c / g.",
        ),
        mistakes=(
            Mistake("the 3×3 convolution is depthwise, 9m and not 9m²: this is ResNet's unit, "
                    "with groups in the 1×1",
                    lambda hw, c, m, g: hw * (2 * c * m / g + 9 * m * m)),
            Mistake("the groups are in the 1×1 convolutions; this is ResNeXt's unit",
                    lambda hw, c, m, g: hw * (2 * c * m + 9 * m * m / g)),
            Mistake("the 3×3 convolution is depthwise, 9m; 9m² / g would be one with g groups",
                    lambda hw, c, m, g: hw * (2 * c * m + 9 * m * m) / g),
            Mistake("the depthwise convolution works on the m channels of the bottleneck, not on c",
                    lambda hw, c, m, g: hw * (2 * c * m / g + 9 * c)),
            Mistake("the 3×3 kernel has nine taps",
                    lambda hw, c, m, g: hw * (2 * c * m / g + m)),
            Mistake("it is divided by the groups twice",
                    lambda hw, c, m, g: hw * (2 * c * m / g**2 + 9 * m),
                    "notebook 02, section 2"),
            Mistake("the groups are forgotten",
                    lambda hw, c, m, g: hw * (2 * c * m + 9 * m)),
            Mistake("the depthwise convolution is divided by g as well; each of its channels is "
                    "a group already",
                    lambda hw, c, m, g: hw * (2 * c * m + 9 * m) / g),
            Mistake("there are two 1×1 convolutions", lambda hw, c, m, g: hw * (c * m / g + 9 * m)),
            Mistake("FLOPs are counted twice: a multiplication with its addition is one",
                    lambda *a: 2 * _unit(*a), "notebook 01, section 2"),
        ),
    ),
    Exercise(
        key="06.2",
        title="The unit that halves the image",
        name="stride2_multiply_adds",
        reference=_stride2,
        cases=lambda: [(4, 4, 8, 1), (16, 8, 24, 2), (784, 240, 480, 3)],
        section=3,
        hints=(
            "The shortcut is pooled and put beside the result. How many channels are left for the "
            "other branch to make, and on which map does each convolution run?",
            "m = c_out / 4. The first 1×1 runs on hw pixels, the depthwise and the last 1×1 on "
            "hw / 4, and the last one makes c_out - c_in channels.",
        ),
        mistakes=(
            Mistake("the branch makes c_out - c_in channels: the pooled input brings the others",
                    _stride2_with(made=lambda c_in, c_out: c_out)),
            Mistake("the first 1×1 convolution runs before the stride, on the large map",
                    _stride2_with(maps=(1 / 4, 1 / 4, 1 / 4))),
            Mistake("the depthwise convolution has the stride: its output has hw / 4 pixels",
                    _stride2_with(maps=(1, 1, 1 / 4))),
            Mistake("both sides are halved: hw / 4 pixels are left, not hw / 2",
                    _stride2_with(maps=(1, 1 / 2, 1 / 2))),
            Mistake("the stride is forgotten: behind the depthwise convolution there are hw / 4 "
                    "pixels",
                    _stride2_with(maps=(1, 1, 1))),
            Mistake("hw are the pixels of the unit's input, not of its output",
                    _stride2_with(maps=(4, 1, 1))),
            Mistake("an average pool has no multiply–adds",
                    lambda hw, c_in, c_out, g:
                    _stride2_with()(hw, c_in, c_out, g) + hw / 4 * 9 * c_in,
                    "notebook 01, section 2"),
            Mistake("the bottleneck is a quarter of the unit's output, not of the branch's",
                    _stride2_with(middle=lambda c_in, c_out: (c_out - c_in) / 4)),
            Mistake("the bottleneck is a quarter of the unit's output, not of its input",
                    _stride2_with(middle=lambda c_in, c_out: c_in / 4)),
        ),
    ),
    Exercise(
        key="06.3",
        title="The gradient through the unit",
        name="unit_backward",
        reference=_unit_dx,
        cases=lambda: [_layers(0, 4, 4, 1, 2), _layers(1, 8, 4, 2, 3)],
        may_call=("backward", "relu_backward"),
        section=6,
        hints=(
            "y = relu(x + f(x)): first back through the ReLU. Then x is used in two places.",
            "dz = dy where y > 0. Send dz back through the layers, the last one first, with "
            "layer.backward, and add dz itself for the shortcut.",
        ),
        mistakes=(
            Mistake("the shortcut is forgotten: x reaches the sum directly as well",
                    lambda dy, y, layers: _back(dy * (y > 0), layers)),
            Mistake("the last ReLU is forgotten: where y is 0, no gradient passes",
                    lambda dy, y, layers: dy + _back(dy, layers)),
            Mistake("the shortcut lies in front of the ReLU too: its gradient is masked as well",
                    lambda dy, y, layers: dy + _back(dy * (y > 0), layers)),
            Mistake("only the shortcut is there: the layers have a gradient too",
                    lambda dy, y, layers: dy * (y > 0)),
            Mistake("the layers are walked from the first to the last; backward begins with the "
                    "last",
                    lambda dy, y, layers: dy * (y > 0) + _back(dy * (y > 0), layers[::-1])),
            Mistake("the ReLU comes last in the unit, so its mask comes first here, before the "
                    "layers",
                    lambda dy, y, layers: (dy + _back(dy, layers)) * (y > 0)),
            Mistake("the ReLU passes dy where y > 0; dy is not multiplied by y",
                    lambda dy, y, layers: dy * y + _back(dy * y, layers)),
            Mistake("the layers' gradient is added to itself: keep dz, the shortcut needs it",
                    lambda dy, y, layers: 2 * _back(dy * (y > 0), layers)),
            Mistake("two branches of the gradient are added, not multiplied",
                    lambda dy, y, layers: dy * (y > 0) * _back(dy * (y > 0), layers)),
        ),
    ),
    Exercise(
        key="06.4",
        title="The unit from operations, there and back",
        name="v1_unit",
        reference=_there_and_back,
        cases=_whole_cases,
        outputs=("y", "dx", "dw1", "dwd", "dw2"),
        may_call=tuple(
            operation + backward
            for operation in ("pointwise_conv2d", "depthwise_conv2d", "channel_shuffle", "relu")
            for backward in ("", "_backward")
        ),
        section=6,
        hints=(
            "Write the forward pass line by line, and give every result a name. The backward pass "
            "has the same lines from the last to the first, each with _backward.",
            "dz = relu_backward(dy, y); pointwise, depthwise, shuffle, relu and pointwise back; "
            "dx of the last one plus dz.",
        ),
        mistakes=(
            Mistake("the shuffle is forgotten", lambda *a: _whole_unit(*a, shuffle=False)),
            Mistake("backward the shuffle is undone, not made once more",
                    lambda *a: _whole_unit(*a, unshuffle=False)),
            Mistake("the ReLU behind the first convolution is forgotten",
                    lambda *a: _whole_unit(*a, first=False)),
            Mistake("the ReLU behind the first convolution is forgotten on the way back",
                    lambda *a: _whole_unit(*a, middle=False)),
            Mistake("the ReLU behind the sum is forgotten",
                    lambda *a: _whole_unit(*a, second=False)),
            Mistake("the shortcut's share of dx is forgotten",
                    lambda *a: _whole_unit(*a, shortcut=False)),
            Mistake("there is no ReLU behind the depthwise convolution",
                    lambda *a: _whole_unit(*a, thin=True)),
        ),
    ),
)  # fmt: skip
