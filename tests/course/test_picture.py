"""The photograph and the tiny net of lessons 1 to 6."""

from __future__ import annotations

import numpy as np

import tinyshuffle as ts


def test_the_photograph_is_what_the_net_takes():
    photo, x = ts.course.photograph()
    assert photo.shape == (128, 128, 3) and photo.dtype == np.uint8 and photo.std() > 20
    assert x.shape == (1, *photo.shape) and x.dtype == np.float32
    assert np.allclose(x[0] * 0.25 + 0.5, photo / 255, atol=1e-6)


def test_the_tiny_net_has_learned():
    """Its filters are smooth, as no random ones are: neighbouring taps are alike."""
    net = ts.course.tiny_net()
    assert not net.training
    assert sum(p.data.size for p in net.parameters()) == 25_804
    likeness = []
    for one in (net, ts.course.picture.net().initialise(0)):
        w = one.conv1[0].weight.data
        assert w.shape == (3, 3, 3, 12)
        beside = [np.vdot(w[1:], w[:-1]), np.vdot(w[:, 1:], w[:, :-1])]
        likeness.append(sum(beside) / np.vdot(w, w))
    assert likeness[0] > 0.15 > likeness[1]


def test_the_tiny_net_looks_at_larger_pictures():
    net, (_, x) = ts.course.tiny_net(), ts.course.photograph()
    assert net(x).shape == (1, 10)
    assert next(iter(net.stage2))(net.conv1(x)).shape == (1, 64, 64, 60)
