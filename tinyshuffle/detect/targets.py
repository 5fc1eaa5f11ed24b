"""What a detector shall learn from a batch: which anchors, which boxes, and what is right of each.

An anchor is an object's if their IoU is 0.7 or more, or if no anchor has a higher one with that
object; it is none's below 0.3; of the others nothing is learned. A proposal is an object's from 0.5
on. Of both, few are taken, with not too many that show nothing: 128 anchors of a picture, half of
them objects' at most, and 32 proposals, half of them objects' at most; the objects' own boxes are
among the proposals. Ren et al. 2015, section 3.1.2; Girshick 2015, section 2.3, with fewer boxes
that show nothing: nets that begin with random weights learn sooner what the others are.

These are choices, and constants for the gradient.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from ..backend import F
from ..data import Objects
from .average_precision import overlap
from .detector import WEIGHTS, Detector

__all__ = ["ANCHORS", "BOXES", "Choice", "choose"]

ANCHORS, BOXES = 128, 32  # of a picture
SURE, NONE, OBJECT = 0.7, 0.3, 0.5  # IoU of an anchor with an object, with none; of a proposal
IN_CROWD = 0.5  # of a box, beyond which it teaches nothing


@dataclass(frozen=True)
class Choice:
    """What is learned from a batch of N pictures.

    Attributes
    ----------
    anchors : int (M,)
        Places among all N·anchors.
    targets : (M,)
        1 for those of an object, else 0.
    offsets : (M, 4)
        Of the object from each, where there is one.
    boxes : (R, 4)
    image : int (R,)
    labels : int (R,)
        0 for none, else the class and one.
    box_offsets : (R, 4)
        Of the object from each, where there is one.
    """

    anchors: np.ndarray
    targets: np.ndarray
    offsets: np.ndarray
    boxes: np.ndarray
    image: np.ndarray
    labels: np.ndarray
    box_offsets: np.ndarray


def choose(
    detector: Detector, proposals: np.ndarray, objects: Sequence[Objects],
    rng: np.random.Generator,
) -> Choice:  # fmt: skip
    """Choose what is learned from a batch.

    Parameters
    ----------
    detector : Detector
    proposals : (N, P, 4)
    objects : N of Objects
        None of them, crowds and 500 are all possible.
    rng : numpy Generator
    """
    parts: list[tuple[np.ndarray, ...]] = []
    for i, (boxes, one) in enumerate(zip(proposals, objects, strict=True)):
        places, targets, offsets = _of_anchors(detector.anchors, one, rng)
        chosen, labels, box_offsets = _of_boxes(boxes, one, rng)
        image = np.full(len(chosen), i)
        places = places + i * len(detector.anchors)
        parts.append((places, targets, offsets, chosen, image, labels, box_offsets))
    return Choice(*(np.concatenate(column) for column in zip(*parts, strict=True)))


def _of_anchors(
    anchors: np.ndarray, objects: Objects, rng: np.random.Generator
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    there = objects.boxes[~objects.crowd]
    iou = F.box_iou(anchors, there)  # (anchors, G)
    which, best = _nearest(iou)
    mine = best >= SURE
    highest = iou.max(axis=0, initial=0)
    anchor, one = np.nonzero((iou == highest) & (highest > 0))
    mine[anchor], which[anchor] = True, one
    none = (best < NONE) & ~mine & ~_crowded(anchors, objects)
    good = rng.permutation(np.flatnonzero(mine))[: ANCHORS // 2]
    bad = rng.permutation(np.flatnonzero(none))[: ANCHORS - len(good)]
    places = np.concatenate([good, bad])
    offsets = np.zeros((len(places), 4), anchors.dtype)
    offsets[: len(good)] = F.box_encode(there[which[good]], anchors[good])
    return places, (np.arange(len(places)) < len(good)).astype(anchors.dtype), offsets


def _of_boxes(
    proposals: np.ndarray, objects: Objects, rng: np.random.Generator
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    there, labels = objects.boxes[~objects.crowd], objects.labels[~objects.crowd]
    boxes = np.concatenate([proposals, there.astype(proposals.dtype)])
    boxes = boxes[((boxes[:, 2:] - boxes[:, :2]) > 0).all(axis=1)]
    if not len(boxes):  # neither a proposal nor an object: the picture's corner shows nothing
        boxes = np.array([[0, 0, 1, 1]], proposals.dtype)
    which, best = _nearest(F.box_iou(boxes, there.astype(proposals.dtype)))
    mine = best >= OBJECT
    none = ~mine & ~_crowded(boxes, objects)
    good = rng.permutation(np.flatnonzero(mine))
    bad = rng.permutation(np.flatnonzero(none))
    some = good[: BOXES // 2]
    # always so many, so that the head's plan stays: if too few show nothing, more of the others
    chosen = np.concatenate([some, bad[: BOXES - len(some)]])
    if len(chosen) < BOXES:
        spare = np.concatenate([good[BOXES // 2 :], some, bad])
        if len(spare) == 0:  # every box lies in a crowd
            spare = np.arange(len(boxes))
        chosen = np.concatenate([chosen, np.resize(spare, BOXES - len(chosen))])
    label, offsets = np.zeros(BOXES, np.int64), np.zeros((BOXES, 4), proposals.dtype)
    hit = mine[chosen]
    label[hit] = 1 + labels[which[chosen[hit]]]
    offsets[hit] = F.box_encode(
        there[which[chosen[hit]]].astype(proposals.dtype), boxes[chosen[hit]], WEIGHTS
    )
    return boxes[chosen], label, offsets


def _nearest(iou: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return with which object each box overlaps most, and how much: 0, and 0, without any."""
    if iou.shape[1] == 0:
        return np.zeros(len(iou), np.int64), np.zeros(len(iou))
    return iou.argmax(axis=1), iou.max(axis=1)


def _crowded(boxes: np.ndarray, objects: Objects) -> np.ndarray:
    crowds = objects.boxes[objects.crowd]
    inside = overlap(boxes, crowds, np.ones(len(crowds), bool))
    return inside.max(axis=1, initial=0) > IN_CROWD
