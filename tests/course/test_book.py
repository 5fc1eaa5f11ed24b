"""The book: papers that lessons name are found, links stay within, and all of it is printed."""

from __future__ import annotations

import importlib.util
import os
import re
import shutil
from importlib.util import find_spec
from pathlib import Path

import pytest

nbformat = pytest.importorskip("nbformat")
pytest.importorskip("nbconvert")
bs4 = pytest.importorskip("bs4")

COURSE = Path(__file__).parents[2] / "docs" / "course"
spec = importlib.util.spec_from_file_location("book", COURSE / "book.py")
book = importlib.util.module_from_spec(spec)
spec.loader.exec_module(book)

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")

each_lesson = pytest.mark.parametrize("path", book.LESSONS, ids=lambda path: path.stem[:2])


def markdown(path: Path) -> list[str]:
    """The Markdown cells of a lesson."""
    cells = nbformat.read(path, as_version=4).cells
    return [cell.source for cell in cells if cell.cell_type == "markdown"]


@pytest.fixture(scope="module")
def known() -> list:
    return book.papers()


def test_the_first_two_papers_are_v1_and_v2(known):
    assert [paper.arxiv for paper in known[:2]] == [{"1707.01083"}, {"1807.11164"}]
    page = (COURSE.parent / "bibliography.md").read_text(encoding="utf-8")
    assert len(known) == page.count("\n- ")
    assert sum(len(paper.arxiv) for paper in known) == page.count("](https://arxiv.org/abs/")


@each_lesson
def test_a_paper_that_a_lesson_names_is_in_the_bibliography(path, known):
    for text in markdown(path):
        list(book.citations(text, known))  # refuses what is not


@each_lesson
def test_a_lesson_that_quotes_the_shufflenet_papers_says_where_they_are(path):
    text = "\n".join(markdown(path))
    for paper, source in {"V1": "arXiv 1707.01083", "V2": "arXiv 1807.11164"}.items():
        if re.search(rf"\b{paper},? (?:paper|Table|section|Figure)", text):
            assert source in text or "(../docs/bibliography.md)" in text, paper


def test_a_paper_gets_its_number_and_another_one_is_refused(known):
    def numbers(text: str) -> list[int]:
        return [n for _, n in book.citations(text, known)]

    assert numbers("as (He et al. 2015, arXiv 1502.01852) say; see arXiv 1807.11164") == [
        next(i for i, p in enumerate(known, 1) if "1502.01852" in p.arxiv), 2,
    ]  # fmt: skip
    assert numbers("In November 2026, with SE (2017), V3 (2019).") == []
    (han,) = numbers("(Hinton, Vinyals, Dean 2015)")
    assert known[han - 1].first == "Hinton"
    for text, found in {
        "Nobody et al. 2015": 0, "(Nobody and Noone 2015)": 0, "arXiv 9999.12345": 0,
        "He et al. 2015": 2, "Ma et al. 2017": 0,
    }.items():  # fmt: skip
        with pytest.raises(ValueError, match=rf"{text.strip('()')}” is {found} papers.*; add it"):
            numbers(text)


@each_lesson
def test_a_chapter_is_the_lesson(path, known):
    page = book.chapter(path, known)
    lesson = nbformat.read(path, as_version=4)
    outputs = [output for cell in lesson.cells for output in cell.get("outputs", [])]
    pictures = [output for output in outputs if "image/png" in output.get("data", {})]
    captions = [caption.get_text() for caption in page.select("figure > figcaption")]
    number = int(path.stem[:2])
    assert captions == [
        f"Figure {number}.{i}. {picture.metadata['image/png']['alt']}"
        for i, picture in enumerate(pictures, 1)
    ]
    code = [cell for cell in lesson.cells if cell.cell_type == "code"]
    assert len(page.select(".input_area")) == len(code)
    headings = re.findall(r"^##? (.+)", "\n".join(markdown(path)), re.MULTILINE)
    assert len(page.select("h1, h2")) == len(headings)
    within = r"https?://|#lesson-\d\d$|#paper-\d+$|#(bibliography|glossary|contents)$"
    assert all(re.match(within, a["href"]) for a in page.select("a[href]"))


