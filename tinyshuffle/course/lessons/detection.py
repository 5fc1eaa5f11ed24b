"""Notebook 15: boxes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from ... import ops
from ...data import BoxDataset, Objects
from ...detect.average_precision import average_precision
from ..exercise import Exercise, Mistake

__all__ = ["EXERCISES"]


def _gradient(dy: np.ndarray, box: Sequence[float], height: int, width: int) -> np.ndarray:
    x = np.zeros((1, height, width, dy.shape[-1]))
    boxes, image = np.array([box], float), np.zeros(1, int)
    return ops.roi_align_backward(dy[None].astype(float), x, boxes, image, len(dy), 1.0, 1)[0]


def _bins() -> list[tuple[Any, ...]]:
    rng = np.random.default_rng(21)
    return [
        (np.ones((1, 1, 1)), (1.0, 0.5, 2.5, 2.0), 3, 4),  # one point, at row 0.75, column 1.25
        (rng.standard_normal((2, 2, 1)), (0.5, 1.0, 3.5, 3.0), 4, 5),
        (rng.standard_normal((3, 3, 2)), (1.2, 0.6, 5.1, 3.3), 5, 6),
        (rng.standard_normal((4, 4, 2)), (2.0, 2.0, 3.0, 3.5), 6, 5),  # several points in a pixel
    ]


def _points(
    dy: np.ndarray, box: Sequence[float], height: int, width: int, shift: float = 0.5,
    middle: float = 0.5, nearest: bool = False, add: bool = True,
) -> np.ndarray:  # fmt: skip
    """The gradient, point by point, with one thing another way."""
    dx, p = np.zeros((height, width, dy.shape[-1])), len(dy)
    for i, j in np.ndindex(p, p):
        v, u = (
            low - shift + (k + middle) * (high - low) / p
            for low, high, k in ((box[1], box[3], i), (box[0], box[2], j))
        )
        if nearest:
            v, u = np.rint(v), np.rint(u)
        for h, w in np.ndindex(height, width):
            share = max(0, 1 - abs(v - h)) * max(0, 1 - abs(u - w))
            if share:
                dx[h, w] = share * dy[i, j] + (dx[h, w] if add else 0)
    return dx


def _stay(boxes: np.ndarray, scores: np.ndarray, threshold: float) -> np.ndarray:
    return ops.nms(boxes, scores, threshold)


def _crowds() -> list[tuple[Any, ...]]:
    rng = np.random.default_rng(22)
    corners = rng.integers(0, 12, (24, 2))
    many = np.concatenate([corners, corners + rng.integers(3, 12, (24, 2))], axis=1).astype(float)
    return [
        # the second is like the first, the third like the second only
        (np.array([[0.0, 0, 6, 4], [2, 0, 8, 4], [4, 0, 10, 4]]), np.array([0.9, 0.8, 0.7]), 0.4),
        (np.array([[0.0, 0, 4, 4], [0, 0, 4, 2], [9, 9, 12, 12]]), np.array([0.2, 0.1, 0.3]), 0.5),
        (np.array([[0.0, 0, 8, 8], [2, 2, 4, 4], [0, 0, 8, 6]]), np.array([0.5, 0.9, 0.6]), 0.3),
        (np.array([[0.0, 0, 2, 2], [1, 0, 3, 2]]), np.array([0.9, 0.8]), 0.4),
        (many, rng.permutation(24) / 24, 0.25),
        (np.zeros((0, 4)), np.zeros(0), 0.5),
    ]


def _suppressed(
    boxes: np.ndarray, scores: np.ndarray, threshold: float, chain: bool = False,
    equal: bool = False, by: str = "union", more: int = 0,
) -> np.ndarray:  # fmt: skip
    """Suppression with one thing another way."""
    stay: list[int] = []
    order = np.argsort(-scores)
    for n, i in enumerate(order):
        overlaps = [_overlap(boxes[i], boxes[j], by, more) for j in (order[:n] if chain else stay)]
        if all(o < threshold if equal else o <= threshold for o in overlaps):
            stay.append(int(i))
    return np.array(stay, int)


def _overlap(a: np.ndarray, b: np.ndarray, by: str, more: int) -> float:
    both = np.prod((np.minimum(a[2:], b[2:]) - np.maximum(a[:2], b[:2]) + more).clip(0))
    one, other = (np.prod(x[2:] - x[:2] + more) for x in (a, b))
    under = {"union": one + other - both, "smaller": min(one, other), "sum": one + other}[by]
    return float(both / under)


def _precision(right: np.ndarray, objects: int) -> float:
    """By the library: so many objects side by side, and detections that are one, or none."""
    there = np.array([[10 * k, 0, 10 * k + 8, 8] for k in range(objects)], float)
    found = np.array([[0, 20, 8, 28]] * len(right), float).reshape(-1, 4)
    found[np.flatnonzero(right)] = there[: int(np.sum(right))]
    scores = 1 - np.arange(len(right)) / 200
    half = np.full(3, 0.5)
    image = np.zeros((1, 32, 10 * objects, 3), np.uint8)
    one = BoxDataset("one", image, [Objects(there, np.zeros(objects, int))], ("a",), half, half)
    labels = np.zeros(len(right), int)
    curve = average_precision(one, [(found, labels, scores)]).precision[0, :, 0, 0, 2]
    return float(curve.mean())


def _answers() -> list[tuple[Any, ...]]:
    rng = np.random.default_rng(23)
    return [
        (np.array([True, False, True]), 3),  # a third object is never found
        (np.array([False, True, True, False, True]), 3),
        (np.array([False, False]), 7),
        (rng.random(40) < 0.4, 19),
    ]


def _ap(
    right: np.ndarray, objects: int, falling: bool = True, reached: bool = False,
    points: int = 101, over: str = "detections", of: str = "objects",
) -> float:  # fmt: skip
    """Average precision with one thing another way."""
    hits = np.cumsum(right)
    recall = hits / (objects if of == "objects" else max(1, int(hits[-1])))
    precision = hits / (np.arange(len(right)) + 1 if over == "detections" else objects)
    values = []
    for r in np.linspace(0, 1, points):
        at = np.flatnonzero(recall >= r)
        if len(at):
            values.append(precision[at].max() if falling else precision[at[0]])
        elif not reached:
            values.append(0.0)
    return float(np.mean(values)) if values else 0.0


def _area(right: np.ndarray, objects: int) -> float:
    precision = np.cumsum(right) / (np.arange(len(right)) + 1)
    return float((precision * right).sum() / objects)


EXERCISES = (
    Exercise(
        key="15.1",
        title="The gradient of RoIAlign",
        name="roi_align_gradient",
        reference=_gradient,
        cases=_bins,
        section=2,
        hints=(
            "Each bin is read at one point, from the four pixels around it. By which weights? The "
            "gradient of the bin goes back to the same four pixels, by the same weights, and is "
            "added where points share a pixel.",
            "rows = y1 - 1/2 + (i + 1/2) (y2 - y1) / P, A[i, h] = max(0, 1 - |rows[i] - h|), and B "
            "alike for columns; then np.einsum('ih,jw,ijc->hwc', A, B, dy).",
        ),
        mistakes=(
            Mistake("the centre of pixel 0 lies at 1/2: take half a pixel off before reading",
                    lambda dy, box, height, width: _points(dy, box, height, width, shift=0)),
            Mistake("the point is at the bin's corner; it has to be at its centre, i + 1/2",
                    lambda dy, box, height, width: _points(dy, box, height, width, middle=0)),
            Mistake("all of the gradient goes to the nearest pixel, as in RoIPool; it is shared "
                    "among four",
                    lambda dy, box, height, width: _points(dy, box, height, width, nearest=True)),
            Mistake("where points share a pixel their gradients are added; here the last one stays",
                    lambda dy, box, height, width: _points(dy, box, height, width, add=False)),
            Mistake("rows and columns are exchanged: a box is (x1, y1, x2, y2), and x counts "
                    "columns",
                    lambda dy, box, height, width: _gradient(
                        dy, (box[1], box[0], box[3], box[2]), height, width)),
            Mistake("each bin's gradient is divided by the number of bins; there is a mean over "
                    "the points of one bin only, and here it has one",
                    lambda dy, box, height, width: _gradient(dy, box, height, width)
                    / len(dy) ** 2),
        ),
    ),
    Exercise(
        key="15.2",
        title="Non-maximum suppression",
        name="suppress",
        reference=_stay,
        cases=_crowds,
        section=3,
        hints=(
            "Go through the boxes from the highest score to the lowest. With which boxes has each "
            "to be compared?",
            "for i in np.argsort(-scores): i stays if ops.box_iou of its box with the boxes that "
            "stay, and with no others, is nowhere above the threshold.",
        ),
        may_call=("box_iou",),
        mistakes=(
            Mistake("a box that has been taken out takes out others here; only those that stay do",
                    lambda boxes, scores, threshold: _suppressed(
                        boxes, scores, threshold, chain=True)),
            Mistake("the lowest score comes first here; the highest has to",
                    lambda boxes, scores, threshold: _suppressed(boxes, -scores, threshold)),
            Mistake("a box whose IoU is the threshold stays: only a larger one takes it out",
                    lambda boxes, scores, threshold: _suppressed(
                        boxes, scores, threshold, equal=True)),
            Mistake("these are in the order in which the boxes were given; the best comes first",
                    lambda boxes, scores, threshold: np.sort(_stay(boxes, scores, threshold))),
            Mistake("the intersection is divided by the smaller area; IoU divides by the union",
                    lambda boxes, scores, threshold: _suppressed(
                        boxes, scores, threshold, by="smaller")),
            Mistake("a side is x2 - x1, without + 1: boxes are not whole pixels here",
                    lambda boxes, scores, threshold: _suppressed(
                        boxes, scores, threshold, more=1)),
            Mistake("the sum of the areas has the intersection twice: take it off once",
                    lambda boxes, scores, threshold: _suppressed(
                        boxes, scores, threshold, by="sum")),
        ),
    ),
    Exercise(
        key="15.3",
        title="Average precision",
        name="mean_precision",
        reference=_precision,
        cases=_answers,
        section=4,
        hints=(
            "After each detection there are a recall and a precision. Which precision counts at "
            "the recall r, if a higher recall has a higher one? And if r is never reached?",
            "hits = np.cumsum(right), recall = hits / objects, precision = hits / (1, 2, 3, …); at "
            "each of np.linspace(0, 1, 101) the largest precision whose recall is r or more, or 0.",
        ),
        mistakes=(
            Mistake("the precision is not made falling: at recall r the largest precision counts "
                    "whose recall is r or more",
                    lambda right, objects: _ap(right, objects, falling=False)),
            Mistake("recalls that are never reached are left out; their precision is 0",
                    lambda right, objects: _ap(right, objects, reached=True)),
            Mistake("these are the 11 recalls of Pascal VOC; COCO has 101",
                    lambda right, objects: _ap(right, objects, points=11)),
            Mistake("precision is hits by detections so far, not by objects",
                    lambda right, objects: _ap(right, objects, over="objects")),
            Mistake("recall is hits by objects, also those that are never found",
                    lambda right, objects: _ap(right, objects, of="hits")),
            Mistake("this is the mean of the precision at each hit; COCO reads the curve, made "
                    "falling, at 101 recalls",
                    _area),
        ),
    ),
)  # fmt: skip
