"""Layers made of layers: the chain, and squeeze-and-excitation."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from ..backend import F
from ..errors import TinyshuffleError
from ..ops.arguments import integer
from .layers import GlobalAvgPool, Linear, ReLU, Sigmoid
from .module import Module

__all__ = ["Residual", "Sequential", "SqueezeExcitation"]


class Sequential(Module):
    """One layer after the other; backward, the other way round.

    Layers given by position are named "0", "1", …, as PyTorch does; layers given by keyword keep
    their names.

    >>> from tinyshuffle.nn import BatchNorm2d, Conv2d
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
        for layer in self:
            x = layer(x)
        return x

    def backward(self, dy: np.ndarray) -> np.ndarray:
        for layer in reversed(list(self)):
            dy = layer.backward(dy)
        return dy


class Residual(Sequential):
    """relu(x + f(x)): f is all the layers but the last, one after the other; the last is the ReLU.

    >>> from tinyshuffle.nn import BatchNorm2d, Conv2d
    >>> unit = Residual(Conv2d(8, 8, 1, bias=False), BatchNorm2d(8), ReLU())
    >>> unit(np.ones((2, 3, 3, 8), np.float32)).shape
    (2, 3, 3, 8)
    """

    def __init__(self, *layers: Module, **named: Module) -> None:
        super().__init__(*layers, **named)
        if not self or not isinstance(self[-1], ReLU):
            raise TinyshuffleError("the last layer of a Residual has to be its ReLU(): add one")

    def forward(self, x: np.ndarray) -> np.ndarray:
        *f, relu = self
        y = x
        for layer in f:
            y = layer(y)
        return relu(F.add(x, y))

    def backward(self, dy: np.ndarray) -> np.ndarray:
        *f, relu = self
        dx, dy = F.add_backward(relu.backward(dy))
        for layer in reversed(f):
            dy = layer.backward(dy)
        return F.add(dx, dy)


class SqueezeExcitation(Module):
    """Weigh each channel by what the whole image says (Hu et al. 2018, equations 2 to 4).

    s = sigmoid(W2 relu(W1 mean(x))),  y = x · s, with a bottleneck of channels / reduction.
    """

    def __init__(self, channels: int, reduction: int = 16) -> None:
        channels, reduction = integer(channels, "channels"), integer(reduction, "reduction")
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
