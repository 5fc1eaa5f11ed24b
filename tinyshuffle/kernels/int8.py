"""Convolutions of bytes: see ``ops.int8`` for the mathematics.

Every convolution but the 3x3 depthwise one is a product of rows: those of the image, or those that
its windows are copied to. Eight rows at a time are widened to 16 bits; each pair of their numbers
meets a pair of weights of 16 output channels at a time (:mod:`.pairs`).
"""

from __future__ import annotations

import numpy as np

from .. import memory
from ..ops import int8_range, int8_weights
from ..ops.arguments import IntPair, check_groups, check_real
from ..ops.int8 import check_bytes, check_conv
from ..ops.windows import is_pointwise, output_size, pad, pair
from .jit import LANES, exact, exact_part
from .pairs import add_each, add_pair, load_sums, store_sums

__all__ = [
    "int8_concat", "int8_conv2d", "int8_dequantise", "int8_linear", "int8_quantise", "int8_range",
    "int8_weights",
]  # fmt: skip

_ROWS = 8


def int8_conv2d(
    x: np.ndarray,
    w: np.ndarray,
    b: np.ndarray,
    rescale: np.ndarray,
    zeros: tuple[int, int],
    stride: IntPair = 1,
    padding: IntPair = 0,
    dilation: IntPair = 1,
    groups: int = 1,
) -> np.ndarray:
    """Convolve bytes; see ``ops.int8_conv2d``."""
    groups = check_conv(x, w, b, rescale, groups)
    (kh, kw), o, (n, h, width, c) = w.shape[:2], w.shape[-1], x.shape
    ho, wo = output_size((h, width), (kh, kw), stride, padding, dilation)
    y = memory.empty((n, ho, wo, o), np.dtype(np.uint8))
    out = y.reshape(-1), np.ascontiguousarray(b), np.ascontiguousarray(rescale)
    (sh, sw), zero = pair(stride), np.float32(zeros[1])
    if w.ndim == 3 and (kh, kw) == (3, 3) and pair(dilation) == (1, 1):
        xp = np.ascontiguousarray(pad(x, padding, zeros[0]))
        sides = (n, *xp.shape[1:3], ho, wo, sh, sw)
        _depthwise(*out, xp.reshape(-1), np.ascontiguousarray(w).reshape(-1), zero, o, *sides)
        return y
    weights = np.ascontiguousarray(w).reshape(-1, o)  # (terms, O)
    rows, terms = np.ascontiguousarray(x).reshape(-1), len(weights)
    length = terms  # of a row, which is a group's
    if not is_pointwise(w.shape, stride, padding):
        length += terms % 2
        rows = memory.empty((n, ho, wo, groups, length), x.dtype)
        xp, cg, (dh, dw) = pad(x, padding, zeros[0]), c // groups, pair(dilation)
        image, row, column, channel = xp.strides
        seen = np.lib.stride_tricks.as_strided(
            xp, (n, ho, wo, groups, kh, kw, cg),
            (image, row * sh, column * sw, channel * cg, row * dh, column * dw, channel),
        )  # fmt: skip
        rows[..., :terms].reshape(seen.shape)[...] = seen  # a view: only the last axis is split
        rows = rows.reshape(-1)
    for g in range(groups):
        _products(*out, rows, weights.reshape(-1), zero, n * ho * wo, terms, length, o, g, groups)
    return y


def int8_linear(x: np.ndarray, w: np.ndarray, b: np.ndarray, scale: np.ndarray) -> np.ndarray:
    """Multiply bytes; see ``ops.int8_linear``."""
    check_conv(x[:, None, None], w[None, None], b, scale, 1)
    (n, c), o = x.shape, w.shape[1]
    sums = np.empty((n, o), np.int32)
    flat, weights = (np.ascontiguousarray(a).reshape(-1) for a in (x, w))
    _sums_of_all(sums.reshape(-1), flat, weights, n, c, o)
    return (sums + b).astype(np.float32) * scale


