"""Recipes: configurations with a name, as TOML files in ``recipes/``."""

from __future__ import annotations

import difflib
import sys
from pathlib import Path
from typing import Any

from ..errors import TinyshuffleError
from ..files import expand
from ..text import message, shown

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

__all__ = ["load", "names"]

MOST_CHARACTERS = 1_000_000  # a recipe has some hundred

FOLDER = Path(__file__).parent / "recipes"


def names() -> list[str]:
    """Return the names of the recipes that come with the library.

    >>> names()
    ['coffee', 'lecture', 'overnight', 'paper', 'zoo']
    """
    return sorted(path.stem for path in FOLDER.glob("*.toml"))


def load(recipe: str) -> dict[str, Any]:
    """Return a recipe's fields.

    Parameters
    ----------
    recipe : str
        A name, or the path of a file that ends in ``.toml``.

    Raises
    ------
    TinyshuffleError
        If there is no such recipe, or the file is not TOML.
    """
    own = not recipe.endswith(".toml")
    path = FOLDER / f"{recipe}.toml" if own else expand(recipe, "recipe")
    if own and recipe not in names():
        near = difflib.get_close_matches(recipe, names(), n=1)
        hint = f" (did you mean {near[0]}?)" if near else ""
        raise TinyshuffleError(
            f"there is no recipe called {shown(recipe)}{hint}: choose from {', '.join(names())}, "
            "or name a file that ends in .toml"
        )
    try:
        with open(path, encoding="utf-8-sig") as file:
            text = file.read(MOST_CHARACTERS + 1)
        if len(text) > MOST_CHARACTERS:
            raise ValueError(f"it is longer than {MOST_CHARACTERS:,} characters")
        return tomllib.loads(text)
    except OSError as error:
        raise TinyshuffleError(
            f"the recipe {path} cannot be read ({error.strerror or error}): check the path"
        ) from error
    except (ValueError, RecursionError) as error:  # of the syntax, the encoding, or brackets
        raise TinyshuffleError(
            f"the recipe {path} is not a TOML file ({message(error)}): "
            "see what --show prints for how one looks"
        ) from error
