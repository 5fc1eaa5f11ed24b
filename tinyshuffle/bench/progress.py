"""What is shown while a benchmark runs: on the error stream, and only in a terminal."""

from __future__ import annotations

import time
from collections.abc import Iterator

from ..text import bar, console
from ..words import duration

__all__ = ["Progress"]


class Progress:
    """A line with a bar and the time left. Use as ``with progress:``."""

    def __init__(self) -> None:
        self._bar = bar(console(stderr=True), "left")
        self._task = self._bar.add_task("starting", total=None, left="")

    def __enter__(self) -> Progress:
        self._bar.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._bar.stop()

    def phase(self, text: str) -> None:
        """Say what is going on, for as long as that may take."""
        self._bar.reset(self._task, total=None, description=text, left="")

    def rounds(self, text: str, count: int) -> Iterator[int]:
        """Return the numbers from 0 to ``count`` - 1, and move the bar while they are used."""
        self._bar.reset(self._task, total=count, description=text, left="")
        start = time.perf_counter()
        for i in range(count):
            yield i
            left = (time.perf_counter() - start) / (i + 1) * (count - i - 1)
            self._bar.update(self._task, completed=i + 1, left=f"{duration(left)} left")
