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
from .pixels import pixels
from .record import Work, fill, floats, record_at, run
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
    run(bias_work(y, b))


def bias_work(y: np.ndarray, b: np.ndarray) -> Work:
    """Add ``b`` (O,) to every pixel of ``y``, in place."""
    o = y.shape[-1]
    return fill(_add_bias, y.dtype, y=y, w=flat(b, y.dtype, (o,)), m=y.size // o, o=o)


def bias_gradient_work(db: np.ndarray, dy: np.ndarray) -> Work:
    """Write Σ dy over the pixels to ``db`` (O,)."""
    o, (dyf, dy_row) = dy.shape[-1], pixels(dy, dy.dtype)
    return fill(_bias_gradient, dy.dtype, dy=dyf, dy_row=dy_row, dw=db, m=dy.size // o, o=o)


@exact
def _add_bias(address, zero):
    r = record_at(address)
    y, b = floats(r.y, r.m * r.o, zero), floats(r.w, r.o, zero)
    for start in range(0, y.size, b.size):
        row = y[start : start + b.size]
        for i in range(b.size):
            row[i] += b[i]


@exact
def _bias_gradient(address, zero):
    r = record_at(address)
    dy, sums = floats(r.dy, (r.m - 1) * r.dy_row + r.o, zero), np.zeros(r.o)
    for pixel in range(r.m):
        row = dy[pixel * r.dy_row : pixel * r.dy_row + r.o]
        for i in range(r.o):
            sums[i] += row[i]
    out = floats(r.dw, r.o, zero)
    for i in range(r.o):
        out[i] = sums[i]
