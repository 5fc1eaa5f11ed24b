"""Matrix products whose left factor is not there: its numbers are found by two tables.

A convolution is a product of the numbers that each output pixel sees with the weights. Laid side by
side ("im2col") every number would be copied as often as there are windows over it. But where the
number lies that pixel m multiplies with weight k is a sum: where the pixel's window begins, and how
far behind its beginning tap k is. So the tiles of :mod:`tinyshuffle.kernels.tile` read
A[m, k] = a[rows[m] + cols[k]] right from the image, and with the tables exchanged its transpose.

Tables are padded to whole tiles: their last entries repeat, so that a tile writes the same numbers
to the same place again.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from llvmlite import ir
from numba.core import types
from numba.extending import lower_builtin, type_callable
from numba.np.arrayobj import make_array

from .jit import LANES, exact_part, fused_part, prefetch
from .tile import ADD, RECTIFY, ROWS, SHIFT, VECTOR, WRITE, emit, packed

__all__ = ["add_gathered_gradient", "multiply_gathered", "pad", "whole_tiles"]

_ENTRIES = 8  # a table has a multiple of them, which is one of ROWS, too
_NUMBERS = 6144  # of both factors of a weight gradient, which stay in the first-level cache


@exact_part
def whole_tiles(n):
    """Return how many entries a table for n rows has."""
    return (n + _ENTRIES - 1) // _ENTRIES * _ENTRIES


@exact_part
def pad(table, n):
    """Repeat the last of the first n entries until the tile is whole."""
    for i in range(n, whole_tiles(n)):
        table[i] = table[n - 1]


def _tile(vectors: int) -> Callable[..., None]:
    width = vectors * VECTOR

    def tile(y, out, i, start, last, end, a, rows, cols, first, b, j, b_step, n):
        """y[out[i + r], :] = Σ_t a[rows[i + r] + cols[first + t]] b[t, :], for ROWS rows r.

        Row t of b starts at b[j + t b_step], row r of y ``start`` behind y[out[i + r]], and its
        last vector ``last`` behind that. ``end`` is WRITE, ADD, SHIFT or RECTIFY.
        """
        for r in range(ROWS):
            total = np.zeros(width, y.dtype)
            for t in range(n):
                total += a[rows[i + r] + cols[first + t]] * b[j + t * b_step :][:width]
            if end >= SHIFT:
                total += b[j + n * b_step :][:width]
            if end == RECTIFY:
                total[total < 0] = 0
            for v in range(vectors):
                at = out[i + r] + start + (last if v == vectors - 1 else v * VECTOR)
                new = total[v * VECTOR : (v + 1) * VECTOR]
                y[at : at + VECTOR] = y[at : at + VECTOR] + new if end == ADD else new

    @type_callable(tile)
    def _type(context: Any) -> Callable:
        return lambda y, out, i, start, last, end, a, rows, cols, first, b, j, b_step, n: types.none

    @lower_builtin(
        tile, types.Array, types.Array, types.Integer, types.Integer, types.Integer, types.Integer,
        types.Array, types.Array, types.Array, types.Integer,
        types.Array, types.Integer, types.Integer, types.Integer,
    )  # fmt: skip
    def _lower(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        args = [
            make_array(t)(context, builder, a).data if isinstance(t, types.Array)
            else context.cast(builder, a, t, types.intp)
            for a, t in zip(args, sig.args, strict=True)
        ]  # fmt: skip
        y, out, i, start, last, end, a, rows, cols, first, b, j, b_step, n = args
        y, cols, b = builder.gep(y, [start]), builder.gep(cols, [first]), builder.gep(b, [j])
        y_rows, a_rows = [], []
        for r in range(ROWS):
            at = builder.add(i, ir.Constant(ir.IntType(64), r))
            y_rows.append(builder.gep(y, [builder.load(builder.gep(out, [at]))]))
            a_rows.append(builder.gep(a, [builder.load(builder.gep(rows, [at]))]))

        def step(t: Any) -> Any:
            return builder.load(builder.gep(cols, [t]))

        emit(builder, vectors, y_rows, last, end, a_rows, step, b, b_step, n)
        return context.get_dummy_value()

    return tile


_tile_1, _tile_2, _tile_3 = _tile(1), _tile(2), _tile(3)


@fused_part
def multiply_gathered(
    y, out, end, a, rows, cols, panels, m, k, n, ahead, at_ahead, ahead_size
):  # fmt: skip
    """Write the product of the m rows a[rows[:m] + cols[:k]] and panels of N columns to y.

    Row r goes to y[out[r]], …; ``end``, ``panels`` and what is fetched ahead are those of
    ``tile.multiply``.
    """
    vector, left, j, done = 0, packed(n) // VECTOR, 0, 0
    tiles = (m + ROWS - 1) // ROWS * ((left + 2) // 3)
    while left > 0:
        vectors = min(left, 2 if left == 4 else 3)
        start = max(0, min(vector * VECTOR, n - VECTOR))
        last = max(0, min((vector + vectors - 1) * VECTOR, n - VECTOR)) - start
        for i in range(0, m, ROWS):
            for f in range(len(ahead)):
                lines = (ahead_size[f] + LANES - 1) // LANES
                for line in range(done * lines // tiles, (done + 1) * lines // tiles):
                    prefetch(ahead[f], at_ahead[f] + line * LANES)
            done += 1
            if vectors == 3:
                _tile_3(y, out, i, start, last, end, a, rows, cols, 0, panels, j, 3 * VECTOR, k)
            elif vectors == 2:
                _tile_2(y, out, i, start, last, end, a, rows, cols, 0, panels, j, 2 * VECTOR, k)
            else:
                _tile_1(y, out, i, start, last, end, a, rows, cols, 0, panels, j, VECTOR, k)
        j += vectors * VECTOR * (k if end == WRITE else k + 1)
        vector += vectors
        left -= vectors


@fused_part
def add_gathered_gradient(dw, out, a, rows, cols, dy, j, dy_row, m, k, n):
    """Add Aᵀ · dy of the m rows A = a[rows[:m] + cols[:k]] and those of dy, N long, to dw.

    Row i of dw is at dw[out[i]], …, padded to whole vectors, and there are whole tiles of rows; a
    few numbers behind the rows of dy are read and end in the padding.
    """
    block = max(64, _NUMBERS // (k + n))
    for first in range(0, m, block):
        count, vector, left = min(block, m - first), 0, packed(n) // VECTOR
        while left > 0:
            vectors = min(left, 2 if left == 4 else 3)
            b, to, last = j + first * dy_row + vector * VECTOR, vector * VECTOR, vectors - 1
            last *= VECTOR
            for i in range(0, k, ROWS):
                if vectors == 3:
                    _tile_3(dw, out, i, to, last, ADD, a, cols, rows, first, dy, b, dy_row, count)
                elif vectors == 2:
                    _tile_2(dw, out, i, to, last, ADD, a, cols, rows, first, dy, b, dy_row, count)
                else:
                    _tile_1(dw, out, i, to, last, ADD, a, cols, rows, first, dy, b, dy_row, count)
            vector += vectors
            left -= vectors
