"""Several trainings side by side: run directories, through joblib, watched by their logs.

A training that was stopped continues, one that is finished is left alone, and one that another
process is still at is waited for: nothing is trained twice, and nothing is lost.
"""

from __future__ import annotations

import json
import shutil
import signal
import threading
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from ..errors import TinyshuffleError
from ..text import bar, console
from ..values import flags
from ..words import plural
from .config import Config
from .progress import output
from .run import resume, train
from .signals import Interrupted, outlive_terminal, sigterm_as_interrupt

__all__ = ["MOST_JOBS", "accuracy", "check_count", "check_same", "read_rows", "train_all"]

MOST_JOBS = 4096  # trainings at a time


def check_count(option: str, value: int | None, most: int | None = None) -> None:
    """Refuse what is no count of seeds or jobs; None was not given."""
    if value is not None and value < 1:
        raise TinyshuffleError(f"--{option} {value} was given: it must be 1 or more")
    if value is not None and most is not None and value > most:
        raise TinyshuffleError(f"--{option} {value} was given: it must be at most {most:,}")


def read_rows(run: Path) -> list[dict[str, Any]]:
    """Return a row for each epoch that a training has finished; none if it has not begun."""
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


def accuracy(run: Path, config: Config) -> float:
    """Return the test accuracy of a finished training after its last epoch, 0 to 1."""
    rows = read_rows(run)
    whole = config.time_budget is None and not config.early_stop  # then the epochs are known
    if len(rows) < (config.epochs if whole else 1):
        raise TinyshuffleError(
            f"{run / 'log.jsonl'} is not complete: make room or mend the permissions, and give the "
            "same command again"
        )
    return float(rows[-1]["test_accuracy"])


def check_same(run: Path, wanted: Config, kind: str) -> None:
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
                f"{run} belongs to another {kind} ({field} is {found.get(field)}, not {value}): "
                "choose another --runs-dir, or delete it"
            )


@flags
def train_all(runs: Sequence[tuple[Path, Config]], jobs: int, quiet: bool) -> dict[Path, str]:
    """Train what is missing of some runs, and return why some could not be trained.

    They run side by side through joblib. In a ``with joblib.parallel_config("dask"):``, or "ray",
    they run where its workers are, who must see the directories and the data under the same paths.

    Parameters
    ----------
    runs : list of (path, Config)
        In this order.
    jobs : int
        Trainings at a time.
    quiet : bool
        Print nothing.

    Raises
    ------
    Interrupted
        After Ctrl-C or SIGTERM; the same call continues.
    """
    from joblib import Parallel, delayed

    try:
        pool = Parallel(n_jobs=jobs, return_as="generator")
    except ValueError:  # Ray's hands back all of them at the end
        pool = Parallel(n_jobs=jobs)
    failures = {}
    try:
        with outlive_terminal(), sigterm_as_interrupt(), _watched(runs, quiet):
            for run, end in pool(
                delayed(_run_one)(str(run), config.to_dict()) for run, config in runs
            ):
                if end == "stopped":  # in this process, or all of them were
                    raise KeyboardInterrupt
                if end:
                    failures[Path(run)] = end
    except KeyboardInterrupt:
        raise Interrupted("stopped; the same command continues", signal.SIGINT) from None
    return failures


def _run_one(run: str, fields: dict[str, Any]) -> tuple[str, str]:
    """Train a run, or the rest of it; return it, and why it could not be, or nothing."""
    path, config = Path(run), Config.from_dict(fields)
    try:
        with warnings.catch_warnings():
            # said once, by the process that began this one
            warnings.filterwarnings("ignore", ".* is whole, but its", UserWarning)
            warnings.filterwarnings("ignore", ".* files in .* are left out", UserWarning)
            _wait_for_others(path)
            rows = read_rows(path)
            if any(path.glob("*.npz")):
                resume(path, quiet=True, threads=config.threads, data_dir=config.data_dir)
            elif len(rows) == config.epochs:
                pass  # finished, and somebody made room
            elif rows:
                return run, (
                    f"{path} has a log and no checkpoint: delete it, or choose another --runs-dir"
                )
            else:
                shutil.rmtree(path, ignore_errors=True)  # killed before its first checkpoint
                train(config, path.name, path.parent, quiet=True)
    except Interrupted:
        return run, "stopped"
    except TinyshuffleError as error:
        return run, str(error)
    return run, ""


def _wait_for_others(run: Path) -> None:
    """Wait for a process that is at the run, as one whose driver was killed may still be."""
    from filelock import FileLock

    if (run / ".lock").exists():
        with FileLock(run / ".lock"):
            pass


@contextmanager
def _watched(runs: Sequence[tuple[Path, Config]], quiet: bool) -> Iterator[None]:
    """Show how many epochs of all runs are done, by looking into their logs."""
    from rich.progress import TextColumn, TimeRemainingColumn

    def done() -> float:
        return sum(min(1.0, len(read_rows(run)) / config.epochs) for run, config in runs)

    screen = console(file=output(), quiet=quiet, soft_wrap=True)
    progress = bar(screen, TimeRemainingColumn(), TextColumn("left"))
    progress.speed_estimate_period = 1e9  # epochs are long, and of unlike length
    task = progress.add_task("", total=len(runs))
    ended = {run for run, config in runs if len(read_rows(run)) == config.epochs}
    screen.print(f"{plural(len(runs), 'training')}, {len(ended)} done before")
    stop = threading.Event()

    def look() -> None:
        for run, config in runs:
            rows = read_rows(run)
            if run not in ended and len(rows) == config.epochs:
                ended.add(run)
                screen.print(f"{run.name}: {100 * rows[-1]['test_accuracy']:.2f} %")
        text = f"{len(ended)}/{plural(len(runs), 'training')}"
        progress.update(task, completed=done(), description=text)

    def watch() -> None:
        while not stop.wait(1.0):
            look()

    with progress:
        watcher = threading.Thread(target=watch, daemon=True)
        watcher.start()
        try:
            yield
        finally:
            stop.set()
            watcher.join()
            look()


