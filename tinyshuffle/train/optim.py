"""Optimisers: what is done with a gradient.

Both follow PyTorch's formulas to the letter, so that a run can be compared step by step. They
change ``p.data`` in place and skip parameters whose ``grad`` is None. Weight decay is the L2 term
of the loss, added to the gradient; by default only parameters with more than one axis have it:
batch norm's scale and shift and the biases are one-dimensional and are left alone.
"""

from __future__ import annotations

from collections.abc import Iterable
from math import inf
from typing import TYPE_CHECKING

import numpy as np

from ..backend import F
from ..errors import TinyshuffleError
from ..ops.arguments import number
from ..values import flags

if TYPE_CHECKING:
    from ..nn import Parameter

__all__ = ["SGD", "Adam", "Optimizer"]


class Optimizer:
    """What SGD and Adam share: parameters, learning rate, weight decay, state.

    ``lr`` is an attribute; a schedule sets it before each step.
    """

    slots: tuple[str, ...] = ()  # one array shaped like the parameter is kept for each of these

    @flags
    def __init__(
        self, params: Iterable[Parameter], lr: float, weight_decay: float, decay_all: bool
    ) -> None:
        self.params = list(params)
        if not self.params:
            raise TinyshuffleError("the optimiser was given no parameters: pass net.parameters()")
        if len({id(p) for p in self.params}) < len(self.params):
            raise TinyshuffleError("the optimiser was given the same parameter twice: pass it once")
        self.lr = number(lr, "lr", _not_negative, "a finite number, zero or more")
        self.weight_decay = number(
            weight_decay, "weight_decay", _not_negative, "a finite number, zero or more"
        )
        self.decay_all = decay_all
        self._state = {slot: [np.zeros_like(p.data) for p in self.params] for slot in self.slots}
        self._memory = np.empty((2, 0))

    def step(self) -> None:
        """Change every parameter that has a gradient, in place."""
        for i, p in enumerate(self.params):
            if p.grad is not None:
                for arrays in self._state.values():
                    if arrays[i].dtype != p.data.dtype:  # after net.astype(...)
                        arrays[i] = arrays[i].astype(p.data.dtype)
                self._update(i, p)

    def _update(self, i: int, p: Parameter) -> None:
        raise NotImplementedError  # each optimiser has an equation of its own

    def zero_grad(self) -> None:
        """Forget the gradients."""
        for p in self.params:
            p.grad = None

    def _decay(self, p: Parameter) -> float:
        return self.weight_decay if self.decay_all or p.data.ndim > 1 else 0.0

    def _scratch(self, p: Parameter) -> np.ndarray:
        """Two uninitialised arrays like p, in one memory for all parameters: it stays cached."""
        if self._memory.dtype != p.data.dtype or self._memory.shape[1] < p.data.size:
            largest = max(q.data.size for q in self.params)
            self._memory = np.empty((2, largest), p.data.dtype)
        return self._memory[:, : p.data.size].reshape(2, *p.data.shape)

    def state_dict(self) -> dict[str, np.ndarray]:
        """Copies of everything a resumed run needs, ``{"slot/parameter name": array}``."""
        return {name: array.copy() for name, array in self._named_state().items()}

    def _named_state(self) -> dict[str, np.ndarray]:
        names = [p.name for p in self.params]
        if len(set(names)) < len(names):
            twice = sorted({name for name in names if names.count(name) > 1})
            raise TinyshuffleError(
                f"the state cannot be named, as several parameters are called {', '.join(twice)}: "
                "take the parameters from one net"
            )
        return {
            f"{slot}/{name}": array
            for slot, arrays in self._state.items()
            for name, array in zip(names, arrays, strict=True)
        }

    def load_state_dict(self, state: dict[str, np.ndarray]) -> None:
        """Take back what :meth:`state_dict` gave.

        Raises
        ------
        TinyshuffleError
            If names are missing, unexpected or misshapen: all of them are listed and nothing has
            been changed.
        """
        mine = self._named_state()
        faults = []
        if missing := [name for name in mine if name not in state]:
            faults.append(f"missing: {', '.join(missing)}")
        if unexpected := [name for name in state if name not in mine]:
            faults.append(f"unexpected: {', '.join(unexpected)}")
        misshapen = [
            f"{name} {np.shape(state[name])} instead of {array.shape}"
            for name, array in mine.items()
            if name in state and np.shape(state[name]) != array.shape
        ]
        if misshapen:
            faults.append(f"misshapen: {', '.join(misshapen)}")
        if faults:
            raise TinyshuffleError(
                f"this state does not fit this {type(self).__name__} ({'; '.join(faults)}): load "
                "one that was saved with the same optimiser, options and net"
            )
        for name, array in mine.items():
            array[...] = state[name]


