"""One parser for every value that a user writes: options, recipes, a model's variant.

What a value may be is what the annotation says of the argument that it is for. A text is read as
that type, so that ``shuffle=False`` on the command line is the bool and not a text, which Python
would take for true.
"""

from __future__ import annotations

import functools
import inspect
import math
import numbers
import operator
import types
from collections.abc import Callable, Sequence
from typing import Any, TypeVar, Union, get_args, get_origin

import numpy as np

from .errors import TinyshuffleError
from .text import shown

__all__ = ["flags", "plain", "read", "whole"]

Function = TypeVar("Function", bound=Callable[..., Any])


def read(name: str, value: Any, kind: Any, text: bool = True) -> Any:
    """Return a value as an argument of the annotated type takes it.

    Parameters
    ----------
    name : str
        Of the argument, for the sentence that refuses the value.
    value : object
        As somebody wrote it: text, or what TOML, JSON or Python make of it.
    kind : type
        ``bool``, ``int``, ``float``, ``str``, ``dict``, ``Sequence[int]``, ``tuple[int, ...]``,
        or one of them ``| None``.
    text : bool
        Read a text as the type. False is for Python's callers, who can give the type itself.

    Raises
    ------
    TinyshuffleError
        Names the argument, the value and the type.

    >>> from collections.abc import Sequence
    >>> read("shuffle", "no", bool), read("groups", "3", int), read("stages", "8,16", Sequence[int])
    (False, 3, [8, 16])
    >>> read("groups", "three", int | None)
    Traceback (most recent call last):
    ...
    tinyshuffle.errors.TinyshuffleError: groups='three' was given: it must be a whole number
    """
    kinds = get_args(kind) if get_origin(kind) in (Union, types.UnionType) else (kind,)
    (kind,) = (one for one in kinds if one is not type(None))
    if type(None) in kinds:
        word = isinstance(value, str) and kind is not str and value.strip().lower()
        if value is None or word in ("none", "null"):
            return None
    convert, words = _KINDS[get_origin(kind) or kind]
    try:
        if isinstance(value, str) and kind is not str and not text:
            raise TypeError
        return convert(value)
    except (TypeError, ValueError, OverflowError):
        raise TinyshuffleError(f"{name}={shown(value)} was given: it must be {words}") from None


def plain(text: str) -> str:
    """Return a text that may be a number; raise ``ValueError`` if only Python reads it as one.

    ``1_0`` is a slip of the finger for 1.0 more often than a ten, and digits of other scripts look
    like something else.

    >>> plain("10")
    '10'
    """
    if "_" in text or not text.isascii():
        raise ValueError
    return text


def whole(value: Any) -> int | None:
    """Return a whole number, NumPy's too, as an int; None if it is not one.

    >>> whole(np.int64(3)), whole("3"), whole(True), whole(3.0)
    (3, None, None, None)
    """
    try:
        return None if isinstance(value, str) else _whole(value)
    except TypeError:
        return None


def flags(function: Function) -> Function:
    """Check every argument that the function's annotations say is a ``bool``, before it is called.

    A decorator for what Python's callers use: ``bias="no"`` would be true without a word. Python's
    and NumPy's truth values are passed on as ``bool``, and so are 0 and 1.

    Raises
    ------
    TinyshuffleError
        Names the argument, the value and what it must be.

    >>> @flags
    ... def layer(channels, bias: bool = True):
    ...     return bias
    >>> layer(3), layer(3, np.bool_(False)), layer(3, bias=0)
    (True, False, False)
    >>> layer(3, bias="no")
    Traceback (most recent call last):
    ...
    tinyshuffle.errors.TinyshuffleError: bias='no' was given: it must be true or false
    """
    places = [
        (i, name, _FLAGS[str(parameter.annotation)])
        for i, (name, parameter) in enumerate(inspect.signature(function).parameters.items())
        if str(parameter.annotation) in _FLAGS
    ]

    @functools.wraps(function)
    def checked(*args: Any, **kwargs: Any) -> Any:
        for i, name, kind in places:
            given = args[i] if i < len(args) else kwargs.get(name, False)
            if given is True or given is False:
                continue
            value = read(name, given, kind, text=False)
            if i < len(args):
                args = (*args[:i], value, *args[i + 1 :])
            else:
                kwargs[name] = value
        return function(*args, **kwargs)

    return checked  # type: ignore[return-value]


_FLAGS: dict[str, Any] = {
    "bool": bool, "<class 'bool'>": bool, "bool | None": bool | None,
}  # fmt: skip
"""Annotations, as they stand in the source, and what they mean."""


def _flag(value: Any) -> bool:
    if isinstance(value, str):
        if not value.strip():  # which click would take for false
            raise ValueError
        import click

        try:
            return bool(click.BOOL.convert(value.strip(), None, None))
        except click.BadParameter:
            raise ValueError from None
    if isinstance(value, bool | np.bool_) or _whole(value) in (0, 1):
        return bool(value)
    raise ValueError


def _whole(value: Any) -> int:
    if isinstance(value, bool | np.bool_):
        raise TypeError
    return int(plain(value)) if isinstance(value, str) else operator.index(value)


def _real(value: Any) -> float:
    if isinstance(value, bool | np.bool_) or not isinstance(value, str | numbers.Real):
        raise TypeError
    number = float(plain(value) if isinstance(value, str) else value)
    if not math.isfinite(number):
        raise ValueError
    return number


def _text(value: Any) -> str:
    if not isinstance(value, str):
        raise TypeError
    return value


def _table(value: Any) -> dict[str, Any]:
    if not isinstance(value, dict) or not all(isinstance(key, str) for key in value):
        raise TypeError
    return dict(value)


def _list(value: Any) -> list[int]:
    if isinstance(value, str):
        text = value.strip()
        if text[:1] + text[-1:] in ("[]", "()"):
            text = text[1:-1].strip()
            if not text:
                return []
        return [int(plain(part)) for part in text.removesuffix(",").split(",")]
    if not isinstance(value, list | tuple | np.ndarray):
        raise TypeError
    if any(isinstance(part, str) for part in value):
        raise TypeError
    return [_whole(part) for part in value]


_KINDS: dict[Any, tuple[Callable[[Any], Any], str]] = {
    bool: (_flag, "true or false"),
    int: (_whole, "a whole number"),
    float: (_real, "a finite number"),
    str: (_text, "text"),
    dict: (_table, "a table, such as { se = true }"),
    tuple: (lambda value: tuple(_list(value)), "a list of whole numbers, such as 16,24,32"),
    Sequence: (_list, "a list of whole numbers, such as 48,96,192"),
}
"""How each type is read, and what it is called."""
