"""Widths with which a net has as many multiply-adds as the others that it is compared with."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

from ... import models, nn
from ...cost.profile import total_cost
from ...errors import TinyshuffleError
from .catalogue import STEM_CHANNELS, Arm

__all__ = ["Solved", "arm_called", "count", "solve"]

TOLERANCE = 0.05

Make = Callable[..., nn.Module]


@dataclass(frozen=True)
class Solved:
    """An arm with its widths.

    Attributes
    ----------
    arm : Arm
    variant : dict
        The arm's, and the widths.
    multiply_adds, params : int
        For one image.
    """

    arm: Arm
    variant: dict[str, Any]
    multiply_adds: int
    params: int

    def near(self, budget: int) -> bool:
        """Whether this may be compared with nets of so many multiply-adds."""
        return abs(self.multiply_adds / budget - 1) <= TOLERANCE

    @property
    def widths(self) -> str:
        """Channels of stages 2, 3 and 4, or what all channels are multiplied by."""
        if self.arm.multiplier:
            return f"x{self.variant['width']:g}"
        return "-".join(map(str, self.variant.get("stage_channels", ["as registered"])))


def arm_called(name: str, arms: Sequence[Arm]) -> Arm:
    """Return the arm with this name."""
    (found,) = (arm for arm in arms if arm.name == name)
    return found


def count(
    arm: Arm, size: Sequence[int] | float, side: int, num_classes: int, make: Make = models.create
) -> Solved:
    """Count an arm with these channels in stages 2, 3 and 4, or with this width multiplier."""
    variant = dict(arm.variant)
    if arm.multiplier:
        variant["width"] = size
    elif arm.multiple:
        assert isinstance(size, Sequence)
        variant["stage_channels"] = list(size)
    net = make(arm.model, num_classes=num_classes, stem="cifar", **variant)
    total = total_cost(net, (1, side, side, 3))
    return Solved(arm, variant, total.multiply_adds, total.params)


def solve(
    arm: Arm, budget: int, side: int, num_classes: int, make: Make = models.create
) -> Solved:
    """Find the widths whose multiply-adds come nearest to a budget.

    Stages 3 and 4 are twice and four times as wide as stage 2, as in the papers, or as nearly as
    the groups let them.

    Parameters
    ----------
    arm : Arm
    budget : int
        Multiply-adds for one image.
    side, num_classes : int
        Of the images, and how many classes they have.
    make : callable
        Builds what is counted, from the arguments of ``models.create``.

    Raises
    ------
    TinyshuffleError
        If no widths come within 5 % of the budget (a net with given widths: it does not).
    """
    if arm.multiplier:
        return _scaled(arm, budget, side, num_classes, make)
    if not arm.multiple:
        fixed = count(arm, (), side, num_classes, make)
        if not fixed.near(budget):
            raise TinyshuffleError(
                f"{arm.name} has {fixed.multiply_adds:,} multiply-adds, whatever the --budget, and "
                f"cannot be compared at {budget:,}: leave --budget out"
            )
        return fixed

    @cache
    def solved(*stages: int) -> Solved:
        return count(arm, [arm.multiple * stage for stage in stages], side, num_classes, make)

    # Widths in multiples. Where the first unit passes on the stem, as V1's does and that of V2's
    # authors, stage 2 must be wider than that.
    passes = arm.model.startswith("shufflenet_v1") or arm.variant.get("downsample") == "paper"
    first = STEM_CHANNELS // arm.multiple + 1 if passes else 1

    def adds(units: int) -> int:
        return solved(units, 2 * units, 4 * units).multiply_adds

    enough = first
    while adds(enough) < budget:
        enough *= 2
    last = 4 * (first + bisect_left(range(first, enough), budget, key=adds))
    candidates = [
        solved(second, third, fourth)
        for fourth in range(max(4 * first, last - 4), last + 1)
        for second in {fourth // 4, -(-fourth // 4)}
        for third in {fourth // 2, -(-fourth // 2)}
        if second < third
    ]
    return _nearest(candidates, budget, f"{arm.name} (multiples of {arm.multiple})")


def _scaled(arm: Arm, budget: int, side: int, num_classes: int, make: Make) -> Solved:
    """The width multiplier, in steps of a hundredth, that comes nearest to a budget."""

    @cache
    def solved(hundredths: int) -> Solved:
        return count(arm, hundredths / 100, side, num_classes, make)

    def adds(hundredths: int) -> int:
        return solved(hundredths).multiply_adds

    enough = 1
    while adds(enough) < budget:
        enough *= 2
    last = 1 + bisect_left(range(1, enough), budget, key=adds)
    return _nearest([solved(max(1, last - 1)), solved(last)], budget, arm.name)


def _nearest(candidates: Sequence[Solved], budget: int, of: str) -> Solved:
    best = min(candidates, key=lambda found: abs(found.multiply_adds - budget))
    if not best.near(budget):
        raise TinyshuffleError(
            f"no widths of {of} come within {TOLERANCE:.0%} of {budget:,} multiply-adds (the "
            f"nearest has {best.multiply_adds:,}): give another --budget"
        )
    return best
