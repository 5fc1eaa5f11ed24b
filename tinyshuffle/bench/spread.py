"""Times that vary: their middle, their best, their spread, and ratios of neighbours."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

__all__ = ["Spread", "ratios", "spread"]


@dataclass(frozen=True)
class Spread:
    """What is said of some numbers.

    Attributes
    ----------
    median, minimum, maximum : float
    lower, upper : float
        Quartiles: half of the numbers lie between them.
    count : int
    """

    median: float
    minimum: float
    maximum: float
    lower: float
    upper: float
    count: int


def spread(values: Sequence[float]) -> Spread:
    """Sum up numbers.

    >>> spread([3.0, 1.0, 2.0, 10.0, 4.0])
    Spread(median=3.0, minimum=1.0, maximum=10.0, lower=2.0, upper=4.0, count=5)
    """
    low, lower, median, upper, high = np.percentile(values, (0, 25, 50, 75, 100)).tolist()
    return Spread(median, low, high, lower, upper, len(values))


def ratios(a: Sequence[Sequence[float]], b: Sequence[Sequence[float]]) -> Spread:
    """Divide the times of ``a`` by those of ``b``, burst by burst.

    Bursts of the same index ran one after the other, under the same load from elsewhere, so their
    ratio is steadier than either. Each burst counts with its median.

    >>> ratios([[2, 2, 9], [20]], [[1, 1, 1], [10]]).median
    2.0
    """
    return spread([
        float(np.median(x) / np.median(y)) for x, y in zip(a, b, strict=True)
    ])
