"""How branches part and meet: channel split, concatenation, residual add.

The split and the concatenation are V2's (section 3, Figure 3c), the addition is the residual
unit's. Each is the other's mirror in the backward pass: the gradient of a split is a
concatenation, that of a concatenation a split, and an addition hands its gradient to both sides.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import prod

import numpy as np

from ..errors import TinyshuffleError
from .arguments import check_array, check_real, integer
from .cost import Cost, size

__all__ = [
    "add", "add_backward", "add_cost", "channel_split", "channel_split_backward",
    "channel_split_cost", "concat", "concat_backward", "concat_cost",
]  # fmt: skip


def channel_split(x: np.ndarray, first: int) -> tuple[np.ndarray, np.ndarray]:
    """Part the channels of ``x`` (N, H, W, C) into the first ``first`` and the rest: two views."""
    check_array(x)
    if not 0 < integer(first, "first channels") < x.shape[-1]:
        raise TinyshuffleError(
            f"cannot split {x.shape[-1]} channels after channel {first}; "
            f"give a number from 1 to {x.shape[-1] - 1}"
        )
    return x[..., :first], x[..., first:]


def channel_split_backward(dy1: np.ndarray, dy2: np.ndarray) -> np.ndarray:
    """Return dx: the two gradients side by side."""
    return concat([dy1, dy2])


def channel_split_cost(x: tuple[int, ...], first: int) -> Cost:
    """Cost: nothing forward, where a split can be a view; backward joins the two gradients."""
    return Cost(output=(*x[:3], first), backward_memory_access=2 * size(x))


def concat(xs: Sequence[np.ndarray]) -> np.ndarray:
    """Lay tensors (N, H, W, C1), (N, H, W, C2), … side by side: (N, H, W, C1 + C2 + …)."""
    for x in xs:
        check_array(x)
    if len({x.shape[:-1] for x in xs}) > 1:
        raise TinyshuffleError(
            "tensors to concatenate must agree in all but their channels, got "
            + ", ".join(str(x.shape) for x in xs)
            + "; check the branches' strides and paddings"
        )
    return np.concatenate(list(xs), axis=-1)


def concat_backward(dy: np.ndarray, channels: Sequence[int]) -> list[np.ndarray]:
    """Return the gradients of the tensors that had ``channels`` channels."""
    check_array(dy)
    ends = np.cumsum(channels)
    return [dy[..., end - c : end].copy() for c, end in zip(channels, ends, strict=True)]


def concat_cost(xs: Sequence[tuple[int, ...]]) -> Cost:
    """Cost: every element is read and written once, each way."""
    y = (*xs[0][:-1], sum(x[-1] for x in xs))
    return Cost(output=y, memory_access=2 * prod(y), backward_memory_access=2 * prod(y))


def add(x1: np.ndarray, x2: np.ndarray) -> np.ndarray:
    """Add two tensors of one shape, element by element."""
    check_real(x1, x2)
    if x1.shape != x2.shape:
        raise TinyshuffleError(
            f"cannot add tensors of shapes {x1.shape} and {x2.shape}; "
            "both sides of a shortcut must have the same shape"
        )
    return x1 + x2


def add_backward(dy: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return (dx1, dx2): both are ``dy``, unchanged and not copied."""
    return dy, dy


def add_cost(x1: tuple[int, ...], x2: tuple[int, ...]) -> Cost:
    """Cost: two reads and a write for one addition (V2, G4: element-wise is not free)."""
    return Cost(output=x1, elementwise=size(x1), memory_access=3 * size(x1))
