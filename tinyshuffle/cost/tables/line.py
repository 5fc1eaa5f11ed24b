"""One printed figure, a table of them, and how their counts are taken.

Each figure is kept as the paper prints it, because its digits say how exact it claims to be.
Nothing is adjusted to fit.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cache
from typing import Any

from ...nn import Module
from ..profile import Profile, Row, profile
from .errata import ERRATA

__all__ = [
    "DIFFERS", "LABEL", "MISSING", "REPRODUCED", "VERDICTS", "G", "Line", "M", "Table",
    "adds_of", "counted", "module_rows", "params_of", "share_of", "weights_of", "width_of",
    "with_relus", "without_fc",
]  # fmt: skip

M, G = 1e6, 1e9

# By the beginning of a table's title: where its figures were read.
SOURCES = {
    "ShuffleNet V1": "arXiv 1707.01083v2, in two text conversions that agree",
    "ShuffleNet V2": "arXiv 1807.11164, in two text conversions that agree; Table 8 and the "
    "appendix in one",
    "MobileNet V1": "arXiv 1704.04861, in a text conversion",
    "MobileNet V2": "arXiv 1801.04381, in a text conversion",
    "AlexNet": "Krizhevsky, Sutskever and Hinton, NIPS 2012, as quoted by its readers, such as "
    "stats.stackexchange.com/questions/132897",
    "VGG": "arXiv 1409.1556, in three text conversions that agree",
    "Network in Network and SqueezeNet": "Caffe's model zoo, gist d802a5849de39225bcc6; arXiv "
    "1602.07360, as quoted by its readers",
    "GoogLeNet": "arXiv 1409.4842, in two text conversions that agree",
    "ResNet": "arXiv 1512.03385, as quoted by its readers, who agree",
    "ResNeXt": "arXiv 1611.05431, not seen: of its authors' README only 4.1 GFLOPs and 25 million "
    "parameters, without digits behind them",
    "Xception": "arXiv 1610.02357, as quoted by its readers, who agree",
}

REPRODUCED, LABEL, DIFFERS, MISSING = VERDICTS = (
    "reproduced", "a label only", "differs", "not in the library"
)  # fmt: skip


@dataclass(frozen=True)
class Line:
    """One printed figure.

    Attributes
    ----------
    label : str
        What it is of.
    printed : str
        The figure, as printed.
    unit : float
        What one of it stands for: 1e6 for "M".
    count : function or None
        Counts it; None if the library does not have the net.
    remark : str
        Which reading of the paper is counted, or why nothing is.
    error : float or None
        Top-1 error that the paper prints for the net, in per cent.
    digits : int or None
        Leading digits that the paper can have meant, where it ends in zeros: 3 for "15300".
    nominal : bool
        The figure is the name of a class of nets, and no count of this one.
    erratum : str
        Name of the erratum that gives the reason where the two differ.
    """

    label: str
    printed: str
    unit: float
    count: Callable[[], float] | None
    remark: str = ""
    error: float | None = None
    digits: int | None = None
    nominal: bool = False
    erratum: str = ""

    @property
    def ours(self) -> str | None:
        """Our count to as many digits as the paper prints."""
        if self.count is None:
            return None
        decimals = len(self.printed.partition(".")[2])
        return f"{self.count() / self.unit:.{decimals}f}"

    @property
    def verdict(self) -> str:
        """One of :data:`VERDICTS`. A label is never reproduced, even where it comes near."""
        if self.count is None:
            return MISSING
        if self.nominal:
            return LABEL
        if self.digits is None:
            same = self.ours == self.printed
        else:
            value = self.count() / self.unit
            same = float(f"{value:.{self.digits - 1}e}") == float(self.printed)
        return REPRODUCED if same else DIFFERS

    @property
    def reproduced(self) -> bool:
        """Whether our count reads as the paper's figure does, to the digits that it has."""
        return self.verdict == REPRODUCED

    @property
    def difference(self) -> float | None:
        """Our count over the printed figure, less 1."""
        if self.count is None:
            return None
        return self.count() / self.unit / float(self.printed) - 1

    @property
    def note(self) -> str:
        """The remark, and the erratum's reason."""
        reason = ERRATA[self.erratum].reason if self.erratum else ""
        return "; ".join(filter(None, [self.remark, reason]))


