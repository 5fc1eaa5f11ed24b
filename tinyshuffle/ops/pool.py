"""Max pooling, average pooling, global average pooling.

    max:      y[n, p, q, c] = max_{i, j} x[n, p·s + i - pad, q·s + j - pad, c]
    average:  y[n, p, q, c] = Σ_{i, j} x[…] / K     K = Kh·Kw, or the pixels that are not padding
    global:   y[n, c] = Σ_{h, w} x[n, h, w, c] / (H·W)

Windows are the convolution's (see ``windows``): the sums over taps become maxima, and the backward
pass hands dy to the tap that won, or in equal shares to all.
"""

from __future__ import annotations

import numpy as np

from ..errors import TinyshuffleError
from ..values import flags
from .arguments import check_images, check_pair, fit
from .cost import Cost, size
from .windows import IntPair, crop, output_size, pad, pair, taps, window

__all__ = [
    "avg_pool2d", "avg_pool2d_backward", "avg_pool2d_cost", "global_avg_pool",
    "global_avg_pool_backward", "global_avg_pool_cost", "max_pool2d", "max_pool2d_backward",
    "max_pool2d_cost",
]  # fmt: skip


def max_pool2d(
    x: np.ndarray, kernel_size: IntPair, stride: IntPair, padding: IntPair = 0
) -> tuple[np.ndarray, np.ndarray]:
    """Return the largest value of each window and which tap it came from.

    Parameters
    ----------
    x : (N, H, W, C)
    padding : int or pair
        Padding never wins: it counts as -inf. At most half of the kernel.

    Returns
    -------
    y : (N, Ho, Wo, C)
    winner : (N, Ho, Wo, C), uint8, or int32 if there are more than 256 taps
        Number i·Kw + j of the winning tap. As in PyTorch it is never one of the padding, of equals
        the first wins, and a NaN beats whatever came before it: a broken input must not look
        healthy.
    """
    check_images(x)
    out = _pool_size(x.shape, kernel_size, stride, padding)
    xp = pad(x, padding, value=-np.inf)
    image = pad(np.ones((1, x.shape[1], x.shape[2], 1), bool), padding, value=False)
    kw = pair(kernel_size)[1]
    y = np.full((x.shape[0], *out, x.shape[3]), -np.inf, x.dtype)
    winner = np.full(y.shape, -1)
    for i, j in taps(kernel_size):
        xt = window(xp, (i, j), out, stride)
        # the first pixel wins even if it is -inf
        better = (xt > y) | np.isnan(xt) | (winner < 0)
        better &= window(image, (i, j), out, stride)
        y[better] = xt[better]
        winner[better] = i * kw + j
    return y, winner.astype(winner_type(kernel_size))


def max_pool2d_backward(
    dy: np.ndarray,
    winner: np.ndarray,
    x_shape: tuple[int, ...],
    kernel_size: IntPair,
    stride: IntPair,
    padding: IntPair = 0,
) -> np.ndarray:
    """Return dx (N, H, W, C): each dy goes to the winner of its window."""
    out = _pool_size(x_shape, kernel_size, stride, padding)
    dy = fit(dy, (x_shape[0], *out, x_shape[3]))
    ph, pw = pair(padding)
    n, h, w, c = x_shape
    kw = pair(kernel_size)[1]
    dxp = np.zeros((n, h + 2 * ph, w + 2 * pw, c), dy.dtype)
    for i, j in taps(kernel_size):
        won = np.where(winner == i * kw + j, dy, dy.dtype.type(0))  # 0 · ∞ would be NaN
        window(dxp, (i, j), dy.shape[1:3], stride)[...] += won
    return crop(dxp, padding).copy()


def winner_type(kernel_size: IntPair) -> type[np.unsignedinteger] | type[np.signedinteger]:
    """The type of the winners' numbers: a byte as long as all taps fit into it."""
    kh, kw = pair(kernel_size)
    return np.uint8 if kh * kw <= 256 else np.int32


def max_pool2d_cost(
    x: tuple[int, ...], kernel_size: IntPair, stride: IntPair, padding: IntPair = 0
) -> Cost:
    """Cost: Kh·Kw comparisons for each output; the backward pass reads dy and writes dx."""
    y = (x[0], *_pool_size(x, kernel_size, stride, padding), x[3])
    kh, kw = pair(kernel_size)
    return Cost(
        output=y,
        elementwise=size(y) * kh * kw,
        memory_access=size(x) + size(y),
        backward_elementwise=size(y),
        backward_memory_access=2 * size(y) + size(x),
    )


