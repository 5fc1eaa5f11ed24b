"""Every figure that tinyshuffle draws.

Each function returns a matplotlib ``Figure`` that belongs to the caller: nothing is registered
with pyplot, and no style is set for anybody else. The colours are those of Okabe and Ito, which
stay apart under every common form of colour blindness; lines differ in dash as well.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from .cost import Profile
    from .cost.tables import Table
    from .data import Dataset

__all__ = [
    "COLOURS",
    "STYLES",
    "accuracy_against_cost",
    "cost",
    "learning_curves",
    "samples",
]

COLOURS = {
    "blue": "#0072B2",
    "orange": "#E69F00",
    "green": "#009E73",
    "vermilion": "#D55E00",
    "sky": "#56B4E9",
    "purple": "#CC79A7",
    "black": "#000000",
}
"""Okabe and Ito's palette, without its yellow, which is too pale for a line on white."""

STYLES: dict[str, dict[str, Any]] = {
    "train": {"color": COLOURS["orange"], "linestyle": "--", "marker": "o"},
    "test": {"color": COLOURS["blue"], "linestyle": "-", "marker": "s"},
}
"""The same look for the same thing, in every figure."""


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


KIND_STYLES: dict[str, dict[str, Any]] = {
    "pointwise": {"color": COLOURS["blue"]},
    "depthwise": {"color": COLOURS["orange"], "hatch": "//"},
    "dense": {"color": COLOURS["vermilion"], "hatch": "xx"},
    "grouped": {"color": COLOURS["purple"], "hatch": "\\\\"},
    "linear": {"color": COLOURS["black"]},
    "batch norm": {"color": COLOURS["green"], "hatch": ".."},
    "element-wise": {"color": COLOURS["sky"], "hatch": "--"},
    "shuffle": {"color": "#BBBBBB", "hatch": "oo"},
    "pooling": {"color": "#777777", "hatch": "++"},
}
"""A colour and a hatch for each kind of operation."""


def cost(profile: Profile) -> Figure:
    """Draw where a net's multiply-adds, parameters and memory accesses go.

    Parameters
    ----------
    profile : Profile

    Returns
    -------
    matplotlib.figure.Figure
        Above, the shares of each kind of operation; below, multiply-adds and memory access along
        the net, unit by unit.
    """
    from matplotlib.figure import Figure

    from .cost.profile import short

    units = profile.groups("unit")
    figure = Figure(figsize=(7, 3.4 + 0.24 * len(units)), dpi=120)
    figure.set_layout_engine("constrained")
    halves: Any = figure.subfigures(2, 1, height_ratios=(1.6, 1 + 0.24 * len(units)))
    above, below = halves
    total, rows = profile.total, profile.by("kind")
    quantities = {"params": "parameters", "multiply_adds": "multiply-adds",
                  "memory_access": "memory access"}  # fmt: skip

    axes = above.subplots()
    names = [f"{words} {short(getattr(total, name))}" for name, words in quantities.items()]
    shares = {
        row.kind: [100 * getattr(row, name) / max(1, getattr(total, name)) for name in quantities]
        for row in rows
    }
    _stack(axes, names, shares)
    axes.set_xlabel("share of the net, %")
    figure.legend(*axes.get_legend_handles_labels(), loc="outside lower center", ncols=5,
                  frameon=False, fontsize=9)  # fmt: skip

    panels = below.subplots(1, 2, sharey=True)
    for axes, name in zip(panels, ("multiply_adds", "memory_access"), strict=True):
        costs = {row.kind: [0.0] * len(units) for row in rows}
        for i, parts in enumerate(units.values()):
            for row in parts:
                costs[row.kind][i] += getattr(row, name) / 1e6
        _stack(axes, list(units), costs)
        axes.tick_params(axis="y", labelsize=8)
        axes.grid(axis="x", alpha=0.3)
        elements = ", million elements" if name == "memory_access" else ", millions"
        axes.set_xlabel(quantities[name] + elements)
    panels[0].invert_yaxis()
    height, width = profile.input_shape[1:3]
    figure.suptitle(f"{profile.net}, {height}x{width}", fontsize=11)
    return figure


def _stack(axes: Axes, names: list[str], parts: dict[str, list[float]]) -> None:
    """Draw horizontal bars, one a name, stacked of the kinds in ``parts``."""
    left = [0.0] * len(names)
    for kind, values in parts.items():
        axes.barh(names, values, left=left, label=kind, edgecolor="white", linewidth=0.4,
                  **KIND_STYLES[kind])  # fmt: skip
        left = [a + b for a, b in zip(left, values, strict=True)]
    axes.spines[["top", "right"]].set_visible(False)


MARKERS = ("o", "s", "^", "D", "v", "P", "X", "*", "<", ">")


def accuracy_against_cost(tables: Sequence[Table]) -> Figure:
    """Draw the accuracies that the papers print against the multiply-adds counted here.

    Parameters
    ----------
    tables : sequence of Table
        Lines with an error and a count are drawn, joined by the family that their label names.

    Returns
    -------
    matplotlib.figure.Figure
        Accuracies are the papers', multiply-adds ours; the figure says so.
    """
    from matplotlib.figure import Figure

    families: dict[str, set[tuple[float, float]]] = {}
    for table in tables:
        for line in table.lines:
            if line.error is not None and line.count is not None:
                point = line.count() / 1e6, 100 - line.error
                families.setdefault(_family(line.label), set()).add(point)
    figure = Figure(figsize=(6, 5.4), dpi=120)
    figure.set_layout_engine("constrained")
    axes = figure.subplots()
    colours = list(COLOURS.values())
    for i, (family, points) in enumerate(families.items()):
        x, y = zip(*sorted(points), strict=True)
        dash = "-" if i < len(colours) else "--"
        axes.plot(x, y, dash, label=family, color=colours[i % len(colours)], marker=MARKERS[i])
    axes.set_xscale("log")
    axes.set_xlabel("million multiply-adds, counted here (log scale)")
    axes.set_ylabel("ImageNet top-1 accuracy, %, as published")
    axes.grid(alpha=0.3, which="both")
    axes.spines[["top", "right"]].set_visible(False)
    figure.legend(loc="outside lower center", ncols=3, frameon=False, fontsize=9)
    return figure


def _family(label: str) -> str:
    """The family of nets that a line's label names, such as "ShuffleNet v2"."""
    for key, family in (
        ("ShuffleNet v2", "ShuffleNet V2"),
        ("ShuffleNet", "ShuffleNet V1"),
        ("MobileNet v2", "MobileNet V2"),
        ("MobileNet", "MobileNet V1"),
    ):
        if key in label:
            return family
    return label.split(" (")[0].split(",")[0]

