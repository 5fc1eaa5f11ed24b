"""The way back through a grouped convolution of few channels a group, groups side by side.

See :mod:`tinyshuffle.kernels.frame_groups` for what planes are, and
:mod:`tinyshuffle.kernels.frame_back` for the phases of dx.
"""

from __future__ import annotations

import numpy as np

from .batch_norm import add_backward_sums, finish_backward_sums, slopes_of, table_of
from .frame import lay, place_pixels, side
from .frame_back import borders, place_phases, tensors_of
from .frame_groups import multiply_lanes, place_plane_taps, spread_planes
from .frame_tile import whole_tiles
from .jit import LANES, exact_part, fused, scratch
from .norm_pointwise import SLACK
from .record import floats, record_at
from .stage import add, gradient_block
from .tile import ROWS

__all__ = ["grouped_backward"]


@exact_part
def _turned(turned, steps, where, v, w, cg, og, c):
    """Write the turned weights of each phase, and which pixel of its window each is for.

    Phase f has the rows steps[f] to steps[f + 1] of ``turned`` (Kh Kw Og, C). Row k is for the
    pixel (where[k, 0], where[k, 1]) behind that of dx, in dy, and channel where[k, 2] of its group.
    """
    k, o = 0, c // cg * og
    steps[0] = 0
    for f in range(v.sh * v.sw):
        a, b = f // v.sw + v.ph, f % v.sw + v.pw
        for i in range(v.kh):
            for j in range(v.kw):
                if (a - i * v.dh) % v.sh != 0 or (b - j * v.dw) % v.sw != 0:
                    continue
                for out in range(og):
                    where[k, 0], where[k, 1] = (a - i * v.dh) // v.sh, (b - j * v.dw) // v.sw
                    where[k, 2] = out
                    for x in range(c):
                        of = ((i * v.kw + j) * cg + x % cg) * o + x // cg * og + out
                        turned[k * c + x] = w[of]
                    k += 1
        steps[f + 1] = k


@fused
def grouped_backward(address, zero):
    """dx, dw and the sums of the norm in front, of the gradient of what the norm behind made.

    If there is no place for dx, it is left out.
    """
    r = record_at(address)
    n, h, wd, c, o, groups, images = r.n, r.h, r.wd, r.c, r.o, r.groups, r.images
    v, x_row, dy_row, dx_row = r.window, r.x_row, r.dy_row, r.dx_row
    relu, behind_relu = r.before.relu != 0, r.behind.relu != 0
    ho, wo, phases, cg, og = v.ho, v.wo, v.sh * v.sw, c // groups, o // groups
    x, y, dy, dx, more, sums = tensors_of(r, zero)
    k, taken = v.kh * v.kw * cg, v.kh * v.kw * og
    table = table_of(r.before, c, r.x_period, x, zero)
    after = table_of(r.behind, o, r.period, x, zero)
    slopes, w, none = slopes_of(r.behind, o, after), floats(r.w, k * o, zero), table[:, :0]
    # the images
    high, width = side(ho, v.sh, v.kh, v.dh), side(wo, v.sw, v.kw, v.dw)
    image = high * width
    frame = scratch(images * image * c + SLACK, x)
    most = whole_tiles(images * ho * wo)
    rows, spare = np.empty(most, np.int64), np.empty(most, np.int64)
    cols, part_out = np.empty(whole_tiles(k), np.int64), np.arange(whole_tiles(k)) * LANES
    part, dw = scratch(part_out.size * LANES, x), np.zeros((k, o))
    # the gradient
    top, bottom = borders(h, ho, v.sh, v.kh, v.dh, v.ph)
    left, right = borders(wd, wo, v.sw, v.kw, v.dw, v.pw)
    dy_high, dy_width = top + ho + bottom, left + wo + right
    dy_image = dy_high * dy_width
    sy, dy_frame = scratch(images * ho * wo * o, x), scratch(images * dy_image * o + SLACK, x)
    most = max(image * cg, dy_image * og)
    planes, index = scratch(images * most * LANES, x), np.empty(max(cg, og) * LANES, np.int32)
    turned, steps = scratch(taken * c, x), np.empty(phases + 1, np.int64)
    where, taps = np.empty((taken, 3), np.int64), np.empty(taken, np.int64)
    _turned(turned, steps, where, v, w, cg, og, c)
    most = images * h * wd + phases * 2 * ROWS
    dx_rows, dx_out = np.empty(most, np.int64), np.empty(most, np.int64)
    phase, zeros = np.empty((phases, 2), np.int64), np.zeros(LANES, x.dtype)
    placed = 0
    for first in range(0, n, images):
        count, at, of = min(images, n - first), first * h * wd, first * ho * wo
        m, pixels = count * ho * wo, count * h * wd
        if count != placed:
            place_pixels(rows, spare, count, ho, wo, image * LANES, v.sh * width * LANES,
                         v.sw * LANES, 1)  # fmt: skip
            place_plane_taps(cols, v.kh, v.kw, cg, v.dh * width * LANES, v.dw * LANES,
                             count * image * LANES)  # fmt: skip
            place_phases(dx_rows, dx_out, phase, count, v, (h, wd), dy_image * LANES,
                         dy_width * LANES, LANES, dx_row)  # fmt: skip
            for i in range(taken):
                pixel = (where[i, 0] + top) * dy_width + where[i, 1] + left
                taps[i] = (pixel + where[i, 2] * count * dy_image) * LANES
            placed = count
        gradient_block(sy, dy, of, dy_row, y, m, o, after, slopes, behind_relu)
        for i in range(count):
            lay(frame, i * image * c, x, (at + i * h * wd) * x_row, x_row, -v.ph, high, h, wd, c,
                v.pw, width, table, relu)  # fmt: skip
            lay(dy_frame, i * dy_image * o, sy, i * ho * wo * o, o, -top, dy_high, ho, wo, o, left,
                dy_width, none, relu)  # fmt: skip
        for start in range(0, o, LANES):
            o0 = min(start, o - LANES)
            spread_planes(planes, frame, index, o0, og, cg, count * image, c)
            multiply_lanes(part, part_out, 0, planes, cols, rows, sy, o0, o, k, m, zeros)
            for i in range(k):
                for j in range(start - o0, LANES):
                    dw[i, o0 + j] += part[i * LANES + j]
        if r.dx == 0:
            continue
        here = dx[at * dx_row : (at + pixels - 1) * dx_row + c]
        for start in range(0, c, LANES):
            c0 = min(start, c - LANES)
            spread_planes(planes, dy_frame, index, c0, cg, og, count * dy_image, o)
            for f in range(phases):
                to, inside = phase[f, 0], phase[f, 1]
                multiply_lanes(
                    here, dx_out[to:], c0, planes, dx_rows[to:], taps[steps[f] : steps[f + 1]],
                    turned, steps[f] * c + c0, c, inside, steps[f + 1] - steps[f], zeros,
                )  # fmt: skip
        if more.size > 0:
            add(here, dx_row, more[at * c : (at + pixels) * c], pixels, c)
        if table.size > 0:
            add_backward_sums(sums, here, x[at * c : (at + pixels) * c], table, relu)
    if table.size > 0:
        finish_backward_sums(sums, table)
    out = floats(r.dw, k * o, zero)
    for i in range(k):
        for j in range(o):
            out[i * o + j] = dw[i, j]
