"""Matrix products: a few rows times a few vectors of columns, held in registers.

Every product of a pointwise convolution is cut into *tiles* of ROWS rows and up to 24 columns of
the result. For a tile, one loop over the inner dimension multiplies ROWS numbers of the left factor
by up to three vectors of the right one, and keeps all the sums in registers: 24 products for 11
loads, which is what keeps a core's multipliers busy. BLAS does the same behind a copy of both
factors, which the slim matrices of a ShuffleNet hardly pay back.

The callers lay the left factor and the result into scratch memory that stays in the cache, so a
tile never has to mind where a row ends: the result's rows are padded to whole vectors, and the
right factor is packed into *panels* as wide as a tile, filled up with zeros.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import llvmlite.binding as llvm
import numpy as np
from llvmlite import ir
from numba.core import types
from numba.extending import lower_builtin, type_callable
from numba.np.arrayobj import make_array

from .jit import LANES, exact, fused, prefetch

__all__ = ["ROWS", "VECTOR", "add_weight_gradient", "multiply", "pack", "padded"]

VECTOR = 8  # numbers
_WIDEST = 3  # vectors


def _rows() -> int:
    """How many rows of three vectors of sums fit the registers."""
    return 8 if llvm.get_host_cpu_features().get("avx512vl", False) else 4


ROWS = _rows()


@exact
def padded(n):
    """Return ``n``, rounded up to whole vectors."""
    return -(-n // VECTOR) * VECTOR


def _tile(vectors: int) -> Callable[..., None]:
    width = vectors * VECTOR

    def tile(y, to, y_row, add, a, i, a_row, a_step, b, j, b_step, n):
        """y[r, :] (+)= Σ_t a[r, t] b[t, :], for ROWS rows r and n steps t.

        Row r of y starts at y[to + r y_row], a[r, t] is a[i + r a_row + t a_step] and row t of b
        starts at b[j + t b_step]. ``add`` says whether y is added to or written.
        """
        for r in range(ROWS):
            total = np.zeros(width, y.dtype)
            for t in range(n):
                total += a[i + r * a_row + t * a_step] * b[j + t * b_step :][:width]
            at = to + r * y_row
            y[at : at + width] = y[at : at + width] + total if add else total

    @type_callable(tile)
    def _type(context: Any) -> Callable:
        return lambda y, to, y_row, add, a, i, a_row, a_step, b, j, b_step, n: types.none

    @lower_builtin(
        tile, types.Array, types.Integer, types.Integer, types.Boolean,
        types.Array, types.Integer, types.Integer, types.Integer,
        types.Array, types.Integer, types.Integer, types.Integer,
    )  # fmt: skip
    def _lower(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        args = [
            a if isinstance(t, types.Array | types.Boolean) else
            context.cast(builder, a, t, types.intp)
            for a, t in zip(args, sig.args, strict=True)
        ]
        y, to, y_row, add, a, i, a_row, a_step, b, j, b_step, n = args
        number = context.get_value_type(sig.args[0].dtype)
        align = sig.args[0].dtype.bitwidth // 8
        vector, intp = ir.VectorType(number, VECTOR), ir.IntType(64)
        zeros = ir.Constant(ir.VectorType(ir.IntType(32), VECTOR), None)
        nothing, none = ir.Constant(vector, ir.Undefined), ir.Constant(vector, None)

        def address(array: Any, of: int, at: Any) -> Any:
            return builder.gep(make_array(sig.args[of])(context, builder, array).data, [at])

        def vector_at(pointer: Any, v: int) -> Any:
            pointer = builder.gep(pointer, [ir.Constant(intp, v * VECTOR)])
            return builder.bitcast(pointer, vector.as_pointer())

        y_rows, a_rows, row = [address(y, 0, to)], [address(a, 4, i)], address(b, 8, j)
        for _ in range(ROWS - 1):
            y_rows.append(builder.gep(y_rows[-1], [y_row]))
            a_rows.append(builder.gep(a_rows[-1], [a_row]))

        entry = builder.block
        loop, done = builder.append_basic_block("tile"), builder.append_basic_block("tiled")
        builder.branch(loop)
        builder.position_at_end(loop)
        t = builder.phi(intp)
        t.add_incoming(ir.Constant(intp, 0), entry)
        sums = [builder.phi(vector) for _ in range(ROWS * vectors)]
        row = builder.gep(row, [builder.mul(t, b_step)])
        bs = [builder.load(vector_at(row, v), align=align) for v in range(vectors)]
        at, news = builder.mul(t, a_step), []
        for r in range(ROWS):
            first = builder.insert_element(
                nothing, builder.load(builder.gep(a_rows[r], [at])), ir.Constant(ir.IntType(32), 0)
            )
            factor = builder.shuffle_vector(first, nothing, zeros)
            for v in range(vectors):
                term = builder.fmul(factor, bs[v])
                news.append(builder.fadd(term, sums[r * vectors + v]))
        following = builder.add(t, ir.Constant(intp, 1), flags=["nsw", "nuw"])
        t.add_incoming(following, loop)
        for old, new in zip(sums, news, strict=True):
            old.add_incoming(none, entry)
            old.add_incoming(new, loop)
        builder.cbranch(builder.icmp_signed("<", following, n), loop, done)
        builder.position_at_end(done)

        for r in range(ROWS):
            for v in range(vectors):
                pointer, total = vector_at(y_rows[r], v), news[r * vectors + v]
                with builder.if_else(builder.trunc(add, ir.IntType(1))) as (yes, no):
                    with yes:
                        old = builder.load(pointer, align=align)
                        builder.store(builder.fadd(total, old), pointer, align=align)
                    with no:
                        builder.store(total, pointer, align=align)
        return context.get_dummy_value()

    return tile


_tile_1, _tile_2, _tile_3 = _tile(1), _tile(2), _tile(3)


@exact
def pack(panels, w, k, n, k_step, n_step):
    """Lay a (K, N) matrix with the given distances between its numbers into panels."""
    to = 0
    for start in range(0, n, _WIDEST * VECTOR):
        width = min(_WIDEST * VECTOR, padded(n - start))
        there = min(width, n - start)
        for i in range(k):
            row, source = panels[to : to + width], w[i * k_step + start * n_step :]
            if n_step == 1:
                for j in range(there):
                    row[j] = source[j]
            else:
                for j in range(there):
                    row[j] = source[j * n_step]
            for j in range(there, width):
                row[j] = 0
            to += width


@fused
def multiply(y, to, y_row, a, i, a_row, panels, j, m, k, n, ahead, at_ahead, ahead_size):
    """Write the product of m rows of a, K long, and panels of N columns to y.

    Up to ROWS - 1 rows more are read and written, and the rows of y are padded to whole vectors.
    Meanwhile some ``ahead_size`` numbers of each of the arrays ``ahead``, from ``at_ahead`` on, are
    brought into the cache: the products leave the memory idle, and what comes next would wait.
    """
    left = padded(n) // VECTOR
    tiles = (m + ROWS - 1) // ROWS * ((left + _WIDEST - 1) // _WIDEST)
    lines, fetched = (ahead_size // LANES + tiles) // tiles, 0
    while left > 0:  # one panel, which stays in the first-level cache, for all the rows
        for r in range(0, m, ROWS):
            for f in range(len(ahead)):
                for line in range(fetched, fetched + lines):
                    prefetch(ahead[f], at_ahead[f] + line * LANES)
            fetched += lines
            at, of = to + r * y_row, i + r * a_row
            if left >= 3:
                _tile_3(y, at, y_row, False, a, of, a_row, 1, panels, j, 3 * VECTOR, k)
            elif left == 2:
                _tile_2(y, at, y_row, False, a, of, a_row, 1, panels, j, 2 * VECTOR, k)
            else:
                _tile_1(y, at, y_row, False, a, of, a_row, 1, panels, j, VECTOR, k)
        to += _WIDEST * VECTOR
        j += _WIDEST * VECTOR * k
        left -= _WIDEST


@fused
def add_weight_gradient(dw, to, dw_row, x, i, x_row, dy, j, dy_row, m, k, n):
    """Add xᵀ · dy, of m rows of x, K long, and of dy, N long, to dw, whose rows are dw_row apart.

    dw has its rows padded to whole vectors and their number to whole tiles; a few numbers behind
    the rows of x and dy are read and end in the padding.
    """
    block = max(64, 6144 // (k + n))  # rows of both factors that stay in the first-level cache
    for first in range(0, m, block):
        rows = min(block, m - first)
        for o in range(0, n, _WIDEST * VECTOR):
            left, b = padded(n - o) // VECTOR, j + first * dy_row + o
            for c in range(0, k, ROWS):
                a, at = i + first * x_row + c, to + c * dw_row + o
                if left >= 3:
                    _tile_3(dw, at, dw_row, True, x, a, 1, x_row, dy, b, dy_row, rows)
                elif left == 2:
                    _tile_2(dw, at, dw_row, True, x, a, 1, x_row, dy, b, dy_row, rows)
                else:
                    _tile_1(dw, at, dw_row, True, x, a, 1, x_row, dy, b, dy_row, rows)
