"""Batches for training: order, augmentation, normalisation.

The augmentation is the usual one for CIFAR: four pixels of padding and a random crop, then a
mirror image half of the time; and on request cutout, and smaller images. It is drawn and applied
for a whole batch at once.

The order of an epoch depends on (seed, epoch) alone, and what happens to a batch on (seed, epoch,
step) alone. Nothing is carried from one batch to the next, so a run that stopped after k batches
continues with ``start=k`` and sees exactly what it would have seen.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from tinyshuffle.backend import F
from tinyshuffle.data.dataset import Dataset, check_images, check_statistics
from tinyshuffle.errors import TinyshuffleError
from tinyshuffle.ops.crop import shrink
from tinyshuffle.values import flags, whole

PAD = 4


def normalise(images: np.ndarray, mean: np.ndarray, std: np.ndarray) -> np.ndarray:
    """``(images / 255 - mean) / std``, channel by channel.

    Parameters
    ----------
    images : uint8 (..., W, 3)
    mean, std : float (3,)
        In 0..1, as a `Dataset` carries them.

    Returns
    -------
    float32, shaped as `images`

    >>> normalise(np.array([[[0, 51, 255]]], np.uint8), np.full(3, 0.5), np.full(3, 0.25)).round(3)
    array([[[-2. , -1.2,  2. ]]], dtype=float32)
    """
    check_images(images, "normalise")
    check_statistics(mean, std, "normalise")
    scale, offset = _scale_offset(mean, std)
    width = images.shape[-2]
    # a row of pixels as one run of numbers (…, 3 W), which NumPy moves fast
    x = images.reshape(*images.shape[:-2], -1) * np.tile(scale, width)
    x += np.tile(offset, width)
    return x.reshape(images.shape)


def _scale_offset(mean: np.ndarray, std: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Normalising as one multiply and one add a pixel: two float32 (3,)."""
    scale = 1 / (255 * np.asarray(std, np.float64))
    offset = -255 * np.asarray(mean, np.float64) * scale
    return scale.astype(np.float32), offset.astype(np.float32)


@flags
def num_batches(count: int, batch_size: int, drop_last: bool = False) -> int:
    """How many batches `count` images make."""
    return count // batch_size if drop_last else -(-count // batch_size)


@flags
def batches(
    dataset: Dataset,
    batch_size: int,
    seed: int = 0,
    epoch: int = 0,
    start: int = 0,
    augment: bool = True,
    shuffle: bool = True,
    drop_last: bool = False,
    cutout: int = 0,
    size: int | None = None,
    alternate: bool = False,
) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """One epoch of normalised batches.

    Parameters
    ----------
    dataset : Dataset
    batch_size : int
        At least 1. The last batch is smaller if the images do not divide, or left out with
        `drop_last`.
    seed, epoch : int
        Decide the order and, with the number of the batch, the augmentation.
    start : int
        Skip this many batches: the rest are bit for bit what they are with ``start=0``.
    augment : bool
        Random crop after padding four pixels with the mean, and random mirror image. For
        evaluation pass ``augment=False, shuffle=False``.
    cutout : int
        With `augment`, blank out a square of this many pixels a side.
    size : int, optional
        Scale the images to this side.
    alternate : bool
        With `augment`, mirror each image in every other epoch, instead of at random: in two epochs
        the net sees each image both ways, not twice the same way half of the time (Jordan 2024,
        arXiv 2404.00498). Half of the images begin mirrored, which ones depends on the seed.

    Yields
    ------
    x : float32 (batch_size, size, size, 3)
        A fresh array each time, the caller's to keep.
    labels : int64 (batch_size,)
    """
    if not isinstance(dataset, Dataset):
        raise TinyshuffleError(
            f"batches was given a {type(dataset).__name__}: give a data.Dataset, which "
            "data.load returns two of"
        )
    given = {"batch_size": batch_size, "seed": seed, "epoch": epoch, "start": start,
             "cutout": cutout, "size": size}  # fmt: skip
    numbers = {name: whole(value) for name, value in given.items()}  # NumPy's may wrap around
    for name, value in given.items():
        if numbers[name] is None and (name, value) != ("size", None):
            raise TinyshuffleError(f"{name}={value!r} was given, but it must be a whole number")
    batch_size, seed, epoch, start, cutout, size = numbers.values()  # type: ignore[assignment]
    if len(dataset) == 0:
        raise TinyshuffleError(
            f"the data set {dataset.name!r} is empty: batches need at least one image"
        )
    if batch_size < 1:
        raise TinyshuffleError(f"batch_size={batch_size} was given, but it must be 1 or more")
    if min(seed, epoch, start) < 0:
        raise TinyshuffleError(
            f"seed={seed}, epoch={epoch}, start={start} were given, but none may be negative"
        )
    if drop_last and batch_size > len(dataset):
        raise TinyshuffleError(
            f"batch_size={batch_size} with drop_last leaves no batch at all of the "
            f"{len(dataset)} images in {dataset.name!r}: make the batch smaller"
        )
    _, height, width, _ = dataset.images.shape
    if not 0 <= cutout <= 2 * max(height, width):
        raise TinyshuffleError(
            f"cutout={cutout} was given for images of {height}x{width}: it must be 0 (none) or "
            f"the side of a square in pixels, at most {2 * max(height, width)}, which hides them "
            "whole"
        )
    if size is not None and not 1 <= size <= min(height, width):
        raise TinyshuffleError(
            f"images of {dataset.name!r} cannot be scaled to {size} pixels a side: they have "
            f"{height}x{width}, and are only made smaller"
        )
    # A generator would raise only when its first batch is asked for: so check here, yield there.
    return _batches(dataset, batch_size, seed, epoch, start, augment, shuffle, drop_last,
                    cutout, size, alternate)  # fmt: skip


