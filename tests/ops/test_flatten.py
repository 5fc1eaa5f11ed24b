"""Images laid flat."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from strategies import batches, sizes

import tinyshuffle as ts
from tinyshuffle import nn, ops


@given(batches, sizes)
def test_the_order_is_pytorchs(n, size):
    (h, w), c = size, 5
    x = np.arange(n * h * w * c).reshape(n, h, w, c)
    y = ops.flatten(x)
    assert y.shape == ops.flatten_cost(x.shape).output == (n, c * h * w)
    for i, p, q, k in np.ndindex(x.shape):
        assert y[i, (k * h + p) * w + q] == x[i, p, q, k]
    np.testing.assert_array_equal(ops.flatten_backward(y, x.shape), x)


@given(batches, sizes)
def test_gradient(n, size):
    x = np.random.default_rng(0).standard_normal((n, *size, 3))
    assert ts.gradcheck(nn.Flatten(), x).passed


def test_the_result_is_the_callers():
    x = np.zeros((2, 1, 1, 4))  # an order that a reshape alone would leave a view
    ops.flatten(x)[...] = 1
    ops.flatten_backward(np.zeros((2, 4)), x.shape)[...] = 1
    assert not x.any()
