"""Figures of units: what they are made of."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from ..cost.counting import count_of, traced
from ..cost.profile import kind_of, short
from ..plan import views
from .style import KIND_STYLES

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from ..nn import Module

__all__ = ["unit"]

# ---- the operations of a unit, and who feeds whom


@dataclass
class Box:
    """One operation of a diagram, with the normalisations and activations behind it."""

    words: list[str]
    kind: str
    inputs: list[int]
    output: tuple[int, ...]
    tail: list[str] = field(default_factory=list)

    @property
    def lines(self) -> list[str]:
        return [*self.words, *([" · ".join(self.tail)] if self.tail else [])]


_TAILS = {"batch_norm": "BN", "relu": "ReLU", "relu6": "ReLU6", "local_response_norm": "LRN"}
_POOLS = {"max_pool2d": "max pool", "avg_pool2d": "average pool"}


def trace(module: Module, input_shape: tuple[int, ...]) -> list[Box]:
    """Read off a unit's plan who feeds whom; box 0 is the input, the last the output."""
    plan = traced(module, input_shape)
    modules = dict(module.named_modules())
    boxes = [Box([_size(input_shape)], "", [], input_shape)]
    made_by = {b.index: 0 for b in plan.buffers if b.role == "input"}
    for row in plan.rows:
        count = count_of(modules, row)
        fed = [made_by[v.buffer] for v in views(row.arguments) if v.buffer in made_by]
        boxes.append(Box(_words(count, row), kind_of(count), fed, count.cost.output))
        if row.operation in _TAILS:
            boxes[-1].tail, boxes[-1].words = [_TAILS[row.operation]], []
        for view in row.writes or row.reads[:1]:  # what a channel split makes are views of x
            made_by[view.buffer] = len(boxes) - 1
    return _merge(boxes)


def _words(count: Any, row: Any) -> list[str]:
    """What stands in a box: the operation, and for a convolution its channels and its cost."""
    operation, module, args = count.operation, count.module, row.arguments
    stride = getattr(module, "stride", 1)
    step = [f"stride {stride[0]}"] if isinstance(stride, tuple) and stride[0] > 1 else []
    if operation.endswith("conv2d"):
        kernel = "{}×{}".format(*module.kernel_size)
        name = " depthwise" if operation.startswith("depthwise") else " conv"
        groups = module.groups if name == " conv" and module.groups > 1 else 1
        first = kernel + (f" grouped{name}" if groups > 1 else name)
        second = f"{module.in_channels} → {module.out_channels}"
        second += f", g = {groups}" if groups > 1 else ""
        return [first, *step, second, f"{short(count.cost.multiply_adds)}"]
    if operation in _POOLS:
        return ["{}×{} ".format(*module.kernel_size) + _POOLS[operation], *step]
    if operation == "channel_shuffle":
        return ["channel shuffle", f"g = {row.keywords.get('groups', args[-1])}"]
    if operation == "channel_split":
        first = args[1]
        return ["channel split", f"{first} | {count.input[-1] - first}"]
    if operation == "concat":
        return ["concat", " + ".join(str(x.shape[-1]) for x in args[0])]
    if operation == "linear":
        second = f"{module.in_features} → {module.out_features}"
        return ["linear", second, f"{short(count.cost.multiply_adds)}"]
    return [operation.replace("_", " ")]


def _merge(boxes: list[Box]) -> list[Box]:
    """Put each normalisation and activation into the box whose only reader it is."""
    readers = [sum(box.inputs.count(i) for box in boxes) for i in range(len(boxes))]
    place: dict[int, int] = {}
    out: list[Box] = []
    for i, box in enumerate(boxes):
        inputs = [place[j] for j in box.inputs]
        before = out[inputs[0]] if inputs else None
        if before and not box.words and readers[box.inputs[0]] == 1 and inputs[0] > 0:
            before.tail += box.tail
            place[i] = inputs[0]
        else:
            out.append(Box(box.words, box.kind, inputs, box.output, box.tail))
            place[i] = len(out) - 1
    return out


def _size(shape: tuple[int, ...]) -> str:
    return "×".join(map(str, shape[1:]))


# ---- where the boxes stand, in inches

LETTER, LINE, GAP, LANE, FONT = 0.07, 0.155, 0.28, 0.16, 9.0
BUS = 0.4 * GAP  # how far outside of its branches the crossbar of a fork or a join runs


@dataclass
class _Fork:
    """What lies between a box with several readers and the box where all their paths meet."""

    start: int
    join: int
    branches: list[list[int | _Fork]]


_Chain = list[int | _Fork]


