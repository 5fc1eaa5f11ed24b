"""Figures of data sets and of training runs."""

from __future__ import annotations

import math
import statistics
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from .style import COLOURS, MARKERS, STYLES, label

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from ..data import Dataset

__all__ = ["ablation", "compare", "confusion", "learning_curves", "samples", "worst_images"]


def learning_curves(rows: Sequence[dict[str, Any]], tested: str = "test") -> Figure:
    """Draw accuracy and loss over the epochs, from the rows of ``log.csv``.

    Parameters
    ----------
    rows : sequence of dict
        With ``epoch``, ``train_loss``, ``train_accuracy``, ``test_loss`` and ``test_accuracy``
        (accuracies 0 to 1), these two None where an epoch was not tested.
    tested : str
        What it was tested with, for the legend: "test", or "held out".

    Returns
    -------
    matplotlib.figure.Figure
        Two panels one above the other, legible on a telephone.
    """
    from matplotlib.figure import Figure
    from matplotlib.ticker import LogLocator, MaxNLocator, NullLocator

    # fixed margins: a computed layout draws everything twice, at every epoch
    figure = Figure(figsize=(5, 6), dpi=120)
    figure.subplots_adjust(left=0.13, right=0.97, bottom=0.09, top=0.98, hspace=0.08)
    above, below = figure.subplots(2, 1, sharex=True)
    names = {"train": "train", "test": tested}
    _curves(above, rows, "accuracy", names, 100, "{:.1f} %")
    _curves(below, rows, "loss", names, 1, "{:.2f}")
    above.set_ylabel("accuracy, %")
    below.set_ylabel("loss (log scale)")
    below.set_yscale("log")  # a net's first test loss can be ten times its last
    below.yaxis.set_major_locator(LogLocator(subs=(1, 1.5, 2, 3, 5, 7)))  # less than a decade, too
    below.yaxis.set_major_formatter("{x:g}")
    below.yaxis.set_minor_locator(NullLocator())
    below.set_xlabel("epoch")
    below.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))
    return figure


def _curves(
    axes: Axes, rows: Sequence[dict[str, Any]], what: str, names: dict[str, str], scale: float,
    last: str,
) -> None:  # fmt: skip
    for part, style in STYLES.items():
        name = f"{part}_{what}"
        there = [row for row in rows if row[name] is not None]
        if not there:
            continue
        epochs, values = [row["epoch"] for row in there], [scale * row[name] for row in there]
        label = f"{names[part]} {last.format(values[-1])}"
        axes.plot(epochs, values, label=label, linewidth=2, markersize=4, **style)
    axes.legend(loc="lower right" if what == "accuracy" else "upper right", frameon=False)
    axes.grid(alpha=0.3)
    axes.spines[["top", "right"]].set_visible(False)


def samples(dataset: Dataset, each: int = 8) -> Figure:
    """Draw the first images of every class.

    Parameters
    ----------
    dataset : Dataset
    each : int
        Images of a class.

    Returns
    -------
    matplotlib.figure.Figure
        A row a class, its name at the left.
    """
    from matplotlib.figure import Figure

    classes = dataset.classes
    figure = Figure(figsize=(0.62 * each + 0.9, 0.62 * len(classes)), dpi=120)
    figure.subplots_adjust(left=0.9 / (0.62 * each + 0.9), right=1, bottom=0, top=1,
                           wspace=0.04, hspace=0.04)  # fmt: skip
    grid = figure.subplots(len(classes), each, squeeze=False)
    for k, (name, row) in enumerate(zip(classes, grid, strict=True)):
        chosen = np.flatnonzero(dataset.labels == k)[:each]
        row[0].text(-3, 16, label(name), ha="right", va="center", fontsize=10)
        for axes, i in zip(row, chosen, strict=False):
            axes.imshow(dataset.images[i], interpolation="nearest")
        for axes in row:
            axes.set_axis_off()
    return figure


def confusion(counts: np.ndarray, classes: Sequence[str]) -> Figure:
    """Draw which classes a net takes for which.

    Parameters
    ----------
    counts : ndarray of int, (classes, classes)
        Images by class (rows) and by what the net takes them for (columns).
    classes : sequence of str

    Returns
    -------
    matplotlib.figure.Figure
        Each row in per cent of its class; the numbers are left out where they would not fit.
    """
    from matplotlib.figure import Figure

    k, classes = len(classes), [label(name) for name in classes]
    legible = k <= 20
    shares = 100 * counts / np.maximum(1, counts.sum(1, keepdims=True))
    side = 1.4 + 0.36 * k if legible else 8  # ten classes fit on a telephone
    figure = Figure(figsize=(side, side), dpi=120)
    figure.set_layout_engine("constrained")
    axes = figure.subplots()
    axes.imshow(shares, cmap="cividis", vmin=0, vmax=100)  # as dark and light without colours too
    axes.set_xlabel("taken for")
    axes.set_ylabel("class")
    axes.set_xticks(range(k), classes, rotation=90, fontsize=9 if legible else 5)
    axes.set_yticks(range(k), classes, fontsize=9 if legible else 5)
    axes.set_title("per cent of each class", fontsize=10)
    if legible:
        for (i, j), share in np.ndenumerate(shares):
            if counts[i, j]:
                colour = "black" if share > 50 else "white"
                axes.text(j, i, f"{share:.0f}" if share > 0.5 else "<1", ha="center", va="center",
                          fontsize=8, color=colour)  # fmt: skip
    return figure


