"""Two loops that differ in their stores alone, for the two ceilings of memory.

A plain store to memory first reads the cache line that it is about to overwrite. A store past the
cache (non-temporal) writes a whole line of 64 bytes and reads nothing; it needs an address that is
a multiple of 64. ``y = s·x`` and not ``y = x``: that the compiler would turn into ``memcpy``, which
chooses its stores by itself.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from llvmlite import ir
from numba.core import types
from numba.extending import lower_builtin, type_callable

from ..kernels.jit import LANES, Lanes, _is_flat, _lanes_pointer, exact, load, spread, store
from ..memory import LINE

__all__ = ["LANES", "LINE", "aligned", "scale", "scale_past_cache", "store_past_cache"]


def aligned(n: int) -> np.ndarray:
    """Return n float32 ones, the first of them at the start of a cache line."""
    block = np.ones(n + LANES, np.float32)
    first = -block.ctypes.data % LINE // block.itemsize
    return block[first : first + n]


def store_past_cache(a: np.ndarray, i: int, v: np.ndarray) -> None:
    """Write the LANES numbers of ``v`` from a[i] on, a whole line of float32, past the cache."""
    a[i : i + LANES] = v


@type_callable(store_past_cache)
def _type_store_past_cache(context: Any) -> Callable:
    return lambda a, i, v: types.none if _is_flat(a) and v == Lanes(a.dtype) else None


@lower_builtin(store_past_cache, types.Array, types.Integer, Lanes)
def _lower_store_past_cache(context: Any, builder: Any, sig: Any, args: Any) -> Any:
    pointer, _ = _lanes_pointer(context, builder, sig, args)
    written = builder.store(args[2], pointer, align=LINE)
    one = builder.module.add_metadata([ir.Constant(ir.IntType(32), 1)])
    written.set_metadata("nontemporal", one)
    return context.get_dummy_value()


@exact
def scale(x: np.ndarray, s: np.ndarray, y: np.ndarray) -> None:
    """Write s[0]·x to ``y``, both (n,) with n a multiple of LANES, with plain stores."""
    factor = spread(s, 0)
    for i in range(0, len(x), LANES):
        store(y, i, load(x, i) * factor)


@exact
def scale_past_cache(x: np.ndarray, s: np.ndarray, y: np.ndarray) -> None:
    """Do the same past the cache; ``y`` begins at the start of a line."""
    factor = spread(s, 0)
    for i in range(0, len(x), LANES):
        store_past_cache(y, i, load(x, i) * factor)
