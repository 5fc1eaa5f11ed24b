"""A trained net in bytes: its rows are those of the plan, its convolutions those of ``ops.int8``.

The net is walked twice with the same rows. First in float32 over some images, which tells from
where to where the numbers of each array go (calibration). Then the scales are fixed, batch norms
folded into the convolutions before them, and from then on what lies between the rows are bytes.

Arrays between which numbers only move (a split, a concatenation, a shuffle) have the same scale, so
that moving costs a byte a number and no arithmetic. A row for which there is no rule here is
computed in float32 from what its bytes mean, and its result made bytes again.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from .. import memory
from ..backend import F
from ..errors import TinyshuffleError
from ..nn import Module, inference
from ..nn.check import check_net
from ..ops import int8_range, int8_weights
from ..ops.arguments import check_images
from ..plan import Plan, Row, View, trace
from ..values import flags

__all__ = ["Int8Net", "quantise"]

CONVOLUTIONS = ("conv2d", "pointwise_conv2d", "depthwise_conv2d")
MOVES = ("concat", "channel_shuffle", "max_pool2d", "flatten")
CUTS = ("relu", "relu6")
_CHUNK = 64  # images at a time, so that what lies between two rows stays in a core's cache
_MOST_BIAS = 2**29

Arrays = dict[int, np.ndarray]


@dataclass
class _Step:
    """A row of the walk: ``run`` takes the arrays of ``reads`` and makes that of ``to``."""

    row: Row
    reads: tuple[View, ...]
    to: int
    run: Callable[..., np.ndarray]
    weight: np.ndarray | None = None  # of a convolution or the last layer, batch norm folded in
    bias: np.ndarray | None = None


def quantise(net: Module, images: np.ndarray) -> Int8Net:
    """Make a net that computes with bytes from a trained one, which is left as it is.

    Parameters
    ----------
    net : Module
        A zoo's net, or one of this library's layers.
    images : float32 (N, H, W, C)
        Some hundred training images, normalised: the scales are taken from what the net computes of
        them. More is not more exact for long.

    Raises
    ------
    TinyshuffleError
        If a layer computes by itself, with NumPy, or there is no image, or one of no numbers.

    >>> from tinyshuffle import models
    >>> net = models.create("shufflenet_v2_x0_5", num_classes=10, stem="cifar", seed=0)
    >>> x = np.random.default_rng(0).standard_normal((8, 32, 32, 3)).astype(np.float32)
    >>> small = quantise(net, x)
    >>> small(x).shape, small.nbytes < 0.3 * sum(p.data.nbytes for p in net.parameters())
    ((8, 10), True)
    """
    check_net(net)
    check_images(images)
    if not len(images):
        raise TinyshuffleError("there is no image to take scales from: give a hundred or more")
    if not np.isfinite(images).all():
        raise TinyshuffleError("the images hold what are no finite numbers: scales need such")
    net = getattr(net, "net", net)
    plan = trace(net, (1, *images.shape[1:]), train=False, weights=np.float32)
    steps = _steps(plan, net.state_dict())
    low, high = _calibrate(plan, steps, images.astype(np.float32, copy=False))
    group = _groups(plan, steps)
    ranges = {}
    for b in low:
        members = [m for m in low if group[m] == group[b]]
        ranges[b] = int8_range(min(low[m] for m in members), max(high[m] for m in members))
    return Int8Net(plan, _in_bytes(plan, steps, ranges), ranges)


class Int8Net(Module):
    """A net that computes with bytes; :func:`quantise` makes one. It cannot be trained.

    Attributes
    ----------
    nbytes : int
        Of weights, biases and scales.
    """

    def __init__(self, plan: Plan, steps: list[_Step], ranges: dict[int, tuple[Any, int]]) -> None:
        (self._input,) = (b.index for b in plan.buffers if b.role == "input")
        self._output = plan.output.buffer
        self._steps, self._range = steps, ranges[self._input]
        self.training = False

    @property
    def nbytes(self) -> int:
        arrays = [a for s in self._steps for a in (s.weight, s.bias) if a is not None]
        scales = [4 * s.weight.shape[-1] for s in self._steps if s.weight is not None]
        return sum(a.nbytes for a in arrays) + sum(scales)

    @flags
    def train(self, mode: bool = True) -> Module:
        """Stay as it is: there is one mode only."""
        return self

    def forward(self, x: np.ndarray) -> np.ndarray:
        """Return logits (N, K), float32, of images (N, H, W, C)."""
        check_images(x)
        with memory.Pool():  # each chunk in the memory of the one before it
            parts = [self._walk(x[i : i + _CHUNK]) for i in range(0, max(1, len(x)), _CHUNK)]
            return np.concatenate(parts)

    def _walk(self, x: np.ndarray) -> np.ndarray:
        return _walk(self._steps, {self._input: F.int8_quantise(x, *self._range)}, self._output)


# ---- the rows


def _steps(plan: Plan, state: dict[str, np.ndarray]) -> list[_Step]:
    """Return the rows in float32, each batch norm folded into the convolution before it."""
    readers = Counter(view.buffer for row in plan.rows for view in row.reads)
    readers[plan.output.buffer] += 1
    norms = {
        row.arguments[0].buffer: row
        for row in plan.rows
        if row.operation == "batch_norm" and readers[row.arguments[0].buffer] == 1
    }

    def number(view: View) -> np.ndarray | None:
        return state.get(plan.buffers[view.buffer].name) if view is not None else None

    steps: list[_Step] = []
    folded: set[int] = set()  # batch norms, by their rows' ids
    for row in plan.rows:
        if row.operation == "python":
            raise TinyshuffleError(
                f"{row.layer or 'the net'} computes by itself, with NumPy: nobody can say what it "
                "would be in bytes"
            )
        if row.operation == "channel_split" or id(row) in folded:  # views, or done before
            continue
        to = row.results[0].buffer
        if row.operation in (*CONVOLUTIONS, "linear"):
            x, w, *rest = row.arguments
            weight, (b, *geometry) = state[plan.buffers[w.buffer].name], rest or [None]
            bias = np.zeros(weight.shape[-1], np.float32) if b is None else number(b)
            assert bias is not None
            if to in norms and row.operation != "linear":
                norm = norms[to]
                folded.add(id(norm))
                weight, bias, to = *_folded(weight, bias, norm, number), norm.results[0].buffer
            steps.append(_Step(row, (x,), to, _convolve(row, weight, bias, geometry), weight, bias))
        else:
            reads = tuple(v for v in row.reads if number(v) is None)
            steps.append(_Step(row, reads, to, _as_it_is(row, reads, number)))
    return steps


def _folded(
    w: np.ndarray, b: np.ndarray, norm: Row, number: Callable[[View], Any]
) -> tuple[np.ndarray, np.ndarray]:
    """γ (x w + b - μ) / σ + β = x (w γ / σ) + (b - μ) γ / σ + β."""
    _, *given, eps = norm.arguments
    gamma, beta, mean, var = (np.asarray(number(view), np.float64) for view in given)
    scale = gamma / np.sqrt(var + eps)
    return (w * scale).astype(np.float32), ((b - mean) * scale + beta).astype(np.float32)


def _convolve(
    row: Row, w: np.ndarray, b: np.ndarray, geometry: list[Any]
) -> Callable[..., np.ndarray]:
    return lambda x: getattr(F, row.operation)(x, w, b, *geometry)


def _as_it_is(
    row: Row, reads: tuple[View, ...], number: Callable[[View], Any]
) -> Callable[..., np.ndarray]:
    """The row's own operation, with arrays and weights in the places of its views."""

    def run(*arrays: np.ndarray) -> np.ndarray:
        at = dict(zip(reads, arrays, strict=True))

        def real(value: Any) -> Any:
            if isinstance(value, View):
                return at[value] if value in at else number(value)
            return [real(v) for v in value] if isinstance(value, list) else value

        y = getattr(F, row.operation)(*map(real, row.arguments), **row.keywords)
        return y[0] if isinstance(y, tuple) else y  # max pooling tells who won, too

    return run


