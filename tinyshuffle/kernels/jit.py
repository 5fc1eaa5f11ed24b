"""What the kernels share: how they are compiled, and arithmetic on 16 channels at a time.

A kernel is serial and releases the interpreter lock; several threads run the same kernels on
slices of the batch. All of them take flat arrays and plain numbers, so each is compiled once for
float32 and, if somebody checks gradients, once for float64.

``load(a, i)`` reads the 16 numbers a[i], …, a[i + 15] as one value of the type :class:`Lanes`,
which can be added, subtracted and multiplied, and ``store(a, i, v)`` writes it. In compiled code
that is one AVX-512 register (two of AVX2's, four of NEON's) and a local variable stays in it. Plain
loops are left to the compiler wherever it makes as good code of them; of a depthwise convolution,
which wants nine weights and nine sums in registers, it does not. In plain Python, ``load`` returns
a small array, so that the body of every kernel runs without numba too.

Neither checks bounds: the wrappers check shapes.

numba's cache knows a kernel by the file that it stands in, and kernels call those of other files.
So what is in the cache counts only as long as no file in this folder has changed.
"""

from __future__ import annotations

import operator
import os
import sys
import tempfile
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import numba
import numpy as np
from llvmlite import ir
from numba.core import types
from numba.core.caching import FunctionCache, NullCache
from numba.core.datamodel import models
from numba.extending import lower_builtin, register_model, type_callable
from numba.np.arrayobj import make_array

from .. import memory
from ..errors import TinyshuffleError
from ..ops.arguments import check_real, check_type

__all__ = [
    "LANES",
    "Lanes",
    "exact",
    "exact_part",
    "flat",
    "fused",
    "fused_part",
    "load",
    "prefetch",
    "scratch",
    "spread",
    "store",
    "store_bytes",
    "where_greater",
    "where_positive",
]

LANES = 16

_Decorator = Callable[[Callable[..., Any]], Callable[..., Any]]


class _Cache(FunctionCache):
    """numba's cache of a kernel, which nobody depends on: at worst the kernel is compiled anew."""

    def __init__(self, function: Callable[..., Any]) -> None:
        super().__init__(function)
        self._cache_file._source_stamp = self._cache_file._source_stamp, _folder()

    def holds(self, sig: Any, target_context: Any) -> bool:
        """Whether the kernel has been compiled for a signature before."""
        key = self._index_key(sig, target_context.codegen())
        return key in self._cache_file._load_index()

    def load_overload(self, sig: Any, target_context: Any) -> Any:
        try:
            return super().load_overload(sig, target_context)
        except Exception as error:  # damaged files are unpickled into all kinds
            _say(
                f"compiled kernels in {self.cache_path} cannot be read ({type(error).__name__}); "
                "they are compiled anew"
            )
            try:
                self.flush()
            except OSError:
                pass
            return None

    def save_overload(self, sig: Any, data: Any) -> None:
        try:
            super().save_overload(sig, data)
        except OSError as error:  # a full disk
            _say(
                f"compiled kernels cannot be kept in {self.cache_path} ({error.strerror}); every "
                "process compiles them anew"
            )


@cache
def _folder() -> tuple[Any, ...]:
    """The files that kernels are compiled from, and when each has changed."""
    files = sorted(Path(__file__).parent.glob("*.py"))
    return tuple((f.name, f.stat().st_mtime_ns, f.stat().st_size) for f in files)


@cache
def _say(what: str) -> None:
    print(f"tinyshuffle: {what}", file=sys.stderr)


def _compiled(part: bool = False, **options: Any) -> _Decorator:
    bare: dict[str, Any] = dict(no_cpython_wrapper=part, no_cfunc_wrapper=part)
    compiled = numba.njit(nogil=True, error_model="numpy", **bare, **options)

    def decorate(function: Callable[..., Any]) -> Callable[..., Any]:
        kernel = compiled(function)
        if hasattr(kernel, "_cache"):  # it is the function itself with NUMBA_DISABLE_JIT=1
            kernel._cache = _cache_of(function)
        return kernel

    return decorate


def _cache_of(function: Callable[..., Any]) -> FunctionCache | NullCache:
    try:
        kept = _Cache(function)
        _check_writable(kept.cache_path)
        return kept
    except (RuntimeError, OSError):  # numba has tried all places that it knows
        _say(
            "compiled kernels cannot be kept, as neither the package nor the home directory can be "
            "written, and every process compiles them anew: set NUMBA_CACHE_DIR (or XDG_CACHE_HOME "
            "for a package in a zip file) to a directory that can"
        )
        return NullCache()


