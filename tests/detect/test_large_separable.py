"""The large separable convolution: what it is made of, what it sees, its gradient."""

from __future__ import annotations

import numpy as np
import pytest

import tinyshuffle as ts
from tinyshuffle.detect.large_separable import LargeSeparableConv2d


def test_it_is_the_sum_of_two_products_of_kernels(rng):
    """Column then row is a convolution whose kernel is the product of both: so is the other way."""
    layer = LargeSeparableConv2d(2, 3, 4, 5).astype("float64")
    x = rng.standard_normal((1, 6, 7, 2))
    down, across = layer.down, layer.across
    kernel = np.einsum("hcm,wmo->hwco", down[0].weight.data[:, 0], down[1].weight.data[0])
    kernel += np.einsum("wcm,hmo->hwco", across[0].weight.data[0], across[1].weight.data[:, 0])
    whole = ts.nn.Conv2d(2, 4, 5, padding=2).astype("float64")
    whole.weight.data, whole.bias.data = kernel, down[1].bias.data
    np.testing.assert_allclose(layer(x), whole(x), atol=1e-12)


def test_gradient(each_backend):
    layer = LargeSeparableConv2d(3, 2, 4, 5).initialise(0).astype("float64")
    report = ts.gradcheck(layer, np.random.default_rng(0).standard_normal((2, 4, 5, 3)))
    assert report.passed and report.max_relative_error <= 1e-6


def test_it_sees_far_and_costs_little():
    layer = LargeSeparableConv2d(8, 4, 8, 15)
    weights = sum(p.data.size for p in layer.parameters())
    assert weights == 2 * 15 * (8 * 4 + 4 * 8) + 8  # and a 15x15 window has 225 · 64
    x = np.zeros((1, 15, 15, 8), np.float32)
    x[0, 7, 7] = 1
    layer.down[1].bias.data[...] = 0
    assert (layer(x)[0].any(axis=-1)).all()


def test_an_even_window_is_refused():
    with pytest.raises(ts.TinyshuffleError, match="kernel_size=4 is even"):
        LargeSeparableConv2d(3, 2, 4, 4)
