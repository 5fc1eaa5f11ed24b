"""Channel shuffle: see ``ops.channel_shuffle`` for the mathematics.

A transposition of each pixel's (G, n) table of channels. Of the two cases of V2, G = 2 and its
inverse n = 2, the compiler makes vector permutations.
"""

from __future__ import annotations

import numpy as np

from .. import memory
from ..ops import channel_shuffle as definition
from ..ops.arguments import check_array, check_groups, is_real
from ..ops.channel_shuffle import channel_shuffle_cost
from .jit import exact, flat

__all__ = ["channel_shuffle", "channel_shuffle_backward", "channel_shuffle_cost"]


def channel_shuffle(x: np.ndarray, groups: int) -> np.ndarray:
    """Shuffle the channels of ``x``; see ``ops.channel_shuffle``."""
    check_array(x)
    c = x.shape[-1]
    check_groups(groups, c)
    if not is_real(x.dtype):  # numbers that only move
        return definition(x, groups)
    n = c // groups
    y = memory.empty(x.shape, x.dtype)
    yf, xf = y.reshape(-1), flat(x, x.dtype)
    if groups == 2:
        _interleave(yf, xf, n)
    elif n == 2:
        _part(yf, xf, groups)
    else:
        transpose(yf, xf, groups, n)
    return y


def channel_shuffle_backward(dy: np.ndarray, groups: int) -> np.ndarray:
    """Return dx: the shuffle with C / groups groups puts every channel back."""
    check_groups(groups, dy.shape[-1])
    return channel_shuffle(dy, dy.shape[-1] // groups)


@exact
def _interleave(y, x, n):  # (2, n) -> (n, 2)
    for start in range(0, x.size, 2 * n):
        a, b = x[start : start + n], x[start + n : start + 2 * n]
        pairs = y[start : start + 2 * n]
        for j in range(n):
            pairs[2 * j] = a[j]
            pairs[2 * j + 1] = b[j]


@exact
def _part(y, x, n):  # (n, 2) -> (2, n)
    for start in range(0, x.size, 2 * n):
        a, b = y[start : start + n], y[start + n : start + 2 * n]
        pairs = x[start : start + 2 * n]
        for j in range(n):
            a[j] = pairs[2 * j]
            b[j] = pairs[2 * j + 1]


@exact
def transpose(y, x, groups, n):  # (G, n) -> (n, G), along the longer side
    for start in range(0, x.size, groups * n):
        if n > groups:
            for g in range(groups):
                row, column = x[start + g * n : start + (g + 1) * n], y[start + g :]
                for j in range(n):
                    column[j * groups] = row[j]
        else:
            for j in range(n):
                row, column = y[start + j * groups : start + (j + 1) * groups], x[start + j :]
                for g in range(groups):
                    row[g] = column[g * n]
