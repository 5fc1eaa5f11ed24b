"""A depthwise convolution between two batch norms, some images at a time through everything.

Those with a 3x3 window and padding 1 have kernels of their own; others go by whatever window.
See :mod:`tinyshuffle.plan.fused` for what that means, and :mod:`tinyshuffle.kernels.depthwise` for
the convolution itself.
"""

from __future__ import annotations

import numpy as np

from .batch_norm import add_backward_sums, finish_backward_sums, slopes_of, table_of
from .channel_shuffle import transpose
from .depthwise import (
    backward_1,
    backward_2,
    forward_1,
    forward_2,
    window_backward,
    window_forward,
)
from .jit import LANES, fused, scratch
from .record import doubles, floats, record_at
from .stage import add, finish, folded_weights, folding, gradient_block, stage

__all__ = [
    "depthwise",
    "depthwise_any",
    "depthwise_any_backward",
    "depthwise_backward",
]


@fused
def depthwise(address, zero):
    """y = conv(norm(x)) and its sums; or y = norm(conv(x)) with a norm behind, and no sums."""
    r = record_at(address)
    n, h, wd, c, stride, images = r.n, r.h, r.wd, r.c, r.stride, r.block
    x_row, shuffle, relu = r.x_row, r.before.shuffle, r.before.relu != 0
    behind_relu = r.behind.relu != 0
    ho, wo = (h + stride - 1) // stride, (wd + stride - 1) // stride
    x = floats(r.x, (n * h * wd - 1) * x_row + c, zero)
    y, w = floats(r.y, n * ho * wo * c, zero), floats(r.w, 9 * c, zero)
    channels = c if r.sums != 0 else 0
    sums = doubles(r.sums, 3 * channels).reshape(3, channels)
    sums[:] = 0
    sx = scratch(images * h * wd * c, x)
    st = scratch(sx.size if shuffle > 1 else 0, x)
    zeros = np.zeros(wd * c, x.dtype)
    table = table_of(r.before, c, r.period, x, zero)
    after = table_of(r.behind, c, r.period, x, zero)
    scale, shifts = folding(after, c)
    if scale.size > 0:
        w = folded_weights(w, 9, scale)
    else:
        shifts = zeros
    line, last_line = r.first, r.last if r.last > 0 else ho  # which rows of an image come out
    for first in range(0, n, images):
        count = min(images, n - first)
        z, at = sx, first * h * wd
        if x_row != c or table.size > 0 or shuffle > 1:
            stage(sx, st, x, at * x_row, x_row, count * h * wd, c, table, relu, shuffle)
        else:
            z = x[at * c :]
        here = y[first * ho * wo * c : (first + count) * ho * wo * c]
        next_ = (first + count) * h * wd
        of_x, of_y = next_ * x_row, next_ * c
        if stride == 1:
            forward_1(
                here, z, w, shifts, zeros, count, h, wd, c, line, last_line, (x, y), (of_x, of_y)
            )
        else:
            forward_2(here, z, w, shifts, zeros, count, h, wd, c, line, last_line, (x,), (of_x,))
        if last_line - line < ho:
            here = here[line * wo * c : last_line * wo * c]  # of one image
        finish(here, sums, r.period, after, behind_relu, scale)


