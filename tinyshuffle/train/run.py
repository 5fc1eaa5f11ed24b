"""Runs: begin one, continue one, test one."""

from __future__ import annotations

import dataclasses
import json
import os
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import Any

from .. import checkpoint, nn
from ..backend import backend
from ..errors import TinyshuffleError
from ..parallel import get_num_threads, num_threads
from ..ranks import current
from ..values import flags
from .config import Config, check_data_dir, load_data
from .directory import alone, check_name, check_unbegun, new_run
from .evaluation import Evaluation, evaluate
from .loop import Trainer
from .record import Result, write_machine
from .signals import outlive_terminal
from .standing import restore
from .verify import best_checkpoint, build, check, check_data, verify_to_resume

__all__ = ["evaluate_run", "resume", "train"]


@flags
def train(
    config: Config,
    name: str | None = None,
    runs_dir: str | Path = "runs",
    quiet: bool = False,
    prefix: str | None = None,
) -> Result:
    """Train a net from the start.

    Parameters
    ----------
    config : Config
    name : str, optional
        Of the run directory; by default prefix, data set, model and time.
    runs_dir : path
        Where run directories are made.
    quiet : bool
        Print nothing.
    prefix : str, optional
        Of the default name, such as the recipe's.

    Raises
    ------
    TinyshuffleError
        If the run exists, something in the configuration or the data cannot be, a file cannot be
        written, or the loss is no longer a finite number.
    Interrupted
        After the first Ctrl-C or SIGTERM, with the checkpoint written. The second acts at once.
    """
    check(config)  # before a data set is downloaded
    if name is not None:
        check_name(name)
        if os.path.lexists(Path(runs_dir) / name):
            check_unbegun(Path(runs_dir) / name)
    with _settings(config), outlive_terminal():
        trainer = Trainer(config, quiet)
        trainer.begin_with(config.init)
        trainer.choose_epochs()
        with _new_run(config, name, Path(runs_dir), prefix) as (trainer.run, again):
            if again:
                trainer.progress.line(
                    f"{trainer.run} was stopped before its first checkpoint: starting it anew"
                )
            return trainer.begin()


@flags
def resume(run: str | Path, quiet: bool = False, **given: Any) -> Result:
    """Continue a run that was stopped or killed; it ends with the bits it would have ended with.

    Parameters
    ----------
    run : path
        The run directory.
    quiet : bool
        Print nothing.
    **given
        Fields of the configuration. ``data_dir`` and ``threads`` may differ from the run's (other
        threads change the last bits of the weights); of the rest, each must agree with it.

    Raises
    ------
    TinyshuffleError, Interrupted
        As :func:`train`, and if nothing in the run can be continued.
    """
    run = Path(run)
    begun = _by_the_first(lambda: _begun(run))
    with outlive_terminal(), alone(run) if _leads() else nullcontext():
        return _resume(run, quiet, given) if begun else _start(run, quiet, given)


def _leads() -> bool:
    """Whether this process reads and writes a run's files: of several, the first one does."""
    ranks = current()
    return ranks is None or ranks.rank == 0


def _by_the_first(work: Callable[[], Any]) -> Any:
    ranks = current()
    return work() if ranks is None else ranks.by_the_first(work)


@contextmanager
def _new_run(
    config: Config, name: str | None, runs_dir: Path, prefix: str | None
) -> Iterator[tuple[Path, bool]]:
    """A directory for a new run; see ``directory.new_run``."""
    ranks = current()
    if ranks is not None and ranks.rank > 0:
        yield ranks.first(None)
        return
    with new_run(config, name, runs_dir, prefix) as made:
        yield made if ranks is None else ranks.first(made)


def _begun(run: Path) -> bool:
    """Whether a run has a checkpoint; it has to have a configuration at least."""
    begun = any(run.glob("*.npz"))
    if not begun and not (run / "config.json").exists():
        # and no lock is left in what is not a run
        raise TinyshuffleError(
            f"{run} holds no checkpoint to go on from and no configuration to start with: name "
            f"another run, or start it again with the same options and --name {run.name}"
        )
    return begun


