"""Project "kernel": a depthwise convolution, at least twice as fast as this one.

    python -m tinyshuffle course score kernel FOLDER
"""

from __future__ import annotations

import numba
import numpy as np


@numba.njit
def depthwise(x, w):
    """3x3, stride 1, padding 1: x (N, H, W, C) and w (3, 3, C) float32, result (N, H, W, C)."""
    n, h, v, c = x.shape
    y = np.zeros((n, h, v, c), np.float32)
    for image in range(n):
        for k in range(c):
            for p in range(h):
                for q in range(v):
                    for i in range(3):
                        for j in range(3):
                            a, b = p + i - 1, q + j - 1
                            if 0 <= a < h and 0 <= b < v:
                                y[image, p, q, k] += x[image, a, b, k] * w[i, j, k]
    return y
