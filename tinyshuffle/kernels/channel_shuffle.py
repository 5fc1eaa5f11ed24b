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
from .jit import exact, exact_part, flat
from .record import Work, fill, floats, record_at, run

__all__ = [
    "channel_shuffle",
    "channel_shuffle_backward",
    "channel_shuffle_cost",
    "channel_shuffle_work",
]


def channel_shuffle(x: np.ndarray, groups: int) -> np.ndarray:
    """Shuffle the channels of ``x``; see ``ops.channel_shuffle``."""
    check_array(x)
    c = x.shape[-1]
    check_groups(groups, c)
    if not is_real(x.dtype):  # numbers that only move
        return definition(x, groups)
    y = memory.empty(x.shape, x.dtype)
    run(channel_shuffle_work(y, x, groups))
    return y


def channel_shuffle_work(y: np.ndarray, x: np.ndarray, groups: int) -> Work:
    """Write ``x``, shuffled, to ``y``."""
    return fill(
        _shuffle, x.dtype, x=flat(x, x.dtype), y=y, m=x.size, groups=groups, n=x.shape[-1] // groups
    )


def channel_shuffle_backward(dy: np.ndarray, groups: int) -> np.ndarray:
    """Return dx: the shuffle with C / groups groups puts every channel back."""
    check_groups(groups, dy.shape[-1])
    return channel_shuffle(dy, dy.shape[-1] // groups)


@exact
def _shuffle(address, zero):
    r = record_at(address)
    y, x = floats(r.y, r.m, zero), floats(r.x, r.m, zero)
    if r.groups == 2:
        _interleave(y, x, r.n)
    elif r.n == 2:
        _part(y, x, r.groups)
    else:
        transpose(y, x, r.groups, r.n)


@exact_part
def _interleave(y, x, n):  # (2, n) -> (n, 2)
    for start in range(0, x.size, 2 * n):
        a, b = x[start : start + n], x[start + n : start + 2 * n]
        pairs = y[start : start + 2 * n]
        for j in range(n):
            pairs[2 * j] = a[j]
            pairs[2 * j + 1] = b[j]


@exact_part
def _part(y, x, n):  # (n, 2) -> (2, n)
    for start in range(0, x.size, 2 * n):
        a, b = y[start : start + n], y[start + n : start + 2 * n]
        pairs = x[start : start + 2 * n]
        for j in range(n):
            a[j] = pairs[2 * j]
            b[j] = pairs[2 * j + 1]


@exact_part
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
