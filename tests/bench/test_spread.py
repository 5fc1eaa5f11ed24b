"""Medians, and ratios turn by turn."""

from __future__ import annotations

import pytest

from tinyshuffle.bench.spread import ratios, spread


def test_spread():
    times = spread([0.9, 0.1, 0.5, 0.3, 0.7])
    assert (times.minimum, times.lower, times.median, times.upper, times.maximum) == (
        pytest.approx((0.1, 0.3, 0.5, 0.7, 0.9))
    )
    assert times.count == 5


def test_ratios_are_taken_turn_by_turn():
    """A machine that becomes ten times slower half-way does not change them."""
    theirs = [[3.0, 3.0, 30.0], [60.0, 60.0], [6.0]]
    ours = [[1.0, 1.0, 1.0], [20.0, 21.0, 19.0], [4.0]]
    found = ratios(theirs, ours)
    assert (found.median, found.minimum, found.maximum) == (3.0, 1.5, 3.0)
    with pytest.raises(ValueError):
        ratios(theirs, ours[:2])
