"""The training loop.

Everything that the weights depend on is either a function of (seed, epoch, step), as the order of
the images, their augmentation and the learning rate are, or in the checkpoint. So a run that was
stopped between two steps, or killed, and then resumed ends with the same bits.
"""

from __future__ import annotations

import copy
import dataclasses
import itertools
import math
import shlex
import shutil
import statistics
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from .. import checkpoint, data, nn
from ..errors import TinyshuffleError
from ..files import write_json
from ..optim import Optimizer
from ..parallel import DataParallel
from ..ranks import current
from ..values import flags
from ..words import plural
from . import rank_checks, record, standing
from .average import Average
from .budget import Pace
from .config import Config, load_data
from .evaluation import Evaluation, evaluate
from .groups import Groups, muon_note, optimizer
from .loss import TrainingLoss
from .progress import Progress
from .record import SUMS, Result
from .report import write_report
from .signals import Interrupted, Signals
from .timetable import Timetable
from .transfer import begin_with, held, hold
from .update_bn import update_bn
from .verify import build_for
from .whiten import whiten

__all__ = ["Trainer"]

SEEN = 1024
"""Training images of which batch norm's statistics are taken before each test."""


class Trainer:
    """One run: net, optimiser, data, and how far it is."""

    run: Path
    tested: Evaluation | None = None

    @flags
    def __init__(self, config: Config, quiet: bool) -> None:
        self.config = config
        self.ranks = current()
        self.leads = self.ranks is None or self.ranks.rank == 0  # who writes and prints
        self.progress = Progress(quiet or not self.leads)
        if self.ranks is None:
            self.train_set, self.test_set = load_data(config)
        else:
            self.train_set, self.test_set = self.ranks.in_turn(lambda: load_data(config))
        for note in rank_checks.begin(config, self.ranks, self.train_set, self.test_set):
            self.progress.line(note)
        self.side = self.train_set.images.shape[1]
        self.net = build_for(config, self.side, len(self.train_set.classes))
        self.average = Average(self.net, config.ema) if config.ema else None
        self._frozen = held(self.net, config.freeze) if config.freeze else frozenset[str]()
        self.loss = TrainingLoss(self.net, config.label_smoothing)
        self.test_loss = nn.CrossEntropyLoss(label_smoothing=config.label_smoothing)
        self.optim = optimizer(config, self.net)
        # Only full batches, unless there is not even one: an image left out of this epoch's order
        # has its chance in the next one's.
        self.drop_last = len(self.train_set) >= config.batch_size
        full = max(1, len(self.train_set) // config.batch_size)  # steps of a whole epoch
        self.plan = Timetable(config, self.side, full)

        self.epoch = 0  # epochs finished
        self.step = 0  # steps done in the one under way
        # over those steps
        self.sums = dict.fromkeys(SUMS, 0.0)
        self.seconds = 0.0  # since the start, without the time between stop and resume
        self.rows: list[dict[str, Any]] = []
        self._clock = time.perf_counter()

    def _first(self, value: Any) -> Any:
        """What rank 0 has: of clocks and files."""
        return value if self.ranks is None else self.ranks.first(value)

    def begin_with(self, init: str | None) -> None:
        """Take the weights of another run or a file, or whiten, if the configuration says so."""
        if init is not None:
            done = begin_with(self.net, init, self.train_set.classes)
            self.progress.line(f"{self.config.model} {done}")
        if self.config.whiten:
            count = whiten(self.net, self.train_set)
            self.progress.line(f"{count} filters of the first layer whiten the images' patches")
        if (init is not None or self.config.whiten) and self.average is not None:
            self.average = Average(self.net, self.config.ema)

    @property
    def _held(self) -> frozenset[str]:
        """The layers that are held still in this epoch."""
        until = self.config.unfreeze_at
        return self._frozen if until is None or self.epoch < until else frozenset()

    # ---- how long it will be

    def choose_epochs(self) -> None:
        """Choose the number of epochs that fits the time budget, if there is one.

        A few steps at each size, with a copy of the net, say what an epoch takes. After each epoch
        :meth:`_plan_again` does the same with what that has taken.
        """
        config = self.config
        if config.time_budget is None:
            return
        self.progress.line("measuring how many epochs fit into the time budget …")
        with self.progress.compile_notice(config.backend) as stepped:
            measured = self._measure(stepped)
        (step, test), seconds = self._first((measured, self.seconds))
        self.plan.fit(Pace(step, test), seconds)

    def _plan_again(self, step: float, test: float | None) -> None:
        """Fit the rest of the run into the rest of the time.

        ``step`` and ``test`` are the seconds of a step and of the test of the epoch that has just
        ended; None: it had none.
        """
        if self.plan.pace is None or self._ended or self.epoch == self.plan.epochs:
            return
        pace = self.plan.pace.seen(self.plan.sizes[self.epoch - 1], step, test)
        pace, seconds = self._first((pace, self.seconds))
        self.plan.fit_again(pace, seconds, self.rows)
        self.progress.epochs = self.plan.epochs

    def _measure(self, stepped: Callable[[], None]) -> tuple[dict[int, float], dict[int, float]]:
        """Return the seconds of a step and of a test, for each size of the images."""
        config, net = self.config, copy.deepcopy(self.net)
        optim = optimizer(config, net)
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

    @flags
    def save(self, best: bool = False) -> None:
        """Write the checkpoint, unless the weights in it would be worthless."""
        net = self.net.state_dict()
        if not all(np.isfinite(array).all() for array in net.values()):
            raise self._diverged("the weights were no longer finite numbers after", -1)
        if not self.leads:
            return
        saved = standing.checkpoint_of(self)
        try:
            if best:  # first, as a run killed after `last` would not come back to it
                checkpoint.save(self.run / "best.npz", saved)
            checkpoint.save_newest(self.run, saved)
        except TinyshuffleError as error:
            if self._steps_done == 0:
                raise
            raise TinyshuffleError(f"{error}, then continue with: {self._resume}") from error

    def write_log(self) -> None:
        """Write the log. If it is open in a spreadsheet, say, that is no reason to stop."""
        if not self.leads:
            return
        with self._warned():
            record.write_log(self.run, self.rows, self.config.validate)

    def write_tests(self) -> None:
        """Draw where the last weights go wrong, unless that is drawn already."""
        if self._first(all((self.run / name).exists() for name in record.PICTURES)):
            return
        if self.tested is None:
            size = self.plan.sizes[-1]
            self.tested = evaluate(self._tested_net, self.test_set, self.test_loss, size=size)
        if not self.leads:
            return
        with self._warned():
            record.write_tests(self.run, self.test_set, self.tested)

    @contextmanager
    def _warned(self) -> Iterator[None]:
        """Print an error instead of raising it."""
        try:
            yield
        except TinyshuffleError as error:
            self.progress.line(f"Warning: {error}")

    # ---- the loop

    def begin(self) -> Result:
        """Train from the first step on: what a run needs is written before that."""
        try:
            if self.leads:
                write_json(self.run / "config.json", self.config.to_dict())
                record.write_machine(self.run, self.config.threads)
            self.save()
        except BaseException:
            if self.leads:
                shutil.rmtree(self.run, ignore_errors=True)  # there is nothing to continue
            raise
        return self.fit()

    def fit(self) -> Result:
        """Train to the end."""
        config = self.config
        self.progress.epochs = self.plan.epochs
        sizes = f" at {', '.join(map(str, config.sizes))} pixels" if config.sizes else ""
        threads = plural(config.threads, "thread")
        tests = "test images" if config.validate is None else "images held out to choose by"
        if self.ranks is not None:
            rank_checks.check_weights(self.net, self.ranks)
            threads = f"{plural(self.ranks.size, 'rank')} of {threads}"
        self.progress.line(
            f"{config.model} on {config.data}: {len(self.train_set):,} training and "
            f"{len(self.test_set):,} {tests}, {plural(self.plan.epochs, 'epoch')} of "
            f"{plural(self.plan.steps_per_epoch, 'step')}{sizes}, {threads}; "
            f"{self.run}"
        )
        size = self.plan.sizes[-1]
        if note := muon_note(self.optim, self.net, config.batch_size, size):
            self.progress.line(note)
        if 0 < (done := self._steps_done) < self.plan.total_steps:
            self.progress.line(f"continuing after step {done} of {self.plan.total_steps}")
        compiling = self.progress.compile_notice(config.backend)
        with Signals() as signals, self.progress, compiling as stepped:
            if self.ranks is None:  # who have to stop together
                signals.at_once = self._stopped
            self._clock = time.perf_counter()
            while self.epoch < self.plan.epochs and not self._ended:
                self._train_epoch(signals, stepped)
                self._finish_epoch(signals)
            self.write_tests()
            if self.leads:
                with self._warned():
                    write_report(self.run)
        return Result(self.run, self.rows, self._tested_net, self._ended, config.measured)

    def _batches(self, epoch: int, start: int, size: int) -> Iterator[Any]:
        config = self.config
        return data.batches(
            self.train_set, config.batch_size, seed=config.seed, epoch=epoch, start=start,
            drop_last=self.drop_last, cutout=config.cutout, size=size,
            alternate=bool(config.alternate),
        )  # fmt: skip

    def _train_epoch(self, signals: Signals, stepped: Callable[[], None]) -> None:
        config, sums = self.config, self.sums
        self.net.train()
        hold(self.net, self._held)
        size = self.plan.sizes[self.epoch]
        recent = 0.0 if self.plan.pace is None else self.plan.pace.step[size]  # seconds of a step
        batches = self._batches(self.epoch, self.step, size)
        for x, labels in itertools.islice(batches, self.plan.steps_per_epoch - self.step):
            self.optim.lr = self.plan.lr(self._steps_done)
            mixed = None
            if config.mixup:
                # one number more than the batch's own generator has, which is taken
                rng = np.random.default_rng([config.seed, self.epoch, 1 + self.step, 1])
                x, *mixed = data.mix(x, labels, config.mixup, rng)
            start = time.perf_counter()
            value, right = self._step(self.net, self.optim, x, labels, mixed)
            signals.at_once = None  # from here on there is something to save
            sums["step_seconds"] += time.perf_counter() - start
            if self.average is not None:
                self.average.update(self._steps_done)

            self.step += 1
            sums["loss"] += value * len(labels)
            sums["right"] += right
            sums["images"] += len(labels)
            passed = self._tick()
            sums["seconds"] += passed
            recent += (passed - recent) / 8  # one slow step is no slow machine
            stepped()
            self.progress.step(
                self.plan.part(self.epoch, self.step),
                self.epoch + 1,
                sums["loss"] / sums["images"],
                sums["right"] / sums["images"],
                sums["images"] / sums["seconds"],
            )
            self._stop_if_asked(signals)
            if config.time_budget is not None and self._first(
                self.plan.is_too_late(size, self.seconds, recent)
            ):
                break

    def _step(
        self, net: DataParallel, optim: Optimizer | Groups, x: np.ndarray, labels: np.ndarray,
        mixed: Any,
    ) -> tuple[float, int]:  # fmt: skip
        """Take one step; return the loss and how many images were right."""
        logits = net(x)
        value = self.loss(logits, labels, mixed)
        if not math.isfinite(value):
            raise self._diverged(f"the loss became {value} at", 0)
        net.backward(self.loss.backward(), images=False)
        if self._held:
            for p in optim.params:
                if p.name.rpartition(".")[0] in self._held:
                    p.grad = None  # an optimiser leaves such parameters alone
        optim.step()
        optim.zero_grad()
        return value, self.loss.right(logits, labels)

    def _update_bn(self, net: nn.Module, size: int) -> None:
        """Take batch norm's statistics of training images, as this epoch has cropped them."""
        batches = self._batches(self.epoch, 0, size)
        update_bn(net, itertools.islice(batches, -(-SEEN // self.config.batch_size)), self._held)

    def _test(self, signals: Signals, size: int) -> Evaluation:
        """Evaluate what the epoch has come to."""
        self.progress.evaluating()
        test = evaluate(
            self._tested_net,
            self.test_set,
            self.test_loss,
            after_batch=lambda: self._stop_if_asked(signals),
            size=size,
        )
        if not math.isfinite(test.loss):
            raise self._diverged(f"the test loss became {test.loss} after", -1)
        return test

    def _finish_epoch(self, signals: Signals) -> None:
        """Evaluate, if it is time; then let the epoch and its row enter the checkpoint together."""
        size, begun, sums = self.plan.sizes[self.epoch], self.seconds, self.sums
        is_due = self._first(self.plan.is_tested(self.epoch, self.step, self.seconds))
        # also without a test: a checkpoint is tested or taken up where the run was stopped
        self._update_bn(self._tested_net, size)
        self.tested = self._test(signals, size) if is_due else None
        self._tick()
        row = {
            "epoch": self.epoch + 1,
            "step": self._steps_done,
            "size": size,
            "lr": self.plan.lr(self._steps_done - 1),
            "train_loss": sums["loss"] / sums["images"],
            "train_accuracy": sums["right"] / sums["images"],
            "test_loss": None if self.tested is None else self.tested.loss,
            "test_accuracy": None if self.tested is None else self.tested.accuracy,
            "images_per_second": sums["images"] / sums["seconds"],
            "step_seconds": sums["step_seconds"],
            "seconds": self.seconds,
        }
        row = self._first(row)
        # The best is sought among the epochs at the size that the net is meant for.
        best = size == self.plan.sizes[-1] and self.tested is not None
        if best and (rivals := [r["test_accuracy"] for r in self.plan.rivals(self.rows)]):
            best = row["test_accuracy"] > max(rivals)
        before = self.rows[-1]["step"] if self.rows else 0
        self.rows.append(row)
        self.epoch, self.step = self.epoch + 1, 0
        self.sums = dict.fromkeys(sums, 0)
        test = None if self.tested is None else row["seconds"] - begun
        self._plan_again(sums["seconds"] / (row["step"] - before), test)
        self.save(best)
        self.write_log()
        self._tick()
        self.progress.epoch(row)
        if self.epoch < self.plan.epochs and not self._ended:
            self._stop_if_asked(signals)

    @property
    def _tested_net(self) -> nn.Module:
        return self.net if self.average is None else self.average.net

    @property
    def _ended(self) -> str:
        """Why the run is over before its last epoch, if it is: a function of the rows alone."""
        return self.plan.ended(self.rows)

    @property
    def _resume(self) -> str:
        return f"python -m tinyshuffle train --resume {shlex.quote(str(self.run))}"

    @property
    def _steps_done(self) -> int:
        return (self.rows[-1]["step"] if self.rows else 0) + self.step

    def _tick(self) -> float:
        """Seconds since the last tick; they are added to the run's."""
        now = time.perf_counter()
        passed, self._clock = now - self._clock, now
        self.seconds += passed
        return passed

    def _stop_if_asked(self, signals: Signals) -> None:
        received = signals.received
        if self.ranks is not None:  # they may hear of it between different steps
            received = int(*self.ranks.most(received))
        if received:
            self._tick()  # a part of a test is time, too
            self.save()
            raise self._stopped(received)

    def _stopped(self, signum: int) -> Interrupted:
        return Interrupted(
            f"stopped after step {self.step} of {self.plan.steps_per_epoch} in epoch "
            f"{self.epoch + 1}; continue with: {self._resume}",
            signum,
        )

    def _diverged(self, what: str, offset: int) -> TinyshuffleError:
        step = self._steps_done + offset
        return TinyshuffleError(
            f"{what} step {step + 1} of {self.plan.total_steps}, with learning rate "
            f"{self.plan.lr(step):.4g}: train again with a smaller --lr or a longer --warmup; the "
            f"last good checkpoint is {self.run / 'last.npz'}"
        )
