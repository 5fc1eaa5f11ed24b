"""The loss that a step descends."""

from __future__ import annotations

import numpy as np

from .. import nn
from ..models.googlenet import AuxiliaryLoss, loss_of

__all__ = ["TrainingLoss"]


class TrainingLoss:
    """Cross-entropy, also of batches that mixup has blended and of nets with three sets of logits.

        L = s · l(logits, labels) + (1 - s) · l(logits, others)

    with l the cross-entropy, or :class:`~tinyshuffle.models.AuxiliaryLoss` where auxiliary
    classifiers branch off the net; s is 1 unless a batch is blended.

    >>> loss, logits = TrainingLoss(nn.ReLU(), 0.0), np.zeros((2, 10))
    >>> round(loss(logits, np.array([3, 7]), (np.array([7, 3]), 0.25)), 4)  # ln 10
    2.3026
    >>> loss.backward()[0, [3, 7]].round(4).tolist()  # half of 0.1 - 0.25 and of 0.1 - 0.75
    [-0.075, -0.325]
    """

    def __init__(self, net: nn.Module, label_smoothing: float) -> None:
        self.of_labels, self.of_others = (loss_of(net, label_smoothing) for _ in range(2))
        self.sets = 3 if isinstance(self.of_labels, AuxiliaryLoss) else 1  # of logits, side by side
        self.share = 1.0

    def __call__(
        self,
        logits: np.ndarray,
        labels: np.ndarray,
        mixed: tuple[np.ndarray, float] | None = None,
    ) -> float:
        """Return the loss of logits (N, K), or (N, 3 K), and integer labels (N,).

        ``mixed`` has the labels of what was blended in and the share of the first, as
        :func:`tinyshuffle.data.mix` gives them.
        """
        value = float(self.of_labels(logits, labels))
        self.share = 1.0
        if mixed is not None:
            others, self.share = mixed
            value = self.share * value + (1 - self.share) * float(self.of_others(logits, others))
        return value

    def backward(self) -> np.ndarray:
        """Return dlogits, shaped as the logits."""
        dlogits = self.of_labels.backward()
        if self.share == 1:
            return dlogits
        return self.share * dlogits + (1 - self.share) * self.of_others.backward()

    def right(self, logits: np.ndarray, labels: np.ndarray) -> int:
        """How many images the net itself is right about; auxiliary classifiers are not asked."""
        own = logits[:, : logits.shape[1] // self.sets]
        return int((own.argmax(1) == labels).sum())