@fused
def depthwise_backward(address, zero):
    """dx, dw and the sums of the norm in front, of the gradient of what the norm behind made."""
    r = record_at(address)
    n, h, wd, c, stride, images = r.n, r.h, r.wd, r.c, r.stride, r.block
    x_row, dy_row, shuffle = r.x_row, r.dy_row, r.before.shuffle
    relu, behind_relu = r.before.relu != 0, r.behind.relu != 0
    ho, wo, size = (h + stride - 1) // stride, (wd + stride - 1) // stride, h * wd * c
    x = floats(r.x, (n * h * wd - 1) * x_row + c, zero)
    dy, y = floats(r.dy, (n * ho * wo - 1) * dy_row + c, zero), floats(r.y, n * ho * wo * c, zero)
    dx, w = floats(r.dx, n * size, zero), floats(r.w, 9 * c, zero)
    more = floats(r.more, n * size if r.more != 0 else 0, zero)
    channels = c if r.sums != 0 else 0
    sums = doubles(r.sums, 2 * channels).reshape(2, channels)
    sums[:] = 0
    dw = np.zeros((10, c))  # and the bias's gradient, which nobody asks for
    table = table_of(r.before, c, r.period, x, zero)
    after = table_of(r.behind, c, r.period, x, zero)
    slopes = slopes_of(r.behind, c, after)
    sx, sy = scratch(images * size, x), scratch(images * ho * wo * c, x)
    st = scratch(sx.size if shuffle > 1 else 0, x)
    zeros, part = np.zeros(wd * c, x.dtype), np.zeros((-(-c // LANES), 10 * LANES), x.dtype)
    spare = np.zeros(wd * c, x.dtype)
    for first in range(0, n, images):
        count = min(images, n - first)
        gradient_block(
            sy, dy, first * ho * wo, dy_row, y, count * ho * wo, c, after, slopes, behind_relu
        )
        z = sx
        if x_row != c or table.size > 0 or shuffle > 1:
            at = first * h * wd * x_row
            stage(sx, st, x, at, x_row, count * h * wd, c, table, relu, shuffle)
        else:
            z = x[first * size :]
        here = dx[first * size : (first + count) * size]
        target = st if shuffle > 1 else here
        of_y, of_x = (first + count) * ho * wo, (first + count) * h * wd
        ahead, places = (dy, y, x, dx), (of_y * dy_row, of_y * c, of_x * x_row, of_x * c)
        if stride == 1:
            backward_1(target, dw, sy, z, w, zeros, spare, part, count, h, wd, c, ahead, places)
        else:
            backward_2(target, dw, sy, z, w, zeros, spare, part, count, h, wd, c, ahead, places)
        if shuffle > 1:
            transpose(here, st[: here.size], c // shuffle, shuffle)
        if more.size > 0:
            add(here, size, more[first * size : (first + count) * size], count, size)
        if table.size > 0:
            add_backward_sums(sums, here, x[first * size : (first + count) * size], table, relu)
    if table.size > 0:
        finish_backward_sums(sums, table)
    out = floats(r.dw, 9 * c, zero)
    for i in range(9):
        for j in range(c):
            out[i * c + j] = dw[i, j]


@fused
def depthwise_any(address, zero):
    """The same with any window, an image at a time."""
    r = record_at(address)
    n, h, wd, c, v, x_row, shuffle = r.n, r.h, r.wd, r.c, r.window, r.x_row, r.before.shuffle
    relu, behind_relu, ho, wo, size = r.before.relu != 0, r.behind.relu != 0, v.ho, v.wo, h * wd * c
    x = floats(r.x, (n * h * wd - 1) * x_row + c, zero)
    y, w = floats(r.y, n * ho * wo * c, zero), floats(r.w, v.kh * v.kw * c, zero)
    channels = c if r.sums != 0 else 0
    sums = doubles(r.sums, 3 * channels).reshape(3, channels)
    sums[:] = 0
    sx, shifts, nothing = scratch(size, x), np.zeros(c, x.dtype), x[:0]
    st = scratch(size if shuffle > 1 else 0, x)
    table = table_of(r.before, c, r.period, x, zero)
    after = table_of(r.behind, c, r.period, x, zero)
    for i in range(n):
        stage(sx, st, x, i * h * wd * x_row, x_row, h * wd, c, table, relu, shuffle)
        here = y[i * ho * wo * c : (i + 1) * ho * wo * c]
        window_forward(
            here.reshape(1, ho, wo, c), sx.reshape(1, h, wd, c), w.reshape(v.kh, v.kw, c), shifts,
            v.kh, v.kw, v.sh, v.sw, v.ph, v.pw, v.dh, v.dw,
        )  # fmt: skip
        finish(here, sums, r.period, after, behind_relu, nothing)


@fused
def depthwise_any_backward(address, zero):
    """The same with any window, an image at a time."""
    r = record_at(address)
    n, h, wd, c, v, x_row, dy_row = r.n, r.h, r.wd, r.c, r.window, r.x_row, r.dy_row
    shuffle, relu, behind_relu = r.before.shuffle, r.before.relu != 0, r.behind.relu != 0
    ho, wo, size, taps = v.ho, v.wo, h * wd * c, v.kh * v.kw
    x = floats(r.x, (n * h * wd - 1) * x_row + c, zero)
    dy, y = floats(r.dy, (n * ho * wo - 1) * dy_row + c, zero), floats(r.y, n * ho * wo * c, zero)
    dx, w = floats(r.dx, n * size, zero), floats(r.w, taps * c, zero)
    more = floats(r.more, n * size if r.more != 0 else 0, zero)
    channels = c if r.sums != 0 else 0
    sums = doubles(r.sums, 2 * channels).reshape(2, channels)
    sums[:] = 0
    dw, part = np.zeros((taps + 1, c)), np.zeros((taps + 1, c), x.dtype)
    table = table_of(r.before, c, r.period, x, zero)
    after = table_of(r.behind, c, r.period, x, zero)
    slopes = slopes_of(r.behind, c, after)
    sx, sy, st = scratch(size, x), scratch(ho * wo * c, x), scratch(size, x)
    for i in range(n):
        gradient_block(sy, dy, i * ho * wo, dy_row, y, ho * wo, c, after, slopes, behind_relu)
        stage(sx, st, x, i * h * wd * x_row, x_row, h * wd, c, table, relu, shuffle)
        here = dx[i * size : (i + 1) * size]
        target = st if shuffle > 1 else here
        target[:] = 0
        window_backward(
            target.reshape(1, h, wd, c), dw, sy.reshape(1, ho, wo, c), sx.reshape(1, h, wd, c),
            w.reshape(v.kh, v.kw, c), part, v.kh, v.kw, v.sh, v.sw, v.ph, v.pw, v.dh, v.dw,
        )  # fmt: skip
        if shuffle > 1:
            transpose(here, st, c // shuffle, shuffle)
        if more.size > 0:
            add(here, size, more[i * size : (i + 1) * size], 1, size)
        if table.size > 0:
            add_backward_sums(sums, here, x[i * size : (i + 1) * size], table, relu)
    if table.size > 0:
        finish_backward_sums(sums, table)
    out = floats(r.dw, taps * c, zero)
    for i in range(taps):
        for j in range(c):
            out[i * c + j] = dw[i, j]
