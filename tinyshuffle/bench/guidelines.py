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
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from math import comb
from pathlib import Path
from typing import Any

import numpy as np

from ..errors import TinyshuffleError
from ..machine import Machine
from . import blocks
from .blocks import Plan
from .peers import PEERS, check_peer
from .process import Worker
from .progress import Progress
from .run import FORMATS, OURS, PAUSE, _alone, _check, _cleared, agree
from .spread import Spread, spread

__all__ = [
    "GUIDELINES",
    "Column",
    "Effort",
    "Found",
    "FULL",
    "Guideline",
    "QUICK",
    "Verdict",
    "measure_guidelines",
    "median_interval",
    "verdict",
]

SIZE = 56  # pixels a side, in all four tables
ROUNDING = 0.06  # by how much the paper's own whole channels change the multiply-adds of a row


@dataclass(frozen=True)
class Column:
    """One column of a table: the same nets at one width, and what the paper measured.

    Attributes
    ----------
    name : str
        As the paper heads it.
    plans : list
        The net of each row.
    channels : list of str
        Of each row.
    published : list of float
        Batches a second on the paper's GPU, or images a second on its phone.
    """

    name: str
    plans: list[Plan]
    channels: list[str]
    published: list[float]

    @property
    def mobile(self) -> bool:
        """Whether the paper measured this column on its phone."""
        return not self.name.startswith("GPU")


@dataclass(frozen=True)
class Guideline:
    """A guideline and its table.

    Attributes
    ----------
    name, claim, table : str
    rows : list of str
    advised : int
        The row that the guideline recommends: all others should take longer.
    columns : list of Column
    """

    name: str
    claim: str
    table: str
    rows: list[str]
    advised: int
    columns: list[Column]


def _columns(
    rows: Sequence[Any],
    widths: dict[str, int],
    build: Callable[[Any, int, bool], tuple[str, Plan]],
    published: dict[str, Sequence[float]],
) -> list[Column]:
    out = []
    for name, width in widths.items():
        nets = [build(row, width, name.startswith("GPU")) for row in rows]
        out.append(Column(name, [p for _, p in nets], [c for c, _ in nets], [*published[name]]))
    return out


_X = {"GPU x1": 1, "GPU x2": 2, "GPU x4": 4, "ARM x1": 1, "ARM x2": 2, "ARM x4": 4}


def _g1(row: int, x: int, gpu: bool) -> tuple[str, Plan]:
    pairs = (
        ((128, 128), (90, 180), (52, 312), (36, 432))
        if gpu
        else ((32, 32), (22, 44), (13, 78), (9, 108))
    )
    c1, c2 = (x * c for c in pairs[row])
    return f"{c1}, {c2}", blocks.channel_widths(c1, c2)


def _g2(groups: int, x: int, gpu: bool) -> tuple[str, Plan]:
    widths = {1: 128, 2: 180, 4: 256, 8: 360} if gpu else {1: 64, 2: 90, 4: 128, 8: 180}
    c = x * widths[groups]
    if c % groups:  # the phone's 180 channels do not make 8 groups: 184 come nearest
        c = round(x * widths[1] * groups**0.5 / groups) * groups
    return str(c), blocks.grouped(c, groups)


def _g3(row: tuple[int, bool], c: int, gpu: bool) -> tuple[str, Plan]:
    count, parallel = row
    c = round(c / count**0.5)
    return str(c), blocks.fragments(c, count, parallel)


def _g4(row: tuple[bool, bool], c: int, gpu: bool) -> tuple[str, Plan]:
    return str(c), blocks.residual(c, *row)


