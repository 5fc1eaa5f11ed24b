"""Replay each row of a plan beside its definition, and name the first that differs."""

from __future__ import annotations

import copy
from dataclasses import dataclass
from typing import Any

import numpy as np

from .. import ops
from ..nn import Module
from ..nn.check import check_net
from ..ops.arguments import check_real
from . import fused
from .fuse import fuse
from .play import Player
from .table import Plan
from .trace import trace

__all__ = ["Validation", "validate"]

TOLERANCE = {"float32": 1e-4, "float64": 1e-10}


@dataclass(frozen=True)
class Validation:
    """What came of it; ``print`` it for a sentence.

    Attributes
    ----------
    plan : Plan
    errors : list of float
        Of each row that has a definition in ``ops`` or ``plan.fused``: the largest difference of
        an entry, relative to the largest entry of its array; 0 of the others.
    first : int or None
        The first row that differs by more than rounding does.
    """

    plan: Plan
    errors: list[float]
    first: int | None

    @property
    def passed(self) -> bool:
        """Whether every row does what its definition does."""
        return self.first is None

    def __str__(self) -> str:
        if self.first is None:
            return (
                f"all {len(self.errors)} rows do what their definitions do; the largest relative "
                f"difference is {max(self.errors, default=0.0):.1e}"
            )
        row = self.plan.rows[self.first]
        return (
            f"row {self.first}, {row.operation} of {row.layer or 'the net'}, differs from its "
            f"definition by {self.errors[self.first]:.1e} of the largest entry"
        )


def validate(net: Module, x: np.ndarray) -> Validation:
    """Run a step and check each row against its definition, with the same arguments.

    Parameters
    ----------
    net : Module
        It is not changed. In training both passes run, with a gradient drawn at random.
    x : (N, H, W, C)

    Returns
    -------
    Validation

    >>> from tinyshuffle import models
    >>> net = models.create("shufflenet_v2_x0_5", num_classes=10, stem="cifar")
    >>> validate(net, np.ones((2, 8, 8, 3), np.float32)).passed
    True
    """
    check_net(net)
    check_real(x)
    twin = copy.deepcopy(getattr(net, "net", net))
    player = Player(twin, fuse(trace(twin, x.shape, x.dtype)), 1)
    (part,) = player.slices
    errors: list[float] = []
    records, play = part.records, part._play
    records.join(False)  # each row by itself
    ends = [*records.first[1:], len(records)]

    def replay(first: int, last: int) -> None:
        rows = [i for i, at in enumerate(records.first) if first <= at < last]
        for i in rows:
            row = player.plan.rows[i]
            definition = getattr(fused, row.operation, getattr(ops, row.operation, None))
            given, right = part.given(row), None
            if definition is not None and row.operation != "dropout_mask":
                right = definition(*map(_copied, given), **row.keywords)
            largest = _largest(given)
            play(records.first[i], ends[i])
            errors.append(_difference(part.written(row), right, largest))

    part._play = replay  # type: ignore[method-assign]
    y = player.forward(x)
    if player.plan.gradient is not None:
        player.backward(np.random.default_rng(0).standard_normal(y.shape).astype(y.dtype))
    bound = TOLERANCE[np.dtype(x.dtype).name]
    wrong = [i for i, error in enumerate(errors) if not error <= bound]
    return Validation(player.plan, errors, wrong[0] if wrong else None)


def _copied(value: Any) -> Any:
    """The same arguments, in memory of their own: some are written to."""
    if isinstance(value, np.ndarray):
        return value.copy()
    if isinstance(value, list | tuple):
        kind = getattr(value, "_make", type(value))
        return kind(map(_copied, value))
    return value


def _largest(value: Any) -> float:
    if isinstance(value, np.ndarray):
        return float(np.abs(value).max(initial=0.0))
    return max(map(_largest, value), default=0.0) if isinstance(value, list | tuple) else 0.0


def _difference(made: list[Any], right: Any, given: float) -> float:
    """The largest difference of an entry, relative to the largest of its array.

    Or to a thousandth of the largest that was ``given``, where what comes out cancels to nothing.
    """
    if right is None:
        return 0.0
    expected = right if isinstance(right, list | tuple) else [right]
    worst = 0.0
    for mine, other in zip(made, expected, strict=True):
        if mine is not None and np.size(other):
            same = (mine == other) | ((mine != mine) & (other != other))  # infinite, or NaN
            if not np.isfinite(mine[~same]).all() or not np.isfinite(other[~same]).all():
                return np.inf
            scale = max(float(np.abs(other[~same]).max(initial=0)), 1e-3 * given, 1e-30)
            apart = np.abs(mine[~same] - other[~same])
            worst = max(worst, float(apart.max(initial=0)) / scale)
    return worst
