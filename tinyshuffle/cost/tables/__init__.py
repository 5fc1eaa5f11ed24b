"""The papers' cost tables: what they print, beside what is counted here.

A figure is reproduced if the count, rounded to as many digits, reads the same. A label only is the
name of a class of nets, such as V1's 140 M for nets of 133 to 143 M. Where the two differ, the note
of the line says why, and :mod:`errata` has the evidence.
"""

from __future__ import annotations

from collections.abc import Callable

from ...errors import TinyshuffleError
from . import claims, mobilenet, shufflenet_v1, shufflenet_v2, survey
from .errata import ERRATA
from .line import DIFFERS, LABEL, MISSING, REPRODUCED, VERDICTS, Line, Table

__all__ = [
    "DIFFERS", "ERRATA", "LABEL", "MISSING", "REPRODUCED", "TABLES", "VERDICTS", "Line",
    "Table", "table",
]  # fmt: skip

TABLES: dict[str, Callable[[], Table]] = {
    **shufflenet_v1.TABLES,
    **shufflenet_v2.TABLES,
    **claims.TABLES,
    **mobilenet.TABLES,
    **survey.TABLES,
}


def table(name: str) -> Table:
    """Return one of the papers' tables.

    >>> [line.ours for line in table("v2-5").lines[:4]]
    ['40', '146', '299', '591']
    """
    if name not in TABLES:
        raise TinyshuffleError(f"unknown table {name!r}; there are: {', '.join(TABLES)}")
    return TABLES[name]()
