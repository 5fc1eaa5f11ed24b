"""Matrix products: a few rows times a few vectors of columns, held in registers.

Every product of a pointwise convolution is cut into *tiles* of ROWS rows and up to three vectors of
columns of the result. For a tile, one loop over the inner dimension multiplies ROWS numbers of the
left factor by those vectors of the right one, and keeps all the sums in registers: 24 products for
11 loads, which is what keeps a core's multipliers busy. BLAS does the same behind a copy of both
factors, which the slim matrices of a ShuffleNet hardly pay back.

The right factor is packed into *panels* as wide as a tile. Where whole vectors do not fill a row of
the result, the last one overlaps with the one before and writes the same sums a second time. Only a
row that is shorter than a vector is padded. For few rows that does not pay: they are multiplied by
a right factor that stays where it lies.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import llvmlite.binding as llvm
import numpy as np
from llvmlite import ir
from numba.core import config, types
from numba.extending import lower_builtin, type_callable
from numba.np.arrayobj import make_array

from .jit import LANES, exact_part, fused_part, prefetch

__all__ = [
    "ADD",
    "AVX512",
    "RECTIFY",
    "SHIFT",
    "WRITE",
    "PANEL",
    "ROWS",
    "VECTOR",
    "add_weight_gradient",
    "emit",
    "multiply",
    "multiply_few",
    "pack",
    "packed",
    "row_of",
]

# What to do with a tile of sums: write it, add it to what is there, or write it with one more row
# of the right factor added to each of its rows (a shift for each column), and a ReLU behind.
WRITE, ADD, SHIFT, RECTIFY = 0, 1, 2, 3


def _has_avx512() -> bool:
    """Whether kernels are compiled for a processor that has it.

    Where numba is told to compile for another one (``NUMBA_CPU_NAME``, ``NUMBA_CPU_FEATURES``,
    ``NUMBA_ENABLE_AVX=0``), that is taken to have none.
    """
    settings: Any = config
    if settings.CPU_NAME not in (None, llvm.get_host_cpu_name()):
        return False
    if settings.CPU_FEATURES is not None or not settings.ENABLE_AVX:
        return False
    return bool(llvm.get_host_cpu_features().get("avx512vl", False))


def _shape() -> tuple[int, int]:
    """How many rows of three vectors of sums fit the registers, and how many numbers a vector.

    AVX-512 has 32 registers of 16 numbers. But Zen 4 multiplies 8 of them at a time, and gains
    nothing from longer vectors, which fit fewer rows of a result without a rest.
    """
    if not AVX512:
        return 4, 8
    return 8, 8 if llvm.get_host_cpu_name() == "znver4" else 16


AVX512 = _has_avx512()
ROWS, VECTOR = _shape()
PANEL = 3 * VECTOR  # columns of a tile at most
_LAST = PANEL - VECTOR  # where the last vector of a panel starts
_AHEAD = 16  # rows of a matrix that are fetched before they are packed


@exact_part
def row_of(n):
    """Return how far apart the rows of a result with N columns lie at least."""
    return max(n, VECTOR)


@exact_part
def packed(n):
    """Return how many numbers a row of all panels for N columns has."""
    return -(-n // VECTOR) * VECTOR


@exact_part
def _next(left):
    """How many vectors of columns the next tile takes, when so many are left: 3, or 2 and 2."""
    return min(left, 2 if left == 4 else 3)


@exact_part
def _column(vector, n):
    """Where a vector of columns starts."""
    return max(0, min(vector * VECTOR, n - VECTOR))


def emit(
    builder: Any, vectors: int, y_rows: list[Any], last: Any, end: Any, a_rows: list[Any],
    step: Callable[[Any], Any], b_rows: Any, b_step: Any, n: Any,
) -> None:  # fmt: skip
    """Write the code of a tile: y_rows[r] = Σ_t a_rows[r][step(t)] b_rows[t b_step :], n steps.

    The rows are pointers, the numbers int64, all of them LLVM's values; see ``_tile``.
    """
    number, rows = y_rows[0].type.pointee, len(y_rows)
    align = 4 if isinstance(number, ir.FloatType) else 8
    vector, intp = ir.VectorType(number, VECTOR), ir.IntType(64)
    zeros = ir.Constant(ir.VectorType(ir.IntType(32), VECTOR), None)
    nothing, none = ir.Constant(vector, ir.Undefined), ir.Constant(vector, None)

    def vector_at(pointer: Any, at: Any) -> Any:
        return builder.bitcast(builder.gep(pointer, [at]), vector.as_pointer())

    def row_of_b(t: Any) -> Any:
        return builder.gep(b_rows, [builder.mul(t, b_step)])

    places = [ir.Constant(intp, v * VECTOR) for v in range(vectors)]
    entry = builder.block
    loop, done = builder.append_basic_block("tile"), builder.append_basic_block("tiled")
    builder.branch(loop)
    builder.position_at_end(loop)
    t = builder.phi(intp)
    t.add_incoming(ir.Constant(intp, 0), entry)
    sums = [builder.phi(vector) for _ in range(rows * vectors)]
    bs = [builder.load(vector_at(row_of_b(t), place), align=align) for place in places]
    at, news = step(t), []
    for r in range(rows):
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

    # one way to end for each value of `end`
    blocks = [builder.append_basic_block(name) for name in ("write", "add", "shift", "rectify")]
    stored = builder.append_basic_block("stored")
    ways = builder.switch(end, blocks[WRITE])
    for value, block in enumerate(blocks):
        ways.add_case(ir.Constant(intp, value), block)
        builder.position_at_end(block)
        shifts = []
        if value >= SHIFT:
            shifts = [builder.load(vector_at(row_of_b(n), at), align=align) for at in places]
        for r in range(rows):
            for v, place in enumerate([*places[:-1], last]):
                pointer, total = vector_at(y_rows[r], place), news[r * vectors + v]
                if value == ADD:
                    total = builder.fadd(total, builder.load(pointer, align=align))
                if value >= SHIFT:
                    total = builder.fadd(total, shifts[v])
                if value == RECTIFY:  # a NaN stays one
                    below = builder.fcmp_ordered("<", total, none)
                    total = builder.select(below, none, total)
                builder.store(total, pointer, align=align)
        builder.branch(stored)
    builder.position_at_end(stored)


def _tile(vectors: int, rows: int = ROWS) -> Callable[..., None]:
    width = vectors * VECTOR

    def tile(y, to, y_row, last, end, a, i, a_row, a_step, b, j, b_step, n):
        """y[r, :] = Σ_t a[r, t] b[t, :], for so many rows r and n steps t.

        Row r of y starts at y[to + r y_row], a[r, t] is a[i + r a_row + t a_step] and row t of b
        starts at b[j + t b_step]. The last vector of a row of y starts ``last`` behind the first.
        ``end`` is WRITE, ADD, SHIFT or RECTIFY.
        """
        for r in range(rows):
            total = np.zeros(width, y.dtype)
            for t in range(n):
                total += a[i + r * a_row + t * a_step] * b[j + t * b_step :][:width]
            if end >= SHIFT:
                total += b[j + n * b_step :][:width]
            if end == RECTIFY:
                total[total < 0] = 0
            for v in range(vectors):
                at = to + r * y_row + (last if v == vectors - 1 else v * VECTOR)
                new = total[v * VECTOR : (v + 1) * VECTOR]
                y[at : at + VECTOR] = y[at : at + VECTOR] + new if end == ADD else new

    @type_callable(tile)
    def _type(context: Any) -> Callable:
        return lambda y, to, y_row, last, end, a, i, a_row, a_step, b, j, b_step, n: types.none

    @lower_builtin(
        tile, types.Array, types.Integer, types.Integer, types.Integer, types.Integer,
        types.Array, types.Integer, types.Integer, types.Integer,
        types.Array, types.Integer, types.Integer, types.Integer,
    )  # fmt: skip
    def _lower(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        args = [
            a if isinstance(t, types.Array) else context.cast(builder, a, t, types.intp)
            for a, t in zip(args, sig.args, strict=True)
        ]
        y, to, y_row, last, end, a, i, a_row, a_step, b, j, b_step, n = args

        def address(array: Any, of: int, at: Any) -> Any:
            return builder.gep(make_array(sig.args[of])(context, builder, array).data, [at])

        y_rows, a_rows, b_rows = [address(y, 0, to)], [address(a, 5, i)], address(b, 9, j)
        for _ in range(rows - 1):
            y_rows.append(builder.gep(y_rows[-1], [y_row]))
            a_rows.append(builder.gep(a_rows[-1], [a_row]))

        def step(t: Any) -> Any:
            return builder.mul(t, a_step)

        emit(builder, vectors, y_rows, last, end, a_rows, step, b_rows, b_step, n)
        return context.get_dummy_value()

    return tile


_tile_1, _tile_2, _tile_3 = _tile(1), _tile(2), _tile(3)
_half_tile = _tile(3, ROWS // 2)


def copy_vector(to: np.ndarray, i: int, of: np.ndarray, j: int) -> None:
    """Write the VECTOR numbers from of[j] on to to[i], …"""
    to[i : i + VECTOR] = of[j : j + VECTOR]


def multiply_vector(to: np.ndarray, i: int, by: np.ndarray, j: int) -> None:
    """Multiply the VECTOR numbers to[i], … by those from by[j] on."""
    to[i : i + VECTOR] *= by[j : j + VECTOR]


@type_callable(copy_vector)
@type_callable(multiply_vector)
def _type_copy(context: Any) -> Callable:
    return lambda to, i, of, j: types.none


@lower_builtin(multiply_vector, types.Array, types.Integer, types.Array, types.Integer)
def _lower_multiply(context: Any, builder: Any, sig: Any, args: Any) -> Any:
    return _lower_copy(context, builder, sig, args, times=True)


@lower_builtin(copy_vector, types.Array, types.Integer, types.Array, types.Integer)
def _lower_copy(context: Any, builder: Any, sig: Any, args: Any, times: bool = False) -> Any:
    dtype = sig.args[0].dtype
    vector = ir.VectorType(context.get_value_type(dtype), VECTOR).as_pointer()

    def pointer(k: int) -> Any:
        data = make_array(sig.args[k])(context, builder, args[k]).data
        at = context.cast(builder, args[k + 1], sig.args[k + 1], types.intp)
        return builder.bitcast(builder.gep(data, [at]), vector)

    numbers = builder.load(pointer(2), align=dtype.bitwidth // 8)
    if times:
        numbers = builder.fmul(numbers, builder.load(pointer(0), align=dtype.bitwidth // 8))
    builder.store(numbers, pointer(0), align=dtype.bitwidth // 8)
    return context.get_dummy_value()


@exact_part
def pack(panels, w, k, n, k_step, n_step, scale, shifts):
    """Lay a (K, N) matrix with the given distances between its numbers into panels.

    If there is a ``scale`` (N,), column j is multiplied by scale[j], and ``shifts`` (N,) is one
    more row.
    """
    folds = scale.size > 0
    to, vector, left = 0, 0, packed(n) // VECTOR
    while left > 0:
        vectors = _next(left)
        width = vectors * VECTOR
        panel = panels[to:]
        if n_step == 1 and n >= VECTOR:  # row by row, as they lie in memory
            start, last = _column(vector, n), _column(vector + vectors - 1, n)
            for i in range(k):
                row, at = i * k_step, i * width
                prefetch(w, row + _AHEAD * k_step + start)
                copy_vector(panel, at, w, row + start)
                if vectors == 3:
                    copy_vector(panel, at + VECTOR, w, row + start + VECTOR)
                copy_vector(panel, at + width - VECTOR, w, row + last)
            if folds:
                for i in range(k):
                    at = i * width
                    multiply_vector(panel, at, scale, start)
                    if vectors == 3:
                        multiply_vector(panel, at + VECTOR, scale, start + VECTOR)
                    if vectors > 1:
                        multiply_vector(panel, at + width - VECTOR, scale, last)
        else:
            for j in range(width):
                first = _column(vector + j // VECTOR, n) + j % VECTOR
                factor = scale[first] if folds and first < n else 1
                for i in range(k):
                    number = w[first * n_step + i * k_step] * factor if first < n else 0
                    panel[i * width + j] = number
        if folds:
            for j in range(width):
                first = _column(vector + j // VECTOR, n) + j % VECTOR
                panel[k * width + j] = shifts[first] if first < n else 0
        to += width * (k + 1 if folds else k)
        vector += vectors
        left -= vectors


@fused_part
def multiply(y, to, y_row, end, a, i, a_row, panels, j, m, k, n, ahead, at_ahead, ahead_size):
    """Write the product of m rows of a, K long, and panels of N columns to y.

    ``end`` is WRITE, or SHIFT or RECTIFY for panels of K + 1 rows.

    Up to ROWS - 1 rows more are read and written, and rows shorter than a vector are padded.
    Meanwhile so many numbers ``ahead_size`` of each of the arrays ``ahead``, from ``at_ahead`` on,
    are brought into the cache: the products leave the memory idle, and what comes next would wait.
    """
    vector, left = 0, packed(n) // VECTOR
    tiles = (m + ROWS - 1) // ROWS * ((left + 2) // 3)
    done = 0
    while left > 0:  # one panel, which stays in the first-level cache, for all the rows
        vectors, start = _next(left), _column(vector, n)
        last = _column(vector + vectors - 1, n) - start
        for r in range(0, m, ROWS):
            for f in range(len(ahead)):
                lines = (ahead_size[f] + LANES - 1) // LANES
                for line in range(done * lines // tiles, (done + 1) * lines // tiles):
                    prefetch(ahead[f], at_ahead[f] + line * LANES)
            done += 1
            at, of = to + r * y_row + start, i + r * a_row
            if vectors == 3:
                _tile_3(y, at, y_row, last, end, a, of, a_row, 1, panels, j, 3 * VECTOR, k)
            elif vectors == 2:
                _tile_2(y, at, y_row, last, end, a, of, a_row, 1, panels, j, 2 * VECTOR, k)
            else:
                _tile_1(y, at, y_row, last, end, a, of, a_row, 1, panels, j, VECTOR, k)
        j += vectors * VECTOR * (k if end == WRITE else k + 1)
        vector += vectors
        left -= vectors


@fused_part
def multiply_few(y, y_row, a, a_row, b, b_row, m, k, n, spare):
    """Write the product of few rows of a, K long, and of N columns of b to y.

    There have to be ROWS rows and PANEL columns at least: where tiles do not fill them, the last
    one overlaps with the one before. If ``spare`` has K · PANEL numbers, panels are laid out there,
    one after the other.
    """
    for column in range(0, n, PANEL):
        j = min(column, n - PANEL)
        panel, at, step = b, j, b_row
        if spare.size > 0:
            panel, at, step = spare, 0, PANEL
            pack(spare, b[j:], k, PANEL, b_row, 1, spare[:0], spare[:0])
        for row in range(0, m, ROWS):
            few = m - row <= ROWS // 2
            r = min(row, m - (ROWS // 2 if few else ROWS))
            to, of = r * y_row + j, r * a_row
            if few:
                _half_tile(y, to, y_row, _LAST, WRITE, a, of, a_row, 1, panel, at, step, k)
            else:
                _tile_3(y, to, y_row, _LAST, WRITE, a, of, a_row, 1, panel, at, step, k)


@fused_part
def add_weight_gradient(dw, to, dw_row, x, i, x_row, dy, j, dy_row, m, k, n):
    """Add xᵀ · dy, of m rows of x, K long, and of dy, N long, to dw, whose rows are dw_row apart.

    dw has its rows padded to whole vectors and their number to whole tiles; a few numbers behind
    the rows of x and dy are read and end in the padding.
    """
    block = max(64, 6144 // (k + n))  # rows of both factors that stay in the first-level cache
    for first in range(0, m, block):
        rows, vector, left = min(block, m - first), 0, packed(n) // VECTOR
        while left > 0:
            vectors = _next(left)
            b, last = j + first * dy_row + vector * VECTOR, (vectors - 1) * VECTOR
            for c in range(0, k, ROWS):
                a, at = i + first * x_row + c, to + c * dw_row + vector * VECTOR
                if vectors == 3:
                    _tile_3(dw, at, dw_row, last, ADD, x, a, 1, x_row, dy, b, dy_row, rows)
                elif vectors == 2:
                    _tile_2(dw, at, dw_row, last, ADD, x, a, 1, x_row, dy, b, dy_row, rows)
                else:
                    _tile_1(dw, at, dw_row, last, ADD, x, a, 1, x_row, dy, b, dy_row, rows)
            vector += vectors
            left -= vectors
