"""Smooth L1 and binary cross-entropy: values, gradients, and what cannot be."""

from __future__ import annotations

import numpy as np
import pytest

import tinyshuffle as ts
from tinyshuffle import TinyshuffleError, nn, ops


class Loss(nn.Module):
    """A loss of each number, as a layer of one input."""

    def __init__(self, name, *others):
        self.name, self.others = name, others

    def forward(self, x):
        self.save(x)
        return getattr(ops, self.name)(x, *self.others)

    def backward(self, dy):
        return getattr(ops, f"{self.name}_backward")(dy, *self.saved(), *self.others)


@pytest.mark.parametrize("beta", [1.0, 1 / 9, 0.0])
def test_smooth_l1(rng, beta):
    x, target = rng.standard_normal((3, 5)), rng.standard_normal((3, 5))
    d = abs(x - target)
    expected = [v * v / (2 * beta) if v < beta else v - beta / 2 for v in d.ravel()]
    np.testing.assert_allclose(ops.smooth_l1(x, target, beta).ravel(), expected)
    report = ts.gradcheck(Loss("smooth_l1", target, beta), x)
    assert report.passed and report.max_relative_error <= 1e-6


def test_binary_cross_entropy(rng):
    z, t = 3 * rng.standard_normal((4, 5)), rng.random((4, 5))
    p = 1 / (1 + np.exp(-z))
    expected = -t * np.log(p) - (1 - t) * np.log(1 - p)
    np.testing.assert_allclose(ops.binary_cross_entropy(z, t), expected)
    report = ts.gradcheck(Loss("binary_cross_entropy", t), z)
    assert report.passed and report.max_relative_error <= 1e-6


def test_large_logits_cost_what_they_are():
    z, t = np.float32([[-1e4, 1e4, -1e4, 1e4]]), np.float32([[0, 1, 1, 0]])
    np.testing.assert_array_equal(ops.binary_cross_entropy(z, t), [[0, 0, 1e4, 1e4]])
    gradient = ops.binary_cross_entropy_backward(np.ones_like(z), z, t)
    np.testing.assert_array_equal(gradient, [[0, 0, -1, 1]])


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda x: ops.smooth_l1(x, x[:1]), "where"),
        (lambda x: ops.smooth_l1(x, x, -1), "beta"),
        (lambda x: ops.smooth_l1(x.astype(int), x), "float32 or float64"),
        (lambda x: ops.binary_cross_entropy(x, x + 2), "probabilities"),
        (lambda x: ops.binary_cross_entropy(x, x * np.nan), "probabilities"),
        (lambda x: ops.binary_cross_entropy_backward(x[:1], x, x), "where"),
    ],
)
def test_what_cannot_be_is_one_sentence(call, words):
    with pytest.raises(TinyshuffleError, match=words):
        call(np.zeros((2, 3)))
