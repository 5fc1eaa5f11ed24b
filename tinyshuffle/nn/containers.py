"""Layers made of layers: the chain, and squeeze-and-excitation."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from ..backend import F
from .layers import BatchNorm2d, GlobalAvgPool, Linear, ReLU, Sigmoid
from .module import Module

__all__ = ["Sequential", "SqueezeExcitation"]


class Sequential(Module):
    """One layer after the other; backward, the other way round.

    Layers given by position are named "0", "1", …, as PyTorch does; layers given by keyword keep
    their names. A ReLU behind a BatchNorm2d is done by the batch norm, in the same pass.

    >>> from tinyshuffle.nn import Conv2d
    >>> net = Sequential(conv=Conv2d(3, 8, 3, padding=1, bias=False), bn=BatchNorm2d(8))
    >>> [p.name for p in net.parameters()]
    ['conv.weight', 'bn.weight', 'bn.bias']
    """

    def __init__(self, *layers: Module, **named: Module) -> None:
        self._layers = {str(i): layer for i, layer in enumerate(layers)} | named

    def children(self) -> Iterator[tuple[str, Module]]:
        return iter(self._layers.items())

    def __iter__(self) -> Iterator[Module]:
        return iter(self._layers.values())

    def __len__(self) -> int:
        return len(self._layers)

    def __getitem__(self, index: int) -> Module:
        return list(self._layers.values())[index]

    def __getattr__(self, name: str) -> Module:
        try:
            return self.__dict__["_layers"][name]
        except KeyError:
            raise AttributeError(f"Sequential has no layer {name!r}") from None

    def forward(self, x: np.ndarray) -> np.ndarray:
        layers = [None, *self, None]
        for before, layer, after in zip(layers, self, layers[2:], strict=False):
            if type(layer) is BatchNorm2d:
                x = layer.forward(x, relu=_fused(layer, after))
            elif not _fused(before, layer):
                x = layer(x)
        return x

    def backward(self, dy: np.ndarray) -> np.ndarray:
        layers = [None, *self]
        for before, layer in reversed(list(zip(layers, self, strict=False))):
            if not _fused(before, layer):
                dy = layer.backward(dy)
        return dy


def _fused(layer: Module | None, after: Module | None) -> bool:
    """Whether ``after`` is a ReLU that the batch norm ``layer`` has done already."""
    return type(layer) is BatchNorm2d and type(after) is ReLU


class SqueezeExcitation(Module):
    """Weigh each channel by what the whole image says (Hu et al. 2018, equations 2 to 4).

    s = sigmoid(W2 relu(W1 mean(x))),  y = x · s, with a bottleneck of channels / reduction.
    """

    def __init__(self, channels: int, reduction: int = 16) -> None:
        squeezed = max(1, channels // reduction)
        self.squeeze = GlobalAvgPool()
        self.fc1 = Linear(channels, squeezed)
        self.relu = ReLU()
        self.fc2 = Linear(squeezed, channels)
        self.gate = Sigmoid()

    def forward(self, x: np.ndarray) -> np.ndarray:
        s = self.gate(self.fc2(self.relu(self.fc1(self.squeeze(x)))))  # (N, C)
        self.save(x, s)
        return F.channel_scale(x, s)

    def backward(self, dy: np.ndarray) -> np.ndarray:
        x, s = self.saved()
        dx, ds = F.channel_scale_backward(dy, x, s)
        ds = self.fc1.backward(self.relu.backward(self.fc2.backward(self.gate.backward(ds))))
        return F.add(dx, self.squeeze.backward(ds))
