"""The effective receptive field: how far around itself one output of a net looks.

Luo, Li, Urtasun, Zemel, "Understanding the Effective Receptive Field in Deep Convolutional Neural
Networks", 2016, arXiv 1701.04128: the gradient of the output in the middle of a map with regard to
the picture. What a chain of kernels could reach is a large square; what it does look at is a small
hill in it, as most ways from an output down to the picture end near its middle.
"""

from __future__ import annotations

import numpy as np

from ..nn import Module

__all__ = ["half_width", "receptive_field"]


def receptive_field(net: Module, pictures: np.ndarray) -> np.ndarray:
    """Return the squared gradient of one output with regard to the pictures, as a map.

    The output is the pixel in the middle of the last map, with all its C channels y_c:

        m(i, j) = mean over pictures of the sum over c and colours of (∂y_c / ∂x(i, j, colour))²

    One backward pass gives it for all channels: the gradient that is sent in is s_c = ±1 by chance,
    and the mean of (Σ_c s_c g_c)² is Σ_c g_c², since that of s_c·s_d is 0 for two channels.

    Parameters
    ----------
    net : Module
        From pictures to a map; asked in evaluation mode, and left as it was, its gradients empty.
    pictures : (N, H, W, 3)
        Normalised, as the net knows them.

    Returns
    -------
    float64 (H, W)
        Its sum is 1, unless no gradient arrives at all.
    """
    rng, training = np.random.default_rng(0), net.training
    net.eval()
    try:
        y = net(pictures)  # (N, Hm, Wm, C)
        dy = np.zeros_like(y)
        n, h, w, c = y.shape
        dy[:, h // 2, w // 2] = rng.choice([-1.0, 1.0], (n, c))
        dx = net.backward(dy)
    finally:
        net.train(training)
    net.zero_grad()
    squares = (dx.astype(float) ** 2).sum(axis=(0, 3))  # (H, W)
    total = squares.sum()
    return squares / total if total > 0 else squares


def half_width(squares: np.ndarray, share: float = 0.5) -> float:
    """Return the width of the square around the centre of a map that holds half of it, in pixels.

    The centre is the mean place, weighted by the map. A pixel is a square of side 1 of even weight,
    so that the width need not be a whole number.

    >>> round(half_width(np.ones((9, 9)) / 81), 2)  # its square is half of 81
    6.36
    """
    side = max(squares.shape)
    total = squares.sum()
    centre = [
        (np.arange(n) @ squares.sum(axis=1 - axis)) / total if total > 0 else (n - 1) / 2
        for axis, n in enumerate(squares.shape)
    ]

    def held(half: float) -> float:
        rows, columns = (
            # the part of each pixel from i - 1/2 to i + 1/2 that lies within
            np.clip(np.minimum(i + 0.5, c + half) - np.maximum(i - 0.5, c - half), 0, 1)
            for c, i in zip(centre, map(np.arange, squares.shape), strict=True)
        )
        return float(rows @ squares @ columns)

    low, high = 0.0, float(side)
    for _ in range(40):
        middle = (low + high) / 2
        low, high = (middle, high) if held(middle) < share * total else (low, middle)
    return low + high
