"""A net that runs as a plan gives what its layers give, whatever they are."""

from __future__ import annotations

import copy
import threading

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from plan.nets import Draws, net_of, random_net

import tinyshuffle as ts
from tinyshuffle import nn
from tinyshuffle.backend import F

TOLERANCE = {np.float64: 1e-10, np.float32: 1e-4}


def both(net, x, dy):
    """Run a step and an evaluation; return all that came out, by name."""
    net.train()
    out = {"output": net(x), "images": net.backward(dy)}
    out |= {f"gradient of {p.name}": p.grad for p in net.parameters()}
    out |= net.state_dict()
    net.eval()
    return out | {"evaluation": net(x)}


@pytest.fixture
def threads():
    yield ts.set_num_threads
    ts.set_num_threads(None)


def compare(layers, dtype, shape, threads):
    """Whether a net gives the same as its layers, with one thread and with two."""
    rng = np.random.default_rng(0)
    x, dy = (rng.standard_normal(s).astype(dtype) for s in ((*shape, 3), (shape[0], 5)))
    right = both(copy.deepcopy(layers), x, dy)
    for slices in (1, 2):
        threads(slices)
        mine = both(ts.DataParallel(copy.deepcopy(layers)), x, dy)
        assert mine.keys() == right.keys()
        largest = max(np.abs(v).max() for k, v in right.items() if k.startswith("gradient"))
        for name, value in right.items():
            scale = largest if name.startswith("gradient") else np.abs(value).max(initial=1e-3)
            assert np.abs(mine[name] - value).max(initial=0) <= TOLERANCE[dtype] * scale, name


@pytest.mark.parametrize("dtype", TOLERANCE)
@pytest.mark.parametrize("seed", range(30))
def test_random_nets(seed, dtype, threads):
    shape = np.random.default_rng(seed).integers((2, 4, 4), (6, 9, 9))
    compare(random_net(seed).astype(dtype), dtype, shape, threads)


@settings(
    max_examples=30, deadline=None, derandomize=True,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)  # fmt: skip
@given(data=st.data(), shape=st.tuples(st.integers(2, 5), st.integers(4, 8), st.integers(4, 8)))
def test_nets_that_hypothesis_draws(data, shape, threads):
    compare(net_of(Draws(data)).astype(np.float64), np.float64, shape, threads)


@pytest.mark.parametrize("seed", range(30))
def test_every_row_against_its_definition(seed):
    net = ts.DataParallel(random_net(seed).astype(np.float64).train())
    x = np.random.default_rng(seed).standard_normal((3, 6, 5, 3))
    assert ts.validate(net, x).passed


# ---- layers that users wrote, where a rule or a slice could take too much for granted


class HalfNormed(nn.Module):
    """A batch norm of some of the channels that a convolution made."""

    def __init__(self):
        self.bn = nn.BatchNorm2d(4)

    def forward(self, x):
        left, right = F.channel_split(x, 4)
        return F.concat([left, self.bn(right)])

    def backward(self, dy):
        left, right = F.concat_backward(dy, [4, 4])
        return F.channel_split_backward(left, self.bn.backward(right))


class NormsOfHalves(nn.Module):
    """A branch that ends in two batch norms, beside one that ends in one."""

    def __init__(self):
        self.left, self.right, self.all = nn.BatchNorm2d(4), nn.BatchNorm2d(4), nn.BatchNorm2d(8)

    def forward(self, x):
        left, right = F.channel_split(x, 4)
        halves = F.concat([self.left(left), self.right(right)])
        return F.channel_shuffle(F.concat([halves, self.all(x)]), 2)

    def backward(self, dy):
        d1, d2 = F.concat_backward(F.channel_shuffle_backward(dy, 2), [8, 8])
        left, right = F.channel_split(d1, 4)
        d1 = F.channel_split_backward(self.left.backward(left), self.right.backward(right))
        return F.add(d1, self.all.backward(d2))


