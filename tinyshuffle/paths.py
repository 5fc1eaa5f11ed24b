"""Paths that a user writes: ``~`` is the home directory, whoever reads the path."""

from __future__ import annotations

import os
from pathlib import Path

from .errors import TinyshuffleError
from .text import shown

__all__ = ["expand"]


def expand(path: str | os.PathLike[str], name: str = "") -> Path:
    """Return a path with ``~`` or ``~user`` in front replaced by that home directory.

    A shell does this only where a word begins: not in ``--data-dir=~/x``, nor in a recipe.
    ``name`` is that of the field which holds the path, if one does.

    Raises
    ------
    TinyshuffleError
        If it is empty, holds a NUL, or names a user that this machine does not know.
    """
    text = os.fspath(path)
    said = f"{name}={shown(text)}" if name else shown(text)
    if not text.strip() or "\0" in text:
        raise TinyshuffleError(
            f"{said} is no path: write a directory or file, such as ~/data"
        )
    expanded = os.path.expanduser(text)
    if expanded.startswith("~") and not os.path.exists(text):
        user = text.split(os.sep)[0]
        raise TinyshuffleError(
            f"{said} begins with a home directory that this machine does not know: "
            f"write ./{user} for something of that name"
        )
    return Path(expanded)
