"""What operations and layers may be given, and the sentences for everything else.

One rule for numbers in arrays: float32 or float64. Whole numbers, truth values, float16 and complex
numbers are refused wherever anything is computed from them, since a result that is rounded to
their type, or that wraps around, looks like a right one. What only moves numbers (a shuffle, a
split, a concatenation, a flattening) does that with any type.
"""

from __future__ import annotations

import math
import operator
from collections.abc import Callable
from typing import Any

import numpy as np

from ..errors import TinyshuffleError
from ..text import shown
from ..values import whole as whole_number

__all__ = [
    "IntPair", "check_array", "check_channels", "check_groups", "check_images", "check_pair",
    "check_plain", "check_real", "check_rows", "check_type", "fit", "generator", "number",
    "pair", "integer", "is_real",
]  # fmt: skip

IntPair = int | tuple[int, int]

MOST = 2**31 - 1
"""No side, stride or number of channels is larger; the kernels' places are products of them."""


def integer(value: Any, name: str, least: int = 1) -> int:
    """Return ``value`` as an int; NumPy's integers are whole numbers, too.

    Raises
    ------
    TinyshuffleError
        If it is of another type (a float, a truth value, a text) or less than ``least``.
    """
    try:
        if isinstance(value, bool):
            raise TypeError
        out = operator.index(value)
    except TypeError:
        out = least - 1
    if not least <= out <= MOST:
        raise TinyshuffleError(
            f"{name}={value!r} is not possible; use {least} or more, a whole number"
            + (f", at most {MOST}" if out > MOST else "")
        )
    return out


def pair(value: IntPair) -> tuple[int, int]:
    """Return ``value`` as (vertical, horizontal); one number serves both.

    It is taken to be possible; :func:`check_pair` says whether it is.
    """
    vertical, horizontal = _two(value)
    return operator.index(vertical), operator.index(horizontal)


def _two(value: Any) -> Any:
    several = isinstance(value, (tuple, list)) or isinstance(value, np.ndarray) and value.ndim
    return value if several else (value, value)


def check_pair(value: IntPair, name: str, least: int = 1) -> tuple[int, int]:
    """Return ``value`` as (vertical, horizontal), if it is one whole number or two.

    Raises
    ------
    TinyshuffleError
        If it is of another type or number, or less than ``least``.
    """
    try:
        vertical, horizontal = _two(value)
        return integer(vertical, name, least), integer(horizontal, name, least)
    except ValueError:  # TinyshuffleError is one
        raise TinyshuffleError(
            f"{name}={value!r} is not possible; use {least} or more (at most {MOST}), a whole "
            "number or a pair of them, (vertical, horizontal)"
        ) from None


def number(value: Any, name: str, fits: Callable[[float], bool], wanted: str) -> float:
    """Return ``value`` as a float, if it is a number that ``fits``; else say what is ``wanted``."""
    try:
        if isinstance(value, (bool, np.bool_, str, bytes)) or np.ndim(value):
            raise TypeError  # of an array with one number in it, NumPy would take that
        out = float(value)
    except (TypeError, ValueError, OverflowError):
        out = math.nan
    if math.isnan(out) or not fits(out):
        raise TinyshuffleError(f"{name}={value!r} is not possible; use {wanted}")
    return out


def generator(seed: Any) -> np.random.Generator:
    """Return the generator of a seed, which may be one itself."""
    if isinstance(seed, np.random.Generator):
        return seed
    number = whole_number(seed)
    if number is None or number < 0:
        raise TinyshuffleError(f"seed={shown(seed)} is not possible: give a whole number from 0 up")
    return np.random.default_rng(number)


def check_groups(groups: int, channels: int, what: str = "channels") -> None:
    """Raise unless ``groups`` divides ``channels``; the sentence names the nearest that fit."""
    integer(groups, "groups")
    if channels % groups or channels == 0:
        lower = channels // groups * groups
        near = f"{lower}, {lower + groups}" if lower else f"{groups}"
        raise TinyshuffleError(
            f"groups={groups} does not divide {what}={channels} (nearest that do: {near})"
        )


