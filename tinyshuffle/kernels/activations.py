"""ReLU and ReLU6: see ``ops.activations``. NumPy's other two will do."""

from __future__ import annotations

import numpy as np

from .. import memory
from ..ops.activations import (
    relu6_cost,
    relu_cost,
    sigmoid,
    sigmoid_backward,
    sigmoid_cost,
    tanh,
    tanh_backward,
    tanh_cost,
)
from ..ops.arguments import check_real
from .jit import exact, flat
from .record import Work, fill, floats, record_at, run

__all__ = [
    "relu",
    "relu6",
    "relu6_backward",
    "relu6_cost",
    "relu_backward",
    "relu_backward_work",
    "relu_cost",
    "relu_work",
    "sigmoid",
    "sigmoid_backward",
    "sigmoid_cost",
    "tanh",
    "tanh_backward",
    "tanh_cost",
]


def relu(x: np.ndarray) -> np.ndarray:
    """Return max(0, x), of any shape."""
    return _clipped(x, np.inf)


def relu6(x: np.ndarray) -> np.ndarray:
    """Return max(0, min(x, 6)), of any shape."""
    return _clipped(x, 6.0)


def relu_backward(dy: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Return dx, given the output ``y``."""
    return _gated(dy, y, np.inf)


def relu6_backward(dy: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Return dx, given the output ``y``."""
    return _gated(dy, y, 6.0)


def _clipped(x: np.ndarray, ceiling: float) -> np.ndarray:
    check_real(x)
    y = memory.empty(x.shape, x.dtype)
    run(relu_work(y, x, ceiling))
    return y


def _gated(dy: np.ndarray, y: np.ndarray, ceiling: float) -> np.ndarray:
    dx = memory.empty(y.shape, y.dtype)
    run(relu_backward_work(dx, flat(dy, y.dtype, y.shape), y, ceiling))
    return dx


def relu_work(y: np.ndarray, x: np.ndarray, ceiling: float = np.inf) -> Work:
    """Write max(0, min(x, ceiling)) to ``y``."""
    return fill(_clip, x.dtype, x=flat(x, x.dtype), y=y, m=x.size, ceiling=ceiling)


def relu_backward_work(
    dx: np.ndarray, dy: np.ndarray, y: np.ndarray, ceiling: float = np.inf
) -> Work:
    """Write ``dy`` where 0 < y < ceiling, else 0, to ``dx``."""
    return fill(
        _gate, y.dtype, dy=flat(dy, y.dtype), y=flat(y, y.dtype), dx=dx, m=y.size, ceiling=ceiling
    )


@exact
def _clip(address, zero):
    r = record_at(address)
    x, y, high = floats(r.x, r.m, zero), floats(r.y, r.m, zero), type(zero)(r.ceiling)
    for i in range(x.size):
        v = zero if x[i] <= zero else x[i]  # a NaN stays one
        y[i] = high if v >= high else v


@exact
def _gate(address, zero):
    r = record_at(address)
    dx, dy, y = floats(r.dx, r.m, zero), floats(r.dy, r.m, zero), floats(r.y, r.m, zero)
    six = type(zero)(r.ceiling)
    if np.isinf(r.ceiling):
        for i in range(y.size):
            dx[i] = zero if y[i] <= zero else dy[i]  # at a NaN, too, as in PyTorch
    else:
        for i in range(y.size):
            dx[i] = dy[i] if (y[i] > zero) & (y[i] < six) else zero
