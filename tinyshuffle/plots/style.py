"""The colours and dashes that mean the same thing in every figure."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from matplotlib.axis import Axis
    from matplotlib.figure import Figure

from ..text import visible

__all__ = ["COLOURS", "KIND_STYLES", "MARKERS", "STYLES", "label", "plain_ticks"]


def label(text: str) -> str:
    r"""Return a name that somebody else chose as matplotlib shows it as it is.

    To matplotlib $ is the beginning of a formula, and _ that of a name to leave out of the legend.

    >>> print(label("$x"), label("_run"))
    \$x  _run
    """
    shown = visible(text, "").replace("$", r"\$")
    return f" {shown}" if shown.startswith("_") else shown


def plain_ticks(*axes: Axis) -> None:
    """Label logarithmic axes so sparsely, and in plain numbers, that nothing overlaps.

    Last of all: how many labels there is room for follows from the axis's ends.
    """
    from matplotlib.ticker import LogLocator

    for axis in axes:
        least, most = axis.get_view_interval()
        decades = most / least
        subs = (1, 1.5, 2, 3, 5, 7) if decades < 10 else (1, 2, 5) if decades < 100 else (1,)
        axis.set_major_locator(LogLocator(subs=subs))
        axis.set_major_formatter("{x:g}")
        axis.set_minor_formatter("")


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

MARKERS = ("o", "s", "^", "D", "v", "P", "X", "*", "<", ">")

WIDTH = 5.0  # inches: still legible when a telephone scales it down


def lesson_figure(height: float) -> Figure:
    """Return a figure as wide as a lesson shows it."""
    from matplotlib.figure import Figure

    return Figure(figsize=(WIDTH, height), layout="constrained")
