"""Scenes: pictures of several shapes, with the exact box of each, drawn from a seed.

A scene shows 1 to 8 of the ten shapes of :mod:`tinyshuffle.data.shapes`, of radii from a
sixteenth to a third of its side (1 to 6), turned by up to 45 degrees either way: over one another,
cut off by the picture's edges, in front of bars and sometimes behind one, unevenly lit and noisy.
Small ones are more frequent, as in COCO.

An object's mask is what is seen of it, the pixels whose centres lie in it and in nothing that
stands in front; its box is the smallest around the mask, and its area the mask's. A shape of which
less than two fifths would be seen is not put there, and none is hidden that much by another: so
whatever can be seen has a box.

As of ``shapes``, the arithmetic is one that IEEE 754 rounds the same way everywhere, so a seed
gives the same bytes on every platform; and each picture is drawn from numbers of its own, so that
it is the same among however many.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from ..errors import TinyshuffleError
from ..text import bar, console
from ..values import flags, whole
from .boxes import BoxDataset, Objects
from .dataset import channel_statistics
from .shapes import CLASSES, SHAPES, colour, cover, wave

__all__ = ["SIDE", "draw", "load"]

SIDE = 128
SMALLEST, LARGEST = 32, 1024  # sides that can be asked for
MOST = 8  # objects in a scene
RADII = 0.06, 0.36  # of the smallest and the largest object, for a side of 1
SEEN = 0.4  # of an object, at least
TRIES = 20  # to find a place for one

Pixels = np.ndarray  # (h, w) or (h, w, 3), float32


@dataclass
class _Scene:
    """A picture while it is painted, and which object is seen where."""

    picture: Pixels
    mask: np.ndarray  # uint8 (side, side): 0, or number of the object
    labels: list[int]
    whole: list[int]  # pixels that each object has by itself


def _number(rng: np.random.Generator, low: float, high: float) -> Any:
    """One number, float32."""
    return np.float32(low + (high - low) * rng.random())


def _frame(
    rng: np.random.Generator, x: np.ndarray, y: np.ndarray, turn: float
) -> tuple[np.ndarray, np.ndarray]:
    """Turn, mirror and slightly stretch the coordinates of pixels."""
    angle = rng.random() * (2 * turn) - turn
    cos, sin = np.float32(np.cos(angle)), np.float32(np.sin(angle))
    stretch, side = _number(rng, 0.88, 1.14), np.sign(_number(rng, -1, 1))
    return (cos * x + sin * y) * (stretch * side), (cos * y - sin * x) / stretch


def _texture(
    rng: np.random.Generator, rows: np.ndarray, columns: np.ndarray, unit: float
) -> Pixels:
    """A pattern in 0..1, some pixels wide: plain, gradient, stripes, checks or speckle."""
    scale = np.float32(unit) * _number(rng, 0.12, 0.28)
    x, y = _frame(rng, (columns - columns[0, 0]) / scale, (rows - rows[0, 0]) / scale, np.pi)
    kind = rng.integers(5)
    if kind == 0:
        return np.zeros_like(x)
    if kind == 1:
        return np.clip(x * np.float32(0.2) + np.float32(0.5), 0, 1)
    if kind == 2:
        return wave(x)
    if kind == 3:
        return abs(wave(x) - wave(y))
    h, w = x.shape
    coarse = rng.random((h // 2 + 1, w // 2 + 1), np.float32)
    return coarse.repeat(2, 0).repeat(2, 1)[:h, :w]


def _hsv(hue: float, saturation: float, value: float) -> Pixels:
    """One colour, (3,)."""
    single = (np.full((1, 1, 1), v, np.float32) for v in (hue, saturation, value))
    return colour(*single).reshape(3).astype(np.float32)


def _paint(
    rng: np.random.Generator, rows: np.ndarray, columns: np.ndarray, hue: float, value: float,
    unit: float,
) -> Pixels:  # fmt: skip
    """Texture between two shades of a hue, (h, w, 3)."""
    saturation = _number(rng, 0.25, 0.9)
    shade = _hsv(hue, saturation, value)
    other = _hsv(hue + _number(rng, -0.06, 0.06), saturation, value * _number(rng, 0.7, 0.9))
    return shade + (other - shade) * _texture(rng, rows, columns, unit)[..., None]


def _bar(rng: np.random.Generator, axis: np.ndarray, width: float) -> Pixels:
    """How much of each pixel a bar across the picture covers."""
    reach = axis[-1] * np.float32(1.6)
    x, _ = _frame(rng, axis - reach * _number(rng, -0.5, 0.5), axis[:, None], np.pi)
    return cover(abs(x) - np.float32(width), 1.0)


def _place(scene: _Scene, rng: np.random.Generator, hue: float, side: int) -> None:
    """Put one object into the scene, if a place is found for it."""
    small, large = RADII
    label = int(rng.integers(len(CLASSES)))
    for _ in range(TRIES):
        radius = np.float32(side * (small + (large - small) * np.square(rng.random())))
        centre = np.array([_number(rng, -0.05, 1.05), _number(rng, -0.05, 1.05)]) * side
        # the window in which all of the shape lies; it may stick out of the picture
        reach = int(1.3 * radius) + 2
        top, left = (int(np.floor(c)) - reach for c in centre)
        rows = np.arange(top, top + 2 * reach + 1, dtype=np.float32)[:, None] + np.float32(0.5)
        columns = np.arange(left, left + 2 * reach + 1, dtype=np.float32)[None] + np.float32(0.5)
        x, y = (columns - centre[1].astype(np.float32)), (rows - centre[0].astype(np.float32))
        x, y = _frame(rng, x / radius, y / radius, np.pi / 4)
        distance = SHAPES[CLASSES[label]](x, y).astype(np.float32)
        inside = distance < 0
        there = slice(max(0, -top), max(0, side - top)), slice(max(0, -left), max(0, side - left))
        window = (
            slice(max(0, top), max(0, top + 2 * reach + 1)),
            slice(max(0, left), max(0, left + 2 * reach + 1)),
        )
        seen = inside[there]
        if seen.size == 0 or seen.sum() < SEEN * inside.sum():
            continue
        mask = scene.mask.copy()
        mask[window][seen] = len(scene.labels) + 1
        left_over = np.bincount(mask.ravel(), minlength=len(scene.labels) + 2)[1:-1]
        if (left_over < SEEN * np.array(scene.whole, float)).any():
            continue
        scene.mask = mask
        scene.labels.append(label)
        scene.whole.append(int(inside.sum()))
        part = cover(distance, radius)[there][..., None]
        # bright on dark or dark on bright, as far as the ground is concerned
        bright = (scene.picture[window] > 0.45).mean() > 0.5
        value = _number(rng, 0.15, 0.45) if bright else _number(rng, 0.75, 1)
        h, w = seen.shape
        grid = np.arange(h, dtype=np.float32)[:, None], np.arange(w, dtype=np.float32)[None]
        figure = _paint(rng, *grid, hue + _number(rng, 0.15, 0.85), value, 2 * radius)
        scene.picture[window] += (figure - scene.picture[window]) * part
        return


def _scene(rng: np.random.Generator, side: int) -> tuple[np.ndarray, np.ndarray, list[int]]:
    """One picture, uint8 (side, side, 3), its mask and the labels of its objects."""
    axis = np.arange(side, dtype=np.float32) - np.float32((side - 1) / 2)
    hue = _number(rng, 0, 1)
    bright = rng.random() < 0.5
    ground = _number(rng, 0.75, 1) if bright else _number(rng, 0.15, 0.45)
    picture = _paint(rng, axis[:, None], axis[None], hue, ground, side)
    for _ in range(rng.integers(0, 4)):
        stripe = _bar(rng, axis, side * _number(rng, 0.005, 0.04))[..., None]
        shade = _hsv(hue + _number(rng, 0.15, 0.85), _number(rng, 0.25, 0.9), _number(rng, 0.2, 1))
        picture += (shade - picture) * stripe
    scene = _Scene(picture, np.zeros((side, side), np.uint8), [], [])
    for _ in range(rng.integers(1, MOST + 1)):
        _place(scene, rng, hue, side)
    while not scene.labels:
        _place(scene, rng, hue, side)
    if rng.random() < 0.5:
        stripe = _bar(rng, axis, side * _number(rng, 0.004, 0.012))
        mask = np.where(stripe > 0.5, 0, scene.mask).astype(np.uint8)
        seen = np.bincount(mask.ravel(), minlength=len(scene.labels) + 1)[1:]
        if (seen >= SEEN * np.array(scene.whole, float)).all():
            scene.mask = mask
            shade = _hsv(hue + _number(rng, 0.15, 0.85), _number(rng, 0.25, 0.9),
                         _number(rng, 0.2, 1))  # fmt: skip
            scene.picture += (shade - scene.picture) * stripe[..., None]
    light, _ = _frame(rng, axis / np.float32(side / 2), axis[:, None] / np.float32(side / 2), np.pi)
    picture = scene.picture * (1 - _number(rng, 0, 0.25) * (light + 1))[..., None]
    noise = rng.random(picture.shape, np.float32) + rng.random(picture.shape, np.float32) - 1
    picture += noise * _number(rng, 0, 0.15)
    return (np.clip(picture, 0, 1) * 255 + 0.5).astype(np.uint8), scene.mask, scene.labels


def draw(
    count: int, seed: int | list[int] = 0, side: int = SIDE
) -> tuple[np.ndarray, list[Objects], np.ndarray]:
    """Draw scenes.

    Parameters
    ----------
    count : int
    seed : int or list of int
    side : int
        Of the pictures, in pixels, from 32 to 1024.

    Returns
    -------
    images : uint8 (count, side, side, 3)
    objects : list of Objects
    masks : uint8 (count, side, side)

    >>> images, objects, masks = draw(2, seed=3, side=64)
    >>> images.shape, len(objects[0]) == int(masks[0].max())
    ((2, 64, 64, 3), True)
    """
    sides = whole(side)
    if sides is None or not SMALLEST <= sides <= LARGEST:
        raise TinyshuffleError(
            f"side={side!r} is not possible: give a whole number of pixels from {SMALLEST} to "
            f"{LARGEST}"
        )
    images = np.empty((count, sides, sides, 3), np.uint8)
    masks = np.empty((count, sides, sides), np.uint8)
    objects = []
    numbers = seed if isinstance(seed, list) else [seed]
    with bar(console(stderr=True)) as shown:
        for i in shown.track(range(count), description="drawing scenes"):
            images[i], masks[i], labels = _scene(np.random.default_rng([*numbers, i, 1]), sides)
            boxes, areas = boxes_of(masks[i], len(labels))
            objects.append(Objects(boxes, np.array(labels, np.int64), areas=areas))
    return images, objects, masks


def boxes_of(mask: np.ndarray, count: int) -> tuple[np.ndarray, np.ndarray]:
    """Return the smallest box around each of the objects 1 to ``count``, and their pixels."""
    boxes, areas = np.empty((count, 4), np.float32), np.empty(count)
    for k in range(count):
        rows, columns = np.nonzero(mask == k + 1)
        boxes[k] = columns.min(), rows.min(), columns.max() + 1, rows.max() + 1
        areas[k] = len(rows)
    return boxes, areas


@flags
def load(
    train: int = 3000, test: int = 500, seed: int = 0, side: int = SIDE
) -> tuple[BoxDataset, BoxDataset]:
    """Return the training and the test set: so many scenes, drawn from ``seed``."""
    images, objects, masks = draw(train, [seed, 1], side)
    mean, std = channel_statistics(images)
    test_images, test_objects, test_masks = draw(test, [seed, 2], side)
    return (
        BoxDataset("scenes", images, objects, CLASSES, mean, std, masks=masks),
        BoxDataset("scenes", test_images, test_objects, CLASSES, mean, std, masks=test_masks),
    )
