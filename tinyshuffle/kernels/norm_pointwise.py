"""A pointwise convolution between two batch norms, some pixels at a time through everything.

Behind the batch norm in front, its ReLU and its shuffle, a block of pixels is in the cache; there
it is multiplied, and the sums of the batch norm behind are taken. See :mod:`tinyshuffle.plan.fused`
for what that means, and :mod:`tinyshuffle.kernels.tile` for the product. A pass in which branches
meet, just before or behind, may be done along: see :mod:`tinyshuffle.kernels.meeting_block`.
"""

from __future__ import annotations

import numpy as np

from .batch_norm import (
    add_backward_sums,
    add_sums,
    finish_backward_sums,
    normalise,
    slopes_of,
    table_of,
)
from .channel_shuffle import transpose
from .jit import fused, fused_part, scratch
from .meeting_block import (
    backward_block,
    finish,
    forward_block,
    neighbours,
    spares_of,
    sums_of,
    tables_of,
)
from .record import doubles, floats, record_at
from .stage import add, folding, gradient_block, stage
from .tile import (
    PANEL,
    RECTIFY,
    ROWS,
    SHIFT,
    VECTOR,
    WRITE,
    add_weight_gradient,
    multiply,
    pack,
    packed,
    row_of,
)

__all__ = ["SLACK", "panels_of", "pointwise", "pointwise_backward", "unpad"]

_FIRST_LEVEL = 2**13  # numbers of laid-out weights that stay in the first-level cache
SLACK = 64  # numbers behind a scratch array that a tile may read


@fused_part
def panels_of(w, groups, k, n, k_step, n_step, group_step, scale, shifts):
    # the right factors of all groups, packed: (groups, (K or K + 1) · packed(N))
    size = (k + 1 if scale.size > 0 else k) * packed(n)
    panels = scratch(groups * size, w)
    for g in range(groups):
        here, factors, terms = w[g * group_step :], scale[g * n :], shifts[g * n :]
        pack(panels[g * size :], here, k, n, k_step, n_step, factors, terms)
    return panels


@fused_part
def unpad(y, y_row, padded, m, groups, og, row):
    # padded rows are (groups, row), y's (groups, og)
    for r in range(m):
        for g in range(groups):
            pixel, of = y[r * y_row + g * og :], padded[(r * groups + g) * row :]
            for i in range(og):
                pixel[i] = of[i]


