"""The map under boxes: against loops, and its gradients."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

import tinyshuffle as ts
from tinyshuffle import TinyshuffleError, kernels, nn, ops
from tinyshuffle.backend import F


def between_pixels(x, v, u):
    """A map (H, W, C) at one point, by the definition's own words."""
    h, w, c = x.shape
    if not (-1 <= v <= h and -1 <= u <= w):
        return np.zeros(c)
    v, u = min(max(v, 0), h - 1), min(max(u, 0), w - 1)
    found = np.zeros(c)
    for i, j in np.ndindex(h, w):
        found += max(0, 1 - abs(v - i)) * max(0, 1 - abs(u - j)) * x[i, j]
    return found


def naive(x, boxes, image, p, scale, samples, step):
    c = x.shape[3] if not step else step
    y = np.zeros((len(boxes), p, p, c))
    for r, i, j in np.ndindex(y.shape[:3]):
        x1, y1, x2, y2 = boxes[r] * scale
        first = (i * p + j) * step
        for a, b in np.ndindex(samples, samples):
            v = y1 - 0.5 + (i * samples + a + 0.5) * (y2 - y1) / (p * samples)
            u = x1 - 0.5 + (j * samples + b + 0.5) * (x2 - x1) / (p * samples)
            there = between_pixels(x[image[r], :, :, first : first + c], v, u)
            y[r, i, j] += there / samples**2
    return y


def drawn(seed, h, w, channels, count, n=2):
    """A map, and boxes some of which stick out, are empty, or lie outside."""
    rng = np.random.default_rng(seed)
    corner = rng.uniform(-12, 4 * max(h, w), (count, 2))
    sides = rng.uniform(0, 4 * max(h, w), (count, 2)) * (rng.random((count, 2)) < 0.9)
    boxes = np.concatenate([corner, corner + sides], axis=1)
    return rng.standard_normal((n, h, w, channels)), boxes, rng.integers(0, n, count)


sides = st.integers(1, 5)
each = pytest.mark.parametrize("position", [False, True])


@each
@given(st.integers(0, 99), sides, sides, st.integers(1, 3), st.integers(1, 3), st.integers(0, 4))
@example(0, 1, 1, 1, 1, 3)
def test_it_is_its_definition(position, seed, h, w, p, samples, count):
    x, boxes, image = drawn(seed, h, w, 2 * p * p if position else 3, count)
    operation = ops.ps_roi_align if position else ops.roi_align
    y = operation(x, boxes, image, p, 0.25, samples)
    expected = naive(x, boxes, image, p, 0.25, samples, 2 if position else 0)
    np.testing.assert_allclose(y, expected, rtol=1e-12, atol=1e-12)
    cost = ops.ps_roi_align_cost if position else ops.roi_align_cost
    assert cost(x.shape, boxes.shape, image.shape, p, 0.25, samples).output == y.shape


class Under(nn.Module):
    """RoIAlign as a layer of one input, for the check of its gradient."""

    def __init__(self, name, *others):
        self.name, self.others = name, others

    def forward(self, x):
        self.save(x)
        return getattr(F, self.name)(x, *self.others)

    def backward(self, dy):
        return getattr(F, f"{self.name}_backward")(dy, *self.saved(), *self.others)


@pytest.mark.parametrize("backend", ["numpy", "numba"])
@each
@given(st.integers(0, 99), sides, sides, st.integers(1, 3), st.integers(1, 4))
def test_gradient(backend, position, seed, h, w, p, count):
    x, boxes, image = drawn(seed, h, w, 2 * p * p if position else 3, count)
    layer = Under("ps_roi_align" if position else "roi_align", boxes, image, p, 0.25, 2)
    if not np.any(layer(x)):
        return  # all boxes lie outside of the map
    with ts.backend(backend):
        report = ts.gradcheck(layer, x)
    assert report.passed and report.max_relative_error <= 1e-6


def test_no_box():
    x, boxes, image = drawn(0, 3, 4, 4, 0)
    for operation in ops, kernels:
        y = operation.roi_align(x, boxes, image, 2, 0.25)
        assert y.shape == (0, 2, 2, 4)
        assert not operation.roi_align_backward(y, x, boxes, image, 2, 0.25).any()


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"boxes": np.array([[3.0, 0, 1, 2]])}, "x1 at most x2"),
        ({"boxes": np.array([[0.0, 0, np.nan, 2]])}, "finite"),
        ({"boxes": np.zeros((1, 5))}, "shape"),
        ({"image": np.array([2])}, "there are 2"),
        ({"image": np.array([0.0])}, "whole numbers"),
        ({"scale": 0.0}, "scale"),
        ({"output_size": 0}, "output_size"),
        ({"output_size": 3}, "multiple of 9"),
    ],
)
def test_what_cannot_be_is_one_sentence(each_backend, change, words):
    given_ = {"boxes": np.array([[0.0, 0, 8, 8]]), "image": np.array([0]), "output_size": 2,
              "scale": 0.25}  # fmt: skip
    with pytest.raises(TinyshuffleError, match=words):
        F.ps_roi_align(np.zeros((2, 3, 3, 4)), **{**given_, **change})
