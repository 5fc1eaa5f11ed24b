"""What an exercise is, and how an answer to it is judged."""

from __future__ import annotations

import inspect
import os
import re
import sys
import textwrap
import traceback
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from types import FrameType
from typing import Any

import numpy as np

from ..backend import backend
from ..text import message, shown, visible

__all__ = ["Exercise", "Mistake", "Reply", "describe", "judge"]

WIDTH = 88  # characters in a line of a reply
SHOWN = 12  # an array with more numbers is described, not printed


@dataclass(frozen=True)
class Mistake:
    """A mistake that many have made before.

    Attributes
    ----------
    name : str
        What was done: "the channels were written as (n, G) instead of (G, n)".
    wrong : callable
        The exercise with that mistake in it. Who gets the same results has made it.
    see : str
        Where to read, if it is not the exercise's section: "notebook 02, section 2".
    """

    name: str
    wrong: Callable[..., Any]
    see: str = ""


@dataclass(frozen=True)
class Exercise:
    """One task: a function to write, or a number to predict.

    Attributes
    ----------
    key : str
        "03.2": the second exercise of notebook 03.
    title : str
    name : str
        What the student's function or number is called.
    reference : callable
        The right answer, from the library. Its parameters' names are used in replies.
    section : int
        The section of the lesson's notebook to re-read.
    hints : (str, str)
    mistakes : tuple of Mistake
    cases : callable, optional
        Makes the arguments of each case, the smallest first, and fresh ones at every call. Absent
        if the answer is a number.
    outputs : tuple of str
        The names of the results, if there are several.
    tolerance : float
        Relative to the largest number that is expected.
    observe : callable
        What of a result is compared (the points of a figure, say); its errors say why a result
        cannot be used.
    further : callable, optional
        Takes an answer that has passed the cases; returns a complaint, or None.
    may_call : tuple of str
        Functions of the library that an answer may use. An answer that calls another one has handed
        the exercise to the library, and is told so.
    """

    key: str
    title: str
    name: str
    reference: Callable[..., Any]
    section: int
    hints: tuple[str, str]
    mistakes: tuple[Mistake, ...]
    cases: Callable[[], Sequence[tuple[Any, ...]]] | None = None
    outputs: tuple[str, ...] = ()
    tolerance: float = 1e-6
    observe: Callable[[Any], Any] = lambda result: result
    further: Callable[[Any], str | None] | None = None
    may_call: tuple[str, ...] = ()

    @property
    def see(self) -> str:
        return f"notebook {self.key[:2]}, section {self.section}"


@dataclass(frozen=True)
class Reply:
    """A verdict that is true if the answer is right, and shows itself as a sentence or two."""

    right: bool
    sentence: str

    def __bool__(self) -> bool:
        return self.right

    def __repr__(self) -> str:
        return textwrap.fill(
            visible(self.sentence), WIDTH, break_long_words=False, break_on_hyphens=False
        )


def judge(exercise: Exercise, answer: Any) -> Reply:
    """Judge an answer: a function, or a number."""
    judge_it = _judge_function if exercise.cases else _judge_number
    with backend("numpy"):  # the definition; and nothing has to be compiled first
        complaint = judge_it(exercise, answer)
    if complaint is None:
        return Reply(True, f"{exercise.key} is right ({exercise.title}).")
    return Reply(False, f"{exercise.key} {complaint}")


def _judge_number(exercise: Exercise, answer: Any) -> str | None:
    name = exercise.name
    if answer is None or answer is ...:
        return f"has no answer yet: set {name} to the number that you predict."
    if callable(answer):
        return f"asks for a number, and {name} is a function: give the number."
    number = _numbers(answer)
    if number is None or number.ndim or np.isnan(number):
        return f"asks for a number, and {name} is {shown(answer)}: give the number."
    if _same(number, exercise.reference(), exercise.tolerance):
        return None
    # the right number is not given away; whether one is above or below helps to find it
    side = "too large" if number > exercise.reference() else "too small"
    return f"is not right yet: {_show(number)} is {side}. " + _advice(
        exercise, lambda wrong: _same(number, wrong(), exercise.tolerance)
    )


def _judge_function(exercise: Exercise, answer: Any) -> str | None:
    if answer is None or answer is ...:
        return f"has no answer yet: write the function {exercise.name}."
    if not callable(answer):
        return (
            f"asks for a function, and was given a value of type {type(answer).__name__}: "
            f"give {exercise.name} itself, without calling it."
        )
    assert exercise.cases
    results, first = [], None
    for case, (mine, yours) in enumerate(zip(exercise.cases(), exercise.cases(), strict=True)):
        expected = exercise.reference(*mine)
        complaint, result = _call(exercise, answer, yours, expected)
        results.append(result)
        first = first or (complaint and _where(exercise, case) + complaint)
    if first is not None:
        return first + " " + _advice(exercise, lambda wrong: _repeats(exercise, wrong, results))
    if exercise.further is not None:
        try:
            complaint = exercise.further(answer)
        except (Exception, SystemExit) as error:
            return f"is right for small arguments, but for larger ones {_raised(error, answer)}"
        if complaint:
            return complaint
    borrowed = set().union(*(_borrowed(answer, case) for case in exercise.cases()))
    borrowed -= set(exercise.may_call)
    if borrowed:
        return (
            f"gives the right result, but {exercise.name} calls the library's own "
            f"{min(borrowed)}: write it yourself. Re-read {exercise.see}."
        )
    return None


