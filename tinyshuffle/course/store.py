"""A student's progress: a small JSON file beside the notebooks."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

from ..errors import TinyshuffleError
from ..files import write_text

__all__ = ["FILE", "Record", "load", "save"]

FILE = ".tinyshuffle-course.json"  # in the current folder, which for a notebook is its own


@dataclass
class Record:
    """What is known of one exercise: was it ever right, how often was it tried, hints taken."""

    right: bool = False
    tries: int = 0
    hints: int = 0


def load() -> dict[str, Record]:
    """Read the progress that is stored in the current folder; none is an empty one.

    Raises
    ------
    TinyshuffleError
        If the file is not what :func:`save` writes.
    """
    path = Path(FILE)
    try:
        stored = json.loads(path.read_text(encoding="utf-8"))
        return {
            str(key): Record(bool(r["right"]), int(r["tries"]), int(r["hints"]))
            for key, r in stored["exercises"].items()
        }
    except FileNotFoundError:
        return {}
    except (
        OSError, ValueError, KeyError, TypeError, AttributeError, OverflowError, RecursionError
    ) as error:  # fmt: skip
        raise TinyshuffleError(
            f"the progress in {path.resolve()} cannot be read: move that file away to begin a "
            "new one"
        ) from error


def save(records: dict[str, Record]) -> None:
    """Write the progress, atomically."""
    text = json.dumps({"exercises": {k: vars(r) for k, r in sorted(records.items())}}, indent=1)
    write_text(FILE, text + "\n")
