"""Where the time of a training step goes, layer by layer, and how far it is from the roofline.

The net runs as it trains, in slices, one a core. Every operation that a layer asks the backend for
is timed where it happens; a layer's time is the mean over the slices. The same operations say what
they cannot do without: a product for each weight and pixel, and one look at each tensor that goes
in or comes out. What several layers do in one operation, such as a batch norm with the convolution
behind it, stands in the row of the convolution.
"""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from math import prod
from typing import Any

import numpy as np

from ..cost.profile import _KIND_OF, Profile
from ..memory import LINE
from ..plan import Buffer, Event, Plan, Row, View, clocked
from .ceilings import Ceilings
from .libraries import Ours

__all__ = ["LayerTime", "LayerTimes", "Sum", "past_cache_nbytes", "time_layers"]


@dataclass(frozen=True)
class LayerTime:
    """What one operation of a layer took in a step, and what it needs at the least.

    Attributes
    ----------
    layer : str
        Where it is in the net.
    operation : str
        Its name in ``tinyshuffle.ops``.
    kind : str
        One of :data:`tinyshuffle.cost.KINDS`.
    forward_seconds, backward_seconds : float
    multiply_adds, backward_multiply_adds : int
    nbytes, backward_nbytes : int
        Of the tensors that go in and come out, each counted once.
    past_cache_nbytes, backward_past_cache_nbytes : int
        How many of them the ceiling of stores past the cache is for.
    """

    layer: str
    operation: str
    kind: str
    forward_seconds: float = 0.0
    backward_seconds: float = 0.0
    multiply_adds: int = 0
    backward_multiply_adds: int = 0
    nbytes: int = 0
    backward_nbytes: int = 0
    past_cache_nbytes: int = 0
    backward_past_cache_nbytes: int = 0

    @property
    def stage(self) -> str:
        """The first part of the layer's name."""
        return self.layer.partition(".")[0]

    @property
    def seconds(self) -> float:
        """Of both passes."""
        return self.forward_seconds + self.backward_seconds

    def least(self, ceilings: Ceilings) -> float:
        """Return the seconds that the roofline allows: the least for each pass, added up."""
        return sum(ceilings.seconds(*needs) for needs in self.passes)

    @property
    def passes(self) -> tuple[tuple[int, int, int], tuple[int, int, int]]:
        """Multiply-adds, bytes, and bytes past the cache, forward and backward."""
        return (
            (self.multiply_adds, self.nbytes, self.past_cache_nbytes),
            (self.backward_multiply_adds, self.backward_nbytes, self.backward_past_cache_nbytes),
        )


@dataclass(frozen=True)
class Sum:
    """Some rows added up, next to the roofline.

    Attributes
    ----------
    name, operation : str
    forward_seconds, backward_seconds : float
    flops, nbytes : int
        Of both passes; a multiply-add is two.
    roofline_seconds : float
        The least time of each row, added up. Among several, a row whose tensors stay in a cache,
        and that beats the roofline so, counts with the time that it took: it must not make up for
        others.
    limit : str
        Which ceiling the roofline is made of, for the most part: products, memory with plain
        stores (or read alone), or memory past the cache.
    """

    name: str
    operation: str
    forward_seconds: float
    backward_seconds: float
    flops: int
    nbytes: int
    roofline_seconds: float
    limit: str

    @property
    def seconds(self) -> float:
        """Of both passes."""
        return self.forward_seconds + self.backward_seconds

    @property
    def attained(self) -> float:
        """The share of the roofline: 1 is a layer that cannot be faster."""
        return self.roofline_seconds / self.seconds if self.seconds else 0.0


