"""A convolution between two batch norms: see ``plan.fused`` for the mathematics.

A few images (or rows of pixels) at a time go through all the steps, each of which is a kernel from
another file, while they are in the core's cache: the normalised input and the gradient behind the
convolution exist as such blocks only, in scratch memory. So a forward pass reads x and writes y,
and a backward pass reads dy, y and x and writes dx, whatever happens in between.

Products of very large weights are left to BLAS, step by step.
"""

from __future__ import annotations

from functools import cache
from math import prod
from typing import TYPE_CHECKING, Any

import numpy as np

from .. import memory
from ..ops.windows import IntPair, is_pointwise, output_size, pair
from .batch_norm import (
    batch_norm,
    batch_norm_backward,
    batch_norm_backward_sums,
    batch_norm_sums,
    norm_of,
    normalise_work,
)
from .channel_shuffle import channel_shuffle, channel_shuffle_backward
from .conv import conv2d, conv2d_backward
from .depthwise import depthwise_conv2d, depthwise_conv2d_backward, special_stride
from .few_pixels import are_few, few_pixels
from .frame import conv
from .frame_back import conv_backward
from .frame_groups import SPAN, grouped
from .frame_groups_back import grouped_backward
from .jit import LANES, flat
from .norm_conv2d import stem, stem_backward
from .norm_depthwise import (
    depthwise,
    depthwise_any,
    depthwise_any_backward,
    depthwise_backward,
)
from .norm_pointwise import pointwise, pointwise_backward
from .pixels import pixels
from .pointwise import check_channels, pointwise_conv2d, pointwise_conv2d_backward
from .record import WINDOW, Work, fill, run
from .sums import period_of
from .tile import ROWS
from .winograd import MOST_WEIGHTS, in_tiles, pays_in_tiles, winograd
from .winograd_back import winograd_backward

if TYPE_CHECKING:
    from ..plan.fused import Gradient, Norm

__all__ = [
    "conv_norm",
    "conv_norm_work",
    "norm_conv",
    "norm_conv_backward",
    "norm_conv_backward_work",
    "norm_conv_work",
    "normalised",
]

_BLOCK = 2**14  # numbers of a tensor to take through all the steps at a time: 64 KB in float32
_FRAMES = 2**15  # numbers of images in their frames at a time, where windows overlap
_SLIM = 8  # channels of a group at most, which lie side by side with those of other groups

# the ways: a depthwise convolution of stride 1 or 2, of whatever window, a product, images, groups
# of few channels, tiles of 3x3 windows, any
_DEPTHWISE_1, _DEPTHWISE_2, _DEPTHWISE, _POINTWISE, _STEM, _GROUPS, _TILES, _ANY = range(1, 9)


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
    geometry = stride, padding, dilation, groups
    if _way(w.shape, x.shape, *geometry):
        y, sums = _output(x, w, *geometry), np.empty((3, w.shape[-1]))
        run(_forward(y, sums, x, norm, None, w, *geometry))
        return y, sums
    y = _convolved(normalised(x, norm), w, *geometry)
    return y, batch_norm_sums(y)


def norm_conv_work(
    y: np.ndarray, sums: np.ndarray | None, x: np.ndarray, norm: Norm | None, w: np.ndarray,
    stride: IntPair, padding: IntPair, dilation: IntPair, groups: int,
) -> Work | None:  # fmt: skip
    """Write what :func:`norm_conv` returns to ``y`` and ``sums``; None if that takes steps."""
    geometry = stride, padding, dilation, groups
    fast = _way(w.shape, x.shape, *geometry)
    return _forward(y, sums, x, norm, None, w, *geometry) if fast else None


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
    geometry = stride, padding, dilation, groups
    if _way(w.shape, x.shape, *geometry):
        y = _output(x, w, *geometry)
        run(_forward(y, None, x, None, norm, w, *geometry))
    else:
        y = _convolved(x, w, *geometry)
        run(normalise_work(y, y, *norm[:6]))
    return channel_shuffle(y, norm.shuffle) if norm.shuffle > 1 else y


def conv_norm_work(
    y: np.ndarray, x: np.ndarray, norm: Norm, w: np.ndarray,
    stride: IntPair, padding: IntPair, dilation: IntPair, groups: int,
) -> Work | None:  # fmt: skip
    """Write what :func:`conv_norm` returns to ``y``; None if that takes steps."""
    geometry = stride, padding, dilation, groups
    if norm.shuffle > 1 or not _way(w.shape, x.shape, *geometry):
        return None
    return _forward(y, None, x, None, norm, w, *geometry)


def _output(
    x: np.ndarray, w: np.ndarray, stride: IntPair, padding: IntPair, dilation: IntPair, _: int
) -> np.ndarray:
    """Memory for the result of a convolution."""
    size = output_size(x.shape[1:3], w.shape[:2], stride, padding, dilation)
    return memory.empty((len(x), *size, w.shape[-1]), x.dtype)


