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

__all__ = [
    "relu",
    "relu6",
    "relu6_backward",
    "relu6_cost",
    "relu_backward",
    "relu_cost",
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


def relu_backward(dy: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Return dx, given the output ``y``."""
    dyf = flat(dy, y.dtype, y.shape)
    dx = memory.empty(y.shape, y.dtype)
    _gate(dx.reshape(-1), dyf, flat(y, y.dtype))
    return dx


def relu6(x: np.ndarray) -> np.ndarray:
    """Return max(0, min(x, 6)), of any shape."""
    return _clipped(x, 6.0)


def relu6_backward(dy: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Return dx, given the output ``y``."""
    dyf = flat(dy, y.dtype, y.shape)
    dx = memory.empty(y.shape, y.dtype)
    _gate6(dx.reshape(-1), dyf, flat(y, y.dtype))
    return dx


def _clipped(x: np.ndarray, ceiling: float) -> np.ndarray:
    check_real(x)
    y = memory.empty(x.shape, x.dtype)
    _clip(y.reshape(-1), flat(x, x.dtype), ceiling)
    return y


@exact
def _clip(y, x, ceiling):
    low, high = x.dtype.type(0), x.dtype.type(ceiling)
    for i in range(x.size):
        v = low if x[i] <= low else x[i]  # a NaN stays one
        y[i] = high if v >= high else v


@exact
def _gate(dx, dy, y):
    zero = y.dtype.type(0)
    for i in range(y.size):
        dx[i] = zero if y[i] <= zero else dy[i]  # at a NaN, too, as in PyTorch


@exact
def _gate6(dx, dy, y):
    zero, six = y.dtype.type(0), y.dtype.type(6)
    for i in range(y.size):
        dx[i] = dy[i] if (y[i] > zero) & (y[i] < six) else zero
