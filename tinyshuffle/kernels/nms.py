"""Non-maximum suppression: see ``ops.nms``."""

from __future__ import annotations

import numpy as np

from ..ops.nms import check_nms
from .jit import exact

__all__ = ["nms"]


def nms(
    boxes: np.ndarray, scores: np.ndarray, threshold: float, limit: int | None = None
) -> np.ndarray:
    """Return which boxes stay; see ``ops.nms``."""
    boxes, order, most = check_nms(boxes, scores, threshold, limit)
    stays = np.empty(min(most, len(order)), np.int64)
    return stays[: _suppress(stays, boxes, order, float(threshold))].copy()


@exact
def _suppress(stays, boxes, order, threshold):
    found = 0
    for i in order:
        if found == len(stays):
            break
        x1, y1, x2, y2 = boxes[i]
        area = (x2 - x1) * (y2 - y1)
        good = True
        for j in stays[:found]:
            u1, v1, u2, v2 = boxes[j]
            w, h = min(x2, u2) - max(x1, u1), min(y2, v2) - max(y1, v1)
            if w > 0 and h > 0:
                both = w * h
                if both / ((u2 - u1) * (v2 - v1) + area - both) > threshold:
                    good = False
                    break
        if good:
            stays[found] = i
            found += 1
    return found
