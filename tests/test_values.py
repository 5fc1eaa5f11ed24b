"""Values that users write: read as the type that they are for, or refused in a sentence."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest

from tinyshuffle.errors import TinyshuffleError
from tinyshuffle.values import read


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
        ("nan", float, "a number"),
        ("1e999", float, "a number"),
        (10**400, float, "a number"),
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
