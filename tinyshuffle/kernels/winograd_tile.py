"""Winograd's F(2x2, 3x3): a tile of 2x2 results for 16 products, where 36 would stand.

A row of four numbers d and a window of three g give two sums, Σ d[q + i] g[i], and six products.
Lavin and Gray (2015, "Fast algorithms for convolutional neural networks", section 4.1) take four::

    B' d = (d0 - d2, d1 + d2, d2 - d1, d1 - d3)
    G g  = (g0, (g0 + g1 + g2) / 2, (g0 - g1 + g2) / 2, g2)
    A' m = (m0 + m1 + m2, m1 - m2 - m3)       of m = (G g) · (B' d), number by number

and the same along both axes for 4x4 numbers, a 3x3 window and 2x2 sums. Over many channels each of
the 16 *points* is a matrix product, tiles by channels by channels, and what is left are sums and
differences of whole vectors of channels. The way back has the same points: as the gradient of the
window is a sum of products, too, it is G' ((A y A') · (B' d B)) G.

Points are planes: number (tile, channel) of point p is at p·plane + tile·C + channel. Where 16
does not divide the channels, the last vector overlaps with the one before.
"""

from __future__ import annotations

import numpy as np

from .jit import LANES, exact_part, load, store, where_greater

__all__ = [
    "POINTS",
    "gradient_of_window",
    "points_of_images",
    "points_of_results",
    "points_of_window",
    "results_of_points",
]

POINTS = 16


@exact_part
def _column(x, at, line):
    """B' d of a column of four pixels."""
    d0, d1 = load(x, at), load(x, at + line)
    d2, d3 = load(x, at + 2 * line), load(x, at + 3 * line)
    return d0 - d2, d1 + d2, d2 - d1, d1 - d3


@exact_part
def _store_row(v, at, plane, a, b, c, d):
    """Write B' of four numbers to four planes."""
    store(v, at, a - c)
    store(v, at + plane, b + c)
    store(v, at + 2 * plane, c - b)
    store(v, at + 3 * plane, b - d)


@exact_part
def points_of_images(v, to, plane, x, at, line, c, tiles):
    """Write B' d B of a row of tiles, which lie two pixels apart in lines of pixels of a frame."""
    for start in range(0, c, LANES):
        j = min(start, c - LANES)
        of, k = at + j, to + j
        a0, a1, a2, a3 = _column(x, of, line)
        b0, b1, b2, b3 = _column(x, of + c, line)
        for _ in range(tiles):
            of += 2 * c
            c0, c1, c2, c3 = _column(x, of, line)
            d0, d1, d2, d3 = _column(x, of + c, line)
            _store_row(v, k, plane, a0, b0, c0, d0)
            _store_row(v, k + 4 * plane, plane, a1, b1, c1, d1)
            _store_row(v, k + 8 * plane, plane, a2, b2, c2, d2)
            _store_row(v, k + 12 * plane, plane, a3, b3, c3, d3)
            a0, a1, a2, a3 = c0, c1, c2, c3  # the next tile begins with this one's second half
            b0, b1, b2, b3 = d0, d1, d2, d3
            k += c


@exact_part
def points_of_results(v, to, plane, y, at, line, c, tiles):
    """Write A y A' of a row of tiles of 2x2 pixels; the last point of an axis has its sign turned.

    So it is (y0, y0 + y1, y0 - y1, y1); see :func:`gradient_of_window`.
    """
    for start in range(0, c, LANES):
        j = min(start, c - LANES)
        of, k = at + j, to + j
        for _ in range(tiles):
            a, b = load(y, of), load(y, of + c)
            d, e = load(y, of + line), load(y, of + line + c)
            _store_sums(v, k, plane, a, b)
            _store_sums(v, k + 4 * plane, plane, a + d, b + e)
            _store_sums(v, k + 8 * plane, plane, a - d, b - e)
            _store_sums(v, k + 12 * plane, plane, d, e)
            of += 2 * c
            k += c


@exact_part
def _store_sums(v, at, plane, a, b):
    store(v, at, a)
    store(v, at + plane, a + b)
    store(v, at + 2 * plane, a - b)
    store(v, at + 3 * plane, b)


@exact_part
def _two(m, at, plane):
    """A' of four numbers."""
    m1, m2 = load(m, at + plane), load(m, at + 2 * plane)
    return load(m, at) + (m1 + m2), (m1 - m2) - load(m, at + 3 * plane)


