"""Figures of ShuffleNet V2's guidelines on the reader's machine."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import cycle
from typing import TYPE_CHECKING

from .style import COLOURS, MARKERS, plain_ticks

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from ..bench.guideline_tables import Guideline
    from ..bench.guidelines import Found
    from ..bench.nets import Rows
    from ..bench.search_space import Entry, Genome

__all__ = ["foretold", "guideline", "memory_parts", "search_front", "time_against_memory"]

NARROW = 4.8  # inches of a figure with one panel across: legible on a telephone

_LINES = (
    {"color": COLOURS["blue"], "marker": "s", "linestyle": "-"},
    {"color": COLOURS["sky"], "marker": "D", "linestyle": "-"},
    {"color": COLOURS["orange"], "marker": "o", "linestyle": "-"},
    {"color": COLOURS["green"], "marker": "^", "linestyle": "-"},
)


def guideline(table: Guideline, found: Sequence[Found], across: int = 3) -> Figure:
    """Draw a guideline's table: the speed of each row by that of the first.

    Parameters
    ----------
    table : Guideline
    found : sequence of Found
        What each library needed.
    across : int
        Panels side by side; one for a telephone.

    Returns
    -------
    matplotlib.figure.Figure
        A panel a column. Dashed and grey what the paper published; with bars, in which half of the
        turns lie, what was measured here. All rows cost the same multiply-adds: if those were
        time, all lines would be level; if memory access were, they would lie on the dotted one.
    """
    from matplotlib.figure import Figure

    from ..bench.guideline_tables import relative_memory_access

    columns = [column for column in table.columns if column.name in found[0].seconds]
    across = min(across, len(columns))
    down = -(-len(columns) // across)
    figure = Figure(figsize=(max(NARROW, 3.2 * across + 0.6), 2.7 * down + 1.1), dpi=120)
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
        axes.plot(
            rows, [1 / memory for memory in relative_memory_access(column)], color="black",
            linestyle=":", marker="+", label="predicted, if memory access were time",
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
                  ncols=1 if across == 1 else 3, frameon=False, fontsize=8)  # fmt: skip
    return figure


def memory_parts(
    rows: Mapping[str, Mapping[str, float]], floor: float | None = None, most: float = 0.0
) -> Figure:
    """Draw what the memory access of convolutions consists of, one bar a convolution.

    Parameters
    ----------
    rows : mapping of label to mapping of part to elements
        Parts such as inputs, outputs and weights; the same ones in each row.
    floor : float, optional
        Elements that none of them can do without: a vertical line.
    most : float
        Elements that the axis has room for at least, so that it stays as it is where others follow.

    Returns
    -------
    matplotlib.figure.Figure
        In millions of elements, the sum beside each bar.
    """
    from matplotlib.figure import Figure

    figure = Figure(figsize=(NARROW, 1.5 + 0.36 * len(rows)), dpi=120)
    figure.set_layout_engine("constrained")
    axes = figure.subplots()
    left = [0.0] * len(rows)
    looks = zip(("blue", "orange", "green"), ("", "//", ".."), strict=True)
    for part, (colour, hatch) in zip(next(iter(rows.values())), looks, strict=False):
        values = [row[part] / 1e6 for row in rows.values()]
        axes.barh(range(len(rows)), values, left=left, label=part, color=COLOURS[colour],
                  hatch=hatch, edgecolor="white", linewidth=0.4)  # fmt: skip
        left = [a + b for a, b in zip(left, values, strict=True)]
    for i, total in enumerate(left):
        axes.annotate(f" {total:.2f}", (total, i), va="center", fontsize=9)
    if floor is not None:
        axes.axvline(floor / 1e6, color=COLOURS["black"], linestyle="--", linewidth=1.5,
                     label="least possible")  # fmt: skip
    axes.set_yticks(range(len(rows)), list(rows))
    axes.invert_yaxis()
    axes.set_xlim(0, 1.14 * max(*left, most / 1e6))
    axes.set_xlabel("elements read or written, millions")
    axes.spines[["top", "right"]].set_visible(False)
    figure.legend(loc="outside lower center", ncols=4, frameon=False, fontsize=9)
    return figure


def time_against_memory(points: Mapping[str, Sequence[tuple[float, float]]]) -> Figure:
    """Draw the time of nets of equal multiply-adds against their memory access.

    Parameters
    ----------
    points : mapping of label to pairs (memory access, time)
        Both by those of a net that the others are compared with.

    Returns
    -------
    matplotlib.figure.Figure
        With two lines: where the marks would lie if multiply-adds were time, and if memory access
        were.
    """
    from matplotlib.figure import Figure

    figure = Figure(figsize=(NARROW, 4.6), dpi=120)
    figure.set_layout_engine("constrained")
    axes = figure.subplots()
    for (label, pairs), colour, marker in zip(
        points.items(), COLOURS.values(), MARKERS, strict=False
    ):
        memory, time = zip(*pairs, strict=True)
        axes.scatter(memory, time, s=44, color=colour, marker=marker, edgecolor="white",
                     linewidth=0.5, label=label, zorder=3)  # fmt: skip
    every = [pair for pairs in points.values() for pair in pairs]
    right = max(1.1, 1.05 * max(x for x, _ in every))
    left = min(0.95, 0.95 * min(x for x, _ in every))
    axes.plot([left, right], [1, 1], color="black", linewidth=1.2,
              label="if multiply–adds were time")  # fmt: skip
    axes.plot([left, right], [left, right], color="black", linewidth=1.2, linestyle="--",
              label="if memory access were time")  # fmt: skip
    axes.set_xlabel("memory access, compared net = 1")
    axes.set_ylabel("time, compared net = 1")
    axes.set_ylim(bottom=0)
    axes.grid(alpha=0.3)
    axes.spines[["top", "right"]].set_visible(False)
    figure.legend(loc="outside lower center", ncols=2, frameon=False, fontsize=9)
    return figure


def foretold(found: Rows, across: int = 3) -> Figure:
    """Draw what foretells the time of nets or units.

    Parameters
    ----------
    found : Rows
    across : int
        Panels side by side, of the three; one for a telephone.

    Returns
    -------
    matplotlib.figure.Figure
        Measured time against multiply-adds, against memory access, and against the roofline
        model's prediction, each with its rank correlation. A family of nets has a marker.
    """
    from matplotlib.figure import Figure

    down = -(-3 // across)
    figure = Figure(figsize=(max(NARROW, 3.5 * across), 3.2 * down + 1), dpi=120)
    figure.set_layout_engine("constrained")
    panels = figure.subplots(down, across, squeeze=False, sharey=True)
    families: dict[str, list[int]] = {}
    for i, row in enumerate(found.rows):
        family = row.subject.unit or row.subject.model.partition("_x")[0]
        families.setdefault(family, []).append(i)
    quantities = {
        "multiply-adds": ("multiply-adds, M", [r.multiply_adds / 1e6 for r in found.rows]),
        "memory access": ("elements read or written, M",
                          [r.memory_access / 1e6 for r in found.rows]),
        "roofline model": ("predicted, ms", [1e3 * r.predicted for r in found.rows]),
    }  # fmt: skip
    times = [1e3 * row.spread.median for row in found.rows]
    values = found.correlations()
    for axes, (name, (label, x)) in zip(panels.flat, quantities.items(), strict=False):
        looks = zip(cycle(COLOURS.values()), cycle(MARKERS))  # more than there are colours
        for (family, members), (colour, marker) in zip(families.items(), looks, strict=False):
            axes.scatter([x[i] for i in members], [times[i] for i in members], color=colour,
                         marker=marker, s=36, edgecolor="white", linewidth=0.5,
                         label=family)  # fmt: skip
        axes.set(xscale="log", yscale="log", xlabel=f"{label} (log scale)")
        plain_ticks(axes.xaxis, axes.yaxis)
        axes.set_title(f"{name}: rank correlation {values[name]:.2f}", fontsize=9)
        axes.grid(alpha=0.3)
        axes.spines[["top", "right"]].set_visible(False)
    for axes in panels[:, 0]:
        axes.set_ylabel("measured here, ms (log scale)")
    for axes in panels.flat[3:]:
        axes.set_visible(False)
    figure.legend(*panels[0, 0].get_legend_handles_labels(), loc="outside lower center",
                  ncols=2 if across == 1 else 5, frameon=False, fontsize=9)  # fmt: skip
    return figure


def search_front(seen: Mapping[Genome, Entry], latency: float, winner: Genome) -> Figure:
    """Draw the nets that a search looked at: multiply-adds against time.

    Parameters
    ----------
    seen : dict of Genome to Entry
    latency : float
        The budget, in seconds by the look-up table: what the winner has there, by what it has as a
        whole, times the budget.
    winner : Genome

    Returns
    -------
    matplotlib.figure.Figure
        A marker for each choice of groups, hollow if V2's guidelines rule the net out; the front of
        the others as a line, the budget dashed, and the net that was found as a star.
    """
    from matplotlib.figure import Figure

    from ..bench.search import front
    from ..bench.search_space import obeys

    figure = Figure(figsize=(6.4, 4.8), dpi=120)
    figure.set_layout_engine("constrained")
    axes = figure.subplots()

    def place(genomes: Sequence[Genome]) -> tuple[list[float], list[float]]:
        times = [1e3 * seen[genome].seconds for genome in genomes]
        return times, [seen[genome].multiply_adds / 1e6 for genome in genomes]

    families = sorted({(genome.groups, not obeys(genome)) for genome in seen})
    colours = [colour for name, colour in COLOURS.items() if name != "black"]
    for groups, out in reversed(families):  # V2's on top
        which = sorted({groups for groups, _ in families}).index(groups)
        members = [g for g in seen if (g.groups, not obeys(g)) == (groups, out)]
        colour, name = colours[which], f"V1, g = {groups}" if groups else "V2"
        axes.scatter(*place(members), s=12, marker=MARKERS[which], alpha=0.6,
                     edgecolor=colour, facecolor="none" if out else colour, linewidth=0.6,
                     label=f"{name}, ruled out" if out else name)  # fmt: skip
    axes.plot(*place(front({g: e for g, e in seen.items() if obeys(g)})), color="black",
              linewidth=1, label="front of what is allowed")  # fmt: skip
    axes.axvline(1e3 * latency, color="black", linestyle="--", linewidth=1, label="budget")
    axes.scatter(*place([winner]), s=160, marker="*", color=COLOURS["vermilion"],
                 edgecolor="black", zorder=3, label="found")  # fmt: skip
    axes.set(xscale="log", yscale="log", xlabel="ms, by the look-up table (log scale)",
             ylabel="multiply-adds, M (log scale)")  # fmt: skip
    plain_ticks(axes.xaxis, axes.yaxis)
    axes.grid(alpha=0.3)
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(frameon=False, fontsize=8)
    return figure
