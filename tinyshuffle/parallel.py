"""One batch, several cores: each core takes a slice of the batch through the whole net.

Layers are serial and know nothing of this. The slices meet only where the mathematics makes them:

* batch norm's sums, forward and backward, are added over the slices (``BatchNorm2d.sync``), so
  that every slice is normalised with the statistics of the whole batch;
* the gradients of the parameters are added when all slices are through.

Both are added in slice order, so the same number of threads gives the same bits.

Each slice but the first works on a replica of the net: a copy of its layers that shares the
weights and owns what a pass leaves behind (saved activations, gradients, memory). Threads are
plain Python threads: the kernels and NumPy's products release the interpreter lock.
"""

from __future__ import annotations

import copy
import os
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor, wait
from functools import partial
from itertools import pairwise
from typing import Any

import numpy as np

from . import blas
from .errors import TinyshuffleError
from .memory import Pool
from .nn import BatchNorm2d, Dropout, Module, inference

__all__ = ["DataParallel", "get_num_threads", "set_num_threads"]

_num_threads: int | None = None


def get_num_threads() -> int:
    """Return how many cores a net may use: as many as this process may run on, unless set."""
    if _num_threads is not None:
        return _num_threads
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def set_num_threads(n: int | None) -> None:
    """Set how many cores a net may use; None means all."""
    global _num_threads
    if n is not None and n < 1:
        raise TinyshuffleError(f"cannot use {n} threads; give a number from 1 up")
    _num_threads = n


class DataParallel(Module):
    """A net that cuts each batch into as many slices as there are threads.

    It stands in for the net: parameters, state, modes and attributes are the net's own.

    Parameters
    ----------
    net : Module
        Each image's output must depend on the other images through batch norm only.

    Notes
    -----
    In training the result is that of the net alone on the whole batch, up to rounding. In
    evaluation nothing is kept for a backward pass, and each slice is walked in chunks that are
    small enough for a core's cache.
    """

    _OWN = ("net", "_team", "_slices")

    def __init__(self, net: Module) -> None:
        self.net = net
        self._team: _Team | None = None
        self._slices: list[slice] | None = None  # of the forward pass that waits for a backward

    def forward(self, x: np.ndarray) -> np.ndarray:
        """Return the net's output for the batch ``x``; the first axis is the images'."""
        if np.ndim(x) == 0 or len(x) == 0:
            raise TinyshuffleError("the net got an empty batch; give it at least one image")
        slices = _cut(len(x), get_num_threads())
        team = self._team_of(len(slices))
        if self.training:
            self._slices = None
            out = team.forward(x, slices)
            self._slices = slices
            return out
        return team.infer(x, slices)

    def backward(self, dy: np.ndarray) -> np.ndarray:
        """Add to the parameters' gradients and return the gradient of the batch."""
        if not self.training:
            raise TinyshuffleError(
                "in evaluation nothing is kept for a backward pass; "
                "call net.train() before the forward pass"
            )
        if self._slices is None or self._team is None:
            raise TinyshuffleError(
                "backward was called before forward, or twice after one forward; "
                "call net(x) before each backward"
            )
        if len(dy) != self._slices[-1].stop:
            raise TinyshuffleError(
                f"the gradient is for {len(dy)} images, and the forward pass had "
                f"{self._slices[-1].stop}; give the gradient of that pass"
            )
        slices, self._slices = self._slices, None
        return self._team.backward(dy, slices)

    def _team_of(self, size: int) -> _Team:
        if self._team is None or len(self._team.nets) != size or self._team.outdated():
            self._team = _Team(self.net, size)
        return self._team

    # ---- the rest is the net's own

    def named_modules(self, prefix: str = "") -> Iterator[tuple[str, Module]]:
        return self.net.named_modules(prefix)

    def children(self) -> Iterator[tuple[str, Module]]:
        return self.net.children()

    def __getattr__(self, name: str) -> Any:
        if name in self._OWN or name.startswith("__"):
            raise AttributeError(name)
        return getattr(self.net, name)

    def __setattr__(self, name: str, value: Any) -> None:
        if name in self._OWN:
            object.__setattr__(self, name, value)
        else:
            setattr(self.net, name, value)

    @property
    def training(self) -> bool:  # type: ignore[override]
        return self.net.training

    def __deepcopy__(self, memo: dict[int, Any]) -> DataParallel:
        return DataParallel(copy.deepcopy(self.net, memo))

    def __repr__(self) -> str:
        return repr(self.net)


