"""Figures of data sets and of training runs."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from .style import STYLES

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from ..data import Dataset

__all__ = ["learning_curves", "samples"]


def learning_curves(rows: Sequence[dict[str, Any]]) -> Figure:
    """Draw accuracy and loss over the epochs, from the rows of ``log.csv``.

    Parameters
    ----------
    rows : sequence of dict
        With ``epoch``, ``train_loss``, ``train_accuracy``, ``test_loss`` and ``test_accuracy``
        (accuracies 0 to 1).

    Returns
    -------
    matplotlib.figure.Figure
        Two panels one above the other, legible on a telephone.
    """
    from matplotlib.figure import Figure
    from matplotlib.ticker import MaxNLocator

    # fixed margins: a computed layout draws everything twice, at every epoch
    figure = Figure(figsize=(5, 6), dpi=120)
    figure.subplots_adjust(left=0.13, right=0.97, bottom=0.09, top=0.98, hspace=0.08)
    above, below = figure.subplots(2, 1, sharex=True)
    _curves(above, rows, "accuracy", 100, "{:.1f} %")
    _curves(below, rows, "loss", 1, "{:.2f}")
    above.set_ylabel("accuracy, %")
    below.set_ylabel("loss (log scale)")
    below.set_yscale("log")  # a net's first test loss can be ten times its last
    below.yaxis.set_major_formatter("{x:g}")
    below.yaxis.set_minor_formatter("")
    below.set_xlabel("epoch")
    below.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))
    return figure


def _curves(axes: Axes, rows: Sequence[dict[str, Any]], what: str, scale: float, last: str) -> None:
    epochs = [row["epoch"] for row in rows]
    for part, style in STYLES.items():
        values = [scale * row[f"{part}_{what}"] for row in rows]
        label = f"{part} {last.format(values[-1])}"
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
    import numpy as np
    from matplotlib.figure import Figure

    classes = dataset.classes
    figure = Figure(figsize=(0.62 * each + 0.9, 0.62 * len(classes)), dpi=120)
    figure.subplots_adjust(left=0.9 / (0.62 * each + 0.9), right=1, bottom=0, top=1,
                           wspace=0.04, hspace=0.04)  # fmt: skip
    grid = figure.subplots(len(classes), each, squeeze=False)
    for label, (name, row) in enumerate(zip(classes, grid, strict=True)):
        chosen = np.flatnonzero(dataset.labels == label)[:each]
        row[0].text(-3, 16, name, ha="right", va="center", fontsize=10)
        for axes, i in zip(row, chosen, strict=False):
            axes.imshow(dataset.images[i])
        for axes in row:
            axes.set_axis_off()
    return figure
