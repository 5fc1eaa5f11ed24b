"""Values that users write: read as the type that they are for, or refused in a sentence."""

from __future__ import annotations

import dataclasses
import importlib
import inspect
import math
import pkgutil
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
import pytest

import tinyshuffle as ts
from tinyshuffle.errors import TinyshuffleError
from tinyshuffle.values import flags, read


@pytest.mark.parametrize("word", ["False", "false", "no", "off", "0", "n", " OFF ", False, 0])
def test_words_for_no(word):
    assert read("se", word, bool) is False


@pytest.mark.parametrize("word", ["True", "yes", "on", "1", "t", True, 1, np.bool_(True)])
def test_words_for_yes(word):
    assert read("se", word, bool) is True


@pytest.mark.parametrize(
    "value, kind, result",
    [
        ("3", int, 3),
        (np.int64(3), int, 3),
        ("0.5", float, 0.5),
        (np.float32(0.5), float, 0.5),
        (2, float, 2.0),
        ("16,24,32", Sequence[int], [16, 24, 32]),
        ("[16, 24, 32]", tuple[int, ...], (16, 24, 32)),
        ("(16,)", Sequence[int], [16]),
        ((np.int64(8), 16), Sequence[int], [8, 16]),
        ("[]", Sequence[int], []),
        ("none", int | None, None),
        (None, Sequence[int] | None, None),
        ("none", str | None, "none"),
        ("paper", str, "paper"),
    ],
)
def test_what_fits(value, kind, result):
    found = read("x", value, kind)
    assert found == result and type(found) is type(result)


@pytest.mark.parametrize(
    "value, kind, words",
    [
        ("maybe", bool, "true or false"),
        ("", bool, "true or false"),
        (2, bool, "true or false"),
        (0.0, bool, "true or false"),
        ("three", int, "a whole number"),
        (True, int, "a whole number"),
        (3.0, int, "a whole number"),
        ("9" * 5000, int, "a whole number"),
        (None, int, "a whole number"),
        ("nan", float, "a finite number"),
        ("1e999", float, "a finite number"),
        (10**400, float, "a finite number"),
        (math.inf, float, "a finite number"),
        ("1_0", float, "a finite number"),
        ("1_0", int, "a whole number"),
        ("\u0663", int, "a whole number"),
        ("1_6,24", Sequence[int], "a list of whole numbers"),
        ("16;24", Sequence[int], "a list of whole numbers"),
        (",", Sequence[int], "a list of whole numbers"),
        ("", Sequence[int], "a list of whole numbers"),
        (16, Sequence[int], "a list of whole numbers"),
        (["16"], Sequence[int], "a list of whole numbers"),
        ([True], Sequence[int], "a list of whole numbers"),
        (3, str, "text"),
        ("x", dict, "a table"),
    ],
)
def test_what_does_not_fit_is_a_sentence(value, kind, words):
    with pytest.raises(TinyshuffleError, match=rf"^x=.* was given: it must be {words}") as error:
        read("x", value, kind)
    assert len(str(error.value)) < 200 and "\n" not in str(error.value)


def test_python_gives_the_type_itself():
    for value, kind in (("no", bool), ("3", int), ("1,2", Sequence[int])):
        with pytest.raises(TinyshuffleError, match="was given"):
            read("x", value, kind, text=False)


# ---- flags of Python's callers

INSIDE = ("cli", "kernels.jit", "nn.chain", "values", "bench.peer_torch", "__main__", "conftest")
"""Modules that are called from inside only, or by click, which reads the flags itself."""


def public_functions() -> Iterator[tuple[str, Callable[..., Any]]]:
    """Every public function, constructor and method of the package."""
    for found in pkgutil.walk_packages(ts.__path__, "tinyshuffle."):
        if any(f".{name}" in found.name for name in INSIDE):
            continue
        module = importlib.import_module(found.name)
        for name in getattr(module, "__all__", []):
            thing = getattr(module, name)
            if getattr(thing, "__module__", None) != found.name:
                continue  # it is another module's
            if not inspect.isclass(thing):
                if inspect.isfunction(thing):
                    yield f"{found.name}.{name}", thing
                continue
            for method, function in vars(thing).items():
                made = method == "__init__" and dataclasses.is_dataclass(thing)
                public = not method.startswith("_") or method == "__init__"
                if inspect.isfunction(function) and public and not made:
                    yield f"{found.name}.{name}.{method}", function


FLAGS = [
    pytest.param(function, parameter.name, id=f"{name}-{parameter.name}")
    for name, function in public_functions()
    for parameter in inspect.signature(function).parameters.values()
    if parameter.annotation in ("bool", "bool | None")
]


@pytest.mark.parametrize(("function", "name"), FLAGS)
def test_no_flag_takes_a_word_for_truth(function, name):
    for word in ("no", "False", "", 2, 0.5, [], np.array([True, False])):
        given = {
            other.name: True
            for other in inspect.signature(function).parameters.values()
            if other.default is other.empty and other.kind is other.POSITIONAL_OR_KEYWORD
        }
        with pytest.raises(TinyshuffleError, match=rf"^{name}=.* must be true or false"):
            function(**given | {name: word})


def test_there_are_many_flags():
    assert len(FLAGS) > 60


@pytest.mark.parametrize("value", [True, 1, np.bool_(True), np.int64(1)])
def test_flags_arrive_as_bool(value):
    @flags
    def function(x, flag: bool = False, *, other: bool | None = None):
        return x, flag, other

    assert function(7) == (7, False, None)
    for got in (function(7, value, other=value), function(x=7, flag=value, other=value)):
        assert got == (7, True, True) and type(got[1]) is type(got[2]) is bool


def test_layers_and_models_take_flags_of_any_kind():
    assert ts.nn.Conv2d(3, 4, 1, bias=np.bool_(False)).bias is None
    assert ts.nn.Linear(3, 4, 0).bias is None
    assert ts.nn.MaxPool2d(2, ceil_mode=1).ceil_mode is True
    net = ts.nn.Sequential(ts.nn.ReLU())
    assert net.train(np.bool_(False)).training is False
    with pytest.raises(TinyshuffleError, match="mode='no'"):
        net.train("no")
    _, test_set = ts.data.load("shapes")
    with pytest.raises(TinyshuffleError, match="augment='no'"):
        ts.data.batches(test_set, 8, augment="no")
