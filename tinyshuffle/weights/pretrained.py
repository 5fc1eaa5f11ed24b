"""A net with somebody's weights, and what it takes to ask it about pictures."""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import Any

import numpy as np

from ..data import imagenet
from ..nn import Module
from .files import State, read_state
from .load import head_of, load_state
from .published import pipeline_of

__all__ = ["Pretrained", "pretrained"]


@dataclass(frozen=True)
class Pretrained:
    """A net in evaluation; :func:`pretrained` gives one.

    Attributes
    ----------
    net : Module
        ``net(x)`` gives logits of images that ``pipeline`` has made.
    classes : tuple of str
        ImageNet's if there are 1,000, else "class 0" and so on.
    pipeline : Pipeline
    """

    net: Module
    classes: tuple[str, ...]
    pipeline: imagenet.Pipeline

    def predict(self, image: Any, top: int = 5) -> list[tuple[str, float]]:
        """Return the likeliest classes of a picture and their probabilities, the best first.

        Parameters
        ----------
        image : path, Pillow image or array
        top : int
            How many classes, at most.

        Raises
        ------
        TinyshuffleError
            If the file is not an image.
        """
        (logits,) = self.net(self.pipeline(image)[None])
        powers = np.exp(logits - logits.max())
        p = powers / powers.sum()
        return [(self.classes[i], float(p[i])) for i in np.argsort(-p, kind="stable")[:top]]


def pretrained(model: str, path: str | os.PathLike[str]) -> Pretrained:
    """Build the net that a file of weights is for, with as many classes as the file has.

    Parameters
    ----------
    model : str
        One of :func:`tinyshuffle.models.list_models`.
    path : path
        See :func:`tinyshuffle.weights.read`.

    Raises
    ------
    TinyshuffleError
        If the file cannot be read, or is another net's.
    """
    from ..models import create

    state = read_state(path)
    count = _classes(model, state)
    variant: dict[str, Any] = {"authors": True} if state.authors else {}
    net = create(model, num_classes=count, **variant)
    load_state(net, state, str(path))
    names = imagenet.classes()
    if count != len(names):
        names = tuple(f"class {i}" for i in range(count))
    return Pretrained(net.eval(), names, pipeline_of(path, model, state.authors))


def _classes(model: str, state: State) -> int:
    """How many classes the file's last layer has; ImageNet's if the file is of another net."""
    from ..models import create

    weight = state.arrays.get(f"{head_of(create(model))}.weight")
    return 1000 if weight is None else weight.shape[-1]
