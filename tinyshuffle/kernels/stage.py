"""What is done to a block of pixels before and behind a convolution."""

from __future__ import annotations

import numpy as np

from .batch_norm import add_sums, backward, normalise
from .channel_shuffle import transpose
from .jit import fused_part, scratch

__all__ = ["add", "finish", "folded_weights", "folding", "gradient_block", "stage"]

_LARGE = 1e18  # a factor or a shift that is not folded into weights


@fused_part
def folding(table, o):
    """What a norm multiplies the weights in front of it by, for each channel, and adds behind them.

    Nothing, if that makes them so large that sums might be infinite which are not without the norm.
    """
    if table.size == 0:
        return table[2, :0], table[3, :0]
    scale, shifts = table[2, :o], scratch(o, table)
    for j in range(o):
        shifts[j] = np.float64(table[3, j]) - np.float64(table[0, j]) * scale[j]
    for j in range(o):
        if not max(abs(scale[j]), abs(shifts[j])) < _LARGE:
            return scale[:0], shifts[:0]
    return scale, shifts


@fused_part
def folded_weights(w, k, scale):
    """The weights (K, O) of a convolution times the scale (O,) of a norm."""
    o = scale.size
    out = scratch(k * o, w)
    for i in range(k):
        for j in range(o):
            out[i * o + j] = w[i * o + j] * scale[j]
    return out


@fused_part
def stage(to, spare, x, at, x_row, m, c, table, relu, shuffle):
    """Write m pixels of x, normalised and shuffled, to a scratch array."""
    size = m * c
    target = spare if shuffle > 1 else to
    if table.size > 0:
        normalise(target[:size], x[at : at + size], table, relu)
    else:
        for r in range(m):
            row, pixel = target[r * c : (r + 1) * c], x[at + r * x_row : at + r * x_row + c]
            for i in range(c):
                row[i] = pixel[i]
    if shuffle > 1:
        transpose(to[:size], spare[:size], shuffle, c // shuffle)


@fused_part
def finish(y, sums, period, table, relu, scale):
    """Do what is behind a convolution with a block that it has made: sums, or a norm, or a ReLU.

    The norm is done already where the weights were multiplied by its ``scale``.
    """
    if sums.size > 0:
        add_sums(sums, y, period)
    elif table.size > 0 and scale.size == 0:
        normalise(y, y, table, relu)
    elif relu:
        for i in range(y.size):
            y[i] = 0 if y[i] < 0 else y[i]  # a NaN stays one


@fused_part
def gradient_block(to, dy, at, dy_row, y, m, o, table, slopes, relu):
    """Write the gradient of m pixels of y to a scratch array."""
    size = m * o
    d = dy[at * o : at * o + size]
    if dy_row != o:
        for r in range(m):
            row = to[r * o : (r + 1) * o]
            pixel = dy[(at + r) * dy_row : (at + r) * dy_row + o]
            for i in range(o):
                row[i] = pixel[i]
        d = to[:size]
    if table.size > 0:
        backward(to[:size], d, y[at * o : at * o + size], table, slopes, relu)
    elif dy_row == o:
        for i in range(size):
            to[i] = d[i]


@fused_part
def add(y, y_row, x, m, c):
    """Add m pixels of x to those of y, which are ``y_row`` apart."""
    if y_row == c:
        for i in range(m * c):
            y[i] += x[i]
        return
    for r in range(m):
        to, pixel = y[r * y_row : r * y_row + c], x[r * c : (r + 1) * c]
        for i in range(c):
            to[i] += pixel[i]
