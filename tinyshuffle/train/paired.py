"""Whether one way to train is better than another: by the runs that began with the same seed.

Runs from one seed share the order of the images, their crops and, where the nets are alike, the
first weights. What an easy or hard order does to both is not in their difference, so that a
difference shows with fewer seeds than the spread of the accuracies would need.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

__all__ = ["T_95", "Paired", "order", "paired", "standard_error"]

# Of Student's t with 1, 2, … degrees of freedom: what chance exceeds once in twenty times.
T_95 = (12.71, 4.30, 3.18, 2.78, 2.57, 2.45, 2.36, 2.31, 2.26, 2.23)

ALIKE = 1e-9
"""Less than this is rounding, and no spread of accuracies."""


@dataclass(frozen=True)
class Paired:
    """What the pairs say.

    Attributes
    ----------
    count : int
        Pairs.
    difference : float
        Mean of one minus other; NaN without a pair.
    error : float
        Its standard error; NaN of fewer than two pairs.
    """

    count: int
    difference: float
    error: float

    @property
    def settled(self) -> bool:
        """Whether the difference is larger than chance makes it once in twenty times.

        Two pairs that differ alike, as they may on few test images, do not say what chance makes.
        """
        if self.count < 2 or (self.count == 2 and self.error < ALIKE):
            return False
        return abs(self.difference) > T_95[min(self.count - 1, len(T_95)) - 1] * self.error

    @property
    def word(self) -> str:
        """Of the claim that one is better: ``holds``, ``does not hold``, or ``is not settled``."""
        if not self.settled:
            return "is not settled"
        return "holds" if self.difference > 0 else "does not hold"


def standard_error(found: Sequence[float]) -> float:
    """Return the standard error of the mean; NaN of fewer than two numbers."""
    return statistics.stdev(found) / math.sqrt(len(found)) if len(found) > 1 else math.nan


def paired(one: Mapping[int, float], other: Mapping[int, float]) -> Paired:
    """Compare accuracies by seed; seeds that only one of them has are left out.

    >>> found = paired({0: 0.80, 1: 0.78, 2: 0.82}, {0: 0.78, 1: 0.77, 2: 0.79, 3: 0.5})
    >>> found.count, round(found.difference, 3), round(found.error, 4), found.settled
    (3, 0.02, 0.0058, False)
    """
    found = [one[seed] - other[seed] for seed in sorted(one.keys() & other.keys())]
    return Paired(
        len(found),
        statistics.mean(found) if found else math.nan,
        standard_error(found),
    )


def order(whose: str, found: Iterable[Paired]) -> str:
    """Say in a sentence whether a whole order holds, of which each pair has its better net first.

    >>> order("The paper's", [Paired(3, 0.02, 0.001), Paired(3, 0.01, 0.02)])
    "The paper's order is not settled by these runs."
    """
    words = [pair.word for pair in found]
    if all(word == "holds" for word in words):
        return f"{whose} order holds here."
    if "does not hold" in words:
        return f"{whose} order does not hold here."
    return f"{whose} order is not settled by these runs."
