"""A photograph, and a tiny net that has been trained: what lessons 1 to 6 look at.

``docs/course/picture.py`` writes ``picture.npz``, in which both are.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from ..models.shufflenet_v1 import ShuffleNetV1

__all__ = ["net", "photograph", "tiny_net"]

FILE = Path(__file__).with_suffix(".npz")
CLASSES = 10
MIDDLE, SPREAD = 0.5, 0.25


def photograph() -> tuple[np.ndarray, np.ndarray]:
    """Return a photograph of a cat: to be looked at, and as :func:`tiny_net` takes it.

    Returns
    -------
    photo : uint8 (128, 128, 3)
        RGB. "Chelsea" by Stéfan van der Walt, dedicated to the public domain (CC0); scikit-image
        has it in colour and larger. Its middle is cut out and made smaller.
    x : float32 (1, 128, 128, 3)
        ``(photo / 255 - 0.5) / 0.25``.
    """
    with np.load(FILE) as file:
        photo = file["photograph"]
    return photo, ((photo[None] / 255 - MIDDLE) / SPREAD).astype(np.float32)


def net() -> ShuffleNetV1:
    """Return :func:`tiny_net` before its training: without weights."""
    return ShuffleNetV1(0.25, 3, CLASSES, stem="cifar", stage_repeats=(2, 2, 2))


def tiny_net() -> ShuffleNetV1:
    """Return a ShuffleNet V1 of 25,804 parameters after two epochs of CIFAR-10, in evaluation.

    Its first convolution has 12 filters of 3x3; the middle of its first units has 15 channels in
    3 groups. It was trained on images of 16x16 pixels, and names a third of the test images right.
    As nothing but its last layers looks at the whole image, it takes larger ones as well.

    Returns
    -------
    tinyshuffle.models.shufflenet_v1.ShuffleNetV1
        Its weights were stored as float16.
    """
    trained = net()
    with np.load(FILE) as file:
        trained.load_state_dict({
            name: file[name].astype(value.dtype) for name, value in trained.state_dict().items()
        })  # fmt: skip
    trained.eval()
    return trained
