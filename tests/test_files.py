"""Files that several write at once, and which packages are there. A full disk: test_run.py."""

from __future__ import annotations

import importlib
import os
import threading
import time

from tinyshuffle import files
from tinyshuffle.files import atomic_write, installed


def test_two_that_write_the_same_file_do_not_meet(tmp_path):
    """Such as the drivers of one sweep: none is told that it has no permission."""
    failed = []
    path, both = tmp_path / "report.md", threading.Barrier(2)

    def write(letter):
        try:
            with atomic_write(path) as file:
                both.wait(10)  # both files are open
                file.write(letter * 1000)
                both.wait(10)
        except Exception as error:
            failed.append(error)

    threads = [threading.Thread(target=write, args=[letter]) for letter in (b"a", b"b")]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not failed
    assert os.listdir(tmp_path) == ["report.md"]
    assert path.read_bytes() in (b"a" * 1000, b"b" * 1000)


def test_what_a_killed_writer_left_is_deleted_when_it_is_old(tmp_path):
    old, older, young, other = (
        tmp_path / name
        for name in (".[a].md.0a1b2c3d.tmp", ".[a].md.tmp", ".[a].md.4e5f6a7b.tmp",
                     ".a.md.0a1b2c3d.tmp")
    )  # fmt: skip
    for path in (old, older, young, other):
        path.write_bytes(b"half")
    for path in (old, older, other):  # the second has the name that all writers had at first
        os.utime(path, times=(time.time() - 2 * files.DAY,) * 2)
    with atomic_write(tmp_path / "[a].md") as file:
        file.write(b"whole")
    left = set(os.listdir(tmp_path))
    assert left == {"[a].md", young.name, other.name}  # another file's is that one's to delete


def test_a_folder_of_that_name_is_no_package(tmp_path, monkeypatch):
    (tmp_path / "an_onnx").mkdir()
    monkeypatch.syspath_prepend(tmp_path)
    assert not installed("an_onnx")
    (tmp_path / "an_onnx" / "__init__.py").touch()
    importlib.invalidate_caches()
    assert installed("an_onnx") and not installed("nothing_of_the_kind")
