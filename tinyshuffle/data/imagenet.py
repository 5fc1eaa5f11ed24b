"""ImageNet's names, and what torchvision does to a picture before a net sees it."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from typing import Any

import numpy as np

from .batches import normalise
from .images import open_image

__all__ = ["MEAN", "STD", "Pipeline", "classes"]

MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
"""Of ImageNet's training images, as torchvision has them."""


@dataclass(frozen=True)
class Pipeline:
    """Scale the shorter side, cut out the middle, normalise: torchvision's for evaluation.

    Attributes
    ----------
    resize : int
        Of the shorter side, in pixels, with the triangle filter that Pillow calls bilinear.
    crop : int
        Side of the square in the middle.
    mean, std : three float
        In 0..1.

    >>> Pipeline()(np.zeros((300, 200, 3), np.uint8)).shape
    (224, 224, 3)
    """

    resize: int = 256
    crop: int = 224
    mean: tuple[float, ...] = MEAN
    std: tuple[float, ...] = STD

    def pixels(self, image: Any) -> np.ndarray:
        """Return a picture as uint8 (crop, crop, 3), before it is normalised.

        Parameters and errors as of :func:`tinyshuffle.data.images.open_image`.
        """
        from PIL import Image

        picture = open_image(image)
        width, height = picture.size
        short = min(width, height)
        # the other side is rounded down, and the crop's corner to the nearest, halves to even
        size = int(self.resize * width / short), int(self.resize * height / short)
        picture = picture.resize(size, Image.Resampling.BILINEAR)
        left, top = (round((side - self.crop) / 2) for side in size)
        return np.asarray(picture.crop((left, top, left + self.crop, top + self.crop)))

    def __call__(self, image: Any) -> np.ndarray:
        """Return a picture as float32 (crop, crop, 3), normalised."""
        return normalise(self.pixels(image), np.array(self.mean), np.array(self.std))

    def __str__(self) -> str:
        numbers = (", ".join(f"{x:.4g}" for x in values) for values in (self.mean, self.std))
        mean, std = numbers
        return (
            f"shorter side to {self.resize} pixels, the {self.crop}x{self.crop} in the middle, "
            f"mean {mean}, standard deviation {std}"
        )


@cache
def classes() -> tuple[str, ...]:
    """Return the names of ImageNet's 1,000 classes, in the order of the labels.

    >>> classes()[967], classes()[285]
    ('espresso', 'Egyptian cat')
    """
    text = files("tinyshuffle.data").joinpath("imagenet_classes.txt").read_text("utf-8")
    return tuple(text.splitlines())
