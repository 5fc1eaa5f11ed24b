"""Run notebooks from a clean kernel and store what comes out.

    python tests/notebooks/refresh.py            all of them
    python tests/notebooks/refresh.py 03 04      those whose names start so

Each notebook's picture goes to docs/notebooks/. Use this rather than Jupyter's "save": it stores
neither widgets, which are broken without a kernel, nor the version of Python, so that a notebook
changes only where its content does.

A cell whose output differs from run to run may have ``claims`` in its metadata: sentences that the
text relies on, or that physics does (two threads are no slower than one), each with an expression
that must be true. They are asked here only, so that nobody's notebook stops because a machine is
busy. If one is false nothing is stored: run the lesson again on a quiet machine, or mend its text.
"""

from __future__ import annotations

import base64
import os
import sys
import time
from pathlib import Path

import nbformat
from nbclient import NotebookClient
from nbclient.exceptions import CellExecutionError

ROOT = Path(__file__).parents[2]
NOTEBOOKS = sorted((ROOT / "notebooks").glob("[0-9][0-9]-*.ipynb"))

WIDGET = "application/vnd.jupyter.widget-view+json"
METADATA = {
    "kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"},
    "language_info": {"name": "python"},
}


def limit(path: Path) -> int:
    """Seconds that a notebook may take on two cores that nobody else uses."""
    return 120 if path.name.startswith("12-") else 60


CLAIM = "claim"  # tag of a cell that is there while a notebook runs, and never stored


def claimed(cell: nbformat.NotebookNode) -> list[nbformat.NotebookNode]:
    """The cell, and behind it one that asks for its claims, if it has any."""
    lines = [f"assert {test}, {said!r}" for said, test in cell.metadata.get("claims", {}).items()]
    if not lines:
        return [cell]
    return [cell, nbformat.v4.new_code_cell("\n".join(lines), metadata={"tags": [CLAIM]})]


def executed(path: Path, claims: bool = False) -> nbformat.NotebookNode:
    """Return the notebook with the outputs of a clean kernel; the file is left as it is.

    With ``claims`` a false one raises ``CellExecutionError``, whose text has its sentence.
    """
    book = nbformat.read(path, as_version=4)
    for cell in book.cells:
        if cell.cell_type == "code":
            cell.outputs, cell.execution_count = [], None
            cell.metadata.pop("execution", None)
    if claims:
        book.cells = [part for cell in book.cells for part in claimed(cell)]
    NotebookClient(
        book,
        timeout=2 * limit(path),
        resources={"metadata": {"path": str(path.parent)}},
        record_timing=False,
        store_widget_state=False,
        extra_arguments=["--log-level=ERROR"],
    ).execute(env=os.environ | {"PYDEVD_DISABLE_FILE_VALIDATION": "1"})
    book.cells = [c for c in book.cells if CLAIM not in c.metadata.get("tags", [])]
    for number, cell in enumerate((c for c in book.cells if c.cell_type == "code"), 1):
        cell.execution_count = number
    book.metadata = nbformat.from_dict(METADATA)
    for output in outputs(book):
        output.get("data", {}).pop(WIDGET, None)
    return book


def outputs(book: nbformat.NotebookNode) -> list[nbformat.NotebookNode]:
    """Every output of every code cell."""
    return [o for cell in book.cells if cell.cell_type == "code" for o in cell.outputs]


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
    """Run a notebook and put the result, and its picture, in their places, if all claims hold."""
    book = executed(path, claims=True)
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
        except CellExecutionError as error:
            sys.exit(f"\nError: {path.name} is not stored: {error.evalue or error.ename}\n{error}")
        took = time.perf_counter() - start
        over = f": OVER THE LIMIT of {limit(path)} s" if took > limit(path) else ""
        print(f" {took:.0f} s{over}, {path.stat().st_size / 1000:.0f} kB")


if __name__ == "__main__":
    main()
