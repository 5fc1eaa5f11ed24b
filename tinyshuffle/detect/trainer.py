"""The training of a detector.

As in :mod:`tinyshuffle.train`: everything that the weights depend on is either a function of (seed,
epoch, step) or in the checkpoint, so a run that was stopped and then resumed ends with the same
bits; and every file is whole or absent.
"""

from __future__ import annotations

import itertools
import math
import shlex
import shutil
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from .. import checkpoint
from ..backend import DEFAULT, backend
from ..checkpoint import Checkpoint
from ..data import BoxDataset, Objects, box_batches
from ..errors import TinyshuffleError
from ..files import write_figure, write_json
from ..nn import Module
from ..optim import SGD
from ..parallel import num_threads
from ..train import schedule
from ..train.average import Average
from ..train.directory import alone, check_name, check_unbegun, new_run
from ..train.progress import Progress
from ..train.record import write_machine, write_rows
from ..train.signals import Interrupted, Signals, outlive_terminal
from ..train.update_bn import update_bn
from ..values import flags
from ..words import duration, plural
from .average_precision import STATISTICS, Detections, Scores, average_precision, percent
from .config import DetectConfig, load_data
from .detector import Detector
from .init import begin_with
from .losses import NAMES, Losses
from .saved import build, check_data, verify
from .targets import Choice, choose

__all__ = ["COLUMNS", "Result", "evaluate", "resume", "train"]

COLUMNS = (
    "epoch", "step", "lr", *NAMES, *STATISTICS, "images_per_second", "seconds",
)  # fmt: skip
"""Of ``log.csv``: the losses are means over the epoch, the statistics COCO's, of the test set, and
-1 where there is no such object; ``images_per_second`` counts training alone."""

PICTURES = "precision_recall.png", "detections.png"
RISE = 0.1  # of the run, in which the learning rate rises
SEEN = 512  # training pictures of which batch norm's statistics are taken before a test
SHOWN = 12  # of the test set's pictures, with what was found


@dataclass(frozen=True)
class Result:
    """A finished run: its directory, its log, and the detector that was tested."""

    run: Path
    rows: list[dict[str, Any]]
    net: Detector

    def __str__(self) -> str:
        last = self.rows[-1]
        return (
            f"mAP {percent(last['map'])} %, AP at IoU 0.5 {percent(last['map50'])} % after "
            f"{plural(last['epoch'], 'epoch')} in {duration(last['seconds'])}; {self.run}"
        )


class _Progress(Progress):
    """The bar and the lines of one run."""

    def losses(self, done: float, epoch: int, loss: float, rate: float) -> None:
        """Move the bar."""
        self._bar.update(
            self._task, completed=done, description=f"epoch {epoch}/{self.epochs}",
            figures=f"loss {loss:.3f}  {rate:.1f} pictures/s",
        )  # fmt: skip

    def epoch(self, row: dict[str, Any]) -> None:
        """Print a finished epoch."""
        self.line(
            f"epoch {row['epoch']:{len(str(self.epochs))}}/{self.epochs}  "
            f"loss {sum(row[name] for name in NAMES):.3f}   "
            f"mAP {percent(row['map']):>4} %  AP50 {percent(row['map50']):>4} %  "
            f"small {percent(row['map_small']):>4} %   "
            f"{row['images_per_second']:.1f} pictures/s  {duration(row['seconds'])}"
        )


