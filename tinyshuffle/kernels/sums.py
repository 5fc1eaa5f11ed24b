"""Sums over the pixels of a tensor, one for each channel.

The channels of a pixel rarely fill whole vectors, so a tensor is read in *periods*: as many pixels
as it takes for their channels to be a multiple of 16 numbers. Several periods are added up in
registers, then join the float32 sums of a period, and those join float64 totals before rounding
shows.
"""

from __future__ import annotations

import math
from functools import cache

import numpy as np

from .jit import LANES, exact, exact_part, flat, load, store

__all__ = ["BLOCKS", "ending", "fold", "period_of", "sum_pixels"]

_PERIOD = 256  # numbers, at least

BLOCKS = 32  # blocks of a few periods that a float32 sum takes in before it is added to float64


@cache
def period_of(c: int) -> int:
    """Return a multiple of C that is one of LANES, and worth a loop of its own."""
    least = c * LANES // math.gcd(c, LANES)
    return least * -(-_PERIOD // least)


def sum_pixels(x: np.ndarray) -> np.ndarray:
    """Return Σ x of each channel: a float64 array (C,)."""
    c = x.shape[-1]
    sums = np.zeros((1, c))
    _sum(sums, flat(x, x.dtype), period_of(c))
    return sums[0]


@exact_part
def ending(x, size):
    """Return the numbers of x behind its last whole block, made a block with zeros, or nothing."""
    start = x.size - x.size % size
    rest = np.zeros(size if start < x.size else 0, x.dtype)
    for i in range(start, x.size):
        rest[i - start] = x[i]
    return rest


@exact_part
def fold(sums, parts):
    """Add the sums over a period (K, period) to those of the channels (K, C), and clear them."""
    c, width = sums.shape[1], parts.shape[1]
    while width % (2 * c) == 0:  # long loops over halves are faster than short ones over pixels
        width //= 2
        for part in parts:
            half = part[width:]
            for i in range(width):
                part[i] += half[i]
    for k in range(len(parts)):
        total = sums[k]
        for start in range(0, width, c):
            part = parts[k, start:]
            for i in range(c):
                total[i] += part[i]
    parts[:] = 0


@exact
def _sum(sums, x, period):
    block = 4 * period
    rest = ending(x, block)
    parts = np.zeros((1, period), x.dtype)
    total = parts[0]
    for a, size in ((x, x.size - x.size % block), (rest, rest.size)):
        blocks = 0
        for start in range(0, size, block):
            for i in range(start, start + period, LANES):
                v0, v1 = load(a, i), load(a, i + period)
                v2, v3 = load(a, i + 2 * period), load(a, i + 3 * period)
                store(total, i - start, load(total, i - start) + ((v0 + v1) + (v2 + v3)))
            blocks += 1
            if blocks == BLOCKS:
                fold(sums, parts)
                blocks = 0
    fold(sums, parts)
