"""A slice of a batch: its images, its memory, and its list of records.

Every buffer of the plan has a place in a block of memory that is the slice's own; what the caller
gives and gets is read and written where it lies, and so are parameters and running statistics.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import replace
from itertools import pairwise
from math import prod
from threading import get_ident
from time import perf_counter
from typing import TYPE_CHECKING, Any

import numpy as np

from .by_python import WHOLE
from .memory import ALIGNMENT, place
from .records import Records
from .table import Buffer, Event, Plan, Row, View, views

if TYPE_CHECKING:
    from .play import Player

__all__ = ["Slice"]

# These take the shape of an array that is not there any more.
_TAKE_A_SHAPE = (
    "max_pool2d_backward", "avg_pool2d_backward", "global_avg_pool_backward",
    "adaptive_avg_pool2d_backward", "flatten_backward",
)  # fmt: skip


class Slice:
    """A slice of a player's batch.

    Parameters
    ----------
    player : Player
    rank : int
        Which of its slices this is.
    """

    def __init__(self, player: Player, rank: int) -> None:
        self.player, self.plan, self.rank = player, player.plan, rank
        self.images, self.alone = player.cuts[rank], len(player.cuts) == 1
        self.n = self.images.stop - self.images.start
        self.share = self.n / self.plan.shape[0]
        if player.by_pixels and rank > 0:  # all share the image, and the first one's memory
            self._share(player.slices[0])
        else:
            self.arrays: list[Any] = [None] * len(self.plan.buffers)
            self._lay_out()
        self.records = Records(self)

    # ---- memory

    def _lay_out(self) -> None:
        """Give every buffer an array in the memory that is its own."""
        plan, player = self.plan, self.player
        self.outside = outside(plan)
        self.callers = [
            (b.index, b.role)
            for b in plan.buffers
            if b.role in ("input", "output's gradient") and b.last >= 0
        ]
        if self.n not in player.layouts:  # slices of as many images have the same
            player.layouts[self.n] = layout(plan, self.n)
        placed = player.layouts[self.n]
        self.block = _aligned(placed.block_bytes)
        self.sums = np.zeros(sum(prod(b.shape) for b in plan.buffers if b.role == "sums"))
        at = 0
        for b in placed.buffers:
            if plan.buffers[b.index].role == "sums" and b.last >= 0:
                if np.dtype(b.dtype) == np.float64:
                    size = prod(b.shape)
                    self.arrays[b.index] = self.sums[at : at + size].reshape(b.shape)
                    at += size
            elif b.place is not None:
                part = self.block[b.place : b.place + b.nbytes]
                self.arrays[b.index] = part.view(b.dtype).reshape(b.shape)
            elif b.index in self.outside:
                self.arrays[b.index] = np.empty(b.shape, b.dtype)  # until the caller's is there
        # the gradients of all parameters, side by side: a slice's own, or the whole batch's
        self.total = np.empty(player.offsets[-1] if plan.train else 0, player.dtype)
        self.gradients = self.total if self.alone else player.parts[self.rank]
        learned = zip(player.learned, pairwise(player.offsets), strict=True)
        self.learned = {index: place for (_, index), place in learned}
        self.inside = {b.index: self._of_the_net(b) for b in plan.buffers if _is_of_the_net(b)}
        for index, array in self.inside.items():
            self.arrays[index] = array
        for row in plan.rows:
            if row.operation == "batch_norm_track":  # in place
                for old, new in zip(row.arguments, row.results, strict=False):
                    self.arrays[new.buffer] = self.arrays[old.buffer]

    def _share(self, first: Slice) -> None:
        """Read and write what another slice reads and writes."""
        for name in (
            "arrays", "outside", "callers", "block", "sums", "total", "gradients", "learned",
            "inside",
        ):  # fmt: skip
            setattr(self, name, getattr(first, name))
        self.inside = dict(first.inside)

    def _of_the_net(self, b: Buffer) -> np.ndarray:
        """The array of a parameter or a running statistic, as it is now."""
        if b.role == "parameter":
            p = self.player.parameters[b.name]
            if not p.data.flags.c_contiguous:
                p.data = np.ascontiguousarray(p._data)
            assert p._data is not None
            return p._data
        path, _, name = b.name.rpartition(".")
        layer = self.player.modules[path]
        array: np.ndarray = getattr(layer, name)
        if not (array.flags.c_contiguous and array.flags.writeable):
            array = np.array(array, order="C")
            setattr(layer, name, array)
        return array

    def memory(self) -> list[np.ndarray]:
        """The arrays that stay where they are: what a record's addresses point into."""
        return [
            self.block, self.sums, self.player.parts, self.player.partial, self.total,
            *(self.arrays[b] for b in (*self.outside, *self.inside)),
        ]  # fmt: skip

    @property
    def nbytes(self) -> int:
        """Bytes of memory that are its own."""
        return self.block.nbytes + self.sums.nbytes

    # ---- what a row reads and writes

    def array(self, view: View) -> np.ndarray:
        """The numbers of a view."""
        if view.buffer in self.learned:
            start, stop = self.learned[view.buffer]
            return self.gradients[start:stop].reshape(view.shape)
        array: np.ndarray = self.arrays[view.buffer]
        if view.shape == self.plan.buffers[view.buffer].shape:
            return array
        return array[..., view.start : view.start + view.shape[-1]]

    def given(self, row: Row) -> tuple[Any, ...]:
        """The arguments of a row, arrays in the place of views."""
        arguments: tuple[Any, ...] = row.arguments
        if row.operation in _TAKE_A_SHAPE and self.plan.by_image:
            arguments = tuple(
                (self.n, *a[1:]) if isinstance(a, tuple) and len(a) > 2 else a for a in arguments
            )
        elif row.operation == "batch_norm_track":  # its momentum may change
            layer: Any = self.player.modules[row.layer]
            arguments = *arguments[:-1], layer.momentum
        kind: Callable[..., Any] = getattr(arguments, "_make", tuple)
        result: tuple[Any, ...] = kind([self._value(a) for a in arguments])
        return result

    def written(self, row: Row) -> list[Any]:
        """The arrays that a row writes; None for a result that nobody needs."""
        return [None if v is None else self.array(v) for v in row.results]

    def _value(self, value: Any) -> Any:
        """The same with arrays in the place of views, wherever they stand."""
        if isinstance(value, View):
            return self.array(value)
        if isinstance(value, list | tuple) and any(True for _ in views(value)):
            kind: Callable[..., Any] = getattr(value, "_make", list)
            return kind([self._value(v) for v in value])
        return value

    # ---- a pass

    def replace(self, index: int) -> None:
        """Take up an array of the net that was put in the place of another."""
        old, new = self.inside[index], self._of_the_net(self.plan.buffers[index])
        self.records.patches[index].point_to(new)
        for other, held in enumerate(self.arrays):
            if held is old:  # itself, and what is tracked in place
                self.arrays[other] = new
        self.inside[index] = new

    def write_gradients_to(self, total: np.ndarray) -> None:
        """Let the gradients of the whole batch be written to these numbers."""
        self.records.total.point_to(total)
        if self.alone:
            self.gradients = total

    def run(
        self, which: int, given: dict[str, np.ndarray], wanted: View, to: np.ndarray | None,
        events: list[Event] | None,
    ) -> None:  # fmt: skip
        """Run one of the two passes; with no array for what is wanted, it is left out."""
        plan, records = self.plan, self.records
        for index, role in self.callers:
            if role in given:
                self._use(index, given[role][self.images] if plan.by_image else given[role])
        mine = None if to is None else to[self.images] if plan.by_image else to
        if mine is None:
            records.patches[wanted.buffer].point_nowhere()
        elif wanted.buffer in self.outside and plan.buffers[wanted.buffer].role == "activation":
            self._use(wanted.buffer, mine)
        first, last = (0, records.split) if which == 0 else (records.split, len(records))
        if events is None:
            self._play(first, last)
        else:
            self._play_clocked(which, last, events)
        if mine is None:
            return
        result = self.array(wanted)
        if result is not mine and not (self.player.by_pixels and self.rank > 0):
            mine[...] = result

    def _use(self, index: int, array: np.ndarray) -> None:
        self.arrays[index] = array
        self.records.patches[index].point_to(array)

    def _play(self, first: int, last: int) -> None:
        records, flags, i = self.records, self.player.flags, first
        while i < last:
            i = records.play(i, last, flags, self.rank)
            if i < 0:
                raise threading.BrokenBarrierError
            if i < last:
                function = records.python[i]
                if function is not None:
                    function()
                i += 1

    def _play_clocked(self, which: int, last: int, events: list[Event]) -> None:
        plan, split, first = self.plan, self.plan.forward, self.records.first
        rows = range(split) if which == 0 else range(split, len(plan.rows))
        self.records.join(False)  # each row by itself
        for i in rows:
            begin, behind = first[i], self.records.behind[i]
            end = first[i + 1] if i + 1 < len(first) else last
            if plan.rows[i].operation in WHOLE:  # the others wait
                behind = end
            start = perf_counter()
            self._play(begin, behind)
            seconds = perf_counter() - start
            # appending is atomic: threads share the list
            events.append(Event(plan, plan.rows[i], get_ident(), seconds, self.share))
            self._play(behind, end)
        self.records.join(True)


