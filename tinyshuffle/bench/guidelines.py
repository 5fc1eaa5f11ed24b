"""The four guidelines of ShuffleNet V2 as the paper tests them, on the reader's own machine.

Tables 1 to 4 of the paper: nets of ten equal blocks at 56x56. All rows of a table cost the same
multiply-adds, so they would take the same time if multiply-adds were time. Batch 1, as on the
paper's phone.

Rows of one column run in turn in the same process, so what is compared are neighbours in time; and
so do the libraries.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from functools import partial
from math import comb
from pathlib import Path
from typing import Any

import numpy as np

from ..errors import TinyshuffleError
from ..machine import Machine
from .guideline_tables import (
    GUIDELINES,
    SIZE,
    Column,
    Guideline,
    channels_of,
    relative_multiply_adds,
)
from .peers import PEERS, check_peer
from .process import OURS, Worker, alone, cleared
from .progress import Progress
from .run import FORMATS, PAUSE, agree
from .spread import Spread, spread

__all__ = [
    "GUIDELINES", "Column", "Effort", "Found", "FULL", "Guideline", "QUICK", "Verdict",
    "measure_guidelines", "median_interval", "verdict",
]  # fmt: skip

# ---- what follows from times


def median_interval(values: Sequence[float]) -> tuple[float, float]:
    """Return an interval that holds the true median with probability 0.95, or as near as can be.

    It lies between the k-th smallest and the k-th largest value. Nothing is assumed of how the
    values are distributed: each is above the median with probability 1/2, so k is binomial. From
    fewer than six values k = 1 has to do.

    >>> median_interval([5.0, 1.0, 4.0, 2.0, 3.0, 6.0, 7.0, 99.0, 0.5])
    (1.0, 7.0)
    """
    ordered = sorted(values)
    n, k = len(ordered), 1
    while k < n // 2 and 2 * sum(comb(n, i) for i in range(k + 1)) <= (1 - 0.95) * 2**n:
        k += 1
    return ordered[k - 1], ordered[n - k]


@dataclass(frozen=True)
class Verdict:
    """Whether a guideline holds, and by how much.

    Attributes
    ----------
    word : {"holds", "does not hold", "too close to call"}
    slowdown : float
        Time of the rows that the guideline advises against by that of the one that it advises,
        the geometric mean over rows and columns: the median over the turns.
    lower, upper : float
        In which the true median lies: above 1 the guideline holds, below 1 it does not, and if 1
        lies between them nobody can tell.
    """

    word: str
    slowdown: float
    lower: float
    upper: float


def verdict(columns: Sequence[Sequence[Sequence[float]]], advised: int) -> Verdict:
    """Judge a guideline.

    Parameters
    ----------
    columns : nested sequences of seconds, (columns, rows, turns)
        The same turn of different rows ran one after the other.
    advised : int
        The row that should take the least time.

    >>> fast, slow = [1.0, 2.0, 1.0, 1.0, 3.0, 1.0], [1.3, 2.4, 1.2, 1.3, 3.9, 1.2]
    >>> verdict([[fast, slow]], advised=0).word, verdict([[fast, slow]], advised=1).word
    ('holds', 'does not hold')
    """
    logs = np.log(np.array(columns))  # (columns, rows, turns)
    against = np.delete(logs - logs[:, advised : advised + 1], advised, axis=1)
    turns = against.mean(axis=(0, 1))  # (turns,)
    lower, upper = np.exp(median_interval(turns.tolist()))
    word = "holds" if lower > 1 else "does not hold" if upper < 1 else "too close to call"
    return Verdict(word, float(np.exp(np.median(turns))), float(lower), float(upper))


@dataclass(frozen=True)
class Found:
    """What a library needed for a guideline's table.

    Attributes
    ----------
    side : str
    seconds : dict
        For each column's name, the turns of each row: the median of each turn's runs.
    differences : float
        How far its numbers are from ours, relative to the largest.
    """

    side: str
    seconds: dict[str, list[list[float]]]
    differences: float

    def speed(self, column: str, row: int) -> Spread:
        """Return the speed of a row by that of the first, turn by turn."""
        first, this = self.seconds[column][0], self.seconds[column][row]
        return spread([a / b for a, b in zip(first, this, strict=True)])

    def verdict(self, guideline: Guideline, column: str | None = None) -> Verdict:
        """Judge the guideline by one column, or by all."""
        names = [*self.seconds] if column is None else [column]
        return verdict([self.seconds[name] for name in names], guideline.advised)


# ---- measuring


@dataclass(frozen=True)
class Effort:
    """How much is measured.

    Attributes
    ----------
    rounds : int
        Turns. Six are the fewest from which a verdict has 95 % confidence.
    burst : float
        Seconds of a turn of one row.
    columns : tuple of str
        The beginnings of the names of those columns that are measured.
    """

    rounds: int
    burst: float
    columns: tuple[str, ...]


FULL = Effort(6, 0.03, ("GPU", "ARM"))
QUICK = Effort(6, 0.01, ("ARM x4", "ARM c=128"))


@dataclass(frozen=True)
class Measured:
    """All tables, and what ran."""

    machine: Machine
    cleared: list[str]
    tables: dict[str, list[Found]]

    def to_dict(self) -> dict[str, Any]:
        """Return everything as JSON can hold it."""
        out: dict[str, Any] = {"machine": self.machine.to_dict(), "cleared": self.cleared}
        for name, found in self.tables.items():
            out[name] = table_record(GUIDELINES[name], found)
        return out


def table_record(guideline: Guideline, found: Sequence[Found]) -> dict[str, Any]:
    """Return a guideline's table as JSON can hold it."""
    columns = [column for column in guideline.columns if column.name in found[0].seconds]
    return {
        "claim": guideline.claim,
        "rows": guideline.rows,
        "columns": [
            {
                "name": column.name,
                "channels": column.channels,
                "multiply_adds": relative_multiply_adds(column),
                "published": column.published,
                "published_on": "Snapdragon 810" if column.mobile else "GTX 1080Ti",
                "sides": {
                    side.side: {
                        "seconds": [spread(turns).median for turns in side.seconds[column.name]],
                        "speed": [
                            asdict(side.speed(column.name, row))
                            for row in range(len(guideline.rows))
                        ],
                        "verdict": asdict(side.verdict(guideline, column.name)),
                    }
                    for side in found
                },
            }
            for column in columns
        ],
        "verdicts": {side.side: asdict(side.verdict(guideline)) for side in found},
    }


