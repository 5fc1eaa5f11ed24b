"""Split, concatenation and addition: see ``ops.branches``.

NumPy copies and adds as fast as memory allows; what is left to gain is where the results live. The
compiled ones are for steps that run without it.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from .. import memory
from ..ops import branches as ops
from ..ops.arguments import check_array, check_real
from ..ops.branches import (
    add_backward,
    add_cost,
    channel_split,
    channel_split_cost,
    concat_cost,
)
from .jit import exact
from .pixels import pixels
from .record import Work, fill, floats, record_at

__all__ = [
    "add",
    "add_backward",
    "add_cost",
    "add_work",
    "channel_split",
    "channel_split_backward",
    "channel_split_cost",
    "concat",
    "concat_backward",
    "concat_cost",
    "copy_work",
]


def channel_split_backward(dy1: np.ndarray, dy2: np.ndarray) -> np.ndarray:
    """Return dx: the two gradients side by side."""
    return concat([dy1, dy2])


def concat(xs: Sequence[np.ndarray]) -> np.ndarray:
    """Lay tensors side by side, channel after channel."""
    for x in xs:
        check_array(x)
    if len({(x.shape[:-1], x.dtype) for x in xs}) != 1:
        return ops.concat(xs)
    y = memory.empty((*xs[0].shape[:-1], sum(x.shape[-1] for x in xs)), xs[0].dtype)
    return np.concatenate(list(xs), axis=-1, out=y)


def concat_backward(dy: np.ndarray, channels: Sequence[int]) -> list[np.ndarray]:
    """Return the gradients of the tensors that had ``channels`` channels."""
    check_array(dy)
    ends = np.cumsum(channels)
    return [_copy(dy[..., end - c : end]) for c, end in zip(channels, ends, strict=True)]


def add(x1: np.ndarray, x2: np.ndarray) -> np.ndarray:
    """Add two tensors of one shape, element by element."""
    check_real(x1, x2)
    if x1.shape != x2.shape or x1.dtype != x2.dtype:
        return ops.add(x1, x2)
    return np.add(x1, x2, out=memory.empty(x1.shape, x1.dtype))


def _copy(x: np.ndarray) -> np.ndarray:
    y = memory.empty(x.shape, x.dtype)
    y[...] = x
    return y


def copy_work(to: np.ndarray, x: np.ndarray) -> Work:
    """Write ``x`` to ``to``; either may be some channels of a tensor."""
    (xf, x_row), (tf, row) = pixels(x, x.dtype), pixels(to, x.dtype)
    c = x.shape[-1]
    return fill(_copy_pixels, x.dtype, x=xf, x_row=x_row, dx=tf, dx_row=row, m=x.size // c, c=c)


def add_work(y: np.ndarray, x1: np.ndarray, x2: np.ndarray) -> Work:
    """Write x1 + x2, each of which may be some channels of a tensor, to ``y``."""
    c, (a, a_row), (b, b_row) = x1.shape[-1], pixels(x1, x1.dtype), pixels(x2, x1.dtype)
    to, row = pixels(y, x1.dtype)
    return fill(
        _add_pixels, x1.dtype, x=a, x_row=a_row, x2=b, x2_row=b_row, dx=to, dx_row=row,
        m=x1.size // c, c=c,
    )  # fmt: skip


@exact
def _copy_pixels(address, zero):
    r = record_at(address)
    m, c, x_row, row = r.m, r.c, r.x_row, r.dx_row
    x, to = floats(r.x, (m - 1) * x_row + c, zero), floats(r.dx, (m - 1) * row + c, zero)
    for i in range(m):
        pixel, target = x[i * x_row : i * x_row + c], to[i * row : i * row + c]
        for k in range(c):
            target[k] = pixel[k]


@exact
def _add_pixels(address, zero):
    r = record_at(address)
    m, c, a_row, b_row, row = r.m, r.c, r.x_row, r.x2_row, r.dx_row
    x1, x2 = floats(r.x, (m - 1) * a_row + c, zero), floats(r.x2, (m - 1) * b_row + c, zero)
    y = floats(r.dx, (m - 1) * row + c, zero)
    if a_row == c and b_row == c and row == c:
        for k in range(m * c):
            y[k] = x1[k] + x2[k]
        return
    for i in range(m):
        a, b = x1[i * a_row : i * a_row + c], x2[i * b_row : i * b_row + c]
        target = y[i * row : i * row + c]
        for k in range(c):
            target[k] = a[k] + b[k]
