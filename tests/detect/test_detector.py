"""Detectors: what comes out is boxes in the picture, whatever goes in."""

from __future__ import annotations

import numpy as np
import pytest

from tinyshuffle import TinyshuffleError
from tinyshuffle.detect.detector import AFTER, KINDS, OVERLAP, Detector
from tinyshuffle.ops import box_iou

MODEL = "shufflenet_v2_x0_5"


@pytest.fixture(scope="module", params=KINDS)
def detector(request):
    return Detector(request.param, MODEL, 3, 64).eval()


def pictures(count=2, side=64):
    return np.random.default_rng(0).standard_normal((count, side, side, 3)).astype(np.float32)


def test_maps_belong_to_the_anchors(detector):
    read, objectness, offsets = detector.maps(pictures())
    assert objectness.shape == (2, len(detector.anchors)) == offsets.shape[:2]
    assert read.shape[:3] == (2, 8, 8) and len(detector.anchors) == 8 * 8 * 12
    # the twelve anchors of a pixel stand around it
    centre = (detector.anchors[:, :2] + detector.anchors[:, 2:]) / 2
    np.testing.assert_allclose(centre.reshape(8, 8, 12, 2)[3, 5], [[44, 28]] * 12, atol=1e-4)


def test_an_objectness_belongs_to_its_anchor(detector):
    """The highest number of the map makes the anchor of its pixel the first proposal."""
    n = len(detector.anchors)
    objectness, offsets = np.zeros((1, n), np.float32), np.zeros((1, n, 4), np.float32)
    objectness[0, 300] = 9
    first = detector.propose(objectness, offsets)[0, 0]
    np.testing.assert_allclose(first, detector.anchors[300].clip(0, 64), atol=1e-4)


def test_proposals(detector):
    _, objectness, offsets = detector.maps(pictures())
    boxes = detector.propose(objectness, offsets)
    assert boxes.shape == (2, AFTER, 4) and boxes.min() >= 0 and boxes.max() <= 64
    same = detector.propose(objectness, np.zeros_like(offsets))[0]
    iou = box_iou(same[:20], same[:20]) - np.eye(20)
    assert iou.max() <= OVERLAP + 1e-6


def test_detections(detector):
    (boxes, labels, scores), other = detector.detect(pictures(), least=0.0)
    assert len(boxes) == 100 and len(other[0]) == 100
    assert (np.diff(scores) <= 0).all() and set(labels) <= {0, 1, 2}
    assert boxes.min() >= 0 and boxes.max() <= 64 and ((boxes[:, 2:] - boxes[:, :2]) >= 1).all()
    for k in range(3):
        iou = box_iou(boxes[labels == k], boxes[labels == k])
        assert (iou - np.eye(len(iou))).max(initial=0) <= 0.5 + 1e-6
    assert len(detector.detect(pictures(1), least=1.0)[0][0]) == 0


def test_the_same_alone_and_in_a_batch(detector):
    both, alone = detector.detect(pictures(), 0.0), detector.detect(pictures()[1:], 0.0)
    np.testing.assert_allclose(both[1][0], alone[0][0], atol=1e-3)


def test_a_seed_decides():
    one, two, other = (Detector("faster", MODEL, 3, 64, seed=seed) for seed in (1, 1, 2))
    for p in reversed(two.parameters()):
        assert p.data is not None  # drawn in another order
    mine, same, others = (net.state_dict() for net in (one, two, other))
    for name, value in mine.items():
        np.testing.assert_array_equal(value, same[name])
    assert any((value != others[name]).any() for name, value in mine.items())


def test_one_class():
    detector = Detector("light-head", MODEL, 1, 64).eval()
    assert set(detector.detect(pictures(1), 0.0)[0][1]) == {0}


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda: Detector("fast", MODEL, 3, 64), "faster or light-head"),
        (lambda: Detector("faster", "no_net", 3, 64), "unknown model"),
        (lambda: Detector("faster", MODEL, 0, 64), "num_classes"),
        (lambda: Detector("faster", MODEL, 3, 8), "larger pictures"),
    ],
)
def test_what_cannot_be_is_one_sentence(call, words):
    with pytest.raises(TinyshuffleError, match=words):
        call()


def test_pictures_of_another_size_are_one_sentence(detector):
    with pytest.raises(TinyshuffleError, match="64, 64"):
        detector.detect(pictures(1, 32))
