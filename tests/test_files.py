"""Which packages are there. That a file is whole or absent: test_checkpoint.py."""

from __future__ import annotations

import importlib

from tinyshuffle.files import installed


def test_a_folder_of_that_name_is_no_package(tmp_path, monkeypatch):
    (tmp_path / "an_onnx").mkdir()
    monkeypatch.syspath_prepend(tmp_path)
    assert not installed("an_onnx")
    (tmp_path / "an_onnx" / "__init__.py").touch()
    importlib.invalidate_caches()
    assert installed("an_onnx") and not installed("nothing_of_the_kind")