def fake(tmp_path, monkeypatch, does="exit 1"):
    """A Chromium that does something else, and all else that is needed."""
    there = tmp_path / "chromium"
    there.write_text(f"#!/bin/sh\n{does}\n", encoding="utf-8")
    there.chmod(0o755)
    monkeypatch.setattr(book, "chromium", lambda: str(there))
    monkeypatch.setattr(book, "mathjax", lambda: there)
    monkeypatch.setattr(book, "find_spec", lambda name: name)
    monkeypatch.setattr(book, "CODE_STYLE", "default")  # Pygments' own
    monkeypatch.setattr(book, "LESSONS", [])
    monkeypatch.setattr(book, "BOOK", tmp_path / "book")


def refused(*arguments) -> str:
    with pytest.raises(SystemExit) as error:
        book.main(list(arguments))
    return str(error.value)


def test_what_is_missing_is_said_before_a_lesson_is_read(tmp_path, monkeypatch):
    looks = book.chromium
    fake(tmp_path, monkeypatch)
    monkeypatch.setattr(book, "papers", lambda: pytest.fail("too late"))
    for missing in "pypdf", "a11y_pygments":
        monkeypatch.setattr(book, "find_spec", lambda n, m=missing: None if n == m else n)
        assert re.fullmatch(f"Error: {missing} is missing: pip install .*", refused())
    monkeypatch.setattr(book, "chromium", looks)
    monkeypatch.setattr(book.shutil, "which", lambda name: None)
    assert re.fullmatch("Error: there is no Chromium here: install it .*", refused())
    assert refused("a.pdf") == "2" and refused("--help") == "0"


@pytest.mark.skipif(os.name == "nt", reason="a script stands for Chromium")
@pytest.mark.parametrize("does", ["echo no room >&2; exit 1", "echo no room >&2"])
def test_a_chromium_that_prints_nothing_is_an_error(tmp_path, monkeypatch, does):
    fake(tmp_path, monkeypatch, does)
    (tmp_path / "book").mkdir()
    (tmp_path / "book" / "tinyshuffle.pdf").write_text("an old one", encoding="utf-8")
    assert re.fullmatch("Error: Chromium has not printed .*; it says: no room", refused())


def test_a_place_that_cannot_be_written_and_ctrl_c_end_in_a_sentence(tmp_path, monkeypatch):
    fake(tmp_path, monkeypatch)
    (tmp_path / "book").write_text("", encoding="utf-8")  # no folder
    assert re.fullmatch("Error: the book cannot be written to .*", refused())

    def interrupted(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(book, "write", interrupted)
    assert refused() == "stopped: the book is not finished"


@pytest.mark.skipif(not CHROMIUM, reason="there is no Chromium here")
def test_the_book_is_printed(tmp_path, monkeypatch, capsys):
    pypdf = pytest.importorskip("pypdf")
    if find_spec("mathjax") is None:
        pytest.skip('pip install -e ".[docs]"')
    monkeypatch.setattr(book, "BOOK", tmp_path)
    book.main([])
    assert re.search(r"\d+ pages, [\d.]+ MB, \d+ s", capsys.readouterr().out)
    pages = [page.extract_text() for page in pypdf.PdfReader(tmp_path / "tinyshuffle.pdf").pages]
    text = "\n".join(pages)
    assert "[?]" not in text and "$$" not in text

    places = {}  # by its title, the page that the contents say
    for line in "".join(pages[1:8]).split("Bibliography")[0].splitlines():
        if found := re.fullmatch(r"(\d+\. .+?)\s*(\d+)", line):
            places[" ".join(found[1].split())] = int(found[2])
    for path in book.LESSONS:
        title = markdown(path)[0].partition("\n")[0].removeprefix("# ")
        begins = " ".join(pages[places[title] - 1].split())  # the page's number comes first
        assert begins.startswith(f"{places[title]} {title}"), (title, begins[:80])
    assert [page.split()[0] for page in pages[1:]] == [str(i) for i in range(2, len(pages) + 1)]
    last = text[text.rindex("Bibliography") :]
    assert re.findall(r"\[(\d+)\]", last) == [str(n) for n in range(1, len(book.papers()) + 1)]
