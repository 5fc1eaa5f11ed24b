"""Pictures with boxes: what detection learns from, and batches of them.

A box is (x1, y1, x2, y2), the edges of a rectangle in pixels: see :mod:`tinyshuffle.ops.boxes`.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from ..backend import F
from ..errors import TinyshuffleError
from ..text import shown
from ..values import flags
from .batches import _scale_offset, normalise, num_batches
from .dataset import check_images, check_statistics

__all__ = ["BoxDataset", "Objects", "box_batches"]

SHIFT = 8
"""Training pictures are moved by up to their side divided by this, either way."""

LEFT = 0.3
"""Of a box so much has to be left in the picture when it is moved, or it is no object any more."""


@dataclass(frozen=True, eq=False)
class Objects:
    """The objects of one picture, K of them; there may be none.

    Attributes
    ----------
    boxes : float32 (K, 4)
        Inside of the picture, none of them empty.
    labels : int64 (K,)
        Places in the data set's classes.
    crowd : bool (K,)
        A box around many objects that are not told apart: nothing is learned from it, and whatever
        is found in it is neither right nor wrong. False unless given.
    areas : float64 (K,)
        Of the objects, in pixels; COCO tells small, medium and large ones by it. Those of the boxes
        unless given.

    Raises
    ------
    TinyshuffleError
        If they do not fit each other, or a box is empty or inverted.
    """

    boxes: np.ndarray
    labels: np.ndarray
    crowd: np.ndarray = None  # type: ignore[assignment]  # it is there once it is made
    areas: np.ndarray = None  # type: ignore[assignment]

    def __post_init__(self) -> None:
        boxes = np.asarray(self.boxes, np.float32).reshape(-1, 4)
        labels = np.asarray(self.labels)
        count = len(boxes)
        if labels.shape != (count,) or (count and labels.dtype.kind not in "iu"):
            raise TinyshuffleError(
                f"{count} boxes were given with labels of {labels.dtype} and shape {labels.shape}: "
                "give a whole number to each"
            )
        sides = boxes[:, 2:] - boxes[:, :2]
        if not (np.isfinite(boxes).all() and (sides > 0).all()):
            raise TinyshuffleError(
                "a box is empty or inverted: it must be (x1, y1, x2, y2) in pixels, with x1 less "
                "than x2 and y1 less than y2; leave it out"
            )
        crowd = np.zeros(count, bool) if self.crowd is None else np.asarray(self.crowd, bool)
        areas = sides.astype(np.float64).prod(axis=1)
        if self.areas is not None:
            areas = np.asarray(self.areas, np.float64)
        if crowd.shape != (count,) or areas.shape != (count,):
            raise TinyshuffleError(
                f"{count} boxes were given with {len(crowd)} crowd flags and {len(areas)} areas: "
                "give one to each"
            )
        for name, value in (("boxes", boxes), ("labels", labels.astype(np.int64)),
                            ("crowd", crowd), ("areas", areas)):  # fmt: skip
            object.__setattr__(self, name, value)

    def __len__(self) -> int:
        return len(self.boxes)

    @flags
    def moved(self, flip: bool, top: int, left: int, height: int, width: int) -> Objects:
        """Return what is left of them when the picture is mirrored and then cropped."""
        boxes = self.boxes.copy()
        if flip:
            boxes[:, [0, 2]] = width - boxes[:, [2, 0]]
        boxes -= np.array([left, top, left, top], np.float32)
        inside = np.clip(boxes, 0, np.array([width, height] * 2, np.float32))
        part = (inside[:, 2:] - inside[:, :2]).prod(axis=1) / (boxes[:, 2:] - boxes[:, :2]).prod(1)
        keep = part >= LEFT
        return Objects(
            inside[keep], self.labels[keep], self.crowd[keep], (self.areas * part)[keep]
        )


@dataclass(frozen=True, eq=False)
class BoxDataset:
    """Pictures of one size, and what is in them.

    Attributes
    ----------
    name : str
    images : uint8 (N, H, W, 3)
    objects : sequence of Objects
        Of each picture.
    classes : tuple of str
    mean, std : float (3,)
        Of the training pictures, in 0..1, as of :class:`tinyshuffle.data.Dataset`.
    ids : int (N,)
        The pictures' numbers in their file; 1, 2, … unless given.
    scales : float (N,)
        By what a picture of the file was multiplied to fit; 1 unless given.
    categories : int (classes,)
        The classes' numbers in their file; 1, 2, … unless given.
    masks : uint8 (N, H, W), optional
        Which object is seen at each pixel: its place in ``objects`` plus one, or 0.

    Raises
    ------
    TinyshuffleError
        If these do not fit each other, or a box reaches out of its picture.
    """

    name: str
    images: np.ndarray
    objects: Sequence[Objects]
    classes: tuple[str, ...]
    mean: np.ndarray
    std: np.ndarray
    ids: np.ndarray = None  # type: ignore[assignment]
    scales: np.ndarray = None  # type: ignore[assignment]
    categories: np.ndarray = None  # type: ignore[assignment]
    masks: np.ndarray | None = None

    def __post_init__(self) -> None:
        what = f"the data set {self.name!r}"
        check_images(np.asarray(self.images), what)
        check_statistics(self.mean, self.std, what)
        n, height, width, _ = self.images.shape
        if len(self.objects) != n:
            raise TinyshuffleError(
                f"{what} was given {n} pictures and the objects of {len(self.objects)}"
            )
        for i, one in enumerate(self.objects):
            if not len(one):
                continue
            if one.boxes.min() < 0 or (one.boxes[:, 2:] > [width, height]).any():
                raise TinyshuffleError(
                    f"{what} has a box that reaches out of picture {i}, which has {height}x{width} "
                    "pixels: cut it off there"
                )
            if not 0 <= one.labels.min() <= one.labels.max() < len(self.classes):
                raise TinyshuffleError(
                    f"{what} has labels up to {one.labels.max()} and {len(self.classes)} classes"
                )
        ids = np.arange(1, n + 1) if self.ids is None else np.asarray(self.ids, np.int64)
        scales = np.ones(n) if self.scales is None else np.asarray(self.scales, np.float64)
        object.__setattr__(self, "classes", tuple(self.classes))
        if self.categories is None:
            object.__setattr__(self, "categories", np.arange(1, len(self.classes) + 1))
        object.__setattr__(self, "ids", ids)
        object.__setattr__(self, "scales", scales)

    def __len__(self) -> int:
        return len(self.images)

    def __repr__(self) -> str:
        _, height, width, _ = self.images.shape
        count = sum(map(len, self.objects))
        return (
            f"BoxDataset({shown(self.name)}: {len(self):,} pictures of {height}x{width}, "
            f"{count:,} objects, {len(self.classes)} classes)"
        )


@flags
def box_batches(
    dataset: BoxDataset,
    batch_size: int,
    seed: int = 0,
    epoch: int = 0,
    start: int = 0,
    augment: bool = True,
) -> Iterator[tuple[np.ndarray, list[Objects]]]:
    """One epoch of batches.

    As of :func:`tinyshuffle.data.batches`, order and augmentation depend on (seed, epoch, number of
    the batch) alone. With ``augment`` the pictures come in random order, mirrored half of the time
    and moved by up to an eighth of their side, and a last batch that is not full is left out; else
    they come as they are, all of them.

    Yields
    ------
    x : float32 (batch_size, H, W, 3)
        Normalised.
    objects : list of Objects
    """
    if len(dataset) == 0:
        raise TinyshuffleError(f"the data set {dataset.name!r} is empty: give it a picture")
    if not 1 <= batch_size <= (len(dataset) if augment else batch_size):
        raise TinyshuffleError(
            f"batch_size={batch_size} was given for {len(dataset)} pictures: give 1 or more, and "
            "no more than there are"
        )
    return _box_batches(dataset, batch_size, seed, epoch, start, augment)


def _box_batches(
    dataset: BoxDataset, batch_size: int, seed: int, epoch: int, start: int, augment: bool
) -> Iterator[tuple[np.ndarray, list[Objects]]]:
    n, height, width, _ = dataset.images.shape
    order = np.arange(n)
    if augment:
        order = np.random.default_rng([seed, epoch]).permutation(order)
    for step in range(start, num_batches(n, batch_size, drop_last=augment)):
        chosen = order[step * batch_size : (step + 1) * batch_size]
        images, objects = dataset.images[chosen], [dataset.objects[i] for i in chosen]
        if not augment:
            yield normalise(images, dataset.mean, dataset.std), objects
            continue
        rng = np.random.default_rng([seed, epoch, 1 + step])
        flip = rng.random(len(chosen)) < 0.5
        top = rng.integers(-(height // SHIFT), height // SHIFT + 1, len(chosen))
        left = rng.integers(-(width // SHIFT), width // SHIFT + 1, len(chosen))
        x = F.crop(images, flip, top, left, *_scale_offset(dataset.mean, dataset.std))
        yield x, [
            one.moved(bool(f), int(t), int(s), height, width)
            for one, f, t, s in zip(objects, flip, top, left, strict=True)
        ]
