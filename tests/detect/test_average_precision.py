"""mAP, where it can be worked out by hand; tests/peers compares with COCO's own program."""

from __future__ import annotations

import numpy as np
import pytest

from tinyshuffle import TinyshuffleError
from tinyshuffle.data import BoxDataset, Objects
from tinyshuffle.detect.average_precision import average_precision

HALF = np.full(3, 0.5)


def dataset(*objects, classes=("a", "b"), scales=None):
    images = np.zeros((len(objects), 200, 200, 3), np.uint8)
    return BoxDataset("by hand", images, objects, classes, HALF, HALF, scales=scales)


def boxes(*corners):
    return np.array(corners, float).reshape(-1, 4)


def found(corners, labels, scores):
    return boxes(*corners), np.array(labels, int), np.array(scores, float)


ONE = Objects(boxes((0, 0, 40, 40), (100, 100, 150, 150)), np.array([0, 0]))
EXACT = [(0, 0, 40, 40), (100, 100, 150, 150)]


def test_all_found_and_nothing_else():
    numbers = average_precision(dataset(ONE), [found(EXACT, [0, 0], [0.9, 0.8])]).statistics
    for name in "map", "map50", "map_medium", "ar100":
        assert numbers[name] == pytest.approx(1)
    assert numbers["ar1"] == 0.5
    assert numbers["map_small"] == numbers["ar_large"] == -1  # there are none


def test_a_wrong_one_in_front_and_one_behind():
    """Right, wrong, right: precision 1 up to recall 0.5 (51 points), then 2/3 (50 points)."""
    three = [EXACT[0], (60, 60, 90, 90), EXACT[1]]
    scores = average_precision(dataset(ONE), [found(three, [0, 0, 0], [0.9, 0.8, 0.7])])
    assert scores.statistics["map"] == pytest.approx((51 + 50 * 2 / 3) / 101)
    assert scores.by_class.tolist() == [pytest.approx(scores.statistics["map"]), -1]
    other = average_precision(dataset(ONE), [found(three, [0, 1, 0], [0.9, 0.8, 0.7])])
    # now the wrong one is of a class that has no object
    assert other.statistics["map"] == pytest.approx(1)


def test_found_twice_is_wrong_once():
    twice = [EXACT[0], EXACT[0], EXACT[1]]
    numbers = average_precision(dataset(ONE), [found(twice, [0] * 3, [0.9, 0.8, 0.7])]).statistics
    assert numbers["map"] == pytest.approx((51 + 50 * 2 / 3) / 101)


def test_a_crowd_forgives():
    crowd = Objects(boxes((0, 0, 40, 40), (90, 90, 199, 199)), np.array([0, 0]), [False, True])
    inside = [EXACT[0], (100, 100, 120, 120), (130, 130, 150, 150)]
    numbers = average_precision(dataset(crowd), [found(inside, [0] * 3, [0.5, 0.9, 0.8])])
    assert numbers.statistics["map"] == pytest.approx(1)


def test_nothing_found_and_nothing_there():
    nothing = found([], [], [])
    assert average_precision(dataset(ONE), [nothing]).statistics["map"] == 0
    empty = Objects(boxes(), np.zeros(0, int))
    numbers = average_precision(dataset(empty), [nothing]).statistics
    assert set(numbers.values()) == {-1}
    assert average_precision(dataset(empty), [found(EXACT, [0, 0], [1, 1])]).statistics["map"] == -1
    assert average_precision(dataset(), []).statistics["map"] == -1


def test_areas_are_those_of_the_pictures_files():
    """40x40 pixels of a picture that was doubled are 20x20 in its file, which is small."""
    for scale, area in ((1.0, "map_medium"), (2.0, "map_small"), (0.25, "map_large")):
        one = Objects(boxes((0, 0, 40, 40)), np.array([0]))
        data = dataset(one, scales=[scale])
        numbers = average_precision(data, [found([(0, 0, 40, 40)], [0], [1])]).statistics
        assert numbers[area] == pytest.approx(1)


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ([], "0 pictures"),
        ([found(EXACT, [0], [1, 1])], "K of each"),
        ([found(EXACT, [0, 2], [1, 1])], "label 2"),
        ([(np.zeros((2, 3)), np.zeros(2, int), np.zeros(2))], "shape"),
    ],
)
def test_what_cannot_be_is_one_sentence(given, words):
    with pytest.raises(TinyshuffleError, match=words):
        average_precision(dataset(ONE), given)
