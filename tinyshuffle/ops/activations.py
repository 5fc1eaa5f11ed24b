"""ReLU, ReLU6, the sigmoid and the hyperbolic tangent.

    relu(x) = max(0, x)             d = dy where x > 0
    relu6(x) = min(max(0, x), 6)    d = dy where 0 < x < 6     (MobileNet V2)
    sigmoid(x) = 1 / (1 + e⁻ˣ)      d = dy · y · (1 - y)       (squeeze-and-excitation's gate)
    tanh(x)                         d = dy · (1 - y²)          (before ReLU: AlexNet, Figure 1)

The backward functions take the output y: what they need of x can be read off it, and y is kept
anyway as the next layer's input.
"""

from __future__ import annotations

import numpy as np

from .arguments import check_real, fit
from .cost import Cost, size

__all__ = [
    "relu", "relu6", "relu6_backward", "relu6_cost", "relu_backward", "relu_cost", "sigmoid",
    "sigmoid_backward", "sigmoid_cost", "tanh", "tanh_backward", "tanh_cost",
]  # fmt: skip


def relu(x: np.ndarray) -> np.ndarray:
    """Return max(0, x), of any shape."""
    check_real(x)
    return np.maximum(x, 0)


def relu_backward(dy: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Return dx, given the output ``y``. At a kink the slope is taken to be 0, as PyTorch does."""
    return np.where(y <= 0, y.dtype.type(0), fit(dy, y.shape, y.dtype))  # 0 · ∞ would be NaN


def relu_cost(x: tuple[int, ...]) -> Cost:
    """Cost: a read, a write and a comparison for each element (V2, G4)."""
    return Cost(
        output=x,
        elementwise=size(x),
        memory_access=2 * size(x),
        backward_elementwise=size(x),
        backward_memory_access=3 * size(x),
    )


def relu6(x: np.ndarray) -> np.ndarray:
    """Return max(0, min(x, 6)), of any shape."""
    check_real(x)
    return np.clip(x, 0, 6)


def relu6_backward(dy: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Return dx, given the output ``y``."""
    return np.where((y > 0) & (y < 6), fit(dy, y.shape, y.dtype), y.dtype.type(0))


relu6_cost = relu_cost


def sigmoid(x: np.ndarray) -> np.ndarray:
    """Return 1 / (1 + e⁻ˣ), of any shape; written with tanh so that no exponential overflows."""
    check_real(x)
    return 0.5 * np.tanh(0.5 * x) + 0.5


def sigmoid_backward(dy: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Return dx, given the output ``y``."""
    return fit(dy, y.shape, y.dtype) * y * (1 - y)


sigmoid_cost = relu_cost


def tanh(x: np.ndarray) -> np.ndarray:
    """Return tanh x, of any shape."""
    check_real(x)
    return np.tanh(x)


def tanh_backward(dy: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Return dx, given the output ``y``."""
    return fit(dy, y.shape, y.dtype) * (1 - y * y)


tanh_cost = relu_cost