class _Team:
    """The net, its replicas, and a thread for each."""

    def __init__(self, net: Module, size: int) -> None:
        for module in net.modules():
            module._saved = None
        self.nets = [net, *(_replica(net) for _ in range(size - 1))]
        self.pools = [Pool() for _ in self.nets]
        self.parameters = [n.parameters() for n in self.nets]
        modules = [list(n.modules()) for n in self.nets]
        self.replicas = [
            [_Twin(m, r) for m, r in zip(modules[0], others, strict=True)]
            for others in modules[1:]
        ]
        self.modules = modules[0]
        self.norms = [[m for m in ms if isinstance(m, BatchNorm2d)] for ms in modules]
        for norms in self.norms[1:]:
            for norm in norms:
                norm.tracks = False
        self.drops = [[m for m in ms if isinstance(m, Dropout)] for ms in modules]
        self.threads = ThreadPoolExecutor(size - 1, "tinyshuffle") if size > 1 else None
        self.shape: tuple[int, ...] = ()

    def outdated(self) -> bool:
        """Whether the net's layers were exchanged for others since the replicas were made."""
        return any(twin.outdated() for twin in self.replicas[0]) if self.replicas else False

    def forward(self, x: np.ndarray, slices: list[slice]) -> np.ndarray:
        self._refresh(x.shape)
        for drops, part in zip(self.drops, slices, strict=True):
            for drop in drops:
                drop.rows = part.start, part.stop, len(x)
        try:
            return self._run([
                partial(net, x[part]) for net, part in zip(self.nets, slices, strict=True)
            ])
        finally:
            for drop in self.drops[0]:
                drop.rows = None

    def backward(self, dy: np.ndarray, slices: list[slice]) -> np.ndarray:
        dx = self._run([
            partial(net.backward, dy[part])
            for net, part in zip(self.nets, slices, strict=True)
        ])
        for p, *others in zip(*self.parameters, strict=True):
            for other in others:
                if other.grad is not None:
                    p.accumulate(other.grad)
                    other.grad = None
        return dx

    def infer(self, x: np.ndarray, slices: list[slice]) -> np.ndarray:
        self._refresh(x.shape)
        chunk = _chunk(x.shape)

        def walk(net: Module, part: slice) -> np.ndarray:
            with inference():
                starts = range(part.start, part.stop, chunk)
                return _join([net(x[i : min(i + chunk, part.stop)]) for i in starts])

        return self._run([
            partial(walk, net, part)
            for net, part in zip(self.nets, slices, strict=True)
        ])

    def _refresh(self, shape: tuple[int, ...]) -> None:
        """Drop what the last pass left; give the replicas today's weights, modes and statistics."""
        if shape != self.shape:  # blocks of other sizes would only lie about
            self.shape = shape
            for pool in self.pools:
                pool.clear()
        for module in self.modules:
            module._saved = None
        for i, twins in enumerate(self.replicas, 1):
            for twin in twins:
                twin.refresh()
            for p, q in zip(self.parameters[0], self.parameters[i], strict=True):
                q.data, q.grad = p.data, None

    def _run(self, jobs: list[Callable[[], np.ndarray]]) -> np.ndarray:
        """Run one job a thread, the first in this one, and lay their results end to end."""
        alone = len(jobs) == 1
        exchange = _Exchange(len(jobs))
        futures: list[Future[np.ndarray]] = []

        def work(rank: int) -> np.ndarray:
            try:
                with self.pools[rank]:
                    return jobs[rank]()
            except BaseException:
                exchange.meeting.abort()  # nobody waits for a slice that will not come
                raise

        # a single slice leaves the matrix products' own threads to work
        with blas.limit(get_num_threads() if alone else 1):
            if not alone:
                for rank, norms in enumerate(self.norms):
                    sync = exchange.member(rank)
                    for norm in norms:
                        norm.sync = sync
            results: list[Any] = []
            try:
                if self.threads is not None:
                    futures = [self.threads.submit(work, rank) for rank in range(1, len(jobs))]
                results = [work(0)]
                wait(futures)
            except threading.BrokenBarrierError:
                pass  # another slice has failed, and its exception says why
            finally:
                if len(results) == 0:
                    exchange.meeting.abort()
                wait(futures)
                for norm in self.norms[0]:
                    norm.__dict__.pop("sync", None)
        errors = [e for e in (f.exception() for f in futures) if e is not None]
        for error in sorted(errors, key=lambda e: isinstance(e, threading.BrokenBarrierError)):
            raise error
        return _join(results + [f.result() for f in futures])


