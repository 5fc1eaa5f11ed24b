"""Two loops that differ in their stores alone."""

from __future__ import annotations

import platform

import numba
import numpy as np
import pytest

from tinyshuffle.bench import stores


@pytest.mark.parametrize("kernel", [stores.scale, stores.scale_past_cache])
@pytest.mark.parametrize("n", [16, 48, 1024])
def test_every_number_is_written(kernel, n):
    x, y = stores.aligned(n), stores.aligned(n + 16)
    x[:] = np.random.default_rng(0).standard_normal(n)
    kernel(x, np.float32([3.0]), y[:n])
    np.testing.assert_array_equal(y, np.concatenate([x * np.float32(3), np.ones(16, np.float32)]))


@pytest.mark.parametrize("n", range(1, 40, 13))
def test_arrays_begin_at_a_line(n):
    x = stores.aligned(n)
    assert x.shape == (n,) and x.dtype == np.float32 and x.ctypes.data % stores.LINE == 0


@pytest.mark.parametrize("kernel", [stores.scale, stores.scale_past_cache])
def test_one_of_them_stores_past_the_cache(kernel):
    compiled = numba.njit(kernel.py_func)  # what comes from numba's cache cannot be looked into
    compiled(stores.aligned(16), np.ones(1, np.float32), stores.aligned(16))
    (code,) = compiled.inspect_asm().values()
    past = kernel is stores.scale_past_cache
    assert "memcpy" not in code and "memmove" not in code
    if platform.machine() in ("x86_64", "AMD64"):
        assert ("movnt" in code) == past
