"""Figures of batch normalisation."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np

from .style import COLOURS, MARKERS

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["channel_histograms", "error_against_batch", "variance_estimates"]

_DASHES = ("-", "--", ":", "-.")


def channel_histograms(panels: Mapping[str, np.ndarray]) -> Figure:
    """Draw the distribution of each channel, one panel above the other.

    Parameters
    ----------
    panels : mapping of title to (N, H, W, C)
        Of few channels.

    Returns
    -------
    matplotlib.figure.Figure
    """
    from matplotlib.figure import Figure

    figure = Figure(figsize=(5, 1.9 * len(panels)), dpi=120)
    figure.set_layout_engine("constrained")
    rows = figure.subplots(len(panels), 1, squeeze=False)[:, 0]
    colours = list(COLOURS.values())
    for axes, (title, x) in zip(rows, panels.items(), strict=True):
        x = x.reshape(-1, x.shape[-1])  # (M, C)
        edges = np.linspace(x.min(), x.max(), 60)
        for c in range(x.shape[1]):
            counts, _ = np.histogram(x[:, c], edges, density=True)
            axes.plot((edges[1:] + edges[:-1]) / 2, counts, color=colours[c],
                      linestyle=_DASHES[c % 4], linewidth=2, label=f"channel {c}")  # fmt: skip
        axes.set_title(title, fontsize=10, loc="left")
        axes.set_yticks([])
        axes.spines[["top", "right", "left"]].set_visible(False)
    rows[0].legend(frameon=False, fontsize=9)
    return figure


def error_against_batch(
    sizes: Sequence[int], errors: Mapping[str, Sequence[float]], tolerances: Sequence[float]
) -> Figure:
    """Draw relative errors of gradients against M, the numbers of a channel in the batch.

    Parameters
    ----------
    sizes : sequence of int
    errors : mapping of label to one error a size
        Zeros are drawn at the lower edge.
    tolerances : sequence of float
        Horizontal lines: what a test with this tolerance lets pass lies below.

    Returns
    -------
    matplotlib.figure.Figure
    """
    from matplotlib.figure import Figure

    figure = Figure(figsize=(5, 4), dpi=120)
    figure.set_layout_engine("constrained")
    axes = figure.subplots()
    colours = list(COLOURS.values())
    for i, (label, values) in enumerate(errors.items()):
        axes.loglog(sizes, values, _DASHES[i % 4], color=colours[i], marker=MARKERS[i],
                    linewidth=2, label=label)  # fmt: skip
    for tolerance in tolerances:
        axes.axhline(tolerance, color="#777777", linewidth=1)
        axes.text(sizes[0], tolerance, f"tolerance {tolerance:g}", fontsize=9, va="bottom",
                  color="#444444")  # fmt: skip
    axes.set_xlabel("M, numbers of a channel in the batch (log scale)")
    axes.set_ylabel("relative error of dx (log scale)")
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(frameon=False, fontsize=9, loc="center right")
    return figure


def variance_estimates(estimates: Mapping[str, np.ndarray], truth: float) -> Figure:
    """Draw histograms of estimates of a variance, their means, and the variance itself.

    Parameters
    ----------
    estimates : mapping of label to (B,)
    truth : float

    Returns
    -------
    matplotlib.figure.Figure
    """
    from matplotlib.figure import Figure

    figure = Figure(figsize=(5, 3.2), dpi=120)
    figure.set_layout_engine("constrained")
    axes = figure.subplots()
    edges = np.linspace(0, 3 * truth, 61).tolist()
    for (label, values), colour, dash in zip(
        estimates.items(), COLOURS.values(), _DASHES, strict=False
    ):
        axes.hist(values, edges, histtype="step", linewidth=2, color=colour, linestyle=dash,
                  label=f"{label}: mean {values.mean():.3f}")  # fmt: skip
        axes.axvline(values.mean(), color=colour, linestyle=dash, linewidth=1.2)
    axes.axvline(truth, color="black", linewidth=1.2, label=f"true variance {truth:g}")
    axes.set_xlim(0, 3 * truth)
    axes.set_yticks([])
    axes.set_xlabel("estimate of the variance")
    axes.spines[["top", "right", "left"]].set_visible(False)
    axes.legend(frameon=False, fontsize=9)
    return figure