def _walk(
    steps: list[_Step], arrays: Arrays, output: int, see: Callable[[int, Any], None] | None = None
) -> np.ndarray:
    last = {view.buffer: i for i, step in enumerate(steps) for view in step.reads}
    with inference():
        for i, step in enumerate(steps):
            given = [
                arrays[v.buffer][..., v.start : v.start + v.shape[-1]] for v in step.reads
            ]
            arrays[step.to] = step.run(*given)
            if see is not None:
                see(step.to, arrays[step.to])
            for v in step.reads:
                if last[v.buffer] == i and v.buffer != output:
                    arrays.pop(v.buffer, None)
    return arrays[output]


# ---- scales


def _calibrate(
    plan: Plan, steps: list[_Step], images: np.ndarray
) -> tuple[dict[int, float], dict[int, float]]:
    """Return the smallest and the largest number of each array."""
    low: dict[int, float] = {}
    high: dict[int, float] = {}

    def see(buffer: int, a: np.ndarray) -> None:
        low[buffer] = min(low.get(buffer, np.inf), float(a.min()))
        high[buffer] = max(high.get(buffer, -np.inf), float(a.max()))

    (first,) = (b.index for b in plan.buffers if b.role == "input")
    for i in range(0, len(images), _CHUNK):
        x = images[i : i + _CHUNK]
        see(first, x)
        _walk(steps, {first: x}, plan.output.buffer, see)
    for step in steps:
        if step.row.operation == "pad_end":  # what never wins in a pool is the lowest byte
            low[step.to] = low[step.reads[0].buffer]
    return low, high


