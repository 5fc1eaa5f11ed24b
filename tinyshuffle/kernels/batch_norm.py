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
from ..ops.batch_norm import batch_norm_cost, batch_norm_statistics
from .jit import LANES, exact, flat, load, store, where_positive
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
    _sums(sums, flat(x, x.dtype), period_of(c))
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
    constants = _constants(x, gamma, beta, mean, var)
    _normalise(y.reshape(-1), flat(x, x.dtype), *constants, eps, relu, period_of(x.shape[-1]))
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
    sums = np.zeros((2, x.shape[-1]))
    constants = _constants(x, gamma, beta, mean, var)
    _backward_sums(sums, dyf, xf, *constants, eps, relu, period_of(x.shape[-1]))
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
    return _dx(dy, x, gamma, beta, mean, var, sums / count, eps, relu)


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
    return _dx(dy, x, gamma, beta, mean, var, np.zeros((2, x.shape[-1])), eps, relu)


def _dx(
    dy: np.ndarray,
    x: np.ndarray,
    gamma: np.ndarray,
    beta: np.ndarray,
    mean: np.ndarray,
    var: np.ndarray,
    means: np.ndarray,
    eps: float,
    relu: bool,
) -> np.ndarray:
    """BN-7; ``means`` (2, C) are those of dz and dz·x̂, or zeros in evaluation."""
    dyf, xf = flat(dy, x.dtype, x.shape), flat(x, x.dtype)
    means = flat(means, np.dtype(np.float64), (2, x.shape[-1])).reshape(means.shape)
    dx = memory.empty(x.shape, x.dtype)
    constants = _constants(x, gamma, beta, mean, var)
    _backward(dx.reshape(-1), dyf, xf, *constants, means, eps, relu, period_of(x.shape[-1]))
    return dx


def _constants(x: np.ndarray, *params: np.ndarray) -> list[np.ndarray]:
    """γ and β in the type of ``x``, μ and σ² in float64."""
    shape, double = (x.shape[-1],), np.dtype(np.float64)
    dtypes = (x.dtype, x.dtype, double, double)
    return [flat(p, dtype, shape) for p, dtype in zip(params, dtypes, strict=True)]


@exact
def _table(gamma, beta, mean, var, eps, period):
    # The constants of a period, one a row: μ, 1 / √(σ² + ε), γ / √(σ² + ε), β
    c = gamma.size
    table = np.empty((4, period), gamma.dtype)
    for i in range(c):
        table[0, i] = mean[i]
        table[1, i] = 1 / np.sqrt(var[i] + eps)
        table[2, i] = gamma[i] * table[1, i]
        table[3, i] = beta[i]
    for i in range(c, period):
        for k in range(4):
            table[k, i] = table[k, i - c]
    return table


@exact
def _sums(sums, x, period):
    block = 4 * period
    rest = ending(x, block)
    parts = np.zeros((2, period), x.dtype)
    total, squares = parts[0], parts[1]
    for a, size in ((x, x.size - x.size % block), (rest, block)):
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
                fold(sums[1:], parts)
                blocks = 0
        fold(sums[1:], parts)


@exact
def _normalise(y, x, gamma, beta, mean, var, eps, relu, period):
    table = _table(gamma, beta, mean, var, eps, period)
    mu, scale, shift = table[0], table[2], table[3]
    floor = y.dtype.type(0 if relu else -np.inf)
    for start in range(0, x.size, period):
        a, b = x[start : start + period], y[start : start + period]
        for i in range(a.size):
            v = (a[i] - mu[i]) * scale[i] + shift[i]
            b[i] = floor if v <= floor else v  # a NaN stays one


@exact
def _backward_sums(sums, dy, x, gamma, beta, mean, var, eps, relu, period):
    table = _table(gamma, beta, mean, var, eps, period)
    mu, scale, shift = table[0], table[2], table[3]
    if not relu:
        shift[:] = np.inf
    block = 2 * period
    rest_dy, rest_x = ending(dy, block), ending(x, block)
    parts = np.zeros((2, period), x.dtype)
    dbeta, dgamma = parts[0], parts[1]
    for d, a, size in ((dy, x, x.size - x.size % block), (rest_dy, rest_x, block)):
        blocks = 0
        for start in range(0, size, block):
            for i in range(period // LANES):
                at, to = start + i * LANES, i * LANES
                m, s, t = load(mu, to), load(scale, to), load(shift, to)
                v0, v1 = load(a, at) - m, load(a, at + period) - m
                dz0 = where_positive(load(d, at), v0 * s + t)
                dz1 = where_positive(load(d, at + period), v1 * s + t)
                store(dbeta, to, load(dbeta, to) + (dz0 + dz1))
                store(dgamma, to, load(dgamma, to) + (dz0 * v0 + dz1 * v1))
            blocks += 1
            if blocks == BLOCKS:
                fold(sums, parts)
                blocks = 0
        fold(sums, parts)
    for i in range(sums.shape[1]):
        sums[1, i] *= table[1, i]  # Σ dz (x - μ) so far


@exact
def _backward(dx, dy, x, gamma, beta, mean, var, means, eps, relu, period):
    table = _table(gamma, beta, mean, var, eps, period)
    mu, scale, shift = table[0], table[2], table[3]
    if not relu:
        shift[:] = np.inf
    c = gamma.size
    mean_dz, slope = np.empty(period, x.dtype), np.empty(period, x.dtype)
    for i in range(period):
        mean_dz[i] = means[0, i % c]
        slope[i] = means[1, i % c] * table[1, i]
    for start in range(0, x.size, period):
        a, d = x[start : start + period], dy[start : start + period]
        b = dx[start : start + period]
        for i in range(a.size):
            v = a[i] - mu[i]
            dz = d[i] if v * scale[i] + shift[i] > 0 else d.dtype.type(0)
            b[i] = scale[i] * (dz - mean_dz[i] - v * slope[i])
