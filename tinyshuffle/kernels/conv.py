"""Convolution: see ``ops.conv`` for the mathematics.

The inputs that an output pixel sees are laid side by side, a row for each output pixel ("im2col"),
so that the convolution is one matrix product, and its gradient two. A few rows of pixels at a time,
so that the copy stays in the cache and costs no memory to speak of.

Plain 3x3 convolutions of many channels are done in tiles (:mod:`tinyshuffle.kernels.winograd`).

The stem of a net, a 3x3 convolution of RGB images, would copy 27 numbers a pixel to multiply a
matrix that is too slim for BLAS; it has kernels of its own, 16 output channels at a time.
"""

from __future__ import annotations

import numpy as np

from .. import memory
from ..ops.arguments import check_channels
from ..ops.conv import conv2d_cost
from ..ops.windows import IntPair, output_size, pair
from ..values import flags
from .jit import LANES, exact, flat, fused, load, spread, store
from .pointwise import (
    add_bias,
    by_group,
    pointwise_conv2d,
    pointwise_conv2d_backward,
    product,
    weight_gradient,
    weights_by_group,
)
from .record import run
from .sums import sum_pixels
from .winograd import pays_in_tiles, winograd_work
from .winograd_back import winograd_backward_work

__all__ = ["conv2d", "conv2d_backward", "conv2d_cost"]

_COLUMNS = 2**18  # numbers to lay out at a time: 1 MB in float32
_PRODUCTS = 1024  # that one float32 sum takes in before it is added to a float64 one


def conv2d(
    x: np.ndarray,
    w: np.ndarray,
    b: np.ndarray | None = None,
    stride: IntPair = 1,
    padding: IntPair = 0,
    dilation: IntPair = 1,
    groups: int = 1,
) -> np.ndarray:
    """Convolve; see ``ops.conv2d``."""
    check_channels(x, w, groups)
    kh, kw, _, o = w.shape
    out = output_size(x.shape[1:3], (kh, kw), stride, padding, dilation)
    if _is_pointwise(w, padding):
        sh, sw = pair(stride)
        return pointwise_conv2d(x[:, ::sh, ::sw], w, b, groups)
    y = memory.empty((x.shape[0], *out, o), x.dtype)
    if pays_in_tiles(w.shape, x.shape, stride, padding, dilation, groups):
        run(winograd_work(y, x, w))
        if b is not None:
            add_bias(y, b)
        return y
    wg, rows = weights_by_group(w, groups), y.reshape(-1, out[1], o)  # (N·Ho, Wo, O)
    geometry = (*out, kh, kw, *pair(stride), *pair(padding), *pair(dilation), groups)
    if _is_stem(w, dilation, groups):
        xp = _padded(x, padding)
        bf = np.zeros(o, x.dtype) if b is None else flat(b, x.dtype, (o,))
        wide, wf = _wide(y, copy=False), flat(_wide(w), x.dtype)
        stem_forward(wide.reshape(-1), xp.reshape(-1), wf, _wide(bf), *_frame(xp, y), *pair(stride))
        if wide is not y:
            y[...] = wide[..., :o]
        return y
    xf, columns = flat(x, x.dtype), _columns(x, rows, kh * kw)
    for i in range(0, len(rows), len(columns)):
        part = rows[i : i + len(columns)]
        im2col(columns.reshape(-1), xf, i, len(part), *x.shape[1:], *geometry)
        product(_by_group(columns, part, groups), wg, by_group(part, groups))
    if b is not None:
        add_bias(y, b)
    return y