def _start(run: Path, quiet: bool, given: dict[str, Any]) -> Result:
    """Train a run that was stopped before its first checkpoint, from its configuration."""
    path = run / "config.json"
    try:
        fields = _by_the_first(lambda: json.loads(path.read_text(encoding="utf-8")))
        if not isinstance(fields, dict) or not {"model", "data"} <= fields.keys():
            raise ValueError("it lacks model and data")
        config = _agreeing(Config.from_dict(fields), given, run)
    except (OSError, ValueError, RecursionError) as error:
        if isinstance(error, TinyshuffleError):
            raise
        raise TinyshuffleError(
            f"{run} holds no checkpoint to go on from, and {path} cannot be read ({error}): start "
            f"it again with the same options and --name {run.name}"
        ) from error
    with _settings(config):
        trainer = Trainer(config, quiet)
        trainer.run = run
        trainer.progress.line(
            f"{run} was stopped before its first checkpoint: starting it from its configuration"
        )
        trainer.begin_with(config.init)
        trainer.choose_epochs()
        return trainer.begin()


def _agreeing(before: Config, given: dict[str, Any], run: Path) -> Config:
    """The configuration of a run with what may be given anew; refuses what contradicts it."""
    fields = before.to_dict()
    check_data_dir(before.data, given.get("data_dir"))
    config = Config.from_dict({**fields, **given})
    for name, value in config.to_dict().items():
        if name not in ("data_dir", "threads") and value != fields[name]:
            raise TinyshuffleError(
                f"--{name.replace('_', '-')} {_written(given[name])} contradicts {run}, which was "
                f"started with {_written(fields[name])}: leave the option out, or start a new run"
            )
    return config


def _written(value: Any) -> str:
    """A field as it is written on the command line."""
    if isinstance(value, dict):
        value = [f"{key}={item}" for key, item in value.items()]
    if isinstance(value, list | tuple):
        value = ", ".join(map(str, value)) or None
    return "none" if value is None else str(value)


def _resume(run: Path, quiet: bool, given: dict[str, Any]) -> Result:
    saved, path, faults = _by_the_first(lambda: checkpoint.load_newest(run, verify_to_resume))
    config = _agreeing(Config.from_dict(saved.header["config"]), given, run)
    with _settings(config):
        trainer = Trainer(config, quiet)
        trainer.run = run
        restore(trainer, saved)
        for fault in faults:
            trainer.progress.line(f"{fault}; going on from {path}")
        if not _leads():
            return trainer.fit()
        checkpoint.put_damaged_aside(run, path, faults)
        write_machine(run, config.threads)
        trainer.write_log()
        return trainer.fit()


@flags
def evaluate_run(
    run: str | Path,
    data_dir: str | None = None,
    threads: int | None = None,
    flip: bool = False,
    crops: bool = False,
) -> tuple[Evaluation, Path, int]:
    """Test a run's best checkpoint, or its newest if there is no best one yet.

    The images are the test images, which a run that held out training images has not seen.

    Parameters
    ----------
    run : path
        The run directory.
    data_dir, threads
        Instead of the run's.
    flip, crops : bool
        See :func:`evaluate`.

    Returns
    -------
    Evaluation, path of the checkpoint, number of the epoch after which it was written
    """
    saved, path = best_checkpoint(Path(run))
    before = Config.from_dict(saved.header["config"])
    check_data_dir(before.data, data_dir)
    config = dataclasses.replace(
        before, data_dir=data_dir or before.data_dir, threads=threads or get_num_threads()
    )
    with _settings(config):
        _, test_set = load_data(dataclasses.replace(config, validate=None))
        check_data(saved, test_set, Path(run))
        net = build(config, len(test_set.classes))
        net.load_state_dict(saved.best)
        loss = nn.CrossEntropyLoss(label_smoothing=config.label_smoothing)
        size = saved.header["data"]["size"]
        tested = evaluate(net, test_set, loss, size=size, flip=flip, crops=crops)
        return tested, path, saved.header["epoch"]


@contextmanager
def _settings(config: Config) -> Iterator[None]:
    """The configuration's backend and threads, until the run ends."""
    with num_threads(config.threads), backend(config.backend), warnings.catch_warnings():
        # the loop itself stops at numbers that are not finite, and says why
        warnings.filterwarnings("ignore", ".* encountered in", RuntimeWarning)
        yield
