"""A share of what a row does to one image: some of its pixels.

In evaluation a pixel of a result depends on the pixels around it, and on nothing else of the image.
So the threads share one image: each does some pixels of every row, and behind each row they meet.
Where a product has more columns than the image has pixels, each does some columns of every pixel:
then it lays out its part of the weights only.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from .activations import _clip
from .batch_norm import _normalise
from .branches import _add_pixels, _copy_pixels
from .channel_shuffle import _shuffle
from .few_pixels import few_pixels
from .frame import conv
from .frame_groups import grouped
from .linear import _one_row
from .meeting import _forward
from .norm_conv2d import stem
from .norm_depthwise import depthwise
from .norm_pointwise import pointwise
from .pointwise import _add_bias
from .pool import _max_row
from .record import Work
from .sums import period_of
from .tile import PANEL, ROWS, VECTOR
from .winograd import winograd

__all__ = ["share_of"]

# For each array of a kernel: how many numbers from one of its m pixels to the next.
_PIXELS: dict[Any, dict[str, Any]] = {
    pointwise: {"x": lambda r: r["x_row"], "y": lambda r: r["y_row"]},
    few_pixels: {"x": lambda r: r["x_row"], "y": lambda r: r["y_row"]},
    _normalise: {"x": lambda r: r["c"], "y": lambda r: r["c"]},
    _forward: {
        "x": lambda r: r["x_row"], "x2": lambda r: r["x2_row"],
        "y": lambda r: r["c"] if r["adds"] else 2 * r["c"],
    },
    _add_bias: {"y": lambda r: r["o"]},
    _copy_pixels: {"x": lambda r: r["x_row"], "dx": lambda r: r["dx_row"]},
    _add_pixels: {
        "x": lambda r: r["x_row"], "x2": lambda r: r["x2_row"], "dx": lambda r: r["dx_row"]
    },
}  # fmt: skip
# These do some rows of pixels.
_LINES = conv, grouped, depthwise, stem, winograd, _max_row
# These have m numbers, or m numbers of whole pixels.
_NUMBERS = {_clip: lambda r: 1, _shuffle: lambda r: r["groups"] * r["n"]}


def share_of(work: Work, rank: int, ranks: int) -> Work | None:
    """Return what one of several threads does of a row of one image.

    None if it does nothing: where a row cannot be shared, the first thread does all of it.
    """
    r = work.record.copy()
    if work.kernel is few_pixels:  # whoever takes part has to be given a whole tile
        ranks = min(ranks, int(r["o"] // PANEL if _has_more_columns(work, r) else r["m"] // ROWS))
        if rank >= ranks:
            return None
    if work.kernel in _LINES:
        lines = int(r["window"]["ho"] or -(-r["h"] // r["stride"]))
        r["first"], r["last"] = lines * rank // ranks, lines * (rank + 1) // ranks
        return work._replace(record=r) if r["first"] < r["last"] else None
    if work.kernel in _NUMBERS:
        pixel = _NUMBERS[work.kernel](r)  # type: ignore[no-untyped-call]
        pixels, steps = int(r["m"] // pixel), {"x": pixel, "y": pixel}
    elif work.kernel is _one_row or _has_more_columns(work, r):
        return _columns_of(work, r, rank, ranks)
    elif work.kernel in _PIXELS:
        pixel, pixels = 1, int(r["m"])
        steps = {name: step(r) for name, step in _PIXELS[work.kernel].items()}
    else:
        return work if rank == 0 else None
    first, last = (pixels * k // ranks // ROWS * ROWS for k in (rank, rank + 1))
    last = pixels if rank == ranks - 1 else last
    for name, step in steps.items():
        r[name] += first * int(step) * work.zero.itemsize
    r["m"] = (last - first) * pixel
    return work._replace(record=r) if first < last else None


def _columns_of(work: Work, r: np.ndarray, rank: int, ranks: int) -> Work | None:
    """Return one thread's columns of a product."""
    width = work.zero.itemsize
    first, last = (int(r["o"]) * k // ranks // VECTOR * VECTOR for k in (rank, rank + 1))
    last = int(r["o"]) if rank == ranks - 1 else last
    for name in ("y", "w"):
        r[name] += first * width
    if r["behind"]["gamma"]:
        for name in ("gamma", "beta", "means", "variances"):
            wide = r["behind"]["wide"] and name in ("means", "variances")
            r["behind"][name] += first * (8 if wide else width)
    r["o"], r["period"] = last - first, period_of(max(last - first, 1))
    return work._replace(record=r) if first < last else None


def _has_more_columns(work: Work, r: np.ndarray) -> bool:
    return work.kernel in (pointwise, few_pixels) and bool(r["groups"] == 1 and r["m"] < r["o"])
