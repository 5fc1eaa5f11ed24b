"""Write slides of the lessons, from what stands in them: nothing else is written for the slides.

    python docs/course/slides.py          # writes build/slides/NN-….html

A section of a lesson becomes a slide: its heading, its first sentence and its first formula. Below
it (arrow down) come its figures, with the first sentence of the text that leads to each. The
summary is shown whole. No code is shown and nothing is run: figures are those that are stored.

nbconvert fetches nothing. The page does, when it is shown: reveal.js, RequireJS, jQuery and MathJax
(docs/course/README.md says from where).
"""

from __future__ import annotations

import re
from pathlib import Path

import nbformat
from nbconvert import SlidesExporter
from nbformat import NotebookNode

ROOT = Path(__file__).resolve().parents[2]
LESSONS = sorted((ROOT / "notebooks").glob("[0-9][0-9]-*.ipynb"))
SLIDES = ROOT / "build" / "slides"

LINK = re.compile(r"\[([^\]]+)\]\([^)]*\)")  # becomes plain words, since slides lie elsewhere
SENTENCE = re.compile(
    r"(?:\*+[^*]+\.\*+ )?"  # what a paragraph is about, or whose words it reports
    r"(?:\$[^$]+\$|[^$])+?"  # a formula is never cut
    r"(?<!\b[A-Z])[.?!]"  # the point behind an initial ends nothing
    r"[*”)]*(?=\s+(?![\da-z])|$)"  # nor does that of "et al. 2015"
)


def claim(text: str) -> str:
    """The first sentence of a text with its first formula."""
    paragraphs = re.split(r"\n\s*\n", text.strip())
    prose = next((p for p in paragraphs if not re.match(r"\$\$|\||```|\(", p)), "")
    sentence = SENTENCE.match(" ".join(prose.split()))
    formula = re.search(r"\$\$.+?\$\$", text, re.DOTALL)
    return f"{sentence[0] if sentence else prose}\n\n{formula[0] if formula else ''}".strip()


def figures(cell: NotebookNode) -> list[NotebookNode]:
    """A cell without source for each figure of a cell."""
    found = []
    for output in cell.get("outputs", []):
        if png := output.get("data", {}).get("image/png"):
            shown = nbformat.v4.new_output(
                "display_data", {"image/png": png}, metadata=output["metadata"]
            )
            found.append(nbformat.v4.new_code_cell(outputs=[shown]))
    return found


def slides(lesson: NotebookNode) -> NotebookNode:
    """The notebook of which nbconvert makes slides; headings and figures keep their order."""
    deck, heading, words = nbformat.v4.new_notebook(), "", ""

    def add(kind: str, text: str) -> None:
        metadata = {"slideshow": {"slide_type": kind}}
        deck.cells.append(nbformat.v4.new_markdown_cell(text.strip(), metadata=metadata))

    for cell in lesson.cells:
        if cell.cell_type == "code":
            for figure in figures(cell):
                add("subslide", f"{heading}\n\n{words}")
                deck.cells.append(figure)
                words = ""  # said once
            continue
        text = LINK.sub(r"\1", cell.source)
        for part in filter(str.strip, re.split(r"^(?=#{1,3} )", text, flags=re.MULTILINE)):
            if not re.match(r"#{1,3} ", part):
                words = claim(part)
                continue
            heading, _, body = part.partition("\n")
            said = body.split("\nSources: ")[0] if heading == "## Summary" else claim(body)
            add("subslide" if heading.startswith("###") else "slide", f"{heading}\n\n{said}")
            words = ""
    deck.metadata["title"] = lesson.cells[0].source.partition("\n")[0].lstrip("# ")
    return deck


def page(deck: NotebookNode) -> str:
    """The slides as one HTML file, figures within."""
    exporter = SlidesExporter(
        exclude_input=True,
        template_name="slides",
        extra_template_basedirs=[str(ROOT / "docs" / "nbconvert")],
    )
    return exporter.from_notebook_node(deck)[0]


def main() -> None:
    SLIDES.mkdir(parents=True, exist_ok=True)
    for path in LESSONS:
        html = page(slides(nbformat.read(path, as_version=4)))
        (SLIDES / f"{path.stem}.html").write_text(html, encoding="utf-8", newline="\n")
    print(f"written: {len(LESSONS)} files in {SLIDES}")


if __name__ == "__main__":
    main()
