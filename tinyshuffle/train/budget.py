"""How many epochs fit into a time budget, and how many of those that are left still do."""

from __future__ import annotations

import bisect
from dataclasses import dataclass
from typing import Any

from ..errors import TinyshuffleError
from ..words import duration
from .config import Config
from .limits import MOST_EPOCHS

__all__ = ["OVERRUN", "Pace", "fitting"]

OVERRUN = 1.05
"""A run with a time budget ends early rather than to take this many times the budget."""

SAME = 0.02
"""A machine that differs by no more from what a run was planned with is as fast as it was."""


@dataclass(frozen=True)
class Pace:
    """How fast a machine is: seconds of a step and of a test, for each size of the images."""

    step: dict[int, float]
    test: dict[int, float]

    def seen(self, size: int, step: float, test: float | None) -> Pace:
        """Return the pace after an epoch at one size, in which they took so long.

        The other sizes are taken to be faster or slower in proportion, and so are tests where
        there was none. The pace is the same one where nothing has changed but by :data:`SAME`.
        """
        ratio = step / self.step[size]
        ratios = ratio, ratio if test is None else test / self.test[size]
        if all(abs(ratio - 1) <= SAME for ratio in ratios):
            return self
        scaled = (
            {side: seconds * ratio for side, seconds in of.items()}
            for of, ratio in zip((self.step, self.test), ratios, strict=True)
        )
        return Pace(*scaled)

    def to_dict(self) -> dict[str, Any]:
        """Return it as JSON can hold it."""
        return {name: {str(k): v for k, v in getattr(self, name).items()} for name in PARTS}

    @classmethod
    def from_dict(cls, parts: dict[str, Any]) -> Pace:
        """Build one from JSON."""
        return cls(*({int(k): float(v) for k, v in parts[name].items()} for name in PARTS))


PARTS = "step", "test"


def fitting(
    config: Config, side: int, full: int, pace: Pace, spent: float, done: int = 0
) -> tuple[int, int]:
    """Return how many epochs to train, and how many steps each of those that are not done has.

    So that no time is left over, it may be one epoch more, each a little shorter than the training
    set.

    Parameters
    ----------
    config, side, full
        See :class:`tinyshuffle.train.timetable.Timetable`.
    pace : Pace
    spent : float
        Seconds of the budget that are gone.
    done : int
        Epochs that are done. One more is always planned, if it be of one step.

    Raises
    ------
    TinyshuffleError
        If none is done and not even one fits.
    """
    # logs, curves and checkpoints take their time, and no two minutes are alike
    left = 0.97 * (config.seconds - spent)

    def needs(epochs: int) -> tuple[float, float]:
        """Seconds of a step in each of the epochs that are left, and of all their tests."""
        shares = config.shares(epochs, side, done).items()
        step = sum(pace.step[size] * count for size, (count, _) in shares)
        test = sum(pace.test[size] * tests for size, (_, tests) in shares)
        return step, test

    def steps(epochs: int) -> int:
        step, test = needs(epochs)
        return int((left - test) / step)

    if done == 0 and steps(1) < full:
        step, test = needs(1)
        needed = (full * step + test) / 0.97 + spent
        raise TinyshuffleError(
            f"a time budget of {config.time_budget} is shorter than one epoch, which takes "
            f"about {duration(needed)} here: give more time, or take a smaller --model or "
            "smaller --sizes"
        )
    # the last number of epochs that are whole; one more, though shorter ones, may be worth its test
    numbers = range(done + 1, MOST_EPOCHS + 1)
    whole = bisect.bisect_left(numbers, True, key=lambda epochs: steps(epochs) < full)
    plans = [(epochs, min(steps(epochs), full)) for epochs in numbers[max(0, whole - 1) :][:2]]
    return max([(done + 1, 1), *plans], key=lambda plan: (plan[0] - done) * plan[1])
