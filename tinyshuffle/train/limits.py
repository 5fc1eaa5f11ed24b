"""What each field of a configuration may be, and which of them go together."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

from .. import data as data_sets
from ..errors import TinyshuffleError
from ..text import shown
from . import schedule

if TYPE_CHECKING:
    from .config import Config

__all__ = ["MOST_EPOCHS", "MOST_IMAGES", "check", "check_length"]

STEMS = ("cifar", "imagenet")
FREEZES = ("stem", "stages", "all-but-head")
OPTIMIZERS = ("sgd", "adam", "muon")

MOST_HOURS = 10_000
MOST_IMAGES = 1_000_000  # in a batch
MOST_EPOCHS = 100_000
"""Lists as long as the run is are kept, and a row of its log for each epoch."""


def check(config: Config) -> None:
    """Refuse a configuration of which a field cannot be, or has no effect beside the others."""

    def need(good: bool, name: str, wanted: str) -> None:
        if not good:
            given = shown(getattr(config, name))
            raise TinyshuffleError(f"{name}={given} was given: it must be {wanted}")

    if not data_sets.is_folder(config.data):
        for name in ("side", "strict"):
            if getattr(config, name) is not None:
                raise TinyshuffleError(
                    f"{name}={getattr(config, name)} has no effect on {config.data}: it is for a "
                    "folder of pictures, so leave it out"
                )
    need(config.stem in (None, *STEMS), "stem", " or ".join(STEMS))
    need(config.freeze in (None, *FREEZES), "freeze", f"one of {', '.join(FREEZES)}")
    for name, of in (("freeze", "init"), ("body_lr", "init"), ("unfreeze_at", "freeze")):
        need(
            getattr(config, name) is None or getattr(config, of) is not None,
            name,
            f"left out, as without {of} it has no effect",
        )
    needless = "no, as init says what the weights begin with"
    need(not config.whiten or config.init is None, "whiten", needless)
    need(config.unfreeze_at is None or config.unfreeze_at >= 1, "unfreeze_at", "1 or more")
    need(config.body_lr is None or 0 <= config.body_lr <= 1, "body_lr", "0 to 1")
    need(config.validate is None or config.validate >= 1, "validate", "1 or more")
    need(config.optimizer in OPTIMIZERS, "optimizer", "sgd, adam or muon")
    alone = "left out, as without the optimizer muon it has no effect"
    need(config.muon_lr is None or config.optimizer == "muon", "muon_lr", alone)
    need(config.muon_lr is None or 0 < config.muon_lr < math.inf, "muon_lr", "above 0")
    need(config.bias_lr is None or 0 <= config.bias_lr <= 1000, "bias_lr", "0 to 1000")
    need(config.backend in ("numba", "numpy"), "backend", "numba or numpy")
    need(config.epochs >= 1, "epochs", "1 or more")
    need(config.epochs <= MOST_EPOCHS, "epochs", f"at most {MOST_EPOCHS:,}")
    need(config.seconds > 0, "time_budget", "longer than nothing")
    if config.time_budget is not None:
        need(config.seconds <= 3600 * MOST_HOURS, "time_budget", f"at most {MOST_HOURS}h")
    need(config.test_interval >= 1, "test_every", "1 or more")
    need(config.test_interval <= MOST_EPOCHS, "test_every", f"at most {MOST_EPOCHS:,}")
    need(config.early_stop >= 0, "early_stop", "0 (never) or more")
    need(config.early_stop <= MOST_EPOCHS, "early_stop", f"at most {MOST_EPOCHS:,}")
    need(config.batch_size >= 1, "batch_size", "1 or more")
    need(config.batch_size <= MOST_IMAGES, "batch_size", f"at most {MOST_IMAGES:,}")
    need(0 < config.lr < math.inf, "lr", "above 0")
    need(0 <= config.momentum < 1, "momentum", "in [0, 1)")
    need(0 <= config.weight_decay < math.inf, "weight_decay", "0 or more")
    need(0 <= config.label_smoothing < 1, "label_smoothing", "in [0, 1)")
    need(0 <= config.ema < 1, "ema", "in [0, 1)")
    need(0 <= config.cutout <= 10_000, "cutout", "0 (none) to 10,000 pixels")
    need(0 <= config.mixup <= 1000, "mixup", "0 (none) to 1000")
    sides = all(0 < side <= 10_000 for side in config.sizes) and len(config.sizes) <= 1000
    need(sides, "sizes", "a list of whole numbers above 0, at most 10000")
    need(0 <= config.seed < 2**63, "seed", "0 or more, and less than 2**63")
    need(1 <= config.threads <= 4096, "threads", "1 to 4096")
    longest = math.inf if config.time_budget is not None else config.epochs
    need(
        config.warmup is None or 0 <= config.warmup < longest,
        "warmup",
        f"0 or more and less than the {config.epochs} epochs of the run",
    )
    schedule.check(config.schedule, config.epochs)


def check_length(fields: dict[str, Any]) -> None:
    """Refuse two lengths of one run: of a recipe, or of what is given in a recipe's place."""
    epochs, budget = fields.get("epochs"), fields.get("time_budget")
    if epochs is not None and budget is not None:
        raise TinyshuffleError(
            f"epochs={epochs} and time_budget={budget} were given together: give one "
            "of them, as the budget decides how many epochs there are"
        )
