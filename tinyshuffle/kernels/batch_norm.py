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
from ..ops.batch_norm import batch_norm_cost, batch_norm_statistics
from .jit import LANES, exact, flat, load, scratch, store, where_greater, where_positive
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
    c = x.shape[-1]
    sums = np.zeros((3, c))
    sums[0] = x.size // c
    add_sums(sums[1:], flat(x, x.dtype), period_of(c))
    return sums


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


def batch_norm_backward(
    dy: np.ndarray,
    x: np.ndarray,
    gamma: np.ndarray,
    beta: np.ndarray,
    mean: np.ndarray,
    var: np.ndarray,
    sums: np.ndarray,
    count: np.ndarray,
    eps: float = 1e-5,
    relu: bool = False,
) -> np.ndarray:
    """Return dx in training; see ``ops.batch_norm_backward``."""
    return _dx(dy, x, constants_of(x, gamma, beta, mean, var), sums / count, eps, relu)


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
    means = np.zeros((2, x.shape[-1]))
    return _dx(dy, x, constants_of(x, gamma, beta, mean, var), means, eps, relu)


def _dx(
    dy: np.ndarray,
    x: np.ndarray,
    constants: np.ndarray,
    means: np.ndarray,
    eps: float,
    relu: bool,
) -> np.ndarray:
    dyf, xf = flat(dy, x.dtype, x.shape), flat(x, x.dtype)
    dx = memory.empty(x.shape, x.dtype)
    _backward(dx.reshape(-1), dyf, xf, constants, means, eps, relu, period_of(x.shape[-1]))
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
def finish_backward_sums(sums, table):
    """Make dγ = Σ dz x̂ of Σ dz (x - μ)."""
    for i in range(sums.shape[1]):
        sums[1, i] *= table[1, i]


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
    """Return μ, 1 / √(σ² + ε), γ / √(σ² + ε) and β, repeated over a period: (4, period).

    In the type of the array ``zero``. Without constants, (4, 0), the table is empty.
    """
    c = constants.shape[1]
    numbers = period if c > 0 else 0
    table = scratch(4 * numbers, zero).reshape(4, numbers)
    for i in range(c):
        table[0, i] = constants[2, i]
        table[1, i] = 1 / np.sqrt(constants[3, i] + eps)
        table[2, i] = zero.dtype.type(constants[0, i]) * table[1, i]
        table[3, i] = constants[1, i]
    return repeat(table, c)


@exact
def slopes_of(table, means):
    """Return the last two factors of BN-7 over a period, of the means (2, C) of dz and dz·x̂."""
    c = means.shape[1]
    slopes = scratch(2 * table.shape[1], table).reshape(2, table.shape[1])
    for i in range(c):
        slopes[0, i] = means[0, i]
        slopes[1, i] = table.dtype.type(means[1, i]) * table[1, i]  # it meets x - μ, not x̂
    return repeat(slopes, c)


@exact
def repeat(table, c):
    """Fill each row of a table with its first C numbers."""
    for row in table:
        for i in range(c, row.size):
            row[i] = row[i - c]
    return table


@exact
def add_sums(sums, x, period):
    """Add Σ x and Σ x² of each channel to sums (2, C)."""
    block = 4 * period
    rest = ending(x, block)
    parts = scratch(2 * period, x).reshape(2, period)
    parts[:] = 0
    total, squares = parts[0], parts[1]
    for a, size in ((x, x.size - x.size % block), (rest, rest.size)):
        blocks = 0
        for start in range(0, size, block):
            for i in range(period // LANES):
                at, to = start + i * LANES, i * LANES
                v0, v1 = load(a, at), load(a, at + period)
                v2, v3 = load(a, at + 2 * period), load(a, at + 3 * period)
                store(total, to, load(total, to) + ((v0 + v1) + (v2 + v3)))
                v0, v1, v2, v3 = v0 * v0, v1 * v1, v2 * v2, v3 * v3
                store(squares, to, load(squares, to) + ((v0 + v1) + (v2 + v3)))
            blocks += 1
            if blocks == BLOCKS:
                fold(sums, parts)
                blocks = 0
    fold(sums, parts)


@exact
def normalise(y, x, table, relu):
    """Write BN-4 of x to y, which may be x."""
    mu, scale, shift = table[0], table[2], table[3]
    period = mu.size
    zero = np.zeros(LANES, x.dtype)
    none = load(zero, 0)
    low = y.dtype.type(0 if relu else -np.inf)
    for start in range(0, x.size, period):
        size = min(period, x.size - start)
        whole = size - size % LANES
        for i in range(0, whole, LANES):
            v = (load(x, start + i) - load(mu, i)) * load(scale, i) + load(shift, i)
            if relu:
                v = where_greater(v, none, v, none)
            store(y, start + i, v)
        for i in range(whole, size):
            u = (x[start + i] - mu[i]) * scale[i] + shift[i]
            y[start + i] = low if u <= low else u  # a NaN stays one


@exact
def add_backward_sums(sums, dy, x, table, relu):
    """Add Σ dz and Σ dz (x - μ) of each channel to sums (2, C)."""
    mu, scale, shift = table[0], table[2], table[3]
    if not relu:
        shift = np.full_like(shift, np.inf)
    period = mu.size
    block = 4 * period
    rest_dy, rest_x = ending(dy, block), ending(x, block)
    parts = scratch(2 * period, x).reshape(2, period)
    parts[:] = 0
    dbeta, dgamma = parts[0], parts[1]
    for d, a, size in ((dy, x, x.size - x.size % block), (rest_dy, rest_x, rest_x.size)):
        blocks = 0
        for start in range(0, size, block):
            for i in range(period // LANES):
                at, to = start + i * LANES, i * LANES
                m, s, t = load(mu, to), load(scale, to), load(shift, to)
                v0, v1 = load(a, at) - m, load(a, at + period) - m
                v2, v3 = load(a, at + 2 * period) - m, load(a, at + 3 * period) - m
                dz0 = where_positive(load(d, at), v0 * s + t)
                dz1 = where_positive(load(d, at + period), v1 * s + t)
                dz2 = where_positive(load(d, at + 2 * period), v2 * s + t)
                dz3 = where_positive(load(d, at + 3 * period), v3 * s + t)
                store(dbeta, to, load(dbeta, to) + ((dz0 + dz1) + (dz2 + dz3)))
                slope = (dz0 * v0 + dz1 * v1) + (dz2 * v2 + dz3 * v3)
                store(dgamma, to, load(dgamma, to) + slope)
            blocks += 1
            if blocks == BLOCKS:
                fold(sums, parts)
                blocks = 0
    fold(sums, parts)


@exact
def backward(dx, dy, x, table, slopes, relu):
    """Write BN-7 to dx, which may be dy."""
    mu, scale, shift, mean_dz, slope = table[0], table[2], table[3], slopes[0], slopes[1]
    if not relu:
        shift = np.full_like(shift, np.inf)
    period = mu.size
    for start in range(0, x.size, period):
        size = min(period, x.size - start)
        whole = size - size % LANES
        for i in range(0, whole, LANES):
            v, s = load(x, start + i) - load(mu, i), load(scale, i)
            dz = where_positive(load(dy, start + i), v * s + load(shift, i))
            store(dx, start + i, s * (dz - load(mean_dz, i) - v * load(slope, i)))
        for i in range(whole, size):
            u = x[start + i] - mu[i]
            d = dy[start + i] if u * scale[i] + shift[i] > 0 else dy.dtype.type(0)
            dx[start + i] = scale[i] * (d - mean_dz[i] - u * slope[i])
