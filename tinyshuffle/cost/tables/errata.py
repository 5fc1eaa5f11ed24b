"""What the papers print that cannot be right or cannot be reproduced: the entries of errata.toml.

Each has a command or a few lines of Python, whose output holds every figure that the entry quotes
`like this`. The tests run them all.
"""

from __future__ import annotations

import sys
from collections import Counter
from dataclasses import dataclass
from importlib.resources import files

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

__all__ = ["ERRATA", "KINDS", "SURE", "Erratum", "page"]

KINDS = {
    "misprint": "the paper contradicts itself, and one of the two can be told to be right",
    "rounding": "the figure is cut off, rounded up or a label",
    "unpublished detail": "the paper does not print what the figure follows from",
    "other convention": "something else is counted, or another variant of the net",
    "port's error": "the paper is right; implementations in circulation are not",
}
SURE = {
    "certain": "it follows from the paper's own text and tables, or its authors have said so",
    "likely": "one reading reproduces the figure, and none that is as near to the text",
    "open": "no reading is known that reproduces it",
}


@dataclass(frozen=True)
class Erratum:
    """One entry.

    Attributes
    ----------
    name : str
    place : str
        Paper, and the table or section.
    printed : str
    follows : str
        What follows from the paper's own text, with figures between backticks.
    reason : str
        Why the two differ.
    kind, sure : str
        One of :data:`KINDS` and of :data:`SURE`.
    run : str
        A command line, or Python, which prints the figures of ``follows``.
    """

    name: str
    place: str
    printed: str
    follows: str
    reason: str
    kind: str
    sure: str
    run: str


def _read() -> dict[str, Erratum]:
    text = files(__package__).joinpath("errata.toml").read_text(encoding="utf-8")
    return {name: Erratum(name, **entry) for name, entry in tomllib.loads(text).items()}


ERRATA = _read()


_HEAD = """# What the papers' figures do not say

Figures of ShuffleNet V1 and V2 (here V1 and V2), MobileNet V1 and V2 and the nets beside them that
cannot be right, or cannot be reproduced from what is printed. Each entry has what is printed, what
follows from the paper's own text, and lines that compute it again: figures `like this` are in their
output, which the tests compare. A multiplication with its addition counts as one, as in the papers.

All figures, right ones too, are beside our counts in `python -m tinyshuffle cost --table all`. This
page is written by `python -m tinyshuffle cost --table errata --format markdown`.
"""


def page() -> str:
    """Return docs/errata.md."""
    kinds = Counter(erratum.kind for erratum in ERRATA.values())
    sure = Counter(erratum.sure for erratum in ERRATA.values())
    lines = [
        *_HEAD.splitlines(),
        "",
        "| kind | entries | |",
        "|---|---:|---|",
        *(f"| {kind} | {kinds[kind]} | {words} |" for kind, words in KINDS.items()),
        "",
        "| how sure | entries | |",
        "|---|---:|---|",
        *(f"| {word} | {sure[word]} | {words} |" for word, words in SURE.items()),
    ]
    for number, erratum in enumerate(ERRATA.values(), 1):
        language = "" if erratum.run.startswith("python -m") else "python"
        lines += [
            "",
            f"## {number}. {erratum.place}",
            "",
            f"- Printed: {erratum.printed}",
            f"- What follows: {erratum.follows}",
            f"- Why: {erratum.reason}",
            f"- {erratum.kind.capitalize()}; {erratum.sure}",
            "",
            f"```{language}",
            erratum.run.strip(),
            "```",
        ]
    return "\n".join(lines) + "\n"
