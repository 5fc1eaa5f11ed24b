"""Where two branches meet, in one pass: see ``plan.fused`` for the mathematics."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from .. import memory
from ..ops.arguments import is_real
from .batch_norm import (
    add_backward_sums,
    batch_norm_backward_sums,
    constants_of,
    finish_backward_sums,
    table_of,
)
from .branches import concat
from .channel_shuffle import channel_shuffle, channel_shuffle_backward
from .jit import exact, flat, scratch
from .norm_conv import normalised, stage
from .pixels import pixels
from .sums import period_of

if TYPE_CHECKING:
    from ..plan.fused import Norm

__all__ = [
    "concat_shuffle",
    "concat_shuffle_backward",
    "norm_add_relu",
    "norm_add_relu_backward",
]

_BLOCK = 2**12  # numbers that stay in the first-level cache between two kernels


def concat_shuffle(
    x1: np.ndarray, x2: np.ndarray, norm1: Norm | None = None, norm2: Norm | None = None
) -> np.ndarray:
    """Return two tensors, normalised, side by side and shuffled; see ``plan.fused``."""
    (n, h, w, c), dtype = x1.shape, x1.dtype
    if x1.shape != x2.shape or dtype != x2.dtype or not is_real(dtype):
        return channel_shuffle(concat([normalised(x1, norm1), normalised(x2, norm2)]), 2)
    y = memory.empty((n, h, w, 2 * c), dtype)
    _side_by_side(y.reshape(-1), *_side(x1, norm1), *_side(x2, norm2), n * h * w, c, period_of(c))
    return y


def concat_shuffle_backward(
    dy: np.ndarray,
    first: int,
    x1: np.ndarray | None = None,
    x2: np.ndarray | None = None,
    norm1: Norm | None = None,
    norm2: Norm | None = None,
) -> tuple[np.ndarray, np.ndarray | None, np.ndarray | None]:
    """Return both gradients side by side, and sums; see ``plan.fused``."""
    c, dtype = first, dy.dtype
    if 2 * c != dy.shape[-1]:
        dz = channel_shuffle_backward(dy, 2)
        sums1, sums2 = (
            None if norm is None or x is None else batch_norm_backward_sums(part, x, *norm[:6])
            for part, x, norm in ((dz[..., :c], x1, norm1), (dz[..., c:], x2, norm2))
        )
        return dz, sums1, sums2
    dz = memory.empty(dy.shape, dtype)
    dyf, sums = flat(dy, dtype), np.zeros((2, 2, c))
    sides = *_side(dy if x1 is None else x1, norm1), *_side(dy if x2 is None else x2, norm2)
    _apart(dz.reshape(-1), sums, dyf, *sides, dy.size // (2 * c), c, period_of(c))
    return dz, None if norm1 is None else sums[0], None if norm2 is None else sums[1]


def _side(x: np.ndarray, norm: Norm | None) -> tuple[np.ndarray, int, np.ndarray, float, bool]:
    """What a kernel wants to know of a branch: its pixels, their distance, and its norm."""
    if norm is None:
        return *pixels(x, x.dtype), np.empty((4, 0)), 0.0, False
    return flat(x, x.dtype), x.shape[-1], constants_of(x, *norm[:4]), norm.eps, norm.relu


def norm_add_relu(x: np.ndarray, norm: Norm, shortcut: np.ndarray) -> np.ndarray:
    """Normalise, add and rectify; see ``plan.fused``."""
    y, c = memory.empty(x.shape, x.dtype), x.shape[-1]
    s, row = pixels(shortcut, x.dtype, x.shape)
    constants = constants_of(x, *norm[:4])
    _normalise_add(
        y.reshape(-1), flat(x, x.dtype), s, row, constants, norm.eps, c, period_of(c)
    )
    return y


def norm_add_relu_backward(
    dy: np.ndarray, y: np.ndarray, x: np.ndarray, norm: Norm
) -> tuple[np.ndarray, np.ndarray]:
    """Return dz, and dβ and dγ; see ``plan.fused``."""
    dz, c = memory.empty(y.shape, y.dtype), y.shape[-1]
    (dyf, row), yf = pixels(dy, y.dtype, y.shape), flat(y, y.dtype)
    xf = flat(x, y.dtype, y.shape)
    sums, constants = np.zeros((2, c)), constants_of(x, *norm[:4])
    _gate_and_add(
        dz.reshape(-1), sums, dyf, row, yf, xf, constants, norm.eps, c, period_of(c)
    )
    return dz, sums


@exact
def _side_by_side(
    y, x1, row1, norm1, eps1, relu1, x2, row2, norm2, eps2, relu2, m, c, period
):  # fmt: skip
    table1, table2 = table_of(norm1, eps1, period, x1), table_of(norm2, eps2, period, x2)
    block = max(1, _BLOCK // c)
    spare1, spare2 = scratch(block * c, x1), scratch(block * c, x2)
    for first in range(0, m, block):
        rows = min(block, m - first)
        a = _block(spare1, x1, first, row1, table1, relu1, rows, c)
        b = _block(spare2, x2, first, row2, table2, relu2, rows, c)
        pairs = y[2 * first * c :]
        for i in range(rows * c):
            pairs[2 * i] = a[i]
            pairs[2 * i + 1] = b[i]


@exact
def _block(spare, x, first, row, table, relu, m, c):
    """Return m pixels of x, normalised, one behind the other."""
    if table.size == 0 and row == c:
        return x[first * c : (first + m) * c]
    stage(spare, spare, x, first * row, row, m, c, table, relu, 1)
    return spare[: m * c]


@exact
def _apart(
    dz, sums, dy, x1, row1, norm1, eps1, relu1, x2, row2, norm2, eps2, relu2, m, c, period
):  # fmt: skip
    table1, table2 = table_of(norm1, eps1, period, x1), table_of(norm2, eps2, period, x2)
    block = max(1, _BLOCK // (4 * period)) * 4 * period // c  # pixels
    dz1, dz2 = scratch(block * c, x1), scratch(block * c, x2)
    for first in range(0, m, block):
        rows = min(block, m - first)
        pairs, both = dy[2 * first * c :], dz[2 * first * c :]
        for i in range(rows * c):
            dz1[i] = pairs[2 * i]
            dz2[i] = pairs[2 * i + 1]
        for r in range(rows):
            pixel, a, b = both[2 * r * c : 2 * (r + 1) * c], dz1[r * c :], dz2[r * c :]
            for j in range(c):
                pixel[j] = a[j]
            for j in range(c):
                pixel[c + j] = b[j]
        here = slice(first * c, (first + rows) * c)
        if table1.size > 0:
            add_backward_sums(sums[0], dz1[: rows * c], x1[here], table1, relu1)
        if table2.size > 0:
            add_backward_sums(sums[1], dz2[: rows * c], x2[here], table2, relu2)
    if table1.size > 0:
        finish_backward_sums(sums[0], table1)
    if table2.size > 0:
        finish_backward_sums(sums[1], table2)


@exact
def _normalise_add(y, x, shortcut, row, constants, eps, c, period):
    table = table_of(constants, eps, period, x)
    k, scale, shift = table[0], table[2], table[3]
    zero = y.dtype.type(0)
    block = max(1, _BLOCK // period) * period // c  # pixels
    spare, m = scratch(block * c, x), x.size // c
    for first in range(0, m, block):
        rows = min(block, m - first)
        there = _block(spare, shortcut, first, row, table[:, :0], False, rows, c)
        for start in range(0, rows * c, period):
            end = min(start + period, rows * c)
            a, s = x[first * c + start : first * c + end], there[start:end]
            b = y[first * c + start : first * c + end]
            for i in range(a.size):
                v = (a[i] - k[i]) * scale[i] + shift[i] + s[i]
                b[i] = zero if v <= zero else v  # a NaN stays one


@exact
def _gate_and_add(dz, sums, dy, row, y, x, constants, eps, c, period):
    table = table_of(constants, eps, period, x)
    zero = y.dtype.type(0)
    block = max(1, _BLOCK // period) * 4 * period // c  # pixels
    spare, m = scratch(block * c, x), x.size // c
    for first in range(0, m, block):
        rows = min(block, m - first)
        here = slice(first * c, (first + rows) * c)
        d = _block(spare, dy, first, row, table[:, :0], False, rows, c)
        a, b = y[here], dz[here]
        for i in range(a.size):
            b[i] = zero if a[i] <= zero else d[i]
        add_backward_sums(sums, b, x[here], table, False)
    finish_backward_sums(sums, table)
