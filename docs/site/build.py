"""Build the site: lessons, exercises, measurements and the API, as pages that need no network.

    pip install -e ".[docs]"
    python docs/site/build.py             # writes build/site/html
    python docs/site/build.py --serve     # and shows it on http://localhost:8000

Sphinx reads a copy of the repository's own files, in which each keeps its place, so that their
links hold; the notebooks are shown with the outputs that are stored in them. At the end every link
of every page is followed (``links.py``).
"""

from __future__ import annotations

import argparse
import functools
import http.server
import json
import posixpath
import re
import shutil
import sys
import time
from importlib.util import find_spec
from pathlib import Path

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[1]
SOURCE, HTML = ROOT / "build" / "site" / "source", ROOT / "build" / "site" / "html"
PICTURES_OF_SLIDERS = SOURCE.parent / "sliders"
sys.path[:0] = [str(HERE), str(ROOT)]

import cells  # noqa: E402
import links  # noqa: E402
import sliders  # noqa: E402

PAGES = (
    "README.md", "docs/*.md", "docs/course/*.md", "docs/course/teachers/*.md", "docs/results/*.md",
    "notebooks/**/*.ipynb",
)  # fmt: skip
NOT_SHOWN = "docs/index.md", "docs/CHANGELOG.md"  # the site's first page is in their place
KEPT_APART = "docs/course/solutions/"  # and no copy of them in the site
PICTURES = (
    "docs/*.png", "docs/notebooks/*.png", "docs/results/**/*.png", "docs/site/explorer/*.gif"
)  # fmt: skip
ROOMS = (
    "ops", "nn", "models", "optim", "gradcheck", "cost", "course", "data", "train", "weights",
    "compress", "detect", "onnx", "plots", "backend", "parallel", "plan", "ranks",
)  # fmt: skip
"""Of the API reference; the others are the library's own business."""


def main() -> None:
    """Build, check, and serve if asked to."""
    parser = argparse.ArgumentParser(description="Build the site in build/site/html.")
    parser.add_argument("--serve", action="store_true", help="then show it on port 8000")
    serve = parser.parse_args().serve

    from sphinx.application import Sphinx

    started = time.perf_counter()
    for folder in (SOURCE, HTML, PICTURES_OF_SLIDERS):
        shutil.rmtree(folder, ignore_errors=True)
    stage()
    app = Sphinx(
        SOURCE, HERE, HTML, SOURCE.parent / "doctrees", "html", freshenv=True, status=None
    )
    app.build()
    if app.statuscode:
        sys.exit("Sphinx failed: see above")
    mathjax(HTML / "_static" / "mathjax")
    cells.pack(HTML / "_static" / "tinyshuffle.zip")
    shutil.copytree(PICTURES_OF_SLIDERS, HTML / "_pictures")
    written_by = shutil.ignore_patterns("*.py", "__pycache__")
    shutil.copytree(HERE / "explorer", HTML / "explorer", ignore=written_by)
    (HTML / "_static" / "webpack-macros.html").unlink(missing_ok=True)  # no page: the theme's own
    wrong = links.check(HTML)
    print("\n".join(wrong))
    files = [path for path in HTML.rglob("*") if path.is_file()]
    size = sum(path.stat().st_size for path in files) / 1e6
    print(
        f"{len(list(HTML.rglob('*.html')))} pages, {len(files)} files, {size:.1f} MB in "
        f"{time.perf_counter() - started:.1f} s; {len(wrong)} links that lead nowhere"
    )
    if wrong:
        sys.exit(1)
    if serve:
        show = functools.partial(http.server.SimpleHTTPRequestHandler, directory=str(HTML))
        print("http://localhost:8000")
        http.server.ThreadingHTTPServer(("127.0.0.1", 8000), show).serve_forever()


# ---- the copy that Sphinx reads


@functools.cache
def pages() -> list[Path]:
    """The files that are shown as pages."""
    found = [path for pattern in PAGES for path in sorted(ROOT.glob(pattern))]
    return [path for path in found if name(path) not in NOT_SHOWN]


