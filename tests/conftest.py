"""What all tests share."""

from __future__ import annotations

import signal

import hypothesis
import numpy as np
import pytest

import tinyshuffle as ts

# a program for a Python that is WebAssembly: imported here it would replace what shows figures
collect_ignore = ["notebooks/wasm_lessons.py", "notebooks/no_matplotlib.py"]

# the same examples on every machine; what is drawn may include a kernel's first compilation
hypothesis.settings.register_profile(
    "tinyshuffle",
    derandomize=True,
    deadline=None,
    max_examples=15,
    suppress_health_check=[hypothesis.HealthCheck.too_slow],
)
hypothesis.settings.load_profile("tinyshuffle")

# a shell's job in the background is told to ignore Ctrl-C, which some tests send to themselves
signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture
def rng() -> np.random.Generator:
    return np.random.default_rng(20170704)


@pytest.fixture(autouse=True)
def slices_that_are_asked_for(request, monkeypatch):
    """Cut every batch into as many slices as there are threads, however small the work is."""
    if "small_work" not in request.keywords:
        monkeypatch.setattr("tinyshuffle.parallel.worthwhile", lambda plan, slices, *_: slices)


@pytest.fixture(params=["numpy", "numba"])
def each_backend(request):
    """Run the test with the definition, and with the kernels."""
    with ts.backend(request.param):
        yield request.param


@pytest.fixture
def numpy_backend():
    with ts.backend("numpy"):
        yield
