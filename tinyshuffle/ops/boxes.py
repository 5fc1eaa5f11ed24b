"""Boxes: anchors, offsets from them, and how much two of them overlap.

A box is (x1, y1, x2, y2), the edges of a rectangle in pixels, so that x2 - x1 is its width: the
first pixel of a picture reaches from 0 to 1. With centre (cx, cy), width w and height h, and a for
the anchor, the offsets that a net learns are

    tx = (cx - cx_a) / w_a      tw = log(w / w_a)       each times a weight
    ty = (cy - cy_a) / h_a      th = log(h / h_a)
    IoU(a, b) = |a ∩ b| / (|a| + |b| - |a ∩ b|),  and 0 where both are empty

Ren et al. 2015, "Faster R-CNN", equation 2; the weights are of its released code. No gradient goes
through these: a target is a constant, and so is where a proposal lies (Ren et al., section 3.2).
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from ..errors import TinyshuffleError
from .arguments import check_pair, check_real, integer
from .cost import Cost, size

__all__ = [
    "anchors", "anchors_cost", "box_decode", "box_decode_cost", "box_encode", "box_encode_cost",
    "box_iou", "box_iou_cost", "check_boxes",
]  # fmt: skip

LARGEST = float(np.log(1000 / 16))
"""Of tw and th where they are decoded: no box is 63 times as large as its anchor."""

Weights = tuple[float, float, float, float]


def anchors(
    shape: tuple[int, int], stride: int, sizes: Sequence[float], ratios: Sequence[float]
) -> np.ndarray:
    """Return the boxes that stand around each pixel of a map.

    Parameters
    ----------
    shape : (H, W)
        Of the map.
    stride : int
        Pixels of the picture between two of the map.
    sizes : sequence of float
        Square roots of the areas, in pixels of the picture.
    ratios : sequence of float
        Heights divided by widths.

    Returns
    -------
    boxes : (H·W·A, 4), float64
        In the order of rows, columns, sizes, ratios; A is the number of sizes times ratios.

    >>> anchors((1, 2), 8, (4,), (1, 4))
    array([[ 2.,  2.,  6.,  6.],
           [ 3.,  0.,  5.,  8.],
           [10.,  2., 14.,  6.],
           [11.,  0., 13.,  8.]])
    """
    h, w = check_pair(shape, "shape")
    integer(stride, "stride")
    for name, values in (("sizes", sizes), ("ratios", ratios)):
        if len(values) == 0 or not all(0 < v < np.inf for v in values):
            raise TinyshuffleError(f"{name}={values!r} is not possible; give numbers above 0")
    side = np.repeat(np.asarray(sizes, np.float64), len(ratios))
    ratio = np.tile(np.asarray(ratios, np.float64), len(sizes))
    half = np.stack([side / np.sqrt(ratio), side * np.sqrt(ratio)], axis=1) / 2  # (A, 2)
    cy, cx = np.meshgrid((np.arange(h) + 0.5) * stride, (np.arange(w) + 0.5) * stride,
                         indexing="ij")  # fmt: skip
    centre = np.stack([cx, cy], axis=-1)[:, :, None]  # (H, W, 1, 2)
    return np.concatenate([centre - half, centre + half], axis=-1).reshape(-1, 4)  # (H·W·A, 4)


def anchors_cost(
    shape: tuple[int, int], stride: int, sizes: Sequence[float], ratios: Sequence[float]
) -> Cost:
    """Cost: four additions for each box."""
    y = (shape[0] * shape[1] * len(sizes) * len(ratios), 4)
    return Cost(output=y, elementwise=size(y), memory_access=size(y))


def box_encode(
    boxes: np.ndarray, anchors: np.ndarray, weights: Weights = (1.0, 1.0, 1.0, 1.0)
) -> np.ndarray:
    """Return the offsets (K, 4), as (tx, ty, tw, th), of boxes (K, 4) from as many anchors.

    Raises
    ------
    TinyshuffleError
        If a box or an anchor is empty: the logarithm of its side would be infinite.
    """
    check_boxes(boxes, anchors)
    if boxes.shape != anchors.shape:
        raise TinyshuffleError(
            f"{len(boxes)} boxes and {len(anchors)} anchors were given: give one anchor a box"
        )
    (c, s), (ca, sa) = _centres(boxes), _centres(anchors)
    if not ((s > 0).all() and (sa > 0).all()):
        raise TinyshuffleError("a box without width or height has no offsets: leave it out")
    return np.concatenate([(c - ca) / sa, np.log(s / sa)], axis=1) * _row(weights, boxes)


def box_encode_cost(
    boxes: tuple[int, ...],
    anchors: tuple[int, ...],
    weights: Weights = (1.0, 1.0, 1.0, 1.0),
) -> Cost:
    """Cost: some ten operations a box."""
    return Cost(output=boxes, elementwise=3 * size(boxes), memory_access=3 * size(boxes))


def box_decode(
    offsets: np.ndarray, anchors: np.ndarray, weights: Weights = (1.0, 1.0, 1.0, 1.0)
) -> np.ndarray:
    """Return the boxes (K, 4) that lie at ``offsets`` (K, 4) from as many anchors.

    It takes back what :func:`box_encode` does; tw and th count as :data:`LARGEST` at most.

    >>> a, b = np.array([[0.0, 0, 8, 4]]), np.array([[2.0, 1, 6, 9]])
    >>> box_decode(box_encode(b, a), a)
    array([[2., 1., 6., 9.]])
    """
    check_boxes(anchors)
    check_real(offsets)
    if offsets.shape != anchors.shape:
        raise TinyshuffleError(
            f"offsets of shape {offsets.shape} do not fit {len(anchors)} anchors: give four to each"
        )
    c, s = _centres(anchors.astype(offsets.dtype, copy=False))
    t = offsets / _row(weights, offsets)
    centre = c + t[:, :2] * s
    half = np.exp(np.minimum(t[:, 2:], offsets.dtype.type(LARGEST))) * s / 2
    return np.concatenate([centre - half, centre + half], axis=1)


def box_decode_cost(
    offsets: tuple[int, ...],
    anchors: tuple[int, ...],
    weights: Weights = (1.0, 1.0, 1.0, 1.0),
) -> Cost:
    """Cost: some ten operations a box."""
    return Cost(output=offsets, elementwise=3 * size(offsets), memory_access=3 * size(offsets))


def box_iou(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Return the intersection over union of each of ``a`` (K, 4) with each of ``b`` (L, 4): (K, L).

    >>> box_iou(np.array([[0.0, 0, 2, 2]]), np.array([[1.0, 0, 3, 2], [5, 5, 6, 6], [0, 0, 2, 2]]))
    array([[0.33333333, 0.        , 1.        ]])
    """
    check_boxes(a, b)
    corner, other = np.maximum(a[:, None, :2], b[:, :2]), np.minimum(a[:, None, 2:], b[:, 2:])
    both = (other - corner).clip(0).prod(axis=-1)  # (K, L)
    either = _areas(a)[:, None] + _areas(b) - both
    return np.divide(both, either, out=np.zeros_like(both), where=either > 0)


