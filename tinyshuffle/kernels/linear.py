"""The fully connected layer: see ``ops.linear``. NumPy's products, into memory that is reused."""

from __future__ import annotations

import numpy as np

from .. import memory
from ..ops.arguments import check_rows, fit
from ..ops.linear import linear_cost
from .jit import flat, fused
from .record import Work, fill, floats, record_at

__all__ = ["linear", "linear_backward", "linear_cost", "one_row_work"]


def linear(x: np.ndarray, w: np.ndarray, b: np.ndarray | None = None) -> np.ndarray:
    """Multiply ``x`` (N, C) by ``w`` (C, O) and add ``b`` (O,)."""
    check_rows(x, w)
    w = w.astype(x.dtype, copy=False)
    y = np.matmul(x, w, out=memory.empty((x.shape[0], w.shape[1]), x.dtype))
    if b is not None:
        y += fit(b, w.shape[1:], x.dtype)
    return y


def linear_backward(
    dy: np.ndarray, x: np.ndarray, w: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return (dx, dw, db); see ``ops.linear_backward``."""
    check_rows(x, w)
    w, dy = w.astype(x.dtype, copy=False), fit(dy, (len(x), w.shape[1]), x.dtype)
    dx = np.matmul(dy, w.T, out=memory.empty(x.shape, x.dtype))
    dw = np.matmul(x.T, dy, out=memory.empty(w.shape, w.dtype))
    return dx, dw, dy.sum(axis=0)


def one_row_work(y: np.ndarray, x: np.ndarray, w: np.ndarray) -> Work:
    """Write x · w, of a single row x (1, C), to ``y`` (1, O)."""
    (c, o), dtype = w.shape, x.dtype
    return fill(_one_row, dtype, x=flat(x, dtype), w=flat(w, dtype), w_row=o, y=y, c=c, o=o)


@fused
def _one_row(address, zero):
    """The weights are read where they lie, once: with one row nothing else takes time."""
    r = record_at(address)
    c, o, w_row = r.c, r.o, r.w_row
    x, y = floats(r.x, c, zero), floats(r.y, o, zero)
    w = floats(r.w, (c - 1) * w_row + o, zero)
    for j in range(o):
        y[j] = 0
    whole = c - c % 4
    for i in range(0, whole, 4):  # four rows of weights for each time that y is read and written
        a, b, d, e = x[i], x[i + 1], x[i + 2], x[i + 3]
        wa, wb = w[i * w_row :][:o], w[(i + 1) * w_row :][:o]
        wd, we = w[(i + 2) * w_row :][:o], w[(i + 3) * w_row :][:o]
        for j in range(o):
            y[j] = (((y[j] + a * wa[j]) + b * wb[j]) + d * wd[j]) + e * we[j]
    for i in range(whole, c):
        a, wa = x[i], w[i * w_row :][:o]
        for j in range(o):
            y[j] += a * wa[j]
