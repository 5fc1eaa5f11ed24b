"""Plans of a run: what of them belongs together, without any training."""

from __future__ import annotations

import json

import pytest

from tinyshuffle.train import Config
from tinyshuffle.train.budget import Pace
from tinyshuffle.train.timetable import Timetable, is_over

SIZES = dict(sizes=(4, 8), schedule="linear", lr=1.0)


def pace(step=1.0, test=1.0):
    return Pace({4: step, 8: step}, {4: test, 8: test})


def planned(seconds=104, **fields):
    """Of a budget of which 0.97 is used: 100 seconds, 10 steps an epoch and a test."""
    table = Timetable(Config(time_budget=f"{seconds}s", **{**SIZES, **fields}), 8, 10)
    table.fit(pace(), 0.0)
    return table


def rows(table, count, tested=True, seconds=11.0):
    return [
        {"epoch": i + 1, "step": 10 * (i + 1), "size": table.sizes[i], "seconds": seconds * (i + 1),
         "test_accuracy": 0.5 if tested else None}
        for i in range(count)
    ]  # fmt: skip


def test_a_run_of_so_many_epochs():
    table = Timetable(Config(epochs=4, **SIZES), 8, 10)
    assert (table.epochs, table.steps_per_epoch, table.total_steps) == (4, 10, 40)
    assert table.sizes == [4, 4, 8, 8] and table.pace is None
    assert [table.lr(step) for step in (0, 10, 20, 39)] == pytest.approx([1, 0.75, 0.5, 1 / 40])
    # a step's work grows with the pixels: 16 and 64 of them
    parts = [table.part(*at) for at in ((0, 5), (1, 10), (2, 5), (3, 10))]
    assert parts == pytest.approx([0.05, 0.2, 0.4, 1])


def test_a_budget_is_filled_with_epochs_and_their_tests():
    table = planned()
    assert (table.epochs, table.steps_per_epoch) == (9, 10)  # and nine tests: 99 seconds
    # the time of the tests that are not made is one of steps: 388 seconds are planned
    assert (planned(400).epochs, planned(400, test_every=20).epochs) == (35, 38)


@pytest.mark.parametrize("speed, more", [(0.5, True), (2.0, False)])
def test_the_rest_of_the_schedule_is_stretched(speed, more):
    table = planned(seconds=416)
    before, total = [table.lr(step) for step in range(20)], table.total_steps
    done = rows(table, 2)
    table.fit_again(table.pace, 22.0, done)
    assert table.total_steps == total  # nothing has changed
    table.fit_again(pace(speed, speed), 22.0, done)
    assert (table.total_steps > total) is more
    rates = [table.lr(step) for step in range(20, table.total_steps)]
    assert before[-1] > rates[0] == pytest.approx(before[-1], abs=0.01)
    assert rates == sorted(rates, reverse=True) and rates[-1] < 0.01
    assert table.sizes[0] == 4 and table.sizes[-1] == 8


def test_a_checkpoint_keeps_it():
    table = planned(seconds=416)
    table.fit_again(pace(2.0, 3.0), 22.0, rows(table, 2))
    again = Timetable(table.config, 8, 10)
    again.restore(json.loads(json.dumps(table.to_header())))
    assert vars(again).keys() == vars(table).keys()
    for name, value in vars(table).items():
        assert (getattr(again, name) == value) is True or name == "_work", name
    assert again.part(3, 1) == table.part(3, 1) and again.lr(30) == table.lr(30)
    plain = Timetable(Config(epochs=4, **SIZES), 8, 10)
    assert plain.to_header() == {"plan": [4, 10], "budget": None}


def test_which_epochs_are_tested():
    table = Timetable(Config(epochs=8, test_every=3, **SIZES), 8, 10)
    assert [e for e in range(8) if table.is_tested(e, 10, 1e9)] == [2, 5, 7]
    table = planned(test_every=5)
    steps = table.steps_per_epoch
    assert [e for e in range(9) if table.is_tested(e, steps, 50.0)] == [4, 8]
    assert table.is_tested(0, steps - 1, 50.0)  # it was cut short
    # 1.05 times the budget is 109.2 seconds, and another step and a test take two
    assert not table.is_tested(0, steps, 107.1) and table.is_tested(0, steps, 107.3)


def test_when_a_run_is_over():
    table = planned(seconds=416)
    done = rows(table, 3)
    assert table.ended([]) == table.ended(done) == ""
    done[-1]["seconds"] = 436.0
    assert table.ended(done).startswith(f"cut off in epoch 3 of {table.epochs}")
    done[-1].update(seconds=33.0, step=29)
    assert table.ended(done).startswith("cut off in epoch 3")
    done[-1]["test_accuracy"] = None
    assert table.ended(done) == ""  # so that a run ends with a test
    assert not table.is_too_late(8, 434.0, 1.0) and table.is_too_late(8, 435.0, 1.0)
    assert table.is_too_late(8, 431.0, 3.0)  # where a step takes three times as long, so do tests


@pytest.mark.parametrize("tests, age", [([0.5, 0.4, 0.5], 2), ([0.5, None, None, 0.5], 3)])
def test_early_stop_counts_epochs_since_the_best_test(tests, age):
    table = Timetable(Config(epochs=9, early_stop=2, sizes=(8,)), 8, 10)
    done = rows(table, len(tests))
    for row, accuracy in zip(done, tests, strict=True):
        row["test_accuracy"] = accuracy
    assert table.ended(done) == f"stopped early: not better for {age} epochs"
    assert table.ended(done[:-1]) == ""
    assert [row["epoch"] for row in table.rivals(done)] == [
        i + 1 for i, accuracy in enumerate(tests) if accuracy is not None
    ]


@pytest.mark.parametrize(
    "fields, count, over",
    [
        ({"epochs": 3}, 3, True),
        ({"epochs": 3}, 2, False),
        ({"epochs": 9, "early_stop": 2}, 3, True),  # never better than after the first
        ({"epochs": 9, "early_stop": 2}, 2, False),
        ({"time_budget": "416s"}, 3, True),  # of which the last row's seconds are more
        ({"time_budget": "417s"}, 3, False),
    ],
)
def test_a_checkpoint_s_header_says_whether_its_run_is_over(fields, count, over):
    """With nothing in it that was written for that: older ones say it, too."""
    config = Config(sizes=(8,), **fields)
    table = Timetable(config, 8, 10)
    if config.time_budget:
        table.begin(40, 10)
    done = rows(table, count, seconds=437.5 / 3)
    header = {
        "config": config.to_dict(), "data": {"size": 8}, "epoch": count, "rows": done,
        **table.to_header(),
    }  # fmt: skip
    assert is_over(json.loads(json.dumps(header))) is over
