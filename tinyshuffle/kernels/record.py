"""What a compiled kernel works on: a record of numbers.

A step is some three hundred rows, and a row has many arguments: where its arrays lie, how many
pixels and channels they have, a batch norm in front and one behind. They are written once into a
record, and the kernel is called with the record's address. So a step can be run by compiled code
that knows nothing of Python (:mod:`tinyshuffle.kernels.play`), and no kernel has more than two
arguments: the address, and a zero of the type of its numbers.
"""

from __future__ import annotations

import ctypes
from collections.abc import Callable
from functools import cache
from typing import Any, NamedTuple

import numba
import numpy as np
from llvmlite import ir
from numba.core import types
from numba.extending import intrinsic, overload
from numba.np.numpy_support import as_dtype

__all__ = [
    "NORM",
    "RECORD",
    "WINDOW",
    "Work",
    "address_of",
    "doubles",
    "entry",
    "fill",
    "floats",
    "record_at",
    "run",
    "signature_of",
]

_INT, _REAL = np.int64, np.float64

NORM = np.dtype([
    ("gamma", _INT), ("beta", _INT),  # where γ and β lie; γ at 0: there is no norm
    ("means", _INT), ("variances", _INT),
    ("wide", _INT),  # whether μ and σ² are float64, as those of a batch, or running statistics
    ("sums", _INT),  # where dβ and dγ over the whole batch lie, float64 (2, C), and
    ("pixels", _REAL),  # over how many pixels
    ("eps", _REAL), ("relu", _INT), ("shuffle", _INT),
])  # fmt: skip
"""A batch norm, the ReLU and the shuffle behind it."""

WINDOW = np.dtype([
    ("kh", _INT), ("kw", _INT), ("sh", _INT), ("sw", _INT), ("ph", _INT), ("pw", _INT),
    ("dh", _INT), ("dw", _INT),
    ("ho", _INT), ("wo", _INT),  # pixels that come out
])  # fmt: skip
"""A sliding window: its size, stride, padding and dilation."""

RECORD = np.dtype([
    ("kernel", _INT),  # the address of its code; see tinyshuffle.kernels.play
    # tensors of images: where they lie, and how many numbers apart their pixels start
    ("x", _INT), ("x_row", _INT), ("x2", _INT), ("x2_row", _INT), ("y", _INT),
    ("dy", _INT), ("dy_row", _INT), ("dx", _INT), ("dx_row", _INT), ("more", _INT),
    ("y_row", _INT),
    ("w", _INT), ("w_row", _INT), ("dw", _INT), ("sums", _INT), ("sums2", _INT),
    ("before", NORM), ("behind", NORM),
    ("n", _INT), ("h", _INT), ("wd", _INT), ("m", _INT), ("c", _INT), ("o", _INT),
    ("groups", _INT), ("stride", _INT),
    ("window", WINDOW),
    ("block", _INT),  # how many pixels, rows of pixels or images to take at a time
    ("images", _INT),
    ("first", _INT), ("last", _INT),  # rows of pixels that come out; last at 0: all
    ("x_period", _INT), ("period", _INT),  # see tinyshuffle.kernels.sums
    ("adds", _INT),  # whether branches that meet are added; otherwise they lie side by side
    ("joined", _INT),  # the record of a pass that is done along with this one; see meeting_block
    ("momentum", _REAL), ("tracked", _INT), ("ceiling", _REAL),
])  # fmt: skip


class Work(NamedTuple):
    """A kernel, its record, and the arrays that the record speaks of, which have to stay alive."""

    kernel: Callable[[int, Any], None]
    record: np.ndarray  # RECORD ()
    zero: np.generic
    arrays: tuple[Any, ...]
    kept: tuple[np.ndarray, ...] = ()  # constants that are its own


def fill(
    kernel: Callable[[int, Any], None], dtype: Any, kept: dict[str, np.ndarray] | None = None,
    **fields: Any,
) -> Work:  # fmt: skip
    """Return a kernel's work. An array stands for its address, a tuple for the fields of a norm.

    ``kept`` are fields that are arrays of constants, which nobody else has.
    """
    record = np.zeros((), RECORD)
    record["before"]["shuffle"] = record["behind"]["shuffle"] = 1
    arrays: list[Any] = []
    for name, value in fields.items():
        if isinstance(value, np.ndarray):
            arrays.append(value)
            value = address_of(value)
        elif isinstance(value, tuple):
            arrays.append(value)
            value = value[0]
        record[name] = value
    for name, constants in (kept or {}).items():
        record[name] = address_of(constants)
    return Work(
        kernel, record, np.dtype(dtype).type(0), tuple(arrays), tuple((kept or {}).values())
    )


def run(work: Work) -> None:
    """Do it, here and now."""
    work.kernel(work.record.ctypes.data, work.zero)


def address_of(a: np.ndarray) -> int:
    """Return where the first number of an array lies; 0 if it has none."""
    return a.__array_interface__["data"][0] if a.size else 0


def signature_of(dtype: np.dtype) -> Any:
    """Return what a kernel of records takes, for numbers of a type."""
    return types.void(types.int64, numba.from_dtype(dtype))


@cache
def entry(kernel: Any, dtype: np.dtype) -> int:
    """Return the address of a compiled kernel for numbers of a type: of a C function.

    It takes the record's address (int64) and a zero of that type.
    """
    compiled = kernel.get_compile_result(signature_of(dtype))
    name = compiled.fndesc.llvm_cfunc_wrapper_name
    address: int = compiled.library.get_pointer_to_function(name)
    return address


# ---- for kernels. These are what they do where nothing is compiled (NUMBA_DISABLE_JIT)


def record_at(address: int) -> Any:
    """Return the record at an address."""
    raw: Any = (ctypes.c_char * RECORD.itemsize).from_address(address)
    return np.frombuffer(raw, RECORD).view(np.recarray)[0]


def floats(address: int, size: int, zero: Any) -> np.ndarray:
    """Return the numbers, of the type of ``zero``, that lie at an address."""
    kind = ctypes.c_float if np.asarray(zero).dtype == np.float32 else ctypes.c_double
    return np.ctypeslib.as_array((kind * max(int(size), 0)).from_address(int(address) or 8))


def doubles(address: int, size: int) -> np.ndarray:
    """Return the float64 numbers that lie at an address."""
    return floats(address, size, 0.0)


@intrinsic
def _pointer(context, address):  # type: ignore[no-untyped-def]
    return types.voidptr(types.int64), lambda target, builder, signature, arguments: (
        builder.inttoptr(arguments[0], ir.IntType(8).as_pointer())
    )


@overload(record_at)
def _record_at(address):  # type: ignore[no-untyped-def]
    return lambda address: numba.carray(_pointer(address), (1,), RECORD)[0]  # type: ignore[call-arg]


@overload(floats)
def _floats(address, size, zero):  # type: ignore[no-untyped-def]
    dtype = as_dtype(zero)
    return lambda address, size, zero: numba.carray(_pointer(address), (size,), dtype)  # type: ignore[call-arg]


@overload(doubles)
def _doubles(address, size):  # type: ignore[no-untyped-def]
    return lambda address, size: numba.carray(_pointer(address), (size,), np.float64)  # type: ignore[call-arg]
