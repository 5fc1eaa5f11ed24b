"""Mean average precision by COCO's rules.

For a class and a threshold t of the IoU, detections are taken in the order of falling scores. Each
is matched with the object of its picture and class with which it overlaps most, if by t at least
and if none before it took that object. With TP and FP right and wrong ones so far,

    recall = TP / objects,   precision = TP / (TP + FP),   made falling: p(r) = max_{r' ≥ r} p(r')
    AP = mean of p at the recalls 0, 0.01, …, 1
    mAP = mean of AP over the classes and over t = 0.5, 0.55, …, 0.95

What overlaps with a crowd (intersection by the detection's own area), or with an object whose area
is not asked for, is neither right nor wrong; nor is what is found where there is nothing, if its
own area is not asked for. At most 100 detections of a class in a picture count.

Lin et al. 2014, "Microsoft COCO"; https://cocodataset.org/#detection-eval. What its authors'
``pycocotools`` computes is computed here, to rounding.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from ..data import BoxDataset
from ..errors import TinyshuffleError

__all__ = [
    "AREAS", "STATISTICS", "THRESHOLDS", "Detections", "Scores", "average_precision", "overlap",
    "percent",
]  # fmt: skip

Detections = tuple[np.ndarray, np.ndarray, np.ndarray]
"""What was found in a picture: boxes (K, 4), labels (K,), scores (K,)."""

THRESHOLDS = np.linspace(0.5, 0.95, 10)
RECALLS = np.linspace(0, 1, 101)
AREAS = {
    "all": (0.0, 1e10), "small": (0.0, 32.0**2), "medium": (32.0**2, 96.0**2),
    "large": (96.0**2, 1e10),
}  # fmt: skip
"""Of objects, in pixels of the picture's file."""

MOST = (1, 10, 100)  # detections of a class in a picture

STATISTICS = {
    "map": "mAP", "map50": "AP at IoU 0.5", "map75": "AP at IoU 0.75",
    "map_small": "mAP, small", "map_medium": "mAP, medium", "map_large": "mAP, large",
    "ar1": "recall, 1 a picture", "ar10": "recall, 10", "ar100": "recall, 100",
    "ar_small": "recall, small", "ar_medium": "recall, medium", "ar_large": "recall, large",
}  # fmt: skip
"""COCO's twelve numbers, in its order, and what they are called."""


@dataclass(frozen=True)
class Scores:
    """How good detections are.

    Attributes
    ----------
    precision : (10, 101, classes, 4, 3)
        By threshold, recall, class, area and most detections; -1 where there is no such object.
    recall : (10, classes, 4, 3)
        The highest.
    """

    precision: np.ndarray
    recall: np.ndarray

    @property
    def statistics(self) -> dict[str, float]:
        """COCO's twelve numbers, 0 to 1, by the names in :data:`STATISTICS`; -1 if not defined."""
        p, r = self.precision, self.recall
        values = [p[..., 0, 2], p[0, ..., 0, 2], p[5, ..., 0, 2]]
        values += [p[..., area, 2] for area in (1, 2, 3)]
        values += [r[..., 0, most] for most in (0, 1, 2)]
        values += [r[..., area, 2] for area in (1, 2, 3)]
        return {
            name: float(v[v > -1].mean()) if (v > -1).any() else -1.0
            for name, v in zip(STATISTICS, values, strict=True)
        }

    @property
    def by_class(self) -> np.ndarray:
        """Average precision of each class, -1 for one without objects."""
        return self.precision[..., 0, 2].mean(axis=(0, 1))


def percent(value: float, digits: int = 1) -> str:
    """Return one of the statistics in per cent, and "-" where there is no such object.

    >>> percent(0.5), percent(-1.0)
    ('50.0', '-')
    """
    return "-" if value < 0 else f"{100 * value:.{digits}f}"


def average_precision(dataset: BoxDataset, found: Sequence[Detections]) -> Scores:
    """Compare what was found in the pictures of a data set with what is there.

    Parameters
    ----------
    dataset : BoxDataset
    found : sequence of Detections
        One a picture, in its order, in the data set's pixels.

    Raises
    ------
    TinyshuffleError
        If these are not as many as there are pictures, or do not fit each other.

    >>> from tinyshuffle.data import Objects
    >>> there = Objects(np.array([[0, 0, 50, 60]]), np.array([0]))
    >>> one = BoxDataset("one", np.zeros((1, 64, 64, 3), np.uint8), [there], ("a",),
    ...                  np.full(3, 0.5), np.full(3, 0.5))
    >>> scores = average_precision(one, [(np.array([[0, 0, 50, 50]]), np.array([0]), np.ones(1))])
    >>> round(scores.statistics["map"], 3)  # an IoU of 0.83 is enough for 7 of 10 thresholds
    0.7
    """
    if len(found) != len(dataset):
        raise TinyshuffleError(
            f"detections of {len(found)} pictures were given, and {dataset.name!r} has "
            f"{len(dataset)}: give those of each"
        )
    classes = len(dataset.classes)
    matches: dict[tuple[int, str], list[_Matched]] = {}
    for i in np.argsort(dataset.ids, kind="stable"):
        boxes, labels, scores = (np.asarray(part) for part in found[i])
        alike = len(boxes) == len(labels) == len(scores)
        if not alike or boxes.shape not in ((0,), (len(boxes), 4)):
            raise TinyshuffleError(
                f"picture {i} has boxes of shape {boxes.shape}, {len(labels)} labels and "
                f"{len(scores)} scores: give (K, 4), and K of each"
            )
        scale, objects = dataset.scales[i], dataset.objects[i]
        boxes = boxes.reshape(-1, 4).astype(np.float64) / scale
        theirs, areas = objects.boxes.astype(np.float64) / scale, objects.areas / scale**2
        for k in np.union1d(objects.labels, labels).astype(int):
            if not 0 <= k < classes:
                raise TinyshuffleError(f"a detection has the label {k}, of {classes} classes")
            mine, those = objects.labels == k, labels == k
            order = np.argsort(-scores[those], kind="stable")[: MOST[-1]]
            for area, within in AREAS.items():
                matches.setdefault((k, area), []).append(
                    _match(
                        boxes[those][order], scores[those][order], theirs[mine],
                        objects.crowd[mine], areas[mine], within,
                    )
                )  # fmt: skip
    precision = np.full((len(THRESHOLDS), len(RECALLS), classes, len(AREAS), len(MOST)), -1.0)
    recall = np.full((len(THRESHOLDS), classes, len(AREAS), len(MOST)), -1.0)
    for k in range(classes):
        for a, area in enumerate(AREAS):
            for m, most in enumerate(MOST):
                curve = _curve(matches.get((k, area), []), most)
                if curve is not None:
                    precision[:, :, k, a, m], recall[:, k, a, m] = curve
    return Scores(precision, recall)


