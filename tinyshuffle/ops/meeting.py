"""Where the two branches of a ShuffleNet unit meet, each meeting as one operation.

V2 puts its branches side by side and shuffles them with two groups. Both may have any number of
channels; when they have the same, that is channel after channel in turn. A branch ends with a batch
norm and a ReLU, unless it is the untouched one::

    y = shuffle(concat(z1, z2))                    y[2 j] = z1[j],  y[2 j + 1] = z2[j]
    z = relu(BN(x)), or x itself                   Σ dz, Σ dz x̂ go back with dz, over dz where z > 0

V1 adds the shortcut to the last batch norm's output, and a ReLU follows::

    y = relu(BN(x) + s)             dz = dy where y > 0: the gradient of s, and of BN(x)

These are compositions of operations that have files of their own, cut so that an implementation
needs one pass over its tensors.
"""

from __future__ import annotations

import numpy as np

from .activations import relu, relu_backward
from .batch_norm import batch_norm, batch_norm_backward_sums
from .branches import add, channel_split, concat
from .channel_shuffle import channel_shuffle, channel_shuffle_backward
from .norm_conv import Norm, normalised

__all__ = [
    "concat_shuffle",
    "concat_shuffle_backward",
    "norm_add_relu",
    "norm_add_relu_backward",
    "overwrite",
]


def concat_shuffle(
    x1: np.ndarray, x2: np.ndarray, norm1: Norm | None = None, norm2: Norm | None = None
) -> np.ndarray:
    """Return x1 (N, H, W, C1) and x2 (N, H, W, C2) side by side, shuffled with two groups.

    Each of them is normalised first if it comes with a norm, which has no shuffle of its own.
    """
    return channel_shuffle(concat([normalised(x1, norm1), normalised(x2, norm2)]), 2)


def concat_shuffle_backward(
    dy: np.ndarray,
    x1: np.ndarray,
    x2: np.ndarray,
    norm1: Norm | None = None,
    norm2: Norm | None = None,
) -> tuple[np.ndarray, np.ndarray | None, np.ndarray | None]:
    """Return the gradients of z1 and z2 side by side, and what the norms need to go on.

    Returns
    -------
    dz : (N, H, W, C1 + C2)
    sums1, sums2 : float64 (2, C1) and (2, C2)
        dβ and dγ of the norms, of this slice; None where there is no norm.
    """
    dz = channel_shuffle_backward(dy, 2)
    dz1, dz2 = channel_split(dz, x1.shape[-1])
    return dz, _sums(dz1, x1, norm1), _sums(dz2, x2, norm2)


def overwrite(there: np.ndarray, dx: np.ndarray) -> np.ndarray:
    """Write ``dx`` over the numbers ``there``, which may be some channels of a tensor."""
    there[...] = dx
    return there


def _sums(dz: np.ndarray, x: np.ndarray, norm: Norm | None) -> np.ndarray | None:
    return None if norm is None else batch_norm_backward_sums(dz, x, *norm[:6])


def norm_add_relu(x: np.ndarray, norm: Norm, shortcut: np.ndarray) -> np.ndarray:
    """Return relu(BN(x) + shortcut), all of shape (N, H, W, C); ``norm`` has no ReLU of its own."""
    return relu(add(batch_norm(x, *norm[:5]), shortcut))


def norm_add_relu_backward(
    dy: np.ndarray, y: np.ndarray, x: np.ndarray, norm: Norm
) -> tuple[np.ndarray, np.ndarray]:
    """Return dz, the gradient of both addends, and the batch norm's dβ and dγ, float64 (2, C)."""
    dz = relu_backward(dy, y)
    return dz, batch_norm_backward_sums(dz, x, *norm[:5])
