"""Notebook 08: the unit of ShuffleNet V2."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from ... import ops
from ..exercise import Exercise, Mistake
from .unit_v1 import _depthwise, _pointwise

__all__ = ["EXERCISES"]


def _unit(hw: int, c: int) -> int:
    m = c // 2
    return 2 * _pointwise(hw, m, m, 1) + _depthwise(hw, m)


def _order(channels: int, groups: int = 2) -> np.ndarray:
    numbers = np.arange(channels).reshape(1, 1, 1, channels)
    return ops.channel_shuffle(numbers, groups).ravel()


def _survivors(channels: int, units: int) -> int:
    tags = np.ones(channels, int)
    for _ in range(units):
        tags[channels // 2 :] = 0
        tags = tags[_order(channels)]
    return int(tags.sum())


def times_three(d: np.ndarray) -> np.ndarray:
    return 3 * d


def _backward(dy: np.ndarray, branch_backward: Callable[[np.ndarray], np.ndarray]) -> np.ndarray:
    return _join(ops.channel_shuffle_backward(dy, 2), branch_backward)


def _join(
    d: np.ndarray, branch_backward: Callable[[np.ndarray], np.ndarray], first: float = 1
) -> np.ndarray:
    d1, d2 = np.split(d, 2, axis=-1)
    return np.concatenate([first * d1, branch_backward(d2)], axis=-1)


def _backward_cases() -> list[tuple[Any, ...]]:
    rng = np.random.default_rng(11)
    return [
        (np.array([1.0, 2.0, 4.0, 8.0]).reshape(1, 1, 1, 4), times_three),
        (rng.standard_normal((2, 3, 2, 6)), times_three),
        (rng.standard_normal((2, 3, 2, 6)), np.negative),
    ]


EXERCISES = (
    Exercise(
        key="08.1",
        title="Multiply–adds of the V2 unit",
        name="v2_unit_multiply_adds",
        reference=_unit,
        cases=lambda: [(1, 2), (4, 8), (784, 116), (49, 464)],
        section=2,
        hints=(
            "Half of the channels passes untouched. What does the other half go through?",
            "m = c / 2: two dense 1×1 convolutions m → m, and a depthwise 3×3 on m channels.",
        ),
        mistakes=(
            Mistake("the channel split is forgotten: only half of the channels is computed",
                    lambda hw, c: hw * (2 * c * c + 9 * c)),
            Mistake("the depthwise convolution works on half of the channels, too",
                    lambda hw, c: hw * (c * c / 2 + 9 * c)),
            Mistake("there are two 1×1 convolutions, and neither has groups",
                    lambda hw, c: hw * (c * c / 4 + 9 * c / 2)),
            Mistake("the 3×3 convolution is depthwise: 9m, not 9m²",
                    lambda hw, c: hw * (c * c / 2 + 9 * c * c / 4)),
            Mistake("the depthwise convolution is forgotten", lambda hw, c: hw * c * c / 2),
            Mistake("FLOPs are counted twice: a multiplication with its addition is one",
                    lambda *a: 2 * _unit(*a), "notebook 01, section 2"),
        ),
    ),
    Exercise(
        key="08.2",
        title="Concatenation and shuffle as one permutation",
        name="order",
        reference=lambda channels: _order(channels),
        cases=lambda: [(4,), (6,), (16,), (116,)],
        section=4,
        hints=(
            "The two halves are interleaved like the halves of a pack of cards.",
            "Place 2j holds channel j of the first half, place 2j + 1 channel j of the second, "
            "which is number C / 2 + j.",
        ),
        mistakes=(
            Mistake("this is the inverse: it says where a channel goes, and not which one is at "
                    "a place",
                    lambda channels: np.argsort(_order(channels))),
            Mistake("this is concatenation alone; the shuffle interleaves the halves",
                    lambda channels: np.arange(channels)),
            Mistake("the halves are swapped: the untouched one comes first",
                    lambda channels: (_order(channels) + channels // 2) % channels),
        ),
    ),
    Exercise(
        key="08.3",
        title="The gradient through the V2 unit",
        name="v2_unit_backward",
        reference=_backward,
        cases=_backward_cases,
        may_call=("channel_shuffle", "channel_shuffle_backward"),
        section=8,
        hints=(
            "Undo the steps from the last to the first: shuffle, concatenation, branch, split.",
            "Bring dy back with the inverse shuffle, cut it in the middle, send the second half "
            "through branch_backward, and put the halves side by side.",
        ),
        mistakes=(
            Mistake("dy is shuffled once more; it has to be brought back",
                    lambda dy, back: _join(ops.channel_shuffle(dy, 2), back),
                    "notebook 03, section 4"),
            Mistake("the shuffle is forgotten",
                    _join),
            Mistake("the untouched half has a gradient too: it passes",
                    lambda dy, back: _join(ops.channel_shuffle_backward(dy, 2), back, first=0)),
            Mistake("the halves are swapped: the first one passes, the second goes through the "
                    "branch",
                    lambda dy, back: np.roll(
                        _join(np.roll(ops.channel_shuffle_backward(dy, 2), dy.shape[-1] // 2, -1),
                              back), dy.shape[-1] // 2, -1)),
            Mistake("even and odd are swapped: the half that passes went to the even places, the "
                    "branch's half to the odd ones",
                    lambda dy, back: np.concatenate([dy[..., 1::2], back(dy[..., 0::2])], -1)),
            Mistake("even and odd are swapped: the branch's half lies at the odd places and comes "
                    "second in x",
                    lambda dy, back: np.concatenate([back(dy[..., 1::2]), dy[..., 0::2]], -1)),
            Mistake("the result is shuffled again; dx has the order of x",
                    lambda dy, back: ops.channel_shuffle(_backward(dy, back), 2)),
        ),
    ),
    Exercise(
        key="08.4",
        title="Feature reuse",
        name="unchanged",
        reference=_survivors,
        cases=lambda: [(4, 0), (4, 1), (4, 2), (6, 3), (116, 3), (116, 7)],
        section=5,
        hints=(
            "Each unit leaves one half untouched, and the shuffle spreads it evenly.",
            "Half again with every unit; and channel 0 always stays, so round up.",
        ),
        mistakes=(
            Mistake("it is rounded down: channel 0 is never computed again",
                    lambda channels, units: channels // 2**units),
            Mistake("it is not rounded; channels are whole",
                    lambda channels, units: channels / 2**units),
            Mistake("the share falls by half with each unit, not by the same number",
                    lambda channels, units: max(0, channels - units * channels // 2)),
            Mistake("that would be without the shuffle, where the same half always passes",
                    lambda channels, units: channels // 2 if units else channels),
        ),
    ),
)  # fmt: skip
