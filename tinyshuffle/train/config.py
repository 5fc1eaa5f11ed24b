"""What a training run is: every number that its weights depend on, in one frozen record."""

from __future__ import annotations

import dataclasses
import difflib
from dataclasses import dataclass, field
from typing import Any

from ..errors import TinyshuffleError
from . import schedule

__all__ = ["Config"]

DEFAULTS: dict[str, dict[str, Any]] = {
    "shapes": {"epochs": 5, "batch_size": 64},
    "cifar10": {"epochs": 12, "batch_size": 128},
    "cifar100": {"epochs": 12, "batch_size": 128},
}
"""Where the data sets differ: shapes has few images, so smaller batches for enough steps."""

LEARNING_RATES = {"sgd": 0.1, "adam": 0.003}


def _threads() -> int:
    from ..parallel import get_num_threads

    return get_num_threads()


@dataclass(frozen=True)
class Config:
    """The configuration of a run.

    Attributes
    ----------
    model, data : str
        Registered names.
    epochs, batch_size : int
    optimizer : str
        ``sgd`` (with Nesterov momentum) or ``adam``.
    lr : float
        Peak learning rate.
    momentum, weight_decay : float
    schedule : str
    warmup : float
        Epochs of warm-up; None leaves it to the schedule.
    label_smoothing : float
    seed : int
        Of the weights, the order of the images and their augmentation.
    threads : int
        By default all. Sums are added in an order that depends on it, so the last bits do too.
    backend : str
        ``numba`` or ``numpy``.
    data_dir : str
        Where the data set's files are, if not in the usual place.

    Raises
    ------
    TinyshuffleError
        Names the field, its value and what it may be.
    """

    model: str = "shufflenet_v2_x0_5"
    data: str = "shapes"
    epochs: int = DEFAULTS["shapes"]["epochs"]
    batch_size: int = DEFAULTS["shapes"]["batch_size"]
    optimizer: str = "sgd"
    lr: float = LEARNING_RATES["sgd"]
    momentum: float = 0.9
    weight_decay: float = 5e-4
    schedule: str = "one-cycle"
    warmup: float | None = None
    label_smoothing: float = 0.1
    seed: int = 0
    threads: int = field(default_factory=_threads)
    backend: str = "numba"
    data_dir: str | None = None

    @classmethod
    def make(cls, **given: Any) -> Config:
        """Build one from what was given, with the defaults that suit the data and optimiser."""
        fields = dict(DEFAULTS.get(given.get("data", cls.data), {}))
        if given.get("optimizer") in LEARNING_RATES:
            fields["lr"] = LEARNING_RATES[given["optimizer"]]
        return cls.from_dict({**fields, **given})

    @classmethod
    def from_dict(cls, fields: dict[str, Any]) -> Config:
        """Build one from JSON or TOML; an unknown field is an error."""
        known = [f.name for f in dataclasses.fields(cls)]
        for name in fields:
            if name not in known:
                near = difflib.get_close_matches(name, known, n=1)
                hint = f" (did you mean {near[0]}?)" if near else ""
                raise TinyshuffleError(
                    f"{name!r} is not a field of a training configuration{hint}: "
                    f"the fields are {', '.join(known)}"
                )
        return cls(**fields)

    def to_dict(self) -> dict[str, Any]:
        """Return the fields as JSON can hold them."""
        return dataclasses.asdict(self)

    def __post_init__(self) -> None:
        def need(good: bool, name: str, wanted: str) -> None:
            if not good:
                given = getattr(self, name)
                raise TinyshuffleError(f"{name}={given!r} was given: it must be {wanted}")

        need(self.optimizer in LEARNING_RATES, "optimizer", "sgd or adam")
        need(self.backend in ("numba", "numpy"), "backend", "numba or numpy")
        need(self.epochs >= 1, "epochs", "1 or more")
        need(self.batch_size >= 1, "batch_size", "1 or more")
        need(0 < self.lr < float("inf"), "lr", "above 0")
        need(0 <= self.momentum < 1, "momentum", "in [0, 1)")
        need(0 <= self.weight_decay < float("inf"), "weight_decay", "0 or more")
        need(0 <= self.label_smoothing < 1, "label_smoothing", "in [0, 1)")
        need(self.seed >= 0, "seed", "0 or more")
        need(self.threads >= 1, "threads", "1 or more")
        need(
            self.warmup is None or 0 <= self.warmup < self.epochs,
            "warmup",
            f"0 or more and less than the {self.epochs} epochs of the run",
        )
        schedule.check(self.schedule, self.epochs)