@flags
def conv2d_backward(
    dy: np.ndarray,
    x: np.ndarray,
    w: np.ndarray,
    stride: IntPair = 1,
    padding: IntPair = 0,
    dilation: IntPair = 1,
    groups: int = 1,
    bias: bool = True,
) -> tuple[np.ndarray, np.ndarray, np.ndarray | None]:
    """Return (dx, dw, db); see ``ops.conv2d_backward``."""
    check_channels(x, w, groups)
    kh, kw, _, o = w.shape
    out = output_size(x.shape[1:3], (kh, kw), stride, padding, dilation)
    if _is_pointwise(w, padding):
        sh, sw = pair(stride)
        dxs, dw, db = pointwise_conv2d_backward(dy, x[:, ::sh, ::sw], w, groups, bias)
        if (sh, sw) == (1, 1):
            return dxs, dw, db
        dx = memory.zeros(x.shape, x.dtype)
        dx[:, ::sh, ::sw] = dxs
        return dx, dw, db
    rows = flat(dy, x.dtype, (x.shape[0], *out, o)).reshape(-1, out[1], o)  # (N·Ho, Wo, O)
    if _is_stem(w, dilation, groups):
        dx, dw = _stem_backward(rows, x, w, out, pair(stride), padding)
        return dx, dw, sum_pixels(rows).astype(dy.dtype) if bias else None
    if pays_in_tiles(w.shape, x.shape, stride, padding, dilation, groups):
        dx, dw = memory.empty(x.shape, x.dtype), memory.empty(w.shape, x.dtype)
        run(winograd_backward_work(dx, dw, rows, x, w))
        return dx, dw, sum_pixels(rows).astype(dy.dtype) if bias else None
    dx, dw = memory.zeros(x.shape, x.dtype), memory.zeros(w.shape, x.dtype)
    wt, dwg = weights_by_group(w, groups).transpose(0, 2, 1), weights_by_group(dw, groups)
    geometry = (*out, kh, kw, *pair(stride), *pair(padding), *pair(dilation), groups)
    xf, dxf, dwt = flat(x, x.dtype), dx.reshape(-1), memory.empty(dwg.shape, x.dtype)
    columns = _columns(x, rows, kh * kw)
    for i in range(0, len(rows), len(columns)):
        part = rows[i : i + len(columns)]
        cg, dyg = _by_group(columns, part, groups), by_group(part, groups)
        im2col(columns.reshape(-1), xf, i, len(part), *x.shape[1:], *geometry)
        weight_gradient(cg, dyg, dwt)
        dwg += dwt
        product(dyg, wt, cg)
        col2im(dxf, columns.reshape(-1), i, len(part), *x.shape[1:], *geometry)
    return dx, dw, sum_pixels(rows).astype(dy.dtype) if bias else None


def _stem_backward(
    rows: np.ndarray,
    x: np.ndarray,
    w: np.ndarray,
    out: tuple[int, int],
    stride: tuple[int, int],
    padding: IntPair,
) -> tuple[np.ndarray, np.ndarray]:
    """Return (dx, dw), given dy as ``rows`` (N·Ho, Wo, O)."""
    (_, h, wd, _), (ph, pw), o = x.shape, pair(padding), w.shape[-1]
    xp, sums = _padded(x, padding), np.zeros((27, max(o, LANES)))
    frame = (*xp.shape[:3], *out)
    stem_weights(sums, _wide(rows).reshape(-1), xp.reshape(-1), *frame, *stride)
    wt = np.zeros((3, o, LANES), x.dtype)
    wt[..., :9] = w.reshape(3, 9, o).transpose(0, 2, 1)  # (3, O, 9)
    dxp = memory.zeros(xp.shape, x.dtype)
    stem_images(dxp.reshape(-1), rows.reshape(-1), wt.reshape(-1), o, *frame, *stride)
    dx = memory.empty(x.shape, x.dtype)
    dx[...] = dxp[:, ph : ph + h, pw : pw + wd]
    return dx, sums[:, :o].astype(x.dtype).reshape(w.shape)


def _is_pointwise(w: np.ndarray, padding: IntPair) -> bool:
    return w.shape[:2] == (1, 1) and pair(padding) == (0, 0)


def _is_stem(w: np.ndarray, dilation: IntPair, groups: int) -> bool:
    plain = pair(dilation) == (1, 1) and groups == 1
    return plain and w.shape[:3] == (3, 3, 3)


def _wide(a: np.ndarray, copy: bool = True) -> np.ndarray:
    """Return ``a`` (…, O) with channels of zeros behind, if it has less than LANES of them.

    Without a copy, only an array of that shape.
    """
    o = a.shape[-1]
    if o >= LANES:
        return a
    wide = memory.empty((*a.shape[:-1], LANES), a.dtype)
    if copy:
        wide[..., :o] = a
        wide[..., o:] = 0
    return wide


def _padded(x: np.ndarray, padding: IntPair) -> np.ndarray:
    (n, h, w, c), (ph, pw) = x.shape, pair(padding)
    xp = memory.zeros((n, h + 2 * ph, w + 2 * pw, c), x.dtype)
    xp[:, ph : ph + h, pw : pw + w] = x
    return xp


def _frame(xp: np.ndarray, y: np.ndarray) -> tuple[int, ...]:
    """N, the height and width of the padded input, and those of the output."""
    return (*xp.shape[:3], *y.shape[1:3])


