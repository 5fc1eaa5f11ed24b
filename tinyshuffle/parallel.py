"""One batch, several cores: each core takes a slice of the batch through the whole net.

Layers are serial and know nothing of this. The slices meet only where the mathematics makes them:

* batch norm's sums, forward and backward, are added over the slices (``part.py``), so that every
  slice is normalised with the statistics of the whole batch;
* the gradients of the parameters are added when all slices are through.

Both are added in slice order, so the same number of slices gives the same bits. There are as many
as threads were asked for, but no more than cores: those beyond would only take turns.

A net that stands inside another one (``models.create`` returns one, so every backbone with a head
of its own is this) is cut along with that: in a slice it is a layer like any other.

Each slice but the first works on a replica of the net: a copy of its layers that shares the
weights and owns what a pass leaves behind (saved activations, gradients, memory). Threads are
plain Python threads: the kernels and NumPy's products release the interpreter lock.
"""

from __future__ import annotations

import contextvars
import copy
import os
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor, wait
from dataclasses import replace
from functools import cache, partial
from itertools import pairwise
from typing import Any
from weakref import WeakSet

import numpy as np

from . import blas
from .backend import F
from .errors import TinyshuffleError
from .memory import Pool
from .nn import Module, inference
from .part import Part, part_of_batch, this_part
from .values import whole

__all__ = ["DataParallel", "get_num_threads", "set_num_threads", "usable_cores"]

_num_threads: int | None = None


def get_num_threads() -> int:
    """Return how many cores a net may use: :func:`usable_cores`, unless set."""
    return usable_cores() if _num_threads is None else _num_threads


def set_num_threads(n: int | None) -> None:
    """Set how many cores a net may use; None means all.

    Asking for more than :func:`usable_cores` is the same as asking for all.
    """
    global _num_threads
    if n is not None:
        cores = whole(n)
        if cores is None or cores < 1:
            raise TinyshuffleError(
                f"cannot use {n!r} threads; give a whole number from 1 up, or None for all cores"
            )
        n = cores
    _num_threads = n


def usable_cores() -> int:
    """Return how many cores this process may keep busy.

    Those that it may run on, or what a container's share of time (its cgroup) comes to, if that is
    less.
    """
    if hasattr(os, "sched_getaffinity"):
        return _cores(len(os.sched_getaffinity(0)))
    return _cores(os.cpu_count() or 1)


def _threads() -> int:
    return min(get_num_threads(), usable_cores())


@cache  # reading a container's share takes longer than a layer, and it is given for good
def _cores(allowed: int) -> int:
    from joblib import cpu_count

    return min(allowed, cpu_count())


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

    _OWN = ("net", "_team", "_lock", "_saved", "_saver", "_replaced")

    def __init__(self, net: Module) -> None:
        self.net = net
        self._team: _Team | None = None
        self._lock = threading.RLock()  # one pass at a time, whoever calls
        _nets.add(self)

    def forward(self, x: np.ndarray) -> np.ndarray:
        """Return the net's output for the batch ``x``; the first axis is the images'."""
        part = this_part()
        if part is not None:
            return self._forward_in(part, x)
        if np.ndim(x) == 0 or len(x) == 0:
            raise TinyshuffleError("the net got an empty batch; give it at least one image")
        slices = _cut(len(x), _threads())
        with self._lock:
            team = self._team_of(len(slices))
            if not self.training:
                self._saved = None
                return team.infer(x, slices)
            try:
                out = team.forward(x, slices)
            except BaseException:
                self._saved = None
                raise
            self.save(slices, out.shape)
        return out

    def backward(self, dy: np.ndarray) -> np.ndarray:
        """Add to the parameters' gradients and return the gradient of the batch."""
        if this_part() is not None:
            return self.net.backward(dy)
        with self._lock:
            if not self.training:
                raise TinyshuffleError(
                    "in evaluation nothing is kept for a backward pass; "
                    "call net.train() before the forward pass"
                )
            waiting = self._saved
            slices, shape = self.saved()
            if np.shape(dy) != shape:
                self._saved = waiting  # for the right one
                what = f"has shape {np.shape(dy)}, and the forward pass returned {shape}"
                if len(np.shape(dy)) == len(shape) and np.shape(dy)[1:] == shape[1:]:
                    what = f"is for {len(dy)} images, and the forward pass had {shape[0]}"
                raise TinyshuffleError(f"the gradient {what}; give the gradient of that pass")
            assert self._team is not None
            return self._team.backward(dy, slices)

    def _forward_in(self, part: Part, x: np.ndarray) -> np.ndarray:
        """Take a slice of the batch of a net that this one stands in."""
        if id(self) in part.nets:
            return self.net(x)
        # one that the other net only knows how to call: all its slices call this very one
        if self.training:
            raise TinyshuffleError(
                "a net in training was called inside of another net that it is no part of; make "
                "it an attribute of the layer that calls it, or call net.eval()"
            )
        with self._lock, inference():
            return self.net(x)

    def _team_of(self, size: int) -> _Team:
        team = self._team
        if team is None or len(team.nets) != size or team.nets[0] is not self.net or (
            team.outdated()
        ):
            team = self._team = _Team(self.net, size)
        return team

    def _after_fork(self) -> None:
        """Go on in a forked process, which has a copy of everything but of the other threads."""
        mine = self._lock.acquire(blocking=False)
        self._lock = threading.RLock()
        if not mine:  # another thread was in the middle of a pass
            self._team = self._saved = None
        elif self._team is not None:
            self._team.start()

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

    def __reduce__(self) -> tuple[Any, ...]:  # for copies and pickles
        return type(self), (self.net,)

    def __repr__(self) -> str:
        return repr(self.net)


