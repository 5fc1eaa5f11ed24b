"""Figures of the lesson notebooks: windows, connectivity, shuffles, errors of a gradient."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from ..errors import TinyshuffleError
from ..ops.windows import output_size, taps, window
from ..values import flags
from .style import COLOURS, MARKERS, WIDTH, lesson_figure

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure


__all__ = [
    "connectivity",
    "dataflow",
    "error_against_eps",
    "number_grid",
    "reach",
    "sliding_window",
]

# blends with white, which keep black digits and letters legible
TINTS = ("#9CCBE8", "#F5CC80", "#7FCEB9", "#EBA77F", "#E2B4D0", "#BBDDF3", "#BBBBBB", "#DDDDDD")


def _letter(group: Any) -> str:
    return chr(ord("A") + int(group))


# ---- windows


def sliding_window(
    size: int = 5,
    kernel: int = 3,
    stride: int = 1,
    padding: int = 1,
    dilation: int = 1,
    pixel: tuple[int, int] = (0, 0),
) -> Figure:
    """Draw which input pixels one output pixel looks at.

    Parameters
    ----------
    size, kernel, stride, padding, dilation : int
        Of a square input and a square kernel.
    pixel : (int, int)
        The output pixel (p, q).

    Returns
    -------
    matplotlib.figure.Figure
        Above the padded input with the window, below the output with the pixel. What is drawn is
        what ``tinyshuffle.ops.windows`` reaches.
    """
    out = output_size((size, size), (kernel, kernel), stride, padding, dilation)
    padded = size + 2 * padding
    # number the padded pixels, and ask the library which of them each tap sees
    numbers = np.arange(padded * padded).reshape(1, padded, padded, 1)
    p, q = pixel
    if not (0 <= p < out[0] and 0 <= q < out[1]):
        raise TinyshuffleError(
            f"the output has {out[0]} x {out[1]} pixels, and none at {pixel}: choose one of them"
        )
    seen = {
        int(window(numbers, tap, out, stride, dilation)[0, p, q, 0]): tap
        for tap in taps((kernel, kernel))
    }
    figure = lesson_figure(1.1 + 0.36 * (padded + out[0]))
    above, below = figure.subplots(2, 1, height_ratios=(padded, out[0]))
    for number in range(padded * padded):
        row, column = divmod(number, padded)
        inside = padding <= row < padding + size and padding <= column < padding + size
        colour = TINTS[1] if number in seen else TINTS[0] if inside else "white"
        _square(above, column, row, facecolor=colour)
        if not inside and number not in seen:
            above.text(column, row, "0", ha="center", va="center", fontsize=9, color="#555555")
        if number in seen:
            i, j = seen[number]
            if not inside:
                _square(above, column, row, fill=False, hatch="....", alpha=0.3)
            above.text(column, row, f"{i},{j}", ha="center", va="center", fontsize=9)
    for row, column in np.ndindex(*out):
        _square(below, column, row, facecolor=TINTS[1] if (row, column) == (p, q) else TINTS[2])
    below.text(q, p, f"{p},{q}", ha="center", va="center", fontsize=9)
    shapes = f"{size}×{size} input" + (f", {padding} of padding around it" if padding else "")
    above.set_title(f"{shapes}; tap i,j of the kernel", fontsize=10)
    below.set_title(f"{out[0]}×{out[1]} output; pixel p,q", fontsize=10)
    for axes, side in ((above, padded), (below, out[0])):
        # the same scale above and below
        axes.set(xlim=(-0.6 - (padded - side) / 2, padded - 0.4 - (padded - side) / 2))
        axes.set(ylim=(side - 0.4, -0.6), aspect="equal")
        axes.set_axis_off()
    return figure


def _square(axes: Axes, x: float, y: float, **style: Any) -> None:
    from matplotlib.patches import Rectangle

    axes.add_patch(Rectangle((x - 0.5, y - 0.5), 1, 1, edgecolor="black", linewidth=0.6, **style))


@flags
def number_grid(
    values: np.ndarray, across: str, down: str, title: str = "", letters: bool = False
) -> Figure:
    """Draw a small matrix of whole numbers: the number in each cell, and a tint for its size.

    Parameters
    ----------
    values : (rows, columns) ndarray of int
    across, down : str
        What columns and rows are.
    title : str
    letters : bool
        Whether rows and columns are groups, which are named A, B, C, …

    Returns
    -------
    matplotlib.figure.Figure
        Zeros are hatched.
    """
    rows, columns = values.shape
    side = min(0.5, (WIDTH - 0.8) / columns)
    figure = lesson_figure(0.8 + side * rows)
    axes = figure.subplots()
    # pale enough for black digits throughout
    axes.imshow(values, cmap="Blues", vmin=0, vmax=2 * max(1, int(values.max())))
    for (i, j), value in np.ndenumerate(values):
        if value == 0:
            _square(axes, j, i, facecolor="white", hatch="////")
            continue
        axes.text(j, i, f"{value:g}", ha="center", va="center", fontsize=10 if side > 0.3 else 8)
    for axis, count, words in ((axes.xaxis, columns, across), (axes.yaxis, rows, down)):
        axis.set_label_text(words)
        step = max(1, count // 16)
        axis.set_ticks(range(0, count, step))
        if letters:
            axis.set_ticklabels([_letter(i) for i in range(0, count, step)])
    axes.set_title(title, fontsize=10)
    return figure


# ---- channels


def connectivity(matrices: Mapping[str, np.ndarray]) -> Figure:
    """Draw which input channels each output channel is made of.

    Parameters
    ----------
    matrices : mapping of str to (C, O) ndarray
        Entry (c, o) is not zero where output o depends on input c.

    Returns
    -------
    matplotlib.figure.Figure
        A panel a matrix, with the number of its connections.
    """
    columns = 2
    rows = -(-len(matrices) // columns)
    figure = lesson_figure(2.75 * rows)
    panels = figure.subplots(rows, columns, squeeze=False).ravel()
    for axes, (name, matrix) in zip(panels, matrices.items(), strict=False):
        linked = matrix != 0
        for c, o in np.argwhere(linked):
            _square(axes, o, c, facecolor=COLOURS["blue"])
        inputs, outputs = matrix.shape
        axes.set(xlim=(-0.5, outputs - 0.5), ylim=(inputs - 0.5, -0.5), aspect="equal")
        axes.set_xticks(range(outputs), minor=True)
        axes.set_xticks([0, outputs - 1])
        axes.set_yticks([0, inputs - 1])
        axes.set_xlabel("output channel", fontsize=9, labelpad=-4)
        axes.set_ylabel("input channel", fontsize=9, labelpad=-6)
        axes.set_title(f"{name}\n{linked.sum()} connections", fontsize=10)
    for axes in panels[len(matrices) :]:
        axes.set_axis_off()
    return figure


def reach(layers: Sequence[tuple[str, np.ndarray]], groups: int) -> Figure:
    """Draw, channel by channel, which groups of the input each layer's output has seen.

    The paper's Figure 1 (ShuffleNet V1), computed.

    Parameters
    ----------
    layers : sequence of (str, (C, O) ndarray)
        The name of each layer and its connectivity: entry (c, o) is not zero where its output o
        depends on its input c.
    groups : int
        Of the input channels, which are given the letters A, B, C, …

    Returns
    -------
    matplotlib.figure.Figure
        A row of channels for the input and for each layer's output; a channel carries the colour
        and the letter of each group that it depends on.
    """
    from matplotlib.patches import Rectangle

    channels = len(layers[0][1])
    # row k, column c: the groups that channel c depends on
    seen = np.repeat(np.eye(groups, dtype=int), channels // groups, axis=0)  # (C, G)
    rows = [("input", seen)]
    for name, matrix in layers:
        seen = (matrix.T != 0) @ seen > 0  # (O, C) @ (C, G)
        rows.append((name, seen.astype(int)))
    figure = lesson_figure(0.5 + 0.95 * len(rows))
    axes = figure.subplots()
    gap, half = 2.2, 0.42
    for k, (name, seen) in enumerate(rows):
        y = k * gap
        wide = channels / len(seen)
        for c, groups_seen in enumerate(seen):
            members = np.flatnonzero(groups_seen)
            part = 2 * half / max(1, len(members))
            x = (c + 0.5) * wide - 0.5
            for i, group in enumerate(members):
                left = x - half + i * part
                axes.add_patch(
                    Rectangle((left, y - half), part, 2 * half, facecolor=TINTS[group % 8])
                )
                if len(members) <= 4:
                    axes.text(left + part / 2, y, _letter(group), ha="center", va="center",
                              fontsize=10 if len(members) == 1 else 7)  # fmt: skip
            axes.add_patch(Rectangle((x - half, y - half), 2 * half, 2 * half, fill=False,
                                     edgecolor="black", linewidth=0.8))  # fmt: skip
        # beside the lines that are the layer, where none of them passes
        axes.text(-0.8 * channels / 12, y - (gap / 2 if k else 0), name.replace(" ", "\n", 1),
                  fontsize=9, ha="right", va="center")  # fmt: skip
        if k:
            matrix = layers[k - 1][1]
            for c, o in np.argwhere(matrix != 0):
                start = (c + 0.5) * channels / len(matrix) - 0.5
                axes.plot(
                    [start, (o + 0.5) * wide - 0.5], [y - gap + half, y - half],
                    color="#555555", linewidth=0.5, zorder=0,
                )  # fmt: skip
    margin = 0.25 * channels
    axes.set(xlim=(-margin, channels - 0.4), ylim=(gap * (len(rows) - 1) + 0.6, -0.6))
    axes.set_axis_off()
    return figure


# ---- gradients


def dataflow(
    places: Mapping[str, tuple[float, float]],
    arrows: Sequence[tuple[str, str, str]],
    marked: Sequence[str] = (),
) -> Figure:
    """Draw who is computed from whom, and what comes back along the same way.

    Parameters
    ----------
    places : mapping of name to (column, row)
        Row 0 is above. Names and messages may be formulas between dollars.
    arrows : sequence of (name, name, message)
        From what is used to what is made of it; with the message that the backward pass sends the
        other way, or "" where none is to be shown. Arrows with a message are drawn heavily.
    marked : sequence of str
        Names that are drawn on a tint.

    Returns
    -------
    matplotlib.figure.Figure
    """
    columns, rows = zip(*places.values(), strict=True)
    figure = lesson_figure(0.3 + 0.72 * (max(rows) + 1))
    axes = figure.subplots()
    for source, target, message in arrows:
        start, end = places[source], places[target]
        axes.annotate(
            "", end, start, zorder=1,
            arrowprops={
                "arrowstyle": "-|>", "shrinkA": 14, "shrinkB": 14,
                "color": COLOURS["vermilion"] if message else "#777777",
                "linewidth": 1.6 if message else 0.8,
            },
        )  # fmt: skip
        if message:
            x, y = (0.42 * a + 0.58 * b for a, b in zip(start, end, strict=True))
            axes.text(x, y, message, ha="center", va="center", fontsize=9, zorder=2,
                      bbox={"facecolor": "white", "edgecolor": "none", "pad": 1})  # fmt: skip
    for name, (x, y) in places.items():
        tint = TINTS[1] if name in marked else "white"
        axes.text(x, y, name, ha="center", va="center", fontsize=11, zorder=3,
                  bbox={"facecolor": tint, "edgecolor": "black", "linewidth": 0.8,
                        "boxstyle": "round,pad=0.3"})  # fmt: skip
    axes.set(xlim=(min(columns) - 0.5, max(columns) + 0.5), ylim=(max(rows) + 0.4, -0.4))
    axes.set_axis_off()
    return figure


def error_against_eps(eps: np.ndarray, curves: Mapping[str, Sequence[float]]) -> Figure:
    """Draw the error of finite differences against their step.

    Parameters
    ----------
    eps : (K,) ndarray
    curves : mapping of str to K errors
        Relative to the largest entry of the gradient. A name that ends in "float32" is dashed.

    Returns
    -------
    matplotlib.figure.Figure
        On log scales. Errors of exactly zero are left out.
    """
    figure = lesson_figure(4.2)
    axes = figure.subplots()
    colours = [COLOURS[name] for name in ("blue", "vermilion", "green", "purple", "orange", "sky")]
    bases = list(dict.fromkeys(_base(name) for name in curves))
    for name, errors in curves.items():
        i = bases.index(_base(name))
        positive = np.where(np.asarray(errors) > 0, errors, np.nan)
        axes.plot(eps, positive, "--" if name.endswith("float32") else "-", color=colours[i],
                  marker=MARKERS[i], markersize=5, label=name)  # fmt: skip
    axes.set(xscale="log", yscale="log")
    axes.set_xlabel("step ε")
    axes.set_ylabel("relative error")
    axes.grid(alpha=0.3)
    axes.spines[["top", "right"]].set_visible(False)
    figure.legend(loc="outside lower center", ncols=2, frameon=False, fontsize=9)
    return figure


def _base(name: str) -> str:
    return name.removesuffix("float32").removesuffix("float64")
