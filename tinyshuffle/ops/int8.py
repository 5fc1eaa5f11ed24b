"""Int8: convolutions of whole numbers, for a net that is trained already (Jacob et al. 2018).

A tensor is kept as bytes q, with one scale s and one zero point z for all of it; weights are bytes
from -127 to 127 with z = 0 and a scale for each output channel:

    x ≈ s_x (q_x - z_x),   q_x = round(x / s_x) + z_x, from 0 to 255
    w ≈ s_w[o] q_w,        s_w[o] = max |w[…, o]| / 127

Put both into y = b + Σ x w, and divide by the scale of y:

    q_y = round( s_x s_w[o] / s_y · (Σ q_x q_w + b_q) ) + z_y,  from 0 to 255
    b_q = round( b / (s_x s_w[o]) ) - z_x Σ q_w                 known beforehand

The sum is one of whole numbers in 32 bits: exact, so that its order does not matter. Only its
rescaling is of real numbers. The padding is z_x, which means zero. With z_y = 0, what is negative
is cut off at 0: a ReLU behind the convolution costs nothing. Nor does a ReLU6, with s_y = 6 / 255.

There is no backward: the slope of a rounding is zero wherever it has one. ``round`` is to the
nearest, a half upwards.

Cost: the multiply-adds of the convolution, which are cheaper ones, and its memory access, in bytes
where float32 has words of four.
"""

from __future__ import annotations

import numpy as np

from ..errors import TinyshuffleError
from .arguments import IntPair, check_array, check_groups, check_real
from .channel_shuffle import channel_shuffle
from .windows import output_size, pad, taps, window

__all__ = [
    "int8_concat", "int8_conv2d", "int8_dequantise", "int8_linear", "int8_quantise", "int8_range",
    "int8_weights",
]  # fmt: skip

MOST_TERMS = (2**31 - 1) // (2 * 255 * 127)
"""Products in a sum, so that half of what 32 bits hold is left for b_q."""


def int8_range(low: float, high: float) -> tuple[np.float32, int]:
    """Return the scale and the zero point of numbers from ``low`` to ``high``, and of 0.

    >>> scale, zero = int8_range(-5.1, 20.4)
    >>> round(float(scale), 6), zero
    (0.1, 51)
    """
    low, high = min(float(low), 0.0), max(float(high), 0.0)
    if not np.isfinite(high - low):
        raise TinyshuffleError(
            f"numbers from {low} to {high} have no scale: give what a trained net computes"
        )
    scale = np.float32((high - low) / 255) or np.float32(1)
    return scale, int(np.clip(np.floor(-low / float(scale) + 0.5), 0, 255))


def int8_quantise(x: np.ndarray, scale: np.float32, zero: int) -> np.ndarray:
    """Return ``x`` as bytes, uint8 of its shape: round(x / scale) + zero, from 0 to 255."""
    check_real(x)
    return _bytes(x.astype(np.float32, copy=False) / np.float32(scale) + np.float32(zero))


def int8_dequantise(q: np.ndarray, scale: np.float32, zero: int) -> np.ndarray:
    """Return the float32 numbers that bytes stand for: scale · (q - zero)."""
    check_bytes(q)
    return np.float32(scale) * (q.astype(np.float32) - np.float32(zero))


