"""Sliding windows: what convolutions and pools share.

Output pixel (p, q) of a kernel looks at the padded input at (p·stride + i·dilation,
q·stride + j·dilation) for each tap (i, j). Seen the other way round, each tap (i, j) looks at a
strided view of the padded input that has exactly the shape of the output. So a convolution is a
sum over its taps, and its gradient adds each tap's share back into the same view.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from ..errors import TinyshuffleError
from .arguments import IntPair, check_groups, check_pair, pair

__all__ = [
    "IntPair", "check_groups", "crop", "is_pointwise", "output_size", "pad", "pair", "taps",
    "window",
]  # fmt: skip


def output_size(
    size: tuple[int, int],
    kernel: tuple[int, int],
    stride: IntPair = 1,
    padding: IntPair = 0,
    dilation: IntPair = 1,
) -> tuple[int, int]:
    """Return (Ho, Wo), each floor((H + 2·padding - dilation·(K - 1) - 1) / stride) + 1.

    >>> output_size((224, 224), (3, 3), stride=2, padding=1)
    (112, 112)
    """
    out = []
    for n, k, s, p, d in zip(
        size,
        check_pair(kernel, "kernel_size"),
        check_pair(stride, "stride"),
        check_pair(padding, "padding", 0),
        check_pair(dilation, "dilation"),
        strict=True,
    ):
        span = d * (k - 1) + 1
        if n + 2 * p < span:
            raise TinyshuffleError(
                f"an input of {size[0]}x{size[1]} pixels with padding {pair(padding)} is smaller "
                f"than the {span} pixels that a kernel of {k} with dilation {d} covers; "
                "use a larger input or more padding"
            )
        out.append((n + 2 * p - span) // s + 1)
    return out[0], out[1]


def pad(x: np.ndarray, padding: IntPair, value: float = 0.0) -> np.ndarray:
    """Surround the pixels of ``x`` (N, H, W, C) with ``value``."""
    ph, pw = pair(padding)
    if ph == pw == 0:
        return x
    return np.pad(x, ((0, 0), (ph, ph), (pw, pw), (0, 0)), constant_values=value)


def crop(xp: np.ndarray, padding: IntPair) -> np.ndarray:
    """Undo :func:`pad`: the view of ``xp`` without its border."""
    ph, pw = pair(padding)
    return xp[:, ph : xp.shape[1] - ph, pw : xp.shape[2] - pw]


def taps(kernel: IntPair) -> Iterator[tuple[int, int]]:
    """Visit the taps (i, j) of a kernel, row by row."""
    kh, kw = pair(kernel)
    return ((i, j) for i in range(kh) for j in range(kw))


def window(
    xp: np.ndarray,
    tap: tuple[int, int],
    out: tuple[int, int],
    stride: IntPair = 1,
    dilation: IntPair = 1,
) -> np.ndarray:
    """Return the view of the padded input that one tap sees, (N, Ho, Wo, C)."""
    (i, j), (ho, wo), (sh, sw), (dh, dw) = tap, out, pair(stride), pair(dilation)
    i, j = i * dh, j * dw
    return xp[:, i : i + (ho - 1) * sh + 1 : sh, j : j + (wo - 1) * sw + 1 : sw]


def is_pointwise(shape: tuple[int, ...], stride: IntPair, padding: IntPair) -> bool:
    """Whether a convolution with weights of this shape is a product over pixels, nothing else."""
    return shape[:2] == (1, 1) and pair(stride) == (1, 1) and pair(padding) == (0, 0)
