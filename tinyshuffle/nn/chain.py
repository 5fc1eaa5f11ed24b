"""Layers in a row, with every batch norm done by the convolution that follows it.

In training a batch norm has to see the whole batch before it can change one number, so it parts a
row of layers into stretches: what follows a batch norm (its ReLU, a channel shuffle, the next
convolution, and that one's sums) can be done in one go, a few images at a time
(``ops.norm_conv``). Only the convolutions' outputs are kept, and the way back is parted likewise.

In evaluation the statistics are known, and it is the batch norm behind a convolution that goes
with it.

Only layers as they stand in ``nn.layers`` are joined: a layer of a derived class, or one whose
passes somebody replaced, is called like any other.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import NamedTuple, TypeGuard, TypeVar

import numpy as np

from ..backend import F
from ..ops.norm_conv import Gradient, Norm
from .layers import BatchNorm2d, ChannelShuffle, Conv2d, ReLU
from .module import Module, is_as_written

__all__ = ["backward", "evaluate", "forward", "is_plain"]

_PASSES: dict[type[Module], tuple[Callable, Callable]] = {
    kind: (kind.forward, kind.backward) for kind in (BatchNorm2d, ChannelShuffle, Conv2d, ReLU)
}


Kind = TypeVar("Kind", bound=Module)


def is_plain(layer: Module, kind: type[Kind]) -> TypeGuard[Kind]:
    """Whether a layer does what ``kind`` does and nothing else, so that others may do it for it.

    Not if its class is derived from ``kind``, or its passes were replaced, in it or in its class.
    """
    return type(layer) is kind and is_as_written(layer, *_PASSES[kind])


class _Pending(NamedTuple):
    """A batch norm that knows its statistics and still has to be applied."""

    layer: BatchNorm2d
    norm: Norm
    pixels: np.ndarray  # M of each channel

    def __call__(self, x: np.ndarray) -> np.ndarray:
        y = F.batch_norm(x, *self.norm[:6])
        return F.channel_shuffle(y, self.norm.shuffle) if self.norm.shuffle > 1 else y

    def gradient(self, mine: np.ndarray) -> Gradient:
        """Add this slice's dβ and dγ (2, C) to the layer's, and return them for the whole batch."""
        return Gradient(self.norm, self.layer.accumulate(mine), self.pixels)


class _Convolved(NamedTuple):
    layer: Conv2d
    x: np.ndarray
    norm: _Pending | None  # applied to x first
    y: np.ndarray


class _Normalised(NamedTuple):
    norm: _Pending
    x: np.ndarray


class _Added(NamedTuple):
    """relu(norm(x) + shortcut), or relu(x + shortcut) if the norm is None."""

    norm: _Pending | None
    x: np.ndarray
    y: np.ndarray


class _Left(NamedTuple):
    """A batch norm (and its ReLU) at the end, which the caller applies."""

    norm: _Pending
    x: np.ndarray


Step = _Convolved | _Normalised | _Added | _Left | Module


def forward(
    layers: Iterable[Module],
    x: np.ndarray,
    shortcut: np.ndarray | None = None,
    leave: bool = False,
) -> tuple[np.ndarray, list[Step]]:
    """Return the output in training, and the steps for :func:`backward`.

    With a ``shortcut`` that is added to the output, and a ReLU behind. Or, with ``leave``, without
    the batch norm and ReLU that stand last: :func:`left` returns them.
    """
    rest, steps = list(layers), list[Step]()
    pending: _Pending | None = None
    sums: np.ndarray | None = None
    while rest:
        layer = rest.pop(0)
        if is_plain(layer, BatchNorm2d):
            if pending is not None:
                steps.append(_Normalised(pending, x))
                x = pending(x)
            if sums is None:
                layer.check(x)
                sums = F.batch_norm_sums(x)
            mean, var, count = layer.observe(sums)
            pending, sums = _Pending(layer, _norm(layer, mean, var, rest), count), None
        elif _is_bare(layer, rest):
            layer.check(x)
            norm = None if pending is None else pending.norm
            y, sums = F.norm_conv(x, norm, layer.weight.data, *layer.geometry)
            steps.append(_Convolved(layer, x, pending, y))
            x, pending = y, None
        else:
            if pending is not None:
                steps.append(_Normalised(pending, x))
                x, pending = pending(x), None
            x = layer(x)
            steps.append(layer)
    if shortcut is not None:
        if pending is None or pending.norm.relu or pending.norm.shuffle > 1:
            if pending is not None:
                steps.append(_Normalised(pending, x))
                x, pending = pending(x), None
            y = F.relu(F.add(x, shortcut))
        else:
            y = F.norm_add_relu(x, pending.norm, shortcut)
        steps.append(_Added(pending, x, y))
        return y, steps
    if pending is not None:
        if leave and pending.norm.shuffle == 1:
            steps.append(_Left(pending, x))
            return x, steps
        steps.append(_Normalised(pending, x))
        x = pending(x)
    return x, steps


def left(steps: list[Step]) -> Norm | None:
    """Return what :func:`forward` left to its caller."""
    return steps[-1].norm.norm if steps and isinstance(steps[-1], _Left) else None


def backward(
    steps: list[Step],
    dy: np.ndarray,
    sums: np.ndarray | None = None,
    plus: np.ndarray | None = None,
    there: np.ndarray | None = None,
) -> np.ndarray:
    """Add to the gradients of all parameters and return that of the input.

    ``sums`` are dβ and dγ of a batch norm that was left to the caller, ``plus`` is another gradient
    of the input to be added, and ``there`` is where to write the result. A shortcut is taken to be
    the input itself.
    """
    behind: Gradient | None = None  # dy is that of what this batch norm returned
    of: np.ndarray = dy  # for this input
    for i, step in reversed(list(enumerate(steps))):
        if isinstance(step, _Left):
            assert sums is not None
            behind, of = step.norm.gradient(sums), step.x
            continue
        if isinstance(step, _Added):
            if step.norm is None:
                dy = F.relu_backward(dy, step.y)
            else:
                dy, mine = F.norm_add_relu_backward(dy, step.y, step.x, step.norm.norm)
                behind, of = step.norm.gradient(mine), step.x
            plus = dy if plus is None else F.add(dy, plus)
            continue
        if isinstance(step, _Convolved):
            more, to = None, None
            if i == 0 and step.norm is None:
                more, plus, to, there = plus, None, there, None
            norm, w = None if step.norm is None else step.norm.norm, step.layer.weight.data
            dy, dw, mine = F.norm_conv_backward(
                dy, step.y, behind, step.x, norm, w, *step.layer.geometry, more, to
            )
            step.layer.weight.accumulate(dw)
            behind, of = None if step.norm is None else step.norm.gradient(mine), step.x
            continue
        dy, behind = _through(dy, of, behind), None
        if isinstance(step, _Normalised):
            if step.norm.norm.shuffle > 1:
                dy = F.channel_shuffle_backward(dy, step.norm.norm.shuffle)
            mine = F.batch_norm_backward_sums(dy, step.x, *step.norm.norm[:6])
            behind, of = step.norm.gradient(mine), step.x
        else:
            dy = step.backward(dy)
    dy = _through(dy, of, behind)
    if plus is not None:
        dy = F.add(dy, plus)
    return dy if there is None else F.overwrite(there, dy)


def evaluate(layers: Iterable[Module], x: np.ndarray) -> np.ndarray:
    """Return the output in evaluation; nothing is kept for a backward pass."""
    rest = list(layers)
    while rest:
        layer = rest.pop(0)
        if _is_bare(layer, rest):
            layer.check(x)
            bn = rest.pop(0)
            assert isinstance(bn, BatchNorm2d)
            norm = _norm(bn, bn.running_mean, bn.running_var, rest)
            x = F.conv_norm(x, norm, layer.weight.data, *layer.geometry)
        elif is_plain(layer, BatchNorm2d) and rest and is_plain(rest[0], ReLU):
            rest.pop(0)
            x = layer.forward(x, relu=True)
        else:
            x = layer(x)
    return x


def _is_bare(layer: Module, rest: list[Module]) -> TypeGuard[Conv2d]:
    """Whether this is a convolution without bias, and has a batch norm behind it."""
    return (
        is_plain(layer, Conv2d)
        and layer.bias is None
        and bool(rest)
        and is_plain(rest[0], BatchNorm2d)
    )


def _norm(layer: BatchNorm2d, mean: np.ndarray, var: np.ndarray, rest: list[Module]) -> Norm:
    """The norm together with a ReLU and a shuffle behind it, which leave ``rest``."""
    relu = bool(rest) and is_plain(rest[0], ReLU)
    if relu:
        rest.pop(0)
    shuffle = 1
    if rest and is_plain(rest[0], ChannelShuffle):
        shuffle = rest[0].groups
        rest.pop(0)
    return Norm(layer.weight.data, layer.bias.data, mean, var, layer.eps, relu, shuffle)


def _through(dy: np.ndarray, x: np.ndarray, behind: Gradient | None) -> np.ndarray:
    """Back through a batch norm that no convolution stands before."""
    if behind is None:
        return dy
    *params, eps, relu, _ = behind.norm
    return F.batch_norm_backward(dy, x, *params, behind.sums, behind.pixels, eps, relu)
