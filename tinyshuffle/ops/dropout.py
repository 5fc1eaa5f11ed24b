"""Dropout (Srivastava et al. 2014), inverted: what is kept is scaled up, so evaluation is free.

    y = x · m,   m = 1 / (1 - p) with probability 1 - p, else 0
    dx = dy · m
"""

from __future__ import annotations

import numpy as np

from .arguments import check_real, check_type, fit, number
from .cost import Cost, size

__all__ = ["dropout", "dropout_backward", "dropout_cost", "dropout_mask"]


def dropout_mask(
    rng: np.random.Generator, shape: tuple[int, ...], p: float, dtype: np.dtype
) -> np.ndarray:
    """Draw m: zeros with probability ``p``, else 1 / (1 - p)."""
    p = number(p, "dropout p", lambda p: 0 <= p < 1, "0 <= p < 1")
    check_type(np.dtype(dtype))
    kept = rng.random(shape, np.float32) >= p
    return (kept / (1 - p)).astype(dtype)


def dropout(x: np.ndarray, mask: np.ndarray) -> np.ndarray:
    """Return x · m."""
    check_real(x)
    return x * fit(mask, x.shape, x.dtype)


def dropout_backward(dy: np.ndarray, mask: np.ndarray) -> np.ndarray:
    """Return dx = dy · m."""
    return fit(dy, mask.shape, mask.dtype) * mask


def dropout_cost(x: tuple[int, ...], mask: tuple[int, ...] | None = None) -> Cost:
    """Cost: nothing in evaluation; in training one product for each element."""
    return Cost(
        output=x,
        elementwise=size(mask),
        memory_access=3 * size(mask),
        backward_elementwise=size(mask),
        backward_memory_access=3 * size(mask),
    )
