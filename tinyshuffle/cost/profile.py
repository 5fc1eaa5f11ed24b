"""Where do a net's multiply-adds, parameters and memory accesses go?"""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import asdict, dataclass, fields
from typing import Any

import numpy as np

from ..errors import TinyshuffleError
from ..models import create
from ..nn import Module
from ..parallel import DataParallel
from ..plan import Plan, fuse
from ..text import csv_text, markdown_table
from ..values import flags
from .conventions import CONVENTIONS, Convention, Style, style_of
from .counting import Count, counts, traced
from .smallest import too_small

__all__ = ["KINDS", "Profile", "Row", "profile"]

KINDS = (
    "pointwise",
    "depthwise",
    "dense",
    "grouped",
    "linear",
    "batch norm",
    "element-wise",
    "shuffle",
    "pooling",
)
"""Kinds of operations. ``dense`` and ``grouped`` are convolutions larger than 1x1; ``shuffle`` is
all that only moves numbers: shuffle, split, concatenation, flattening and padding."""

_KIND_OF = {
    "depthwise_conv2d": "depthwise",
    "pointwise_conv2d": "pointwise",
    "linear": "linear",
    "batch_norm": "batch norm",
    "channel_shuffle": "shuffle",
    "channel_split": "shuffle",
    "concat": "shuffle",
    "flatten": "shuffle",
    "pad_end": "shuffle",
    "max_pool2d": "pooling",
    "avg_pool2d": "pooling",
    "global_avg_pool": "pooling",
    "adaptive_avg_pool2d": "pooling",
}


@dataclass(frozen=True)
class Row:
    """One operation, or several added up.

    Attributes
    ----------
    layer : str
        Where it is in the net.
    kind : str
        One of :data:`KINDS`.
    operation : str
        Its name in ``tinyshuffle.ops``.
    output : tuple of int
    params, multiply_adds, elementwise, memory_access : int
        See :class:`tinyshuffle.ops.Cost`. Memory access is in elements.
    backward_multiply_adds, backward_elementwise, backward_memory_access : int
        The same for the backward pass.
    """

    layer: str
    kind: str
    operation: str
    output: tuple[int, ...]
    params: int
    multiply_adds: int
    elementwise: int
    memory_access: int
    backward_multiply_adds: int
    backward_elementwise: int
    backward_memory_access: int

    @property
    def stage(self) -> str:
        """The first part of the layer's name."""
        return self.layer.partition(".")[0]

    @property
    def intensity(self) -> float:
        """Multiply-adds for each element that is read or written."""
        return self.multiply_adds / self.memory_access if self.memory_access else 0.0


_SUMMED = [f.name for f in fields(Row) if f.name not in ("layer", "kind", "operation", "output")]


def _add(rows: Iterable[Row], layer: str, kind: str = "", operation: str = "") -> Row:
    rows = list(rows)
    totals = {name: sum(getattr(row, name) for row in rows) for name in _SUMMED}
    return Row(layer, kind, operation, rows[-1].output if rows else (), **totals)


