"""Convolutions of bytes: see ``ops.int8`` for the mathematics.

Every convolution but the 3x3 depthwise one is a product of rows: those of the image, or those that
its windows are copied to. Eight rows at a time are widened to 16 bits; each pair of their numbers
meets a pair of weights of 16 output channels at a time (:mod:`.pairs`).
"""

from __future__ import annotations

import numpy as np

from .. import memory
from ..ops import int8_range, int8_weights
from ..ops.arguments import IntPair, check_groups
from ..ops.int8 import check_bytes, check_conv, int8_dequantise, int8_quantise
from ..ops.windows import is_pointwise, output_size, pad, pair, taps, window
from .jit import LANES, exact, exact_part
from .pairs import add_each, add_pair, load_sums, no_sums, store_sums

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
    rows = x  # (N, Ho, Wo, Kh·Kw·C): one by one, the groups, and of each its taps' channels
    if not is_pointwise(w.shape, stride, padding):
        xp = pad(x, padding, zeros[0])
        rows = memory.empty((n, ho, wo, groups, kh * kw, c // groups), x.dtype)
        for k, tap in enumerate(taps((kh, kw))):
            seen = window(xp, tap, (ho, wo), stride, dilation)
            rows[..., k, :] = seen.reshape(n, ho, wo, groups, -1)
    flat, weights = np.ascontiguousarray(rows).reshape(-1), np.ascontiguousarray(w).reshape(-1)
    for g in range(groups):
        _products(*out, flat, weights, zero, n * ho * wo, weights.size // o, o, g, groups)
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


@exact
def _products(y, b, rescale, x, w, zero, m, terms, o, group, groups):
    og = o // groups
    first_o = group * og
    packed = _packed(w, terms, o, first_o, og)
    width = -(-og // LANES) * LANES
    wide, sums = np.zeros(_ROWS * (terms + 1), np.int16), np.empty(_ROWS * width, np.int32)
    bias, factor = b[first_o : first_o + og], rescale[first_o : first_o + og]
    for start in range(0, m, _ROWS):
        count = min(_ROWS, m - start)
        _sums(sums, wide, x, packed, (start * groups + group) * terms, groups * terms, count,
              terms, width)  # fmt: skip
        for p in range(count):
            at = (start + p) * o + first_o
            total = sums[p * width : p * width + og]
            for k in range(og):
                total[k] += bias[k]
            _round(y[at : at + og], total, factor, zero)


@exact
def _sums_of_all(out, x, w, m, terms, o):
    packed = _packed(w, terms, o, 0, o)
    width = -(-o // LANES) * LANES
    wide, sums = np.zeros(_ROWS * (terms + 1), np.int16), np.empty(_ROWS * width, np.int32)
    for start in range(0, m, _ROWS):
        count = min(_ROWS, m - start)
        _sums(sums, wide, x, packed, start * terms, terms, count, terms, width)
        for p in range(count):
            for k in range(o):
                out[(start + p) * o + k] = sums[p * width + k]


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
def _sums(sums, wide, x, packed, at, distance, count, terms, width):
    # sums (ROWS, width) of the rows that lie ``distance`` apart in x
    even = (terms + 1) // 2 * 2  # the last one, if there is one too many, stays zero
    for p in range(count):
        row, copy = x[at + p * distance : at + p * distance + terms], wide[p * even :]
        for i in range(terms):
            copy[i] = row[i]
    a = 0
    for k in range(0, width, LANES):
        s0, s1, s2, s3 = no_sums(), no_sums(), no_sums(), no_sums()
        s4, s5, s6, s7 = no_sums(), no_sums(), no_sums(), no_sums()
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
        store_sums(sums, width + k, s1)
        store_sums(sums, 2 * width + k, s2)
        store_sums(sums, 3 * width + k, s3)
        store_sums(sums, 4 * width + k, s4)
        store_sums(sums, 5 * width + k, s5)
        store_sums(sums, 6 * width + k, s6)
        store_sums(sums, 7 * width + k, s7)


@exact
def _depthwise(y, b, rescale, x, w, zero, c, n, h, width, ho, wo, sh, sw):
    # x (N, H, W, C) has its padding; w is (3, 3, C). Without a stride the pixels of a row are
    # worked on like one with as many more channels, which fills the processor's vectors.
    pixels = wo if sw == 1 else 1
    size = pixels * c
    bias, factor = np.empty(size, np.int32), np.empty(size, np.float32)
    weights = np.empty(9 * size, np.int32)
    for i in range(size):
        bias[i], factor[i] = b[i % c], rescale[i % c]
        for tap in range(9):
            weights[tap * size + i] = w[tap * c + i % c]
    sums, to = np.empty(size, np.int32), 0
    for image in range(n):
        for p in range(ho):
            for q in range(0, wo, pixels):
                at = ((image * h + p * sh) * width + q * sw) * c
                _nine(sums, bias, x, weights, at, width * c, c)
                _round(y[to : to + size], sums, factor, zero)
                to += size


@exact_part
def _nine(sums, bias, x, w, at, row, c):
    n, done = sums.size, sums.size // LANES * LANES
    for k in range(0, done, LANES):
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
    for k in range(done, n):
        sums[k] = bias[k]
        for tap in range(9):
            place = at + tap // 3 * row + tap % 3 * c + k
            sums[k] += np.int32(x[place] * w[tap * n + k])


@exact_part
def _round(y, sums, factor, zero):
    for k in range(y.size):
        v = np.float32(sums[k]) * factor[k] + zero
        y[k] = np.uint8(min(max(v, np.float32(0)), np.float32(255)) + np.float32(0.5))


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
