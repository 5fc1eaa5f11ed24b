"""Pictures with boxes: what is refused, and how boxes move with their pictures."""

from __future__ import annotations

import numpy as np
import pytest

from tinyshuffle import TinyshuffleError
from tinyshuffle.data.boxes import BoxDataset, Objects, box_batches

MEAN, STD = np.full(3, 0.5), np.full(3, 0.25)


def painted(rng, count=6, side=32):
    """Black pictures with a white rectangle in each, which is its object."""
    images, objects = np.zeros((count, side, side, 3), np.uint8), []
    for picture in images:
        x1, y1 = rng.integers(8, 14, 2)
        x2, y2 = rng.integers(16, 24, 2)
        picture[y1:y2, x1:x2] = 255
        objects.append(Objects(np.array([[x1, y1, x2, y2]]), np.array([0])))
    return BoxDataset("white", images, objects, ("white",), MEAN, STD)


def test_boxes_move_with_their_pictures(rng):
    dataset = painted(rng)
    moved = 0
    for epoch in range(4):
        for x, objects in box_batches(dataset, 3, seed=1, epoch=epoch):
            for picture, one in zip(x, objects, strict=True):
                rows, columns = np.nonzero(picture[..., 0] > 1)
                box = [columns.min(), rows.min(), columns.max() + 1, rows.max() + 1]
                np.testing.assert_array_equal(one.boxes, [box])
                moved += 1
    assert moved == 24


def test_batches_are_the_same_when_they_are_begun_later(rng):
    dataset = painted(rng)
    every = list(box_batches(dataset, 2, seed=3, epoch=1))
    for (x, one), (again, other) in zip(every[1:], box_batches(dataset, 2, 3, 1, 1), strict=True):
        np.testing.assert_array_equal(x, again)
        np.testing.assert_array_equal(one[0].boxes, other[0].boxes)


def test_as_they_are(rng):
    dataset = painted(rng, 5)
    sizes = [len(x) for x, _ in box_batches(dataset, 2, augment=False)]
    assert sizes == [2, 2, 1]
    x, objects = next(box_batches(dataset, 5, augment=False))
    np.testing.assert_allclose(x, (dataset.images / 255 - 0.5) / 0.25, rtol=1e-6)
    assert objects == list(dataset.objects)


def test_what_leaves_the_picture_is_gone_and_a_picture_may_be_empty():
    one = Objects(np.array([[0.0, 0, 10, 10], [20, 20, 30, 30]]), np.array([1, 0]))
    left = one.moved(False, 8, 0, 32, 32)
    np.testing.assert_array_equal(left.boxes, [[20, 12, 30, 22]])
    np.testing.assert_array_equal(left.labels, [0])
    half = one.moved(False, 5, 0, 32, 32)
    np.testing.assert_array_equal(half.boxes[0], [0, 0, 10, 5])
    np.testing.assert_array_equal(half.areas, [50, 100])
    mirrored = one.moved(True, 0, 0, 32, 32)
    np.testing.assert_array_equal(mirrored.boxes, [[22, 0, 32, 10], [2, 20, 12, 30]])
    assert len(Objects(np.zeros((0, 4)), np.zeros(0, int)).moved(True, 3, 3, 32, 32)) == 0


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda d: Objects(np.array([[3.0, 0, 3, 2]]), np.array([0])), "empty or inverted"),
        (lambda d: Objects(np.array([[3.0, 0, 1, 2]]), np.array([0])), "empty or inverted"),
        (lambda d: Objects(np.array([[np.nan, 0, 1, 2]]), np.array([0])), "empty or inverted"),
        (lambda d: Objects(np.zeros((0, 4)), np.array([0])), "whole number to each"),
        (lambda d: Objects(np.ones((1, 4)) * [0, 0, 1, 1], np.array([0.5])), "whole number"),
        (lambda d: BoxDataset("d", d.images, d.objects[:1], ("a",), MEAN, STD), "objects of 1"),
        (lambda d: BoxDataset("d", d.images[:, :9], d.objects, ("a",), MEAN, STD), "reaches out"),
        (lambda d: BoxDataset("d", d.images, d.objects, (), MEAN, STD), "0 classes"),
        (lambda d: box_batches(d, 7), "batch_size=7"),
        (lambda d: box_batches(d, 0), "batch_size=0"),
    ],
)
def test_what_cannot_be_is_one_sentence(rng, call, words):
    with pytest.raises(TinyshuffleError, match=words):
        call(painted(rng))
