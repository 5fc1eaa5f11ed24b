"""What is printed while a net trains: a live bar in a terminal, elsewhere a line an epoch."""

from __future__ import annotations

import os
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import IO, Any, cast

from ..text import bar, console, visible
from ..values import flags
from ..words import duration

__all__ = ["Progress", "output"]


class Output:
    """Standard output that may fail or go away, as in ``… | head`` or when a terminal is closed.

    A training is worth more than what it prints: from the first failure on, nothing is printed.
    """

    _gone = False

    @property
    def _file(self) -> Any:
        # rich has something else in this place while a bar is shown, which leads back to here
        return getattr(sys.stdout, "rich_proxied_file", sys.stdout)

    def __getattr__(self, name: str) -> Any:
        if name == "rich_proxied_file":
            raise AttributeError(name)  # or rich goes past us
        return getattr(self._file, name)

    def write(self, text: str) -> int:
        """Write what can be written."""
        self._try("write", text)
        return len(text)

    def flush(self) -> None:
        """Flush, if that can be done."""
        self._try("flush")

    def _try(self, action: str, *arguments: str) -> None:
        file = self._file
        if self._gone or file is None:  # which it is when it was closed from the start
            return
        try:
            getattr(file, action)(*arguments)
        except OSError:
            self._gone = True
            # What is in its buffer would fail again, at the latest when Python ends.
            with suppress(OSError, AttributeError), open(os.devnull, "w") as nothing:
                os.dup2(nothing.fileno(), file.fileno())


def output() -> IO[str]:
    """Return an :class:`Output` as what wants a file takes it."""
    return cast("IO[str]", Output())


class Progress:
    """The bar and the lines of one run. Use as ``with progress:``.

    Parameters
    ----------
    quiet : bool
        Print nothing.
    """

    epochs = 0

    @flags
    def __init__(self, quiet: bool = False) -> None:
        self._console = console(file=output(), quiet=quiet, soft_wrap=True)
        self._bar = bar(self._console, "figures")
        self._task = self._bar.add_task("starting", total=1.0, figures="")
        self._first: tuple[float, float] | None = None

    def __enter__(self) -> Progress:
        self._bar.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._bar.stop()

    def line(self, text: str) -> None:
        """Print a line, above the bar."""
        self._console.print(visible(text))

    @contextmanager
    def compile_notice(self, backend: str) -> Iterator[Callable[[], None]]:
        """Explain a first step that takes long; yields what cancels that."""
        notice = threading.Timer(3.0, self.line, ["compiling the kernels (once per machine) …"])
        notice.daemon = True
        if backend == "numba":
            notice.start()
        try:
            yield notice.cancel
        finally:
            notice.cancel()

    def step(self, done: float, epoch: int, loss: float, accuracy: float, rate: float) -> None:
        """Move the bar: part of the run that is done, the epoch's figures so far, images/s."""
        now = time.perf_counter()
        if self._first is None:  # the clock starts after the first step, which may have compiled
            self._first = done, now
        begin, since = self._first
        left = (now - since) * (1 - done) / (done - begin) if done > begin else 0.0
        epochs = f"epoch {epoch}/{self.epochs}"
        figures = [
            f"{duration(left) if done > begin else '…'} left", f"loss {loss:.3f}",
            f"accuracy {100 * accuracy:.1f} %", f"{rate:.0f} images/s",
        ]  # fmt: skip
        # a narrow terminal shows fewer figures, and no part of one
        while figures and len("  ".join([epochs, "bar ", *figures])) > self._console.width:
            figures.pop()
        self._bar.update(
            self._task, completed=done, description=epochs, figures="  ".join(figures)
        )

    def evaluating(self) -> None:
        """Say on the bar that the test set's turn has come."""
        self._bar.update(self._task, description="evaluating")

    def epoch(self, row: dict[str, Any]) -> None:
        """Print a finished epoch."""
        figures = [
            f"{part} loss {row[f'{part}_loss']:.3f}  "
            f"accuracy {100 * row[f'{part}_accuracy']:4.1f} %   "
            for part in ("train", "test")
            if row[f"{part}_loss"] is not None
        ]
        self.line(
            f"epoch {row['epoch']:{len(str(self.epochs))}}/{self.epochs}  {''.join(figures)}"
            f"{row['images_per_second']:.0f} images/s  {duration(row['seconds'])}"
        )
