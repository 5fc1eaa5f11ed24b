"""Layers in a row are joined only where nobody can tell: every layer that does more is called."""

from __future__ import annotations

import numpy as np
import pytest

import tinyshuffle as ts
from tinyshuffle import nn
from tinyshuffle.models import ShuffleUnitV1, ShuffleUnitV2

X = np.random.default_rng(0).standard_normal((3, 4, 5, 8))


def doubling(kind):
    """A kind of layer whose output is doubled."""

    class Doubling(kind):
        def forward(self, x):
            return 2 * super().forward(x)

        def backward(self, dy):
            return super().backward(2 * dy)

    return Doubling


def double(layer):
    """Replace the passes of this one layer."""
    forward, backward = layer.forward, layer.backward
    layer.forward = lambda x: 2 * forward(x)
    layer.backward = lambda dy: backward(2 * dy)


def conv():
    return nn.Conv2d(8, 8, 1, bias=False)


KINDS = {
    "conv": (nn.Conv2d, (8, 8, 1, 1, 0, 1, 1, False)),
    "norm": (nn.BatchNorm2d, (8,)),
    "relu": (nn.ReLU, ()),
    "shuffle": (nn.ChannelShuffle, (4,)),
    "last": (nn.Conv2d, (8, 8, 1, 1, 0, 1, 1, False)),
    "end": (nn.BatchNorm2d, (8,)),
}


def chain(changed: str, how: str) -> nn.Sequential:
    """conv, norm, relu, shuffle, conv, norm, of which one doubles its output."""
    layers = {}
    for name, (kind, args) in KINDS.items():
        made = doubling(kind) if name == changed and how == "class" else kind
        layers[name] = made(*args)
    net = nn.Sequential(**layers).initialise(0).astype("float64")
    if how == "instance":
        double(getattr(net, changed))
    return net


def layer_by_layer(net, x, dy):
    layers = list(net)
    for layer in layers:
        x = layer(x)
    y = x
    for layer in reversed(layers):
        dy = layer.backward(dy)
    return y, dy


@pytest.mark.parametrize("how", ["class", "instance"])
@pytest.mark.parametrize("changed", KINDS)
def test_a_layer_that_does_more_is_called(changed, how, each_backend):
    dy = np.random.default_rng(1).standard_normal(X.shape)
    net, plain = chain(changed, how), chain(changed, how)
    y, dx = net(X), net.backward(dy)
    expected, dx_expected = layer_by_layer(plain, X, dy)
    np.testing.assert_allclose(y, expected, rtol=1e-9, atol=1e-11)
    np.testing.assert_allclose(dx, dx_expected, rtol=1e-8, atol=1e-10)
    for p, q in zip(net.parameters(), plain.parameters(), strict=True):
        np.testing.assert_allclose(p.grad, q.grad, rtol=1e-8, atol=1e-10)
    # and in evaluation, where a batch norm goes with the convolution before it
    net.eval()
    plain.eval()
    plain.load_state_dict(net.state_dict())
    expected, _ = layer_by_layer(plain, X, dy)
    np.testing.assert_allclose(ts.DataParallel(net)(X), expected, rtol=1e-9, atol=1e-11)


def test_passes_replaced_in_the_class_are_called(monkeypatch):
    """As a reader does it in a notebook, to see what goes through."""
    seen = []
    forward, backward = nn.BatchNorm2d.forward, nn.BatchNorm2d.backward
    monkeypatch.setattr(nn.BatchNorm2d, "forward", lambda s, x: seen.append("f") or forward(s, x))
    monkeypatch.setattr(
        nn.BatchNorm2d, "backward", lambda s, dy: seen.append("b") or backward(s, dy)
    )
    net = nn.Sequential(conv(), nn.BatchNorm2d(8), nn.ReLU()).astype("float64")
    net.backward(net(X))
    ts.DataParallel(net.eval())(X)
    assert seen[:2] == ["f", "b"] and set(seen[2:]) == {"f"}


def test_the_relu_of_a_residual_is_called_if_it_does_more():
    units = [
        nn.Residual(conv(), nn.BatchNorm2d(8), relu()).initialise(0).astype("float64")
        for relu in (nn.ReLU, doubling(nn.ReLU))
    ]
    y, doubled = (unit(X) for unit in units)
    np.testing.assert_allclose(doubled, 2 * y, rtol=1e-12)
    dx, doubled = (unit.backward(y) for unit in units)
    np.testing.assert_allclose(doubled, 2 * dx, rtol=1e-10, atol=1e-12)
    y, doubled = (ts.DataParallel(unit.eval())(X) for unit in units)
    np.testing.assert_allclose(doubled, 2 * y, rtol=1e-12)


@pytest.mark.parametrize(
    ("build", "branch"),
    [
        (lambda: ShuffleUnitV2(8, 8, 1), "branch2"),
        (lambda: ShuffleUnitV2(8, 8, 1, residual=True), "branch2"),
        (lambda: ShuffleUnitV2(8, 16, 2), "branch1"),
        (lambda: ShuffleUnitV2(8, 16, 2), "branch2"),
        (lambda: ShuffleUnitV1(8, 24, 2, 2), "residual"),
    ],
)
@pytest.mark.parametrize("how", ["instance", "class", "module", "net"])
def test_a_branch_of_a_unit_is_called(build, branch, how):
    unit = build().initialise(0).astype("float64")
    inner = getattr(unit, branch)
    calls = []

    if how == "instance":
        forward, backward = inner.forward, inner.backward
        inner.forward = lambda x: calls.append("f") or forward(x)
        inner.backward = lambda dy: calls.append("b") or backward(dy)
    elif how == "class":

        class Counting(type(inner)):
            def forward(self, x):
                calls.append("f")
                return super().forward(x)

            def backward(self, dy):
                calls.append("b")
                return super().backward(dy)

        setattr(unit, branch, Counting(*inner))
    else:

        class Around(nn.Module):
            def __init__(self, inner):
                self.inner = inner

            def forward(self, x):
                calls.append("f")
                return self.inner(x)

            def backward(self, dy):
                calls.append("b")
                return self.inner.backward(dy)

        around = Around(inner)
        setattr(unit, branch, ts.DataParallel(around) if how == "net" else around)
    plain = build().initialise(0).astype("float64")
    y, expected = unit(X), plain(X)
    np.testing.assert_allclose(y, expected, rtol=1e-9, atol=1e-11)
    np.testing.assert_allclose(unit.backward(y), plain.backward(expected), rtol=1e-8, atol=1e-10)
    assert set(calls) == {"f", "b"}


def test_gradcheck_does_not_pass_a_wrong_derived_layer():
    class Wrong(nn.BatchNorm2d):
        def backward(self, dy):
            return -37 * super().backward(dy)

    net = nn.Sequential(conv(), Wrong(8)).initialise(0).astype("float64")
    assert not ts.gradcheck(net, X).passed
