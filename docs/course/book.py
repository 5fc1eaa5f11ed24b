"""Print the lessons as one book, build/book/tinyshuffle.pdf: as they are stored, nothing is run.

    pip install -e ".[docs]"             # and Chromium 131 or newer (Debian: apt install chromium)
    python docs/course/book.py

It holds the fifteen notebooks with their code, outputs and figures, the glossary and the
bibliography, and nothing is fetched. A paper that a lesson names gets the number of its entry; one
without an entry is refused. Chromium prints the book twice, since only a printed book knows on
which page a section begins.
"""

from __future__ import annotations

import argparse
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from html import escape
from importlib.util import find_spec
from pathlib import Path
from typing import NamedTuple

import nbformat
from bs4 import BeautifulSoup, NavigableString, Tag
from nbconvert import HTMLExporter
from nbconvert.filters import markdown2html
from pygments.formatters import HtmlFormatter

ROOT = Path(__file__).resolve().parents[2]
LESSONS = sorted((ROOT / "notebooks").glob("[0-9][0-9]-*.ipynb"))
BOOK = ROOT / "build" / "book"
TEMPLATES = ROOT / "docs" / "nbconvert"
OWN_PAGES = {"../docs/bibliography.md": "bibliography", "../docs/course/glossary.md": "glossary",
             "../docs/index.md": "contents"}  # fmt: skip
CODE_STYLE = "a11y-high-contrast-light"  # the site's
FLAGS = (
    "--headless", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage",
    "--allow-file-access-from-files",  # MathJax's fonts
    "--host-resolver-rules=MAP * ~NOTFOUND",
    "--no-pdf-header-footer", "--generate-pdf-document-outline",
    "--virtual-time-budget=600000",  # milliseconds that MathJax may take: what waits is skipped
)  # fmt: skip

# ---- papers

ARXIV = re.compile(r"arXiv[  ](\d{4}\.\d{4,5})")
NAMED = re.compile(
    r"(?P<name>[A-ZÉ][\w’-]+)"
    r"(?P<others> et al\.|(?:(?:,|,? and) [A-Z][\w’-]+)+)?,? \(?(?P<year>(?:19|20)\d\d)\b"
    r"(?![^.;]{0,20}arXiv)"  # that number says more
)
SHUFFLENET = re.compile(r"\bV[12](?=(?:[’']s)?,? (?:[Tt]able|[Ss]ection|[Ff]igure|paper))")


class Paper(NamedTuple):
    """An entry of the bibliography: its text in Markdown, and what lessons know it by."""

    text: str
    first: str
    years: frozenset[str]
    arxiv: frozenset[str]


def papers() -> list[Paper]:
    """The bibliography's entries in their order; the first two are V1 and V2."""
    page = (ROOT / "docs" / "bibliography.md").read_text(encoding="utf-8")
    found = []
    for item in re.findall(r"^- (.+?)(?=\n(?!  )|\Z)", page, re.MULTILINE | re.DOTALL):
        text = " ".join(item.split())
        first = re.match(r"(?:[A-Z]\.[ -]?)+(.+?)(?:,| et al\.)", text)
        assert first is not None, text
        years = frozenset(re.findall(r"\b((?:19|20)\d\d)(?=[,;:. ]|$)", text))
        found.append(Paper(text, first[1], years, frozenset(ARXIV.findall(text))))
    return found


def citations(text: str, known: list[Paper]) -> Iterator[tuple[int, int]]:
    """Where a text has named a paper, and the paper's number.

    Raises
    ------
    ValueError
        If a paper that is named is not in the bibliography, or is not the only one.
    """
    for found in ARXIV.finditer(text):
        yield found.end(), number(found[0], [found[1] in paper.arxiv for paper in known])
    firsts = {paper.first.split()[-1] for paper in known}
    for found in NAMED.finditer(text):
        in_brackets = text[found.start() - 1 : found.start()] == "(" and found["others"]
        if found["name"] in firsts or found["others"] == " et al." or in_brackets:
            same = [paper.first.split()[-1] == found["name"] and found["year"] in paper.years
                    for paper in known]  # fmt: skip
            yield found.end(), number(found[0], same)


def number(name: str, same: list[bool]) -> int:
    """The number of the only paper that it may be."""
    if sum(same) != 1:
        raise ValueError(
            f"“{name}” is {sum(same)} papers of docs/bibliography.md; add it there, or say in the "
            "lesson which it is by its arXiv number"
        )
    return same.index(True) + 1


# ---- pages


