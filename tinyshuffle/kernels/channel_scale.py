"""One number for each channel of each image: see ``ops.channel_scale``."""

from __future__ import annotations

import numpy as np

from .. import memory
from ..ops.arguments import check_images
from ..ops.channel_scale import channel_scale_cost
from .jit import exact, flat

__all__ = ["channel_scale", "channel_scale_backward", "channel_scale_cost"]


def channel_scale(x: np.ndarray, s: np.ndarray) -> np.ndarray:
    """Scale ``x`` (N, H, W, C) by ``s`` (N, C)."""
    check_images(x)
    y = memory.empty(x.shape, x.dtype)
    sf = flat(s, x.dtype, (x.shape[0], x.shape[3]))
    _scale(y.reshape(-1), flat(x, x.dtype), sf, x.shape[3], x.shape[1] * x.shape[2])
    return y


def channel_scale_backward(
    dy: np.ndarray, x: np.ndarray, s: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Return (dx, ds); one pass over dy and x."""
    check_images(x)
    dx, ds = memory.empty(x.shape, x.dtype), np.zeros(s.shape, x.dtype)
    dyf, xf = flat(dy, x.dtype, x.shape), flat(x, x.dtype)
    sf = flat(s, x.dtype, (x.shape[0], x.shape[3]))
    pixels = x.shape[1] * x.shape[2]
    _scale_backward(dx.reshape(-1), ds.reshape(-1), dyf, xf, sf, x.shape[3], pixels)
    return dx, ds


@exact
def _scale(y, x, s, c, pixels):
    for image in range(s.size // c):
        factor = s[image * c : (image + 1) * c]
        for pixel in range(image * pixels, (image + 1) * pixels):
            a, b = x[pixel * c : (pixel + 1) * c], y[pixel * c : (pixel + 1) * c]
            for k in range(c):
                b[k] = a[k] * factor[k]


@exact
def _scale_backward(dx, ds, dy, x, s, c, pixels):
    # ds starts as zeros
    for image in range(s.size // c):
        factor, total = s[image * c : (image + 1) * c], ds[image * c : (image + 1) * c]
        for pixel in range(image * pixels, (image + 1) * pixels):
            a, d = x[pixel * c : (pixel + 1) * c], dy[pixel * c : (pixel + 1) * c]
            b = dx[pixel * c : (pixel + 1) * c]
            for k in range(c):
                b[k] = d[k] * factor[k]
                total[k] += d[k] * a[k]
