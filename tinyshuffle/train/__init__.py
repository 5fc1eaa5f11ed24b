"""Training: optimisers, schedules, the loop, checkpoints."""

from __future__ import annotations

from .. import optim
from ..checkpoint import Checkpoint, load, load_newest
from . import schedule
from .ablation import ABLATIONS, ablate
from .config import Config
from .evaluation import Evaluation, evaluate, evaluate_pictures
from .record import Result
from .run import evaluate_run, resume, train
from .signals import Interrupted
from .sweep import Sweep, sweep
from .trained import Trained, load_run
from .update_bn import update_bn
from .verify import check

__all__ = [
    "ABLATIONS", "Checkpoint", "Config", "Evaluation", "Interrupted", "Result", "Sweep", "Trained",
    "ablate", "check", "evaluate", "evaluate_pictures", "evaluate_run", "load", "load_newest",
    "load_run", "optim", "resume", "schedule", "sweep", "train", "update_bn",
]  # fmt: skip
