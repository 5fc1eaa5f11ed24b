"""A net that runs as a plan gives what its layers give, whatever they are."""

from __future__ import annotations

import copy

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from plan.nets import Draws, net_of, random_net

import tinyshuffle as ts

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
