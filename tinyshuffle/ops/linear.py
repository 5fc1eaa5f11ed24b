"""The fully connected layer.

    y[n, o] = b[o] + Σ_c x[n, c] · w[c, o]
    dx = dy · wᵀ,   dw = xᵀ · dy,   db = Σ_n dy
"""

from __future__ import annotations

import numpy as np

from .arguments import check_rows, fit
from .cost import Cost, size

__all__ = ["linear", "linear_backward", "linear_cost"]


def linear(x: np.ndarray, w: np.ndarray, b: np.ndarray | None = None) -> np.ndarray:
    """Multiply ``x`` (N, C) by ``w`` (C, O) and add ``b`` (O,)."""
    check_rows(x, w)
    y = x @ fit(w, w.shape, x.dtype)  # (N, O)
    return y if b is None else y + fit(b, w.shape[1:], x.dtype)


def linear_backward(
    dy: np.ndarray, x: np.ndarray, w: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return (dx, dw, db) of shapes (N, C), (C, O), (O,), given ``dy`` (N, O)."""
    check_rows(x, w)
    w, dy = fit(w, w.shape, x.dtype), fit(dy, (len(x), w.shape[1]), x.dtype)
    return dy @ w.T, x.T @ dy, dy.sum(axis=0)


def linear_cost(
    x: tuple[int, ...], w: tuple[int, ...], b: tuple[int, ...] | None = None
) -> Cost:
    """Cost: C·O multiply-adds an image, twice that backward."""
    y = (x[0], w[1])
    products = x[0] * size(w)
    params = size(w) + size(b)
    return Cost(
        output=y,
        params=params,
        multiply_adds=products,
        memory_access=size(x) + size(y) + params,
        backward_multiply_adds=2 * products,
        backward_memory_access=size(y) + 2 * size(x) + size(w) + params,
    )
