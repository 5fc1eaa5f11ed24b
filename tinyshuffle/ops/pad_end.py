"""Extra rows below and columns at the right, for pools that round their output size up.

    y[n, h, w, c] = x[n, h, w, c] inside, a constant outside

With "ceil mode" (Caffe's only mode; GoogLeNet and SqueezeNet are built on it) a pool's last window
may hang over the border: Ho = ⌈(H + 2·pad - K) / stride⌉ + 1. That is the ordinary pool of an
image which is larger by what hangs over, filled with what never wins.
"""

from __future__ import annotations

import numpy as np

from .arguments import check_images, integer
from .cost import Cost, size

__all__ = ["pad_end", "pad_end_backward", "pad_end_cost"]


def pad_end(x: np.ndarray, bottom: int, right: int, value: float = 0.0) -> np.ndarray:
    """Add ``bottom`` rows and ``right`` columns of ``value`` to ``x`` (N, H, W, C)."""
    check_images(x)
    integer(bottom, "bottom", 0), integer(right, "right", 0)
    return np.pad(x, ((0, 0), (0, bottom), (0, right), (0, 0)), constant_values=value)


def pad_end_backward(dy: np.ndarray, bottom: int, right: int) -> np.ndarray:
    """Return dx (N, H, W, C): ``dy`` without what was added."""
    return dy[:, : dy.shape[1] - bottom, : dy.shape[2] - right].copy()


def pad_end_cost(x: tuple[int, ...], bottom: int, right: int, value: float = 0.0) -> Cost:
    """Cost: a copy, each way."""
    y = (x[0], x[1] + bottom, x[2] + right, x[3])
    moved = size(x) + size(y)
    return Cost(output=y, memory_access=moved, backward_memory_access=moved)
