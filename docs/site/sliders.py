"""Every picture that a lesson's sliders can show, drawn when the site is built.

A page has no kernel, so the picture of each combination of values is drawn beforehand, by the same
function that the lesson's cell hands to ``plots.slider``. Of the cells before it only those
statements run that it needs: nothing is measured, nothing is trained. ``static/sliders.js`` shows
the picture that belongs to where the sliders stand.
"""

from __future__ import annotations

import ast
import base64
import html
import inspect
import io
import itertools
import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any
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
    drawn = Parallel(n_jobs=-1)(delayed(draw)(source, folder / name) for name, source in cells)
    return {name: markup(name, slider) for (name, _), slider in zip(cells, drawn, strict=True)}


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
    kept, names = last, used(last)
    for statement in reversed(list(itertools.chain(*before))):
        if bound(statement) & names:
            kept, names = [statement, *kept], names | used([statement])
    return kept


def used(statements: Sequence[ast.stmt]) -> set[str]:
    """Names that the statements read."""
    nodes = itertools.chain(*map(ast.walk, statements))
    return {n.id for n in nodes if isinstance(n, ast.Name) and isinstance(n.ctx, ast.Load)}


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


def draw(code: Sequence[str], folder: Path) -> dict[str, Any]:
    """Run what a slider needs, draw each of its states, and return what a page has to know."""
    found: list[dict[str, Any]] = []

    def slider(
        figure: Callable[..., Any],
        alt: str,
        possible: Callable[..., bool] = lambda **_: True,
        **choices: Sequence[Any],
    ) -> None:
        parameters = inspect.signature(figure).parameters
        start = {name: parameters[name].default for name in choices}
        alts = {}
        folder.mkdir(parents=True)
        for values in itertools.product(*choices.values()):
            state = dict(zip(choices, values, strict=True))
            if possible(**state):
                data, about = _bundle(figure(**state), alt.format(**state))
                picture = Image.open(io.BytesIO(base64.b64decode(data["image/png"])))
                # the same pixels in half the bytes
                place = folder / f"{key(state, choices)}.webp"
                picture.convert("RGB").save(place, lossless=True, quality=100)
                alts[key(state, choices)] = about["image/png"]["alt"]
        labels = {name: list(values) for name, values in choices.items()}
        found.append({"choices": labels, "start": key(start, choices), "states": alts})

    program = ast.Module(needed(code), type_ignores=[])
    with mock.patch.object(plots, "slider", slider):
        exec(compile(program, str(folder), "exec"), {"__name__": "__main__"})
    (one,) = found
    return one


def key(state: dict[str, Any], choices: dict[str, Sequence[Any]]) -> str:
    """The name of a state: the place of each of its values among the choices."""
    return "-".join(str(list(values).index(state[name])) for name, values in choices.items())


def markup(name: str, slider: dict[str, Any]) -> str:
    """What ``sliders.js`` reads; it shows nothing by itself."""
    data = html.escape(json.dumps(slider, ensure_ascii=False))
    return f'<div class="ts-slider" data-cell="{name}" data-slider="{data}"></div>'
