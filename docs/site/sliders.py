"""Every picture that a lesson's sliders can show, drawn when the site is built.

A page has no kernel, so the picture of each combination of values is drawn beforehand, by the same
function that the lesson's cell hands to ``plots.slider``. Of the cells before it only those
statements run that it needs: nothing is measured, nothing is trained. ``static/sliders.js`` shows
the picture that belongs to where the sliders stand.
"""

from __future__ import annotations

import ast
import base64
import contextlib
import html
import inspect
import io
import itertools
import json
import symtable
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple
from unittest import mock

from joblib import Parallel, delayed
from PIL import Image

from tinyshuffle import plots
from tinyshuffle.plots.notebook import _bundle


def write(books: Sequence[dict], folder: Path) -> dict[str, str]:
    """Draw what all sliders of the notebooks can show, and write it below ``folder``.

    Parameters
    ----------
    books : sequence of dict
        Notebooks, as their JSON has them.
    folder : Path
        A slider's pictures are written to the folder in it that has the name of the cell.

    Returns
    -------
    dict
        By the name of a cell, the HTML in which ``sliders.js`` finds what there is to move.
    """
    cells = [
        (cell["id"], source)
        for book in books
        for cell, source in zip(book["cells"], sources(book), strict=True)
        if source and "plots.slider(" in source[-1]
    ]
    found = Parallel(n_jobs=-1)(delayed(draw)(source, folder / name) for name, source in cells)
    return {name: markup(name, slider) for (name, _), slider in zip(cells, found, strict=True)}


def sources(book: dict) -> list[list[str]]:
    """For each cell the code up to and with it; nothing for one that is no code."""
    code: list[str] = []
    found = []
    for cell in book["cells"]:
        if cell["cell_type"] == "code":
            code = [*code, "".join(cell["source"])]
        found.append(code if cell["cell_type"] == "code" else [])
    return found


# ---- of the code before a slider, what it needs


def needed(code: Sequence[str]) -> list[ast.stmt]:
    """The statements of the last cell, and before them those which bind a name that they use."""
    *before, last = (ast.parse(cell).body for cell in code)
    kept: list[ast.stmt] = []
    names: set[str] = set()
    for statement in reversed([*itertools.chain(*before), *last]):
        binds = bound(statement)
        if statement in last or binds & names:
            kept.insert(0, statement)
            names = names - binds if made_anew(statement) else names
            names |= used(statement)
    return kept


def used(statement: ast.stmt) -> set[str]:
    """Names of the lesson that a statement reads; a function's own names are not among them."""
    whole = symtable.symtable(ast.unparse(statement), "<lesson>", "exec")
    names, tables = set(), [whole]
    while tables:
        table = tables.pop()
        tables += table.get_children()
        names |= {
            symbol.get_name()
            for symbol in table.get_symbols()
            if symbol.is_referenced() and (table is whole or symbol.is_global())
        }
    return names


def made_anew(statement: ast.stmt) -> bool:
    """Whether what a statement binds is all its own, whatever stood there before."""
    if isinstance(statement, ast.Assign):
        return not any(
            isinstance(node, ast.Attribute | ast.Subscript)
            for target in statement.targets
            for node in ast.walk(target)
        )
    kinds = ast.FunctionDef | ast.ClassDef | ast.Import | ast.ImportFrom
    return isinstance(statement, kinds)


def bound(statement: ast.stmt) -> set[str]:
    """Names that a statement makes, or into which it writes."""
    if isinstance(statement, ast.FunctionDef | ast.ClassDef):
        return {statement.name}
    names = set()
    for node in ast.walk(statement):
        if isinstance(node, ast.alias):
            names.add((node.asname or node.name).split(".")[0])
        elif isinstance(getattr(node, "ctx", None), ast.Store):
            while isinstance(node, ast.Attribute | ast.Subscript):
                node = node.value
            if isinstance(node, ast.Name):
                names.add(node.id)
    return names


# ---- its pictures


class Slider(NamedTuple):
    """What a cell hands to ``plots.slider``."""

    figure: Callable[..., Any]
    alt: str
    choices: dict[str, list[Any]]
    start: dict[str, Any]
    states: list[dict[str, Any]]


def handed(code: Sequence[str]) -> Slider:
    """Run what the slider of the last cell needs, and return what it is given."""
    found: list[Slider] = []

    def slider(
        figure: Callable[..., Any],
        alt: str,
        possible: Callable[..., bool] = lambda **_: True,
        **choices: Sequence[Any],
    ) -> None:
        parameters = inspect.signature(figure).parameters
        start = {name: parameters[name].default for name in choices}
        every = itertools.product(*choices.values())
        states = [dict(zip(choices, values, strict=True)) for values in every]
        lists = {name: list(values) for name, values in choices.items()}
        fits = [state for state in states if possible(**state)]
        found.append(Slider(figure, alt, lists, start, fits))

    program = ast.Module(needed(code), type_ignores=[])
    silent = contextlib.redirect_stdout(io.StringIO())
    with silent, mock.patch.multiple(plots, slider=slider, show=nothing, table=nothing):
        exec(compile(program, "<lesson>", "exec"), {"__name__": "__main__"})
    (one,) = found
    return one


def nothing(*_: Any, **__: Any) -> None:
    """What a cell shows beside its slider."""


def draw(code: Sequence[str], folder: Path) -> dict[str, Any]:
    """Draw each state of a slider, and return what a page has to know."""
    slider = handed(code)
    folder.mkdir(parents=True)
    alts = {}
    for state in slider.states:
        picture, alts[key(state, slider.choices)] = drawn(slider, state)
        picture.save(folder / f"{key(state, slider.choices)}.webp", lossless=True, quality=100)
    start = key(slider.start, slider.choices)
    return {"choices": slider.choices, "start": start, "states": alts}


def drawn(slider: Slider, state: dict[str, Any]) -> tuple[Image.Image, str]:
    """The picture of a state as a notebook would show it, and its alternative text."""
    data, about = _bundle(slider.figure(**state), slider.alt.format(**state))
    picture = Image.open(io.BytesIO(base64.b64decode(data["image/png"])))
    return picture.convert("RGB"), about["image/png"]["alt"]


def key(state: dict[str, Any], choices: dict[str, list[Any]]) -> str:
    """The name of a state: the place of each of its values among the choices."""
    return "-".join(str(values.index(state[name])) for name, values in choices.items())


def markup(name: str, slider: dict[str, Any]) -> str:
    """What ``sliders.js`` reads; it shows nothing by itself."""
    data = html.escape(json.dumps(slider, ensure_ascii=False))
    return f'<div class="ts-slider" data-cell="{name}" data-slider="{data}"></div>'
