"""Student's t of pairs."""

from __future__ import annotations

import math

import pytest

from tinyshuffle.train.paired import T_95, paired


def test_what_one_seed_has_alone_is_left_out():
    found = paired({0: 0.5, 1: 0.7, 9: 0.0}, {1: 0.6, 0: 0.3, 5: 1.0})
    assert found.count == 2 and found.difference == pytest.approx(0.15)
    assert found.error == pytest.approx(0.05)  # of 0.2 and 0.1
    assert not found.settled  # 3 errors, and 12.71 are needed of two


def test_what_few_pairs_say():
    assert math.isnan(paired({0: 1.0}, {1: 1.0}).difference)
    single = paired({0: 1.0}, {0: 0.5})
    assert single.difference == 0.5 and math.isnan(single.error) and not single.settled


def test_two_pairs_that_differ_alike_say_nothing_of_chance():
    """As they easily do, on twenty test images; what is counted, and alike in three, is so."""
    assert paired({0: 8, 1: 9, 2: 8}, {0: 7, 1: 8, 2: 7}).settled
    found = paired({0: 0.32, 1: 0.35}, {0: 0.3, 1: 0.33})
    assert found.difference == pytest.approx(0.02) and 0 < found.error < 1e-15
    assert not found.settled and found.word == "is not settled"


def test_a_spread_that_both_share_does_not_hide_a_difference():
    other = {seed: 0.5 + 0.1 * seed for seed in range(4)}
    one = {seed: a + 0.01 + 0.001 * (-1) ** seed for seed, a in other.items()}
    assert paired(one, other).settled and paired(other, one).settled
    assert paired(one, other).difference == pytest.approx(0.01)
    limit = T_95[2] * paired(one, other).error
    nearly = {seed: a - 0.01 + limit * 0.99 for seed, a in one.items()}
    assert not paired(nearly, other).settled
