"""Notebook 02: grouped and depthwise convolution."""

from __future__ import annotations

from typing import Any

import numpy as np

from ... import ops
from ..exercise import Exercise, Mistake

__all__ = ["EXERCISES"]

Shape = tuple[int, ...]


def _grouped(x_shape: Shape, channels_out: int, kernel: int, groups: int, stride: int) -> int:
    w = (kernel, kernel, x_shape[-1] // groups, channels_out)
    padding = kernel // 2
    return ops.conv2d_cost(x_shape, w, None, stride, padding, 1, groups).multiply_adds


def _shapes() -> list[tuple[Any, ...]]:
    return [
        ((1, 1, 1, 2), 2, 1, 2, 1),
        ((1, 4, 4, 6), 9, 1, 3, 1),
        ((5, 13, 17, 8), 12, 3, 4, 2),  # all sides differ, and 13 / 2 is rounded up
        ((1, 28, 28, 240), 60, 1, 3, 1),
    ]


def _sees(channels_in: int, channels_out: int, groups: int) -> np.ndarray:
    x = np.eye(channels_in).reshape(channels_in, 1, 1, channels_in)
    w = np.ones((1, 1, channels_in // groups, channels_out))
    return ops.pointwise_conv2d(x, w, groups=groups).reshape(channels_in, channels_out)


def _interleaved(channels_in: int, channels_out: int, groups: int) -> np.ndarray:
    return np.equal.outer(np.arange(channels_in) % groups, np.arange(channels_out) % groups)


def _ratio(kernel: int, channels_in: int, channels_out: int) -> float:
    x = (1, 5, 5, channels_in)
    dense = ops.conv2d_cost(x, (kernel, kernel, channels_in, channels_out), padding=kernel // 2)
    depthwise = ops.depthwise_conv2d_cost(x, (kernel, kernel, channels_in), padding=kernel // 2)
    pointwise = ops.pointwise_conv2d_cost(x, (1, 1, channels_in, channels_out))
    return (depthwise.multiply_adds + pointwise.multiply_adds) / dense.multiply_adds


def _width() -> int:
    def cost(c: int, groups: int) -> int:
        x, w = (1, 1, 1, c), (1, 1, c // groups, c)
        return ops.pointwise_conv2d_cost(x, w, groups=groups).multiply_adds

    return next(c for c in range(4, 1000, 4) if cost(c, 4) == cost(144, 1))


EXERCISES = (
    Exercise(
        key="02.1",
        title="Multiply–adds of a grouped convolution",
        name="grouped_multiply_adds",
        reference=_grouped,
        cases=_shapes,
        section=2,
        hints=(
            "Grouping changes neither the number of outputs nor the number of taps. What does it "
            "change?",
            "Each output sums over C / G input channels instead of C. The output's side is that "
            "of the padding kernel // 2: size // stride, rounded up.",
        ),
        mistakes=(
            Mistake("it is divided by the groups twice; each output loses inputs, but there are as "
                    "many outputs as before",
                    lambda x, o, k, g, s: _grouped(x, o, k, g, s) / g),
            Mistake("the groups are forgotten: an output sees its own group's channels only",
                    lambda x, o, k, g, s: _grouped(x, o, k, g, s) * g),
            Mistake("FLOPs are counted twice: a multiplication with its addition is one",
                    lambda *a: 2 * _grouped(*a), "notebook 01, section 2"),
            Mistake("the stride is forgotten",
                    lambda x, o, k, g, s: _grouped(x, o, k, g, 1), "notebook 01, section 2"),
            Mistake("the sides are rounded down; with padding kernel // 2 a window begins at every "
                    "s-th pixel from the first on: H / s, rounded up",
                    lambda x, o, k, g, s:
                    x[0] * (x[1] // s) * (x[2] // s) * o * k**2 * (x[3] // g),
                    "notebook 01, section 1"),
            Mistake("the sides are not rounded; pixels are whole, so H / s is rounded up",
                    lambda x, o, k, g, s: x[0] * x[1] * x[2] / s**2 * o * k**2 * (x[3] // g),
                    "notebook 01, section 1"),
            Mistake("an image has two sides: Ho · Wo, not Ho²",
                    lambda x, o, k, g, s: _grouped((x[0], x[1], x[1], x[3]), o, k, g, s)),
            Mistake("an image has two sides: Ho · Wo, not Wo²",
                    lambda x, o, k, g, s: _grouped((x[0], x[2], x[2], x[3]), o, k, g, s)),
            Mistake("the kernel has two sides: kernel² taps",
                    lambda x, o, k, g, s: _grouped(x, o, k, g, s) // k, "notebook 01, section 2"),
            Mistake("the images of the batch are forgotten",
                    lambda x, o, k, g, s: _grouped((1, *x[1:]), o, k, g, s),
                    "notebook 01, section 2"),
        ),
    ),
    Exercise(
        key="02.2",
        title="Who sees whom?",
        name="connections",
        reference=_sees,
        cases=lambda: [(2, 2, 2), (4, 4, 2), (4, 6, 2), (6, 3, 3)],
        section=1,
        hints=(
            "Input channel c belongs to group c // (C / G). To which group does an output belong?",
            "connections[c, o] is 1 where c // (channels_in // groups) equals "
            "o // (channels_out // groups). Loops will do.",
        ),
        mistakes=(
            Mistake("the matrix is transposed: inputs are rows, outputs are columns",
                    lambda c, o, g: _sees(c, o, g).T),
            Mistake("transposed groups: a group is a run of neighbours, not every G-th channel",
                    _interleaved),
            Mistake("a group has C / G channels: channel c is in group c // (C / G), not in group "
                    "c // G",
                    lambda c, o, g: np.equal.outer(np.arange(c) // g, np.arange(o) // g)),
            Mistake("every output sees every input; that is a dense layer",
                    lambda c, o, g: np.ones((c, o))),
            Mistake("each output sees one input only; that is a depthwise layer",
                    lambda c, o, g: np.eye(c, o)),
        ),
    ),
    Exercise(
        key="02.3",
        title="MobileNet's ratio",
        name="ratio",
        reference=_ratio,
        cases=lambda: [(1, 2, 2), (3, 2, 4), (3, 8, 4), (5, 32, 64)],
        section=4,
        hints=(
            "Write down three costs: dense, depthwise, pointwise. What cancels in the quotient?",
            "The depthwise one divided by the dense one leaves 1 / N, the pointwise one "
            "1 / DK². N are the outputs.",
        ),
        mistakes=(
            Mistake("N is the number of output channels, not of input channels",
                    lambda kernel, c, o: 1 / c + 1 / kernel**2),
            Mistake("the kernel has two sides: 1 / DK², not 1 / DK",
                    lambda kernel, c, o: 1 / o + 1 / kernel),
            Mistake("the two costs are added, not multiplied",
                    lambda kernel, c, o: 1 / (o * kernel**2)),
            Mistake("the ratio is upside down: separable over dense",
                    lambda kernel, c, o: 1 / _ratio(kernel, c, o)),
            Mistake("the depthwise part is forgotten", lambda kernel, c, o: 1 / kernel**2),
        ),
    ),
    Exercise(
        key="02.4",
        title="How much wider for the same price?",
        name="wider",
        reference=_width,
        section=2,
        hints=(
            "The multiply–adds of a pixel are c · c / g. Set them equal to 144 · 144.",
            "c² = 144² · 4.",
        ),
        mistakes=(
            Mistake("the width grows with the root of g: both sides of the layer become wider",
                    lambda: 144 * 4),
            Mistake("with more groups there is more to spend, not less", lambda: 144 / 2),
            Mistake("the width may grow if groups make the layer cheaper", lambda: 144),
        ),
    ),
)  # fmt: skip