_nets: WeakSet[DataParallel] = WeakSet()


def _after_fork() -> None:
    for net in list(_nets):
        net._after_fork()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)


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
        inner = [list(_inner_nets(n)) for n in self.nets]
        self.inside = [(net, net.net) for net in inner[0]]
        self.members = frozenset(id(net) for nets in inner for net in nets)
        self.shape: tuple[int, ...] = ()
        self.stale = False  # whether a thread may still work on a replica, for a pass that is over
        self.meeting: _Meeting | None = None  # of the last pass
        self.start()

    def start(self) -> None:
        """Start with fresh threads, and without a pass that others have gone from."""
        more = len(self.nets) - 1
        self.threads = ThreadPoolExecutor(more, "tinyshuffle") if more else None
        if self.meeting is not None:
            self.meeting.abort()

    def outdated(self) -> bool:
        """Whether the net's layers were exchanged for others since the replicas were made."""
        return (
            self.stale
            or any(inner.net is not net for inner, net in self.inside)
            or (bool(self.replicas) and any(twin.outdated() for twin in self.replicas[0]))
        )

    def forward(self, x: np.ndarray, slices: list[slice]) -> np.ndarray:
        self._refresh(x.shape)
        return self._run(slices, [
            partial(net, x[part]) for net, part in zip(self.nets, slices, strict=True)
        ])

    def backward(self, dy: np.ndarray, slices: list[slice]) -> np.ndarray:
        dx = self._run(slices, [
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
        # a layer that is in training all the same, such as dropout, has to see the whole slice
        chunk = len(x) if any(m.training for m in self.modules) else _chunk(x.shape)

        def walk(net: Module, part: slice) -> np.ndarray:
            mine, out = this_part(), []
            assert mine is not None
            with inference():
                for i in range(part.start, part.stop, chunk):
                    end = min(i + chunk, part.stop)
                    with part_of_batch(replace(mine, first=i, last=end)):
                        out.append(net(x[i:end]))
            return _join(out)

        return self._run(slices, [
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
                q.share(p)

    def _run(self, slices: list[slice], jobs: list[Callable[[], np.ndarray]]) -> np.ndarray:
        """Run one job a thread, the first in this one, and lay their results end to end."""
        alone = len(jobs) == 1
        exchange = _Exchange(len(jobs))
        self.meeting = meeting = exchange.meeting
        functions = dict(vars(F))
        futures: list[Future[np.ndarray]] = []

        def work(rank: int) -> np.ndarray:
            part = slices[rank]
            seen = Part(part.start, part.stop, slices[-1].stop, nets=self.members)
            if not alone:
                seen = replace(seen, add=exchange.member(rank))
            try:
                if rank > 0:
                    F.follow(functions)
                with self.pools[rank], part_of_batch(seen):
                    out = jobs[rank]()
                meeting.leave(rank)
                return out
            except BaseException:
                meeting.abort()  # nobody waits for a slice that will not come
                raise

        # a single slice leaves the matrix products' own threads to work
        with blas.limit(_threads() if alone else 1):
            results: list[Any] = []
            try:
                if self.threads is not None:
                    for rank in range(1, len(jobs)):
                        # what this thread has set, such as np.errstate, holds in the others, too
                        context = contextvars.copy_context()
                        futures.append(self.threads.submit(context.run, work, rank))
                results = [work(0)]
                wait(futures)
            except threading.BrokenBarrierError:
                pass  # another slice has failed, and its exception says why
            finally:
                if len(results) == 0:
                    meeting.abort()
                self.stale = True
                wait(futures)  # unless there is a second Ctrl-C
                self.stale = False
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
        self.left = [False] * slices

    def wait(self, rank: int) -> None:
        turn = self.turns[rank] = self.turns[rank] + 1
        while not (all_there := self.arrive(self.flags, rank, turn, self.LOOKS)):
            if any(left and self.turns[k] < turn for k, left in enumerate(self.left)):
                raise TinyshuffleError(
                    "a batch norm was called for some of the images and not for others; with "
                    "several threads it has to be called for all or none "
                    "(ts.set_num_threads(1) takes the whole batch at once)"
                )
            time.sleep(self.NAP)
        if all_there < 0:
            raise threading.BrokenBarrierError

    def leave(self, rank: int) -> None:
        """Say that slice ``rank`` comes to no more meetings."""
        self.left[rank] = True

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
        twin._grad = None
        memo[id(p)] = twin
    return copy.deepcopy(net, memo)


def _inner_nets(module: Module) -> Iterator[DataParallel]:
    """Visit the nets that stand inside a module, which `modules()` looks through."""
    while isinstance(module, DataParallel):
        yield module
        module = module.net
    for _, child in module.children():
        yield from _inner_nets(child)


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
