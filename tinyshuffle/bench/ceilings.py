"""The two ceilings of the roofline, measured: matrix products and memory."""

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

__all__ = ["Ceilings", "bandwidth", "matrix_peak", "measure"]

@dataclass(frozen=True)
class Ceilings:
    """The two ceilings of the roofline.

    Attributes
    ----------
    flops : float
        Additions and multiplications of float32 in a matrix product, each second.
    bandwidth : float
        Bytes each second, from and to a working set larger than every cache.
    """

    flops: float
    bandwidth: float

    def seconds(self, multiply_adds: float, nbytes: float) -> float:
        """Return the least time for so many multiply-adds and bytes.

        >>> Ceilings(flops=200e9, bandwidth=20e9).seconds(multiply_adds=1e9, nbytes=10e6)
        0.01
        """
        return max(2 * multiply_adds / self.flops, nbytes / self.bandwidth)

    def line(self) -> str:
        """Return both as text."""
        return (
            f"roofline: matrix products {self.flops / 1e9:.0f} GFLOP/s, "
            f"memory {self.bandwidth / 1e9:.0f} GB/s, measured at the start of this run"
        )


def measure(threads: int, seconds: float = 1.0) -> Ceilings:
    """Measure both ceilings, taking about ``seconds`` for each.

    The threads are organised as the library organises them: each has products and arrays of its
    own, and BLAS keeps to one thread.
    """
    # beyond every cache, and not more than a machine can spare
    nbytes = min(max(256 * 2**20, 4 * last_level_cache()), 2**30)
    return Ceilings(matrix_peak(threads, seconds), bandwidth(nbytes, threads, seconds))


def matrix_peak(threads: int, seconds: float = 1.0, size: int = 1024) -> float:
    """Return the additions and multiplications a second of square float32 products."""

    def prepare() -> Callable[[], Any]:
        a, b = np.ones((2, size, size), np.float32)
        return partial(np.matmul, a, b, np.empty_like(a))

    return 2 * size**3 * threads / _best(prepare, threads, seconds)


def bandwidth(nbytes: int, threads: int, seconds: float = 1.0) -> float:
    """Return the bytes a second that are read and written in a working set of ``nbytes``.

    The set is shared out over the threads. It is the better of reading two arrays (a dot product)
    and copying one to the other. What the cache fetches before it writes is not counted.
    """
    n = max(1, nbytes // (8 * threads))

    def prepare(copy: bool) -> Callable[[], Any]:
        x, y = np.ones((2, n), np.float32)
        return partial(np.copyto, y, x) if copy else partial(np.dot, x, y)

    best = min(
        _best(partial(prepare, copy), threads, seconds / 2) for copy in (True, False)
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


