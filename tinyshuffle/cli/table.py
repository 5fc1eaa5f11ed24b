"""The one table of the command line. Its numbers are whole, however narrow the terminal."""

from __future__ import annotations

import os
import shutil
import sys

import click
from rich import box
from rich.measure import Measurement
from rich.table import Table as RichTable
from rich.text import Text

from ..text import console, visible

__all__ = ["Table"]


class Table(RichTable):
    """Headings and cells of text that may be foreign: no markup, no emoji, no escapes."""

    def __init__(self, first: str, *others: str) -> None:
        super().__init__(box=box.SIMPLE_HEAD, pad_edge=False)
        self.add_column(_plain(first), no_wrap=True)
        for heading in others:
            self.add_column(_plain(heading), justify="right", no_wrap=True)

    def add_row(self, *cells: str, end_section: bool = False) -> None:  # type: ignore[override]
        super().add_row(*map(_plain, cells), end_section=end_section)

    def print(self) -> None:
        """Print it as wide as it is; where that does not fit, a line for each figure instead."""
        wide = console(width=10_000)
        width = Measurement.get(wide, wide.options, self).maximum
        if width <= _columns():
            console(width=width).print(self)
        else:
            click.echo("\n".join(self.lines()))

    def lines(self) -> list[str]:
        """Return each row as lines of heading and cell, below its first cell."""
        headings = [str(column.header) for column in self.columns]
        longest = max(map(len, headings[1:]), default=0)
        rows = zip(*([str(cell) for cell in column.cells] for column in self.columns), strict=True)
        lines = []
        for first, *cells in rows:
            lines.append(first or "-")
            lines += [
                f"  {heading:{longest}}  {cell}".rstrip()
                for heading, cell in zip(headings[1:], cells, strict=True)
                if cell
            ]
        return lines


def _plain(text: str) -> Text:
    return Text(visible(text, ""))


def _columns() -> float:
    """Of the terminal, or of COLUMNS. A file or a pipe is as wide as what is written to it."""
    if "COLUMNS" in os.environ or sys.stdout.isatty():
        return shutil.get_terminal_size().columns
    return float("inf")
