"""The slides are the lessons: every heading and figure in its place, no code, nothing added."""

from __future__ import annotations

import importlib.util
import re
import socket
from pathlib import Path
from urllib.parse import urlsplit

import pytest

nbformat = pytest.importorskip("nbformat")
pytest.importorskip("nbconvert")
bs4 = pytest.importorskip("bs4")

COURSE = Path(__file__).parents[2] / "docs" / "course"
spec = importlib.util.spec_from_file_location("slides", COURSE / "slides.py")
slides = importlib.util.module_from_spec(spec)
spec.loader.exec_module(slides)


def pictures(book) -> list[str]:
    """The figures of a notebook, in their order."""
    outputs = [output for cell in book.cells for output in cell.get("outputs", [])]
    return [o.data["image/png"] for o in outputs if "image/png" in o.get("data", {})]


def squeezed(text: str) -> str:
    """A text without what line breaks and links change."""
    return "".join(slides.LINK.sub(r"\1", text).split())


@pytest.mark.parametrize("path", slides.LESSONS, ids=lambda path: path.stem[:2])
def test_slides_are_the_lesson(path):
    lesson = nbformat.read(path, as_version=4)
    deck = slides.slides(lesson)
    words = [cell for cell in deck.cells if cell.cell_type == "markdown"]
    assert all(not cell.source for cell in deck.cells if cell.cell_type == "code")
    assert pictures(deck) == pictures(lesson)

    text = "\n".join(cell.source for cell in lesson.cells if cell.cell_type == "markdown")
    sections = [c.source for c in words if c.metadata.slideshow.slide_type == "slide"]
    assert [s.split("\n")[0] for s in sections] == re.findall(r"^##? .+", text, re.MULTILINE)
    below = [c.source for c in words if c.metadata.slideshow.slide_type == "subslide"]
    assert set(re.findall(r"^### .+", text, re.MULTILINE)) <= {s.split("\n")[0] for s in below}

    whole = squeezed(text)
    for cell in words:
        for part in cell.source.split("\n\n"):
            assert squeezed(part) in whole
    for source in sections[:-2] + below:  # all but the summary and what a student can do now
        said = re.sub(r"\$\$.+?\$\$", "", source, flags=re.DOTALL)
        assert len(said) < 450, "too much for a slide: " + said


def test_a_sentence_ends_where_it_ends():
    said = "*Xie et al., arXiv 1.* See $a. B$ of V. Vapnik et al. 2015, **bold.** Then more."
    assert slides.claim(said) == said.removesuffix(" Then more.")
    assert slides.claim("| a |\n\n(Aside. No.)\n\nIt is:\n\n$$x$$\n\n$$y$$") == "It is:\n\n$$x$$"


def test_a_page_holds_its_figures_and_what_it_loads_is_named(monkeypatch):
    monkeypatch.setattr(socket.socket, "connect", None)  # nothing is fetched
    lesson = nbformat.read(slides.LESSONS[0], as_version=4)
    html = slides.page(slides.slides(lesson))
    soup = bs4.BeautifulSoup(html, "html.parser")
    shown = soup.select("section img")
    start = "data:image/png;base64,"
    assert ["".join(i["src"].split()) for i in shown] == [
        start + "".join(png.split()) for png in pictures(lesson)
    ]
    outputs = [output for cell in lesson.cells for output in cell.get("outputs", [])]
    wanted = [o.metadata["image/png"]["alt"] for o in outputs if "image/png" in o.get("data", {})]
    assert [image["alt"] for image in shown] == wanted
    assert "import numpy" not in html and not soup.select(".jp-InputArea-editor")

    loaded = re.findall(r"['\"](https://[^'\"]+(?:js|css)\b[^'\"]*)", html)
    told = (COURSE / "README.md").read_text(encoding="utf-8")
    assert any("reveal.js" in url for url in loaded)
    for host in {urlsplit(url).netloc for url in loaded}:
        assert host in told