def _forward(
    y: np.ndarray, sums: np.ndarray | None, x: np.ndarray, before: Norm | None,
    behind: Norm | None, w: np.ndarray, stride: IntPair, padding: IntPair, dilation: IntPair,
    groups: int,
) -> Work:  # fmt: skip
    """Write y and its sums; or with a norm ``behind``, what it makes of y, and no sums."""
    c, dtype, o = x.shape[-1], x.dtype, w.shape[-1]
    xf, x_row = pixels(x, dtype) if before is None else (flat(x, dtype), c)
    way = _way(w.shape, x.shape, stride, padding, dilation, groups)
    if way == _STEM and (before is not None or x_row != c):
        way = _ANY
    if way in (_GROUPS, _TILES) and before is not None and before.shuffle > 1:
        way = _ANY
    kernel, alone = _kernel(way), before is None and sums is None
    if way == _POINTWISE and alone and are_few(x.size // c, o, groups):
        kernel = few_pixels
    return fill(
        kernel, dtype, x=xf, x_row=x_row, y=y, w=flat(w, dtype),
        sums=0 if sums is None else sums,
        before=norm_of(before, c, dtype), behind=norm_of(behind, o, dtype),
        **_numbers(way, x, w, y, stride, padding, dilation, groups),
    )  # fmt: skip


def _numbers(
    way: int, x: np.ndarray, w: np.ndarray, y: np.ndarray, stride: IntPair, padding: IntPair,
    dilation: IntPair, groups: int,
) -> dict[str, Any]:  # fmt: skip
    """The sizes of a convolution, and how much of it to do at a time."""
    (n, h, wd, c), o, (ho, wo) = x.shape, w.shape[-1], y.shape[1:3]
    sizes: dict[str, Any] = dict(c=c, o=o, period=period_of(o), x_period=period_of(c))
    if way == _POINTWISE:
        check_channels(x, w, groups)
        m = n * h * wd
        return sizes | dict(m=m, groups=groups, block=_rows(m, c, o), y_row=o, w_row=o)
    check_channels(x, w, 1 if w.ndim == 3 else groups)
    if way == _TILES:
        return in_tiles(x.shape, o)
    sizes |= dict(n=n, h=h, wd=wd)
    if way in (_DEPTHWISE_1, _DEPTHWISE_2):
        return sizes | dict(stride=way, block=_images(n, h * wd * c))
    kh, kw = w.shape[:2]
    window = (kh, kw, *pair(stride), *pair(padding), *pair(dilation), ho, wo)
    (sh, sw), (dh, dw) = pair(stride), pair(dilation)
    high, wide = (kh - 1) * dh + 1, (kw - 1) * dw + 1
    row = ((wo - 1) * sw + wide) * c  # of pixels in a frame
    whole = max(((ho - 1) * sh + high) * row, ho * wo * o)
    if way == _GROUPS:  # of planes, for a vector of channels
        row, whole = row // groups * LANES, whole // groups * LANES
    images = min(n, max(1, _FRAMES // whole))
    lines = ho if images > 1 else (_FRAMES // row - high) // sh + 1
    return sizes | dict(
        groups=groups, images=images, block=min(ho, max(1, lines)),
        window=(np.array(window, WINDOW),),
    )  # fmt: skip


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
    geometry = stride, padding, dilation, groups
    dx = memory.empty(x.shape, x.dtype) if there is None else there
    dw, sums = np.empty(w.shape, w.dtype), None if norm is None else np.empty((2, x.shape[-1]))
    work = norm_conv_backward_work(dx, dw, sums, dy, y, behind, x, norm, w, *geometry, plus)
    if work is not None:
        run(work)
        return dx, dw, sums
    dx, dw, sums = _step_by_step(dy, y, behind, x, norm, w, *geometry, plus)
    if there is None:
        return dx, dw, sums
    there[...] = dx
    return there, dw, sums


def norm_conv_backward_work(
    dx: np.ndarray, dw: np.ndarray, sums: np.ndarray | None, dy: np.ndarray, y: np.ndarray,
    behind: Gradient | None, x: np.ndarray, norm: Norm | None, w: np.ndarray,
    stride: IntPair, padding: IntPair, dilation: IntPair, groups: int,
    plus: np.ndarray | None = None, there: np.ndarray | None = None,
) -> Work | None:  # fmt: skip
    """Write what :func:`norm_conv_backward` returns to ``dx``, ``dw`` and ``sums``.

    None if that takes steps.
    """
    c, dtype, o = x.shape[-1], x.dtype, w.shape[-1]
    geometry = stride, padding, dilation, groups
    way, (dxf, dx_row) = _way(w.shape, x.shape, *geometry), pixels(dx, dtype)
    depthwise_ = way in (_DEPTHWISE_1, _DEPTHWISE_2, _DEPTHWISE)
    if not way or not np.may_share_memory(dxf, dx) or (depthwise_ and dx_row != c):
        return None
    xf, x_row = pixels(x, dtype) if norm is None else (flat(x, dtype), c)
    if way == _STEM and not (norm is None and plus is None and x_row == dx_row == c):
        way = _ANY
    if way in (_GROUPS, _TILES) and norm is not None and norm.shuffle > 1:
        way = _ANY
    dyf, dy_row = pixels(dy, dtype)
    after = None if behind is None else (*behind.norm, behind.sums, behind.pixels)
    return fill(
        _backward_kernel(way), dtype, x=xf, x_row=x_row, y=flat(y, dtype), dy=dyf, dy_row=dy_row,
        dx=dxf, dx_row=dx_row, w=flat(w, dtype), dw=dw, sums=0 if sums is None else sums,
        more=0 if plus is None else flat(plus, dtype, x.shape),
        before=norm_of(norm, c, dtype), behind=norm_of(after, o, dtype),
        **_numbers(way, x, w, y, *geometry),
    )  # fmt: skip


def _step_by_step(
    dy: np.ndarray, y: np.ndarray, behind: Gradient | None, x: np.ndarray, norm: Norm | None,
    w: np.ndarray, stride: IntPair, padding: IntPair, dilation: IntPair, groups: int,
    plus: np.ndarray | None,
) -> tuple[np.ndarray, np.ndarray, np.ndarray | None]:  # fmt: skip
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


def normalised(x: np.ndarray, norm: Norm | None) -> np.ndarray:
    """Return what ``norm`` makes of ``x``; ``x`` itself if it is None."""
    if norm is None:
        return x
    z = batch_norm(x, *norm[:6])
    return channel_shuffle(z, norm.shuffle) if norm.shuffle > 1 else z


def _convolved(
    z: np.ndarray, w: np.ndarray, stride: IntPair, padding: IntPair, dilation: IntPair, groups: int
) -> np.ndarray:
    if w.ndim == 3:
        return depthwise_conv2d(z, w, None, stride, padding, dilation)
    if is_pointwise(w.shape, stride, padding):
        return pointwise_conv2d(z, w, None, groups)
    return conv2d(z, w, None, stride, padding, dilation, groups)


@cache
def _way(
    shape: tuple[int, ...],
    x_shape: tuple[int, ...],
    stride: IntPair,
    padding: IntPair,
    dilation: IntPair,
    groups: int,
) -> int:
    """Which fast way there is for weights of this shape, or 0."""
    if len(x_shape) != 4:
        return 0
    if len(shape) == 3:
        return special_stride(shape, stride, padding, dilation) or _DEPTHWISE
    if prod(shape) // groups > MOST_WEIGHTS:
        return 0
    if is_pointwise(shape, stride, padding):
        return _POINTWISE
    images = shape[:3] == (3, 3, 3) and shape[3] >= LANES and groups == 1
    if images and pair(dilation) == (1, 1):
        return _STEM
    if pays_in_tiles(shape, x_shape, stride, padding, dilation, groups):
        return _TILES
    return _GROUPS if _are_slim(shape[2], shape[3] // groups, groups) else _ANY


def _are_slim(cg: int, og: int, groups: int) -> bool:
    """Whether groups of Cg channels that become Og should lie side by side in vectors."""
    if groups == 1 or max(cg, og) > _SLIM or min(cg, og) * groups < LANES:
        return False
    for each, seen in (og, cg), (cg, og):
        total = each * groups
        for first in (*range(0, total - LANES, LANES), total - LANES):
            if ((first + LANES - 1) // each - first // each + 1) * seen > SPAN:
                return False
    return True


def _rows(m: int, c: int, o: int) -> int:
    """How many of m pixels to take at a time."""
    return m if m <= 8 * ROWS else max(4 * ROWS, _BLOCK // max(c, o) // ROWS * ROWS)


def _images(n: int, numbers: int) -> int:
    """How many images to take at a time."""
    return min(n, max(1, _BLOCK // numbers))


def _kernel(way: int) -> Any:
    if way == _ANY:
        return conv
    if way == _GROUPS:
        return grouped
    if way == _TILES:
        return winograd
    if way == _STEM:
        return stem
    if way == _POINTWISE:
        return pointwise
    return depthwise_any if way == _DEPTHWISE else depthwise


def _backward_kernel(way: int) -> Any:
    if way == _ANY:
        return conv_backward
    if way == _GROUPS:
        return grouped_backward
    if way == _TILES:
        return winograd_backward
    if way == _STEM:
        return stem_backward
    if way == _POINTWISE:
        return pointwise_backward
    return depthwise_any_backward if way == _DEPTHWISE else depthwise_backward
