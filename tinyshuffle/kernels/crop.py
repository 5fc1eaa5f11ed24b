"""Normalise, mirror and crop in one pass over a batch: see ``ops.crop`` for the equations."""

from __future__ import annotations

import numpy as np

from ..ops.crop import check_crop
from .jit import exact

__all__ = ["crop"]


def crop(
    images: np.ndarray,
    flip: np.ndarray,
    top: np.ndarray,
    left: np.ndarray,
    scale: np.ndarray,
    offset: np.ndarray,
) -> np.ndarray:
    """Return a float32 batch; see ``ops.crop``."""
    check_crop(images, flip, top, left, scale, offset)
    y = np.empty(images.shape, np.float32)
    _crop(y, images, flip, top, left, scale, offset)
    return y


@exact
def _crop(y, images, flip, top, left, scale, offset):
    n, h, w, c = y.shape
    for i in range(n):
        for r in range(h):
            row = r + top[i]
            for k in range(w):
                column = k + left[i]
                pixel = y[i, r, k]
                if row < 0 or row >= h or column < 0 or column >= w:
                    pixel[:] = 0
                else:
                    if flip[i]:
                        column = w - 1 - column
                    for j in range(c):
                        number = np.float32(images[i, row, column, j])
                        pixel[j] = number * scale[j] + offset[j]
