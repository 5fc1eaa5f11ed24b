"""Training: optimisers, schedules, the loop, checkpoints."""

from __future__ import annotations

from . import optim, schedule
from .checkpoint import Checkpoint, load, load_newest
from .config import Config
from .loop import Evaluation, Interrupted, Result, evaluate, evaluate_run, resume, train

__all__ = [
    "Checkpoint",
    "Config",
    "Evaluation",
    "Interrupted",
    "Result",
    "evaluate",
    "evaluate_run",
    "load",
    "load_newest",
    "optim",
    "resume",
    "schedule",
    "train",
]
