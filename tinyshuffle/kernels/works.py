"""Which operations can run without the interpreter, and how."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import numba
import numpy as np

from ..ops.windows import IntPair
from .activations import relu_backward_work, relu_work
from .batch_norm import backward_sums_work, backward_work, normalise_work, sums_work
from .branches import add_work, copy_work
from .channel_scale import channel_scale_backward_work, channel_scale_work
from .channel_shuffle import channel_shuffle_work
from .linear import one_row_work
from .meeting import (
    concat_shuffle_backward_work,
    concat_shuffle_work,
    norm_add_relu_backward_work,
    norm_add_relu_work,
)
from .norm_conv import conv_norm_work, norm_conv_backward_work, norm_conv_work
from .pointwise import bias_gradient_work, bias_work
from .pool import (
    avg_pool2d_backward_work,
    avg_pool2d_work,
    global_avg_pool_backward_work,
    global_avg_pool_work,
    max_pool2d_backward_work,
    max_pool2d_work,
)
from .record import Work
from .statistics import gradients_work, statistics_work, track_work

__all__ = ["reads", "works_of"]

Arguments = tuple[Any, ...]
Array = np.ndarray


def works_of(
    operation: str, results: Arguments, arguments: Arguments, keywords: dict[str, Any]
) -> list[Work]:
    """Return what a row does, as compiled kernels, one after the other, and their records.

    Parameters
    ----------
    operation : str
        Of ``ops`` or ``plan.fused``.
    results : tuple of array
        To be written to; None for a result that there is not.
    arguments, keywords
        As the operation is called.

    Returns
    -------
    list of Work
        Empty if only Python knows how: there is no such kernel, or not for these arrays.
    """
    make = _WORKS.get(operation)
    if make is None or numba.config.DISABLE_JIT:  # type: ignore[attr-defined]
        return []
    made = make(*results, *arguments, **keywords)
    works = made if isinstance(made, list) else [made]
    return [] if None in works else works  # type: ignore[return-value]


def _normalised(y: Array, x: Array, norm: Any) -> Work | None:
    return None if norm is None or norm.shuffle > 1 else normalise_work(y, x, *norm[:6])


def _backward_sums(sums: Array, *arguments: Any, relu: bool = False) -> Work:
    return backward_sums_work(sums, *arguments, relu)


def _track(mean: Array, var: Array, tracked: Array, *arguments: Any) -> Work | None:
    count = arguments[5]
    return track_work(*arguments) if count > 1 else None  # Python says what is wrong


def _gradients(dbeta: Array, dgamma: Array, sums: Array, *_: Any) -> Work:
    return gradients_work(dbeta, dgamma, sums)


def _shuffle_backward(dx: Array, dy: Array, groups: int) -> Work:
    return channel_shuffle_work(dx, dy, dy.shape[-1] // groups)


def _concat(y: Array, xs: list[Array]) -> list[Work]:
    ends = np.cumsum([x.shape[-1] for x in xs])
    return [copy_work(y[..., e - x.shape[-1] : e], x) for x, e in zip(xs, ends, strict=True)]


def _split_backward(dx: Array, dy1: Array, dy2: Array) -> list[Work]:
    return _concat(dx, [dy1, dy2])


def _concat_backward(*all_: Any) -> list[Work]:
    *dxs, dy, channels = all_
    ends = np.cumsum(channels)
    return [
        copy_work(dx, dy[..., e - c : e])
        for dx, c, e in zip(dxs, channels, ends, strict=True)
        if dx is not None
    ]


def _accumulate(total: Array, _: Array, more: Array) -> Work:
    return add_work(total, total, more)


def _conv(
    y: Array, x: Array, w: Array, b: Array | None = None, stride: IntPair = 1,
    padding: IntPair = 0, dilation: IntPair = 1, groups: int = 1,
) -> list[Work | None]:  # fmt: skip
    product = norm_conv_work(y, None, x, None, w, stride, padding, dilation, groups)
    return [product] if b is None else [product, bias_work(y, b)]


def _pointwise(
    y: Array, x: Array, w: Array, b: Array | None = None, groups: int = 1
) -> list[Work | None]:
    return _conv(y, x, w, b, groups=groups)


def _conv_backward(
    dx: Array, dw: Array, db: Array | None, dy: Array, x: Array, w: Array, stride: IntPair = 1,
    padding: IntPair = 0, dilation: IntPair = 1, groups: int = 1, bias: bool = True,
) -> list[Work | None]:  # fmt: skip
    # of what the convolution has made nothing is needed without a batch norm behind it
    products = norm_conv_backward_work(
        dx, dw, None, dy, dy, None, x, None, w, stride, padding, dilation, groups
    )
    return [products] if db is None else [products, bias_gradient_work(db, dy)]


def _depthwise_backward(
    dx: Array, dw: Array, db: Array | None, dy: Array, x: Array, w: Array, stride: IntPair = 1,
    padding: IntPair = 0, dilation: IntPair = 1, bias: bool = True,
) -> list[Work | None]:  # fmt: skip
    return _conv_backward(dx, dw, db, dy, x, w, stride, padding, dilation)


def _pointwise_backward(
    dx: Array, dw: Array, db: Array | None, dy: Array, x: Array, w: Array, groups: int = 1,
    bias: bool = True,
) -> list[Work | None]:  # fmt: skip
    return _conv_backward(dx, dw, db, dy, x, w, groups=groups)


def _linear(y: Array, x: Array, w: Array, b: Array | None = None) -> list[Work | None]:
    if len(x) == 1:
        product = one_row_work(y, x, w)
        return [product] if b is None else [product, bias_work(y, b)]
    # a pointwise convolution of images of one pixel
    return _conv(_images(y), _images(x), w[None, None], b)


def _linear_backward(
    dx: Array, dw: Array, db: Array | None, dy: Array, x: Array, w: Array
) -> list[Work | None]:
    dy4, x4 = _images(dy), _images(x)
    return _conv_backward(_images(dx), dw, db, dy4, x4, w[None, None])


def _images(a: Array) -> Array:
    """(N, C) as (N, 1, 1, C)."""
    return a[:, None, None, :]


_WORKS: dict[str, Callable[..., Any]] = {
    "accumulate": _accumulate,
    "add": add_work,
    "avg_pool2d": avg_pool2d_work,
    "avg_pool2d_backward": avg_pool2d_backward_work,
    "batch_norm_sums": sums_work,
    "batch_norm_statistics": statistics_work,
    "batch_norm_track": _track,
    "batch_norm_gradients": _gradients,
    "batch_norm_backward_sums": _backward_sums,
    "batch_norm_backward": backward_work,
    "channel_scale": channel_scale_work,
    "channel_scale_backward": channel_scale_backward_work,
    "channel_shuffle": channel_shuffle_work,
    "channel_shuffle_backward": _shuffle_backward,
    "channel_split_backward": _split_backward,
    "concat": _concat,
    "concat_backward": _concat_backward,
    "conv2d": _conv,
    "conv2d_backward": _conv_backward,
    "depthwise_conv2d": _conv,
    "depthwise_conv2d_backward": _depthwise_backward,
    "global_avg_pool": global_avg_pool_work,
    "global_avg_pool_backward": global_avg_pool_backward_work,
    "linear": _linear,
    "linear_backward": _linear_backward,
    "max_pool2d": max_pool2d_work,
    "max_pool2d_backward": max_pool2d_backward_work,
    "pointwise_conv2d": _pointwise,
    "pointwise_conv2d_backward": _pointwise_backward,
    "relu": relu_work,
    "relu_backward": relu_backward_work,
    "relu6": partial(relu_work, ceiling=6.0),
    "relu6_backward": partial(relu_backward_work, ceiling=6.0),
    "normalised": _normalised,
    "norm_conv": norm_conv_work,
    "norm_conv_backward": norm_conv_backward_work,
    "conv_norm": conv_norm_work,
    "concat_shuffle": concat_shuffle_work,
    "concat_shuffle_backward": concat_shuffle_backward_work,
    "norm_add_relu": norm_add_relu_work,
    "norm_add_relu_backward": norm_add_relu_backward_work,
}


def reads(work: Work) -> list[np.ndarray]:
    """Return the arrays whose addresses stand in a record."""
    found: list[np.ndarray] = []

    def visit(value: Any) -> None:
        if isinstance(value, np.ndarray) and value.shape:
            found.append(value)
        elif isinstance(value, list | tuple):
            for part in value:
                visit(part)

    visit(work.arrays)
    return found
