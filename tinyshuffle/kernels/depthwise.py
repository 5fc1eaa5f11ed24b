"""Depthwise convolution: see ``ops.depthwise`` for the mathematics.

The 3x3 kernels with padding 1 and stride 1 or 2, which is every one in the ShuffleNets, work on 16
channels at a time and walk along the rows with nine weights in registers, and in the backward pass
nine sums as well: then they wait for memory only. Above the first and below the last row they read
a row of zeros. If 16 does not divide C the last 16 channels overlap with those before.
"""

from __future__ import annotations

import numpy as np

from .. import memory
from ..ops.arguments import check_channels
from ..ops.depthwise import depthwise_conv2d_cost
from ..ops.windows import IntPair, output_size, pair
from ..values import flags
from .jit import LANES, flat, fused, fused_part, load, prefetch, store
from .sums import fold

__all__ = ["depthwise_conv2d", "depthwise_conv2d_backward", "depthwise_conv2d_cost"]

# Products that one float32 sum takes in before it is added to a float64 one.
_PRODUCTS = 1024


def depthwise_conv2d(
    x: np.ndarray,
    w: np.ndarray,
    b: np.ndarray | None = None,
    stride: IntPair = 1,
    padding: IntPair = 0,
    dilation: IntPair = 1,
) -> np.ndarray:
    """Convolve each channel with its own filter; see ``ops.depthwise_conv2d``."""
    check_channels(x, w, 1)
    (n, h, wd, c), dtype, (kh, kw) = x.shape, x.dtype, w.shape[:2]
    ho, wo = output_size((h, wd), (kh, kw), stride, padding, dilation)
    xf, wf = flat(x, dtype), flat(w, dtype)
    bf = np.zeros(c, dtype) if b is None else flat(b, dtype, (c,))
    y = memory.empty((n, ho, wo, c), dtype)
    special = special_stride(w.shape, stride, padding, dilation)
    if special:
        forward = forward_1 if special == 1 else forward_2
        zeros, nothing = np.zeros(wd * c, dtype), ((xf,), (x.size,))
        forward(y.reshape(-1), xf, wf, bf, zeros, n, h, wd, c, 0, ho, *nothing)
    else:
        window = (kh, kw, *pair(stride), *pair(padding), *pair(dilation))
        window_forward(y, xf.reshape(x.shape), wf.reshape(w.shape), bf, *window)
    return y


