"""Where a run stands: what its checkpoints hold of it, and how it comes to stand there again."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ..checkpoint import Checkpoint
from ..errors import TinyshuffleError
from ..words import plural
from . import rank_checks
from .verify import check_data

if TYPE_CHECKING:
    from .loop import Trainer

__all__ = ["checkpoint_of", "restore"]


def checkpoint_of(trainer: Trainer) -> Checkpoint:
    """Return what the rest of a run depends on, beside what is a function of seed and position."""
    header = {
        "config": trainer.config.to_dict(),
        "epoch": trainer.epoch,
        "step": trainer.step,
        "sums": trainer.sums,
        "seconds": trainer.seconds,
        "rows": trainer.rows,
        "ranks": 1 if trainer.ranks is None else trainer.ranks.size,
        "random_states": trainer.net.random_states(),
        **trainer.plan.to_header(),
        "data": {
            "classes": trainer.train_set.classes,
            "mean": trainer.train_set.mean.tolist(),
            "std": trainer.train_set.std.tolist(),
            "size": trainer.plan.sizes[-1],
        },
    }
    average = {} if trainer.average is None else trainer.average.net.state_dict()
    return Checkpoint(header, trainer.net.state_dict(), trainer.optim.state_dict(), average)


def restore(trainer: Trainer, saved: Checkpoint) -> None:
    """Let a run stand where a checkpoint was written.

    Raises
    ------
    TinyshuffleError
        If its images are others, or fewer than there were.
    """
    header = saved.header
    check_data(saved, trainer.train_set, trainer.run)
    if note := rank_checks.changed(trainer.config, trainer.ranks, header.get("ranks", 1)):
        trainer.progress.line(note)
    steps, full = header["plan"][1], trainer.plan.full
    if steps > full or header["step"] > steps:
        raise TinyshuffleError(
            f"{trainer.run} has {plural(steps, 'step')} an epoch and is in number "
            f"{header['step']}, and these {len(trainer.train_set):,} images have only "
            f"{full} of {trainer.config.batch_size}: say with --data-dir where "
            "its images are"
        )
    trainer.plan.restore(header)
    trainer.net.load_state_dict(saved.net)
    if trainer.average is not None:
        trainer.average.net.load_state_dict(saved.average)
    trainer.net.load_random_states(header["random_states"])
    trainer.optim.load_state_dict(saved.optim)
    trainer.epoch, trainer.step = header["epoch"], header["step"]
    trainer.sums, trainer.seconds = header["sums"], header["seconds"]
    trainer.rows = header["rows"]
