"""The rows of a plan as records, which compiled code walks down: one slice's list.

A row is one record or a few, each a kernel and the numbers that it works on
(:mod:`tinyshuffle.kernels.record`). Behind rows whose results are sums over the batch stands a
record for the meeting of the slices; where Python has to do a row, a record at which compiled code
stops.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable
from functools import partial
from math import inf, prod
from typing import TYPE_CHECKING, Any

import numpy as np

from ..values import flags
from .by_python import WHOLE, of_the_batch, of_the_slice
from .table import Plan, Row

if TYPE_CHECKING:
    from ..kernels.record import Work
    from .slice import Slice

__all__ = ["Patch", "Records", "sums_of"]

# The first slice does these for all: their arguments are the whole batch's.
_ONCE = ("batch_norm_track", "batch_norm_gradients")
_PAUSE = 0.1  # seconds of compiled code, about, before Ctrl-C is looked for


class Patch:
    """Where in some records the address of an array stands, and how far behind it."""

    def __init__(self, words: np.ndarray, array: np.ndarray) -> None:
        start = array.__array_interface__["data"][0]
        self.at = np.nonzero((words >= start) & (words < start + max(array.nbytes, 1)))
        self.words, self.offsets = words, words[self.at] - start

    def point_to(self, array: np.ndarray) -> None:
        """Let the records speak of another array."""
        self.words[self.at] = array.__array_interface__["data"][0] + self.offsets

    def point_nowhere(self) -> None:
        """Let the records have no such array."""
        self.words[self.at] = 0


class Records:
    """The records of a slice.

    Attributes
    ----------
    python : dict
        By the index of a record at which compiled code stops: what Python does there, or None.
    first, behind : list of int
        By row: its first record, and the one behind its last, from which on it meets others.
    split : int
        Where the backward pass starts.
    patches : dict of Patch
        By buffer: for arrays that may be put in the place of others.
    total : Patch
        Of the gradients of the whole batch.
    """

    def __init__(self, part: Slice) -> None:
        from ..kernels import play, record

        self.part = part
        self.python: dict[int, Callable[[], None] | None] = {}
        self.first: list[int] = []
        self.behind: list[int] = []
        self.works: list[Work] = []  # keep their constants alive
        self._made: list[np.ndarray] = []
        self._places = _places(part.memory())
        self._kernel, self._zero = play.play, part.player.dtype.type(0)
        self._joined: list[tuple[int, int]] = []
        self._write()
        self._find_kernels()
        self.array = np.array(self._made, record.RECORD)
        self.base, self.size = record.address_of(self.array), record.RECORD.itemsize
        self.join(True)
        words = self.array.view(np.int64).reshape(len(self), self.size // 8)
        replaced = *part.outside, *part.inside
        self.patches = {b: Patch(words, part.arrays[b]) for b in replaced}
        self.total = Patch(words, part.total)
        tracks = [
            (self.first[i], part.player.modules[row.layer])
            for i, row in enumerate(part.plan.rows)
            if row.operation == "batch_norm_track" and part.rank == 0
        ]
        self._tracks = np.array([i for i, _ in tracks], np.int64)
        self._norms: list[Any] = [norm for _, norm in tracks]

    def __len__(self) -> int:
        return len(self._made)

    def play(self, first: int, last: int, flags: np.ndarray, rank: int) -> int:
        """Run records until the last, or until one that is Python's; see ``kernels.play``."""
        stopped: int = self._kernel(self.base, self.size, first, last, flags, rank, self._zero)
        return stopped

    def can_do_without(self, buffer: int) -> bool:
        """Whether the images' gradient is this buffer's, and the kernel that writes it can do less.

        That is the backward pass of a net's first convolution.
        """
        from ..kernels.frame_back import conv_backward
        from ..kernels.frame_groups_back import grouped_backward
        from ..kernels.norm_conv2d import stem_backward
        from ..kernels.winograd_back import winograd_backward

        if buffer not in self.patches or len(self.patches[buffer].at[0]) != 1:
            return False
        only = self._made[self.patches[buffer].at[0][0]]
        kernels = [w.kernel for w in self.works if w.record is only]
        return bool(kernels) and kernels[0] in (
            conv_backward, grouped_backward, stem_backward, winograd_backward,
        )  # fmt: skip

    def set_momenta(self) -> None:
        """Take up the momentum of each batch norm's running statistics, which may change."""
        if self._norms:
            self.array["momentum"][self._tracks] = [norm.momentum for norm in self._norms]

    @flags
    def join(self, yes: bool) -> None:
        """Let joined rows be done along with each other, or one after the other."""
        from ..kernels.play import TAKEN

        for taker, taken in self._joined:
            kernel = TAKEN if yes else self._made[taken]["kernel"]
            self.array[taken]["kernel"] = kernel
            self.array[taker]["joined"] = self.base + taken * self.size if yes else 0

    # ---- writing them

    def _write(self) -> None:
        part, plan, elapsed, offset = self.part, self.part.plan, 0.0, 0
        self.split = 0
        for i, row in enumerate(plan.rows):
            if i == plan.forward:
                self.split = len(self)
            elapsed += part.share * plan.seconds_of(row)
            if elapsed > _PAUSE:
                self._stop(None)
                elapsed = 0.0
            self.first.append(len(self))
            offset = self._row(row, offset)
            if row.joined:
                self._join(i)
            for k, (last, place) in enumerate(part.player.buckets):
                if last == i:
                    self._send(k, place)
        if plan.forward == len(plan.rows):
            self.split = len(self)
        if plan.train and not part.alone and not part.player.buckets:
            self._add_up_gradients(slice(0, part.total.size))

    def _add_up_gradients(self, place: slice) -> None:
        """Meet, and let each slice add up what all have of its share of some gradients."""
        from ..kernels.statistics import add_slices_work

        self._meet()
        part, n, k = self.part, place.stop - place.start, len(self.part.player.cuts)
        first, last = (place.start + n * r // k for r in (part.rank, part.rank + 1))
        self._run(add_slices_work(part.total, part.player.parts, first, last))

    def _send(self, bucket: int, place: slice) -> None:
        """Send gradients to the other ranks as soon as they are there."""
        if not self.part.alone:
            self._add_up_gradients(place)
            self._meet()
        if self.part.rank == 0:
            self._stop(partial(self.part.player.send, bucket))

    def _row(self, row: Row, offset: int) -> int:
        """Write a row; its sums go ``offset`` numbers behind the slice's first. Return the next."""
        part = self.part
        totals = _sums(row)
        held = {b: part.arrays[b] for b in totals}
        if not part.alone:  # a slice's own part of the sums, side by side
            for b in totals:
                own = part.player.partial[part.rank, offset : offset + part.arrays[b].size]
                part.arrays[b] = own.reshape(part.arrays[b].shape)
                offset += own.size
        if row.operation in WHOLE:
            self._meet()
            self._stop(of_the_batch(part.player, row) if part.rank == 0 else None)
        elif row.operation not in _ONCE or part.rank == 0:
            self._operation(row, totals)
        self.behind.append(len(self))
        if row.operation in WHOLE or part.player.by_pixels:
            self._meet()
        for b, total in held.items():
            if not part.alone:
                self._add_up(part.arrays[b], total)
            part.arrays[b] = total
        self._add_over_ranks(list(held))
        return offset

    def _add_over_ranks(self, sums: list[int]) -> None:
        """Add up sums over the ranks: the first slice does so, and the others take what it has."""
        part, ranks = self.part, self.part.player.together
        if ranks is None or not sums:
            return
        mine = [part.arrays[b] for b in sums]
        if part.rank == 0:
            self._stop(partial(ranks.add, *mine))
            self._meet()
        else:
            self._meet()
            self._stop(partial(_copy, mine, [part.player.slices[0].arrays[b] for b in sums]))

    def _join(self, i: int) -> None:
        """Note which record of a row and the one before it takes the other along, if one can."""
        from ..kernels.norm_pointwise import pointwise, pointwise_backward

        pair = self.first[i - 1], self.first[i]
        taken, taker = pair[::-1] if self.part.plan.rows[i].backward else pair
        kernels = {id(work.record): work.kernel for work in self.works}
        here = [kernels.get(id(self._made[j])) if j < len(self) else None for j in (taker, taken)]
        if here[0] in (pointwise, pointwise_backward) and here[1] is not None:
            if not self.part.player.by_pixels:
                self._joined.append((taker, taken))

    def _operation(self, row: Row, totals: list[int]) -> None:
        from ..kernels.works import reads, works_of

        part = self.part
        works = works_of(row.operation, tuple(part.written(row)), part.given(row), row.keywords)
        if works and all(self._stays(a) for work in works for a in reads(work)):
            for i, work in enumerate(works):
                if part.player.by_pixels and i > 0:  # another may have done what this one needs
                    self._meet()
                self._run(work)
        elif not part.player.by_pixels or part.rank == 0:
            self._stop(of_the_slice(part, row, {b: part.arrays[b] for b in totals}))

    def _stays(self, a: np.ndarray) -> bool:
        """Whether an array lies in memory that stays, and is no copy made on the way."""
        where = a.__array_interface__["data"][0]
        start, stop = self._places[bisect_right(self._places, (where, inf)) - 1]
        return not a.size or start <= where < stop

    def _run(self, work: Work) -> None:
        from ..kernels.share import share_of

        player = self.part.player
        mine = share_of(work, self.part.rank, len(player.cuts)) if player.by_pixels else work
        if mine is not None:
            self.works.append(mine)
            self._made.append(mine.record)

    def _find_kernels(self) -> None:
        """Write where each kernel's code lies; it is compiled if that was never done."""
        from ..kernels import record
        from ..kernels.ahead import compile_ahead

        # a walk along no records at all compiles the walk
        walk = partial(self._kernel, 0, 0, 0, 0, np.zeros(1, np.int64), 0, self._zero)
        compile_ahead([(w.kernel, w.zero.dtype) for w in self.works], walk)
        for work in self.works:
            work.record["kernel"] = record.entry(work.kernel, work.zero.dtype)

    def _stop(self, function: Callable[[], None] | None) -> None:
        from ..kernels import record

        self.python[len(self)] = function
        self._made.append(np.zeros((), record.RECORD))

    def _meet(self) -> None:
        self._add_up(np.zeros(0), np.zeros(0))

    def _add_up(self, mine: np.ndarray, total: np.ndarray) -> None:
        """Meet, and add up what lies where ``mine`` does, in each slice's part of the sums."""
        from ..kernels import play, record

        if self.part.alone:
            return
        partial, fields = self.part.player.partial, np.zeros((), record.RECORD)
        fields["kernel"], fields["m"], fields["x_row"] = play.MEETING, total.size, partial.shape[1]
        if total.size:
            offset = record.address_of(mine) - record.address_of(partial[self.part.rank])
            fields["sums"] = record.address_of(total)
            fields["x"] = record.address_of(partial) + offset
        self._made.append(fields)


def _copy(to: list[np.ndarray], arrays: list[np.ndarray]) -> None:
    for mine, other in zip(to, arrays, strict=True):
        mine[...] = other


def _places(arrays: list[np.ndarray]) -> list[tuple[int, float]]:
    """From where to where each array lies."""
    starts = [(a.__array_interface__["data"][0], a.nbytes) for a in arrays if a.size]
    return sorted((start, start + nbytes) for start, nbytes in starts)


def _sums(row: Row) -> list[int]:
    """The buffers of a row's results that are sums over the whole batch."""
    return [v.buffer for p in row.parts or (row,) if p.meets for v in p.results]


def sums_of(plan: Plan) -> int:
    """How many numbers the sums of a batch have that slices add up, in whole lines of the cache."""
    total = sum(prod(plan.buffers[b].shape) for row in plan.rows for b in _sums(row))
    return -(-total // 8) * 8
