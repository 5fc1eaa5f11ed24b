"""Batch normalisation: see ``ops.batch_norm`` for the mathematics.

Every function is one pass over its tensors, which it reads in periods (see ``sums``); the constants
of the channels lie repeated over one period.

The ReLU's mask is computed again in the backward pass with the same instructions as in the forward
pass, and without FMA, so it is the same to the bit. Where there was no ReLU, the backward pass uses
β = +inf in this expression: the mask is open everywhere.
"""

from __future__ import annotations

import numpy as np

from .. import memory
from ..errors import TinyshuffleError
from ..ops.batch_norm import HUGE, batch_norm_cost, batch_norm_statistics
from ..values import flags
from .jit import LANES, exact, flat, fused, load, scratch, store, where_greater, where_positive
from .sums import BLOCKS, ending, fold, period_of

__all__ = [
    "batch_norm",
    "batch_norm_backward",
    "batch_norm_backward_sums",
    "batch_norm_cost",
    "batch_norm_eval_backward",
    "batch_norm_statistics",
    "batch_norm_sums",
]


def batch_norm_sums(x: np.ndarray) -> np.ndarray:
    """Return (M, Σ x, Σ x²) of each channel, float64 (3, C); see ``ops.batch_norm_sums``."""
    sums = np.zeros((3, x.shape[-1]))
    add_sums(sums, flat(x, x.dtype), period_of(x.shape[-1]))
    return sums


@flags
def batch_norm(
    x: np.ndarray,
    gamma: np.ndarray,
    beta: np.ndarray,
    mean: np.ndarray,
    var: np.ndarray,
    eps: float = 1e-5,
    relu: bool = False,
) -> np.ndarray:
    """Normalise ``x`` with the given statistics; see ``ops.batch_norm``."""
    y = memory.empty(x.shape, x.dtype)
    constants = constants_of(x, gamma, beta, mean, var)
    _normalise(y.reshape(-1), flat(x, x.dtype), constants, eps, relu, period_of(x.shape[-1]))
    return y


@flags
def batch_norm_backward_sums(
    dy: np.ndarray,
    x: np.ndarray,
    gamma: np.ndarray,
    beta: np.ndarray,
    mean: np.ndarray,
    var: np.ndarray,
    eps: float = 1e-5,
    relu: bool = False,
) -> np.ndarray:
    """Return (dβ, dγ) of this slice, float64 (2, C); see ``ops.batch_norm_backward_sums``."""
    dyf, xf = flat(dy, x.dtype, x.shape), flat(x, x.dtype)
    sums, constants = np.zeros((2, x.shape[-1])), constants_of(x, gamma, beta, mean, var)
    _backward_sums(sums, dyf, xf, constants, eps, relu, period_of(x.shape[-1]))
    return sums


@flags
def batch_norm_backward(
    dy: np.ndarray,
    x: np.ndarray,
    gamma: np.ndarray,
    beta: np.ndarray,
    mean: np.ndarray,
    var: np.ndarray,
    sums: np.ndarray,
    count: np.ndarray | int,
    eps: float = 1e-5,
    relu: bool = False,
) -> np.ndarray:
    """Return dx in training; see ``ops.batch_norm_backward``."""
    dyf, xf = flat(dy, x.dtype, x.shape), flat(x, x.dtype)
    dx, constants = memory.empty(x.shape, x.dtype), constants_of(x, gamma, beta, mean, var)
    means, period = sums / count, period_of(x.shape[-1])
    _backward(dx.reshape(-1), dyf, xf, constants, means, eps, relu, period)
    return dx


