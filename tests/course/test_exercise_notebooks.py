"""The exercise notebooks are what docs/course/source says, and a teacher's tools take them."""

from __future__ import annotations

import importlib.util
import json
from pathlib import Path

import pytest

pytest.importorskip("jupytext", reason="the exercise notebooks need: pip install jupytext")
import nbformat  # noqa: E402

ROOT = Path(__file__).parents[2]
spec = importlib.util.spec_from_file_location("build", ROOT / "docs" / "course" / "build.py")
build = importlib.util.module_from_spec(spec)
spec.loader.exec_module(build)

WANTED = build.notebooks()
each_notebook = pytest.mark.parametrize(
    "path", WANTED, ids=lambda p: f"{p.parent.name}-{p.stem[:2]}"
)


@each_notebook
def test_up_to_date(path):
    assert path.read_text(encoding="utf-8") == WANTED[path], "run: python docs/course/build.py"
    nbformat.validate(nbformat.read(path, as_version=4))


def test_no_other_notebooks_lie_there():
    there = {p for folder in (build.STUDENTS, build.TEACHERS) for p in folder.glob("*.ipynb")}
    assert there == set(WANTED)
    assert len(there) == 2 * len(list(build.STUDENTS.parent.glob("*.ipynb")))


@pytest.mark.parametrize("path", sorted(build.STUDENTS.glob("*.ipynb")), ids=lambda p: p.stem[:2])
def test_the_students_notebook_holds_no_solution(path):
    text = path.read_text(encoding="utf-8")
    for mark in ("SOLUTION", "HIDDEN", "Teacher", "assert"):
        assert mark not in text
    teacher = json.loads((build.TEACHERS / path.name).read_text(encoding="utf-8"))
    solutions = 0
    for cell in teacher["cells"]:
        source = "".join(cell["source"])
        if "### BEGIN SOLUTION" in source:
            inside = source.split("### BEGIN SOLUTION\n")[1].split("### END SOLUTION")[0]
            lines = [line.strip() for line in inside.splitlines() if len(line.strip()) > 12]
            assert lines and not any(json.dumps(line)[1:-1] in text for line in lines)
            solutions += 1
    assert solutions >= 3
    assert "Teacher's notebook" in json.dumps(teacher)


def run(path: Path) -> list[str]:
    nbclient = pytest.importorskip("nbclient")
    book = nbformat.read(path, as_version=4)
    nbclient.NotebookClient(
        book, timeout=60, resources={"metadata": {"path": str(path.parent)}}
    ).execute()
    return [
        " ".join(output["data"]["text/plain"].split())
        for cell in book.cells if cell.cell_type == "code"
        for output in cell.outputs if output.output_type == "execute_result"
    ]  # fmt: skip


@pytest.mark.parametrize("lesson", ["03", "12", "13", "14", "15"])
def test_they_run_in_jupyter(lesson, tmp_path):
    for folder in (build.STUDENTS, build.TEACHERS):
        (source,) = folder.glob(f"{lesson}-*.ipynb")
        copy = tmp_path / source.name
        text = source.read_text(encoding="utf-8")
        copy.write_text(text.replace("../../..", ROOT.as_posix()), encoding="utf-8")
        replies = run(copy)
        if folder == build.STUDENTS:  # runs through, and each check says what is missing
            assert all("has no answer" in r or "returns nothing" in r for r in replies[:-1])
            assert "0 of" in replies[-1]
        else:  # the hidden tests would raise if a solution were wrong
            count = len([c for c in nbformat.reads(text, 4).cells if c.id.endswith("answer")])
            assert f"{count} of" in replies[-1]


@pytest.mark.parametrize("path", sorted(build.TEACHERS.glob("*.ipynb")), ids=lambda p: p.stem[:2])
def test_nbgrader_makes_the_same_students_notebook(path):
    grader = pytest.importorskip("nbgrader.preprocessors")
    book = nbformat.read(path, as_version=4)
    grader.CheckCellMetadata().preprocess(book, {})
    steps = [grader.ClearSolutions(code_stub={"python": build.STUB}), grader.ClearHiddenTests()]
    for step in steps:
        book, _ = step.preprocess(book, {"language": "python"})
    student = nbformat.read(build.STUDENTS / path.name, as_version=4)
    assert [c.source for c in book.cells] == [c.source for c in student.cells]
    assert [c.metadata for c in book.cells] == [c.metadata for c in student.cells]