def stage() -> None:
    """Copy the pages and what they show, and write the API's."""
    texts = {path: path.read_text(encoding="utf-8") for path in pages()}
    books = {path: json.loads(text) for path, text in texts.items() if path.suffix == ".ipynb"}
    movable = sliders.write(list(books.values()), PICTURES_OF_SLIDERS)
    for path, text in texts.items():
        place = SOURCE / name(path)
        place.parent.mkdir(parents=True, exist_ok=True)
        if path in books:
            for cell in books[path]["cells"]:
                prepare(cell, path, movable.get(cell["id"]))
            first = books[path]["cells"][0]
            title, rest = "".join(first["source"]).split("\n\n", 1)
            first["source"] = f"{title}{cells.head(name(path))}\n\n{rest}"
            place.write_text(json.dumps(books[path]), encoding="utf-8")
        else:
            place.write_text(mended(text, path), encoding="utf-8")
    for pattern in PICTURES:
        for path in ROOT.glob(pattern):
            copy(path)
    for page in HERE.glob("*.md"):
        shutil.copyfile(page, SOURCE / page.name)
    (SOURCE / "api").mkdir()
    (SOURCE / "api" / "index.rst").write_text(
        "API\n===\n\n.. toctree::\n   :maxdepth: 2\n\n" + "".join(f"   {r}\n" for r in ROOMS),
        encoding="utf-8",
    )
    for room in ROOMS:
        (SOURCE / "api" / f"{room}.rst").write_text(reference(room), encoding="utf-8")


def name(path: Path) -> str:
    """A path as the repository has it."""
    return path.relative_to(ROOT).as_posix()


def copy(path: Path) -> None:
    """Give a file its place in the copy."""
    place = SOURCE / name(path)
    place.parent.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(path, place)


def prepare(cell: dict, path: Path, slider: str | None) -> None:
    """Mend a cell's links, tell Sphinx of its picture, give it its slider, and let scripts find it.

    Of a picture Sphinx has to be told the alternative text and the width.
    """
    text = "".join(cell["source"])
    if cell["cell_type"] == "markdown":
        cell["source"] = mended(text, path)
        return
    cell["metadata"]["tags"] = [f"id-{cell['id']}"]  # a class of the cell in the page
    pictures = [output for output in cell["outputs"] if "image/png" in output.get("data", {})]
    shown = [output["metadata"]["image/png"] for output in pictures]
    if shown:
        image = {"alt": " ".join(one["alt"] for one in shown)}
        if "width" in shown[0]:
            image["width"] = f"{shown[0]['width']}px"
        cell["metadata"]["mystnb"] = {"image": image}
    if slider:
        cell["outputs"].append(
            {"output_type": "display_data", "data": {"text/html": slider}, "metadata": {}}
        )


def mended(text: str, path: Path) -> str:
    """The text of a page, whose links to files that are no pages lead to copies of them.

    A link to a folder leads to the site's page of that folder, or becomes plain text, as one to the
    solutions does.
    """

    def mend(found: re.Match[str]) -> str:
        words, target, rest = found["words"], found["target"], found["rest"] or ""
        there = (path.parent / target).resolve()
        if not there.is_relative_to(ROOT) or not there.exists():
            return found[0]  # the check of the links names it
        if there.is_dir():
            if name(there) == "notebooks/exercises":
                return f"[{words}]({up(path)}exercises.md)"
            if (there / "README.md").exists():
                return f"[{words}]({target.rstrip('/')}/README.md{rest})"
            return words
        if name(there).startswith(KEPT_APART):
            return words
        if name(there) in NOT_SHOWN:
            return f"[{words}]({up(path)}index.md)"
        if there in pages():
            return found[0]
        copy(there)
        return found[0]

    text = re.sub(
        r"(?<!!)\[(?P<words>[^\]]+)\]\((?P<target>[^)#:\s]+)(?P<rest>#[^)]*)?\)", mend, text
    )
    return text


def up(path: Path) -> str:
    """From a page to the site's root."""
    return posixpath.relpath(".", posixpath.dirname(name(path)) or ".") + "/"


def reference(room: str) -> str:
    """The API's page of a room: each file's docstring, and those of what it makes public."""
    folder = ROOT / "tinyshuffle" / room
    files = sorted(folder.glob("*.py")) if folder.is_dir() else []
    title = f"tinyshuffle.{room}"
    lines = [title, "=" * len(title), "", f".. automodule:: tinyshuffle.{room}"]
    lines += [] if folder.is_dir() else ["   :members:"]
    for file in files:
        if file.stem in ("__init__", "__main__", "conftest"):
            continue
        lines += ["", file.stem, "-" * len(file.stem), ""]
        lines += [f".. automodule:: tinyshuffle.{room}.{file.stem}", "   :members:"]
    return "\n".join(lines) + "\n"


def mathjax(place: Path) -> None:
    """Copy MathJax and its fonts out of PyPI's django-static-mathjax, as a page needs them."""
    found = find_spec("mathjax")
    if found is None or not found.submodule_search_locations:
        sys.exit('MathJax is missing: pip install -e ".[docs]"')
    bundle = Path(found.submodule_search_locations[0], "static", "mathjax", "es5")
    shutil.copytree(bundle / "output" / "chtml", place / "output" / "chtml")
    shutil.copytree(bundle / "input" / "tex", place / "input" / "tex")
    shutil.copyfile(bundle / "tex-chtml.js", place / "tex-chtml.js")


if __name__ == "__main__":
    main()
