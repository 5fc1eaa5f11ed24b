"""What a detector learns from: the right anchors and boxes, however few or many objects."""

from __future__ import annotations

import numpy as np
import pytest

from tinyshuffle.data import Objects
from tinyshuffle.detect.detector import WEIGHTS, Detector
from tinyshuffle.detect.targets import ANCHORS, BOXES, choose
from tinyshuffle.ops import box_decode, box_iou

NOTHING = Objects(np.zeros((0, 4)), np.zeros(0, int))
TWO = Objects(np.array([[5, 5, 20, 18], [30, 20, 60, 60]]), np.array([2, 0]))


@pytest.fixture(scope="module")
def detector():
    return Detector("faster", "shufflenet_v2_x0_5", 3, 64)


@pytest.fixture
def proposals(detector, rng):
    corner = rng.uniform(0, 50, (2, 100, 2))
    return np.concatenate([corner, corner + rng.uniform(1, 30, (2, 100, 2))], axis=2).clip(0, 64)


def test_anchors(detector, proposals, rng):
    choice = choose(detector, proposals, [NOTHING, TWO], rng)
    n = len(detector.anchors)
    for i, one in enumerate([NOTHING, TWO]):
        here = choice.anchors // n == i
        assert here.sum() == ANCHORS
        iou = box_iou(detector.anchors, one.boxes)
        best = iou.max(axis=1, initial=0)
        for place, target, offsets in zip(
            choice.anchors[here] % n, choice.targets[here], choice.offsets[here], strict=True
        ):
            if target:
                assert best[place] >= 0.7 or (iou[place] == iou.max(axis=0)).any()
                anchor = detector.anchors[place : place + 1]
                box = box_decode(offsets[None].astype(np.float32), anchor)
                assert box_iou(box, one.boxes).max() > 0.999
            else:
                assert best[place] < 0.3
    assert choice.targets[choice.anchors < n].sum() == 0
    assert choice.targets.sum() >= 2  # each object has an anchor


def test_boxes(detector, proposals, rng):
    choice = choose(detector, proposals, [NOTHING, TWO], rng)
    assert len(choice.boxes) == 2 * BOXES and (np.bincount(choice.image) == BOXES).all()
    assert not choice.labels[choice.image == 0].any()
    assert {1, 3} <= set(choice.labels)  # the objects' own boxes are among them
    hit = choice.labels > 0
    moved = box_decode(choice.box_offsets[hit], choice.boxes[hit], WEIGHTS)
    for box, label, own in zip(moved, choice.labels[hit], choice.boxes[hit], strict=True):
        np.testing.assert_allclose(box, TWO.boxes[TWO.labels == label - 1][0], atol=1e-3)
        assert box_iou(own[None], box[None].astype(own.dtype)) >= 0.5
    iou = box_iou(choice.boxes[~hit], TWO.boxes.astype(float)).max(axis=1)
    assert (iou[choice.image[~hit] == 1] < 0.5).all()


def test_a_crowd_teaches_nothing(detector, proposals, rng):
    crowd = Objects(np.array([[0, 0, 64, 40]]), np.array([1]), np.array([True]))
    choice = choose(detector, proposals[:1], [crowd], rng)
    assert not choice.labels.any() and not choice.targets.any()
    for boxes in detector.anchors[choice.anchors], choice.boxes:
        inside = np.minimum(boxes[:, 3], 40) - boxes[:, 1].clip(0)
        across = np.minimum(boxes[:, 2], 64) - boxes[:, 0].clip(0)
        part = inside.clip(0) * across / (boxes[:, 2:] - boxes[:, :2]).prod(axis=1)
        assert (part <= 0.5 + 1e-6).all()


def test_everything_is_a_crowd(detector, proposals, rng):
    crowd = Objects(np.array([[0, 0, 64, 64]]), np.array([1]), np.array([True]))
    choice = choose(detector, proposals[:1], [crowd], rng)
    assert len(choice.boxes) == BOXES and not choice.labels.any()


def test_500_objects(detector, proposals, rng):
    corner = rng.uniform(0, 50, (500, 2))
    many = Objects(np.concatenate([corner, corner + 8], axis=1), rng.integers(0, 3, 500))
    choice = choose(detector, proposals[:1], [many], rng)
    assert len(choice.boxes) == BOXES and choice.targets.sum() == ANCHORS // 2


def test_no_proposal(detector, rng):
    empty = np.zeros((1, 100, 4))  # a hundred times the same empty box
    choice = choose(detector, empty, [NOTHING], rng)
    assert len(choice.boxes) == BOXES and not choice.labels.any()
    choice = choose(detector, empty, [TWO], rng)
    assert set(choice.labels) == {1, 3}
