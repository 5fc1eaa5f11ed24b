"""Figures of where time goes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from .style import COLOURS, KIND_STYLES, MARKERS, plain_ticks

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from ..bench.ceilings import Ceilings
    from ..bench.layers import LayerTimes
    from ..bench.predicted import Compared

__all__ = ["against_the_clock", "prediction", "roof", "roofline"]


def roofline(times: LayerTimes, ceilings: Ceilings, title: str = "") -> Figure:
    """Draw each layer's speed below the roofline, and the time of each kind of operation.

    Parameters
    ----------
    times : LayerTimes
    ceilings : Ceilings
    title : str

    Returns
    -------
    matplotlib.figure.Figure
        Above, a mark a layer that multiplies: its GFLOP/s against its arithmetic intensity, as
        large as its share of the time. Below, a bar a kind of operation: its time, with the part
        that the roofline allows it framed. Layers without multiply-adds have a bar only. The roof
        is that of stores past the cache, dashed that of plain ones.
    """
    from matplotlib.figure import Figure

    figure = Figure(figsize=(6.4, 8), dpi=120)
    figure.set_layout_engine("constrained")
    above, below = figure.subplots(2, 1, height_ratios=(3, 2))
    if title:
        figure.suptitle(title, fontsize=10, wrap=True)
    _roof(above, times, ceilings)
    _bars(below, times, ceilings)
    return figure


def _roof(axes: Axes, times: LayerTimes, ceilings: Ceilings) -> None:
    sums = times.by("layer", ceilings)
    whole = sum(row.seconds for row in sums)
    kinds: dict[str, list[Any]] = {}
    for row, one in zip(times.rows, sums, strict=True):
        if one.flops and one.seconds:
            kinds.setdefault(row.kind, []).append(one)
    reach = [one.flops / one.nbytes for found in kinds.values() for one in found]
    highest = ceilings.past_cache
    knee = ceilings.flops / highest  # FLOP a byte where the two ceilings meet
    left, right = min([*reach, knee]) / 2, max([*reach, knee]) * 2
    x = [left, knee, right]
    y = [min(highest * at, ceilings.flops) / 1e9 for at in x]
    axes.plot(x, y, color="black", linewidth=1.5)
    if ceilings.bandwidth < highest:
        plain = ceilings.bandwidth
        ends = [left, ceilings.flops / plain]
        speeds = [plain * at / 1e9 for at in ends]
        axes.plot(ends, speeds, color="black", linewidth=1, dashes=(4, 3))
        axes.annotate(f"{plain / 1e9:.0f} GB/s, plain stores", (left, plain * left / 1e9), (14, -4),
                      textcoords="offset points", ha="left", va="top", fontsize=9)  # fmt: skip
    for marker, kind in zip(MARKERS, KIND_STYLES, strict=False):
        found = kinds.get(kind, [])
        axes.scatter(
            [one.flops / one.nbytes for one in found],
            [one.flops / one.seconds / 1e9 for one in found],
            s=[20 + 1500 * one.seconds / whole for one in found],
            marker=marker,
            color=KIND_STYLES[kind]["color"],
            edgecolor="white",
            linewidth=0.5,
            alpha=0.85,
            label=kind if found else None,
        )
    axes.annotate(f"{ceilings.flops / 1e9:.0f} GFLOP/s", (right, y[2]), (-4, 4),
                  textcoords="offset points", ha="right", va="bottom", fontsize=9)  # fmt: skip
    axes.annotate(f"{highest / 1e9:.0f} GB/s", (knee, y[1]), (-18, -2),
                  textcoords="offset points", ha="right", va="center", fontsize=9)  # fmt: skip
    axes.set_xscale("log")
    axes.set_yscale("log")
    plain_ticks(axes.xaxis, axes.yaxis)
    axes.set_xlabel("FLOP for each byte (log scale)")
    axes.set_ylabel("GFLOP/s (log scale)")
    axes.grid(alpha=0.3)
    axes.spines[["top", "right"]].set_visible(False)
    if kinds:
        legend = axes.legend(loc="lower right", frameon=False, fontsize=9)
        for handle in legend.legend_handles:
            handle.set_sizes([40])  # type: ignore[union-attr]


def _bars(axes: Axes, times: LayerTimes, ceilings: Ceilings) -> None:
    sums = times.by("type", ceilings)
    for one in sums:
        axes.barh(one.name, 1e3 * one.seconds, edgecolor="white", linewidth=0.4,
                  **KIND_STYLES[one.name])  # fmt: skip
    axes.barh([one.name for one in sums], [1e3 * one.roofline_seconds for one in sums],
              facecolor="none", edgecolor="black", linewidth=1.5, label="the roofline's time",
              )  # fmt: skip
    for one in sums:
        end = 1e3 * max(one.seconds, one.roofline_seconds)
        axes.annotate(f" {100 * one.attained:.0f} %", (end, one.name), va="center", fontsize=9)
    axes.invert_yaxis()
    axes.margins(x=0.1)
    axes.set_xlabel("milliseconds, and the attained share of the roofline")
    axes.legend(loc="lower right", frameon=False, fontsize=9)
    axes.spines[["top", "right"]].set_visible(False)


def roof(
    points: Mapping[str, Sequence[tuple[float, float]]], peak: float, bandwidth: float
) -> Figure:
    """Draw the roofline of a machine, and operations below it, in multiply-adds.

    Parameters
    ----------
    points : mapping of kind to pairs
        Of each operation its arithmetic intensity, in multiply-adds a byte, and its speed, in
        multiply-adds a second.
    peak : float
        Multiply-adds a second.
    bandwidth : float
        Bytes a second.

    Returns
    -------
    matplotlib.figure.Figure
    """
    from matplotlib.figure import Figure

    figure = Figure(figsize=(5, 4.2), dpi=120)
    figure.set_layout_engine("constrained")
    axes = figure.subplots()
    every = [pair for pairs in points.values() for pair in pairs]
    ridge = peak / bandwidth  # the intensity at which both limits are equal
    left = min([ridge, *(x for x, _ in every)]) / 2
    right = max([ridge, *(x for x, _ in every)]) * 2
    heights = [left * bandwidth / 1e9, peak / 1e9, peak / 1e9]
    axes.plot([left, ridge, right], heights, color="black", linewidth=1.5)
    axes.plot([ridge, ridge], [0, peak / 1e9], color="#777777", linewidth=1, linestyle=":")
    for marker, kind in zip(MARKERS, KIND_STYLES, strict=False):
        if found := points.get(kind):
            axes.scatter(
                [x for x, _ in found], [y / 1e9 for _, y in found], s=32, marker=marker,
                color=KIND_STYLES[kind]["color"], edgecolor="white", linewidth=0.5, alpha=0.85,
                label=kind,
            )  # fmt: skip
    axes.annotate(f"{peak / 1e9:.3g} a ns", (right, peak / 1e9), (-2, 4),
                  textcoords="offset points", ha="right", va="bottom", fontsize=9)  # fmt: skip
    middle = (left * ridge) ** 0.5
    axes.annotate(f"{bandwidth / 1e9:.3g} GB/s", (middle, middle * bandwidth / 1e9), (-6, 4),
                  textcoords="offset points", ha="right", va="bottom", fontsize=9)  # fmt: skip
    lowest = min([heights[0], *(y / 1e9 for _, y in every)]) / 2
    axes.set(xscale="log", yscale="log", ylim=(lowest, 2 * peak / 1e9))
    plain_ticks(axes.xaxis, axes.yaxis)
    axes.set_xlabel("multiply–adds for each byte (log scale)")
    axes.set_ylabel("multiply–adds a ns (log scale)")
    axes.grid(alpha=0.3)
    axes.spines[["top", "right"]].set_visible(False)
    if every:
        figure.legend(loc="outside lower center", ncols=4, frameon=False, fontsize=9)
    return figure


def against_the_clock(layers: Sequence[tuple[str, float, float]]) -> Figure:
    """Draw the predicted against the measured time of each layer.

    Parameters
    ----------
    layers : sequence of (kind, predicted, measured)
        In seconds.

    Returns
    -------
    matplotlib.figure.Figure
        A good prediction lies on the line; the dotted ones are a quarter off.
    """
    from matplotlib.figure import Figure

    figure = Figure(figsize=(5, 4.6), dpi=120)
    figure.set_layout_engine("constrained")
    _against(figure.subplots(), layers)
    return figure


def _against(axes: Axes, layers: Sequence[tuple[str, float, float]]) -> None:
    for marker, kind in zip(MARKERS, KIND_STYLES, strict=False):
        pairs = [(1e3 * m, 1e3 * p) for name, p, m in layers if name == kind]
        if pairs:
            x, y = zip(*pairs, strict=True)
            axes.scatter(x, y, s=28, marker=marker, alpha=0.8, color=KIND_STYLES[kind]["color"],
                         edgecolor="white", linewidth=0.4, label=kind)  # fmt: skip
    ends = [1e3 * f(min(p, m) for _, p, m in layers) for f in (min, max)]
    for factor, dash in ((1.0, "-"), (0.75, ":"), (1.25, ":")):
        axes.plot(ends, [factor * end for end in ends], color="black", linewidth=1, linestyle=dash)
    axes.set(xscale="log", yscale="log", xlabel="measured, ms (log scale)",
             ylabel="predicted, ms (log scale)")  # fmt: skip
    plain_ticks(axes.xaxis, axes.yaxis)
    axes.legend(frameon=False, fontsize=9)
    axes.grid(alpha=0.3)
    axes.spines[["top", "right"]].set_visible(False)


def prediction(compared: Compared) -> Figure:
    """Draw the roofline model beside the clock.

    Parameters
    ----------
    compared : Compared

    Returns
    -------
    matplotlib.figure.Figure
        Above, each layer's predicted against its measured time, with lines a quarter off; in the
        middle the classic roofline; below, predicted by measured time for each class of
        operations: the median, and where half of the layers lie.
    """
    from matplotlib.figure import Figure

    figure = Figure(figsize=(6.4, 11), dpi=120)
    figure.set_layout_engine("constrained")
    above, middle, below = figure.subplots(3, 1, height_ratios=(4, 3, 2.5))
    figure.suptitle(str(compared.case), fontsize=10, wrap=True)
    layers = compared.layers()
    _against(above, [(o.kind, p, m) for o, p, m in layers])
    above.set_title(
        f"layers {100 * compared.layer_error:.0f} % off (median), net "
        f"{100 * compared.net_error:+.0f} %", fontsize=9
    )  # fmt: skip
    _roof(middle, compared.times, compared.ceilings)
    found = compared.residuals()
    medians = [100 * r.median for r in found]
    spans = [
        [100 * (r.median - r.lower) for r in found],
        [100 * (r.upper - r.median) for r in found],
    ]
    below.errorbar(medians, [f"{r.name} ({r.count})" for r in found], xerr=spans, fmt="o",
                   color=COLOURS["blue"], capsize=3)  # fmt: skip
    below.axvline(0, color="black", linewidth=1)
    below.invert_yaxis()
    below.set_xlabel("predicted - measured, % of measured")
    below.grid(axis="x", alpha=0.3)
    below.spines[["top", "right"]].set_visible(False)
    return figure
