"""The training loop, and what a run leaves behind.

A run directory holds ``config.json``, ``machine.json``, ``log.csv`` and ``log.jsonl`` (a row an
epoch), ``curves.png``, at the end ``confusion.png`` and ``worst.png``, and the checkpoints of
:mod:`tinyshuffle.train.checkpoint`. The checkpoint is the truth: the log and the curves are written
from the rows in it.

Everything that the weights depend on is either a function of (seed, epoch, step), as the order of
the images, their augmentation and the learning rate are, or in the checkpoint. So a run that was
stopped between two steps, or killed, and then resumed ends with the same bits.
"""

from __future__ import annotations

import copy
import csv
import dataclasses
import io
import itertools
import json
import math
import os
import shlex
import shutil
import signal
import statistics
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

from .. import data, nn
from ..backend import backend
from ..errors import TinyshuffleError
from ..files import atomic_write
from ..machine import describe
from ..optim import SGD, Adam, Optimizer
from ..parallel import get_num_threads, set_num_threads
from ..values import flags
from ..words import duration, plural
from . import checkpoint, schedule
from .average import Average
from .checkpoint import Checkpoint
from .config import MOST_EPOCHS, Config, check_data_dir
from .progress import Progress
from .update_bn import update_bn
from .verify import COLUMNS, SUMS, build, build_for, check, verify, verify_to_resume

__all__ = ["COLUMNS", "Evaluation", "Interrupted", "Result", "evaluate", "resume", "train"]

SEEN = 2048
"""Training images of which batch norm's statistics are taken before each test."""

OVERRUN = 1.1
"""A run with a time budget ends early when it has taken this many times the budget."""


class Interrupted(KeyboardInterrupt):
    """The run was stopped by a signal between two steps, and its checkpoint is written."""

    def __init__(self, message: str, signum: int) -> None:
        super().__init__(message)
        self.signum = signum

    def __reduce__(self) -> tuple:  # a pool of processes that cannot send it on hangs
        return type(self), (str(self), self.signum)


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
    labels : ndarray of int, (N,)
    probabilities : ndarray, (N, classes)
        What the net thinks of each image.
    """

    loss: float
    accuracy: float
    classes: tuple[str, ...]
    labels: np.ndarray
    probabilities: np.ndarray

    @property
    def confusion(self) -> np.ndarray:
        """Images by class (rows) and by what the net takes them for, (classes, classes)."""
        k = len(self.classes)
        # int64, as bytes would wrap around
        pairs = self.labels.astype(np.int64) * k + self.probabilities.argmax(1)
        return np.bincount(pairs, minlength=k * k).reshape(k, k)

    @property
    def right(self) -> np.ndarray:
        """Images of each class that are right, (classes,)."""
        return self.confusion.diagonal()

    @property
    def count(self) -> np.ndarray:
        """Images of each class that there are, (classes,)."""
        return self.confusion.sum(1)


@dataclass(frozen=True)
class Result:
    """A finished run: its directory, its log and the net with its last weights.

    The net is the average of the weights if the run keeps one, and ``ended`` says why the run was
    over before its last epoch, if it was.
    """

    run: Path
    rows: list[dict[str, Any]]
    net: nn.Module
    ended: str = ""

    @property
    def accuracy(self) -> float:
        """Test accuracy after the last epoch, 0 to 1."""
        return float(self.rows[-1]["test_accuracy"])

    def __str__(self) -> str:
        last = self.rows[-1]
        return (
            f"test accuracy {100 * self.accuracy:.1f} % after {plural(last['epoch'], 'epoch')} in "
            f"{duration(last['seconds'])}{self.ended and f' ({self.ended})'}; {self.run}"
        )


@flags
def evaluate(
    net: nn.Module,
    dataset: data.Dataset,
    loss: Any = None,
    batch_size: int = 500,
    after_batch: Callable[[], None] | None = None,
    size: int | None = None,
    flip: bool = False,
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
    size : int
        Scale the images to this side.
    flip : bool
        Take the mean of the logits of each image and of its mirror image.
    """
    loss = loss or nn.CrossEntropyLoss()
    total = 0.0
    parts: list[np.ndarray] = []
    before = net.training
    net.eval()
    try:
        for x, labels in data.batches(dataset, batch_size, augment=False, shuffle=False, size=size):
            logits = net(x)
            if flip:
                logits = (logits + net(np.ascontiguousarray(x[:, :, ::-1]))) / 2
            if logits.shape != (len(labels), len(dataset.classes)):
                raise TinyshuffleError(
                    f"the net gives {logits.shape} for {len(labels)} images of {dataset.name!r}, "
                    f"which has {len(dataset.classes)} classes: build it with "
                    f"num_classes={len(dataset.classes)}"
                )
            total += float(loss(logits, labels)) * len(labels)
            parts.append(softmax(logits))
            if after_batch is not None:
                after_batch()
    finally:
        net.train(before)
    probabilities = np.concatenate(parts)
    accuracy = float((probabilities.argmax(1) == dataset.labels).mean())
    return Evaluation(
        total / len(dataset), accuracy, dataset.classes, dataset.labels, probabilities
    )


