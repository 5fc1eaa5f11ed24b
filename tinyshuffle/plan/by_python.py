"""Rows of a plan that Python does: operations without a compiled kernel, and layers by themselves.

Such a row sees either its slice of the batch (an operation) or the whole batch (a layer that
computes by itself, the mask of a dropout), which the first slice's thread does for all.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import nullcontext
from threading import get_ident
from typing import TYPE_CHECKING, Any

import numpy as np

from ..errors import TinyshuffleError
from ..memory import Pool
from ..nn import inference
from .table import Row

if TYPE_CHECKING:
    from .play import Player
    from .slice import Slice

__all__ = ["WHOLE", "of_the_batch", "of_the_slice"]

WHOLE = "python", "dropout_mask"
"""Operations that see the whole batch."""


def of_the_slice(part: Slice, row: Row, sums: dict[int, np.ndarray]) -> Callable[[], None]:
    """An operation of a slice. Its ``sums``, by buffer, go where they are to be added up."""
    from .. import kernels

    function, pool = getattr(kernels, row.operation), _Into()

    def work() -> None:
        pool.wanted = [a for a in part.written(row) if a is not None]
        with pool:
            out = function(*part.given(row), **row.keywords)
        if len(row.results) == 1:
            out = (out[0] if type(out) is list else out,)
        for view, value in zip(row.results, out or (), strict=False):
            if view is not None and value is not None:
                to = sums.get(view.buffer, part.array(view))
                if not _is(value, to):
                    to[...] = value

    return work


def of_the_batch(player: Player, row: Row) -> Callable[[], None]:
    """A row that sees the whole batch, done by the first slice's thread for all."""
    from .. import kernels

    layer = player.modules[row.layer]

    def mask() -> Any:
        shape = player.plan.buffers[row.results[0].buffer].shape
        _, _, *rest = row.arguments
        assert layer.rng is not None
        return kernels.dropout_mask(layer.rng, shape, *rest)

    def by_itself() -> Any:
        parts = [part.given(row)[0] for part in player.slices]
        # an array of its own: what the layer saves of it must not be written over
        x = np.concatenate(parts)
        if player.together is not None:
            x = player.together.gather(x, player.plan.shape[0])
        saved = player.saved.setdefault(row.layer, [])
        if not row.backward:
            with nullcontext() if player.plan.train else inference():
                y = layer(x)
            saved.append([(m, m._saved) for _, m in layer._tree("")])
            return y
        for module, values in saved.pop():
            module._saved, module._saver = values, get_ident()
        return layer.backward(x)

    def work() -> None:
        out = np.asarray(mask() if row.operation == "dropout_mask" else by_itself())
        (view,) = row.results
        whole = player.plan.buffers[view.buffer].shape
        if out.shape != whole:
            raise TinyshuffleError(
                f"{row.layer or 'a layer'} returned an array of shape {out.shape} where it "
                f"returned {whole} when it was asked before; the shape of what comes out may "
                "depend on that of what goes in alone"
            )
        for part in player.slices:
            part.array(view)[...] = out if part.n == player.plan.shape[0] else out[part.images]

    return work


class _Into(Pool):
    """Memory for a row in Python: what looks like a result is given the result's own place."""

    wanted: list[np.ndarray] = []

    def take(self, shape: tuple[int, ...], dtype: np.dtype) -> np.ndarray:
        for i, a in enumerate(self.wanted):
            if a.shape == shape and a.dtype == dtype and a.flags.c_contiguous:
                return self.wanted.pop(i)
        return super().take(shape, dtype)


def _is(a: Any, b: np.ndarray) -> bool:
    """Whether two arrays are the same numbers in the same memory."""
    if a is b:
        return True
    mine, other = getattr(a, "__array_interface__", None), b.__array_interface__
    return mine is not None and all(
        mine[key] == other[key] for key in ("data", "shape", "typestr", "strides")
    )
