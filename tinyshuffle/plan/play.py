"""Run the rows of a plan, one slice of the batch a core.

Each slice (:mod:`tinyshuffle.plan.slice`) has a thread, memory of its own in which every buffer
has its place, and a list of records (:mod:`tinyshuffle.plan.records`). Compiled code walks down
that list (:mod:`tinyshuffle.kernels.play`), meets the other slices behind the rows whose results
are sums over the batch, and comes back to Python only for a row that Python has to do
(:mod:`tinyshuffle.plan.by_python`).
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor, wait
from contextlib import AbstractContextManager, contextmanager, nullcontext
from contextvars import ContextVar
from itertools import pairwise
from math import prod
from typing import Any

import numpy as np

from ..memory import Pool
from ..nn import Module, Parameter
from ..ranks import Ranks, Sum
from ..values import flags
from .cores import own_core
from .records import sums_of
from .slice import Slice
from .table import Buffer, Event, Plan, View

__all__ = ["Player", "buckets_of", "clocked", "cut", "worthwhile"]

_START, _MEETING = 6e-4, 4e-6  # seconds that threads take to begin and end, and to meet

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


def worthwhile(
    plan: Plan, slices: int, share: float = 1.0, meetings: int | None = None
) -> int:
    """Return into how many slices, at most, the images should be cut for the least time.

    A thread takes a while to start, and each meeting some microseconds; a step whose work is tiny
    is done sooner by one. ``share`` is how often the plan's images fit into those to be cut, and
    ``meetings`` how often the slices meet, if not as the plan says.
    """
    seconds, meetings = share * plan.seconds, plan.meetings if meetings is None else meetings
    costs = [seconds / k + (k > 1) * (_START + _MEETING * meetings) for k in range(1, slices + 1)]
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
    by_pixels : bool
        In evaluation of one image: each slice has some of its pixels instead.
    ranks : Ranks, optional
        Other processes, over which the gradients are added.
    together : bool
        The plan's batch is that of all ranks: each runs its own images of it, and sums over the
        batch are added over all. Otherwise each rank has a batch of its own.
    """

    @flags
    def __init__(
        self, net: Module, plan: Plan, slices: int, by_pixels: bool = False,
        ranks: Ranks | None = None, together: bool = True,
    ) -> None:  # fmt: skip
        self.plan, self.dtype = plan, np.dtype(plan.dtype)
        self.modules = dict(net.named_modules())
        self.by_pixels = by_pixels
        self.ranks, self.together = ranks, ranks if together else None
        mine = slice(0, plan.shape[0])
        if self.together is not None:
            mine = self.together.part(plan.shape[0])
        self.cuts = [
            slice(mine.start + images.start, mine.start + images.stop)
            for images in cut(mine.stop - mine.start, slices if plan.by_image else 1)
        ]
        if by_pixels:
            self.cuts *= slices
        self.parameters = {p.name: p for p in net.parameters()}
        self.learned = [
            (self.parameters[b.name], b.index) for b in plan.buffers if b.role == "gradient"
        ]
        sizes = [prod(plan.buffers[b].shape) for _, b in self.learned]
        self.offsets = [0, *np.cumsum(sizes).tolist()]
        of_sums = {v.buffer for v in _results_of(plan, "batch_norm_gradients")}
        places = zip(self.learned, pairwise(self.offsets), strict=True)
        # the gradients that come of sums over the whole batch, which every rank has
        self.whole = [slice(*place) for (_, b), place in places if b in of_sums]
        shared = plan.train and ranks is not None and ranks.size > 1
        learned = [b for _, b in self.learned]
        self.buckets = buckets_of(plan, learned, self.offsets) if shared else []
        self.total, self.adding = np.zeros(0, self.dtype), list[Sum]()
        self.gradients = Pool()
        self.flags = np.zeros(0, np.int64)
        alone = len(self.cuts) == 1
        rows, wide = (1, 0) if alone else (len(self.cuts), self.offsets[-1])
        self.parts = np.zeros((rows, wide), self.dtype)  # each slice's gradients of the parameters
        self.partial = np.zeros((rows, 0 if alone else sums_of(plan)))
        # what a Python layer saved on its way forward, for its way back
        self.saved: dict[str, list[list[tuple[Module, Any]]]] = {}
        self.layouts: dict[int, Plan] = {}  # by how many images a slice has
        self.slices: list[Slice] = []
        for rank in range(len(self.cuts)):
            self.slices.append(Slice(self, rank))
        gradient = plan.gradient
        self.can_leave_out = gradient is not None and all(  # the images' gradient
            part.records.can_do_without(gradient.buffer) for part in self.slices
        )
        self.held = {i: self._holder(plan.buffers[i]) for i in self.slices[0].inside}
        self.changes: tuple[int, int] | None = None  # of all nets, when this one was looked at
        self.start()

    def start(self) -> None:
        """Start the threads of the slices but the first."""
        others = len(self.cuts) - 1
        self.threads = ThreadPoolExecutor(others, "tinyshuffle") if others else None

    @property
    def nbytes(self) -> int:
        """Bytes of memory that all slices hold."""
        own = self.slices[:1] if self.by_pixels else self.slices
        return sum(part.nbytes for part in own) + self.parts.nbytes + self.partial.nbytes

    # ---- the two passes

    def forward(self, x: np.ndarray, taken: list[int] | None = None) -> np.ndarray:
        """Return the output for the batch ``x``.

        ``taken`` are the cores on which other players run at the same time for the same caller.
        """
        self.saved.clear()
        y = np.empty(self.plan.output.shape, self._dtype_of(self.plan.output))
        self._look_at_the_net()
        self._run(0, {"input": np.ascontiguousarray(x)}, self.plan.output, y, taken)
        return y

    @flags
    def backward(self, dy: np.ndarray, images: bool = True) -> np.ndarray | None:
        """Add to the parameters' gradients and return that of the images, if it is asked for."""
        if self.plan.no_backward is not None:
            raise self.plan.no_backward
        assert self.plan.gradient is not None
        dx = None
        if images or not self.can_leave_out:
            dx = np.empty(self.plan.gradient.shape, self._dtype_of(self.plan.gradient))
        with self.gradients:
            total = self.gradients.take((self.offsets[-1],), self.dtype)
        self.total, self.adding = total, []
        for part in self.slices:
            part.write_gradients_to(total)
        given = {"output's gradient": np.ascontiguousarray(dy, self.dtype)}
        self._run(1, given, self.plan.gradient, dx)
        for under_way in self.adding:
            under_way.end()
        for (p, b), (start, stop) in zip(self.learned, pairwise(self.offsets), strict=True):
            grad = total[start:stop].reshape(self.plan.buffers[b].shape)
            if p._grad is None:
                p._grad = grad
            else:
                p._grad += grad
        return dx if images else None

    def send(self, bucket: int) -> None:
        """Begin to add up some parameters' gradients over the ranks, while the others are made."""
        assert self.ranks is not None
        _, place = self.buckets[bucket]
        if self.together is not None and self.ranks.rank > 0:
            for whole in self.whole:
                if place.start <= whole.start < place.stop:
                    self.total[whole] = 0
        for earlier in self.adding:
            earlier.go_on()
        self.adding.append(self.ranks.start_adding(self.total[place], bucket))

    def _look_at_the_net(self) -> None:
        """Take up momenta, and parameters and running statistics put in the place of others.

        Those that were set as attributes: what is written to ``vars(layer)`` is not counted.
        """
        for part in self.slices:
            part.records.set_momenta()
        changes = Module.changes, Parameter.moves
        if self.changes == changes:
            return
        for part in self.slices:
            for index, (names, name) in self.held.items():
                if names.get(name) is not part.inside[index]:
                    part.replace(index)
        self.changes = changes  # at last: drawing new values may fail, or be interrupted

    def _holder(self, b: Buffer) -> tuple[dict[str, Any], str]:
        """Whose attribute a parameter or a running statistic is, and which."""
        if b.role == "parameter":
            return vars(self.parameters[b.name]), "_data"
        path, _, name = b.name.rpartition(".")
        return vars(self.modules[path]), name

    def _dtype_of(self, view: View) -> str:
        return self.plan.buffers[view.buffer].dtype

    # ---- threads

    def _own_core(self, part: Slice, taken: list[int] | None) -> AbstractContextManager[None]:
        """Keep a slice on its core through a pass, if that is short and calls nothing in Python.

        In a long pass the system moves threads itself where that is needed, and threads that a
        layer in Python may start are not to stay on one core.
        """
        return nullcontext() if taken is None or part.records.python else own_core(taken)

    def _run(
        self, which: int, given: dict[str, np.ndarray], wanted: View, to: np.ndarray | None,
        taken: list[int] | None = None,
    ) -> None:  # fmt: skip
        """Run a pass, the first slice in this thread, and write what is wanted to an array."""
        if len(self.cuts) > 1:  # the slices' own cores
            taken = []
        from ..kernels.meet import APART

        self.flags = np.zeros((len(self.cuts) + 1) * APART, np.int64)
        events = _events.get()
        def work(rank: int) -> None:
            part = self.slices[rank]
            try:
                with self._own_core(part, taken):
                    part.run(which, given, wanted, to, events)
            except BaseException:
                self.flags[-APART] = 1  # nobody waits for a slice that will not come
                raise

        futures: list[Future[None]] = []
        try:
            if self.threads is not None:
                ranks = range(1, len(self.cuts))
                futures = [self.threads.submit(work, rank) for rank in ranks]
            work(0)
            for future in futures:
                future.exception()  # waits for it
        except threading.BrokenBarrierError:
            pass  # another slice has failed, and its exception says why
        finally:
            if futures and not all(f.done() for f in futures):
                self.flags[-APART] = 1
                wait(futures)
        errors = [e for e in (f.exception() for f in futures) if e is not None]
        for error in sorted(errors, key=lambda e: isinstance(e, threading.BrokenBarrierError)):
            raise error


def buckets_of(plan: Plan, gradients: list[int], offsets: list[int]) -> list[tuple[int, slice]]:
    """Cut the parameters' gradients into about four parts: behind which row each is there.

    They lie side by side in the order in which the backward pass makes them.
    """
    written = {v.buffer: i for i, row in enumerate(plan.rows) for v in row.writes}
    found, start, row = list[tuple[int, slice]](), 0, 0
    for k, gradient in enumerate(gradients, 1):
        row = max(row, written.get(gradient, plan.forward))
        if k == len(gradients) or offsets[k] - offsets[start] >= offsets[-1] / 4:
            found.append((row, slice(offsets[start], offsets[k])))
            start, row = k, 0
    return found


def _results_of(plan: Plan, operation: str) -> Iterator[View]:
    for row in plan.rows:
        if row.operation == operation:
            yield from (v for v in row.results if v is not None)
