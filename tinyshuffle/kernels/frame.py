"""A convolution with any window between two batch norms, a few images through everything.

The normalised images are laid into *frames*, which have zeros around them, so that every window
lies inside; frames are small enough to stay in the cache. The products read them where they lie
(:mod:`tinyshuffle.kernels.frame_tile`): nothing is copied for each window. Images without a norm
in front and without padding are read in place, without a frame.

See :mod:`tinyshuffle.plan.fused` for what stands around the convolution, and
:mod:`tinyshuffle.kernels.frame_back` for the way back.
"""

from __future__ import annotations

import numpy as np

from .batch_norm import normalise_run, table_of
from .frame_tile import multiply_gathered, pad, whole_tiles
from .jit import exact_part, fused, load, scratch
from .norm_pointwise import panels_of, unpad
from .record import doubles, floats, record_at
from .stage import finish, folding, stage
from .tile import RECTIFY, SHIFT, WRITE, packed, row_of

__all__ = ["conv", "lay", "place_pixels", "place_taps", "side"]


@exact_part
def side(outputs, stride, window, dilation):
    """Return how many pixels so many outputs see along one axis."""
    return (outputs - 1) * stride + (window - 1) * dilation + 1


@exact_part
def lay(frame, to, x, at, x_row, first, rows, h, wd, c, left, width, table, relu):
    """Write rows of pixels of an image (H, W, C), normalised, to a frame, zeros around them.

    From row ``first`` on, which may be outside of the image, so many rows of ``width`` pixels each,
    of which ``left`` are in front of the image's; pixels of x are x_row apart.
    """
    zeros = np.zeros(16, x.dtype)
    none, size = load(zeros, 0), min(wd, width - left) * c
    for r in range(first, first + rows):
        row = frame[to : to + width * c]
        to += width * c
        if r < 0 or r >= h or size <= 0:
            row[:] = 0
            continue
        row[: left * c] = 0
        row[left * c + size :] = 0
        start, inner = at + r * wd * x_row, row[left * c : left * c + size]
        if table.size > 0:
            normalise_run(inner, x[start : start + size], table, relu, none)
        elif x_row == c:
            run = x[start : start + size]
            for i in range(size):
                inner[i] = run[i]
        else:
            for q in range(size // c):
                pixel, of = inner[q * c : (q + 1) * c], x[start + q * x_row :]
                for i in range(c):
                    pixel[i] = of[i]


@exact_part
def place_pixels(rows, out, images, ho, wo, image, line, pixel, width):
    """Write where the windows of all output pixels begin, and where the pixels are written.

    Images, rows of output pixels and output pixels are ``image``, ``line`` and ``pixel`` apart.
    """
    m = 0
    for n in range(images):
        for p in range(ho):
            for q in range(wo):
                rows[m], out[m] = n * image + p * line + q * pixel, m * width
                m += 1
    pad(rows, m)
    pad(out, m)


@exact_part
def place_taps(cols, kh, kw, channels, line, pixel):
    """Write how far behind its beginning the numbers of a window lie."""
    k = 0
    for i in range(kh):
        for j in range(kw):
            for channel in range(channels):
                cols[k] = i * line + j * pixel + channel
                k += 1
    pad(cols, k)


@fused
def conv(address, zero):
    """y = conv(norm(x)) and its sums; or y = norm(conv(x)) with a norm behind, and no sums."""
    r = record_at(address)
    n, h, wd, c, o, groups, images, block = r.n, r.h, r.wd, r.c, r.o, r.groups, r.images, r.block
    v, x_row, shuffle, relu = r.window, r.x_row, r.before.shuffle, r.before.relu != 0
    behind_relu, ho, wo = r.behind.relu != 0, v.ho, v.wo
    x, y = floats(r.x, (n * h * wd - 1) * x_row + c, zero), floats(r.y, n * ho * wo * o, zero)
    channels = o if r.sums != 0 else 0
    sums = doubles(r.sums, 3 * channels).reshape(3, channels)
    sums[:] = 0
    cg, og = c // groups, o // groups
    k, row = v.kh * v.kw * cg, row_of(og)
    table = table_of(r.before, c, r.x_period, x, zero)
    after = table_of(r.behind, o, r.period, x, zero)
    scale, shifts = folding(after, o)
    steps, end = k, WRITE
    if scale.size > 0:
        steps, end = k + 1, RECTIFY if behind_relu else SHIFT
    panels = panels_of(floats(r.w, k * o, zero), groups, k, og, o, 1, og, scale, shifts)
    first_line, last_line = r.first, r.last if r.last > 0 else ho  # which come out
    block = min(block, last_line - first_line)
    # in place: without a frame
    there = table.size == 0 and shuffle == 1 and v.ph == 0 and v.pw == 0
    width, pixel = side(wo, v.sw, v.kw, v.dw), c
    frame = scratch(0 if there else images * side(block, v.sh, v.kh, v.dh) * width * c, x)
    st = scratch(h * wd * c if shuffle > 1 else 0, x)
    ss = scratch(st.size, x)
    if there:
        width, pixel = wd, x_row
    most = whole_tiles(images * block * wo)
    rows, out = np.empty(most, np.int64), np.empty(most, np.int64)
    cols = np.empty(whole_tiles(k), np.int64)
    place_taps(cols, v.kh, v.kw, cg, v.dh * width * pixel, v.dw * pixel)
    direct = row == og
    sy, apart = scratch(0 if direct else most * groups * row, x), o if direct else groups * row
    placed = 0
    for first in range(0, n, images):
        count = min(images, n - first)
        for line in range(first_line, last_line, block):
            lines = min(block, last_line - line)
            m, high = count * lines * wo, side(lines, v.sh, v.kh, v.dh)
            if m != placed:
                image = h * wd * pixel if there else high * width * c
                place_pixels(
                    rows, out, count, lines, wo, image, v.sh * width * pixel, v.sw * pixel, apart
                )
                placed = m
            a = frame
            if there:
                a = x[(first * h + line * v.sh) * wd * x_row :]
            for i in range(0 if there else count):
                image, to, top = (first + i) * h * wd * x_row, i * high * width * c, line * v.sh
                if shuffle > 1:
                    stage(st, ss, x, image, x_row, h * wd, c, table, relu, shuffle)
                    lay(frame, to, st, 0, c, top - v.ph, high, h, wd, c, v.pw, width, table[:, :0],
                        relu)  # fmt: skip
                else:
                    lay(frame, to, x, image, x_row, top - v.ph, high, h, wd, c, v.pw, width, table,
                        relu)  # fmt: skip
            begin = (first * ho + line) * wo * o
            here = y[begin : begin + m * o]
            # what comes next, a share of it with each group
            behind = first * h + (line + lines) * v.sh
            if line + lines == last_line:
                behind = (first + count) * h
            share = m // (wo * groups) * v.sh * wd * x_row
            for g in range(groups):
                target = here[g * og :] if direct else sy[g * row :]
                multiply_gathered(
                    target, out, end, a[g * cg :], rows, cols, panels[g * steps * packed(og) :],
                    m, k, og, (x, y), (behind * wd * x_row + g * share, begin + (m + g) * o),
                    (share, m * o // groups),
                )  # fmt: skip
            if not direct:
                unpad(here, o, sy, m, groups, og, row)
            # a ReLU behind what the weights have folded in came with the products
            finish(here, sums, r.period, after, behind_relu and scale.size == 0, scale)
