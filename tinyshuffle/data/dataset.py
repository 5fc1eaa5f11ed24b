"""What a data set is: pixels, labels, names, and the statistics that normalise it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from tinyshuffle.errors import TinyshuffleError
from tinyshuffle.ops.arguments import check_array, check_plain
from tinyshuffle.text import shown


@dataclass(frozen=True, eq=False)
class Dataset:
    """Labelled images, as bytes: 3 kB for a 32x32 image, so all of CIFAR-10 fits in memory.

    What it is made of is checked here, once, so that nothing that takes a data set has to.

    Attributes
    ----------
    name : str
        ``"shapes"``, ``"cifar10"``, or whatever it is called.
    images : uint8 (N, H, W, 3)
        RGB, 0..255; copied if they do not lie in memory in that order.
    labels : int64 (N,)
        Indices into `classes`; other whole numbers are converted.
    classes : tuple of str
    mean, std : float (3,)
        For each channel of the *training* images, in 0..1. A test set carries its training set's.

    Raises
    ------
    TinyshuffleError
        If images, labels, classes and statistics are not of these kinds or do not fit each other.

    >>> Dataset("ink", np.zeros((2, 8, 8, 3), np.uint8), [0, 1], ("a", "b"), [0.5] * 3, [0.2] * 3)
    Dataset('ink': 2 images of 8x8, 2 classes)
    """

    name: str
    images: np.ndarray
    labels: np.ndarray
    classes: tuple[str, ...]
    mean: np.ndarray
    std: np.ndarray

    def __post_init__(self) -> None:
        for given in (self.images, self.labels):
            check_plain(given)
        images, labels = np.asarray(self.images), np.asarray(self.labels)
        classes = tuple(self.classes)
        what = f"the data set {self.name!r}"
        check_images(images, what)
        if images.ndim != 4:
            raise TinyshuffleError(
                f"{what} was given images of shape {images.shape}: they must be (N, H, W, 3)"
            )
        if labels.shape != images.shape[:1]:
            raise TinyshuffleError(
                f"{what} was given {len(images)} images and labels of shape {labels.shape}: give "
                f"one label an image, ({len(images)},)"
            )
        if labels.dtype.kind not in "iu" and labels.size:
            raise TinyshuffleError(
                f"{what} was given labels of {labels.dtype}: they must be whole numbers, the "
                "places of their names in classes"
            )
        if labels.size and not 0 <= labels.min() <= labels.max() < len(classes):
            raise TinyshuffleError(
                f"{what} was given labels from {labels.min()} to {labels.max()} and "
                f"{len(classes)} classes: labels must be 0 to {len(classes) - 1}"
            )
        check_statistics(self.mean, self.std, what)
        object.__setattr__(self, "images", np.ascontiguousarray(images))
        object.__setattr__(self, "labels", labels.astype(np.int64, copy=False))
        object.__setattr__(self, "classes", classes)
        object.__setattr__(self, "mean", np.asarray(self.mean))
        object.__setattr__(self, "std", np.asarray(self.std))

    def __len__(self) -> int:
        return len(self.labels)

    def __repr__(self) -> str:
        _, height, width, _ = self.images.shape
        images = f"{len(self):,} image{'s' * (len(self) != 1)}"
        return f"Dataset({self.name!r}: {images} of {height}x{width}, {len(self.classes)} classes)"


def check_images(images: np.ndarray, what: str) -> None:
    """Refuse what is not uint8 RGB, channels last: floats in 0..1 would come out as black."""
    check_array(images)
    if images.dtype != np.uint8 or images.ndim < 2 or images.shape[-1] != 3:
        advice = ""
        if images.dtype.kind == "f":
            advice = "; of numbers from 0 to 1 take (255 * images).round().astype(np.uint8)"
        raise TinyshuffleError(
            f"{what} was given images of {images.dtype} and shape {images.shape}: they must be "
            f"uint8 RGB from 0 to 255, channels last, such as (N, 32, 32, 3){advice}"
        )


def check_statistics(mean: np.ndarray, std: np.ndarray, what: str) -> None:
    """Refuse a mean and a standard deviation that images cannot be normalised by."""
    for given in (mean, std):
        check_plain(given)
    for name, value in (("mean", np.asarray(mean)), ("std", np.asarray(std))):
        if value.shape != (3,) or value.dtype.kind not in "fiu" or not np.isfinite(value).all():
            raise TinyshuffleError(
                f"{what} was given {name}={value.tolist()}: it must be three numbers in 0..1, one "
                "a channel"
            )
    if not (np.asarray(std) > 0).all():
        raise TinyshuffleError(
            f"{what} was given std={np.asarray(std).tolist()}: it must be above 0, as images are "
            "divided by it (a channel that is the same everywhere has 0: give it 1)"
        )


def from_arrays(
    x: np.ndarray,
    y: Sequence[Any] | np.ndarray,
    names: Sequence[str] | None = None,
    like: Dataset | None = None,
) -> Dataset:
    """Make a data set of arrays, for :func:`tinyshuffle.data.batches` and ``train.evaluate``.

    Parameters
    ----------
    x : (N, H, W, 3), or of grey images (N, H, W) or (N, H, W, 1)
        uint8, or real numbers from 0 to 1.
    y : (N,)
        Whole numbers, the places of their names in ``names``; or the names themselves.
    names : sequence of str, optional
        Of the classes; those in ``y``, in their order, unless given.
    like : Dataset, optional
        A training set, whose classes, mean and deviation a test set has to have.

    Raises
    ------
    TinyshuffleError
        If an image or a label cannot be that.

    >>> from_arrays(np.zeros((3, 8, 8)), ["cat", "dog", "cat"])
    Dataset('arrays': 3 images of 8x8, 2 classes)
    """
    for given in (x, y):
        check_plain(given)
    pixels, labels = np.asarray(x), np.asarray(y)
    if pixels.ndim == 3:
        pixels = pixels[..., None]
    if pixels.ndim == 4 and pixels.shape[-1] == 1:
        pixels = pixels.repeat(3, axis=-1)
    if pixels.dtype.kind == "f" and pixels.size and 0 <= pixels.min() and pixels.max() <= 1:
        pixels = (255 * pixels).round().astype(np.uint8)
    if like is not None:
        names = like.classes
    if names is None:
        if labels.dtype.kind not in "iuU":
            raise TinyshuffleError(
                f"labels of {labels.dtype} were given: they must be whole numbers or names"
            )
        names = sorted({str(label) for label in labels.tolist()})
        if labels.dtype.kind != "U":
            names = [f"class {i}" for i in range(int(labels.max(initial=-1)) + 1)]
    classes = tuple(map(str, names))
    if labels.dtype.kind == "U":
        places = {name: i for i, name in enumerate(classes)}
        if unknown := [label for label in labels.tolist() if label not in places]:
            raise TinyshuffleError(
                f"the label {shown(unknown[0])} is none of the classes {', '.join(classes[:9])}"
            )
        labels = np.array([places[label] for label in labels.tolist()], np.int64)
    if isinstance(names, str) or len(set(classes)) < len(classes):
        raise TinyshuffleError(
            f"names={shown(names)} was given: it must be a name for each class, all different"
        )
    check_images(pixels, "from_arrays")
    if not len(pixels):
        raise TinyshuffleError("from_arrays was given no image: give one or more")
    if like is None:
        mean, std = channel_statistics(pixels)
        std = np.where(std > 0, std, np.float32(1))  # a channel that is the same everywhere
    else:
        mean, std = like.mean, like.std
    return Dataset("arrays", pixels, labels, classes, mean, std)


def hold_out(dataset: Dataset, count: int) -> tuple[Dataset, Dataset]:
    """Split a training set: what is trained on, and ``count`` images that choices are made on.

    Which images these are depends on their number alone, not on a seed, so that runs from several
    seeds are compared on the same ones. Both parts carry the whole set's mean and deviation.

    Parameters
    ----------
    dataset : Dataset
    count : int
        At least 1, and less than there are.

    Returns
    -------
    rest, held : Dataset
        Each in the order of the whole.

    Raises
    ------
    TinyshuffleError
        If there would be nothing left, or nothing is held out.
    """
    if not 1 <= count < len(dataset):
        raise TinyshuffleError(
            f"{count:,} of the {len(dataset):,} training images of {dataset.name!r} cannot be held "
            f"out: give 1 to {len(dataset) - 1:,}"
        )
    held = np.zeros(len(dataset), bool)
    held[np.random.default_rng(0).permutation(len(dataset))[:count]] = True
    rest, part = (
        replace(dataset, images=dataset.images[chosen], labels=dataset.labels[chosen])
        for chosen in (~held, held)
    )
    return rest, part


def channel_statistics(images: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Mean and standard deviation of each channel of uint8 images, in 0..1, float32 (3,) each.

    Computed from a count of the 256 values, so the sums are whole numbers and nothing is rounded
    until the end.

    >>> mean, std = channel_statistics(np.array([[[[0, 51, 255]]], [[[0, 153, 255]]]], np.uint8))
    >>> mean.round(2), std.round(2)
    (array([0. , 0.4, 1. ], dtype=float32), array([0. , 0.2, 0. ], dtype=float32))
    """
    counts = np.zeros((3, 256), np.int64)
    for block in np.array_split(images, max(1, len(images) // 1000)):  # bincount widens to int64
        for channel in range(3):
            counts[channel] += np.bincount(block[..., channel].ravel(), minlength=256)
    values = np.arange(256) / 255
    total = counts.sum(axis=1)
    mean = counts @ values / total
    variance = counts @ values**2 / total - mean**2
    return mean.astype(np.float32), np.sqrt(variance.clip(0)).astype(np.float32)
