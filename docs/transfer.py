"""Write the pictures of docs/transfer.md: CIFAR-10's classes as folders.

    python docs/transfer.py FOLDER

writes FOLDER/eight (2,000 and 250 pictures of each class but cat and dog, to train and to test
with), FOLDER/two (100 and 500 of cat and dog) and FOLDER/ten (40 and 30 of each class).
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
from PIL import Image

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import tinyshuffle as ts  # noqa: E402

TWO = "cat", "dog"


def write(folder: Path, names: tuple[str, ...], count: dict[str, int]) -> None:
    for part, dataset in zip(("train", "test"), ts.data.load("cifar10"), strict=True):
        for name in names:
            place = folder / part / name
            place.mkdir(parents=True, exist_ok=True)
            of_class = np.flatnonzero(dataset.labels == dataset.classes.index(name))
            for i in of_class[: count[part]]:
                Image.fromarray(dataset.images[i]).save(place / f"{i}.png")


def main() -> None:
    folder = Path(sys.argv[1])
    classes = ts.data.classes("cifar10")
    others = tuple(name for name in classes if name not in TWO)
    write(folder / "eight", others, {"train": 2000, "test": 250})
    write(folder / "two", TWO, {"train": 100, "test": 500})
    write(folder / "ten", classes, {"train": 40, "test": 30})


if __name__ == "__main__":
    main()
