"""The loss, a layer whose backward needs no argument."""

from __future__ import annotations

import numpy as np

from ..backend import F
from ..errors import TinyshuffleError

__all__ = ["CrossEntropyLoss"]


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
        if not 0 <= label_smoothing <= 1:
            raise TinyshuffleError(
                f"label_smoothing={label_smoothing} is not possible; use a number from 0 to 1"
            )
        self.label_smoothing = label_smoothing
        self._saved: tuple[np.ndarray, np.ndarray] | None = None

    def __call__(self, logits: np.ndarray, labels: np.ndarray) -> float:
        """Return the mean loss, in nats, of logits (N, K) and integer labels (N,)."""
        labels = np.asarray(labels)
        if logits.ndim != 2 or labels.shape != logits.shape[:1]:
            raise TinyshuffleError(
                f"the loss expects logits (N, K) and labels (N,), got {logits.shape} and "
                f"{labels.shape}; give one label for each image"
            )
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
        value, p = F.cross_entropy(logits, labels, self.label_smoothing)
        self._saved = p, labels
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
