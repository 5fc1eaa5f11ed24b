"""A 3x3 convolution over all channels between two batch norms, in tiles of 2x2 results.

The normalised images are laid into frames with zeros around them, a few images at a time, as in
:mod:`tinyshuffle.kernels.frame`. Then so many tiles that they stay in the cache are taken to their
16 points, each point is a product of all these tiles with its own weights, and the results are
taken from the points (:mod:`tinyshuffle.kernels.winograd_tile`).

Tiles begin at even rows and columns of an image, whoever does which part of it, so that every
number is computed in the same way for any number of threads. A NaN or an infinity reaches only
results that see it: along an axis the points that hold a pixel are in those results alone. There
an infinity may become a NaN, and so may numbers of more than a quarter of the largest one: a point
is a sum of four pixels.
"""

from __future__ import annotations

from math import prod
from typing import Any

import numpy as np

from ..ops.windows import IntPair, pair
from .batch_norm import add_sums, normalise, table_of
from .frame import lay
from .jit import LANES, exact_part, flat, fused, fused_part, scratch
from .pixels import pixels
from .record import Work, doubles, fill, floats, record_at
from .stage import folded_weights, folding
from .sums import period_of
from .tile import ROWS, WRITE, multiply, pack, packed
from .winograd_tile import POINTS, points_of_images, points_of_window, results_of_points

__all__ = [
    "MOST_WEIGHTS",
    "TILES",
    "in_tiles",
    "panels_of_window",
    "pays_in_tiles",
    "plane_of",
    "winograd",
    "winograd_work",
]

MOST_WEIGHTS = 2**20  # of a group, which stay in the cache; more are left to BLAS
TILES = 64  # whose points are multiplied at a time, about
_FRAMES = 2**15  # numbers of images in their frames at a time