@exact_part
def results_of_points(y, to, line, pixel, m, at, plane, o, wo, first, second, shifts, relu):
    """Write A' m A of a row of tiles: two rows of ``wo`` pixels, if ``first`` and ``second``.

    If there are ``shifts`` (O,), they are added, and there may be a ReLU behind.
    """
    none = load(np.zeros(LANES, m.dtype), 0)
    shift = none
    for start in range(0, o, LANES):
        j = min(start, o - LANES)
        of, k = at + j, to + j
        if shifts.size > 0:
            shift = load(shifts, j)
        for q in range(0, wo, 2):
            l0, r0 = _two(m, of, plane)
            l1, r1 = _two(m, of + 4 * plane, plane)
            l2, r2 = _two(m, of + 8 * plane, plane)
            l3, r3 = _two(m, of + 12 * plane, plane)
            y0, y1 = l0 + (l1 + l2), r0 + (r1 + r2)
            y2, y3 = (l1 - l2) - l3, (r1 - r2) - r3
            if shifts.size > 0:
                y0, y1, y2, y3 = y0 + shift, y1 + shift, y2 + shift, y3 + shift
                if relu:
                    y0, y1 = where_greater(y0, none, y0, none), where_greater(y1, none, y1, none)
                    y2, y3 = where_greater(y2, none, y2, none), where_greater(y3, none, y3, none)
            if first:
                store(y, k, y0)
                if q + 1 < wo:
                    store(y, k + pixel, y1)
            if second:
                store(y, k + line, y2)
                if q + 1 < wo:
                    store(y, k + line + pixel, y3)
            of += o
            k += 2 * pixel


@exact_part
def points_of_window(u, w, size):
    """Write G g G' of so many windows: (3, 3, size) becomes (16, size)."""
    rows = np.empty(12 * size, w.dtype)  # (4, 3, size)
    for j in range(3):
        _four(rows[j * size :], 3 * size, w[j * size :], 3 * size, size)
    for i in range(4):
        _four(u[4 * i * size :], size, rows[3 * i * size :], size, size)


@exact_part
def _four(u, u_step, g, g_step, size):
    """Write G g, four numbers ``u_step`` apart, of three that are ``g_step`` apart."""
    half = load(np.full(LANES, 0.5, g.dtype), 0)
    for start in range(0, size, LANES):
        i = min(start, size - LANES)
        g0, g1, g2 = load(g, i), load(g, g_step + i), load(g, 2 * g_step + i)
        outer, middle = half * (g0 + g2), half * g1
        store(u, i, g0)
        store(u, u_step + i, outer + middle)
        store(u, 2 * u_step + i, outer - middle)
        store(u, 3 * u_step + i, g2)


@exact_part
def gradient_of_window(dw, s, plane, row, c, o):
    """Write G' s G of 16 points (C, O), whose rows are ``row`` apart, to dw (3, 3, C, O).

    The window is turned around, and the last point of an axis is minus what it should be, as that
    of :func:`points_of_results` is.
    """
    half, tap = load(np.full(LANES, 0.5, s.dtype), 0), c * o
    for i in range(c):
        for start in range(0, o, LANES):
            j = min(start, o - LANES)
            at, to = i * row + j, i * o + j
            a0, a1, a2 = _three(s, at, plane, half)
            b0, b1, b2 = _three(s, at + 4 * plane, plane, half)
            c0, c1, c2 = _three(s, at + 8 * plane, plane, half)
            d0, d1, d2 = _three(s, at + 12 * plane, plane, half)
            _store_taps(dw, to + 2 * tap, 3 * tap, a0, b0, c0, d0, half)
            _store_taps(dw, to + tap, 3 * tap, a1, b1, c1, d1, half)
            _store_taps(dw, to, 3 * tap, a2, b2, c2, d2, half)


@exact_part
def _three(s, at, plane, half):
    """G' of four numbers, the last of which is minus what it should be."""
    s1, s2 = half * load(s, at + plane), half * load(s, at + 2 * plane)
    return load(s, at) + (s1 + s2), s1 - s2, (s1 + s2) - load(s, at + 3 * plane)


@exact_part
def _store_taps(dw, to, step, a, b, c, d, half):
    """Write G' of four numbers, turned around, ``step`` apart."""
    b, c = half * b, half * c
    store(dw, to + 2 * step, a + (b + c))
    store(dw, to + step, b - c)
    store(dw, to, (b + c) - d)
