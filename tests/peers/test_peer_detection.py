"""What detection is made of, against a twin in PyTorch whose gradients autograd finds."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.nn import functional

import tinyshuffle as ts
from tinyshuffle.backend import F

TOLERANCE = 1e-9

backends = pytest.mark.parametrize("backend", ["numpy", "numba"])


def roi_align(x, boxes, image, p, scale, samples, position):
    """RoIAlign point by point: the four pixels around each, by torchvision's rules."""
    n, h, w, channels = x.shape
    c = channels // (p * p) if position else channels
    rows = []
    for (x1, y1, x2, y2), which in zip(boxes * scale, image, strict=True):
        for i, j in np.ndindex(p, p):
            first = (i * p + j) * c if position else 0
            group = slice(first, first + c)
            total = 0 * x[which, 0, 0, group]
            for a, b in np.ndindex(samples, samples):
                v = y1 - 0.5 + (y2 - y1) / p * (i + (a + 0.5) / samples)
                u = x1 - 0.5 + (x2 - x1) / p * (j + (b + 0.5) / samples)
                if v < -1 or v > h or u < -1 or u > w:
                    continue
                v, u = max(v, 0.0), max(u, 0.0)
                top, left = int(v), int(u)
                if top >= h - 1:
                    top = bottom = h - 1
                    v = float(top)
                else:
                    bottom = top + 1
                if left >= w - 1:
                    left = right = w - 1
                    u = float(left)
                else:
                    right = left + 1
                dv, du = v - top, u - left
                total = total + (1 - dv) * (1 - du) * x[which, top, left, group]
                total = total + (1 - dv) * du * x[which, top, right, group]
                total = total + dv * (1 - du) * x[which, bottom, left, group]
                total = total + dv * du * x[which, bottom, right, group]
            rows.append(total / samples**2)
    return torch.stack(rows).reshape(len(boxes), p, p, c)


@backends
@pytest.mark.parametrize("position", [False, True])
@given(st.integers(0, 2**32 - 1), st.integers(1, 6), st.integers(1, 6), st.integers(1, 3))
def test_roi_align(backend, position, seed, h, w, p):
    rng = np.random.default_rng(seed)
    x = rng.standard_normal((2, h, w, 2 * p * p if position else 3))
    corner = rng.uniform(-10, 30, (4, 2))
    boxes = np.concatenate([corner, corner + rng.uniform(0, 30, (4, 2))], axis=1)
    image = rng.integers(0, 2, 4)
    there = torch.tensor(x, requires_grad=True)
    theirs = roi_align(there, boxes, image, p, 0.25, 2, position)
    dy = rng.standard_normal(theirs.shape)
    theirs.backward(torch.tensor(dy))
    name = "ps_roi_align" if position else "roi_align"
    with ts.backend(backend):
        y = getattr(F, name)(x, boxes, image, p, 0.25, 2)
        dx = getattr(F, f"{name}_backward")(dy, x, boxes, image, p, 0.25, 2)
    np.testing.assert_allclose(y, theirs.detach().numpy(), atol=TOLERANCE, rtol=0)
    np.testing.assert_allclose(dx, there.grad.numpy(), atol=TOLERANCE, rtol=0)


@given(st.integers(0, 2**32 - 1), st.sampled_from([1.0, 1 / 9, 0.0]))
def test_losses_of_each_number(seed, beta):
    rng = np.random.default_rng(seed)
    x, target, t = rng.standard_normal((3, 7, 4)) * 2
    t = 1 / (1 + np.exp(-t))
    dy = rng.standard_normal(x.shape)

    def theirs(loss):
        there = torch.tensor(x, requires_grad=True)
        y = loss(there)
        y.backward(torch.tensor(dy))
        return y.detach().numpy(), there.grad.numpy()

    pairs = [
        (
            (F.smooth_l1(x, target, beta), F.smooth_l1_backward(dy, x, target, beta)),
            theirs(lambda a: functional.smooth_l1_loss(
                a, torch.tensor(target), reduction="none", beta=beta)),
        ),
        (
            (F.binary_cross_entropy(x, t), F.binary_cross_entropy_backward(dy, x, t)),
            theirs(lambda a: functional.binary_cross_entropy_with_logits(
                a, torch.tensor(t), reduction="none")),
        ),
    ]  # fmt: skip
    for mine, right in pairs:
        for one, other in zip(mine, right, strict=True):
            np.testing.assert_allclose(one, other, atol=TOLERANCE, rtol=0)
