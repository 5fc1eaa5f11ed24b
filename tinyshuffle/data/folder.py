"""Your own pictures: a folder with a folder for each class.

Each class's folder holds its pictures, of any size and kind that Pillow opens, in subfolders too.
If the classes lie in folders called ``train`` and ``test`` (or ``val``, ``Training_Set`` and the
like), these are the two sets;
else a fifth of each class, drawn from a seed, is kept for testing. Pictures are turned upright, the
square in their middle is scaled once, and the result is kept in the cache directory until a file
changes. A file that is no picture is named and left out, or refused.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import warnings
from contextlib import suppress
from pathlib import Path

import numpy as np

from ..errors import TinyshuffleError
from ..files import atomic_write, expand
from ..text import bar, console, message, shown, visible
from ..values import flags, whole
from .archive import data_root
from .dataset import Dataset, channel_statistics
from .images import read_image

__all__ = ["LARGEST", "SIDE", "TEST", "classes", "load", "located", "pictures"]

SIDE = 64  # of the scaled pictures, in pixels, unless another is given
SMALLEST, LARGEST = 8, 512
TEST = 5  # one in so many pictures of each class is for testing
NAMED = 5  # of the files that are no pictures, so many are named
VERSION = 1  # of what is kept

TRAIN_NAMES = ("train", "training")
TEST_NAMES = ("test", "testing", "val", "valid", "validation")
NO_CLASSES = ("__MACOSX", "@eaDir")
"""Folders that archives and file servers put between one's own, as hidden ones are."""
NO_PICTURES = (".txt", ".md", ".json", ".csv", ".xml", ".db", ".ini", ".html", ".npz")
"""Files that lie beside pictures and need not be spoken of."""


def located(name: str) -> str:
    """Return the absolute path of a folder, if that is what ``name`` means; else ``name``.

    >>> located("cifar11"), located("/data/../data/birds")
    ('cifar11', '/data/birds')
    """
    if os.sep in name or "/" in name or name.startswith(("~", ".")) or os.path.isdir(name):
        return os.path.abspath(expand(name, "data"))
    return name


def classes(path: str | os.PathLike[str]) -> tuple[str, ...]:
    """Return the names of the classes: of the folders in a folder, in their order."""
    return tuple(_classes(_parts(Path(path))[0]))


def pictures(path: str | os.PathLike[str]) -> tuple[tuple[str, ...], list[tuple[Path, int]]]:
    """Return the names of a folder's classes, and its files for testing, each with its label.

    All files are, if there is no ``test`` or ``val`` among its folders.
    """
    part = _parts(Path(path), to_train=False)[-1]
    names = tuple(_classes(part))
    return names, [(file, i) for i, name in enumerate(names) for file in _files(part / name)]


@flags
def load(
    path: str | os.PathLike[str], side: int | None = None, seed: int = 0, strict: bool = False
) -> tuple[Dataset, Dataset]:
    """Return the training and the test set of a folder.

    Parameters
    ----------
    path : path
    side : int, optional
        Of the scaled pictures, in pixels; 64 unless given.
    seed : int
        Decides which pictures are for testing, if the folder does not.
    strict : bool
        Refuse files that are no pictures; without it they are named in a warning and left out.

    Raises
    ------
    TinyshuffleError
        If there is no such folder, it has fewer than two classes, or a class has too few pictures.
    """
    folder, size = Path(path), whole(SIDE if side is None else side)
    if size is None or not SMALLEST <= size <= LARGEST:
        raise TinyshuffleError(
            f"side={shown(side)} was given: it must be a whole number of pixels from {SMALLEST} to "
            f"{LARGEST}"
        )
    parts = _parts(folder)
    names = _classes(parts[0])
    sets = []
    for part in parts:
        if extra := [name for name in _classes(part) if name not in names]:
            raise TinyshuffleError(
                f"{part} has the class {shown(extra[0])}, of which {parts[0]} has no pictures: "
                "give it some, or take it out"
            )
        files = [(file, label) for label, name in enumerate(names) for file in _files(part / name)]
        sets.append(_read(folder, files, size, strict))
    if len(sets) == 1:
        sets = _split(*sets[0], np.random.default_rng(seed), names, folder)
    (images, labels), (test_images, test_labels) = sets
    for part, found in ((parts[0], labels), (parts[-1], test_labels)):
        counts = np.bincount(found, minlength=len(names))
        if counts.sum() == 0 or part == parts[0] and counts.min() == 0:
            name = names[int(counts.argmin())]
            raise TinyshuffleError(f"{part} has no picture of the class {shown(name)}: add some")
    mean, std = channel_statistics(images)
    std = np.where(std > 0, std, np.float32(1))  # a channel that is the same everywhere
    label = _label(folder)
    return (
        Dataset(label, images, labels, tuple(names), mean, std),
        Dataset(label, test_images, test_labels, tuple(names), mean, std),
    )


def _label(folder: Path) -> str:
    """Return what a folder's data set is called."""
    return visible(folder.name, "")


