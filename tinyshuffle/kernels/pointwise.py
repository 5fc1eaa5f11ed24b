"""Pointwise convolution: see ``ops.pointwise`` for the mathematics.

Products are BLAS's, reached through NumPy, on views and straight into their place. With several
groups a group's columns lie scattered over the rows, so the rows are taken in blocks that stay in
the core's cache while one group after the other picks its columns from them.
"""

from __future__ import annotations

import numpy as np

from .. import memory
from ..ops.arguments import check_channels, fit
from ..ops.pointwise import pointwise_conv2d_cost
from ..values import flags
from .jit import exact, flat
from .sums import sum_pixels

__all__ = ["pointwise_conv2d", "pointwise_conv2d_backward", "pointwise_conv2d_cost"]

_BLOCK = 2**17  # numbers of a block of rows, of both factors: 512 KB in float32


def pointwise_conv2d(
    x: np.ndarray, w: np.ndarray, b: np.ndarray | None = None, groups: int = 1
) -> np.ndarray:
    """Convolve with a 1x1 kernel, stride 1; see ``ops.pointwise_conv2d``."""
    check_channels(x, w, groups)
    w, o = w.astype(x.dtype, copy=False), w.shape[3]
    y = memory.empty((*x.shape[:3], o), x.dtype)
    product(by_group(x, groups), weights_by_group(w, groups), by_group(y, groups))
    if b is not None:
        add_bias(y, b)
    return y


@flags
def pointwise_conv2d_backward(
    dy: np.ndarray, x: np.ndarray, w: np.ndarray, groups: int = 1, bias: bool = True
) -> tuple[np.ndarray, np.ndarray, np.ndarray | None]:
    """Return (dx, dw, db); see ``ops.pointwise_conv2d_backward``."""
    check_channels(x, w, groups)
    w, dy = w.astype(x.dtype, copy=False), fit(dy, (*x.shape[:3], w.shape[3]), x.dtype)
    dx, dw = memory.empty(x.shape, x.dtype), memory.empty(w.shape, w.dtype)
    dyg = by_group(dy, groups)  # (G, M, Og)
    product(dyg, weights_by_group(w, groups).transpose(0, 2, 1), by_group(dx, groups))
    weight_gradient(by_group(x, groups), dyg, weights_by_group(dw, groups))
    return dx, dw, sum_pixels(dy).astype(dy.dtype) if bias else None


def by_group(x: np.ndarray, groups: int) -> np.ndarray:
    """(…, C) as (G, M, Cg): a view, if the pixels of ``x`` lie at equal distances."""
    x = x.reshape(-1, groups, x.shape[-1] // groups)  # (M, G, Cg)
    return x.transpose(1, 0, 2)  # (G, M, Cg)


def weights_by_group(w: np.ndarray, groups: int) -> np.ndarray:
    """(Kh, Kw, Cg, O) as (G, Kh·Kw·Cg, Og), a view."""
    return w.reshape(-1, groups, w.shape[-1] // groups).transpose(1, 0, 2)


def product(a: np.ndarray, b: np.ndarray, out: np.ndarray) -> None:
    """Multiply (G, M, K) by (G, K, N) into ``out`` (G, M, N)."""
    groups, m, k = a.shape
    rows = _rows(a, b)
    for i in range(0, m, rows):
        np.matmul(a[:, i : i + rows], b, out=out[:, i : i + rows])


def weight_gradient(x: np.ndarray, dy: np.ndarray, out: np.ndarray) -> None:
    """Multiply (G, M, Cg) transposed by (G, M, Og) into ``out`` (G, Cg, Og)."""
    m, rows = x.shape[1], _rows(x, dy)
    xt = x.transpose(0, 2, 1)  # (G, Cg, M)
    np.matmul(xt[:, :, :rows], dy[:, :rows], out=out)
    for i in range(rows, m, rows):
        out += xt[:, :, i : i + rows] @ dy[:, i : i + rows]


def _rows(a: np.ndarray, b: np.ndarray) -> int:
    """How many rows to multiply at a time."""
    groups, m, k = a.shape
    return m if groups == 1 else max(64, _BLOCK // (groups * (k + b.shape[2])))


def add_bias(y: np.ndarray, b: np.ndarray) -> None:
    """Add ``b`` (O,) to every pixel of ``y``, in place."""
    _add_bias(y.reshape(-1), flat(b, y.dtype, (y.shape[-1],)))


@exact
def _add_bias(y, b):
    for start in range(0, y.size, b.size):
        row = y[start : start + b.size]
        for i in range(b.size):
            row[i] += b[i]
