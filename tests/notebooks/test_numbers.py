"""Every number in a lesson's prose is computed, asserted or cited near it, or is listed here.

A number without any of these is what goes stale unnoticed: a time of a machine that is gone, a
share of a table that was counted anew. Numbers that are given (sizes of examples, of kernels, of
types) stand in the code beside them; those of papers beside the paper's name; the others in an
assertion, or in an output that is compared whenever the notebooks run.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator
from math import erf, sqrt
from pathlib import Path

import pytest

import tinyshuffle as ts

ROOT = Path(__file__).parents[2]
LESSONS = sorted((ROOT / "notebooks").glob("[0-9][0-9]-*.ipynb"))
SENTENCES = (ROOT / "tests" / "notebooks" / "test_lessons.py").read_text(encoding="utf-8")

NEAR = 2  # cells before and behind in which a number may be computed
SMALL = 20  # whole numbers up to this count things that stand there, or are a reader's arithmetic
NUMBER = re.compile(r"(?<![\w.,×^_/-])(?:\d{1,3}(?:[,  ]\d{3})+|\d+)(?:\.\d+)?(?![\w×/^])")
# what is not prose: formulas, code, links, headings' numbers, tables' rulers
NO_PROSE = re.compile(
    r"\$\$.*?\$\$|\$[^$]*\$|```.*?```|`[^`]*`|\]\([^)]*\)|^#+ [\d.]+", re.S | re.M
)
# numbers that are names: sections, tables, lessons, years, widths, versions, types
NAMES = re.compile(
    r"(?:notebooks?|sections?|tables?|figures?|equations?|exercises?|arXiv|BN-|lessons?|SIGCOMM"
    r"|appendix|chapter|stage|version|G)[  ]*\d[\d.]*(?:(?:,| and| to|–)[  ]*\d[\d.]*)*"
    r"|\b(?:19|20)\d\d\b|\b\d\.\d\dx|\bint8|float\d\d|\bCIFAR-\d+|\b\w+(?:Net|VGG|Mobile)-\d+",
    re.I,
)  # fmt: skip
CITED = re.compile(
    r"\bV[12]\b|et al\.|arXiv|paper|published|bibliography|errata|torchvision|\bTable \d"
    r"|\b(?:19|20)\d\d\)"
)
# what other tests hold against the lesson: how long it takes, and its exercises
HELD = re.compile(r"\*About \d+ minutes|\*\*Exercises\*\*")

def _pointwise() -> float:
    by = {row.kind: row.multiply_adds for row in ts.cost.profile("mobilenet_v1_x1_0").by("kind")}
    return 100 * by["pointwise"] / sum(by.values())


RECOMPUTED: dict[str, dict[str, Callable[[], float]]] = {
    "01": {"15.5": lambda: ts.cost.profile("vgg16").total.multiply_adds / 1e9},
    "02": {"94.86": _pointwise},
    "06": {"12.5": lambda: 65.2 - 52.7},  # V1, Table 4, which the lesson cites elsewhere
    "07": {
        "1.06": lambda: 3 / (2 * sqrt(2)),
        "1.43": lambda: 7 / (2 * sqrt(6)),
        "1.88": lambda: 13 / (2 * sqrt(12)),
        "16,384": lambda: 128 * 128,
        "6,272": lambda: 7 * 7 * 128,
        "93.8": lambda: 100 * (1 - 2 * 0.5**5),
        "96.9": lambda: 100 * (1 - 2 * 0.5**6),
        "400": lambda: round(56 * 56 * 32 * 4 / 1e5) * 100,
    },
    "10": {
        "10,000": lambda: 8_000 + 2_000,
        "0.91": lambda: 0.9 + 0.1 / 10,
        "0.01": lambda: 0.1 / 10,
        "95": lambda: 100 * erf(2 / sqrt(2)),
    },
    "11": {"256": lambda: 9216 / 36},
    "12": {"23": lambda: (9 * 5 + 1) / 2, "24": lambda: 8 * 3, "64": lambda: 4 * 2**14 / 1024},
}
"""By lesson: what is a reader's arithmetic, done again here."""