def _columns(x: np.ndarray, rows: np.ndarray, taps: int) -> np.ndarray:
    """Room for the columns of as many rows of output pixels as suit the cache: (rows, …)."""
    row = rows.shape[1] * taps * x.shape[-1]
    return memory.empty((min(len(rows), max(1, _COLUMNS // row)), row), x.dtype)


def _by_group(columns: np.ndarray, rows: np.ndarray, groups: int) -> np.ndarray:
    """The columns of some rows of output pixels as (G, M, Kh·Kw·Cg)."""
    m = rows.shape[0] * rows.shape[1]
    return columns[: len(rows)].reshape(m, groups, -1).transpose(1, 0, 2)


# The columns of an output pixel are (G, Kh, Kw, Cg). With one group and no dilation a row of the
# window is one run of numbers in x as well; otherwise it goes pixel by pixel and group by group.


@exact
def im2col(columns, x, first, rows, h, w, c, ho, wo, kh, kw, sh, sw, ph, pw, dh, dw, groups):
    taps, cg = kh * kw, c // groups
    for r in range(rows):
        n, p = (first + r) // ho, (first + r) % ho
        for q in range(wo):
            to = columns[(r * wo + q) * taps * c : (r * wo + q + 1) * taps * c]
            for i in range(kh):
                row, col = p * sh + i * dh - ph, q * sw - pw
                inside = 0 <= row < h
                at = (n * h + row) * w
                if groups == 1 and dw == 1:
                    run = to[i * kw * c : (i + 1) * kw * c]
                    if inside and col >= 0 and col + kw <= w:
                        source = x[(at + col) * c : (at + col + kw) * c]
                        for k in range(kw * c):
                            run[k] = source[k]
                        continue
                    run[:] = 0
                    if inside:
                        j0, j1 = max(0, -col), min(kw, w - col)
                        run = run[j0 * c :]
                        source = x[(at + col + j0) * c : (at + col + max(j0, j1)) * c]
                        for k in range(source.size):
                            run[k] = source[k]
                    continue
                for j in range(kw):
                    here = inside and 0 <= col + j * dw < w
                    for g in range(groups):
                        run = to[(g * taps + i * kw + j) * cg :]
                        if here:
                            source = x[(at + col + j * dw) * c + g * cg :]
                            for k in range(cg):
                                run[k] = source[k]
                        else:
                            run[:cg] = 0


@exact
def col2im(dx, columns, first, rows, h, w, c, ho, wo, kh, kw, sh, sw, ph, pw, dh, dw, groups):
    taps, cg = kh * kw, c // groups
    for r in range(rows):
        n, p = (first + r) // ho, (first + r) % ho
        for q in range(wo):
            of = columns[(r * wo + q) * taps * c : (r * wo + q + 1) * taps * c]
            for i in range(kh):
                row, col = p * sh + i * dh - ph, q * sw - pw
                if row < 0 or row >= h:
                    continue
                at = (n * h + row) * w
                if groups == 1 and dw == 1:
                    j0, j1 = max(0, -col), min(kw, w - col)
                    run = of[(i * kw + j0) * c :]
                    target = dx[(at + col + j0) * c : (at + col + max(j0, j1)) * c]
                    for k in range(target.size):
                        target[k] += run[k]
                    continue
                for j in range(kw):
                    if 0 <= col + j * dw < w:
                        for g in range(groups):
                            run = of[(g * taps + i * kw + j) * cg :]
                            target = dx[(at + col + j * dw) * c + g * cg :]
                            for k in range(cg):
                                target[k] += run[k]


# The stem: x is padded; of a window's three rows, each is one run of nine numbers.


@fused
def stem_forward(y, x, w, b, n_images, h, wd, ho, wo, sh, sw):
    o, step = b.size, 3 * sw
    for n in range(n_images):
        for p in range(ho):
            for start in range(0, o, LANES):
                o0 = min(start, o - LANES)
                bias = load(b, o0)
                at, to = (n * h + p * sh) * wd * 3, (n * ho + p) * wo * o + o0
                for _ in range(wo // 4):  # four pixels for each weight that is read
                    v0, v1, v2, v3 = bias, bias, bias, bias
                    for i in range(3):
                        for t in range(9):
                            weight, k = load(w, (i * 9 + t) * o + o0), at + i * wd * 3 + t
                            v0 = v0 + spread(x, k) * weight
                            v1 = v1 + spread(x, k + step) * weight
                            v2 = v2 + spread(x, k + 2 * step) * weight
                            v3 = v3 + spread(x, k + 3 * step) * weight
                    store(y, to, v0)
                    store(y, to + o, v1)
                    store(y, to + 2 * o, v2)
                    store(y, to + 3 * o, v3)
                    at += 4 * step
                    to += 4 * o
                for _ in range(wo % 4):
                    v0 = bias
                    for i in range(3):
                        for t in range(9):
                            weight, k = load(w, (i * 9 + t) * o + o0), at + i * wd * 3 + t
                            v0 = v0 + spread(x, k) * weight
                    store(y, to, v0)
                    at += step
                    to += o


@fused
def stem_weights(sums, dy, x, n_images, h, wd, ho, wo, sh, sw):
    # sums (27, O), float64
    o, step = sums.shape[1], 3 * sw
    part = np.zeros(9 * LANES, dy.dtype)
    block = max(1, _PRODUCTS // wo)
    for n in range(n_images):
        for first in range(0, ho, block):
            last = min(first + block, ho)
            for start in range(0, o, LANES):
                o0 = min(start, o - LANES)
                for i in range(3):
                    part[:] = 0
                    g0, g1, g2 = load(part, 0), load(part, 0), load(part, 0)
                    g3, g4, g5 = g0, g0, g0
                    g6, g7, g8 = g0, g0, g0
                    for p in range(first, last):
                        at, of = (n * h + p * sh + i) * wd * 3, (n * ho + p) * wo * o + o0
                        for _ in range(wo):
                            d = load(dy, of)
                            g0 = g0 + spread(x, at) * d
                            g1 = g1 + spread(x, at + 1) * d
                            g2 = g2 + spread(x, at + 2) * d
                            g3 = g3 + spread(x, at + 3) * d
                            g4 = g4 + spread(x, at + 4) * d
                            g5 = g5 + spread(x, at + 5) * d
                            g6 = g6 + spread(x, at + 6) * d
                            g7 = g7 + spread(x, at + 7) * d
                            g8 = g8 + spread(x, at + 8) * d
                            at += step
                            of += o
                    store(part, 0, g0)
                    store(part, LANES, g1)
                    store(part, 2 * LANES, g2)
                    store(part, 3 * LANES, g3)
                    store(part, 4 * LANES, g4)
                    store(part, 5 * LANES, g5)
                    store(part, 6 * LANES, g6)
                    store(part, 7 * LANES, g7)
                    store(part, 8 * LANES, g8)
                    for t in range(9):
                        for k in range(start - o0, LANES):
                            sums[i * 9 + t, o0 + k] += part[t * LANES + k]


@fused
def stem_images(dx, dy, w, o, n_images, h, wd, ho, wo, sh, sw):
    # dx is padded; w (3, O, LANES) has nine numbers in each vector, and zeros
    step, line = 3 * sw, np.zeros(4 * LANES, dy.dtype)
    nothing = load(line, 0)
    for n in range(n_images):
        for p in range(ho):
            for i in range(3):
                at, of = (n * h + p * sh + i) * wd * 3, (n * ho + p) * wo * o
                for q in range(0, wo, 4):  # four pixels for each weight that is read
                    if q + 4 <= wo:
                        v0, v1, v2, v3 = nothing, nothing, nothing, nothing
                        for k in range(o):
                            weight = load(w, (i * o + k) * LANES)
                            v0 = v0 + spread(dy, of + k) * weight
                            v1 = v1 + spread(dy, of + o + k) * weight
                            v2 = v2 + spread(dy, of + 2 * o + k) * weight
                            v3 = v3 + spread(dy, of + 3 * o + k) * weight
                        store(line, 0, v0)
                        store(line, LANES, v1)
                        store(line, 2 * LANES, v2)
                        store(line, 3 * LANES, v3)
                    else:
                        for r in range(wo - q):
                            v0 = nothing
                            for k in range(o):
                                weight = load(w, (i * o + k) * LANES)
                                v0 = v0 + spread(dy, of + r * o + k) * weight
                            store(line, r * LANES, v0)
                    for r in range(min(4, wo - q)):
                        run = dx[at + r * step : at + r * step + 9]
                        for t in range(9):
                            run[t] += line[r * LANES + t]
                    at += 4 * step
                    of += 4 * o
