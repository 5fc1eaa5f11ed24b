"""Boxes: where anchors stand, offsets there and back, overlap, and which boxes stay."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tinyshuffle import TinyshuffleError, ops
from tinyshuffle.backend import F


def some_boxes(rng, count, side=32, least=0.5):
    corner = rng.uniform(-side / 4, side, (count, 2))
    return np.concatenate([corner, corner + rng.uniform(least, side, (count, 2))], axis=1)


def test_anchors_have_their_sizes_ratios_and_places():
    found = ops.anchors((3, 2), 16, (8, 32), (0.5, 1, 2)).reshape(3, 2, 2, 3, 4)
    w, h = found[..., 2] - found[..., 0], found[..., 3] - found[..., 1]
    np.testing.assert_allclose(np.sqrt(w * h)[1, 1], [[8] * 3, [32] * 3])
    np.testing.assert_allclose((h / w)[2, 0], [[0.5, 1, 2]] * 2)
    centre = (found[..., :2] + found[..., 2:]) / 2
    np.testing.assert_allclose(centre[2, 1, 1, 2], [24, 40])
    cost = ops.anchors_cost((3, 2), 16, (8, 32), (0.5, 1, 2))
    assert cost.output == (found.size // 4, 4)


@given(st.integers(0, 99), st.integers(0, 20))
def test_offsets_there_and_back(seed, count):
    rng = np.random.default_rng(seed)
    boxes, anchors = some_boxes(rng, count), some_boxes(rng, count)
    weights = (10.0, 10.0, 5.0, 5.0)
    offsets = ops.box_encode(boxes, anchors, weights)
    np.testing.assert_allclose(ops.box_decode(offsets, anchors, weights), boxes, atol=1e-10)


def test_offsets_are_the_papers():
    anchor, box = np.array([[0.0, 0, 10, 20]]), np.array([[3.0, 4, 8, 44]])
    t = [(5.5 - 5) / 10, (24 - 10) / 20, np.log(5 / 10), np.log(40 / 20)]
    np.testing.assert_allclose(ops.box_encode(box, anchor)[0], t)
    huge = ops.box_decode(np.array([[0.0, 0, 100, -100]]), anchor)
    assert np.isfinite(huge).all() and huge[0, 2] - huge[0, 0] == pytest.approx(625)


@given(st.integers(0, 99), st.integers(0, 6), st.integers(0, 6))
def test_overlap_by_counting_pixels(seed, k, m):
    rng = np.random.default_rng(seed)
    corner = rng.integers(0, 8, (k + m, 2))
    boxes = np.concatenate([corner, corner + rng.integers(0, 6, (k + m, 2))], axis=1)
    painted = np.zeros((k + m, 16, 16), bool)
    for pixels, (x1, y1, x2, y2) in zip(painted, boxes, strict=True):
        pixels[y1:y2, x1:x2] = True
    a, b = boxes[:k].astype(float), boxes[k:].astype(float)
    found = ops.box_iou(a, b)
    for i, j in np.ndindex(k, m):
        one, other = painted[i], painted[k + j]
        assert found[i, j] == pytest.approx((one & other).sum() / max((one | other).sum(), 1))


@given(st.integers(0, 99), st.integers(0, 30), st.floats(0, 1), st.integers(0, 31))
def test_who_stays(seed, count, threshold, limit):
    """Against the definition: each box that left overlaps with a better one that stayed."""
    rng = np.random.default_rng(seed)
    boxes, scores = some_boxes(rng, count), rng.integers(0, 9, count) / 8
    iou = ops.box_iou(boxes, boxes)
    stayed: list[int] = []
    for i in sorted(range(count), key=lambda i: (-scores[i], i)):
        if all(iou[i, j] <= threshold for j in stayed):
            stayed.append(i)
    assert ops.nms(boxes, scores, threshold, limit).tolist() == stayed[:limit]


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda b: F.nms(b, np.zeros(2), 0.5), "one to each"),
        (lambda b: F.nms(b, np.array([np.nan]), 0.5), "NaN"),
        (lambda b: F.nms(b, np.zeros(1), 1.5), "0 to 1"),
        (lambda b: F.box_encode(np.zeros((1, 4)), b), "no offsets"),
        (lambda b: F.box_encode(b[:0], b), "one anchor a box"),
        (lambda b: F.box_decode(np.zeros((2, 4)), b), "do not fit"),
        (lambda b: F.box_iou(b, b[:, ::-1].copy()), "x1 at most x2"),
        (lambda b: F.box_iou(b, b[0]), "shape"),
        (lambda b: F.anchors((2, 2), 8, (), (1,)), "sizes"),
        (lambda b: F.anchors((2, 2), 8, (4,), (-1,)), "ratios"),
    ],
)
def test_what_cannot_be_is_one_sentence(each_backend, call, words):
    with pytest.raises(TinyshuffleError, match=words):
        call(np.array([[0.0, 1, 4, 5]]))


def test_an_overlap_as_large_as_the_threshold_stays(each_backend):
    boxes = np.array([[0.0, 0, 4, 4], [0, 0, 4, 2], [0, 0, 3, 4]])
    assert F.nms(boxes, np.array([3.0, 2, 1]), 0.5).tolist() == [0, 1]
    assert F.nms(boxes, np.array([3.0, 2, 1]), 0.75).tolist() == [0, 1, 2]
