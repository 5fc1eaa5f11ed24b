"""Scenes: boxes that are exact, the same from a seed, and difficult in the ways that they say."""

from __future__ import annotations

import hashlib

import numpy as np
import pytest

from tinyshuffle import TinyshuffleError
from tinyshuffle.data import scenes

COUNT = 60


@pytest.fixture(scope="module")
def drawn():
    return scenes.draw(COUNT, 5)


def test_boxes_are_the_smallest_around_what_is_seen(drawn):
    images, objects, masks = drawn
    assert images.shape == (COUNT, 128, 128, 3) and images.dtype == np.uint8
    for one, mask in zip(objects, masks, strict=True):
        assert set(np.unique(mask)) - {0} == set(range(1, len(one) + 1))
        for k, (x1, y1, x2, y2) in enumerate(one.boxes.astype(int)):
            seen = mask == k + 1
            assert seen[y1:y2, x1:x2].sum() == seen.sum() == one.areas[k]
            inside = seen[y1:y2, x1:x2]
            assert all(line.any() for line in (inside[0], inside[-1], inside[:, 0], inside[:, -1]))


def test_an_object_is_seen_in_the_picture(drawn):
    """Its own pixels differ from those around its box more than those around do from each other."""
    images, objects, masks = drawn
    contrasts = []
    for image, one, mask in zip(images, objects, masks, strict=True):
        ground = np.median(image[mask == 0], axis=0)
        for k in range(len(one)):
            contrasts.append(abs(np.median(image[mask == k + 1], axis=0) - ground).max())
    assert np.median(contrasts) > 80 and np.mean(np.array(contrasts) > 25) > 0.9


def test_they_are_as_hard_as_they_say(drawn):
    _, objects, masks = drawn
    counts = np.array([len(one) for one in objects])
    assert counts.min() == 1 and counts.max() == 8
    boxes = np.concatenate([one.boxes for one in objects])
    sides = (boxes[:, 2:] - boxes[:, :2]).max(axis=1)
    assert sides.min() < 18 and sides.max() > 70  # 1 to 6
    at_edge = (boxes.min(axis=1) == 0) | (boxes.max(axis=1) == 128)
    assert 0.1 < at_edge.mean() < 0.5
    assert set(np.concatenate([one.labels for one in objects])) == set(range(10))


def test_a_picture_is_the_same_among_however_many(drawn):
    images, objects, masks = scenes.draw(3, 5)
    np.testing.assert_array_equal(images, drawn[0][:3])
    np.testing.assert_array_equal(masks, drawn[2][:3])
    np.testing.assert_array_equal(objects[2].boxes, drawn[1][2].boxes)
    others, _, _ = scenes.draw(3, 6)
    assert (others != images).any()


def test_the_bytes_of_a_seed():
    images, _, masks = scenes.draw(4, 0, side=64)
    found = hashlib.sha256(images.tobytes() + masks.tobytes()).hexdigest()
    assert found[:16] == "139226d2c25f6945"


def test_training_and_test_scenes_differ():
    train, test = scenes.load(2, 2, seed=1, side=32)
    assert (train.images != test.images).any()
    assert (train.mean == test.mean).all() and train.classes[0] == "disc"
    assert "2 pictures of 32x32" in repr(train)


@pytest.mark.parametrize("side", [31, 2000, "large", 40.5])
def test_sides_that_cannot_be(side):
    with pytest.raises(TinyshuffleError, match="from 32 to 1024"):
        scenes.draw(1, 0, side)
