"""What counts as a multiply-add? Six answers, all in use.

The same ShuffleNet V1 1x (g = 3) has 137,460,672 "MACs" or 274,921,344 "FLOPs" or any of four
numbers between, depending on who counts. Each convention here reproduces one counter, to the
digit, for nets written as their authors wrote them.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from ..ops.cost import size
from .counting import Count

__all__ = ["CONVENTIONS", "Convention"]


@dataclass(frozen=True)
class Convention:
    """A way of counting.

    Attributes
    ----------
    name : str
    words : str
        What it counts, in one line.
    multiply_adds : function
        Of a count and its kind.
    """

    name: str
    words: str
    multiply_adds: Callable[[Count, str], int]


def _paper(count: Count, kind: str) -> int:
    return count.cost.multiply_adds


def _fvcore(count: Count, kind: str) -> int:
    return 2 * size(count.cost.output) if kind == "batch norm" else count.cost.multiply_adds


def _thop(count: Count, kind: str) -> int:
    if kind == "batch norm":
        return 4 * size(count.cost.output)
    if count.operation in ("avg_pool2d", "global_avg_pool"):
        return size(count.cost.output)
    return count.cost.multiply_adds


def _ptflops(count: Count, kind: str) -> int:
    if kind == "batch norm":
        return 2 * size(count.cost.output)
    if kind == "pooling":
        return 2 * size(count.input)
    if count.operation in ("relu", "relu6"):
        return (1 if count.functional else 2) * size(count.input)
    return count.cost.multiply_adds + _bias(count) * size(count.cost.output)


def _torchinfo(count: Count, kind: str) -> int:
    images = count.input[0]
    if kind == "batch norm":
        return images * count.cost.params
    bias = _bias(count) * size(count.cost.output)
    return count.cost.multiply_adds + bias


def _flop_counter(count: Count, kind: str) -> int:
    return 2 * count.cost.multiply_adds


def _bias(count: Count) -> bool:
    return getattr(count.module, "bias", None) is not None and count.weight is not None


_ALL = (
    Convention(
        "paper", "convolution and linear multiply-adds, nothing else, no bias; ptflops' default "
        "(aten) backend agrees", _paper,
    ),
    Convention("fvcore", "the paper's, and 2 an element for batch norm", _fvcore),
    Convention(
        "thop", "the paper's, 4 an element for batch norm, 1 an output of average pools", _thop
    ),
    Convention(
        "ptflops", "(its pytorch backend) the paper's, biases, 2 an element for batch norm, 2 an "
        "input of pools and of ReLU modules, for which it counts module and function both, 1 of "
        "a ReLU called as a function", _ptflops,
    ),
    Convention(
        "torchinfo", "the paper's, biases, 1 a parameter and image for batch norm", _torchinfo
    ),
    Convention(
        "flopcounter", "(PyTorch's FlopCounterMode) twice the paper's: a multiplication and an "
        "addition are two", _flop_counter,
    ),
)  # fmt: skip

CONVENTIONS = {convention.name: convention for convention in _ALL}
