"""Where the two branches of a ShuffleNet unit meet, each meeting as one operation.

V2 puts its branches side by side and shuffles them with two groups. Both may have any number of
channels; when they have the same, that is channel after channel in turn::

    y = shuffle(concat(x1, x2))                    y[2 j] = x1[j],  y[2 j + 1] = x2[j]

V1 adds the shortcut to the last batch norm's output, and a ReLU follows::

    y = relu(BN(x) + s)             dz = dy where y > 0: the gradient of s, and of BN(x)

These are compositions of operations that have files of their own, cut so that an implementation
needs one pass over its tensors.
"""

from __future__ import annotations

import numpy as np

from .activations import relu, relu_backward
from .batch_norm import batch_norm, batch_norm_backward_sums
from .branches import add, concat
from .channel_shuffle import channel_shuffle, channel_shuffle_backward
from .norm_conv import Norm

__all__ = [
    "concat_shuffle",
    "concat_shuffle_backward",
    "norm_add_relu",
    "norm_add_relu_backward",
    "overwrite_channels",
]


def concat_shuffle(x1: np.ndarray, x2: np.ndarray) -> np.ndarray:
    """Return x1 (N, H, W, C1) and x2 (N, H, W, C2) side by side, shuffled with two groups."""
    return channel_shuffle(concat([x1, x2]), 2)


def concat_shuffle_backward(dy: np.ndarray) -> np.ndarray:
    """Return the gradients of x1 and of x2 side by side, (N, H, W, C1 + C2)."""
    return channel_shuffle_backward(dy, 2)


def overwrite_channels(x: np.ndarray, first: int, x2: np.ndarray) -> np.ndarray:
    """Write ``x2`` over the channels of ``x`` from ``first`` on, in place, and return ``x``.

    The backward pass of a channel split, when the one gradient lies in its place already.
    """
    x[..., first:] = x2
    return x


def norm_add_relu(x: np.ndarray, norm: Norm, shortcut: np.ndarray) -> np.ndarray:
    """Return relu(BN(x) + shortcut), all of shape (N, H, W, C); ``norm`` has no ReLU of its own."""
    return relu(add(batch_norm(x, *norm[:5]), shortcut))


def norm_add_relu_backward(
    dy: np.ndarray, y: np.ndarray, x: np.ndarray, norm: Norm
) -> tuple[np.ndarray, np.ndarray]:
    """Return dz, the gradient of both addends, and the batch norm's dβ and dγ, float64 (2, C)."""
    dz = relu_backward(dy, y)
    return dz, batch_norm_backward_sums(dz, x, *norm[:5])
