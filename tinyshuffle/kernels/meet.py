"""Waiting for other threads without going to sleep.

Slices of a batch meet more than a hundred times in a training step, and rarely wait long. A thread
that sleeps in the operating system takes longer to wake up than that, so it looks again and again
for a while, without the interpreter lock.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numba.core import types
from numba.extending import lower_builtin, type_callable
from numba.np.arrayobj import make_array

from .jit import exact

__all__ = ["APART", "arrive"]

_STAGGER = 60_000  # looks, about 0.03 ms
APART = 8  # places between two threads' numbers: a cache line, so that nobody takes it from another


def read(flags: np.ndarray, i: int) -> int:
    """Return flags[i] as it is at this moment, and everything that was written before it was."""
    return flags[i]


def write(flags: np.ndarray, i: int, value: int) -> None:
    """Set flags[i], after everything that was written before."""
    flags[i] = value


@type_callable(read)
def _type_read(context: Any) -> Callable:
    return lambda flags, i: types.int64


@type_callable(write)
def _type_write(context: Any) -> Callable:
    return lambda flags, i, value: types.none


def _pointer(context: Any, builder: Any, sig: Any, args: Any) -> Any:
    data = make_array(sig.args[0])(context, builder, args[0]).data
    return builder.gep(data, [context.cast(builder, args[1], sig.args[1], types.intp)])


@lower_builtin(read, types.Array, types.Integer)
def _lower_read(context: Any, builder: Any, sig: Any, args: Any) -> Any:
    return builder.load_atomic(_pointer(context, builder, sig, args), "acquire", 8)


@lower_builtin(write, types.Array, types.Integer, types.Integer)
def _lower_write(context: Any, builder: Any, sig: Any, args: Any) -> Any:
    value = context.cast(builder, args[2], sig.args[2], types.int64)
    builder.store_atomic(value, _pointer(context, builder, sig, args), "release", 8)
    return context.get_dummy_value()


@exact
def arrive(flags, rank, turn, looks):
    """Say that this thread has come to its ``turn``-th meeting, and look whether all others have.

    ``flags`` (int64) has a number for each thread, APART places apart, and one more behind that
    says whether the meeting is off. Returns 1 if all are there, 0 if they were not at the last of
    ``looks`` looks, -1 if it is off.
    """
    threads = flags.size // APART - 1
    write(flags, rank * APART, turn)
    for _ in range(looks):
        if read(flags, threads * APART) != 0:
            return -1
        there = 0
        for k in range(threads):
            if read(flags, k * APART) >= turn:
                there += 1
        if there == threads:
            # one after the other: who finds the interpreter lock taken goes to sleep after all
            for _ in range(rank * _STAGGER):
                there += read(flags, threads * APART)
            return 1 if there > 0 else 0
    return 0