@dataclass(frozen=True)
class _Side:
    name: str
    kind: str
    worker: Worker


def measure_guidelines(
    names: Sequence[str], peers: Sequence[str], threads: int, effort: Effort, progress: Progress
) -> Measured:
    """Run the tables of some guidelines in both backends and in the peers.

    Parameters
    ----------
    names : sequence of {"g1", "g2", "g3", "g4"}
    peers : sequence of {"torch", "onnxruntime"}
    threads : int
    effort : Effort
    progress : Progress

    Raises
    ------
    TinyshuffleError
        If a peer is missing, or computes something else.
    """
    for name in names:
        if name not in GUIDELINES:
            raise TinyshuffleError(f"{name} is not a guideline: use {', '.join(GUIDELINES)}")
    for peer in peers:
        check_peer(peer, "inference")
    columns = [
        (name, column)
        for name in names
        for column in GUIDELINES[name].columns
        if column.name.startswith(effort.columns)
    ]
    for _, column in columns:
        relative_multiply_adds(column)  # equal, or there is nothing to be learned from times
    base = {
        "train": False, "batch": 1, "size": SIZE, "classes": 1, "threads": threads, "empty": True,
    }  # fmt: skip
    with tempfile.TemporaryDirectory(prefix="tinyshuffle-bench-") as folder, ExitStack() as stack:
        progress.phase("starting the libraries")

        def start(name: str, kind: str, **more: Any) -> _Side:
            worker = stack.enter_context(Worker(name, {**base, "kind": kind, **more}))
            return _Side(name, kind, worker)

        sides = [start(OURS, OURS), start("NumPy backend", OURS, backend="numpy")]
        # ONNX Runtime's nets are written by PyTorch, so it may have to be there for that only
        torch = [start(PEERS["torch"], "torch", format="NCHW") for _ in peers[:1]]
        if "torch" in peers:
            sides += torch
        if "onnxruntime" in peers:
            sides.append(start(PEERS["onnxruntime"], "onnxruntime"))
        for worker in {id(side.worker): side.worker for side in [*sides, *torch]}.values():
            worker.ready()
        machine = alone({**base, "kind": "machine"}, OURS)["machine"]
        tables = {
            name: {side.name: Found(side.name, {}, 0.0) for side in sides} for name in names
        }
        for i in progress.rounds("guidelines", len(columns)):
            name, column = columns[i]
            times, differences = _column(
                column, sides, torch[0] if torch else None, effort, Path(folder)
            )
            for side in sides:
                found = tables[name][side.name]
                tables[name][side.name] = Found(
                    side.name,
                    found.seconds | {column.name: times[side.name]},
                    max(found.differences, differences[side.name]),
                )
    return Measured(
        Machine(**machine), cleared(), {name: [*sides.values()] for name, sides in tables.items()}
    )