def _parts(folder: Path, to_train: bool = True) -> list[Path]:
    """Return the folder of the classes; or those for training and for testing."""
    if not folder.is_dir():
        raise TinyshuffleError(
            f"there is no folder {folder}: give one that has a folder of pictures for each class"
        )
    by_role: dict[str, Path] = {}
    for path in sorted(p for p in folder.iterdir() if p.is_dir()):
        by_role.setdefault(_role(path.name), path)
    train, test = (
        next((by_role[name] for name in names if name in by_role), None)
        for names in (TRAIN_NAMES, TEST_NAMES)
    )
    if test is None:
        return [folder]  # "train" alone may be a class, beside cars and buses
    if train is None and not to_train:
        return [test]
    if train is None:
        raise TinyshuffleError(
            f"{folder} has the folder {shown(test.name)} and none called 'train' beside it: put "
            "the classes for training into one, or give another folder"
        )
    return [train, test]


def _role(name: str) -> str:
    """Return what a folder is called, however it is written.

    >>> _role("Test"), _role("training_set"), _role("val data")
    ('test', 'training', 'val')
    """
    plain = re.sub("[-_ ]", "", name.casefold())
    return plain.removesuffix("set").removesuffix("data")


def _beside(name: str) -> bool:
    """Whether a file or folder only lies beside pictures."""
    return name.startswith(".") or name in NO_CLASSES


def _classes(folder: Path) -> list[str]:
    names = sorted(p.name for p in folder.iterdir() if p.is_dir() and not _beside(p.name))
    if len(names) < 2:
        raise TinyshuffleError(
            f"{folder} has {len(names)} folders in it, and needs one for each class, two at least, "
            "with that class's pictures"
        )
    return names


def _files(folder: Path) -> list[Path]:
    if not folder.is_dir():  # a class that has no test pictures
        return []
    return sorted(
        path
        for path in folder.rglob("*")
        if path.is_file() and not any(map(_beside, path.relative_to(folder).parts))
        and path.suffix.lower() not in NO_PICTURES
    )  # fmt: skip


def _read(
    folder: Path, files: list[tuple[Path, int]], side: int, strict: bool
) -> tuple[np.ndarray, np.ndarray]:
    """Return the scaled pictures and their labels, from the cache if no file has changed."""
    stats = [(path, path.stat()) for path, _ in files]
    known = [
        (path.relative_to(folder).as_posix(), s.st_size, s.st_mtime_ns) for path, s in stats
    ]
    key = hashlib.sha256(json.dumps([VERSION, side, str(folder), known]).encode())
    kept = data_root() / "folders" / f"{key.hexdigest()[:32]}.npz"
    found = _kept(kept, len(files), side)
    if found is None:
        images, faults = np.zeros((len(files), side, side, 3), np.uint8), {}
        with bar(console(stderr=True)) as shown_bar:
            task = f"reading {_label(folder)}"
            for i, (path, _) in enumerate(shown_bar.track(files, description=task)):
                try:
                    images[i] = read_image(path, side)
                except TinyshuffleError as error:
                    faults[i] = message(error)
        _keep(kept, images, faults)
    else:
        images, faults = found
    if faults:
        first = list(faults.values())[:NAMED]
        more = f"; and {len(faults) - NAMED} more" if len(faults) > NAMED else ""
        if strict:
            raise TinyshuffleError(
                f"{folder} has {len(faults)} files that are no pictures: {'; '.join(first)}{more}"
            )
        warnings.warn(
            f"{len(faults)} of {len(files)} files in {folder} are left out: "
            f"{'; '.join(first)}{more}",
            stacklevel=4,
        )
    good = np.array([i for i in range(len(files)) if i not in faults], np.int64)
    labels = np.array([label for _, label in files], np.int64)
    return images[good], labels[good]


def _kept(path: Path, count: int, side: int) -> tuple[np.ndarray, dict[int, str]] | None:
    """Return what was kept, or None: whatever is wrong with it, the pictures are still there."""
    try:
        with np.load(path) as file:
            images, words = file["images"], json.loads(file["faults"].tobytes())
        if images.shape != (count, side, side, 3) or images.dtype != np.uint8:
            return None
        return images, {int(i): str(word) for i, word in words.items()}
    except Exception:  # a damaged file ends in many kinds of them
        return None


def _keep(path: Path, images: np.ndarray, faults: dict[int, str]) -> None:
    with suppress(OSError, TinyshuffleError):  # without room it is done anew next time
        path.parent.mkdir(parents=True, exist_ok=True)
        with atomic_write(path) as file:
            words = np.frombuffer(json.dumps(faults).encode(), np.uint8)
            np.savez(file, images=images, faults=words)


def _split(
    images: np.ndarray, labels: np.ndarray, rng: np.random.Generator, names: list[str], folder: Path
) -> list[tuple[np.ndarray, np.ndarray]]:
    """Keep a fifth of each class, and one picture at least, for testing."""
    test = np.zeros(len(labels), bool)
    for label, name in enumerate(names):
        members = np.flatnonzero(labels == label)
        if len(members) < 2:
            raise TinyshuffleError(
                f"the class {shown(name)} in {folder} has {len(members)} pictures, and needs two "
                "at least, one to train and one to test with"
            )
        test[rng.permutation(members)[: max(1, len(members) // TEST)]] = True
    return [(images[~test], labels[~test]), (images[test], labels[test])]
