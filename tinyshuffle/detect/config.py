"""What a training of a detector is: every number that its weights depend on."""

from __future__ import annotations

import dataclasses
import difflib
import functools
import math
import os
import typing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from .. import models
from ..data import BoxDataset, coco, scenes
from ..errors import TinyshuffleError
from ..files import expand
from ..parallel import get_num_threads
from ..text import shown
from ..values import read
from .detector import KINDS

__all__ = ["DetectConfig", "load_data"]

SCENES = "scenes"
LARGE = 160  # pixels: from here on the backbone has the stem for large pictures


@dataclass(frozen=True)
class DetectConfig:
    """The configuration of a run.

    Attributes
    ----------
    detector : {"faster", "light-head"}
    model : str
        Of the backbone.
    variant : dict
        What else the backbone takes, such as ``{"stage_channels": [32, 64, 128]}``.
    data : str
        ``scenes``, or a folder in COCO's layout (:func:`tinyshuffle.data.coco.find`).
    pictures : int
        Of scenes, to train with; a sixth as many are drawn for the test.
    side : int
        Of the pictures, in pixels.
    init : str
        A run of ``train``, or a file of weights, for the backbone; None: random weights.
    epochs, batch_size : int
    lr : float
        Highest learning rate, of SGD with Nesterov momentum 0.9. It rises over the first tenth of
        the run and falls to 0 in a straight line.
    weight_decay : float
    ema : float
        Decay, a step, of the running average of the weights that is tested and kept.
    seed : int
        Of the scenes, the weights, the order of the pictures, their augmentation and the choices.
    threads : int

    Raises
    ------
    TinyshuffleError
        Names the field, its value and what it may be.
    """

    detector: str = "faster"
    model: str = "shufflenet_v2_x0_5"
    variant: dict[str, Any] = field(default_factory=dict)
    data: str = SCENES
    pictures: int = 3000
    side: int = scenes.SIDE
    init: str | None = None
    epochs: int = 16
    batch_size: int = 16
    lr: float = 0.05
    weight_decay: float = 1e-4
    ema: float = 0.99
    seed: int = 0
    threads: int = field(default_factory=get_num_threads)

    @classmethod
    def from_dict(cls, fields: dict[str, Any]) -> DetectConfig:
        """Build one from JSON; an unknown field is an error."""
        known = [f.name for f in dataclasses.fields(cls)]
        for name in fields:
            if name not in known:
                near = difflib.get_close_matches(str(name), known, n=1)
                hint = f" (did you mean {near[0]}?)" if near else ""
                raise TinyshuffleError(
                    f"{shown(name)} is not a field of a detector's training{hint}: the fields are "
                    f"{', '.join(known)}"
                )
        return cls(**fields)

    def to_dict(self) -> dict[str, Any]:
        """Return the fields as JSON can hold them."""
        return dataclasses.asdict(self)

    @property
    def stem(self) -> str:
        """Which of the backbone's."""
        return "cifar" if self.side < LARGE else "imagenet"

    def __post_init__(self) -> None:
        for name, kind in _kinds().items():
            object.__setattr__(self, name, read(name, getattr(self, name), kind))

        def need(good: bool, name: str, wanted: str) -> None:
            if not good:
                raise TinyshuffleError(
                    f"{name}={shown(getattr(self, name))} was given: it must be {wanted}"
                )

        need(self.detector in KINDS, "detector", " or ".join(KINDS))
        if self.variant:
            typed = models.read_variant(self.model, self.variant)
            object.__setattr__(self, "variant", typed)
        if self.data != SCENES:
            path = os.path.abspath(expand(self.data, "data"))
            object.__setattr__(self, "data", path)
        if self.init is not None:
            object.__setattr__(self, "init", os.path.abspath(expand(self.init, "init")))
        need(
            scenes.SMALLEST <= self.side <= scenes.LARGEST, "side",
            f"{scenes.SMALLEST} to {scenes.LARGEST} pixels",
        )  # fmt: skip
        need(1 <= self.epochs <= 100_000, "epochs", "1 to 100,000")
        need(1 <= self.batch_size <= 4096, "batch_size", "1 to 4,096")
        need(self.batch_size <= self.pictures <= 10**6, "pictures", "a batch at least")
        need(0 < self.lr < math.inf, "lr", "above 0")
        need(0 <= self.weight_decay < math.inf, "weight_decay", "0 or more")
        need(0 <= self.ema < 1, "ema", "in [0, 1)")
        need(0 <= self.seed < 2**63, "seed", "0 or more, and less than 2**63")
        need(1 <= self.threads <= 4096, "threads", "1 to 4096")


@functools.cache
def _kinds() -> dict[str, Any]:
    return typing.get_type_hints(DetectConfig)


def load_data(config: DetectConfig) -> tuple[BoxDataset, BoxDataset]:
    """Return the training and the test set."""
    if config.data != SCENES:
        if not os.path.isdir(config.data):  # only here: what is trained finds objects without it
            raise TinyshuffleError(
                f"data={shown(config.data)} is not there: it must be scenes, or a folder in COCO's "
                "layout"
            )
        return coco.load(Path(config.data), config.side)
    return scenes.load(config.pictures, max(1, config.pictures // 6), config.seed, config.side)
