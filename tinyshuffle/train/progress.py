"""What is printed while a net trains: a live bar in a terminal, elsewhere a line an epoch."""

from __future__ import annotations

import time
from typing import Any

__all__ = ["Progress", "duration", "plural"]


def plural(count: int, noun: str) -> str:
    """Count things.

    >>> plural(1, "epoch"), plural(12000, "step")
    ('1 epoch', '12,000 steps')
    """
    return f"{count:,} {noun}{'s' * (count != 1)}"


def duration(seconds: float) -> str:
    """Write a time for people.

    >>> duration(58.4), duration(75), duration(3725)
    ('58 s', '1:15 min', '1:02:05 h')
    """
    whole = round(seconds)
    minutes, s = divmod(whole, 60)
    hours, m = divmod(minutes, 60)
    return f"{hours}:{m:02}:{s:02} h" if hours else f"{m}:{s:02} min" if minutes else f"{s} s"


class Progress:
    """The bar and the lines of one run. Use as ``with progress:``.

    Parameters
    ----------
    epochs, steps_per_epoch : int
    quiet : bool
        Print nothing.
    """

    def __init__(self, epochs: int, steps_per_epoch: int, quiet: bool = False) -> None:
        from rich.console import Console
        from rich.progress import BarColumn, TextColumn
        from rich.progress import Progress as Bar

        self._console = Console(quiet=quiet, highlight=False, soft_wrap=True)
        self._epochs = epochs
        self._total = epochs * steps_per_epoch
        self._bar = Bar(
            TextColumn("{task.description}"),
            BarColumn(bar_width=None),
            TextColumn("{task.fields[figures]}"),
            console=self._console,
            transient=True,
            refresh_per_second=4,
            disable=not self._console.is_terminal,
        )
        self._task = self._bar.add_task("starting", total=self._total, figures="")
        self._first: tuple[int, float] | None = None

    def __enter__(self) -> Progress:
        self._bar.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._bar.stop()

    def line(self, text: str) -> None:
        """Print a line, above the bar."""
        self._console.print(text, markup=False)

    def step(self, done: int, epoch: int, loss: float, accuracy: float, rate: float) -> None:
        """Move the bar: steps done in the whole run, the epoch's figures so far, images/s."""
        now = time.perf_counter()
        if self._first is None:  # the clock starts after the first step, which may have compiled
            self._first = done, now
        begin, since = self._first
        left = (now - since) / max(1, done - begin) * (self._total - done)
        self._bar.update(
            self._task,
            completed=done,
            description=f"epoch {epoch}/{self._epochs}",
            figures=f"{duration(left) if done > begin else '…'} left  loss {loss:.3f}  "
            f"accuracy {100 * accuracy:.1f} %  {rate:.0f} images/s",
        )

    def evaluating(self) -> None:
        """Say on the bar that the test set's turn has come."""
        self._bar.update(self._task, description="evaluating")

    def epoch(self, row: dict[str, Any]) -> None:
        """Print a finished epoch."""
        self.line(
            f"epoch {row['epoch']:{len(str(self._epochs))}}/{self._epochs}  "
            f"train loss {row['train_loss']:.3f}  accuracy {100 * row['train_accuracy']:4.1f} %   "
            f"test loss {row['test_loss']:.3f}  accuracy {100 * row['test_accuracy']:4.1f} %   "
            f"{row['images_per_second']:.0f} images/s  {duration(row['seconds'])}"
        )
