"""What kinds of layers cost: bars of shares, of a net, of a unit, over the groups."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np

from ..ops import conv2d_cost
from .cost import stack
from .style import COLOURS, KIND_STYLES, lesson_figure

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from ..cost import Row

__all__ = ["channel_bars", "cost_over_groups", "kind_bars", "kind_shares", "layer_bars"]


def layer_bars(rows: Sequence[Row], quantities: Mapping[str, str]) -> Figure:
    """Draw what the layers of a net cost, one below the other.

    Parameters
    ----------
    rows : sequence of Row
        Of a profile; those that have multiply-adds are drawn, coloured by their kind.
    quantities : mapping of str to str
        Attribute of a row, and the words for it.

    Returns
    -------
    matplotlib.figure.Figure
        A panel a quantity, side by side.
    """
    rows = [row for row in rows if row.multiply_adds]
    figure = lesson_figure(1.1 + 0.2 * len(rows))
    panels = np.atleast_1d(figure.subplots(1, len(quantities), sharey=True))
    for axes, (attribute, words) in zip(panels, quantities.items(), strict=True):
        for kind in dict.fromkeys(row.kind for row in rows):
            at = [i for i, row in enumerate(rows) if row.kind == kind]
            axes.barh(at, [getattr(rows[i], attribute) / 1e6 for i in at], label=kind,
                      edgecolor="white", linewidth=0.4, **KIND_STYLES[kind])  # fmt: skip
        axes.set_xlabel(f"{words},\nmillions", fontsize=9)
        axes.tick_params(labelsize=9)
        axes.spines[["top", "right"]].set_visible(False)
    sizes = ["×".join(map(str, row.output[1:])) for row in rows]
    panels[0].set_yticks(range(len(rows)), sizes, fontsize=9)
    panels[0].set_ylabel("output of the layer")
    panels[0].invert_yaxis()
    handles, labels = panels[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=4, frameon=False, fontsize=9)
    return figure


def kind_shares(rows: Sequence[Row], quantities: Mapping[str, str]) -> Figure:
    """Draw the share that each kind of operation has in what a net costs.

    Parameters
    ----------
    rows : sequence of Row
        One a kind, as ``Profile.by("kind")`` returns them.
    quantities : mapping of str to str
        Attribute of a row, and the words for it.

    Returns
    -------
    matplotlib.figure.Figure
        A stacked bar a quantity.
    """
    figure = lesson_figure(1.4 + 0.55 * len(quantities))
    axes = figure.subplots()
    totals = [max(1, sum(getattr(row, name) for row in rows)) for name in quantities]
    left = np.zeros(len(quantities))
    for row in rows:
        share = np.array([getattr(row, name) for name in quantities]) / totals * 100
        axes.barh(list(quantities.values()), share, left=left, label=row.kind,
                  edgecolor="white", linewidth=0.4, **KIND_STYLES[row.kind])  # fmt: skip
        left += share
    axes.set_xlabel("share of the net, %")
    axes.set_xlim(0, 100)
    axes.invert_yaxis()
    axes.spines[["top", "right"]].set_visible(False)
    figure.legend(loc="outside lower center", ncols=3, frameon=False, fontsize=9)
    return figure


def cost_over_groups(
    size: int = 28, in_channels: int = 240, out_channels: int = 240, kernel: int = 1
) -> Figure:
    """Draw what a grouped convolution costs, for every number of groups that divides it.

    Parameters
    ----------
    size : int
        Of a square feature map; the output has the same size.
    in_channels, out_channels, kernel : int

    Returns
    -------
    matplotlib.figure.Figure
        Multiply-adds, parameters and memory access, each relative to one group, on log scales.
    """
    groups = [g for g in range(1, in_channels + 1) if in_channels % g == out_channels % g == 0]
    costs = [
        conv2d_cost((1, size, size, in_channels), (kernel, kernel, in_channels // g, out_channels),
                    padding=kernel // 2, groups=g)
        for g in groups
    ]  # fmt: skip
    figure = lesson_figure(3.4)
    axes = figure.subplots()
    lines = (
        ("multiply_adds", "multiply-adds", "sky", "-", "o", 6),  # the next one lies on top of it
        ("params", "parameters", "black", "--", "s", 1.5),
        ("memory_access", "memory access", "vermilion", "-.", "^", 2),
    )
    for name, words, colour, dash, marker, thick in lines:
        values = [getattr(cost, name) / getattr(costs[0], name) for cost in costs]
        axes.plot(groups, values, dash, color=COLOURS[colour], marker=marker, label=words,
                  linewidth=thick, markersize=thick + 3)  # fmt: skip
    axes.set(xscale="log", yscale="log")
    axes.set_xlabel("groups (log scale)")
    axes.set_ylabel("cost relative to one group (log scale)")
    for axis in (axes.xaxis, axes.yaxis):
        axis.set_major_formatter("{x:g}")
        axis.set_minor_formatter("")
    axes.set_title(f"{kernel}×{kernel}, {in_channels} to {out_channels} channels, {size}×{size}",
                   fontsize=10)  # fmt: skip
    axes.grid(alpha=0.3)
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(frameon=False)
    return figure


def kind_bars(parts: Mapping[str, Mapping[str, float]], words: str) -> Figure:
    """Draw a bar for each name, stacked of what each kind of operation has in it.

    Parameters
    ----------
    parts : mapping of name to mapping of kind to number
    words : str
        What is counted, for the axis.

    Returns
    -------
    matplotlib.figure.Figure
    """
    from matplotlib.figure import Figure


    kinds = [kind for kind in KIND_STYLES if any(kind in p for p in parts.values())]
    figure = Figure(figsize=(5, 1.3 + 0.42 * len(parts)), dpi=120)
    figure.set_layout_engine("constrained")
    axes = figure.subplots()
    stack(axes, list(parts), {k: [p.get(k, 0.0) for p in parts.values()] for k in kinds})
    axes.set_xlim(0, 1.03 * max(sum(p.values()) for p in parts.values()))
    axes.set_ylim(len(parts) - 0.4, -0.6)
    axes.grid(axis="x", alpha=0.3)
    axes.set_axisbelow(True)
    axes.set_xlabel(words)
    figure.legend(*axes.get_legend_handles_labels(), loc="outside lower center", ncols=3,
                  frameon=False, fontsize=9)  # fmt: skip
    return figure


def channel_bars(channels: Mapping[str, float], words: str, most: float) -> Figure:
    """Draw how many channels each of up to three units has.

    Parameters
    ----------
    channels : mapping of unit to number
    words : str
        For the axis.
    most : float
        Where the axis ends, so that pictures of several choices can be compared.

    Returns
    -------
    matplotlib.figure.Figure
    """
    from matplotlib.figure import Figure

    figure = Figure(figsize=(5, 2.6), layout="constrained")
    axes = figure.subplots()
    colours = [COLOURS[c] for c in ("vermilion", "purple", "blue")]
    drawn = axes.barh(list(channels), list(channels.values()), color=colours)
    axes.bar_label(drawn, fmt=" %.0f", fontsize=10)
    axes.set(xlim=(0, most), xlabel=words)
    axes.invert_yaxis()
    return figure
