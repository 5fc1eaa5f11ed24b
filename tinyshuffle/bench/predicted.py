"""The roofline model beside the clock: layer by layer, and net by net."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from ..cost.roofline import Operation, Prediction, Speeds, roofline
from ..machine import Machine
from .ceilings import Ceilings
from .layers import LayerTimes
from .progress import Progress
from .run import Case, measure_layers

__all__ = ["Compared", "Residuals", "compare_prediction", "correlation", "ranks"]


@dataclass(frozen=True)
class Residuals:
    """How far a class of operations is from its prediction.

    Attributes
    ----------
    name : str
    count : int
    measured, predicted : float
        Seconds, all added up.
    lower, median, upper : float
        Quartiles of predicted by measured time, minus 1.
    """

    name: str
    count: int
    measured: float
    predicted: float
    lower: float
    median: float
    upper: float


@dataclass(frozen=True)
class Compared:
    """A net's prediction and its measured layers.

    Attributes
    ----------
    case : Case
    machine : Machine
    ceilings : Ceilings
        Of the classic roofline.
    cleared : list of str
    prediction : Prediction
    times : LayerTimes
    """

    case: Case
    machine: Machine
    ceilings: Ceilings
    cleared: list[str]
    prediction: Prediction
    times: LayerTimes

    def layers(self) -> list[tuple[Operation, float, float]]:
        """Return each operation with its predicted and its measured seconds."""
        measured = {(row.layer, row.operation): row.forward_seconds for row in self.times.rows}
        pairs = zip(self.prediction.operations, self.prediction.layer_seconds, strict=True)
        return [(o, seconds, measured[o.layer, o.operation]) for o, seconds in pairs]

    @property
    def layer_error(self) -> float:
        """The median over the layers of how far prediction and time are apart, by the time."""
        return float(np.median([abs(p / m - 1) for _, p, m in self.layers()]))

    @property
    def net_error(self) -> float:
        """The whole net's predicted time by the measured one, minus 1."""
        return self.prediction.seconds / self.times.step_seconds - 1

    def residuals(self) -> list[Residuals]:
        """Return how far each class of operations is off."""
        found: dict[str, list[tuple[float, float]]] = {}
        for operation, predicted, measured in self.layers():
            found.setdefault(operation.shape_class, []).append((predicted, measured))
        out = []
        for name, pairs in found.items():
            p, m = np.array(pairs).T
            lower, median, upper = np.percentile(p / m - 1, (25, 50, 75)).tolist()
            total = float(m.sum()), float(p.sum())
            out.append(Residuals(name, len(pairs), *total, lower, median, upper))
        return out

    def to_dict(self) -> dict[str, Any]:
        """Return everything as JSON can hold it."""
        return asdict(self.case) | {
            "machine": self.machine.to_dict(),
            "cleared": self.cleared,
            "speeds": self.prediction.speeds.to_dict(),
            "predicted_seconds": self.prediction.seconds,
            "measured_seconds": self.times.step_seconds,
            "net_error": self.net_error,
            "layer_error": self.layer_error,
            "residuals": [asdict(r) for r in self.residuals()],
            "layers": [
                asdict(o) | {"predicted_seconds": p, "measured_seconds": m}
                for o, p, m in self.layers()
            ],
        }


def compare_prediction(
    case: Case, speeds: Speeds, rounds: int, progress: Progress
) -> Compared:
    """Time a net's layers in evaluation, and predict them.

    Parameters
    ----------
    case : Case
    speeds : Speeds
        Of this machine with as many cores as the case uses.
    rounds : int
    progress : Progress
    """
    net = {"num_classes": case.classes, "stem": case.stem} | case.variant
    shape = case.batch, case.height, case.width, 3
    prediction = roofline(case.model, shape, speeds, **net)
    found = measure_layers(case, rounds, progress)
    return Compared(
        case, found.machine, found.ceilings, found.cleared, prediction, found.times
    )


def ranks(values: Sequence[float]) -> np.ndarray:
    """Return the rank of each value, from 1; equal values share the mean of theirs.

    >>> ranks([10.0, 30.0, 20.0, 20.0])
    array([1. , 4. , 2.5, 2.5])
    """
    x = np.asarray(values, float)
    below = (x[:, None] > x).sum(axis=1)
    equal = (x[:, None] == x).sum(axis=1)
    return below + (equal + 1) / 2


def correlation(a: Sequence[float], b: Sequence[float]) -> float:
    """Return Spearman's rank correlation: Pearson's of the ranks.

    >>> correlation([1.0, 2.0, 3.0, 4.0], [1.0, 100.0, 90.0, 1000.0])
    0.8
    """
    return round(float(np.corrcoef(ranks(a), ranks(b))[0, 1]), 12)