def outside(plan: Plan) -> set[int]:
    """The buffers that are the caller's arrays: what he gives, and what he gets."""
    found = {b.index for b in plan.buffers if b.role in ("input", "output's gradient")}
    for view in (plan.output, plan.gradient):
        if view is not None:
            b = plan.buffers[view.buffer]
            later = plan.train and view is plan.output and b.last >= plan.forward
            if b.role == "activation" and view.shape == b.shape and not later:
                found.add(b.index)
    return found


def layout(plan: Plan, images: int) -> Plan:
    """The plan with places for the buffers of so many images; what is outside needs none."""
    small, others = [], outside(plan)
    for b in plan.buffers:
        shape = b.shape
        if b.role in ("activation", "input", "output's gradient") and plan.by_image:
            shape = images, *shape[1:]
        role = "state" if b.index in others else b.role
        small.append(replace(b, shape=shape, role=role))
    return place(replace(plan, buffers=tuple(small)))


def _is_of_the_net(b: Buffer) -> bool:
    return b.role == "parameter" or (b.role == "state" and b.first < 0)


def _aligned(nbytes: int) -> np.ndarray:
    block = np.empty(nbytes + ALIGNMENT, np.uint8)
    start = -block.__array_interface__["data"][0] % ALIGNMENT
    return block[start : start + nbytes]
