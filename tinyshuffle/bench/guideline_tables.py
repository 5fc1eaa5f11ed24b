"""Tables 1 to 4 of the V2 paper: the nets of its four guidelines, and what the paper measured."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from ..cost import Row, profile
from . import blocks
from .blocks import Spec

__all__ = [
    "GUIDELINES", "SIZE", "Column", "Guideline", "channels_of",
    "relative_memory_access", "relative_multiply_adds",
]  # fmt: skip

SIZE = 56  # pixels a side, in all four tables
ROUNDING = 0.06  # by how much the paper's own whole channels change the multiply-adds of a row


@dataclass(frozen=True)
class Column:
    """One column of a table: the same nets at one width, and what the paper measured.

    Attributes
    ----------
    name : str
        As the paper heads it.
    specs : list
        The net of each row.
    channels : list of str
        Of each row.
    published : list of float
        Batches a second on the paper's GPU, or images a second on its phone.
    """

    name: str
    specs: list[Spec]
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
    build: Callable[[Any, int, bool], tuple[str, Spec]],
    published: dict[str, Sequence[float]],
) -> list[Column]:
    out = []
    for name, width in widths.items():
        nets = [build(row, width, name.startswith("GPU")) for row in rows]
        out.append(Column(name, [p for _, p in nets], [c for c, _ in nets], [*published[name]]))
    return out


_X = {"GPU x1": 1, "GPU x2": 2, "GPU x4": 4, "ARM x1": 1, "ARM x2": 2, "ARM x4": 4}


def _g1(row: int, x: int, gpu: bool) -> tuple[str, Spec]:
    pairs = (
        ((128, 128), (90, 180), (52, 312), (36, 432))
        if gpu
        else ((32, 32), (22, 44), (13, 78), (9, 108))
    )
    c1, c2 = (x * c for c in pairs[row])
    return f"{c1}, {c2}", blocks.channel_widths(c1, c2)


def _g2(groups: int, x: int, gpu: bool) -> tuple[str, Spec]:
    widths = {1: 128, 2: 180, 4: 256, 8: 360} if gpu else {1: 64, 2: 90, 4: 128, 8: 180}
    c = x * widths[groups]
    if c % groups:  # the phone's 180 channels do not make 8 groups: 184 come nearest
        c = round(x * widths[1] * groups**0.5 / groups) * groups
    return str(c), blocks.grouped(c, groups)


def _g3(row: tuple[int, bool], c: int, gpu: bool) -> tuple[str, Spec]:
    count, parallel = row
    c = round(c / count**0.5)
    return str(c), blocks.fragments(c, count, parallel)


def _g4(row: tuple[bool, bool], c: int, gpu: bool) -> tuple[str, Spec]:
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
    counts = [total.multiply_adds for total in _totals(column)]
    out = [count / counts[0] for count in counts]
    assert all(abs(x - 1) <= ROUNDING for x in out), (column.name, out)
    return out


def relative_memory_access(column: Column) -> list[float]:
    """Return the memory access of each row, by that of the first, as the cost model counts it.

    >>> [round(x, 2) for x in relative_memory_access(GUIDELINES["g1"].columns[0])]
    [1.0, 1.05, 1.41, 1.81]
    """
    counts = [total.memory_access for total in _totals(column)]
    return [count / counts[0] for count in counts]


def _totals(column: Column) -> list[Row]:
    """What the cost model counts of each row's net."""
    return [
        profile(blocks.build(spec), (1, SIZE, SIZE, channels_of(spec))).total
        for spec in column.specs
    ]


def channels_of(spec: Spec) -> int:
    """What the first convolution of a spec reads."""
    word, *arguments = spec[0]
    return int(arguments[0]) if word == "conv" else channels_of(arguments[0])
