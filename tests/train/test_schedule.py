from __future__ import annotations

import numpy as np
import pytest

from tinyshuffle.errors import TinyshuffleError
from tinyshuffle.train.schedule import SCHEDULES, factor


def curve(name, total=100, warmup=None):
    return np.array([factor(name, step, total, warmup) for step in range(total)])


def test_constant():
    assert (curve("constant") == 1).all()


@pytest.mark.parametrize("name", ["linear", "cosine"])
def test_falls_from_one_to_almost_zero(name):
    c = curve(name)
    assert c[0] == 1 and 0 < c[-1] <= 0.011
    assert (np.diff(c) < 0).all()
    assert c[50] == pytest.approx(0.5)


def test_step_falls_to_a_tenth_twice():
    c = curve("step")
    assert (c[:50] == 1).all() and (c[50:75] == 0.1).all() and (c[75:] == 0.01).all()


def test_one_cycle_rises_for_a_quarter_then_falls():
    c = curve("one-cycle")
    assert c.argmax() == 25 and c[25] == 1
    assert (np.diff(c[:26]) > 0).all() and (np.diff(c[25:]) < 0).all()
    assert 0 < c[0] < 0.05 and 0 < c[-1] < 0.02


@pytest.mark.parametrize("name", SCHEDULES)
def test_warmup_then_the_schedule_over_the_rest(name):
    c = curve(name, 100, warmup=20)
    np.testing.assert_allclose(c[:21], np.arange(1, 22) / 21)
    np.testing.assert_allclose(c[20:], curve(name, 80, warmup=0))


@pytest.mark.parametrize("name", SCHEDULES)
@pytest.mark.parametrize("total", [1, 2, 3, 7])
def test_short_runs(name, total):
    c = curve(name, total)
    assert ((c > 0) & (c <= 1)).all()


@pytest.mark.parametrize(
    "arguments, word",
    [
        (("one_cycle", 0, 10), "did you mean one-cycle"),
        (("zzz", 0, 10), "choose from"),
        (("linear", 0, 0), "at least one step"),
        (("linear", 10, 10), "outside"),
        (("linear", -1, 10), "outside"),
        (("linear", 0, 10, 10), "warm-up of 10 steps"),
        (("linear", 0, 10, -1), "warm-up of -1 steps"),
    ],
)
def test_impossible(arguments, word):
    with pytest.raises(TinyshuffleError, match=word):
        factor(*arguments)