def _batches(
    dataset: Dataset,
    batch_size: int,
    seed: int,
    epoch: int,
    start: int,
    augment: bool,
    shuffle: bool,
    drop_last: bool,
    cutout: int,
    size: int | None,
    alternate: bool,
) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    order = np.arange(len(dataset))
    # from a stream that no epoch's order, no batch and no mixup draws from
    first = np.random.default_rng([seed, 0, 0, 1]).random(len(dataset)) < 0.5
    if shuffle:
        order = np.random.default_rng([seed, epoch]).permutation(order)
    for step in range(start, num_batches(len(dataset), batch_size, drop_last)):
        chosen = order[step * batch_size : (step + 1) * batch_size]
        images = dataset.images[chosen]
        if augment:
            # Not [seed, epoch, step]: NumPy pads a short seed with zeros, so that step 0 would
            # draw from the very stream that ordered the epoch.
            rng = np.random.default_rng([seed, epoch, 1 + step])
            flip = first[chosen] ^ (epoch % 2 == 1) if alternate else None
            # what is blanked out has its side in pixels of the images as they are
            x = _augment(images, dataset.mean, dataset.std, rng, flip, None if cutout else size)
            if cutout:
                blank(x, cutout, rng)
                x = x if size is None else shrink(x, size)
        elif size is None:
            x = normalise(images, dataset.mean, dataset.std)
        else:
            still = np.zeros(len(images), np.int64)
            scale_offset = _scale_offset(dataset.mean, dataset.std)
            x = F.crop(images, still > 0, still, still, *scale_offset, size)
        yield x, dataset.labels[chosen]


def _augment(
    images: np.ndarray,
    mean: np.ndarray,
    std: np.ndarray,
    rng: np.random.Generator,
    flip: np.ndarray | None,
    size: int | None,
) -> np.ndarray:
    """Mirror, normalise, pad, crop and scale uint8 images; None mirrors at random."""
    n = len(images)
    drawn = rng.random(n) < 0.5  # in any case: the crops are the same either way
    flip = drawn if flip is None else flip
    top, left = rng.integers(0, 2 * PAD + 1, (2, n)) - PAD
    # The padding is the same on both sides, so mirroring first gives what mirroring the crop would.
    return F.crop(images, flip, top, left, *_scale_offset(mean, std), size)


def blank(x: np.ndarray, side: int, rng: np.random.Generator) -> None:
    """Cutout (DeVries & Taylor 2017): fill a square of each image with the mean colour, in place.

    Its centre is anywhere in the image, so that it may stick out.

    Parameters
    ----------
    x : float32 (N, H, W, 3)
        Normalised, so that the mean is 0.
    side : int
        Of the square, in pixels.
    """
    n, height, width, _ = x.shape
    # the first row and column of the square, and how far each of the image's is behind it
    top, left = (rng.integers(0, length, (n, 1)) - side // 2 for length in (height, width))
    rows, columns = np.arange(height) - top, np.arange(width) - left  # (N, H), (N, W)
    rows_in, columns_in = (rows >= 0) & (rows < side), (columns >= 0) & (columns < side)
    x[rows_in[:, :, None] & columns_in[:, None]] = 0  # (N, H, W)


def mix(
    x: np.ndarray, labels: np.ndarray, alpha: float, rng: np.random.Generator
) -> tuple[np.ndarray, np.ndarray, float]:
    """Mixup (Zhang et al. 2018): blend each image of a batch with another one.

    Parameters
    ----------
    x : float32 (N, H, W, 3)
    labels : int64 (N,)
    alpha : float
        Of the Beta(α, α) distribution of the share.

    Returns
    -------
    x : float32 (N, H, W, 3)
    other : int64 (N,)
        The labels of the images that were blended in.
    share : float
        Of the first images; the loss is ``share * loss(labels) + (1 - share) * loss(other)``.
    """
    if len(x) != len(labels):
        raise TinyshuffleError(
            f"mix was given {len(x)} images and {len(labels)} labels: give one label an image"
        )
    share = rng.beta(alpha, alpha)
    # the batch is in random order already, so its reverse is as good as another permutation
    number = x.dtype.type
    return number(share) * x + number(1 - share) * x[::-1], labels[::-1], share
