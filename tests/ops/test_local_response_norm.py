"""Local response normalisation against its definition, one number at a time."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import tinyshuffle as ts
from tinyshuffle import TinyshuffleError, nn, ops

widths = st.integers(1, 7)
channels = st.integers(1, 9)


@given(widths, channels, st.integers(0, 99))
def test_it_is_its_definition(width, c, seed):
    x = np.random.default_rng(seed).standard_normal((2, 3, 2, c))
    y = ops.local_response_norm(x, width, alpha=0.3, beta=0.6, k=1.5)
    for n, h, w, i in np.ndindex(x.shape):
        window = [j for j in range(i - width // 2, i + (width - 1) // 2 + 1) if 0 <= j < c]
        s = 1.5 + 0.3 / width * sum(x[n, h, w, j] ** 2 for j in window)
        assert y[n, h, w, i] == pytest.approx(x[n, h, w, i] / s**0.6, rel=1e-12)


@given(widths, channels, st.integers(0, 99))
def test_gradient(width, c, seed):
    layer = nn.LocalResponseNorm(width, alpha=0.8, beta=0.6, k=1.5)
    x = np.random.default_rng(seed).standard_normal((2, 2, 3, c))
    report = ts.gradcheck(layer, x, seed=seed)
    assert report.passed, report
    assert report.rows[0].checked == x.size


def test_krizhevskys_numbers():
    """One loud channel among silent ones: b = a / (2 + 10⁻⁴ a²)^0.75, its neighbours unmoved."""
    x = np.zeros((1, 1, 1, 9))
    x[..., 4] = 200.0
    y = nn.LocalResponseNorm(5, alpha=5e-4, beta=0.75, k=2)(x)
    assert y[0, 0, 0, 4] == pytest.approx(200 / 6**0.75)
    assert np.count_nonzero(y) == 1


def test_dtype_and_cost(rng):
    x = rng.standard_normal((2, 3, 3, 8)).astype(np.float32)
    y = ops.local_response_norm(x, 5)
    assert y.dtype == ops.local_response_norm_backward(y, x, 5).dtype == np.float32
    cost = ops.local_response_norm_cost(x.shape, 5)
    assert (cost.output, cost.multiply_adds, cost.memory_access) == (x.shape, 0, 2 * x.size)


def test_an_empty_window_is_refused():
    with pytest.raises(TinyshuffleError, match="use 1 or more"):
        ops.local_response_norm(np.zeros((1, 1, 1, 4)), 0)