@flags
def batch_norm_eval_backward(
    dy: np.ndarray,
    x: np.ndarray,
    gamma: np.ndarray,
    beta: np.ndarray,
    mean: np.ndarray,
    var: np.ndarray,
    eps: float = 1e-5,
    relu: bool = False,
) -> np.ndarray:
    """Return dx when μ and σ² are constants; see ``ops.batch_norm_eval_backward``."""
    dyf, xf = flat(dy, x.dtype, x.shape), flat(x, x.dtype)
    dx, constants = memory.empty(x.shape, x.dtype), constants_of(x, gamma, beta, mean, var)
    _eval_backward(dx.reshape(-1), dyf, xf, constants, eps, relu, period_of(x.shape[-1]))
    return dx


@exact
def _normalise(y, x, constants, eps, relu, period):
    normalise(y, x, table_of(constants, eps, period, x), relu)


@exact
def _backward_sums(sums, dy, x, constants, eps, relu, period):
    table = table_of(constants, eps, period, x)
    add_backward_sums(sums, dy, x, table, relu)
    finish_backward_sums(sums, table)


@exact
def _backward(dx, dy, x, constants, means, eps, relu, period):
    table = table_of(constants, eps, period, x)
    backward(dx, dy, x, table, slopes_of(table, means), relu)


@exact
def _eval_backward(dx, dy, x, constants, eps, relu, period):
    table = table_of(constants, eps, period, x)
    k, scale, shift = table[0], table[2], table[3]
    zero = dy.dtype.type(0)
    for start in range(0, x.size, period):
        a, d, to = x[start : start + period], dy[start : start + period], dx[start : start + period]
        for i in range(a.size):
            closed = relu and (a[i] - k[i]) * scale[i] + shift[i] <= 0
            to[i] = scale[i] * (zero if closed else d[i])


@exact
def finish_backward_sums(sums, table):
    """Make dγ = Σ dz x̂ of Σ dz (x - k)."""
    for i in range(sums.shape[1]):
        sums[1, i] = sums[1, i] * table[1, i] + sums[0, i] * table[4, i]


def constants_of(
    x: np.ndarray, gamma: np.ndarray, beta: np.ndarray, mean: np.ndarray, var: np.ndarray
) -> np.ndarray:
    """Return γ, β, μ and σ² as one array, float64 (4, C), for :func:`table_of`."""
    shape = (x.shape[-1],)
    if not gamma.shape == beta.shape == mean.shape == var.shape == shape:
        wrong = next(p.shape for p in (gamma, beta, mean, var) if p.shape != shape)
        raise TinyshuffleError(f"got an array of shape {wrong} where {shape} fits the others")
    return np.array([gamma, beta, mean, var], np.float64)


@exact
def table_of(constants, eps, period, zero):
    """Return k, s = 1 / √(σ² + ε), γ s, β + γ r and r, repeated over a period: (5, period).

    With them x̂ = (x - k) s + r and y = (x - k) γ s + (β + γ r), as in ``ops.batch_norm``. In the
    type of the array ``zero``. Without constants, (4, 0), the table is empty.
    """
    c = constants.shape[1]
    numbers = period if c > 0 else 0
    table = scratch(5 * numbers, zero).reshape(5, numbers)
    for i in range(c):
        gamma, beta, mean, var = constants[0, i], constants[1, i], constants[2, i], constants[3, i]
        inv_std = 1 / np.sqrt(var + eps)
        table[0, i] = 0 if var > HUGE else mean
        table[1, i] = inv_std
        table[2, i] = zero.dtype.type(gamma) * table[1, i]
        r = (np.float64(table[0, i]) - mean) * inv_std
        table[3, i] = beta + gamma * r
        table[4, i] = r
    return repeat(table, c)


@exact
def slopes_of(table, means):
    """Return the last two factors of BN-7 over a period, of the means (2, C) of dz and dz·x̂."""
    c = means.shape[1]
    slopes = scratch(2 * table.shape[1], table).reshape(2, table.shape[1])
    for i in range(c):  # they meet x - k, not x̂
        slopes[0, i] = means[0, i] + means[1, i] * table[4, i]
        slopes[1, i] = table.dtype.type(means[1, i]) * table[1, i]
    return repeat(slopes, c)


