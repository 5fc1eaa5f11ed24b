"""The training loop, and what a run leaves behind.

A run directory holds ``config.json``, ``log.csv`` (a row an epoch), ``curves.png`` and the
checkpoints of :mod:`tinyshuffle.train.checkpoint`. The checkpoint is the truth: the log and the
curves are written from the rows in it.

Everything that the weights depend on is either a function of (seed, epoch, step), as the order of
the images, their augmentation and the learning rate are, or in the checkpoint. So a run that was
stopped between two steps, or killed, and then resumed ends with the same bits.
"""

from __future__ import annotations

import csv
import io
import itertools
import json
import math
import os
import shutil
import signal
import threading
import time
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import Any

import numpy as np

from .. import data, models, nn
from ..backend import backend
from ..errors import TinyshuffleError
from ..parallel import get_num_threads, set_num_threads
from . import checkpoint, schedule
from .checkpoint import Checkpoint, atomic_write
from .config import Config
from .optim import SGD, Adam, Optimizer
from .progress import Progress, duration, plural

__all__ = ["COLUMNS", "Evaluation", "Interrupted", "Result", "evaluate", "resume", "train"]

COLUMNS = (
    "epoch",
    "step",
    "lr",
    "train_loss",
    "train_accuracy",
    "test_loss",
    "test_accuracy",
    "images_per_second",
    "seconds",
)
"""Of ``log.csv``. ``step`` counts from the start of the run, ``lr`` is that of the epoch's last
step, the training figures are means over the epoch while the weights moved, ``images_per_second``
counts training alone and ``seconds`` is since the start of the run, evaluation included."""


class Interrupted(KeyboardInterrupt):
    """The run was stopped by a signal between two steps, and its checkpoint is written."""

    def __init__(self, message: str, signum: int) -> None:
        super().__init__(message)
        self.signum = signum


@dataclass(frozen=True)
class Evaluation:
    """What a net does on a test set.

    Attributes
    ----------
    loss : float
        Mean over the images.
    accuracy : float
        Part of the images that are right, 0 to 1.
    classes : tuple of str
    right, count : ndarray of int, (classes,)
        Images of each class that are right, and that there are.
    """

    loss: float
    accuracy: float
    classes: tuple[str, ...]
    right: np.ndarray
    count: np.ndarray


@dataclass(frozen=True)
class Result:
    """A finished run: its directory, its log and the net with its last weights."""

    run: Path
    rows: list[dict[str, Any]]
    net: nn.Module

    @property
    def accuracy(self) -> float:
        """Test accuracy after the last epoch, 0 to 1."""
        return float(self.rows[-1]["test_accuracy"])

    def __str__(self) -> str:
        last = self.rows[-1]
        return (
            f"test accuracy {100 * self.accuracy:.1f} % after {plural(last['epoch'], 'epoch')} in "
            f"{duration(last['seconds'])}; {self.run}"
        )


def evaluate(
    net: nn.Module,
    dataset: data.Dataset,
    loss: Any = None,
    batch_size: int = 500,
    after_batch: Callable[[], None] | None = None,
) -> Evaluation:
    """Run a net over a whole data set in evaluation mode, and leave it in the mode it was in.

    Parameters
    ----------
    net : Module
    dataset : Dataset
    loss : layer
        ``loss(logits, labels)`` gives the mean over a batch; by default ``CrossEntropyLoss()``.
    batch_size : int
    after_batch : function
        Called after each batch.
    """
    loss = loss or nn.CrossEntropyLoss()
    total = 0.0
    right = np.zeros(len(dataset.classes), np.int64)
    before = net.training
    net.eval()
    try:
        for x, labels in data.batches(dataset, batch_size, augment=False, shuffle=False):
            logits = net(x)
            total += float(loss(logits, labels)) * len(labels)
            right += np.bincount(labels[logits.argmax(1) == labels], minlength=len(right))
            if after_batch is not None:
                after_batch()
    finally:
        net.train(before)
    count = np.bincount(dataset.labels, minlength=len(right))
    images = len(dataset)
    return Evaluation(total / images, float(right.sum() / images), dataset.classes, right, count)


