"""A trained net, ready for pictures."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from .. import data, nn
from ..checkpoint import load as load_checkpoint
from ..data.images import read_image
from .config import Config
from .evaluation import softmax
from .verify import best_checkpoint, build, verify

if TYPE_CHECKING:
    from PIL.Image import Image

__all__ = ["Trained", "load_run", "read_image"]

@dataclass(frozen=True)
class Trained:
    """A trained net and what it takes to ask it about pictures; :func:`tinyshuffle.load` gives one.

    Attributes
    ----------
    net : Module
        In evaluation mode; ``net(x)`` gives logits of normalised images.
    classes : tuple of str
    mean, std : float32 (3,)
        Of the training images, which normalise others.
    size : int
        Side of the images that it was made for, in pixels.
    config : Config
        How it was trained.
    """

    net: nn.Module
    classes: tuple[str, ...]
    mean: np.ndarray
    std: np.ndarray
    size: int
    config: Config

    def probabilities(self, images: np.ndarray) -> np.ndarray:
        """Return the probability of each class, (N, classes).

        Parameters
        ----------
        images : uint8 (N, H, W, 3)
            RGB. Those of another size than ``size`` are taken as they are, as the net is fully
            convolutional, but it has not seen such.
        """
        return softmax(self.net(data.normalise(images, self.mean, self.std)))

    def predict(
        self, image: str | os.PathLike[str] | Image | np.ndarray, top: int = 5
    ) -> list[tuple[str, float]]:
        """Return the likeliest classes of a picture and their probabilities, the best first.

        Parameters
        ----------
        image : path, Pillow image or array
            See :func:`read_image`.
        top : int
            How many classes, at most.

        Raises
        ------
        TinyshuffleError
            If the file is not an image.
        """
        (p,) = self.probabilities(read_image(image, self.size)[None])
        return [(self.classes[i], float(p[i])) for i in np.argsort(-p, kind="stable")[:top]]


def load_run(run: str | os.PathLike[str]) -> Trained:
    """Load the net of a run, with its best weights.

    Parameters
    ----------
    run : path
        A run directory, or a checkpoint in it.

    Raises
    ------
    TinyshuffleError
        If there is no checkpoint there that can be read.
    """
    path = Path(run)
    saved = best_checkpoint(path)[0] if path.is_dir() else load_checkpoint(path, verify)
    config = Config.from_dict(saved.header["config"])
    facts: dict[str, Any] = saved.header["data"]
    net = build(config, len(facts["classes"]))
    net.load_state_dict(saved.best)
    mean, std = (np.asarray(facts[name], np.float32) for name in ("mean", "std"))
    return Trained(net.eval(), tuple(facts["classes"]), mean, std, facts["size"], config)
