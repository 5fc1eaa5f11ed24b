"""tinyshuffle against PyTorch. Without PyTorch every file here is skipped, and says so."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import tinyshuffle as ts
from tinyshuffle.files import installed

if not installed("torch"):

    class Skipped(pytest.File):
        def collect(self) -> list[pytest.Item]:
            pytest.skip("PyTorch is not installed (pip install torch)", allow_module_level=True)

    def pytest_ignore_collect(collection_path: Path) -> bool | None:
        return None if collection_path.name.startswith("test_") else True

    @pytest.hookimpl(wrapper=True)
    def pytest_collect_file(file_path: Path, parent: pytest.Collector) -> Any:
        yield
        return [Skipped.from_parent(parent, path=file_path)]

else:
    import torch

    # Its threads wait for each other busily: beside any other load on the machine, two of them
    # took up to 80 times as long as one.
    torch.set_num_threads(1)


@pytest.fixture(params=[1, 2], ids=["1thread", "2threads"])
def threads(request: pytest.FixtureRequest) -> Iterator[int]:
    ts.set_num_threads(request.param)
    yield request.param
    ts.set_num_threads(None)
