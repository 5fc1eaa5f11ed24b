"""A convolution between two batch norms: see ``plan.fused`` for the mathematics.

A few images (or rows of pixels) at a time go through all the steps, each of which is a kernel from
another file, while they are in the core's cache: the normalised input and the gradient behind the
convolution exist as such blocks only, in scratch memory. So a forward pass reads x and writes y,
and a backward pass reads dy, y and x and writes dx, whatever happens in between.

What is neither depthwise 3x3 nor a product of moderate size goes step by step.
"""

from __future__ import annotations

from functools import cache
from math import prod
from typing import TYPE_CHECKING

import numpy as np

from .. import memory
from ..ops.windows import IntPair, is_pointwise
from .batch_norm import (
    add_backward_sums,
    add_sums,
    backward,
    batch_norm,
    batch_norm_backward,
    batch_norm_backward_sums,
    batch_norm_sums,
    constants_of,
    finish_backward_sums,
    normalise,
    slopes_of,
    table_of,
)
from .channel_shuffle import channel_shuffle, channel_shuffle_backward, transpose
from .conv import conv2d, conv2d_backward
from .depthwise import (
    backward_1,
    backward_2,
    depthwise_conv2d,
    depthwise_conv2d_backward,
    forward_1,
    forward_2,
    special_stride,
)
from .jit import LANES, flat, fused, scratch
from .pixels import pixels
from .pointwise import check_channels, pointwise_conv2d, pointwise_conv2d_backward
from .sums import period_of
from .tile import (
    RECTIFY,
    ROWS,
    SHIFT,
    VECTOR,
    WRITE,
    add_weight_gradient,
    multiply,
    pack,
    packed,
    row_of,
)

if TYPE_CHECKING:
    from ..plan.fused import Gradient, Norm

__all__ = ["conv_norm", "norm_conv", "norm_conv_backward", "normalised"]

_BLOCK = 2**14  # numbers of a tensor to take through all the steps at a time: 64 KB in float32
_WEIGHTS = 2**16  # of a group, whose gradient stays in the cache; more are left to BLAS
_WEIGHTS_FORWARD = 2**20  # where there is no gradient
_LARGE = 1e18  # a factor or a shift that is not folded into weights
_SLACK = 64  # numbers behind a scratch array that a tile may read


def norm_conv(
    x: np.ndarray,
    norm: Norm | None,
    w: np.ndarray,
    stride: IntPair = 1,
    padding: IntPair = 0,
    dilation: IntPair = 1,
    groups: int = 1,
) -> tuple[np.ndarray, np.ndarray]:
    """Normalise and convolve; see ``plan.fused``."""
    way = _way(w.shape, stride, padding, dilation, groups)
    if way:
        return _forward(x, norm, None, w, way, groups)
    z = normalised(x, norm)
    y = _convolved(z, w, stride, padding, dilation, groups)
    return y, batch_norm_sums(y)


def conv_norm(
    x: np.ndarray,
    norm: Norm,
    w: np.ndarray,
    stride: IntPair = 1,
    padding: IntPair = 0,
    dilation: IntPair = 1,
    groups: int = 1,
) -> np.ndarray:
    """Convolve and normalise; see ``plan.fused``."""
    way = _way(w.shape, stride, padding, dilation, groups, _WEIGHTS_FORWARD)
    if way:
        y, _ = _forward(x, None, norm, w, way, groups)
    else:
        y = _convolved(x, w, stride, padding, dilation, groups)
        yf = y.reshape(-1)
        table = table_of(constants_of(y, *norm[:4]), norm.eps, period_of(y.shape[-1]), yf)
        normalise(yf, yf, table, norm.relu)
    return channel_shuffle(y, norm.shuffle) if norm.shuffle > 1 else y


