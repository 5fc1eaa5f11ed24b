"""The whole detector's gradient, through both stages, and that it learns."""

from __future__ import annotations

import numpy as np
import pytest

import tinyshuffle as ts
from tinyshuffle import TinyshuffleError
from tinyshuffle.data import Objects, scenes
from tinyshuffle.data.batches import normalise
from tinyshuffle.detect.detector import KINDS, Detector
from tinyshuffle.detect.losses import NAMES, Losses
from tinyshuffle.detect.targets import choose

MODEL = "shufflenet_v2_x0_5"
NOTHING = Objects(np.zeros((0, 4)), np.zeros(0, int))


def batch(count=2, side=48):
    images, objects, _ = scenes.draw(count, 4, side)
    return normalise(images, np.full(3, 0.5), np.full(3, 0.25)), objects


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(
    ("model", "side"),
    [("vgg_like_13m", 32), pytest.param(MODEL, 48, marks=pytest.mark.slow)],
)
def test_gradient_of_the_whole(kind, model, side):
    """Along directions in all parameters and in the pictures; the choice is a constant."""
    x, objects = batch(2, side)
    x = x.astype(np.float64)
    net = Detector(kind, model, 10, side).astype("float64")
    rng = np.random.default_rng(0)
    for p in net.parameters():
        p.data += rng.uniform(-0.2, 0.2, p.shape) if np.ptp(p.data) == 0 else 0
    losses = Losses(net)
    kept = []

    def once(proposals):
        kept.append(choose(net, proposals, objects, np.random.default_rng(1)))
        return kept[0]

    losses(x, once)
    report = ts.gradcheck(losses, x, kept[0], elementwise=False)
    assert report.passed, report
    assert report.max_relative_error <= 1e-6
    assert len(report.rows) == 1 + len(net.parameters())


@pytest.mark.parametrize("kind", KINDS)
def test_it_learns(kind):
    x, objects = batch(4)
    net = Detector(kind, MODEL, 10, 48)
    losses = Losses(net)
    optim = ts.optim.Adam(net.parameters(), lr=2e-3)
    values = []
    for step in range(40):
        rng = np.random.default_rng(step)
        values.append(losses(x, lambda p, rng=rng: choose(net, p, objects, rng)))
        assert tuple(losses.values) == NAMES and sum(losses.values.values()) == values[-1]
        losses.backward_to_parameters()
        optim.step()
        optim.zero_grad()
    assert np.mean(values[-5:]) < 0.4 * values[0]


def test_pictures_without_objects():
    x, _ = batch()
    net = Detector("light-head", MODEL, 10, 48)
    losses = Losses(net)
    value = losses(x, lambda p: choose(net, p, [NOTHING] * 2, np.random.default_rng(0)))
    assert np.isfinite(value) and losses.values["boxes"] == losses.values["proposal_boxes"] == 0
    losses.backward_to_parameters()
    assert all(np.isfinite(p.grad).all() for p in net.parameters())


def test_backward_belongs_to_one_forward():
    with pytest.raises(TinyshuffleError, match="before the loss"):
        Losses(Detector("faster", MODEL, 3, 48)).backward()