@flags
def avg_pool2d(
    x: np.ndarray,
    kernel_size: IntPair,
    stride: IntPair,
    padding: IntPair = 0,
    count_include_pad: bool = True,
) -> np.ndarray:
    """Return the mean of each window, (N, Ho, Wo, C).

    Parameters
    ----------
    x : (N, H, W, C)
    count_include_pad : bool
        Whether padding counts as zeros (PyTorch's default, and what ShuffleNet V1's ports use in
        the stride-2 shortcut) or the mean is over the real pixels alone.
    """
    check_images(x)
    out = _pool_size(x.shape, kernel_size, stride, padding)
    xp = pad(x, padding)
    y = np.zeros((x.shape[0], *out, x.shape[3]), x.dtype)
    for tap in taps(kernel_size):
        y += window(xp, tap, out, stride)
    return y / _divisor(x.shape, out, kernel_size, stride, padding, count_include_pad, x.dtype)


@flags
def avg_pool2d_backward(
    dy: np.ndarray,
    x_shape: tuple[int, ...],
    kernel_size: IntPair,
    stride: IntPair,
    padding: IntPair = 0,
    count_include_pad: bool = True,
) -> np.ndarray:
    """Return dx (N, H, W, C): every tap gets an equal share of its window's dy."""
    out = _pool_size(x_shape, kernel_size, stride, padding)
    dy = fit(dy, (x_shape[0], *out, x_shape[3]))
    ph, pw = pair(padding)
    n, h, w, c = x_shape
    share = dy / _divisor(x_shape, out, kernel_size, stride, padding, count_include_pad, dy.dtype)
    dxp = np.zeros((n, h + 2 * ph, w + 2 * pw, c), dy.dtype)
    for tap in taps(kernel_size):
        window(dxp, tap, out, stride)[...] += share
    return crop(dxp, padding).copy()


@flags
def avg_pool2d_cost(
    x: tuple[int, ...],
    kernel_size: IntPair,
    stride: IntPair,
    padding: IntPair = 0,
    count_include_pad: bool = True,
) -> Cost:
    """Cost: Kh·Kw additions for each output, and as many again backward."""
    y = (x[0], *_pool_size(x, kernel_size, stride, padding), x[3])
    kh, kw = pair(kernel_size)
    return Cost(
        output=y,
        elementwise=size(y) * kh * kw,
        memory_access=size(x) + size(y),
        backward_elementwise=size(y) * kh * kw,
        backward_memory_access=size(x) + size(y),
    )


def global_avg_pool(x: np.ndarray) -> np.ndarray:
    """Return the mean of each channel of each image: (N, H, W, C) -> (N, C)."""
    check_images(x)
    return x.mean(axis=(1, 2))


def global_avg_pool_backward(dy: np.ndarray, x_shape: tuple[int, ...]) -> np.ndarray:
    """Return dx (N, H, W, C), given ``dy`` (N, C): dy / (H·W) at every pixel."""
    dy = fit(dy, (x_shape[0], x_shape[3]))
    share = dy / (x_shape[1] * x_shape[2])
    return np.broadcast_to(share[:, None, None, :], x_shape).copy()


def global_avg_pool_cost(x: tuple[int, ...]) -> Cost:
    """Cost: one addition for each input."""
    y = (x[0], x[3])
    return Cost(
        output=y,
        elementwise=size(x),
        memory_access=size(x) + size(y),
        backward_elementwise=size(y),
        backward_memory_access=size(x) + size(y),
    )


def _pool_size(
    x_shape: tuple[int, ...], kernel_size: IntPair, stride: IntPair, padding: IntPair
) -> tuple[int, int]:
    kernel = check_pair(kernel_size, "kernel_size")
    check_padding(kernel, check_pair(padding, "padding", 0))
    return output_size((x_shape[1], x_shape[2]), kernel, stride, padding)


def check_padding(kernel: tuple[int, int], padding: tuple[int, int]) -> None:
    """Raise if some windows of a pool would see nothing but padding."""
    for k, p in zip(kernel, padding, strict=True):
        if 2 * p > k:
            raise TinyshuffleError(
                f"padding={p} is more than half of kernel_size={k}, so some windows would see "
                f"nothing but padding; use at most {k // 2}"
            )


def _divisor(
    x_shape: tuple[int, ...],
    out: tuple[int, int],
    kernel_size: IntPair,
    stride: IntPair,
    padding: IntPair,
    count_include_pad: bool,
    dtype: np.dtype,
) -> np.ndarray:
    """How many pixels each window averages over: (1, Ho, Wo, 1)."""
    kh, kw = pair(kernel_size)
    if count_include_pad:
        return np.full((1, 1, 1, 1), kh * kw, dtype)
    ones = pad(np.ones((1, x_shape[1], x_shape[2], 1), dtype), padding)
    count = np.zeros((1, *out, 1), dtype)
    for tap in taps(kernel_size):
        count += window(ones, tap, out, stride)
    return count
