"""Tensors whose pixels lie at equal distances: a whole tensor, or some channels of one."""

from __future__ import annotations

import numpy as np

from .jit import flat

__all__ = ["pixels"]


def pixels(
    x: np.ndarray, dtype: np.dtype, shape: tuple[int, ...] | None = None
) -> tuple[np.ndarray, int]:
    """Return ``x`` (…, C) as a flat array, and how far apart its pixels start in it.

    The flat array is a view if that is possible: of a whole tensor, C apart, or of a slice of the
    channels of a wider one, as a channel split makes it. Raises what ``flat`` raises.
    """
    other = shape is not None and x.shape != shape
    if other or x.flags.c_contiguous or x.dtype != dtype or not x.flags.writeable:
        return flat(x, dtype, shape), x.shape[-1]
    size, row = x.itemsize, x.strides[-2] if x.ndim > 1 else 0
    step = row
    for length, stride in zip(x.shape[-2::-1], x.strides[-2::-1], strict=True):
        if stride != step:
            return flat(x, dtype), x.shape[-1]
        step *= length
    if x.strides[-1] != size or row % size or row < x.shape[-1] * size or x.size == 0:
        return flat(x, dtype), x.shape[-1]
    count = (x.size // x.shape[-1] - 1) * (row // size) + x.shape[-1]
    return np.lib.stride_tricks.as_strided(x, (count,), (size,)), row // size
