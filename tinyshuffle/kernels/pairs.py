"""Arithmetic on 16 sums of whole numbers at a time.

A processor with vectors multiplies pairs of 16-bit numbers and adds both products to a 32-bit sum
in one instruction (``vpdpwssd`` or ``vpmaddwd`` of x86). The compiler finds it in what is written
here, and makes other instructions of it where there is none. In plain Python the sums are a small
array, so that a kernel's body runs without numba too.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from llvmlite import ir
from numba.core import types
from numba.core.datamodel import models
from numba.extending import lower_builtin, register_model, type_callable
from numba.np.arrayobj import make_array

from .jit import LANES

__all__ = ["Sums", "add_each", "add_pair", "load_sums", "store_sums"]


def add_pair(sums: np.ndarray, x: np.ndarray, i: int, w: np.ndarray, j: int) -> np.ndarray:
    """Return sums[k] + x[i] w[j + 2k] + x[i + 1] w[j + 2k + 1]; both arrays are int16."""
    even, odd = w[j : j + 2 * LANES : 2], w[j + 1 : j + 2 * LANES : 2]
    return sums + x[i].astype(np.int32) * even + x[i + 1].astype(np.int32) * odd


def add_each(sums: np.ndarray, x: np.ndarray, i: int, w: np.ndarray, j: int) -> np.ndarray:
    """Return sums[k] + x[i + k] w[j + k]; ``x`` is uint8 and ``w`` int32."""
    return sums + x[i : i + LANES].astype(np.int32) * w[j : j + LANES]


def load_sums(a: np.ndarray, i: int) -> np.ndarray:
    """Return the LANES sums from a[i] on; ``a`` is int32."""
    return a[i : i + LANES].copy()


def store_sums(a: np.ndarray, i: int, sums: np.ndarray) -> None:
    """Write the sums from a[i] on; ``a`` is int32."""
    a[i : i + LANES] = sums


class Sums(types.Type):
    """The numba type of LANES 32-bit sums."""

    def __init__(self) -> None:
        super().__init__(name="Sums")


_SUMS = Sums()
_8, _16, _32 = ir.IntType(8), ir.IntType(16), ir.IntType(32)
_VECTOR = ir.VectorType(_32, LANES)


@register_model(Sums)
class _SumsModel(models.PrimitiveModel):
    def __init__(self, dmm: Any, fe_type: Sums) -> None:
        super().__init__(dmm, fe_type, _VECTOR)


def _is_flat(a: types.Type, dtype: types.Type) -> bool:
    return isinstance(a, types.Array) and a.ndim == 1 and a.dtype == dtype


@type_callable(add_pair)
def _type_add_pair(context: Any) -> Callable:
    def result(sums: Any, x: Any, i: Any, w: Any, j: Any) -> Any:
        flat = _is_flat(x, types.int16) and _is_flat(w, types.int16)
        return _SUMS if flat and sums == _SUMS else None

    return result


@type_callable(add_each)
def _type_add_each(context: Any) -> Callable:
    def result(sums: Any, x: Any, i: Any, w: Any, j: Any) -> Any:
        flat = _is_flat(x, types.uint8) and _is_flat(w, types.int32)
        return _SUMS if flat and sums == _SUMS else None

    return result


@type_callable(load_sums)
def _type_load_sums(context: Any) -> Callable:
    return lambda a, i: _SUMS if _is_flat(a, types.int32) else None


@type_callable(store_sums)
def _type_store_sums(context: Any) -> Callable:
    return lambda a, i, sums: types.none if _is_flat(a, types.int32) and sums == _SUMS else None


def _place(context: Any, builder: Any, sig: Any, args: Any, at: int, kind: ir.Type) -> Any:
    """The address of a[i], which are two arguments, as one of another kind of number."""
    data = make_array(sig.args[at])(context, builder, args[at]).data
    index = context.cast(builder, args[at + 1], sig.args[at + 1], types.intp)
    return builder.bitcast(builder.gep(data, [index]), kind.as_pointer())


@lower_builtin(add_pair, Sums, types.Array, types.Integer, types.Array, types.Integer)
def _lower_add_pair(context: Any, builder: Any, sig: Any, args: Any) -> Any:
    def load(at: int, kind: ir.Type) -> Any:
        return builder.load(_place(context, builder, sig, args, at, kind), align=2)

    pairs, products = ir.VectorType(_16, 2 * LANES), ir.VectorType(_32, 2 * LANES)
    nothing = ir.Constant(_VECTOR, ir.Undefined)
    first = builder.insert_element(nothing, load(1, _32), ir.Constant(_32, 0))
    x = builder.bitcast(builder.shuffle_vector(first, nothing, ir.Constant(_VECTOR, None)), pairs)
    product = builder.mul(builder.sext(x, products), builder.sext(load(3, pairs), products))
    even, odd = (
        builder.shuffle_vector(
            product,
            ir.Constant(products, ir.Undefined),
            ir.Constant(_VECTOR, [2 * k + second for k in range(LANES)]),
        )
        for second in (0, 1)
    )
    return builder.add(args[0], builder.add(even, odd))


@lower_builtin(add_each, Sums, types.Array, types.Integer, types.Array, types.Integer)
def _lower_add_each(context: Any, builder: Any, sig: Any, args: Any) -> Any:
    bytes_ = _place(context, builder, sig, args, 1, ir.VectorType(_8, LANES))
    x = builder.zext(builder.load(bytes_, align=1), _VECTOR)
    w = builder.load(_place(context, builder, sig, args, 3, _VECTOR), align=4)
    return builder.add(args[0], builder.mul(x, w))


@lower_builtin(load_sums, types.Array, types.Integer)
def _lower_load_sums(context: Any, builder: Any, sig: Any, args: Any) -> Any:
    return builder.load(_place(context, builder, sig, args, 0, _VECTOR), align=4)


@lower_builtin(store_sums, types.Array, types.Integer, Sums)
def _lower_store_sums(context: Any, builder: Any, sig: Any, args: Any) -> Any:
    builder.store(args[2], _place(context, builder, sig, args, 0, _VECTOR), align=4)
    return context.get_dummy_value()
