"""How long each row of a plan takes."""

from __future__ import annotations

from collections import defaultdict

import numpy as np

from .. import blas
from ..nn import Module
from .play import Player, clocked
from .table import Plan

__all__ = ["time_rows"]


def time_rows(net: Module, plan: Plan, slices: int = 1, rounds: int = 10) -> list[float]:
    """Run a plan several times and return each row's seconds: the median over the rounds.

    Of several slices, a round's time is the mean; waiting at meetings does not count. The first
    round, in which kernels may be compiled, is left out.

    Parameters
    ----------
    net : Module
        Whose plan it is. Its running statistics and gradients change as in any step.
    plan : Plan
    slices : int
    rounds : int
    """
    rng = np.random.default_rng(0)
    player = Player(net, plan, slices)
    x = rng.standard_normal(plan.shape).astype(plan.dtype)
    dy = rng.standard_normal(plan.output.shape).astype(plan.dtype)
    index = {id(row): i for i, row in enumerate(plan.rows)}
    times: defaultdict[int, list[float]] = defaultdict(list)
    for turn in range(rounds + 1):
        with clocked() as events, blas.limit(1):
            player.forward(x)
            if plan.gradient is not None:
                player.backward(dy)
        if turn == 0:
            continue
        seconds: defaultdict[int, float] = defaultdict(float)
        for event in events:
            seconds[index[id(event.row)]] += event.seconds / len(player.slices)
        for i, value in seconds.items():
            times[i].append(value)
    return [float(np.median(times[i])) if i in times else 0.0 for i in range(len(plan.rows))]
