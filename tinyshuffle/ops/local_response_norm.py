"""Local response normalisation: a channel is damped by the activity of its neighbours.

    s[n, h, w, c] = k + α/n · Σ_{j ∈ W(c)} x[n, h, w, j]²
    y = x · s^-β

W(c) holds the n = ``size`` channels c - ⌊n/2⌋ … c + ⌊(n-1)/2⌋, as far as they exist. Backward, a
channel i is heard by every c whose window holds it:

    dx[i] = dy[i] · s[i]^-β - 2αβ/n · x[i] · Σ_{c: i ∈ W(c)} dy[c] · y[c] / s[c]

Krizhevsky, Sutskever, Hinton 2012, section 3.3. There α is not divided by n; here it is, as in
PyTorch and Caffe, so the paper's α = 10⁻⁴ over 5 channels is ``alpha=5e-4``.
"""

from __future__ import annotations

import numpy as np

from .arguments import check_real, fit, integer
from .cost import Cost, size

__all__ = [
    "local_response_norm",
    "local_response_norm_backward",
    "local_response_norm_cost",
]


def local_response_norm(
    x: np.ndarray, width: int, alpha: float = 1e-4, beta: float = 0.75, k: float = 1.0
) -> np.ndarray:
    """Normalise ``x`` (N, H, W, C) over windows of ``width`` channels."""
    return x * _scale(x, width, alpha, k) ** -float(beta)


def local_response_norm_backward(
    dy: np.ndarray,
    x: np.ndarray,
    width: int,
    alpha: float = 1e-4,
    beta: float = 0.75,
    k: float = 1.0,
) -> np.ndarray:
    """Return dx (N, H, W, C). s is computed again: cheaper than keeping it."""
    s, alpha, beta = _scale(x, width, alpha, k), float(alpha), float(beta)
    dy = fit(dy, x.shape, x.dtype)
    heard = dy * x * s ** (-beta - 1)  # dy · y / s
    # the windows that hold channel i are those of i - ⌊(n-1)/2⌋ … i + ⌊n/2⌋
    return dy * s**-beta - (2 * alpha * beta / width) * x * _window_sum(
        heard, (width - 1) // 2, width // 2
    )


def local_response_norm_cost(
    x: tuple[int, ...], width: int, alpha: float = 1e-4, beta: float = 0.75, k: float = 1.0
) -> Cost:
    """Cost: n squares and sums, a power and a product for each element; about twice backward."""
    return Cost(
        output=x,
        elementwise=size(x) * (2 * width + 2),
        memory_access=2 * size(x),
        backward_elementwise=size(x) * (3 * width + 6),
        backward_memory_access=3 * size(x),
    )


def _scale(x: np.ndarray, width: int, alpha: float, k: float) -> np.ndarray:
    """s, (N, H, W, C)."""
    check_real(x)
    integer(width, "size")
    # Python's floats, as NumPy's float64 would make float32 tensors wider
    alpha, k = float(alpha), float(k)
    return k + alpha / width * _window_sum(x * x, width // 2, (width - 1) // 2)


def _window_sum(x: np.ndarray, before: int, after: int) -> np.ndarray:
    """Sum channels c - before … c + after of ``x``; beyond the ends there are zeros."""
    c = x.shape[-1]
    before, after = min(before, c), min(after, c)
    padded = np.pad(x, [(0, 0)] * (x.ndim - 1) + [(before, after)])
    total = np.zeros_like(x)
    for j in range(before + after + 1):
        total += padded[..., j : j + c]
    return total
