"""Optimisers: what is done with a gradient.

SGD and Adam follow PyTorch's formulas to the letter, so that a run can be compared step by step.
All change ``p.data`` in place and skip parameters whose ``grad`` is None. Weight decay is the L2
term of the loss, added to the gradient; by default only parameters with more than one axis have it:
batch norm's scale and shift and the biases are one-dimensional and are left alone.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from math import inf
from typing import TYPE_CHECKING, Any

import numpy as np

from . import blas
from .backend import F
from .errors import TinyshuffleError
from .nn import Parameter
from .ops.arguments import integer, number
from .values import flags, read

if TYPE_CHECKING:
    from .kernels.sgd import Steps

__all__ = ["SGD", "Adam", "Muon", "Optimizer", "newton_schulz"]


class _Setting:
    """An attribute that is checked whenever it is set: by the constructor, and by whoever later."""

    def __init__(self, check: Callable[[Any, str], Any]) -> None:
        self.check = check

    def __set_name__(self, owner: type, name: str) -> None:
        self.name = name

    def __get__(self, instance: Any, owner: type) -> Any:
        return self if instance is None else vars(instance)[self.name]

    def __set__(self, instance: Any, value: Any) -> None:
        vars(instance)[self.name] = self.check(value, self.name)


def _not_negative(value: Any, name: str) -> float:
    return number(value, name, lambda v: 0 <= v < inf, "a finite number, zero or more")


def _decays(value: Any, name: str) -> float:
    return number(value, name, lambda v: 0 <= v < 1, "a number in [0, 1)")


def _two_decays(value: Any, name: str) -> tuple[float, float]:
    if not isinstance(value, (tuple, list)) or len(value) != 2:
        raise TinyshuffleError(f"{name}={value!r} is not possible; use two numbers in [0, 1)")
    beta1, beta2 = (_decays(b, f"one of {name}") for b in value)
    return beta1, beta2


def _truth(value: Any, name: str) -> bool:
    return read(name, value, bool, text=False)


class Optimizer:
    """What all optimisers share: parameters, learning rate, weight decay, state.

    ``lr`` is an attribute; a schedule sets it before each step. So are the other settings.
    """

    slots: tuple[str, ...] = ()  # one array shaped like the parameter is kept for each of these
    lr = _Setting(_not_negative)
    weight_decay = _Setting(_not_negative)
    decay_all = _Setting(_truth)

    @flags
    def __init__(
        self, params: Iterable[Parameter], lr: float, weight_decay: float, decay_all: bool
    ) -> None:
        self.params = _parameters(params)
        if len({id(p) for p in self.params}) < len(self.params):
            raise TinyshuffleError("the optimiser was given the same parameter twice: pass it once")
        self.lr, self.weight_decay, self.decay_all = lr, weight_decay, decay_all
        self._state: dict[str, list[np.ndarray]] = {}
        self._keep(*self.slots)
        self._memory = np.empty((2, 0))

    def _keep(self, *slots: str) -> None:
        """Begin with zeros for each of these slots."""
        self.slots = slots
        for slot in slots:
            self._state[slot] = [np.zeros_like(p.data) for p in self.params]

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
            if type(p) is Parameter:
                p._grad = None
            else:
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


def _parameters(given: Any) -> list[Parameter]:
    """Return the parameters in a list, or say what was given instead."""
    try:
        params = list(given)
    except TypeError:
        params = [None]
    if not params:
        raise TinyshuffleError("the optimiser was given no parameters: pass net.parameters()")
    for p in params:
        if not isinstance(p, Parameter) and not (
            hasattr(p, "grad") and isinstance(getattr(p, "data", None), np.ndarray)
        ):
            what = f"a {type(given).__name__}" + ("" if p is None else f" of {type(p).__name__}")
            raise TinyshuffleError(
                f"the optimiser was given {what} in place of parameters: pass net.parameters(). "
                "It has one learning rate for all; for several, make several optimisers"
            )
    return params


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
        super().__init__(params, lr, weight_decay, decay_all)
        self._steps: Steps | None = None
        self.momentum = momentum
        self.nesterov = nesterov

    @property
    def momentum(self) -> float:
        return self._momentum

    @momentum.setter
    def momentum(self, value: float) -> None:
        self._momentum = _decays(value, "momentum")
        if value and not self.slots:
            self._keep("momentum")

    @property
    def nesterov(self) -> bool:
        return self._nesterov

    @nesterov.setter
    def nesterov(self, value: bool) -> None:
        value = _truth(value, "nesterov")
        if value and not self.momentum:
            raise TinyshuffleError("nesterov=True needs a momentum above zero, usually 0.9")
        self._nesterov = value

    def step(self) -> None:
        """Change every parameter that has a gradient, in place."""
        if F.name != "numba" or {*map(type, self.params)} != {Parameter}:
            return super().step()
        from .kernels.sgd import Steps

        grads: list[Any] = [p._grad for p in self.params]
        moving = self.params
        velocities = self._state["momentum"] if self.momentum else []
        if any([g is None for g in grads]):
            velocities = [v for v, g in zip(velocities, grads, strict=False) if g is not None]
            moving = [p for p, g in zip(self.params, grads, strict=True) if g is not None]
            grads = [g for g in grads if g is not None]
        arrays: list[Any] = [p._data for p in moving]
        if any([a is None for a in arrays]):
            arrays = [p.data for p in moving]  # drawn now
        arrays += velocities
        if self._steps is None or not self._steps.are(arrays):
            self._steps = Steps.of(arrays[: len(moving)], velocities or None)
        if self._steps is None or not self._steps.fit(grads):
            return super().step()  # one by one: converts what net.astype(...) has left behind
        weight_decay, decay_all = self.weight_decay, self.decay_all
        decays = [weight_decay if decay_all or len(p.shape) > 1 else 0.0 for p in moving]
        self._steps.take(grads, decays, self.lr, self.momentum, self.nesterov)

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
    betas = _Setting(_two_decays)
    eps = _Setting(_not_negative)

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
        super().__init__(params, lr, weight_decay, decay_all)
        self.betas, self.eps = betas, eps
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


class Muon(Optimizer):
    r"""Momentum whose steps are made orthogonal (Jordan et al. 2024), for pointwise convolutions.

    A pointwise convolution is a matrix :math:`(C, O)` a group. Its gradient is mostly a few
    directions that are large: a step along it turns those and leaves all others where they are.
    Muon takes the momentum's singular vectors and makes their singular values (nearly) one::

        b ← μ b + g                                    (b = 0 before the first step)
        u = g + μ b                                    (Nesterov)
        p ← p - lr (sqrt(max(1, O / C)) U Vᵀ + λ p)    with u = U S Vᵀ, for each group

    :math:`U Vᵀ` is found by :func:`newton_schulz`, without a decomposition. λ acts on the weights
    beside the step, not in the gradient, whose size the step no longer has.

    K. Jordan et al., "Muon: An optimizer for hidden layers in neural networks", 2024,
    https://kellerjordan.github.io/posts/muon. There it moves all convolutions, as matrices
    (O, C·Kh·Kw); a depthwise one has nothing to make orthogonal.

    Parameters
    ----------
    params : iterable of Parameter
        Each (..., C / groups, O), all other axes 1.
    lr : float
        Learning rate.
    momentum : float, 0 ≤ μ < 1
    weight_decay : float
        λ.
    groups : sequence of int
        Of each parameter; by default 1.
    """

    slots = ("momentum",)
    momentum = _Setting(_decays)

    def __init__(
        self,
        params: Iterable[Parameter],
        lr: float,
        momentum: float = 0.9,
        weight_decay: float = 0.0,
        groups: Sequence[int] | None = None,
    ) -> None:
        super().__init__(params, lr, weight_decay, True)
        self.momentum = momentum
        given = [1] * len(self.params) if groups is None else list(groups)
        if len(given) != len(self.params):
            raise TinyshuffleError(
                f"muon was given groups={given} for {len(self.params)} parameters: give one number "
                "for each"
            )
        self.groups = [integer(g, "groups") for g in given]
        for p, g in zip(self.params, self.groups, strict=True):
            shape = p.data.shape
            if len(shape) < 2 or p.data.size != shape[-2] * shape[-1] or shape[-1] % g:
                raise TinyshuffleError(
                    f"muon was given {p.name or 'a parameter'} of shape {shape} with groups={g}: "
                    "it moves the weights of pointwise convolutions, (1, 1, C / groups, O), and "
                    "groups divides O; give the others to another optimiser"
                )

    @property
    def multiply_adds(self) -> int:
        """Of a step's Newton–Schulz iterations, all parameters together."""
        found = 0
        for p, g in zip(self.params, self.groups, strict=True):
            m, n = sorted((p.data.shape[-2], p.data.shape[-1] // g))
            found += g * NEWTON_SCHULZ_STEPS * (2 * m * m * n + m**3)
        return found

    def step(self) -> None:
        """Change every parameter that has a gradient, in place."""
        with blas.limit(1):  # or a thread still waits for work on a core that the next step needs
            super().step()

    def _update(self, i: int, p: Parameter) -> None:
        g = p.grad
        assert g is not None
        buffer, groups = self._state["momentum"][i], self.groups[i]
        buffer *= self.momentum
        buffer += g
        rows, columns = p.data.shape[-2], p.data.shape[-1] // groups
        u = (g + self.momentum * buffer).reshape(rows, groups, columns).transpose(1, 0, 2)
        step = newton_schulz(u) * max(1, columns / rows) ** 0.5  # (groups, C / groups, O / groups)
        if self.weight_decay:
            p.data *= 1 - self.lr * self.weight_decay
        p.data -= (self.lr * step).transpose(1, 0, 2).reshape(p.data.shape)


NEWTON_SCHULZ_STEPS = 5


def newton_schulz(x: np.ndarray) -> np.ndarray:
    r"""Return matrices with the singular vectors of ``x`` and singular values near one.

    Each iteration takes every singular value :math:`s` to :math:`a s + b s³ + c s⁵`, for

        A = X Xᵀ
        X ← a X + (b A + c A²) X

    is a polynomial in them and leaves the vectors alone. With Jordan's a, b, c = 3.4445, -4.7750,
    2.0315 a small value grows 3.4 times in an iteration, and what is near one stays between 0.7
    and 1.2: the numbers are chosen for speed at 0 and not to come to rest at 1, as a step's exact
    length matters little. Values that are far below the largest stay small.

    Parameters
    ----------
    x : (..., m, n)

    Returns
    -------
    (..., m, n)

    >>> x = np.array([[3.0, 0.0, 0.0], [0.0, 1.0, 1.0]])
    >>> np.linalg.svd(newton_schulz(x))[1].round(2)
    array([1.13, 0.68])
    """
    a, b, c = 3.4445, -4.7750, 2.0315
    tall = x.shape[-2] > x.shape[-1]
    if tall:  # the smaller of X Xᵀ and Xᵀ X is half of the work
        x = x.swapaxes(-1, -2)
    length = np.sqrt(np.square(x).sum((-2, -1), keepdims=True))
    x = x / (length + x.dtype.type(1e-7))  # no singular value is above one
    for _ in range(NEWTON_SCHULZ_STEPS):
        outer = x @ x.swapaxes(-1, -2)  # (..., m, m)
        x = a * x + (b * outer + c * (outer @ outer)) @ x
    return x.swapaxes(-1, -2) if tall else x
