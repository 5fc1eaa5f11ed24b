"""Other widths and depths than a paper's: what the nets that take them have in common."""

from __future__ import annotations

from collections.abc import Sequence
from math import inf

from ..errors import TinyshuffleError

__all__ = ["check_channels", "check_repeats", "check_stages"]

MOST_UNITS = 1000  # of a stage: the deepest net of the papers has 164 layers


def check_stages(stage_channels: Sequence[int], multiple: int) -> list[int]:
    """Return the channels of stages 2, 3 and 4, or say what they must be."""
    return _three("stage_channels", stage_channels, multiple)


def check_repeats(stage_repeats: Sequence[int]) -> list[int]:
    """Return the units of stages 2, 3 and 4, or say what they must be."""
    return _three("stage_repeats", stage_repeats, 1, MOST_UNITS)


def _three(name: str, values: Sequence[int], multiple: int, most: float = inf) -> list[int]:
    if (
        not isinstance(values, (list, tuple))
        or len(values) != 3
        or not all(type(v) is int and 0 < v <= most and v % multiple == 0 for v in values)
    ):
        wanted = "whole numbers above 0" if multiple == 1 else f"multiples of {multiple}"
        if most < inf:
            wanted = f"whole numbers from 1 to {most}"
        raise TinyshuffleError(
            f"{name}={values!r} do not suit stages 2, 3 and 4: give three {wanted}"
        )
    return list(values)


def check_channels(name: str, channels: int) -> int:
    """Return how many channels one layer has, or say what it must be."""
    if type(channels) is not int or channels < 1:
        raise TinyshuffleError(
            f"{name}={channels!r} is no number of channels: give a whole number above 0"
        )
    return channels
