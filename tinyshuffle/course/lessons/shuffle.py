"""Notebook 03: channel shuffle."""

from __future__ import annotations

from typing import Any

import numpy as np

from ... import ops
from ..exercise import Exercise, Mistake

__all__ = ["EXERCISES"]


def _images() -> list[tuple[Any, ...]]:
    rng = np.random.default_rng(3)
    return [
        (np.arange(6.0).reshape(1, 1, 1, 6), 2),
        (np.arange(6.0).reshape(1, 1, 1, 6), 3),
        (rng.standard_normal((2, 2, 3, 12)), 3),
    ]


def _goes_to(channel: int, channels: int, groups: int) -> int:
    order = ops.channel_shuffle(np.arange(channels).reshape(1, 1, 1, channels), groups).ravel()
    return int(np.flatnonzero(order == channel)[0])


def _heard(channels: int, groups: int) -> int:
    n = channels // groups
    came_from = ops.channel_shuffle(np.arange(channels).reshape(1, 1, 1, channels), groups) // n
    return len(set(came_from.ravel()[:n].tolist()))


def _reversed_groups(x: np.ndarray, groups: int) -> np.ndarray:
    table = x.reshape(*x.shape[:3], groups, -1)  # (N, H, W, G, n)
    return table[..., ::-1, :].reshape(x.shape)


EXERCISES = (
    Exercise(
        key="03.1",
        title="Channel shuffle in one line",
        name="shuffle",
        reference=lambda x, groups: ops.channel_shuffle(x, groups),
        cases=_images,
        section=3,
        hints=(
            "Write the channels as a table with a row for each group, and read it by columns.",
            "Three steps on the last axis: reshape to (…, groups, n), swapaxes, reshape back to "
            "x.shape.",
        ),
        mistakes=(
            Mistake("the channels were written as (n, G) instead of (G, n): this is the inverse",
                    lambda x, groups: ops.channel_shuffle_backward(x, groups)),
            Mistake("nothing is transposed: two reshapes undo each other",
                    lambda x, groups: x),
            Mistake("the groups are put in reverse order, and not dealt out",
                    _reversed_groups),
            Mistake("all of x is rearranged; images and pixels keep their places, only the last "
                    "axis is written as a table",
                    lambda x, groups: x.reshape(groups, -1).T.reshape(x.shape)),
        ),
    ),
    Exercise(
        key="03.2",
        title="Its gradient",
        name="shuffle_backward",
        reference=lambda dy, groups: ops.channel_shuffle_backward(dy, groups),
        cases=_images,
        section=4,
        hints=(
            "Each channel's gradient lies where the channel was sent. Bring it back.",
            "The inverse of a shuffle with G groups is a shuffle with C / G groups.",
        ),
        mistakes=(
            Mistake("dy is shuffled once more; it has to be brought back (n groups, not G)",
                    lambda dy, groups: ops.channel_shuffle(dy, groups)),
            Mistake("dy is passed on as it is; only for a cotangent of ones does that look right",
                    lambda dy, groups: dy, "notebook 04, section 9"),
            Mistake("a shuffle has a gradient: it moves numbers, and does not end their influence",
                    lambda dy, groups: np.zeros_like(dy)),
            Mistake("the derivative of a permutation is the permutation's matrix, not 1; it "
                    "moves dy",
                    lambda dy, groups: np.ones_like(dy)),
        ),
    ),
    Exercise(
        key="03.3",
        title="Where does a channel go?",
        name="goes_to",
        reference=_goes_to,
        cases=lambda: [(1, 6, 2), (4, 6, 2), (5, 12, 3), (11, 12, 3), (7, 24, 8)],
        section=3,
        hints=(
            "In which row and which column of the (G, n) table does it stand?",
            "Channel g · n + j goes to j · G + g. divmod(channel, n) gives g and j.",
        ),
        mistakes=(
            Mistake("this is where the channel at that place comes from; the question is where "
                    "it goes",
                    lambda channel, channels, groups: int(
                        ops.channel_shuffle(
                            np.arange(channels).reshape(1, 1, 1, channels), groups
                        ).ravel()[channel])),
            Mistake("rows of the transposed table are G long, not n",
                    lambda channel, channels, groups:
                    channel % (channels // groups) * (channels // groups)
                    + channel // (channels // groups)),
            Mistake("row and column are swapped: g · n + j goes to j · G + g, not to g · G + j",
                    lambda channel, channels, groups:
                    channel // (channels // groups) * groups + channel % (channels // groups)),
            Mistake("the last channel stays where it is; a remainder by C - 1 makes 0 of it",
                    lambda channel, channels, groups: channel * groups % (channels - 1),
                    "notebook 03, section 4"),
            Mistake("the multiplication by G holds up to multiples of C - 1, not of C",
                    lambda channel, channels, groups: channel * groups % channels,
                    "notebook 03, section 4"),
            Mistake("the channel stays where it is here; a shuffle moves it",
                    lambda channel, channels, groups: channel),
        ),
    ),
    Exercise(
        key="03.4",
        title="How many groups are heard?",
        name="groups_heard",
        reference=_heard,
        cases=lambda: [(4, 2), (12, 6), (24, 8), (12, 3), (48, 8), (60, 3)],
        section=5,
        hints=(
            "After the shuffle the groups of origin run 0, 1, 2, …, G - 1, 0, 1, … How many "
            "neighbours does a group take?",
            "n = C / G neighbours. How many different numbers can there be among them?",
        ),
        mistakes=(
            Mistake("a group has only n places: with n < G it cannot hear all",
                    lambda channels, groups: groups),
            Mistake("there are only G groups to be heard, however many places there are",
                    lambda channels, groups: channels // groups),
            Mistake("of n and G the smaller one counts, not the larger one",
                    lambda channels, groups: max(channels // groups, groups)),
            Mistake("this is how many channels come from each group",
                    lambda channels, groups: -(-(channels // groups) // groups)),
        ),
    ),
)  # fmt: skip