@dataclass(frozen=True)
class Profile:
    """What a net costs, operation by operation; ``print`` it for a table.

    Attributes
    ----------
    net : str
    input_shape : tuple of int
        (N, H, W, C).
    dtype : str
    convention : str
        Whose idea of a multiply-add is counted; see :mod:`tinyshuffle.cost.conventions`.
    rows : list of Row
    peak_inference, peak_training : int
        Bytes of activations alive at the worst moment of a forward pass in evaluation, and of a
        forward and backward pass in training, as this library runs them; the input included,
        weights and their gradients not.
    """

    net: str
    input_shape: tuple[int, ...]
    dtype: str
    convention: str
    rows: list[Row]
    peak_inference: int
    peak_training: int

    @property
    def total(self) -> Row:
        """All rows added up."""
        return _add(self.rows, "total")

    @property
    def itemsize(self) -> int:
        """Bytes of an element."""
        return np.dtype(self.dtype).itemsize

    def by(self, what: str) -> list[Row]:
        """Add the rows up by ``"layer"``, ``"kind"`` (or ``"type"``), ``"unit"`` or ``"stage"``."""
        if what == "layer":
            return self.rows
        groups = self.groups(what)
        return [_add(rows, name, name if name in KINDS else "") for name, rows in groups.items()]

    def groups(self, what: str) -> dict[str, list[Row]]:
        """Return the rows of each kind, unit or stage, under its name.

        A unit, such as ``stage2.0``, is a part of a stage that has parts itself.
        """
        what = "kind" if what == "type" else what
        if what not in ("kind", "unit", "stage"):
            raise TinyshuffleError(
                f"cannot add up by {what!r}; use layer, unit, stage or type (kind of operation)"
            )
        paths = [row.layer.split(".") for row in self.rows]
        units = {tuple(path[:2]) for path in paths if len(path) > 2}
        groups: dict[str, list[Row]] = {}
        for row, path in zip(self.rows, paths, strict=True):
            if what == "unit":
                name = ".".join(path[:2]) if tuple(path[:2]) in units else row.stage
            else:
                name = getattr(row, what)
            groups.setdefault(name, []).append(row)
        if what == "kind":
            groups = {kind: groups[kind] for kind in KINDS if kind in groups}
        return groups

    def records(self, by: str = "layer") -> list[dict[str, Any]]:
        """Return the rows, and the total, as dictionaries of plain numbers."""
        out = []
        for row in [*self.by(by), self.total]:
            record = asdict(row) | {
                "output": list(row.output),
                "memory_access_bytes": row.memory_access * self.itemsize,
                "backward_memory_access_bytes": row.backward_memory_access * self.itemsize,
                "multiply_adds_per_element": round(row.intensity, 4),
            }
            out.append(record)
        return out

    def to_json(self, by: str = "layer") -> str:
        """Return the profile as JSON."""
        head = {
            name: getattr(self, name)
            for name in ("net", "dtype", "convention", "peak_inference", "peak_training")
        }
        return json.dumps(
            head | {"input_shape": list(self.input_shape), "rows": self.records(by)}, indent=2
        )

    def to_csv(self, by: str = "layer") -> str:
        """Return the rows as CSV, the total last."""
        records = self.records(by)
        lines = [record | {"output": "x".join(map(str, record["output"]))} for record in records]
        return csv_text([list(records[0]), *(list(line.values()) for line in lines)])

    @flags
    def table(self, by: str = "layer", exact: bool = False) -> tuple[list[str], list[list[str]]]:
        """Return headings and cells for people, the total last; ``exact`` leaves no digit out."""
        total = self.total
        number = "{:,}".format if exact else short
        headings = ["layer", "operation", "output"] if by == "layer" else [by]
        headings += ["params", "mult-adds", "%", "memory", "%", "adds/mem"]
        lines = []
        for row in [*self.by(by), total]:
            cells = [row.layer or "(net)"]
            if by == "layer":
                output = "x".join(map(str, row.output[1:]))
                cells += [row.operation.replace("_conv2d", "").replace("_", " "), output]
            lines.append([
                *cells,
                number(row.params),
                number(row.multiply_adds),
                _percent(row.multiply_adds, total.multiply_adds),
                number(row.memory_access),
                _percent(row.memory_access, total.memory_access),
                f"{row.intensity:.1f}",
            ])
        return headings, lines

    def to_markdown(self, by: str = "layer") -> str:
        """Return the table in Markdown, with all digits."""
        headings, lines = self.table(by, exact=True)
        return "\n".join(markdown_table(headings, lines, headings.index("params")))

    def summary(self) -> str:
        """Return the totals in a few lines."""
        total, megabyte = self.total, 2**20
        shape = "x".join(map(str, self.input_shape))
        return "\n".join([
            f"{self.net}, input {shape} {self.dtype}, counted as {self.convention} does",
            f"{total.multiply_adds:,} multiply-adds, {total.params:,} parameters",
            f"{total.memory_access:,} elements read or written "
            f"({total.memory_access * self.itemsize / megabyte:.1f} MiB), "
            f"{total.intensity:.1f} multiply-adds for each",
            "(memory: elements read or written; adds/mem: multiply-adds for each of them)",
            f"backward: {total.backward_multiply_adds:,} multiply-adds, "
            f"{total.backward_memory_access:,} elements",
            f"activations at the peak: {self.peak_inference / megabyte:.1f} MiB in evaluation, "
            f"{self.peak_training / megabyte:.1f} MiB in training",
        ])

    def __str__(self) -> str:
        headings, lines = self.table()
        widths = [max(len(line[i]) for line in [headings, *lines]) for i in range(len(headings))]
        text = [
            "  ".join(
                cell.ljust(w) if i < 3 else cell.rjust(w)
                for i, (cell, w) in enumerate(zip(line, widths, strict=True))
            )
            for line in [headings, *lines]
        ]
        return "\n".join([*text, "", self.summary()])


