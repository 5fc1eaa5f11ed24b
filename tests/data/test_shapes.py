import itertools
import zlib

import numpy as np
import pytest

from tinyshuffle.data import load, shapes


def draw(count, *seed):
    return shapes.draw(count, np.random.default_rng(seed))


def test_same_seed_same_bits():
    images, labels = draw(100, 1, 2)
    again, same_labels = draw(100, 1, 2)
    assert (images == again).all() and (labels == same_labels).all()
    others, _ = draw(100, 1, 3)
    assert (images != others).mean() > 0.9


def test_the_pixels_are_the_published_ones():
    # The accuracies in the documentation are for these images, on any platform.
    images, labels = draw(100, 0, 1)
    assert zlib.crc32(labels.astype("<i8").tobytes()) == 1198484609
    assert zlib.crc32(images.tobytes()) == 3264190913


@pytest.mark.parametrize("count", [1, 10, 23, 250])
def test_classes_are_balanced_and_shuffled(count):
    images, labels = draw(count, 0)
    assert images.shape == (count, 32, 32, 3) and images.dtype == np.uint8
    assert labels.shape == (count,) and labels.dtype == np.int64
    counts = np.bincount(labels, minlength=10)
    assert len(counts) == 10 and counts.max() - counts.min() <= 1
    assert count < 10 or (np.diff(labels) < 0).any()


def test_load():
    train, test = load("shapes")
    assert len(train) == 8000 and len(test) == 2000
    assert (np.bincount(train.labels) == 800).all() and (np.bincount(test.labels) == 200).all()
    assert train.classes == test.classes == shapes.CLASSES and len(set(train.classes)) == 10
    np.testing.assert_allclose(train.mean, train.images.mean((0, 1, 2)) / 255, rtol=1e-5)
    np.testing.assert_allclose(train.std, train.images.std((0, 1, 2)) / 255, rtol=1e-5)
    assert (test.mean == train.mean).all() and (test.std == train.std).all()


def test_the_test_images_are_not_the_training_images():
    train, test = shapes.load(50, 50)
    assert not {image.tobytes() for image in train.images} & {i.tobytes() for i in test.images}


def silhouette(shape, size=161):
    axis = np.linspace(-1.5, 1.5, size)
    return shapes.SHAPES[shape](*np.meshgrid(axis, axis))


@pytest.mark.parametrize("shape", shapes.CLASSES)
def test_a_shape_is_a_distance(shape):
    distance = silhouette(shape)
    step = 3 / 160
    # No steeper than 1 in any direction, so that clipping it over a pixel smooths the edge.
    for i, j, length in ((1, 0, 1), (0, 1, 1), (1, 1, 2**0.5)):
        rise = abs(distance[i:, j:] - distance[: len(distance) - i, : len(distance) - j])
        assert rise.max() < 1.001 * step * length
    assert np.median(np.hypot(*np.gradient(distance, step))) > 0.95
    x, y = np.nonzero(distance < 0)
    assert 0.6 < len(x) * step**2 < 2.6
    assert np.hypot(x - 80, y - 80).max() * step < 1.2  # the radius is 1 or so


@pytest.mark.parametrize("shape", shapes.CLASSES)
def test_a_mirrored_shape_is_of_its_class(shape):
    distance = silhouette(shape)
    # Upright, or like the crescent on its side: then both sides are drawn.
    assert any(np.allclose(distance, mirror) for mirror in (distance[:, ::-1], distance[::-1]))


def test_half_of_the_frames_are_mirrored():
    radius = np.ones((1000, 1, 1), np.float32)
    x, y = shapes._frame(np.random.default_rng(0), radius, 3.0, np.pi / 4)
    right = np.stack([x[:, 0, 1] - x[:, 0, 0], y[:, 0, 1] - y[:, 0, 0]])
    down = np.stack([x[:, 1, 0] - x[:, 0, 0], y[:, 1, 0] - y[:, 0, 0]])
    turn = right[0] * down[1] - right[1] * down[0]
    np.testing.assert_allclose(abs(turn), 1, rtol=1e-3)  # stretched, but of the same area
    assert abs((turn < 0).mean() - 0.5) < 0.06
    assert (down[1] > 0.5).all()  # and upright: turned by 45 degrees at most


def test_no_two_shapes_are_alike():
    masks = [silhouette(shape) < 0 for shape in shapes.CLASSES]
    for a, b in itertools.combinations(masks, 2):
        assert (a ^ b).sum() > 0.15 * (a | b).sum()


def test_a_linear_classifier_fails():
    train, labels = draw(1500, 5)
    test, test_labels = draw(500, 6)
    mean, std = train.mean((0, 1, 2)), train.std((0, 1, 2))
    x, y = (
        ((images - mean) / std).reshape(len(images), -1).astype(np.float32)
        for images in (train, test)
    )
    targets = np.eye(10)[labels] - 0.1
    gram, cross = x @ x.T, y @ x.T  # ridge regression, in its dual form
    best = 0.0
    for ridge in (1e4, 1e5):
        scores = cross @ np.linalg.solve(gram + ridge * np.eye(len(x)), targets)
        best = max(best, (scores.argmax(1) == test_labels).mean())
    assert best < 0.25  # 0.14 with all 8,000 images; chance is 0.1
