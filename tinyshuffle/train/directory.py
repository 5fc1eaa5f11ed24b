"""A run's directory: made once, used by one process at a time, never used again for another run."""

from __future__ import annotations

import itertools
import os
import shlex
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from ..errors import TinyshuffleError
from ..files import is_leftover
from .config import Config

__all__ = ["alone", "check_name", "check_unbegun", "new_run"]


@contextmanager
def alone(run: Path) -> Iterator[None]:
    """Keep other processes from training into the same directory."""
    from filelock import FileLock, Timeout

    lock = FileLock(run / ".lock", timeout=0)  # whatever ends the process, ends the lock
    try:
        held = lock.acquire()
    except Timeout as error:
        raise TinyshuffleError(
            f"{run} is being trained by another process: wait until it has ended, or stop it"
        ) from error
    except OSError as error:
        raise TinyshuffleError(
            f"{run} cannot be written to ({error.strerror or error}): mend its permissions, or "
            "copy it to another place"
        ) from error
    with held:
        yield


@contextmanager
def new_run(
    config: Config, name: str | None, runs_dir: Path, prefix: str | None
) -> Iterator[tuple[Path, bool]]:
    """Make the run directory, and keep others out; one with anything in it is never used again.

    Yields it, and whether it was there, of a run that was stopped before its first checkpoint.
    """
    parts = prefix, Path(config.data).name, config.model, time.strftime("%Y%m%d-%H%M%S")
    stamp = "-".join(part for part in parts if part)
    for i in itertools.count(1):
        run, again = runs_dir / (name or (stamp if i == 1 else f"{stamp}-{i}")), False
        try:
            run.mkdir(parents=True)
            break
        except OSError as error:
            if not os.path.lexists(run):
                raise TinyshuffleError(
                    f"the run directory {run} cannot be made ({error.strerror or error}): choose "
                    "another place with --runs-dir"
                ) from error
            if name is not None:
                check_unbegun(run)
                again = True
                break
    with alone(run):
        check_unbegun(run)  # now that nobody else begins it
        yield run, again


def check_name(name: str) -> None:
    if name in ("", ".", "..") or Path(name).name != name:
        raise TinyshuffleError(
            f"--name {name!r} is not the name of a directory: use letters, digits, - and _, and "
            "--runs-dir for the place"
        )


def check_unbegun(run: Path) -> None:
    """Refuse a directory that holds more than what is written before the first checkpoint."""
    before_it = {".lock", "config.json", "machine.json"}
    found = {path.name for path in run.iterdir()} if run.is_dir() else {run.name}
    written = "config.json", "machine.json", "next.npz"
    before_it |= {name for name in found if any(is_leftover(name, of) for of in written)}
    if any(name.endswith(".npz") for name in found - before_it):
        raise TinyshuffleError(
            f"{run} exists already: continue it with --resume {shlex.quote(str(run))}, "
            "or choose another --name"
        )
    if found - before_it:
        raise TinyshuffleError(
            f"{run} exists already and is not a run, as it holds {min(found - before_it)} and no "
            "checkpoint: choose another --name"
        )
