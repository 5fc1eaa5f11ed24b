"""Pooling to a given size."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from strategies import batches, sizes

import tinyshuffle as ts
from tinyshuffle import nn, ops

outputs = st.tuples(st.integers(1, 9), st.integers(1, 9))


@given(batches, sizes, outputs)
def test_it_is_its_definition(n, size, out):
    (h, w), (ho, wo) = size, out
    x = np.random.default_rng(0).standard_normal((n, h, w, 2))
    y = ops.adaptive_avg_pool2d(x, out)
    cost, pixels = ops.adaptive_avg_pool2d_cost(x.shape, out), 0
    assert y.shape == cost.output
    for p, q in np.ndindex(out):
        rows = range(math.floor(p * h / ho), math.ceil((p + 1) * h / ho))
        columns = range(math.floor(q * w / wo), math.ceil((q + 1) * w / wo))
        seen = [x[:, i, j] for i in rows for j in columns]
        pixels += len(seen)
        np.testing.assert_allclose(y[:, p, q], sum(seen) / len(seen), rtol=1e-12, atol=1e-12)
    assert cost.elementwise == n * pixels * 2


@given(batches, sizes, outputs)
def test_gradient(n, size, out):
    x = np.random.default_rng(1).standard_normal((n, *size, 2))
    report = ts.gradcheck(nn.AdaptiveAvgPool2d(out), x)
    assert report.passed, report


def test_the_same_size_is_the_identity(rng):
    x = rng.standard_normal((2, 6, 6, 3)).astype(np.float32)
    np.testing.assert_array_equal(ops.adaptive_avg_pool2d(x, 6), x)
    assert ops.adaptive_avg_pool2d(x, 4).dtype == np.float32


def test_one_pixel_is_the_global_average(rng):
    x = rng.standard_normal((2, 5, 7, 3))
    np.testing.assert_allclose(
        ops.adaptive_avg_pool2d(x, 1)[:, 0, 0], ops.global_avg_pool(x), rtol=1e-12
    )
    assert ops.adaptive_avg_pool2d_backward(np.ones((2, 1, 1, 3)), x.shape) == pytest.approx(1 / 35)