def _groups(plan: Plan, steps: list[_Step]) -> list[int]:
    """Return for each array one that it shares its scale with, the same for all that do."""
    group = list(range(len(plan.buffers)))
    for step in steps:
        if step.row.operation in MOVES:
            for view in step.reads:
                old, new = group[view.buffer], group[step.to]
                group = [new if g == old else g for g in group]
    return group


# ---- the rows in bytes


def _in_bytes(
    plan: Plan, steps: list[_Step], ranges: dict[int, tuple[Any, int]]
) -> list[_Step]:
    readers = Counter(view.buffer for step in steps for view in step.reads)
    readers[plan.output.buffer] += 1
    by_source = {
        step.reads[0].buffer: step
        for step in steps
        if len(step.reads) == 1 and readers[step.reads[0].buffer] == 1
    }
    made, done = [], set()
    for step in steps:
        if id(step) in done:
            continue
        to, behind = step.to, by_source.get(step.to)
        operation = step.row.operation
        if operation in CONVOLUTIONS:
            # what a ReLU cuts off is what its bytes cannot say, if they begin at zero
            if behind and behind.row.operation in CUTS and ranges[behind.to][1] == 0:
                done.add(id(behind))
                to = behind.to
            made.append(_convolution(step, to, ranges))
        elif operation == "linear" and to == plan.output.buffer:
            made.append(_last(step, ranges))
        elif operation in ("concat", "channel_shuffle"):
            shuffle = step.row if operation == "channel_shuffle" else None
            if operation == "concat" and behind and behind.row.operation == "channel_shuffle":
                done.add(id(behind))
                to, shuffle = behind.to, behind.row
            groups = 1 if shuffle is None else [*shuffle.arguments, *shuffle.keywords.values()][1]
            made.append(_move(step, to, groups))
        else:
            made.append(_in_float(step, ranges, to == plan.output.buffer))
    return made


def _weights(step: _Step, x: tuple[Any, int]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return q_w, b_q and s_x s_w."""
    assert step.weight is not None and step.bias is not None
    scale, zero = x
    q, own = int8_weights(step.weight, np.abs(step.bias) / (scale * np.float32(_MOST_BIAS)))
    both = scale * own
    offset = zero * q.reshape(-1, q.shape[-1]).sum(axis=0, dtype=np.int64)
    return q, (np.rint(step.bias / both).astype(np.int64) - offset).astype(np.int32), both


def _convolution(step: _Step, to: int, ranges: dict[int, tuple[Any, int]]) -> _Step:
    (scale, zero), x = ranges[to], ranges[step.reads[0].buffer]
    q, b, both = _weights(step, x)
    rescale, zeros = (both / scale).astype(np.float32), (x[1], zero)
    geometry = step.row.arguments[3:]
    if step.row.operation == "pointwise_conv2d":
        geometry = (1, 0, 1, *geometry)

    def run(a: np.ndarray) -> np.ndarray:
        return F.int8_conv2d(a, q, b, rescale, zeros, *geometry)

    return _Step(step.row, step.reads, to, run, q, b)


def _last(step: _Step, ranges: dict[int, tuple[Any, int]]) -> _Step:
    q, b, both = _weights(step, ranges[step.reads[0].buffer])
    return _Step(
        step.row, step.reads, step.to, lambda a: F.int8_linear(a, q, b, both), q, b
    )


def _move(step: _Step, to: int, groups: int) -> _Step:
    return _Step(
        step.row, step.reads, to, lambda *parts: F.int8_concat(list(parts), groups)
    )


def _in_float(step: _Step, ranges: dict[int, tuple[Any, int]], last: bool) -> _Step:
    given = [ranges[view.buffer] for view in step.reads]
    result = ranges[step.to]

    def run(*arrays: np.ndarray) -> np.ndarray:
        y = step.run(*(F.int8_dequantise(a, *r) for a, r in zip(arrays, given, strict=True)))
        return y if last else F.int8_quantise(y, *result)

    return _Step(step.row, step.reads, step.to, run, step.weight, step.bias)