def chapter(path: Path, known: list[Paper]) -> Tag:
    """A lesson as a chapter: figures numbered, papers with their numbers, links within the book."""
    exporter = HTMLExporter(
        template_name="book", extra_template_basedirs=[str(TEMPLATES)],
        exclude_input_prompt=True, exclude_output_prompt=True, exclude_anchor_links=True,
    )  # fmt: skip
    html = exporter.from_notebook_node(nbformat.read(path, as_version=4))[0]
    page = section(f"lesson-{path.name[:2]}", html)
    for i, caption in enumerate(page.select("figcaption"), 1):
        caption.insert(0, f"Figure {int(path.name[:2])}.{i}. ")
    cite(page, known)
    link(page)
    return page


def section(name: str, html: str) -> Tag:
    """A chapter whose headings the contents can lead to."""
    page = BeautifulSoup(f'<section class="{name}">{html}</section>', "html.parser").section
    assert page is not None
    for tag in page.select(".anchor-link"):
        tag.decompose()
    for tag in page.select("[id]"):
        del tag["id"]  # the same in several lessons
    for i, heading in enumerate(page.select("h1, h2")):
        heading["id"] = f"{name}-{i}" if i else name
    return page


def cite(page: Tag, known: list[Paper]) -> None:
    """Put the number of its entry behind each paper that is named."""
    for text in list(page.find_all(string=True)):
        if text.find_parent(["pre", "code", "figcaption", "h1", "h2", "h3"]):
            continue
        place, pieces = 0, []
        for end, n in sorted(citations(str(text), known)):
            pieces += [NavigableString(str(text)[place:end] + " "), reference(n, f"[{n}]")]
            place = end
        if not pieces:
            shuffle(text)
        elif linked := text.find_parent("a"):  # behind the link, which holds nothing else
            linked.insert_after(" ", pieces[-1])
        else:
            pieces.append(NavigableString(str(text)[place:]))
            text.replace_with(*pieces)
            for piece in pieces[::2]:
                shuffle(piece)


def shuffle(text: NavigableString) -> None:
    """V1 and V2, where something of the papers is quoted, lead to their entries."""
    parts = re.split(f"({SHUFFLENET.pattern})", text)
    if len(parts) > 1 and not text.find_parent("a"):
        text.replace_with(*(
            reference(int(part[1]), part) if i % 2 else NavigableString(part)
            for i, part in enumerate(parts)
        ))  # fmt: skip


def reference(n: int, words: str) -> Tag:
    tag = BeautifulSoup("", "html.parser").new_tag("a", href=f"#paper-{n}")
    tag.string = words
    return tag


def link(page: Tag) -> None:
    """Links lead to pages of the book, or to the network; all others become words."""
    for a in page.select("a[href]"):
        target = str(a["href"])
        if lesson := re.fullmatch(r"(\d\d)-[^/]+\.ipynb", target):
            a["href"] = f"#lesson-{lesson[1]}"
        elif target in OWN_PAGES:
            a["href"] = "#" + OWN_PAGES[target]
        elif not target.startswith(("http", "#paper-")):
            a.unwrap()


def appendices(known: list[Paper]) -> list[Tag]:
    """The glossary, and the papers in their order, each with its number."""
    glossary = (ROOT / "docs" / "course" / "glossary.md").read_text(encoding="utf-8")
    words = section("glossary", markdown2html(glossary))
    link(words)
    entries = "".join(
        f'<li id="paper-{n}">{markdown2html(paper.text)}</li>' for n, paper in enumerate(known, 1)
    )
    references = section("bibliography", "<h1>Bibliography</h1><ol></ol>")
    references.ol.extend(list(BeautifulSoup(entries, "html.parser")))
    return [words, references]


def contents(chapters: list[Tag], pages: dict[str, int]) -> str:
    """A line for each chapter and section, with its page as far as it is known."""
    lines = []
    for heading in (h for chapter in chapters for h in chapter.select("h1, h2")):
        kind, name = ("lesson" if heading.name == "h1" else "section"), str(heading["id"])
        lines.append(
            f'<a class="{kind}" href="#{name}" data-page="{pages.get(name, 100)}">'
            f"<span>{heading.decode_contents()}</span><i></i></a>"
        )
    return f'<nav><h1 id="contents">Contents</h1>{"".join(lines)}</nav>'


