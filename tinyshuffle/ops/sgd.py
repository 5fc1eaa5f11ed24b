"""A step of stochastic gradient descent, with momentum and weight decay, as PyTorch takes it.

    g ← g + λ p
    b ← μ b + g                      (b = 0 before the first step)
    p ← p - lr b                     (momentum; Polyak 1964)
    p ← p - lr (g + μ b)             (Nesterov, in the form of Sutskever et al. 2013)
"""

from __future__ import annotations

import numpy as np

from ..errors import TinyshuffleError
from ..values import flags
from .arguments import check_real

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
    """Change the parameter ``p`` and its ``velocity`` b in place; without momentum b is None."""
    check_step(p, grad, velocity)
    g = grad + weight_decay * p if weight_decay else grad
    if velocity is not None:
        velocity *= momentum
        velocity += g
        g = g + momentum * velocity if nesterov else velocity
    p -= lr * g


def check_step(p: np.ndarray, grad: np.ndarray, velocity: np.ndarray | None) -> None:
    """Raise unless all are of one shape and p and its velocity, which are written to, of one type.

    And unless they can be written to.
    """
    check_real(p, grad, *([] if velocity is None else [velocity]))
    for a in (p, velocity):
        if a is not None and not a.flags.writeable:
            raise TinyshuffleError(
                "the parameter or its velocity is a read-only array; use a copy of it, a.copy()"
            )
    if any(a is not None and a.shape != p.shape for a in (grad, velocity)):
        raise TinyshuffleError(
            f"a parameter of shape {p.shape} got a gradient of shape {grad.shape} and a velocity "
            f"of shape {None if velocity is None else velocity.shape}; all three must be equal"
        )
    if velocity is not None and velocity.dtype != p.dtype:
        raise TinyshuffleError(
            f"the parameter is {p.dtype} and its velocity {velocity.dtype}; use "
            f"velocity.astype({str(p.dtype)!r})"
        )