def int8_concat(parts: list[np.ndarray], groups: int = 1) -> np.ndarray:
    """Put bytes side by side and shuffle them; see ``ops.int8_concat``."""
    check_bytes(*parts)
    whole = np.concatenate(parts, axis=-1)
    check_groups(groups, whole.shape[-1])
    if groups == 1:
        return whole
    y = memory.empty(whole.shape, whole.dtype)
    _shuffle(y.reshape(-1), whole.reshape(-1), groups, whole.shape[-1] // groups)
    return y


def int8_quantise(x: np.ndarray, scale: np.float32, zero: int) -> np.ndarray:
    """Return ``x`` as bytes; see ``ops.int8_quantise``."""
    check_real(x)
    y = memory.empty(x.shape, np.dtype(np.uint8))
    flat = np.ascontiguousarray(x, np.float32).reshape(-1)
    _to_bytes(y.reshape(-1), flat, np.float32(scale), zero)
    return y


def int8_dequantise(q: np.ndarray, scale: np.float32, zero: int) -> np.ndarray:
    """Return what bytes stand for; see ``ops.int8_dequantise``."""
    check_bytes(q)
    y = memory.empty(q.shape, np.dtype(np.float32))
    _to_numbers(y.reshape(-1), np.ascontiguousarray(q).reshape(-1), np.float32(scale), zero)
    return y


@exact
def _to_bytes(y, x, scale, zero):
    half = np.float32(0.5)
    for k in range(y.size):
        v = x[k] / scale + np.float32(zero)
        y[k] = np.uint8(min(max(v, np.float32(0)), np.float32(255)) + half)


@exact
def _to_numbers(y, q, scale, zero):
    for k in range(y.size):
        y[k] = scale * (np.float32(q[k]) - np.float32(zero))


@exact
def _products(y, b, rescale, x, w, zero, m, terms, length, o, group, groups):
    og = o // groups
    first_o = group * og
    packed = _packed(w, terms, o, first_o, og)
    wide = np.zeros(_ROWS * (terms + 1), np.int16)
    sums, factor = np.empty(_ROWS * og + LANES, np.int32), np.empty(_ROWS * og, np.float32)
    bias = np.zeros(og + LANES, np.int32)
    bias[:og] = b[first_o : first_o + og]
    for i in range(_ROWS * og):
        factor[i] = rescale[first_o + i % og]
    for start in range(0, m, _ROWS):
        count = min(_ROWS, m - start)
        at = (start * groups + group) * length
        _sums(sums, bias, wide, x, packed, at, groups * length, count, terms, og)
        if groups == 1:  # the rows are one piece
            _round(y[start * o : (start + count) * o], sums, factor, zero)
        else:
            for p in range(count):
                to = (start + p) * o + first_o
                _round(y[to : to + og], sums[p * og :], factor, zero)


@exact
def _sums_of_all(out, x, w, m, terms, o):
    packed, bias = _packed(w, terms, o, 0, o), np.zeros(o + LANES, np.int32)
    wide, sums = np.zeros(_ROWS * (terms + 1), np.int16), np.empty(_ROWS * o + LANES, np.int32)
    for start in range(0, m, _ROWS):
        count = min(_ROWS, m - start)
        _sums(sums, bias, wide, x, packed, start * terms, terms, count, terms, o)
        for k in range(count * o):
            out[start * o + k] = sums[k]


@exact_part
def _packed(w, terms, o, first, og):
    # weights (terms, O), of which og columns are wanted, as (blocks, pairs of terms, LANES, 2)
    pairs, blocks = (terms + 1) // 2, -(-og // LANES)
    packed = np.zeros(blocks * pairs * 2 * LANES, np.int16)
    for i in range(terms):
        row = w[i * o + first : i * o + first + og]
        for k in range(og):
            block, lane = k // LANES, k % LANES
            packed[((block * pairs + i // 2) * LANES + lane) * 2 + i % 2] = row[k]
    return packed


@exact_part
def _sums(sums, bias, wide, x, packed, at, distance, count, terms, og):
    # sums (ROWS, O / G) of the rows that lie ``distance`` apart in x
    even = terms + terms % 2  # the last one, if there is one too many, meets weights of zero
    if distance == even and terms > 1:  # the rows are one piece
        _widen(wide, x[at : at + count * even])
    else:
        for p in range(count):
            first = at + p * distance
            _widen(wide[p * even :], x[first : first + terms])
    # The last block first: what it writes beyond its row is where the next row's first one comes.
    for k in range((og - 1) // LANES * LANES, -1, -LANES):
        s0 = s1 = s2 = s3 = s4 = s5 = s6 = s7 = load_sums(bias, k)
        a = k * even
        for i in range(0, even, 2):
            s0 = add_pair(s0, wide, i, packed, a)
            s1 = add_pair(s1, wide, even + i, packed, a)
            s2 = add_pair(s2, wide, 2 * even + i, packed, a)
            s3 = add_pair(s3, wide, 3 * even + i, packed, a)
            s4 = add_pair(s4, wide, 4 * even + i, packed, a)
            s5 = add_pair(s5, wide, 5 * even + i, packed, a)
            s6 = add_pair(s6, wide, 6 * even + i, packed, a)
            s7 = add_pair(s7, wide, 7 * even + i, packed, a)
            a += 2 * LANES
        store_sums(sums, k, s0)
        store_sums(sums, og + k, s1)
        store_sums(sums, 2 * og + k, s2)
        store_sums(sums, 3 * og + k, s3)
        store_sums(sums, 4 * og + k, s4)
        store_sums(sums, 5 * og + k, s5)
        store_sums(sums, 6 * og + k, s6)
        store_sums(sums, 7 * og + k, s7)


@exact_part
def _widen(wide, x):
    for i in range(x.size):
        wide[i] = x[i]


@exact_part
def _round(y, sums, factor, zero):
    for k in range(y.size):
        v = np.float32(sums[k]) * factor[k] + zero
        y[k] = np.uint8(min(max(v, np.float32(0)), np.float32(255)) + np.float32(0.5))


@exact
def _depthwise(y, b, rescale, x, w, zero, c, n, h, width, ho, wo, sh, sw):
    # x (N, H, W, C) has its padding; w is (3, 3, C). Without a stride the pixels of a row are
    # worked on like one with as many more channels, which fills the processor's vectors.
    size, pixels = wo * c, wo if sw == 1 else 1
    piece = pixels * c
    bias, factor = np.empty(piece, np.int32), np.empty(size, np.float32)
    weights, sums = np.empty(9 * piece, np.int32), np.empty(size, np.int32)
    for i in range(size):
        factor[i] = rescale[i % c]
    for i in range(piece):
        bias[i] = b[i % c]
        for tap in range(9):
            weights[tap * piece + i] = w[tap * c + i % c]
    to = 0
    for image in range(n):
        for p in range(ho):
            for q in range(0, wo, pixels):
                at = ((image * h + p * sh) * width + q * sw) * c
                _nine(sums[q * c : q * c + piece], bias, x, weights, at, width * c, c)
            _round(y[to : to + size], sums, factor, zero)
            to += size


@exact_part
def _nine(sums, bias, x, w, at, row, c):
    n = sums.size
    if n < LANES:
        for k in range(n):
            sums[k] = bias[k]
            for tap in range(9):
                place = at + tap // 3 * row + tap % 3 * c + k
                sums[k] += np.int32(x[place] * w[tap * n + k])
        return
    for first in range(0, n, LANES):
        k = min(first, n - LANES)  # the last block may do again what the one before it has done
        i = at + k
        s = add_each(load_sums(bias, k), x, i, w, k)
        s = add_each(s, x, i + c, w, n + k)
        s = add_each(s, x, i + 2 * c, w, 2 * n + k)
        i += row
        s = add_each(s, x, i, w, 3 * n + k)
        s = add_each(s, x, i + c, w, 4 * n + k)
        s = add_each(s, x, i + 2 * c, w, 5 * n + k)
        i += row
        s = add_each(s, x, i, w, 6 * n + k)
        s = add_each(s, x, i + c, w, 7 * n + k)
        s = add_each(s, x, i + 2 * c, w, 8 * n + k)
        store_sums(sums, k, s)


@exact
def _shuffle(y, x, groups, n):  # (G, n) -> (n, G)
    for start in range(0, x.size, groups * n):
        row = y[start : start + groups * n]
        if groups == 2:
            a, b = x[start : start + n], x[start + n : start + 2 * n]
            for j in range(n):
                row[2 * j] = a[j]
                row[2 * j + 1] = b[j]
        else:
            for g in range(groups):
                for j in range(n):
                    row[j * groups + g] = x[start + g * n + j]
