"""Data sets, and batches of them.

>>> from tinyshuffle import data
>>> train, test = data.load("shapes")
>>> len(train), len(test), train.images.shape[1:]
(8000, 2000, (32, 32, 3))
>>> x, labels = next(data.batches(train, 128, seed=0, epoch=0))
>>> x.shape, x.dtype, labels.shape
((128, 32, 32, 3), dtype('float32'), (128,))
"""

from __future__ import annotations

import difflib
import os
from typing import Any

import numpy as np

from tinyshuffle.data import archive, cifar, shapes
from tinyshuffle.data.batches import batches, mix, normalise, num_batches, shrink
from tinyshuffle.data.dataset import Dataset
from tinyshuffle.errors import TinyshuffleError

from ..values import flags

__all__ = ["NAMES", "SIDE", "Dataset", "batches", "classes", "describe", "load", "mix",
           "normalise", "num_batches", "shrink"]  # fmt: skip

CIFAR = {source.name: source for source in (cifar.CIFAR10, cifar.CIFAR100)}
NAMES = ("shapes", *CIFAR)
SIDE = shapes.SIZE  # of the images of each, in pixels


@flags
def load(
    name: str, root: str | os.PathLike[str] | None = None, download: bool = True
) -> tuple[Dataset, Dataset]:
    """The training set and the test set of that name.

    Parameters
    ----------
    name : {"shapes", "cifar10", "cifar100"}
    root : path, optional
        Where CIFAR's files are, or shall be: unpacked, with or without their folder, or the
        archive. By default the environment variable ``TINYSHUFFLE_DATA``, or else a cache
        directory of the user's. `shapes` needs no files.
    download : bool
        Whether to fetch CIFAR from the network if `root` does not hold it.

    Raises
    ------
    TinyshuffleError
        An unknown name; files that are missing, truncated or corrupt; no network, and then it
        says which file to put where.
    """
    classes(name)
    return shapes.load() if name == "shapes" else cifar.load(CIFAR[name], root, download)


def classes(name: str) -> tuple[str, ...]:
    """The names of a data set's classes, in the order of the labels, without its files.

    Raises
    ------
    TinyshuffleError
        An unknown name; it says which are like it.

    >>> classes("cifar10")[:3]
    ('airplane', 'automobile', 'bird')
    """
    if name not in NAMES:
        near = difflib.get_close_matches(str(name).lower(), NAMES, cutoff=0.4) or NAMES
        raise TinyshuffleError(
            f"there is no data set {name!r} (nearest that there are: {', '.join(near)})"
        )
    return shapes.CLASSES if name == "shapes" else CIFAR[name].classes


def describe(name: str, root: str | os.PathLike[str] | None = None) -> dict[str, Any]:
    """What a data set is made of and where its files are, for a table; downloads nothing.

    Returns
    -------
    dict
        ``name``, ``where`` (a path, or ``"built in"``), ``classes``, ``train`` and ``test``
        (numbers of images), ``train_per_class`` and ``test_per_class`` (one a class), ``mean`` and
        ``std`` (three floats each).
    """
    train, test = load(name, root, download=False)
    where = "built in" if name == "shapes" else archive.locate(CIFAR[name], root, download=False)
    return {
        "name": name,
        "where": str(where),
        "classes": train.classes,
        "train": len(train),
        "test": len(test),
        "train_per_class": np.bincount(train.labels, minlength=len(train.classes)).tolist(),
        "test_per_class": np.bincount(test.labels, minlength=len(train.classes)).tolist(),
        "mean": train.mean.tolist(),
        "std": train.std.tolist(),
    }
