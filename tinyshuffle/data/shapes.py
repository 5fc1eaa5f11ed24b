"""Shapes: a built-in set of 32x32 RGB images in ten classes, drawn from a seed.

An image shows one large shape, the label, in random place, size, colour and texture, turned by up
to 45 degrees either way and slightly stretched, on a textured ground of another colour, with two
small shapes of any class that are there to mislead, often behind a bar, unevenly lit and noisy.
Every class is its own mirror image, so mirroring does not change a label.

How hard it is: no pixel says much, so the best linear classifier gets 14 % of the 2,000 test images
right. ShuffleNet V2 0.5x with the CIFAR stem gets 98 % after eight epochs of the 8,000 training
images (SGD, one-cycle learning rate up to 0.1, batch 128, label smoothing 0.1, crop and mirror).

A shape is a function of the plane that is negative inside and positive outside and grows about as
fast as the distance to the edge (a *signed distance field*). Clipping it over one pixel gives an
edge without jaggies, ``min`` joins two shapes, ``max`` intersects them, and a change of
coordinates moves, turns and scales. All of it works on a whole batch of images at once.

Pixels are computed with ``+ - * / sqrt floor abs min max`` only, which IEEE 754 rounds the same way
everywhere, and each is rounded to one byte at the end: a seed gives the same bytes on every
platform. (The sine and cosine, which are not so fixed, are taken once an image in float64 and
rounded to float32.)
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from tinyshuffle.data.dataset import Dataset, channel_statistics

Field = np.ndarray  # (N, 32, 32) float32, or anything that broadcasts to it

SIZE = 32
AXIS = np.arange(SIZE, dtype=np.float32) - np.float32((SIZE - 1) / 2)


# The ten shapes: signed distance from (x, y), where 1 is the shape's radius.


def _disc(x: Field, y: Field) -> Field:
    return np.sqrt(x * x + y * y) - 0.85


def _ring(x: Field, y: Field) -> Field:
    return abs(np.sqrt(x * x + y * y) - 0.75) - 0.2


def _square(x: Field, y: Field) -> Field:
    return np.maximum(abs(x), abs(y)) - 0.75


def _triangle(x: Field, y: Field) -> Field:
    return np.maximum(abs(x) * 0.8660254 - y * 0.5, y) - 0.52


def _fold_five(x: Field, y: Field) -> tuple[Field, Field]:
    """Mirror the plane into one tenth of it, about the ray x = 0, y > 0: fivefold symmetry."""
    kx, ky = 0.809017, -0.58778525  # the direction of -36 degrees
    x = abs(x)
    t = 2 * np.maximum(x * kx + y * ky, 0)
    x, y = x - t * kx, y - t * ky
    t = 2 * np.maximum(y * ky - x * kx, 0)
    return abs(x + t * kx), y - t * ky


def _star(x: Field, y: Field) -> Field:
    x, y = _fold_five(x, y)
    return x * 0.8910065 + (y - 1.1) * 0.4539905  # the edge of a tip, 27 degrees steep


def _flower(x: Field, y: Field) -> Field:
    fx, fy = _fold_five(x, y)
    petal = np.sqrt(fx * fx + (fy - 0.65) * (fy - 0.65)) - 0.38
    return np.minimum(petal, np.sqrt(x * x + y * y) - 0.5)


def _cross(x: Field, y: Field) -> Field:
    x, y = abs(x), abs(y)
    return np.maximum(np.maximum(x, y) - 0.95, np.minimum(x, y) - 0.28)


def _crescent(x: Field, y: Field) -> Field:
    far = x - 0.5
    return np.maximum(np.sqrt(x * x + y * y) - 0.95, 0.75 - np.sqrt(far * far + y * y))


def _heart(x: Field, y: Field) -> Field:
    x = abs(x)  # two discs and, under them, the wedge between their tangents from the tip
    lobe = np.sqrt((x - 0.45) * (x - 0.45) + (y + 0.4) * (y + 0.4)) - 0.5
    return np.minimum(lobe, np.maximum(x * 0.7772 + y * 0.6294 - 0.598, -0.3 - y))


def _arrow(x: Field, y: Field) -> Field:
    x = abs(x)
    head = np.maximum((x - y) * 0.70710678 - 0.70, y + 0.1)
    shaft = np.maximum(x - 0.24, abs(y - 0.4) - 0.6)
    return np.minimum(head, shaft)


SHAPES: dict[str, Callable[[Field, Field], Field]] = {
    "disc": _disc,
    "ring": _ring,
    "square": _square,
    "triangle": _triangle,
    "star": _star,
    "flower": _flower,
    "cross": _cross,
    "crescent": _crescent,
    "heart": _heart,
    "arrow": _arrow,
}
CLASSES = tuple(SHAPES)


# Painting. Everything below holds a batch: fields are (N, 32, 32), numbers for each image
# (N, 1, 1), colours and the picture itself (3, N, ...).


def _uniform(rng: np.random.Generator, n: int, low: float, high: float) -> np.ndarray:
    """One number an image, float32 (N, 1, 1)."""
    return (low + (high - low) * rng.random((n, 1, 1))).astype(np.float32)


def _frame(
    rng: np.random.Generator,
    radius: np.ndarray,
    reach: np.ndarray | float,
    turn: float = np.pi,
) -> tuple[Field, Field]:
    """Where each pixel lies in a frame of its own for each image.

    The frame's unit is `radius` pixels, its origin at most `reach` pixels from the middle in x and
    in y, and it is turned by at most `turn`, mirrored or not, and slightly stretched.
    """
    n = len(radius)
    angle = rng.random((n, 1, 1)) * (2 * turn) - turn
    cos, sin = np.cos(angle).astype(np.float32), np.sin(angle).astype(np.float32)
    x = (AXIS - reach * _uniform(rng, n, -1, 1)) / radius
    y = (AXIS[:, None] - reach * _uniform(rng, n, -1, 1)) / radius
    stretch = _uniform(rng, n, 0.88, 1.14)
    side = np.sign(_uniform(rng, n, -1, 1))
    return (cos * x + sin * y) * (stretch * side), (cos * y - sin * x) / stretch


def cover(distance: Field, radius: np.ndarray | float) -> Field:
    """How much of each pixel a shape covers, 0..1."""
    return np.clip(0.5 - distance * radius, 0, 1)


def wave(x: Field) -> Field:
    """0 and 1 in turn, one period a unit, with short ramps between."""
    return np.clip(abs(x - np.floor(x) - 0.5) * 6 - 1, 0, 1)


def _texture(rng: np.random.Generator, n: int) -> Field:
    """A pattern in 0..1 for each image: plain, gradient, stripes, checks or speckle."""
    x, y = _frame(rng, _uniform(rng, n, 4, 9), 4.0)
    t = np.zeros((n, SIZE, SIZE), np.float32)
    _, gradient, stripes, checks, speckle = _split(rng, n, 5)
    t[gradient] = np.clip(x[gradient] * 0.2 + 0.5, 0, 1)
    t[stripes] = wave(x[stripes])
    t[checks] = abs(wave(x[checks]) - wave(y[checks]))
    t[speckle] = rng.random((len(speckle), SIZE // 2, SIZE // 2)).repeat(2, 1).repeat(2, 2)
    return t


def _split(rng: np.random.Generator, n: int, parts: int) -> list[np.ndarray]:
    """The numbers 0 to n - 1, shuffled and dealt to `parts`."""
    return np.array_split(rng.permutation(n), parts)


def colour(hue: np.ndarray, saturation: np.ndarray, value: np.ndarray) -> np.ndarray:
    """HSV, with the hue in turns, to RGB: (N, 1, 1) each to (3, N, 1, 1)."""
    hue = hue + np.array([0, 2 / 3, 1 / 3], np.float32).reshape(3, 1, 1, 1)
    ramp = np.clip(abs((hue - np.floor(hue)) * 6 - 3) - 1, 0, 1)
    return value * (1 - saturation * (1 - ramp))


def _paint(rng: np.random.Generator, hue: np.ndarray, value: np.ndarray) -> np.ndarray:
    """Texture between two shades of a hue, (3, N, 32, 32)."""
    n = len(hue)
    saturation = _uniform(rng, n, 0.25, 0.9)
    shade = colour(hue, saturation, value)
    hue = hue + _uniform(rng, n, -0.06, 0.06)
    other = colour(hue, saturation, value * _uniform(rng, n, 0.7, 0.9))
    return shade + (other - shade) * _texture(rng, n)


def _pictures(shape: int, n: int, rng: np.random.Generator) -> np.ndarray:
    """n pictures of one class, uint8 (N, 32, 32, 3)."""
    families = list(SHAPES.values())
    hue = _uniform(rng, n, 0, 1)  # the ground's; everything else keeps its distance from it

    def another_hue() -> np.ndarray:
        return hue + _uniform(rng, n, 0.15, 0.85)

    def any_colour() -> np.ndarray:
        return colour(another_hue(), _uniform(rng, n, 0.25, 0.9), _uniform(rng, n, 0.2, 1))

    # Ground and shape differ in brightness too, either way round.
    swap = rng.random((n, 1, 1)) < 0.5
    dark, light = _uniform(rng, n, 0.15, 0.4), _uniform(rng, n, 0.8, 1)
    picture = _paint(rng, hue, np.where(swap, light, dark))

    for _ in range(2):  # small shapes, of every class alike: they say nothing about the label
        radius = _uniform(rng, n, 1.5, 3.5)
        x, y = _frame(rng, radius, 15.0)
        distance = np.empty_like(x)
        for family, i in zip(families, _split(rng, n, len(families)), strict=True):
            distance[i] = family(x[i], y[i])
        picture += (any_colour() - picture) * cover(distance, radius)

    radius = _uniform(rng, n, 9, 13)
    distance = families[shape](*_frame(rng, radius, 16.5 - radius, np.pi / 4))
    figure = _paint(rng, another_hue(), np.where(swap, dark, light))
    picture += (figure - picture) * cover(distance, radius)

    x, _ = _frame(rng, np.ones((n, 1, 1), np.float32), 10.0)
    bar = cover(abs(x) - _uniform(rng, n, -2, 1), 1.0)  # half its width: some have no bar
    picture += (any_colour() - picture) * bar

    x, _ = _frame(rng, np.full((n, 1, 1), SIZE / 2, np.float32), 4.0)
    picture *= 1 - _uniform(rng, n, 0, 0.25) * (x + 1)  # light from one side
    noise = rng.random(picture.shape, np.float32) + rng.random(picture.shape, np.float32) - 1
    picture += noise * _uniform(rng, n, 0, 0.15)
    return (np.clip(picture, 0, 1) * 255 + 0.5).astype(np.uint8).transpose(1, 2, 3, 0)


def draw(count: int, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Draw images, as nearly as many of each class as `count` allows, in random order.

    Parameters
    ----------
    count : int
    rng : numpy.random.Generator

    Returns
    -------
    images : uint8 (count, 32, 32, 3)
    labels : int64 (count,)

    >>> images, labels = draw(20, np.random.default_rng(0))
    >>> np.bincount(labels)
    array([2, 2, 2, 2, 2, 2, 2, 2, 2, 2])
    """
    labels = rng.permutation(count) % len(SHAPES)
    images = np.empty((count, SIZE, SIZE, 3), np.uint8)
    for label in range(len(SHAPES)):
        members = np.flatnonzero(labels == label)
        for block in np.array_split(members, len(members) // 200 + 1):  # small enough for a cache
            images[block] = _pictures(label, len(block), rng)
    return images, labels.astype(np.int64)


def load(train: int = 8000, test: int = 2000, seed: int = 0) -> tuple[Dataset, Dataset]:
    """The training set and the test set: `train` and `test` images drawn from `seed`."""
    images, labels = draw(train, np.random.default_rng([seed, 1]))
    mean, std = channel_statistics(images)
    test_images, test_labels = draw(test, np.random.default_rng([seed, 2]))
    return (
        Dataset("shapes", images, labels, CLASSES, mean, std),
        Dataset("shapes", test_images, test_labels, CLASSES, mean, std),
    )