def box_iou_cost(a: tuple[int, ...], b: tuple[int, ...]) -> Cost:
    """Cost: some ten operations a pair."""
    y = (a[0], b[0])
    return Cost(output=y, elementwise=10 * size(y), memory_access=size(a) + size(b) + size(y))


def check_boxes(*several: np.ndarray) -> None:
    """Raise unless all are (K, 4), finite, with x1 ≤ x2 and y1 ≤ y2; there may be none."""
    for boxes in several:
        check_real(boxes)
        if boxes.ndim != 2 or boxes.shape[1] != 4:
            raise TinyshuffleError(
                f"boxes have to be of shape (K, 4), as (x1, y1, x2, y2), got {boxes.shape}"
            )
        wrong = ~(np.isfinite(boxes).all(axis=1) & (boxes[:, 2:] >= boxes[:, :2]).all(axis=1))
        if wrong.any():
            raise TinyshuffleError(
                f"the box {boxes[wrong][0].tolist()} is not possible: it must be (x1, y1, x2, y2), "
                "finite, with x1 at most x2 and y1 at most y2"
            )


def _centres(boxes: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the centres and the widths and heights, (K, 2) each."""
    return (boxes[:, :2] + boxes[:, 2:]) / 2, boxes[:, 2:] - boxes[:, :2]


def _areas(boxes: np.ndarray) -> np.ndarray:
    return (boxes[:, 2:] - boxes[:, :2]).prod(axis=1)


def _row(weights: Weights, like: np.ndarray) -> np.ndarray:
    return np.asarray(weights, like.dtype)