GUIDELINES = {
    "g1": Guideline(
        "G1", "equal channel widths take the least time", "Table 1, c1:c2",
        ["1:1", "1:2", "1:6", "1:12"], 0,
        _columns(range(4), _X, _g1, {
            "GPU x1": (1480, 1296, 876, 748), "GPU x2": (723, 586, 489, 392),
            "GPU x4": (232, 206, 189, 163), "ARM x1": (76.2, 72.9, 69.1, 57.6),
            "ARM x2": (21.7, 20.5, 17.9, 15.1), "ARM x4": (5.3, 5.1, 4.6, 4.4),
        }),
    ),
    "g2": Guideline(
        "G2", "more groups take more time", "Table 2, groups",
        ["1", "2", "4", "8"], 0,
        _columns((1, 2, 4, 8), _X, _g2, {
            "GPU x1": (2451, 1725, 1026, 634), "GPU x2": (1289, 873, 644, 445),
            "GPU x4": (437, 341, 338, 230), "ARM x1": (40.0, 35.0, 32.9, 27.8),
            "ARM x2": (10.2, 9.5, 8.7, 7.5), "ARM x4": (2.3, 2.2, 2.1, 1.8),
        }),
    ),
    "g3": Guideline(
        "G3", "more fragments take more time", "Table 3, fragments",
        ["1", "2 in series", "4 in series", "2 in parallel", "4 in parallel"], 0,
        _columns(
            ((1, False), (2, False), (4, False), (2, True), (4, True)),
            {"GPU c=128": 128, "GPU c=256": 256, "GPU c=512": 512,
             "ARM c=64": 64, "ARM c=128": 128, "ARM c=256": 256},
            _g3, {
            "GPU c=128": (2446, 1790, 752, 1537, 691),
            "GPU c=256": (1274, 909, 745, 803, 572),
            "GPU c=512": (434, 336, 349, 320, 292),
            "ARM c=64": (40.2, 38.6, 38.4, 33.4, 35.0),
            "ARM c=128": (10.1, 10.1, 10.1, 9.1, 8.4),
            "ARM c=256": (2.3, 2.2, 2.3, 2.2, 2.1),
        }),
    ),
    "g4": Guideline(
        "G4", "element-wise operations cost time", "Table 4",
        ["ReLU, shortcut", "ReLU only", "shortcut only", "neither"], 3,
        _columns(
            ((True, True), (True, False), (False, True), (False, False)),
            {"GPU c=32": 32, "GPU c=64": 64, "GPU c=128": 128,
             "ARM c=32": 32, "ARM c=64": 64, "ARM c=128": 128},
            _g4, {
            "GPU c=32": (2427, 2647, 2672, 2842), "GPU c=64": (2066, 2256, 2121, 2376),
            "GPU c=128": (1436, 1735, 1458, 1782), "ARM c=32": (56.7, 61.9, 57.3, 66.3),
            "ARM c=64": (16.9, 18.8, 18.2, 20.2), "ARM c=128": (5.0, 5.2, 5.1, 5.4),
        }),
    ),
}  # fmt: skip
"""Published figures are those of Ma et al. 2018, Tables 1 to 4: a GTX 1080Ti, a Snapdragon 810."""


def relative_multiply_adds(column: Column) -> list[float]:
    """Return the multiply-adds of each row, by those of the first, as the cost model counts them.

    They are 1 but for the whole channels that the paper rounds to.

    >>> [round(x, 3) for x in relative_multiply_adds(GUIDELINES["g1"].columns[0])]
    [1.0, 0.989, 0.99, 0.949]
    """
    from ..cost import profile

    counts = []
    for plan in column.plans:
        net = blocks.build(plan)
        counts.append(profile(net, (1, SIZE, SIZE, _channels(plan))).total.multiply_adds)
    out = [count / counts[0] for count in counts]
    assert all(abs(x - 1) <= ROUNDING for x in out), (column.name, out)
    return out


def _channels(plan: Plan) -> int:
    """What the first convolution of a plan reads."""
    word, *arguments = plan[0]
    return int(arguments[0]) if word == "conv" else _channels(arguments[0])


# ---- what follows from times


def median_interval(values: Sequence[float], confidence: float = 0.95) -> tuple[float, float]:
    """Return an interval that holds the true median with this probability, or as near as can be.

    It lies between the k-th smallest and the k-th largest value. Nothing is assumed of how the
    values are distributed: each is above the median with probability 1/2, so k is binomial. From
    fewer than six values k = 1 has to do.

    >>> median_interval([5.0, 1.0, 4.0, 2.0, 3.0, 6.0, 7.0, 99.0, 0.5])
    (1.0, 7.0)
    """
    ordered = sorted(values)
    n, k = len(ordered), 1
    while k < n // 2 and 2 * sum(comb(n, i) for i in range(k + 1)) <= (1 - confidence) * 2**n:
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
    from dataclasses import asdict

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
        machine = _alone({**base, "kind": "machine"}, OURS)["machine"]
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
        Machine(**machine), _cleared(), {name: [*sides.values()] for name, sides in tables.items()}
    )


def _column(
    column: Column, sides: Sequence[_Side], torch: _Side | None, effort: Effort, folder: Path
) -> tuple[dict[str, list[list[float]]], dict[str, float]]:
    """Measure one column: the turns of each row, and how far each side is from ours."""
    jobs = {
        str(row): {
            "plan": plan, "channels": _channels(plan), "onnx": str(folder / f"{row}.onnx")
        }
        for row, plan in enumerate(column.plans)
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
            arrays = _check(side.worker, folder / "check.npz", net=row)
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