def _column(
    column: Column, sides: Sequence[_Side], torch: _Side | None, effort: Effort, folder: Path
) -> tuple[dict[str, list[list[float]]], dict[str, float]]:
    """Measure one column: the turns of each row, and how far each side is from ours."""
    jobs = {
        str(row): {
            "blocks": spec, "channels": channels_of(spec), "onnx": str(folder / f"{row}.onnx")
        }
        for row, spec in enumerate(column.specs)
    }  # fmt: skip
    for side in sides:
        mine = jobs
        if side.kind == "torch":
            better = _better_format(side.worker, jobs["0"], effort.burst)
            mine = {row: job | {"format": better} for row, job in jobs.items()}
        elif side.kind == "onnxruntime":
            assert torch is not None
            for job in jobs.values():
                torch.worker.ask("export", path=job["onnx"], **job)
        side.worker.ask("hold", nets=mine)
    differences = {side.name: 0.0 for side in sides}
    for row in jobs:
        expected: dict[str, np.ndarray] = {}
        for side in sides:
            arrays = side.worker.check(folder / "check.npz", net=row)
            if side.kind != OURS:
                arrays = {key: y.transpose(0, 2, 3, 1) for key, y in arrays.items()}
            expected = expected or arrays
            far = agree(side.name, expected, arrays)["logits"]
            differences[side.name] = max(far, differences[side.name])
            side.worker.ask("run", net=row, seconds=effort.burst, least=2)  # warm now
    times: dict[str, list[list[float]]] = {side.name: [[] for _ in jobs] for side in sides}
    for _ in range(effort.rounds):
        for side in sides:
            time.sleep(PAUSE)
            # wakes its threads, and brings its code to the caches
            side.worker.ask("run", net="0", seconds=effort.burst, least=1)
            for row in jobs:
                runs = side.worker.ask("run", net=row, seconds=effort.burst, least=1)
                times[side.name][int(row)].append(float(np.median(runs)))
    return times, differences


def _better_format(worker: Worker, job: dict[str, Any], burst: float) -> str:
    """PyTorch's faster memory format for the first row."""
    worker.ask("hold", nets={name: job | {"format": name} for name in FORMATS})
    run = partial(worker.ask, "run", seconds=burst, least=3)
    return min(FORMATS, key=lambda name: float(np.median(run(net=name))))