# to compare a type with NumPy's classes takes ten times as long, some 2,000 times a step
_REAL = (np.dtype(np.float32), np.dtype(np.float64))


def check_array(a: Any) -> None:
    """Raise unless ``a`` is an array, of whatever type: None, a list and a number are not."""
    if not isinstance(a, np.ndarray):
        raise TinyshuffleError(
            f"got a {type(a).__name__} where a NumPy array is expected; "
            "convert it, for example with np.asarray(x, 'float32')"
        )
    check_plain(a)


def check_plain(a: Any) -> None:
    """Raise if ``a`` is an array of NumPy's that means something else than its numbers alone."""
    if isinstance(a, np.ma.MaskedArray):
        raise TinyshuffleError(
            "got a masked array, and the mask would have no effect; give the numbers that shall "
            "stand in the masked places, for example with x.filled(0)"
        )
    if isinstance(a, np.matrix):
        raise TinyshuffleError(
            "got a np.matrix, which multiplies and reshapes by rules of its own; convert it with "
            "np.asarray(x)"
        )


def check_real(*arrays: np.ndarray) -> None:
    """Raise unless all of ``arrays`` hold float32 or float64 numbers."""
    for a in arrays:
        if type(a) is np.ndarray and a.dtype in _REAL:
            continue
        check_array(a)
        check_type(a.dtype)


def is_real(dtype: np.dtype) -> bool:
    """Whether operations compute with this type."""
    return dtype in _REAL


def check_type(dtype: np.dtype) -> None:
    """Raise unless ``dtype`` is one that operations compute with."""
    if not is_real(dtype):
        raise TinyshuffleError(
            f"got numbers of type {dtype} where float32 or float64 is expected; "
            "convert them, for example with x.astype('float32')"
        )


def check_images(x: np.ndarray) -> None:
    """Raise unless ``x`` is real and of shape (N, H, W, C), with pixels in it."""
    check_real(x)
    if x.ndim != 4:
        hint = "; add the batch axis with x[None]" if x.ndim == 3 else ""
        raise TinyshuffleError(
            f"images have to be of shape (N, H, W, C), got an array of {x.ndim} axes{hint}"
        )
    if 0 in x.shape[1:]:
        n, h, w, c = x.shape
        raise TinyshuffleError(
            f"images of {h}x{w} pixels with {c} channels are empty; give at least one of each"
        )


def fit(a: np.ndarray, shape: tuple[int, ...], dtype: np.dtype | None = None) -> np.ndarray:
    """Return ``a`` in the type of the arrays that it meets; raise unless it has this shape."""
    check_real(a)
    if a.shape != tuple(shape):
        raise TinyshuffleError(
            f"got an array of shape {a.shape} where {tuple(shape)} fits the others"
        )
    return a.astype(a.dtype if dtype is None else dtype, copy=False)


def check_channels(x: np.ndarray, w: np.ndarray, groups: int) -> None:
    """Raise unless ``x`` (N, H, W, C) fits weights (Kh, Kw, C / G, O), or (Kh, Kw, C)."""
    check_images(x)
    check_real(w)
    if w.ndim == 3:
        c, what = w.shape[2], "depthwise weights"
    elif w.ndim == 4:
        check_groups(groups, w.shape[3], "out_channels")
        c, what = w.shape[2] * groups, "weights"
    else:
        raise TinyshuffleError(
            f"got weights of shape {w.shape}; those of a convolution are "
            "(Kh, Kw, C / groups, O), those of a depthwise one (Kh, Kw, C)"
        )
    if x.shape[-1] != c:
        raise TinyshuffleError(
            f"an input of {x.shape[-1]} channels (its shape is {x.shape}) does not fit "
            f"{what} for {c}; give an input of shape (N, H, W, {c})"
        )


def check_rows(x: np.ndarray, w: np.ndarray) -> None:
    """Raise unless ``x`` (N, C) fits the weights (C, O) of a linear layer."""
    check_real(x, w)
    if x.ndim != 2 or w.ndim != 2 or x.shape[1] != w.shape[0]:
        raise TinyshuffleError(
            f"an input of shape {x.shape} does not fit weights of shape {w.shape}; "
            "give (N, C) and (C, O)"
        )
