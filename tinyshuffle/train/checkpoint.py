"""Checkpoints: one ``.npz`` file that NumPy alone can read, written so that it is whole or absent.

Its arrays are ``net/NAME``, ``optim/NAME`` and, if the run averages its weights, ``average/NAME``;
``header`` holds JSON: the format and its version, the configuration, the classes and statistics of
the data, the position in the run and the state of the random generators. Nothing is
pickled, so loading a stranger's file runs no code.

A run directory keeps three of them: ``last.npz``, the one before it as ``previous.npz``, and
``best.npz``, the one with the highest test accuracy.
"""

from __future__ import annotations

import json
import os
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any

import numpy as np

from ..errors import TinyshuffleError

__all__ = ["Checkpoint", "atomic_write", "load", "load_newest", "save", "save_newest"]

FORMAT = "tinyshuffle-checkpoint"
VERSION = 2
OLDEST = 2

# What zipfile and numpy raise at damaged bytes.
_DAMAGE = (
    zipfile.BadZipFile,
    zlib.error,
    EOFError,
    ValueError,
    KeyError,
    NotImplementedError,
    RuntimeError,
    TypeError,
    OverflowError,
)


class Damaged(TinyshuffleError):
    """Another checkpoint of the run may be better."""


@dataclass
class Checkpoint:
    """A net, its optimiser and where they stand: ``header`` is JSON, the others name arrays.

    ``average`` is the running average of the net's state, and empty if the run keeps none.
    """

    header: dict[str, Any]
    net: dict[str, np.ndarray]
    optim: dict[str, np.ndarray]
    average: dict[str, np.ndarray] = field(default_factory=dict)

    @property
    def best(self) -> dict[str, np.ndarray]:
        """The state that is tested and used: the average if there is one."""
        return self.average or self.net


@contextmanager
def atomic_write(path: str | Path) -> Iterator[IO[bytes]]:
    """A file to write bytes to that takes the place of ``path`` only when it is complete.

    If writing fails, for want of space say, ``path`` is as it was and nothing is left beside it.

    Raises
    ------
    TinyshuffleError
        If the file cannot be written.
    """
    path = Path(path)
    temporary = path.with_name(f".{path.name}.tmp")  # the same directory, so the same file system
    try:
        with open(temporary, "wb") as file:
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


def save(path: str | Path, checkpoint: Checkpoint) -> None:
    """Write a checkpoint, atomically."""
    header = {"format": FORMAT, "version": VERSION, **checkpoint.header}
    arrays = {f"net/{name}": array for name, array in checkpoint.net.items()}
    arrays |= {f"optim/{name}": array for name, array in checkpoint.optim.items()}
    arrays |= {f"average/{name}": array for name, array in checkpoint.average.items()}
    arrays["header"] = np.frombuffer(json.dumps(header).encode(), np.uint8)
    with atomic_write(path) as file:
        np.savez(file, **arrays)  # type: ignore[arg-type]


def save_newest(run: Path, checkpoint: Checkpoint) -> None:
    """Write ``last.npz``; what had that name becomes ``previous.npz``.

    The new one is complete, as ``next.npz``, before a name is moved: whatever happens, the newest
    checkpoint is whole under one of the names that :func:`load_newest` tries.
    """
    save(run / "next.npz", checkpoint)
    if (run / "last.npz").exists():
        os.replace(run / "last.npz", run / "previous.npz")
    os.replace(run / "next.npz", run / "last.npz")


def load(path: str | Path) -> Checkpoint:
    """Read a checkpoint.

    Raises
    ------
    TinyshuffleError
        If the file is missing, truncated or damaged, not a tinyshuffle checkpoint, or written by
        a newer version.
    """
    path = Path(path)
    try:
        with zipfile.ZipFile(path) as archive:
            members = archive.namelist()
            damaged = archive.testzip()  # every check sum, before anything is interpreted
        if damaged is not None:
            raise zipfile.BadZipFile(f"{damaged} has a wrong check sum")
        if "header.npy" not in members:
            raise TinyshuffleError(
                f"{path} is not a tinyshuffle checkpoint (a zip archive without our header): "
                "name a file or run that python -m tinyshuffle train has written"
            )
        with np.load(path, allow_pickle=False) as file:
            arrays = {name: file[name] for name in file.files}
        header = json.loads(arrays.pop("header").tobytes())
        if (found := header.pop("format")) != FORMAT:
            raise ValueError(f"format {found!r}")
        version = int(header.pop("version"))
    except TinyshuffleError:
        raise
    except OSError as error:
        raise TinyshuffleError(
            f"the checkpoint {path} cannot be read ({error.strerror or error}): check the path"
        ) from error
    except _DAMAGE as error:
        raise Damaged(
            f"{path} is truncated, damaged or not a tinyshuffle checkpoint ({error}): delete it to "
            "fall back on another one of the run, or train again"
        ) from error
    if version > VERSION:
        raise TinyshuffleError(
            f"{path} was written by a newer tinyshuffle (checkpoint version {version}, this one "
            f"reads up to {VERSION}): update tinyshuffle"
        )
    if version < OLDEST:
        raise TinyshuffleError(
            f"{path} was written by an older tinyshuffle (checkpoint version {version}, this one "
            f"reads from {OLDEST} on): train again"
        )
    return Checkpoint(header, *(_part(arrays, p) for p in ("net/", "optim/", "average/")))


def load_newest(run: Path) -> tuple[Checkpoint, Path, list[str]]:
    """Return the newest checkpoint that is whole, its path, and what was wrong with newer ones."""
    faults: list[str] = []
    for name in ("last.npz", "next.npz", "previous.npz"):
        if (run / name).exists():
            try:
                return load(run / name), run / name, faults
            except Damaged as error:
                faults.append(str(error))
    raise TinyshuffleError(
        f"{run} holds no checkpoint to go on from"
        + (f" ({'; '.join(faults)})" if faults else "")
        + ": name another run, or train again"
    )


def _part(arrays: dict[str, np.ndarray], prefix: str) -> dict[str, np.ndarray]:
    return {name[len(prefix) :]: a for name, a in arrays.items() if name.startswith(prefix)}