def softmax(logits: np.ndarray) -> np.ndarray:
    """Return the probabilities (N, classes) that logits stand for."""
    powers = np.exp(logits - logits.max(1, keepdims=True))
    return powers / powers.sum(1, keepdims=True)


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
        _check_name(name)
        if os.path.lexists(Path(runs_dir) / name):
            _check_unbegun(Path(runs_dir) / name)
    with _settings(config), outlive_terminal():
        trainer = _Trainer(config, quiet)
        trainer.plan()
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
    begun = any(run.glob("*.npz"))
    if not begun and not (run / "config.json").exists():
        # and no lock is left in what is not a run
        raise TinyshuffleError(
            f"{run} holds no checkpoint to go on from and no configuration to start with: name "
            f"another run, or start it again with the same options and --name {run.name}"
        )
    with outlive_terminal(), _alone(run):
        return _resume(run, quiet, given) if begun else _start(run, quiet, given)


def _start(run: Path, quiet: bool, given: dict[str, Any]) -> Result:
    """Train a run that was stopped before its first checkpoint, from its configuration."""
    path = run / "config.json"
    try:
        fields = json.loads(path.read_text(encoding="utf-8"))
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
        trainer = _Trainer(config, quiet)
        trainer.run = run
        trainer.progress.line(
            f"{run} was stopped before its first checkpoint: starting it from its configuration"
        )
        trainer.plan()
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
    saved, path, faults = checkpoint.load_newest(run, verify_to_resume)
    config = _agreeing(Config.from_dict(saved.header["config"]), given, run)
    with _settings(config):
        trainer = _Trainer(config, quiet)
        trainer.run = run
        trainer.restore(saved)
        for fault in faults:
            trainer.progress.line(f"{fault}; going on from {path}")
        if faults and path.name != "last.npz" and os.path.lexists(run / "last.npz"):
            # out of the way, or the next checkpoint would put it in the place of the good one
            os.replace(run / "last.npz", run / "damaged.npz")
        trainer.write_machine()
        trainer.write_log()
        return trainer.fit()


def best_checkpoint(run: Path) -> tuple[Checkpoint, Path]:
    """Return a run's best checkpoint, or its newest if there is no best one yet, and its path.

    Warns if it is not the one that it should be, because that is damaged.
    """
    path, faults = run / "best.npz", []
    if path.exists():
        try:
            return checkpoint.load(path, verify), path
        except checkpoint.Damaged as error:
            faults.append(str(error))
    saved, path, more = checkpoint.load_newest(run, verify)
    for fault in [*faults, *more]:
        warnings.warn(f"{fault}; going on with {path}", stacklevel=2)
    return saved, path


