"""Smooth L1: squared while it is small, so that it has a gradient at 0; then straight.

    ℓ(d) = d² / (2β)  if |d| < β,  else |d| - β / 2         d = x - target
    dx = dy · d / β   if |d| < β,  else dy · sign(d)

Girshick 2015, "Fast R-CNN", equation 3, with β = 1; β = 1/9 in Faster R-CNN's released code. The
gradient is continuous, so there is no kink, unless β = 0, which is |d|, and has one at 0.
"""

from __future__ import annotations

import numpy as np

from .arguments import check_real, fit, number
from .cost import Cost, size

__all__ = ["smooth_l1", "smooth_l1_backward", "smooth_l1_cost"]


def smooth_l1(x: np.ndarray, target: np.ndarray, beta: float = 1.0) -> np.ndarray:
    """Return the loss of each number of ``x``, any shape.

    >>> smooth_l1(np.array([0.5, 3.0]), np.zeros(2))
    array([0.125, 2.5  ])
    """
    beta, d = _check(x, target, beta)
    near = d * d * x.dtype.type(0.5 / beta if beta else 0)
    return np.where(abs(d) < beta, near, abs(d) - x.dtype.type(beta / 2))


def smooth_l1_backward(
    dy: np.ndarray, x: np.ndarray, target: np.ndarray, beta: float = 1.0
) -> np.ndarray:
    """Return dx, given ``dy`` of the shape of ``x``."""
    beta, d = _check(x, target, beta)
    near = d * x.dtype.type(1 / beta if beta else 0)
    return fit(dy, x.shape, x.dtype) * np.where(abs(d) < beta, near, np.sign(d))


def smooth_l1_cost(x: tuple[int, ...], target: tuple[int, ...], beta: float = 1.0) -> Cost:
    """Cost: a few operations a number."""
    return Cost(
        output=x,
        elementwise=4 * size(x),
        memory_access=3 * size(x),
        backward_elementwise=4 * size(x),
        backward_memory_access=4 * size(x),
    )


def _check(x: np.ndarray, target: np.ndarray, beta: float) -> tuple[float, np.ndarray]:
    check_real(x)
    beta = number(beta, "beta", lambda b: 0 <= b < np.inf, "a finite number, 0 or more")
    return beta, x - fit(target, x.shape, x.dtype)
