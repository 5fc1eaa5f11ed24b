"""Multiply every channel of an image by a number of its own (squeeze-and-excitation's last step).

    y[n, h, w, c] = x[n, h, w, c] · s[n, c]
    dx = dy · s,   ds[n, c] = Σ_{h, w} dy · x

Hu et al. 2018, equation 4.
"""

from __future__ import annotations

import numpy as np

from .arguments import check_images, fit
from .cost import Cost, size

__all__ = ["channel_scale", "channel_scale_backward", "channel_scale_cost"]


def channel_scale(x: np.ndarray, s: np.ndarray) -> np.ndarray:
    """Scale ``x`` (N, H, W, C) by ``s`` (N, C)."""
    check_images(x)
    return x * fit(s, (x.shape[0], x.shape[3]), x.dtype)[:, None, None, :]


def channel_scale_backward(
    dy: np.ndarray, x: np.ndarray, s: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Return (dx, ds) of shapes (N, H, W, C) and (N, C)."""
    dy, s = fit(dy, x.shape, x.dtype), fit(s, (x.shape[0], x.shape[3]), x.dtype)
    return dy * s[:, None, None, :], (dy * x).sum(axis=(1, 2))


def channel_scale_cost(x: tuple[int, ...], s: tuple[int, ...]) -> Cost:
    """Cost: one product for each element."""
    return Cost(
        output=x,
        elementwise=size(x),
        memory_access=2 * size(x) + size(s),
        backward_elementwise=2 * size(x),
        backward_memory_access=3 * size(x) + 2 * size(s),
    )
