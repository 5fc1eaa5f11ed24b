"""Depthwise convolution: every channel has a filter of its own, and they never mix.

    y[n, p, q, c] = b[c] + Σ_{i, j}  x[n, p·s + i·d - pad, q·s + j·d - pad, c] · w[i, j, c]

A grouped convolution with G = C = O, but no longer a matrix product: each number that is loaded
meets one weight only, so it is memory, not arithmetic, that it waits for (V1, section 3.3).
"""

from __future__ import annotations

import numpy as np

from ..values import flags
from .arguments import check_channels, fit
from .cost import Cost, size
from .windows import IntPair, crop, output_size, pad, taps, window

__all__ = ["depthwise_conv2d", "depthwise_conv2d_backward", "depthwise_conv2d_cost"]


def depthwise_conv2d(
    x: np.ndarray,
    w: np.ndarray,
    b: np.ndarray | None = None,
    stride: IntPair = 1,
    padding: IntPair = 0,
    dilation: IntPair = 1,
) -> np.ndarray:
    """Convolve each channel with its own filter.

    Parameters
    ----------
    x : (N, H, W, C)
    w : (Kh, Kw, C)
    b : (C,), optional
    stride, padding, dilation : int or (vertical, horizontal)

    Returns
    -------
    y : (N, Ho, Wo, C)
    """
    check_channels(x, w, 1)
    kh, kw, c = w.shape
    out = output_size(x.shape[1:3], (kh, kw), stride, padding, dilation)
    xp = pad(x, padding)
    y = np.zeros((x.shape[0], *out, c), x.dtype)
    for tap in taps((kh, kw)):
        y += window(xp, tap, out, stride, dilation) * w[tap]
    return y if b is None else y + fit(b, (c,), x.dtype)


@flags
def depthwise_conv2d_backward(
    dy: np.ndarray,
    x: np.ndarray,
    w: np.ndarray,
    stride: IntPair = 1,
    padding: IntPair = 0,
    dilation: IntPair = 1,
    bias: bool = True,
) -> tuple[np.ndarray, np.ndarray, np.ndarray | None]:
    """Return (dx, dw, db), given ``dy`` (N, Ho, Wo, C).

    Tap by tap: dw[i, j] = Σ_pixels (view of x) · dy, and the view of dx gains dy · w[i, j].
    ``bias=False`` says that there is no b: db is None, and the pass over dy is spared.
    """
    check_channels(x, w, 1)
    kh, kw, c = w.shape
    out = output_size(x.shape[1:3], (kh, kw), stride, padding, dilation)
    dy = fit(dy, (x.shape[0], *out, c), x.dtype)
    xp = pad(x, padding)
    dxp, dw = np.zeros_like(xp), np.empty_like(w)
    for tap in taps((kh, kw)):
        dw[tap] = (window(xp, tap, out, stride, dilation) * dy).sum(axis=(0, 1, 2))
        window(dxp, tap, out, stride, dilation)[...] += dy * w[tap]
    return crop(dxp, padding).copy(), dw, dy.sum(axis=(0, 1, 2)) if bias else None


def depthwise_conv2d_cost(
    x: tuple[int, ...],
    w: tuple[int, ...],
    b: tuple[int, ...] | None = None,
    stride: IntPair = 1,
    padding: IntPair = 0,
    dilation: IntPair = 1,
) -> Cost:
    """Cost: Ho·Wo·Kh·Kw·C multiply-adds an image; the backward pass has two such sums.

    >>> cost = depthwise_conv2d_cost((1, 28, 28, 60), (3, 3, 60), padding=1)
    >>> cost.multiply_adds, cost.memory_access
    (423360, 94620)
    """
    kh, kw, c = w
    y = (x[0], *output_size((x[1], x[2]), (kh, kw), stride, padding, dilation), c)
    products = size(y) * kh * kw
    params = size(w) + size(b)
    return Cost(
        output=y,
        params=params,
        multiply_adds=products,
        memory_access=size(x) + size(y) + params,
        backward_multiply_adds=2 * products,
        backward_memory_access=size(y) + 2 * size(x) + size(w) + params,
    )
