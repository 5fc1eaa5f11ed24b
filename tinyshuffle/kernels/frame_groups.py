"""A grouped convolution of few channels a group between two batch norms, groups side by side.

A product for each group would be too slim for a vector. Here a vector has 16 channels of y, of
whatever groups they are. Each of them sees Cg channels of x, its own group's. So the frame of an
image (:mod:`tinyshuffle.kernels.frame`) is spread into Cg *planes*: where a vector has channel o of
y, plane i has the i-th channel of x that o sees. Then y is the sum of the windows' pixels of all
planes times the weights, vector by vector, and so are dw, and dx with the planes of dy.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from llvmlite import ir
from numba.core import types
from numba.extending import lower_builtin, type_callable
from numba.np.arrayobj import make_array

from .batch_norm import table_of
from .frame import lay, place_pixels, side
from .frame_tile import pad, whole_tiles
from .jit import LANES, Lanes, exact_part, fused, fused_part, load, scratch, store
from .norm_pointwise import SLACK
from .record import doubles, floats, record_at
from .stage import finish, folded_weights, folding
from .tile import AVX512

__all__ = [
    "SPAN", "grouped", "multiply_lanes", "place_plane_taps", "spread_planes",
]  # fmt: skip

SPAN = 2 * LANES  # channels at most among which a vector's are picked


def pick(a: np.ndarray, i: int, index: np.ndarray, k: int) -> np.ndarray:
    """Return the LANES numbers a[i + index[k]], a[i + index[k + 1]], …; each index below SPAN."""
    return a[i + index[k : k + LANES]]


@type_callable(pick)
def _type_pick(context: Any) -> Callable:
    return lambda a, i, index, k: Lanes(a.dtype)


@lower_builtin(pick, types.Array, types.Integer, types.Array, types.Integer)
def _lower_pick(context: Any, builder: Any, sig: Any, args: Any) -> Any:
    number, word = context.get_value_type(sig.args[0].dtype), ir.IntType(32)
    vector, indices = ir.VectorType(number, LANES), ir.VectorType(word, LANES)

    def pointer(n: int) -> Any:
        data = make_array(sig.args[n])(context, builder, args[n]).data
        at = context.cast(builder, args[n + 1], sig.args[n + 1], types.intp)
        return builder.gep(data, [at])

    a, index = pointer(0), pointer(2)
    if AVX512 and isinstance(number, ir.FloatType):  # one instruction, of two vectors
        kind = ir.FunctionType(vector, [vector, indices, vector])
        name = "llvm.x86.avx512.vpermi2var.ps.512"
        function = builder.module.globals.get(name) or ir.Function(builder.module, kind, name)
        both = [
            builder.load(
                builder.bitcast(builder.gep(a, [ir.Constant(word, n)]), vector.as_pointer()),
                align=4,
            )
            for n in (0, LANES)
        ]
        where = builder.load(builder.bitcast(index, indices.as_pointer()), align=4)
        return builder.call(function, [both[0], where, both[1]])
    found = ir.Constant(vector, ir.Undefined)
    for n in range(LANES):
        at = builder.load(builder.gep(index, [ir.Constant(word, n)]))
        found = builder.insert_element(
            found, builder.load(builder.gep(a, [at])), ir.Constant(word, n)
        )
    return found


@exact_part
def spread_planes(planes, frame, index, first, each, seen, pixels, c):
    """Spread a frame of so many pixels (C,) into ``seen`` planes for the vector from ``first`` on.

    The vector's channels come in groups of ``each``, and the frame's in groups of ``seen``.
    """
    base = first // each * seen
    for i in range(seen):
        for k in range(LANES):
            index[i * LANES + k] = (first + k) // each * seen + i - base
        to = i * pixels * LANES
        for p in range(pixels):
            store(planes, to + p * LANES, pick(frame, p * c + base, index, i * LANES))


@exact_part
def place_plane_taps(cols, kh, kw, seen, line, pixel, plane):
    """Write how far behind its beginning the numbers of a window lie."""
    k = 0
    for i in range(kh):
        for j in range(kw):
            for n in range(seen):
                cols[k] = i * line + j * pixel + n * plane
                k += 1
    pad(cols, k)


@fused_part
def multiply_lanes(y, out, start, a, rows, cols, b, j, b_step, m, k, bias):
    """y[out[r] + start :] = bias + Σ_t a[rows[r] + cols[t] :] b[j + t b_step :], for m rows r.

    All of them vectors of LANES numbers.
    """
    for i in range(0, m, 8):  # eight vectors for each that is read of b
        r0, r1, r2, r3 = rows[i], rows[i + 1], rows[i + 2], rows[i + 3]
        r4, r5, r6, r7 = rows[i + 4], rows[i + 5], rows[i + 6], rows[i + 7]
        v0 = load(bias, 0)
        v1, v2, v3, v4, v5, v6, v7 = v0, v0, v0, v0, v0, v0, v0
        for t in range(k):
            at, w = cols[t], load(b, j + t * b_step)
            v0 = v0 + load(a, r0 + at) * w
            v1 = v1 + load(a, r1 + at) * w
            v2 = v2 + load(a, r2 + at) * w
            v3 = v3 + load(a, r3 + at) * w
            v4 = v4 + load(a, r4 + at) * w
            v5 = v5 + load(a, r5 + at) * w
            v6 = v6 + load(a, r6 + at) * w
            v7 = v7 + load(a, r7 + at) * w
        store(y, out[i] + start, v0)
        store(y, out[i + 1] + start, v1)
        store(y, out[i + 2] + start, v2)
        store(y, out[i + 3] + start, v3)
        store(y, out[i + 4] + start, v4)
        store(y, out[i + 5] + start, v5)
        store(y, out[i + 6] + start, v6)
        store(y, out[i + 7] + start, v7)


@fused
def grouped(address, zero):
    """y = conv(norm(x)) and its sums; or y = norm(conv(x)) with a norm behind, and no sums."""
    r = record_at(address)
    n, h, wd, c, o, groups, images, block = r.n, r.h, r.wd, r.c, r.o, r.groups, r.images, r.block
    v, x_row, relu, behind_relu = r.window, r.x_row, r.before.relu != 0, r.behind.relu != 0
    ho, wo, cg, og = v.ho, v.wo, c // groups, o // groups
    x, y = floats(r.x, (n * h * wd - 1) * x_row + c, zero), floats(r.y, n * ho * wo * o, zero)
    channels = o if r.sums != 0 else 0
    sums = doubles(r.sums, 3 * channels).reshape(3, channels)
    sums[:] = 0
    k = v.kh * v.kw * cg
    table = table_of(r.before, c, r.x_period, x, zero)
    after = table_of(r.behind, o, r.period, x, zero)
    w, (scale, shifts) = floats(r.w, k * o, zero), folding(after, o)
    if scale.size > 0:
        w = folded_weights(w, k, scale)
    else:
        shifts = np.zeros(o, x.dtype)
    first_line, last_line = r.first, r.last if r.last > 0 else ho  # which come out
    block = min(block, last_line - first_line)
    width = side(wo, v.sw, v.kw, v.dw)
    most = images * side(block, v.sh, v.kh, v.dh) * width  # pixels
    frame, planes = scratch(most * c + SLACK, x), scratch(most * cg * LANES, x)
    entries = whole_tiles(images * block * wo)
    rows, out = np.empty(entries, np.int64), np.empty(entries, np.int64)
    cols, index = np.empty(whole_tiles(k), np.int64), np.empty(cg * LANES, np.int32)
    for first in range(0, n, images):
        count = min(images, n - first)
        for line in range(first_line, last_line, block):
            lines = min(block, last_line - line)
            m, high = count * lines * wo, side(lines, v.sh, v.kh, v.dh)
            image = high * width
            place_pixels(rows, out, count, lines, wo, image * LANES, v.sh * width * LANES,
                         v.sw * LANES, o)  # fmt: skip
            place_plane_taps(cols, v.kh, v.kw, cg, v.dh * width * LANES, v.dw * LANES,
                             count * image * LANES)  # fmt: skip
            for i in range(count):
                lay(frame, i * image * c, x, (first + i) * h * wd * x_row, x_row,
                    line * v.sh - v.ph, high, h, wd, c, v.pw, width, table, relu)  # fmt: skip
            begin = (first * ho + line) * wo * o
            here = y[begin : begin + m * o]
            for start in range(0, o, LANES):
                o0 = min(start, o - LANES)
                spread_planes(planes, frame, index, o0, og, cg, count * image, c)
                multiply_lanes(
                    here, out, o0, planes, rows, cols, w, o0, o, m, k, shifts[o0:]
                )  # fmt: skip
            finish(here, sums, r.period, after, behind_relu, scale)
