"""Notebook 01: counting a convolution."""

from __future__ import annotations

from math import ceil, prod
from typing import Any

import numpy as np

from ... import ops
from ..exercise import Exercise, Mistake

__all__ = ["EXERCISES"]

Shape = tuple[int, ...]


def _side(size: int, kernel: int, stride: int, padding: int) -> int:
    x, w = (1, size, size, 1), (kernel, kernel, 1, 1)
    return ops.conv2d_cost(x, w, stride=stride, padding=padding).output[1]


def _sides() -> list[tuple[int, ...]]:
    # the remainder of the third and fourth tells rounding down from rounding up
    return [(3, 3, 1, 0), (5, 3, 1, 1), (6, 3, 2, 0), (7, 2, 3, 1), (224, 7, 2, 3)]


def _multiply_adds(x_shape: Shape, w_shape: Shape, stride: int, padding: int) -> int:
    return ops.conv2d_cost(x_shape, w_shape, stride=stride, padding=padding).multiply_adds


def _memory_access(x_shape: Shape, w_shape: Shape, stride: int, padding: int) -> int:
    return ops.conv2d_cost(x_shape, w_shape, stride=stride, padding=padding).memory_access


def _output(x_shape: Shape, w_shape: Shape, stride: int, padding: int) -> Shape:
    return ops.conv2d_cost(x_shape, w_shape, stride=stride, padding=padding).output


def _convolutions() -> list[tuple[Any, ...]]:
    return [
        ((1, 3, 3, 1), (3, 3, 1, 1), 1, 0),
        ((1, 4, 4, 2), (1, 1, 2, 3), 1, 0),
        ((2, 7, 9, 3), (4, 3, 3, 5), 2, 1),  # all sides differ, so none stands for another
        ((1, 224, 224, 3), (3, 3, 3, 24), 2, 1),
    ]


def _squares(x_shape: Shape, w_shape: Shape) -> tuple[Shape, Shape]:
    """What somebody reads who takes image and kernel for squares."""
    (n, h, _, c), (k, _, _, o) = x_shape, w_shape
    return (n, h, h, c), (k, k, c, o)


def _receptive_field(layers: list[tuple[int, int]]) -> int:
    """Ask the layers themselves: which inputs get a gradient from one output?"""
    size = 1
    for kernel, stride in reversed(layers):  # the input that makes exactly one output
        size = (size - 1) * stride + kernel
    size += 4
    inputs, x = [], np.ones((1, 1, size, 1))
    for kernel, stride in layers:
        inputs.append(x)
        x = ops.conv2d(x, np.ones((1, kernel, 1, 1)), stride=(1, stride))
    d = np.zeros_like(x)
    d[0, 0, 0, 0] = 1
    for (kernel, stride), before in zip(reversed(layers), reversed(inputs), strict=True):
        d, _, _ = ops.conv2d_backward(d, before, np.ones((1, kernel, 1, 1)), stride=(1, stride))
    return int(np.count_nonzero(d))


def _field(layers: list[tuple[int, int]], *, add: int = -1, late: bool = False) -> int:
    r, jump = 1, 1
    for kernel, stride in layers:
        if late:
            jump *= stride
        r += (kernel + add) * jump
        if not late:
            jump *= stride
    return r