@cache
def _check_writable(directory: str) -> None:
    os.makedirs(directory, exist_ok=True)
    tempfile.TemporaryFile(dir=directory).close()


# The order of the arithmetic is as written. `fused` lets a product and a sum round once (FMA),
# `exact` rounds as NumPy does, so that a mask computed twice is the same twice. It has to say so,
# or a kernel that is first compiled for a `fused` one takes over its rounding.
fused = _compiled(fastmath={"contract", "nsz"})
exact = _compiled(fastmath=False)
# For what only other kernels call: nothing is compiled that Python would call it by.
fused_part = _compiled(part=True, fastmath={"contract", "nsz"})
exact_part = _compiled(part=True, fastmath=False)


def flat(a: np.ndarray, dtype: np.dtype, shape: tuple[int, ...] | None = None) -> np.ndarray:
    """Return ``a`` as a contiguous 1-D array that a kernel may read, copied only if it must be.

    Raises unless ``dtype`` is float32 or float64 and ``a`` has the given shape: kernels trust it.
    """
    check_real(a)
    if dtype != a.dtype:
        check_type(dtype)
    if shape is not None and a.shape != shape:
        raise TinyshuffleError(
            f"got an array of shape {a.shape} where {shape} fits the others"
        )
    if a.dtype != dtype or not (a.flags.c_contiguous and a.flags.writeable):
        copy = memory.empty(a.shape, dtype)
        copy[...] = a
        a = copy
    return a.reshape(-1)


