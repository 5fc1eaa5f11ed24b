"""A running average of a net's weights (Polyak & Juditsky 1992; EMA)."""

from __future__ import annotations

import copy

import numpy as np

from ..nn import Module

__all__ = ["Average"]

EVERY = 4
"""Steps between two looks at the weights, which hardly move in so few."""


class Average:
    """A copy of a net whose weights and running statistics follow the net's, smoothed.

    After every fourth step, ``average ← d⁴ · average + (1 - d⁴) · weights``. The average takes out
    the noise that single steps leave in the weights, as a smaller learning rate would, and costs
    two passes over the weights.

    Parameters
    ----------
    net : Module
    decay : float
        d, from 0 to below 1: the average reaches back some 1 / (1 - d) steps. In the first steps
        d is (1 + t) / (10 + t) if that is less, so that the random initial weights are soon
        forgotten.

    Attributes
    ----------
    net : Module
        The average, as a net in evaluation mode.
    """

    def __init__(self, net: Module, decay: float) -> None:
        self.decay = decay
        self.net = copy.deepcopy(net).eval()
        self.net.load_state_dict(net.state_dict())
        self._parameters = list(zip(self.net.parameters(), net.parameters(), strict=True))
        self._buffers = [
            (mine, theirs, name)
            for mine, theirs in zip(self.net.modules(), net.modules(), strict=True)
            for name in theirs.buffers
        ]

    def update(self, step: int) -> None:
        """Take in the net's weights after ``step`` (from 0) steps before this one."""
        if (step + 1) % EVERY:
            return
        share = 1 - min(self.decay, (1 + step) / (10 + step)) ** EVERY
        for p, q in self._parameters:
            _approach(p.data, q.data, share)
        for mine, theirs, name in self._buffers:
            value = getattr(theirs, name)
            if value.dtype.kind == "f":
                _approach(getattr(mine, name), value, share)
            else:  # a count
                setattr(mine, name, value.copy())


def _approach(mine: np.ndarray, theirs: np.ndarray, share: float) -> None:
    difference = theirs - mine
    difference *= share
    mine += difference
