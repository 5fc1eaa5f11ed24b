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
    z = logits - logits.max(axis=1, keepdims=True)  # (N, K)
    exp = np.exp(z)
    total = exp.sum(axis=1, keepdims=True)  # (N, 1)
    log_p = z - np.log(total)
    at_label = log_p[np.arange(len(labels)), labels]  # (N,)
    loss = -(1 - label_smoothing) * at_label - label_smoothing * log_p.mean(axis=1)
    return float(loss.mean(dtype=np.float64)), exp / total


def cross_entropy_backward(
    p: np.ndarray, labels: np.ndarray, label_smoothing: float = 0.0
) -> np.ndarray:
    """Return dlogits = (p - t) / N, given the probabilities ``p`` (N, K)."""
    n, k = p.shape
    dz = p - np.asarray(label_smoothing / k, p.dtype)
    dz[np.arange(n), labels] -= 1 - label_smoothing
    return dz / n


def cross_entropy_cost(logits: tuple[int, ...], labels: tuple[int, ...]) -> Cost:
    """Cost: a few operations for each logit, next to nothing beside the net."""
    return Cost(
        output=(),
        elementwise=4 * size(logits),
        memory_access=2 * size(logits) + size(labels),
        backward_elementwise=2 * size(logits),
        backward_memory_access=2 * size(logits) + size(labels),
    )