class Trainer:
    """One run: detector, optimiser, data, and how far it is."""

    run: Path

    @flags
    def __init__(self, config: DetectConfig, quiet: bool) -> None:
        self.config, self.progress = config, _Progress(quiet)
        self.net = build(config, 1)  # whether it fits the pictures, before those are drawn
        self.train_set, self.test_set = load_data(config)
        if len(self.train_set) < config.batch_size:
            raise TinyshuffleError(
                f"batch_size={config.batch_size} was given, and {self.train_set.name!r} has "
                f"{plural(len(self.train_set), 'picture')}: give a smaller one"
            )
        self.net = build(config, len(self.train_set.classes))
        self.losses = Losses(self.net)
        self.optim = SGD(
            self.net.parameters(), config.lr, momentum=0.9, nesterov=True,
            weight_decay=config.weight_decay,
        )  # fmt: skip
        self.steps_per_epoch = len(self.train_set) // config.batch_size
        self.total_steps = config.epochs * self.steps_per_epoch
        self.progress.epochs = config.epochs
        self.average = Average(self.net, config.ema) if config.ema else None
        self.epoch, self.step = 0, 0  # epochs finished; steps done in the one under way
        self.sums = _nothing()
        self.seconds = 0.0
        self.rows: list[dict[str, Any]] = []
        self.tested: tuple[list[Detections], Scores] | None = None
        self._clock = time.perf_counter()

    def begin_with(self) -> None:
        """Take the backbone's weights from elsewhere, if the configuration says so."""
        if self.config.init is not None:
            self.progress.line(begin_with(self.net, self.config))
            if self.average is not None:
                self.average = Average(self.net, self.config.ema)

    # ---- what is kept

    @flags
    def save(self, best: bool = False) -> None:
        net = self.net.state_dict()
        if not all(np.isfinite(array).all() for array in net.values()):
            raise self._diverged("the weights were no longer finite numbers after")
        saved = Checkpoint(
            {
                "config": self.config.to_dict(),
                "epoch": self.epoch,
                "step": self.step,
                "sums": self.sums,
                "seconds": self.seconds,
                "rows": self.rows,
                "data": {
                    "classes": list(self.train_set.classes),
                    "mean": self.train_set.mean.tolist(),
                    "std": self.train_set.std.tolist(),
                    "pictures": len(self.train_set),
                },
            },
            net,
            self.optim.state_dict(),
            {} if self.average is None else self.average.net.state_dict(),
        )
        if best:  # first, as a run killed after `last` would not come back to it
            checkpoint.save(self.run / "best.npz", saved)
        checkpoint.save_newest(self.run, saved)

    def restore(self, saved: Checkpoint) -> None:
        """Stand where the checkpoint was written."""
        header = saved.header
        check_data(saved, self.train_set, self.run)
        self.net.load_state_dict(saved.net)
        if self.average is not None:
            self.average.net.load_state_dict(saved.average)
        self.optim.load_state_dict(saved.optim)
        self.epoch, self.step, self.sums = header["epoch"], header["step"], header["sums"]
        self.seconds, self.rows = header["seconds"], header["rows"]

    def write_log(self) -> None:
        """Write the log. If it cannot be written, that is no reason to stop."""
        from .. import plots

        with self._warned():
            write_rows(self.run, self.rows, COLUMNS)
            if self.rows:
                write_figure(self.run / "curves.png", plots.detection_curves(self.rows))

    def write_tests(self) -> None:
        """Draw what the last weights find, unless that is drawn already."""
        from .. import plots

        if all((self.run / name).exists() for name in PICTURES):
            return
        found, scores = self.tested or evaluate(self._tested_net, self.test_set)
        classes, first = self.test_set.classes, min(SHOWN, len(self.test_set))
        figures = (
            plots.precision_recall(scores.precision[..., 0, 2], classes),
            plots.boxes(self.test_set.images[:first], [_sure(one) for one in found[:first]],
                        classes),
        )  # fmt: skip
        with self._warned():
            for name, figure in zip(PICTURES, figures, strict=True):
                write_figure(self.run / name, figure)

    @contextmanager
    def _warned(self) -> Iterator[None]:
        try:
            yield
        except TinyshuffleError as error:
            self.progress.line(f"Warning: {error}")

    # ---- the loop

    def begin(self) -> Result:
        """Train from the first step on."""
        try:
            write_json(self.run / "config.json", self.config.to_dict())
            write_machine(self.run, self.config.threads)
            self.save()
        except BaseException:
            shutil.rmtree(self.run, ignore_errors=True)  # there is nothing to continue
            raise
        return self.fit()

    def fit(self) -> Result:
        """Train to the end."""
        config = self.config
        self.progress.line(
            f"{config.detector} on {config.model}, {self.train_set.name}: "
            f"{len(self.train_set):,} training and {len(self.test_set):,} test pictures of "
            f"{config.side}x{config.side}, {plural(config.epochs, 'epoch')} of "
            f"{plural(self.steps_per_epoch, 'step')}, {plural(config.threads, 'thread')}; "
            f"{self.run}"
        )
        if 0 < self._steps_done < self.total_steps:
            self.progress.line(f"continuing after step {self._steps_done} of {self.total_steps}")
        compiling = self.progress.compile_notice(DEFAULT)
        with Signals() as signals, self.progress, compiling as stepped:
            self._clock = time.perf_counter()
            while self.epoch < config.epochs:
                self._train_epoch(signals, stepped)
                self._finish_epoch(signals)
            self.write_tests()
        return Result(self.run, self.rows, self._tested_net)

    def _train_epoch(self, signals: Signals, stepped: Callable[[], None]) -> None:
        config, sums = self.config, self.sums
        self.net.train()
        for x, objects in box_batches(
            self.train_set, config.batch_size, config.seed, self.epoch, self.step
        ):
            self.optim.lr = self._lr(self._steps_done)
            # two numbers more than the order of the epoch has, one more than the augmentation
            rng = np.random.default_rng([config.seed, self.epoch, 1 + self.step, 1])
            value = self.losses(x, partial(self._choose, objects, rng))
            if not math.isfinite(value):
                raise self._diverged(f"the loss became {value} at")
            self.losses.backward_to_parameters()
            self.optim.step()
            self.optim.zero_grad()
            if self.average is not None:
                self.average.update(self._steps_done)
            self.step += 1
            for name, part in self.losses.values.items():
                sums[name] += part * len(x)
            sums["images"] += len(x)
            sums["seconds"] += self._tick()
            stepped()
            self.progress.losses(
                self._steps_done / self.total_steps, self.epoch + 1,
                sum(sums[name] for name in NAMES) / sums["images"],
                sums["images"] / sums["seconds"],
            )  # fmt: skip
            self._stop_if_asked(signals)

    def _choose(
        self, objects: list[Objects], rng: np.random.Generator, proposals: np.ndarray
    ) -> Choice:
        return choose(self.net, proposals, objects, rng)

    def _finish_epoch(self, signals: Signals) -> None:
        """Evaluate, then let the epoch and its row enter the checkpoint together."""
        config, sums = self.config, self.sums
        self.progress.evaluating()
        batches = box_batches(self.train_set, config.batch_size, config.seed, self.epoch)
        few = itertools.islice(batches, -(-SEEN // config.batch_size))
        update_bn(self._tested_net.body, few)
        self.tested = evaluate(
            self._tested_net, self.test_set, lambda: self._stop_if_asked(signals)
        )
        numbers = self.tested[1].statistics
        self._tick()
        row = {
            "epoch": self.epoch + 1,
            "step": self._steps_done,
            "lr": self._lr(self._steps_done - 1),
            **{name: sums[name] / sums["images"] for name in NAMES},
            **numbers,
            "images_per_second": sums["images"] / sums["seconds"],
            "seconds": self.seconds,
        }
        best = numbers["map"] > max((r["map"] for r in self.rows), default=-math.inf)
        self.rows.append(row)
        self.epoch, self.step, self.sums = self.epoch + 1, 0, _nothing()
        self.save(best)
        self.write_log()
        self._tick()
        self.progress.epoch(row)
        if self.epoch < config.epochs:
            self._stop_if_asked(signals)

    @property
    def _tested_net(self) -> Detector:
        net: Module = self.net if self.average is None else self.average.net
        assert isinstance(net, Detector)
        return net

    @property
    def _steps_done(self) -> int:
        return self.epoch * self.steps_per_epoch + self.step

    def _lr(self, step: int) -> float:
        total = self.total_steps
        return self.config.lr * schedule.factor("one-cycle", step, total, int(RISE * total))

    def _tick(self) -> float:
        """Seconds since the last tick; they are added to the run's."""
        now = time.perf_counter()
        passed, self._clock = now - self._clock, now
        self.seconds += passed
        return passed

    def _stop_if_asked(self, signals: Signals) -> None:
        if signals.received:
            self._tick()  # a part of a test is time, too
            self.save()
            raise Interrupted(
                f"stopped after step {self.step} of {self.steps_per_epoch} in epoch "
                f"{self.epoch + 1}; continue with: python -m tinyshuffle detect train --resume "
                f"{shlex.quote(str(self.run))}",
                signals.received,
            )

    def _diverged(self, what: str) -> TinyshuffleError:
        return TinyshuffleError(
            f"{what} step {self._steps_done + 1} of {self.total_steps}: train again with a smaller "
            f"--lr than {self.config.lr:g}; the last good checkpoint is {self.run / 'last.npz'}"
        )


def _nothing() -> dict[str, float]:
    return dict.fromkeys((*NAMES, "images", "seconds"), 0.0)


def _sure(found: Detections) -> Detections:
    keep = found[2] >= 0.5
    return found[0][keep], found[1][keep], found[2][keep]


def evaluate(
    net: Detector, dataset: BoxDataset, after_batch: Callable[[], None] = lambda: None,
    batch_size: int = 16,
) -> tuple[list[Detections], Scores]:  # fmt: skip
    """Find objects in all pictures of a data set, and compare with what is there."""
    training, found = net.training, []
    net.eval()
    try:
        for x, _ in box_batches(dataset, batch_size, augment=False):
            found += net.detect(x)
            after_batch()
    finally:
        net.train(training)
    return found, average_precision(dataset, found)


@flags
def train(
    config: DetectConfig,
    name: str | None = None,
    runs_dir: str | Path = "runs",
    quiet: bool = False,
) -> Result:
    """Train a detector from the start.

    Parameters
    ----------
    config : DetectConfig
    name : str, optional
        Of the run directory; by default detector, data set, backbone and time.
    runs_dir : path
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
    if name is not None:
        check_name(name)
        if (Path(runs_dir) / name).exists():
            check_unbegun(Path(runs_dir) / name)
    with settings(config), outlive_terminal():
        trainer = Trainer(config, quiet)
        trainer.begin_with()
        made = new_run(config, name, Path(runs_dir), config.detector)  # type: ignore[arg-type]
        with made as (trainer.run, _):
            return trainer.begin()


@flags
def resume(run: str | Path, quiet: bool = False, threads: int | None = None) -> Result:
    """Continue a run that was stopped or killed; it ends with the bits it would have ended with.

    Other ``threads`` than the run's change the last bits of the weights.
    """
    run = Path(run)
    saved, path, faults = checkpoint.load_newest(run, verify)
    fields = saved.header["config"]
    cores = fields["threads"] if threads is None else threads
    config = DetectConfig.from_dict({**fields, "threads": cores})
    with outlive_terminal(), alone(run), settings(config):
        trainer = Trainer(config, quiet)
        trainer.run = run
        trainer.restore(saved)
        for fault in faults:
            trainer.progress.line(f"{fault}; going on from {path}")
        checkpoint.put_damaged_aside(run, path, faults)
        write_machine(run, config.threads)
        trainer.write_log()
        return trainer.fit()


@contextmanager
def settings(config: DetectConfig) -> Iterator[None]:
    """Use the configuration's threads, and the default backend, until the run ends."""
    with (
        num_threads(config.threads),
        backend(DEFAULT),
        np.errstate(over="ignore", invalid="ignore"),
    ):
        yield
