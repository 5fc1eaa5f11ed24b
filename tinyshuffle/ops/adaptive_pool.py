"""Average pooling to a given size, whatever the size of the input.

    y[n, p, q, c] = mean of x[n, h, w, c] over  ⌊p·H/Ho⌋ ≤ h < ⌈(p+1)·H/Ho⌉,  and w alike

Output pixel p averages over the p-th of Ho equal parts of the height, widened to whole pixels. So
neighbouring windows can share a pixel, and an input smaller than the output is repeated. It lets
AlexNet's and VGG's linear layers, made for 224x224 images, stand behind images of any size.
"""

from __future__ import annotations

import numpy as np

from .arguments import IntPair, check_images, check_pair, check_real
from .cost import Cost, size

__all__ = [
    "adaptive_avg_pool2d",
    "adaptive_avg_pool2d_backward",
    "adaptive_avg_pool2d_cost",
]


def adaptive_avg_pool2d(x: np.ndarray, output_size: IntPair) -> np.ndarray:
    """Average ``x`` (N, H, W, C) down (or up) to (N, Ho, Wo, C)."""
    check_images(x)
    n, h, w, c = x.shape
    ho, wo = check_pair(output_size, "output_size")
    y = np.empty((n, ho, wo, c), x.dtype)
    for p, rows in enumerate(_parts(h, ho)):
        for q, columns in enumerate(_parts(w, wo)):
            y[:, p, q] = x[:, rows, columns].mean(axis=(1, 2))
    return y


def adaptive_avg_pool2d_backward(dy: np.ndarray, x_shape: tuple[int, ...]) -> np.ndarray:
    """Return dx (N, H, W, C): every pixel of a window gets an equal share of its dy."""
    check_real(dy)
    _, h, w, _ = x_shape
    dx = np.zeros(x_shape, dy.dtype)
    for p, rows in enumerate(_parts(h, dy.shape[1])):
        for q, columns in enumerate(_parts(w, dy.shape[2])):
            window = dx[:, rows, columns]
            window += (dy[:, p, q] / (window.shape[1] * window.shape[2]))[:, None, None]
    return dx


def adaptive_avg_pool2d_cost(x: tuple[int, ...], output_size: IntPair) -> Cost:
    """Cost: one addition for each pixel of each window, and as many backward."""
    n, h, w, c = x
    ho, wo = check_pair(output_size, "output_size")
    y = (n, ho, wo, c)
    rows = sum(part.stop - part.start for part in _parts(h, ho))
    columns = sum(part.stop - part.start for part in _parts(w, wo))
    return Cost(
        output=y,
        elementwise=n * rows * columns * c,
        memory_access=size(x) + size(y),
        backward_elementwise=n * rows * columns * c,
        backward_memory_access=size(x) + size(y),
    )


def _parts(size: int, parts: int) -> list[slice]:
    """Cut ``size`` pixels into ``parts``, each widened to whole pixels."""
    return [slice(i * size // parts, -(-(i + 1) * size // parts)) for i in range(parts)]
