"""Figures of detection: pictures with boxes, learning curves, precision against recall."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from math import isnan, nan
from typing import TYPE_CHECKING, Any

import numpy as np

from .style import COLOURS, MARKERS, STYLES, label

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["LOSSES", "boxes", "detection_curves", "precision_recall", "receptive_fields"]

PALETTE = [COLOURS[name] for name in ("vermilion", "sky", "green", "orange", "purple", "blue")]


def boxes(
    images: np.ndarray,
    found: Sequence[tuple[np.ndarray, np.ndarray, np.ndarray | None]],
    classes: Sequence[str],
    columns: int = 4,
    width: float = 8.0,
) -> Figure:
    """Draw pictures with boxes on them.

    Parameters
    ----------
    images : uint8 (N, H, W, 3)
    found : N of (boxes (K, 4), labels (K,), scores (K,) or None)
    classes : sequence of str
    columns : int
        Pictures side by side.
    width : float
        Of the figure, in inches.

    Returns
    -------
    matplotlib.figure.Figure
    """
    from matplotlib.figure import Figure
    from matplotlib.patches import Rectangle

    columns = max(1, min(columns, len(images)))
    rows = max(1, -(-len(images) // columns))
    side = width / columns
    figure = Figure(figsize=(width, rows * side * images.shape[1] / images.shape[2]), dpi=120)
    figure.subplots_adjust(left=0, right=1, bottom=0, top=1, wspace=0.02, hspace=0.02)
    grid = figure.subplots(rows, columns, squeeze=False)
    for axes in grid.ravel():
        axes.set_axis_off()
    for axes, image, (corners, labels, scores) in zip(grid.ravel(), images, found, strict=False):
        axes.imshow(image, interpolation="nearest")
        for k, (x1, y1, x2, y2) in enumerate(corners):
            colour = PALETTE[int(labels[k]) % len(PALETTE)]
            # a pixel's centre is where imshow has a whole number
            axes.add_patch(Rectangle(
                (x1 - 0.5, y1 - 0.5), x2 - x1, y2 - y1, fill=False, edgecolor=colour, linewidth=1.2
            ))  # fmt: skip
            name = label(str(classes[int(labels[k])]))
            text = name if scores is None else f"{name} {100 * scores[k]:.0f}"
            axes.text(
                x1, max(y1 - 1, 4), text, fontsize=5, color="white", va="bottom", clip_on=True,
                bbox={"facecolor": colour, "edgecolor": "none", "pad": 0.6},
            )  # fmt: skip
    return figure


def detection_curves(rows: Sequence[dict[str, Any]]) -> Figure:
    """Draw mAP and the losses over the epochs, from the rows of ``log.csv``.

    ``rows`` have ``epoch``, ``map``, ``map50``, ``map_small`` (0 to 1, -1 if there is no such
    object) and the four losses.
    """
    from matplotlib.figure import Figure
    from matplotlib.ticker import MaxNLocator

    figure = Figure(figsize=(5, 6), dpi=120)
    figure.subplots_adjust(left=0.13, right=0.97, bottom=0.09, top=0.98, hspace=0.08)
    above, below = figure.subplots(2, 1, sharex=True)
    epochs = [row["epoch"] for row in rows]
    for name, words, style in (
        ("map", "mAP", STYLES["test"]),
        ("map50", "AP at IoU 0.5", {"color": COLOURS["sky"], "linestyle": "--", "marker": "^"}),
        ("map_small", "mAP, small", {"color": COLOURS["green"], "linestyle": ":", "marker": "v"}),
    ):
        values = [100 * row[name] if row[name] >= 0 else nan for row in rows]
        last = "-" if isnan(values[-1]) else f"{values[-1]:.1f}"
        above.plot(epochs, values, label=f"{words} {last}", markersize=4, **style)
    for i, (name, words) in enumerate(LOSSES.items()):
        values = [row[name] for row in rows]
        below.plot(
            epochs, values, color=PALETTE[i], marker=MARKERS[i], markersize=4,
            label=f"{words} {values[-1]:.3f}",
        )  # fmt: skip
    above.set_ylabel("on the test set, %")
    below.set_ylabel("training loss")
    below.set_ylim(bottom=0)
    below.set_xlabel("epoch")
    below.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))
    for axes, where in ((above, "lower right"), (below, "upper right")):
        axes.legend(loc=where, frameon=False)
        axes.grid(alpha=0.3)
        axes.spines[["top", "right"]].set_visible(False)
    return figure


LOSSES = {
    "objectness": "is there an object",
    "proposal_boxes": "boxes of proposals",
    "classes": "which class",
    "boxes": "boxes",
}
"""The four losses of a detector: columns of its log, and what they are called."""


def precision_recall(precision: np.ndarray, classes: Sequence[str]) -> Figure:
    """Draw precision against recall at an IoU of 0.5, 0.75 and 0.9, and AP by class.

    Parameters
    ----------
    precision : (10, 101, classes)
        At the ten thresholds 0.5, 0.55, …, 0.95 and the recalls 0, 0.01, …, 1; -1 where a class
        has no object.
    classes : sequence of str
    """
    from matplotlib.figure import Figure

    known = [k for k in range(len(classes)) if (precision[..., k] > -1).all()]
    figure = Figure(figsize=(8, max(3.2, 1 + 0.22 * len(known))), dpi=120, layout="constrained")
    left, right = figure.subplots(1, 2)
    recall = np.linspace(0, 100, precision.shape[1])
    for t, colour, dash in ((0, "blue", "-"), (5, "orange", "--"), (8, "green", ":")):
        if known:
            mean = 100 * precision[t][:, known].mean(axis=1)
            words = f"IoU {0.5 + 0.05 * t:.2f}: AP {mean.mean():.1f}"
            left.plot(recall, mean, dash, color=COLOURS[colour], label=words)
    left.set_xlabel("recall, %")
    left.set_ylabel("precision, %")
    left.set_xlim(0, 100)
    left.set_ylim(0, 101)
    if known:
        left.legend(loc="lower left", frameon=False)
    left.grid(alpha=0.3)
    order = sorted(known, key=lambda k: precision[..., k].mean())
    values = [100 * precision[..., k].mean() for k in order]
    right.barh([label(str(classes[k])) for k in order], values, color=COLOURS["blue"])
    right.set_xlabel("AP, %")
    right.set_xlim(0, 100)
    for axes in left, right:
        axes.spines[["top", "right"]].set_visible(False)
    return figure


def receptive_fields(
    fields: Mapping[str, np.ndarray], widths: Mapping[str, float], columns: int = 2
) -> Figure:
    """Draw where the output in the middle of a map looks, for several nets.

    Parameters
    ----------
    fields : mapping of str to (H, W)
        The squared gradient with regard to the picture, by the net's name
        (:func:`tinyshuffle.detect.receptive.receptive_field`).
    widths : mapping of str to float
        Of the square that holds half of it, which is drawn.
    columns : int
        Nets side by side.

    Returns
    -------
    matplotlib.figure.Figure
        The root of each map, from black to its own largest number in white.
    """
    from matplotlib.figure import Figure
    from matplotlib.patches import Rectangle

    columns = max(1, min(columns, len(fields)))
    rows = max(1, -(-len(fields) // columns))
    figure = Figure(figsize=(2.4 * columns, 2.7 * rows), dpi=120, layout="constrained")
    grid = figure.subplots(rows, columns, squeeze=False)
    for axes in grid.ravel():
        axes.set_axis_off()
    for axes, (name, squares) in zip(grid.ravel(), fields.items(), strict=False):
        axes.imshow(np.sqrt(squares), cmap="gray", vmin=0, interpolation="nearest")
        total, width = squares.sum() or 1.0, widths[name]
        y, x = (
            np.arange(n) @ squares.sum(axis=1 - axis) / total
            for axis, n in enumerate(squares.shape)
        )
        axes.add_patch(Rectangle(
            (x - width / 2, y - width / 2), width, width, fill=False, edgecolor=COLOURS["orange"],
            linewidth=1.5,
        ))  # fmt: skip
        axes.set_title(f"{label(name)}\n{width:.1f} pixels", fontsize=9)
    return figure