@exact
def scratch(size, like):
    """Return an uninitialised array of numbers like those of an array, that starts a cache line.

    A vector that lies across two lines takes two reads.
    """
    numbers = 64 // like.itemsize
    a = np.empty(size + numbers, like.dtype)
    start = -(a.ctypes.data // like.itemsize) % numbers
    return a[start : start + size]


def load(a: np.ndarray, i: int) -> np.ndarray:
    """Return the LANES numbers from a[i] on."""
    return a[i : i + LANES].copy()


def store(a: np.ndarray, i: int, v: np.ndarray) -> None:
    """Write the LANES numbers of ``v`` from a[i] on."""
    a[i : i + LANES] = v


def store_bytes(a: np.ndarray, i: int, v: np.ndarray) -> None:
    """Write the LANES whole numbers of ``v``, 0 to 255, from a[i] on; ``a`` is uint8."""
    a[i : i + LANES] = v.astype(np.uint8)


def spread(a: np.ndarray, i: int) -> np.ndarray:
    """Return the number a[i], LANES times."""
    return np.full(LANES, a[i])


def where_positive(v: np.ndarray, gate: np.ndarray) -> np.ndarray:
    """Return ``v`` in the lanes in which ``gate`` > 0 or NaN, else 0."""
    return np.where(gate <= 0, 0, v).astype(v.dtype)


def where_greater(v: np.ndarray, u: np.ndarray, a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Return ``a`` where ``v`` > ``u``, or where ``v`` is NaN, else ``b``."""
    return np.where((v > u) | np.isnan(v), a, b)


def prefetch(a: np.ndarray, i: int) -> None:
    """Ask for a[i] to be brought into the second-level cache, and past the end for nothing.

    Not into the first one, which is full of what is being computed.
    """


class Lanes(types.Type):
    """The numba type of LANES numbers of one float type."""

    def __init__(self, dtype: types.Float) -> None:
        self.dtype = dtype
        super().__init__(name=f"Lanes({dtype})")


@register_model(Lanes)
class _LanesModel(models.PrimitiveModel):
    def __init__(self, dmm: Any, fe_type: Lanes) -> None:
        number = dmm.lookup(fe_type.dtype).get_value_type()
        super().__init__(dmm, fe_type, ir.VectorType(number, LANES))


def _is_flat(a: types.Type) -> bool:
    return isinstance(a, types.Array) and a.ndim == 1 and isinstance(a.dtype, types.Float)


@type_callable(load)
def _type_load(context: Any) -> Callable:
    return lambda a, i: Lanes(a.dtype) if _is_flat(a) else None


@type_callable(spread)
def _type_spread(context: Any) -> Callable:
    return lambda a, i: Lanes(a.dtype) if _is_flat(a) else None


@type_callable(store)
def _type_store(context: Any) -> Callable:
    return lambda a, i, v: types.none if _is_flat(a) and v == Lanes(a.dtype) else None


@type_callable(store_bytes)
def _type_store_bytes(context: Any) -> Callable:
    return lambda a, i, v: types.none if isinstance(v, Lanes) and a.dtype == types.uint8 else None


@type_callable(where_greater)
def _type_where_greater(context: Any) -> Callable:
    return lambda v, u, a, b: v if isinstance(v, Lanes) and v == u == a == b else None


@type_callable(prefetch)
def _type_prefetch(context: Any) -> Callable:
    return lambda a, i: types.none if _is_flat(a) else None


@type_callable(where_positive)
def _type_where_positive(context: Any) -> Callable:
    return lambda v, gate: v if isinstance(v, Lanes) and v == gate else None


def _pointer(context: Any, builder: Any, sig: Any, args: Any) -> Any:
    """The address of a[i]."""
    data = make_array(sig.args[0])(context, builder, args[0]).data
    return builder.gep(data, [context.cast(builder, args[1], sig.args[1], types.intp)])


def _lanes_pointer(context: Any, builder: Any, sig: Any, args: Any) -> tuple[Any, int]:
    """The address of a[i] as one of a vector, and its alignment, which is one number's."""
    number = sig.args[0].dtype
    vector = context.get_value_type(Lanes(number))
    pointer = _pointer(context, builder, sig, args)
    return builder.bitcast(pointer, vector.as_pointer()), number.bitwidth // 8


@lower_builtin(load, types.Array, types.Integer)
def _lower_load(context: Any, builder: Any, sig: Any, args: Any) -> Any:
    pointer, align = _lanes_pointer(context, builder, sig, args)
    return builder.load(pointer, align=align)


@lower_builtin(spread, types.Array, types.Integer)
def _lower_spread(context: Any, builder: Any, sig: Any, args: Any) -> Any:
    number = builder.load(_pointer(context, builder, sig, args))
    nothing = ir.Constant(context.get_value_type(sig.return_type), ir.Undefined)
    first = builder.insert_element(nothing, number, ir.Constant(ir.IntType(32), 0))
    zeros = ir.Constant(ir.VectorType(ir.IntType(32), LANES), None)
    return builder.shuffle_vector(first, nothing, zeros)


@lower_builtin(store, types.Array, types.Integer, Lanes)
def _lower_store(context: Any, builder: Any, sig: Any, args: Any) -> Any:
    pointer, align = _lanes_pointer(context, builder, sig, args)
    builder.store(args[2], pointer, align=align)
    return context.get_dummy_value()


@lower_builtin(store_bytes, types.Array, types.Integer, Lanes)
def _lower_store_bytes(context: Any, builder: Any, sig: Any, args: Any) -> Any:
    numbers = ir.VectorType(ir.IntType(8), LANES)
    pointer = builder.bitcast(_pointer(context, builder, sig, args), numbers.as_pointer())
    builder.store(builder.fptoui(args[2], numbers), pointer, align=1)
    return context.get_dummy_value()


@lower_builtin(prefetch, types.Array, types.Integer)
def _lower_prefetch(context: Any, builder: Any, sig: Any, args: Any) -> Any:
    address, number = ir.IntType(8).as_pointer(), ir.IntType(32)
    kind = ir.FunctionType(ir.VoidType(), [address, number, number, number])
    function = builder.module.declare_intrinsic("llvm.prefetch", [address], kind)
    pointer = builder.bitcast(_pointer(context, builder, sig, args), address)
    read_second_data = [ir.Constant(number, n) for n in (0, 2, 1)]
    builder.call(function, [pointer, *read_second_data])
    return context.get_dummy_value()


@lower_builtin(where_positive, Lanes, Lanes)
def _lower_where_positive(context: Any, builder: Any, sig: Any, args: Any) -> Any:
    v, gate = args
    zero = ir.Constant(gate.type, None)
    return builder.select(builder.fcmp_unordered(">", gate, zero), v, zero)


@lower_builtin(where_greater, Lanes, Lanes, Lanes, Lanes)
def _lower_where_greater(context: Any, builder: Any, sig: Any, args: Any) -> Any:
    v, u, a, b = args
    greater, nan = builder.fcmp_ordered(">", v, u), builder.fcmp_unordered("uno", v, v)
    return builder.select(builder.or_(greater, nan), a, b)


def _arithmetic(function: Callable, instruction: str) -> None:
    @type_callable(function)
    def _type(context: Any) -> Callable:
        return lambda v, u: v if isinstance(v, Lanes) and v == u else None

    @lower_builtin(function, Lanes, Lanes)
    def _lower(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        return getattr(builder, instruction)(*args)


_arithmetic(operator.add, "fadd")
_arithmetic(operator.sub, "fsub")
_arithmetic(operator.mul, "fmul")
