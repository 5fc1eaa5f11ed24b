"""The README's code runs, and its links lead somewhere."""

from __future__ import annotations

import itertools
import re
from pathlib import Path

import pytest

import tinyshuffle as ts

README = Path(__file__).parents[1] / "README.md"


def test_the_python_examples_run(monkeypatch, capsys):
    every = ts.data.batches
    monkeypatch.setattr(ts.data, "batches", lambda *a, **k: itertools.islice(every(*a, **k), 2))
    blocks = re.findall(r"```python\n(.*?)```", README.read_text(encoding="utf-8"), re.DOTALL)
    assert len(blocks) == 2
    names: dict = {}
    for block in blocks:
        exec(block, names)
    assert "passed" in capsys.readouterr().out


@pytest.mark.parametrize("pattern", [r"\]\(([^)#:]+)\)", r'src="([^":]+)"'])
def test_links_and_pictures_exist(pattern):
    targets = re.findall(pattern, README.read_text(encoding="utf-8"))
    assert targets
    for target in targets:
        assert (README.parent / target).exists(), target


def test_the_public_names_are_there():
    assert ts.cost.profile("shufflenet_v2_x0_5").total.params == 1_366_792
    for name in ts.__all__:
        assert hasattr(ts, name)
