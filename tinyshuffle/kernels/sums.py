"""Sums over the pixels of a tensor, one for each channel.

The channels of a pixel rarely fill whole vectors, so a tensor is read in *periods*: as many pixels
as it takes for their channels to be a multiple of 16 numbers. Several periods are added up in
registers, then join the float32 sums of a period, and those join float64 totals before rounding
shows.
"""

from __future__ import annotations

import math

import numpy as np

from .jit import LANES, exact, flat, load, store

__all__ = ["BLOCKS", "fold", "period_of", "source", "sum_pixels"]

BLOCKS = 32  # blocks of a few periods that a float32 sum takes in before it is added to float64


def period_of(c: int) -> int:
    """Return the least multiple of C that is one of LANES."""
    return c * LANES // math.gcd(c, LANES)


def sum_pixels(x: np.ndarray) -> np.ndarray:
    """Return Σ x of each channel: a float64 array (C,)."""
    c = x.shape[-1]
    sums = np.zeros((1, c))
    _sum(sums, flat(x, x.dtype), period_of(c))
    return sums[0]


@exact
def source(x, start, block, rest):
    """Return where a block of x can be read: in x, or in a copy of its end with zeros behind."""
    if start + block <= x.size:
        return x, start
    for i in range(block):
        rest[i] = x[start + i] if start + i < x.size else 0
    return rest, 0


@exact
def fold(sums, parts):
    """Add the sums over a period (K, period) to those of the channels (K, C), and clear them."""
    c = sums.shape[1]
    for k in range(len(parts)):
        for start in range(0, parts.shape[1], c):
            for i in range(c):
                sums[k, i] += parts[k, start + i]
    parts[:] = 0


@exact
def _sum(sums, x, period):
    block = 4 * period
    rest = np.empty(block, x.dtype)
    parts = np.zeros((1, period), x.dtype)
    total = parts[0]
    blocks = 0
    for start in range(0, x.size, block):
        a, at = source(x, start, block, rest)
        for i in range(at, at + period, LANES):
            v0, v1 = load(a, i), load(a, i + period)
            v2, v3 = load(a, i + 2 * period), load(a, i + 3 * period)
            store(total, i - at, load(total, i - at) + ((v0 + v1) + (v2 + v3)))
        blocks += 1
        if blocks == BLOCKS:
            fold(sums, parts)
            blocks = 0
    fold(sums, parts)
