"""What can be looked into, what becomes a row in Python, and what runs by its layers."""

from __future__ import annotations

import random

import numpy as np
import pytest

import tinyshuffle as ts
from tinyshuffle import TinyshuffleError, nn
from tinyshuffle.backend import F
from tinyshuffle.plan import NoPlan, fuse, trace

X = np.random.default_rng(0).standard_normal((4, 6, 6, 3)).astype(np.float32)


def around(layer):
    """A net in which this layer is between two convolutions."""
    return nn.Sequential(
        nn.Conv2d(3, 8, 1, bias=False), nn.BatchNorm2d(8), layer, nn.Conv2d(8, 4, 1)
    ).initialise(0)  # fmt: skip


class Scales(nn.Module):
    def forward(self, x):
        return 2 * x

    def backward(self, dy):
        return 2 * dy


class Counts(Scales):
    def __init__(self):
        self.calls = 0

    def forward(self, x):
        self.calls += 1
        return F.add(x, x)


class CountsInAnArray(Counts):
    def __init__(self):
        self.calls = np.zeros(1)

    def forward(self, x):
        self.calls[0] += 1
        return F.add(x, x)


class CountsInside(Counts):
    def __init__(self):
        self.log = {"calls": []}

    def forward(self, x):
        self.log["calls"].append(1)
        return F.add(x, x)


class SometimesDoubles(Scales):
    """Stochastic depth, with a generator of its own or with everybody's."""

    def __init__(self, draw):
        self.draw = draw

    def forward(self, x):
        self.double = self.draw() < 0.5
        return F.add(x, x) if self.double else F.relu(x)

    def backward(self, dy):
        return F.add(dy, dy) if self.double else dy


class OwnGenerator(SometimesDoubles):
    def __init__(self):
        self.rng = np.random.default_rng(5)

    @property
    def draw(self):
        return self.rng.random


class Looks(Scales):
    def forward(self, x):
        return F.add(x, x) if x.mean() > 0 else F.relu(x)


class Prints(nn.Module):
    def forward(self, x):
        print("shape", x.shape)
        return x

    def backward(self, dy):
        return dy


@pytest.mark.parametrize("layer", [Scales, Counts, CountsInAnArray, CountsInside, OwnGenerator,
                                   Looks, Prints])  # fmt: skip
def test_a_layer_that_does_more_than_ask_for_operations_is_a_row_in_python(layer):
    plan = trace(around(layer()), X.shape)
    mine = [row for row in plan.rows if row.operation == "python"]
    assert [row.layer for row in mine] == ["2", "2"]
    (reason,) = plan.reasons
    assert reason.startswith("2 is a row of its own in Python: ")


@pytest.mark.parametrize("layer", [Counts, CountsInAnArray, CountsInside])
def test_it_is_called_each_time(layer):
    net = ts.DataParallel(around(layer()))
    for _ in range(3):
        net(X)
    counter = net.net[2]
    calls = len(counter.log["calls"]) if layer is CountsInside else int(np.sum(counter.calls))
    assert calls == 3


def test_a_layer_that_prints_does_so_each_time(capsys):
    net = ts.DataParallel(around(Prints()))
    for _ in range(3):
        net(X)
    lines = capsys.readouterr().out.splitlines()
    assert lines[-3:] == ["shape (4, 6, 6, 8)"] * 3


def test_what_another_thread_draws_meanwhile_is_not_the_nets():
    """Dask's threads draw for themselves, now and then."""
    drawn = []

    class Meanwhile(Scales):
        def forward(self, x):
            if not drawn:
                drawn.append(random.random())
            return F.add(x, x)

        def backward(self, dy):
            return F.add(dy, dy)

    assert not trace(around(Meanwhile()), X.shape).reasons
    assert len(drawn) == 1


@pytest.mark.parametrize("draw", [random.random, np.random.random_sample])
def test_what_draws_at_random_runs_by_its_layers(draw):
    net = around(SometimesDoubles(lambda: draw()))
    with pytest.raises(NoPlan, match="random"):
        trace(net, X.shape)
    parallel = ts.DataParallel(net)
    outs = {parallel(X).tobytes() for _ in range(20)}
    assert len(outs) == 2


@pytest.mark.parametrize("draw", [random.random, np.random.random_sample])
def test_tracing_draws_from_nobodys_generator(draw):
    random.seed(1), np.random.seed(1)
    first = [draw() for _ in range(3)]
    random.seed(1), np.random.seed(1)
    with pytest.raises(NoPlan):
        trace(around(SometimesDoubles(lambda: draw())), X.shape)
    assert [draw() for _ in range(3)] == first


def test_random_depth_with_its_own_generator_is_as_its_layers_are():
    alone, net = around(OwnGenerator()), ts.DataParallel(around(OwnGenerator()))
    for _ in range(8):
        np.testing.assert_allclose(net(X), alone(X), rtol=1e-5, atol=1e-5)
        dy = np.ones((4, 6, 6, 4), np.float32)
        np.testing.assert_allclose(net.backward(dy), alone.backward(dy), rtol=1e-4, atol=1e-5)


