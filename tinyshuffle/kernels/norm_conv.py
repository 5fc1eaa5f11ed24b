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
from typing import TYPE_CHECKING, Any

import numpy as np

from .. import memory
from ..ops.windows import IntPair, is_pointwise
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
from .jit import flat
from .norm_depthwise import depthwise, depthwise_backward
from .norm_pointwise import pointwise, pointwise_backward
from .pixels import pixels
from .pointwise import check_channels, pointwise_conv2d, pointwise_conv2d_backward
from .record import Work, fill, run
from .sums import period_of
from .tile import ROWS

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
_WEIGHTS = 2**16  # of a group, whose gradient stays in the cache; more are left to BLAS
_WEIGHTS_FORWARD = 2**20  # where there is no gradient


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
        y, sums = _output(x, w, way), np.empty((3, w.shape[-1]))
        run(_forward(y, sums, x, norm, None, w, way, groups))
        return y, sums
    y = _convolved(normalised(x, norm), w, stride, padding, dilation, groups)
    return y, batch_norm_sums(y)


def norm_conv_work(
    y: np.ndarray, sums: np.ndarray, x: np.ndarray, norm: Norm | None, w: np.ndarray,
    stride: IntPair, padding: IntPair, dilation: IntPair, groups: int,
) -> Work | None:  # fmt: skip
    """Write what :func:`norm_conv` returns to ``y`` and ``sums``; None if that takes steps."""
    way = _way(w.shape, stride, padding, dilation, groups)
    return _forward(y, sums, x, norm, None, w, way, groups) if way else None


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
        y = _output(x, w, way)
        run(_forward(y, None, x, None, norm, w, way, groups))
    else:
        y = _convolved(x, w, stride, padding, dilation, groups)
        run(normalise_work(y, y, *norm[:6]))
    return channel_shuffle(y, norm.shuffle) if norm.shuffle > 1 else y


def conv_norm_work(
    y: np.ndarray, x: np.ndarray, norm: Norm, w: np.ndarray,
    stride: IntPair, padding: IntPair, dilation: IntPair, groups: int,
) -> Work | None:  # fmt: skip
    """Write what :func:`conv_norm` returns to ``y``; None if that takes steps."""
    way = _way(w.shape, stride, padding, dilation, groups, _WEIGHTS_FORWARD)
    if not way or norm.shuffle > 1:
        return None
    return _forward(y, None, x, None, norm, w, way, groups)


def _output(x: np.ndarray, w: np.ndarray, way: int) -> np.ndarray:
    """Memory for the result of a convolution that is done in one of the fast ways."""
    (n, h, wd, _), stride = x.shape, 1 if way == 3 else way
    return memory.empty((n, -(-h // stride), -(-wd // stride), w.shape[-1]), x.dtype)


def _forward(
    y: np.ndarray, sums: np.ndarray | None, x: np.ndarray, before: Norm | None,
    behind: Norm | None, w: np.ndarray, way: int, groups: int,
) -> Work:  # fmt: skip
    """Write y and its sums; or with a norm ``behind``, what it makes of y, and no sums."""
    (n, h, wd, c), dtype, o = x.shape, x.dtype, w.shape[-1]
    xf, x_row = pixels(x, dtype) if before is None else (flat(x, dtype), c)
    given: dict[str, Any] = dict(
        x=xf, x_row=x_row, y=y, w=flat(w, dtype), sums=0 if sums is None else sums,
        before=norm_of(before, c, dtype), behind=norm_of(behind, o, dtype), c=c, o=o,
        period=period_of(o),
    )  # fmt: skip
    if way < 3:
        images = _images(n, h * wd * c)
        return fill(depthwise, dtype, n=n, h=h, wd=wd, stride=way, block=images, **given)
    check_channels(x, w, groups)
    return fill(
        pointwise, dtype, m=n * h * wd, groups=groups, block=_rows(c, o), x_period=period_of(c),
        **given,
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
    (n, h, wd, c), dtype, o = x.shape, x.dtype, w.shape[-1]
    way, (dxf, dx_row) = _way(w.shape, stride, padding, dilation, groups), pixels(dx, dtype)
    if not way or not np.may_share_memory(dxf, dx) or (way < 3 and dx_row != c):
        return None
    xf, x_row = pixels(x, dtype) if norm is None else (flat(x, dtype), c)
    dyf, dy_row = pixels(dy, dtype)
    after = None if behind is None else (*behind.norm, behind.sums, behind.pixels)
    given: dict[str, Any] = dict(
        x=xf, x_row=x_row, y=flat(y, dtype), dy=dyf, dy_row=dy_row, dx=dxf, dx_row=dx_row,
        w=flat(w, dtype), dw=dw, sums=0 if sums is None else sums,
        more=0 if plus is None else flat(plus, dtype, x.shape),
        before=norm_of(norm, c, dtype), behind=norm_of(after, o, dtype), c=c, o=o,
        period=period_of(o),
    )  # fmt: skip
    if way < 3:
        images = _images(n, h * wd * c)
        return fill(depthwise_backward, dtype, n=n, h=h, wd=wd, stride=way, block=images, **given)
    return fill(
        pointwise_backward, dtype, m=n * h * wd, groups=groups, block=_rows(c, o),
        x_period=period_of(c), **given,
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


def _rows(c: int, o: int) -> int:
    """How many pixels to take at a time."""
    return max(4 * ROWS, _BLOCK // max(c, o) // ROWS * ROWS)


def _images(n: int, numbers: int) -> int:
    """How many images to take at a time."""
    return min(n, max(1, _BLOCK // numbers))
