"""Runs side by side, from the small files that they leave."""

from __future__ import annotations

import csv
import json
import shlex
import statistics
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..errors import TinyshuffleError
from ..text import message
from ..words import duration, hundredths
from .config import measured
from .paired import paired
from .record import PICTURES, TESTS, is_counted, tested

__all__ = ["RunLog", "data_of", "differences", "overhead", "pairs", "read_run", "summary"]

NEEDED = {"epoch": 1, "size": 1, "test_accuracy": 0, "images_per_second": 0, "step_seconds": 1e-9,
          "seconds": 0}  # fmt: skip
"""Columns that are read, and the least that they can be."""


@dataclass(frozen=True)
class RunLog:
    """What ``config.json`` and ``log.csv`` say of a run."""

    name: str
    config: dict[str, Any]
    rows: list[dict[str, Any]]
    folder: Path

    @property
    def tested(self) -> list[dict[str, Any]]:
        """The rows of the epochs that have been tested, of which there is one at least."""
        return tested(self.rows)

    @property
    def measured(self) -> str:
        """What its test accuracy is, in words: a run may hold out images and test with these."""
        held = self.config.get("validate")
        return measured(held if isinstance(held, int) else None)

    @property
    def finished(self) -> bool:
        """Whether it has ended, as far as its files say."""
        if is_counted(self.config):
            return bool(self.rows[-1]["epoch"] == self.config.get("epochs"))
        # it may end after any epoch, and then draws this
        return (self.folder / PICTURES[0]).exists()


def read_run(run: str | Path) -> RunLog:
    """Read a run's configuration and log; the run may still be under way.

    Raises
    ------
    TinyshuffleError
        If that is no run directory, or no epoch has been tested in it.
    """
    run = Path(run)
    try:
        config = json.loads((run / "config.json").read_text(encoding="utf-8"))
        rows: list[dict[str, Any]] = []
        if (run / "log.csv").exists():  # which it does after the first epoch
            with open(run / "log.csv", newline="", encoding="utf-8") as file:
                rows = [
                    {
                        name: None if name in TESTS and value == "" else json.loads(value)
                        for name, value in row.items()
                    }
                    for row in csv.DictReader(file)
                ]
        for name in ("model", "data"):
            if not isinstance(config[name], str):
                raise ValueError(f"{name} is {config[name]!r}")
        if "detector" in config:
            raise ValueError("it is a detector's, for the commands of detect")
        for row in rows:
            for name, least in NEEDED.items():
                if row[name] is None and name in TESTS:
                    continue
                if not (isinstance(row[name], (int, float)) and least <= row[name] < 1e12):
                    raise ValueError(f"{name} is {row[name]!r}")
    except (OSError, ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
        raise TinyshuffleError(
            f"{run} has no config.json and log.csv that can be read ({message(error)}): name the "
            "directory of a run"
        ) from error
    if not tested(rows):
        raise TinyshuffleError(
            f"{run} has no tested epoch yet: wait for its first one, or leave the run out; if it "
            f"was stopped, continue it with python -m tinyshuffle train --resume "
            f"{shlex.quote(str(run))}"
        )
    return RunLog(run.name, config, rows, run)


def overhead(rows: list[dict[str, Any]]) -> float:
    """How much longer a run took than its bare steps, up to its last test: 0.1 is a tenth.

    Data, augmentation, averaging, logs, tests and checkpoints are in it. Compiling the kernels is
    part of the first bare step, unless a time budget was planned before that.
    """
    last = tested(rows)[-1]
    steps = sum(row["step_seconds"] for row in rows if row["epoch"] <= last["epoch"])
    return last["seconds"] / steps - 1


def summary(runs: list[RunLog]) -> tuple[list[str], list[list[str]]]:
    """Return headings and a line a run: what was trained, how well, how fast."""
    headings = ["run", "model", "data", "epochs", "accuracy", "best (epoch)", "time", "images/s",
                "over bare steps"]  # fmt: skip
    lines = []
    for run in runs:
        rows, last = run.rows, run.tested[-1]
        # as the loop seeks it: among the epochs at the size that the run ends with
        best = max(
            (row for row in run.tested if row["size"] == last["size"]),
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


ALIKE = ("seed", "threads", "data_dir")
"""Fields in which runs of one setting may differ."""

IMAGES = ("data", "validate")
"""Fields that say which images a run was tested with; their size is a choice like others."""


def pairs(runs: list[RunLog]) -> tuple[list[str], list[list[str]]]:
    """Return headings and a line a setting: how far it is behind the best one, seed by seed.

    Runs are of one setting if their configurations differ in nothing but seed, threads, place of
    the data and how often they are tested; not in that, if it decides when they end. Those that
    were tested with other images than most are left out, and so are runs that are not finished.
    Several runs of one setting and seed count as one, with their mean. The best setting is one that
    shares two seeds with another; there are no lines if none does.
    """
    by_images: dict[str, list[RunLog]] = {}
    for run in runs:
        if run.finished:
            images = json.dumps([run.config.get(name) for name in IMAGES])
            by_images.setdefault(images, []).append(run)
    settings: dict[str, list[RunLog]] = {}
    for run in max(by_images.values(), key=len, default=[]):
        alike = (*ALIKE, "test_every") if is_counted(run.config) else ALIKE
        fields = {name: v for name, v in run.config.items() if name not in alike}
        settings.setdefault(json.dumps(fields, sort_keys=True), []).append(run)
    found = {key: _by_seed(members) for key, members in settings.items()}
    means = {key: statistics.mean(of.values()) for key, of in found.items()}
    headings = ["setting", "seeds", "accuracy", "in common", "behind the best", "std error",
                "verdict"]  # fmt: skip
    met = [
        key for key, of in found.items()
        if any(other != key and len(of.keys() & found[other].keys()) > 1 for other in found)
    ]  # fmt: skip
    if not met:
        return headings, []
    best = max(met, key=lambda key: means[key])
    lines = []
    for key, of in found.items():
        cells = [_setting(key, list(found)), str(len(of)), f"{100 * means[key]:.2f} %"]
        if key == best:
            lines.append([*cells, "", "", "", "best"])
            continue
        pair = paired(found[best], of)
        verdict = "worse" if pair.settled and pair.difference > 0 else "is not settled"
        numbers = [hundredths(100 * x) for x in (pair.difference, pair.error)]
        lines.append([*cells, str(pair.count), *numbers, verdict])
    return headings, lines


def _by_seed(runs: list[RunLog]) -> dict[int, float]:
    """The accuracies of one setting."""
    found: dict[int, list[float]] = {}
    for run in runs:
        seed = run.config.get("seed", 0)
        found.setdefault(seed, []).append(run.tested[-1]["test_accuracy"])
    return {seed: statistics.mean(of) for seed, of in found.items()}


def _setting(key: str, keys: list[str]) -> str:
    """What a setting has that not all of them have."""
    all_fields = [json.loads(other) for other in keys]
    return ", ".join(
        f"{name}={value if isinstance(value, str) else json.dumps(value)}"
        for name, value in json.loads(key).items()
        if any(fields.get(name) != value for fields in all_fields)
    )
