"""The memory of a step."""

from __future__ import annotations

from typing import TYPE_CHECKING

from .style import COLOURS

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from ..plan import Plan

__all__ = ["memory"]

MEBIBYTE = 2**20
PASSES = {
    "kept": ("written forward, read backward", COLOURS["blue"], ""),
    "forward": ("forward only", COLOURS["sky"], "//"),
    "backward": ("backward only", COLOURS["orange"], "\\\\"),
}


def memory(plan: Plan) -> Figure:
    """Draw which part of a step's memory holds which buffer, and for how long.

    Parameters
    ----------
    plan : Plan
        With a place for every buffer, as :meth:`tinyshuffle.DataParallel.plan` returns it.

    Returns
    -------
    matplotlib.figure.Figure
        A bar a buffer, from the row that writes it to the last row that reads it, as high as it is
        large, at its place; above, how much is alive at each row.
    """
    from matplotlib.figure import Figure
    from matplotlib.patches import Patch, Rectangle

    figure = Figure(figsize=(5, 5), dpi=120)
    figure.set_layout_engine("constrained")
    above, below = figure.subplots(2, 1, height_ratios=(1, 3), sharex=True)
    live = [n / MEBIBYTE for n in plan.live_bytes]
    above.step(range(len(live)), live, where="mid", color=COLOURS["black"], linewidth=1)
    above.set_ylabel("alive, MiB")
    above.set_ylim(0, 1.1 * max(live, default=1))
    used = set()
    for buffer in plan.buffers:
        if buffer.place is None or not buffer.nbytes:
            continue
        first, last = max(buffer.first, 0), min(buffer.last, len(plan.rows) - 1)
        if last < plan.forward:
            when = "forward"
        else:
            when = "kept" if buffer.first < plan.forward else "backward"
        used.add(when)
        _, colour, hatch = PASSES[when]
        below.add_patch(
            Rectangle(
                (first - 0.5, buffer.place / MEBIBYTE), last - first + 1, buffer.nbytes / MEBIBYTE,
                facecolor=colour, edgecolor="white", linewidth=0.4, hatch=hatch,
            )
        )  # fmt: skip
    below.set_xlim(-0.5, len(plan.rows) - 0.5)
    below.set_ylim(0, plan.block_bytes / MEBIBYTE)
    below.set_ylabel("place in memory, MiB")
    below.set_xlabel("row")
    for axes in (above, below):
        axes.spines[["top", "right"]].set_visible(False)
        if plan.train and plan.forward < len(plan.rows):
            axes.axvline(plan.forward - 0.5, color=COLOURS["black"], linestyle=":", linewidth=1)
    handles = [
        Patch(facecolor=colour, hatch=hatch, edgecolor="white", label=words)
        for when, (words, colour, hatch) in PASSES.items()
        if when in used
    ]
    figure.legend(handles=handles, loc="outside lower center", ncols=3, fontsize=8, frameon=False)
    shape = "x".join(map(str, plan.shape))
    figure.suptitle(
        f"{plan.net}, {shape}: {plan.peak_bytes / MEBIBYTE:.1f} MiB alive at the worst row, "
        f"{plan.block_bytes / MEBIBYTE:.1f} MiB in all", fontsize=10, wrap=True,
    )  # fmt: skip
    return figure