@exact
def repeat(table, c):
    """Fill each row of a table with its first C numbers."""
    for row in table:
        for i in range(c, row.size):
            row[i] = row[i - c]
    return table


@fused
def add_sums(sums, x, period):
    """Add M, Σ x and Σ x² of each channel to sums (3, C).

    Where |μ| is large beside σ, nothing of σ² would be left in float32 squares of x. So what is
    summed up in float32 is x - k and its square, where k is the mean of all numbers before, or of
    the first of them. In whatever order they come, Σ (x - k)² is at most BLOCKS + 3 times M σ².
    """
    c, block = sums.shape[1], 4 * period
    parts = scratch(3 * period, x).reshape(3, period)
    total, squares, k = parts[0], parts[1], parts[2]
    here = np.empty((2, c))
    for first in range(0, x.size, BLOCKS * block):
        numbers = x[first : first + BLOCKS * block]
        _centre(k, sums, numbers)
        total[:] = 0
        squares[:] = 0
        whole = numbers.size - numbers.size % block
        for start in range(0, whole, block):
            for i in range(0, period, LANES):
                m, at = load(k, i), start + i
                v0, v1 = load(numbers, at) - m, load(numbers, at + period) - m
                v2, v3 = load(numbers, at + 2 * period) - m, load(numbers, at + 3 * period) - m
                store(total, i, load(total, i) + ((v0 + v1) + (v2 + v3)))
                square = load(squares, i) + v0 * v0 + v1 * v1
                store(squares, i, square + v2 * v2 + v3 * v3)
        for start in range(whole, numbers.size, period):
            rest = numbers[start : start + period]
            for i in range(rest.size):
                u = rest[i] - k[i]
                total[i] += u
                squares[i] += u * u
        if not _finite(squares):
            _add_wide_sums(sums, numbers)
            continue
        here[:] = 0
        fold(here, parts[:2])
        n = numbers.size // c
        for i in range(c):
            of = np.float64(k[i])
            sums[0, i] += n
            sums[1, i] += here[0, i] + n * of
            sums[2, i] += here[1, i] + of * (2 * here[0, i] + n * of)


@exact
def _centre(k, sums, x):
    """Write numbers near those of the channels to a period: the mean so far, or of some of x."""
    c = sums.shape[1]
    if sums[0, 0] > 0:
        for i in range(c):
            k[i] = sums[1, i] / sums[0, i]
    else:
        size = min(x.size, 4 * k.size)
        k[:c] = 0
        for start in range(0, size, c):
            pixel = x[start : start + c]
            for i in range(c):
                k[i] += pixel[i]
        for i in range(c):
            k[i] /= size // c
    for start in range(c, k.size, c):
        copy = k[start : start + c]
        for i in range(c):
            copy[i] = k[i]


@exact
def _finite(parts):
    """Whether all numbers of a period are, and their sum."""
    some = np.zeros(LANES, parts.dtype)
    v = load(some, 0)
    for i in range(0, parts.size, LANES):
        v = v + load(parts, i)
    store(some, 0, v)
    return np.isfinite(some.sum())


@exact
def _add_wide_sums(sums, x):
    """Add M, Σ x and Σ x² of numbers whose squares are too large for float32."""
    c = sums.shape[1]
    for start in range(0, x.size, c):
        for i in range(c):
            v = np.float64(x[start + i])
            sums[1, i] += v
            sums[2, i] += v * v
    sums[0] += x.size // c


