"""What the units of a net leave alone: features that are used again later."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from matplotlib.figure import Figure



__all__ = ["channel_ages", "feature_reuse"]


def channel_ages(ages: Sequence[Sequence[int]]) -> Figure:
    """Draw which unit made each channel, unit after unit.

    Parameters
    ----------
    ages : one sequence a unit, of one number a channel
        The number of the unit that computed the channel last; 0 for the stage's input.

    Returns
    -------
    matplotlib.figure.Figure
        A row a unit, a cell a channel; darker is older.
    """
    from matplotlib.figure import Figure

    table = np.asarray(ages)
    figure = Figure(figsize=(5, 4.2 * len(table) / table.shape[1] + 0.6), dpi=120)
    figure.set_layout_engine("constrained")
    axes = figure.subplots()
    oldest = max(1, int(table.max()))
    axes.imshow(table, cmap="cividis", vmin=0, vmax=oldest)
    for (row, column), age in np.ndenumerate(table):
        axes.text(column, row, str(age), ha="center", va="center", fontsize=9,
                  color="white" if age < oldest / 2 else "black")  # fmt: skip
    axes.set_yticks(range(len(table)), ["input", *(f"unit {i}" for i in range(1, len(table)))])
    axes.set_xlabel("channel")
    axes.set_xticks(range(0, table.shape[1], 2))
    axes.tick_params(length=0)
    return figure


def feature_reuse(shares: np.ndarray) -> Figure:
    """Draw how much of one unit's output reaches another untouched: V2's r^(l - k), Figure 4 (b).

    Parameters
    ----------
    shares : (L, L)
        Row k, column l: share of the channels of unit k's output that are unchanged in unit l's,
        0 to 1; NaN where there is nothing to say.

    Returns
    -------
    matplotlib.figure.Figure
    """
    from matplotlib.figure import Figure

    figure = Figure(figsize=(5, 4.1), dpi=120)
    figure.set_layout_engine("constrained")
    axes = figure.subplots()
    image = axes.imshow(100 * shares, cmap="cividis", vmin=0, vmax=100)
    for (k, j), share in np.ndenumerate(shares):
        if np.isfinite(share):
            axes.text(j, k, f"{100 * share:.3g}", ha="center", va="center", fontsize=9,
                      color="white" if share < 0.5 else "black")  # fmt: skip
    numbers = range(1, len(shares) + 1)
    axes.set_xticks(range(len(shares)), [str(i) for i in numbers])
    axes.set_yticks(range(len(shares)), [str(i) for i in numbers])
    axes.set_xlabel("target unit l")
    axes.set_ylabel("source unit k")
    axes.spines[:].set_visible(False)
    axes.tick_params(length=0)
    figure.colorbar(image, ax=axes, shrink=0.8, label="% of channels, unchanged")
    return figure
