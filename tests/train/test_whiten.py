"""The stem that begins as a whitening: what its filters make of the data's patches."""

from __future__ import annotations

import numpy as np
import pytest
from train import tiny_run

import tinyshuffle as ts
from tinyshuffle import checkpoint, data, nn
from tinyshuffle.errors import TinyshuffleError
from tinyshuffle.train import Config, train
from tinyshuffle.train.whiten import whiten


@pytest.fixture(scope="module")
def images():
    return data.load("shapes")[0]


def outputs(net, dataset, count=1000):
    """Of the first convolution, without a border of zeros, (patches, filters)."""
    conv = next(m for m in net.modules() if isinstance(m, nn.Conv2d))
    inner = nn.Conv2d(3, conv.out_channels, conv.kernel_size, bias=False)
    inner.weight.data = conv.weight.data.astype(np.float64)
    x = data.normalise(dataset.images[:count], dataset.mean, dataset.std).astype(np.float64)
    return inner(x).reshape(-1, conv.out_channels)


def test_outputs_are_uncorrelated_and_of_variance_one(images):
    net = ts.models.create("shufflenet_v2_x0_5", num_classes=10, stem="cifar")
    assert whiten(net, images) == 24
    y = outputs(net, images)
    np.testing.assert_allclose(y[:, :12], -y[:, 12:], atol=1e-9)
    covariance = np.cov(y[:, :12].T)
    assert np.abs(covariance - np.diag(np.diag(covariance))).max() < 1e-3
    strong = np.diag(covariance)[:3]  # far above EPS
    np.testing.assert_allclose(strong, 1, atol=0.01)
    assert (np.diff(np.diag(covariance)) < 1e-6).all()  # the largest variance first
    # no direction that was left out tells more: it would have been taken in place of the last
    x = data.normalise(images.images[:1000], images.mean, images.std)
    windows = np.lib.stride_tricks.sliding_window_view(x, (3, 3), axis=(1, 2))
    patches = windows.transpose(0, 1, 2, 4, 5, 3).reshape(-1, 27)
    values = np.linalg.eigvalsh(np.cov(patches.T.astype(np.float64)))[::-1]
    w = next(m for m in net.modules() if isinstance(m, nn.Conv2d)).weight.data
    norms = np.sqrt((w.astype(np.float64)[..., :12] ** 2).sum((0, 1, 2)))
    np.testing.assert_allclose(1 / norms**2, values[:12] + 5e-4, rtol=1e-3)


def test_filters_that_are_left_keep_their_weights(images):
    net = nn.Sequential(nn.Conv2d(3, 61, 3, bias=False)).initialise(0)
    before = net.parameters()[0].data.copy()
    assert whiten(net, images) == 54  # 27 directions, twice
    after = net.parameters()[0].data
    np.testing.assert_array_equal(after[..., 54:], before[..., 54:])
    assert (after[..., :54] != before[..., :54]).any()
    assert np.isfinite(after).all()


def test_a_net_without_such_a_layer_is_refused(images):
    for layer in (nn.Linear(3, 2), nn.Conv2d(3, 6, 3, groups=3), nn.Conv2d(1, 4, 3)):
        with pytest.raises(TinyshuffleError, match="does not begin with a convolution"):
            whiten(nn.Sequential(layer), images)


def test_one_filter_is_too_few(images):
    with pytest.raises(TinyshuffleError, match="has one filter, where each direction takes two"):
        whiten(nn.Sequential(nn.Conv2d(3, 1, 3)).initialise(0), images)


def test_a_run_begins_with_it_and_so_does_its_average(tmp_path, monkeypatch):
    tiny_run.install(monkeypatch.setattr)
    options = dict(epochs=1, batch_size=70, lr=1e-9, ema=0.9, threads=1, backend="numpy")
    begun = train(Config(**options, whiten=True), "a", tmp_path, quiet=True)
    expected = tiny_run.create("any")
    whiten(expected, tiny_run.load("shapes")[0])
    (name, weight), *_ = expected.state_dict().items()
    saved = checkpoint.load(begun.run / "last.npz")
    for part in (saved.net, saved.average):
        np.testing.assert_allclose(part[name], weight, rtol=1e-5, atol=1e-7)
    with pytest.raises(TinyshuffleError, match="whiten=True .*must be no, as init"):
        Config(whiten=True, init="a.npz")
    # as that of a recipe can be, which has no option to leave out
    assert Config.make("coffee", whiten="no", init="a.npz").whiten is False
