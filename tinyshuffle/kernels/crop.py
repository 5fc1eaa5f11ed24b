"""Normalise, mirror, crop and scale a batch in one pass: see ``ops.crop`` for the equations."""

from __future__ import annotations

import functools

import numpy as np

from ..ops.crop import area, check_crop
from .jit import exact

__all__ = ["crop"]


def crop(
    images: np.ndarray,
    flip: np.ndarray,
    top: np.ndarray,
    left: np.ndarray,
    scale: np.ndarray,
    offset: np.ndarray,
    size: int | None = None,
) -> np.ndarray:
    """Return a float32 batch; see ``ops.crop``."""
    check_crop(images, flip, top, left, scale, offset, size)
    n, h, w, c = images.shape
    height, width = (h, w) if size is None else (size, size)
    rows, row_shares = _covered(h, height)
    numbers, shares = _numbers(w, width, c)
    y = np.empty((n, height, width, c), np.float32)
    of_row = np.tile(scale, w), np.tile(offset, w)  # a row of pixels as one run of numbers
    images = np.ascontiguousarray(images)
    _crop(y, images, flip, top, left, *of_row, rows, row_shares, numbers, shares)
    return y


@functools.cache
def _covered(length: int, size: int) -> tuple[np.ndarray, np.ndarray]:
    """Which of the pixels in a row each pixel of a smaller row covers, and with which share.

    Both are (most, size). Pixels with a share of 0 fill up what covers fewer than others.
    """
    shares = area(length, size)
    most = int((shares > 0).sum(1).max())
    pixel = np.minimum((shares > 0).argmax(1), length - most) + np.arange(most)[:, None]
    return pixel, np.take_along_axis(shares, pixel.T, 1).T


@functools.cache
def _numbers(length: int, size: int, channels: int) -> tuple[np.ndarray, np.ndarray]:
    """The same of rows of numbers, as seen from their first pixel, and mirrored from their last.

    Returns
    -------
    numbers : unsigned (2, most, size * channels)
        Places, modulo 2**64: signed ones might count from an end, and each would be looked at.
    shares : float32 (most, size * channels)
    """
    pixel, shares = _covered(length, size)
    places = np.stack([pixel, -pixel])[..., None] * channels + np.arange(channels)
    return places.reshape(2, len(pixel), -1).astype(np.uintp), shares.repeat(channels, 1)


@exact
def _crop(y, images, flip, top, left, scale, offset, rows, row_shares, numbers, shares):
    n, h, w, c = images.shape
    width, count = w * c, numbers.shape[2]
    line = np.zeros(3 * width, np.float32)  # a row of pixels, and as much padding on both sides
    middle = line[width : 2 * width]
    for i in range(n):
        moved = max(-w, min(w, left[i]))
        start = np.uintp((2 * w - 1 - moved if flip[i] else w + moved) * c)
        kind = int(flip[i])
        for r in range(rows.shape[1]):
            middle[:] = 0  # the mean of the rows
            for t in range(len(rows)):
                share, row = row_shares[t, r], np.int64(rows[t, r]) + top[i]
                if share > 0 and row >= 0 and row < h:
                    pixels = images[i, row].reshape(width)
                    for j in range(width):
                        middle[j] += share * (np.float32(pixels[j]) * scale[j] + offset[j])
            result = y[i, r].reshape(count)
            for j in range(count):
                total = shares[0, j] * line[start + numbers[kind, 0, j]]
                for t in range(1, len(shares)):
                    total += shares[t, j] * line[start + numbers[kind, t, j]]
                result[j] = total
