"""Train a comparison: run directories side by side, watched by their logs."""

from __future__ import annotations

import json
import shutil
import signal
import threading
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

from ...errors import TinyshuffleError
from ...files import atomic_write
from ...text import console as plain_console
from ...values import flags
from ...words import plural
from ..config import Config, load_data
from ..progress import output
from ..record import write_config
from ..run import resume, train
from ..signals import Interrupted, outlive_terminal, sigterm_as_interrupt
from .catalogue import ABLATIONS
from .report import Report
from .widths import count, solve

__all__ = ["ablate"]

MOST_SEEDS, MOST_BUDGET = 1000, 10**10
"""More would be years of training."""


@flags
def ablate(
    name: str,
    config: Config,
    seeds: int = 3,
    runs_dir: str | Path = "runs",
    budget: int | None = None,
    jobs: int | None = None,
    quiet: bool = False,
) -> Report:
    """Train a comparison, or what is missing of it, and report.

    The trainings run side by side through joblib. In a ``with joblib.parallel_config("dask"):``
    they run where its workers are; these must see ``runs_dir`` and the data under the same paths.

    Parameters
    ----------
    name : str
        One of :data:`ABLATIONS`.
    config : Config
        Of all trainings; each has its own model, variant and seed. ``threads`` are those of all
        trainings that run at a time.
    seeds : int
        How many: 0, 1, 2, …
    runs_dir : path
        The runs go to ``runs_dir/ablate-NAME``, and so do ``report.md``, ``report.csv`` and
        ``report.png``.
    budget : int, optional
        Multiply-adds for one image; by default those of the smallest net that shows it.
    jobs : int, optional
        Trainings at a time; by default as many as there are threads.
    quiet : bool
        Print nothing.

    Raises
    ------
    TinyshuffleError
        If something cannot be, or a run is there already that was trained in another way.
    """
    if name not in ABLATIONS:
        raise TinyshuffleError(
            f"there is no ablation {name!r}: choose from {', '.join(ABLATIONS)}"
        )
    for option, value in {"seeds": seeds, "jobs": jobs, "budget": budget}.items():
        if value is not None and value < 1:
            raise TinyshuffleError(f"--{option} {value} was given: it must be 1 or more")
    for option, value, most in (("seeds", seeds, MOST_SEEDS), ("budget", budget, MOST_BUDGET)):
        if value is not None and value > most:
            raise TinyshuffleError(f"--{option} {value} was given: it must be at most {most:,}")
    if config.time_budget is not None:
        raise TinyshuffleError(
            "a time budget would train each net for another number of epochs: give --epochs"
        )
    if config.early_stop:
        raise TinyshuffleError(
            "an early stop would train each net for another number of epochs: take a recipe "
            "without early_stop"
        )
    ablation = ABLATIONS[name]
    train_set, _ = load_data(config)  # before many do so at once
    shape = train_set.images.shape[1], len(train_set.classes)
    if budget is None:
        (largest,) = (arm for arm in ablation.arms if arm.name == ablation.budget)
        budget = count(largest, ablation.smallest, *shape).multiply_adds
    arms = [solve(arm, budget, *shape) for arm in ablation.arms]

    folder = Path(runs_dir) / f"ablate-{name}"
    jobs = min(jobs or config.threads, seeds * len(arms))
    share = replace(config, threads=max(1, config.threads // jobs))
    runs = {
        (solved.arm.name, seed): (
            folder / f"{_slug(solved.arm.name)}-seed{seed}",
            replace(share, model=solved.arm.model, variant=solved.variant, seed=seed),
        )
        for seed in range(seeds)  # seed by seed, so that an early look has all arms
        for solved in arms
    }
    for run, wanted in runs.values():
        _check_same(run, wanted)
    _run_all(list(runs.values()), jobs, quiet)
    accuracies = {
        solved.arm.name: [
            _accuracy(*runs[solved.arm.name, seed]) for seed in range(seeds)
        ]
        for solved in arms
    }
    report = Report(ablation, config, arms, accuracies)
    _write(report, folder)
    return report


def _slug(name: str) -> str:
    return "".join(c if c.isalnum() else "-" for c in name.lower()).replace("--", "-")


def _rows(run: Path) -> list[dict[str, Any]]:
    try:
        lines = (run / "log.jsonl").read_text(encoding="utf-8").splitlines()
        rows = [json.loads(line) for line in lines]
        if not all(isinstance(row["test_accuracy"], float) for row in rows):
            raise ValueError("an accuracy is no number")
        return rows
    except OSError:
        return []
    except (ValueError, TypeError, KeyError, RecursionError) as error:
        if any(run.glob("*.npz")):
            return []  # the log is written again from the checkpoint
        raise TinyshuffleError(
            f"{run / 'log.jsonl'} is damaged ({error}), and there is no checkpoint to write it "
            "from: delete the directory, and the run is trained again"
        ) from error


def _accuracy(run: Path, config: Config) -> float:
    rows = _rows(run)
    if len(rows) < config.epochs:
        raise TinyshuffleError(
            f"{run / 'log.jsonl'} is not complete: make room or mend the permissions, and give the "
            "same command again"
        )
    return float(rows[-1]["test_accuracy"])


def _check_same(run: Path, wanted: Config) -> None:
    """Refuse a run that is there already and was trained in another way."""
    try:
        found = json.loads((run / "config.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return
    if not isinstance(found, dict):
        raise TinyshuffleError(
            f"{run / 'config.json'} is no configuration: choose another --runs-dir, or delete {run}"
        )
    for field, value in wanted.to_dict().items():
        if field not in ("threads", "data_dir") and found.get(field) != value:
            raise TinyshuffleError(
                f"{run} belongs to another ablation ({field} is {found.get(field)}, not {value}): "
                "choose another --runs-dir, or delete it"
            )


def _run_all(runs: list[tuple[Path, Config]], jobs: int, quiet: bool) -> None:
    from joblib import Parallel, delayed

    failures = []
    try:
        with outlive_terminal(), sigterm_as_interrupt(), _watched(runs, quiet):
            for end in Parallel(n_jobs=jobs, return_as="generator")(
                delayed(_run_one)(str(run), config.to_dict()) for run, config in runs
            ):
                if end == "stopped":  # in this process, or all of them were
                    raise KeyboardInterrupt
                failures += [end] if end else []
    except KeyboardInterrupt:
        raise Interrupted("stopped; the same command continues", signal.SIGINT) from None
    if failures:
        raise TinyshuffleError(f"{failures[0]} ({len(failures)} of {plural(len(runs), 'run')})")


def _run_one(run: str, fields: dict[str, Any]) -> str:
    """Train a run, or the rest of it; return why it could not be, or nothing."""
    path, config = Path(run), Config.from_dict(fields)
    rows = _rows(path)
    try:
        with warnings.catch_warnings():
            # said once, by the process that began this one
            warnings.filterwarnings("ignore", ".* is whole, but its", UserWarning)
            warnings.filterwarnings("ignore", ".* files in .* are left out", UserWarning)
            if any(path.glob("*.npz")):
                resume(path, quiet=True, threads=config.threads, data_dir=config.data_dir)
            elif len(rows) == config.epochs:
                pass  # finished, and somebody made room
            elif rows:
                return (
                    f"{path} has a log and no checkpoint: delete it, or choose another --runs-dir"
                )
            else:
                shutil.rmtree(path, ignore_errors=True)  # killed before its first checkpoint
                train(config, path.name, path.parent, quiet=True)
    except Interrupted:
        return "stopped"
    except TinyshuffleError as error:
        return str(error)
    return ""


@contextmanager
def _watched(runs: list[tuple[Path, Config]], quiet: bool) -> Iterator[None]:
    """Show how many epochs of all runs are done, by looking into their logs."""
    from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

    def done() -> int:
        return sum(len(_rows(run)) for run, _ in runs)

    console = plain_console(file=output(), quiet=quiet, soft_wrap=True)
    total = sum(config.epochs for _, config in runs)
    bar = Progress(
        TextColumn("{task.description}"),
        BarColumn(bar_width=None),
        TimeRemainingColumn(),
        TextColumn("left"),
        console=console,
        transient=True,
        disable=quiet or not console.is_terminal,
        speed_estimate_period=1e9,  # epochs are long, and of unlike length
    )
    task = bar.add_task("", total=total, completed=done())
    ended = {run for run, config in runs if len(_rows(run)) == config.epochs}
    console.print(f"{plural(len(runs), 'training')}, {len(ended)} done before")
    stop = threading.Event()

    def look() -> None:
        for run, config in runs:
            rows = _rows(run)
            if run not in ended and len(rows) == config.epochs:
                ended.add(run)
                console.print(f"{run.name}: {100 * rows[-1]['test_accuracy']:.2f} %")
        text = f"{len(ended)}/{plural(len(runs), 'training')}"
        bar.update(task, completed=done(), description=text)

    def watch() -> None:
        while not stop.wait(1.0):
            look()

    with bar:
        watcher = threading.Thread(target=watch, daemon=True)
        watcher.start()
        try:
            yield
        finally:
            stop.set()
            watcher.join()
            look()


def _write(report: Report, folder: Path) -> None:
    from ... import plots

    for name, text in (("report.md", report.to_markdown()), ("report.csv", report.to_csv())):
        with atomic_write(folder / name) as file:
            file.write(text.encode())
    figure = plots.ablation(report.ablation.title, report.accuracies, report.config.data)
    with atomic_write(folder / "report.png") as file:
        figure.savefig(file, format="png")
    write_config(folder, report.config)
