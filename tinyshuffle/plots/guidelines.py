"""Figures of ShuffleNet V2's guidelines on the reader's machine."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from .style import COLOURS

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from ..bench.guidelines import Found, Guideline

__all__ = ["guideline"]

_LINES = (
    {"color": COLOURS["blue"], "marker": "s", "linestyle": "-"},
    {"color": COLOURS["sky"], "marker": "D", "linestyle": "-"},
    {"color": COLOURS["orange"], "marker": "o", "linestyle": "-"},
    {"color": COLOURS["green"], "marker": "^", "linestyle": "-"},
)


def guideline(table: Guideline, found: Sequence[Found]) -> Figure:
    """Draw a guideline's table: the speed of each row by that of the first.

    Parameters
    ----------
    table : Guideline
    found : sequence of Found
        What each library needed.

    Returns
    -------
    matplotlib.figure.Figure
        A panel a column. Dashed and grey what the paper published; with bars, in which half of the
        turns lie, what was measured here. All rows cost the same multiply-adds: if those were
        time, all lines would be level.
    """
    from matplotlib.figure import Figure

    columns = [column for column in table.columns if column.name in found[0].seconds]
    across = min(3, len(columns))
    down = -(-len(columns) // across)
    figure = Figure(figsize=(3.2 * across + 0.6, 2.7 * down + 1.1), dpi=120)
    figure.set_layout_engine("constrained")
    figure.suptitle(f"{table.name}: {table.claim}", fontsize=11)
    panels = figure.subplots(down, across, squeeze=False, sharey=True)
    rows = range(len(table.rows))
    for axes, column in zip(panels.flat, columns, strict=False):
        axes.axhline(1, color="black", linewidth=0.6)
        axes.plot(
            rows, [speed / column.published[0] for speed in column.published], color="#777777",
            linestyle="--", marker="x", label="published (each panel's platform)",
        )  # fmt: skip
        for style, side in zip(_LINES, found, strict=False):
            speeds = [side.speed(column.name, row) for row in rows]
            bars = [[s.median - s.lower for s in speeds], [s.upper - s.median for s in speeds]]
            axes.errorbar(rows, [s.median for s in speeds], bars, label=side.side, markersize=4,
                          linewidth=1.2, capsize=2, **style)  # fmt: skip
        platform = "ARM" if column.mobile else "GPU"
        axes.set_title(f"{column.name} (published: {platform})", fontsize=9)
        axes.set_xticks(rows, table.rows, rotation=20 if table.name in ("G3", "G4") else 0,
                        fontsize=8)  # fmt: skip
        axes.set_ylim(bottom=0)
        axes.grid(alpha=0.3)
        axes.spines[["top", "right"]].set_visible(False)
    for axes in panels.flat[len(columns) :]:
        axes.set_visible(False)
    figure.supylabel("speed, the first row's = 1", fontsize=9)
    figure.legend(*panels[0, 0].get_legend_handles_labels(), loc="outside lower center",
                  ncols=3, frameon=False, fontsize=8)  # fmt: skip
    return figure