def _where(exercise: Exercise, case: int) -> str:
    assert exercise.cases
    arguments = exercise.cases()[case]
    names = inspect.signature(exercise.reference).parameters
    words = ", ".join(
        f"{name} of shape {value.shape}" if isinstance(value, np.ndarray)
        else f"{name}={_show_argument(value)}"
        for name, value in zip(names, arguments, strict=True)
    )  # fmt: skip
    return f"is not right yet. For {words}, "


def _show_argument(value: Any) -> str:
    if isinstance(value, list) and value and not isinstance(value[0], int | float | str | tuple):
        return "[" + ", ".join(type(v).__name__ for v in value) + "]"
    return getattr(value, "__name__", None) or repr(value)


def _call(
    exercise: Exercise, answer: Any, arguments: tuple[Any, ...], expected: Any
) -> tuple[str | None, Any]:
    """Call the student's function: a complaint or None, and what came out."""
    held = [_arrays(argument) for argument in arguments]
    before = [[array.copy() for array in arrays] for arrays in held]
    try:
        result = answer(*arguments)
    except NotImplementedError:
        return "it says that it is not implemented yet: write the body.", None
    except (Exception, SystemExit) as error:  # whatever a student's code may raise
        return _raised(error, answer), None
    if result is None:
        return "it returns nothing: write the body, and return the result.", None
    for name, olds, news in zip(
        inspect.signature(exercise.reference).parameters, before, held, strict=True
    ):
        for old, new in zip(olds, news, strict=True):
            if np.array_equal(old, new, equal_nan=True):
                continue
            rounded = old.shape == new.shape and np.allclose(old, new)
            advice = " by rounding: put the old numbers back." if rounded else ": work on a copy."
            return f"it changes its argument {name}{advice}", None
    try:
        result = exercise.observe(result)
    except Exception as error:
        return f"its result cannot be used: {message(error)}.", None
    return _difference(exercise, result, expected), result


def _arrays(argument: Any) -> list[np.ndarray]:
    """The arrays that an answer has to leave as they are: an argument, or those in a list."""
    values = argument if isinstance(argument, list) else [argument]
    return [value for value in values if isinstance(value, np.ndarray)]


def _borrowed(answer: Any, arguments: tuple[Any, ...]) -> set[str]:
    """Names of the library's functions that an answer calls, under whatever name it imported them.

    A call counts if it leads from a file that is not the library's into one that is. What an
    exercise hands over (a function of this course, a layer) is called too, and is no fault: the
    course's own files do not count, and layers stand in ``may_call``.
    """
    found: set[str] = set()
    package = os.path.dirname(os.path.dirname(__file__)) + os.sep
    course = os.path.dirname(__file__) + os.sep

    def watch(frame: FrameType, event: str, _: Any) -> None:
        if event == "call" and frame.f_back is not None:
            into, out_of = frame.f_code.co_filename, frame.f_back.f_code.co_filename
            if into.startswith(package) and not out_of.startswith(package):
                if not into.startswith(course):
                    # a function that first checks its flags stands in a wrapper's closure
                    name = frame.f_code.co_name
                    found.add(frame.f_locals["function"].__name__ if name == "checked" else name)

    before = sys.getprofile()
    sys.setprofile(watch)
    try:
        answer(*arguments)
    finally:
        sys.setprofile(before)
    return found


def describe(error: BaseException) -> str:
    """Return an error's type and message in one line, though its ``__str__`` may raise."""
    return f"{visible(type(error).__name__)}: {message(error)}"


def _raised(error: BaseException, answer: Any) -> str:
    """Say what a student's function raises, and in which of its lines."""
    code = getattr(getattr(answer, "py_func", answer), "__code__", None)  # of a numba function too
    frames = traceback.extract_tb(error.__traceback__)
    theirs = [frame.line for frame in frames if code and frame.filename == code.co_filename]
    where = f', in the line "{theirs[-1]}"' if theirs and theirs[-1] else ""
    return f"it raises {describe(error).rstrip('.')}{where}."


