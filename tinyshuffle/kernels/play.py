"""Run the rows of a step, without the interpreter.

A row is a record (:mod:`tinyshuffle.kernels.record`) whose ``kernel`` is the address of its
compiled code. One thread a slice of the batch walks down its own list of records. At a meeting it
waits for the others and adds up what each of them has, in slice order, so that all of them get the
same sum to the bit. It waits in compiled code, and lets others run if that takes long.
"""

from __future__ import annotations

import ctypes
import sys
from typing import Any

import llvmlite.binding as llvm
from llvmlite import ir
from numba.core import types
from numba.extending import intrinsic

from .jit import exact
from .meet import APART, read, write
from .record import doubles, record_at

__all__ = ["BROKEN", "MEETING", "PYTHON", "TAKEN", "play"]

# In the place of a kernel's address: a row in Python, a meeting, a row that another takes along.
PYTHON, MEETING, TAKEN = 0, 1, 2
BROKEN = -1
_LOOKS = 200_000
"""At the others' numbers, some 0.3 ms, before another thread may run.

A thread that lets another one run gets its core back at the system's next tick, milliseconds later,
however unimportant the other is. So it does that only when what it waits for has no core itself.
"""


def _yield_address() -> int:
    """Where the system's function lies that lets another thread run."""
    if sys.platform == "win32":
        function: Any = ctypes.windll.kernel32.SwitchToThread
    else:
        function = ctypes.CDLL(None).sched_yield
    return ctypes.cast(function, ctypes.c_void_p).value or 0


llvm.add_symbol("tinyshuffle_yield", _yield_address())
_let_others_run = types.ExternalFunction("tinyshuffle_yield", types.int32())


@intrinsic
def _call(context, kernel, address, zero):  # type: ignore[no-untyped-def]
    """Call the code at an address, a C function (int64, number)."""

    def code(target: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        number = target.get_value_type(signature.args[2])
        kind = ir.FunctionType(ir.VoidType(), [ir.IntType(64), number])
        builder.call(builder.inttoptr(arguments[0], kind.as_pointer()), arguments[1:])
        return target.get_dummy_value()

    return types.void(types.int64, types.int64, zero), code


@exact
def play(base, size, first, last, flags, rank, zero):
    """Run records from ``first`` on; return where it stopped.

    Parameters
    ----------
    base : int
        Address of the first record.
    size : int
        Bytes of a record.
    first, last : int
        It stops before the record ``last``, or before one that is a row in Python.
    flags : int64 array
        For each thread, ``APART`` numbers apart, at which meeting it has arrived; behind them
        whether the meetings are off.
    rank : int
        Which of the threads this is.
    zero
        Of the type of the numbers.

    Returns
    -------
    int
        The record before which it stopped; BROKEN if the meetings are off.
    """
    threads = flags.size // APART - 1
    for i in range(first, last):
        r = record_at(base + i * size)
        if r.kernel == PYTHON:
            return i
        if r.kernel == TAKEN:
            continue
        if r.kernel != MEETING:
            _call(r.kernel, base + i * size, zero)  # type: ignore[call-arg]
            continue
        turn = read(flags, rank * APART) + 1
        write(flags, rank * APART, turn)
        looks = 0
        for k in range(threads):
            while read(flags, k * APART) < turn:
                if read(flags, threads * APART) != 0:
                    return BROKEN
                looks += 1
                if looks % _LOOKS == 0:
                    _let_others_run()
        total, parts = doubles(r.sums, r.m), doubles(r.x, (threads - 1) * r.x_row + r.m)
        for j in range(r.m):
            total[j] = parts[j]
        for k in range(1, threads):
            part = parts[k * r.x_row :]
            for j in range(r.m):
                total[j] += part[j]
    return last