@dataclass(frozen=True)
class _Matched:
    """The detections of a class in a picture, the best first, and what became of them."""

    scores: np.ndarray  # (D,)
    right: np.ndarray  # (thresholds, D)
    ignored: np.ndarray  # (thresholds, D)
    objects: int  # that count


def _match(
    boxes: np.ndarray, scores: np.ndarray, theirs: np.ndarray, crowd: np.ndarray,
    areas: np.ndarray, within: tuple[float, float],
) -> _Matched:  # fmt: skip
    low, high = within
    apart = crowd | (areas < low) | (areas > high)  # objects that do not count
    order = np.argsort(apart, kind="stable")
    theirs, crowd, apart = theirs[order], crowd[order], apart[order]
    thresholds = np.minimum(THRESHOLDS, 1 - 1e-10)[:, None]
    right = np.zeros((len(THRESHOLDS), len(boxes)), bool)
    ignored = np.zeros_like(right)
    taken = np.zeros((len(THRESHOLDS), len(theirs)), bool)
    iou, rows = overlap(boxes, theirs, crowd), np.arange(len(THRESHOLDS))
    for d in range(len(boxes) if len(theirs) else 0):
        free = (iou[d] >= thresholds) & (~taken | crowd)  # (thresholds, G)
        for which, ends in ((~apart, right), (apart, ignored)):
            value = np.where(free & which, iou[d], -1.0)
            best = len(theirs) - 1 - value[:, ::-1].argmax(axis=1)  # of equals, the last
            hit = (value[rows, best] >= 0) & ~right[:, d]
            ends[hit, d] = True
            taken[rows[hit], best[hit]] = True
    sides = boxes[:, 2:] - boxes[:, :2]
    own = sides.prod(axis=1)
    ignored |= ~right & ~ignored & ((own < low) | (own > high))
    return _Matched(scores, right, ignored, int((~apart).sum()))


def overlap(boxes: np.ndarray, theirs: np.ndarray, crowd: np.ndarray) -> np.ndarray:
    """Return the IoU (D, G); with a crowd, the part of the detection that lies in it."""
    low = np.maximum(boxes[:, None, :2], theirs[:, :2])
    both = (np.minimum(boxes[:, None, 2:], theirs[:, 2:]) - low).clip(0).prod(axis=-1)
    own = (boxes[:, 2:] - boxes[:, :2]).prod(axis=1)[:, None]
    either = np.where(crowd, own, own + (theirs[:, 2:] - theirs[:, :2]).prod(axis=1) - both)
    return np.divide(both, either, out=np.zeros_like(both), where=either > 0)


def _curve(matches: list[_Matched], most: int) -> tuple[np.ndarray, np.ndarray] | None:
    """Precision (thresholds, recalls) and highest recall (thresholds,); None without objects."""
    objects = sum(one.objects for one in matches)
    if objects == 0:
        return None
    scores = np.concatenate([one.scores[:most] for one in matches])
    order = np.argsort(-scores, kind="stable")
    right = np.concatenate([one.right[:, :most] for one in matches], axis=1)[:, order]
    ignored = np.concatenate([one.ignored[:, :most] for one in matches], axis=1)[:, order]
    hits = np.cumsum(right & ~ignored, axis=1).astype(float)
    misses = np.cumsum(~right & ~ignored, axis=1).astype(float)
    recall = hits / objects
    precision = hits / (hits + misses + np.spacing(1))
    precision = np.maximum.accumulate(precision[:, ::-1], axis=1)[:, ::-1]
    out = np.zeros((len(THRESHOLDS), len(RECALLS)))
    for t in range(len(THRESHOLDS)):
        at = np.searchsorted(recall[t], RECALLS, side="left")
        reached = at < len(order)
        out[t, reached] = precision[t, at[reached]]
    return out, recall[:, -1] if len(order) else np.zeros(len(THRESHOLDS))
