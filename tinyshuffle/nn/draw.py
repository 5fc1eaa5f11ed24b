"""How numbers are drawn: each function gives a draw for :class:`~tinyshuffle.nn.Parameter`.

``functools.partial`` and not a lambda, so that a net can be pickled before it has drawn.
"""

from __future__ import annotations

from functools import partial

import numpy as np

from .module import Draw

__all__ = ["constant", "normal", "uniform"]


def constant(shape: tuple[int, ...], value: float) -> Draw:
    return partial(_constant, shape, value)


def normal(shape: tuple[int, ...], std: float) -> Draw:
    """N(0, std²)."""
    return partial(_normal, shape, std)


def uniform(shape: tuple[int, ...], bound: float) -> Draw:
    """Uniform within ± ``bound``."""
    return partial(_uniform, shape, bound)


def _constant(shape: tuple[int, ...], value: float, rng: np.random.Generator) -> np.ndarray:
    return np.full(shape, value)


def _normal(shape: tuple[int, ...], std: float, rng: np.random.Generator) -> np.ndarray:
    return rng.standard_normal(shape, np.float32) * np.float32(std)


def _uniform(shape: tuple[int, ...], bound: float, rng: np.random.Generator) -> np.ndarray:
    return rng.uniform(-bound, bound, shape)
