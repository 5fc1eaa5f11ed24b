"""A step of stochastic gradient descent in one pass: see ``ops.sgd`` for the equations."""

from __future__ import annotations

from operator import is_
from typing import Any

import numpy as np

from ..ops import sgd as ops
from ..ops.sgd import check_step
from ..values import flags
from .jit import exact, flat
from .record import floats

__all__ = ["Steps", "sgd_step"]


@flags
def sgd_step(
    p: np.ndarray,
    grad: np.ndarray,
    velocity: np.ndarray | None,
    lr: float,
    momentum: float = 0.0,
    nesterov: bool = False,
    weight_decay: float = 0.0,
) -> None:
    """Change ``p`` and ``velocity`` in place; see ``ops.sgd_step``."""
    check_step(p, grad, velocity)
    if not all(a is None or a.flags.c_contiguous for a in (p, velocity)):
        # laid flat, they would be copies, and a step on a copy moves nothing
        return ops.sgd_step(p, grad, velocity, lr, momentum, nesterov, weight_decay)
    dtype = p.dtype.type
    v = np.empty(0, p.dtype) if velocity is None else velocity.reshape(-1)
    _step(
        p.reshape(-1), flat(grad, p.dtype, p.shape), v,
        dtype(lr), dtype(momentum), nesterov, dtype(weight_decay),
    )  # fmt: skip


class Steps:
    """Parameters and velocities that are moved again and again: where they lie is found once."""

    def __init__(self, params: list[np.ndarray], velocities: list[np.ndarray] | None) -> None:
        self.arrays = [*params, *(velocities or ())]
        self.dtype = params[0].dtype
        self.sizes = [a.size for a in params]
        self.shapes = [a.shape for a in params]
        self.where = _where(self.arrays).reshape(-1, len(params))

    @classmethod
    def of(cls, params: list[np.ndarray], velocities: list[np.ndarray] | None) -> Steps | None:
        """All of these in one call; None if they are not alike."""
        if not params or (velocities is not None and len(velocities) != len(params)):
            return None
        steps = cls(params, velocities)
        like = all(a.dtype == steps.dtype and a.flags.c_contiguous for a in steps.arrays)
        shapes = [a.shape for a in steps.arrays] == steps.shapes * len(steps.where)
        return steps if like and shapes and steps.dtype.kind == "f" and steps.writable() else None

    def __reduce__(self) -> tuple[Any, ...]:  # a copy's arrays lie elsewhere
        n = len(self.sizes)
        return type(self), (self.arrays[:n], self.arrays[n:] or None)

    def are(self, arrays: list[np.ndarray]) -> bool:
        """Whether these are the same parameters and velocities, and may still be written to."""
        same = len(arrays) == len(self.arrays) and all(map(is_, arrays, self.arrays))
        return same and self.writable()

    def writable(self) -> bool:
        """Whether all of them may be written to."""
        return all([a.flags.writeable for a in self.arrays])

    def fit(self, grads: list[np.ndarray]) -> bool:
        """Whether the gradients are numbers of the same type and shape, without gaps."""
        dtype = self.dtype
        return [g.shape for g in grads] == self.shapes and all(
            [g.dtype is dtype and g.flags.c_contiguous for g in grads]
        )

    @flags
    def take(
        self, grads: list[np.ndarray], decays: list[float], lr: float, momentum: float,
        nesterov: bool,
    ) -> None:  # fmt: skip
        """Take a step."""
        one = self.dtype.type
        _steps(
            self.where, _where(grads), np.array(self.sizes), np.array(decays, self.dtype),
            one(lr), one(momentum), nesterov, one(0),
        )  # fmt: skip


def _where(arrays: list[np.ndarray]) -> np.ndarray:
    return np.array([a.__array_interface__["data"][0] for a in arrays], np.int64)


@exact
def _steps(where, grads, sizes, decays, lr, momentum, nesterov, zero):
    for k in range(sizes.size):
        n = sizes[k]
        p, grad = floats(where[0, k], n, zero), floats(grads[k], n, zero)
        v = floats(where[1, k] if where.shape[0] > 1 else 0, n if where.shape[0] > 1 else 0, zero)
        _step(p, grad, v, lr, momentum, nesterov, decays[k])


@exact
def _step(p, grad, v, lr, momentum, nesterov, decay):
    if v.size == 0:
        for i in range(p.size):
            p[i] -= lr * (grad[i] + decay * p[i])
    else:
        for i in range(p.size):
            g = grad[i] + decay * p[i]
            b = momentum * v[i] + g
            v[i] = b
            p[i] -= lr * (g + momentum * b if nesterov else b)