@flags
def evaluate_run(
    run: str | Path, data_dir: str | None = None, threads: int | None = None, flip: bool = False
) -> tuple[Evaluation, Path, int]:
    """Test a run's best checkpoint, or its newest if there is no best one yet.

    Parameters
    ----------
    run : path
        The run directory.
    data_dir, threads
        Instead of the run's.
    flip : bool
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
        _, test_set = data.load(config.data, root=config.data_dir)
        _check_data(saved, test_set, Path(run))
        net = build(config, len(test_set.classes))
        net.load_state_dict(saved.best)
        loss = nn.CrossEntropyLoss(label_smoothing=config.label_smoothing)
        size = saved.header["data"]["size"]
        return evaluate(net, test_set, loss, size=size, flip=flip), path, saved.header["epoch"]


class _Trainer:
    """One run: net, optimiser, data, and how far it is."""

    run: Path
    tested: Evaluation | None = None

    def __init__(self, config: Config, quiet: bool) -> None:
        self.config = config
        self.train_set, self.test_set = data.load(config.data, root=config.data_dir)
        self.side = self.train_set.images.shape[1]
        self.net = build_for(config, self.side, len(self.train_set.classes))
        self.average = Average(self.net, config.ema) if config.ema else None
        self.loss = nn.CrossEntropyLoss(label_smoothing=config.label_smoothing)
        self.other_loss = nn.CrossEntropyLoss(label_smoothing=config.label_smoothing)  # of mixup
        self.optim = _optimizer(config, self.net)
        # Only full batches, unless there is not even one: an image left out of this epoch's order
        # has its chance in the next one's.
        self.drop_last = len(self.train_set) >= config.batch_size
        self.steps_per_epoch = max(1, len(self.train_set) // config.batch_size)
        self.progress = Progress(quiet)
        if config.time_budget is None:
            self._set_epochs(config.epochs, self.steps_per_epoch)

        self.epoch = 0  # epochs finished
        self.step = 0  # steps done in the one under way
        # over those steps
        self.sums = dict.fromkeys(SUMS, 0.0)
        self.seconds = 0.0  # since the start, without the time between stop and resume
        self.rows: list[dict[str, Any]] = []
        self._clock = time.perf_counter()

    # ---- how long it will be

    def _set_epochs(self, epochs: int, steps_per_epoch: int) -> None:
        config = self.config
        self.epochs, self.steps_per_epoch = epochs, steps_per_epoch
        self.total_steps = epochs * steps_per_epoch
        warmup = None if config.warmup is None else round(config.warmup * steps_per_epoch)
        self.warmup = schedule.check(config.schedule, self.total_steps, warmup)
        self.sizes = [config.size(epoch, epochs, self.side) for epoch in range(epochs)]
        # A step's work grows with the pixels: what the time that is left is reckoned by.
        self.work = np.concatenate([[0], np.cumsum(np.square(self.sizes))])
        self.progress.epochs = epochs

    def plan(self) -> None:
        """Choose the number of epochs that fits the time budget, if there is one.

        A few steps at each size, with a copy of the net, say what an epoch takes. The number is
        chosen once and stays with the run. So that no time is left over, it may be one epoch more,
        each a little shorter than the training set.
        """
        config = self.config
        if config.time_budget is None:
            return
        self.progress.line("measuring how many epochs fit into the time budget …")
        with self._compile_notice() as stepped:
            step, test = self._measure(stepped)
        # logs, curves and checkpoints take their time, and no two minutes are alike
        left = 0.97 * (config.seconds - self.seconds)
        full, plan = self.steps_per_epoch, (0, 0)
        for epochs in range(1, MOST_EPOCHS + 1):
            shares = config.shares(epochs, self.side)
            one_step = sum(step[size] * count for size, count in shares.items())
            tests = sum(test[size] * count for size, count in shares.items())
            steps = int((left - tests) / one_step)
            if epochs == 1 and steps < full:
                break
            plan = max(plan, (epochs, min(steps, full)), key=math.prod)
            if steps < full:  # one more epoch, though a shorter one, may be worth its test
                break
        if plan == (0, 0):
            needed = (full * one_step + tests) / 0.97 + self.seconds
            raise TinyshuffleError(
                f"a time budget of {config.time_budget} is shorter than one epoch, which takes "
                f"about {duration(needed)} here: give more time, or take a smaller --model or "
                "smaller --sizes"
            )
        self._set_epochs(*plan)

    def _measure(self, stepped: Callable[[], None]) -> tuple[dict[int, float], dict[int, float]]:
        """Return the seconds of a step and of a test, for each size of the images."""
        config, net = self.config, copy.deepcopy(self.net)
        optim = _optimizer(config, net)
        optim.lr = 0.0  # nothing diverges, and a step takes as long
        step, test = {}, {}
        for size in sorted(set(config.sizes) or {self.side}):
            times = []
            for _ in range(8):
                start = time.perf_counter()
                x, labels = next(self._batches(0, 0, size))
                self._step(net, optim, x, labels, None)
                times.append(time.perf_counter() - start)
                stepped()
            step[size] = statistics.median(times[2:])  # the first ones compile, and fetch memory
            part = dataclasses.replace(
                self.test_set, images=self.test_set.images[:500], labels=self.test_set.labels[:500]
            )
            for _ in range(2):
                start = time.perf_counter()
                self._update_bn(net, size)
                middle = time.perf_counter()
                evaluate(net, part, size=size)
                passed = time.perf_counter() - middle
            test[size] = middle - start + passed * len(self.test_set) / len(part)
        self._tick()
        return step, test

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
                "plan": [self.epochs, self.steps_per_epoch],
                "data": {
                    "classes": self.train_set.classes,
                    "mean": self.train_set.mean.tolist(),
                    "std": self.train_set.std.tolist(),
                    "size": self.sizes[-1],
                },
            },
            net,
            self.optim.state_dict(),
            {} if self.average is None else self.average.net.state_dict(),
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
        _check_data(saved, self.train_set, self.run)
        epochs, steps = header["plan"]
        if steps > self.steps_per_epoch or header["step"] > steps:
            raise TinyshuffleError(
                f"{self.run} has {plural(steps, 'step')} an epoch and is in number "
                f"{header['step']}, and these {len(self.train_set):,} images have only "
                f"{self.steps_per_epoch} of {self.config.batch_size}: say with --data-dir where "
                "its images are"
            )
        self._set_epochs(epochs, steps)
        self.net.load_state_dict(saved.net)
        if self.average is not None:
            self.average.net.load_state_dict(saved.average)
        self.net.load_random_states(header["random_states"])
        self.optim.load_state_dict(saved.optim)
        self.epoch, self.step = header["epoch"], header["step"]
        self.sums, self.seconds, self.rows = header["sums"], header["seconds"], header["rows"]

    def write_log(self) -> None:
        """Write ``log.csv``, ``log.jsonl`` and ``curves.png`` from the rows."""
        from .. import plots

        try:
            with atomic_write(self.run / "log.jsonl") as file:
                file.writelines(json.dumps(row).encode() + b"\n" for row in self.rows)
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

    def write_machine(self) -> None:
        """Write ``machine.json``: what the run has run on, the newest last."""
        path, here = self.run / "machine.json", _here(self.config.threads)
        try:
            machines = json.loads(path.read_text(encoding="utf-8"))
        except (OSError, ValueError, RecursionError):
            machines = []
        if not isinstance(machines, list):  # somebody else's: it is told anew
            machines = []
        if here not in machines[-1:]:
            with atomic_write(path) as file:
                file.write((json.dumps([*machines, here], indent=2) + "\n").encode())

    def write_tests(self) -> None:
        """Draw ``confusion.png`` and ``worst.png``: where the last weights go wrong."""
        from .. import plots

        paths = self.run / "confusion.png", self.run / "worst.png"
        if all(path.exists() for path in paths):
            return
        if self.tested is None:
            self.tested = evaluate(self._tested_net, self.test_set, self.loss, size=self.sizes[-1])
        figures = (
            plots.confusion(self.tested.confusion, self.tested.classes),
            plots.worst_images(self.test_set, self.tested.probabilities),
        )
        try:
            for path, figure in zip(paths, figures, strict=True):
                with atomic_write(path) as file:
                    figure.savefig(file, format="png")
        except TinyshuffleError as error:
            self.progress.line(f"Warning: {error}")

    # ---- the loop

    def begin(self) -> Result:
        """Train from the first step on: what a run needs is written before that."""
        try:
            with atomic_write(self.run / "config.json") as file:
                file.write((json.dumps(self.config.to_dict(), indent=2) + "\n").encode())
            self.write_machine()
            self.save()
        except BaseException:
            shutil.rmtree(self.run, ignore_errors=True)  # there is nothing to continue
            raise
        return self.fit()

    def fit(self) -> Result:
        """Train to the end."""
        config = self.config
        sizes = f" at {', '.join(map(str, config.sizes))} pixels" if config.sizes else ""
        self.progress.line(
            f"{config.model} on {config.data}: {len(self.train_set):,} training and "
            f"{len(self.test_set):,} test images, {plural(self.epochs, 'epoch')} of "
            f"{plural(self.steps_per_epoch, 'step')}{sizes}, {plural(config.threads, 'thread')}; "
            f"{self.run}"
        )
        if 0 < self._steps_done < self.total_steps:
            self.progress.line(f"continuing after step {self._steps_done} of {self.total_steps}")
        with _Signals() as signals, self.progress, self._compile_notice() as stepped:
            self._clock = time.perf_counter()
            while self.epoch < self.epochs and not self._ended:
                self._train_epoch(signals, stepped)
                self._finish_epoch(signals)
            self.write_tests()
        return Result(self.run, self.rows, self._tested_net, self._ended)

    def _batches(self, epoch: int, start: int, size: int) -> Iterator[Any]:
        return data.batches(
            self.train_set,
            self.config.batch_size,
            seed=self.config.seed,
            epoch=epoch,
            start=start,
            drop_last=self.drop_last,
            cutout=self.config.cutout,
            size=size,
        )

    def _train_epoch(self, signals: _Signals, stepped: Callable[[], None]) -> None:
        config, sums = self.config, self.sums
        self.net.train()
        size = self.sizes[self.epoch]
        batches = self._batches(self.epoch, self.step, size)
        for x, labels in itertools.islice(batches, self.steps_per_epoch - self.step):
            self.optim.lr = self._lr(self._steps_done)
            mixed = None
            if config.mixup:
                # one number more than the batch's own generator has, which is taken
                rng = np.random.default_rng([config.seed, self.epoch, 1 + self.step, 1])
                x, *mixed = data.mix(x, labels, config.mixup, rng)
            start = time.perf_counter()
            value, right = self._step(self.net, self.optim, x, labels, mixed)
            sums["step_seconds"] += time.perf_counter() - start
            if self.average is not None:
                self.average.update(self._steps_done)

            self.step += 1
            sums["loss"] += value * len(labels)
            sums["right"] += right
            sums["images"] += len(labels)
            sums["seconds"] += self._tick()
            stepped()
            done = self.work[self.epoch] + self.step / self.steps_per_epoch * size**2
            self.progress.step(
                done / self.work[-1],
                self.epoch + 1,
                sums["loss"] / sums["images"],
                sums["right"] / sums["images"],
                sums["images"] / sums["seconds"],
            )
            self._stop_if_asked(signals)
            if self._too_long(self.seconds):
                break

    def _step(
        self,
        net: nn.Module,
        optim: Optimizer,
        x: np.ndarray,
        labels: np.ndarray,
        mixed: Any,
    ) -> tuple[float, int]:
        """Take one step; return the loss and how many images were right."""
        logits = net(x)
        value = float(self.loss(logits, labels))
        if mixed is not None:
            other, share = mixed
            value = share * value + (1 - share) * float(self.other_loss(logits, other))
        if not math.isfinite(value):
            raise self._diverged(f"the loss became {value} at", 0)
        dlogits = self.loss.backward()
        if mixed is not None:
            dlogits = share * dlogits + (1 - share) * self.other_loss.backward()
        net.backward(dlogits)
        optim.step()
        optim.zero_grad()
        return value, int((logits.argmax(1) == labels).sum())

    def _update_bn(self, net: nn.Module, size: int) -> None:
        """Take batch norm's statistics of training images, as this epoch has cropped them."""
        batches = self._batches(self.epoch, 0, size)
        update_bn(net, itertools.islice(batches, -(-SEEN // self.config.batch_size)))

    def _finish_epoch(self, signals: _Signals) -> None:
        """Evaluate, then let the epoch and its row enter the checkpoint together."""
        self.progress.evaluating()
        size = self.sizes[self.epoch]
        self._update_bn(self._tested_net, size)
        test = evaluate(
            self._tested_net,
            self.test_set,
            self.loss,
            after_batch=lambda: self._stop_if_asked(signals),
            size=size,
        )
        if not math.isfinite(test.loss):
            raise self._diverged(f"the test loss became {test.loss} after", -1)
        self.tested = test
        self._tick()
        sums = self.sums
        row = {
            "epoch": self.epoch + 1,
            "step": self._steps_done,
            "size": size,
            "lr": self._lr(self._steps_done - 1),
            "train_loss": sums["loss"] / sums["images"],
            "train_accuracy": sums["right"] / sums["images"],
            "test_loss": test.loss,
            "test_accuracy": test.accuracy,
            "images_per_second": sums["images"] / sums["seconds"],
            "step_seconds": sums["step_seconds"],
            "seconds": self.seconds,
        }
        # The best is sought among the epochs at the size that the net is meant for.
        rivals = [r["test_accuracy"] for r in self.rows if r["size"] == self.sizes[-1]]
        best = size == self.sizes[-1] and test.accuracy > max(rivals, default=-1.0)
        self.rows.append(row)
        self.epoch, self.step = self.epoch + 1, 0
        self.sums = dict.fromkeys(sums, 0)
        self.save(best)
        self.write_log()
        self._tick()
        self.progress.epoch(row)
        if self.epoch < self.epochs and not self._ended:
            self._stop_if_asked(signals)

    @property
    def _tested_net(self) -> nn.Module:
        return self.net if self.average is None else self.average.net

    @property
    def _ended(self) -> str:
        """Why the run is over before its last epoch, if it is: a function of the rows alone."""
        if not self.rows or self.rows[-1]["step"] == self.total_steps:
            return ""
        patience = self.config.early_stop
        tests = [row["test_accuracy"] for row in self.rows if row["size"] == self.sizes[-1]]
        if patience and tests and len(tests) - 1 - tests.index(max(tests)) >= patience:
            return f"stopped early: not better for {plural(patience, 'epoch')}"
        if self._too_long(self.rows[-1]["seconds"]):
            return f"cut off in epoch {self.epoch} of {self.epochs}: the time budget is spent"
        return ""

    def _too_long(self, seconds: float) -> bool:
        return seconds > OVERRUN * self.config.seconds

    @property
    def _resume(self) -> str:
        return f"python -m tinyshuffle train --resume {shlex.quote(str(self.run))}"

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


@contextmanager
def outlive_terminal() -> Iterator[None]:
    """Go on when the terminal is closed, as under ``nohup``: nobody is there to start again."""
    if not hasattr(signal, "SIGHUP") or threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        yield
    finally:
        signal.signal(signal.SIGHUP, before)


@contextmanager
def _alone(run: Path) -> Iterator[None]:
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


def _check_data(saved: Checkpoint, found: data.Dataset, run: Path) -> None:
    """Refuse to go on with other images than those that a run began with."""
    facts = saved.header["data"]
    same = list(facts["classes"]) == list(found.classes) and all(
        np.allclose(facts[name], getattr(found, name), rtol=0, atol=1e-6)
        for name in ("mean", "std")
    )
    if not same:
        raise TinyshuffleError(
            f"{run} was trained on other images than these of {found.name!r} (classes, mean or "
            "standard deviation differ): say with --data-dir where those are"
        )


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


@contextmanager
def _new_run(
    config: Config, name: str | None, runs_dir: Path, prefix: str | None
) -> Iterator[tuple[Path, bool]]:
    """Make the run directory, and keep others out; one with anything in it is never used again.

    Yields it, and whether it was there, of a run that was stopped before its first checkpoint.
    """
    parts = prefix, config.data, config.model, time.strftime("%Y%m%d-%H%M%S")
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
                _check_unbegun(run)
                again = True
                break
    with _alone(run):
        _check_unbegun(run)  # now that nobody else begins it
        yield run, again


def _check_name(name: str) -> None:
    if name in ("", ".", "..") or Path(name).name != name:
        raise TinyshuffleError(
            f"--name {name!r} is not the name of a directory: use letters, digits, - and _, and "
            "--runs-dir for the place"
        )


def _check_unbegun(run: Path) -> None:
    """Refuse a directory that holds more than what is written before the first checkpoint."""
    before_it = {".lock", "config.json", "machine.json"}
    before_it |= {f".{name}.tmp" for name in ("config.json", "machine.json", "next.npz")}
    found = {path.name for path in run.iterdir()} if run.is_dir() else {run.name}
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


def _here(threads: int) -> dict[str, Any]:
    """What a run runs on, as ``machine.json`` keeps it: speed and last bits depend on it."""
    machine = describe(threads)
    return {
        "processor": machine.cpu,
        "cores": machine.cores,
        "threads": threads,
        "system": machine.system,
        "blas": machine.blas,
        **{name.lower(): machine.versions[name] for name in ("Python", "NumPy", "numba")},
    }