class SGD(Optimizer):
    r"""Stochastic gradient descent with momentum.

    With the gradient :math:`g`, weight decay :math:`\lambda` and momentum :math:`\mu`::

        g ← g + λ p
        b ← μ b + g                      (b = 0 before the first step)
        p ← p - lr b                     (momentum; Polyak 1964)
        p ← p - lr (g + μ b)             (Nesterov, in the form of Sutskever et al. 2013)

    As in PyTorch the learning rate multiplies the buffer instead of going into it, so a schedule
    acts on old gradients too.

    Parameters
    ----------
    params : iterable of Parameter
    lr : float
        Learning rate.
    momentum : float, 0 ≤ μ < 1
    nesterov : bool
        Needs momentum.
    weight_decay : float
        λ.
    decay_all : bool
        Decay one-dimensional parameters (biases, batch norm) too.

    Examples
    --------
    >>> import numpy as np
    >>> from types import SimpleNamespace
    >>> p = SimpleNamespace(name="w", data=np.array([1.0, 2.0]), grad=np.array([0.5, 1.0]))
    >>> opt = SGD([p], lr=0.1, momentum=0.9)
    >>> opt.step(); opt.step()
    >>> p.data                              # 1 - 0.1 * 0.5 - 0.1 * (0.9 * 0.5 + 0.5)
    array([0.855, 1.71 ])
    """

    @flags
    def __init__(
        self,
        params: Iterable[Parameter],
        lr: float,
        momentum: float = 0.0,
        nesterov: bool = False,
        weight_decay: float = 0.0,
        decay_all: bool = False,
    ) -> None:
        momentum = number(momentum, "momentum", _decays, "a number in [0, 1)")
        if nesterov and momentum == 0:
            raise TinyshuffleError("nesterov=True needs a momentum above zero, usually 0.9")
        self.slots = ("momentum",) if momentum else ()
        super().__init__(params, lr, weight_decay, decay_all)
        self.momentum = momentum
        self.nesterov = nesterov

    def _update(self, i: int, p: Parameter) -> None:
        g = p.grad
        assert g is not None
        velocity = self._state["momentum"][i] if self.momentum else None
        F.sgd_step(
            p.data, g, velocity, self.lr, self.momentum, self.nesterov, self._decay(p)
        )


class Adam(Optimizer):
    r"""Adam (Kingma & Ba, 2015, algorithm 1), with weight decay as an L2 term in the gradient.

    At a parameter's t-th step::

        g ← g + λ p
        m ← β1 m + (1 - β1) g
        v ← β2 v + (1 - β2) g²
        p ← p - lr / (1 - β1^t) · m / (sqrt(v) / sqrt(1 - β2^t) + ε)

    Parameters
    ----------
    params : iterable of Parameter
    lr : float
        Learning rate.
    betas : (float, float)
        β1 and β2, decay rates of the two running means.
    eps : float
        ε.
    weight_decay : float
        λ.
    decay_all : bool
        Decay one-dimensional parameters (biases, batch norm) too.
    """

    slots = ("m", "v")

    @flags
    def __init__(
        self,
        params: Iterable[Parameter],
        lr: float,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: float = 0.0,
        decay_all: bool = False,
    ) -> None:
        if not isinstance(betas, (tuple, list)) or len(betas) != 2:
            raise TinyshuffleError(f"betas={betas!r} is not possible; use two numbers in [0, 1)")
        beta1, beta2 = (number(b, "one of betas", _decays, "a number in [0, 1)") for b in betas)
        super().__init__(params, lr, weight_decay, decay_all)
        self.betas = (beta1, beta2)
        self.eps = number(eps, "eps", _not_negative, "a finite number, zero or more")
        self._steps = np.zeros(len(self.params), np.int64)  # a parameter's own count: some may rest

    def _named_state(self) -> dict[str, np.ndarray]:
        return {**super()._named_state(), "steps": self._steps}

    def _update(self, i: int, p: Parameter) -> None:
        g = p.grad
        assert g is not None
        beta1, beta2 = self.betas
        m, v = self._state["m"][i], self._state["v"][i]
        t, u = self._scratch(p)
        self._steps[i] += 1
        count = int(self._steps[i])
        if decay := self._decay(p):
            np.multiply(p.data, decay, out=t)
            t += g
            g = t
        m *= beta1
        m += np.multiply(g, 1 - beta1, out=u)
        v *= beta2
        np.multiply(g, g, out=u)
        v += np.multiply(u, 1 - beta2, out=u)
        np.sqrt(v, out=u)
        u /= (1 - beta2**count) ** 0.5
        u += self.eps
        np.divide(m, u, out=u)
        p.data -= np.multiply(u, self.lr / (1 - beta1**count), out=u)


def _not_negative(value: float) -> bool:
    return 0 <= value < inf


def _decays(value: float) -> bool:
    return 0 <= value < 1
