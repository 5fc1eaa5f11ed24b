"""A step of stochastic gradient descent, with momentum and weight decay, as PyTorch takes it.

    g ← g + λ p
    b ← μ b + g                      (b = 0 before the first step)
    p ← p - lr b                     (momentum; Polyak 1964)
    p ← p - lr (g + μ b)             (Nesterov, in the form of Sutskever et al. 2013)
"""

from __future__ import annotations

import numpy as np

__all__ = ["sgd_step"]


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
    g = grad + weight_decay * p if weight_decay else grad
    if velocity is not None:
        velocity *= momentum
        velocity += g
        g = g + momentum * velocity if nesterov else velocity
    p -= lr * g
