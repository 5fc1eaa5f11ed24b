"""The fully connected layer: see ``ops.linear``. NumPy's products, into memory that is reused."""

from __future__ import annotations

import numpy as np

from .. import memory
from ..ops.arguments import check_rows, fit
from ..ops.linear import linear_cost

__all__ = ["linear", "linear_backward", "linear_cost"]


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