class Pair(nn.Module):
    """Returns two things."""

    def __init__(self):
        self.a, self.b = nn.Conv2d(3, 4, 1).initialise(0), nn.Conv2d(3, 2, 1).initialise(1)

    def forward(self, x):
        return self.a(x), self.b(x)

    def backward(self, dy):
        return F.add(self.a.backward(dy[0]), self.b.backward(dy[1]))


@pytest.mark.parametrize("threads", [1, 2, 3])
def test_a_net_that_returns_two_things_runs_by_its_layers(threads):
    ts.set_num_threads(threads)
    try:
        net, alone = ts.DataParallel(Pair()), Pair()
        ours, theirs = net(X), alone(X)
        for a, b in zip(ours, theirs, strict=True):
            np.testing.assert_array_equal(a, b)
        np.testing.assert_array_equal(net.backward(ours), alone.backward(theirs))
    finally:
        ts.set_num_threads(None)


class Gram(nn.Module):
    """Products of all images with all others."""

    def forward(self, x):
        self.save(x)
        return x @ x.T

    def backward(self, dy):
        (x,) = self.saved()
        return (dy + dy.T) @ x


class Sums(nn.Module):
    """One row for the whole batch."""

    def forward(self, x):
        self.save(x.shape)
        return x.sum(0, keepdims=True)

    def backward(self, dy):
        (shape,) = self.saved()
        return np.broadcast_to(dy, shape).copy()


@pytest.mark.parametrize("mixes", [Gram, Sums])
@pytest.mark.parametrize("threads", [1, 2, 3])
@pytest.mark.parametrize("train", [True, False])
def test_what_mixes_images_sees_all_of_them(mixes, threads, train):
    def build():
        return nn.Sequential(nn.GlobalAvgPool(), mixes(), nn.Linear(7 if mixes is Gram else 3, 2),
                             nn.ReLU()).initialise(0)  # fmt: skip

    x = np.random.default_rng(2).standard_normal((7, 64, 64, 3)).astype(np.float32)
    alone, net = build().train(train), ts.DataParallel(build().train(train))
    ts.set_num_threads(threads)
    try:
        y = alone(x)
        np.testing.assert_allclose(net(x), y, rtol=1e-5, atol=1e-6)
        if train:
            np.testing.assert_allclose(net.backward(y), alone.backward(y), rtol=1e-5, atol=1e-7)
    finally:
        ts.set_num_threads(None)


def test_a_net_without_a_backward_goes_forward():
    class Forward(nn.Module):
        def __init__(self):
            self.conv = nn.Conv2d(3, 4, 1).initialise(0)

        def forward(self, x):
            return F.relu(self.conv(x))

    net = ts.DataParallel(Forward())
    assert net(X).shape == (4, 6, 6, 4)
    with pytest.raises(TinyshuffleError, match="has no backward"):
        net.backward(net(X))


@pytest.mark.parametrize("operation", [
    lambda x: F.add(x, F.concat([x, x])),
    lambda x: F.channel_shuffle(x, 5),
    lambda x: F.concat([x, F.avg_pool2d(x, 2, 2)]),
    lambda x: F.channel_split(x, 9)[0],
])  # fmt: skip
def test_arguments_are_checked_while_a_net_is_traced(operation):
    class Wrong(nn.Module):
        def forward(self, x):
            return operation(x)

    with pytest.raises(TinyshuffleError) as alone:
        Wrong()(X)
    with pytest.raises(TinyshuffleError) as traced:
        trace(Wrong(), X.shape)
    assert str(traced.value) == str(alone.value) and not isinstance(traced.value, NoPlan)


def test_nothing_of_the_net_is_changed():
    net = around(nn.Dropout(0.5))
    before, modes = net.state_dict(), [m.training for m in net.modules()]
    state = net[2].rng.bit_generator.state
    fuse(trace(net, X.shape))
    trace(net, X.shape, train=False)
    for name, value in net.state_dict().items():
        np.testing.assert_array_equal(value, before[name])
    assert [m.training for m in net.modules()] == modes
    assert net[2].rng.bit_generator.state == state
    assert all(p.grad is None for p in net.parameters())


def test_layers_that_are_used_twice_add_up_their_gradients():
    class Twice(nn.Module):
        def __init__(self):
            self.first = nn.Conv2d(3, 4, 1).initialise(0)
            self.again = nn.Conv2d(4, 4, 1, bias=False).initialise(1)
            self.other = nn.Conv2d(4, 4, 1, bias=False)
            self.other.weight = self.again.weight

        def forward(self, x):
            return self.other(self.again(self.first(x)))

        def backward(self, dy):
            return self.first.backward(self.again.backward(self.other.backward(dy)))

    alone, net = Twice(), ts.DataParallel(Twice())
    y = alone(X)
    np.testing.assert_allclose(net(X), y, rtol=1e-5, atol=1e-6)
    alone.backward(y)
    expected = {p.name: p.grad for p in alone.parameters()}
    alone.zero_grad()
    net.backward(y)
    for p in net.parameters():
        np.testing.assert_allclose(p.grad, expected[p.name], rtol=1e-4, atol=1e-5)