def pays_in_tiles(
    w_shape: tuple[int, ...], x_shape: tuple[int, ...], stride: IntPair, padding: IntPair,
    dilation: IntPair, groups: int,
) -> bool:  # fmt: skip
    """Whether a convolution has less to do in tiles: 16 products for four results, not 36.

    That holds for 3x3 windows with a padding of one and nothing else to them, if channels fill
    vectors and images are no smaller than the tiles over them by so much that a third or less of
    the products is spared. Weights of more numbers than ``MOST_WEIGHTS`` are left to BLAS: their
    points are nearly twice as many, and to make and read them takes longer than is spared.
    """
    plain = pair(stride) == pair(padding) == pair(dilation) == (1, 1) and groups == 1
    if w_shape[:2] != (3, 3) or not plain or min(w_shape[2:]) < LANES:
        return False
    if prod(w_shape) > MOST_WEIGHTS:
        return False
    h, wd = x_shape[1:3]
    return 16 * ((h + 1) // 2) * ((wd + 1) // 2) < 6 * h * wd


def in_tiles(x_shape: tuple[int, ...], o: int) -> dict[str, Any]:
    """The sizes of a convolution, and how many images or rows of tiles to do at a time."""
    n, h, wd, c = x_shape
    line, down = ((wd + 1) // 2 + 1) * 2 * max(c, o), (h + 1) // 2
    images = max(1, min(n, _FRAMES // ((2 * down + 2) * line)))
    block = down if images > 1 else max(1, min(down, (_FRAMES // line - 2) // 2))
    return dict(
        n=n, h=h, wd=wd, c=c, o=o, stride=1, period=period_of(o), x_period=period_of(c),
        images=images, block=block,
    )  # fmt: skip


def winograd_work(y: np.ndarray, x: np.ndarray, w: np.ndarray) -> Work:
    """Write the convolution of ``x``, without norms, to ``y``."""
    xf, x_row = pixels(x, x.dtype)
    sizes = in_tiles(x.shape, w.shape[-1])
    return fill(winograd, x.dtype, x=xf, x_row=x_row, y=y, w=flat(w, x.dtype), **sizes)


@exact_part
def plane_of(tiles, c):
    """How far apart the points lie: whole tiles of a product, and a line of the cache.

    Without the line all 16 would lie in the same few places of a cache.
    """
    return (tiles + ROWS - 1) // ROWS * ROWS * c + LANES


@fused_part
def panels_of_window(w, c, o, turned):
    """The right factors of the 16 points, packed: (16, C · packed(O)).

    Or those of the window turned around, with its channels exchanged: (16, O · packed(C)). Turned
    around, the first and the last point of an axis change places.
    """
    size, nothing = c * o, w[:0]
    points = scratch(POINTS * size, w)
    points_of_window(points, w, size)
    k, n, k_step, n_step = (o, c, 1, o) if turned else (c, o, o, 1)
    panel = k * packed(n)
    panels = scratch(POINTS * panel, w)
    for p in range(POINTS):
        i, j = p // 4, p % 4
        if turned:
            i, j = 3 - i if i % 3 == 0 else i, 3 - j if j % 3 == 0 else j
        here = points[(4 * i + j) * size :]
        pack(panels[p * panel :], here, k, n, k_step, n_step, nothing, nothing)
    return panels


@fused
def winograd(address, zero):
    """y = conv(norm(x)) and its sums; or y = norm(conv(x)) with a norm behind, and no sums."""
    r = record_at(address)
    n, h, wd, c, o, images, x_row = r.n, r.h, r.wd, r.c, r.o, r.images, r.x_row
    relu, behind_relu = r.before.relu != 0, r.behind.relu != 0
    x, y = floats(r.x, (n * h * wd - 1) * x_row + c, zero), floats(r.y, n * h * wd * o, zero)
    channels = o if r.sums != 0 else 0
    sums = doubles(r.sums, 3 * channels).reshape(3, channels)
    sums[:] = 0
    table = table_of(r.before, c, r.x_period, x, zero)
    after = table_of(r.behind, o, r.period, x, zero)
    w = floats(r.w, 9 * c * o, zero)
    scale, shifts = folding(after, o)
    if scale.size > 0:
        w = folded_weights(w, 9 * c, scale)
    panels, panel = panels_of_window(w, c, o, False), c * packed(o)
    first_line, last_line = r.first, r.last if r.last > 0 else h  # which come out
    across, begin, end = (wd + 1) // 2, first_line // 2, (last_line + 1) // 2  # in tiles
    block = min(r.block, end - begin)
    width = 2 * across + 2
    line, pixels = width * c, 2 * wd
    frame = scratch(images * (2 * block + 2) * line, x)
    step = min(max(1, TILES // across), images * block)
    v_plane, m_plane = plane_of(step * across, c), plane_of(step * across, o)
    v, m = scratch(POINTS * v_plane, x), scratch(POINTS * m_plane, x)
    for first in range(0, n, images):
        count = min(images, n - first)
        for top in range(begin, end, block):
            lines = min(block, end - top)
            high = 2 * lines + 2
            for i in range(count):
                lay(frame, i * high * line, x, (first + i) * h * wd * x_row, x_row, 2 * top - 1,
                    high, h, wd, c, 1, width, table, relu)  # fmt: skip
            # what comes next, a share of it with each product
            behind = (first * h + 2 * (top + lines)) * wd
            if top + lines == end:
                behind = (first + count) * h * wd
            for start in range(0, count * lines, step):
                rows = min(step, count * lines - start)
                share = rows * pixels // POINTS
                for k in range(rows):
                    i, p = (start + k) // lines, (start + k) % lines
                    at = (i * high + 2 * p) * line
                    points_of_images(v, k * across * c, v_plane, frame, at, line, c, across)
                for p in range(POINTS):
                    next_ = behind + start * pixels + p * share
                    multiply(
                        m[p * m_plane :], 0, o, WRITE, v[p * v_plane :], 0, c,
                        panels[p * panel :], 0, rows * across, c, o,
                        (x, y), (next_ * x_row, next_ * o), (share * x_row, share * o),
                    )  # fmt: skip
                for k in range(rows):
                    i, p = (start + k) // lines, 2 * (top + (start + k) % lines)
                    at = ((first + i) * h + p) * wd * o
                    results_of_points(y, at, wd * o, o, m, k * across * o, m_plane, o, wd,
                                      p >= first_line, p + 1 < last_line, shifts,
                                      behind_relu)  # fmt: skip
            upper, lower = max(2 * top, first_line), min(2 * (top + lines), last_line)
            here = y[(first * h + upper) * wd * o : ((first + count - 1) * h + lower) * wd * o]
            if channels > 0:
                add_sums(sums, here, r.period)
            elif after.size > 0 and scale.size == 0:
                normalise(here, here, after, behind_relu)