class _Layout:
    """Boxes in columns: a fork's branches stand side by side, in the order their join has."""

    def __init__(self, boxes: list[Box]) -> None:
        self.boxes = boxes
        self.readers: list[list[int]] = [[] for _ in boxes]
        for i, box in enumerate(boxes):
            for j in box.inputs:
                self.readers[j].append(i)
        self.centre: dict[int, tuple[float, float]] = {}
        self.ways: list[list[tuple[float, float]]] = []  # arrows, the tip last
        self.chain = self._chain(0, None)
        self.width, self.height = self._size(self.chain)

    def box_size(self, i: int) -> tuple[float, float]:
        lines = self.boxes[i].lines
        return LETTER * max(map(len, lines)) + 0.18, LINE * len(lines) + 0.12

    def _chain(self, start: int, stop: int | None) -> _Chain:
        parts: _Chain = []
        here = start
        while here != stop:
            parts.append(here)
            after = self.readers[here]
            if len(after) > 1:
                join = min(set.intersection(*map(self._reach, after)))
                branches = [self._chain(i, join) for i in after]
                ends = [self.boxes[join].inputs.index(_end(b, here)) for b in branches]
                in_order = [branches[i] for i in np.argsort(ends)]
                parts.append(_Fork(here, join, in_order))
                here = join
            elif after:
                here = after[0]
            else:
                break
        return parts

    def _reach(self, i: int) -> set[int]:
        return {i}.union(*(self._reach(j) for j in self.readers[i]))

    def _size(self, parts: _Chain) -> tuple[float, float]:
        wide, high = LANE, GAP * max(0, len(parts) - 1)
        for part in parts:
            if isinstance(part, _Fork):
                sizes = [self._size(branch) for branch in part.branches]
                w = sum(w for w, _ in sizes) + GAP * (len(sizes) - 1)
                h = max(h for _, h in sizes)
            else:
                w, h = self.box_size(part)
            wide, high = max(wide, w), high + h
        return wide, high

    def place(self, parts: _Chain, x: float, top: float, bottom: float) -> None:
        """Place a chain around ``x`` between ``top`` and ``bottom``, its slack spread evenly."""
        spare = (top - bottom - self._size(parts)[1]) / (len(parts) + 1)
        y = top - spare
        forks = []
        for before, part in zip([None, *parts], parts, strict=False):
            if isinstance(part, _Fork):
                sizes = [self._size(branch) for branch in part.branches]
                high = max(h for _, h in sizes)
                lane = x - (sum(w for w, _ in sizes) + GAP * (len(sizes) - 1)) / 2
                for branch, (w, _) in zip(part.branches, sizes, strict=True):
                    forks.append((part, branch, lane + w / 2, y + BUS, y - high - BUS))
                    if branch:
                        self.place(branch, lane + w / 2, y, y - high)
                    lane += w + GAP
            else:
                high = self.box_size(part)[1]
                self.centre[part] = x, y - high / 2
                if isinstance(before, int):
                    self.ways.append([self._edge(before, -1), self._edge(part, 1)])
            y -= high + GAP + spare
        for fork, branch, lane, above, below in forks:
            leave = [self._edge(fork.start, -1), (x, above), (lane, above)]
            arrive = [(lane, below), (x, below), self._edge(fork.join, 1)]
            if branch:
                self.ways.append([*leave, self._edge(branch[0], 1)])
                self.ways.append([self._edge(_end(branch, 0), -1), *arrive])
            else:
                self.ways.append([*leave, *arrive])

    def _edge(self, part: int | _Fork, side: int) -> tuple[float, float]:
        """The middle of a box's upper (1) or lower (-1) edge."""
        assert isinstance(part, int)
        x, y = self.centre[part]
        return x, y + side * self.box_size(part)[1] / 2


def _end(branch: _Chain, start: int) -> int:
    """The last box of a branch; of an empty one, the box that it comes from."""
    last = branch[-1] if branch else start
    return last.start if isinstance(last, _Fork) else last


def unit(module: Module, input_shape: tuple[int, ...]) -> Figure:
    """Draw a unit, from the operations that it really asks for.

    Parameters
    ----------
    module : Module
        Forks and joins may be nested, but not cross each other.
    input_shape : (N, H, W, C)

    Returns
    -------
    matplotlib.figure.Figure
        A box an operation, coloured by its kind, from the input above to the output below; a
        convolution says its channels and its multiply-adds. Branches stand in the order in which
        they are concatenated or added.
    """
    from matplotlib.figure import Figure

    layout = _Layout(trace(module, input_shape))
    width, height = layout.width + 0.2, layout.height + 0.55
    figure = Figure(figsize=(width, height), dpi=120)
    axes = figure.add_axes((0, 0, 1, 1))
    axes.set_xlim(0, width)
    axes.set_ylim(0, height)
    axes.set_axis_off()
    layout.place(layout.chain, width / 2, height, height - layout.height)
    _draw(axes, layout)
    return figure


def _draw(axes: Axes, layout: _Layout) -> None:
    from matplotlib.patches import FancyBboxPatch

    x, y = layout._edge(len(layout.boxes) - 1, -1)
    axes.text(x, y - 0.27, _size(layout.boxes[-1].output), ha="center", va="top", fontsize=FONT)
    arrow = {"arrowstyle": "-|>", "color": INK, "linewidth": 1.2, "shrinkA": 0, "shrinkB": 0}
    for way in [*layout.ways, [(x, y), (x, y - 0.25)]]:
        axes.plot(*zip(*way[:-1], strict=True), color=INK, linewidth=1.2, zorder=1)
        axes.annotate("", way[-1], way[-2], arrowprops=arrow, zorder=1)
    for i, box in enumerate(layout.boxes):
        x, y = layout.centre[i]
        w, h = layout.box_size(i)
        if box.kind:
            colour = KIND_STYLES[box.kind]["color"]
            axes.add_patch(FancyBboxPatch(
                (x - w / 2, y - h / 2), w, h, boxstyle="round,pad=0,rounding_size=0.06",
                facecolor=_tint(colour), edgecolor=colour, linewidth=1.8, zorder=3,
            ))  # fmt: skip
        axes.text(x, y, "\n".join(box.lines), ha="center", va="center", fontsize=FONT,
                  color="black", linespacing=1.15, zorder=4)  # fmt: skip


INK = "#444444"


def _tint(colour: str) -> tuple[float, float, float]:
    """The colour, mixed with much white: black type stays legible on it."""
    from matplotlib.colors import to_rgb

    r, g, b = (0.8 + 0.2 * part for part in to_rgb(colour))
    return r, g, b
