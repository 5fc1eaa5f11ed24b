"""Which part of a batch this thread sees.

``tinyshuffle.parallel`` cuts batches and says so here. Three ask: batch norm, whose sums are the
whole batch's; dropout, whose mask is cut as the batch is; and errors, which speak of the batch that
the user gave. A layer used alone sees everything.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field

import numpy as np

__all__ = ["Part", "add_up", "part_of_batch", "this_part", "whole"]


def _alone(sums: np.ndarray) -> np.ndarray:
    return sums


@dataclass(frozen=True)
class Part:
    """Images ``first`` to ``last`` - 1 of a batch of ``total``.

    ``add`` adds an array (of any shape) over all parts of the batch, and ``nets`` are the ids of
    the nets that are cut along with the one that was called, as they stand inside it.
    """

    first: int
    last: int
    total: int
    add: Callable[[np.ndarray], np.ndarray] = _alone
    nets: frozenset[int] = field(default=frozenset(), repr=False)


_part: ContextVar[Part | None] = ContextVar("part", default=None)


@contextmanager
def part_of_batch(part: Part) -> Iterator[None]:
    """Work on this part of a batch, in this thread, inside a ``with``."""
    token = _part.set(part)
    try:
        yield
    finally:
        _part.reset(token)


def this_part() -> Part | None:
    """Return the part of a batch that this thread works on; None if nobody has cut one."""
    return _part.get()


def add_up(sums: np.ndarray) -> np.ndarray:
    """Add sums of this part's images to those of all others; every part has to come here."""
    part = _part.get()
    return sums if part is None else part.add(sums)


def whole(shape: tuple[int, ...]) -> tuple[int, ...]:
    """Return, for an error to name, the shape of the array of which this thread has a part."""
    part = _part.get()
    if part is None or len(shape) < 2 or shape[0] != part.last - part.first:
        return shape
    return (part.total, *shape[1:])
