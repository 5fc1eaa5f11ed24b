"""The clean environment of the workers."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from tinyshuffle import TinyshuffleError
from tinyshuffle.bench.process import Worker, clean_environment

DISTORTS = ["OPENBLAS_CORETYPE", "OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS", "OMP_WAIT_POLICY",
            "MKL_NUM_THREADS", "MKL_ENABLE_INSTRUCTIONS", "GOMP_CPU_AFFINITY", "KMP_BLOCKTIME",
            "NUMBA_NUM_THREADS", "ATEN_THREADS"]  # fmt: skip


def test_the_environment_is_cleared():
    kept = {
        "PATH": "/bin",
        "NUMBA_CACHE_DIR": "/cache",
        "HOME": "/home",
        "COMP_WORDS": "x",
        "NUMBA_CPU_NAME": "haswell",
        "ATEN_CPU_CAPABILITY": "avx2",
    }
    clean, cleared = clean_environment({name: "1" for name in DISTORTS} | kept)
    assert clean == kept and cleared == sorted(DISTORTS)


def test_workers_get_the_clean_environment(monkeypatch):
    given = {}

    def popen(command, env, **options):
        given.update(env)
        raise OSError

    for name in DISTORTS:
        monkeypatch.setenv(name, "1")
    monkeypatch.setattr(subprocess, "Popen", popen)
    with pytest.raises(OSError):
        Worker("a side", {}, {"NUMBA_CACHE_DIR": "/cache"})
    assert not set(DISTORTS) & set(given)
    assert given["NUMBA_CACHE_DIR"] == "/cache" and given["PATH"] == os.environ["PATH"]


def test_a_browser_is_told_that_it_cannot_start_one(monkeypatch):
    monkeypatch.setattr(sys, "platform", "emscripten")
    with pytest.raises(TinyshuffleError, match="^a side is measured .* a browser cannot start"):
        Worker("a side", {})
