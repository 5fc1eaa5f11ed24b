"""One number for each channel of each image: see ``ops.channel_scale``."""

from __future__ import annotations

import numpy as np

from .. import memory
from ..ops.arguments import check_images
from ..ops.channel_scale import channel_scale_cost
from .jit import exact, flat
from .record import Work, fill, floats, record_at

__all__ = [
    "channel_scale",
    "channel_scale_backward",
    "channel_scale_backward_work",
    "channel_scale_cost",
    "channel_scale_work",
]


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


def channel_scale_work(y: np.ndarray, x: np.ndarray, s: np.ndarray) -> Work:
    """Write what :func:`channel_scale` returns to ``y``."""
    (n, h, w, c), dtype = x.shape, x.dtype
    return fill(_scale_row, dtype, x=flat(x, dtype), w=flat(s, dtype), y=y, n=n, m=h * w, c=c)


def channel_scale_backward_work(
    dx: np.ndarray, ds: np.ndarray, dy: np.ndarray, x: np.ndarray, s: np.ndarray
) -> Work:
    """Write what :func:`channel_scale_backward` returns to ``dx`` and ``ds``."""
    (n, h, w, c), dtype = x.shape, x.dtype
    return fill(
        _scale_backward_row, dtype, x=flat(x, dtype), dy=flat(dy, dtype), w=flat(s, dtype), dx=dx,
        dw=ds, n=n, m=h * w, c=c,
    )  # fmt: skip


@exact
def _scale_row(address, zero):
    r = record_at(address)
    size = r.n * r.m * r.c
    x, y, s = floats(r.x, size, zero), floats(r.y, size, zero), floats(r.w, r.n * r.c, zero)
    _scale(y, x, s, r.c, r.m)


@exact
def _scale_backward_row(address, zero):
    r = record_at(address)
    size = r.n * r.m * r.c
    x, dy, dx = floats(r.x, size, zero), floats(r.dy, size, zero), floats(r.dx, size, zero)
    s, ds = floats(r.w, r.n * r.c, zero), floats(r.dw, r.n * r.c, zero)
    ds[:] = 0
    _scale_backward(dx, ds, dy, x, s, r.c, r.m)