def train(
    config: Config, name: str | None = None, runs_dir: str | Path = "runs", quiet: bool = False
) -> Result:
    """Train a net from the start.

    Parameters
    ----------
    config : Config
    name : str, optional
        Of the run directory; by default data set, model and time.
    runs_dir : path
        Where run directories are made.
    quiet : bool
        Print nothing.

    Raises
    ------
    TinyshuffleError
        If the run exists, something in the configuration or the data cannot be, a file cannot be
        written, or the loss is no longer a finite number.
    Interrupted
        After the first Ctrl-C or SIGTERM, with the checkpoint written. The second acts at once.
    """
    with _settings(config):
        trainer = _Trainer(config, quiet)
        trainer.run = _new_run(config, name, Path(runs_dir))
        try:
            with atomic_write(trainer.run / "config.json") as file:
                file.write((json.dumps(config.to_dict(), indent=2) + "\n").encode())
            trainer.save()
        except BaseException:
            shutil.rmtree(trainer.run, ignore_errors=True)  # there is nothing to continue
            raise
        return trainer.fit()


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
    saved, path, faults = checkpoint.load_newest(run)
    before = Config.from_dict(saved.header["config"]).to_dict()
    config = Config.from_dict({**before, **given})
    for name, value in given.items():
        if name not in ("data_dir", "threads") and value != before[name]:
            raise TinyshuffleError(
                f"--{name.replace('_', '-')} {value} contradicts {run}, which was started with "
                f"{before[name]}: leave the option out, or start a new run"
            )
    with _settings(config):
        trainer = _Trainer(config, quiet)
        trainer.run = run
        trainer.restore(saved)
        for fault in faults:
            trainer.progress.line(f"{fault}; going on from {path}")
        if faults and path.name != "last.npz" and (run / "last.npz").exists():
            # out of the way, or the next checkpoint would put it in the place of the good one
            os.replace(run / "last.npz", run / "damaged.npz")
        trainer.write_log()
        return trainer.fit()


def evaluate_run(
    run: str | Path, data_dir: str | None = None, threads: int | None = None
) -> tuple[Evaluation, Path, int]:
    """Test a run's best checkpoint, or its newest if there is no best one yet.

    Parameters
    ----------
    run : path
        The run directory.
    data_dir, threads
        Instead of the run's.

    Returns
    -------
    Evaluation, path of the checkpoint, number of the epoch after which it was written
    """
    path = Path(run) / "best.npz"
    if path.exists():
        saved = checkpoint.load(path)
    else:
        saved, path, _ = checkpoint.load_newest(Path(run))
    fields = saved.header["config"]
    config = Config.from_dict(
        {
            **fields,
            "data_dir": data_dir or fields["data_dir"],
            "threads": threads or get_num_threads(),
        }
    )
    with _settings(config):
        _, test_set = data.load(config.data, root=config.data_dir)
        net = models.create(config.model, num_classes=len(test_set.classes), stem="cifar")
        net.load_state_dict(saved.net)
        loss = nn.CrossEntropyLoss(label_smoothing=config.label_smoothing)
        return evaluate(net, test_set, loss), path, saved.header["epoch"]