def profile(
    net: Module | str,
    input_shape: tuple[int, ...] = (1, 224, 224, 3),
    dtype: str = "float32",
    convention: str = "paper",
    **variant: Any,
) -> Profile:
    """Count what a net costs, without computing or allocating anything of its size.

    Parameters
    ----------
    net : Module or str
        A net, or the name of a registered one: then with 1000 classes and the stem for large
        images, or from 64 pixels down with 10 classes and the stem for small ones.
    input_shape : (N, H, W, C)
    dtype : str
        For the bytes.
    convention : str
        Whose way of counting multiply-adds; the papers' by default.
    **variant
        For a net given by name, what :func:`tinyshuffle.models.create` takes.

    Raises
    ------
    TinyshuffleError
        If a layer has no cost, or the input does not fit.

    >>> total = profile("shufflenet_v1_x1_0_g3", fc_bias=False).total
    >>> total.multiply_adds, total.params
    (137460672, 1864728)
    """
    counted = _convention(convention)
    name, module = named_net(net, input_shape, variant)
    try:
        plan = traced(module, input_shape, dtype)
        step = traced(module, input_shape, dtype, train=True)
    except TinyshuffleError as error:
        raise too_small(error, module, name, input_shape) from None
    rows = _rows(module, plan, counted)
    peak_inference, peak_training = fuse(plan).peak_bytes, fuse(step).peak_bytes
    return Profile(
        name, tuple(input_shape), dtype, counted.name, rows, peak_inference, peak_training
    )


def total_cost(net: Module, input_shape: tuple[int, ...]) -> Row:
    """Count as :func:`profile` does, in a third of the time: all layers, without peaks."""
    return _add(_rows(net, traced(net, input_shape), CONVENTIONS["paper"]), "total")


def _rows(net: Module, plan: Plan, convention: Convention) -> list[Row]:
    style = style_of(net)
    return [_row(count, convention, style) for count in counts(net, plan)]


def named_net(
    net: Module | str, input_shape: tuple[int, ...], variant: dict[str, Any]
) -> tuple[str, Module]:
    if isinstance(net, str):
        small = len(input_shape) == 4 and max(input_shape[1:3]) <= 64
        defaults = {"num_classes": 10 if small else 1000, "stem": "cifar" if small else "imagenet"}
        name, net = net, create(net, **(defaults | variant))
    else:
        name = type(net.net if isinstance(net, DataParallel) else net).__name__
    return name, net.net if isinstance(net, DataParallel) else net


def _convention(name: str) -> Convention:
    if name not in CONVENTIONS:
        raise TinyshuffleError(
            f"unknown convention {name!r}; there are: "
            + ", ".join(CONVENTIONS)
        )
    return CONVENTIONS[name]


def _row(count: Count, convention: Convention, style: Style) -> Row:
    cost, kind = count.cost, kind_of(count)
    return Row(
        layer=count.layer,
        kind=kind,
        operation=count.operation,
        output=cost.output,
        params=cost.params,
        multiply_adds=convention.multiply_adds(count, kind, style),
        elementwise=cost.elementwise,
        memory_access=cost.memory_access,
        backward_multiply_adds=cost.backward_multiply_adds,
        backward_elementwise=cost.backward_elementwise,
        backward_memory_access=cost.backward_memory_access,
    )


def kind_of(count: Count) -> str:
    if count.operation == "conv2d":
        assert count.weight is not None
        if count.weight[:2] == (1, 1):
            return "pointwise"
        return "grouped" if count.groups > 1 else "dense"
    return _KIND_OF.get(count.operation, "element-wise")



def short(count: float) -> str:
    """Write a count for people.

    >>> short(137460672), short(1864728), short(950)
    ('137 M', '1.86 M', '950')
    """
    for unit, letter in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if count >= unit:
            return f"{count / unit:.3g} {letter}"
    return f"{count:.0f}"


def _percent(part: int, whole: int) -> str:
    return f"{100 * part / whole:.1f}" if whole else "0.0"
