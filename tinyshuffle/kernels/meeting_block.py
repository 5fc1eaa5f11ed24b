"""Where two branches meet, some pixels at a time.

A pass by itself takes all pixels of its tensors (:mod:`tinyshuffle.kernels.meeting`). A pointwise
convolution that reads what such a pass writes, or the other way round, takes it along: it does the
pixels of a block just before its own products, or just behind them, while they are in the cache and
the products give the memory time to bring the next block
(:mod:`tinyshuffle.kernels.norm_pointwise`).

Each function takes the address of the pass's record. At address 0 there is no such pass.
"""

from __future__ import annotations

from .batch_norm import add_backward_sums, finish_backward_sums, table_of
from .jit import exact_part, scratch
from .record import doubles, floats, record_at
from .stage import stage

__all__ = [
    "backward_block",
    "finish",
    "forward_block",
    "neighbours",
    "spares_of",
    "sums_of",
    "tables_of",
]

_BLOCK = 2**12  # numbers that stay in the first-level cache between two kernels


@exact_part
def tables_of(address, like, zero):
    """The tables of the norms of both branches, (5, period); empty where there is no norm."""
    nothing = scratch(0, like).reshape(5, 0)
    if address == 0:
        return nothing, nothing
    r = record_at(address)
    before = table_of(r.before, r.c, r.period, like, zero)
    return before, table_of(r.behind, r.c, r.period, like, zero)


@exact_part
def sums_of(address):
    """The sums dβ and dγ of the norms of both branches, (2, C), set to zero."""
    nothing = doubles(0, 0).reshape(2, 0)
    if address == 0:
        return nothing, nothing
    r = record_at(address)
    channels1, channels2 = r.c if r.before.gamma != 0 else 0, r.c if r.behind.gamma != 0 else 0
    sums1 = doubles(r.sums, 2 * channels1).reshape(2, channels1)
    sums2 = doubles(r.sums2, 2 * channels2).reshape(2, channels2)
    sums1[:] = 0
    sums2[:] = 0
    return sums1, sums2


@exact_part
def spares_of(address, like):
    """Scratch memory for a block of either branch."""
    size = 4 * max(_BLOCK, record_at(address).period) if address != 0 else 0
    return scratch(size, like), scratch(size, like)


@exact_part
def neighbours(address, zero):
    """What the pass reads and writes beside what the convolution does, to be fetched ahead.

    Three tensors, empty where there is none, and how far apart their pixels lie.
    """
    nothing = floats(0, 0, zero)
    if address == 0:
        return (nothing, nothing, nothing), (0, 0, 0)
    r = record_at(address)
    m, c = r.m, r.c
    if r.dx == 0:
        return (
            floats(r.x, (m - 1) * r.x_row + c, zero), floats(r.x2, (m - 1) * r.x2_row + c, zero),
            nothing,
        ), (r.x_row, r.x2_row, 0)  # fmt: skip
    if r.y != 0:
        return (
            floats(r.x, m * c, zero), floats(r.y, m * c, zero), floats(r.dx, m * c, zero),
        ), (c, c, c)  # fmt: skip
    return (
        floats(r.x, m * c if r.x != 0 else 0, zero), floats(r.x2, m * c if r.x2 != 0 else 0, zero),
        floats(r.dx, 2 * m * c, zero),
    ), (c if r.x != 0 else 0, c if r.x2 != 0 else 0, 2 * c)  # fmt: skip


@exact_part
def forward_block(address, tables, spares, first, rows, zero):
    """Do some pixels: two branches side by side, shuffled, or a branch and a shortcut, added."""
    if record_at(address).adds != 0:
        _normalise_add(address, tables[1], spares[0], first, rows, zero)
    else:
        _side_by_side(address, tables, spares, first, rows, zero)


@exact_part
def backward_block(address, tables, sums, spares, first, rows, zero):
    """Do some pixels of the way back."""
    if record_at(address).adds != 0:
        _gate_and_add(address, tables[1], sums[1], spares[0], first, rows, zero)
    else:
        _apart(address, tables, sums, spares, first, rows, zero)


@exact_part
def finish(tables, sums):
    """Make dβ and dγ of the sums over all pixels."""
    for k in range(2):
        if tables[k].size > 0:
            finish_backward_sums(sums[k], tables[k])


