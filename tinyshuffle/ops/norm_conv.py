"""A convolution between two batch norms: what a ShuffleNet is made of, as one operation.

    z = shuffle(relu(BN(x)))        the batch norm of the convolution before, or x itself
    y = conv(z)                     without a bias: the batch norm behind would take it away
    Σ y, Σ y²                       which the batch norm behind asks for

and backward, given the gradient of what the batch norm behind y returned::

    dy = BN'(…)                     BN-7, with the sums that the step before has made
    dz, dw = conv'(dy)
    dx = shuffle'(dz)               the gradient of relu(BN(x))
    Σ dx, Σ dx x̂                    BN-5 and BN-6 of the batch norm of x, over dx where relu is open

Nothing here is new: it is the composition of the operations that have files of their own. But cut
this way a net needs to keep nothing but the convolutions' outputs, and an implementation can do a
few images at a time, so that z, dy and the sums never leave the cache (``kernels.norm_conv``).
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from .batch_norm import (
    batch_norm,
    batch_norm_backward,
    batch_norm_backward_sums,
    batch_norm_sums,
)
from .channel_shuffle import channel_shuffle, channel_shuffle_backward
from .conv import conv2d, conv2d_backward
from .depthwise import depthwise_conv2d, depthwise_conv2d_backward
from .pointwise import pointwise_conv2d, pointwise_conv2d_backward
from .windows import IntPair, pair

__all__ = ["Gradient", "Norm", "conv_norm", "norm_conv", "norm_conv_backward"]


class Norm(NamedTuple):
    """A batch norm with its statistics, a ReLU behind it or not, and a channel shuffle or not."""

    gamma: np.ndarray
    beta: np.ndarray
    mean: np.ndarray
    var: np.ndarray
    eps: float
    relu: bool
    shuffle: int = 1  # groups


class Gradient(NamedTuple):
    """What the way back through a batch norm needs: the norm, dβ and dγ (2, C), and M (C,)."""

    norm: Norm
    sums: np.ndarray
    pixels: np.ndarray


def normalised(x: np.ndarray, norm: Norm | None) -> np.ndarray:
    """Return what ``norm`` makes of ``x``; ``x`` itself if it is None."""
    if norm is None:
        return x
    z = batch_norm(x, *norm[:6])
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
    """Convolve and normalise: the way of evaluation, where the statistics are known beforehand.

    Returns what ``norm`` makes of the convolution of ``x``, (N, Ho, Wo, O).
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
        Another gradient of ``x``, to be added, if there is no ``norm``.
    there : (N, H, W, C), optional
        Where to write dx, if there is no ``norm``: some channels of a tensor.

    Returns
    -------
    dx : (N, H, W, C)
        Gradient of what ``norm`` made of ``x``, before a shuffle; of ``x`` itself if it is None.
    dw : like w
    sums : float64 (2, C) or None
        dβ and dγ of ``norm``, of this slice.
    """
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
        if plus is not None:
            dx = dx + plus
        if there is not None:
            there[...] = dx
            return there, dw, None
        return dx, dw, None
    if norm.shuffle > 1:
        dx = channel_shuffle_backward(dx, norm.shuffle)
    return dx, dw, batch_norm_backward_sums(dx, x, *norm[:6])


def is_pointwise(shape: tuple[int, ...], stride: IntPair, padding: IntPair) -> bool:
    """Whether a convolution with weights of this shape is a product over pixels, nothing else."""
    return shape[:2] == (1, 1) and pair(stride) == (1, 1) and pair(padding) == (0, 0)


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