GIVEN: dict[str, dict[str, str]] = {
    **{lesson: {"25,804": "the tiny net's parameters, held by tests/course/test_picture.py"}
       for lesson in ("01", "02", "03", "04", "05")},
    "06": {"25,804": "the tiny net's, too", "1000": "ImageNet's classes",
           "50": "channels, in V1's section 4.2, which is named behind it"},
    "07": {"95": "the customary confidence", "90": "channels of the papers' table, in the figure"},
    "08": {"1024": "channels of conv5 in V2's Table 5"},
    "09": {"24": "the stem's channels, an example", "58": "V2's, an example",
           "64": "the next width that fills vectors"},
    "10": {"2.46": "printed in section 2", "0.4": "asserted in section 2"},
    "11": {"1000": "ImageNet's classes"},
    "12": {"512": "bits of a register"},
}  # fmt: skip
"""By lesson: what has none of these, and why it stays."""


def cells(path: Path) -> list[dict]:
    return json.loads(path.read_text(encoding="utf-8"))["cells"]


def computed(cell: dict) -> str:
    """The code of a cell; and what it printed, where that is the same in every run."""
    if cell["cell_type"] != "code":
        return ""
    said = "".join(cell["source"])
    if "measured" not in cell["metadata"].get("tags", []):
        for output in cell["outputs"]:
            said += "".join(output.get("text", [])) + "".join(
                output.get("data", {}).get("text/plain", [])
            )
    return said


def plain(number: str) -> str:
    """Without what parts its thousands."""
    return re.sub(r"[,  _]", "", number)


def numbers(text: str) -> Iterator[tuple[str, str]]:
    """Each number of a Markdown cell that is no name, with its paragraph and the one before.

    A table is cited where it is announced.
    """
    before = ""
    for paragraph in NO_PROSE.sub(" ", text).split("\n\n"):
        if not HELD.search(paragraph):
            for found in NUMBER.finditer(NAMES.sub(" ", paragraph)):
                if "." in found[0] or int(plain(found[0])) > SMALL:
                    yield found[0], (before if paragraph.startswith("|") else "") + paragraph
        before = paragraph


def is_known(number: str, known: set[float]) -> bool:
    """Whether a number is one of those, as exactly as it is written."""
    digits = len(number.partition(".")[2])
    return any(round(value, digits) == float(number) for value in known)


def unfounded(path: Path) -> dict[str, str]:
    """Numbers without an assertion, an output or a citation near them, each with its paragraph."""
    book, out = cells(path), {}
    for i, cell in enumerate(book):
        if cell["cell_type"] != "markdown":
            continue
        text = "".join(cell["source"])
        everywhere = i == 0 or text.startswith("## Summary")
        near = book if everywhere else book[max(0, i - NEAR) : i + NEAR + 1]
        found = re.finditer(r"\d[\d,_]*(?:\.\d+)?", " ".join(map(computed, near)))
        known = {float(plain(n[0])) for n in found}
        for number, paragraph in numbers(text):
            cited = CITED.search(paragraph) or number in SENTENCES
            if not cited and not is_known(plain(number), known):
                out[number] = paragraph
    return out


@pytest.mark.parametrize("path", LESSONS, ids=lambda path: path.stem)
def test_every_number_is_computed_asserted_or_cited(path):
    found, lesson = unfounded(path), path.name[:2]
    listed = GIVEN.get(lesson, {}).keys() | RECOMPUTED.get(lesson, {}).keys()
    assert found.keys() <= listed, {number: found[number] for number in found.keys() - listed}


@pytest.mark.parametrize(
    ("number", "value"), [pair for found in RECOMPUTED.values() for pair in found.items()]
)
def test_a_readers_arithmetic(number, value):
    assert is_known(plain(number), {value()})


def test_a_number_without_foundation_is_noticed(tmp_path):
    def lesson(text: str) -> dict[str, str]:
        code = {"cell_type": "code", "source": ["print(4 * 12.5)"], "metadata": {},
                "outputs": [{"text": ["50.0\n"]}]}  # fmt: skip
        book = {"cells": [{"cell_type": "markdown", "source": ["# 99. A lesson"]}, code,
                          {"cell_type": "markdown", "source": [text]}]}  # fmt: skip
        path = tmp_path / "99-a.ipynb"
        path.write_text(json.dumps(book), encoding="utf-8")
        return unfounded(path)

    assert lesson("It takes 96.1 ms.").keys() == {"96.1"}
    assert lesson("It has 1,366,792 parameters and 137 M.").keys() == {"1,366,792", "137"}
    assert not lesson("It takes 50 ms, 12.5 at a time; V2, Table 8 prints 34.5 %.")
    assert not lesson("See notebook 12, section 10.3, `size=224`, $37.5$ and ShuffleNet V2 0.5x.")
