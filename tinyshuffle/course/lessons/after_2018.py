"""Notebook 14: units after ShuffleNet V2."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from ... import nn, ops
from ...cost.profile import profile
from ..exercise import Exercise, Mistake

__all__ = ["EXERCISES"]


def _mbconv(h: int, w: int, c: int, out: int, t: int, kernel: int, stride: int) -> int:
    middle = t * c
    squeeze = nn.SqueezeExcitation(middle)
    squeeze.fc1, squeeze.fc2 = nn.Linear(middle, c // 4), nn.Linear(c // 4, middle)
    unit = nn.Sequential(
        nn.Conv2d(c, middle, 1),
        nn.Conv2d(middle, middle, kernel, stride, kernel // 2, groups=middle),
        squeeze,
        nn.Conv2d(middle, out, 1),
    )
    return profile(unit, (1, h, w, c)).total.multiply_adds


def _weighted(factors: Callable[..., tuple[float, ...]]) -> Callable[..., float]:
    """The four parts of the sum (expand, depthwise, squeeze, project), each times a factor."""

    def multiply_adds(h: int, w: int, c: int, out: int, t: int, kernel: int, stride: int) -> float:
        middle, pixels = t * c, (h // stride) * (w // stride)
        parts = (h * w * c * middle, pixels * middle * kernel**2, 2 * middle * (c // 4),
                 pixels * middle * out)  # fmt: skip
        return float(np.dot(parts, factors(h, w, c, t, stride)))

    return multiply_adds


def _units() -> list[tuple[Any, ...]]:
    return [(2, 4, 8, 12, 3, 1, 1), (6, 4, 8, 20, 2, 3, 2), (14, 28, 24, 40, 6, 5, 2)]


def _widths(units: int, w0: int, wa: float, wm: float) -> np.ndarray:
    line = w0 + wa * np.arange(units)
    return _quantised(w0 * wm ** np.rint(np.log(line / w0) / np.log(wm)))


def _quantised(widths: np.ndarray) -> np.ndarray:
    return 8 * np.rint(widths / 8)


def _steps(round_it: Callable[[Any], Any], base: float | None = None, first: int = 0) -> Any:
    """Widths with another rounding of the exponent, another base, or a line that begins later."""

    def widths(units: int, w0: int, wa: float, wm: float) -> np.ndarray:
        line = w0 + wa * np.arange(first, units + first)
        return _quantised(w0 * wm ** round_it(np.log(line / w0) / np.log(base or wm)))

    return widths


def _lines() -> list[tuple[Any, ...]]:
    return [(4, 8, 20.0, 2.0), (13, 24, 36.0, 2.5), (22, 24, 24.48, 2.54)]


def _fused(
    w3: np.ndarray, b3: np.ndarray, w1: np.ndarray, b1: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Found by asking the library what the branches answer to a pixel in the middle of a map."""
    c = len(b3)
    x = np.zeros((c + 1, 5, 5, c))
    x[np.arange(c), 2, 2, np.arange(c)] = 1
    y = ops.conv2d(x, w3, b3, padding=1) + ops.conv2d(x, w1, b1) + x
    b = y[c, 2, 2]
    # an output at (2 + i, 2 + j) meets the pixel with the tap of the kernel at (1 - i, 1 - j)
    return (y[:c, 1:4, 1:4] - b)[:, ::-1, ::-1].transpose(1, 2, 0, 3), b


def _placed(identity: Any, place: Any, bias: bool = True, at: Any = (1, 1)) -> Any:
    """The kernels added in other places, or with another identity."""

    def fuse(
        w3: np.ndarray, b3: np.ndarray, w1: np.ndarray, b1: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray]:
        w = w3.copy()
        w[place] += w1[0, 0]
        w[at] += identity(len(b3))
        return w, b3 + b1 if bias else b3

    return fuse


def _branches() -> list[tuple[Any, ...]]:
    rng = np.random.default_rng(30)
    ones = np.ones(1), np.ones((1, 1, 1, 1))
    cases: list[tuple[Any, ...]] = [
        (np.arange(9.0).reshape(3, 3, 1, 1), ones[0], 10 * ones[1], 5 * ones[0])
    ]
    for c in (2, 3):
        shapes = (3, 3, c, c), (c,), (1, 1, c, c), (c,)
        cases.append(tuple(rng.standard_normal(shape) for shape in shapes))
    return cases


def _partial(
    dy: np.ndarray, conv_backward: Callable[[np.ndarray], np.ndarray], touched: int
) -> np.ndarray:
    first, rest = dy[..., :touched], dy[..., touched:]
    return ops.concat([conv_backward(first), rest])


