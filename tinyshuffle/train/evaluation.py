"""What a net does on a whole data set."""

from __future__ import annotations

import os
import warnings
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from .. import data, nn
from ..data import folder
from ..errors import TinyshuffleError
from ..text import message, shown
from ..values import flags

if TYPE_CHECKING:
    from ..weights import Pretrained

__all__ = ["Evaluation", "evaluate", "evaluate_pictures", "softmax"]


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
    plain : Evaluation or None
        If the net saw each image in several ways (mirrored, moved): what it thinks of each as it
        is, from the same passes.
    """

    loss: float
    accuracy: float
    classes: tuple[str, ...]
    labels: np.ndarray
    probabilities: np.ndarray
    plain: Evaluation | None = None

    @property
    def confusion(self) -> np.ndarray:
        """Images by class (rows) and by what the net takes them for, (classes, classes)."""
        k = len(self.classes)
        # bytes would wrap around, and bincount takes no int64 where a pointer has 32 bits
        pairs = self.labels.astype(np.intp) * k + self.probabilities.argmax(1)
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
    crops: bool = False,
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
    crops : bool
        Take the mean of the logits of each image and of two crops of it, a pixel up and left and a
        pixel down and right, of which each counts half as much as the image (Jordan 2024,
        arXiv 2404.00498). With ``flip`` the crops are mirrored, too: six passes.
    """
    loss = loss or nn.CrossEntropyLoss()
    plain, mean = _Tally(loss, dataset), _Tally(loss, dataset)
    before = net.training
    net.eval()
    try:
        for x, labels in data.batches(dataset, batch_size, augment=False, shuffle=False, size=size):
            logits = net(x)
            if logits.shape != (len(labels), len(dataset.classes)):
                raise TinyshuffleError(
                    f"the net gives {logits.shape} for {len(labels)} images of {dataset.name!r}, "
                    f"which has {len(dataset.classes)} classes: build it with "
                    f"num_classes={len(dataset.classes)}"
                )
            plain.add(logits, labels)
            if others := _views(x, flip, crops):
                share = 1 / (1 + sum(weight for weight, _ in others))
                logits = logits * logits.dtype.type(share)
                for weight, view in others:
                    logits += logits.dtype.type(share * weight) * net(view)
                mean.add(logits, labels)
            if after_batch is not None:
                after_batch()
    finally:
        net.train(before)
    return replace(mean.done(), plain=plain.done()) if flip or crops else plain.done()


class _Tally:
    """What batch after batch adds up to."""

    def __init__(self, loss: Any, dataset: data.Dataset) -> None:
        self.loss, self.dataset = loss, dataset
        self.total, self.parts = 0.0, list[np.ndarray]()

    def add(self, logits: np.ndarray, labels: np.ndarray) -> None:
        self.total += float(self.loss(logits, labels)) * len(labels)
        self.parts.append(softmax(logits))

    def done(self) -> Evaluation:
        p, labels = np.concatenate(self.parts), self.dataset.labels
        accuracy = float((p.argmax(1) == labels).mean())
        return Evaluation(self.total / len(labels), accuracy, self.dataset.classes, labels, p)


def _views(x: np.ndarray, flip: bool, crops: bool) -> list[tuple[float, np.ndarray]]:
    """Return the other ways to see a batch (N, H, W, C), and how much each counts beside it."""
    moved = []
    if crops:
        # the row and the column that come in are those beyond the next one, as in a mirror
        wide = np.pad(x, ((0, 0), (1, 1), (1, 1), (0, 0)), "reflect")
        moved = [(0.5, wide[:, at:, at:][:, : x.shape[1], : x.shape[2]]) for at in (0, 2)]
    mirrored = [(weight, view[:, :, ::-1]) for weight, view in [(1.0, x), *moved] if flip]
    return [(weight, np.ascontiguousarray(view)) for weight, view in moved + mirrored]


def evaluate_pictures(ready: Pretrained, path: str | os.PathLike[str]) -> Evaluation:
    """Ask a net with somebody's weights about a folder of pictures, prepared as its authors did.

    Parameters
    ----------
    ready : Pretrained
    path : path
        A folder with a folder of pictures for each class (:mod:`tinyshuffle.data.folder`). They are
        called like the net's classes, or are as many and in their order, as ImageNet's are whose
        names are numbers. Files that are no pictures are named in a warning and left out.

    Raises
    ------
    TinyshuffleError
        If the folders are not the net's classes, or there is no picture.
    """
    names, files = folder.pictures(path)
    known = {name: i for i, name in enumerate(ready.classes)}
    if all(name in known for name in names):
        places = [known[name] for name in names]
    elif len(names) == len(known):
        places = list(range(len(names)))
    else:
        other = next(name for name in names if name not in known)
        raise TinyshuffleError(
            f"{path} has {len(names)} classes, of which the net does not know {shown(other)}, and "
            f"it knows {len(known)}: call the folders like its classes, such as "
            f"{shown(ready.classes[0])}"
        )
    labels, parts, faults = [], [], []
    for first in range(0, len(files), 32):
        images = []
        for file, label in files[first : first + 32]:
            try:
                images.append(ready.pipeline(file))
                labels.append(places[label])
            except TinyshuffleError as error:
                faults.append(message(error))
        if images:
            parts.append(softmax(ready.net(np.stack(images))))
    if faults:
        warnings.warn(
            f"{len(faults)} of {len(files)} files in {path} are left out: "
            f"{'; '.join(faults[:5])}" + ("; and more" if len(faults) > 5 else ""),
            stacklevel=2,
        )
    if not labels:
        raise TinyshuffleError(f"{path} has no pictures: put some into the folders of the classes")
    p, truth = np.concatenate(parts), np.array(labels, np.int64)
    of_truth = np.maximum(p[np.arange(len(p)), truth], np.finfo(p.dtype).tiny)
    accuracy = float((p.argmax(1) == truth).mean())
    return Evaluation(float(-np.log(of_truth).mean()), accuracy, ready.classes, truth, p)


def softmax(logits: np.ndarray) -> np.ndarray:
    """Return the probabilities (N, classes) that logits stand for."""
    powers = np.exp(logits - logits.max(1, keepdims=True))
    return powers / powers.sum(1, keepdims=True)
