"""Other widths than a paper's: what the nets that take them have in common."""

from __future__ import annotations

from collections.abc import Sequence

from ..errors import TinyshuffleError

__all__ = ["check_channels", "check_stages"]


def check_stages(stage_channels: Sequence[int], multiple: int) -> list[int]:
    """Return the channels of stages 2, 3 and 4, or say what they must be."""
    if (
        not isinstance(stage_channels, (list, tuple))
        or len(stage_channels) != 3
        or not all(type(c) is int and c > 0 and c % multiple == 0 for c in stage_channels)
    ):
        wanted = "whole numbers above 0" if multiple == 1 else f"multiples of {multiple}"
        raise TinyshuffleError(
            f"stage_channels={stage_channels!r} do not suit stages 2, 3 and 4: give three {wanted}"
        )
    return list(stage_channels)


def check_channels(name: str, channels: int) -> int:
    """Return how many channels one layer has, or say what it must be."""
    if type(channels) is not int or channels < 1:
        raise TinyshuffleError(
            f"{name}={channels!r} is no number of channels: give a whole number above 0"
        )
    return channels