def _conv_backward(dy: np.ndarray) -> np.ndarray:
    """The dx of some convolution."""
    rng = np.random.default_rng(dy.shape[-1])
    x, w = rng.standard_normal(dy.shape), rng.standard_normal((3, 3, dy.shape[-1], dy.shape[-1]))
    return ops.conv2d_backward(dy, x, w, padding=1)[0]


def _twice(dy: np.ndarray) -> np.ndarray:
    """The dx of a layer that doubles."""
    return 2 * dy


def _gradients() -> list[tuple[Any, ...]]:
    rng = np.random.default_rng(31)
    return [
        (np.arange(4.0).reshape(1, 1, 1, 4), _twice, 1),
        (rng.standard_normal((2, 3, 4, 8)), _conv_backward, 2),
        (rng.standard_normal((1, 4, 3, 5)), _conv_backward, 3),
    ]


def _hard_swish(dy: np.ndarray, x: np.ndarray) -> np.ndarray:
    gate = ops.relu6(x + 3)
    return dy * gate / 6 + ops.relu6_backward(dy * x / 6, gate)


def _points() -> list[tuple[np.ndarray, ...]]:
    rng = np.random.default_rng(32)
    return [
        (np.ones(5), np.array([-4.0, -1.5, 0.0, 1.5, 4.0])),
        (np.array([2.0, -1.0, 3.0, 5.0]), np.array([-2.9, 2.9, 3.1, -3.1])),
        (rng.standard_normal((2, 3, 4)), 3 * rng.standard_normal((2, 3, 4))),
    ]


