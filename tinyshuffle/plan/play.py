"""Run the rows of a plan, one slice of the batch a core.

Each slice has a thread, memory of its own in which every buffer has its place, and a list of
records (``kernels.record``): one for each row, with the addresses of what the row reads and writes.
Compiled code walks down that list (``kernels.play``), meets the other slices behind the rows whose
results are sums over the batch, and comes back to Python only for a row that Python has to do.
Such a row sees either its slice (an operation without a compiled kernel) or the whole batch (a
layer that computes by itself, the mask of a dropout), which the first slice's thread does for all.
"""

from __future__ import annotations

import threading
from bisect import bisect_right
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor, wait
from contextlib import contextmanager, nullcontext
from contextvars import ContextVar
from dataclasses import dataclass, replace
from itertools import pairwise
from math import inf, prod
from threading import get_ident
from time import perf_counter
from typing import TYPE_CHECKING, Any

import numpy as np

from ..memory import Pool
from ..nn import Module, inference
from .memory import ALIGNMENT, place
from .table import Buffer, Plan, Row, View, views

if TYPE_CHECKING:
    from ..kernels.record import Work

__all__ = ["Event", "Player", "clocked", "cut", "worthwhile"]

# The first slice does these for all: their arguments are the whole batch's.
_ONCE = ("batch_norm_track", "batch_norm_gradients")
# These see the whole batch.
_WHOLE = ("python", "dropout_mask")
# These take the shape of an array that is not there any more.
_TAKE_A_SHAPE = (
    "max_pool2d_backward", "avg_pool2d_backward", "global_avg_pool_backward",
    "adaptive_avg_pool2d_backward", "flatten_backward",
)  # fmt: skip
_PAUSE = 0.1  # seconds of compiled code, about, before Ctrl-C is looked for
_START, _MEETING = 4e-4, 4e-6  # seconds that threads take to begin and end, and to meet


@dataclass(frozen=True)
class Event:
    """That a slice has run a row: for how long, and which share of the plan's images it had."""

    plan: Plan
    row: Row
    thread: int
    seconds: float
    share: float


_events: ContextVar[list[Event] | None] = ContextVar("events", default=None)


@contextmanager
def clocked() -> Iterator[list[Event]]:
    """Note each row that a player runs, inside a ``with``; waiting for others does not count."""
    events: list[Event] = []
    token = _events.set(events)
    try:
        yield events
    finally:
        _events.reset(token)


