"""What a net does on a whole data set."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from .. import data, nn
from ..errors import TinyshuffleError
from ..values import flags

__all__ = ["Evaluation", "evaluate", "softmax"]


@dataclass(frozen=True)
class Evaluation:
    """What a net does on a test set.

    Attributes
    ----------
    loss : float
        Mean over the images.
    accuracy : float
        Part of the images that are right, 0 to 1.
    classes : tuple of str
    labels : ndarray of int, (N,)
    probabilities : ndarray, (N, classes)
        What the net thinks of each image.
    """

    loss: float
    accuracy: float
    classes: tuple[str, ...]
    labels: np.ndarray
    probabilities: np.ndarray

    @property
    def confusion(self) -> np.ndarray:
        """Images by class (rows) and by what the net takes them for, (classes, classes)."""
        k = len(self.classes)
        # int64, as bytes would wrap around
        pairs = self.labels.astype(np.int64) * k + self.probabilities.argmax(1)
        return np.bincount(pairs, minlength=k * k).reshape(k, k)

    @property
    def right(self) -> np.ndarray:
        """Images of each class that are right, (classes,)."""
        return self.confusion.diagonal()

    @property
    def count(self) -> np.ndarray:
        """Images of each class that there are, (classes,)."""
        return self.confusion.sum(1)


@flags
def evaluate(
    net: nn.Module,
    dataset: data.Dataset,
    loss: Any = None,
    batch_size: int = 500,
    after_batch: Callable[[], None] | None = None,
    size: int | None = None,
    flip: bool = False,
) -> Evaluation:
    """Run a net over a whole data set in evaluation mode, and leave it in the mode it was in.

    Parameters
    ----------
    net : Module
    dataset : Dataset
    loss : layer
        ``loss(logits, labels)`` gives the mean over a batch; by default ``CrossEntropyLoss()``.
    batch_size : int
    after_batch : function
        Called after each batch.
    size : int
        Scale the images to this side.
    flip : bool
        Take the mean of the logits of each image and of its mirror image.
    """
    loss = loss or nn.CrossEntropyLoss()
    total = 0.0
    parts: list[np.ndarray] = []
    before = net.training
    net.eval()
    try:
        for x, labels in data.batches(dataset, batch_size, augment=False, shuffle=False, size=size):
            logits = net(x)
            if flip:
                logits = (logits + net(np.ascontiguousarray(x[:, :, ::-1]))) / 2
            if logits.shape != (len(labels), len(dataset.classes)):
                raise TinyshuffleError(
                    f"the net gives {logits.shape} for {len(labels)} images of {dataset.name!r}, "
                    f"which has {len(dataset.classes)} classes: build it with "
                    f"num_classes={len(dataset.classes)}"
                )
            total += float(loss(logits, labels)) * len(labels)
            parts.append(softmax(logits))
            if after_batch is not None:
                after_batch()
    finally:
        net.train(before)
    probabilities = np.concatenate(parts)
    accuracy = float((probabilities.argmax(1) == dataset.labels).mean())
    return Evaluation(
        total / len(dataset), accuracy, dataset.classes, dataset.labels, probabilities
    )


def softmax(logits: np.ndarray) -> np.ndarray:
    """Return the probabilities (N, classes) that logits stand for."""
    powers = np.exp(logits - logits.max(1, keepdims=True))
    return powers / powers.sum(1, keepdims=True)
