"""A photograph, and what layers make of it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np

from .style import COLOURS, WIDTH

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["feature_maps"]

_FRAMES = ("blue", "orange", "green", "purple")
_DASHES = ("-", "--", ":", "-.")


def feature_maps(
    maps: Mapping[str, np.ndarray], columns: int = 4, groups: Sequence[int] | None = None
) -> Figure:
    """Draw photographs and feature maps side by side.

    Parameters
    ----------
    maps : mapping of title to uint8 (H, W, 3) or float (H, W)
        A photograph is shown as it is. A map is grey: middle grey is zero where it has numbers of
        both signs, black where it has none below zero, and white is its largest number by size.
    columns : int
    groups : sequence of int, optional
        The group of each map, which its frame shows by its colour and its dashes.

    Returns
    -------
    matplotlib.figure.Figure
    """
    from matplotlib.figure import Figure
    from matplotlib.patches import Rectangle

    rows = -(-len(maps) // columns)
    side = WIDTH / columns
    figure = Figure(figsize=(WIDTH, rows * (side + 0.16)), dpi=120, layout="constrained")
    panels = figure.subplots(rows, columns, squeeze=False).ravel()
    for axes in panels:
        axes.set_axis_off()
    for i, (axes, (title, picture)) in enumerate(zip(panels, maps.items(), strict=False)):
        if picture.ndim == 3:
            axes.imshow(picture, interpolation="nearest")
        else:
            most = float(np.abs(picture).max()) or 1.0
            low = -most if picture.min() < 0 else 0.0
            axes.imshow(picture, cmap="gray", vmin=low, vmax=most, interpolation="nearest")
        axes.set_title(title, fontsize=9)
        if groups is not None:
            look = groups[i] % len(_FRAMES)
            axes.add_patch(Rectangle(
                (0, 0), 1, 1, transform=axes.transAxes, fill=False, clip_on=False, linewidth=3,
                edgecolor=COLOURS[_FRAMES[look]], linestyle=_DASHES[look],
            ))  # fmt: skip
    return figure
