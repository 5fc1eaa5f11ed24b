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

from tinyshuffle.data import archive, cifar, coco, folder, scenes, shapes
from tinyshuffle.data.batches import batches, mix, normalise, num_batches, shrink
from tinyshuffle.data.boxes import BoxDataset, Objects, box_batches
from tinyshuffle.data.dataset import Dataset, from_arrays, hold_out
from tinyshuffle.errors import TinyshuffleError

from ..values import flags

__all__ = [
    "NAMES", "SIDE", "BoxDataset", "Dataset", "Objects", "batches", "box_batches", "classes",
    "coco", "describe", "from_arrays", "hold_out", "is_folder", "load", "mix", "normalise",
    "num_batches", "scenes", "shrink",
]  # fmt: skip

CIFAR = {source.name: source for source in (cifar.CIFAR10, cifar.CIFAR100, cifar.CIFAR100_COARSE)}
NAMES = ("shapes", *CIFAR)
SIDE = shapes.SIZE  # of the images of each, in pixels


@flags
def load(
    name: str,
    root: str | os.PathLike[str] | None = None,
    download: bool = True,
    side: int | None = None,
    strict: bool = False,
) -> tuple[Dataset, Dataset]:
    """The training set and the test set of that name.

    Parameters
    ----------
    name : {"shapes", "cifar10", "cifar100", "cifar100-coarse"}, or the path of a folder
        A folder has a folder of pictures for each class: see :mod:`tinyshuffle.data.folder`.
    root : path, optional
        Where CIFAR's files are, or shall be: unpacked, with or without their folder, or the
        archive. By default the environment variable ``TINYSHUFFLE_DATA``, or else a cache
        directory of the user's. `shapes` needs no files. For a folder: where it is now, if it has
        moved.
    download : bool
        Whether to fetch CIFAR from the network if `root` does not hold it.
    side : int, optional
        To which a folder's pictures are scaled; 64 unless given. The others have 32.
    strict : bool
        Refuse files in a folder that are no pictures, rather than to name them and leave them out.

    Raises
    ------
    TinyshuffleError
        An unknown name; files that are missing, truncated or corrupt; no network, and then it
        says which file to put where.
    """
    if is_folder(name):
        return folder.load(root or folder.located(name), side, strict=strict)
    classes(name)
    if side not in (None, SIDE):
        raise TinyshuffleError(
            f"side={side} has no effect on {name}, whose images have {SIDE} pixels a side: it is "
            "for a folder's pictures"
        )
    return shapes.load() if name == "shapes" else cifar.load(CIFAR[name], root, download)


def is_folder(name: str) -> bool:
    """Whether a data set's name is the path of a folder."""
    return isinstance(name, str) and name not in NAMES and os.path.isabs(folder.located(name))


def classes(name: str, root: str | os.PathLike[str] | None = None) -> tuple[str, ...]:
    """The names of a data set's classes, in the order of the labels, without its files.

    Those of a folder are its folders' names.

    Raises
    ------
    TinyshuffleError
        An unknown name; it says which are like it.

    >>> classes("cifar10")[:3]
    ('airplane', 'automobile', 'bird')
    """
    if is_folder(name):
        return folder.classes(root or folder.located(name))
    if name not in NAMES:
        near = difflib.get_close_matches(str(name).lower(), NAMES, cutoff=0.4) or NAMES
        raise TinyshuffleError(
            f"there is no data set {name!r} (nearest that there are: {', '.join(near)}), and no "
            "folder of that name"
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
    if is_folder(name):
        where = root or folder.located(name)
    elif name == "shapes":
        where = "built in"
    else:
        where = archive.locate(CIFAR[name], root, download=False)
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
