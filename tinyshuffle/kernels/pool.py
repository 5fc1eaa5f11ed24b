"""Pooling: see ``ops.pool`` for the mathematics.

Average pooling is a depthwise convolution whose weights are all 1 / K, and uses its kernels.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from .. import memory
from ..ops.arguments import check_images, fit
from ..ops.pool import (
    _divisor,
    _pool_size,
    avg_pool2d_cost,
    global_avg_pool_cost,
    max_pool2d_cost,
    winner_type,
)
from ..ops.windows import IntPair, pair, taps
from ..values import flags
from .depthwise import depthwise_conv2d, special_stride
from .jit import LANES, exact, flat, load, spread, store, store_bytes, where_greater
from .norm_depthwise import depthwise, depthwise_any
from .record import WINDOW, Work, fill, floats, record_at
from .sums import period_of

__all__ = [
    "avg_pool2d",
    "avg_pool2d_backward",
    "avg_pool2d_backward_work",
    "avg_pool2d_cost",
    "avg_pool2d_work",
    "global_avg_pool",
    "global_avg_pool_backward",
    "global_avg_pool_backward_work",
    "global_avg_pool_cost",
    "global_avg_pool_work",
    "max_pool2d",
    "max_pool2d_backward",
    "max_pool2d_backward_work",
    "max_pool2d_cost",
    "max_pool2d_work",
]


def max_pool2d(
    x: np.ndarray, kernel_size: IntPair, stride: IntPair, padding: IntPair = 0
) -> tuple[np.ndarray, np.ndarray]:
    """Return the largest value of each window and its tap; see ``ops.max_pool2d``."""
    check_images(x)
    ho, wo = _pool_size(x.shape, kernel_size, stride, padding)
    y = memory.empty((x.shape[0], ho, wo, x.shape[3]), x.dtype)
    winner = memory.empty(y.shape, np.dtype(winner_type(kernel_size)))
    xf, window = flat(x, x.dtype), (*pair(kernel_size), *pair(stride), *pair(padding))
    if x.shape[3] < LANES or winner.dtype != np.uint8:  # vectors of winners hold bytes
        _max_narrow(y, winner, xf.reshape(x.shape), *window)
    else:
        numbers = np.append(np.arange(window[0] * window[1]), -np.inf).astype(x.dtype)
        yf, wf = y.reshape(-1), winner.reshape(-1)
        _max(yf, wf, xf, numbers, *x.shape, ho, wo, *window, 0, ho)
    return y, winner


def max_pool2d_backward(
    dy: np.ndarray,
    winner: np.ndarray,
    x_shape: tuple[int, ...],
    kernel_size: IntPair,
    stride: IntPair,
    padding: IntPair = 0,
) -> np.ndarray:
    """Return dx: each dy goes to the winner of its window."""
    out = _pool_size(x_shape, kernel_size, stride, padding)
    dy4 = flat(dy, dy.dtype, (x_shape[0], *out, x_shape[3])).reshape(dy.shape)
    dx = memory.zeros(x_shape, dy.dtype)
    winner = np.ascontiguousarray(winner).reshape(dy.shape)
    table = np.array(list(taps(kernel_size)))  # (Kh·Kw, 2)
    _max_backward(dx, dy4, winner, table, *pair(stride), *pair(padding))
    return dx


@flags
def avg_pool2d(
    x: np.ndarray,
    kernel_size: IntPair,
    stride: IntPair,
    padding: IntPair = 0,
    count_include_pad: bool = True,
) -> np.ndarray:
    """Return the mean of each window; see ``ops.avg_pool2d``."""
    check_images(x)
    out = _pool_size(x.shape, kernel_size, stride, padding)
    kh, kw = pair(kernel_size)
    weights = np.full((kh, kw, x.shape[3]), 1 / (kh * kw), x.dtype)
    y = depthwise_conv2d(x, weights, None, stride, padding)
    if not count_include_pad:
        pixels = _divisor(x.shape, out, kernel_size, stride, padding, False, x.dtype)
        y *= kh * kw / pixels
    return y


@flags
def avg_pool2d_backward(
    dy: np.ndarray,
    x_shape: tuple[int, ...],
    kernel_size: IntPair,
    stride: IntPair,
    padding: IntPair = 0,
    count_include_pad: bool = True,
) -> np.ndarray:
    """Return dx: every tap gets an equal share of its window's dy."""
    out = _pool_size(x_shape, kernel_size, stride, padding)
    share = _shares(dy.dtype, x_shape, kernel_size, stride, padding, count_include_pad)
    dy4 = flat(dy, dy.dtype, (x_shape[0], *out, x_shape[3])).reshape(dy.shape)
    dx = memory.zeros(x_shape, dy.dtype)
    _avg_backward(dx, dy4, share, *pair(kernel_size), *pair(stride), *pair(padding))
    return dx


