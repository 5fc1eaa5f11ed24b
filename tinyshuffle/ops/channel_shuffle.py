"""Channel shuffle (V1, section 3.1, Figure 1c): let the groups of a convolution talk.

The C = G·n channels stand as a (G, n) table, are transposed to (n, G), and laid flat again: the
next grouped convolution then finds channels of every group in each of its own (of all of them if
n >= G). Output channel j·G + g is input channel g·n + j.

The inverse permutation transposes (n, G) back to (G, n), which is a shuffle with n = C / G groups.
A permutation's gradient is its inverse, so the backward pass is the same function.
"""

from __future__ import annotations

import numpy as np

from .arguments import check_array, check_groups
from .cost import Cost, size

__all__ = ["channel_shuffle", "channel_shuffle_backward", "channel_shuffle_cost"]


def channel_shuffle(x: np.ndarray, groups: int) -> np.ndarray:
    """Shuffle the channels of ``x`` (N, H, W, C).

    >>> channel_shuffle(np.arange(6).reshape(1, 1, 1, 6), groups=2).ravel()
    array([0, 3, 1, 4, 2, 5])
    """
    check_array(x)
    c = x.shape[-1]
    check_groups(groups, c)
    y = x.reshape(*x.shape[:-1], groups, c // groups)  # (N, H, W, G, n)
    return y.swapaxes(-1, -2).reshape(x.shape)  # (N, H, W, n, G) -> (N, H, W, C)


def channel_shuffle_backward(dy: np.ndarray, groups: int) -> np.ndarray:
    """Return dx: the shuffle with C / groups groups puts every channel back."""
    check_array(dy)
    check_groups(groups, dy.shape[-1])
    return channel_shuffle(dy, dy.shape[-1] // groups)


def channel_shuffle_cost(x: tuple[int, ...], groups: int) -> Cost:
    """Cost: no arithmetic at all, and yet every element is read and written, twice in training."""
    check_groups(groups, x[-1])
    return Cost(output=x, memory_access=2 * size(x), backward_memory_access=2 * size(x))
