"""The V2 paper's building blocks, as specs from which every library builds the same net.

A spec is a list of layers, as JSON can hold it: ``["conv", c, o, kernel, groups]`` (no bias, stride
1, the size is kept), ``["relu"]``, and ``["add", spec, …]``, whose branches see the same input and
are added up; a branch without layers is a shortcut.
"""

from __future__ import annotations

from collections.abc import Iterator
from math import sqrt
from typing import Any

import numpy as np

from ..backend import F
from ..nn import Conv2d, Module, ReLU, Sequential
from ..parallel import DataParallel
from ..values import flags

__all__ = ["Spec", "build", "channel_widths", "fragments", "grouped", "residual"]

Spec = list[Any]


def build(spec: Spec) -> DataParallel:
    """Build a spec with this library's layers and random weights, always the same.

    The weights keep the size of the activations about as it is, however deep the spec.

    >>> build([["conv", 4, 6, 1, 2], ["relu"], ["add", [["conv", 6, 6, 3, 1]], []]])
    Sequential(
      (0): Conv2d(4, 6, 1, groups=2, bias=False)
      (1): ReLU()
      (2): _Added(
        (0): Sequential(
          (0): Conv2d(6, 6, 3, padding=1, bias=False)
        )
        (1): Sequential()
      )
    )
    """
    net, rng = _chain(spec), np.random.default_rng(0)
    for p in net.parameters():
        bound = sqrt(3 / np.prod(p.shape[:-1]))
        p.data = rng.uniform(-bound, bound, p.shape).astype(np.float32)
    return DataParallel(net)


def _chain(spec: Spec) -> Sequential:
    layers: list[Module] = []
    for word, *arguments in spec:
        if word == "conv":
            c, o, kernel, groups = arguments
            layers.append(Conv2d(c, o, kernel, 1, kernel // 2, groups=groups, bias=False))
        elif word == "relu":
            layers.append(ReLU())
        else:
            layers.append(_Added([_chain(branch) for branch in arguments]))
    return Sequential(*layers)


class _Added(Module):
    """Branches that see the same input and are added up."""

    def __init__(self, branches: list[Sequential]) -> None:
        self._branches = branches

    def children(self) -> Iterator[tuple[str, Module]]:
        return ((str(i), branch) for i, branch in enumerate(self._branches))

    def forward(self, x: np.ndarray) -> np.ndarray:
        first, *others = (branch(x) for branch in self._branches)
        for y in others:
            first = F.add(first, y)
        return first

    def backward(self, dy: np.ndarray) -> np.ndarray:
        first, *others = (branch.backward(dy) for branch in self._branches)
        for dx in others:
            first = F.add(first, dx)
        return first


# ---- the four experiments


def channel_widths(c1: int, c2: int) -> Spec:
    """G1: ten blocks of two pointwise convolutions, from c1 channels to c2 and back (Table 1)."""
    return [["conv", c1, c2, 1, 1], ["conv", c2, c1, 1, 1]] * 10


def grouped(c: int, groups: int) -> Spec:
    """G2: ten pointwise convolutions with groups (Table 2)."""
    return [["conv", c, c, 1, groups]] * 10


@flags
def fragments(c: int, count: int, parallel: bool) -> Spec:
    """G3: ten blocks of one to four pointwise convolutions (Table 3, Appendix Figure 1).

    Parallel ones are added up: only then do the channels have to change to keep the multiply-adds,
    as the paper says they do.
    """
    conv = ["conv", c, c, 1, 1]
    if parallel:
        return [["add", *[[conv]] * count]] * 10
    return [conv] * (10 * count)


@flags
def residual(c: int, relu: bool, shortcut: bool) -> Spec:
    """G4: ten of ResNet's bottlenecks, with or without ReLUs and shortcut (Table 4).

    c is the width of the block and c / 4 that of the 3x3 convolution inside it. The paper does not
    say so, but with c inside, its phone would have to do 40 G multiply-adds a second.
    """
    m = c // 4
    rectify = [["relu"]] * relu
    branch = [
        ["conv", c, m, 1, 1], *rectify, ["conv", m, m, 3, 1], *rectify, ["conv", m, c, 1, 1]
    ]  # fmt: skip
    block = [["add", branch, []]] if shortcut else branch
    return [*block, *rectify] * 10
