"""Which operations can run without the interpreter, and how."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numba
import numpy as np

from .batch_norm import backward_sums_work, backward_work, normalise_work, sums_work
from .meeting import (
    concat_shuffle_backward_work,
    concat_shuffle_work,
    norm_add_relu_backward_work,
    norm_add_relu_work,
)
from .norm_conv import conv_norm_work, norm_conv_backward_work, norm_conv_work
from .record import Work
from .statistics import gradients_work, statistics_work, track_work

__all__ = ["work_of"]

Arguments = tuple[Any, ...]


def work_of(
    operation: str, results: Arguments, arguments: Arguments, keywords: dict[str, Any]
) -> Work | None:
    """Return what a row does, as a compiled kernel and its record.

    Parameters
    ----------
    operation : str
        Of ``ops`` or ``plan.fused``.
    results : tuple of array
        To be written to; None for a result that there is not.
    arguments, keywords
        As the operation is called.

    Returns
    -------
    Work or None
        None if only Python knows how: there is no such kernel, or not for these arrays.
    """
    make = _WORKS.get(operation)
    if make is None or numba.config.DISABLE_JIT:  # type: ignore[attr-defined]
        return None
    return make(results, arguments, keywords)


def _normalised(results: Arguments, arguments: Arguments, _: Any) -> Work | None:
    x, norm = arguments
    if norm is None or norm.shuffle > 1:
        return None
    return normalise_work(*results, x, *norm[:6])


def _backward_sums(results: Arguments, arguments: Arguments, keywords: Any) -> Work:
    return backward_sums_work(*results, *arguments, keywords.get("relu", False))


def _backward(results: Arguments, arguments: Arguments, keywords: Any) -> Work:
    return backward_work(*results, *arguments, **keywords)


def _track(results: Arguments, arguments: Arguments, _: Any) -> Work | None:
    count = arguments[5]
    return track_work(*arguments) if count > 1 else None  # Python says what is wrong


def _gradients(results: Arguments, arguments: Arguments, _: Any) -> Work:
    dbeta, dgamma = results
    return gradients_work(dbeta, dgamma, arguments[0])


def _in_order(make: Callable[..., Work | None]) -> Callable[..., Work | None]:
    return lambda results, arguments, keywords: make(*results, *arguments, **keywords)


_WORKS: dict[str, Callable[[Arguments, Arguments, dict[str, Any]], Work | None]] = {
    "batch_norm_sums": _in_order(sums_work),
    "batch_norm_statistics": _in_order(statistics_work),
    "batch_norm_track": _track,
    "batch_norm_gradients": _gradients,
    "batch_norm_backward_sums": _backward_sums,
    "batch_norm_backward": _backward,
    "normalised": _normalised,
    "norm_conv": _in_order(norm_conv_work),
    "norm_conv_backward": _in_order(norm_conv_backward_work),
    "conv_norm": _in_order(conv_norm_work),
    "concat_shuffle": _in_order(concat_shuffle_work),
    "concat_shuffle_backward": _in_order(concat_shuffle_backward_work),
    "norm_add_relu": _in_order(norm_add_relu_work),
    "norm_add_relu_backward": _in_order(norm_add_relu_backward_work),
}


def reads(work: Work) -> list[np.ndarray]:
    """Return the arrays whose addresses stand in a record."""
    found: list[np.ndarray] = []

    def visit(value: Any) -> None:
        if isinstance(value, np.ndarray) and value.shape:
            found.append(value)
        elif isinstance(value, list | tuple):
            for part in value:
                visit(part)

    visit(work.arrays)
    return found
