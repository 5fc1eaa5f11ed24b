"""A step as a table: rows that are operations, and the buffers that they read and write.

A plan is a list of :class:`Row`, in the order in which they run, forward first and then backward.
Each row is one operation of ``tinyshuffle.ops`` (or several that were fused into one) with its
arguments; what it reads and writes are :class:`Buffer` s. The same table is printed, counted,
estimated, drawn and run.
"""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from math import prod
from typing import Any

import numpy as np

from ..errors import TinyshuffleError
from ..ops import Cost

__all__ = ["Buffer", "Event", "Plan", "Row", "View", "views"]

SPEED = 1e10, 4e10  # bytes and multiply-adds a second, of one core


@dataclass(frozen=True)
class Buffer:
    """An array of a step.

    Attributes
    ----------
    index : int
        Which of the plan's buffers it is.
    shape : tuple of int
    dtype : str
    role : str
        What it is to the net: ``input``, ``output's gradient``, ``parameter``, ``gradient`` (of a
        parameter), ``state`` (running statistics), ``sums`` (of each channel, over the batch),
        ``weights`` (a gradient of weights that are not there) or
        ``activation``, which all others are.
    name : str
        Of a parameter or a state, and of a parameter's gradient: the parameter's name.
    first, last : int
        The row that writes it first (-1 if it is there before the first row) and the last row that
        reads or writes it (one behind the last row if it is there afterwards).
    place : int or None
        Bytes from the start of the plan's block of memory; None if it does not lie there.
    """

    index: int
    shape: tuple[int, ...]
    dtype: str
    role: str = "activation"
    name: str = ""
    first: int = -1
    last: int = -1
    place: int | None = None

    @property
    def nbytes(self) -> int:
        """Bytes."""
        return prod(self.shape) * np.dtype(self.dtype).itemsize

    def __str__(self) -> str:
        return {"input": "x", "output's gradient": "dy", "gradient": f"d {self.name}"}.get(
            self.role, self.name
        )


@dataclass(frozen=True)
class View:
    """Some channels of a buffer: ``start`` to ``stop`` of its last axis."""

    buffer: int
    shape: tuple[int, ...]
    start: int = 0


def views(value: Any) -> Iterator[View]:
    """Visit the views in the arguments or results of a row, lists and tuples included."""
    if isinstance(value, View):
        yield value
    elif isinstance(value, list | tuple):
        for part in value:
            yield from views(part)


@dataclass(frozen=True)
class Row:
    """One operation.

    Attributes
    ----------
    operation : str
        Its name in ``tinyshuffle.ops``; ``python`` is a layer that computes by itself.
    layer : str
        Name of the layer that asks for it.
    backward : bool
        Which pass it belongs to.
    arguments, keywords, results
        As the operation is called, with a :class:`View` for each array.
    cost : Cost or None
        Of a forward operation, what its ``…_cost`` says.
    multiply_adds, elementwise : int
        Of this row alone.
    meets : bool
        Whether the results are sums over the whole batch, so that the slices of a batch have to
        meet behind this row.
    parts : tuple of Row
        What was fused into it; empty for a row as the layers wrote it.
    joined : bool
        Whether it is done along with the row before it, a block of pixels at a time.
    """

    operation: str
    layer: str
    backward: bool
    arguments: tuple[Any, ...]
    results: tuple[Any, ...]
    keywords: dict[str, Any] = field(default_factory=dict)
    cost: Cost | None = None
    multiply_adds: int = 0
    elementwise: int = 0
    meets: bool = False
    parts: tuple[Row, ...] = ()
    joined: bool = False

    @property
    def reads(self) -> tuple[View, ...]:
        """What it reads, each once."""
        return tuple(dict.fromkeys([*views(self.arguments), *views(list(self.keywords.values()))]))

    @property
    def writes(self) -> tuple[View, ...]:
        """What it writes, each once."""
        return tuple(dict.fromkeys(views(self.results)))


