"""The lessons run where a browser runs them: in a Python that is WebAssembly, without numba.

Needs node and PyPI's ``jupyterlite-xeus-python``, whose CPython and NumPy run offline
(``pip install --no-deps jupyterlite-xeus-python==1.0.0``); skipped without them.
"""

from __future__ import annotations

import importlib.util
import json
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest

jupyter = pytest.importorskip("jupyter_core.paths")

HERE = Path(__file__).parent
ROOT = HERE.parents[1]
PATIENCE = 3600  # seconds; it takes two minutes where nothing else runs
spec = importlib.util.spec_from_file_location("cells", ROOT / "docs" / "site" / "cells.py")
cells = importlib.util.module_from_spec(spec)
spec.loader.exec_module(cells)
NUMBERS = [path.name[:2] for path in sorted((ROOT / "notebooks").glob("[0-9][0-9]-*.ipynb"))]
LESSONS = [number for number in NUMBERS if number not in cells.NEEDS]
"""Those that the site offers to run."""
SLOW = ["10"]  # trains two nets
SOLUTIONS = [number for number in NUMBERS if number not in [*cells.EXERCISES_NEED, "07"]]
"""Solutions of exercises, whose hidden tests the checks have to pass; the seventh look at figures,
and this Python has no matplotlib."""


def runtime() -> Path:
    """The folder of the package in which Python as WebAssembly lies, or skip."""
    for folder in jupyter.jupyter_path("labextensions"):
        found = Path(folder, "@jupyterlite", "xeus-python-kernel", "static")
        if (found / "xpython_wasm.js").exists():
            return found
    pytest.skip("needs: pip install --no-deps jupyterlite-xeus-python==1.0.0")


def run(folder: Path) -> dict[str, dict[str, Any]]:
    """What came of each notebook in a folder, by its name; all run in one process."""
    node = shutil.which("node")
    if node is None:
        pytest.skip("needs node")
    (rich,) = importlib.util.find_spec("rich").submodule_search_locations
    done = subprocess.run(
        [node, HERE / "wasm.mjs", runtime(), HERE / "wasm_lessons.py",
         f"{ROOT / 'tinyshuffle'}=/library/tinyshuffle", f"{rich}=/library/rich",
         f"{HERE / 'no_matplotlib.py'}=/tests/no_matplotlib.py", f"{folder}=/lessons"],
        capture_output=True, text=True, encoding="utf-8", timeout=PATIENCE, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-2000:]
    assert done.stderr.count("numba is not installed") == 1
    found = [json.loads(line) for line in done.stdout.splitlines() if line.startswith("{")]
    return {one["name"]: one for one in found}


def copy(kind: str, number: str, folder: Path) -> None:
    """Lay a notebook into the folder, under its kind and number."""
    places = {"lesson": ROOT / "notebooks", "solution": ROOT / "docs" / "course" / "solutions"}
    (path,) = places[kind].glob(f"{number}-*.ipynb")
    shutil.copy(path, folder / f"{kind}-{number}.ipynb")


QUICK = [("lesson", n) for n in LESSONS if n not in SLOW] + [("solution", n) for n in SOLUTIONS]


@pytest.fixture(scope="module")
def ran(tmp_path_factory) -> dict[str, dict[str, Any]]:
    """What came of all notebooks that do not take long."""
    folder = tmp_path_factory.mktemp("lessons")
    for kind, number in QUICK:
        copy(kind, number, folder)
    return run(folder)


def test_at_least_eleven_lessons_are_offered_and_the_others_say_what_they_need():
    assert len(LESSONS) >= 11 and set(LESSONS) | set(cells.NEEDS) == set(NUMBERS)
    said = cells.needs("notebooks/12-inside-the-kernels")
    assert said.startswith("This lesson compiles its kernels with numba, which a browser cannot do")
    assert cells.needs("notebooks/exercises/12-inside-the-kernels.ipynb").startswith("This set of")
    assert cells.needs("notebooks/exercises/07-flops-are-not-time") is None
    assert cells.needs("docs/12-fold") is None


def test_where_github_builds_a_lesson_links_to_colab_and_binder(monkeypatch):
    monkeypatch.delenv("GITHUB_REPOSITORY", raising=False)
    assert cells.head("notebooks/03-a.ipynb") == ""
    monkeypatch.setenv("GITHUB_REPOSITORY", "me/nets")
    said = cells.head("notebooks/exercises/03-a.ipynb")
    assert (
        "[Colab](https://colab.research.google.com/github/me/nets/blob/main/notebooks/exercises/03-a"
        ".ipynb)"
    ) in said
    assert (
        "[Binder](https://mybinder.org/v2/gh/me/nets/main?urlpath=lab/tree/notebooks%2Fexercises%2F"
        "03-a.ipynb)"
    ) in said


def test_where_github_builds_a_lesson_says_what_colab_has_to_run_first(monkeypatch):
    """Colab opens a notebook alone, and ``import tinyshuffle`` would be an error there."""
    monkeypatch.setenv("GITHUB_REPOSITORY", "me/nets")
    said = cells.head("notebooks/exercises/03-a.ipynb")
    assert "before the others" in said
    assert (
        "```text\n!git clone -q https://github.com/me/nets\n%pip install -q ./nets\n"
        "%cd nets/notebooks/exercises\n```"
    ) in said
    there = (ROOT / "docs" / "publishing.md").read_text(encoding="utf-8")
    assert f"```\n{cells.colab_cell('OWNER/REPOSITORY', 'notebooks/03-a.ipynb')}\n```" in there


@pytest.mark.parametrize(("kind", "number"), QUICK)
def test_every_cell_runs(ran, kind, number):
    found = ran[f"{kind}-{number}"]
    assert found["failed"] == []
    assert found["ran"] >= 8


@pytest.mark.slow
@pytest.mark.parametrize("number", SLOW)
def test_a_lesson_that_takes_minutes(number, tmp_path):
    copy("lesson", number, tmp_path)
    (found,) = run(tmp_path).values()
    assert found["failed"] == [] and found["ran"] >= 8
