"""Run the rows of a plan, one slice of the batch a core.

Each slice has a thread, which takes its images through all the rows. The slices meet behind the
rows whose results are sums over the batch, and around a row that has to see the whole batch (a
layer in Python, the mask of a dropout).
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor, wait
from contextlib import contextmanager, nullcontext
from contextvars import ContextVar
from dataclasses import dataclass
from itertools import pairwise
from threading import get_ident
from time import perf_counter
from typing import Any

import numpy as np

from ..memory import Pool
from ..nn import Module, inference
from .table import Buffer, Plan, Row, View, views

__all__ = ["Player", "cut"]

# The first slice does these for all: their arguments are the whole batch's.
_ONCE = ("batch_norm_track", "batch_norm_gradients")
# These take the shape of an array that is not there any more.
_TAKE_A_SHAPE = (
    "max_pool2d_backward", "avg_pool2d_backward", "global_avg_pool_backward",
    "adaptive_avg_pool2d_backward", "flatten_backward",
)  # fmt: skip

Values = list[Any]  # an array for each buffer that is alive, of one slice


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


@dataclass(frozen=True)
class Step:
    """What a slice does for a row: make something, add it up with the others, forget something."""

    row: Row
    arguments: list[Callable[[Values], Any]]
    call: Callable[[list[Any], _Member], Any]
    targets: list[int | None]
    sums: list[int]
    dying: list[int]

    def work(self, values: Values, others: _Member) -> None:
        out = self.call([get(values) for get in self.arguments], others)
        if len(self.targets) == 1:
            out = (out[0] if type(out) is list else out,)
        for target, value in zip(self.targets, out or (), strict=False):
            if target is not None:
                values[target] = value

    def finish(self, values: Values, others: _Member) -> None:
        for b in self.sums:
            values[b] = others.total(values[b])
        for b in self.dying:
            values[b] = None


class Player:
    """A plan that runs, and the memory of its slices.

    Parameters
    ----------
    net : Module
        Whose plan it is: its weights, and its layers in Python.
    plan : Plan
    slices : int
        At most; each has an image at least.
    """

    def __init__(self, net: Module, plan: Plan, slices: int) -> None:
        self.plan = plan
        self.modules = dict(net.named_modules())
        self.parameters = {p.name: p for p in net.parameters()}
        self.slices = cut(plan.shape[0], slices if plan.by_image else 1)
        self.pools = [Pool() for _ in self.slices]
        self.values: list[Values] = [[None] * len(plan.buffers) for _ in self.slices]
        self.start()
        forward = [(i, row) for i, row in enumerate(plan.rows) if not row.backward]
        backward = [(i, row) for i, row in enumerate(plan.rows) if row.backward]
        ranks = range(len(self.slices))
        self.passes = [
            [[self._step(i, row, rank) for i, row in rows] for rank in ranks]
            for rows in (forward, backward)
        ]
        self.work: Callable[[Step, Values, _Member], None] = Step.work  # how a step is done
        self.tracked = [row for row in plan.rows if row.operation == "batch_norm_track"]

    def start(self) -> None:
        """Start the threads of the slices but the first."""
        others = len(self.slices) - 1
        self.threads = ThreadPoolExecutor(others, "tinyshuffle") if others else None

    # ---- the two passes

    def forward(self, x: np.ndarray) -> np.ndarray:
        """Return the output for the batch ``x``."""
        for buffer in self.plan.buffers:
            if buffer.role == "parameter":
                self._give(buffer, self.parameters[buffer.name].data)
            elif buffer.role == "state" and buffer.first < 0:
                path, _, name = buffer.name.rpartition(".")
                self._give(buffer, getattr(self.modules[path], name))
        out = self._run(0, "input", x, self.plan.output)
        for row in self.tracked:
            layer = self.modules[row.layer]
            for name, view in zip(layer.buffers, row.results, strict=True):
                setattr(layer, name, self.values[0][view.buffer])
        return out

    def backward(self, dy: np.ndarray) -> np.ndarray:
        """Add to the parameters' gradients and return that of the images."""
        if self.plan.no_backward is not None:
            raise self.plan.no_backward
        dx = self._run(1, "output's gradient", dy, self.plan.gradient)
        for buffer in self.plan.buffers:
            if buffer.role == "gradient":
                parts = [values[buffer.index] for values in self.values]
                self._give(buffer, None)
                total = None
                for part in parts:  # in slice order: the same bits each time
                    if part is not None:
                        total = part if total is None else total + part
                if total is not None:
                    self.parameters[buffer.name].accumulate(total)
        return dx

    def read(self, values: Values, view: View) -> np.ndarray:
        """Return the array that a view speaks of."""
        return self._getter(view)(values)

    def _give(self, buffer: Buffer, value: Any) -> None:
        for values in self.values:
            values[buffer.index] = value

    # ---- rows

    def _step(self, i: int, row: Row, rank: int) -> Step:
        """What slice ``rank`` does for a row: a function of its arrays."""
        targets = [
            v.buffer if isinstance(v, View) and self._is_whole(v) else None for v in row.results
        ]  # what is a part of a buffer was written there
        sums = [v.buffer for p in row.parts or (row,) if p.meets for v in p.results]
        arguments = [self._getter(a) for a in self._arguments(row, rank)]
        return Step(row, arguments, self._call(row, rank), targets, sums, self._dying(i))

    def _arguments(self, row: Row, rank: int) -> list[Any]:
        part, arguments = self.slices[rank], list(row.arguments)
        if row.operation in _TAKE_A_SHAPE:
            images = part.stop - part.start
            return [(images, *a[1:]) if isinstance(a, tuple) and len(a) > 2 else a
                    for a in arguments]  # fmt: skip
        return arguments

    def _call(self, row: Row, rank: int) -> Callable[[list[Any], _Member], Any]:
        from .. import kernels

        keywords = row.keywords
        if row.operation == "python":
            layer = self.modules[row.layer]

            def work(x: np.ndarray) -> np.ndarray:
                if row.backward:
                    return layer.backward(x)
                with nullcontext() if self.plan.train else inference():
                    return layer(x)

            return lambda args, others: others.whole(work, args[0], self.slices)
        if row.operation == "dropout_mask":
            layer = self.modules[row.layer]

            def draw(args: list[Any]) -> np.ndarray:
                assert layer.rng is not None
                return kernels.dropout_mask(layer.rng, *args[1:])

            return lambda args, others: others.whole(lambda _: draw(args), None, self.slices)
        if row.operation == "accumulate":
            return lambda args, others: _sum(*args)
        if row.operation in _ONCE and rank > 0:
            return lambda args, others: None
        function = getattr(kernels, row.operation)
        return lambda args, others: function(*args, **keywords)

    def _is_whole(self, view: View) -> bool:
        return view.shape == self.plan.buffers[view.buffer].shape

    def _getter(self, value: Any) -> Callable[[Values], Any]:
        """A function that puts arrays in the place of views, wherever they stand in ``value``."""
        if isinstance(value, View):
            b = value.buffer
            if self._is_whole(value):
                return lambda values: values[b]
            channels = slice(value.start, value.start + value.shape[-1])
            return lambda values: values[b][..., channels]
        if isinstance(value, list | tuple) and any(True for _ in views(value)):
            parts = [self._getter(v) for v in value]
            kind: Callable[..., Any] = getattr(value, "_make", list)
            return lambda values: kind([get(values) for get in parts])
        return lambda values: value

    def _dying(self, i: int) -> list[int]:
        """The buffers that nobody needs behind this row."""
        return [
            b.index
            for b in self.plan.buffers
            if b.last == i and self.plan.alive(b) and b.index != self.plan.output.buffer
        ]

    # ---- threads

    def _run(self, which: int, role: str, batch: np.ndarray, wanted: View | None) -> np.ndarray:
        """Run a pass, the first slice in this thread, and lay the results end to end."""
        assert wanted is not None
        (first,) = [b.index for b in self.plan.buffers if b.role == role]
        events = _events.get()
        steps, exchange = self.passes[which], _Exchange(len(self.slices))
        get = self._getter(wanted)

        def work(rank: int) -> np.ndarray:
            values, others = self.values[rank], _Member(exchange, rank)
            images = batch[self.slices[rank]]
            values[first], share = images, len(images) / len(batch)
            try:
                with self.pools[rank]:
                    for step in steps[rank]:
                        start = perf_counter() if events is not None else 0.0
                        self.work(step, values, others)
                        if events is not None:  # appending is atomic: threads share the list
                            seconds = perf_counter() - start
                            events.append(Event(self.plan, step.row, get_ident(), seconds, share))
                        step.finish(values, others)
                return get(values)
            except BaseException:
                exchange.meeting.abort()  # nobody waits for a slice that will not come
                raise

        futures: list[Future[np.ndarray]] = []
        results: list[np.ndarray] = []
        try:
            if self.threads is not None:
                ranks = range(1, len(self.slices))
                futures = [self.threads.submit(work, rank) for rank in ranks]
            results = [work(0)]
            wait(futures)
        except threading.BrokenBarrierError:
            pass  # another slice has failed, and its exception says why
        finally:
            if not results:
                exchange.meeting.abort()
            wait(futures)
        errors = [e for e in (f.exception() for f in futures) if e is not None]
        for error in sorted(errors, key=lambda e: isinstance(e, threading.BrokenBarrierError)):
            raise error
        return np.concatenate(results + [f.result() for f in futures])


