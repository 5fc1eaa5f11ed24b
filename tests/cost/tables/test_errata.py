"""The errata: each is computed again by its own lines, and docs/errata.md says what they print."""

from __future__ import annotations

import contextlib
import io
import re
from dataclasses import fields
from pathlib import Path

import pytest

from tinyshuffle.cost.tables import TABLES, table
from tinyshuffle.cost.tables.errata import ERRATA, KINDS, SURE, page

ROOT = Path(__file__).parents[3]


@pytest.mark.parametrize("name", ERRATA)
def test_its_figures_are_what_its_lines_print(name):
    erratum = ERRATA[name]
    out = io.StringIO()
    with contextlib.redirect_stdout(out):
        exec(erratum.run, {})
    words = " ".join(out.getvalue().split())
    figures = re.findall("`(.+?)`", erratum.follows)
    assert figures
    for figure in figures:
        assert re.search(rf"(?<![\d.,]){re.escape(figure)}(?![\d]|[.,]\d)", words), (figure, words)


@pytest.mark.parametrize("name", ERRATA)
def test_every_part_is_there(name):
    erratum = ERRATA[name]
    for part in fields(erratum):
        assert getattr(erratum, part.name).strip(), part.name
    assert erratum.kind in KINDS
    assert erratum.sure in SURE


def test_the_page_is_what_the_data_say():
    """If not: python -m tinyshuffle cost --table errata --format markdown > docs/errata.md"""
    assert (ROOT / "docs" / "errata.md").read_text(encoding="utf-8") == page()


def test_no_table_names_an_erratum_in_vain():
    used = {line.erratum for name in TABLES for line in table(name).lines} - {""}
    assert used <= set(ERRATA)
    assert {"v1-labels", "resnet-cut", "v2-164", "mobilenet-1.19"} <= used


@pytest.mark.parametrize(
    "linking",
    [
        "README.md",
        "docs/index.md",
        *(f"notebooks/{lesson}.ipynb" for lesson in (
            "01-counting-a-convolution", "02-grouped-and-depthwise", "03-channel-shuffle",
            "06-shufflenet-v1", "07-flops-are-not-time", "08-shufflenet-v2",
            "11-from-alexnet-to-shufflenet",
        )),
    ],
)  # fmt: skip
def test_the_page_is_linked(linking):
    assert "errata.md)" in (ROOT / linking).read_text(encoding="utf-8")
