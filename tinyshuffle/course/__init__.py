"""Exercises that answer back: one set a notebook, in ``notebooks/exercises``.

>>> import tinyshuffle as ts
>>> ts.course.check("03.2", lambda dy, groups: dy)            # doctest: +SKIP
03.2 is not right yet. …

``check`` replies with a sentence, ``hint`` helps in two steps, ``progress`` shows what is done,
``exercises`` lists what there is. A check calls the student's function on small inputs and compares
with the library itself; nothing is run that the student did not write. Solutions are no part of
the package.

``photograph`` and ``tiny_net`` are what lessons 1 to 6 look at.
"""

from __future__ import annotations

from .ask import check, exercises, hint, progress
from .picture import photograph, tiny_net

__all__ = ["check", "exercises", "hint", "photograph", "progress", "tiny_net"]
