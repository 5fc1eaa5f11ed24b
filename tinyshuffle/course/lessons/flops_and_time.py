"""Notebook 07: FLOPs are not time."""

from __future__ import annotations

from collections.abc import Callable
from math import sqrt
from typing import Any

import numpy as np

from ... import ops
from ..exercise import Exercise, Mistake

__all__ = ["EXERCISES"]


def _access(hw: int, c1: int, c2: int, g: int) -> int:
    return ops.pointwise_conv2d_cost((1, 1, hw, c1), (1, 1, c1 // g, c2), groups=g).memory_access


def _least(hw: int, B: int) -> float:
    c = round(sqrt(B / hw))  # the cases have a whole number of channels: c1 = c2 = c
    return float(_access(hw, c, c, 1))


def _points(hw: int, c1: int, B: int, groups: list[int]) -> np.ndarray:
    return np.array([[g, _access(hw, c1, B * g // (hw * c1), g)] for g in groups])


def _of_figure(figure: Any, by_name: bool = False) -> np.ndarray:
    """The points of a figure's only line: (g, memory access), say.

    With ``by_name``, what is drawn over names stands at 0, 1, 2, …, where Matplotlib puts it.
    """
    from matplotlib import pyplot
    from matplotlib.figure import Figure

    if not isinstance(figure, Figure):
        raise ValueError(f"a Figure is expected, and not a value of type {type(figure).__name__}")
    pyplot.close(figure)  # or the next case's plt.plot would draw its line beside this one
    axes = figure.axes
    if len(axes) != 1 or len(axes[0].lines) != 1:
        raise ValueError("one pair of axes with one line is expected")
    if not (axes[0].get_xlabel() and axes[0].get_ylabel()):
        raise ValueError("an axis has no label: say what it shows")
    return np.column_stack(axes[0].lines[0].get_data(orig=not by_name)).astype(float)


def _figure(points: Any) -> np.ndarray:
    return np.array(points, dtype=float)


class _Stopwatch:
    """Seconds of made-up runs on a machine that becomes slower and recovers.

    Rows may be measured in any order: what a run takes depends on when it comes.
    """

    def __init__(self, work: dict[str, list[float]], pace: list[float]) -> None:
        self.work, self.pace = work, pace
        self.runs = dict.fromkeys(work, 0)

    def __call__(self, row: str) -> float:
        turn = sum(self.runs.values()) // len(self.work)  # by the clock, not by the row
        nth, self.runs[row] = self.runs[row], self.runs[row] + 1
        return self.pace[turn % len(self.pace)] * self.work[row][nth % len(self.work[row])]

    def __repr__(self) -> str:
        return "a stopwatch"


def _measure(run: Callable[[str], float], rows: list[str], turns: int) -> np.ndarray:
    """(turns, rows): seconds, all rows in each turn."""
    return np.array([[run(row) for row in rows] for _ in range(turns)])


def _of_times(
    times: np.ndarray,
    middle: Callable[..., Any] = np.median,
    judged: Callable[[np.ndarray], np.ndarray] = lambda r: np.exp(np.log(r).mean(axis=1)),
    sure: bool = True,
) -> tuple[np.ndarray, int]:
    """The points of the plot, and the verdict: 1, -1 or 0."""
    ratios = times / times[:, :1]
    points = np.column_stack([np.arange(times.shape[1]), middle(ratios, axis=0)])
    against = judged(ratios[:, 1:])
    if not sure:
        against = np.median(against)[None]
    return points, int((against > 1).all()) - int((against < 1).all())


def _experiment(run: Any, rows: list[str], turns: int) -> tuple[np.ndarray, int]:
    return _of_times(_measure(run, rows, turns))


def _in_blocks(run: Any, rows: list[str], turns: int) -> tuple[np.ndarray, int]:
    return _of_times(np.array([[run(row) for _ in range(turns)] for row in rows]).T)


def _of_medians(run: Any, rows: list[str], turns: int) -> tuple[np.ndarray, int]:
    times = _measure(run, rows, turns)
    middle = np.median(times, axis=0)
    return np.column_stack([np.arange(len(rows)), middle / middle[0]]), _of_times(times)[1]


def _turned(run: Any, rows: list[str], turns: int) -> tuple[np.ndarray, int]:
    times = _measure(run, rows, turns)
    return _of_times(1 / times)


def _experiment_with(**changes: Any) -> Callable[..., Any]:
    return lambda run, rows, turns: _of_times(_measure(run, rows, turns), **changes)


def _observed(result: Any) -> tuple[np.ndarray, Any]:
    if not isinstance(result, tuple | list) or len(result) != 2:
        raise ValueError("a figure and a verdict are expected, return figure, verdict")
    return _of_figure(result[0], by_name=True), result[1]


def _stopwatches() -> list[tuple[Any, ...]]:
    """Against, for, undecided by the first turn or by a tie, and by the kind of mean."""
    pace = [1.0, 4.0, 1.0, 2.0, 1.0, 3.0, 1.0]
    holds = {"1:1": [2.0, 2.0, 2.2, 2.0, 2.0, 2.0, 2.0], "1:6": [2.6, 2.4, 2.9, 2.5, 2.3, 9.0, 2.7],
             "1:12": [1.9, 2.2, 2.4, 2.1, 2.3, 2.6, 2.2]}  # fmt: skip
    fails = {"g = 1": [3.0, 3.1, 3.0, 3.0, 3.3, 3.0], "g = 4": [2.0, 2.2, 2.9, 2.1, 2.2, 2.4]}
    first = {"a": [1.0, 1.1, 1.0, 1.0, 1.2, 1.0], "b": [0.9, 1.2, 1.4, 1.3, 1.5, 1.1]}
    above = {"a": [1.0, 1.1, 1.0, 1.0, 1.2, 1.0], "b": [1.3, 1.2, 1.0, 1.1, 1.5, 1.1]}
    below = {"a": [1.3, 1.2, 1.0, 1.1, 1.5, 1.1], "b": [1.0, 1.1, 1.0, 1.0, 1.2, 1.0]}
    skewed = {"one": [1.0] * 6, "two": [4.0, 2.5, 3.0, 4.4, 2.2, 3.5],
              "three": [0.2, 0.3, 0.25, 0.2, 0.4, 0.25]}  # fmt: skip
    return [
        (_Stopwatch(work, pace), list(work), len(work[next(iter(work))]))
        for work in (fails, holds, first, above, below, skewed)
    ]


EXERCISES = (
    Exercise(
        key="07.1",
        title="Memory access of a grouped 1×1 convolution",
        name="memory_access",
        reference=_access,
        cases=lambda: [(1, 2, 2, 1), (4, 4, 2, 2), (784, 240, 60, 3)],
        section=1,
        hints=(
            "Inputs, outputs, weights: which of the three depend on g?",
            "hw · c1 + hw · c2 + c1 · c2 / g.",
        ),
        mistakes=(
            Mistake("only the weights are divided by g: all inputs are read and all outputs "
                    "written",
                    lambda hw, c1, c2, g: (hw * (c1 + c2) + c1 * c2) / g),
            Mistake("the weights are fewer with groups: c1 · c2 / g",
                    lambda hw, c1, c2, g: hw * (c1 + c2) + c1 * c2),
            Mistake("the weights are divided by g once: each of c2 outputs has c1 / g of them",
                    lambda hw, c1, c2, g: hw * (c1 + c2) + c1 * c2 / g**2),
            Mistake("the weights are multiplied by g; each output sees c1 / g inputs, so they are "
                    "fewer",
                    lambda hw, c1, c2, g: hw * (c1 + c2) + c1 * c2 * g),
            Mistake("everything is multiplied by g; inputs and outputs stay, and the weights are "
                    "divided by g",
                    lambda *a: a[-1] * _access(*a)),
            Mistake("the weights are forgotten; they are read too",
                    lambda hw, c1, c2, g: hw * (c1 + c2)),
            Mistake("these are the multiply–adds, not the memory access",
                    lambda hw, c1, c2, g: hw * c1 * c2 / g),
            Mistake("these are bytes; memory access is counted in numbers",
                    lambda *a: 4 * _access(*a)),
        ),
    ),
    Exercise(
        key="07.2",
        title="G1: the least memory access",
        name="least_memory_access",
        reference=_least,
        cases=lambda: [(1, 4), (4, 36), (784, 784 * 58**2), (3136, 3136 * 128**2)],
        section=1,
        hints=(
            "The product c1 · c2 = B / hw is given. When is the sum c1 + c2 smallest?",
            "c1 + c2 ≥ 2 √(c1 · c2). Put that into hw (c1 + c2) + c1 · c2.",
        ),
        mistakes=(
            Mistake("the weights are forgotten, B / hw",
                    lambda hw, B: 2 * sqrt(hw * B)),
            Mistake("the factor 2 is forgotten: both the inputs and the outputs are moved",
                    lambda hw, B: sqrt(hw * B) + B / hw),
            Mistake("the pixels are forgotten: hw · √(B / hw) is √(hw · B), not √B",
                    lambda hw, B: 2 * sqrt(B) + B / hw),
            Mistake("the weights are B / hw, not B", lambda hw, B: 2 * sqrt(hw * B) + B),
        ),
    ),
    Exercise(
        key="07.3",
        title="G2 as a figure",
        name="g2_figure",
        reference=_points,
        cases=lambda: [
            (4, 4, 32, [1, 2]), (784, 240, 784 * 240 * 60, [1, 2, 3, 4, 8]),
            (6, 12, 6 * 12 * 6, [2, 3, 6]),
        ],
        observe=_of_figure,
        section=2,
        hints=(
            "The input and the budget B stay. How many output channels do g groups then afford?",
            "c2 = B · g / (hw · c1). Draw hw (c1 + c2) + c1 · c2 / g over g, label both axes and "
            "return the Figure.",
        ),
        mistakes=(
            Mistake("c2 is left as it was, so the budget is not spent: c2 grows with g",
                    lambda hw, c1, B, groups:
                    _figure([[g, _access(hw, c1, B // (hw * c1), g)] for g in groups])),
            Mistake("c2 is the same for every g, the first one's: with more groups the same budget "
                    "affords more of them",
                    lambda hw, c1, B, groups: _figure(
                        [[g, _access(hw, c1, B * groups[0] // (hw * c1), g)] for g in groups])),
            Mistake("c2 stays and the weights are not divided by g: then nothing grows",
                    lambda hw, c1, B, groups: _figure(
                        [[g, hw * (c1 + B / (hw * c1)) + B / hw] for g in groups])),
            Mistake("c2 stays as wide as c1, so the budget is not kept: c2 = B g / (hw c1)",
                    lambda hw, c1, B, groups: _figure(
                        [[g, hw * 2 * c1 + c1 * c1 / g] for g in groups])),
            Mistake("the weights are not divided by g",
                    lambda hw, c1, B, groups: _figure(
                        [[g, hw * (c1 + B * g / (hw * c1)) + B * g / hw] for g in groups])),
            Mistake("x and y are swapped: the groups run along x",
                    lambda *a: _points(*a)[:, ::-1]),
        ),
    ),
    Exercise(
        key="07.4",
        title="An experiment, with a plot and a verdict",
        name="experiment",
        reference=_experiment,
        cases=_stopwatches,
        outputs=("figure", "verdict"),
        observe=_observed,
        section=3,
        hints=(
            "Two loops: over the turns, and within a turn over the rows. Divide by the first row's "
            "time of the same turn before anything is averaged.",
            "ratios = times / times[:, :1]; draw their median over the turns; the verdict asks "
            "whether the geometric mean of each turn's ratios, but the first row's, is above 1 in "
            "all turns, below 1 in all, or neither.",
        ),
        mistakes=(
            Mistake("each row is measured to its end before the next one begins, so a slow minute "
                    "falls on one row alone: take all rows in each turn", _in_blocks),
            Mistake("the medians of the times are divided; divide within each turn, where both "
                    "were slowed alike, and take the median of the ratios", _of_medians),
            Mistake("the ratio is upside down: a row's time by the first one's", _turned),
            Mistake("it is the mean of the turns, which one disturbed turn moves; take the median",
                    _experiment_with(middle=np.mean)),
            Mistake("the fastest turn is taken; it says how fast a row can be, the median how fast "
                    "it is", _experiment_with(middle=np.min)),
            Mistake("the verdict follows from the middle turn alone; one turn on the other side of "
                    "1 makes it too close to call", _experiment_with(sure=False)),
            Mistake("the mean of ratios is the geometric one: half as long and twice as long are "
                    "no change", _experiment_with(judged=lambda r: r.mean(axis=1))),
        ),
    ),
)  # fmt: skip
