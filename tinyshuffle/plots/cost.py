"""Figures of what nets cost."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from ..cost.profile import short
from ..cost.tables import DIFFERS
from .style import COLOURS, KIND_STYLES, MARKERS, plain_ticks

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from ..cost import Profile
    from ..cost.tables import Table

__all__ = ["accuracy_against_cost", "accuracy_map", "cost", "stack"]


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
    stack(axes, names, shares)
    axes.set_xlabel("share of the net, %")
    figure.legend(*axes.get_legend_handles_labels(), loc="outside lower center", ncols=5,
                  frameon=False, fontsize=9)  # fmt: skip

    panels = below.subplots(1, 2, sharey=True)
    for axes, name in zip(panels, ("multiply_adds", "memory_access"), strict=True):
        costs = {row.kind: [0.0] * len(units) for row in rows}
        for i, parts in enumerate(units.values()):
            for row in parts:
                costs[row.kind][i] += getattr(row, name) / 1e6
        stack(axes, list(units), costs)
        axes.tick_params(axis="y", labelsize=8)
        axes.grid(axis="x", alpha=0.3)
        elements = ", million elements" if name == "memory_access" else ", millions"
        axes.set_xlabel(quantities[name] + elements)
    panels[0].invert_yaxis()
    height, width = profile.input_shape[1:3]
    figure.suptitle(f"{profile.net}, {height}x{width}", fontsize=11)
    return figure


def stack(axes: Axes, names: list[str], parts: dict[str, list[float]]) -> None:
    """Draw horizontal bars, one a name, stacked of the kinds in ``parts``."""
    left = [0.0] * len(names)
    for kind, values in parts.items():
        axes.barh(names, values, left=left, label=kind, edgecolor="white", linewidth=0.4,
                  **KIND_STYLES[kind])  # fmt: skip
        left = [a + b for a, b in zip(left, values, strict=True)]
    axes.spines[["top", "right"]].set_visible(False)


def accuracy_against_cost(tables: Sequence[Table]) -> Figure:
    """Draw the accuracies that the papers print against the multiply-adds counted here.

    Parameters
    ----------
    tables : sequence of Table
        Lines with an error and a count are drawn, joined by the family that their label names.
        Where the count differs from the printed one, the net is not quite the paper's: hollow.

    Returns
    -------
    matplotlib.figure.Figure
        Accuracies are the papers', multiply-adds ours; the figure says so.
    """
    from matplotlib.figure import Figure

    families: dict[str, set[tuple[float, float]]] = {}
    hollow: set[tuple[float, float]] = set()
    for table in tables:
        for line in table.lines:
            if line.error is not None and line.count is not None:
                point = line.count() / 1e6, 100 - line.error
                families.setdefault(_family(line.label), set()).add(point)
                if line.verdict == DIFFERS:
                    hollow.add(point)
    figure = Figure(figsize=(6, 5.4), dpi=120)
    figure.set_layout_engine("constrained")
    axes = figure.subplots()
    colours = list(COLOURS.values())
    for i, (family, points) in enumerate(families.items()):
        x, y = zip(*sorted(points), strict=True)
        dash = "-" if i < len(colours) else "--"
        colour, marker = colours[i % len(colours)], MARKERS[i % len(MARKERS)]
        axes.plot(x, y, dash, label=family, color=colour, marker=marker)
        for point in sorted(hollow & points):
            axes.plot(*point, marker, color=colour, markerfacecolor="white")
    if hollow:
        axes.plot([], [], "o", color="grey", markerfacecolor="white",
                  label="hollow: not quite the paper's net")  # fmt: skip
    axes.set_xscale("log")
    plain_ticks(axes.xaxis)
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


def accuracy_map(points: Sequence[tuple[str, float, float, str, str]]) -> Figure:
    """Draw nets by what they cost and how often they are right.

    Parameters
    ----------
    points : sequence of (label, multiply-adds, accuracy in %, source of the accuracy, side)
        ``side`` is where the label stands: "left" or "right" of its point.

    Returns
    -------
    matplotlib.figure.Figure
        A colour and a marker for each source. Accuracies are published ones; the axis says so.
    """
    from matplotlib.figure import Figure

    figure = Figure(figsize=(5, 4.6), dpi=120)
    figure.set_layout_engine("constrained")
    axes = figure.subplots()
    sources = list(dict.fromkeys(point[3] for point in points))
    for source, colour, marker in zip(sources, COLOURS.values(), MARKERS, strict=False):
        chosen = [point for point in points if point[3] == source]
        axes.plot([p[1] / 1e6 for p in chosen], [p[2] for p in chosen], marker, color=colour,
                  markersize=7, label=f"accuracy: {source}")  # fmt: skip
    for label, adds, accuracy, _, side in points:
        right = side == "right"
        axes.annotate(label, (adds / 1e6, accuracy), (7 if right else -7, 0), va="center",
                      textcoords="offset points", ha="left" if right else "right",
                      fontsize=9)  # fmt: skip
    axes.set_xscale("log")
    axes.margins(x=0.17)
    plain_ticks(axes.xaxis)
    axes.set_xlabel("million multiply–adds, counted here (log scale)")
    axes.set_ylabel("ImageNet top-1 accuracy, %, as published")
    axes.grid(alpha=0.3, which="both")
    axes.set_axisbelow(True)
    axes.spines[["top", "right"]].set_visible(False)
    figure.legend(loc="outside lower center", ncols=1, frameon=False, fontsize=9)
    return figure
