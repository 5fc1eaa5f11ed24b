"""Distillation: learn what a larger net says about an image, not only what the image is.

    p = softmax(t / T)       what the teacher says, its logits t (N, K) divided by a temperature T
    q = softmax(z / T)       what the student says
    loss = T² · mean_n Σ_k p_k (log p_k - log q_k)
    dz = T (q - p) / N

A temperature above 1 makes small probabilities larger: that a cat looks more like a dog than like a
lorry is in them. The slope of z / T and that of the softmax make dz small as 1 / T², hence the T².
Where the teacher is a fixed net, p is a number like any other. Hinton, Vinyals, Dean 2015,
arXiv 1503.02531, section 2.
"""

from __future__ import annotations

import numpy as np

from ..errors import TinyshuffleError
from .arguments import check_real, fit
from .cost import Cost, size

__all__ = ["distillation", "distillation_backward", "distillation_cost"]


def distillation(
    logits: np.ndarray, teacher: np.ndarray, temperature: float = 1.0
) -> tuple[float, np.ndarray, np.ndarray]:
    """Return the mean loss, and both probabilities.

    Parameters
    ----------
    logits, teacher : (N, K)
        Of the student and of the teacher.
    temperature : float
        T, above 0.

    Returns
    -------
    loss : float
        In nats.
    q, p : (N, K)
        The student's probabilities and the teacher's.
    """
    check_real(logits)
    if logits.ndim != 2 or logits.size == 0:
        raise TinyshuffleError(
            f"the loss expects logits (N, K) of one image or more, got {logits.shape}"
        )
    log_q = _log_softmax(logits / np.asarray(temperature, logits.dtype))
    log_p = _log_softmax(fit(teacher, logits.shape, logits.dtype) / log_q.dtype.type(temperature))
    p = np.exp(log_p)
    loss = (p * (log_p - log_q)).sum(axis=1)  # (N,)
    return float(temperature**2 * loss.mean(dtype=np.float64)), np.exp(log_q), p


def distillation_backward(q: np.ndarray, p: np.ndarray, temperature: float = 1.0) -> np.ndarray:
    """Return dlogits = T (q - p) / N, given what :func:`distillation` returned."""
    check_real(q)
    return (q - fit(p, q.shape, q.dtype)) * np.asarray(temperature / len(q), q.dtype)


def distillation_cost(logits: tuple[int, ...], teacher: tuple[int, ...]) -> Cost:
    """Cost: a few operations for each logit, next to nothing beside the teacher's forward pass."""
    return Cost(
        output=(),
        elementwise=8 * size(logits),
        memory_access=size(logits) + size(teacher),
        backward_elementwise=2 * size(logits),
        backward_memory_access=3 * size(logits),
    )


def _log_softmax(z: np.ndarray) -> np.ndarray:
    z = z - z.max(axis=1, keepdims=True)  # (N, K)
    return z - np.log(np.exp(z).sum(axis=1, keepdims=True))
