"""Notebook 07: FLOPs are not time."""

from __future__ import annotations

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


def _of_figure(figure: Any) -> np.ndarray:
    """The points (g, memory access) of a figure's only line."""
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
    return np.column_stack(axes[0].lines[0].get_data()).astype(float)


def _figure(points: Any) -> np.ndarray:
    return np.array(points, dtype=float)


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
)  # fmt: skip
