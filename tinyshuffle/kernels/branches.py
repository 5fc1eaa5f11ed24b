"""Split, concatenation and addition: see ``ops.branches``.

NumPy copies and adds as fast as memory allows; what is left to gain is where the results live.
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

__all__ = [
    "add",
    "add_backward",
    "add_cost",
    "channel_split",
    "channel_split_backward",
    "channel_split_cost",
    "concat",
    "concat_backward",
    "concat_cost",
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
