"""Transfer: begin with weights that something else has learned, and hold some of them still.

A layer that is held is not learned, and if it is a batch norm, it normalises with the statistics
that it came with and keeps them: those of few new images would be noise, and the layers behind it
have learned to live with the old ones.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable
from pathlib import Path

import numpy as np

from ..nn import BatchNorm2d, Conv2d, Linear, Module, Parameter
from ..optim import Optimizer
from ..weights.files import State, read_state
from ..weights.load import head_of, load_state
from .verify import best_checkpoint

__all__ = ["Groups", "begin_with", "held", "hold"]


def begin_with(net: Module, init: str | os.PathLike[str], classes: Iterable[str]) -> str:
    """Give a net the weights of a run or a file; return what was done, for its reader.

    The last layer begins anew if the weights are for another number of classes, or the run was of
    other classes.
    """
    path = Path(init)
    if not path.is_dir():
        dropped = load_state(net, read_state(path), str(path), "drop")
    else:
        saved, _ = best_checkpoint(path)
        state = State(dict(saved.best))
        dropped = []
        if list(saved.header["data"]["classes"]) != list(classes):
            dropped = [head_of(net)]
            names = [f"{dropped[0]}.{what}" for what in ("weight", "bias")]
            state.arrays.update({p.name: p.data for p in net.parameters() if p.name in names})
        load_state(net, state, str(path))
    if dropped:
        return f"begins with {path}, but for {', '.join(dropped)}, which is for other classes"
    return f"begins with {path}, the last layer too"


def held(net: Module, freeze: str) -> frozenset[str]:
    """Return the layers that are held still, by name.

    Parameters
    ----------
    net : Module
    freeze : {"stem", "stages", "all-but-head"}
        The first convolution and its batch norm; all but the last convolution, its batch norm and
        the last layer; or all but the last layer.
    """
    layers = [
        (path, module)
        for path, module in net.named_modules()
        if isinstance(module, Conv2d | Linear | BatchNorm2d)
    ]
    head = head_of(net)
    body = [(path, module) for path, module in layers if path != head]
    convolutions = [i for i, (_, module) in enumerate(body) if not isinstance(module, BatchNorm2d)]
    ends = {
        "stem": convolutions[1] if len(convolutions) > 1 else len(body),
        "stages": convolutions[-1],
        "all-but-head": len(body),
    }
    return frozenset(path for path, _ in body[: ends[freeze]])


def hold(net: Module, names: frozenset[str]) -> None:
    """Let the batch norms of these names normalise as in evaluation."""
    for path, module in net.named_modules():
        if path in names and isinstance(module, BatchNorm2d):
            module.training = False


class Groups:
    """Two optimisers as one: the last layer's, and one for the rest with a part of its rate.

    Parameters
    ----------
    net : Module
    make : function of a list of parameters
        Returns the optimiser for them.
    part : float
        Of the last layer's learning rate.
    """

    def __init__(
        self, net: Module, make: Callable[[list[Parameter]], Optimizer], part: float
    ) -> None:
        head = head_of(net)
        own = [p for p in net.parameters() if p.name.rpartition(".")[0] == head]
        rest = [p for p in net.parameters() if p.name.rpartition(".")[0] != head]
        self.part, self.both = part, (make(own), make(rest))

    @property
    def params(self) -> list[Parameter]:
        return [p for optim in self.both for p in optim.params]

    @property
    def lr(self) -> float:
        return self.both[0].lr

    @lr.setter
    def lr(self, value: float) -> None:
        self.both[0].lr, self.both[1].lr = value, self.part * value

    def step(self) -> None:
        for optim in self.both:
            optim.step()

    def zero_grad(self) -> None:
        for optim in self.both:
            optim.zero_grad()

    def state_dict(self) -> dict[str, np.ndarray]:
        """Return both states; what is called alike, a number a parameter, is laid end to end."""
        one, two = (optim.state_dict() for optim in self.both)
        alike = {name: np.concatenate([one[name], two[name]]) for name in one if name in two}
        return one | two | alike

    def load_state_dict(self, state: dict[str, np.ndarray]) -> None:
        one, two = (optim.state_dict() for optim in self.both)
        first, second = dict(state), dict(state)
        for name in state:
            if name in one and name in two:
                first[name], second[name] = np.split(state[name], [len(one[name])])
            elif name in two:
                del first[name]
            else:
                del second[name]
        self.both[0].load_state_dict(first)
        self.both[1].load_state_dict(second)
