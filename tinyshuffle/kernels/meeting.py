"""Where two branches meet, in one pass: see ``plan.fused`` for the mathematics."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from .. import memory
from ..ops.arguments import is_real
from .batch_norm import (
    add_backward_sums,
    batch_norm_backward_sums,
    finish_backward_sums,
    norm_of,
    table_of,
)
from .branches import concat
from .channel_shuffle import channel_shuffle, channel_shuffle_backward
from .jit import exact, exact_part, flat, scratch
from .norm_conv import normalised
from .pixels import pixels
from .record import Work, doubles, fill, floats, record_at, run
from .stage import stage
from .sums import period_of

if TYPE_CHECKING:
    from ..plan.fused import Norm

__all__ = [
    "concat_shuffle",
    "concat_shuffle_backward",
    "concat_shuffle_backward_work",
    "concat_shuffle_work",
    "norm_add_relu",
    "norm_add_relu_backward",
    "norm_add_relu_backward_work",
    "norm_add_relu_work",
]

_BLOCK = 2**12  # numbers that stay in the first-level cache between two kernels


def concat_shuffle(
    x1: np.ndarray, x2: np.ndarray, norm1: Norm | None = None, norm2: Norm | None = None
) -> np.ndarray:
    """Return two tensors, normalised, side by side and shuffled; see ``plan.fused``."""
    if x1.shape == x2.shape and x1.dtype == x2.dtype and is_real(x1.dtype):
        y = memory.empty((*x1.shape[:-1], 2 * x1.shape[-1]), x1.dtype)
        work = concat_shuffle_work(y, x1, x2, norm1, norm2)
        assert work is not None
        run(work)
        return y
    return channel_shuffle(concat([normalised(x1, norm1), normalised(x2, norm2)]), 2)


def concat_shuffle_work(
    y: np.ndarray, x1: np.ndarray, x2: np.ndarray, norm1: Norm | None, norm2: Norm | None
) -> Work | None:
    """Write what :func:`concat_shuffle` returns to ``y``; None if the halves are not alike."""
    if x1.shape != x2.shape:
        return None
    c, dtype = x1.shape[-1], x1.dtype
    (x, x_row), (x2, x2_row) = _side(x1, norm1), _side(x2, norm2)
    return fill(
        _side_by_side, dtype, x=x, x_row=x_row, x2=x2, x2_row=x2_row, y=y,
        before=norm_of(norm1, c, dtype), behind=norm_of(norm2, c, dtype),
        m=x1.size // c, c=c, period=period_of(c),
    )  # fmt: skip


def concat_shuffle_backward(
    dy: np.ndarray,
    first: int,
    x1: np.ndarray | None = None,
    x2: np.ndarray | None = None,
    norm1: Norm | None = None,
    norm2: Norm | None = None,
) -> tuple[np.ndarray, np.ndarray | None, np.ndarray | None]:
    """Return both gradients side by side, and sums; see ``plan.fused``."""
    c = first
    if 2 * c != dy.shape[-1]:
        dz = channel_shuffle_backward(dy, 2)
        of1, of2 = (
            None if norm is None or x is None else batch_norm_backward_sums(part, x, *norm[:6])
            for part, x, norm in ((dz[..., :c], x1, norm1), (dz[..., c:], x2, norm2))
        )
        return dz, of1, of2
    dz = memory.empty(dy.shape, dy.dtype)
    sums1, sums2 = (None if norm is None else np.empty((2, c)) for norm in (norm1, norm2))
    work = concat_shuffle_backward_work(dz, sums1, sums2, dy, first, x1, x2, norm1, norm2)
    assert work is not None
    run(work)
    return dz, sums1, sums2


def concat_shuffle_backward_work(
    dz: np.ndarray, sums1: np.ndarray | None, sums2: np.ndarray | None,
    dy: np.ndarray, first: int, x1: np.ndarray | None, x2: np.ndarray | None,
    norm1: Norm | None, norm2: Norm | None,
) -> Work | None:  # fmt: skip
    """Write what :func:`concat_shuffle_backward` returns; None if the halves are not alike."""
    c, dtype = first, dy.dtype
    if 2 * c != dy.shape[-1]:
        return None
    return fill(
        _apart, dtype, dy=flat(dy, dtype), dx=dz,
        x=0 if x1 is None else flat(x1, dtype), x2=0 if x2 is None else flat(x2, dtype),
        sums=0 if sums1 is None else sums1, sums2=0 if sums2 is None else sums2,
        before=norm_of(norm1, c, dtype), behind=norm_of(norm2, c, dtype),
        m=dy.size // (2 * c), c=c, period=period_of(c),
    )  # fmt: skip


def _side(x: np.ndarray, norm: Norm | None) -> tuple[np.ndarray, int]:
    """The pixels of a branch, and their distance; a normalised one has to be whole."""
    return pixels(x, x.dtype) if norm is None else (flat(x, x.dtype), x.shape[-1])


def norm_add_relu(x: np.ndarray, norm: Norm, shortcut: np.ndarray) -> np.ndarray:
    """Normalise, add and rectify; see ``plan.fused``."""
    y = memory.empty(x.shape, x.dtype)
    run(norm_add_relu_work(y, x, norm, shortcut))
    return y


def norm_add_relu_work(y: np.ndarray, x: np.ndarray, norm: Norm, shortcut: np.ndarray) -> Work:
    """Write what :func:`norm_add_relu` returns to ``y``."""
    c, dtype = x.shape[-1], x.dtype
    x2, x2_row = pixels(shortcut, dtype, x.shape)
    return fill(
        _normalise_add, dtype, x=flat(x, dtype), x2=x2, x2_row=x2_row, y=y,
        behind=norm_of(norm, c, dtype), m=x.size // c, c=c, period=period_of(c),
    )  # fmt: skip


def norm_add_relu_backward(
    dy: np.ndarray, y: np.ndarray, x: np.ndarray, norm: Norm
) -> tuple[np.ndarray, np.ndarray]:
    """Return dz, and dβ and dγ; see ``plan.fused``."""
    dz, sums = memory.empty(y.shape, y.dtype), np.empty((2, y.shape[-1]))
    run(norm_add_relu_backward_work(dz, sums, dy, y, x, norm))
    return dz, sums


def norm_add_relu_backward_work(
    dz: np.ndarray, sums: np.ndarray, dy: np.ndarray, y: np.ndarray, x: np.ndarray, norm: Norm
) -> Work:
    """Write what :func:`norm_add_relu_backward` returns to ``dz`` and ``sums``."""
    c, dtype = y.shape[-1], y.dtype
    dyf, dy_row = pixels(dy, dtype, y.shape)
    return fill(
        _gate_and_add, dtype, dy=dyf, dy_row=dy_row, y=flat(y, dtype), dx=dz, sums=sums,
        x=flat(x, dtype, y.shape), behind=norm_of(norm, c, dtype),
        m=y.size // c, c=c, period=period_of(c),
    )  # fmt: skip


@exact
def _side_by_side(address, zero):
    r = record_at(address)
    m, c, block = r.m, r.c, max(1, _BLOCK // r.c)
    x1, x2 = floats(r.x, (m - 1) * r.x_row + c, zero), floats(r.x2, (m - 1) * r.x2_row + c, zero)
    y, relu1, relu2 = floats(r.y, 2 * m * c, zero), r.before.relu != 0, r.behind.relu != 0
    table1 = table_of(r.before, c, r.period, x1, zero)
    table2 = table_of(r.behind, c, r.period, x1, zero)
    spare1, spare2 = scratch(block * c, x1), scratch(block * c, x2)
    for first in range(0, m, block):
        rows = min(block, m - first)
        a = _block(spare1, x1, first, r.x_row, table1, relu1, rows, c)
        b = _block(spare2, x2, first, r.x2_row, table2, relu2, rows, c)
        pairs = y[2 * first * c :]
        for i in range(rows * c):
            pairs[2 * i] = a[i]
            pairs[2 * i + 1] = b[i]


@exact_part
def _block(spare, x, first, row, table, relu, m, c):
    """Return m pixels of x, normalised, one behind the other."""
    if table.size == 0 and row == c:
        return x[first * c : (first + m) * c]
    stage(spare, spare, x, first * row, row, m, c, table, relu, 1)
    return spare[: m * c]


@exact
def _apart(address, zero):
    r = record_at(address)
    m, c = r.m, r.c
    first1, first2 = r.before.gamma != 0, r.behind.gamma != 0  # whether there is a norm
    x1, x2 = floats(r.x, m * c if first1 else 0, zero), floats(r.x2, m * c if first2 else 0, zero)
    dy, dz = floats(r.dy, 2 * m * c, zero), floats(r.dx, 2 * m * c, zero)
    table1 = table_of(r.before, c, r.period, dy, zero)
    table2 = table_of(r.behind, c, r.period, dy, zero)
    channels1 = c if first1 else 0
    sums1 = doubles(r.sums, 2 * channels1).reshape(2, channels1)
    channels2 = c if first2 else 0
    sums2 = doubles(r.sums2, 2 * channels2).reshape(2, channels2)
    sums1[:] = 0
    sums2[:] = 0
    block = max(1, _BLOCK // (4 * r.period)) * 4 * r.period // c  # pixels
    dz1, dz2 = scratch(block * c, dy), scratch(block * c, dy)
    for first in range(0, m, block):
        rows = min(block, m - first)
        pairs, both = dy[2 * first * c :], dz[2 * first * c :]
        for i in range(rows * c):
            dz1[i] = pairs[2 * i]
            dz2[i] = pairs[2 * i + 1]
        for k in range(rows):
            pixel, a, b = both[2 * k * c : 2 * (k + 1) * c], dz1[k * c :], dz2[k * c :]
            for j in range(c):
                pixel[j] = a[j]
            for j in range(c):
                pixel[c + j] = b[j]
        here = slice(first * c, (first + rows) * c)
        if first1:
            add_backward_sums(sums1, dz1[: rows * c], x1[here], table1, r.before.relu != 0)
        if first2:
            add_backward_sums(sums2, dz2[: rows * c], x2[here], table2, r.behind.relu != 0)
    if first1:
        finish_backward_sums(sums1, table1)
    if first2:
        finish_backward_sums(sums2, table2)


@exact
def _normalise_add(address, zero):
    r = record_at(address)
    m, c, period = r.m, r.c, r.period
    x, y = floats(r.x, m * c, zero), floats(r.y, m * c, zero)
    shortcut = floats(r.x2, (m - 1) * r.x2_row + c, zero)
    table = table_of(r.behind, c, period, x, zero)
    k, scale, shift = table[0], table[2], table[3]
    block = max(1, _BLOCK // period) * period // c  # pixels
    spare = scratch(block * c, x)
    for first in range(0, m, block):
        rows = min(block, m - first)
        there = _block(spare, shortcut, first, r.x2_row, table[:, :0], False, rows, c)
        for start in range(0, rows * c, period):
            end = min(start + period, rows * c)
            a, s = x[first * c + start : first * c + end], there[start:end]
            b = y[first * c + start : first * c + end]
            for i in range(a.size):
                v = (a[i] - k[i]) * scale[i] + shift[i] + s[i]
                b[i] = zero if v <= zero else v  # a NaN stays one


@exact
def _gate_and_add(address, zero):
    r = record_at(address)
    m, c = r.m, r.c
    x, y, dz = floats(r.x, m * c, zero), floats(r.y, m * c, zero), floats(r.dx, m * c, zero)
    dy = floats(r.dy, (m - 1) * r.dy_row + c, zero)
    table = table_of(r.behind, c, r.period, x, zero)
    sums = doubles(r.sums, 2 * c).reshape(2, c)
    sums[:] = 0
    block = max(1, _BLOCK // r.period) * 4 * r.period // c  # pixels
    spare = scratch(block * c, x)
    for first in range(0, m, block):
        rows = min(block, m - first)
        here = slice(first * c, (first + rows) * c)
        d = _block(spare, dy, first, r.dy_row, table[:, :0], False, rows, c)
        a, b = y[here], dz[here]
        for i in range(a.size):
            b[i] = zero if a[i] <= zero else d[i]
        add_backward_sums(sums, b, x[here], table, False)
    finish_backward_sums(sums, table)
