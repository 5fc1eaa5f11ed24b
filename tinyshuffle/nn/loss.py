"""The losses, layers whose backward needs no argument."""

from __future__ import annotations

from math import inf

import numpy as np

from ..backend import F
from ..errors import TinyshuffleError
from ..ops.arguments import check_plain, number

__all__ = ["CrossEntropyLoss", "DistillationLoss"]


class CrossEntropyLoss:
    """Softmax cross-entropy, averaged over the batch.

    Parameters
    ----------
    label_smoothing : float
        Share of the target that is spread evenly over all classes, from 0 to 1.

    >>> loss = CrossEntropyLoss()
    >>> round(loss(np.zeros((2, 10)), np.array([3, 7])), 4)  # ln 10
    2.3026
    >>> loss.backward().shape
    (2, 10)
    """

    def __init__(self, label_smoothing: float = 0.0) -> None:
        self.label_smoothing = number(
            label_smoothing, "label_smoothing", lambda a: 0 <= a <= 1, "a number from 0 to 1"
        )
        self._saved: tuple[np.ndarray, np.ndarray] | None = None

    def __call__(self, logits: np.ndarray, labels: np.ndarray) -> float:
        """Return the mean loss, in nats, of logits (N, K) and integer labels (N,)."""
        check_plain(labels)
        labels = np.asarray(labels)
        value, p = F.cross_entropy(logits, labels, self.label_smoothing)
        self._saved = p, labels.copy()  # the caller may write into his own
        return value

    def backward(self) -> np.ndarray:
        """Return dlogits (N, K)."""
        if self._saved is None:
            raise TinyshuffleError(
                "CrossEntropyLoss.backward was called before the loss was computed, or twice; "
                "call loss(logits, labels) before each backward"
            )
        (p, labels), self._saved = self._saved, None
        return F.cross_entropy_backward(p, labels, self.label_smoothing)


class DistillationLoss:
    """Cross-entropy with the labels, blended with what a teacher says; see ``ops.distillation``.

    Parameters
    ----------
    temperature : float
        Of both nets' probabilities, above 0.
    share : float
        The teacher's part of the loss, from 0 to 1; the labels have the rest.

    >>> loss, teacher = DistillationLoss(share=1), np.array([[2.0, -1, 0]])
    >>> loss(teacher + 5, np.array([0]), teacher)  # softmax does not see what all have more
    0.0
    >>> loss.backward().round(12).tolist()
    [[0.0, 0.0, 0.0]]
    """

    def __init__(self, temperature: float = 4.0, share: float = 0.9) -> None:
        self.temperature = number(
            temperature, "temperature", lambda t: 0 < t < inf, "a finite number above 0"
        )
        self.share = number(share, "share", lambda a: 0 <= a <= 1, "a number from 0 to 1")
        self._labels = CrossEntropyLoss()
        self._saved: tuple[np.ndarray, np.ndarray] | None = None

    def __call__(self, logits: np.ndarray, labels: np.ndarray, teacher: np.ndarray) -> float:
        """Return the mean loss, in nats, of logits (N, K), labels (N,) and teacher's logits."""
        hard = self._labels(logits, labels)
        soft, q, p = F.distillation(logits, teacher, self.temperature)
        self._saved = q, p
        return (1 - self.share) * hard + self.share * soft

    def backward(self) -> np.ndarray:
        """Return dlogits (N, K)."""
        if self._saved is None:
            raise TinyshuffleError(
                "DistillationLoss.backward was called before the loss was computed, or twice; "
                "call loss(logits, labels, teacher) before each backward"
            )
        (q, p), self._saved = self._saved, None
        dz = (1 - self.share) * self._labels.backward()
        return dz + self.share * F.distillation_backward(q, p, self.temperature)
