"""The sliders of the site's pages: what of a lesson is run for them, and what they can show."""

from __future__ import annotations

import ast
import base64
import importlib.util
import io
import json
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest

Image = pytest.importorskip("PIL.Image")

ROOT = Path(__file__).parents[2]
spec = importlib.util.spec_from_file_location("sliders", ROOT / "docs" / "site" / "sliders.py")
sliders = importlib.util.module_from_spec(spec)
spec.loader.exec_module(sliders)

LESSONS = sorted((ROOT / "notebooks").glob("[0-9][0-9]-*.ipynb"))
CELLS = {
    cell["id"]: (code, cell)
    for path in LESSONS
    for book in [json.loads(path.read_text(encoding="utf-8"))]
    for cell, code in zip(book["cells"], sliders.sources(book), strict=True)
    if code and "plots.slider(" in code[-1]
}


def test_of_a_lesson_only_what_the_slider_needs_is_run():
    code = [
        "import numpy as np, time\nfrom tinyshuffle import plots\nwidth = time.time()",
        "start = time.time()\nwidth, height = 2, 3\nnames = {}",
        "def area(n):\n    return n * width\nraise SystemExit('this would take an hour')",
        "names['a'] = 1\nprint(start)\nfor k in range(3):\n    other = k",
        "def draw(n=1):\n    return area(n) + names['a']\nplots.slider(draw, alt='', n=[1])",
    ]
    assert [ast.unparse(one).splitlines()[0] for one in sliders.needed(code)] == [
        "from tinyshuffle import plots", "width, height = (2, 3)", "names = {}", "def area(n):",
        "names['a'] = 1", "def draw(n=1):", "plots.slider(draw, alt='', n=[1])",
    ]  # fmt: skip


LESSON = [
    "from matplotlib.figure import Figure\nfrom tinyshuffle import plots",
    """def draw(channels=24, groups=2, what="a"):
    assert channels % groups == 0
    figure = Figure(figsize=(1, 1))
    figure.subplots().bar(range(groups), channels)
    return figure

plots.slider(draw, "{what} > {channels} in {groups}", channels=[24, 64], groups=range(2, 4),
             what=["a", '"b"'], possible=lambda channels, groups, what: channels % groups == 0)
""",
]


class Divs(HTMLParser):
    """The attributes of what is found."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.found: list[dict] = []
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        self.found.append(dict(attrs))


def test_every_possible_state_is_drawn_and_no_other(tmp_path):
    cells = [{"cell_type": "code", "id": f"c{i}", "source": s} for i, s in enumerate(LESSON)]
    book = {"cells": [{"cell_type": "markdown", "id": "m", "source": "plots.slider("}, *cells]}
    markup = sliders.write([book], tmp_path)
    assert list(markup) == ["c1"]
    (div,) = Divs(markup["c1"]).found
    assert div["data-cell"] == "c1"
    told = json.loads(div["data-slider"])
    assert told["choices"] == {"channels": [24, 64], "groups": [2, 3], "what": ["a", '"b"']}
    assert told["start"] == "0-0-0"
    assert told["states"] == {
        "0-0-0": "a > 24 in 2", "0-0-1": '"b" > 24 in 2', "0-1-0": "a > 24 in 3",
        "0-1-1": '"b" > 24 in 3', "1-0-0": "a > 64 in 2", "1-0-1": '"b" > 64 in 2',
    }  # fmt: skip
    assert {path.stem for path in (tmp_path / "c1").glob("*.webp")} == set(told["states"])


def test_there_are_sliders_in_ten_lessons():
    assert [name[:2] for name in CELLS] == [
        "01", "02", "03", "04", "04", "05", "06", "07", "08", "11", "12",
    ]  # fmt: skip


@pytest.mark.parametrize("name", CELLS)
def test_the_first_picture_is_the_one_that_the_notebook_holds(name):
    """So nothing is missing of the code that runs for it; and another state is another picture."""
    code, cell = CELLS[name]
    slider = sliders.handed(code)
    assert slider.start in slider.states and len(slider.states) > 1
    picture, alt = sliders.drawn(slider, slider.start)
    (output,) = (o for o in cell["outputs"] if "image/png" in o.get("data", {}))
    stored = Image.open(io.BytesIO(base64.b64decode("".join(output["data"]["image/png"]))))
    assert alt == output["metadata"]["image/png"]["alt"]
    assert picture.size == stored.size
    a, b = (np.asarray(one.convert("RGB"), float) for one in (picture, stored))
    assert np.abs(a - b).mean() < 2  # of 255: fonts are not drawn alike everywhere
    other, _ = sliders.drawn(slider, next(s for s in slider.states if s != slider.start))
    assert other.size != picture.size or np.abs(np.asarray(other, float) - a).mean() > 0.1