@dataclass(frozen=True)
class Plan:
    """A step of a net as a table; ``print`` it.

    Attributes
    ----------
    net : str
    shape : tuple of int
        Of the images, (N, H, W, C).
    dtype : str
    train : bool
        Whether it holds the backward pass too.
    rows : tuple of Row
    buffers : tuple of Buffer
    output, gradient : View or None
        Where the net's output and the gradient of the images lie when all rows have run.
    reasons : tuple of str
        Of each layer that has rows of its own in Python: why.
    no_backward : TinyshuffleError or None
        Why there is no backward pass, of a net in training that has none.
    """

    net: str
    shape: tuple[int, ...]
    dtype: str
    train: bool
    rows: tuple[Row, ...]
    buffers: tuple[Buffer, ...]
    output: View
    gradient: View | None = None
    reasons: tuple[str, ...] = ()
    no_backward: TinyshuffleError | None = None

    def __post_init__(self) -> None:
        first: dict[int, int] = {}
        last: dict[int, int] = {}
        for i, row in enumerate(self.rows):
            for view in (*row.reads, *row.writes):
                last[view.buffer] = i
            for view in row.writes:
                first.setdefault(view.buffer, i - row.joined)
            if row.joined:  # what one of the two still reads, the other must not write over
                for view in (*self.rows[i - 1].reads, *self.rows[i - 1].writes):
                    last[view.buffer] = i
        for b in self.buffers:
            if b.role in ("input", "output's gradient"):  # the caller has them
                last[b.index] = len(self.rows)
        if self.gradient is not None:
            last[self.gradient.buffer] = len(self.rows)
        y = self.output.buffer  # the caller gets a copy behind the forward pass
        last[y] = max(last.get(y, -1), self.forward - 1)
        lives = [
            replace(b, first=first.get(b.index, -1), last=last.get(b.index, -1))
            for b in self.buffers
        ]
        object.__setattr__(self, "buffers", tuple(lives))

    def nbytes(self, row: Row) -> int:
        """Return the bytes that a row reads and writes, each array once."""
        sizes = {
            (v.buffer, v.start, v.shape): prod(v.shape) * self._itemsize(v)
            for v in (*row.reads, *row.writes)
        }
        return sum(sizes.values())

    def seconds_of(self, row: Row) -> float:
        """Guess how long a row takes on one core: for its bytes or for its multiply-adds."""
        return max(self.nbytes(row) / SPEED[0], row.multiply_adds / SPEED[1])

    @cached_property
    def seconds(self) -> float:
        """A guess at how long all rows take on one core."""
        return sum(map(self.seconds_of, self.rows))

    def _itemsize(self, view: View) -> int:
        return np.dtype(self.buffers[view.buffer].dtype).itemsize

    def alive(self, buffer: Buffer) -> bool:
        """Whether a buffer lives in the step's memory: parameters and states do not."""
        return buffer.role not in ("parameter", "gradient", "state") and buffer.last >= 0

    @property
    def live_bytes(self) -> list[int]:
        """Bytes of the activations that are alive while each row runs."""
        changes = [0] * (len(self.rows) + 2)
        for buffer in self.buffers:
            if self.alive(buffer):
                changes[max(buffer.first, 0)] += buffer.nbytes
                changes[min(buffer.last, len(self.rows)) + 1] -= buffer.nbytes
        total, out = 0, []
        for change in changes[: len(self.rows)]:
            total += change
            out.append(total)
        return out

    @property
    def peak_bytes(self) -> int:
        """Bytes of the activations at the worst row; the images included, parameters not."""
        return max(self.live_bytes, default=0)

    @cached_property
    def forward(self) -> int:
        """How many rows the forward pass has."""
        return sum(not row.backward for row in self.rows)

    @cached_property
    def by_image(self) -> bool:
        """Whether a slice of the images gives that slice of every activation."""
        of_images = {b.index for b in self.buffers if b.role in ("input", "output's gradient")}
        for row in self.rows:
            if any(view.buffer in of_images for view in row.reads):
                of_images |= {view.buffer for view in row.writes}
        return all(
            b.shape[:1] == self.shape[:1] and b.index in of_images
            for b in self.buffers
            if b.role == "activation" and b.last >= 0
        )

    @property
    def block_bytes(self) -> int:
        """Bytes from the first to the end of the last buffer that has a place."""
        ends = [b.place + b.nbytes for b in self.buffers if b.place is not None]
        return max(ends, default=0)

    def named(self, net: str) -> Plan:
        """Return the plan with another name of the net."""
        return replace(self, net=net)

    @cached_property
    def meetings(self) -> int:
        """How often the slices of a batch meet."""
        return sum(row.meets for row in self.rows)

    # ---- for people

    def records(self) -> list[dict[str, Any]]:
        """Return the rows as dictionaries of plain numbers and words."""
        return [
            {
                "row": i,
                "pass": "backward" if row.backward else "forward",
                "layer": row.layer,
                "operation": row.operation,
                "reads": [self.word(v) for v in row.reads],
                "writes": [self.word(v) for v in row.writes],
                "output": list(row.writes[0].shape) if row.writes else [],
                "bytes": self.nbytes(row),
                "multiply_adds": row.multiply_adds,
                "meets": row.meets,
                "joined": row.joined,
                "parts": [part.operation for part in row.parts],
            }
            for i, row in enumerate(self.rows)
        ]

    def word(self, view: View) -> str:
        """Name a view: its buffer, and the channels if they are not all."""
        buffer = self.buffers[view.buffer]
        channels = view.shape[-1] if view.shape else 0
        name = self.names[view.buffer]
        if buffer.shape and channels != buffer.shape[-1]:
            return f"{name}[{view.start}:{view.start + channels}]"
        return name

    @cached_property
    def names(self) -> dict[int, str]:
        """What each buffer is called: x, a parameter's name, or b1, b2, ... in order of birth."""
        unnamed = [b for b in self.buffers if b.last >= 0 and not str(b)]
        unnamed.sort(key=lambda b: (b.first, b.index))
        numbers = {b.index: f"b{i}" for i, b in enumerate(unnamed, 1)}
        return {b.index: str(b) or numbers.get(b.index, "") for b in self.buffers}

    def to_json(self) -> str:
        """Return the whole plan as JSON."""
        head = {
            "net": self.net,
            "input_shape": list(self.shape),
            "dtype": self.dtype,
            "train": self.train,
            "meetings": self.meetings,
            "peak_bytes": self.peak_bytes,
            "reasons": list(self.reasons),
        }
        buffers = [
            {
                "name": self.names[b.index], "role": b.role, "shape": list(b.shape),
                "dtype": b.dtype,
                "bytes": b.nbytes, "first": b.first, "last": b.last, "place": b.place,
            }
            for b in self.buffers
        ]  # fmt: skip
        return json.dumps(head | {"rows": self.records(), "buffers": buffers}, indent=2)

    def to_csv(self, seconds: Sequence[float] = ()) -> str:
        """Return the rows as CSV, with the time of each if there are ``seconds``."""
        text = io.StringIO(newline="")
        records = self.records()
        for record, time in zip(records, seconds, strict=False):
            record["seconds"] = time
        if records:
            writer = csv.DictWriter(text, records[0], lineterminator="\n")
            writer.writeheader()
            for record in records:
                words = {k: " ".join(map(str, v)) for k, v in record.items() if isinstance(v, list)}
                writer.writerow(record | words)
        return text.getvalue()

    def table(self) -> tuple[list[str], list[list[str]]]:
        """Return headings and cells for people."""
        headings = ["row", "layer", "operation", "reads", "writes", "KiB", "mult-adds", "meets"]
        lines = [
            [
                str(r["row"]), r["layer"] or "(net)", "& " * r["joined"] + r["operation"],
                " ".join(r["reads"]), " ".join(r["writes"]),
                f"{r['bytes'] / 1024:.0f}", f"{r['multiply_adds']:,}", "Σ" if r["meets"] else "",
            ]
            for r in self.records()
        ]  # fmt: skip
        return headings, lines

    def summary(self) -> str:
        """Return the totals in a few lines."""
        shape = "x".join(map(str, self.shape))
        step = "a training step" if self.train else "a pass in evaluation"
        lines = [
            f"{self.net}, input {shape} {self.dtype}: {step} of {len(self.rows)} rows, behind "
            f"{self.meetings} of which the slices of a batch meet",
            f"{sum(r.multiply_adds for r in self.rows):,} multiply-adds, "
            f"{sum(map(self.nbytes, self.rows)) / 2**20:.1f} MiB read or written, "
            f"activations at the peak {self.peak_bytes / 2**20:.1f} MiB",
        ]
        if any(row.joined for row in self.rows):
            lines.insert(0, "& is done together with the row before it, block of pixels by block")
        return "\n".join([*lines, *self.reasons])

    def __str__(self) -> str:
        headings, lines = self.table()
        widths = [max(len(line[i]) for line in [headings, *lines]) for i in range(len(headings))]
        right = {0, 5, 6}
        text = [
            "  ".join(
                cell.rjust(w) if i in right else cell.ljust(w)
                for i, (cell, w) in enumerate(zip(line, widths, strict=True))
            ).rstrip()
            for line in [headings, *lines]
        ]
        return "\n".join([*text, "", self.summary()])


@dataclass(frozen=True)
class Event:
    """That a slice has run a row: for how long, and which share of the plan's images it had."""

    plan: Plan
    row: Row
    thread: int
    seconds: float
    share: float
