"""Of several ranks: whether they train the same net on the same images, and what to say of it."""

from __future__ import annotations

import socket
import zlib

import numpy as np

from .. import data, machine, nn
from ..errors import TinyshuffleError
from ..parallel import cores_of, usable_cores
from ..ranks import Ranks
from ..words import plural
from .config import Config

__all__ = ["begin", "changed", "check_weights"]

OWN = "threads", "data", "data_dir", "init"
"""What may differ: the speed, and the places of files. What is in these is compared."""


def begin(
    config: Config, ranks: Ranks | None, train_set: data.Dataset, test_set: data.Dataset
) -> list[str]:
    """Refuse ranks that would not train the same net on the same images; return warnings.

    Raises
    ------
    TinyshuffleError
        Names what differs, and the rank.
    """
    if ranks is None:
        return [] if config.sync_bn is not False else [
            "Warning: this run was begun with --sync-bn no, by ranks that normalise their parts of "
            "a batch by themselves; without ranks whole batches are normalised from here on, which "
            "is another training (with mpiexec, train --mpi goes on as before)"
        ]  # fmt: skip
    if config.backend == "numpy":
        raise TinyshuffleError(
            "backend=numpy was given, with which each rank would do the work of all: leave it "
            "out, or train without --mpi"
        )
    if ranks.size > config.batch_size:
        raise TinyshuffleError(
            f"batch_size={config.batch_size} was given, and there are {ranks.size} ranks: "
            "give at least an image to each"
        )
    ranks.sync_bn = config.sync_bn is not False
    this = machine.describe(config.threads)
    fields = {name: value for name, value in config.to_dict().items() if name not in OWN}
    same = {
        **{f"--{name.replace('_', '-')}": value for name, value in fields.items()},
        "versions": this.versions,
        "classes": train_set.classes,
        "training images": _checksum(train_set.images, train_set.labels),
        "test images": _checksum(test_set.images, test_set.labels),
    }
    notes = [*ranks.check_alike(same, this.cpu), *ranks.all(_crowded(config, ranks))]
    return [f"Warning: {note}" for note in dict.fromkeys(notes) if note]


def _crowded(config: Config, ranks: Ranks) -> str:
    """Say so if the ranks of this machine have more threads than it has cores."""
    cores, threads = cores_of(ranks), min(config.threads, usable_cores())
    if ranks.here * threads <= cores:
        return ""
    fewer = f"--threads {cores // ranks.here}" if ranks.here <= cores else f"it {cores} of them"
    return (
        f"{plural(ranks.here, 'rank')} of {plural(threads, 'thread')} take turns on the "
        f"{plural(cores, 'core')} of {socket.gethostname()}, which is slow: give {fewer}"
    )


def changed(config: Config, ranks: Ranks | None, before: int) -> str:
    """Say so if a run was begun by another number of ranks than it is continued by."""
    now = 1 if ranks is None else ranks.size
    if before == now:
        return ""
    begun = f"begun by {plural(before, 'rank')} and continued by {now}"
    if config.sync_bn is not False:
        return f"{begun}: the same training, but for the last bits of the weights"
    if ranks is None:
        return ""  # said at the beginning
    return (
        f"Warning: with --sync-bn no, {begun}, which normalise other parts of a batch: this is "
        "another training"
    )


def check_weights(net: nn.Module, ranks: Ranks) -> None:
    """Refuse ranks whose nets do not begin alike."""
    ranks.check_alike({"weights": _checksum(*net.state_dict().values())}, "")


def _checksum(*arrays: np.ndarray) -> int:
    """A number that tells arrays from others."""
    found = 0
    for a in arrays:
        found = zlib.crc32(np.ascontiguousarray(a).data, found)
    return found