@dataclass(frozen=True)
class Table:
    """One table of a paper: ``print`` it."""

    name: str
    title: str
    lines: list[Line] = field(default_factory=list)

    @property
    def source(self) -> str:
        """Where the printed figures were read."""
        return SOURCES[re.split("[,:]", self.title)[0]]

    def cells(self) -> tuple[list[str], list[list[str]]]:
        """Return headings and cells."""
        headings = ["", "printed", "counted here", "difference", "", "note"]
        rows = []
        for line in self.lines:
            exact = line.count is None or line.reproduced or not line.difference
            rows.append([
                line.label,
                line.printed,
                line.ours or "-",
                "" if exact else f"{100 * (line.difference or 0):+.1f} %",
                line.verdict,
                line.note,
            ])
        return headings, rows

    def verdicts(self) -> dict[str, int]:
        """Return how many figures there are of each verdict.

        >>> from tinyshuffle.cost.tables import table
        >>> table("v1-5").verdicts()["a label only"]
        2
        """
        found = [line.verdict for line in self.lines]
        return {verdict: found.count(verdict) for verdict in VERDICTS}


@cache
def counted(name: str, shape: tuple[int, int], variant: tuple[tuple[str, Any], ...]) -> Profile:
    """Count a net once, however many figures are taken from it."""
    return profile(name, (1, *shape, 3), **dict(variant))


def adds_of(name: str, size: int = 224, **variant: Any) -> Callable[[], float]:
    """Multiply-adds of a net."""
    return lambda: counted(name, (size, size), tuple(variant.items())).total.multiply_adds


def params_of(name: str, size: int = 224, **variant: Any) -> Callable[[], float]:
    """Parameters of a net."""
    return lambda: counted(name, (size, size), tuple(variant.items())).total.params


def weights_of(name: str, **variant: Any) -> Callable[[], float]:
    """Parameters of a net without those of its batch norms."""

    def count() -> float:
        rows = counted(name, (224, 224), tuple(variant.items())).rows
        return sum(row.params for row in rows if row.kind != "batch norm")

    return count


def module_rows(module: Module, shape: tuple[int, ...]) -> list[Row]:
    """The operations of a part of a net."""
    return profile(module, shape).rows


def with_relus(name: str) -> Callable[[], float]:
    """Multiply-adds of a net, and the operations of its ReLUs and pools."""

    def count() -> float:
        rows = counted(name, (224, 224), ()).rows
        also = sum(row.elementwise for row in rows if row.kind in ("element-wise", "pooling"))
        return sum(row.multiply_adds for row in rows) + also

    return count


def without_fc(name: str, **variant: Any) -> Callable[[], float]:
    """Multiply-adds of its convolutions."""

    def count() -> float:
        rows = counted(name, (224, 224), tuple(variant.items())).rows
        return sum(row.multiply_adds for row in rows if row.kind != "linear")

    return count


def width_of(name: str, layer: str) -> Callable[[], float]:
    """Output channels of a layer."""

    def count() -> float:
        rows = [r for r in counted(name, (224, 224), ()).rows if r.layer.split(".")[0] == layer]
        return rows[-1].output[-1]

    return count


def share_of(name: str, kinds: tuple[str, ...], what: str) -> Callable[[], float]:
    """Per cent of multiply-adds or parameters that kinds of layers have."""

    def count() -> float:
        parts: dict[str, int] = {}
        for row in counted(name, (224, 224), ()).rows:
            # the paper's shares of parameters are of weights: no biases, no batch norm
            bias = row.output[-1] if what == "params" and row.kind == "linear" else 0
            if row.multiply_adds:
                parts[row.kind] = parts.get(row.kind, 0) + getattr(row, what) - bias
        return 100 * sum(parts[kind] for kind in kinds) / sum(parts.values())

    return count
