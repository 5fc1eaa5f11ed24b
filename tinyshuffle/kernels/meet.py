"""Numbers by which threads tell each other how far they are, without going to sleep.

Slices of a batch meet more than a hundred times in a training step, and rarely wait long. A thread
that sleeps in the operating system takes longer to wake up than that, so it looks again and again
(:mod:`tinyshuffle.kernels.play`). What it looks at has to be read from memory each time, and what
was written before has to be there by then: the processor calls that acquire and release.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numba.core import types
from numba.extending import lower_builtin, type_callable
from numba.np.arrayobj import make_array

__all__ = ["APART", "read", "write"]

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
