"""Runs side by side, from the small files that they leave."""

from __future__ import annotations

import csv
import json
import shlex
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..errors import TinyshuffleError
from ..text import message
from ..words import duration

__all__ = ["RunLog", "data_of", "differences", "overhead", "read_run", "summary"]

NEEDED = {"epoch": 1, "size": 1, "test_accuracy": 0, "images_per_second": 0, "step_seconds": 1e-9,
          "seconds": 0}  # fmt: skip
"""Columns that are read, and the least that they can be."""


@dataclass(frozen=True)
class RunLog:
    """What ``config.json`` and ``log.csv`` say of a run."""

    name: str
    config: dict[str, Any]
    rows: list[dict[str, Any]]


def read_run(run: str | Path) -> RunLog:
    """Read a run's configuration and log; the run may still be under way.

    Raises
    ------
    TinyshuffleError
        If that is no run directory, or no epoch has been finished in it.
    """
    run = Path(run)
    try:
        config = json.loads((run / "config.json").read_text(encoding="utf-8"))
        rows: list[dict[str, Any]] = []
        if (run / "log.csv").exists():  # which it does after the first epoch
            with open(run / "log.csv", newline="", encoding="utf-8") as file:
                rows = [
                    {name: json.loads(value) for name, value in row.items()}
                    for row in csv.DictReader(file)
                ]
        for name in ("model", "data"):
            if not isinstance(config[name], str):
                raise ValueError(f"{name} is {config[name]!r}")
        for row in rows:
            for name, least in NEEDED.items():
                if not (isinstance(row[name], (int, float)) and least <= row[name] < 1e12):
                    raise ValueError(f"{name} is {row[name]!r}")
    except (OSError, ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
        raise TinyshuffleError(
            f"{run} has no config.json and log.csv that can be read ({message(error)}): name the "
            "directory of a run"
        ) from error
    if not rows:
        raise TinyshuffleError(
            f"{run} has no finished epoch yet: wait for its first one, or leave the run out; if it "
            f"was stopped, continue it with python -m tinyshuffle train --resume "
            f"{shlex.quote(str(run))}"
        )
    return RunLog(run.name, config, rows)


def overhead(rows: list[dict[str, Any]]) -> float:
    """How much longer a run took than its bare steps: 0.1 is a tenth.

    Data, augmentation, averaging, logs, tests and checkpoints are in it, up to the last test.
    """
    return rows[-1]["seconds"] / sum(row["step_seconds"] for row in rows) - 1


def summary(runs: list[RunLog]) -> tuple[list[str], list[list[str]]]:
    """Return headings and a line a run: what was trained, how well, how fast."""
    headings = ["run", "model", "data", "epochs", "accuracy", "best (epoch)", "time", "images/s",
                "over bare steps"]  # fmt: skip
    lines = []
    for run in runs:
        rows, last = run.rows, run.rows[-1]
        # as the loop seeks it: among the epochs at the size that the run ends with
        best = max(
            (row for row in rows if row["size"] == last["size"]),
            key=lambda row: row["test_accuracy"],
        )
        lines.append([
            run.name,
            run.config["model"],
            data_of(run.config),
            str(last["epoch"]),
            f"{100 * last['test_accuracy']:.2f} %",
            f"{100 * best['test_accuracy']:.2f} % ({best['epoch']})",
            duration(last["seconds"]),
            f"{last['images_per_second']:.0f}",
            f"{100 * overhead(rows):.1f} %",
        ])
    return headings, lines


def data_of(config: dict[str, Any]) -> str:
    """What a run was tested with: its data set, or images held out of it."""
    held = config.get("validate")
    return f"{config['data']}, {held:,} held out" if isinstance(held, int) else config["data"]


def differences(runs: list[RunLog]) -> tuple[list[str], list[list[str]]]:
    """Return headings and lines of the fields of the configuration in which the runs differ."""
    lines = []
    for name in runs[0].config:
        values = [json.dumps(run.config.get(name)) for run in runs]
        if len(set(values)) > 1:
            lines.append([name, *values])
    return ["field", *(run.name for run in runs)], lines
