"""What counts as a multiply-add? Eight answers, all in use.

The same ShuffleNet V1 1x (g = 3) has 137,460,672 "MACs" or 274,921,344 "FLOPs" or any of six
numbers between, depending on who counts. Each convention here reproduces one counter, to the
digit, for nets written as their authors wrote them; of those in torchvision, as it writes them.
docs/counters.md has every net beside every counter.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from math import prod

from ..models import ShuffleNetV2
from ..nn import Module
from ..ops.cost import size
from .counting import Count

__all__ = ["CONVENTIONS", "Convention", "Style", "style_of"]


@dataclass(frozen=True)
class Style:
    """How a net is written in PyTorch. Counters that watch modules do not see function calls.

    Attributes
    ----------
    pool : {"AvgPool2d", "AdaptiveAvgPool2d", "adaptive_avg_pool2d", "mean"}
        The global average: one of two modules, or a function.
    relu : {"module", "function", ""} or str
        How all of its ReLUs are written; empty: as modules in chains, as functions in units. A
        layer's name: that one is a function.
    """

    pool: str = "AvgPool2d"
    relu: str = ""


_STYLES = {
    "AlexNet": Style("AdaptiveAvgPool2d"),
    "VGG": Style("AdaptiveAvgPool2d"),
    "GoogLeNet": Style("AdaptiveAvgPool2d", "function"),
    "ResNet": Style("AdaptiveAvgPool2d"),
    "SqueezeNet": Style("AdaptiveAvgPool2d", "module"),
    "DenseNet": Style("adaptive_avg_pool2d", "features.relu5"),
    "MobileNetV2": Style("adaptive_avg_pool2d"),
}


def style_of(net: Module) -> Style:
    """Return how torchvision writes a net; of others, and of the authors' V2, how they do."""
    if isinstance(net, ShuffleNetV2) and net.fc.bias is not None:  # the authors' has none
        return Style("mean")
    return _STYLES.get(type(net).__name__, Style())


@dataclass(frozen=True)
class Convention:
    """A way of counting.

    Attributes
    ----------
    name : str
    words : str
        What it counts, in one line.
    multiply_adds : function
        Of a count, its kind, and how the net is written.
    """

    name: str
    words: str
    multiply_adds: Callable[[Count, str, Style], int]


_GLOBAL = ("global_avg_pool", "adaptive_avg_pool2d")


def _paper(count: Count, kind: str, style: Style) -> int:
    return count.cost.multiply_adds


def _fvcore(count: Count, kind: str, style: Style) -> int:
    if kind == "batch norm":
        return 2 * size(count.cost.output)
    if count.operation in _GLOBAL and "daptive" in style.pool:
        return size(count.input)
    return count.cost.multiply_adds


def _thop(count: Count, kind: str, style: Style) -> int:
    outputs = size(count.cost.output)
    if kind == "batch norm":
        return 4 * outputs
    if count.operation == "avg_pool2d":
        return outputs
    if count.operation in _GLOBAL:
        if style.pool == "AvgPool2d":
            return outputs
        window = prod(count.input[1:3]) // (outputs // (count.input[0] * count.input[3]))
        return outputs * (window + 1) if style.pool == "AdaptiveAvgPool2d" else 0
    return count.cost.multiply_adds


def _ptflops(count: Count, kind: str, style: Style) -> int:
    if kind == "batch norm":
        return 2 * size(count.cost.output)
    if count.operation in _GLOBAL and style.pool in ("adaptive_avg_pool2d", "mean"):
        return size(count.input) if style.pool != "mean" else 0
    if kind == "pooling" or count.operation == "pad_end":
        return 2 * _unpadded(count)
    if count.operation == "relu6":
        return size(count.input)
    if count.operation == "relu":
        once = style.relu in ("function", count.layer) or (not style.relu and count.functional)
        return (1 if once else 2) * size(count.input)
    return _aten(count, kind, style)


def _aten(count: Count, kind: str, style: Style) -> int:
    return count.cost.multiply_adds + _bias(count) * size(count.cost.output)


def _torchinfo(count: Count, kind: str, style: Style) -> int:
    if kind == "batch norm":
        return count.input[0] * count.cost.params
    return _aten(count, kind, style)


def _flop_counter(count: Count, kind: str, style: Style) -> int:
    return 2 * count.cost.multiply_adds


def _deepspeed(count: Count, kind: str, style: Style) -> int:
    if kind == "batch norm":
        return 2 * size(count.cost.output)
    if count.operation == "relu":
        return size(count.input)
    if kind == "pooling" or count.operation == "pad_end":
        mean = count.operation in _GLOBAL and style.pool == "mean"
        return 0 if mean else _unpadded(count)
    bias = _bias(count) and kind != "linear"
    return 2 * count.cost.multiply_adds + bias * size(count.cost.output)


def _unpadded(count: Count) -> int:
    """Inputs of a pool. One in ceil mode has a padding in front here, which is no input there."""
    if count.operation == "pad_end":
        return size(count.input) - size(count.cost.output)
    return size(count.input)


def _bias(count: Count) -> bool:
    return getattr(count.module, "bias", None) is not None and count.weight is not None


_ALL = (
    Convention(
        "paper", "convolution and linear multiply-adds, nothing else, no bias; deepspeed's MACs",
        _paper,
    ),
    Convention(
        "fvcore", "the paper's, 2 an element for batch norm, 1 an input of adaptive average pools",
        _fvcore,
    ),
    Convention(
        "thop", "the paper's, 4 an element for batch norm, 1 an output of average pools, of "
        "adaptive ones also 1 an input; functions, such as a mean, are not seen", _thop,
    ),
    Convention(
        "ptflops", "(its pytorch backend) the paper's, biases, 2 an element for batch norm, 2 an "
        "input of pools and of ReLU modules, for which it counts module and function both, 1 of "
        "those called as functions and of ReLU6; a mean is not seen", _ptflops,
    ),
    Convention("ptflops-aten", "(its default backend) the paper's, and biases", _aten),
    Convention(
        "torchinfo", "the paper's, biases, 1 a parameter and image for batch norm", _torchinfo
    ),
    Convention(
        "flopcounter", "(PyTorch's FlopCounterMode) twice the paper's: a multiplication and an "
        "addition are two", _flop_counter,
    ),
    Convention(
        "deepspeed", "(its FLOPs) twice the paper's, biases of convolutions, 2 an element for "
        "batch norm, 1 an input of ReLUs and pools; ReLU6 and a mean are not seen", _deepspeed,
    ),
)  # fmt: skip

CONVENTIONS = {convention.name: convention for convention in _ALL}
