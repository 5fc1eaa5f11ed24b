"""Every notebook runs from a clean kernel and shows what is stored in it."""

from __future__ import annotations

import ast
import base64
import io
import re

import numpy as np
import pytest

pytest.importorskip("nbclient", reason="the notebooks need: pip install jupyter ipywidgets")

import nbformat  # noqa: E402
from notebooks.refresh import (  # noqa: E402
    MAY_FAIL,
    METADATA,
    NOTEBOOKS,
    WIDGET,
    cover,
    cover_file,
    executed,
    outputs,
    refresh,
)

LONGEST_CELL = 25  # lines: a reader sees the mathematics, not plumbing
MEGABYTE = 10**6
MEASURED = "measured"  # tag of a cell whose output differs from run to run

each_notebook = pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)


@each_notebook
def test_what_is_stored(path):
    book = nbformat.read(path, as_version=4)
    nbformat.validate(book)
    assert path.stat().st_size < MEGABYTE
    code = [cell for cell in book.cells if cell.cell_type == "code"]
    assert [c.execution_count for c in code] == list(range(1, len(code) + 1)), (
        f"{path.name} was not run from top to bottom: python tests/notebooks/refresh.py {path.stem}"
    )
    for cell in code:
        lines = cell.source.count("\n") + 1
        assert lines <= LONGEST_CELL, f"{lines} lines in the cell that starts {cell.source[:60]!r}"
    for output in outputs(book):
        assert output.output_type != "error"
        assert output.get("name") != "stderr", output.text
        data = output.get("data", {})
        assert WIDGET not in data, "a stored widget is broken: use tests/notebooks/refresh.py"
        if "image/png" in data:
            assert len(output.metadata["image/png"]["alt"]) > 20, "show figures by plots.show"
        assert len(re.findall("<img", data.get("text/html", ""))) == 0, "use plots.show"


@each_notebook
def test_its_picture_is_the_one_in_the_docs(path):
    assert cover_file(path).read_bytes() == cover(nbformat.read(path, as_version=4)), (
        f"stale: run python tests/notebooks/refresh.py {path.stem}"
    )


@each_notebook
def test_it_runs_and_shows_what_is_stored(path):
    fresh = executed(path)  # raises what a cell raises
    for old, new in zip(nbformat.read(path, as_version=4).cells, fresh.cells, strict=True):
        if old.cell_type == "code" and MEASURED not in old.metadata.get("tags", []):
            hint = f"stale: run python tests/notebooks/refresh.py {path.stem}\n{old.source}"
            assert _texts(old) == _texts(new), hint
            for before, after in zip(_pictures(old), _pictures(new), strict=True):
                assert _alike(before, after), hint


@each_notebook
def test_what_may_fail_is_an_assertion_with_a_sentence(path):
    for cell in nbformat.read(path, as_version=4).cells:
        if MAY_FAIL in cell.metadata.get("tags", []):
            assert MEASURED in cell.metadata.tags
            for node in ast.parse(cell.source).body:
                assert isinstance(node, ast.Assert) and node.msg is not None, cell.source


def test_outputs_that_deny_the_text_are_not_stored(tmp_path):
    """And a cell behind them runs all the same, as it does for a reader."""
    path = tmp_path / "00-claims.ipynb"
    claim = nbformat.v4.new_code_cell(
        'assert 96.1 < 49.7, "two threads take no longer than one"',
        metadata={"tags": [MEASURED, MAY_FAIL]},
    )
    book = nbformat.v4.new_notebook(
        metadata=METADATA, cells=[claim, nbformat.v4.new_code_cell("print(6 * 7)")]
    )
    nbformat.write(book, path)
    before = path.read_bytes()
    assert executed(path).cells[1].outputs[0].text == "42\n"
    with pytest.raises(ValueError, match="00-claims.* denied: two threads take no longer than one"):
        refresh(path)
    assert path.read_bytes() == before


def _texts(cell: nbformat.NotebookNode) -> list[str]:
    """What a cell prints; how the kernel cuts a stream into pieces does not matter."""
    streams = "".join(o.text for o in cell.outputs if o.output_type == "stream")
    return [streams] + [
        output.data[kind]
        for output in cell.outputs
        for kind in ("text/plain", "text/html", "text/markdown")
        if kind in output.get("data", {})
    ]


def _pictures(cell: nbformat.NotebookNode) -> list[np.ndarray]:
    from PIL import Image

    return [
        np.asarray(
            Image.open(io.BytesIO(base64.b64decode(output.data["image/png"])))
            .convert("RGB")
            .resize((48, 48), Image.Resampling.BOX),
            dtype=float,
        )
        for output in cell.outputs
        if "image/png" in output.get("data", {})
    ]


def _alike(before: np.ndarray, after: np.ndarray) -> bool:
    """Whether two pictures agree but for what another version of a font or of matplotlib does."""
    return bool(np.abs(before - after).mean() < 4 and np.abs(before - after).max() < 100)


def test_a_stale_picture_is_noticed():
    before = np.full((48, 48, 3), 255.0)
    after = before.copy()
    after[10:14, 5:30] = [0, 114, 178]  # one more bar
    assert _alike(before, before + 1) and not _alike(before, after)