def _shares(
    dtype: np.dtype, x_shape: tuple[int, ...], kernel_size: IntPair, stride: IntPair,
    padding: IntPair, count_include_pad: bool,
) -> np.ndarray:  # fmt: skip
    """Which share of each window's dy one of its taps gets, (Ho, Wo)."""
    out = _pool_size(x_shape, kernel_size, stride, padding)
    divisor = _divisor(x_shape, out, kernel_size, stride, padding, count_include_pad, dtype)
    return np.array(np.broadcast_to(1 / divisor[0, :, :, 0], out), dtype)


def global_avg_pool(x: np.ndarray) -> np.ndarray:
    """Return the mean of each channel of each image: (N, H, W, C) -> (N, C)."""
    check_images(x)
    y = np.zeros((x.shape[0], x.shape[3]), x.dtype)
    _global(y.reshape(-1), flat(x, x.dtype), x.shape[3], x.shape[1] * x.shape[2])
    return y


def global_avg_pool_backward(dy: np.ndarray, x_shape: tuple[int, ...]) -> np.ndarray:
    """Return dx, given ``dy`` (N, C): dy / (H·W) at every pixel."""
    dy = fit(dy, (x_shape[0], x_shape[3]))
    dx = memory.empty(x_shape, dy.dtype)
    dx[...] = (dy / (x_shape[1] * x_shape[2]))[:, None, None, :]
    return dx


@exact
def _max(
    y, winner, x, numbers, n_images, height, width, c, ho, wo, kh, kw, sh, sw, ph, pw, first, last
):  # fmt: skip
    # numbers: those of the taps, and -inf; the rows `first` to `last` come out
    for n in range(n_images):
        for p in range(first, last):
            i0, i1 = max(0, ph - p * sh), min(kh, height + ph - p * sh)
            for q in range(wo):
                j0, j1 = max(0, pw - q * sw), min(kw, width + pw - q * sw)
                corner = ((n * height + p * sh - ph) * width + q * sw - pw) * c
                to = ((n * ho + p) * wo + q) * c
                for start in range(0, c, LANES):
                    c0 = min(start, c - LANES)
                    best, tap = spread(numbers, kh * kw), spread(numbers, i0 * kw + j0)
                    for i in range(i0, i1):
                        for j in range(j0, j1):
                            v = load(x, corner + (i * width + j) * c + c0)
                            tap = where_greater(v, best, spread(numbers, i * kw + j), tap)
                            best = where_greater(v, best, v, best)
                    store(y, to + c0, best)
                    store_bytes(winner, to + c0, tap)


@exact
def _max_narrow(y, winner, x, kh, kw, sh, sw, ph, pw):
    n_images, height, width, c = x.shape
    for n in range(n_images):
        for p in range(y.shape[1]):
            for q in range(y.shape[2]):
                i0, j0 = max(0, ph - p * sh), max(0, pw - q * sw)
                for k in range(c):
                    best, tap = x.dtype.type(-np.inf), i0 * kw + j0
                    for i in range(i0, min(kh, height + ph - p * sh)):
                        for j in range(j0, min(kw, width + pw - q * sw)):
                            v = x[n, p * sh + i - ph, q * sw + j - pw, k]
                            if v > best or v != v:  # a NaN wins
                                best, tap = v, i * kw + j
                    y[n, p, q, k] = best
                    winner[n, p, q, k] = tap


@exact
def _max_backward(dx, dy, winner, table, sh, sw, ph, pw):
    # dx starts as zeros
    n_images, height, width, c = dx.shape
    for n in range(n_images):
        for p in range(dy.shape[1]):
            for q in range(dy.shape[2]):
                for k in range(c):
                    tap = winner[n, p, q, k]
                    row, col = p * sh - ph + table[tap, 0], q * sw - pw + table[tap, 1]
                    if 0 <= row < height and 0 <= col < width:  # or it is another pool's winner
                        dx[n, row, col, k] += dy[n, p, q, k]