EXERCISES = (
    Exercise(
        key="14.1",
        title="What a squeezed unit costs",
        name="mbconv_multiply_adds",
        reference=_mbconv,
        cases=_units,
        section=3,
        hints=(
            "Four parts: 1×1 to t·c channels on the whole map, depthwise with the stride, two "
            "linear layers, 1×1 to out. On how many pixels does each of them run?",
            "With m = t·c: h·w·c·m + (h/stride)(w/stride)·(k²·m + m·out) + 2·m·(c/4).",
        ),
        mistakes=(
            Mistake("the two linear layers run once an image, not at every pixel",
                    _weighted(lambda h, w, c, t, s: (1, 1, h // s * (w // s), 1))),
            Mistake("the squeezed width is a quarter of the unit's input, not of its middle",
                    _weighted(lambda h, w, c, t, s: (1, 1, t, 1))),
            Mistake("squeeze-and-excitation is forgotten",
                    _weighted(lambda h, w, c, t, s: (1, 1, 0, 1))),
            Mistake("squeeze-and-excitation has two linear layers, to c/4 and back",
                    _weighted(lambda h, w, c, t, s: (1, 1, 1 / 2, 1))),
            Mistake("the stride is forgotten: the depthwise and the last convolution make a map "
                    "of h/stride × w/stride pixels",
                    _weighted(lambda h, w, c, t, s: (1, s * s, 1, s * s))),
            Mistake("the stride divides h and w, so there are h·w/stride² pixels",
                    _weighted(lambda h, w, c, t, s: (1, s, 1, s))),
            Mistake("the first 1×1 convolution runs before the stride, on all h × w pixels",
                    _weighted(lambda h, w, c, t, s: (1 / (s * s), 1, 1, 1))),
            Mistake("the middle convolution is depthwise, k² products a channel, not dense",
                    _weighted(lambda h, w, c, t, s: (1, t * c, 1, 1))),
        ),
    ),
    Exercise(
        key="14.2",
        title="The widths of a RegNet",
        name="regnet_widths",
        reference=_widths,
        cases=_lines,
        section=5,
        hints=(
            "First the straight line, then for each unit the power of wm that is nearest to it, "
            "measured by the exponent, then the nearest multiple of 8.",
            "u = w0 + wa * np.arange(units), s = np.rint(np.log(u / w0) / np.log(wm)), and "
            "8 * np.rint(w0 * wm**s / 8).",
        ),
        mistakes=(
            Mistake("the exponent is cut off; take the nearest whole number",
                    _steps(np.floor)),
            Mistake("the exponent is rounded up; take the nearest whole number",
                    _steps(np.ceil)),
            Mistake("the logarithm is the natural one; divide it by log(wm)",
                    _steps(np.rint, np.exp(1))),
            Mistake("the line begins at unit 0, whose width is w0",
                    _steps(np.rint, first=1)),
            Mistake("the exponents are not rounded, so every unit has a width of its own",
                    _steps(lambda s: s)),
            Mistake("the widths are not rounded to multiples of 8",
                    lambda units, w0, wa, wm: w0 * wm ** np.rint(
                        np.log((w0 + wa * np.arange(units)) / w0) / np.log(wm))),
        ),
    ),
    Exercise(
        key="14.3",
        title="Three branches into one",
        name="fuse_branches",
        reference=_fused,
        cases=_branches,
        outputs=("w", "b"),
        section=7,
        hints=(
            "What 3×3 kernel does the same as a 1×1 kernel, if the padding is 1? And which 1×1 "
            "kernel leaves its input as it is?",
            "w = w3.copy(); w[1, 1] += w1[0, 0] + np.eye(c), and b = b3 + b1.",
        ),
        mistakes=(
            Mistake("the shortcut is forgotten: it is a 1×1 kernel with ones on its diagonal",
                    _placed(lambda c: 0, (1, 1))),
            Mistake("the 1×1 kernel belongs in the middle tap, not in the corner",
                    _placed(np.eye, (0, 0))),
            Mistake("the 1×1 kernel and the shortcut belong in the middle tap, not in the corner",
                    _placed(np.eye, (0, 0), at=(0, 0))),
            Mistake("the 1×1 kernel is added to all nine taps; it belongs in the middle one",
                    _placed(np.eye, ...)),
            Mistake("the shortcut is added to all nine taps; it belongs in the middle one",
                    _placed(np.eye, (1, 1), at=...)),
            Mistake("the shortcut leads from each channel to itself only: ones on the diagonal, "
                    "and zeros beside it",
                    _placed(lambda c: 1, (1, 1))),
            Mistake("the bias of the 1×1 convolution is forgotten",
                    _placed(np.eye, (1, 1), bias=False)),
        ),
    ),
    Exercise(
        key="14.4",
        title="Back through a partial convolution",
        name="partial_backward",
        reference=_partial,
        cases=_gradients,
        section=9,
        hints=(
            "Forward, the first channels went through the convolution and the others straight "
            "on. What was put together is taken apart again.",
            "np.concatenate([conv_backward(dy[..., :touched]), dy[..., touched:]], axis=-1).",
        ),
        mistakes=(
            Mistake("the channels that pass have a gradient too: dy itself",
                    lambda dy, back, n: ops.concat([back(dy[..., :n]), 0 * dy[..., n:]])),
            Mistake("the first channels went through the convolution, not the last ones",
                    lambda dy, back, n: ops.concat([dy[..., :-n], back(dy[..., -n:])])),
            Mistake("only the first channels went through the convolution, not all of them",
                    lambda dy, back, n: back(dy)),
            Mistake("the convolution's backward pass is forgotten",
                    lambda dy, back, n: dy),
            Mistake("the two parts are in the wrong order",
                    lambda dy, back, n: ops.concat([dy[..., n:], back(dy[..., :n])])),
            Mistake("x did not go past the convolution as well: the unit's shortcut is not here",
                    lambda dy, back, n: dy + _partial(dy, back, n)),
        ),
    ),
    Exercise(
        key="14.5",
        title="The slope of h-swish",
        name="hard_swish_gradient",
        reference=_hard_swish,
        cases=_points,
        section=4,
        hints=(
            "It is a product of two functions of x: the product rule has two terms. Where is "
            "relu6 flat?",
            "Below -3 the slope is 0, above 3 it is 1, and between them x(x + 3)/6 has the slope "
            "(2x + 3)/6. All of it times dy.",
        ),
        mistakes=(
            Mistake("the product rule has two terms: the factor relu6(x + 3)/6 has a slope as well",
                    lambda dy, x: dy * ops.relu6(x + 3) / 6),
            Mistake("the product rule has two terms: x has the slope 1",
                    lambda dy, x: ops.relu6_backward(dy * x / 6, ops.relu6(x + 3))),
            Mistake("the factor 1/6 is forgotten",
                    lambda dy, x: 6 * _hard_swish(dy, x)),
            Mistake("relu6 is flat below -3 and above 3: there its slope is 0",
                    lambda dy, x: dy * (2 * x + 3) / 6),
            Mistake("above 3 the function is x, whose slope is 1",
                    lambda dy, x: dy * np.where(x > -3, (2 * x + 3) / 6, 0)),
            Mistake("above 3 the function is x, whose slope is 1, not 0",
                    lambda dy, x: np.where(x > 3, 0, _hard_swish(dy, x))),
            Mistake("the chain rule: the slope is multiplied by dy",
                    lambda dy, x: _hard_swish(np.ones_like(dy), x)),
            Mistake("this is the function, not its slope",
                    lambda dy, x: dy * x * ops.relu6(x + 3) / 6),
        ),
    ),
)  # fmt: skip
