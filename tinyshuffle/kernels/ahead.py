"""Compile kernels ahead, in several processes.

The first step after an installation needs some twenty kernels, and one core takes half a minute to
compile them. Other processes compile a share each and leave what they made in numba's cache, where
this one finds it.
"""

from __future__ import annotations

import importlib
import multiprocessing
import signal
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from typing import Any

import numpy as np

from .jit import _Cache
from .record import entry, signature_of

__all__ = ["compile_ahead"]

_LEAST = 6  # kernels for which it pays to start processes


def compile_ahead(kernels: Iterable[tuple[Any, np.dtype]], meanwhile: Callable[[], Any]) -> None:
    """Compile those of the kernels that the cache does not hold, each for a type of numbers.

    This process does ``meanwhile`` what others need not do. A process that is itself one of
    several starts no others: those beside it do the same. If the others are killed, by a signal to
    the whole job or for want of memory, what is missing is compiled when it is first called.
    """
    missing = [(k, dtype) for k, dtype in dict.fromkeys(kernels) if not _is_there(k, dtype)]
    if len(missing) < _LEAST or multiprocessing.parent_process() is not None:
        return
    from joblib import cpu_count
    from joblib.externals.loky import ProcessPoolExecutor

    shares: defaultdict[tuple[str, str], list[str]] = defaultdict(list)
    for kernel, dtype in missing:  # those of a file call the same others, compiled once
        shares[kernel.py_func.__module__, dtype.name].append(kernel.__name__)
    processes = min(cpu_count(), len(shares))
    if processes == 1:
        return
    pool = ProcessPoolExecutor(processes)
    try:
        with _without_ctrl_c():  # the first one starts the processes
            # what joblib cannot hand out at once, its thread misses when the processes are killed
            jobs, most = sorted(shares.items(), key=_heavy_first), 2 * processes + 1
            done = [pool.submit(_compile, jobs[i::most]) for i in range(min(most, len(jobs)))]
        meanwhile()
        for future in done:
            future.result()
    except BrokenProcessPool:
        pass
    finally:
        pool.shutdown(kill_workers=True)  # who is stopped meanwhile does not wait for them


@contextmanager
def _without_ctrl_c() -> Iterator[None]:
    """Start processes that Ctrl-C does not reach, which is for this one: it is told afterwards."""
    if not hasattr(signal, "pthread_sigmask"):
        yield
        return
    from multiprocessing import resource_tracker

    # else it starts with the first process and unblocks Ctrl-C, for the others, too
    resource_tracker.ensure_running()
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


_HEAVY = (
    "norm_depthwise", "norm_pointwise", "frame_back", "frame", "winograd_back", "winograd",
    "batch_norm", "meeting", "few_pixels",
)  # fmt: skip


def _heavy_first(share: tuple[tuple[str, str], list[str]]) -> int:
    name = share[0][0].rpartition(".")[2]
    return _HEAVY.index(name) if name in _HEAVY else len(_HEAVY)


def _is_there(kernel: Any, dtype: np.dtype) -> bool:
    kept = getattr(kernel, "_cache", None)
    if not isinstance(kept, _Cache):  # nothing is compiled, or kept
        return True
    signature = signature_of(dtype)
    if signature.args in kernel.overloads:
        return True
    return kept.holds(signature, kernel.targetctx)


def _compile(jobs: list[tuple[tuple[str, str], list[str]]]) -> None:
    for (module, dtype), names in jobs:
        for name in names:
            entry(getattr(importlib.import_module(module), name), np.dtype(dtype))
