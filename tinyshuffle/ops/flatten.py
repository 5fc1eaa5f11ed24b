"""Images laid flat, for a linear layer behind a convolution.

    y[n, c·H·W + h·W + w] = x[n, h, w, c]

The features come out channel by channel, each with its rows: PyTorch's order, whose images are
(N, C, H, W). Channels last would save the transposition, but then the weights of the linear layer
behind (AlexNet's, VGG's) would be another permutation of PyTorch's, and no longer its transpose.
"""

from __future__ import annotations

from math import prod

import numpy as np

from ..errors import TinyshuffleError
from .arguments import check_array
from .cost import Cost, size

__all__ = ["flatten", "flatten_backward", "flatten_cost"]


def flatten(x: np.ndarray) -> np.ndarray:
    """Lay ``x`` (N, H, W, C) flat: (N, C·H·W)."""
    check_array(x)
    if x.ndim != 4:
        raise TinyshuffleError(f"images have to be of shape (N, H, W, C), got {x.shape}")
    return x.transpose(0, 3, 1, 2).reshape(len(x), -1).copy()  # (N, C, H, W), then (N, C·H·W)


def flatten_backward(dy: np.ndarray, x_shape: tuple[int, ...]) -> np.ndarray:
    """Return dx (N, H, W, C), given ``dy`` (N, C·H·W): the same numbers, back in their places."""
    check_array(dy)
    n, h, w, c = x_shape
    if dy.shape != (n, c * h * w):
        raise TinyshuffleError(
            f"got an array of shape {dy.shape} where {(n, c * h * w)} fits the others"
        )
    return dy.reshape(n, c, h, w).transpose(0, 2, 3, 1).copy()  # (N, H, W, C)


def flatten_cost(x: tuple[int, ...]) -> Cost:
    """Cost: every element is read and written once, each way."""
    return Cost(
        output=(x[0], prod(x[1:])), memory_access=2 * size(x), backward_memory_access=2 * size(x)
    )
