"""What a fused row means: each one is a composition of the operations in ``tinyshuffle.ops``.

These functions are the definition. The kernels of the same names do the same in one pass over their
tensors, a few images at a time, and are tested against them row by row.

Around a convolution::

    z = shuffle(relu(BN(x)))        a norm: the batch norm of the convolution before
    y = conv(z)                     without a bias: the batch norm behind would take it away
    Σ y, Σ y²                       which the batch norm behind asks for

and backward, given the gradient of what the batch norm behind y returned::

    dy = BN'(…)                     BN-7, with the sums that an earlier row has made
    dz, dw = conv'(dy)
    dx = shuffle'(dz)               the gradient of relu(BN(x))
    Σ dx, Σ dx x̂                    BN-5 and BN-6 of the batch norm of x, over dx where relu is open

Where V2's branches meet, z being relu(BN(x)) or x itself::

    y = shuffle(concat(z1, z2))     and backward dz1, dz2 with the sums of either norm

Where V1 adds its shortcut::

    y = relu(BN(x) + s)             dz = dy where y > 0: the gradient of s, and of BN(x)
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from ..ops.activations import relu, relu_backward
from ..ops.batch_norm import (
    batch_norm,
    batch_norm_backward,
    batch_norm_backward_sums,
    batch_norm_sums,
)
from ..ops.branches import add, channel_split, concat
from ..ops.channel_shuffle import channel_shuffle, channel_shuffle_backward
from ..ops.conv import conv2d, conv2d_backward
from ..ops.depthwise import depthwise_conv2d, depthwise_conv2d_backward
from ..ops.pointwise import pointwise_conv2d, pointwise_conv2d_backward
from ..ops.windows import IntPair, is_pointwise

__all__ = [
    "ConvBackward",
    "Gradient",
    "Norm",
    "concat_shuffle",
    "concat_shuffle_backward",
    "conv_norm",
    "norm_add_relu",
    "norm_add_relu_backward",
    "norm_conv",
    "norm_conv_backward",
    "normalised",
]


class Norm(NamedTuple):
    """A batch norm with its statistics, a ReLU behind it or not, and a channel shuffle or not.

    The arrays are (C,); in a plan's rows they are views of buffers.
    """

    gamma: Any
    beta: Any
    mean: Any
    var: Any
    eps: float
    relu: bool = False
    shuffle: int = 1  # groups


class Gradient(NamedTuple):
    """What the way back through a batch norm needs: the norm, dβ and dγ (2, C), and M."""

    norm: Norm
    sums: Any
    pixels: Any


class ConvBackward(NamedTuple):
    """The arguments of :func:`norm_conv_backward`."""

    dy: Any
    y: Any
    behind: Gradient | None
    x: Any
    norm: Norm | None
    w: Any
    stride: IntPair = 1
    padding: IntPair = 0
    dilation: IntPair = 1
    groups: int = 1
    plus: Any = None
    there: Any = None


def normalised(x: np.ndarray, norm: Norm | None) -> np.ndarray:
    """Return what a norm makes of ``x``; ``x`` itself if it is None."""
    if norm is None:
        return x
    z = batch_norm(x, *norm[:5])
    if norm.relu:
        z = relu(z)
    return channel_shuffle(z, norm.shuffle) if norm.shuffle > 1 else z


def norm_conv(
    x: np.ndarray,
    norm: Norm | None,
    w: np.ndarray,
    stride: IntPair = 1,
    padding: IntPair = 0,
    dilation: IntPair = 1,
    groups: int = 1,
) -> tuple[np.ndarray, np.ndarray]:
    """Normalise and convolve.

    Parameters
    ----------
    x : (N, H, W, C)
    norm : Norm or None
        None if ``x`` is to be convolved as it is.
    w : (Kh, Kw, C / groups, O), or (Kh, Kw, C) if depthwise

    Returns
    -------
    y : (N, Ho, Wo, O)
    sums : float64 (3, O)
        As :func:`batch_norm_sums` gives them of y.
    """
    y = _convolved(normalised(x, norm), w, stride, padding, dilation, groups)
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
    """Convolve and normalise: the way of evaluation, where the statistics are known beforehand.

    Returns what the norm makes of the convolution of ``x``, (N, Ho, Wo, O).
    """
    return normalised(_convolved(x, w, stride, padding, dilation, groups), norm)


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
    """Go back through the batch norm behind the convolution, and through the convolution.

    Parameters
    ----------
    dy : (N, Ho, Wo, O)
        Gradient of what the batch norm ``behind`` made of ``y``; of ``y`` itself if it is None.
    y, x, norm, w
        The result and the arguments of :func:`norm_conv`.
    plus : (N, H, W, C), optional
        Another gradient of ``x``, to be added, if there is no norm before.
    there : (N, H, W, C), optional
        Where to write dx, if there is no norm before: some channels of a tensor.

    Returns
    -------
    dx : (N, H, W, C)
        Gradient of what the norm made of ``x``, before a shuffle; of ``x`` itself without one.
    dw : like w
    sums : float64 (2, C) or None
        dβ and dγ of the norm before, of this slice.
    """
    if behind is not None:
        n = behind.norm
        dy = batch_norm_backward(
            _gated(dy, y, n), y, *n[:4], behind.sums, behind.pixels, n.eps
        )
    z = normalised(x, norm)
    if w.ndim == 3:
        dx, dw, _ = depthwise_conv2d_backward(dy, z, w, stride, padding, dilation, bias=False)
    elif is_pointwise(w.shape, stride, padding):
        dx, dw, _ = pointwise_conv2d_backward(dy, z, w, groups, bias=False)
    else:
        dx, dw, _ = conv2d_backward(dy, z, w, stride, padding, dilation, groups, bias=False)
    if norm is None:
        if plus is not None:
            dx = add(dx, plus)
        if there is not None:
            there[...] = dx
            return there, dw, None
        return dx, dw, None
    if norm.shuffle > 1:
        dx = channel_shuffle_backward(dx, norm.shuffle)
    return dx, dw, _sums(dx, x, norm)


def concat_shuffle(
    x1: np.ndarray, x2: np.ndarray, norm1: Norm | None = None, norm2: Norm | None = None
) -> np.ndarray:
    """Return x1 (N, H, W, C1) and x2 (N, H, W, C2) side by side, shuffled with two groups.

    Each of them is normalised first if it comes with a norm, which has no shuffle of its own.
    """
    return channel_shuffle(concat([normalised(x1, norm1), normalised(x2, norm2)]), 2)


def concat_shuffle_backward(
    dy: np.ndarray,
    first: int,
    x1: np.ndarray | None = None,
    x2: np.ndarray | None = None,
    norm1: Norm | None = None,
    norm2: Norm | None = None,
) -> tuple[np.ndarray, np.ndarray | None, np.ndarray | None]:
    """Return the gradients of z1 and z2 side by side, and what the norms need to go on.

    Parameters
    ----------
    dy : (N, H, W, C1 + C2)
    first : int
        C1.
    x1, x2, norm1, norm2
        As :func:`concat_shuffle` had them; None where there is no norm.

    Returns
    -------
    dz : (N, H, W, C1 + C2)
    sums1, sums2 : float64 (2, C1) and (2, C2)
        dβ and dγ of the norms, of this slice; None where there is no norm.
    """
    dz = channel_shuffle_backward(dy, 2)
    dz1, dz2 = channel_split(dz, first)
    return dz, _sums(dz1, x1, norm1), _sums(dz2, x2, norm2)


def norm_add_relu(x: np.ndarray, norm: Norm, shortcut: np.ndarray) -> np.ndarray:
    """Return relu(BN(x) + shortcut), all of shape (N, H, W, C); the norm has no ReLU of its own."""
    return relu(add(normalised(x, norm), shortcut))


def norm_add_relu_backward(
    dy: np.ndarray, y: np.ndarray, x: np.ndarray, norm: Norm
) -> tuple[np.ndarray, np.ndarray]:
    """Return dz, the gradient of both addends, and the batch norm's dβ and dγ, float64 (2, C)."""
    dz = relu_backward(dy, y)
    return dz, batch_norm_backward_sums(dz, x, *norm[:5])


def _gated(dy: np.ndarray, x: np.ndarray, n: Norm) -> np.ndarray:
    """The gradient of BN(x), given that of relu(BN(x)) if there is a ReLU."""
    return relu_backward(dy, batch_norm(x, *n[:5])) if n.relu else dy


def _sums(dz: np.ndarray, x: np.ndarray | None, n: Norm | None) -> np.ndarray | None:
    if n is None:
        return None
    assert x is not None
    return batch_norm_backward_sums(_gated(dz, x, n), x, *n[:5])


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
