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
from tinyshuffle.data import Objects
from tinyshuffle.detect.detector import AFTER, BEFORE, BINS, KINDS, Detector
from tinyshuffle.detect.losses import NAMES, Losses
from tinyshuffle.detect.targets import Choice, choose

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


# ---- both stages of a detector, from the maps on


def decode(t, anchors):
    """Offsets to boxes, in PyTorch, as corners."""
    size, centre = anchors[:, 2:] - anchors[:, :2], (anchors[:, 2:] + anchors[:, :2]) / 2
    middle, half = centre + t[:, :2] * size, torch.exp(t[:, 2:].clamp(max=4.135166556742356)) / 2
    return torch.cat([middle - half * size, middle + half * size], dim=1)


def proposals(objectness, offsets, anchors, side):
    """The best boxes of one picture, one after the other."""
    best = torch.argsort(objectness, descending=True, stable=True)[:BEFORE]
    boxes = decode(offsets[best], anchors[best]).clamp(0, side)
    stay, others = [], []
    for i in range(len(boxes)):
        a, good = boxes[i], True
        for j in stay:
            b = boxes[j]
            w = (torch.minimum(a[2:], b[2:]) - torch.maximum(a[:2], b[:2])).clamp(min=0).prod()
            union = (a[2:] - a[:2]).prod() + (b[2:] - b[:2]).prod() - w
            good = good and not bool(w > 0.7 * union)
        (stay if good else others).append(i)
    return boxes[(stay + others)[:AFTER] if len(stay) < AFTER else stay[:AFTER]]


class Given:
    """A body that returns the maps that it was given, and keeps their gradient."""

    def __init__(self, maps):
        self.maps = maps

    def __call__(self, x):
        return self.maps

    def backward(self, dy, images=True):
        self.gradient = dy
        return np.zeros(())


@pytest.fixture(params=KINDS)
def stages(request):
    """A detector in float64 whose body returns random maps, and those."""
    rng = np.random.default_rng(7)
    net = Detector(request.param, "vgg_like_13m", 3, 32).astype("float64")
    net.anchors = net.anchors.astype(np.float64)
    channels = net.body(np.zeros((2, 32, 32, 3))).shape[-1]
    maps = rng.standard_normal((2, 4, 4, channels))
    object.__setattr__(net, "body", Given(maps))
    return net, maps


def test_proposals(stages):
    net, _ = stages
    _, objectness, offsets = net.maps(np.zeros((2, 32, 32, 3)))
    mine = net.propose(objectness, offsets)
    for i in range(2):
        theirs = proposals(*map(torch.tensor, (objectness[i], offsets[i], net.anchors)), 32)
        np.testing.assert_allclose(mine[i], theirs.numpy(), atol=TOLERANCE, rtol=0)


def test_losses_and_their_gradients(stages):
    net, maps = stages
    corners = np.array([[2, 3, 17, 20], [10, 8, 31, 30]])
    objects = [Objects(corners, np.array([0, 2])), Objects(corners[:1], np.array([1]))]
    losses = Losses(net)
    kept = []

    def few(found):
        """A quarter of the boxes: the twin reads them point by point."""
        c = choose(net, found, objects, np.random.default_rng(0))
        own = vars(c)
        kept.append(Choice(**{
            name: value[::4] if len(value) == len(c.boxes) and name != "anchors" else value
            for name, value in own.items()
            if name in ("boxes", "image", "labels", "box_offsets")
        } | {name: own[name] for name in ("anchors", "targets", "offsets")}))  # fmt: skip
        return kept[0]

    value = losses(np.zeros((2, 32, 32, 3)), few)
    losses.backward()
    (c,) = kept
    assert (c.labels > 0).any() and (c.targets > 0).any()

    y = torch.tensor(maps, requires_grad=True)
    last = maps.shape[-1] - 5 * net.per_pixel
    z = y[..., last : last + net.per_pixel].reshape(-1)[torch.tensor(c.anchors)]
    t = y[..., last + net.per_pixel :].reshape(-1, 4)[torch.tensor(c.anchors)]
    read = roi_align(
        y[..., :last], c.boxes, c.image, BINS, 1 / net.stride, 2, net.kind == "light-head"
    )
    weights = {p.name: torch.tensor(p.data, requires_grad=True) for p in net.head.parameters()}
    prefix = next(iter(weights)).partition("fc.")[0]
    flat = read.permute(0, 3, 1, 2).flatten(1)
    hidden = torch.relu(flat @ weights[f"{prefix}fc.weight"] + weights[f"{prefix}fc.bias"])
    out = hidden @ weights[f"{prefix}out.weight"] + weights[f"{prefix}out.bias"]
    mine, hit = torch.tensor(c.targets > 0), torch.tensor(c.labels > 0)
    right = [
        functional.binary_cross_entropy_with_logits(z, torch.tensor(c.targets)),
        functional.smooth_l1_loss(
            t[mine], torch.tensor(c.offsets)[mine], reduction="sum", beta=1 / 9
        ) / len(z),
        functional.cross_entropy(out[:, :4], torch.tensor(c.labels)),
        functional.smooth_l1_loss(
            out[hit][:, 4:], torch.tensor(c.box_offsets)[hit], reduction="sum"
        ) / len(out),
    ]  # fmt: skip
    sum(right).backward()
    for name, theirs in zip(NAMES, right, strict=True):
        assert abs(losses.values[name] - theirs.item()) < TOLERANCE, name
    assert abs(value - sum(right).item()) < TOLERANCE
    np.testing.assert_allclose(net.body.gradient, y.grad.numpy(), atol=TOLERANCE, rtol=0)
    for p in net.head.parameters():
        np.testing.assert_allclose(p.grad, weights[p.name].grad.numpy(), atol=TOLERANCE, rtol=0)
