"""A step of stochastic gradient descent in one pass: see ``ops.sgd`` for the equations."""

from __future__ import annotations

import numpy as np

from ..ops import sgd as ops
from ..ops.sgd import check_step
from ..values import flags
from .jit import exact, flat
from .record import floats

__all__ = ["sgd_step", "sgd_steps"]


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


@flags
def sgd_steps(
    params: list[np.ndarray],
    grads: list[np.ndarray],
    velocities: list[np.ndarray] | None,
    decays: list[float],
    lr: float,
    momentum: float = 0.0,
    nesterov: bool = False,
) -> None:
    """Change all parameters in one call; see ``ops.sgd_steps``."""
    if not params:
        return
    dtype = params[0].dtype
    arrays = [*params, *grads, *(velocities or ())]
    usual = {(a.dtype, a.flags.c_contiguous, a.flags.writeable) for a in arrays}
    shapes = [a.shape for a in params]
    alike = usual == {(dtype, True, True)} and shapes == [a.shape for a in grads]
    alike = alike and (velocities is None or shapes == [a.shape for a in velocities])
    if not alike:  # each says what is wrong with it, or what it takes
        for i, (p, grad, decay) in enumerate(zip(params, grads, decays, strict=True)):
            sgd_step(
                p, grad, None if velocities is None else velocities[i], lr, momentum, nesterov,
                decay,
            )  # fmt: skip
        return
    where = [a.__array_interface__["data"][0] for a in arrays]
    table = np.array(where, np.int64).reshape(-1, len(params))
    sizes = np.array([a.size for a in params], np.int64)
    one = dtype.type
    _steps(table, sizes, np.array(decays, dtype), one(lr), one(momentum), nesterov, one(0))


@exact
def _steps(table, sizes, decays, lr, momentum, nesterov, zero):
    for k in range(sizes.size):
        n = sizes[k]
        p, grad = floats(table[0, k], n, zero), floats(table[1, k], n, zero)
        v = floats(table[2, k] if table.shape[0] > 2 else 0, n if table.shape[0] > 2 else 0, zero)
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
