"""Where two branches meet, in one pass: see ``plan.fused`` for the mathematics."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from .. import memory
from ..ops.arguments import is_real
from .batch_norm import batch_norm_backward_sums, norm_of
from .branches import concat
from .channel_shuffle import channel_shuffle, channel_shuffle_backward
from .jit import exact, flat
from .meeting_block import backward_block, finish, forward_block, spares_of, sums_of, tables_of
from .norm_conv import normalised
from .pixels import pixels
from .record import Work, fill, floats, record_at, run
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
        _forward, dtype, x=x, x_row=x_row, x2=x2, x2_row=x2_row, y=y,
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
        _backward, dtype, dy=flat(dy, dtype), dx=dz,
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
        _forward, dtype, adds=True, x=flat(x, dtype), x_row=c, x2=x2, x2_row=x2_row, y=y,
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
        _backward, dtype, adds=True, dy=dyf, dy_row=dy_row, y=flat(y, dtype), dx=dz, sums2=sums,
        x=flat(x, dtype, y.shape), behind=norm_of(norm, c, dtype),
        m=y.size // c, c=c, period=period_of(c),
    )  # fmt: skip


@exact
def _forward(address, zero):
    r = record_at(address)
    like = floats(r.y, 0, zero)
    tables, spares = tables_of(address, like, zero), spares_of(address, like)
    forward_block(address, tables, spares, 0, r.m, zero)


@exact
def _backward(address, zero):
    r = record_at(address)
    like = floats(r.dx, 0, zero)
    tables, sums = tables_of(address, like, zero), sums_of(address)
    backward_block(address, tables, sums, spares_of(address, like), 0, r.m, zero)
    finish(tables, sums)