def worst_images(
    dataset: Dataset, probabilities: np.ndarray, count: int = 25, columns: int = 5
) -> Figure:
    """Draw the images that a net is most wrong about, the worst first.

    Parameters
    ----------
    dataset : Dataset
    probabilities : ndarray, (N, classes)
        What the net thinks of each image.
    count, columns : int

    Returns
    -------
    matplotlib.figure.Figure
        Under each image its class, and what the net takes it for with which probability.
    """
    from matplotlib.figure import Figure

    own = probabilities[np.arange(len(dataset)), dataset.labels]
    wrong = np.flatnonzero(probabilities.argmax(1) != dataset.labels)
    chosen = wrong[np.argsort(own[wrong], kind="stable")][:count]
    rows = max(1, -(-len(chosen) // columns))
    figure = Figure(figsize=(1.5 * columns, 1.75 * rows), dpi=120)
    figure.subplots_adjust(left=0.02, right=0.98, bottom=0.28 / rows, top=1 - 0.03 / rows,
                           wspace=0.1, hspace=0.35)  # fmt: skip
    grid = figure.subplots(rows, columns, squeeze=False).ravel()
    for axes in grid:
        axes.set_axis_off()
    for axes, i in zip(grid, chosen, strict=False):
        taken = probabilities[i].argmax()
        axes.imshow(dataset.images[i], interpolation="nearest")
        axes.text(
            0.5, -0.03,
            f"{label(dataset.classes[dataset.labels[i]])}, taken for\n"
            f"{label(dataset.classes[taken])} "
            f"({100 * probabilities[i, taken]:.0f} %)",
            ha="center", va="top", fontsize=7, transform=axes.transAxes,
        )  # fmt: skip
    return figure


def compare(
    runs: dict[str, Sequence[dict[str, Any]]], measure: str = "test accuracy"
) -> Figure:
    """Draw the accuracy of several runs.

    Parameters
    ----------
    runs : dict
        The rows of each run's ``log.csv`` that have a ``test_accuracy``, by the run's name.
    measure : str
        What that is called.

    Returns
    -------
    matplotlib.figure.Figure
        Over the epochs, and over the minutes that they took.
    """
    from matplotlib.figure import Figure
    from matplotlib.ticker import MaxNLocator

    colours, dashes = list(COLOURS.values()), ("-", "--", ":", "-.")
    figure = Figure(figsize=(5, 6.4), dpi=120)
    figure.set_layout_engine("constrained")
    panels = figure.subplots(2, 1, sharey=True)
    for i, (name, rows) in enumerate(runs.items()):
        look = {
            "color": colours[i % len(colours)],
            "linestyle": dashes[i // len(colours) % len(dashes)],
            "marker": MARKERS[i % len(MARKERS)],
        }
        accuracies = [100 * row["test_accuracy"] for row in rows]
        epochs, minutes = ([row["epoch"] for row in rows], [row["seconds"] / 60 for row in rows])
        for axes, x in zip(panels, (epochs, minutes), strict=True):
            last = f"{label(name)} {accuracies[-1]:.1f} %"
            axes.plot(x, accuracies, label=last, markersize=4, **look)
    panels[0].xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))
    for axes, over in zip(panels, ("epoch", "minutes, tests included"), strict=True):
        axes.set_xlabel(over)
        axes.set_ylabel(f"{measure}, %")
        axes.grid(alpha=0.3)
        axes.spines[["top", "right"]].set_visible(False)
    figure.legend(*panels[0].get_legend_handles_labels(), loc="outside lower center", ncols=1,
                  frameon=False, fontsize=9)  # fmt: skip
    return figure


def ablation(
    title: str, accuracies: Mapping[str, Sequence[float]], dataset: str,
    measure: str = "test accuracy",
) -> Figure:  # fmt: skip
    """Draw accuracies: each run, and each net's mean with its standard error.

    Parameters
    ----------
    title : str
        The question.
    accuracies : mapping of str to sequence of float
        Test accuracy of every run, 0 to 1, by the net's name.
    dataset : str
        Its name.
    measure : str
        What the numbers are called.

    Returns
    -------
    matplotlib.figure.Figure
    """
    from matplotlib.figure import Figure

    names = list(accuracies)
    figure = Figure(figsize=(6, 1.4 + 0.5 * len(names)), dpi=120)
    figure.set_layout_engine("constrained")
    axes = figure.subplots()
    for i, name in enumerate(names):
        found = [100 * accuracy for accuracy in accuracies[name]]
        runs = "each run" if i == 0 else None
        axes.plot(found, [i] * len(found), "o", color=COLOURS["orange"], alpha=0.8, label=runs)
        mean = sum(found) / len(found)
        axes.plot([mean], [i], "D", color=COLOURS["blue"], label="mean" if i == 0 else None)
        if len(found) > 1:
            error = statistics.stdev(found) / math.sqrt(len(found))
            axes.errorbar(mean, i, xerr=error, fmt="none", color=COLOURS["blue"],
                          label="its standard error" if i == 0 else None)  # fmt: skip
        axes.annotate(f"{mean:.1f}", (mean, i), (0, 8), textcoords="offset points", ha="center",
                      fontsize=8)  # fmt: skip
    axes.set_yticks(range(len(names)), names)
    axes.set_ylim(len(names) - 0.4, -0.6)
    axes.set_xlabel(f"{dataset}: {measure}, %")
    axes.set_title(title, fontsize=11)
    axes.grid(axis="x", alpha=0.3)
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(frameon=False, fontsize=8, loc="best")
    return figure
