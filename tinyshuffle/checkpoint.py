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
import math
import os
import warnings
import zipfile
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any

import numpy as np

from .errors import TinyshuffleError
from .files import atomic_write

__all__ = [
    "Checkpoint", "load", "load_best", "load_newest", "put_damaged_aside", "save", "save_newest",
]  # fmt: skip

FORMAT = "tinyshuffle-checkpoint"
VERSION = 2
OLDEST = 2

Verify = Callable[["Checkpoint"], str]
"""Says why a checkpoint cannot be used, or nothing."""


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


def load(path: str | Path, verify: Verify | None = None) -> Checkpoint:
    """Read a checkpoint.

    Parameters
    ----------
    path : path
    verify : function, optional
        Says what is wrong with a checkpoint that could be read, if anything is.

    Raises
    ------
    TinyshuffleError
        If the file is missing, unreadable, truncated or damaged, not a tinyshuffle checkpoint,
        written by a newer version, or not what ``verify`` wants.
    """
    path = Path(path)
    try:
        header, arrays = _read(path)
        if (found := header.pop("format")) != FORMAT:
            raise ValueError(f"format {found!r}")
        version = int(header.pop("version"))
    except OSError as error:
        raise Damaged(
            f"the checkpoint {path} cannot be read ({error.strerror or error}): check the path and "
            "its permissions"
        ) from error
    except MemoryError:  # parts are no larger than the file: there is not enough
        raise
    except Exception as error:  # zipfile, NumPy and json raise all kinds at damaged bytes
        raise Damaged(
            f"{path} is truncated, damaged or not a tinyshuffle checkpoint "
            f"({error or type(error).__name__}): delete it to fall back on another one of the run, "
            "or train again"
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
    saved = Checkpoint(header, *(_part(arrays, p) for p in ("net/", "optim/", "average/")))
    if verify is not None and (reason := verify(saved)):
        raise Damaged(
            f"{path} cannot be used, as {reason}: take another checkpoint of the run, or train "
            "again"
        )
    return saved


def _read(path: Path) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
    """Return the header and the arrays of a file whose check sums are all right."""
    with zipfile.ZipFile(path) as archive:
        members = archive.infolist()
        # we write none of these, and they could stand for any amount of memory
        if any(member.compress_type != zipfile.ZIP_STORED for member in members):
            raise ValueError("it is compressed")
        if sum(member.file_size for member in members) > path.stat().st_size:
            raise ValueError("its parts are larger than it")
        if len(members) != len({member.filename for member in members}):
            raise ValueError("two of its parts have the same name")
        damaged = archive.testzip()  # every check sum, before anything is interpreted
        if damaged is not None:
            raise ValueError(f"{damaged} has a wrong check sum")
        if "header.npy" not in archive.namelist():
            raise ValueError("a zip archive without our header")
        arrays = {}
        for member in members:
            with archive.open(member) as file:
                arrays[member.filename.removesuffix(".npy")] = _array(file, member.file_size)
    header = json.loads(arrays.pop("header").tobytes())
    if not isinstance(header, dict):
        raise ValueError("its header is not a table")
    return header, arrays


def _array(file: IO[bytes], size: int) -> np.ndarray:
    """Read an array that is a whole zip member of ``size`` bytes; its shape is no promise."""
    version = np.lib.format.read_magic(file)
    read = {(1, 0): np.lib.format.read_array_header_1_0,
            (2, 0): np.lib.format.read_array_header_2_0}[version]  # fmt: skip
    shape, fortran_order, dtype = read(file)
    if dtype.hasobject:
        raise ValueError("it would have to be unpickled")
    if math.prod(shape) * dtype.itemsize != size - file.tell():
        raise ValueError(f"an array of shape {shape} has {size - file.tell()} bytes")
    values = np.frombuffer(file.read(), dtype).copy()
    return values.reshape(shape, order="F" if fortran_order else "C")


def load_newest(run: Path, verify: Verify | None = None) -> tuple[Checkpoint, Path, list[str]]:
    """Return the newest checkpoint that is whole, its path, and what was wrong with newer ones."""
    faults: list[str] = []
    for name in ("last.npz", "next.npz", "previous.npz"):
        if os.path.lexists(run / name):
            try:
                return load(run / name, verify), run / name, faults
            except Damaged as error:
                faults.append(str(error))
    raise TinyshuffleError(
        f"{run} holds no checkpoint to go on from"
        + (f" ({'; '.join(faults)})" if faults else "")
        + ": name another run, or train again"
    )


def load_best(run: Path, verify: Verify | None = None) -> tuple[Checkpoint, Path]:
    """Return a run's best checkpoint, or its newest if there is no best one yet, and its path.

    Warns, where the caller's caller stands, if it is not the one that it should be, because that is
    damaged.
    """
    path, faults = run / "best.npz", []
    if path.exists():
        try:
            return load(path, verify), path
        except Damaged as error:
            faults.append(str(error))
    saved, path, more = load_newest(run, verify)
    for fault in [*faults, *more]:
        warnings.warn(f"{fault}; going on with {path}", stacklevel=3)
    return saved, path


def put_damaged_aside(run: Path, path: Path, faults: list[str]) -> None:
    """Move a damaged newest checkpoint out of the way of one at ``path`` that is gone on from.

    Or the next checkpoint would put it in the place of the good one.
    """
    if faults and path.name != "last.npz" and os.path.lexists(run / "last.npz"):
        os.replace(run / "last.npz", run / "damaged.npz")


def _part(arrays: dict[str, np.ndarray], prefix: str) -> dict[str, np.ndarray]:
    return {name[len(prefix) :]: a for name, a in arrays.items() if name.startswith(prefix)}