@exact
def normalise(y, x, table, relu):
    """Write BN-4 of x to y, which may be x."""
    k, scale, shift = table[0], table[2], table[3]
    period = k.size
    zero = np.zeros(LANES, x.dtype)
    none = load(zero, 0)
    low = y.dtype.type(0 if relu else -np.inf)
    for start in range(0, x.size, period):
        size = min(period, x.size - start)
        whole = size - size % LANES
        for i in range(0, whole, LANES):
            v = (load(x, start + i) - load(k, i)) * load(scale, i) + load(shift, i)
            if relu:
                v = where_greater(v, none, v, none)
            store(y, start + i, v)
        for i in range(whole, size):
            u = (x[start + i] - k[i]) * scale[i] + shift[i]
            y[start + i] = low if u <= low else u  # a NaN stays one


@exact
def add_backward_sums(sums, dy, x, table, relu):
    """Add Σ dz and Σ dz (x - k) of each channel to sums (2, C)."""
    k, scale, shift = table[0], table[2], table[3]
    if not relu:
        shift = np.full_like(shift, np.inf)
    period = k.size
    block = 4 * period
    parts = scratch(2 * period, x).reshape(2, period)
    dbeta, dgamma = parts[0], parts[1]
    for first in range(0, x.size, BLOCKS * block):
        there = slice(first, min(first + BLOCKS * block, x.size))
        gradients, numbers = dy[there], x[there]
        whole = numbers.size - numbers.size % block
        rest_dy, rest_x = ending(gradients, block), ending(numbers, block)
        parts[:] = 0
        for d, a, size in ((gradients, numbers, whole), (rest_dy, rest_x, rest_x.size)):
            for start in range(0, size, block):
                for i in range(period // LANES):
                    at, to = start + i * LANES, i * LANES
                    m, s, t = load(k, to), load(scale, to), load(shift, to)
                    v0, v1 = load(a, at) - m, load(a, at + period) - m
                    v2, v3 = load(a, at + 2 * period) - m, load(a, at + 3 * period) - m
                    dz0 = where_positive(load(d, at), v0 * s + t)
                    dz1 = where_positive(load(d, at + period), v1 * s + t)
                    dz2 = where_positive(load(d, at + 2 * period), v2 * s + t)
                    dz3 = where_positive(load(d, at + 3 * period), v3 * s + t)
                    store(dbeta, to, load(dbeta, to) + ((dz0 + dz1) + (dz2 + dz3)))
                    slope = (dz0 * v0 + dz1 * v1) + (dz2 * v2 + dz3 * v3)
                    store(dgamma, to, load(dgamma, to) + slope)
        if _finite(dbeta) and _finite(dgamma):
            fold(sums, parts)
        else:
            _add_wide_backward_sums(sums, gradients, numbers, table, relu)


@exact
def _add_wide_backward_sums(sums, dy, x, table, relu):
    """Add Σ dz and Σ dz (x - k) of numbers whose products are too large for float32."""
    c, k, scale, shift = sums.shape[1], table[0], table[2], table[3]
    for start in range(0, x.size, c):
        for i in range(c):
            u = x[start + i] - k[i]
            if not (relu and u * scale[i] + shift[i] <= 0):
                d = np.float64(dy[start + i])
                sums[0, i] += d
                sums[1, i] += d * u


@exact
def backward(dx, dy, x, table, slopes, relu):
    """Write BN-7 to dx, which may be dy."""
    k, scale, shift, mean_dz, slope = table[0], table[2], table[3], slopes[0], slopes[1]
    if not relu:
        shift = np.full_like(shift, np.inf)
    period = k.size
    for start in range(0, x.size, period):
        size = min(period, x.size - start)
        whole = size - size % LANES
        for i in range(0, whole, LANES):
            v, s = load(x, start + i) - load(k, i), load(scale, i)
            dz = where_positive(load(dy, start + i), v * s + load(shift, i))
            store(dx, start + i, s * (dz - load(mean_dz, i) - v * load(slope, i)))
        for i in range(whole, size):
            u = x[start + i] - k[i]
            d = dy.dtype.type(0) if u * scale[i] + shift[i] <= 0 else dy[start + i]
            dx[start + i] = scale[i] * (d - mean_dz[i] - u * slope[i])
