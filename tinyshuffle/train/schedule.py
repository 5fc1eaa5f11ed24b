"""Learning-rate schedules: pure functions of the step, so a resumed run needs to store nothing.

Each gives a factor for the learning rate of the configuration; the loop sets
``opt.lr = config.lr * factor(name, step, total_steps, warmup)`` before each step, which counts from
0 over the whole run.
"""

from __future__ import annotations

import difflib
import math

from ..errors import TinyshuffleError

__all__ = ["SCHEDULES", "check", "factor"]


def constant(progress: float) -> float:
    """Always 1."""
    return 1.0


def linear(progress: float) -> float:
    """From 1 down to 0 in a straight line (ShuffleNet V1, section 4: 0.5 to 0 linearly)."""
    return 1.0 - progress


def cosine(progress: float) -> float:
    """Half a cosine from 1 down to 0 (Loshchilov & Hutter 2017, without restarts)."""
    return 0.5 * (1.0 + math.cos(math.pi * progress))


def stairs(progress: float) -> float:
    """A tenth after half of the steps, a hundredth after three quarters (He et al. 2016, CIFAR)."""
    return 1.0 if progress < 0.5 else 0.1 if progress < 0.75 else 0.01


SCHEDULES = {
    "constant": constant,
    "cosine": cosine,
    "linear": linear,
    "one-cycle": linear,
    "step": stairs,
}
"""What each schedule does after its warm-up, as a function of the progress there, 0 to 1."""

ONE_CYCLE_RISE = 0.25
"""Part of a one-cycle run in which the rate rises, unless a warm-up says otherwise."""


def factor(name: str, step: float, total_steps: int, warmup: int | None = None) -> float:
    """The learning rate's factor at one step.

    During the warm-up the factor grows linearly, ``(step + 1) / (warmup + 1)`` (Goyal et al. 2017);
    then the schedule runs over the steps that are left. The one-cycle policy (Smith 2018,
    "A disciplined approach to neural network hyper-parameters") is a long rise and a linear fall:
    unless told otherwise it rises for a quarter of the steps. Momentum is not cycled.

    Parameters
    ----------
    name : str
        ``constant``, ``linear``, ``cosine``, ``step`` or ``one-cycle``.
    step : float
        0 ≤ step < total_steps; between two steps, where a run has become shorter or longer.
    total_steps : int
        Steps in the whole run.
    warmup : int, optional
        Steps of warm-up; by default none, and for ``one-cycle`` a quarter of all.

    Raises
    ------
    TinyshuffleError
        If there is no such schedule, or the warm-up leaves it no step.

    Examples
    --------
    >>> [factor("linear", step, 4) for step in range(4)]
    [1.0, 0.75, 0.5, 0.25]
    >>> [factor("linear", step, 4, warmup=2) for step in range(4)]
    [0.3333333333333333, 0.6666666666666666, 1.0, 0.5]
    """
    warmup = check(name, total_steps, warmup)
    if not 0 <= step < total_steps:
        raise TinyshuffleError(
            f"step {step} lies outside a run of {total_steps} steps: it must be in "
            f"0 … {total_steps - 1}"
        )
    if step < warmup:
        return (step + 1) / (warmup + 1)
    return SCHEDULES[name]((step - warmup) / (total_steps - warmup))


def check(name: str, total_steps: int, warmup: int | None = None) -> int:
    """The steps of warm-up, after refusing a schedule that cannot be."""
    if name not in SCHEDULES:
        near = difflib.get_close_matches(name, SCHEDULES, n=1, cutoff=0.4)
        hint = f" (did you mean {near[0]}?)" if near else ""
        raise TinyshuffleError(
            f"there is no schedule called {name!r}{hint}: choose from {', '.join(SCHEDULES)}"
        )
    if total_steps < 1:
        raise TinyshuffleError(
            f"a schedule needs at least one step, not {total_steps}: train for longer"
        )
    if warmup is None:
        warmup = int(ONE_CYCLE_RISE * total_steps) if name == "one-cycle" else 0
    if not 0 <= warmup < total_steps:
        raise TinyshuffleError(
            f"a warm-up of {warmup} steps does not fit into a run of {total_steps}: it must be "
            "zero or more, and shorter than the run"
        )
    return warmup
