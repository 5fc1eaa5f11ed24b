"""What nets may be told, checked: the stem, and other widths, depths and groups than a paper's."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from ..errors import TinyshuffleError
from ..text import shown
from ..values import read, whole

__all__ = [
    "check_channels", "check_count", "check_repeats", "check_stages", "check_stem",
    "check_strides", "check_width",
]  # fmt: skip

MOST_UNITS = 1000  # of a stage: the deepest net of the papers has 164 layers

MOST_CHANNELS = 65_536
"""No published net has a sixteenth of it, and a square of it is more memory than most machines."""

MOST_WIDTH = 64.0


def check_stages(stage_channels: Sequence[int], multiple: int) -> list[int]:
    """Return the channels of stages 2, 3 and 4, or say what they must be."""
    return _three("stage_channels", stage_channels, multiple, MOST_CHANNELS)


def check_repeats(stage_repeats: Sequence[int]) -> list[int]:
    """Return the units of stages 2, 3 and 4, or say what they must be."""
    return _three("stage_repeats", stage_repeats, 1, MOST_UNITS)


def check_strides(stage_strides: Sequence[int]) -> list[int]:
    """Return the strides with which stages 2, 3 and 4 begin, or say what they must be."""
    return _three("stage_strides", stage_strides, 1, 2)


def _three(name: str, values: Sequence[int], multiple: int, most: int) -> list[int]:
    given = values if isinstance(values, list | tuple) else []
    found = [n for n in map(whole, given) if n and 0 < n <= most and n % multiple == 0]
    if len(found) != 3 or len(given) != 3:
        wanted = f"whole numbers from 1 to {most}" if multiple == 1 else (
            f"multiples of {multiple}, at most {most}"
        )
        raise TinyshuffleError(
            f"{name}={shown(values)} do not suit stages 2, 3 and 4: give three {wanted}"
        )
    return found


def check_channels(name: str, channels: int) -> int:
    """Return how many channels one layer has, or say what it must be."""
    count = whole(channels)
    if count is None or not 1 <= count <= MOST_CHANNELS:
        raise TinyshuffleError(
            f"{name}={shown(channels)} is no number of channels: give a whole number above 0, at "
            f"most {MOST_CHANNELS}"
        )
    return count


def check_count(name: str, value: Any, most: int = MOST_CHANNELS) -> int:
    """Return a number of groups, say, or say what it must be."""
    count = whole(value)
    if count is None or not 1 <= count <= most:
        raise TinyshuffleError(
            f"{name}={shown(value)} is not possible: give a whole number from 1 to {most:,}"
        )
    return count


def check_width(width: float) -> float:
    """Return by how much all channels are multiplied, or say what it must be."""
    factor = read("width", width, float, text=False)
    if not 0 < factor <= MOST_WIDTH:
        raise TinyshuffleError(
            f"width={width} is not possible; use a number above 0, at most {MOST_WIDTH:g}"
        )
    return factor


def check_stem(stem: str) -> str:
    """Return ``stem``, or say which ones there are."""
    if stem not in ("imagenet", "cifar"):
        raise TinyshuffleError(f"unknown stem {stem!r}; use 'imagenet' or 'cifar'")
    return stem
