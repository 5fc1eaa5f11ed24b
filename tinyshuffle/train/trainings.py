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
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from .. import checkpoint
from ..errors import TinyshuffleError
from ..text import bar, console
from ..values import flags
from ..words import parse_duration, plural
from .config import Config
from .progress import output
from .record import is_counted
from .run import resume, train
from .signals import Interrupted, outlive_terminal, sigterm_as_interrupt
from .timetable import is_over
from .verify import verify_to_resume

__all__ = [
    "CLASSIFIER",
    "MOST_JOBS",
    "Kind",
    "Settings",
    "check_count",
    "check_same",
    "measured",
    "read_rows",
    "train_all",
]

MOST_JOBS = 4096  # trainings at a time


def check_count(option: str, value: int | None, most: int | None = None) -> None:
    """Refuse what is no count of seeds or jobs; None was not given."""
    if value is not None and value < 1:
        raise TinyshuffleError(f"--{option} {value} was given: it must be 1 or more")
    if value is not None and most is not None and value > most:
        raise TinyshuffleError(f"--{option} {value} was given: it must be at most {most:,}")


class Settings(Protocol):
    """What the configuration of a training has, of whatever kind."""

    @property
    def epochs(self) -> int: ...

    @property
    def threads(self) -> int: ...

    def to_dict(self) -> dict[str, Any]: ...


@dataclass(frozen=True)
class Kind:
    """A kind of training, such as that of a classifier.

    Attributes
    ----------
    measure : str
        The column of its log that says how good the net is, 0 to 1.
    last : str
        The file that a finished run writes last.
    begin, go_on : callable
        Train a run directory, given the fields of its configuration; or the rest of it.
    """

    measure: str
    last: str
    begin: Callable[[Path, dict[str, Any]], object]
    go_on: Callable[[Path, dict[str, Any]], object]


def _begin(run: Path, fields: dict[str, Any]) -> None:
    train(Config.from_dict(fields), run.name, run.parent, quiet=True)


def _go_on(run: Path, fields: dict[str, Any]) -> None:
    resume(run, quiet=True, threads=fields["threads"], data_dir=fields["data_dir"])


CLASSIFIER = Kind("test_accuracy", "report.html", _begin, _go_on)


def read_rows(run: Path, measure: str = CLASSIFIER.measure) -> list[dict[str, Any]]:
    """Return a row for each epoch that a training has finished; none if it has not begun."""
    try:
        lines = (run / "log.jsonl").read_text(encoding="utf-8").splitlines()
        rows = [json.loads(line) for line in lines]
        # an epoch may have been left untested, the last one not
        if not all(isinstance(row[measure], float | None) for row in rows):
            raise ValueError(f"{measure} is no number")
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


def measured(run: Path, config: Settings, kind: Kind = CLASSIFIER) -> dict[str, Any]:
    """Return the row of a finished training's last epoch."""
    rows = read_rows(run, kind.measure)
    least = config.epochs if is_counted(config.to_dict()) else max(1, _epochs_kept(run))
    if len(rows) < least or rows[-1][kind.measure] is None:
        raise TinyshuffleError(
            f"{run / 'log.jsonl'} is not complete: make room or mend the permissions, and give the "
            "same command again"
        )
    return rows[-1]


def _epochs_kept(run: Path) -> int:
    """Epochs that the newest checkpoint knows of, which a log that was not written does not."""
    if not any(run.glob("*.npz")):  # somebody has made room
        return 0
    return int(checkpoint.load_newest(run, verify_to_resume)[0].header["epoch"])


