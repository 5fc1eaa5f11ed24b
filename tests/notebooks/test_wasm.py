"""The lessons run where a browser runs them: in a Python that is WebAssembly, without numba.

Needs node and PyPI's ``jupyterlite-xeus-python``, whose CPython and NumPy run offline
(``pip install --no-deps jupyterlite-xeus-python==1.0.0``); skipped without them.
"""

from __future__ import annotations

import json
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest

jupyter = pytest.importorskip("jupyter_core.paths")

HERE = Path(__file__).parent
ROOT = HERE.parents[1]
PATIENCE = 900  # seconds; it takes half a minute where nothing else runs
LESSONS = ("01", "02", "03", "04", "05", "06", "08", "11")
"""Those that neither measure time nor compile: the others need numba or a process of their own."""
SOLUTIONS = ("01", "02", "03", "04", "05", "06", "08", "09", "10", "11", "13")
"""Solutions of exercises, whose hidden tests the checks have to pass."""


def runtime() -> Path:
    """The folder of the package in which Python as WebAssembly lies, or skip."""
    for folder in jupyter.jupyter_path("labextensions"):
        found = Path(folder, "@jupyterlite", "xeus-python-kernel", "static")
        if (found / "xpython_wasm.js").exists():
            return found
    pytest.skip("needs: pip install --no-deps jupyterlite-xeus-python==1.0.0")


@pytest.fixture(scope="module")
def ran(tmp_path_factory) -> dict[str, dict[str, Any]]:
    """What came of each notebook, by its kind and number; all run in one process."""
    node = shutil.which("node")
    if node is None:
        pytest.skip("needs node")
    folder = tmp_path_factory.mktemp("lessons")
    for kind, source, numbers in (
        ("lesson", ROOT / "notebooks", LESSONS),
        ("solution", ROOT / "docs" / "course" / "solutions", SOLUTIONS),
    ):
        for number in numbers:
            (path,) = source.glob(f"{number}-*.ipynb")
            shutil.copy(path, folder / f"{kind}-{number}.ipynb")
    done = subprocess.run(
        [node, HERE / "wasm.mjs", runtime(), HERE / "wasm_lessons.py",
         f"{ROOT / 'tinyshuffle'}=/library/tinyshuffle", f"{folder}=/lessons",
         f"{HERE / 'no_matplotlib.py'}=/tests/no_matplotlib.py"],
        capture_output=True, text=True, encoding="utf-8", timeout=PATIENCE, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-2000:]
    assert done.stderr.count("numba is not installed") == 1
    found = [json.loads(line) for line in done.stdout.splitlines() if line.startswith("{")]
    return {one["name"]: one for one in found}


@pytest.mark.parametrize(
    "name", [f"lesson-{n}" for n in LESSONS] + [f"solution-{n}" for n in SOLUTIONS]
)
def test_every_cell_runs(ran, name):
    assert ran[name]["failed"] == []
    assert ran[name]["ran"] >= 8
