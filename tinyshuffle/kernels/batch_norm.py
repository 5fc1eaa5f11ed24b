"""Batch normalisation: see ``ops.batch_norm`` for the mathematics.

Every function is one pass over its tensors, which it reads in periods (see ``sums``); the constants
of the channels lie repeated over one period.

The ReLU's mask is computed again in the backward pass with the same instructions as in the forward
pass, and without FMA, so it is the same to the bit. Where there was no ReLU, the backward pass uses
β = +inf in this expression: the mask is open everywhere.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from .. import memory
from ..errors import TinyshuffleError
from ..ops.batch_norm import HUGE, batch_norm_cost, batch_norm_statistics
from ..values import flags
from .jit import (
    LANES,
    exact,
    exact_part,
    flat,
    fused_part,
    load,
    scratch,
    store,
    where_greater,
    where_positive,
)
from .record import NORM, Work, address_of, doubles, fill, floats, record_at, run
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
    sums = np.empty((3, x.shape[-1]))
    run(sums_work(sums, x))
    return sums


def sums_work(sums: np.ndarray, x: np.ndarray) -> Work:
    """Write the sums of ``x`` to ``sums``."""
    c, period = x.shape[-1], period_of(x.shape[-1])
    return fill(
        _sums, x.dtype, x=flat(x, x.dtype), sums=sums, m=x.size // c, c=c, period=period
    )


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
    run(normalise_work(y, x, gamma, beta, mean, var, eps, relu))
    return y


def normalise_work(y: np.ndarray, x: np.ndarray, *norm: Any) -> Work:
    """Write what a norm (γ, β, μ, σ², ε, ReLU) makes of ``x`` to ``y``."""
    return _work(_normalise, x, norm, y=y)


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
    sums = np.empty((2, x.shape[-1]))
    run(backward_sums_work(sums, dy, x, gamma, beta, mean, var, eps, relu))
    return sums


def backward_sums_work(sums: np.ndarray, dy: np.ndarray, x: np.ndarray, *norm: Any) -> Work:
    """Write dβ and dγ of a slice to ``sums``."""
    return _work(_backward_sums, x, norm, dy=flat(dy, x.dtype, x.shape), sums=sums)


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
    dx = memory.empty(x.shape, x.dtype)
    run(backward_work(dx, dy, x, gamma, beta, mean, var, sums, count, eps, relu))
    return dx


def backward_work(
    dx: np.ndarray, dy: np.ndarray, x: np.ndarray, gamma: np.ndarray, beta: np.ndarray,
    mean: np.ndarray, var: np.ndarray, sums: np.ndarray, count: np.ndarray | int,
    eps: float = 1e-5, relu: bool = False,
) -> Work:  # fmt: skip
    """Write BN-7 to ``dx``."""
    norm = gamma, beta, mean, var, eps, relu, 1, sums, count
    return _work(_backward, x, norm, dy=flat(dy, x.dtype, x.shape), dx=dx)


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
    dx, norm = memory.empty(x.shape, x.dtype), (gamma, beta, mean, var, eps, relu)
    run(_work(_eval_backward, x, norm, dy=flat(dy, x.dtype, x.shape), dx=dx))
    return dx


def _work(kernel: Any, x: np.ndarray, norm: tuple[Any, ...], **arrays: Any) -> Work:
    c = x.shape[-1]
    return fill(
        kernel, x.dtype, x=flat(x, x.dtype), behind=norm_of(norm, c, x.dtype),
        m=x.size // c, c=c, period=period_of(c), **arrays,
    )  # fmt: skip


def norm_of(norm: tuple[Any, ...] | None, c: int, dtype: np.dtype) -> tuple[Any, ...]:
    """Return a norm (γ, β, μ, σ², ε, ReLU, shuffle, sums, pixels) as a record, and its arrays.

    What is left out at the end is as if there were none; None is no norm at all.
    """
    fields = np.zeros((), NORM)
    fields["shuffle"] = 1
    if norm is None:
        return (fields,)
    values: list[Any] = [*norm, *_REST[len(norm) :]]
    gamma, beta, mean, var, eps, relu, shuffle, sums, pixels = values
    if not gamma.shape == beta.shape == mean.shape == var.shape == (c,):
        wrong = next(p.shape for p in (gamma, beta, mean, var) if p.shape != (c,))
        raise TinyshuffleError(f"got an array of shape {wrong} where {(c,)} fits the others")
    wide = np.dtype(np.float64 if mean.dtype != dtype or var.dtype != dtype else dtype)
    kinds: list[np.dtype] = [dtype, dtype, wide, wide]
    arrays = [flat(p, k) for p, k in zip((gamma, beta, mean, var), kinds, strict=True)]
    for name, array in zip(("gamma", "beta", "means", "variances"), arrays, strict=True):
        fields[name] = address_of(array)
    fields["wide"] = wide == np.float64
    fields["eps"], fields["relu"], fields["shuffle"] = eps, relu, shuffle
    if sums is not None:
        sums, pixels = flat(sums, np.dtype(np.float64), (2, c)), _one(pixels)
        fields["sums"], fields["pixels"] = address_of(sums), pixels
    return fields, arrays, sums


_REST = (None, None, None, None, 1e-5, False, 1, None, 0.0)


def _one(count: Any) -> float:
    """The number of pixels, which is the same for all channels."""
    return float(np.ravel(count)[0])


@exact
def _sums(address, zero):
    r = record_at(address)
    sums = doubles(r.sums, 3 * r.c).reshape(3, r.c)
    sums[:] = 0
    add_sums(sums, floats(r.x, r.m * r.c, zero), r.period)


@exact
def _normalise(address, zero):
    r = record_at(address)
    x, y = floats(r.x, r.m * r.c, zero), floats(r.y, r.m * r.c, zero)
    normalise(y, x, table_of(r.behind, r.c, r.period, x, zero), r.behind.relu != 0)


@exact
def _backward_sums(address, zero):
    r = record_at(address)
    x, dy = floats(r.x, r.m * r.c, zero), floats(r.dy, r.m * r.c, zero)
    sums = doubles(r.sums, 2 * r.c).reshape(2, r.c)
    sums[:] = 0
    table = table_of(r.behind, r.c, r.period, x, zero)
    add_backward_sums(sums, dy, x, table, r.behind.relu != 0)
    finish_backward_sums(sums, table)


@exact
def _backward(address, zero):
    r = record_at(address)
    x, dy = floats(r.x, r.m * r.c, zero), floats(r.dy, r.m * r.c, zero)
    table = table_of(r.behind, r.c, r.period, x, zero)
    slopes = slopes_of(r.behind, r.c, table)
    backward(floats(r.dx, r.m * r.c, zero), dy, x, table, slopes, r.behind.relu != 0)


@exact
def _eval_backward(address, zero):
    r = record_at(address)
    x, dy = floats(r.x, r.m * r.c, zero), floats(r.dy, r.m * r.c, zero)
    dx, relu = floats(r.dx, r.m * r.c, zero), r.behind.relu != 0
    table = table_of(r.behind, r.c, r.period, x, zero)
    k, scale, shift = table[0], table[2], table[3]
    for start in range(0, x.size, r.period):
        end = start + r.period
        a, d, to = x[start:end], dy[start:end], dx[start:end]
        for i in range(a.size):
            closed = relu and (a[i] - k[i]) * scale[i] + shift[i] <= 0
            to[i] = scale[i] * (zero if closed else d[i])


@exact_part
def finish_backward_sums(sums, table):
    """Make dγ = Σ dz x̂ of Σ dz (x - k)."""
    for i in range(sums.shape[1]):
        sums[1, i] = sums[1, i] * table[1, i] + sums[0, i] * table[4, i]


@exact_part
def table_of(norm, c, period, like, zero):
    """Return k, s = 1 / √(σ² + ε), γ s, β + γ r and r, repeated over a period: (5, period).

    With them x̂ = (x - k) s + r and y = (x - k) γ s + (β + γ r), as in ``ops.batch_norm``. In the
    type of the array ``like``. Without a norm the table is empty: (5, 0).
    """
    there = norm.gamma != 0
    numbers = period if there else 0
    table = scratch(5 * numbers, like).reshape(5, numbers)
    channels = c if there else 0
    gammas, betas = floats(norm.gamma, channels, zero), floats(norm.beta, channels, zero)
    # if they are wide, or else
    means, variances = doubles(norm.means, channels), doubles(norm.variances, channels)
    narrow_means, narrow_variances = (
        floats(norm.means, channels, zero), floats(norm.variances, channels, zero)
    )  # fmt: skip
    for i in range(channels):
        gamma, beta = np.float64(gammas[i]), np.float64(betas[i])
        mean = means[i] if norm.wide else np.float64(narrow_means[i])
        var = variances[i] if norm.wide else np.float64(narrow_variances[i])
        inv_std = 1 / np.sqrt(var + norm.eps)
        table[0, i] = 0 if var > HUGE else mean
        table[1, i] = inv_std
        table[2, i] = gammas[i] * table[1, i]
        r = (np.float64(table[0, i]) - mean) * inv_std
        table[3, i] = beta + gamma * r
        table[4, i] = r
    return repeat(table, channels)


@exact_part
def slopes_of(norm, c, table):
    """Return the last two factors of BN-7 over a period, of the sums (2, C) of dz and dz·x̂.

    Without a norm, or sums, they are empty.
    """
    there = norm.sums != 0
    channels, numbers = c if there else 0, table.shape[1] if there else 0
    sums = doubles(norm.sums, 2 * channels).reshape(2, channels)
    slopes = scratch(2 * numbers, table).reshape(2, numbers)
    for i in range(channels):  # they meet x - k, not x̂
        mean_dz, mean_dz_xhat = sums[0, i] / norm.pixels, sums[1, i] / norm.pixels
        slopes[0, i] = mean_dz + mean_dz_xhat * table[4, i]
        slopes[1, i] = table.dtype.type(mean_dz_xhat) * table[1, i]
    return repeat(slopes, channels)


@exact_part
def repeat(table, c):
    """Fill each row of a table with its first C numbers."""
    for row in table:
        for i in range(c, row.size):
            row[i] = row[i - c]
    return table


@fused_part
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


@exact_part
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


@exact_part
def _finite(parts):
    """Whether all numbers of a period are, and their sum."""
    some = np.zeros(LANES, parts.dtype)
    v = load(some, 0)
    for i in range(0, parts.size, LANES):
        v = v + load(parts, i)
    store(some, 0, v)
    total = some[0]
    for i in range(1, LANES):
        total += some[i]
    return np.isfinite(total)


@exact_part
def _add_wide_sums(sums, x):
    """Add M, Σ x and Σ x² of numbers whose squares are too large for float32."""
    c = sums.shape[1]
    for start in range(0, x.size, c):
        for i in range(c):
            v = np.float64(x[start + i])
            sums[1, i] += v
            sums[2, i] += v * v
    for i in range(c):
        sums[0, i] += x.size // c


@exact_part
def normalise(y, x, table, relu):
    """Write BN-4 of x to y, which may be x."""
    zero = np.zeros(LANES, x.dtype)
    normalise_run(y, x, table, relu, load(zero, 0))


@exact_part
def normalise_run(y, x, table, relu, none):
    """The same, with a vector of zeros at hand."""
    k, scale, shift = table[0], table[2], table[3]
    period = k.size
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


@exact_part
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


@exact_part
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


@exact_part
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
