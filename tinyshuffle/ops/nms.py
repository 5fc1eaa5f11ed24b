"""Non-maximum suppression: of boxes that overlap, the one with the highest score stays.

    in the order of falling scores:  box i stays  if  IoU(i, j) ≤ threshold  for all j that stayed

Of equal scores the earlier box comes first. It is a choice, and has no gradient: what is chosen is
a constant (Ren et al. 2015, section 3.3).
"""

from __future__ import annotations

import numpy as np

from ..errors import TinyshuffleError
from .arguments import check_real, integer, number
from .boxes import box_iou, check_boxes
from .cost import Cost

__all__ = ["check_nms", "nms", "nms_cost"]


def nms(
    boxes: np.ndarray, scores: np.ndarray, threshold: float, limit: int | None = None
) -> np.ndarray:
    """Return which boxes stay, int64, the best first.

    Parameters
    ----------
    boxes : (K, 4)
    scores : (K,)
    threshold : float
        The highest IoU of two that stay, from 0 to 1.
    limit : int, optional
        End when so many have stayed.

    >>> boxes = np.array([[0.0, 0, 4, 4], [0, 0, 4, 3], [9, 9, 12, 12]])
    >>> nms(boxes, np.array([0.7, 0.8, 0.1]), 0.5)
    array([1, 2])
    """
    boxes, order, most = check_nms(boxes, scores, threshold, limit)
    stays: list[int] = []
    while len(order) and len(stays) < most:
        first, order = order[0], order[1:]
        stays.append(int(first))
        order = order[box_iou(boxes[first : first + 1], boxes[order])[0] <= threshold]
    return np.array(stays, np.int64)


def check_nms(
    boxes: np.ndarray, scores: np.ndarray, threshold: float, limit: int | None
) -> tuple[np.ndarray, np.ndarray, int]:
    """Return the boxes in float64, their order, and how many may stay at most."""
    check_boxes(boxes)
    check_real(scores)
    if scores.shape != (len(boxes),):
        raise TinyshuffleError(
            f"{len(boxes)} boxes and scores of shape {scores.shape} were given: give one to each"
        )
    if np.isnan(scores).any():
        raise TinyshuffleError("a score is NaN: boxes cannot be put in order by it")
    number(threshold, "threshold", lambda t: 0 <= t <= 1, "a number from 0 to 1")
    most = len(boxes) if limit is None else integer(limit, "limit", 0)
    return boxes.astype(np.float64), np.argsort(-scores, kind="stable"), most


def nms_cost(
    boxes: tuple[int, ...], scores: tuple[int, ...], threshold: float, limit: int | None = None
) -> Cost:
    """Cost, if nothing overlaps: each pair of boxes up to the last that stays, ten operations."""
    k = boxes[0]
    stay = k if limit is None else min(k, limit)
    pairs = stay * k - stay * (stay + 1) // 2
    return Cost(output=(stay,), elementwise=10 * pairs, memory_access=5 * k + stay)
