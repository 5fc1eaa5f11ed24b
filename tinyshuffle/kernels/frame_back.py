"""The way back through a convolution with any window between two batch norms.

dw is a product of the images, in their frames (:mod:`tinyshuffle.kernels.frame`), and dy. dx is a
convolution itself, of dy with the window turned around: dx[h] is the sum of w[i] dy[p] over all
taps i and output pixels p with h = p·stride + i·dilation - padding. With a stride of s every s-th
tap is there for the first of s pixels, others for the second and so on: each such *phase* of pixels
is a convolution of its own, with a table of its own, in one and the same frame of dy.
"""

from __future__ import annotations

import numpy as np

from .batch_norm import add_backward_sums, finish_backward_sums, slopes_of, table_of
from .channel_shuffle import transpose
from .frame import lay, place_pixels, place_taps, side
from .frame_tile import add_gathered_gradient, multiply_gathered, pad, whole_tiles
from .jit import exact_part, fused, fused_part, scratch
from .norm_pointwise import SLACK, unpad
from .record import doubles, floats, record_at
from .stage import add, gradient_block, stage
from .tile import ROWS, WRITE, pack, packed, row_of

__all__ = ["borders", "conv_backward", "place_phases", "tensors_of"]


@exact_part
def borders(size, outputs, stride, window, dilation, padding):
    """Return how many pixels of zeros dy has in front and behind along an axis."""
    in_front = max(0, ((window - 1) * dilation - padding) // stride)
    return in_front, max(0, (size - 1 + padding) // stride - (outputs - 1))


@fused_part
def _turned(panels, cols, steps, v, w, groups, cg, og, top, left, width):
    """Pack the turned weights of each phase, and write where its taps lie in a frame of dy.

    The table of phase f is cols[steps[f] : steps[f + 1]], its panels begin at panels[groups
    steps[f] packed(Cg)], a group behind the other.
    """
    o, k = groups * og, 0
    turned, nothing = scratch(v.kh * v.kw * og * cg, w), w[:0]
    steps[0] = 0
    for f in range(v.sh * v.sw):
        a, b = f // v.sw + v.ph, f % v.sw + v.pw
        for g in range(groups):
            size = 0
            for i in range(v.kh):
                for j in range(v.kw):
                    if (a - i * v.dh) % v.sh != 0 or (b - j * v.dw) % v.sw != 0:
                        continue
                    p, q = (a - i * v.dh) // v.sh + top, (b - j * v.dw) // v.sw + left
                    for out in range(og):
                        cols[k + size] = (p * width + q) * o + out
                        row = turned[size * cg : (size + 1) * cg]
                        for channel in range(cg):
                            row[channel] = w[((i * v.kw + j) * cg + channel) * o + g * og + out]
                        size += 1
            at = (groups * k + g * size) * packed(cg)
            pack(panels[at:], turned, size, cg, cg, 1, nothing, nothing)
        k += size
        steps[f + 1] = k


@exact_part
def place_phases(rows, out, places, images, v, size, image, line, pixel, width):
    """Write, phase by phase, where pixels of dx are in a frame of dy, and where they are written.

    The tables of phase f are rows[places[f, 0] :] and out[places[f, 0] :], of places[f, 1] pixels.
    ``size`` is (H, W) of dx.
    """
    at, (h, wd) = 0, size
    for f in range(v.sh * v.sw):
        m = at
        for n in range(images):
            for p in range(f // v.sw, h, v.sh):
                for q in range(f % v.sw, wd, v.sw):
                    rows[m] = n * image + p // v.sh * line + q // v.sw * pixel
                    out[m] = ((n * h + p) * wd + q) * width
                    m += 1
        places[f, 0], places[f, 1] = at, m - at
        if m > at:
            pad(rows[at:], m - at)
            pad(out[at:], m - at)
        at += whole_tiles(m - at)


@exact_part
def tensors_of(r, zero):
    """Return x, y, dy, dx, what is added to dx, and the sums of the norm in front, set to 0.

    What a record has no place for is empty.
    """
    pixels, outputs = r.n * r.h * r.wd, r.n * r.window.ho * r.window.wo
    x, y = floats(r.x, (pixels - 1) * r.x_row + r.c, zero), floats(r.y, outputs * r.o, zero)
    dy = floats(r.dy, (outputs - 1) * r.dy_row + r.o, zero)
    dx = floats(r.dx, (pixels - 1) * r.dx_row + r.c, zero)
    more = floats(r.more, pixels * r.c if r.more != 0 else 0, zero)
    channels = r.c if r.sums != 0 else 0
    sums = doubles(r.sums, 2 * channels).reshape(2, channels)
    sums[:] = 0
    return x, y, dy, dx, more, sums


@fused
def conv_backward(address, zero):
    """dx, dw and the sums of the norm in front, of the gradient of what the norm behind made.

    If there is no place for dx, it is left out.
    """
    r = record_at(address)
    n, h, wd, c, o, groups, images = r.n, r.h, r.wd, r.c, r.o, r.groups, r.images
    v, x_row, dy_row, dx_row = r.window, r.x_row, r.dy_row, r.dx_row
    shuffle, relu, behind_relu = r.before.shuffle, r.before.relu != 0, r.behind.relu != 0
    ho, wo, size, phases = v.ho, v.wo, h * wd * c, v.sh * v.sw
    x, y, dy, dx, more, sums = tensors_of(r, zero)
    cg, og = c // groups, o // groups
    k, row, dw_row = v.kh * v.kw * cg, row_of(cg), packed(og)
    table = table_of(r.before, c, r.x_period, x, zero)
    after = table_of(r.behind, o, r.period, x, zero)
    slopes, w, none = slopes_of(r.behind, o, after), floats(r.w, k * o, zero), table[:, :0]
    # the images
    there = table.size == 0 and shuffle == 1 and v.ph == 0 and v.pw == 0
    high, width = side(ho, v.sh, v.kh, v.dh), side(wo, v.sw, v.kw, v.dw)
    frame = scratch(0 if there else images * high * width * c, x)
    st, ss = scratch(size if shuffle > 1 else 0, x), scratch(size if shuffle > 1 else 0, x)
    image, line, pixel = high * width * c, width * c, c
    if there:
        image, line, pixel = h * wd * x_row, wd * x_row, x_row
    most = whole_tiles(images * ho * wo)
    rows, dw_out = np.empty(most, np.int64), np.arange(whole_tiles(k)) * dw_row
    spare = np.empty(most, np.int64)  # where y is written, which it is not here
    cols = np.empty(dw_out.size, np.int64)
    place_taps(cols, v.kh, v.kw, cg, v.dh * line, v.dw * pixel)
    dw_size = dw_out.size * dw_row
    dw = np.zeros(groups * dw_size, x.dtype)
    # the gradient
    top, bottom = borders(h, ho, v.sh, v.kh, v.dh, v.ph)
    left, right = borders(wd, wo, v.sw, v.kw, v.dw, v.pw)
    dy_high, dy_width = top + ho + bottom, left + wo + right
    sy = scratch(images * ho * wo * o + SLACK, x)
    dy_frame = scratch(images * dy_high * dy_width * o, x)
    panels = scratch(groups * v.kh * v.kw * og * packed(cg), x)
    taps, steps = np.empty(v.kh * v.kw * og, np.int64), np.empty(phases + 1, np.int64)
    _turned(panels, taps, steps, v, w, groups, cg, og, top, left, dy_width)
    most = images * h * wd + phases * 2 * ROWS
    dx_rows, dx_out = np.empty(most, np.int64), np.empty(most, np.int64)
    phase = np.empty((phases, 2), np.int64)
    direct = row == cg and shuffle == 1
    apart = dx_row if direct else groups * row
    sd = scratch(0 if direct else images * h * wd * apart, x)
    placed = 0
    for first in range(0, n, images):
        count, at, of = min(images, n - first), first * h * wd, first * ho * wo
        m, pixels = count * ho * wo, count * h * wd
        if count != placed:
            place_pixels(rows, spare, count, ho, wo, image, v.sh * line, v.sw * pixel, 1)
            place_phases(
                dx_rows, dx_out, phase, count, v, (h, wd), dy_high * dy_width * o, dy_width * o, o,
                apart,
            )  # fmt: skip
            placed = count
        gradient_block(sy, dy, of, dy_row, y, m, o, after, slopes, behind_relu)
        a = frame
        if there:
            a = x[at * x_row :]
        for i in range(0 if there else count):
            begin = (at + i * h * wd) * x_row
            if shuffle > 1:
                stage(st, ss, x, begin, x_row, h * wd, c, table, relu, shuffle)
                lay(frame, i * image, st, 0, c, -v.ph, high, h, wd, c, v.pw, width, none, relu)
            else:
                lay(frame, i * image, x, begin, x_row, -v.ph, high, h, wd, c, v.pw, width, table,
                    relu)  # fmt: skip
        for g in range(groups):
            add_gathered_gradient(
                dw[g * dw_size :], dw_out, a[g * cg :], rows, cols, sy, g * og, o, m, k, og
            )
        if r.dx == 0:
            continue
        for i in range(count):
            lay(dy_frame, i * dy_high * dy_width * o, sy, i * ho * wo * o, o, -top, dy_high, ho, wo,
                o, left, dy_width, none, relu)  # fmt: skip
        here = dx[at * dx_row : (at + pixels - 1) * dx_row + c]
        target = here if direct else sd
        for f in range(phases):
            to, inside, taken = phase[f, 0], phase[f, 1], steps[f + 1] - steps[f]
            if taken == 0:  # nothing has come of these pixels
                for i in range(inside):
                    target[dx_out[to + i] : dx_out[to + i] + (c if direct else apart)] = 0
                continue
            # what comes next, a share of it with each group and phase
            turn, parts = f * groups, groups * phases
            for g in range(groups):
                px, po = pixels // parts, m // parts
                x_next, y_next = at + pixels + (turn + g) * px, of + m + (turn + g) * po
                multiply_gathered(
                    target[g * row :], dx_out[to:], WRITE, dy_frame[g * og :], dx_rows[to:],
                    taps[steps[f] : steps[f + 1]],
                    panels[(groups * steps[f] + g * taken) * packed(cg) :], inside, taken, cg,
                    (x, dy, y, dx), (x_next * x_row, y_next * dy_row, y_next * o, x_next * dx_row),
                    (px * x_row, po * dy_row, po * o, px * dx_row),
                )  # fmt: skip
        if not direct:
            if shuffle > 1:
                for i in range(count):
                    unpad(st, c, sd[i * h * wd * apart :], h * wd, groups, cg, row)
                    transpose(ss, st, c // shuffle, shuffle)
                    unpad(here[i * h * wd * dx_row :], dx_row, ss, h * wd, 1, c, c)
            else:
                unpad(here, dx_row, sd, pixels, groups, cg, row)
        if more.size > 0:
            add(here, dx_row, more[at * c : (at + pixels) * c], pixels, c)
        if table.size > 0:
            add_backward_sums(sums, here, x[at * c : (at + pixels) * c], table, relu)
    if table.size > 0:
        finish_backward_sums(sums, table)
    out = floats(r.dw, k * o, zero)  # (K, groups, Og)
    for i in range(k):
        for g in range(groups):
            for j in range(og):
                out[i * o + g * og + j] = dw[g * dw_size + i * dw_row + j]
