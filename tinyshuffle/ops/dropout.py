"""Dropout (Srivastava et al. 2014), inverted: what is kept is scaled up, so evaluation is free.

    y = x · m,   m = 1 / (1 - p) with probability 1 - p, else 0
    dx = dy · m
"""

from __future__ import annotations

import numpy as np

from .cost import Cost, size

__all__ = ["dropout", "dropout_backward", "dropout_cost", "dropout_mask"]


def dropout_mask(
    rng: np.random.Generator, shape: tuple[int, ...], p: float, dtype: np.dtype
) -> np.ndarray:
    """Draw m: zeros with probability ``p``, else 1 / (1 - p)."""
    kept = rng.random(shape, np.float32) >= p
    return (kept / (1 - p)).astype(dtype)


def dropout(x: np.ndarray, mask: np.ndarray) -> np.ndarray:
    """Return x · m."""
    return x * mask


def dropout_backward(dy: np.ndarray, mask: np.ndarray) -> np.ndarray:
    """Return dx = dy · m."""
    return dy * mask


def dropout_cost(x: tuple[int, ...], mask: tuple[int, ...] | None = None) -> Cost:
    """Cost: nothing in evaluation; in training one product for each element."""
    return Cost(
        output=x,
        elementwise=size(mask),
        memory_access=3 * size(mask),
        backward_elementwise=size(mask),
        backward_memory_access=3 * size(mask),
    )
