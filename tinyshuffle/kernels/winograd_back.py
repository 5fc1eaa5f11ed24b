"""The way back through a 3x3 convolution over all channels, in tiles of 2x2 results.

dx is a convolution itself, of dy with the window turned around. So dy is laid into a frame and
taken to its 16 points, and dx comes from their products with the turned weights' points. The same
points of dy give dw: turned around it is a sum over all tiles of x, of 2x2 pixels, with those of
dy, of 4x4, and at each point a product of tiles by channels with tiles by channels. See
:mod:`tinyshuffle.kernels.winograd_tile` for the points.
"""

from __future__ import annotations

import numpy as np

from .batch_norm import add_backward_sums, finish_backward_sums, slopes_of, table_of
from .frame import lay
from .jit import flat, fused, scratch
from .pixels import pixels
from .record import Work, doubles, fill, floats, record_at
from .stage import add, gradient_block
from .tile import ROWS, WRITE, add_weight_gradient, multiply, packed
from .winograd import TILES, in_tiles, panels_of_window, plane_of
from .winograd_tile import (
    POINTS,
    gradient_of_window,
    points_of_images,
    points_of_results,
    results_of_points,
)

__all__ = ["winograd_backward", "winograd_backward_work"]


def winograd_backward_work(
    dx: np.ndarray, dw: np.ndarray, dy: np.ndarray, x: np.ndarray, w: np.ndarray
) -> Work:
    """Write the gradients of a convolution without norms to ``dx`` and ``dw``."""
    (xf, x_row), (dyf, dy_row) = pixels(x, x.dtype), pixels(dy, x.dtype)
    return fill(
        winograd_backward, x.dtype, x=xf, x_row=x_row, dy=dyf, dy_row=dy_row, y=dyf, dx=dx,
        dx_row=x.shape[-1], w=flat(w, x.dtype), dw=dw, **in_tiles(x.shape, w.shape[-1]),
    )  # fmt: skip


@fused
def winograd_backward(address, zero):
    """dx, dw and the sums of the norm in front, of the gradient of what the norm behind made.

    If there is no place for dx, it is left out.
    """
    r = record_at(address)
    n, h, wd, c, o, images = r.n, r.h, r.wd, r.c, r.o, r.images
    x_row, dy_row, dx_row = r.x_row, r.dy_row, r.dx_row
    relu, behind_relu = r.before.relu != 0, r.behind.relu != 0
    x, y = floats(r.x, (n * h * wd - 1) * x_row + c, zero), floats(r.y, n * h * wd * o, zero)
    dy = floats(r.dy, (n * h * wd - 1) * dy_row + o, zero)
    dx = floats(r.dx, (n * h * wd - 1) * dx_row + c, zero)
    more = floats(r.more, n * h * wd * c if r.more != 0 else 0, zero)
    channels = c if r.sums != 0 else 0
    sums = doubles(r.sums, 2 * channels).reshape(2, channels)
    sums[:] = 0
    table = table_of(r.before, c, r.x_period, x, zero)
    after = table_of(r.behind, o, r.period, x, zero)
    slopes, none = slopes_of(r.behind, o, after), table[:, :0]
    panels, panel = panels_of_window(floats(r.w, 9 * c * o, zero), c, o, True), o * packed(c)
    across, end = (wd + 1) // 2, (h + 1) // 2  # in tiles
    block = r.block
    width, x_line = 2 * across + 2, 2 * across * c
    line, pixels = width * o, 2 * wd
    sy = scratch(images * (2 * block + 2) * wd * o, x)
    frame, sx = scratch(images * (2 * block + 2) * line, x), scratch(images * 2 * block * x_line, x)
    step = min(max(1, TILES // across), images * block)
    v_plane, m_plane = plane_of(step * across, o), plane_of(step * across, c)
    v, m = scratch(POINTS * v_plane, x), scratch(POINTS * m_plane, x)
    dw_row = packed(o)
    dw_plane = (c + ROWS - 1) // ROWS * ROWS * dw_row
    dw = np.zeros(POINTS * dw_plane, x.dtype)
    for first in range(0, n, images):
        count = min(images, n - first)
        for top in range(0, end, block):
            lines = min(block, end - top)
            high, upper, lower = 2 * lines + 2, max(0, 2 * top - 1), min(h, 2 * (top + lines) + 1)
            seen, of = ((count - 1) * h + lower - upper) * wd, (first * h + upper) * wd
            gradient_block(sy, dy, of, dy_row, y, seen, o, after, slopes, behind_relu)
            for i in range(count):
                lay(frame, i * high * line, sy, (i * h - upper) * wd * o, o, 2 * top - 1, high, h,
                    wd, o, 1, width, none, relu)  # fmt: skip
                lay(sx, i * 2 * lines * x_line, x, (first + i) * h * wd * x_row, x_row, 2 * top,
                    2 * lines, h, wd, c, 0, 2 * across, table, relu)  # fmt: skip
            behind = (first * h + 2 * (top + lines)) * wd
            if top + lines == end:
                behind = (first + count) * h * wd
            for start in range(0, count * lines, step):
                rows = min(step, count * lines - start)
                tiles, share = rows * across, rows * pixels // POINTS
                for k in range(rows):
                    i, p = (start + k) // lines, (start + k) % lines
                    at = (i * high + 2 * p) * line
                    points_of_images(v, k * across * o, v_plane, frame, at, line, o, across)
                for p in range(POINTS if r.dx != 0 else 0):
                    next_ = behind + start * pixels + p * share
                    multiply(
                        m[p * m_plane :], 0, c, WRITE, v[p * v_plane :], 0, o,
                        panels[p * panel :], 0, tiles, o, c, (x, dy, y, dx),
                        (next_ * x_row, next_ * dy_row, next_ * o, next_ * dx_row),
                        (share * x_row, share * dy_row, share * o, share * dx_row),
                    )  # fmt: skip
                for k in range(rows):
                    i, p = (start + k) // lines, (start + k) % lines
                    at = ((first + i) * h + 2 * (top + p)) * wd * dx_row
                    if r.dx != 0:
                        results_of_points(
                            dx, at, wd * dx_row, dx_row, m, k * across * c, m_plane, c, wd, True,
                            2 * (top + p) + 1 < h, none[0], False,
                        )  # fmt: skip
                for k in range(rows):
                    at = 2 * (start + k) * x_line
                    points_of_results(m, k * across * c, m_plane, sx, at, x_line, c, across)
                for p in range(POINTS):
                    add_weight_gradient(
                        dw, p * dw_plane, dw_row, m[p * m_plane :], 0, c, v[p * v_plane :], 0, o,
                        tiles, c, o,
                    )  # fmt: skip
            if r.dx == 0:
                continue
            lower = min(h, 2 * (top + lines))
            a, b = (first * h + 2 * top) * wd, ((first + count - 1) * h + lower) * wd
            here = dx[a * dx_row : (b - 1) * dx_row + c]
            if more.size > 0:
                add(here, dx_row, more[a * c : b * c], b - a, c)
            if table.size > 0:
                add_backward_sums(sums, here, x[a * c : b * c], table, relu)
    if table.size > 0:
        finish_backward_sums(sums, table)
    gradient_of_window(floats(r.dw, 9 * c * o, zero), dw, dw_plane, dw_row, c, o)
