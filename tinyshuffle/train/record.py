"""What a run leaves behind beside its checkpoints.

A run directory holds ``config.json`` (every number that the weights depend on), ``machine.json``,
``log.csv`` and ``log.jsonl`` (a row an epoch), ``curves.png``, at the end ``confusion.png``,
``worst.png`` and ``report.html`` (:mod:`tinyshuffle.train.report`), and the checkpoints of
:mod:`tinyshuffle.checkpoint`. The checkpoint is the truth: the log and the curves are written
from the rows in it.
"""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from .. import data, nn
from ..files import atomic_write, write_figure, write_json, write_text
from ..machine import describe
from ..words import duration, plural
from .evaluation import Evaluation

__all__ = [
    "COLUMNS", "PICTURES", "SUMS", "TESTS", "Result", "is_counted", "tested", "write_log",
    "write_machine", "write_rows", "write_tests",
]  # fmt: skip


PICTURES = "confusion.png", "worst.png"

COLUMNS = (
    "epoch", "step", "size", "lr", "train_loss", "train_accuracy", "test_loss", "test_accuracy",
    "images_per_second", "step_seconds", "seconds",
)  # fmt: skip
"""Of ``log.csv``. ``step`` counts from the start of the run, ``size`` is the side of the epoch's
images, those of its test too, ``lr`` is that of the epoch's last step, the training figures are
means over the epoch while the weights moved, ``images_per_second`` counts training alone,
``step_seconds`` are those of the epoch's bare steps (forward, loss, backward, optimiser; compiling,
too, where the first step does it), and ``seconds`` is since the first step, or since a time budget
was planned, with everything but what lies between a stop and the resume: compiling, data, tests,
logs, checkpoints. Reading the images and building the net come before."""

TESTS = "test_loss", "test_accuracy"
"""Columns that an epoch without a test leaves empty (null in ``log.jsonl``)."""

SUMS = ("loss", "right", "images", "seconds", "step_seconds")
"""What is added up over the steps of the epoch under way."""


@dataclass(frozen=True)
class Result:
    """A finished run: its directory, its log and the net with its last weights.

    Rows of epochs that were not tested have None for the columns :data:`TESTS`.

    The net is the average of the weights if the run keeps one, and ``ended`` says why the run was
    over before its last epoch, if it was. ``measured`` says of which images the accuracy is.
    """

    run: Path
    rows: list[dict[str, Any]]
    net: nn.Module
    ended: str = ""
    measured: str = "test accuracy"

    @property
    def accuracy(self) -> float:
        """Test accuracy after the last epoch, 0 to 1; of a run that holds out images, on these."""
        return float(self.rows[-1]["test_accuracy"])

    def __str__(self) -> str:
        last = self.rows[-1]
        return (
            f"{self.measured} {100 * self.accuracy:.1f} % after {plural(last['epoch'], 'epoch')} "
            f"in {duration(last['seconds'])}{self.ended and f' ({self.ended})'}; {self.run}"
        )


def tested(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return the rows of the epochs that have been tested."""
    return [row for row in rows if row["test_accuracy"] is not None]


def is_counted(config: dict[str, Any]) -> bool:
    """Tell whether the epochs of a run are known before it ends, however often it is tested."""
    return config.get("time_budget") is None and not config.get("early_stop")


def write_machine(run: Path, threads: int) -> None:
    """Write ``machine.json``: what the run has run on, the newest last."""
    path, here = run / "machine.json", _here(threads)
    try:
        machines = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        machines = []
    if not isinstance(machines, list):  # somebody else's: it is told anew
        machines = []
    if here not in machines[-1:]:
        write_json(path, [*machines, here])


def _here(threads: int) -> dict[str, Any]:
    """What a run runs on, as ``machine.json`` keeps it: speed and last bits depend on it."""
    machine = describe(threads)
    return {
        "processor": machine.cpu,
        "cores": machine.cores,
        "threads": threads,
        "system": machine.system,
        "blas": machine.blas,
        **{name.lower(): machine.versions[name] for name in ("Python", "NumPy", "numba")
           if name in machine.versions},  # fmt: skip
    }


def write_log(run: Path, rows: list[dict[str, Any]], held: int | None = None) -> None:
    """Write ``log.csv``, ``log.jsonl`` and ``curves.png``; so many images were held out to test."""
    from .. import plots

    write_rows(run, rows, COLUMNS)
    if rows:
        figure = plots.learning_curves(rows, "test" if held is None else "held out")
        write_figure(run / "curves.png", figure)


def write_rows(run: Path, rows: list[dict[str, Any]], columns: Sequence[str]) -> None:
    """Write ``log.csv``, with these columns, and ``log.jsonl``."""
    with atomic_write(run / "log.jsonl") as file:
        file.writelines(json.dumps(row).encode() + b"\n" for row in rows)
    text = io.StringIO(newline="")
    writer = csv.DictWriter(text, columns, lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    write_text(run / "log.csv", text.getvalue())


def write_tests(run: Path, test_set: data.Dataset, tested: Evaluation) -> None:
    """Draw :data:`PICTURES`: where the last weights go wrong."""
    from .. import plots

    figures = (
        plots.confusion(tested.confusion, tested.classes),
        plots.worst_images(test_set, tested.probabilities),
    )
    for name, figure in zip(PICTURES, figures, strict=True):
        write_figure(run / name, figure)
