"""What is done to the sums of a batch norm: a few numbers a channel, and the sum over slices."""

from __future__ import annotations

import numpy as np

from .jit import exact
from .record import Work, doubles, fill, floats, record_at

__all__ = ["add_slices_work", "gradients_work", "statistics_work", "track_work"]


def statistics_work(mean: np.ndarray, var: np.ndarray, sums: np.ndarray) -> Work:
    """Write μ and σ² of the sums (3, C); see ``ops.batch_norm_statistics``."""
    return fill(_statistics, np.float64, y=mean, dx=var, sums=sums, c=mean.size)


def track_work(
    running_mean: np.ndarray, running_var: np.ndarray, tracked: np.ndarray, mean: np.ndarray,
    var: np.ndarray, count: int, momentum: float,
) -> Work:  # fmt: skip
    """Move running statistics towards a batch's, in place; see ``ops.batch_norm_track``."""
    return fill(
        _track, running_mean.dtype, y=running_mean, dx=running_var, tracked=tracked, x=mean,
        x2=var, c=mean.size, n=count, momentum=momentum,
    )  # fmt: skip


def gradients_work(dbeta: np.ndarray, dgamma: np.ndarray, sums: np.ndarray) -> Work:
    """Write dβ and dγ (C,) of their sums (2, C); see ``ops.batch_norm_gradients``."""
    return fill(_gradients, dbeta.dtype, y=dbeta, dx=dgamma, sums=sums, c=dbeta.size)


def add_slices_work(total: np.ndarray, parts: np.ndarray, first: int, last: int) -> Work:
    """Write the sum of the rows of ``parts`` (slices, M) to numbers first to last of ``total``."""
    return fill(
        _add_slices, total.dtype, y=total, x=parts, x_row=parts.shape[1], groups=len(parts),
        n=first, m=last,
    )  # fmt: skip


@exact
def _statistics(address, zero):
    r = record_at(address)
    sums = doubles(r.sums, 3 * r.c).reshape(3, r.c)
    mean, var = doubles(r.y, r.c), doubles(r.dx, r.c)
    for i in range(r.c):
        mean[i] = sums[1, i] / sums[0, i]
        var[i] = max(sums[2, i] / sums[0, i] - mean[i] * mean[i], 0.0)


@exact
def _track(address, zero):
    r = record_at(address)
    running_mean, running_var = floats(r.y, r.c, zero), floats(r.dx, r.c, zero)
    mean, var, tracked = doubles(r.x, r.c), doubles(r.x2, r.c), floats(r.tracked, 1, np.int64(0))
    m, unbiased = r.momentum, r.n / (r.n - 1)
    for i in range(r.c):
        running_mean[i] = (1 - m) * running_mean[i] + m * mean[i]
        running_var[i] = (1 - m) * running_var[i] + m * (var[i] * unbiased)
    tracked[0] += 1


@exact
def _gradients(address, zero):
    r = record_at(address)
    sums, dbeta, dgamma = doubles(r.sums, 2 * r.c), floats(r.y, r.c, zero), floats(r.dx, r.c, zero)
    for i in range(r.c):
        dbeta[i], dgamma[i] = sums[i], sums[r.c + i]


@exact
def _add_slices(address, zero):
    r = record_at(address)
    total, parts = floats(r.y, r.m, zero), floats(r.x, (r.groups - 1) * r.x_row + r.m, zero)
    for i in range(r.n, r.m):
        total[i] = parts[i]
    for k in range(1, r.groups):
        part = parts[k * r.x_row :]
        for i in range(r.n, r.m):
            total[i] += part[i]