@exact
def _avg_backward(dx, dy, share, kh, kw, sh, sw, ph, pw):
    # dx starts as zeros. A row of dy is spread sideways first, then added to the rows it came from.
    n_images, height, width, c = dx.shape
    spread = np.empty((width, c), dx.dtype)
    for n in range(n_images):
        for p in range(dy.shape[1]):
            spread[:] = 0
            for q in range(dy.shape[2]):
                for j in range(kw):
                    col = q * sw + j - pw
                    if 0 <= col < width:
                        for k in range(c):
                            spread[col, k] += dy[n, p, q, k] * share[p, q]
            for i in range(kh):
                row = p * sh + i - ph
                if 0 <= row < height:
                    target, line = dx[n, row].reshape(-1), spread.reshape(-1)
                    for k in range(line.size):
                        target[k] += line[k]


@exact
def _global(y, x, c, pixels):
    # y starts as zeros
    for image in range(y.size // c):
        total = y[image * c : (image + 1) * c]
        for pixel in range(image * pixels, (image + 1) * pixels):
            row = x[pixel * c : (pixel + 1) * c]
            for k in range(c):
                total[k] += row[k]
        for k in range(c):
            total[k] /= pixels


# ---- in a step without the interpreter


def _geometry(
    x_shape: tuple[int, ...], kernel_size: IntPair, stride: IntPair, padding: IntPair
) -> dict[str, Any]:
    """The sizes of a pool, for a record."""
    n, h, wd, c = x_shape
    out = _pool_size(x_shape, kernel_size, stride, padding)
    numbers = (*pair(kernel_size), *pair(stride), *pair(padding), 1, 1, *out)
    window = np.array(numbers, WINDOW)
    return dict(n=n, h=h, wd=wd, c=c, o=c, window=(window,))


def max_pool2d_work(
    y: np.ndarray, winner: np.ndarray, x: np.ndarray, kernel_size: IntPair, stride: IntPair,
    padding: IntPair = 0,
) -> Work | None:  # fmt: skip
    """Write what :func:`max_pool2d` returns to ``y`` and ``winner``."""
    if x.shape[3] < LANES or winner.dtype != np.uint8:
        return None
    return fill(
        _max_row, x.dtype, x=flat(x, x.dtype), y=y, dw=winner,
        **_geometry(x.shape, kernel_size, stride, padding),
    )  # fmt: skip


def max_pool2d_backward_work(
    dx: np.ndarray, dy: np.ndarray, winner: np.ndarray, x_shape: tuple[int, ...],
    kernel_size: IntPair, stride: IntPair, padding: IntPair = 0,
) -> Work | None:  # fmt: skip
    """Write what :func:`max_pool2d_backward` returns to ``dx``."""
    if winner.dtype != np.uint8:
        return None
    return fill(
        _max_backward_row, dy.dtype, dy=flat(dy, dy.dtype), dx=dx, dw=winner,
        **_geometry(x_shape, kernel_size, stride, padding),
    )  # fmt: skip


@flags
def avg_pool2d_work(
    y: np.ndarray, x: np.ndarray, kernel_size: IntPair, stride: IntPair, padding: IntPair = 0,
    count_include_pad: bool = True,
) -> Work | None:  # fmt: skip
    """Write what :func:`avg_pool2d` returns to ``y``."""
    (kh, kw), c, dtype = pair(kernel_size), x.shape[3], x.dtype
    if not count_include_pad and pair(padding) != (0, 0):
        return None
    weights = np.full((kh, kw, c), 1 / (kh * kw), dtype)
    special = special_stride(weights.shape, stride, padding, 1)
    return fill(
        depthwise if special else depthwise_any, dtype, {"w": weights}, x=flat(x, dtype), x_row=c,
        y=y, stride=special, block=1, period=period_of(c),
        **_geometry(x.shape, kernel_size, stride, padding),
    )  # fmt: skip


@flags
def avg_pool2d_backward_work(
    dx: np.ndarray, dy: np.ndarray, x_shape: tuple[int, ...], kernel_size: IntPair,
    stride: IntPair, padding: IntPair = 0, count_include_pad: bool = True,
) -> Work:  # fmt: skip
    """Write what :func:`avg_pool2d_backward` returns to ``dx``."""
    share = _shares(dy.dtype, x_shape, kernel_size, stride, padding, count_include_pad)
    return fill(
        _avg_backward_row, dy.dtype, {"w": share}, dy=flat(dy, dy.dtype), dx=dx,
        **_geometry(x_shape, kernel_size, stride, padding),
    )  # fmt: skip


def global_avg_pool_work(y: np.ndarray, x: np.ndarray) -> Work:
    """Write what :func:`global_avg_pool` returns to ``y``."""
    n, h, w, c = x.shape
    return fill(_global_row, x.dtype, x=flat(x, x.dtype), y=y, n=n, m=h * w, c=c)


def global_avg_pool_backward_work(
    dx: np.ndarray, dy: np.ndarray, x_shape: tuple[int, ...]
) -> Work:
    """Write what :func:`global_avg_pool_backward` returns to ``dx``."""
    n, h, w, c = x_shape
    return fill(_global_backward_row, dy.dtype, dy=flat(dy, dy.dtype), dx=dx, n=n, m=h * w, c=c)


@exact
def _max_row(address, zero):
    r = record_at(address)
    v, taps = r.window, r.window.kh * r.window.kw
    x, size = floats(r.x, r.n * r.h * r.wd * r.c, zero), r.n * v.ho * v.wo * r.c
    numbers = np.empty(taps + 1, x.dtype)
    for t in range(taps):
        numbers[t] = t
    numbers[taps] = -np.inf
    _max(
        floats(r.y, size, zero), floats(r.dw, size, np.uint8(0)), x, numbers, r.n, r.h, r.wd, r.c,
        v.ho, v.wo, v.kh, v.kw, v.sh, v.sw, v.ph, v.pw, r.first, r.last if r.last > 0 else v.ho,
    )  # fmt: skip


@exact
def _max_backward_row(address, zero):
    r = record_at(address)
    n, h, wd, c, v = r.n, r.h, r.wd, r.c, r.window
    table = np.empty((v.kh * v.kw, 2), np.int64)
    for t in range(v.kh * v.kw):
        table[t, 0], table[t, 1] = t // v.kw, t % v.kw
    dx = floats(r.dx, n * h * wd * c, zero)
    dx[:] = 0
    size = n * v.ho * v.wo * c
    _max_backward(
        dx.reshape(n, h, wd, c), floats(r.dy, size, zero).reshape(n, v.ho, v.wo, c),
        floats(r.dw, size, np.uint8(0)).reshape(n, v.ho, v.wo, c), table, v.sh, v.sw, v.ph, v.pw,
    )  # fmt: skip


@exact
def _avg_backward_row(address, zero):
    r = record_at(address)
    n, h, wd, c, v = r.n, r.h, r.wd, r.c, r.window
    dx = floats(r.dx, n * h * wd * c, zero)
    dx[:] = 0
    dy = floats(r.dy, n * v.ho * v.wo * c, zero).reshape(n, v.ho, v.wo, c)
    share = floats(r.w, v.ho * v.wo, zero).reshape(v.ho, v.wo)
    _avg_backward(dx.reshape(n, h, wd, c), dy, share, v.kh, v.kw, v.sh, v.sw, v.ph, v.pw)


@exact
def _global_row(address, zero):
    r = record_at(address)
    y = floats(r.y, r.n * r.c, zero)
    y[:] = 0
    _global(y, floats(r.x, r.n * r.m * r.c, zero), r.c, r.m)


@exact
def _global_backward_row(address, zero):
    r = record_at(address)
    c, pixels = r.c, r.m
    dx, dy = floats(r.dx, r.n * pixels * c, zero), floats(r.dy, r.n * c, zero)
    for image in range(r.n):
        share = dy[image * c : (image + 1) * c]
        first = dx[image * pixels * c : image * pixels * c + c]
        for k in range(c):
            first[k] = share[k] / pixels
        for pixel in range(image * pixels + 1, (image + 1) * pixels):
            row = dx[pixel * c : (pixel + 1) * c]
            for k in range(c):
                row[k] = first[k]
