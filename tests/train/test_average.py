from __future__ import annotations

import numpy as np
import pytest
from train import tiny_run

import tinyshuffle as ts
from tinyshuffle.train.average import Average


def test_average_follows_its_definition():
    net = tiny_run.create("any", 3, "cifar")
    average = Average(net, 0.9)
    expected = net.state_dict()
    x = np.random.default_rng(0).standard_normal((6, 8, 8, 3)).astype(np.float32)
    with ts.backend("numpy"):
        for step in range(31):
            net(x)  # moves the running statistics
            for p in net.parameters():
                p.data += np.float32(0.1)
            average.update(step)
            if step % 4 != 3:
                continue
            decay = min(0.9, (1 + step) / (10 + step)) ** 4
            for name, value in net.state_dict().items():
                if value.dtype.kind == "f":
                    expected[name] = decay * expected[name] + (1 - decay) * value
                else:
                    expected[name] = value
    found = average.net.state_dict()
    assert found.keys() == expected.keys()
    assert found["1.num_batches_tracked"] == 28
    for name, value in expected.items():
        np.testing.assert_allclose(found[name], value, rtol=1e-4, err_msg=name)
        assert found[name].dtype == net.state_dict()[name].dtype


def test_average_is_a_net_of_its_own():
    net = tiny_run.create("any", 3, "cifar")
    average = Average(net, 0.9)
    x = np.random.default_rng(0).standard_normal((6, 8, 8, 3)).astype(np.float32)
    with ts.backend("numpy"):
        before = average.net(x)
        for p in net.parameters():
            p.data += np.float32(1)
        assert (average.net(x) == before).all()
        assert not average.net.training and net.training
        average.update(1000)
        assert (average.net(x) == before).all()
        average.update(1003)
        assert (average.net(x) != before).any()
        later = average.net.parameters()[0].data - net.parameters()[0].data
    assert later == pytest.approx(-(0.9**4), abs=1e-5)
