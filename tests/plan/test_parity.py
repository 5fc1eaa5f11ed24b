"""A net that runs as a plan gives what its layers give, whatever they are."""

from __future__ import annotations

import copy

import numpy as np
import pytest
from plan.nets import random_net

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


@pytest.mark.parametrize("dtype", TOLERANCE)
@pytest.mark.parametrize("seed", range(30))
def test_random_nets(seed, dtype, threads):
    rng = np.random.default_rng(seed)
    layers = random_net(seed).astype(dtype)
    n, h, w = rng.integers(2, 6), rng.integers(4, 9), rng.integers(4, 9)
    x, dy = (rng.standard_normal(s).astype(dtype) for s in ((n, h, w, 3), (n, 5)))
    right = both(copy.deepcopy(layers), x, dy)
    for slices in (1, 2):
        threads(slices)
        mine = both(ts.DataParallel(copy.deepcopy(layers)), x, dy)
        assert mine.keys() == right.keys()
        largest = max(np.abs(v).max() for k, v in right.items() if k.startswith("gradient"))
        for name, value in right.items():
            scale = largest if name.startswith("gradient") else np.abs(value).max(initial=1e-3)
            assert np.abs(mine[name] - value).max(initial=0) <= TOLERANCE[dtype] * scale, name


@pytest.mark.parametrize("seed", range(30))
def test_every_row_against_its_definition(seed):
    net = ts.DataParallel(random_net(seed).astype(np.float64).train())
    x = np.random.default_rng(seed).standard_normal((3, 6, 5, 3))
    assert ts.validate(net, x).passed
