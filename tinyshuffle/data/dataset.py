"""What a data set is: pixels, labels, names, and the statistics that normalise it."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True, eq=False)
class Dataset:
    """Labelled images, as bytes: 3 kB for a 32x32 image, so all of CIFAR-10 fits in memory.

    Attributes
    ----------
    name : str
        ``"shapes"``, ``"cifar10"`` or ``"cifar100"``.
    images : uint8 (N, 32, 32, 3)
        RGB, 0..255.
    labels : int64 (N,)
        Indices into `classes`.
    classes : tuple of str
    mean, std : float32 (3,)
        For each channel of the *training* images, in 0..1. A test set carries its training set's.
    """

    name: str
    images: np.ndarray
    labels: np.ndarray
    classes: tuple[str, ...]
    mean: np.ndarray
    std: np.ndarray

    def __len__(self) -> int:
        return len(self.labels)


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
