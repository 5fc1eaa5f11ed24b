"""The ceilings of the roofline, measured: matrix products, and memory with two kinds of stores."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np

from .. import blas
from ..machine import last_level_cache
from ..values import flags

__all__ = ["Ceilings", "bandwidth", "matrix_peak", "measure"]

PRODUCTS, MEMORY, PAST_CACHE = "products", "memory", "past the cache"
"""What limits an operation: the names of the ceilings."""


@dataclass(frozen=True)
class Ceilings:
    """The ceilings of the roofline.

    Attributes
    ----------
    flops : float
        Additions and multiplications of float32 in a matrix product, each second.
    bandwidth : float
        Bytes each second, from and to a working set larger than every cache, with plain stores or
        read alone.
    past_cache : float
        The same where all that is written are whole lines, stored past the cache; ``bandwidth``
        unless given.
    """

    flops: float
    bandwidth: float
    past_cache: float = 0.0

    def __post_init__(self) -> None:
        object.__setattr__(self, "past_cache", self.past_cache or self.bandwidth)

    def seconds(self, multiply_adds: float, nbytes: float, past_cache: float = 0) -> float:
        """Return the least time for so many multiply-adds and bytes.

        Parameters
        ----------
        multiply_adds, nbytes : float
        past_cache : float
            How many of the bytes are moved with stores past the cache.

        >>> Ceilings(flops=200e9, bandwidth=20e9).seconds(multiply_adds=1e9, nbytes=10e6)
        0.01
        >>> machine = Ceilings(flops=200e9, bandwidth=10e9, past_cache=20e9)
        >>> machine.seconds(multiply_adds=0, nbytes=400e6, past_cache=200e6)
        0.03
        """
        return max(self._each(multiply_adds, nbytes, past_cache).values())

    def limit(self, multiply_adds: float, nbytes: float, past_cache: float = 0) -> str:
        """Return which of the ceilings that time is made of, for the most part.

        >>> machine = Ceilings(flops=200e9, bandwidth=10e9, past_cache=20e9)
        >>> machine.limit(1e9, 10e6), machine.limit(0, 4e6), machine.limit(0, 4e6, past_cache=3e6)
        ('products', 'memory', 'past the cache')
        """
        each = self._each(multiply_adds, nbytes, past_cache)
        name = max(each, key=lambda name: each[name])
        if name == PRODUCTS:
            return name
        return PAST_CACHE if 2 * past_cache / self.past_cache > each[MEMORY] else MEMORY

    def _each(self, multiply_adds: float, nbytes: float, past_cache: float) -> dict[str, float]:
        moved = (nbytes - past_cache) / self.bandwidth + past_cache / self.past_cache
        return {PRODUCTS: 2 * multiply_adds / self.flops, MEMORY: moved}

    def line(self) -> str:
        """Return all as text."""
        return (
            f"roofline: matrix products {self.flops / 1e9:.0f} GFLOP/s, "
            f"memory {self.bandwidth / 1e9:.0f} GB/s with plain stores, "
            f"{self.past_cache / 1e9:.0f} GB/s with stores past the cache, "
            "measured at the start of this run"
        )


def measure(threads: int, seconds: float = 1.0) -> Ceilings:
    """Measure the ceilings, taking about ``seconds`` for each.

    The threads are organised as the library organises them: each has products and arrays of its
    own, and BLAS keeps to one thread.
    """
    # beyond every cache, and not more than a machine can spare
    nbytes = min(max(256 * 2**20, 4 * last_level_cache()), 2**30)
    plain, past = (bandwidth(nbytes, threads, seconds, kind) for kind in (False, True))
    return Ceilings(matrix_peak(threads, seconds), plain, max(plain, past))


def matrix_peak(threads: int, seconds: float = 1.0, size: int = 1024) -> float:
    """Return the additions and multiplications a second of square float32 products."""

    def prepare() -> Callable[[], Any]:
        a, b = np.ones((2, size, size), np.float32)
        return partial(np.matmul, a, b, np.empty_like(a))

    return 2 * size**3 * threads / _best(prepare, threads, seconds)


@flags
def bandwidth(
    nbytes: int, threads: int, seconds: float = 1.0, past_cache: bool = False
) -> float:
    """Return the bytes a second that are read and written in a working set of ``nbytes``.

    The set is shared out over the threads. It is the better of reading two arrays (a dot product)
    and writing one, scaled, to the other, with plain stores or with stores ``past_cache``. What
    the cache fetches before a plain store is not counted.
    """
    from .stores import LANES, aligned, scale, scale_past_cache  # they need numba

    n = max(1, nbytes // (8 * threads * LANES)) * LANES

    def prepare(write: bool) -> Callable[[], Any]:
        x, y = aligned(n), aligned(n)
        if not write:
            return partial(np.dot, x, y)
        return partial(scale_past_cache if past_cache else scale, x, np.ones(1, np.float32), y)

    best = min(
        _best(partial(prepare, write), threads, seconds / 2) for write in (True, False)
    )
    return 8 * n * threads / best


def _best(prepare: Callable[[], Callable[[], Any]], threads: int, seconds: float) -> float:
    """Return the least time of one call when each thread makes one, on arrays of its own."""
    barrier = threading.Barrier(threads)
    repeats = 1
    times: list[float] = []

    def work() -> Callable[[], Any]:
        call = prepare()
        call()
        return call

    def timed(call: Callable[[], Any]) -> tuple[float, float]:
        barrier.wait()
        start = time.perf_counter()
        for _ in range(repeats):
            call()
        return start, time.perf_counter()

    with ThreadPoolExecutor(threads) as pool, blas.limit(1):
        calls = [future.result() for future in [pool.submit(work) for _ in range(threads)]]
        end = time.perf_counter() + seconds
        while len(times) < 3 or time.perf_counter() < end:
            starts, ends = zip(*pool.map(timed, calls), strict=True)
            took = max(ends) - min(starts)
            if took < 2e-3:  # too short for the clock and the barrier: not counted
                repeats *= max(2, int(4e-3 / max(took, 1e-6)))
            else:
                times.append(took / repeats)
    return min(times)


