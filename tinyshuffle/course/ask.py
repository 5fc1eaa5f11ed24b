"""What a student types."""

from __future__ import annotations

import difflib
import textwrap
from typing import Any

from ..errors import TinyshuffleError
from . import store
from .exercise import WIDTH, Exercise, Reply, judge

__all__ = ["Listing", "Words", "check", "exercises", "hint", "progress"]


class Words(str):
    """Text that shows itself as it reads."""

    def __repr__(self) -> str:
        return str(self)


def check(key: str, answer: Any) -> Reply:
    """Judge an answer to an exercise: right, or what is wrong with it and where to read.

    Parameters
    ----------
    key : str
        "03.2" is the second exercise of notebook 03.
    answer : callable or number
        The function that the student wrote, or the number that the student predicts.

    Raises
    ------
    TinyshuffleError
        If there is no such exercise.
    """
    reply = judge(find(key), answer)
    try:
        records = store.load()
        record = records.setdefault(key, store.Record())
        record.tries += 1
        record.right |= reply.right
        store.save(records)
    except TinyshuffleError as error:  # the answer is judged all the same
        return Reply(reply.right, f"{reply.sentence} (Not noted: {error}.)")
    return reply


def hint(key: str) -> Words:
    """Return the first hint, and when asked again both."""
    exercise = find(key)
    try:
        records = store.load()
        record = records.setdefault(key, store.Record())
        record.hints = min(record.hints + 1, len(exercise.hints))
        store.save(records)
        count = record.hints
    except TinyshuffleError:
        count = len(exercise.hints)
    lines = [f"{i}. {text}" for i, text in enumerate(exercise.hints[:count], 1)]
    if count < len(exercise.hints):
        lines.append("(There is one more: ask again.)")
    return Words("\n".join(textwrap.fill(line, WIDTH) for line in lines))


class Listing(dict[str, str]):
    """Titles by key, that show themselves as a list."""

    def __repr__(self) -> str:
        return "\n".join(f"{key}  {title}" for key, title in self.items())


def exercises() -> Listing:
    """Return the titles of all exercises, by key.

    >>> exercises()["03.1"]
    'Channel shuffle in one line'
    """
    return Listing({key: exercise.title for key, exercise in _all().items()})


def progress() -> Words:
    """Return what is done and what is not, as stored in the current folder."""
    records = store.load()
    lines, done = [], 0
    every = _all()
    for key, exercise in every.items():
        record = records.get(key, store.Record())
        done += record.right
        mark = "done" if record.right else "open" if record.tries else ""
        notes = [
            f"{count} {one if count == 1 else several}"
            for count, one, several in (
                (record.tries, "try", "tries"),
                (record.hints, "hint", "hints"),
            )
            if count
        ]
        lines.append(f"{key}  {mark:4}  {exercise.title:44}  {', '.join(notes)}".rstrip())
    lines.append(f"{done} of {len(every)} exercises are done")
    return Words("\n".join(lines))


def find(key: str) -> Exercise:
    """Return the exercise with this key."""
    every = _all()
    if key not in every:
        near = difflib.get_close_matches(str(key).zfill(4), every, n=1, cutoff=0.5)
        raise TinyshuffleError(
            f"there is no exercise {key!r}: "
            + (f"did you mean {near[0]!r}?" if near else "ts.course.exercises() lists them")
        )
    return every[key]


def _all() -> dict[str, Exercise]:
    from .lessons import EXERCISES  # not needed, and so not loaded, by those who only train nets

    return EXERCISES