class TwoConvs(nn.Module):
    """Two convolutions, no norm behind them, side by side and shuffled."""

    def __init__(self):
        self.a, self.b = (nn.Conv2d(8, 4, 1, bias=False) for _ in range(2))

    def forward(self, x):
        return F.channel_shuffle(F.concat([self.a(x), self.b(x)]), 2)

    def backward(self, dy):
        da, db = F.concat_backward(F.channel_shuffle_backward(dy, 2), [4, 4])
        return F.add(self.a.backward(da), self.b.backward(db))


class ShapeAsAList(nn.Module):
    def forward(self, x):
        self.save(list(x.shape))
        return F.avg_pool2d(x, 3, 1, 1, True)

    def backward(self, dy):
        (shape,) = self.saved()
        return F.avg_pool2d_backward(dy, shape, 3, 1, 1, True)


class OneGradientOfTwo(nn.Module):
    """One bias that is written as the sum of two."""

    def __init__(self):
        self.w = nn.Parameter(np.random.default_rng(0).standard_normal((1, 1, 8, 8)))
        self.a, self.b = (nn.Parameter(np.full(8, value)) for value in (1.0, 2.0))

    def forward(self, x):
        self.save(x)
        return F.conv2d(F.conv2d(x, self.w.data, self.a.data), self.w.data, self.b.data)

    def backward(self, dy):
        (x,) = self.saved()
        dy, dw, _ = F.conv2d_backward(dy, F.conv2d(x, self.w.data, self.a.data), self.w.data)
        dx, more, db = F.conv2d_backward(dy, x, self.w.data)
        for p, grad in ((self.w, dw), (self.w, more), (self.a, db), (self.b, db), (self.a, db)):
            p.accumulate(grad)
        return dx


class BentWeights(nn.Module):
    """Weights that an operation makes; their first side is as long as a batch of three."""

    def __init__(self):
        self.w = nn.Parameter(np.random.default_rng(0).standard_normal((3, 3, 8, 8)))

    def forward(self, x):
        self.save(x)
        return F.conv2d(x, F.relu(self.w.data), None, 1, 1)

    def backward(self, dy):
        (x,) = self.saved()
        w = F.relu(self.w.data)
        dx, dw, _ = F.conv2d_backward(dy, x, w, 1, 1, bias=False)
        self.w.accumulate(F.relu_backward(dw, w))
        return dx


class WithALock(nn.ReLU):
    """It cannot be copied."""

    def __init__(self):
        self.lock = threading.Lock()

    def __deepcopy__(self, memo):
        if F.name == "trace" or memo:
            raise TypeError("cannot copy a lock")
        return WithALock()


@pytest.mark.parametrize("dtype", TOLERANCE)
@pytest.mark.parametrize(
    "layer",
    [HalfNormed, NormsOfHalves, TwoConvs, ShapeAsAList, OneGradientOfTwo, BentWeights],
)
def test_users_layers(layer, dtype, threads):
    width = 16 if layer is NormsOfHalves else 8
    net = nn.Sequential(
        nn.Conv2d(3, 8, 1, bias=False), layer(), nn.Conv2d(width, 5, 1), nn.GlobalAvgPool()
    )
    compare(net.initialise(0).astype(dtype), dtype, (3, 5, 4), threads)


def test_a_net_that_cannot_be_copied_runs_by_its_layers(threads):
    layers = nn.Sequential(WithALock())
    x = np.float32([[[[-1, 2]]]])
    assert np.array_equal(ts.DataParallel(layers)(x), layers(x))


def test_a_gradient_of_another_shape_is_refused(threads):
    class Exchanged(OneGradientOfTwo):
        def backward(self, dy):
            (x,) = self.saved()
            dx, dw, db = F.conv2d_backward(dy, x, self.w.data)
            self.w.accumulate(db)
            return dx

    net = ts.DataParallel(nn.Sequential(Exchanged()))
    y = net(np.ones((2, 3, 3, 8), np.float32))
    with pytest.raises(ts.TinyshuffleError, match=r"\(8,\)"):
        net.backward(y)
