"""How long a run is, what each epoch has, and when it is tested, planned again and over."""

from __future__ import annotations

from typing import Any

import numpy as np

from ..words import plural
from . import schedule
from .budget import OVERRUN, Pace, fitting
from .config import Config
from .record import tested

__all__ = ["Timetable", "is_over"]


class Timetable:
    """The epochs of a run, their steps and sizes, and where each step stands in the schedule.

    All but the pace is a function of the configuration, the plan and the log's rows, of which there
    is one for each epoch that is done.

    Parameters
    ----------
    config : Config
    side : int
        Of the data set's images, in pixels.
    full : int
        Steps of a whole epoch.
    """

    pace: Pace | None = None
    """Of the machine, as the plan has it; None without a time budget."""

    def __init__(self, config: Config, side: int, full: int) -> None:
        self.config, self.side, self.full = config, side, full
        if config.time_budget is None:
            self.begin(config.epochs, full)

    # ---- plans

    def begin(self, epochs: int, steps_per_epoch: int) -> None:
        """Plan a whole run: the schedule is that of so many steps, whatever becomes of them."""
        config = self.config
        self.schedule_steps = epochs * steps_per_epoch
        warmup = None if config.warmup is None else round(config.warmup * steps_per_epoch)
        self.warmup = schedule.check(config.schedule, self.schedule_steps, warmup)
        self._set(epochs, steps_per_epoch, 0, 0, 0.0)

    def _set(
        self, epochs: int, steps_per_epoch: int, planned_at: int, begun: int, position: float
    ) -> None:
        """Plan the epochs from one on, before which ``begun`` steps were taken.

        The rest of the schedule, from ``position`` on, is stretched over the steps that are left.
        """
        config = self.config
        self.epochs, self.steps_per_epoch = epochs, steps_per_epoch
        self.planned_at, self.begun, self.position = planned_at, begun, position
        self.total_steps = begun + (epochs - planned_at) * steps_per_epoch
        self.sizes = [config.size(epoch, epochs, self.side) for epoch in range(epochs)]
        # A step's work grows with the pixels: what the time that is left is reckoned by.
        self._work = np.concatenate([[0], np.cumsum(np.square(self.sizes))])

    def fit(self, pace: Pace, seconds: float) -> None:
        """Plan as many epochs as fit into the time budget, of which so many seconds are gone."""
        self.pace = pace
        self.begin(*fitting(self.config, self.side, self.full, pace, seconds))

    def fit_again(self, pace: Pace, seconds: float, rows: list[dict[str, Any]]) -> None:
        """Fit the rest of the run into the rest of the time, if the machine's speed has changed.

        As :meth:`fit`, after the epochs that have ``rows`` in the log.
        """
        if pace == self.pace:
            return
        self.pace = pace
        epoch, done = len(rows), rows[-1]["step"]
        epochs, steps = fitting(self.config, self.side, self.full, pace, seconds, epoch)
        self._set(epochs, steps, epoch, done, self._position(done))

    def to_header(self) -> dict[str, Any]:
        """Return what of it a checkpoint keeps."""
        return {
            "plan": [self.epochs, self.steps_per_epoch],
            "budget": self.pace
            and {
                "pace": self.pace.to_dict(),
                "schedule": [self.schedule_steps, self.warmup],
                "from": [self.planned_at, self.begun, self.position],
            },
        }

    def restore(self, header: dict[str, Any]) -> None:
        """Take the plan that a checkpoint has."""
        epochs, steps = header["plan"]
        if budget := header.get("budget"):  # which no run had at first
            self.pace = Pace.from_dict(budget["pace"])
            self.schedule_steps, self.warmup = budget["schedule"]
            self._set(epochs, steps, *budget["from"])
        else:
            self.begin(epochs, steps)

    # ---- steps

    def lr(self, step: int) -> float:
        """Return the learning rate of a step, which counts from the start of the run."""
        position = self._position(step)
        return self.config.lr * schedule.factor(
            self.config.schedule, position, self.schedule_steps, self.warmup
        )

    def _position(self, step: int) -> float:
        """Where a step stands in the schedule, which is stretched when a run is planned again."""
        left = self.schedule_steps - self.position
        stretch = left / max(1, self.total_steps - self.begun)
        return self.position + (step - self.begun) * stretch

    def part(self, epoch: int, step: int) -> float:
        """Return the part of the run's work, 0 to 1, that is done after a step of an epoch."""
        done = self._work[epoch] + step / self.steps_per_epoch * self.sizes[epoch] ** 2
        return float(done / self._work[-1])

    # ---- tests and ends

    def is_tested(self, epoch: int, step: int, seconds: float) -> bool:
        """Whether an epoch that ended after so many steps and seconds is to be tested.

        Every few are, and the last one.
        """
        if (epoch + 1) % self.config.test_interval == 0 or epoch + 1 == self.epochs:
            return True
        # it is the last one, too, if it was cut short, or there is no time for another
        return step < self.steps_per_epoch or self._is_over(seconds)

    def rivals(self, rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
        """Return the tested epochs at the size that the net is meant for."""
        return [row for row in tested(rows) if row["size"] == self.sizes[-1]]

    def ended(self, rows: list[dict[str, Any]]) -> str:
        """Return why the run is over before its last epoch, if it is.

        It never is after an epoch that was not tested.
        """
        if not tested(rows[-1:]) or rows[-1]["step"] == self.total_steps:
            return ""
        if self.config.early_stop and (rivals := self.rivals(rows)):
            best = max(rivals, key=lambda row: row["test_accuracy"])  # the first one
            age = sum(row["size"] == self.sizes[-1] for row in rows[best["epoch"] :])
            if age >= self.config.early_stop:
                return f"stopped early: not better for {plural(age, 'epoch')}"
        # shorter than planned, or there is no time for another one
        planned = self.begun + (len(rows) - self.planned_at) * self.steps_per_epoch
        if rows[-1]["step"] < planned or self._is_over(rows[-1]["seconds"]):
            return f"cut off in epoch {len(rows)} of {self.epochs}: the time budget is spent"
        return ""

    def _is_over(self, seconds: float) -> bool:
        """Whether an epoch of one step, at the size that the run ends with, would be too much."""
        if self.pace is not None:
            seconds += self.pace.step[self.sizes[-1]] + self.pace.test[self.sizes[-1]]
        return seconds > OVERRUN * self.config.seconds

    def is_too_late(self, size: int, seconds: float, step: float) -> bool:
        """Whether another step of ``step`` seconds, and the test, would take the run too far."""
        test = 0.0
        if self.pace is not None:
            test = self.pace.test[size] * max(1.0, step / self.pace.step[size])
        return seconds + step + test > OVERRUN * self.config.seconds


def is_over(header: dict[str, Any]) -> bool:
    """Whether the run has ended that a checkpoint with this header is of: nothing is left of it.

    That follows from its plan and its rows, so that the checkpoint need not say it.
    """
    _, steps = header["plan"]
    table = Timetable(Config.from_dict(header["config"]), header["data"]["size"], steps)
    table.restore(header)
    return header["epoch"] == table.epochs or bool(table.ended(header["rows"]))
