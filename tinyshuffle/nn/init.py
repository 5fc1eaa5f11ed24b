"""How a net's weights are drawn, where its authors said so: torchvision's ways, by its names.

Layers alone draw uniformly within ± 1/√fan_in. A net that begins otherwise says so at the end of
its ``__init__``: these functions change how its layers draw; nothing is drawn here.

A convolution's fan_in is Kh·Kw·C/G, the numbers that make an output; its fan_out is Kh·Kw·O, as
PyTorch counts it, for grouped and depthwise convolutions too.
"""

from __future__ import annotations

from math import prod, sqrt

from . import draw
from .layers import Conv2d, Linear
from .module import Draw, Module, Parameter

__all__ = ["kaiming_normal", "kaiming_uniform", "normal", "zeros"]


def kaiming_normal(net: Module, mode: str = "fan_out") -> None:
    """Draw every convolution in ``net`` from N(0, 2 / fan), and its bias as zeros.

    He et al. 2015, "Delving Deep into Rectifiers", equation 10 for "fan_in", 14 for "fan_out".
    """
    for conv in _all(net, Conv2d):
        std = sqrt(2 / _fan(conv, mode))
        _redraw(conv.weight, draw.normal(conv.weight.shape, std))
        zeros(conv.bias)


def kaiming_uniform(net: Module, mode: str = "fan_in") -> None:
    """Draw every convolution in ``net`` uniformly within ± √(6 / fan), and its bias as zeros."""
    for conv in _all(net, Conv2d):
        bound = sqrt(6 / _fan(conv, mode))
        _redraw(conv.weight, draw.uniform(conv.weight.shape, bound))
        zeros(conv.bias)


def normal(
    net: Module, std: float, kind: type[Module] = Linear, bias: float | None = 0.0
) -> None:
    """Draw the weights of every layer of a kind in ``net`` from N(0, std²).

    ``net`` may be the layer itself. Biases become ``bias``; None leaves them as they are.
    """
    for layer in _all(net, kind):
        _redraw(layer.weight, draw.normal(layer.weight.shape, std))
        if bias is not None:
            _fill(layer.bias, bias)


def zeros(p: Parameter | None) -> None:
    """Begin a parameter (None: there is none) with zeros."""
    _fill(p, 0.0)


def _all(net: Module, kind: type[Module]) -> list:
    return [module for module in net.modules() if isinstance(module, kind)]


def _fan(conv: Conv2d, mode: str) -> int:
    taps = prod(conv.kernel_size)
    return taps * (conv.out_channels if mode == "fan_out" else conv.in_channels // conv.groups)


def _redraw(p: Parameter, how: Draw) -> None:
    p._draw = how


def _fill(p: Parameter | None, value: float) -> None:
    if p is not None:
        _redraw(p, draw.constant(p.shape, value))
