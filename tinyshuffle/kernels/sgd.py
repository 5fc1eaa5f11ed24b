"""A step of stochastic gradient descent in one pass: see ``ops.sgd`` for the equations."""

from __future__ import annotations

import numpy as np

from ..ops import sgd as ops
from ..ops.sgd import check_step
from ..values import flags
from .jit import exact, flat

__all__ = ["sgd_step"]


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
