"""The augmentation of small images: a crop that may stick out, mirrored, normalised and scaled.

    x = scale · pixel + offset                             channel by channel
    x ← x mirrored, where asked for                        x[i, j] ← x[i, W - 1 - j]
    z[i, j] = x[i + top, j + left],  0 outside the image   which is the mean, after normalising
    y[r, q] = Σ_ij A_H[r, i] z[i, j] A_W[q, j]             the mean over the area of a pixel

That is padding with the mean and cropping the padded image, without the padding. Row r of A_L has
the parts of a row of L pixels that lie in the r-th of ``size`` equal pieces of it, over the piece's
length; with ``size`` = L it is the identity.
"""

from __future__ import annotations

import functools

import numpy as np

from .. import blas
from ..errors import TinyshuffleError

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
    """Normalise, mirror and crop a batch, each image in its own way, and make it smaller.

    Parameters
    ----------
    images : uint8 (N, H, W, C)
    flip : bool (N,)
    top, left : int (N,)
        Where in the image the crop of its size begins; both may be negative.
    scale, offset : float32 (C,)
    size : int, optional
        Scale the crops to this side, at most H and W, by area; by default they stay as they are.

    Returns
    -------
    float32 (N, H, W, C) or (N, size, size, C)
    """
    check_crop(images, flip, top, left, scale, offset, size)
    n, h, w, _ = images.shape
    rows, columns = np.arange(h) + top[:, None], np.arange(w) + left[:, None]  # (N, H), (N, W)
    inside = ((rows >= 0) & (rows < h))[:, :, None] & ((columns >= 0) & (columns < w))[:, None]
    columns = np.where(flip[:, None], w - 1 - columns, columns)
    rows, columns = rows.clip(0, h - 1)[:, :, None], columns.clip(0, w - 1)[:, None]
    y = images[np.arange(n)[:, None, None], rows, columns] * scale + offset  # (N, H, W, C)
    y = np.where(inside[..., None], y, np.float32(0))
    return y if size is None else shrink(y, size)


def shrink(x: np.ndarray, size: int) -> np.ndarray:
    """Scale images down by area: a pixel of the result is the mean of those that it covers.

    Parameters
    ----------
    x : float32 (N, H, W, C)
    size : int
        At most H and W.

    Returns
    -------
    float32 (N, size, size, C)
        ``x`` itself if that is its size.

    >>> shrink(np.arange(4, dtype=np.float32).reshape(1, 2, 2, 1).repeat(3, 3), 1)[0, 0, 0]
    array([1.5, 1.5, 1.5], dtype=float32)
    """
    n, height, width, channels = x.shape
    if (height, width) == (size, size):
        return x
    check_size(height, width, size)
    columns = np.kron(area(width, size).T, np.eye(channels, dtype=np.float32))
    with blas.limit(1):  # or a thread still waits for work on a core that the step needs
        x = area(height, size) @ x.reshape(n, height, width * channels)  # (N, size, W·C)
        x = x.reshape(n * size, width * channels) @ columns  # (N·size, size·C)
    return x.reshape(n, size, size, channels)


@functools.cache
def area(length: int, size: int) -> np.ndarray:
    """Return the matrix that takes ``length`` pixels in a row to ``size``, (size, length)."""
    edges = np.linspace(0, length, size + 1)[:, None]
    covered = np.clip(edges - np.arange(length), 0, 1)  # of each pixel, left of each edge
    return np.asarray(np.diff(covered, axis=0) * (size / length), np.float32)


def check_size(height: int, width: int, size: int) -> None:
    """Raise unless images of these sides can be made smaller to ``size``."""
    if not 1 <= size <= min(height, width):
        raise TinyshuffleError(
            f"images of {height}x{width} cannot be scaled to {size} pixels a side: they are only "
            "made smaller"
        )


def check_crop(
    images: np.ndarray,
    flip: np.ndarray,
    top: np.ndarray,
    left: np.ndarray,
    scale: np.ndarray,
    offset: np.ndarray,
    size: int | None,
) -> None:
    """Raise unless ``images`` are uint8 (N, H, W, C), and there is one of each for all of them."""
    if images.dtype != np.uint8 or images.ndim != 4:
        raise TinyshuffleError(
            f"images of {images.dtype} numbers and shape {images.shape} cannot be cropped; "
            "give uint8 pixels (N, H, W, C)"
        )
    n, h, w, c = images.shape
    for name, array, length in (
        ("flip", flip, n), ("top", top, n), ("left", left, n), ("scale", scale, c),
        ("offset", offset, c),
    ):  # fmt: skip
        if array.shape != (length,):
            raise TinyshuffleError(
                f"{name} has shape {array.shape}, and {images.shape[0]} images of {c} channels "
                f"need ({length},)"
            )
    if size is not None:
        check_size(h, w, size)
