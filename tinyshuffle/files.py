"""Files: paths as users write them, writing that leaves a whole file or the old one, packages."""

from __future__ import annotations

import glob
import json
import os
import secrets
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from importlib.util import find_spec
from pathlib import Path
from typing import IO, Any

from .errors import TinyshuffleError
from .text import shown

__all__ = [
    "atomic_write", "expand", "installed", "is_leftover", "write_figure", "write_json",
    "write_text",
]  # fmt: skip

DAY = 86_400.0  # seconds


def expand(path: str | os.PathLike[str], name: str = "") -> Path:
    """Return a path with ``~`` or ``~user`` in front replaced by that home directory.

    A shell does this only where a word begins: not in ``--data-dir=~/x``, nor in a recipe.
    ``name`` is that of the field which holds the path, if one does.

    Raises
    ------
    TinyshuffleError
        If it is no path, is empty, holds a NUL, or names a user that this machine does not know.
    """
    text = os.fsdecode(path) if isinstance(path, str | bytes | os.PathLike) else ""
    said = f"{name}={shown(path)}" if name else shown(path)
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


@contextmanager
def atomic_write(path: str | Path) -> Iterator[IO[bytes]]:
    """A file to write bytes to that takes the place of ``path`` only when it is complete.

    Several processes or threads may write the same file: it is what one of them wrote. If writing
    fails, for want of space say, ``path`` is as it was and nothing is left beside it. A process
    that is killed leaves what it has written under a name that nobody reads; whoever writes the
    same file a day later deletes it.

    Raises
    ------
    TinyshuffleError
        If the file cannot be written.
    """
    path = Path(path)
    # the same directory, so the same file system; a name that no other writer has
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(4)}.tmp")
    try:
        _sweep(path)
        with open(temporary, "xb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except BaseException as error:
        temporary.unlink(missing_ok=True)
        if isinstance(error, OSError):
            raise TinyshuffleError(
                f"{path} could not be written ({error.strerror or error}), and what was there "
                "before is untouched: make room or mend the permissions"
            ) from error
        raise


def write_text(path: str | Path, text: str) -> None:
    """Write text in UTF-8, atomically."""
    with atomic_write(path) as file:
        file.write(text.encode())


def write_json(path: str | Path, value: Any) -> None:
    """Write a value as JSON that people can read, atomically."""
    write_text(path, json.dumps(value, indent=2) + "\n")


def write_figure(path: str | Path, figure: Any) -> None:
    """Write a figure of matplotlib as PNG, atomically."""
    with atomic_write(path) as file:
        figure.savefig(file, format="png")


def is_leftover(name: str, of: str) -> bool:
    """Tell whether a file's name is that of a file ``of`` whose writer was killed.

    >>> is_leftover(".last.npz.0a1b2c3d.tmp", "last.npz"), is_leftover("last.npz", "last.npz")
    (True, False)
    """
    return name.startswith(f".{of}.") and name.endswith(".tmp")


def _sweep(path: Path) -> None:
    """Delete what killed writers of the file have left; one at work has written lately."""
    for left in path.parent.glob(f".{glob.escape(path.name)}.*tmp"):
        with suppress(OSError):  # another writer sweeps too
            if time.time() - left.stat().st_mtime > DAY:
                left.unlink()


def installed(package: str) -> bool:
    """Tell whether a package can be imported, without importing it.

    A folder of the same name in the reader's directory is none: Python would import it as an empty
    package, and the error would come far from its cause.
    """
    spec = find_spec(package)
    return spec is not None and spec.origin is not None