@dataclass(frozen=True)
class LayerTimes:
    """The layers' times of a net.

    Attributes
    ----------
    train : bool
        Whether a row holds the backward pass too.
    rows : list of LayerTime
        In the order in which the net runs.
    optimiser_seconds : float
        0 if the net is not trained.
    step_seconds, watched_seconds : float
        A whole step as it runs, and as it ran while its layers were timed.
    """

    train: bool
    rows: list[LayerTime]
    optimiser_seconds: float
    step_seconds: float
    watched_seconds: float

    @property
    def between_seconds(self) -> float:
        """What is neither in a layer nor in the optimiser: Python, and waiting for slices."""
        layers = sum(row.seconds for row in self.rows)
        return max(0.0, self.watched_seconds - self.optimiser_seconds - layers)

    def by(self, what: str, ceilings: Ceilings) -> list[Sum]:
        """Add the rows up by ``"layer"``, ``"unit"``, ``"stage"`` or ``"type"``."""
        if what == "layer":
            return [_add([row], row.layer, row.operation, ceilings) for row in self.rows]
        rows: list[Any] = list(self.rows)  # they have what the profile's grouping asks for
        groups: dict[str, list[Any]] = dict(
            Profile("", (), "float32", "paper", rows, 0, 0).groups(what)
        )
        return [_add(group, name, "", ceilings) for name, group in groups.items()]

    def total(self, ceilings: Ceilings) -> Sum:
        """Add all rows up."""
        return _add(self.rows, "all layers", "", ceilings)

    def to_dict(self) -> dict[str, Any]:
        """Return everything as JSON can hold it."""
        return asdict(self)

    @staticmethod
    def from_dict(values: dict[str, Any]) -> LayerTimes:
        """Return what ``to_dict`` was called on."""
        return LayerTimes(**values | {"rows": [LayerTime(**row) for row in values["rows"]]})


def _add(rows: Sequence[LayerTime], name: str, operation: str, ceilings: Ceilings) -> Sum:
    return Sum(
        name=name,
        operation=operation,
        forward_seconds=sum(row.forward_seconds for row in rows),
        backward_seconds=sum(row.backward_seconds for row in rows),
        flops=sum(2 * (row.multiply_adds + row.backward_multiply_adds) for row in rows),
        nbytes=sum(row.nbytes + row.backward_nbytes for row in rows),
        roofline_seconds=rows[0].least(ceilings) if len(rows) == 1 else sum(
            min(row.seconds, row.least(ceilings)) for row in rows
        ),
        limit=_limit(rows, ceilings),
    )


def _limit(rows: Sequence[LayerTime], ceilings: Ceilings) -> str:
    seconds: dict[str, float] = defaultdict(float)
    for needs in (needs for row in rows for needs in row.passes if any(needs)):
        seconds[ceilings.limit(*needs)] += ceilings.seconds(*needs)
    return max(seconds, key=lambda name: seconds[name], default="")


def time_layers(side: Ours, rounds: int, warm: int = 3) -> LayerTimes:
    """Time the layers of a net in ``rounds`` steps, after ``warm`` others.

    A row's time is the median over the steps; so are the others.
    """
    train = side.net.training
    plain: list[float] = []
    watched: list[float] = []
    optimiser: list[float] = []
    steps: list[dict[_Key, float]] = []
    for _ in range(warm + rounds):
        plain.append(_clock(side.run))
        optimiser.append(0.0)
        plain_loss = side.loss
        side.loss = loss = _TimedLoss(plain_loss)
        try:
            with clocked() as events, _timed(side.sgd, "step", optimiser):
                watched.append(_clock(side.run))
        finally:
            side.loss = plain_loss
        steps.append(_seconds(events))
        if train:
            for which, seconds in enumerate(loss.seconds):
                steps[-1]["loss", "cross_entropy", bool(which)] = seconds
    needed = _needs(events)
    steps = steps[warm:]

    def middle(values: Iterable[float]) -> float:
        return float(np.median(list(values)))

    rows = []
    for path, operation in _order(steps[0]):
        forward, backward = (path, operation, False), (path, operation, True)
        there, back = needed[forward], needed[backward]
        rows.append(
            LayerTime(
                layer=path,
                operation=operation,
                kind=there.kind or back.kind,
                forward_seconds=middle(step.get(forward, 0.0) for step in steps),
                backward_seconds=middle(step.get(backward, 0.0) for step in steps),
                multiply_adds=round(there.multiply_adds),
                backward_multiply_adds=round(back.multiply_adds),
                nbytes=round(there.nbytes),
                backward_nbytes=round(back.nbytes),
                past_cache_nbytes=round(there.past_cache_nbytes),
                backward_past_cache_nbytes=round(back.past_cache_nbytes),
            )
        )
    return LayerTimes(
        train, rows, middle(optimiser[warm:]), middle(plain[warm:]), middle(watched[warm:])
    )


# ---- what the player's clock has seen

_Key = tuple[str, str, bool]  # layer, operation, whether in the backward pass


@dataclass
class _Needs:
    kind: str = ""
    multiply_adds: float = 0
    nbytes: float = 0
    past_cache_nbytes: float = 0


def _seconds(events: list[Event]) -> dict[_Key, float]:
    """Return the time of each operation of one step, the mean over the threads."""
    threads = len({event.thread for event in events})
    total: dict[_Key, float] = defaultdict(float)
    for event in events:
        total[_key(event.row)] += event.seconds / threads
    return total


