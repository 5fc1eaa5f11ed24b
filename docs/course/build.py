"""Write the exercise notebooks, a student's and a teacher's, from docs/course/source.

    python docs/course/build.py

A source is Markdown that jupytext reads: a heading ``## 03.2`` for each exercise, its statement,
and one cell of code in which the solution stands between nbgrader's marks. Titles come from the
package, which also holds the checks. The teacher's notebook is an nbgrader source notebook; the
student's is what ``nbgrader generate_assignment`` makes of it.
"""

from __future__ import annotations

import os
import re
import sys
from pathlib import Path

import jupytext
import nbformat

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))

from tinyshuffle.course.lessons import EXERCISES  # noqa: E402

SOURCES = sorted((ROOT / "docs" / "course" / "source").glob("[0-9][0-9]-*.md"))
STUDENTS = ROOT / "notebooks" / "exercises"
TEACHERS = ROOT / "docs" / "course" / "solutions"

STUB = "pass  # your answer in place of this line"
SETUP = """import sys
sys.path += ["../..", "../../.."]  # the library above this folder, if it is not installed

import numpy as np
import tinyshuffle as ts
from tinyshuffle import ops"""
HELP = """Write an answer, run its cell, then run the check below it. \
`ts.course.hint("{first}")` gives a hint, and a second one when asked again; \
`ts.course.progress()` shows what is done. A check \
takes less than two seconds: if one does not end, your loop does not, so interrupt the kernel. \
The library's own functions are no answer, unless an exercise allows them."""
KEEP_APART = """# Teacher's notebook. Students get notebooks/exercises and the package, and not
# docs/course/solutions or docs/course/source: see docs/course/README.md."""
METADATA = {
    "kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"},
    "language_info": {"name": "python"},
}


def teachers(source: Path) -> nbformat.NotebookNode:
    """The notebook with the solutions."""
    book, key = nbformat.v4.new_notebook(metadata=METADATA), ""
    for cell in jupytext.reads(source.read_text(encoding="utf-8"), fmt="md").cells:
        if cell.cell_type == "code":
            code = cell.source
            if key.endswith(".1"):  # inside a solution, so that it is no part of the student's
                code = re.sub(r"( *)(### BEGIN SOLUTION\n)", _note, code)
            book.cells += _answer(key, code)
            continue
        parts = re.split(r"^## (\d\d\.\d)$", cell.source, flags=re.MULTILINE)
        if parts[0].strip():
            first = f"{source.name[:2]}.1"
            book.cells += [
                _markdown("intro", f"{parts[0].strip()}\n\n{HELP.format(first=first)}"),
                _code("setup", SETUP),
            ]
        for key, statement in zip(parts[1::2], parts[2::2], strict=True):
            exercise = EXERCISES[key]
            text = f"## {key} {exercise.title}\n\n{statement.strip()}\n\n*Reading: {exercise.see}.*"
            book.cells.append(_markdown(f"{_id(key)}-task", text))
    book.cells.append(_code("progress", "ts.course.progress()"))
    return book


def students(book: nbformat.NotebookNode) -> nbformat.NotebookNode:
    """The same without solutions and hidden tests."""
    copy = nbformat.v4.new_notebook(metadata=METADATA)
    for cell in book.cells:
        cell = nbformat.from_dict(dict(cell))
        cell.source = re.sub(
            r"^( *)### BEGIN SOLUTION\n.*?### END SOLUTION$",
            rf"\1{STUB}",
            cell.source,
            flags=re.MULTILINE | re.DOTALL,
        )
        cell.source = re.sub(
            r"\n### BEGIN HIDDEN TESTS\n.*?### END HIDDEN TESTS", "", cell.source, flags=re.DOTALL
        )
        copy.cells.append(cell)
    return copy


def _note(begin: re.Match[str]) -> str:
    indent = begin[1]
    return begin[0] + "".join(f"{indent}{line}\n" for line in KEEP_APART.splitlines())


def _id(key: str) -> str:
    return key.replace(".", "-")


def _answer(key: str, code: str) -> list[nbformat.NotebookNode]:
    name = EXERCISES[key].name
    call = f'ts.course.check("{key}", {name})'
    hidden = f"### BEGIN HIDDEN TESTS\nassert {call}, {call}\n### END HIDDEN TESTS"
    marks = {"schema_version": 3, "task": False}
    answer = marks | {"grade_id": _id(key), "grade": False, "locked": False, "solution": True}
    check = marks | {"grade_id": f"{_id(key)}-check", "grade": True, "locked": True,
                     "solution": False, "points": 1}  # fmt: skip
    return [
        _code(f"{_id(key)}-answer", code, nbgrader=answer),
        _code(f"{_id(key)}-check", f"{call}\n{hidden}", nbgrader=check),
    ]


def _code(name: str, source: str, **metadata: object) -> nbformat.NotebookNode:
    return nbformat.v4.new_code_cell(source, id=name, metadata=metadata)


def _markdown(name: str, source: str) -> nbformat.NotebookNode:
    return nbformat.v4.new_markdown_cell(source, id=name)


def notebooks() -> dict[Path, str]:
    """Every notebook that there should be, and what should stand in it."""
    wanted = {}
    for source in SOURCES:
        book = teachers(source)
        for folder, version in ((STUDENTS, students(book)), (TEACHERS, book)):
            path = folder / f"{source.stem}.ipynb"
            wanted[path] = nbformat.writes(version) + "\n"
    return wanted


def main() -> None:
    for path, text in notebooks().items():
        path.parent.mkdir(parents=True, exist_ok=True)
        new = path.with_suffix(".tmp")
        new.write_text(text, encoding="utf-8", newline="\n")
        os.replace(new, path)
    print(f"written: {len(SOURCES)} notebooks in {STUDENTS}, and in {TEACHERS}")


if __name__ == "__main__":
    main()
