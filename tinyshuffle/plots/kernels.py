"""Figures of what makes a kernel fast, and of the filters that training finds."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np

from .style import COLOURS, MARKERS, plain_ticks

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["curves", "filters", "speed_bars", "tile_choices"]

_DASHES = ("-", "--", ":", "-.")


def curves(
    x: Sequence[float],
    series: Mapping[str, Sequence[float]],
    xlabel: str,
    ylabel: str,
    marks: Mapping[str, float] | None = None,
    log: str = "",
) -> Figure:
    """Draw values against one variable.

    Parameters
    ----------
    x : sequence of float
    series : mapping of label to one value for each x
    xlabel, ylabel : str
    marks : mapping of label to x, optional
        Vertical lines.
    log : str
        The axes that are logarithmic: ``""``, ``"x"``, ``"y"`` or ``"xy"``.

    Returns
    -------
    matplotlib.figure.Figure
    """
    from matplotlib.figure import Figure

    figure = Figure(figsize=(5, 3.4), dpi=120)
    figure.set_layout_engine("constrained")
    axes = figure.subplots()
    for i, (label, values) in enumerate(series.items()):
        axes.plot(x, values, _DASHES[i % 4], color=list(COLOURS.values())[i], marker=MARKERS[i],
                  markersize=4, linewidth=2, label=label)  # fmt: skip
    if "x" in log:
        axes.set_xscale("log", base=2)
        axes.xaxis.set_major_formatter("{x:,.0f}")
    if "y" in log:
        axes.set_yscale("log", subs=(2, 5))
        axes.yaxis.set_major_formatter("{x:g}")
        axes.yaxis.set_minor_formatter("{x:g}")
    else:
        axes.set_ylim(bottom=0)
    for label, at in (marks or {}).items():
        axes.axvline(at, color="#777777", linewidth=1)
        axes.text(at, 0.02, f" {label}", transform=axes.get_xaxis_transform(), rotation=90,
                  ha="right", va="bottom", fontsize=9, color="#444444")  # fmt: skip
    axes.set_xlabel(xlabel + (" (log scale)" if "x" in log else ""))
    axes.set_ylabel(ylabel + (" (log scale)" if "y" in log else ""))
    axes.grid(alpha=0.3)
    axes.spines[["top", "right"]].set_visible(False)
    if len(series) > 1:
        axes.legend(frameon=False, fontsize=9)
    return figure


def speed_bars(
    seconds: Mapping[str, float], unit: str, scale: float, floor: Mapping[str, float] | None = None
) -> Figure:
    """Draw how long each version of the same computation takes, one below the other.

    Parameters
    ----------
    seconds : mapping of label to time
    unit : str
        What is written on the axis.
    scale : float
        What a time is multiplied by to be in that unit.
    floor : mapping of label to time, optional
        Vertical lines: what none of them can be faster than.

    Returns
    -------
    matplotlib.figure.Figure
        The axis is logarithmic.
    """
    from matplotlib.figure import Figure

    figure = Figure(figsize=(5, 1.3 + 0.42 * len(seconds)), dpi=120)
    figure.set_layout_engine("constrained")
    axes = figure.subplots()
    values = [scale * s for s in seconds.values()]
    lines = {label: scale * s for label, s in (floor or {}).items()}
    lowest = min([*values, *lines.values()]) / 2
    axes.barh(range(len(values)), [v - lowest for v in values], left=lowest,
              color=COLOURS["sky"], edgecolor=COLOURS["blue"])  # fmt: skip
    for i, value in enumerate(values):
        axes.annotate(f" {value:.3g}", (value, i), va="center", fontsize=9)
    for (label, at), dash in zip(lines.items(), ("--", ":"), strict=False):
        axes.axvline(at, color=COLOURS["vermilion"], linestyle=dash, linewidth=2, label=label)
    axes.set_yticks(range(len(values)), list(seconds))
    axes.set_ylim(len(values) - 0.4, -0.6)
    axes.set_xscale("log")
    axes.set_xlim(lowest, 4 * max(values))  # room for the last number
    plain_ticks(axes.xaxis)
    axes.set_xlabel(f"{unit} (log scale)")
    axes.spines[["top", "right"]].set_visible(False)
    if lines:
        figure.legend(loc="outside lower center", frameon=False, fontsize=9)
    return figure


def tile_choices(registers: int = 32, most_rows: int = 12, most_vectors: int = 4) -> Figure:
    """Draw how many products a tile of a matrix product makes for each load.

    A tile of R rows and V vectors keeps R·V sums in registers, and needs V more for the right
    factor and one for the left one. A step makes R·V products for R + V loads.

    Parameters
    ----------
    registers : int
        How many vector registers a core has.
    most_rows, most_vectors : int

    Returns
    -------
    matplotlib.figure.Figure
        A cell a tile; those that need too many registers are crossed out.
    """
    from matplotlib.figure import Figure
    from matplotlib.patches import Rectangle

    figure = Figure(figsize=(4, 5), dpi=120)
    figure.set_layout_engine("constrained")
    axes = figure.subplots()
    rows, vectors = np.arange(1, most_rows + 1), np.arange(1, most_vectors + 1)
    products = np.outer(rows, vectors)  # (R, V)
    ratio = products / np.add.outer(rows, vectors)
    fits = products + vectors + 1 <= registers
    best = np.where(fits, ratio, 0).max()
    axes.imshow(np.where(fits, ratio, np.nan), cmap="cividis", vmin=0, vmax=best, aspect="auto")
    for (r, v), value in np.ndenumerate(ratio):
        if fits[r, v]:
            colour = "black" if value > best / 2 else "white"
            weight = "bold" if value == best else "normal"
            axes.text(v, r, f"{value:.2f}", ha="center", va="center", fontsize=9, color=colour,
                      weight=weight)  # fmt: skip
        else:
            axes.add_patch(Rectangle((v - 0.5, r - 0.5), 1, 1, fill=False, hatch="//",
                                     edgecolor="#999999", linewidth=0))  # fmt: skip
    axes.set_xticks(range(most_vectors), vectors)
    axes.set_yticks(range(most_rows), rows)
    axes.set_xlabel("vectors of columns, V")
    axes.set_ylabel("rows, R")
    axes.set_title(f"products for each load; {registers} registers", fontsize=10)
    return figure


def filters(weights: Mapping[str, np.ndarray], columns: int = 8) -> Figure:
    """Draw the filters of a first convolution as small pictures.

    Parameters
    ----------
    weights : mapping of title to (Kh, Kw, 3, O)
        One block a title, one above the other.
    columns : int

    Returns
    -------
    matplotlib.figure.Figure
        Grey is zero; each filter is scaled to its own largest weight, or one strong filter would
        leave nothing but grey of the others.
    """
    from matplotlib.figure import Figure

    rows = [-(-w.shape[-1] // columns) for w in weights.values()]
    figure = Figure(figsize=(0.55 * columns, sum(0.55 * r + 0.35 for r in rows)), dpi=120)
    figure.set_layout_engine("constrained")
    parts = figure.subfigures(len(rows), 1, squeeze=False, height_ratios=[r + 0.6 for r in rows])
    for part, (title, w), r in zip(parts[:, 0], weights.items(), rows, strict=True):
        part.suptitle(title, fontsize=10)
        grid = part.subplots(r, columns, squeeze=False).ravel()
        strongest = np.abs(w).max(axis=(0, 1, 2))
        picture = 0.5 + 0.5 * w / np.where(strongest > 0, strongest, 1)
        for o, axes in enumerate(grid):
            axes.set_axis_off()
            if o < w.shape[-1]:
                axes.imshow(picture[..., o])
    return figure