def book(chapters: list[Tag], pages: dict[str, int]) -> str:
    """All of it as one page."""
    import tinyshuffle

    style = (TEMPLATES / "book" / "book.css").read_text(encoding="utf-8")
    colours = HtmlFormatter(style=CODE_STYLE).get_style_defs(".highlight")
    return f"""<!doctype html><html lang="en"><head><meta charset="utf-8"><title>tinyshuffle</title>
<style>{style}{colours}</style>
<script>
MathJax = {{
  tex: {{inlineMath: [["$", "$"]], processEscapes: true}},
  startup: {{pageReady: () => MathJax.startup.defaultPageReady().then(() => {{
    const wrong = document.querySelectorAll("mjx-merror").length;
    document.getElementById("formulas").textContent =
      `${{document.querySelectorAll("mjx-container").length}} formulas, ${{wrong}} of them broken`;
  }})}}
}};
</script>
<script src="{escape(mathjax().as_uri())}"></script></head><body>
<div id="title"><h1>tinyshuffle</h1><p>ShuffleNet from scratch, in fifteen lessons</p>
<p>Version {tinyshuffle.__version__}. Outputs as they are stored in the notebooks; V1 is [1] of the
bibliography, V2 is [2]. <span id="formulas"></span>.</p></div>
{contents(chapters, pages)}{"".join(map(str, chapters))}</body></html>"""


# ---- printing


def mathjax() -> Path:
    """MathJax in PyPI's django-static-mathjax."""
    found = find_spec("mathjax")
    if found is None or not found.submodule_search_locations:
        sys.exit('Error: MathJax is missing: pip install -e ".[docs]"')
    return Path(found.submodule_search_locations[0], "static", "mathjax", "es5", "tex-chtml.js")


def chromium() -> str:
    """Where Chromium is."""
    found = shutil.which("chromium") or shutil.which("chromium-browser")
    if found is None:
        sys.exit("Error: there is no Chromium here: install it (Debian: apt install chromium)")
    return found


def printed(html: str, pdf: Path) -> tuple[dict[str, int], int]:
    """Print a page; return on which of the PDF's each heading stands, and how many it has."""
    page = pdf.with_suffix(".html")
    page.write_text(html, encoding="utf-8")
    pdf.unlink(missing_ok=True)  # an old one would be taken for what Chromium could not write
    command = [chromium(), *FLAGS, f"--print-to-pdf={pdf}", page.as_uri()]
    run = subprocess.run(command, capture_output=True, text=True, errors="replace")
    if run.returncode or not pdf.exists():
        said = (run.stderr.strip().splitlines() or ["nothing"])[-1]
        sys.exit(f"Error: Chromium has not printed {page}; it says: {said}")
    from pypdf import PdfReader

    reader = PdfReader(pdf)
    said = " ".join(reader.pages[0].extract_text().split())
    if not re.search(r"\d+ formulas, 0 of them broken", said):
        sys.exit("Error: MathJax has not set all formulas; open build/book/tinyshuffle.html to see")
    places = reader.named_destinations.items()
    pages = {n.lstrip("/"): (reader.get_destination_page_number(d) or 0) + 1 for n, d in places}
    return pages, len(reader.pages)


def main(arguments: list[str] | None = None) -> None:
    assert __doc__ is not None
    argparse.ArgumentParser(description=__doc__.partition("\n")[0]).parse_args(arguments)
    started, pdf = time.perf_counter(), BOOK / "tinyshuffle.pdf"
    chromium(), mathjax()  # before the lessons are read, which takes some seconds
    for package in ("pypdf", "a11y_pygments"):
        if find_spec(package) is None:
            sys.exit(f'Error: {package} is missing: pip install -e ".[docs]"')
    try:
        write(pdf, started)
    except OSError as error:
        sys.exit(f"Error: the book cannot be written to {BOOK}: {error}")
    except KeyboardInterrupt:
        sys.exit("stopped: the book is not finished")


def write(pdf: Path, started: float) -> None:
    """Make the pages, print them twice, and say what has been written."""
    BOOK.mkdir(parents=True, exist_ok=True)
    known = papers()
    try:
        chapters = [chapter(path, known) for path in LESSONS] + appendices(known)
    except ValueError as error:
        sys.exit(f"Error: {error}")
    pages, count = printed(book(chapters, {}), pdf)
    assert printed(book(chapters, pages), pdf) == (pages, count), "the numbers have moved the pages"
    size, took = pdf.stat().st_size / 1e6, time.perf_counter() - started
    print(f"written: {pdf}: {count} pages, {size:.1f} MB, {took:.0f} s")


if __name__ == "__main__":
    main()
