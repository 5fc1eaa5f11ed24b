"""Binary cross-entropy of logits: is there an object, or is there none?

    p = 1 / (1 + e⁻ᶻ)
    ℓ = - t log p - (1 - t) log(1 - p) = max(z, 0) - t·z + log(1 + e^-|z|)
    dz = dy · (p - t)

In the last form no exponential overflows and no logarithm is of 0, however large the logits are.
"""

from __future__ import annotations

import numpy as np

from ..errors import TinyshuffleError
from .activations import sigmoid
from .arguments import check_real, fit
from .cost import Cost, size

__all__ = ["binary_cross_entropy", "binary_cross_entropy_backward", "binary_cross_entropy_cost"]


def binary_cross_entropy(logits: np.ndarray, targets: np.ndarray) -> np.ndarray:
    """Return the loss of each logit, in nats, any shape; targets are from 0 to 1.

    >>> binary_cross_entropy(np.array([0.0, 1000.0]), np.array([1.0, 0.0])).round(4)
    array([6.931e-01, 1.000e+03])
    """
    t = _check(logits, targets)
    return np.maximum(logits, 0) - t * logits + np.log1p(np.exp(-abs(logits)))


def binary_cross_entropy_backward(
    dy: np.ndarray, logits: np.ndarray, targets: np.ndarray
) -> np.ndarray:
    """Return dlogits, given ``dy`` of their shape."""
    t = _check(logits, targets)
    return fit(dy, logits.shape, logits.dtype) * (sigmoid(logits) - t)


def binary_cross_entropy_cost(logits: tuple[int, ...], targets: tuple[int, ...]) -> Cost:
    """Cost: a few operations a logit."""
    return Cost(
        output=logits,
        elementwise=6 * size(logits),
        memory_access=3 * size(logits),
        backward_elementwise=5 * size(logits),
        backward_memory_access=4 * size(logits),
    )


def _check(logits: np.ndarray, targets: np.ndarray) -> np.ndarray:
    check_real(logits)
    t = fit(targets, logits.shape, logits.dtype)
    if t.size and not (t.min() >= 0 and t.max() <= 1):
        raise TinyshuffleError(
            f"targets go from {t.min()} to {t.max()}: they are probabilities, 0 to 1"
        )
    return t
