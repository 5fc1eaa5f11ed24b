"""How many epochs fit into a time budget."""

from __future__ import annotations

import math
from collections.abc import Mapping

from ..errors import TinyshuffleError
from ..words import duration
from .config import MOST_EPOCHS, Config

__all__ = ["fitting"]


def fitting(
    config: Config,
    side: int,
    full: int,
    step: Mapping[int, float],
    test: Mapping[int, float],
    spent: float,
) -> tuple[int, int]:
    """Return how many epochs to train, and how many steps each.

    So that no time is left over, it may be one epoch more, each a little shorter than the training
    set.

    Parameters
    ----------
    config : Config
    side : int
        Of the data set's images, in pixels.
    full : int
        Steps of a whole epoch.
    step, test : mapping of int to float
        Seconds of a step and of a test, for each size of the images.
    spent : float
        Seconds of the budget that are gone.

    Raises
    ------
    TinyshuffleError
        If not even one epoch fits.
    """
    # logs, curves and checkpoints take their time, and no two minutes are alike
    left = 0.97 * (config.seconds - spent)
    plan = 0, 0
    for epochs in range(1, MOST_EPOCHS + 1):
        shares = config.shares(epochs, side)
        one_step = sum(step[size] * count for size, count in shares.items())
        tests = sum(test[size] * count for size, count in shares.items())
        steps = int((left - tests) / one_step)
        if epochs == 1 and steps < full:
            needed = (full * one_step + tests) / 0.97 + spent
            raise TinyshuffleError(
                f"a time budget of {config.time_budget} is shorter than one epoch, which takes "
                f"about {duration(needed)} here: give more time, or take a smaller --model or "
                "smaller --sizes"
            )
        plan = max(plan, (epochs, min(steps, full)), key=math.prod)
        if steps < full:  # one more epoch, though a shorter one, may be worth its test
            break
    return plan