def cut(n: int, slices: int) -> list[slice]:
    """Cut ``n`` images into at most ``slices`` runs whose lengths differ by one at most.

    >>> cut(7, 3)
    [slice(0, 2, None), slice(2, 4, None), slice(4, 7, None)]
    """
    slices = min(n, slices)
    ends = [n * i // slices for i in range(slices + 1)]
    return [slice(a, b) for a, b in pairwise(ends)]


def worthwhile(plan: Plan, slices: int, share: float = 1.0) -> int:
    """Return into how many slices, at most, the images should be cut for the least time.

    A thread takes a while to start, and each meeting some microseconds; a step whose work is tiny
    is done sooner by one. ``share`` is how often the plan's images fit into those to be cut.
    """
    seconds = share * plan.seconds
    costs = [
        seconds / k + (k > 1) * (_START + _MEETING * plan.meetings) for k in range(1, slices + 1)
    ]
    return 1 + costs.index(min(costs))


class Player:
    """A plan that runs, and the memory of its slices.

    Parameters
    ----------
    net : Module
        Whose plan it is: its weights, its running statistics, and its layers in Python.
    plan : Plan
    slices : int
        At most; each has an image at least.
    """

    def __init__(self, net: Module, plan: Plan, slices: int) -> None:
        self.plan, self.dtype = plan, np.dtype(plan.dtype)
        self.modules = dict(net.named_modules())
        self.slices = cut(plan.shape[0], slices if plan.by_image else 1)
        self.parameters = {p.name: p for p in net.parameters()}
        self.learned = [
            (self.parameters[b.name], b.index) for b in plan.buffers if b.role == "gradient"
        ]
        sizes = [prod(plan.buffers[b].shape) for _, b in self.learned]
        self.offsets = [0, *np.cumsum(sizes).tolist()]
        self.gradients = Pool()
        self.flags = np.zeros(0, np.int64)
        alone = len(self.slices) == 1
        rows, wide = (1, 0) if alone else (len(self.slices), self.offsets[-1])
        self.parts = np.zeros((rows, wide), self.dtype)  # each slice's gradients of the parameters
        self.partial = np.zeros((rows, 0 if alone else _sums_of(plan)))
        # what a Python layer saved on its way forward, for its way back
        self.saved: dict[str, list[list[tuple[Module, Any]]]] = {}
        self.lanes = [_Lane(self, rank) for rank in range(len(self.slices))]
        self.start()

    def start(self) -> None:
        """Start the threads of the slices but the first."""
        others = len(self.slices) - 1
        self.threads = ThreadPoolExecutor(others, "tinyshuffle") if others else None

    @property
    def nbytes(self) -> int:
        """Bytes of memory that all slices hold."""
        lanes = sum(lane.block.nbytes + lane.sums.nbytes for lane in self.lanes)
        return lanes + self.parts.nbytes + self.partial.nbytes

    # ---- the two passes

    def forward(self, x: np.ndarray) -> np.ndarray:
        """Return the output for the batch ``x``."""
        self.saved.clear()
        y = np.empty(self.plan.output.shape, self._dtype_of(self.plan.output))
        for lane in self.lanes:
            lane.look_at_the_net()
        self._run(0, {"input": np.ascontiguousarray(x)}, self.plan.output, y)
        return y

    def backward(self, dy: np.ndarray) -> np.ndarray:
        """Add to the parameters' gradients and return that of the images."""
        if self.plan.no_backward is not None:
            raise self.plan.no_backward
        assert self.plan.gradient is not None
        dx = np.empty(self.plan.gradient.shape, self._dtype_of(self.plan.gradient))
        with self.gradients:
            total = self.gradients.take((self.offsets[-1],), self.dtype)
        for lane in self.lanes:
            lane.write_gradients_to(total)
        given = {"output's gradient": np.ascontiguousarray(dy, self.dtype)}
        self._run(1, given, self.plan.gradient, dx)
        for (p, b), (start, stop) in zip(self.learned, pairwise(self.offsets), strict=True):
            grad = total[start:stop].reshape(self.plan.buffers[b].shape)
            if p._grad is None:
                p._grad = grad
            else:
                p._grad += grad
        return dx

    def _dtype_of(self, view: View) -> str:
        return self.plan.buffers[view.buffer].dtype

    # ---- threads

    def _run(self, which: int, given: dict[str, np.ndarray], wanted: View, to: np.ndarray) -> None:
        """Run a pass, the first slice in this thread, and write what is wanted to an array."""
        from ..kernels.meet import APART

        self.flags = np.zeros((len(self.slices) + 1) * APART, np.int64)
        events = _events.get()

        def work(rank: int) -> None:
            lane = self.lanes[rank]
            try:
                lane.run(which, given, wanted, to, events)
            except BaseException:
                self.flags[-APART] = 1  # nobody waits for a slice that will not come
                raise

        futures: list[Future[None]] = []
        try:
            if self.threads is not None:
                ranks = range(1, len(self.slices))
                futures = [self.threads.submit(work, rank) for rank in ranks]
            work(0)
            wait(futures)
        except threading.BrokenBarrierError:
            pass  # another slice has failed, and its exception says why
        finally:
            if futures and not all(f.done() for f in futures):
                self.flags[-APART] = 1
            wait(futures)
        errors = [e for e in (f.exception() for f in futures) if e is not None]
        for error in sorted(errors, key=lambda e: isinstance(e, threading.BrokenBarrierError)):
            raise error


class _Into(Pool):
    """Memory for a row in Python: what looks like a result is given the result's own place."""

    wanted: list[np.ndarray] = []

    def take(self, shape: tuple[int, ...], dtype: np.dtype) -> np.ndarray:
        for i, a in enumerate(self.wanted):
            if a.shape == shape and a.dtype == dtype and a.flags.c_contiguous:
                return self.wanted.pop(i)
        return super().take(shape, dtype)


def _is(a: Any, b: np.ndarray) -> bool:
    """Whether two arrays are the same numbers in the same memory."""
    if a is b:
        return True
    mine, other = getattr(a, "__array_interface__", None), b.__array_interface__
    return mine is not None and all(
        mine[key] == other[key] for key in ("data", "shape", "typestr", "strides")
    )


@dataclass
class _Patch:
    """Where in the records of a slice the address of an array stands, and how far behind it."""

    words: tuple[np.ndarray, np.ndarray]
    offsets: np.ndarray


class _Lane:
    """A slice: its images, its memory and its records."""

    def __init__(self, player: Player, rank: int) -> None:
        self.player, self.rank = player, rank
        plan, images = player.plan, player.slices[rank]
        self.images, self.alone = images, len(player.slices) == 1
        self.share = (images.stop - images.start) / plan.shape[0]
        self.shapes = [self._shape(b) for b in plan.buffers]
        self.arrays: list[Any] = [None] * len(plan.buffers)
        self._lay_out()
        self.places = self._places()
        self.python: dict[int, Callable[[], None] | None] = {}  # by record
        self.first: list[int] = []  # record of each row
        self.behind: list[int] = []  # the record behind its own, from which on it meets others
        self.kernels: list[Any] = []
        self._write_records()

    # ---- memory

    def _shape(self, buffer: Buffer) -> tuple[int, ...]:
        roles = "activation", "input", "output's gradient"
        if buffer.role in roles and self.player.plan.by_image:
            return (self.images.stop - self.images.start, *buffer.shape[1:])
        return buffer.shape

    def _lay_out(self) -> None:
        """Give every buffer an array in the memory that is its own."""
        plan, player = self.player.plan, self.player
        self.outside = self._outside()
        self.callers = [
            (b.index, b.role)
            for b in plan.buffers
            if b.role in ("input", "output's gradient") and b.last >= 0
        ]
        small = []
        for b in plan.buffers:  # what is outside needs no place
            role = "state" if b.index in self.outside else b.role
            small.append(replace(b, shape=self.shapes[b.index], role=role))
        placed = place(replace(plan, buffers=tuple(small)))
        self.block = _aligned(placed.block_bytes)
        self.sums = np.zeros(sum(prod(b.shape) for b in plan.buffers if b.role == "sums"))
        at = 0
        for b in placed.buffers:
            if plan.buffers[b.index].role == "sums" and b.last >= 0:
                size = prod(b.shape)
                dtype = np.dtype(b.dtype)
                if dtype == np.float64:
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
        self.inside = {b.index: self._of_the_net(b) for b in plan.buffers if self._is_of_the_net(b)}
        for index, array in self.inside.items():
            self.arrays[index] = array
        for row in plan.rows:
            if row.operation == "batch_norm_track":  # in place
                for old, new in zip(row.arguments, row.results, strict=False):
                    self.arrays[new.buffer] = self.arrays[old.buffer]

    def _outside(self) -> set[int]:
        """The buffers that are the caller's arrays: what he gives, and what he gets."""
        plan = self.player.plan
        found = {b.index for b in plan.buffers if b.role in ("input", "output's gradient")}
        for view in (plan.output, plan.gradient):
            if view is not None:
                b = plan.buffers[view.buffer]
                later = plan.train and view is plan.output and b.last >= plan.forward
                if b.role == "activation" and view.shape == b.shape and not later:
                    found.add(b.index)
        return found

    def _is_of_the_net(self, b: Buffer) -> bool:
        return b.role == "parameter" or (b.role == "state" and b.first < 0)

    def _of_the_net(self, b: Buffer) -> np.ndarray:
        """The array of a parameter or a running statistic, as it is now."""
        if b.role == "parameter":
            p = self.player.parameters[b.name]
            if not p.data.flags.c_contiguous:
                p._data = np.ascontiguousarray(p._data)
            assert p._data is not None
            return p._data
        path, _, name = b.name.rpartition(".")
        layer = self.player.modules[path]
        array: np.ndarray = getattr(layer, name)
        if not (array.flags.c_contiguous and array.flags.writeable):
            array = np.array(array, order="C")
            setattr(layer, name, array)
        return array

    # ---- records

    def _write_records(self) -> None:
        from ..kernels import play, record
        from ..kernels.statistics import add_slices_work
        from ..kernels.works import reads, works_of

        plan, made, elapsed = self.player.plan, list[np.ndarray](), 0.0
        self.row_kernel, self.zero = play.play, self.player.dtype.type(0)
        self.broken = play.BROKEN

        def add(fields: np.ndarray) -> None:
            made.append(fields)

        def run(work: Work) -> None:
            self.kernels.append(work)
            work.record["kernel"] = record.entry(work.kernel, work.zero.dtype)
            add(work.record)

        def meet(m: int = 0, total: int = 0, part: int = 0, apart: int = 0) -> None:
            if not self.alone:
                fields = np.zeros((), record.RECORD)
                fields["kernel"], fields["sums"], fields["x"] = play.MEETING, total, part
                fields["m"], fields["x_row"] = m, apart
                add(fields)

        def stop(function: Callable[[], None] | None) -> None:
            self.python[len(made)] = function
            add(np.zeros((), record.RECORD))

        offset, split = 0, plan.forward
        for i, row in enumerate(plan.rows):
            if i == split:
                self.split = len(made)
            self.first.append(len(made))
            elapsed += self.share * plan.seconds_of(row)
            if elapsed > _PAUSE:
                stop(None)
                self.first[-1] += 1
                elapsed = 0.0
            totals = [v.buffer for p in row.parts or (row,) if p.meets for v in p.results]
            held = [self.arrays[b] for b in totals]
            if totals and not self.alone:  # a slice's own part of the sums, side by side
                part = self.player.partial[self.rank]
                for b in totals:
                    size = self.arrays[b].size
                    shape = self.arrays[b].shape
                    self.arrays[b] = part[offset : offset + size].reshape(shape)
                    offset += size
            if row.operation in _WHOLE:
                meet()
                stop(self._whole(row) if self.rank == 0 else None)
                meet()
            elif row.operation not in _ONCE or self.rank == 0:
                arguments = [self._value(a) for a in self._arguments(row)]
                results = tuple(None if v is None else self._array(v) for v in row.results)
                works = works_of(row.operation, results, tuple(arguments), row.keywords)
                if works and all(self._knows(reads(work)) for work in works):
                    for work in works:
                        run(work)
                else:
                    stop(self._by_python(row, {b: self.arrays[b] for b in totals}))
            self.behind.append(len(made))
            for b, total in zip(totals, held, strict=True):
                if not self.alone:
                    mine = self.arrays[b]
                    first = self.player.partial[0]
                    where = record.address_of(mine) - record.address_of(part)
                    meet(
                        total.size, record.address_of(total),
                        record.address_of(first) + where, self.player.partial.shape[1],
                    )  # fmt: skip
                self.arrays[b] = total
        if split == len(plan.rows):
            self.split = len(made)
        if plan.train and not self.alone:
            meet()
            n, k = self.player.offsets[-1], len(self.player.slices)
            work = add_slices_work(
                self.total, self.player.parts, n * self.rank // k, n * (self.rank + 1) // k
            )
            run(work)
        self.records = np.array(made, record.RECORD)
        self.base, self.size = record.address_of(self.records), record.RECORD.itemsize
        words = self.records.view(np.int64).reshape(len(self.records), record.RECORD.itemsize // 8)
        self.words = words
        self.patches = {b: self._patch(self.arrays[b]) for b in (*self.outside, *self.inside)}
        self.total_patch = self._patch(self.total)
        tracks = [
            (self.first[i], self.player.modules[row.layer])
            for i, row in enumerate(plan.rows)
            if row.operation == "batch_norm_track" and self.rank == 0
        ]
        places = np.array([place for place, _ in tracks], np.int64)
        self.tracks: tuple[np.ndarray, list[Any]] = places, [norm for _, norm in tracks]

    def _patch(self, array: np.ndarray) -> _Patch:
        start = array.__array_interface__["data"][0]
        words = np.nonzero((self.words >= start) & (self.words < start + max(array.nbytes, 1)))
        return _Patch((words[0], words[1]), self.words[words] - start)

    def _point(self, patch: _Patch, array: np.ndarray) -> None:
        self.words[patch.words] = array.__array_interface__["data"][0] + patch.offsets

    def _knows(self, arrays: list[np.ndarray]) -> bool:
        """Whether all these lie in memory that stays: none is a copy made on the way."""
        for a in arrays:
            where = a.__array_interface__["data"][0]
            start, stop = self.places[bisect_right(self.places, (where, inf)) - 1]
            if a.size and not start <= where < stop:
                return False
        return True

    def _places(self) -> list[tuple[int, float]]:
        """From where to where each array lies that stays."""
        arrays = [
            self.block, self.sums, self.player.parts, self.player.partial, self.total,
            *(self.arrays[b] for b in (*self.outside, *self.inside)),
        ]  # fmt: skip
        starts = [(a.__array_interface__["data"][0], a.nbytes) for a in arrays if a.size]
        return sorted((start, start + nbytes) for start, nbytes in starts)

    # ---- values

    def _array(self, view: View) -> np.ndarray:
        if view.buffer in self.learned:
            start, stop = self.learned[view.buffer]
            return self.gradients[start:stop].reshape(view.shape)
        array: np.ndarray = self.arrays[view.buffer]
        whole = self.player.plan.buffers[view.buffer].shape
        if view.shape == whole:
            return array
        return array[..., view.start : view.start + view.shape[-1]]

    def _value(self, value: Any) -> Any:
        """The same with arrays in the place of views, wherever they stand."""
        if isinstance(value, View):
            return self._array(value)
        if isinstance(value, list | tuple) and any(True for _ in views(value)):
            kind: Callable[..., Any] = getattr(value, "_make", list)
            return kind([self._value(v) for v in value])
        return value

    def _arguments(self, row: Row) -> tuple[Any, ...]:
        if row.operation in _TAKE_A_SHAPE and self.player.plan.by_image:
            images = self.images.stop - self.images.start
            changed = [
                (images, *a[1:]) if isinstance(a, tuple) and len(a) > 2 else a
                for a in row.arguments
            ]
            return tuple(changed)
        if row.operation == "batch_norm_track":  # its momentum may change
            *rest, _ = row.arguments
            layer: Any = self.player.modules[row.layer]
            return *rest, layer.momentum
        return row.arguments

    def given(self, row: Row) -> tuple[Any, ...]:
        """The arrays that a row reads."""
        arguments = self._arguments(row)
        kind: Callable[..., Any] = getattr(arguments, "_make", tuple)
        result: tuple[Any, ...] = kind([self._value(a) for a in arguments])
        return result

    def made(self, row: Row) -> list[Any]:
        """The arrays that a row has written."""
        return [None if v is None else self._array(v) for v in row.results]

    # ---- rows in Python

    def _by_python(self, row: Row, sums: dict[int, np.ndarray]) -> Callable[[], None]:
        """An operation of this slice, whose ``sums`` are still to be added up."""
        from .. import kernels

        if row.operation == "accumulate":
            return lambda: self._accumulate(row)
        function, pool = getattr(kernels, row.operation), _Into()

        def work() -> None:
            pool.wanted = [a for a in self.made(row) if a is not None]
            with pool:
                self._keep(row, function(*self.given(row), **row.keywords), sums)

        return work

    def _keep(self, row: Row, out: Any, sums: dict[int, np.ndarray]) -> None:
        """Put what came out in its place."""
        if len(row.results) == 1:
            out = (out[0] if type(out) is list else out,)
        for view, value in zip(row.results, out or (), strict=False):
            if view is not None and value is not None:
                to = sums.get(view.buffer, self._array(view))
                if not _is(value, to):
                    to[...] = value

    def _accumulate(self, row: Row) -> None:
        total, more = self.given(row)
        total += more

    def _whole(self, row: Row) -> Callable[[], None]:
        """A row that sees the whole batch, done by the first slice's thread for all."""
        from .. import kernels

        player, train = self.player, self.player.plan.train
        layer = player.modules[row.layer]

        def ask() -> Any:
            if row.operation == "dropout_mask":
                shape = player.plan.buffers[row.results[0].buffer].shape
                _, _, *rest = row.arguments
                assert layer.rng is not None
                return kernels.dropout_mask(layer.rng, shape, *rest)
            parts = [lane.given(row)[0] for lane in player.lanes]
            # an array of its own: what the layer saves of it must not be written over
            x = np.concatenate(parts)
            saved = player.saved.setdefault(row.layer, [])
            if not row.backward:
                with nullcontext() if train else inference():
                    y = layer(x)
                saved.append([(m, m._saved) for _, m in layer._tree("")])
                return y
            for module, values in saved.pop():
                module._saved, module._saver = values, get_ident()
            return layer.backward(x)

        def work() -> None:
            out = np.asarray(ask())
            (view,) = row.results
            whole = player.plan.buffers[view.buffer].shape
            if out.shape != whole:
                raise _wrong_shape(row, out.shape, whole)
            for lane in player.lanes:
                lane._array(view)[...] = out if self.alone else out[lane.images]

        return work

    # ---- a pass

    def look_at_the_net(self) -> None:
        """Take up parameters and running statistics that were put in the place of others."""
        buffers = self.player.plan.buffers
        records, norms = self.tracks
        self.records["momentum"][records] = [norm.momentum for norm in norms]
        for index, array in self.inside.items():
            b = buffers[index]
            if b.role == "parameter":
                if self.player.parameters[b.name]._data is array:
                    continue
            else:
                path, _, name = b.name.rpartition(".")
                if vars(self.player.modules[path]).get(name) is array:
                    continue
            new = self._of_the_net(b)
            self._point(self.patches[index], new)
            self.inside[index] = new
            for other, held in enumerate(self.arrays):
                if held is array:  # itself, and what is tracked in place
                    self.arrays[other] = new

    def write_gradients_to(self, total: np.ndarray) -> None:
        """Let the gradients of the whole batch be written to these numbers."""
        self._point(self.total_patch, total)
        if self.alone:
            self.gradients = total

    def run(
        self, which: int, given: dict[str, np.ndarray], wanted: View, to: np.ndarray,
        events: list[Event] | None,
    ) -> None:  # fmt: skip
        """Run one of the two passes."""
        plan = self.player.plan
        for index, role in self.callers:
            if role in given:
                self._use(index, given[role][self.images] if plan.by_image else given[role])
        mine = to[self.images] if plan.by_image else to
        if wanted.buffer in self.outside and plan.buffers[wanted.buffer].role == "activation":
            self._use(wanted.buffer, mine)
        first, last = (0, self.split) if which == 0 else (self.split, len(self.records))
        if events is None:
            self._play(first, last)
        else:
            self._play_clocked(which, last, events)
        result = self._array(wanted)
        if result is not mine:
            mine[...] = result

    def _use(self, index: int, array: np.ndarray) -> None:
        self.arrays[index] = array
        self._point(self.patches[index], array)

    def _play(self, first: int, last: int) -> None:
        flags, i = self.player.flags, first
        while i < last:
            i = self.row_kernel(self.base, self.size, i, last, flags, self.rank, self.zero)
            if i == self.broken:
                raise threading.BrokenBarrierError
            if i < last:
                function = self.python[i]
                if function is not None:
                    function()
                i += 1

    def _play_clocked(self, which: int, last: int, events: list[Event]) -> None:
        plan, split = self.player.plan, self.player.plan.forward
        rows = range(split) if which == 0 else range(split, len(plan.rows))
        for i in rows:
            begin = self.first[i]
            end = self.first[i + 1] if i + 1 < len(self.first) else last
            work_end = self.behind[i]
            start = perf_counter()
            self._play(begin, work_end)
            seconds = perf_counter() - start
            # appending is atomic: threads share the list
            events.append(Event(plan, plan.rows[i], get_ident(), seconds, self.share))
            self._play(work_end, end)


def _sums_of(plan: Plan) -> int:
    """How many numbers the sums of a batch have that slices add up, in whole lines of the cache."""
    total = sum(
        prod(plan.buffers[v.buffer].shape)
        for row in plan.rows
        for p in row.parts or (row,)
        if p.meets
        for v in p.results
    )
    return -(-total // 8) * 8


def _aligned(nbytes: int) -> np.ndarray:
    block = np.empty(nbytes + ALIGNMENT, np.uint8)
    start = -block.__array_interface__["data"][0] % ALIGNMENT
    return block[start : start + nbytes]


def _wrong_shape(row: Row, shape: tuple[int, ...], whole: tuple[int, ...]) -> Exception:
    from ..errors import TinyshuffleError

    return TinyshuffleError(
        f"{row.layer or 'a layer'} returned an array of shape {shape} where it returned {whole} "
        "when it was asked before; the shape of what comes out may depend on that of what goes in "
        "alone"
    )
