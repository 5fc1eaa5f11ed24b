"""Kernels run wherever their compiled code can or cannot be kept."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

import tinyshuffle

USE = """
import numpy as np
import tinyshuffle as ts
print(ts.__file__)
print(ts.nn.ReLU()(np.array([[-1, 2]], np.float32)))
"""
NOWHERE = {"HOME": "/dev/null", "XDG_CACHE_HOME": "/dev/null/cache"}

pytestmark = pytest.mark.skipif(not Path("/dev/null").exists(), reason="needs /dev/null")


@pytest.fixture(scope="module")
def package(tmp_path_factory):
    """A copy of the package in which no compiled kernel can be kept, by nobody."""
    root = tmp_path_factory.mktemp("install")
    source = Path(tinyshuffle.__file__).parent
    shutil.copytree(source, root / "tinyshuffle", ignore=shutil.ignore_patterns("__pycache__"))
    (root / "tinyshuffle" / "kernels" / "__pycache__").write_text("a file, not a directory")
    return root


def use(place: Path, before: str = "", **variables: str) -> subprocess.CompletedProcess:
    keep = {k: v for k, v in os.environ.items() if k not in ("NUMBA_CACHE_DIR", "PYTHONPATH")}
    done = subprocess.run(
        [sys.executable, "-c", before + USE],
        cwd="/", env=keep | NOWHERE | {"PYTHONPATH": str(place)} | variables,
        capture_output=True, text=True,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    where, numbers = done.stdout.splitlines()
    assert where.startswith(str(place))
    assert numbers == "[[0. 2.]]"
    return done


@pytest.mark.parametrize("variables", [{}, {"NUMBA_CACHE_DIR": "/dev/null/numba"}])
def test_nowhere_to_keep_compiled_kernels(package, variables):
    (line,) = use(package, **variables).stderr.splitlines()
    assert "cannot be kept" in line and "set NUMBA_CACHE_DIR" in line


def test_a_package_in_a_zip_file(package, tmp_path):
    archive = tmp_path / "tinyshuffle.zip"
    with zipfile.ZipFile(archive, "w") as file:
        for path in (package / "tinyshuffle").rglob("*.py"):
            file.write(path, path.relative_to(package))
    (line,) = use(archive).stderr.splitlines()
    assert "cannot be kept" in line


def test_damaged_files_of_compiled_kernels_are_made_anew(package, tmp_path):
    place = {"NUMBA_CACHE_DIR": str(tmp_path)}
    assert use(package, **place).stderr == ""
    indices = list(tmp_path.rglob("*.nbi"))
    assert indices
    for index in indices:
        index.write_bytes(index.read_bytes()[:20])
    (line,) = use(package, **place).stderr.splitlines()
    assert "compiled anew" in line
    assert use(package, **place).stderr == ""  # they are whole again


def test_a_full_disk(package, tmp_path):
    """On which files can be made, but nothing be written to them."""
    pytest.importorskip("resource")
    full = "import resource; resource.setrlimit(resource.RLIMIT_FSIZE, (0, 0))\n"
    (line,) = use(package, full, NUMBA_CACHE_DIR=str(tmp_path)).stderr.splitlines()
    assert "cannot be kept" in line