class _Trainer:
    """One run: net, optimiser, data, and how far it is."""

    run: Path

    def __init__(self, config: Config, quiet: bool) -> None:
        self.config = config
        self.train_set, self.test_set = data.load(config.data, root=config.data_dir)
        self.net = models.create(
            config.model, num_classes=len(self.train_set.classes), stem="cifar", seed=config.seed
        )
        self.loss = nn.CrossEntropyLoss(label_smoothing=config.label_smoothing)
        self.optim = _optimizer(config, self.net)
        # Only full batches, unless there is not even one: an image left out of this epoch's order
        # has its chance in the next one's.
        self.drop_last = len(self.train_set) >= config.batch_size
        self.steps_per_epoch = max(1, len(self.train_set) // config.batch_size)
        self.total_steps = config.epochs * self.steps_per_epoch
        warmup = None if config.warmup is None else round(config.warmup * self.steps_per_epoch)
        self.warmup = schedule.check(config.schedule, self.total_steps, warmup)
        self.progress = Progress(config.epochs, self.steps_per_epoch, quiet)

        self.epoch = 0  # epochs finished
        self.step = 0  # steps done in the one under way
        self.sums = {"loss": 0.0, "right": 0, "images": 0, "seconds": 0.0}  # over those steps
        self.seconds = 0.0  # since the start, without the time between stop and resume
        self.rows: list[dict[str, Any]] = []

    # ---- what is kept

    def save(self, best: bool = False) -> None:
        """Write the checkpoint, unless the weights in it would be worthless."""
        net = self.net.state_dict()
        if not all(np.isfinite(array).all() for array in net.values()):
            raise self._diverged("the weights were no longer finite numbers after", -1)
        saved = Checkpoint(
            {
                "config": self.config.to_dict(),
                "epoch": self.epoch,
                "step": self.step,
                "sums": self.sums,
                "seconds": self.seconds,
                "rows": self.rows,
                "random_states": self.net.random_states(),
            },
            net,
            self.optim.state_dict(),
        )
        try:
            if best:  # first, as a run killed after `last` would not come back to it
                checkpoint.save(self.run / "best.npz", saved)
            checkpoint.save_newest(self.run, saved)
        except TinyshuffleError as error:
            if self._steps_done == 0:
                raise
            raise TinyshuffleError(f"{error}, then continue with: {self._resume}") from error

    def restore(self, saved: Checkpoint) -> None:
        """Stand where the checkpoint was written."""
        header = saved.header
        self.net.load_state_dict(saved.net)
        self.net.load_random_states(header["random_states"])
        self.optim.load_state_dict(saved.optim)
        self.epoch, self.step = header["epoch"], header["step"]
        self.sums, self.seconds, self.rows = header["sums"], header["seconds"], header["rows"]

    def write_log(self) -> None:
        """Write ``log.csv`` and ``curves.png`` from the rows."""
        from .. import plots

        try:
            with atomic_write(self.run / "log.csv") as file:
                text = io.StringIO(newline="")
                writer = csv.DictWriter(text, COLUMNS, lineterminator="\n")
                writer.writeheader()
                writer.writerows(self.rows)
                file.write(text.getvalue().encode())
            if self.rows:
                with atomic_write(self.run / "curves.png") as file:
                    plots.learning_curves(self.rows).savefig(file, format="png")
        except TinyshuffleError as error:  # open in a spreadsheet, say: no reason to stop
            self.progress.line(f"Warning: {error}")

    # ---- the loop

    def fit(self) -> Result:
        """Train to the end."""
        self.progress.line(
            f"{self.config.model} on {self.config.data}: {len(self.train_set):,} training and "
            f"{len(self.test_set):,} test images, {plural(self.config.epochs, 'epoch')} of "
            f"{plural(self.steps_per_epoch, 'step')}, {plural(self.config.threads, 'thread')}; "
            f"{self.run}"
        )
        if 0 < self._steps_done < self.total_steps:
            self.progress.line(f"continuing after step {self._steps_done} of {self.total_steps}")
        with _Signals() as signals, self.progress, self._compile_notice() as stepped:
            self._clock = time.perf_counter()
            while self.epoch < self.config.epochs:
                self._train_epoch(signals, stepped)
                self._finish_epoch(signals)
        return Result(self.run, self.rows, self.net)

    def _train_epoch(self, signals: _Signals, stepped: Callable[[], None]) -> None:
        config, net, sums = self.config, self.net, self.sums
        net.train()
        for x, labels in data.batches(
            self.train_set,
            config.batch_size,
            seed=config.seed,
            epoch=self.epoch,
            start=self.step,
            drop_last=self.drop_last,
        ):
            self.optim.lr = self._lr(self._steps_done)
            logits = net(x)
            value = float(self.loss(logits, labels))
            if not math.isfinite(value):
                raise self._diverged(f"the loss became {value} at", 0)
            net.backward(self.loss.backward())
            self.optim.step()
            net.zero_grad()

            self.step += 1
            sums["loss"] += value * len(labels)
            sums["right"] += int((logits.argmax(1) == labels).sum())
            sums["images"] += len(labels)
            sums["seconds"] += self._tick()
            stepped()
            self.progress.step(
                self._steps_done,
                self.epoch + 1,
                sums["loss"] / sums["images"],
                sums["right"] / sums["images"],
                sums["images"] / sums["seconds"],
            )
            self._stop_if_asked(signals)

    def _finish_epoch(self, signals: _Signals) -> None:
        """Evaluate, then let the epoch and its row enter the checkpoint together."""
        self.progress.evaluating()
        test = evaluate(
            self.net, self.test_set, self.loss, after_batch=lambda: self._stop_if_asked(signals)
        )
        if not math.isfinite(test.loss):
            raise self._diverged(f"the test loss became {test.loss} after", -1)
        self._tick()
        sums = self.sums
        best = max((row["test_accuracy"] for row in self.rows), default=-1.0)
        row = {
            "epoch": self.epoch + 1,
            "step": self._steps_done,
            "lr": self._lr(self._steps_done - 1),
            "train_loss": sums["loss"] / sums["images"],
            "train_accuracy": sums["right"] / sums["images"],
            "test_loss": test.loss,
            "test_accuracy": test.accuracy,
            "images_per_second": sums["images"] / sums["seconds"],
            "seconds": self.seconds,
        }
        self.rows.append(row)
        self.epoch, self.step = self.epoch + 1, 0
        self.sums = dict.fromkeys(sums, 0)
        self.save(best=test.accuracy > best)
        self.write_log()
        self._tick()
        self.progress.epoch(row)
        if self.epoch < self.config.epochs:
            self._stop_if_asked(signals)

    @property
    def _resume(self) -> str:
        return f"python -m tinyshuffle train --resume {self.run}"

    @property
    def _steps_done(self) -> int:
        return self.epoch * self.steps_per_epoch + self.step

    def _lr(self, step: int) -> float:
        return self.config.lr * schedule.factor(
            self.config.schedule, step, self.total_steps, self.warmup
        )

    def _tick(self) -> float:
        """Seconds since the last tick; they are added to the run's."""
        now = time.perf_counter()
        passed, self._clock = now - self._clock, now
        self.seconds += passed
        return passed

    def _stop_if_asked(self, signals: _Signals) -> None:
        if signals.received:
            self.save()
            raise Interrupted(
                f"stopped after step {self.step} of {self.steps_per_epoch} in epoch "
                f"{self.epoch + 1}; continue with: {self._resume}",
                signals.received,
            )

    def _diverged(self, what: str, offset: int) -> TinyshuffleError:
        step = self._steps_done + offset
        return TinyshuffleError(
            f"{what} step {step + 1} of {self.total_steps}, with learning rate "
            f"{self._lr(step):.4g}: train again with a smaller --lr or a longer --warmup; the last "
            f"good checkpoint is {self.run / 'last.npz'}"
        )

    @contextmanager
    def _compile_notice(self) -> Iterator[Callable[[], None]]:
        """Explain a first step that takes long; yields what cancels that."""
        notice = threading.Timer(
            3.0, self.progress.line, ["compiling the kernels (once per machine) …"]
        )
        notice.daemon = True
        if self.config.backend == "numba":
            notice.start()
        try:
            yield notice.cancel
        finally:
            notice.cancel()


class _Signals:
    """Remember the first Ctrl-C or SIGTERM, so that the step under way can end."""

    received = 0

    def __enter__(self) -> _Signals:
        self._before: dict[int, Any] = {}
        if threading.current_thread() is threading.main_thread():
            for signum in (signal.SIGINT, signal.SIGTERM):
                handler = signal.getsignal(signum)
                if handler not in (signal.SIG_IGN, None):  # nohup's wish is respected
                    self._before[signum] = handler
                    signal.signal(signum, self._note)
        return self

    def _note(self, signum: int, frame: FrameType | None) -> None:
        self.received = signum
        self.__exit__()  # the second one acts at once

    def __exit__(self, *_: object) -> None:
        for signum, handler in self._before.items():
            signal.signal(signum, handler)


@contextmanager
def _settings(config: Config) -> Iterator[None]:
    """The configuration's backend and threads, until the run ends."""
    before = get_num_threads()
    set_num_threads(config.threads)
    try:
        with backend(config.backend), warnings.catch_warnings():
            # the loop itself stops at numbers that are not finite, and says why
            warnings.filterwarnings("ignore", ".* encountered in", RuntimeWarning)
            yield
    finally:
        set_num_threads(before)


def _optimizer(config: Config, net: nn.Module) -> Optimizer:
    if config.optimizer == "adam":
        return Adam(net.parameters(), config.lr, weight_decay=config.weight_decay)
    return SGD(
        net.parameters(),
        config.lr,
        momentum=config.momentum,
        nesterov=config.momentum > 0,
        weight_decay=config.weight_decay,
    )


def _new_run(config: Config, name: str | None, runs_dir: Path) -> Path:
    """Make the run directory; one that exists is never used again."""
    if name is not None and (name in ("", ".", "..") or Path(name).name != name):
        raise TinyshuffleError(
            f"--name {name!r} is not the name of a directory: use letters, digits, - and _, and "
            "--runs-dir for the place"
        )
    stamp = f"{config.data}-{config.model}-{time.strftime('%Y%m%d-%H%M%S')}"
    for i in itertools.count(1):
        run = runs_dir / (name or (stamp if i == 1 else f"{stamp}-{i}"))
        try:
            run.mkdir(parents=True)
            break
        except OSError as error:
            if not run.exists():
                raise TinyshuffleError(
                    f"the run directory {run} cannot be made ({error.strerror or error}): choose "
                    "another place with --runs-dir"
                ) from error
            if name is not None:
                raise TinyshuffleError(
                    f"{run} exists already: continue it with --resume {run}, or choose another "
                    "--name"
                ) from error
    return run