class _Twin:
    """A module and its replica."""

    def __init__(self, module: Module, replica: Module) -> None:
        self.theirs, self.mine = vars(module), vars(replica)
        # layers, parameters, generators: what the copy made anew is the replica's own
        self.own = {
            name: value
            for name, value in self.mine.items()
            if value is not self.theirs[name] and not isinstance(value, np.ndarray)
        }
        self.originals = {name: self.theirs[name] for name in self.own}

    def outdated(self) -> bool:
        return any(self.theirs.get(name) is not value for name, value in self.originals.items())

    def refresh(self) -> None:
        self.theirs["_saved"] = None
        self.mine.update(self.theirs)
        self.mine.update(self.own)
        rng = self.own.get("rng")
        if rng is not None:
            rng.bit_generator.state = self.theirs["rng"].bit_generator.state


class _Meeting:
    """A barrier that looks for a while before it sleeps: see ``kernels.meet``."""

    LOOKS = 50_000  # some tenths of a millisecond
    NAP = 5e-5  # seconds

    def __init__(self, slices: int) -> None:
        from .kernels import meet

        self.arrive, self.apart = meet.arrive, meet.APART
        self.flags = np.zeros((slices + 1) * meet.APART, np.int64)
        self.turns = [0] * slices

    def wait(self, rank: int) -> None:
        self.turns[rank] += 1
        while not (all_there := self.arrive(self.flags, rank, self.turns[rank], self.LOOKS)):
            time.sleep(self.NAP)
        if all_there < 0:
            raise threading.BrokenBarrierError

    def abort(self) -> None:
        self.flags[len(self.turns) * self.apart] = 1


class _Exchange:
    """Adds arrays over the slices of a batch."""

    def __init__(self, slices: int) -> None:
        self.meeting = _Meeting(slices)
        # Two sets of places in turn: a slice that is ahead writes into the one that nobody reads,
        # and cannot get further ahead than that, so that one barrier a sum is enough.
        self.places: list[list[Any]] = [[None] * slices, [None] * slices]

    def member(self, rank: int) -> Callable[[np.ndarray], np.ndarray]:
        """Return the function with which slice ``rank`` gives its part and gets the sum."""
        turn = 0

        def sync(sums: np.ndarray) -> np.ndarray:
            nonlocal turn
            places = self.places[turn]
            places[rank] = sums
            self.meeting.wait(rank)
            turn = 1 - turn
            total = places[0].copy()
            for part in places[1:]:
                total += part
            return total

        return sync


def _replica(net: Module) -> Module:
    """Copy the layers of ``net``; the weights are shared."""
    memo: dict[int, Any] = {}
    for p in net.parameters():
        twin = copy.copy(p)
        twin.grad = None
        memo[id(p)] = twin
    return copy.deepcopy(net, memo)


def _cut(n: int, slices: int) -> list[slice]:
    """Cut ``n`` images into at most ``slices`` runs whose lengths differ by one at most."""
    slices = min(n, slices)
    ends = [n * i // slices for i in range(slices + 1)]
    return [slice(a, b) for a, b in pairwise(ends)]


def _chunk(shape: tuple[int, ...]) -> int:
    """How many images of this shape to take through the net at a time in evaluation."""
    pixels = int(np.prod(shape[1:3])) if len(shape) == 4 else 1
    return max(1, 32 * 32 * 32 // pixels)


def _join(parts: list[np.ndarray]) -> np.ndarray:
    """Lay results end to end in memory of their own: what the net returns is the caller's."""
    return np.concatenate(parts)