def _sum(a: np.ndarray | None, b: np.ndarray | None) -> np.ndarray | None:
    return b if a is None else a if b is None else a + b


def cut(n: int, slices: int) -> list[slice]:
    """Cut ``n`` images into at most ``slices`` runs whose lengths differ by one at most.

    >>> cut(7, 3)
    [slice(0, 2, None), slice(2, 4, None), slice(4, 7, None)]
    """
    slices = min(n, slices)
    ends = [n * i // slices for i in range(slices + 1)]
    return [slice(a, b) for a, b in pairwise(ends)]


class _Meeting:
    """A barrier that looks for a while before it sleeps: see ``kernels.meet``."""

    LOOKS = 50_000  # some tenths of a millisecond
    NAP = 5e-5  # seconds

    def __init__(self, slices: int) -> None:
        from ..kernels import meet

        self.arrive, self.end = meet.arrive, slices * meet.APART
        self.flags = np.zeros((slices + 1) * meet.APART, np.int64)
        self.turns = [0] * slices

    def wait(self, rank: int) -> None:
        self.turns[rank] += 1
        while not (there := self.arrive(self.flags, rank, self.turns[rank], self.LOOKS)):
            time.sleep(self.NAP)
        if there < 0:
            raise threading.BrokenBarrierError

    def abort(self) -> None:
        self.flags[self.end] = 1


class _Exchange:
    """Where the slices of a batch meet."""

    def __init__(self, slices: int) -> None:
        self.meeting = _Meeting(slices)
        # Two sets of places in turn: a slice that is ahead writes into the one that nobody reads,
        # and cannot get further ahead than that, so that one barrier a sum is enough.
        self.places: list[list[Any]] = [[None] * slices, [None] * slices]
        self.result: Any = None


class _Member:
    """A slice at the meetings."""

    def __init__(self, exchange: _Exchange, rank: int) -> None:
        self.exchange, self.rank, self.turn = exchange, rank, 0
        self.alone = len(exchange.places[0]) == 1

    def _all(self, mine: Any) -> list[Any]:
        """Give this slice's part and get those of all, in slice order."""
        places = self.exchange.places[self.turn]
        places[self.rank] = mine
        self.exchange.meeting.wait(self.rank)
        self.turn = 1 - self.turn
        return places

    def total(self, sums: np.ndarray) -> np.ndarray:
        """Return the sum over the slices."""
        if self.alone:
            return sums
        first, *rest = self._all(sums)
        total = first.copy()
        for part in rest:
            total += part
        return total

    def whole(self, work: Callable[[Any], Any], mine: Any, slices: list[slice]) -> Any:
        """Let the first slice's thread work on the whole batch, and return this slice's part."""
        if self.alone:
            return work(mine)
        parts = self._all(mine)
        if self.rank == 0:
            self.exchange.result = work(None if mine is None else np.concatenate(parts))
        self._all(None)
        return self.exchange.result[slices[self.rank]]
