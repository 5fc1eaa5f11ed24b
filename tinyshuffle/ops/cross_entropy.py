"""Softmax cross-entropy with label smoothing.

    p = softmax(z),   p_k = exp(z_k) / Σ_j exp(z_j)
    t_k = (1 - α) [k = label] + α / K                 smoothed target over K classes
    loss = - mean_n Σ_k t_k log p_k
    dz = (p - t) / N

Szegedy et al. 2016, section 7, for the smoothing. The largest logit is subtracted first, which
changes nothing in p and keeps every exponential at most 1; log p is taken as z - log Σ exp(z), so
a probability that rounds to zero costs its logit and not infinity.
"""

from __future__ import annotations

import numpy as np

from ..errors import TinyshuffleError
from .arguments import check_real
from .cost import Cost, size

__all__ = ["cross_entropy", "cross_entropy_backward", "cross_entropy_cost"]


def cross_entropy(
    logits: np.ndarray, labels: np.ndarray, label_smoothing: float = 0.0
) -> tuple[float, np.ndarray]:
    """Return the mean loss and the probabilities.

    Parameters
    ----------
    logits : (N, K)
    labels : (N,), int
    label_smoothing : float
        α, from 0 (none) to 1.

    Returns
    -------
    loss : float
        In nats.
    p : (N, K)
    """
    check_labels(logits, labels)
    with np.errstate(over="ignore"):  # of logits as far apart as float32's ends: p is 0 there
        z = logits - logits.max(axis=1, keepdims=True)  # (N, K)
        exp = np.exp(z)
        total = exp.sum(axis=1, keepdims=True)  # (N, 1)
        log_p = z - np.log(total)
        loss = np.zeros(len(labels), logits.dtype)  # (N,)
        # A term without weight is left out: times the infinite log of p = 0 it would be NaN.
        if label_smoothing < 1:
            loss -= (1 - label_smoothing) * log_p[np.arange(len(labels)), labels]
        if label_smoothing > 0:
            loss -= label_smoothing * log_p.mean(axis=1)
    return float(loss.mean(dtype=np.float64)), exp / total


def cross_entropy_backward(
    p: np.ndarray, labels: np.ndarray, label_smoothing: float = 0.0
) -> np.ndarray:
    """Return dlogits = (p - t) / N, given the probabilities ``p`` (N, K)."""
    check_labels(p, labels)
    n, k = p.shape
    dz = p - np.asarray(label_smoothing / k, p.dtype)
    dz[np.arange(n), labels] -= 1 - label_smoothing
    return dz / n


def check_labels(logits: np.ndarray, labels: np.ndarray) -> None:
    """Raise unless there is one class for each row of ``logits`` (N, K)."""
    check_real(logits)
    if logits.ndim != 2 or labels.shape != logits.shape[:1]:
        raise TinyshuffleError(
            f"the loss expects logits (N, K) and labels (N,), got {logits.shape} and "
            f"{labels.shape}; give one label for each image"
        )
    if labels.size == 0:
        raise TinyshuffleError("the loss got an empty batch; give it at least one image")
    if labels.dtype.kind not in "iu":
        raise TinyshuffleError(
            f"labels must be whole numbers, got {labels.dtype}; use labels.astype(int)"
        )
    k = logits.shape[1]
    if labels.min() < 0 or labels.max() >= k:
        raise TinyshuffleError(
            f"labels go from {labels.min()} to {labels.max()}, and the net has {k} classes "
            f"(0 to {k - 1}); check num_classes or the data"
        )


def cross_entropy_cost(logits: tuple[int, ...], labels: tuple[int, ...]) -> Cost:
    """Cost: a few operations for each logit, next to nothing beside the net."""
    return Cost(
        output=(),
        elementwise=4 * size(logits),
        memory_access=2 * size(logits) + size(labels),
        backward_elementwise=2 * size(logits),
        backward_memory_access=2 * size(logits) + size(labels),
    )
