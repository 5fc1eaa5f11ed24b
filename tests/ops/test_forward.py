"""The definition itself, against loops that nobody can misread."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from strategies import convolutions, divisors, pools

from tinyshuffle import TinyshuffleError, ops
from tinyshuffle.ops.windows import pair


def naive_conv(x, w, b, stride, padding, dilation, groups):
    """One output number at a time; counts the products that it forms."""
    (n, h, wd, _), (kh, kw, cg, o) = x.shape, w.shape
    (sh, sw), (ph, pw), (dh, dw) = pair(stride), pair(padding), pair(dilation)
    ho, wo = ops.windows.output_size((h, wd), (kh, kw), stride, padding, dilation)
    y, products = np.zeros((n, ho, wo, o)), 0
    for m, p, q, k in np.ndindex(y.shape):
        first = k // (o // groups) * cg
        for i, j, c in np.ndindex(kh, kw, cg):
            row, column = p * sh + i * dh - ph, q * sw + j * dw - pw
            products += 1  # a product with padding is formed like any other
            if 0 <= row < h and 0 <= column < wd:
                y[m, p, q, k] += x[m, row, column, first + c] * w[i, j, c, k]
    return y + (0 if b is None else b), products


@given(convolutions(), st.integers(0, 99))
def test_convolution_is_its_definition(case, seed):
    shape, a = case
    rng = np.random.default_rng(seed)
    x = rng.standard_normal(shape)
    w = rng.standard_normal((*a["kernel_size"], shape[3] // a["groups"], a["out_channels"]))
    b = rng.standard_normal(a["out_channels"]) if a["bias"] else None
    geometry = a["stride"], a["padding"], a["dilation"], a["groups"]
    expected, products = naive_conv(x, w, b, *geometry)
    y = ops.conv2d(x, w, b, *geometry)
    np.testing.assert_allclose(y, expected, rtol=1e-12, atol=1e-12)
    cost = ops.conv2d_cost(x.shape, w.shape, None if b is None else b.shape, *geometry)
    assert (cost.output, cost.multiply_adds) == (y.shape, products)
    assert cost.params == w.size + (0 if b is None else b.size)


@given(convolutions(depthwise=True), st.integers(0, 99))
def test_depthwise_is_a_convolution_with_as_many_groups_as_channels(case, seed):
    shape, a = case
    rng = np.random.default_rng(seed)
    x, w = rng.standard_normal(shape), rng.standard_normal((*a["kernel_size"], shape[3]))
    geometry = a["stride"], a["padding"], a["dilation"]
    y = ops.depthwise_conv2d(x, w, None, *geometry)
    expected, products = naive_conv(x, w[:, :, None, :], None, *geometry, shape[3])
    np.testing.assert_allclose(y, expected, rtol=1e-12, atol=1e-12)
    assert ops.depthwise_conv2d_cost(x.shape, w.shape, None, *geometry).multiply_adds == products


@given(st.data())
def test_pointwise_is_a_convolution_with_a_1x1_kernel(data):
    groups, cg, og = (data.draw(st.integers(1, 4)) for _ in range(3))
    rng = np.random.default_rng(0)
    x = rng.standard_normal((2, 3, 5, groups * cg))
    w, b = rng.standard_normal((1, 1, cg, groups * og)), rng.standard_normal(groups * og)
    expected, products = naive_conv(x, w, b, 1, 0, 1, groups)
    np.testing.assert_allclose(
        ops.pointwise_conv2d(x, w, b, groups), expected, rtol=1e-12, atol=1e-12
    )
    cost = ops.pointwise_conv2d_cost(x.shape, w.shape, b.shape, groups)
    assert cost.multiply_adds == products
    # the V2 paper's formula, section 2, G2
    hw, c1, c2 = 2 * 3 * 5, groups * cg, groups * og
    assert cost.memory_access == hw * (c1 + c2) + c1 * c2 // groups + c2


@given(pools(), st.booleans())
def test_pools_are_their_definition(case, count_include_pad):
    (n, h, w, c), a = case
    x = np.random.default_rng(1).standard_normal((n, h, w, c))
    (kh, kw), (sh, sw), (ph, pw) = a["kernel_size"], a["stride"], a["padding"]
    largest, winner = ops.max_pool2d(x, **a)
    mean = ops.avg_pool2d(x, **a, count_include_pad=count_include_pad)
    assert ops.max_pool2d_cost(x.shape, **a).output == largest.shape == mean.shape
    for m, p, q, k in np.ndindex(largest.shape):
        rows, columns = range(p * sh - ph, p * sh - ph + kh), range(q * sw - pw, q * sw - pw + kw)
        seen = [
            x[m, i, j, k]
            for i, j in itertools.product(rows, columns)
            if 0 <= i < h and 0 <= j < w
        ]
        assert largest[m, p, q, k] == max(seen)
        i, j = divmod(int(winner[m, p, q, k]), kw)
        assert x[m, rows[i], columns[j], k] == max(seen)
        count = kh * kw if count_include_pad else len(seen)
        assert mean[m, p, q, k] == pytest.approx(sum(seen) / count, rel=1e-12, abs=1e-12)


@given(st.data())
def test_shuffle_and_its_inverse(data):
    c = data.draw(st.integers(1, 24))
    g = data.draw(divisors(c))
    x = np.arange(2 * c).reshape(1, 2, 1, c)
    y = ops.channel_shuffle(x, g)
    n = c // g
    for group, j in np.ndindex(g, n):  # the paper's order: out[j·g + group] = in[group·n + j]
        assert (y[..., j * g + group] == x[..., group * n + j]).all()
    np.testing.assert_array_equal(ops.channel_shuffle_backward(y, g), x)
    np.testing.assert_array_equal(ops.channel_shuffle(y, n), x)


def test_batch_norm_of_a_batch_far_from_zero():
    """The variance survives a mean a thousand standard deviations away, in float32."""
    x = (1000 + np.random.default_rng(3).standard_normal((8, 16, 16, 4))).astype(np.float32)
    mean, var = ops.batch_norm_statistics(ops.batch_norm_sums(x))
    exact = x.astype(np.float64)
    np.testing.assert_allclose(mean, exact.mean((0, 1, 2)), rtol=1e-12)
    np.testing.assert_allclose(var, exact.var((0, 1, 2)), rtol=1e-8)
    y = ops.batch_norm(x, np.ones(4, np.float32), np.zeros(4, np.float32), mean, var, eps=0)
    np.testing.assert_allclose(y.std((0, 1, 2)), 1, rtol=1e-4)


def test_cross_entropy_of_large_logits_is_finite():
    logits = np.array([[1000.0, 0.0, -1000.0], [0.0, 1000.0, 0.0]])
    loss, p = ops.cross_entropy(logits, np.array([1, 1]))
    assert loss == pytest.approx(500)
    assert np.isfinite(p).all()
    np.testing.assert_allclose(p.sum(axis=1), 1)


@pytest.mark.parametrize("smoothing", [0.0, 0.1, 1.0])
def test_cross_entropy_gradient(rng, smoothing):
    logits, labels = rng.standard_normal((3, 5)), np.array([4, 0, 2])
    _, p = ops.cross_entropy(logits, labels, smoothing)
    d = ops.cross_entropy_backward(p, labels, smoothing)
    for index in np.ndindex(logits.shape):
        step = np.zeros_like(logits)
        step[index] = 1e-5
        numeric = (
            ops.cross_entropy(logits + step, labels, smoothing)[0]
            - ops.cross_entropy(logits - step, labels, smoothing)[0]
        ) / 2e-5
        assert d[index] == pytest.approx(numeric, abs=1e-9)


def test_dropout_keeps_the_mean(rng):
    mask = ops.dropout_mask(rng, (400, 500), 0.3, np.float32)
    assert set(np.unique(mask)) == {np.float32(0), np.float32(1 / 0.7)}
    assert mask.mean() == pytest.approx(1, abs=0.01)


def test_a_nan_is_not_swallowed():
    """A broken number must come out of every operation that could hide it."""
    x = np.array([1.0, np.nan, 3.0, 2.0]).reshape(1, 2, 2, 1)
    assert np.isnan(ops.max_pool2d(x, 2, 2)[0]).all()
    assert np.isnan(ops.relu(x)).sum() == 1
    assert np.isnan(ops.relu6(x)).sum() == 1


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (
            lambda x: ops.channel_shuffle(x, 4),
            "groups=4 does not divide channels=30 (nearest that do: 28, 32)",
        ),
        (lambda x: ops.channel_shuffle(x, 0), "use 1 or more"),
        (lambda x: ops.channel_split(x, 30), "a number from 1 to 29"),
        (lambda x: ops.concat([x, x[:, :2]]), "must agree in all but their channels"),
        (lambda x: ops.add(x, x[..., :3]), "the same shape"),
        (lambda x: ops.max_pool2d(x, 2, 2, padding=2), "use at most 1"),
        (lambda x: ops.conv2d(x, np.zeros((7, 7, 30, 1))), "smaller than the 7 pixels"),
    ],
)
def test_errors_say_what_to_do(call, words):
    with pytest.raises(TinyshuffleError) as error:
        call(np.zeros((1, 4, 4, 30)))
    assert words in str(error.value)


def test_nothing_is_written_into_arguments(rng):
    x, w = rng.standard_normal((2, 4, 4, 6)), rng.standard_normal((3, 3, 2, 6))
    for a in (x, w):
        a.flags.writeable = False
    y = ops.conv2d(x, w, None, 1, 1, 1, 3)
    ops.conv2d_backward(y, x, w, 1, 1, 1, 3)
    ops.depthwise_conv2d_backward(x, x, w[:, :, 0], 1, 1)
    ops.max_pool2d(x, 3, 2, 1)
    ops.relu(x)