@fused
def pointwise(address, zero):
    """y = conv(norm(x)) and its sums; or y = norm(conv(x)) with a norm behind, and no sums."""
    r = record_at(address)
    m, c, o, groups, block, shuffle = r.m, r.c, r.o, r.groups, r.block, r.before.shuffle
    x_row, y_row, w_row = r.x_row, r.y_row, r.w_row
    relu, behind_relu = r.before.relu != 0, r.behind.relu != 0
    x, y = floats(r.x, (m - 1) * x_row + c, zero), floats(r.y, (m - 1) * y_row + o, zero)
    channels = o if r.sums != 0 else 0
    sums = doubles(r.sums, 3 * channels).reshape(3, channels)
    sums[:] = 0
    cg, og = c // groups, o // groups
    sx = scratch((block + ROWS) * c + SLACK, x)
    st = scratch(block * c if shuffle > 1 else 0, x)
    sy = scratch((block + ROWS) * groups * row_of(og), x)
    table = table_of(r.before, c, r.x_period, x, zero)
    after = table_of(r.behind, o, r.period, x, zero)
    w = floats(r.w, (cg - 1) * w_row + o, zero)
    row, k, end = row_of(og), cg, WRITE
    scale, shifts = folding(after, o)
    if scale.size > 0:
        k, end = cg + 1, RECTIFY if behind_relu else SHIFT
    few = m <= block  # pixels: then weights are laid out as many columns at a time as a cache holds
    columns = min(og, max(1, _FIRST_LEVEL // (k * PANEL)) * PANEL) if few else og
    if few:
        panels = scratch(k * packed(columns), x)
    else:
        panels = panels_of(w, groups, cg, og, w_row, 1, og, scale, shifts)
    tables, spares = tables_of(r.joined, x, zero), spares_of(r.joined, x)
    (u, v, _), (u_row, v_row, _) = neighbours(r.joined, zero)
    for first in range(0, m, block):
        rows = min(block, m - first)
        if r.joined != 0:
            forward_block(r.joined, tables, spares, first, rows, zero)
        a, at, a_row = sx, 0, c
        if table.size == 0 and shuffle == 1 and rows % ROWS == 0:
            a, at, a_row = x, first * x_row, x_row
        else:
            stage(sx, st, x, first * x_row, x_row, rows, c, table, relu, shuffle)
        here = y[first * y_row : (first + rows - 1) * y_row + o]
        direct = row == og and rows % ROWS == 0
        share = (rows + groups - 1) // groups  # of the next block, to be fetched with each group
        for g in range(groups):
            next_ = first + block + g * share
            for start in range(0, og, columns):
                j = max(0, min(start, og - VECTOR))  # a short rest overlaps with those in front
                n = min(columns, og - j)
                panel = panels if few else panels[g * k * packed(og) :]
                if few:
                    i = g * og + j
                    pack(panel, w[i:], cg, n, w_row, 1, scale[i:], shifts[i:])
                multiply(
                    here if direct else sy, g * row + j, y_row if direct else groups * row, end,
                    a, at + g * cg, a_row, panel, 0, rows, cg, n,
                    (x, y, u, v),
                    (next_ * x_row, next_ * y_row, next_ * u_row, next_ * v_row),
                    (share * x_row, share * y_row, share * u_row, share * v_row),
                )  # fmt: skip
        if not direct:
            unpad(here, y_row, sy, rows, groups, og, row)
        if channels > 0:
            add_sums(sums, here, r.period)
        elif after.size > 0 and scale.size == 0:
            for pixel in range(0, rows * y_row, y_row):
                normalise(here[pixel : pixel + o], here[pixel : pixel + o], after, behind_relu)


@fused
def pointwise_backward(address, zero):
    """dx, dw and the sums of the norm in front, of the gradient of what the norm behind made."""
    r = record_at(address)
    m, c, o, groups, block, shuffle = r.m, r.c, r.o, r.groups, r.block, r.before.shuffle
    x_row, dy_row, dx_row = r.x_row, r.dy_row, r.dx_row
    relu, behind_relu = r.before.relu != 0, r.behind.relu != 0
    x, y = floats(r.x, (m - 1) * x_row + c, zero), floats(r.y, m * o, zero)
    dy, dx = floats(r.dy, (m - 1) * dy_row + o, zero), floats(r.dx, (m - 1) * dx_row + c, zero)
    more = floats(r.more, m * c if r.more != 0 else 0, zero)
    channels = c if r.sums != 0 else 0
    sums = doubles(r.sums, 2 * channels).reshape(2, channels)
    sums[:] = 0
    cg, og = c // groups, o // groups
    sx = scratch((block + ROWS) * c + SLACK, x)
    st = scratch(block * c if shuffle > 1 else 0, x)
    sy = scratch((block + ROWS) * o + SLACK, x)
    sd = scratch((block + ROWS) * groups * row_of(cg), x)
    row, dw_row = row_of(cg), packed(og)
    w, nothing = floats(r.w, cg * o, zero), x[:0]
    panels = panels_of(w, groups, og, cg, 1, o, og, nothing, nothing)  # of the transposed weights
    table = table_of(r.before, c, r.x_period, x, zero)
    after = table_of(r.behind, o, r.period, x, zero)
    slopes = slopes_of(r.behind, o, after)
    dw_size = (cg + ROWS - 1) // ROWS * ROWS * dw_row
    dw = np.zeros(groups * dw_size, x.dtype)
    tables, spares, both = tables_of(r.joined, x, zero), spares_of(r.joined, x), sums_of(r.joined)
    (u, v, d), (u_row, v_row, d_row) = neighbours(r.joined, zero)
    more_row = c if r.more != 0 else 0
    for first in range(0, m, block):
        rows = min(block, m - first)
        gradient_block(sy, dy, first, dy_row, y, rows, o, after, slopes, behind_relu)
        a, at, a_row = sx, 0, c
        if table.size == 0 and shuffle == 1 and cg % ROWS == 0:
            a, at, a_row = x, first * x_row, x_row
        else:
            stage(sx, st, x, first * x_row, x_row, rows, c, table, relu, shuffle)
        here = dx[first * dx_row : (first + rows - 1) * dx_row + c]
        direct = row == cg and rows % ROWS == 0 and shuffle == 1
        share = (rows + groups - 1) // groups
        for g in range(groups):
            add_weight_gradient(
                dw, g * dw_size, dw_row, a, at + g * cg, a_row, sy, g * og, o, rows, cg, og
            )
            panel, next_ = panels[g * og * packed(cg) :], first + block + g * share
            multiply(
                here if direct else sd, g * row, dx_row if direct else groups * row, WRITE,
                sy, g * og, o, panel, 0, rows, og, cg,
                (x, dy, y, dx, more, u, v, d),
                (
                    next_ * x_row, next_ * dy_row, next_ * o, next_ * dx_row, next_ * more_row,
                    next_ * u_row, next_ * v_row, next_ * d_row,
                ), (
                    share * x_row, share * dy_row, share * o, share * dx_row, share * more_row,
                    share * u_row, share * v_row, share * d_row,
                ),
            )  # fmt: skip
        if not direct:
            if shuffle == 1:
                unpad(here, dx_row, sd, rows, groups, cg, row)
            else:
                unpad(st, c, sd, rows, groups, cg, row)
                transpose(here, st[: rows * c], c // shuffle, shuffle)
        if more.size > 0:
            add(here, dx_row, more[first * c : (first + rows) * c], rows, c)
        if table.size > 0:
            add_backward_sums(sums, here, x[first * c : (first + rows) * c], table, relu)
        if r.joined != 0:
            backward_block(r.joined, tables, both, spares, first, rows, zero)
    if table.size > 0:
        finish_backward_sums(sums, table)
    finish(tables, both)
    out = floats(r.dw, cg * o, zero)  # (Cg, groups, Og)
    for i in range(cg):
        for g in range(groups):
            for j in range(og):
                out[i * o + g * og + j] = dw[g * dw_size + i * dw_row + j]