def _difference(exercise: Exercise, result: Any, expected: Any) -> str | None:
    """Say what is wrong with a result; None if nothing is."""
    if not exercise.outputs:
        return _difference_of_one(f"{exercise.name} returns", result, expected, exercise.tolerance)
    names = ", ".join(exercise.outputs)
    if not isinstance(result, tuple | list):
        return f"it returns a value of type {type(result).__name__} where ({names}) is expected."
    if len(result) != len(exercise.outputs):
        return f"it returns {len(result)} results where ({names}) is expected."
    if _same_outputs(exercise, result, expected):
        return None
    if _same_outputs(exercise, result[::-1], expected):
        return f"the results are in the wrong order: ({names}) is expected."
    complaints = (
        _difference_of_one(f"as {name}, {exercise.name} returns", one, right, exercise.tolerance)
        for name, one, right in zip(exercise.outputs, result, expected, strict=True)
    )
    return next(complaint for complaint in complaints if complaint)


def _difference_of_one(what: str, result: Any, expected: Any, tolerance: float) -> str | None:
    if _same(result, expected, tolerance):
        return None
    got, right = _numbers(result), _numbers(expected)
    assert right is not None
    if got is None:
        return f"{what} a value of type {type(result).__name__} where numbers are expected."
    if got.shape != right.shape:
        shapes = f"of shape {got.shape} where {right.shape} is expected"
        if _same(got.ravel(), right.ravel(), tolerance):
            return f"{what} the right numbers, but {shapes}."
        return f"{what} an array {shapes}."
    if right.size <= SHOWN and _show(got) != _show(right):
        return f"{what} {_show(got)} where {_show(right)} is expected."
    bad = ~np.isclose(got, right, rtol=0, atol=_absolute(right, tolerance))
    at = tuple(int(i) for i in np.argwhere(bad)[0])
    return (
        f"{what} {bad.size} numbers, {bad.sum()} of them wrong; the first is at {list(at)}: "
        f"{got[at] + 0:.9g} where {right[at]:.9g} is expected."
    )


def _advice(exercise: Exercise, made: Callable[[Callable[..., Any]], bool]) -> str:
    """Name the mistake, if it is a known one, and say where to read."""
    for mistake in exercise.mistakes:
        if made(mistake.wrong):
            return f"A known mistake: {mistake.name}. Re-read {mistake.see or exercise.see}."
    return f'Re-read {exercise.see}, or ask ts.course.hint("{exercise.key}").'


def _repeats(exercise: Exercise, wrong: Callable[..., Any], results: list[Any]) -> bool:
    """Does this mistake do the very same in every case, and the wrong thing in one?"""
    assert exercise.cases
    explains = False
    if all(result is None for result in results):
        return False
    for case, mine, result in zip(exercise.cases(), exercise.cases(), results, strict=True):
        try:
            with np.errstate(all="ignore"), warnings.catch_warnings():
                warnings.simplefilter("ignore")
                mistaken = wrong(*case)
        except Exception:  # with such arguments this mistake ends in an error
            mistaken = None
        if result is None or mistaken is None:
            if result is not mistaken:
                return False
            explains = True
        elif not _same_outputs(exercise, result, mistaken):
            return False
        else:
            explains |= not _same_outputs(exercise, result, exercise.reference(*mine))
    return explains


def _same_outputs(exercise: Exercise, a: Any, b: Any) -> bool:
    if not exercise.outputs:
        return _same(a, b, exercise.tolerance)
    if not isinstance(a, tuple | list) or len(a) != len(b):
        return False
    return all(_same(x, y, exercise.tolerance) for x, y in zip(a, b, strict=True))


def _same(a: Any, b: Any, tolerance: float) -> bool:
    a, b = _numbers(a), _numbers(b)
    if a is None or b is None or a.shape != b.shape:
        return False
    return np.allclose(a, b, rtol=0, atol=_absolute(b, tolerance), equal_nan=True)


def _numbers(value: Any) -> np.ndarray | None:
    """Return an array of floats, or None: strings, None and ragged lists are no numbers."""
    try:
        array = np.asarray(value)
        if array.dtype.kind == "O":  # fractions, say
            return np.vectorize(float, otypes=[float])(array)
        return array.astype(float) if array.dtype.kind in "buif" else None
    except (TypeError, ValueError, OverflowError):
        return None


def _absolute(expected: np.ndarray, tolerance: float) -> float:
    largest = np.abs(expected[np.isfinite(expected)]).max(initial=0.0)
    return tolerance * float(largest) or 1e-12


def _show(value: Any) -> str:
    value = np.asarray(value, dtype=float)
    if value.ndim == 0:
        number = float(value)
        return f"{number:,.0f}" if number.is_integer() and abs(number) < 1e15 else f"{number:.6g}"
    value = value.round(4)
    whole = np.isfinite(value).all() and (value == value.round()).all()
    text = np.array2string(value.astype(int) if whole else value, separator=" ")
    return re.sub(r"(?<=\[) +| +(?=\])", "", " ".join(text.split()))
