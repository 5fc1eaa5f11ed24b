"""Memory for results, handed out again as soon as nobody looks at it any more.

A large fresh array costs a page fault for every 4 KiB at its first write, at every training step.
A :class:`Pool` keeps the blocks that it has handed out and counts who still refers to them: a
block that only the pool knows is free. So nothing that anybody holds is ever overwritten, and
nobody has to say when he is done. A thread that has not entered a pool gets fresh arrays.
"""

from __future__ import annotations

import sys
import threading
from math import prod

import numpy as np

__all__ = ["LINE", "Pool", "empty", "physical", "zeros"]

LINE = 64  # bytes of a cache line

_SMALL = 16_384  # bytes; below, NumPy's own allocator is as quick
_ARENA = 2**25  # bytes to ask for at a time: NumPy lets the system use large pages for them
_thread = threading.local()


class Pool:
    """Blocks of memory for one thread. Use as ``with pool:``, each in one thread at a time."""

    def __init__(self) -> None:
        self._blocks: dict[int, list[np.ndarray]] = {}
        self._arena = _aligned(0)
        self._outer: Pool | None = None

    def __enter__(self) -> Pool:
        self._outer, _thread.pool = getattr(_thread, "pool", None), self
        return self

    def __exit__(self, *_: object) -> None:
        _thread.pool, self._outer = self._outer, None

    def clear(self) -> None:
        """Forget every block: those still in use live on with their users, the rest are freed."""
        self._blocks.clear()
        self._arena = _aligned(0)

    @property
    def nbytes(self) -> int:
        """Bytes in all blocks, in use or not."""
        return sum(size * len(blocks) for size, blocks in self._blocks.items())

    def take(self, shape: tuple[int, ...], dtype: np.dtype) -> np.ndarray:
        """Return an uninitialised array in a block that nobody else refers to."""
        size = prod(shape) * dtype.itemsize
        blocks = self._blocks.setdefault(size, [])
        for block in blocks:
            if sys.getrefcount(block) == _FREE:
                break
        else:
            block = self._cut(size)
            blocks.append(block)
        return np.ndarray(shape, dtype, buffer=block)


    def _cut(self, size: int) -> np.ndarray:
        """Return ``size`` new bytes."""
        whole = -(-size // LINE) * LINE
        if len(self._arena) < whole:
            if whole > _ARENA // 4:
                return _aligned(size)
            self._arena = _aligned(_ARENA)
        block, self._arena = self._arena[:size], self._arena[whole:]
        return np.frombuffer(block.data, np.uint8)


def physical() -> int:
    """Return the machine's memory in bytes, 0 if unknown, as in a browser."""
    try:
        import psutil
    except ModuleNotFoundError:
        return 0
    return psutil.virtual_memory().total


def empty(shape: tuple[int, ...], dtype: np.dtype) -> np.ndarray:
    """Return an uninitialised array, from the pool of this thread if it has entered one."""
    pool: Pool | None = getattr(_thread, "pool", None)
    dtype = np.dtype(dtype)
    if pool is None or prod(shape) * dtype.itemsize < _SMALL:
        return np.empty(shape, dtype)
    return pool.take(shape, dtype)


def zeros(shape: tuple[int, ...], dtype: np.dtype) -> np.ndarray:
    """Return an array of zeros, from the pool of this thread if it has entered one."""
    out = empty(shape, dtype)
    out.fill(0)
    return out


def _aligned(size: int) -> np.ndarray:
    """Return ``size`` bytes from the start of a cache line, where vectors are read at once."""
    block = np.empty(size + LINE, np.uint8)
    start = -block.ctypes.data % LINE
    return np.frombuffer(block.data, np.uint8, size, start) if size else block[:0]


def _references_to_a_free_block() -> int:
    """Measure what ``sys.getrefcount`` says in ``take``'s loop of a block only the pool holds."""
    for block in [_aligned(1)]:
        return sys.getrefcount(block)
    raise AssertionError


_FREE = _references_to_a_free_block()
