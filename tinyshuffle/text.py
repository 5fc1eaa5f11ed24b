"""Foreign text: file names, class names, a student's error message. Shown so that it does nothing.

What somebody else wrote can hold terminal escapes, markup of a printing library, the beginning of
a spreadsheet's formula, or a ``__str__`` that raises. Everything that is printed or written as CSV
goes through here.
"""

from __future__ import annotations

import csv
import io
import re
import sys
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from rich.console import Console
    from rich.progress import Progress

__all__ = [
    "bar", "brief", "console", "csv_text", "markdown_table", "message", "shown", "visible",
]  # fmt: skip

_COLOUR = re.compile(r"\x1b\[[\d;]*m")

LONGEST = 200  # characters of a foreign message in a sentence
LONGEST_WORD, LONGEST_TEXT = 400, 3000  # of what is printed beside a command's own output

FORMULA = ("=", "+", "-", "@", "\t", "\r")
"""With these a spreadsheet begins a formula (OWASP, "CSV injection")."""


def visible(text: str, keep: str = "\n") -> str:
    r"""Return the text with control characters written out; those in ``keep`` stay.

    These are the categories C and Z of Unicode, all but the spaces: escapes for terminals, marks
    that turn the direction of writing, and the bytes of a file name that are no text.

    >>> print(visible("a\x1b[31mb\u202ec\udcff"))
    a\x1b[31mb\u202ec\udcff
    >>> visible("Zoë 李 5\u00a0MB [bold] :cat:")
    'Zoë 李 5\xa0MB [bold] :cat:'
    """
    return "".join(
        c if c.isprintable() or c in keep or c.isspace() and c > " " and c not in _BREAKS
        else c.encode("unicode_escape").decode()
        for c in text
    )  # fmt: skip


_BREAKS = "\x1c\x1d\x1e\x1f\x85\u2028\u2029"  # spaces for Python, and new lines for some readers


def shown(value: Any) -> str:
    """Return the ``repr`` of anything in one line that is not long, whatever it does.

    >>> shown("no"), shown(10 ** 5000), shown("a" * 1000)[-21:]
    ("'no'", 'a value of type int', "a… aaaaaaaaaaaaaaaaa'")
    """
    try:
        text = repr(value)
    except Exception:  # a number of too many digits, or what a student's class raises
        return f"a value of type {type(value).__name__}"
    return _short(visible(text, ""), 80)


def message(error: BaseException) -> str:
    """Return an error's message in one line that is not long; its ``__str__`` may raise.

    >>> message(ValueError("one\\ntwo")), message(ValueError())
    ('one two', 'no message')
    """
    try:
        text = _COLOUR.sub("", str(error))  # numba's messages have some
    except Exception:
        return "a message that cannot be shown"
    return _short(visible(" ".join(text.split())), LONGEST) or "no message"


def brief(text: str) -> str:
    """Return a sentence, or a few, in which no value is so long that it hides the rest.

    A value of thousands of characters is repeated by whoever refuses it; this is where it is cut,
    whoever that is. Paths and lists of names stay whole.

    >>> brief("--by " + 3000 * "b" + " is unknown: use unit")[170:]
    'bbbbbbbbbbbbbbb… bbbbbbbbbbbbbbbbbb is unknown: use unit'
    """
    text = re.sub(rf"\S{{{LONGEST_WORD},}}", lambda word: _short(word[0], LONGEST), text)
    half = LONGEST_TEXT // 2
    return text if len(text) <= LONGEST_TEXT else f"{text[:half]} … {text[-half:]}"


def _short(text: str, longest: int) -> str:
    if len(text) <= longest:
        return text
    return f"{text[: longest - 20]}… {text[-18:].lstrip()}"


def csv_text(rows: Iterable[Sequence[Any]]) -> str:
    r"""Return rows as CSV in which no text is a formula.

    Numbers stay as they are; text that a spreadsheet would take for a formula gets an apostrophe
    in front, and control characters are written out.

    >>> csv_text([["name", "x"], ["=1+1", -1.5], ["g=3", "-"]])
    "name,x\n'=1+1,-1.5\ng=3,'-\n"
    """
    out = io.StringIO(newline="")
    writer = csv.writer(out, lineterminator="\n")
    writer.writerows([_cell(value) for value in row] for row in rows)
    return out.getvalue()


def markdown_table(
    headings: Sequence[str], lines: Iterable[Sequence[str]], words: int = 1
) -> list[str]:
    """Return the lines of a table in Markdown: first columns of words, then some of numbers.

    >>> markdown_table(["net", "params"], [["g=3", "1,234"]])
    ['| net | params |', '| --- | ---: |', '| g=3 | 1,234 |']
    """
    rule = ["---"] * words + ["---:"] * (len(headings) - words)
    return ["| " + " | ".join(cells) + " |" for cells in (headings, rule, *lines)]


def _cell(value: Any) -> Any:
    if not isinstance(value, str):
        return value
    text = visible(value, "")
    try:
        float(text)  # -1.50 is text here, and no formula
    except ValueError:
        return f"'{text}" if value.lstrip(" ").startswith(FORMULA) else text
    return text


def console(**arguments: Any) -> Console:
    """Return a rich console that takes no text for markup, emoji or something to colour."""
    from rich.console import Console

    return Console(markup=False, emoji=False, highlight=False, **arguments)


def bar(screen: Console, *columns: Any) -> Progress:
    """Return the one bar of all commands, which only a terminal shows.

    In front of it stands what is done (a task's ``description``), behind it rich's ``columns``, or
    a text where ``"left"`` names a field of the task's.
    """
    from rich.progress import BarColumn, Progress, TextColumn

    threads = sys.platform != "emscripten"  # in a browser none can be started to move the bar
    return Progress(
        TextColumn("{task.description}", markup=False),
        BarColumn(bar_width=None),
        *(
            TextColumn(f"{{task.fields[{c}]}}", markup=False) if isinstance(c, str) else c
            for c in columns
        ),
        console=screen,
        transient=True,
        refresh_per_second=4,
        auto_refresh=threads,
        disable=screen.quiet or not screen.is_terminal or not threads,
    )
