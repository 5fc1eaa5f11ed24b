"""Convolution, dense and grouped, any kernel, stride, padding and dilation.

    y[n, p, q, o] = b[o] + Σ_{i, j, c}  x[n, p·s + i·d - pad, q·s + j·d - pad, c] · w[i, j, c, o]

In a grouped convolution the sum over c runs only over the Cg = C / G input channels of the group
that o belongs to: group g maps input channels [g·Cg, (g + 1)·Cg) to outputs [g·Og, (g + 1)·Og).

Read as a sum over taps (see ``windows``): each tap multiplies a view of the input by one small
matrix, so its gradient is that of a matrix product, tap by tap.

A 3x3 window takes 9·C products for each number of y. In tiles of 2x2 numbers 16·C are enough for
four, 2.25 times fewer: Winograd's F(2x2, 3x3), Lavin and Gray 2015 (arXiv 1509.09308), section 4.1,
as ``kernels`` does it. What is counted as cost are the products of the definition.
"""

from __future__ import annotations

import numpy as np

from ..values import flags
from .arguments import check_channels, fit
from .cost import Cost, size
from .windows import IntPair, check_groups, crop, output_size, pad, pair, taps, window

__all__ = ["conv2d", "conv2d_backward", "conv2d_cost"]


def conv2d(
    x: np.ndarray,
    w: np.ndarray,
    b: np.ndarray | None = None,
    stride: IntPair = 1,
    padding: IntPair = 0,
    dilation: IntPair = 1,
    groups: int = 1,
) -> np.ndarray:
    """Convolve.

    Parameters
    ----------
    x : (N, H, W, C)
    w : (Kh, Kw, C / groups, O)
    b : (O,), optional
    stride, padding, dilation : int or (vertical, horizontal)
    groups : int
        Divides both C and O. ShuffleNet V1, section 3.1.

    Returns
    -------
    y : (N, Ho, Wo, O)
    """
    check_channels(x, w, groups)
    kh, kw, cg, o = w.shape
    out = output_size(x.shape[1:3], (kh, kw), stride, padding, dilation)
    xp = pad(x, padding)
    y = np.zeros((groups, x.shape[0] * out[0] * out[1], o // groups), x.dtype)  # (G, N·Ho·Wo, Og)
    for i, j in taps((kh, kw)):
        xt = _by_group(window(xp, (i, j), out, stride, dilation), groups)  # (G, N·Ho·Wo, Cg)
        wt = w[i, j].reshape(cg, groups, o // groups).transpose(1, 0, 2)  # (G, Cg, Og)
        y += xt @ wt
    y = y.transpose(1, 0, 2).reshape(x.shape[0], *out, o)  # (N, Ho, Wo, O)
    return y if b is None else y + fit(b, (o,), x.dtype)


@flags
def conv2d_backward(
    dy: np.ndarray,
    x: np.ndarray,
    w: np.ndarray,
    stride: IntPair = 1,
    padding: IntPair = 0,
    dilation: IntPair = 1,
    groups: int = 1,
    bias: bool = True,
) -> tuple[np.ndarray, np.ndarray, np.ndarray | None]:
    """Return (dx, dw, db) of :func:`conv2d`, given ``dy`` (N, Ho, Wo, O).

    dw[i, j] = (tap's view of x)ᵀ · dy,  dx's view of the tap += dy · w[i, j]ᵀ,  db = Σ dy.
    Pixels that no window reaches, which a stride can leave at the border, get a zero.
    ``bias=False`` says that there is no b: db is None, and the pass over dy is spared.
    """
    check_channels(x, w, groups)
    kh, kw, cg, o = w.shape
    og, out = o // groups, output_size(x.shape[1:3], (kh, kw), stride, padding, dilation)
    dy = fit(dy, (x.shape[0], *out, o), x.dtype)
    xp = pad(x, padding)
    dxp, dw = np.zeros_like(xp), np.empty_like(w)
    dyg = _by_group(dy, groups)  # (G, N·Ho·Wo, Og)
    for i, j in taps((kh, kw)):
        xt = _by_group(window(xp, (i, j), out, stride, dilation), groups)  # (G, N·Ho·Wo, Cg)
        dwt = xt.transpose(0, 2, 1) @ dyg  # (G, Cg, Og)
        dw[i, j] = dwt.transpose(1, 0, 2).reshape(cg, o)  # (Cg, O)
        wt = w[i, j].reshape(cg, groups, og).transpose(1, 2, 0)  # (G, Og, Cg)
        dxt = (dyg @ wt).transpose(1, 0, 2).reshape(*dy.shape[:3], -1)  # (N, Ho, Wo, C)
        window(dxp, (i, j), out, stride, dilation)[...] += dxt
    return crop(dxp, padding).copy(), dw, dy.sum(axis=(0, 1, 2)) if bias else None


def conv2d_cost(
    x: tuple[int, ...],
    w: tuple[int, ...],
    b: tuple[int, ...] | None = None,
    stride: IntPair = 1,
    padding: IntPair = 0,
    dilation: IntPair = 1,
    groups: int = 1,
) -> Cost:
    """Cost: Ho·Wo·Kh·Kw·Cg·O multiply-adds an image; the backward pass has two such products.

    ``groups`` does not appear in the count because the weight's Cg = C / G already holds it.

    >>> conv2d_cost((1, 224, 224, 3), (3, 3, 3, 24), stride=2, padding=1).multiply_adds
    8128512
    """
    kh, kw, cg, o = w
    check_groups(groups, o, "out_channels")
    y = (x[0], *output_size((x[1], x[2]), (kh, kw), pair(stride), padding, dilation), o)
    products = size(y) * kh * kw * cg
    params = size(w) + size(b)
    return Cost(
        output=y,
        params=params,
        multiply_adds=products,
        memory_access=size(x) + size(y) + params,
        backward_multiply_adds=2 * products,
        # reads dy, x and w; writes dx, dw and db
        backward_memory_access=size(y) + 2 * size(x) + size(w) + params,
    )


def _by_group(x: np.ndarray, groups: int) -> np.ndarray:
    """(N, H, W, C) as (G, N·H·W, Cg)."""
    x = x.reshape(-1, groups, x.shape[-1] // groups)  # (N·H·W, G, Cg)
    return x.transpose(1, 0, 2)  # (G, N·H·W, Cg)
