"""Batch norm's statistics before a test: those of the weights that are tested."""

from __future__ import annotations

import math

import numpy as np
import pytest
from train import tiny_run

import tinyshuffle as ts
from tinyshuffle.data import shapes
from tinyshuffle.train import Config, train


def batches(count=3, images=6):
    rng = np.random.default_rng(0)
    return [
        (rng.standard_normal((images, 8, 8, 3)).astype(np.float32), None) for _ in range(count)
    ]


def layers(net):
    return [layer for _, layer in net.children()]


@pytest.mark.parametrize("threads", [1, 2])
def test_statistics_are_the_mean_over_the_batches(threads):
    net = tiny_run.create("any", 3, "cifar")
    given, before = batches(), ts.get_num_threads()
    net(given[0][0])  # the statistics of training, which are to be forgotten
    try:
        ts.set_num_threads(threads)
        ts.train.update_bn(net, iter(given))
    finally:
        ts.set_num_threads(before)
    conv, norm = layers(net)[:2]
    y = [conv(x) for x, _ in given]  # (6, 3, 3, 8) each
    np.testing.assert_allclose(norm.running_mean, np.mean([a.mean((0, 1, 2)) for a in y], 0), 1e-5)
    variances = [a.var((0, 1, 2), ddof=1) for a in y]
    np.testing.assert_allclose(norm.running_var, np.mean(variances, 0), 1e-5)


def test_nothing_else_changes():
    net = tiny_run.create("any", 3, "cifar")
    net(batches()[0][0])
    net.eval()
    norm = layers(net)[1]
    norm.training = True  # a mode of its own is its own afterwards, too
    state, random = net.state_dict(), net.random_states()
    ts.train.update_bn(net, batches())
    after = net.state_dict()
    changed = {name for name in state if not np.array_equal(state[name], after[name])}
    assert changed == {"1.running_mean", "1.running_var"}
    assert net.random_states() == random and norm.momentum == 0.1
    assert [m.training for m in net.modules()] == [m is norm for m in net.modules()]


def test_a_net_without_batch_norm_is_left_alone():
    ts.train.update_bn(ts.nn.Sequential(ts.nn.ReLU()), [])


def test_statistics_of_nothing_are_refused():
    with pytest.raises(ts.TinyshuffleError, match="update_bn got no batches"):
        ts.train.update_bn(tiny_run.create("any", 3, "cifar"), [])


def test_no_test_is_worse_than_a_guess(monkeypatch, tmp_path):
    """A small version of `python -m tinyshuffle train`, whose first test had a loss of 48.

    The weights move so fast here that statistics which lag behind them made it 9.4.
    """
    few = shapes.load(512, 128)
    monkeypatch.setattr(ts.data, "load", lambda *_, **__: few)
    small = {"stage_channels": [16, 32, 64], "conv5_channels": 64}
    config = Config.make(epochs=3, batch_size=32, lr=0.1, sizes=[16], threads=1, variant=small)
    rows = train(config, "a", tmp_path, quiet=True).rows
    assert max(row["test_loss"] for row in rows) < math.log(10) + 0.3
