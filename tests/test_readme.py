"""The README's code runs, and its links lead somewhere."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

import tinyshuffle as ts

README = Path(__file__).parents[1] / "README.md"


def test_the_python_examples_run(capsys):
    """As they are pasted: the loop says what it does, and learns."""
    blocks = re.findall(r"```python\n(.*?)```", README.read_text(encoding="utf-8"), re.DOTALL)
    assert len(blocks) == 2
    names: dict = {}
    for block in blocks:
        exec(block, names)
    out = capsys.readouterr().out
    *_, (loss, right) = re.findall(r"^epoch \d: loss ([\d.]+), ([\d.]+)% of", out, re.MULTILINE)
    assert float(loss) < 0.7 and float(right) >= 90
    assert "passed" in out


@pytest.mark.parametrize("pattern", [r"\]\(([^)#:]+)\)", r'src="([^":]+)"'])
def test_links_and_pictures_exist(pattern):
    targets = re.findall(pattern, README.read_text(encoding="utf-8"))
    assert targets
    for target in targets:
        assert (README.parent / target).exists(), target


def row(text, start):
    """The cells of a table's one row whose first cell begins so."""
    (found,) = re.findall(rf"^\| {re.escape(start)}[^|]*\|(.*)\|$", text, re.MULTILINE)
    return found.split("|")


@pytest.mark.parametrize(
    "claim, measured",
    [
        ("a training step of V2 0.5x", "ShuffleNet V2 0.5x"),
        ("the same of V1 1x, g = 8", "ShuffleNet V1 1x, g = 8"),
        ("inference of V2 0.5x", "V2 0.5x, 128 images of 32x32"),
        ("the same of V2 1x", "V2 1x, 128 images of 32x32"),
    ],
)
def test_what_it_says_of_speed_is_what_was_measured(claim, measured):
    """Ours, the other's and the ratio, as docs/performance.md has them."""
    said = row(README.read_text(encoding="utf-8"), claim)[-1]
    table = (README.parent / "docs" / "performance.md").read_text(encoding="utf-8")
    number = r"\d+(?:\.\d+)?"
    cells = row(table, measured)[:3]  # what follows is memory
    assert re.findall(number, said) == [n for cell in cells for n in re.findall(number, cell)]


def test_the_public_names_are_there():
    assert ts.cost.profile("shufflenet_v2_x0_5").total.params == 1_366_792
    for name in ts.__all__:
        assert hasattr(ts, name)


def test_one_version():
    for name in ("CITATION.cff", "docs/CHANGELOG.md"):
        text = (README.parent / name).read_text(encoding="utf-8")
        assert re.search(rf"^(version:|##) {re.escape(ts.__version__)}\b", text, re.MULTILINE), name


def test_the_map_names_every_room():
    text = README.read_text(encoding="utf-8")
    places = [
        path.name
        for path in (README.parent / "tinyshuffle").iterdir()
        if path.suffix == ".py" and "__" not in path.stem or (path / "__init__.py").exists()
    ]
    assert len(places) > 20
    for place in places:
        assert f"](tinyshuffle/{place})" in text, f"the map of the house lacks {place}"


def test_it_is_as_small_as_it_says():
    """Lines with docstrings and comments, as near as "some" says."""

    def lines(*patterns):
        package = README.parent / "tinyshuffle"
        files = [path for pattern in patterns for path in package.glob(pattern)]
        return sum(len(path.read_text(encoding="utf-8").splitlines()) for path in files)

    found = re.search(
        r"the operations, the layers, V1 and V2 are some ([\d,]+) lines.*?is ([\d,]+) more",
        README.read_text(encoding="utf-8"),
        re.DOTALL,
    )
    said = [int(number.replace(",", "")) for number in found.groups()]
    units = "models/shufflenet_v1.py", "models/shufflenet_v2.py"
    counted = lines("ops/*.py", "nn/*.py", *units), lines("plan/*.py")
    assert said == pytest.approx(counted, rel=0.15)
