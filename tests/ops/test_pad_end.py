"""Pools that round their output size up."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from strategies import batches, sizes

import tinyshuffle as ts
from tinyshuffle import TinyshuffleError, nn, ops

kernels = st.integers(1, 4)
strides = st.integers(1, 4)


@st.composite
def ceil_pools(draw):
    kernel = draw(kernels)
    n, (h, w) = draw(batches), draw(st.tuples(st.integers(4, 9), st.integers(4, 9)))
    return (n, h, w, 2), (kernel, draw(strides), draw(st.integers(0, kernel // 2)))


@given(batches, sizes, st.integers(0, 3), st.integers(0, 3))
def test_padding_and_back(n, size, bottom, right):
    x = np.random.default_rng(0).standard_normal((n, *size, 3))
    y = ops.pad_end(x, bottom, right, 7.0)
    assert y.shape == ops.pad_end_cost(x.shape, bottom, right).output
    assert (y[:, size[0] :] == 7).all() and (y[:, :, size[1] :] == 7).all()
    np.testing.assert_array_equal(ops.pad_end_backward(y, bottom, right), x)


@given(ceil_pools())
def test_ceil_mode_is_its_definition(case):
    shape, (kernel, stride, padding) = case
    x = np.random.default_rng(1).standard_normal(shape)
    y = nn.MaxPool2d(kernel, stride, padding, ceil_mode=True)(x)
    out = []
    for size in shape[1:3]:
        windows = math.ceil((size + 2 * padding - kernel) / stride) + 1
        while (windows - 1) * stride >= size + padding:  # the last would see no pixel at all
            windows -= 1
        out.append(windows)
    assert y.shape[1:3] == tuple(out)
    for p, q in np.ndindex(*out):
        rows = range(max(0, p * stride - padding), min(shape[1], p * stride - padding + kernel))
        columns = range(max(0, q * stride - padding), min(shape[2], q * stride - padding + kernel))
        seen = [x[:, i, j] for i in rows for j in columns]
        np.testing.assert_array_equal(y[:, p, q], np.max(seen, axis=0))


@given(ceil_pools())
def test_gradient_of_ceil_mode(case):
    shape, arguments = case
    x = np.random.default_rng(2).standard_normal(shape)
    report = ts.gradcheck(nn.MaxPool2d(*arguments, ceil_mode=True), x)
    assert report.passed, report


def test_an_image_that_fits_is_not_copied(monkeypatch, rng):
    monkeypatch.setattr(ops, "pad_end", None)
    with ts.backend("numpy"):
        x = rng.standard_normal((1, 7, 7, 2))
        layer = nn.MaxPool2d(3, stride=2, ceil_mode=True)
        assert layer(x).shape == (1, 3, 3, 2)
        assert "ceil_mode=True" in repr(layer)


def test_no_window_fits():
    with pytest.raises(TinyshuffleError, match="smaller than the 3 pixels"):
        nn.MaxPool2d(3, stride=2, ceil_mode=True)(np.zeros((1, 1, 4, 2)))