def check_same(run: Path, wanted: Settings, kind: str) -> None:
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
def train_all(
    runs: Sequence[tuple[Path, Settings]], jobs: int, quiet: bool, kind: Kind = CLASSIFIER
) -> dict[Path, str]:
    """Train what is missing of some runs, and return why some could not be trained.

    They run side by side through joblib. In a ``with joblib.parallel_config("dask"):``, or "ray",
    they run where its workers are, who must see the directories and the data under the same paths.

    Parameters
    ----------
    runs : list of (path, configuration)
        In this order.
    jobs : int
        Trainings at a time.
    quiet : bool
        Print nothing.
    kind : Kind
        Of all of them.

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
        with outlive_terminal(), sigterm_as_interrupt(), _watched(runs, quiet, kind):
            for run, end in pool(
                delayed(_run_one)(str(run), config.to_dict(), kind) for run, config in runs
            ):
                if end == "stopped":  # in this process, or all of them were
                    raise KeyboardInterrupt
                if end:
                    failures[Path(run)] = end
    except KeyboardInterrupt:
        raise Interrupted("stopped; the same command continues", signal.SIGINT) from None
    return failures


def _run_one(run: str, fields: dict[str, Any], kind: Kind) -> tuple[str, str]:
    """Train a run, or the rest of it; return it, and why it could not be, or nothing."""
    path, why = Path(run), ""
    try:
        with warnings.catch_warnings():
            # said once, by the process that began this one
            warnings.filterwarnings("ignore", ".* is whole, but its", UserWarning)
            warnings.filterwarnings("ignore", ".* files in .* are left out", UserWarning)
            if not _ended(path, read_rows(path, kind.measure), fields, kind):
                with _turn(path):
                    why = _train_rest(path, fields, kind)
    except Interrupted:
        return run, "stopped"
    except TinyshuffleError as error:
        return run, str(error)
    return run, why


def _ended(run: Path, rows: list[dict[str, Any]], fields: dict[str, Any], kind: Kind) -> bool:
    """Whether a training with this log is finished, and has left all that it leaves."""
    if not rows or rows[-1][kind.measure] is None:  # the last epoch is always tested
        return False
    kept = any(run.glob("*.npz"))  # somebody who made room may have deleted the checkpoints
    last = (run / kind.last).exists()
    if is_counted(fields):
        return len(rows) == fields["epochs"] and (last or not kept)
    if not last:
        return False
    try:
        # "report RUN" writes the last file of a run that was stopped, too
        if not kept:
            return True
        header = checkpoint.load_newest(run, verify_to_resume)[0].header
        # a log that could not be written is, when the run is continued
        return bool(header["epoch"] == len(rows)) and is_over(header)
    except TinyshuffleError:  # whoever continues it says what is wrong
        return False


def _train_rest(run: Path, fields: dict[str, Any], kind: Kind) -> str:
    """Train a run, or the rest of it; return why it could not be, or nothing."""
    rows = read_rows(run, kind.measure)
    if _ended(run, rows, fields, kind):
        return ""
    if any(run.glob("*.npz")):
        kind.go_on(run, fields)
    elif rows:
        return f"{run} has a log and no checkpoint: delete it, or choose another --runs-dir"
    else:
        shutil.rmtree(run, ignore_errors=True)  # killed before its first checkpoint
        kind.begin(run, fields)
    return ""


@contextmanager
def _turn(run: Path) -> Iterator[None]:
    """Wait for others at the run, and keep them out from before it is looked at until it is done.

    Workers whose driver was killed go on with what they were given; those of the next driver get
    the same runs. The lock lies beside the directory, since a run that never had a checkpoint is
    deleted and begun again; the one inside is held by a run that somebody continues by itself.
    """
    from filelock import FileLock

    lock = FileLock(run.parent / f".{run.name}.lock")
    try:
        run.parent.mkdir(parents=True, exist_ok=True)
        held = lock.acquire()
        if (run / ".lock").exists():
            with FileLock(run / ".lock"):
                pass
    except OSError as error:
        lock.release()
        raise TinyshuffleError(
            f"{run.parent} cannot be written to ({error.strerror or error}): mend its "
            "permissions, or choose another --runs-dir"
        ) from error
    with held:
        yield


@contextmanager
def _watched(
    runs: Sequence[tuple[Path, Settings]], quiet: bool, kind: Kind
) -> Iterator[None]:
    """Show how many epochs of all runs are done, by looking into their logs."""
    from rich.progress import TextColumn, TimeRemainingColumn

    def rows_of(run: Path) -> list[dict[str, Any]]:
        try:
            return read_rows(run, kind.measure)
        except TinyshuffleError:  # whoever trains it says what is wrong
            return []

    fields = {run: config.to_dict() for run, config in runs}

    def part(run: Path, rows: list[dict[str, Any]]) -> float:
        budget = fields[run].get("time_budget")
        if run in ended or not rows:
            return float(run in ended)
        if budget is not None:
            return min(1.0, float(rows[-1]["seconds"]) / parse_duration(budget))
        return min(1.0, len(rows) / float(fields[run]["epochs"]))

    screen = console(file=output(), quiet=quiet, soft_wrap=True)
    progress = bar(screen, TimeRemainingColumn(), TextColumn("left"))
    progress.speed_estimate_period = 1e9  # epochs are long, and of unlike length
    task = progress.add_task("", total=len(runs))
    ended = {run for run in fields if _ended(run, rows_of(run), fields[run], kind)}
    screen.print(f"{plural(len(runs), 'training')}, {len(ended)} done before")
    stop = threading.Event()

    def look() -> None:
        done = 0.0
        for run in fields:
            rows = rows_of(run)  # once, as they may be others the next time
            if run not in ended and _ended(run, rows, fields[run], kind):
                ended.add(run)
                screen.print(f"{run.name}: {100 * rows[-1][kind.measure]:.2f} %")
            done += part(run, rows)
        text = f"{len(ended)}/{plural(len(runs), 'training')}"
        progress.update(task, completed=done, description=text)

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


