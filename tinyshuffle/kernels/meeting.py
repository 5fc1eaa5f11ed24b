"""Where two branches meet, in one pass: see ``ops.meeting`` for the mathematics."""

from __future__ import annotations

import numpy as np

from .. import memory
from ..ops.meeting import overwrite_channels
from .batch_norm import add_backward_sums, constants_of, finish_backward_sums, table_of
from .branches import concat
from .channel_shuffle import channel_shuffle, channel_shuffle_backward
from .jit import exact, flat
from .norm_conv import Norm
from .pixels import pixels
from .sums import period_of

__all__ = [
    "concat_shuffle",
    "concat_shuffle_backward",
    "norm_add_relu",
    "norm_add_relu_backward",
    "overwrite_channels",
]

_BLOCK = 2**12  # numbers that stay in the first-level cache between two kernels


def concat_shuffle(x1: np.ndarray, x2: np.ndarray) -> np.ndarray:
    """Return two tensors side by side, shuffled; see ``ops.concat_shuffle``."""
    if x1.shape != x2.shape or x1.dtype != x2.dtype:
        return channel_shuffle(concat([x1, x2]), 2)
    (n, h, w, c), dtype = x1.shape, x1.dtype
    y = memory.empty((n, h, w, 2 * c), dtype)
    (a, a_row), (b, b_row) = pixels(x1, dtype), pixels(x2, dtype)
    _alternate(y.reshape(-1), a, a_row, b, b_row, n * h * w, c)
    return y


def concat_shuffle_backward(dy: np.ndarray) -> np.ndarray:
    """Return both gradients side by side; see ``ops.concat_shuffle_backward``."""
    return channel_shuffle_backward(dy, 2)


def norm_add_relu(x: np.ndarray, norm: Norm, shortcut: np.ndarray) -> np.ndarray:
    """Normalise, add and rectify; see ``ops.norm_add_relu``."""
    y = memory.empty(x.shape, x.dtype)
    s = flat(shortcut, x.dtype, x.shape)
    constants, period = constants_of(x, *norm[:4]), period_of(x.shape[-1])
    _normalise_add(y.reshape(-1), flat(x, x.dtype), s, constants, norm.eps, period)
    return y


def norm_add_relu_backward(
    dy: np.ndarray, y: np.ndarray, x: np.ndarray, norm: Norm
) -> tuple[np.ndarray, np.ndarray]:
    """Return dz, and dβ and dγ; see ``ops.norm_add_relu_backward``."""
    dz, c = memory.empty(y.shape, y.dtype), y.shape[-1]
    dyf, yf, xf = flat(dy, y.dtype, y.shape), flat(y, y.dtype), flat(x, y.dtype, y.shape)
    sums, constants, period = np.zeros((2, c)), constants_of(x, *norm[:4]), period_of(c)
    _gate_and_add(dz.reshape(-1), sums, dyf, yf, xf, constants, norm.eps, period)
    return dz, sums


@exact
def _alternate(y, x1, row1, x2, row2, m, c):
    for r in range(m):
        a, b = x1[r * row1 : r * row1 + c], x2[r * row2 : r * row2 + c]
        pairs = y[2 * r * c : 2 * (r + 1) * c]
        for j in range(c):
            pairs[2 * j] = a[j]
            pairs[2 * j + 1] = b[j]


@exact
def _normalise_add(y, x, shortcut, constants, eps, period):
    table = table_of(constants, eps, period, x)
    mu, scale, shift = table[0], table[2], table[3]
    zero = y.dtype.type(0)
    for start in range(0, x.size, period):
        a, s = x[start : start + period], shortcut[start : start + period]
        b = y[start : start + period]
        for i in range(a.size):
            v = (a[i] - mu[i]) * scale[i] + shift[i] + s[i]
            b[i] = zero if v <= zero else v  # a NaN stays one


@exact
def _gate_and_add(dz, sums, dy, y, x, constants, eps, period):
    table = table_of(constants, eps, period, x)
    block = max(1, _BLOCK // period) * 4 * period
    zero = y.dtype.type(0)
    for start in range(0, y.size, block):
        end = min(start + block, y.size)
        a, d, b = y[start:end], dy[start:end], dz[start:end]
        for i in range(a.size):
            b[i] = d[i] if a[i] > zero else zero
        add_backward_sums(sums, b, x[start:end], table, False)
    finish_backward_sums(sums, table)