def int8_weights(
    w: np.ndarray, least: np.ndarray | float = 0.0
) -> tuple[np.ndarray, np.ndarray]:
    """Return weights (…, O) as int8 of their shape, and the scale of each output channel (O,).

    No scale is smaller than ``least`` (one number, or O): next to a large bias small weights would
    have one that makes b_q too large for 32 bits.
    """
    check_real(w)
    scale = np.maximum(np.abs(w).max(axis=tuple(range(w.ndim - 1))) / 127, least)
    scale = np.where(scale > 0, scale, 1).astype(np.float32)
    return np.clip(np.rint(w / scale), -127, 127).astype(np.int8), scale


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
    """Convolve bytes.

    Parameters
    ----------
    x : uint8 (N, H, W, C)
    w : int8 (Kh, Kw, C / groups, O), or (Kh, Kw, C) if it is depthwise
    b : int32 (O,)
        b_q.
    rescale : float32 (O,)
        s_x s_w / s_y.
    zeros : two ints
        z_x and z_y.
    stride, padding, dilation : int or (vertical, horizontal)
    groups : int
        Divides C and O; of no meaning if it is depthwise.

    Returns
    -------
    y : uint8 (N, Ho, Wo, O)
    """
    groups = check_conv(x, w, b, rescale, groups)
    w = w.reshape(*w.shape[:2], -1, w.shape[-1])  # (Kh, Kw, Cg, O)
    kh, kw, cg, o = w.shape
    n, *size, _ = x.shape
    out = output_size((size[0], size[1]), (kh, kw), stride, padding, dilation)
    xp = pad(x, padding, zeros[0]).astype(np.int32)
    sums = np.zeros((n, *out, groups, o // groups), np.int32)
    for tap in taps((kh, kw)):
        seen = window(xp, tap, out, stride, dilation)
        seen = seen.reshape(n, *out, groups, cg)  # (N, Ho, Wo, G, Cg)
        sums += np.einsum("nhwgc,cgo->nhwgo", seen, w[tap].reshape(cg, groups, -1))
    total = (sums.reshape(n, *out, o) + b).astype(np.float32)
    return _bytes(total * rescale + np.float32(zeros[1]))


def int8_linear(x: np.ndarray, w: np.ndarray, b: np.ndarray, scale: np.ndarray) -> np.ndarray:
    """Multiply bytes, for the last layer: what comes out are real numbers.

    Parameters
    ----------
    x : uint8 (N, C)
    w : int8 (C, O)
    b : int32 (O,)
        b_q.
    scale : float32 (O,)
        s_x s_w.

    Returns
    -------
    y : float32 (N, O)
    """
    check_conv(x[:, None, None], w[None, None], b, scale, 1)
    sums = x.astype(np.int32) @ w.astype(np.int32)
    return (sums + b).astype(np.float32) * scale


def int8_concat(parts: list[np.ndarray], groups: int = 1) -> np.ndarray:
    """Put bytes (…, C) side by side and shuffle them in groups; all have the same scale and zero.

    >>> parts = [np.uint8([[1, 2]]), np.uint8([[3, 4]])]
    >>> int8_concat(parts), int8_concat(parts, groups=2)
    (array([[1, 2, 3, 4]], dtype=uint8), array([[1, 3, 2, 4]], dtype=uint8))
    """
    check_bytes(*parts)
    return channel_shuffle(np.concatenate(parts, axis=-1), groups)


def check_bytes(*arrays: np.ndarray) -> None:
    """Raise unless all of ``arrays`` are uint8."""
    for a in arrays:
        check_array(a)
        if a.dtype != np.uint8:
            raise TinyshuffleError(
                f"got numbers of type {a.dtype} where bytes are expected; "
                "ops.int8_quantise makes uint8 of real numbers"
            )


def check_conv(
    x: np.ndarray, w: np.ndarray, b: np.ndarray, rescale: np.ndarray, groups: int
) -> int:
    """Raise unless these fit each other; return the groups, which of a depthwise one are C."""
    check_bytes(x)
    for a in (w, b, rescale):
        check_array(a)
    depthwise = w.ndim == 3
    groups = w.shape[-1] if depthwise else groups
    if x.ndim != 4 or w.ndim not in (3, 4):
        raise TinyshuffleError(
            f"got images of shape {x.shape} and weights of shape {w.shape}; give (N, H, W, C) and "
            "(Kh, Kw, C / groups, O), or (Kh, Kw, C)"
        )
    check_groups(groups, w.shape[-1], "out_channels")
    cg, o = 1 if depthwise else w.shape[2], w.shape[-1]
    if x.shape[-1] != cg * groups:
        raise TinyshuffleError(
            f"an input of {x.shape[-1]} channels does not fit weights for {cg * groups}; "
            f"give an input of shape (N, H, W, {cg * groups})"
        )
    types = (w.dtype, b.dtype, rescale.dtype)
    if types != (np.int8, np.int32, np.float32) or b.shape != (o,) or rescale.shape != (o,):
        raise TinyshuffleError(
            f"got w {w.dtype}, b {b.dtype} {b.shape} and scales {rescale.dtype} {rescale.shape}; "
            f"give int8, int32 ({o},) and float32 ({o},)"
        )
    if w.size // o > MOST_TERMS:
        raise TinyshuffleError(
            f"a sum of {w.size // o:,} products may overflow 32 bits; at most {MOST_TERMS:,} fit"
        )
    return groups


def _bytes(v: np.ndarray) -> np.ndarray:
    """Round float32 numbers to bytes; what is outside of 0 to 255 becomes the nearest end."""
    return (np.clip(v, 0, 255) + np.float32(0.5)).astype(np.uint8)