def _needs(events: list[Event]) -> dict[_Key, _Needs]:
    """Return what the operations of one step need, of all slices."""
    needs: dict[_Key, _Needs] = defaultdict(_Needs)
    for event in events:
        found = needs[_key(event.row)]
        found.kind = found.kind or _kind(event.row)
        found.multiply_adds += event.share * event.row.multiply_adds
        found.nbytes += event.share * event.plan.nbytes(event.row)
        found.past_cache_nbytes += event.share * past_cache_nbytes(event.plan, event.row)
    needs["loss", "cross_entropy", False].kind = "element-wise"
    return needs


def past_cache_nbytes(plan: Plan, row: Row) -> int:
    """Return how many of a row's bytes the ceiling of stores past the cache is for.

    That is measured with a number read for each one written, so they are twice what could be
    written in whole lines: all channels of a buffer, one pixel behind the other, or some that
    begin and end at a line. What is read besides, as for sums, is read at the speed of reading.
    """
    written = [view for view in row.writes if plan.buffers[view.buffer].role == "activation"]
    if not all(_whole_lines(plan.buffers[view.buffer], view) for view in written):
        return 0  # a kernel has one way to store
    sizes = [prod(v.shape) * np.dtype(plan.buffers[v.buffer].dtype).itemsize for v in written]
    return min(plan.nbytes(row), 2 * sum(sizes))


def _whole_lines(buffer: Buffer, view: View) -> bool:
    channels, itemsize = buffer.shape[-1], np.dtype(buffer.dtype).itemsize
    edges = (view.start, view.shape[-1], channels)
    return view.shape[-1] == channels or all(edge * itemsize % LINE == 0 for edge in edges)


def _order(seconds: dict[_Key, float]) -> list[tuple[str, str]]:
    """Return layers and operations as the net runs them forward.

    What only the backward pass does stands next to what else its layer does.
    """
    keys = list(dict.fromkeys(key[:2] for key in seconds if not key[2]))
    for path, operation, _ in seconds:
        if (path, operation) not in keys:
            same = [i for i, key in enumerate(keys, 1) if key[0] == path]
            keys.insert(same[-1] if same else len(keys), (path, operation))
    return keys


def _key(row: Row) -> _Key:
    """Where a row is added up: batch_norm_backward_sums is a part of batch_norm."""
    name = row.operation
    family = "batch_norm" if name.startswith("batch_norm") else name.partition("_backward")[0]
    return row.layer, family, row.backward


def _kind(row: Row) -> str:
    """The kind of a row: its convolution's, or its last part's."""
    parts = [part.operation.removesuffix("_backward") for part in row.parts or (row,)]
    if "concat" in parts:
        return "shuffle"
    convolution = next((part for part in parts if part.endswith("conv2d")), None)
    if convolution != "conv2d":
        return _KIND_OF.get(convolution or parts[-1], "element-wise")
    part = next(p for p in row.parts or (row,) if p.operation.startswith("conv2d"))
    x, w = part.arguments[int(row.backward)], part.arguments[int(row.backward) + 1]
    if w.shape[:2] == (1, 1):
        return "pointwise"
    return "dense" if w.shape[2] == x.shape[-1] else "grouped"


class _TimedLoss:
    """A loss that adds the time of its passes to ``seconds``: forward, backward."""

    def __init__(self, loss: Any) -> None:
        self.loss, self.seconds = loss, [0.0, 0.0]

    def __call__(self, logits: np.ndarray, labels: np.ndarray) -> float:
        start = time.perf_counter()
        value: float = self.loss(logits, labels)
        self.seconds[0] += time.perf_counter() - start
        return value

    def backward(self) -> np.ndarray:
        start = time.perf_counter()
        dy: np.ndarray = self.loss.backward()
        self.seconds[1] += time.perf_counter() - start
        return dy


def _clock(function: Callable[[], Any]) -> float:
    start = time.perf_counter()
    function()
    return time.perf_counter() - start


@contextmanager
def _timed(owner: Any, method: str, seconds: list[float]) -> Iterator[None]:
    """Add what a method of ``owner`` takes to the last of ``seconds``, inside a ``with``."""
    if owner is None:
        yield
        return
    function = getattr(owner, method)

    def timed() -> None:
        start = time.perf_counter()
        function()
        seconds[-1] += time.perf_counter() - start

    setattr(owner, method, timed)
    try:
        yield
    finally:
        delattr(owner, method)
