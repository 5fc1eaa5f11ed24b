"""A sum over all ranks, which others may compute beside."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from . import Ranks

__all__ = ["Sum"]

_TOGETHER = 2**16  # bytes of all ranks' numbers up to which everybody adds up everything


class Sum:
    """A sum of all ranks' arrays, in place and in the order of the ranks, while others compute.

    Of few numbers everybody adds up all. Of many each adds up a share, and gives it to all.
    """

    def __init__(self, ranks: Ranks, a: np.ndarray, buffer: int, comm: Any) -> None:
        self._ranks, self._a, self._comm = ranks, a, comm
        n, size = a.size, ranks.size
        self._few = a.nbytes * size <= _TOGETHER
        self._given: Any = None  # the request by which the shares go to all
        ends = [n * i // size for i in range(size + 1)]
        self._counts = [stop - start for start, stop in zip(ends[:-1], ends[1:], strict=True)]
        self._starts = ends[:-1]
        own = n if self._few else self._counts[ranks.rank]
        parts = ranks._buffer(buffer, own * size, a.dtype)
        self._parts = parts.reshape(size, own)
        if self._few:
            self._sent = comm.Iallgather(a, parts)
        else:
            places = [i * own for i in range(size)]
            self._sent = comm.Ialltoallv(
                [a, (self._counts, self._starts)], [parts, ([own] * size, places)]
            )

    def go_on(self) -> None:
        """Give the share to all as soon as everybody's numbers for it are there."""
        if not self._few and self._given is None and self._sent.Test():
            self._give()

    def _give(self) -> None:
        self._share = _added(self._parts)
        to = [self._a, (self._counts, self._starts)]
        self._given = self._comm.Iallgatherv(self._share, to)

    def end(self) -> None:
        """Wait until the sum is there."""
        if self._given is None:
            self._ranks._wait(self._sent)
            if self._few:
                self._a[:] = _added(self._parts)
                return
            self._give()
        self._ranks._wait(self._given)


def _added(parts: np.ndarray) -> np.ndarray:
    """The sum of the rows of an array, one after the other, in a row of its own."""
    total = parts[0].copy()
    for row in parts[1:]:
        total += row
    return total