@flags
def depthwise_conv2d_backward(
    dy: np.ndarray,
    x: np.ndarray,
    w: np.ndarray,
    stride: IntPair = 1,
    padding: IntPair = 0,
    dilation: IntPair = 1,
    bias: bool = True,
) -> tuple[np.ndarray, np.ndarray, np.ndarray | None]:
    """Return (dx, dw, db); see ``ops.depthwise_conv2d_backward``. One pass over dy and x."""
    check_channels(x, w, 1)
    (n, h, wd, c), dtype, (kh, kw) = x.shape, x.dtype, w.shape[:2]
    ho, wo = output_size((h, wd), (kh, kw), stride, padding, dilation)
    dyf, xf, wf = flat(dy, dtype, (n, ho, wo, c)), flat(x, dtype), flat(w, dtype)
    sums = np.zeros((kh * kw + 1, c))  # dw and db, float64
    special = special_stride(w.shape, stride, padding, dilation)
    if special:
        dx = memory.empty(x.shape, dtype)
        backward = backward_1 if special == 1 else backward_2
        spare, part = np.zeros((2, wd * c), dtype), np.zeros((-(-c // LANES), 10 * LANES), dtype)
        nothing = (xf,), (x.size,)
        backward(dx.reshape(-1), sums, dyf, xf, wf, *spare, part, n, h, wd, c, *nothing)
    else:
        dx = memory.zeros(x.shape, dtype)
        window = (kh, kw, *pair(stride), *pair(padding), *pair(dilation))
        dy4, x4, w3 = dyf.reshape(dy.shape), xf.reshape(x.shape), wf.reshape(w.shape)
        window_backward(dx, sums, dy4, x4, w3, np.zeros(sums.shape, dtype), *window)
    sums = sums.astype(dtype)
    return dx, sums[:-1].reshape(w.shape), sums[-1] if bias else None


def special_stride(
    shape: tuple[int, ...], stride: IntPair, padding: IntPair, dilation: IntPair
) -> int:
    """The stride, 1 or 2, if there is a fast kernel for weights of this shape, else 0."""
    s = pair(stride)
    fits = shape[:2] == (3, 3) and pair(padding) == (1, 1) and pair(dilation) == (1, 1)
    return s[0] if fits and shape[2] >= LANES and s in ((1, 1), (2, 2)) else 0


@fused
def forward_1(y, x, w, b, zeros, n_images, height, width, c, first, last, ahead, places):
    # The rows `first` to `last` of each image that comes out. Meanwhile as much of each of the
    # arrays `ahead`, from `places` on, is fetched as what comes next will want.
    # A window's columns are l(eft), m(iddle), r(ight), its rows 0, 1, 2.
    line = width * c
    zero = load(zeros, 0)
    for n in range(n_images):
        for p in range(first, last):
            j = (n * height + p) * line
            above, i = (x, j - line) if p > 0 else (zeros, 0)
            below, k = (x, j + line) if p < height - 1 else (zeros, 0)
            for start in range(0, c, LANES):
                c0 = min(start, c - LANES)
                at0, at1, at2 = i + c0, j + c0, k + c0
                bias = load(b, c0)
                w00, w01, w02 = load(w, c0), load(w, c0 + c), load(w, c0 + 2 * c)
                w10, w11, w12 = load(w, c0 + 3 * c), load(w, c0 + 4 * c), load(w, c0 + 5 * c)
                w20, w21, w22 = load(w, c0 + 6 * c), load(w, c0 + 7 * c), load(w, c0 + 8 * c)
                l0, l1, l2 = zero, zero, zero
                m0, m1, m2 = load(above, at0), load(x, at1), load(below, at2)
                fetched = j + start * width  # a cache line a step
                for _ in range(width - 1):
                    for f in range(len(ahead)):
                        prefetch(ahead[f], places[f] + fetched)
                    fetched += LANES
                    r0, r1, r2 = load(above, at0 + c), load(x, at1 + c), load(below, at2 + c)
                    v = bias + l0 * w00 + m0 * w01 + r0 * w02 + l1 * w10 + m1 * w11 + r1 * w12
                    store(y, at1, v + l2 * w20 + m2 * w21 + r2 * w22)
                    l0, l1, l2 = m0, m1, m2
                    m0, m1, m2 = r0, r1, r2
                    at0 += c
                    at1 += c
                    at2 += c
                v = bias + l0 * w00 + m0 * w01 + l1 * w10 + m1 * w11 + l2 * w20 + m2 * w21
                store(y, at1, v)


@fused
def forward_2(y, x, w, b, zeros, n_images, height, width, c, first, last, ahead, places):
    line = width * c
    zero = load(zeros, 0)
    ho, wo = (height + 1) // 2, (width + 1) // 2
    for n in range(n_images):
        for p in range(first, last):
            j = (n * height + 2 * p) * line
            above, i = (x, j - line) if p > 0 else (zeros, 0)
            below, k = (x, j + line) if 2 * p + 1 < height else (zeros, 0)
            for start in range(0, c, LANES):
                c0 = min(start, c - LANES)
                at0, at1, at2, to = i + c0, j + c0, k + c0, (n * ho + p) * wo * c + c0
                bias = load(b, c0)
                w00, w01, w02 = load(w, c0), load(w, c0 + c), load(w, c0 + 2 * c)
                w10, w11, w12 = load(w, c0 + 3 * c), load(w, c0 + 4 * c), load(w, c0 + 5 * c)
                w20, w21, w22 = load(w, c0 + 6 * c), load(w, c0 + 7 * c), load(w, c0 + 8 * c)
                l0, l1, l2 = zero, zero, zero
                fetched = j + 2 * start * width
                for _ in range(width // 2):
                    for _ in range(4):
                        for f in range(len(ahead)):
                            prefetch(ahead[f], places[f] + fetched)
                        fetched += LANES
                    m0, m1, m2 = load(above, at0), load(x, at1), load(below, at2)
                    r0, r1, r2 = load(above, at0 + c), load(x, at1 + c), load(below, at2 + c)
                    v = bias + l0 * w00 + m0 * w01 + r0 * w02 + l1 * w10 + m1 * w11 + r1 * w12
                    store(y, to, v + l2 * w20 + m2 * w21 + r2 * w22)
                    l0, l1, l2 = r0, r1, r2
                    at0 += 2 * c
                    at1 += 2 * c
                    at2 += 2 * c
                    to += c
                if width % 2:
                    m0, m1, m2 = load(above, at0), load(x, at1), load(below, at2)
                    v = bias + l0 * w00 + m0 * w01 + l1 * w10 + m1 * w11 + l2 * w20 + m2 * w21
                    store(y, to, v)


@fused
def window_forward(y, x, w, b, kh, kw, sh, sw, ph, pw, dh, dw):
    n_images, height, width, c = x.shape
    for n in range(n_images):
        for p in range(y.shape[1]):
            for q in range(y.shape[2]):
                for k in range(c):
                    y[n, p, q, k] = b[k]
                for i in range(kh):
                    row = p * sh + i * dh - ph
                    if row < 0 or row >= height:
                        continue
                    for j in range(kw):
                        col = q * sw + j * dw - pw
                        if 0 <= col < width:
                            for k in range(c):
                                y[n, p, q, k] += x[n, row, col, k] * w[i, j, k]


@fused
def backward_1(
    dx, sums, dy, x, w, zeros, spare, part, n_images, height, width, c, ahead, places
):  # fmt: skip
    # Pixel (p, q) of x met tap (i, j) in the window around (p + 1 - i, q + 1 - j). So rows 0, 1, 2
    # of dy stand below, at and above p, and r(ight), m(iddle), l(eft) belong to taps 0, 1, 2.
    # The arrays `ahead`, from `places` on, are fetched as in forward_1.
    line = width * c
    zero = load(zeros, 0)
    block = max(1, 64 // width)  # rows to walk before the sums in registers change
    products = 0
    for n in range(n_images):
        for first in range(0, height, block):
            last = min(first + block, height)
            for start in range(0, c, LANES):
                c0 = min(start, c - LANES)
                w00, w01, w02 = load(w, c0), load(w, c0 + c), load(w, c0 + 2 * c)
                w10, w11, w12 = load(w, c0 + 3 * c), load(w, c0 + 4 * c), load(w, c0 + 5 * c)
                w20, w21, w22 = load(w, c0 + 6 * c), load(w, c0 + 7 * c), load(w, c0 + 8 * c)
                sum_ = part[start // LANES]
                g00, g01, g02 = load(sum_, 0), load(sum_, LANES), load(sum_, 2 * LANES)
                g10, g11, g12 = load(sum_, 3 * LANES), load(sum_, 4 * LANES), load(sum_, 5 * LANES)
                g20, g21, g22 = load(sum_, 6 * LANES), load(sum_, 7 * LANES), load(sum_, 8 * LANES)
                gb = load(sum_, 9 * LANES)
                for p in range(first, last):
                    j = (n * height + p) * line
                    below, i = (dy, j + line) if p < height - 1 else (zeros, 0)
                    above, k = (dy, j - line) if p > 0 else (zeros, 0)
                    at0, at1, at2 = i + c0, j + c0, k + c0
                    l0, l1, l2 = zero, zero, zero
                    m0, m1, m2 = load(below, at0), load(dy, at1), load(above, at2)
                    fetched = j + start * width
                    for q in range(width):
                        for f in range(len(ahead)):
                            prefetch(ahead[f], places[f] + fetched)
                        fetched += LANES
                        r0, r1, r2 = zero, zero, zero
                        if q < width - 1:
                            r0, r1 = load(below, at0 + c), load(dy, at1 + c)
                            r2 = load(above, at2 + c)
                        v = load(x, at1)
                        g00 = g00 + v * r0
                        g01 = g01 + v * m0
                        g02 = g02 + v * l0
                        g10 = g10 + v * r1
                        g11 = g11 + v * m1
                        g12 = g12 + v * l1
                        g20 = g20 + v * r2
                        g21 = g21 + v * m2
                        g22 = g22 + v * l2
                        gb = gb + m1
                        d = r0 * w00 + m0 * w01 + l0 * w02 + r1 * w10 + m1 * w11 + l1 * w12
                        store(dx, at1, d + r2 * w20 + m2 * w21 + l2 * w22)
                        l0, l1, l2 = m0, m1, m2
                        m0, m1, m2 = r0, r1, r2
                        at0 += c
                        at1 += c
                        at2 += c
                store(sum_, 0, g00)
                store(sum_, LANES, g01)
                store(sum_, 2 * LANES, g02)
                store(sum_, 3 * LANES, g10)
                store(sum_, 4 * LANES, g11)
                store(sum_, 5 * LANES, g12)
                store(sum_, 6 * LANES, g20)
                store(sum_, 7 * LANES, g21)
                store(sum_, 8 * LANES, g22)
                store(sum_, 9 * LANES, gb)
            products += (last - first) * width
            if products >= _PRODUCTS:
                _collect(sums, part, c)
                products = 0
    _collect(sums, part, c)


@fused_part
def _collect(sums, part, c):
    # part (C / 16, 10, 16) joins sums (10, C) and starts again from zero
    for start in range(0, c, LANES):
        c0 = min(start, c - LANES)
        chunk = part[start // LANES]
        for tap in range(10):
            for k in range(start - c0, LANES):  # lanes that overlap count once
                sums[tap, c0 + k] += chunk[tap * LANES + k]
        chunk[:] = 0


@fused
def backward_2(
    dx, sums, dy, x, w, zeros, spare, part, n_images, height, width, c, ahead, places
):  # fmt: skip
    # The pixels of x in blocks of four, (2p, 2q) to (2p + 1, 2q + 1). Those in even rows and
    # columns met one tap only, those in odd ones four: with l0 l1  the dy at (p, q), (p, q + 1),
    #                                                       b0 b1       (p + 1, q), (p + 1, q + 1).
    line = width * c
    zero = load(zeros, 0)
    ho, wo = (height + 1) // 2, (width + 1) // 2
    block = max(1, 64 // wo)
    products = 0
    for n in range(n_images):
        for first in range(0, ho, block):
            last = min(first + block, ho)
            for start in range(0, c, LANES):
                c0 = min(start, c - LANES)
                w00, w01, w02 = load(w, c0), load(w, c0 + c), load(w, c0 + 2 * c)
                w10, w11, w12 = load(w, c0 + 3 * c), load(w, c0 + 4 * c), load(w, c0 + 5 * c)
                w20, w21, w22 = load(w, c0 + 6 * c), load(w, c0 + 7 * c), load(w, c0 + 8 * c)
                sum_ = part[start // LANES]
                g00, g01, g02 = load(sum_, 0), load(sum_, LANES), load(sum_, 2 * LANES)
                g10, g11, g12 = load(sum_, 3 * LANES), load(sum_, 4 * LANES), load(sum_, 5 * LANES)
                g20, g21, g22 = load(sum_, 6 * LANES), load(sum_, 7 * LANES), load(sum_, 8 * LANES)
                gb = load(sum_, 9 * LANES)
                for p in range(first, last):
                    at = (n * ho + p) * wo * c + c0
                    below, bat = (dy, at + wo * c) if p < ho - 1 else (zeros, c0)
                    to = (n * height + 2 * p) * line + c0
                    from_odd, to_odd, odd_at = x, dx, to + line
                    if 2 * p + 1 == height:  # there is no odd row: read zeros, write nowhere
                        from_odd, to_odd, odd_at = zeros, spare, c0
                    l0, b0 = load(dy, at), load(below, bat)
                    fetched = (n * ho + p) * wo * c + start * wo
                    for q in range(wo):
                        for f in range(len(ahead)):  # those of x's size take four lines a step
                            lines = 1 if f < 2 else 4
                            for k in range(lines):
                                prefetch(ahead[f], places[f] + lines * fetched + k * LANES)
                        fetched += LANES
                        l1, b1 = zero, zero
                        if q < wo - 1:
                            l1, b1 = load(dy, at + c), load(below, bat + c)
                        v, u = load(x, to), load(from_odd, odd_at)
                        g11 = g11 + v * l0
                        g01 = g01 + u * b0
                        g21 = g21 + u * l0
                        gb = gb + l0
                        store(dx, to, l0 * w11)
                        store(to_odd, odd_at, b0 * w01 + l0 * w21)
                        if 2 * q + 1 < width:
                            v, u = load(x, to + c), load(from_odd, odd_at + c)
                            g10 = g10 + v * l1
                            g12 = g12 + v * l0
                            g00 = g00 + u * b1
                            g02 = g02 + u * b0
                            g20 = g20 + u * l1
                            g22 = g22 + u * l0
                            store(dx, to + c, l1 * w10 + l0 * w12)
                            store(to_odd, odd_at + c, b1 * w00 + b0 * w02 + l1 * w20 + l0 * w22)
                        l0, b0 = l1, b1
                        at += c
                        bat += c
                        to += 2 * c
                        odd_at += 2 * c
                store(sum_, 0, g00)
                store(sum_, LANES, g01)
                store(sum_, 2 * LANES, g02)
                store(sum_, 3 * LANES, g10)
                store(sum_, 4 * LANES, g11)
                store(sum_, 5 * LANES, g12)
                store(sum_, 6 * LANES, g20)
                store(sum_, 7 * LANES, g21)
                store(sum_, 8 * LANES, g22)
                store(sum_, 9 * LANES, gb)
            products += (last - first) * wo
            if products >= _PRODUCTS:
                _collect(sums, part, c)
                products = 0
    _collect(sums, part, c)


@fused
def window_backward(dx, sums, dy, x, w, part, kh, kw, sh, sw, ph, pw, dh, dw):
    # dx starts as zeros; part and sums are (Kh·Kw + 1, C), the last row is db's
    n_images, height, width, c = x.shape
    products = 0
    for n in range(n_images):
        for p in range(dy.shape[1]):
            for q in range(dy.shape[2]):
                for k in range(c):
                    part[kh * kw, k] += dy[n, p, q, k]
                for i in range(kh):
                    row = p * sh + i * dh - ph
                    if row < 0 or row >= height:
                        continue
                    for j in range(kw):
                        col = q * sw + j * dw - pw
                        if 0 <= col < width:
                            tap = i * kw + j
                            for k in range(c):
                                dx[n, row, col, k] += dy[n, p, q, k] * w[i, j, k]
                                part[tap, k] += dy[n, p, q, k] * x[n, row, col, k]
            products += dy.shape[2]
            if products >= _PRODUCTS:
                fold(sums, part)
                products = 0
    fold(sums, part)