EXERCISES = (
    Exercise(
        key="01.1",
        title="How large is the output?",
        name="output_side",
        reference=_side,
        cases=_sides,
        section=1,
        hints=(
            "With padding on both sides there are size + 2 · padding numbers. Where does the last "
            "window begin?",
            "The last window begins at size + 2 · padding - kernel. Count the multiples of the "
            "stride up to there, and do not forget the one at 0.",
        ),
        mistakes=(
            Mistake("the window at position 0 is not counted (+ 1)",
                    lambda size, kernel, stride, padding: (size + 2 * padding - kernel) // stride),
            Mistake("the padding is added on one side only; it stands on both",
                    lambda size, kernel, stride, padding: (size + padding - kernel) // stride + 1),
            Mistake("the stride is forgotten",
                    lambda size, kernel, stride, padding: size + 2 * padding - kernel + 1),
            Mistake("the division is rounded up; a window that does not fit is left out",
                    lambda size, kernel, stride, padding:
                    ceil((size + 2 * padding - kernel) / stride) + 1),
            Mistake("the division is not rounded down",
                    lambda size, kernel, stride, padding:
                    (size + 2 * padding - kernel) / stride + 1),
        ),
    ),
    Exercise(
        key="01.2",
        title="Multiply–adds of a convolution",
        name="multiply_adds",
        reference=_multiply_adds,
        cases=_convolutions,
        section=2,
        hints=(
            "How many numbers has the output, and how many products stand behind each of them?",
            "N · Ho · Wo · O output numbers, Kh · Kw · C products each. Ho and Wo come from 01.1.",
        ),
        mistakes=(
            Mistake("FLOPs are counted twice: a multiplication with its addition is one",
                    lambda *a: 2 * _multiply_adds(*a)),
            Mistake("the stride is forgotten: the sum is formed at output pixels, "
                    "not at input pixels",
                    lambda x_shape, w_shape, stride, padding:
                    x_shape[0] * x_shape[1] * x_shape[2] * prod(w_shape)),
            Mistake("the stride is forgotten",
                    lambda x_shape, w_shape, stride, padding:
                    _multiply_adds(x_shape, w_shape, 1, padding)),
            Mistake("the padding is forgotten; with it there are more windows",
                    lambda x_shape, w_shape, stride, padding:
                    _multiply_adds(x_shape, w_shape, stride, 0), "notebook 01, section 1"),
            Mistake("biases are not counted: a multiply–add has a product",
                    lambda x_shape, w_shape, *rest: _multiply_adds(x_shape, w_shape, *rest)
                    + prod(_output(x_shape, w_shape, *rest))),
            Mistake("the image and the kernel have two sides each: Ho · Wo and Kh · Kw, not Ho² "
                    "and Kh²",
                    lambda x_shape, w_shape, *rest:
                    _multiply_adds(*_squares(x_shape, w_shape), *rest)),
            Mistake("the images of the batch are forgotten",
                    lambda x_shape, *rest: _multiply_adds((1, *x_shape[1:]), *rest)),
            Mistake("the sum over the input channels is forgotten",
                    lambda x_shape, *rest: _multiply_adds(x_shape, *rest) // x_shape[-1]),
            Mistake("the output channels are forgotten",
                    lambda x_shape, w_shape, *rest:
                    _multiply_adds(x_shape, w_shape, *rest) // w_shape[-1]),
        ),
    ),
    Exercise(
        key="01.3",
        title="Memory access of a convolution",
        name="memory_access",
        reference=_memory_access,
        cases=_convolutions,
        section=4,
        hints=(
            "Every number that is touched counts once, however often it is used.",
            "Three arrays: the inputs are read, the weights are read, the outputs are written.",
        ),
        mistakes=(
            Mistake("the image and the kernel have two sides each: H · W and Kh · Kw, not H² and "
                    "Kh²",
                    lambda x_shape, w_shape, *rest:
                    _memory_access(*_squares(x_shape, w_shape), *rest)),
            Mistake("the weights are forgotten; they are read too",
                    lambda x_shape, w_shape, *rest:
                    _memory_access(x_shape, w_shape, *rest) - prod(w_shape)),
            Mistake("the padding's zeros are not read: H · W are the pixels that there are",
                    lambda x_shape, w_shape, stride, padding:
                    _memory_access(x_shape, w_shape, stride, padding) - prod(x_shape)
                    + x_shape[0] * (x_shape[1] + 2 * padding) * (x_shape[2] + 2 * padding)
                    * x_shape[3]),
            Mistake("there is no bias here",
                    lambda x_shape, w_shape, *rest:
                    _memory_access(x_shape, w_shape, *rest) + w_shape[-1]),
            Mistake("the outputs are forgotten; they are written",
                    lambda x_shape, w_shape, *rest: prod(x_shape) + prod(w_shape)),
            Mistake("these are bytes; memory access is counted in numbers",
                    lambda *a: 4 * _memory_access(*a)),
            Mistake("the stride is forgotten: the output has the size of the input here",
                    lambda x_shape, w_shape, *rest:
                    prod(x_shape) + prod(w_shape) + prod(x_shape[:3]) * w_shape[-1]),
            Mistake("an input is counted again for every tap that uses it; count it once",
                    lambda x_shape, w_shape, *rest:
                    prod(_output(x_shape, w_shape, *rest)[:3]) * prod(w_shape[:3])
                    + prod(w_shape) + prod(_output(x_shape, w_shape, *rest))),
        ),
    ),
    Exercise(
        key="01.4",
        title="The receptive field of a stack of layers",
        name="receptive_field",
        reference=_receptive_field,
        cases=lambda: [
            ([(3, 1)],), ([(3, 1), (3, 1)],), ([(3, 2), (3, 1)],), ([(7, 2), (3, 2), (3, 1)],),
            ([(5, 3), (3, 2), (2, 1)],),
        ],
        section=5,
        hints=(
            "Two numbers are carried from layer to layer: the width r that is seen, and the "
            "distance of neighbours j in input pixels. Both begin at 1.",
            "A layer adds (kernel - 1) · j, with the j from before it. Then its stride "
            "multiplies j.",
        ),
        mistakes=(
            Mistake("each layer adds kernel instead of kernel - 1 neighbours",
                    lambda layers: _field(layers, add=0)),
            Mistake("a layer's own stride is applied too soon; it spreads the pixels behind it",
                    lambda layers: _field(layers, late=True)),
            Mistake("the strides are forgotten: behind a stride, neighbours lie further apart",
                    lambda layers: _field([(kernel, 1) for kernel, _ in layers])),
            Mistake("the layer's own stride is no distance of neighbours before it; the strides "
                    "of all layers before it are, multiplied",
                    lambda layers: 1 + sum((kernel - 1) * stride for kernel, stride in layers)),
            Mistake("kernels are multiplied; their reach adds up",
                    lambda layers: prod(kernel for kernel, _ in layers)),
        ),
    ),
)  # fmt: skip