def _forward(
    x: np.ndarray,
    norm: Norm | None,
    behind: Norm | None,
    w: np.ndarray,
    way: int,
    groups: int,
) -> tuple[np.ndarray, np.ndarray]:
    """Return y and its sums; or with a norm ``behind``, what it makes of y, and no sums."""
    (n, h, wd, c), dtype, o = x.shape, x.dtype, w.shape[-1]
    xf, x_row = pixels(x, dtype) if norm is None else (flat(x, dtype), c)
    sums, wf = np.zeros((3, o)), flat(w, dtype)
    before, eps, relu, shuffle = _constants(x, norm)
    after, after_eps, after_relu, _ = _constants(np.empty((0, o), dtype), behind)
    if way < 3:
        s = way
        y = memory.empty((n, -(-h // s), -(-wd // s), c), dtype)
        _depthwise(
            y.reshape(-1), sums, xf, x_row, before, eps, relu, shuffle, wf,
            after, after_eps, after_relu, n, h, wd, c, s, _images(n, h * wd * c), period_of(c),
        )  # fmt: skip
    else:
        check_channels(x, w, groups)
        y = memory.empty((n, h, wd, o), dtype)
        _pointwise(
            y.reshape(-1), sums, xf, x_row, before, eps, relu, shuffle, wf,
            after, after_eps, after_relu,
            n * h * wd, c, o, groups, _rows(c, o), period_of(c), period_of(o),
        )  # fmt: skip
    return y, sums


def norm_conv_backward(
    dy: np.ndarray,
    y: np.ndarray,
    behind: Gradient | None,
    x: np.ndarray,
    norm: Norm | None,
    w: np.ndarray,
    stride: IntPair = 1,
    padding: IntPair = 0,
    dilation: IntPair = 1,
    groups: int = 1,
    plus: np.ndarray | None = None,
    there: np.ndarray | None = None,
) -> tuple[np.ndarray, np.ndarray, np.ndarray | None]:
    """Return (dx, dw, sums); see ``plan.fused``."""
    way = _way(w.shape, stride, padding, dilation, groups)
    if not way:
        dx, dw, sums = _step_by_step(
            dy, y, behind, x, norm, w, stride, padding, dilation, groups, plus
        )
        return dx if there is None else _overwrite(there, dx), dw, sums
    (n, h, wd, c), dtype = x.shape, x.dtype
    o = w.shape[-1]
    xf, x_row = pixels(x, dtype) if norm is None else (flat(x, dtype), c)
    (dyf, dy_row), yf, wf = pixels(dy, dtype), flat(y, dtype), flat(w, dtype)
    before, eps, relu, shuffle = _constants(x, norm)
    after, after_eps, after_relu, _ = _constants(y, behind and behind.norm)
    means = np.empty((2, 0)) if behind is None else behind.sums / behind.pixels
    sums = np.zeros((2, c))
    dx = memory.empty(x.shape, dtype) if there is None or way < 3 else there
    dxf, dx_row = pixels(dx, dtype)
    assert np.may_share_memory(dxf, dx), "dx has no place that a kernel can write to"
    more = np.empty(0, dtype) if plus is None else flat(plus, dtype, x.shape)
    if way == 3:
        cg, og = c // groups, o // groups
        parts = np.zeros((groups, _whole(cg, ROWS), _whole(og, VECTOR)), dtype)
        _pointwise_backward(
            dxf, dx_row, parts.reshape(-1), sums, dyf, dy_row, yf, after, means, after_eps,
            after_relu, xf, x_row, before, eps, relu, shuffle, wf, more,
            n * h * wd, c, o, groups, _rows(c, o), period_of(c), period_of(o),
        )  # fmt: skip
        dw = parts[:, :cg, :og].transpose(1, 0, 2).reshape(w.shape)  # (Cg, G, Og)
    else:
        taps = np.zeros((10, c))  # dw, and db, which nobody asks for
        _depthwise_backward(
            dxf, taps, sums, dyf, dy_row, yf, after, means, after_eps, after_relu,
            xf, x_row, before, eps, relu, shuffle, wf,
            more, n, h, wd, c, way, _images(n, h * wd * c), period_of(c),
        )  # fmt: skip
        dw = taps[:9].astype(dtype).reshape(w.shape)
        if there is not None:
            dx = _overwrite(there, dx)
    if norm is None:
        return dx, dw, None
    return dx, dw, sums


def _step_by_step(
    dy: np.ndarray,
    y: np.ndarray,
    behind: Gradient | None,
    x: np.ndarray,
    norm: Norm | None,
    w: np.ndarray,
    stride: IntPair,
    padding: IntPair,
    dilation: IntPair,
    groups: int,
    plus: np.ndarray | None,
) -> tuple[np.ndarray, np.ndarray, np.ndarray | None]:
    if behind is not None:
        gamma, beta, mean, var, eps, relu, _ = behind.norm
        dy = batch_norm_backward(
            dy, y, gamma, beta, mean, var, behind.sums, behind.pixels, eps, relu
        )
    z = normalised(x, norm)
    if w.ndim == 3:
        dx, dw, _ = depthwise_conv2d_backward(dy, z, w, stride, padding, dilation, bias=False)
    elif is_pointwise(w.shape, stride, padding):
        dx, dw, _ = pointwise_conv2d_backward(dy, z, w, groups, bias=False)
    else:
        dx, dw, _ = conv2d_backward(dy, z, w, stride, padding, dilation, groups, bias=False)
    if norm is None:
        return dx if plus is None else np.add(dx, plus, out=dx), dw, None
    if norm.shuffle > 1:
        dx = channel_shuffle_backward(dx, norm.shuffle)
    return dx, dw, batch_norm_backward_sums(dx, x, *norm[:6])


def _overwrite(there: np.ndarray, dx: np.ndarray) -> np.ndarray:
    there[...] = dx
    return there


def normalised(x: np.ndarray, norm: Norm | None) -> np.ndarray:
    """Return what ``norm`` makes of ``x``; ``x`` itself if it is None."""
    if norm is None:
        return x
    z = batch_norm(x, *norm[:6])
    return channel_shuffle(z, norm.shuffle) if norm.shuffle > 1 else z


def _convolved(
    z: np.ndarray,
    w: np.ndarray,
    stride: IntPair,
    padding: IntPair,
    dilation: IntPair,
    groups: int,
) -> np.ndarray:
    if w.ndim == 3:
        return depthwise_conv2d(z, w, None, stride, padding, dilation)
    if is_pointwise(w.shape, stride, padding):
        return pointwise_conv2d(z, w, None, groups)
    return conv2d(z, w, None, stride, padding, dilation, groups)


@cache
def _way(
    shape: tuple[int, ...],
    stride: IntPair,
    padding: IntPair,
    dilation: IntPair,
    groups: int,
    most: int = _WEIGHTS,
) -> int:
    """Which fast way there is for weights of this shape.

    1 or 2 is the stride of a depthwise 3x3 convolution, 3 a product of at most so many weights in
    a group, 0 nothing.
    """
    if len(shape) == 3:
        return special_stride(shape, stride, padding, dilation)
    return 3 * (is_pointwise(shape, stride, padding) and prod(shape) // groups <= most)


def _constants(x: np.ndarray, norm: Norm | None) -> tuple[np.ndarray, float, bool, int]:
    """γ, β, μ and σ² (4, C) of a norm (none: (4, 0)), its ε, its ReLU and its shuffle."""
    if norm is None:
        return np.empty((4, 0)), 0.0, False, 1
    gamma, beta, mean, var, eps, relu, shuffle = norm
    return constants_of(x, gamma, beta, mean, var), eps, relu, shuffle


def _rows(c: int, o: int) -> int:
    """How many pixels to take at a time."""
    return max(4 * ROWS, _BLOCK // max(c, o) // ROWS * ROWS)


def _whole(n: int, unit: int) -> int:
    return -(-n // unit) * unit


def _images(n: int, numbers: int) -> int:
    """How many images to take at a time."""
    return min(n, max(1, _BLOCK // numbers))


@fused
def _panels(w, groups, k, n, k_step, n_step, group_step):
    # the right factors of all groups, packed: (groups, K · packed(N))
    size = k * packed(n)
    panels = scratch(groups * size, w)
    for g in range(groups):
        pack(panels[g * size :], w[g * group_step :], k, n, k_step, n_step)
    return panels


@fused
def _folded(w, k, table):
    """The weights (K, O) of a convolution and the batch norm behind it, and a row of shifts.

    Nothing, if that makes them so large that sums might be infinite which are not without the norm.
    """
    o = w.size // k
    centre, scale, shift = table[0], table[2], table[3]
    out = scratch((k + 1) * o, w)
    for i in range(k):
        for j in range(o):
            out[i * o + j] = w[i * o + j] * scale[j]
    for j in range(o):
        out[k * o + j] = np.float64(shift[j]) - np.float64(centre[j]) * scale[j]
    for j in range(o):
        if not max(abs(scale[j]), abs(out[k * o + j])) < _LARGE:
            return out[:0]
    return out


@fused
def stage(to, spare, x, at, x_row, m, c, table, relu, shuffle):
    """Write m pixels of x, normalised and shuffled, to a scratch array."""
    size = m * c
    target = spare if shuffle > 1 else to
    if table.size > 0:
        normalise(target[:size], x[at : at + size], table, relu)
    else:
        for r in range(m):
            row, pixel = target[r * c : (r + 1) * c], x[at + r * x_row : at + r * x_row + c]
            for i in range(c):
                row[i] = pixel[i]
    if shuffle > 1:
        transpose(to[:size], spare[:size], shuffle, c // shuffle)


@fused
def _dy_block(to, dy, at, dy_row, y, m, o, table, slopes, relu):
    """Write the gradient of m pixels of y to a scratch array."""
    size = m * o
    d = dy[at * o : at * o + size]
    if dy_row != o:
        for r in range(m):
            row = to[r * o : (r + 1) * o]
            pixel = dy[(at + r) * dy_row : (at + r) * dy_row + o]
            for i in range(o):
                row[i] = pixel[i]
        d = to[:size]
    if table.size > 0:
        backward(to[:size], d, y[at * o : at * o + size], table, slopes, relu)
    elif dy_row == o:
        to[:size] = d


@fused
def _rectify(y):
    for i in range(y.size):
        y[i] = 0 if y[i] < 0 else y[i]  # a NaN stays one


@fused
def _add(y, y_row, x, m, c):
    """Add m pixels of x to those of y, which are ``y_row`` apart."""
    if y_row == c:
        for i in range(m * c):
            y[i] += x[i]
        return
    for r in range(m):
        to, pixel = y[r * y_row : r * y_row + c], x[r * c : (r + 1) * c]
        for i in range(c):
            to[i] += pixel[i]


@fused
def _unpad(y, y_row, padded, m, groups, og, row):
    # padded rows are (groups, row), y's (groups, og)
    for r in range(m):
        for g in range(groups):
            pixel, of = y[r * y_row + g * og :], padded[(r * groups + g) * row :]
            for i in range(og):
                pixel[i] = of[i]


@fused
def _pointwise(
    y, sums, x, x_row, before, eps, relu, shuffle, w, behind, behind_eps, behind_relu,
    m, c, o, groups, block, x_period, period,
):  # fmt: skip
    cg, og = c // groups, o // groups
    sx = scratch((block + ROWS) * c + _SLACK, x)
    st = scratch(block * c if shuffle > 1 else 0, x)
    sy = scratch((block + ROWS) * groups * row_of(og), x)
    table, after = table_of(before, eps, x_period, x), table_of(behind, behind_eps, period, x)
    row, k, end = row_of(og), cg, WRITE
    folded = _folded(w, cg, after) if after.size > 0 else w[:0]
    if folded.size > 0:
        w, k, end = folded, cg + 1, RECTIFY if behind_relu else SHIFT
    panels = _panels(w, groups, k, og, o, 1, og)
    for first in range(0, m, block):
        rows = min(block, m - first)
        a, at, a_row = sx, 0, c
        if table.size == 0 and shuffle == 1 and rows % ROWS == 0:
            a, at, a_row = x, first * x_row, x_row
        else:
            stage(sx, st, x, first * x_row, x_row, rows, c, table, relu, shuffle)
        here = y[first * o : (first + rows) * o]
        direct = row == og and rows % ROWS == 0
        share = (rows + groups - 1) // groups  # of the next block, to be fetched with each group
        for g in range(groups):
            panel, next_ = panels[g * k * packed(og) :], first + block + g * share
            multiply(
                here if direct else sy, g * row, groups * row, end, a, at + g * cg, a_row, panel, 0,
                rows, cg, og, (x, y), (next_ * x_row, next_ * o), share * max(c, o),
            )  # fmt: skip
        if not direct:
            _unpad(here, o, sy, rows, groups, og, row)
        if after.size == 0:
            add_sums(sums, here, period)
        elif folded.size == 0:
            normalise(here, here, after, behind_relu)


@fused
def _pointwise_backward(
    dx, dx_row, dw, sums, dy, dy_row, y, behind, means, behind_eps, behind_relu,
    x, x_row, before, eps, relu, shuffle, w, more, m, c, o, groups, block, x_period, y_period,
):  # fmt: skip
    cg, og = c // groups, o // groups
    sx = scratch((block + ROWS) * c + _SLACK, x)
    st = scratch(block * c if shuffle > 1 else 0, x)
    sy = scratch((block + ROWS) * o + _SLACK, x)
    sd = scratch((block + ROWS) * groups * row_of(cg), x)
    row, dw_row = row_of(cg), packed(og)
    panels = _panels(w, groups, og, cg, 1, o, og)  # of the transposed weights
    table, after = table_of(before, eps, x_period, x), table_of(behind, behind_eps, y_period, x)
    slopes = slopes_of(after, means)
    dw_size = (cg + ROWS - 1) // ROWS * ROWS * dw_row
    for first in range(0, m, block):
        rows = min(block, m - first)
        _dy_block(sy, dy, first, dy_row, y, rows, o, after, slopes, behind_relu)
        a, at, a_row = sx, 0, c
        if table.size == 0 and shuffle == 1 and cg % ROWS == 0:
            a, at, a_row = x, first * x_row, x_row
        else:
            stage(sx, st, x, first * x_row, x_row, rows, c, table, relu, shuffle)
        here = dx[first * dx_row : (first + rows - 1) * dx_row + c]
        direct = row == cg and rows % ROWS == 0 and shuffle == 1
        share = (rows + groups - 1) // groups
        for g in range(groups):
            add_weight_gradient(
                dw, g * dw_size, dw_row, a, at + g * cg, a_row, sy, g * og, o, rows, cg, og
            )
            panel, next_ = panels[g * og * packed(cg) :], first + block + g * share
            multiply(
                here if direct else sd, g * row, dx_row if direct else groups * row, WRITE,
                sy, g * og, o, panel, 0, rows, og, cg,
                (x, dy, y, dx), (next_ * x_row, next_ * dy_row, next_ * o, next_ * dx_row),
                share * max(c, o),
            )  # fmt: skip
        if not direct:
            if shuffle == 1:
                _unpad(here, dx_row, sd, rows, groups, cg, row)
            else:
                _unpad(st, c, sd, rows, groups, cg, row)
                transpose(here, st[: rows * c], c // shuffle, shuffle)
        if more.size > 0:
            _add(here, dx_row, more[first * c : (first + rows) * c], rows, c)
        if table.size > 0:
            add_backward_sums(sums, here, x[first * c : (first + rows) * c], table, relu)
    if table.size > 0:
        finish_backward_sums(sums, table)


@fused
def _depthwise(
    y, sums, x, x_row, before, eps, relu, shuffle, w, behind, behind_eps, behind_relu,
    n, h, wd, c, stride, images, period,
):  # fmt: skip
    sx = scratch(images * h * wd * c, x)
    st = scratch(sx.size if shuffle > 1 else 0, x)
    zeros = np.zeros(wd * c, x.dtype)
    shifts = zeros
    table, after = table_of(before, eps, period, x), table_of(behind, behind_eps, period, x)
    folded = _folded(w, 9, after) if after.size > 0 else w[:0]
    if folded.size > 0:
        w, shifts = folded, folded[9 * c :]
    ho, wo = (h + stride - 1) // stride, (wd + stride - 1) // stride
    for first in range(0, n, images):
        count = min(images, n - first)
        z, at = sx, first * h * wd
        if x_row != c or table.size > 0 or shuffle > 1:
            stage(sx, st, x, at * x_row, x_row, count * h * wd, c, table, relu, shuffle)
        else:
            z = x[at * c :]
        here = y[first * ho * wo * c : (first + count) * ho * wo * c]
        if stride == 1:
            forward_1(here, z, w, shifts, zeros, count, h, wd, c)
        else:
            forward_2(here, z, w, shifts, zeros, count, h, wd, c)
        if after.size == 0:
            add_sums(sums, here, period)
        elif folded.size == 0:
            normalise(here, here, after, behind_relu)
        elif behind_relu:
            _rectify(here)


@fused
def _depthwise_backward(
    dx, dw, sums, dy, dy_row, y, behind, means, behind_eps, behind_relu,
    x, x_row, before, eps, relu, shuffle, w, more,
    n, h, wd, c, stride, images, period,
):  # fmt: skip
    table, after = table_of(before, eps, period, x), table_of(behind, behind_eps, period, x)
    slopes = slopes_of(after, means)
    ho, wo = (h + stride - 1) // stride, (wd + stride - 1) // stride
    size = h * wd * c
    sx, sy = scratch(images * size, x), scratch(images * ho * wo * c, x)
    st = scratch(sx.size if shuffle > 1 else 0, x)
    zeros, part = np.zeros(wd * c, x.dtype), np.zeros((-(-c // LANES), 10 * LANES), x.dtype)
    spare = np.zeros(wd * c, x.dtype)
    for first in range(0, n, images):
        count = min(images, n - first)
        _dy_block(
            sy, dy, first * ho * wo, dy_row, y, count * ho * wo, c, after, slopes, behind_relu
        )
        z = sx
        if x_row != c or table.size > 0 or shuffle > 1:
            at = first * h * wd * x_row
            stage(sx, st, x, at, x_row, count * h * wd, c, table, relu, shuffle)
        else:
            z = x[first * size :]
        here = dx[first * size : (first + count) * size]
        target = st if shuffle > 1 else here
        if stride == 1:
            backward_1(target, dw, sy, z, w, zeros, spare, part, count, h, wd, c)
        else:
            backward_2(target, dw, sy, z, w, zeros, spare, part, count, h, wd, c)
        if shuffle > 1:
            transpose(here, st[: here.size], c // shuffle, shuffle)
        if more.size > 0:
            _add(here, size, more[first * size : (first + count) * size], count, size)
        if table.size > 0:
            add_backward_sums(sums, here, x[first * size : (first + count) * size], table, relu)
    if table.size > 0:
        finish_backward_sums(sums, table)
