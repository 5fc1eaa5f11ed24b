"""Several optimisers as one: parameters that learn at another rate, or in another way."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from ..cost.profile import profile
from ..nn import Conv2d, Module, Parameter
from ..optim import SGD, Adam, Muon, Optimizer
from ..weights.load import heads_of
from .config import MUON_LR, Config

__all__ = ["Groups", "muon_note", "optimizer", "pointwise"]


def optimizer(config: Config, net: Module) -> Optimizer | Groups:
    """Return what a configuration trains a net with.

    A parameter's rate is the configuration's, times ``body_lr`` if it is not the last layer's, or
    an auxiliary classifier's last, and times ``bias_lr`` if it is a bias or a batch norm's shift.
    """
    params = net.parameters()
    if config.body_lr is not None:  # the last layer first
        heads = heads_of(net)
        params.sort(key=lambda p: p.name.rpartition(".")[0] not in heads)
    groups = pointwise(net) if config.optimizer == "muon" else {}
    sets: dict[tuple[bool, float], list[Parameter]] = {}
    for p in params:
        layer, _, what = p.name.rpartition(".")
        part = 1.0
        if config.body_lr is not None and layer not in heads:
            part *= config.body_lr
        if config.bias_lr is not None and what == "bias":
            part *= config.bias_lr
        if id(p) in groups:
            part *= (config.muon_lr or MUON_LR) / config.lr
        sets.setdefault((id(p) in groups, part), []).append(p)

    def make(muon: bool, chosen: list[Parameter]) -> Optimizer:
        if muon:
            counts = [groups[id(p)] for p in chosen]
            return Muon(chosen, config.lr, config.momentum, config.weight_decay, counts)
        if config.optimizer == "adam":
            return Adam(chosen, config.lr, weight_decay=config.weight_decay)
        return SGD(
            chosen, config.lr, config.momentum, config.momentum > 0, config.weight_decay
        )

    made = [(make(muon, chosen), part) for (muon, part), chosen in sets.items()]
    return made[0][0] if [part for _, part in made] == [1.0] else Groups(made)


def pointwise(net: Module) -> dict[int, int]:
    """Return the groups of each pointwise convolution, by its weight's id."""
    layers = (m for m in net.modules() if isinstance(m, Conv2d) and m.kernel_size == (1, 1))
    return {id(m.weight): m.groups for m in layers if m.kind != "depthwise"}


def muon_note(optim: Optimizer | Groups, net: Module, batch_size: int, size: int) -> str:
    """Say what muon does in a step beside the net itself, at a size in pixels; "" without muon."""
    muons = [one for one, _ in getattr(optim, "parts", []) if isinstance(one, Muon)]
    if not muons:
        return ""
    own = sum(one.multiply_adds for one in muons)
    passed = 3 * batch_size * profile(net, (1, size, size, 3)).total.multiply_adds
    return (
        f"muon moves {sum(len(one.params) for one in muons)} pointwise weights with "
        f"{own / 1e6:,.0f} million multiply-adds a step, the net has some "
        f"{passed / 1e6:,.0f} million at {size} pixels"
    )


class Groups:
    """Several optimisers as one.

    Parameters
    ----------
    parts : sequence of (Optimizer, float)
        Each with its part of the learning rate. No parameter is in two of them.
    """

    def __init__(self, parts: Sequence[tuple[Optimizer, float]]) -> None:
        self.parts = list(parts)
        self.lr = self.parts[0][0].lr

    @property
    def params(self) -> list[Parameter]:
        return [p for optim, _ in self.parts for p in optim.params]

    @property
    def lr(self) -> float:
        return self._lr

    @lr.setter
    def lr(self, value: float) -> None:
        self._lr = value
        for optim, part in self.parts:
            optim.lr = part * value

    def step(self) -> None:
        self._each(lambda optim: optim.step())

    def zero_grad(self) -> None:
        self._each(lambda optim: optim.zero_grad())

    def _each(self, work: Callable[[Optimizer], None]) -> None:
        for optim, _ in self.parts:
            work(optim)

    def state_dict(self) -> dict[str, np.ndarray]:
        """Return all states; what is called alike, a number a parameter, is laid end to end."""
        found: dict[str, list[np.ndarray]] = {}
        for optim, _ in self.parts:
            for name, array in optim.state_dict().items():
                found.setdefault(name, []).append(array)
        return {
            name: arrays[0] if len(arrays) == 1 else np.concatenate(arrays)
            for name, arrays in found.items()
        }

    def load_state_dict(self, state: dict[str, np.ndarray]) -> None:
        """Take back what :meth:`state_dict` gave."""
        mine = [optim.state_dict() for optim, _ in self.parts]
        rest = dict(state)
        for i, (optim, _) in enumerate(self.parts):
            own = {}
            for name, array in mine[i].items():
                if name not in rest:
                    continue
                shared = any(name in other for other in mine[i + 1 :])
                own[name] = rest[name][: len(array)] if shared else rest.pop(name)
                if shared:
                    rest[name] = rest[name][len(array) :]
            if i == len(self.parts) - 1:
                own |= rest  # what is nobody's: the last one names it
            optim.load_state_dict(own)
