"""The augmentation of small images: a crop that may stick out, a mirror image, and normalised.

    x = scale · pixel + offset                             channel by channel
    x ← x mirrored, where asked for                        x[i, j] ← x[i, W - 1 - j]
    y[i, j] = x[i + top, j + left],  0 outside the image   which is the mean, after normalising

That is padding with the mean and cropping the padded image, without the padding.
"""

from __future__ import annotations

import numpy as np

from ..errors import TinyshuffleError

__all__ = ["crop"]


def crop(
    images: np.ndarray,
    flip: np.ndarray,
    top: np.ndarray,
    left: np.ndarray,
    scale: np.ndarray,
    offset: np.ndarray,
) -> np.ndarray:
    """Normalise, mirror and crop a batch, each image in its own way.

    Parameters
    ----------
    images : uint8 (N, H, W, C)
    flip : bool (N,)
    top, left : int (N,)
        Where in the image the crop of its size begins; both may be negative.
    scale, offset : float32 (C,)

    Returns
    -------
    float32 (N, H, W, C)
    """
    check_crop(images, flip, top, left, scale, offset)
    n, h, w, _ = images.shape
    rows, columns = np.arange(h) + top[:, None], np.arange(w) + left[:, None]  # (N, H), (N, W)
    inside = ((rows >= 0) & (rows < h))[:, :, None] & ((columns >= 0) & (columns < w))[:, None]
    columns = np.where(flip[:, None], w - 1 - columns, columns)
    rows, columns = rows.clip(0, h - 1)[:, :, None], columns.clip(0, w - 1)[:, None]
    y = images[np.arange(n)[:, None, None], rows, columns] * scale + offset  # (N, H, W, C)
    return np.where(inside[..., None], y, np.float32(0))


def check_crop(
    images: np.ndarray,
    flip: np.ndarray,
    top: np.ndarray,
    left: np.ndarray,
    scale: np.ndarray,
    offset: np.ndarray,
) -> None:
    """Raise unless ``images`` are uint8 (N, H, W, C), and there is one of each for all of them."""
    if images.dtype != np.uint8 or images.ndim != 4:
        raise TinyshuffleError(
            f"images of {images.dtype} numbers and shape {images.shape} cannot be cropped; "
            "give uint8 pixels (N, H, W, C)"
        )
    n, c = images.shape[0], images.shape[3]
    for name, array, length in (
        ("flip", flip, n), ("top", top, n), ("left", left, n), ("scale", scale, c),
        ("offset", offset, c),
    ):  # fmt: skip
        if array.shape != (length,):
            raise TinyshuffleError(
                f"{name} has shape {array.shape}, and {images.shape[0]} images of {c} channels "
                f"need ({length},)"
            )
