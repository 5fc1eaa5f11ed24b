"""A convolution with any window between two batch norms, a few rows of pixels through everything.

The inputs that an output pixel sees are laid side by side, as in :mod:`tinyshuffle.kernels.conv`,
but only for so many rows of output pixels that they stay in the cache. The stem of a net, a 3x3
convolution of RGB images, has its own products, and goes image by image.
See :mod:`tinyshuffle.plan.fused` for what stands around the convolution.
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
from .conv import col2im, im2col, stem_forward, stem_images, stem_weights
from .jit import LANES, fused, fused_part, scratch
from .norm_depthwise import rectify
from .norm_pointwise import SLACK, panels_of, unpad
from .record import doubles, floats, record_at
from .stage import add, folded_weights, folding, gradient_block, stage
from .tile import RECTIFY, ROWS, SHIFT, WRITE, add_weight_gradient, multiply, packed, row_of

__all__ = ["conv", "conv_backward", "stem", "stem_backward"]


@fused
def conv(address, zero):
    """y = conv(norm(x)) and its sums; or y = norm(conv(x)) with a norm behind, and no sums."""
    r = record_at(address)
    n, h, wd, c, o, groups, block, images = r.n, r.h, r.wd, r.c, r.o, r.groups, r.block, r.images
    v, x_row, shuffle, relu = r.window, r.x_row, r.before.shuffle, r.before.relu != 0
    behind_relu, ho, wo, taps = r.behind.relu != 0, v.ho, v.wo, v.kh * v.kw
    x, y = floats(r.x, (n * h * wd - 1) * x_row + c, zero), floats(r.y, n * ho * wo * o, zero)
    channels = o if r.sums != 0 else 0
    sums = doubles(r.sums, 3 * channels).reshape(3, channels)
    sums[:] = 0
    k, og, row = taps * (c // groups), o // groups, row_of(o // groups)
    columns = scratch((block * wo + ROWS) * groups * k + SLACK, x)
    sy = scratch((block * wo + ROWS) * groups * row, x)
    sx = scratch(images * h * wd * c, x)
    st = scratch(sx.size if shuffle > 1 else 0, x)
    table = table_of(r.before, c, r.x_period, x, zero)
    after = table_of(r.behind, o, r.period, x, zero)
    scale, shifts = folding(after, o)
    steps, end = k, WRITE
    if scale.size > 0:
        steps, end = k + 1, RECTIFY if behind_relu else SHIFT
    panels = panels_of(floats(r.w, k * o, zero), groups, k, og, o, 1, og, scale, shifts)
    for first in range(0, n, images):
        count = min(images, n - first)
        z, at = sx, first * h * wd
        if x_row != c or table.size > 0 or shuffle > 1:
            stage(sx, st, x, at * x_row, x_row, count * h * wd, c, table, relu, shuffle)
        else:
            z = x[at * c :]
        last_line = r.last if r.last > 0 else count * ho
        for line in range(r.first, last_line, block):
            lines = min(block, last_line - line)
            rows, to = lines * wo, (first * ho + line) * wo * o
            im2col(
                columns, z, line, lines, h, wd, c, ho, wo, v.kh, v.kw, v.sh, v.sw, v.ph, v.pw,
                v.dh, v.dw, groups,
            )  # fmt: skip
            here = y[to : to + rows * o]
            direct = row == og and rows % ROWS == 0
            for g in range(groups):
                multiply(
                    here if direct else sy, g * row, groups * row, end,
                    columns, g * k, groups * k, panels[g * steps * packed(og) :], 0, rows, k, og,
                    (x,), (0,), (0,),
                )  # fmt: skip
            if not direct:
                unpad(here, o, sy, rows, groups, og, row)
            if channels > 0:
                add_sums(sums, here, r.period)
            elif after.size > 0 and scale.size == 0:
                normalise(here, here, after, behind_relu)


@fused
def conv_backward(address, zero):
    """dx, dw and the sums of the norm in front, of the gradient of what the norm behind made.

    If there is no place for dx, it is left out.
    """
    r = record_at(address)
    n, h, wd, c, o, groups, block, images = r.n, r.h, r.wd, r.c, r.o, r.groups, r.block, r.images
    v, x_row, dy_row, dx_row = r.window, r.x_row, r.dy_row, r.dx_row
    shuffle, relu, behind_relu = r.before.shuffle, r.before.relu != 0, r.behind.relu != 0
    ho, wo, size, taps = v.ho, v.wo, h * wd * c, v.kh * v.kw
    x, y = floats(r.x, (n * h * wd - 1) * x_row + c, zero), floats(r.y, n * ho * wo * o, zero)
    dy = floats(r.dy, (n * ho * wo - 1) * dy_row + o, zero)
    dx = floats(r.dx, (n * h * wd - 1) * dx_row + c, zero)
    more = floats(r.more, n * size if r.more != 0 else 0, zero)
    channels = c if r.sums != 0 else 0
    sums = doubles(r.sums, 2 * channels).reshape(2, channels)
    sums[:] = 0
    k, og = taps * (c // groups), o // groups
    row, dw_row = row_of(k), packed(og)
    columns = scratch((block * wo + ROWS) * groups * k + SLACK, x)
    sd = scratch((block * wo + ROWS) * groups * row, x)
    sy = scratch((block * wo + ROWS) * o + SLACK, x)
    sx, sg = scratch(images * size, x), scratch(images * size, x)
    st = scratch(sx.size if shuffle > 1 else 0, x)
    table = table_of(r.before, c, r.x_period, x, zero)
    after = table_of(r.behind, o, r.period, x, zero)
    slopes = slopes_of(r.behind, o, after)
    w, nothing = floats(r.w, k * o, zero), x[:0]
    panels = panels_of(w, groups, og, k, 1, o, og, nothing, nothing)  # of transposed weights
    dw_size = (k + ROWS - 1) // ROWS * ROWS * dw_row
    dw = np.zeros(groups * dw_size, x.dtype)
    for first in range(0, n, images):
        count = min(images, n - first)
        z, at = sx, first * h * wd
        if x_row != c or table.size > 0 or shuffle > 1:
            stage(sx, st, x, at * x_row, x_row, count * h * wd, c, table, relu, shuffle)
        else:
            z = x[at * c :]
        sg[: count * size] = 0
        for line in range(0, count * ho, block):
            lines = min(block, count * ho - line)
            rows = lines * wo
            gradient_block(
                sy, dy, (first * ho + line) * wo, dy_row, y, rows, o, after, slopes, behind_relu
            )
            im2col(
                columns, z, line, lines, h, wd, c, ho, wo, v.kh, v.kw, v.sh, v.sw, v.ph, v.pw,
                v.dh, v.dw, groups,
            )  # fmt: skip
            to = columns if row == k else sd
            for g in range(groups):
                add_weight_gradient(
                    dw, g * dw_size, dw_row, columns, g * k, groups * k, sy, g * og, o, rows, k, og
                )
            if r.dx == 0:
                continue
            for g in range(groups):
                multiply(
                    to, g * row, groups * row, WRITE, sy, g * og, o,
                    panels[g * og * packed(k) :], 0, rows, og, k, (x,), (0,), (0,),
                )  # fmt: skip
            if row != k:
                unpad(columns, groups * k, sd, rows, groups, k, row)
            col2im(
                sg, columns, line, lines, h, wd, c, ho, wo, v.kh, v.kw, v.sh, v.sw, v.ph, v.pw,
                v.dh, v.dw, groups,
            )  # fmt: skip
        if r.dx == 0:
            continue
        here = dx[at * dx_row : (at + count * h * wd - 1) * dx_row + c]
        if shuffle > 1:
            transpose(st[: count * size], sg[: count * size], c // shuffle, shuffle)
        unpad(here, dx_row, st if shuffle > 1 else sg, count * h * wd, 1, c, c)
        if more.size > 0:
            add(here, dx_row, more[at * c : (at + count * h * wd) * c], count * h * wd, c)
        if table.size > 0:
            add_backward_sums(sums, here, x[at * c : (at + count * h * wd) * c], table, relu)
    if table.size > 0:
        finish_backward_sums(sums, table)
    out = floats(r.dw, k * o, zero)  # (K, groups, Og)
    for i in range(k):
        for g in range(groups):
            for j in range(og):
                out[i * o + g * og + j] = dw[g * dw_size + i * dw_row + j]


@fused
def stem(address, zero):
    """The same of RGB images and a 3x3 window, without a norm in front."""
    r = record_at(address)
    n, h, wd, o, v = r.n, r.h, r.wd, r.o, r.window
    ho, wo, line, behind_relu = v.ho, v.wo, 3 * (wd + 2 * v.pw), r.behind.relu != 0
    x, y, w = floats(r.x, n * h * wd * 3, zero), floats(r.y, n * ho * wo * o, zero), r.w
    channels = o if r.sums != 0 else 0
    sums = doubles(r.sums, 3 * channels).reshape(3, channels)
    sums[:] = 0
    after = table_of(r.behind, o, r.period, x, zero)
    weights = floats(w, 27 * o, zero)
    scale, shifts = folding(after, o)
    if scale.size > 0:
        weights = folded_weights(weights, 27, scale)
    else:
        shifts = np.zeros(o, x.dtype)
    padded = np.zeros((h + 2 * v.ph) * line, x.dtype)
    first, last = r.first, r.last if r.last > 0 else ho  # which rows of an image come out
    top, bottom = max(0, first * v.sh - v.ph), min(h, (last - 1) * v.sh + 3 - v.ph)  # go in
    for i in range(n):
        _into_the_frame(padded, x[i * h * wd * 3 :], top, bottom, wd, v.ph, v.pw)
        here = y[(i * ho + first) * wo * o : (i * ho + last) * wo * o]
        stem_forward(
            here, padded[first * v.sh * line :], weights, shifts, 1, h + 2 * v.ph, wd + 2 * v.pw,
            last - first, wo, v.sh, v.sw,
        )  # fmt: skip
        if channels > 0:
            add_sums(sums, here, r.period)
        elif after.size > 0 and scale.size == 0:
            normalise(here, here, after, behind_relu)
        elif behind_relu:
            rectify(here)


@fused
def stem_backward(address, zero):
    """dx, if there is a place for it, and dw, of the gradient of what the norm behind made."""
    r = record_at(address)
    n, h, wd, o, v, dy_row = r.n, r.h, r.wd, r.o, r.window, r.dy_row
    ho, wo, line, behind_relu = v.ho, v.wo, 3 * (wd + 2 * v.pw), r.behind.relu != 0
    hp, wp = h + 2 * v.ph, wd + 2 * v.pw
    x, y = floats(r.x, n * h * wd * 3, zero), floats(r.y, n * ho * wo * o, zero)
    dy = floats(r.dy, (n * ho * wo - 1) * dy_row + o, zero)
    dx = floats(r.dx, n * h * wd * 3, zero)
    after = table_of(r.behind, o, r.period, x, zero)
    slopes = slopes_of(r.behind, o, after)
    w, wt = floats(r.w, 27 * o, zero), np.zeros(3 * o * LANES, x.dtype)  # (3, O, LANES)
    for i in range(3):
        for j in range(o):
            for t in range(9):
                wt[(i * o + j) * LANES + t] = w[(i * 9 + t) * o + j]
    dw = np.zeros((27, o))
    sy, padded = scratch(ho * wo * o, x), np.zeros(hp * line, x.dtype)
    dpadded = scratch(padded.size, x)
    for i in range(n):
        gradient_block(sy, dy, i * ho * wo, dy_row, y, ho * wo, o, after, slopes, behind_relu)
        _into_the_frame(padded, x[i * h * wd * 3 :], 0, h, wd, v.ph, v.pw)
        stem_weights(dw, sy, padded, 1, hp, wp, ho, wo, v.sh, v.sw)
        if r.dx == 0:
            continue
        dpadded[:] = 0
        stem_images(dpadded, sy, wt, o, 1, hp, wp, ho, wo, v.sh, v.sw)
        for p in range(h):
            to = dx[(i * h + p) * wd * 3 : (i * h + p + 1) * wd * 3]
            of = dpadded[(p + v.ph) * line + v.pw * 3 :]
            for k in range(wd * 3):
                to[k] = of[k]
    out = floats(r.dw, 27 * o, zero)
    for i in range(27):
        for j in range(o):
            out[i * o + j] = dw[i, j]


@fused_part
def _into_the_frame(padded, x, top, bottom, wd, ph, pw):
    # some rows of pixels of an image (H, W, 3), in a frame of zeros that is there already
    line = 3 * (wd + 2 * pw)
    for p in range(top, bottom):
        to, of = padded[(p + ph) * line + pw * 3 :], x[p * wd * 3 :]
        for k in range(wd * 3):
            to[k] = of[k]
