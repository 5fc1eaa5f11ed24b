"""Run notebooks from a clean kernel and store what comes out.

    python tests/notebooks/refresh.py            all of them
    python tests/notebooks/refresh.py 03 04      those whose names start so

Each notebook's picture goes to docs/notebooks/. Use this rather than Jupyter's "save": it stores
neither widgets, which are broken without a kernel, nor the version of Python, so that a notebook
changes only where its content does.

What a lesson says of times is asserted in cells with Jupyter's tag ``raises-exception``. On a
reader's machine such an assertion may fail: its sentence is shown, and the notebook runs on. Here
it is refused: outputs that deny the text beside them are not stored.
"""

from __future__ import annotations

import base64
import os
import sys
import time
from pathlib import Path

import nbformat
from nbclient import NotebookClient

ROOT = Path(__file__).parents[2]
NOTEBOOKS = sorted((ROOT / "notebooks").glob("[0-9][0-9]-*.ipynb"))

WIDGET = "application/vnd.jupyter.widget-view+json"
MAY_FAIL = "raises-exception"  # Jupyter's tag of a cell whose error does not stop a notebook
METADATA = {
    "kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"},
    "language_info": {"name": "python"},
}


def limit(path: Path) -> int:
    """Seconds that a notebook may take on two cores that nobody else uses."""
    return 120 if path.name.startswith("12-") else 60


def executed(path: Path) -> nbformat.NotebookNode:
    """Return the notebook with the outputs of a clean kernel; the file is left as it is."""
    book = nbformat.read(path, as_version=4)
    for cell in book.cells:
        if cell.cell_type == "code":
            cell.outputs, cell.execution_count = [], None
            cell.metadata.pop("execution", None)
    NotebookClient(
        book,
        timeout=2 * limit(path),
        resources={"metadata": {"path": str(path.parent)}},
        record_timing=False,
        store_widget_state=False,
        extra_arguments=["--log-level=ERROR"],
    ).execute(env=os.environ | {"PYDEVD_DISABLE_FILE_VALIDATION": "1"})
    book.metadata = nbformat.from_dict(METADATA)
    for output in outputs(book):
        output.get("data", {}).pop(WIDGET, None)
    return book


def outputs(book: nbformat.NotebookNode) -> list[nbformat.NotebookNode]:
    """Every output of every code cell."""
    return [o for cell in book.cells if cell.cell_type == "code" for o in cell.outputs]


def denied(book: nbformat.NotebookNode) -> list[str]:
    """What the text says, and the outputs deny: the sentences of the assertions that failed."""
    return [o.evalue or o.ename for o in outputs(book) if o.output_type == "error"]


def cover(book: nbformat.NotebookNode) -> bytes:
    """The picture of the cell with the tag ``cover``, or else the first picture."""
    cells = sorted(book.cells, key=lambda cell: "cover" not in cell.metadata.get("tags", []))
    pictures = (
        output.data["image/png"]
        for cell in cells
        for output in cell.get("outputs", [])
        if "image/png" in output.get("data", {})
    )
    return base64.b64decode(next(pictures))


def cover_file(path: Path) -> Path:
    """Where a notebook's picture is, for lists of the notebooks."""
    return ROOT / "docs" / "notebooks" / f"{path.stem}.png"


def refresh(path: Path) -> None:
    """Run a notebook and put the result, and its picture, in their places.

    Raises
    ------
    ValueError
        If its outputs deny its text; then the file is left as it is.
    """
    book = executed(path)
    if sentences := denied(book):
        raise ValueError(f"{path.name} is not stored, its text is denied: {'; '.join(sentences)}")
    new = path.with_suffix(".tmp")
    new.write_text(nbformat.writes(book) + "\n", encoding="utf-8", newline="\n")
    os.replace(new, path)
    cover_file(path).parent.mkdir(exist_ok=True)
    cover_file(path).write_bytes(cover(book))


def main() -> None:
    chosen = [p for p in NOTEBOOKS if p.name.startswith(tuple(sys.argv[1:]) or "")]
    if not chosen:
        sys.exit(f"Error: no notebook starts with {' or '.join(sys.argv[1:])}")
    for i, path in enumerate(chosen, 1):
        print(f"{i} of {len(chosen)}: {path.name} …", end="", flush=True)
        start = time.perf_counter()
        try:
            refresh(path)
        except ValueError as error:
            sys.exit(f" Error: {error}")
        took = time.perf_counter() - start
        over = f": OVER THE LIMIT of {limit(path)} s" if took > limit(path) else ""
        print(f" {took:.0f} s{over}, {path.stat().st_size / 1000:.0f} kB")


if __name__ == "__main__":
    main()
