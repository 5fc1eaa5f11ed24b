"""What an operation costs: the record that every ``…_cost`` function returns."""

from __future__ import annotations

from dataclasses import dataclass
from math import prod

__all__ = ["Cost", "size"]


def size(shape: tuple[int, ...] | None) -> int:
    """Return the number of elements of a shape; an argument that is absent (None) has none."""
    return 0 if shape is None else prod(shape)


@dataclass(frozen=True)
class Cost:
    """Counts of one forward and one backward pass of an operation, over the whole batch.

    Attributes
    ----------
    output : tuple of int
        Shape of the result.
    params : int
        Learned numbers.
    multiply_adds : int
        Products of a weight and an activation, each with its addition: the papers' "FLOPs".
        Convolutions and linear layers have them, nothing else does.
    elementwise : int
        Other arithmetic, one for each number that is computed (normalise, rectify, add, …).
    memory_access : int
        Elements read and written, each tensor once: the V2 paper's "MAC" (section 2, G1),
        which for a pointwise convolution is hw(c1 + c2) + c1 c2. Times the item size: bytes.
    backward_multiply_adds, backward_elementwise, backward_memory_access : int
        The same for the backward pass.
    """

    output: tuple[int, ...]
    params: int = 0
    multiply_adds: int = 0
    elementwise: int = 0
    memory_access: int = 0
    backward_multiply_adds: int = 0
    backward_elementwise: int = 0
    backward_memory_access: int = 0
