"""Layers made of layers: the chain, and squeeze-and-excitation."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from ..backend import F
from ..errors import TinyshuffleError
from ..ops.arguments import integer
from ..ops.norm_conv import Norm
from . import chain
from .layers import BatchNorm2d, GlobalAvgPool, Linear, ReLU, Sigmoid
from .module import Module, inferring, is_as_written

__all__ = ["Residual", "Sequential", "SqueezeExcitation", "backward_open", "forward_open"]


class Sequential(Module):
    """One layer after the other; backward, the other way round.

    Layers given by position are named "0", "1", …, as PyTorch does; layers given by keyword keep
    their names. Batch norms are joined to the convolutions around them: see ``nn.chain``.

    >>> from tinyshuffle.nn import Conv2d
    >>> net = Sequential(conv=Conv2d(3, 8, 3, padding=1, bias=False), bn=BatchNorm2d(8))
    >>> [p.name for p in net.parameters()]
    ['conv.weight', 'bn.weight', 'bn.bias']
    """

    joined = True  # False takes one layer after the other

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
        steps: list[chain.Step] = list(self)
        if self.training and self._joined():
            x, steps = chain.forward(self, x)
        elif inferring() and self._joined():
            x = chain.evaluate(self, x)
        else:
            for layer in self:
                x = layer(x)
        self.save(steps)
        return x

    def backward(self, dy: np.ndarray) -> np.ndarray:
        return self._backward(dy)

    def _backward(
        self,
        dy: np.ndarray,
        sums: np.ndarray | None = None,
        plus: np.ndarray | None = None,
        there: np.ndarray | None = None,
    ) -> np.ndarray:
        """Return dx, with what :func:`backward_open` says of the other arguments."""
        (steps,) = self.saved()
        return chain.backward(steps, dy, sums, plus, there)

    def _joined(self) -> bool:
        """Whether layers may be joined: unless some batch norm is in another mode than the rest."""
        norms = (layer for layer in self if isinstance(layer, BatchNorm2d))
        return self.joined and all(norm.training == self.training for norm in norms)


class Residual(Sequential):
    """relu(x + f(x)): f is all the layers but the last, one after the other; the last is the ReLU.

    >>> from tinyshuffle.nn import Conv2d
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
        joined = self._joined()
        if joined and self.training and chain.is_plain(relu, ReLU):
            y, steps = chain.forward(f, x, shortcut=x)
        elif joined and inferring():
            y, steps = relu(F.add(x, chain.evaluate(f, x))), []
        else:
            y, steps = x, list(f)
            for layer in f:
                y = layer(y)
            y = relu(F.add(x, y))
            steps.append(relu)
        self.save(steps)
        return y

    def _backward(
        self,
        dy: np.ndarray,
        sums: np.ndarray | None = None,
        plus: np.ndarray | None = None,
        there: np.ndarray | None = None,
    ) -> np.ndarray:
        (steps,) = self.saved()
        if isinstance(steps[-1], Module):  # its ReLU, which was called
            dy = steps.pop().backward(dy)
            plus = dy if plus is None else F.add(dy, plus)
        return chain.backward(steps, dy, plus=plus, there=there)


_PASSES = {kind: (kind.forward, kind.backward) for kind in (Sequential, Residual)}


def forward_open(layer: Module, x: np.ndarray) -> tuple[np.ndarray, Norm | None]:
    """Return a layer's output without the batch norm and ReLU at its end, and these.

    Whoever comes next can apply them in passing, and gives :func:`backward_open` their ``sums``.
    None if they are applied already: only a ``Sequential`` that nobody changed leaves them.
    """
    if isinstance(layer, Sequential) and layer.training and layer._joined():
        if is_as_written(layer, *_PASSES[Sequential]):
            x, steps = chain.forward(layer, x, leave=True)
            layer.save(steps)
            return x, chain.left(steps)
    return layer(x), None


def backward_open(
    layer: Module,
    dy: np.ndarray,
    sums: np.ndarray | None = None,
    plus: np.ndarray | None = None,
    there: np.ndarray | None = None,
) -> np.ndarray:
    """Add to the gradients of a layer's parameters and return dx.

    ``sums`` are dβ and dγ of the batch norm that :func:`forward_open` left, ``plus`` is another
    gradient of x to be added, and ``there`` is where to write dx.
    """
    for kind, passes in _PASSES.items():
        if isinstance(layer, kind) and is_as_written(layer, *passes):
            return layer._backward(dy, sums, plus, there)
    dx = layer.backward(dy)
    if plus is not None:
        dx = F.add(dx, plus)
    return dx if there is None else F.overwrite(there, dx)


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
