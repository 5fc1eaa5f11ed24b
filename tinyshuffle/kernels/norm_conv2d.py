"""The stem of a net between two batch norms: a 3x3 convolution of RGB images, image by image.

See :mod:`tinyshuffle.plan.fused` for what stands around the convolution.
"""

from __future__ import annotations

import numpy as np

from .batch_norm import slopes_of, table_of
from .conv import stem_forward, stem_images, stem_weights
from .jit import LANES, fused, fused_part, scratch
from .record import doubles, floats, record_at
from .stage import finish, folded_weights, folding, gradient_block

__all__ = ["stem", "stem_backward"]


@fused
def stem(address, zero):
    """y = conv(x) and its sums; or y = norm(conv(x)) with a norm behind, and no sums."""
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
        finish(here, sums, r.period, after, behind_relu, scale)


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
