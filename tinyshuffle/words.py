"""Counts and times as people write and read them."""

from __future__ import annotations

import math
import re

from .errors import TinyshuffleError

__all__ = ["duration", "hundredths", "parse_duration", "plural"]


def plural(count: int, noun: str) -> str:
    """Count things.

    >>> plural(1, "epoch"), plural(12000, "step")
    ('1 epoch', '12,000 steps')
    """
    return f"{count:,} {noun}{'s' * (count != 1)}"


def hundredths(value: float) -> str:
    """Write a number with two decimals, and "-" where there is none (NaN).

    >>> hundredths(-0.256), hundredths(math.nan)
    ('-0.26', '-')
    """
    return "-" if math.isnan(value) else f"{value:.2f}"


def duration(seconds: float) -> str:
    """Write a time for people.

    >>> duration(58.4), duration(75), duration(3725)
    ('58 s', '1:15 min', '1:02:05 h')
    """
    whole = round(seconds)
    minutes, s = divmod(whole, 60)
    hours, m = divmod(minutes, 60)
    return f"{hours}:{m:02}:{s:02} h" if hours else f"{m}:{s:02} min" if minutes else f"{s} s"


def parse_duration(text: str) -> float:
    """Read a time that a person wrote, in seconds.

    >>> parse_duration("45m"), parse_duration("1h30m"), parse_duration("90s")
    (2700.0, 5400.0, 90.0)
    """
    found = re.fullmatch(r"(?:(\d+)h)?(?:(\d+)m)?(?:(\d+)s)?", text.strip())
    if not text.strip() or found is None:
        raise TinyshuffleError(
            f"{text!r} is not a time: write hours, minutes and seconds as in 45m, 1h30m or 90s"
        )
    hours, minutes, seconds = (float(part or 0) for part in found.groups())
    return 3600 * hours + 60 * minutes + seconds
