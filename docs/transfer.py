"""Write the pictures of docs/transfer.md, CIFAR-10's classes as folders; draw what came out.

    python docs/transfer.py FOLDER
    python docs/transfer.py --draw RUN RUN …

The first writes FOLDER/eight (2,000 and 250 pictures of each class but cat and dog, to train and to
test with), FOLDER/two (100 and 500 of cat and dog) and FOLDER/ten (300 and 100 of each class). The
second takes the accuracies from the logs of runs, writes docs/transfer.csv and draws
docs/transfer.png.
"""

from __future__ import annotations

import csv
import sys
from pathlib import Path

import numpy as np
from PIL import Image

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import tinyshuffle as ts  # noqa: E402
from tinyshuffle import plots  # noqa: E402
from tinyshuffle.train.compare import read_run  # noqa: E402

CSV, PICTURE = (Path(__file__).with_suffix(ending) for ending in (".csv", ".png"))

TWO = "cat", "dog"


def write(folder: Path, names: tuple[str, ...], count: dict[str, int]) -> None:
    for part, dataset in zip(("train", "test"), ts.data.load("cifar10"), strict=True):
        for name in names:
            place = folder / part / name
            place.mkdir(parents=True, exist_ok=True)
            of_class = np.flatnonzero(dataset.labels == dataset.classes.index(name))
            for i in of_class[: count[part]]:
                Image.fromarray(dataset.images[i]).save(place / f"{i}.png")


def arm(config: dict[str, object]) -> str:
    if config["init"] is None:
        return "random weights"
    return "ImageNet's, the last layer learns" if config["freeze"] else "ImageNet's, all learn"


def draw(runs: list[Path]) -> None:
    """Test accuracy after each epoch, the mean of all seeds of an arm."""
    found: dict[str, dict[int, list[float]]] = {}
    lines: list[list[object]] = [["begins with", "seed", "epoch", "test_accuracy"]]
    for run in runs:
        log = read_run(run)
        of_arm = found.setdefault(arm(log.config), {})
        for row in log.tested:
            epoch, right = row["epoch"], row["test_accuracy"]
            of_arm.setdefault(epoch, []).append(100 * right)
            lines.append([arm(log.config), log.config["seed"], epoch, f"{right:.4f}"])
    if len({tuple(epochs) for epochs in found.values()}) != 1:
        sys.exit("Error: the runs were tested after different epochs: give runs of one recipe")
    with CSV.open("w", encoding="utf-8", newline="\n") as file:
        csv.writer(file, lineterminator="\n").writerows(lines)
    means = {name: [sum(v) / len(v) for v in epochs.values()] for name, epochs in found.items()}
    epochs = list(next(iter(found.values())))
    figure = plots.curves(epochs, means, "epoch", "test accuracy, %")
    figure.axes[0].set_xticks(epochs)
    figure.savefig(PICTURE, dpi=144, facecolor="white", metadata={"Software": None})


def main() -> None:
    if sys.argv[1] == "--draw":
        draw([Path(run) for run in sys.argv[2:]])
        return
    folder = Path(sys.argv[1])
    classes = ts.data.classes("cifar10")
    others = tuple(name for name in classes if name not in TWO)
    write(folder / "eight", others, {"train": 2000, "test": 250})
    write(folder / "two", TWO, {"train": 100, "test": 500})
    write(folder / "ten", classes, {"train": 300, "test": 100})


if __name__ == "__main__":
    main()