@exact_part
def _side_by_side(address, tables, spares, start, pixels, zero):
    r = record_at(address)
    m, c, block, end = r.m, r.c, max(1, _BLOCK // r.c), start + pixels
    x1, x2 = floats(r.x, (m - 1) * r.x_row + c, zero), floats(r.x2, (m - 1) * r.x2_row + c, zero)
    y, relu1, relu2 = floats(r.y, 2 * m * c, zero), r.before.relu != 0, r.behind.relu != 0
    for first in range(start, end, block):
        rows = min(block, end - first)
        a = _block(spares[0], x1, first, r.x_row, tables[0], relu1, rows, c)
        b = _block(spares[1], x2, first, r.x2_row, tables[1], relu2, rows, c)
        pairs = y[2 * first * c :]
        for i in range(rows * c):
            pairs[2 * i] = a[i]
            pairs[2 * i + 1] = b[i]


@exact_part
def _block(spare, x, first, row, table, relu, m, c):
    """Return m pixels of x, normalised, one behind the other."""
    if table.size == 0 and row == c:
        return x[first * c : (first + m) * c]
    stage(spare, spare, x, first * row, row, m, c, table, relu, 1)
    return spare[: m * c]


@exact_part
def _apart(address, tables, sums, spares, start, pixels, zero):
    r = record_at(address)
    m, c, end = r.m, r.c, start + pixels
    first1, first2 = r.before.gamma != 0, r.behind.gamma != 0  # whether there is a norm
    x1, x2 = floats(r.x, m * c if first1 else 0, zero), floats(r.x2, m * c if first2 else 0, zero)
    dy, dz = floats(r.dy, 2 * m * c, zero), floats(r.dx, 2 * m * c, zero)
    block = max(1, _BLOCK // (4 * r.period)) * 4 * r.period // c  # pixels
    dz1, dz2 = spares
    for first in range(start, end, block):
        rows = min(block, end - first)
        pairs, both = dy[2 * first * c :], dz[2 * first * c :]
        for i in range(rows * c):
            dz1[i] = pairs[2 * i]
            dz2[i] = pairs[2 * i + 1]
        for k in range(rows):
            pixel, a, b = both[2 * k * c : 2 * (k + 1) * c], dz1[k * c :], dz2[k * c :]
            for j in range(c):
                pixel[j] = a[j]
            for j in range(c):
                pixel[c + j] = b[j]
        here = slice(first * c, (first + rows) * c)
        if first1:
            add_backward_sums(sums[0], dz1[: rows * c], x1[here], tables[0], r.before.relu != 0)
        if first2:
            add_backward_sums(sums[1], dz2[: rows * c], x2[here], tables[1], r.behind.relu != 0)


@exact_part
def _normalise_add(address, table, spare, start, pixels, zero):
    r = record_at(address)
    m, c, period, stop = r.m, r.c, r.period, start + pixels
    x, y = floats(r.x, m * c, zero), floats(r.y, m * c, zero)
    shortcut = floats(r.x2, (m - 1) * r.x2_row + c, zero)
    k, scale, shift = table[0], table[2], table[3]
    block = max(1, _BLOCK // period) * period // c  # pixels
    for first in range(start, stop, block):
        rows = min(block, stop - first)
        there = _block(spare, shortcut, first, r.x2_row, table[:, :0], False, rows, c)
        for at in range(0, rows * c, period):
            end = min(at + period, rows * c)
            a, s = x[first * c + at : first * c + end], there[at:end]
            b = y[first * c + at : first * c + end]
            for i in range(a.size):
                v = (a[i] - k[i]) * scale[i] + shift[i] + s[i]
                b[i] = zero if v <= zero else v  # a NaN stays one


@exact_part
def _gate_and_add(address, table, sums, spare, start, pixels, zero):
    r = record_at(address)
    m, c, end = r.m, r.c, start + pixels
    x, y, dz = floats(r.x, m * c, zero), floats(r.y, m * c, zero), floats(r.dx, m * c, zero)
    dy = floats(r.dy, (m - 1) * r.dy_row + c, zero)
    block = max(1, _BLOCK // r.period) * 4 * r.period // c  # pixels
    for first in range(start, end, block):
        rows = min(block, end - first)
        here = slice(first * c, (first + rows) * c)
        d = _block(spare, dy, first, r.dy_row, table[:, :0], False, rows, c)
        a, b = y[here], dz[here]
        for i in range(a.size):
            b[i] = zero if a[i] <= zero else d[i]
        add_backward_sums(sums, b, x[here], table, False)
