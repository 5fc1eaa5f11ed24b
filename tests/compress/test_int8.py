"""A net in bytes says what the net says, within the steps of its bytes."""

from __future__ import annotations

import numpy as np
import pytest

import tinyshuffle as ts
from tinyshuffle import TinyshuffleError, nn
from tinyshuffle.compress import quantise


def trained(name, **variant):
    """A net whose batch norms have statistics of their own, as after a training."""
    net = ts.models.create(name, num_classes=10, stem="cifar", seed=0, **variant)
    rng = np.random.default_rng(1)
    for module in net.modules():
        if isinstance(module, nn.BatchNorm2d):
            c = module.num_features
            module.weight.data = rng.uniform(0.5, 1.5, c).astype(np.float32)
            module.bias.data = rng.uniform(-0.5, 0.5, c).astype(np.float32)
    x = images(64, 2)
    ts.train.update_bn(net, [(x, None)])
    return net.eval()


def images(n, seed, side=32):
    return np.random.default_rng(seed).standard_normal((n, side, side, 3)).astype(np.float32)


@pytest.mark.parametrize(
    ("name", "variant", "most"),
    [
        ("shufflenet_v2_x0_5", dict(stage_repeats=(2, 2, 2)), 0.15),
        ("shufflenet_v2_x0_5", dict(residual=True, se=True, stage_repeats=(2, 2, 2)), 0.1),
        ("shufflenet_v1_x0_25_g3", {}, 0.15),
        ("mobilenet_v2", {}, 0.5),  # deep and random: nothing makes up for a rounding
    ],
)
def test_it_says_what_the_net_says(name, variant, most):
    net = trained(name, **variant)
    small = quantise(net, images(64, 2))
    x = images(70, 3)  # more than a chunk
    y, z = net(x), small(x)
    assert z.dtype == np.float32 and z.shape == y.shape
    assert 0 < np.abs(y - z).mean() / y.std() < most
    assert small.nbytes < 0.35 * sum(p.data.nbytes for p in net.parameters())


def test_a_pool_that_hangs_over_the_border():
    """GoogLeNet's and SqueezeNet's: the border is filled with minus infinity, which never wins."""
    net = nn.Sequential(
        nn.Conv2d(3, 8, 3, padding=1), nn.MaxPool2d(3, stride=2, ceil_mode=True),
        nn.GlobalAvgPool(), nn.Linear(8, 4),
    ).initialise(0).eval()  # fmt: skip
    x = images(20, 2, 8)
    y = net(x)
    assert 0 < np.abs(y - quantise(net, x)(x)).mean() / y.std() < 0.05


def test_both_backends_give_the_same_bits():
    net = trained("shufflenet_v2_x0_5", stage_repeats=(2, 2, 2))
    with ts.backend("numpy"):
        small = quantise(net, images(8, 2, 16))
        y = small(images(3, 3, 16))
    np.testing.assert_array_equal(small(images(3, 3, 16)), y)


def test_an_image_does_not_depend_on_the_others_and_sizes_are_free():
    small = quantise(trained("shufflenet_v2_x0_5"), images(16, 2))
    x = images(65, 3)
    y = small(x)
    np.testing.assert_array_equal(small(x[64:]), y[64:])
    assert small(images(2, 3, 48)).shape == (2, 10)
    assert small(x[:0]).shape == (0, 10)


def test_it_is_tested_like_any_net():
    train, test = ts.data.load("shapes")
    net = trained("shufflenet_v2_x0_5")
    small = quantise(net, ts.data.normalise(train.images[:32], train.mean, train.std))
    before = {name: value.copy() for name, value in net.state_dict().items()}
    few = ts.data.Dataset(
        test.name, test.images[:20], test.labels[:20], test.classes, test.mean, test.std
    )
    result = ts.train.evaluate(small, few)
    assert result.probabilities.shape == (20, 10) and not small.training
    for name, value in net.state_dict().items():
        np.testing.assert_array_equal(value, before[name])


def test_a_relu_costs_nothing():
    net = nn.Sequential(nn.Conv2d(3, 20, 3), nn.ReLU(), nn.GlobalAvgPool(), nn.Linear(20, 4))
    net.initialise(0).eval()
    rows = [step.row.operation for step in quantise(net, images(4, 0))._steps]
    assert rows == ["conv2d", "global_avg_pool", "linear"]


def test_weights_that_are_nothing_beside_their_bias():
    """What a channel with a dead batch norm folds to: its sums would not fit 32 bits."""
    net = nn.Sequential(nn.Conv2d(3, 5, 1), nn.GlobalAvgPool(), nn.Linear(5, 5))
    net.initialise(0).eval()
    net[0].weight.data[..., 2] *= 1e-30
    net[0].weight.data[..., 3] = 0
    net[0].bias.data[...] = [1, -1, 2, 3, 0.5]
    net[2].weight.data = np.eye(5, dtype=np.float32)
    net[2].bias.data[...] = 0
    x = images(50, 1)
    assert np.abs(quantise(net, x)(x) - net(x)).max() < 0.05


def test_what_cannot_be_made_bytes():
    class Own(nn.Module):
        def forward(self, x):
            return x * 2

    net = nn.Sequential(nn.Conv2d(3, 4, 1), Own())
    with pytest.raises(TinyshuffleError, match="^1 computes by itself"):
        quantise(net, images(2, 0))
    with pytest.raises(TinyshuffleError, match="no image"):
        quantise(net, images(0, 0))
    with pytest.raises(TinyshuffleError, match="no finite numbers"):
        quantise(net, images(2, 0) * np.float32(np.nan))
    with pytest.raises(TinyshuffleError, match="got a int where a net is expected"):
        quantise(3, images(2, 0))
