"""Pointwise (1x1) convolution, dense and grouped: a matrix product over pixels.

    y[m, o] = b[o] + Σ_c x[m, c] · w[c, o]            m one of the N·H·W pixels

With the channels last this is one product of an (M, C) by a (C, O) matrix. In a grouped one,
group g multiplies its own Cg columns of x by its own (Cg, Og) block. These products are where a
ShuffleNet spends its multiply-adds: V1, section 3.1 (93.4 % of a ResNeXt unit's).
"""

from __future__ import annotations

import numpy as np

from ..values import flags
from .arguments import check_channels, fit
from .conv import conv2d_cost
from .cost import Cost

__all__ = ["pointwise_conv2d", "pointwise_conv2d_backward", "pointwise_conv2d_cost"]


def pointwise_conv2d(
    x: np.ndarray, w: np.ndarray, b: np.ndarray | None = None, groups: int = 1
) -> np.ndarray:
    """Convolve with a 1x1 kernel, stride 1.

    Parameters
    ----------
    x : (N, H, W, C)
    w : (1, 1, C / groups, O)
    b : (O,), optional

    Returns
    -------
    y : (N, H, W, O)
    """
    check_channels(x, w, groups)
    cg, o = w.shape[2:]
    xg = x.reshape(-1, groups, cg).transpose(1, 0, 2)  # (G, M, Cg)
    wg = w.reshape(cg, groups, o // groups).transpose(1, 0, 2)  # (G, Cg, Og)
    y = (xg @ wg).transpose(1, 0, 2)  # (G, M, Og) -> (M, G, Og)
    y = y.reshape(*x.shape[:3], o)  # (N, H, W, O)
    return y if b is None else y + fit(b, (o,), x.dtype)


@flags
def pointwise_conv2d_backward(
    dy: np.ndarray, x: np.ndarray, w: np.ndarray, groups: int = 1, bias: bool = True
) -> tuple[np.ndarray, np.ndarray, np.ndarray | None]:
    """Return (dx, dw, db), given ``dy`` (N, H, W, O): dx = dy · wᵀ, dw = xᵀ · dy, db = Σ dy.

    ``bias=False`` says that there is no b: db is None, and the pass over dy is spared.
    """
    check_channels(x, w, groups)
    cg, o = w.shape[2:]
    dy = fit(dy, (*x.shape[:3], o), x.dtype)
    og = o // groups
    xg = x.reshape(-1, groups, cg).transpose(1, 2, 0)  # (G, Cg, M)
    dyg = dy.reshape(-1, groups, og).transpose(1, 0, 2)  # (G, M, Og)
    wg = w.reshape(cg, groups, og).transpose(1, 2, 0)  # (G, Og, Cg)
    dx = (dyg @ wg).transpose(1, 0, 2).reshape(x.shape)  # (N, H, W, C)
    dw = (xg @ dyg).transpose(1, 0, 2).reshape(w.shape)  # (1, 1, Cg, O)
    return dx, dw, dy.sum(axis=(0, 1, 2)) if bias else None


def pointwise_conv2d_cost(
    x: tuple[int, ...], w: tuple[int, ...], b: tuple[int, ...] | None = None, groups: int = 1
) -> Cost:
    """Cost: hw·c1·c2 / g multiply-adds, hw(c1 + c2) + c1·c2 / g memory access (V2, G1 and G2).

    >>> cost = pointwise_conv2d_cost((1, 56, 56, 128), (1, 1, 128, 128))
    >>> cost.multiply_adds, cost.memory_access
    (51380224, 819200)
    """
    return conv2d_cost(x, w, b, groups=groups)
