"""Detectors from checkpoints: built, checked, and ready for pictures."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from .. import checkpoint
from ..checkpoint import Checkpoint
from ..data import BoxDataset, coco, normalise
from ..data.images import open_image
from ..errors import TinyshuffleError
from .config import DetectConfig
from .detector import Detector

__all__ = ["TrainedDetector", "best_checkpoint", "build", "check_data", "load_detector", "verify"]


def build(config: DetectConfig, num_classes: int) -> Detector:
    """Return the detector of a configuration, with its first weights."""
    return Detector(
        config.detector, config.model, num_classes, config.side, config.stem, config.seed,
        **config.variant,
    )  # fmt: skip


def verify(saved: Checkpoint) -> str:
    """Say why a checkpoint cannot be used, or nothing."""
    header = saved.header
    try:
        if "detector" not in header["config"]:
            return "it is no detector's, but one of `train`"
        config = DetectConfig.from_dict(header["config"])
        facts = header["data"]
        numbers = np.array([facts["mean"], facts["std"]], float)
        if numbers.shape != (2, 3) or not np.isfinite(numbers).all() or numbers[1].min() <= 0:
            return "the mean or the deviation of its pictures are none"
        if not 0 <= header["epoch"] <= config.epochs or header["step"] < 0:
            return f"it stands in epoch {header['epoch']} of {config.epochs}"
        if len(header["rows"]) != header["epoch"]:
            return f"it has {len(header['rows'])} rows of the log after {header['epoch']} epochs"
        for arrays in (saved.net, saved.optim, saved.average):
            for name, array in arrays.items():
                if array.dtype.kind not in "fiu" or not np.isfinite(array).all():
                    return f"{name} has numbers that are none"
        net = build(config, len(facts["classes"]))
        net.load_state_dict(saved.net)
        net.load_state_dict(saved.best)
    except TinyshuffleError as error:
        return str(error)
    except (KeyError, TypeError, ValueError) as error:
        return f"its header lacks or mistakes {error}"
    return ""


def check_data(saved: Checkpoint, found: BoxDataset, run: Path) -> None:
    """Refuse to go on with other pictures than those that a run began with."""
    facts = saved.header["data"]
    same = list(facts["classes"]) == list(found.classes) and facts["pictures"] == len(found)
    if not same or not np.allclose(facts["mean"], found.mean, rtol=0, atol=1e-6):
        raise TinyshuffleError(
            f"{run} was trained on other pictures than these of {found.name!r} (their number, "
            "classes or mean differ): bring those back, or train anew"
        )


def best_checkpoint(run: Path) -> tuple[Checkpoint, Path]:
    """Return a run's best checkpoint, or its newest if there is no best one yet, and its path."""
    return checkpoint.load_best(run, verify)


@dataclass(frozen=True)
class TrainedDetector:
    """A trained detector and what it takes to ask it about pictures.

    Attributes
    ----------
    net : Detector
        In evaluation mode.
    classes : tuple of str
    mean, std : float32 (3,)
    config : DetectConfig
    """

    net: Detector
    classes: tuple[str, ...]
    mean: np.ndarray
    std: np.ndarray
    config: DetectConfig

    def detect(
        self, picture: Any, least: float = 0.5
    ) -> list[tuple[str, float, tuple[float, float, float, float]]]:
        """Return what is in a picture: class, score and box (x1, y1, x2, y2), the best first.

        Parameters
        ----------
        picture : path, Pillow image or array
            Of any size; boxes are in its own pixels, after it has been turned upright.
        least : float
            The lowest score, 0 to 1.
        """
        image = open_image(picture)
        pixels, scale = coco.fit(image, self.net.side)
        x = normalise(pixels[None], self.mean, self.std)
        ((boxes, labels, scores),) = self.net.detect(x, least)
        corners = np.minimum(boxes / scale, [*image.size, *image.size])
        return [
            (self.classes[k], float(score), (x1, y1, x2, y2))
            for k, score, (x1, y1, x2, y2) in zip(labels, scores, corners.tolist(), strict=True)
            if x1 < x2 and y1 < y2  # else it lies in what the picture was filled up with
        ]


def load_detector(run: str | os.PathLike[str]) -> TrainedDetector:
    """Load the detector of a run, with its best weights."""
    saved, _ = best_checkpoint(Path(run))
    config, facts = DetectConfig.from_dict(saved.header["config"]), saved.header["data"]
    net = build(config, len(facts["classes"]))
    net.load_state_dict(saved.best)
    mean, std = (np.asarray(facts[name], np.float32) for name in ("mean", "std"))
    net.eval()
    return TrainedDetector(net, tuple(facts["classes"]), mean, std, config)
