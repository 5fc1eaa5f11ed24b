"""The zoo against PyTorch: same weights, same images, same outputs, gradients and statistics."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from peers.parity import nchw, state
from peers.torch_zoo import TWINS
from peers.torch_zoo_more import MORE_TWINS
from peers.torch_zoo_searched import SEARCHED_TWINS

import tinyshuffle as ts
from tinyshuffle import nn
from tinyshuffle.bench.peer_torch import copy_weights, torch_layout

CLASSES = 5


def close(mine: np.ndarray, theirs: np.ndarray, scale: float, what: str) -> None:
    assert mine.shape == theirs.shape, what
    error = np.abs(mine - theirs).max() / max(np.abs(theirs).max(), scale)
    assert error < 1e-7, f"{what}: {error:.1e}"


SLOW = ("resnet50",)  # resnext50_32x4d is the same but for its groups


@pytest.mark.parametrize(
    ("name", "build", "stem", "side", "variant"),
    [
        pytest.param(
            *twin,
            id=" ".join([twin[0], *(f"{key}={value}" for key, value in twin[4].items())]),
            marks=[pytest.mark.slow] if twin[0] in SLOW else [],
        )
        for twin in [*TWINS, *MORE_TWINS, *SEARCHED_TWINS]
    ],
)
def test_a_training_step(name, build, stem, side, variant):
    net = ts.models.create(name, CLASSES, stem, seed=1, **variant).net.astype("float64")
    rng = np.random.default_rng(4)
    for module in net.modules():
        if isinstance(module, nn.Dropout):  # the two libraries draw other masks
            module.p = 0.0
        if isinstance(module, nn.BatchNorm2d):
            module.weight.data = rng.uniform(0.5, 1.5, module.num_features)
            module.bias.data = rng.normal(0, 0.2, module.num_features)
    peer = build(CLASSES).double()
    copy_weights(net, peer)

    x = rng.standard_normal((3, side, side, 3))
    images = torch.tensor(nchw(x), requires_grad=True)
    y, theirs = net(x), peer(images)
    close(y, theirs.detach().numpy(), 0, "logits")
    dy = rng.standard_normal(y.shape)
    dx = net.backward(dy)
    theirs.backward(torch.tensor(dy))
    close(nchw(dx), images.grad.numpy(), 0, "dx")
    grads = {key: p.grad.numpy() for key, p in peer.named_parameters()}
    # a bias in front of a batch norm has no gradient: both libraries round something to it
    scale = 1e-6 * max(np.abs(g).max() for g in grads.values())
    for p in net.parameters():
        close(torch_layout(p.grad), grads[p.name], scale, p.name)
    after, expected = state(net), state(peer)
    assert after.keys() == expected.keys()
    for key, value in expected.items():
        close(after[key], value, 1e-12, key)

    net.eval()
    peer.eval()
    y, theirs = net(x), peer(torch.tensor(nchw(x))).detach().numpy()
    close(y, theirs[:, : y.shape[1]], 0, "logits in evaluation")


sides = st.integers(1, 9)


@given(sides, sides, st.integers(1, 4), st.integers(1, 4), st.integers(0, 2), st.integers(0, 9))
def test_ceil_mode(h, w, kernel, stride, padding, seed):
    padding = min(padding, kernel // 2)
    x = np.random.default_rng(seed).standard_normal((2, h, w, 3))
    mine = nn.MaxPool2d(kernel, stride, padding, ceil_mode=True)
    theirs = torch.nn.MaxPool2d(kernel, stride, padding, ceil_mode=True)
    images = torch.tensor(nchw(x), requires_grad=True)
    try:
        expected = theirs(images)
    except RuntimeError:  # too small
        with pytest.raises(ts.TinyshuffleError, match="smaller than"):
            mine(x)
        return
    y = mine(x)
    np.testing.assert_array_equal(nchw(y), expected.detach().numpy())
    dy = np.random.default_rng(seed).standard_normal(y.shape)
    expected.backward(torch.tensor(nchw(dy)))
    np.testing.assert_allclose(nchw(mine.backward(dy)), images.grad.numpy(), atol=1e-15)


@given(st.integers(1, 7), st.integers(1, 9), st.integers(0, 9))
def test_local_response_norm(size, c, seed):
    rng = np.random.default_rng(seed)
    x, dy = rng.standard_normal((2, 2, 3, 4, c))
    images = torch.tensor(nchw(x), requires_grad=True)
    arguments = {"alpha": 0.4, "beta": 0.6, "k": 1.7}
    mine = nn.LocalResponseNorm(size, **arguments)
    expected = torch.nn.LocalResponseNorm(size, **arguments)(images)
    np.testing.assert_allclose(nchw(mine(x)), expected.detach().numpy(), rtol=1e-12, atol=1e-14)
    expected.backward(torch.tensor(nchw(dy)))
    np.testing.assert_allclose(nchw(mine.backward(dy)), images.grad.numpy(), atol=1e-12)


@given(sides, sides, sides, sides)
def test_adaptive_pooling_and_flattening(h, w, ho, wo):
    x = np.random.default_rng(0).standard_normal((2, h, w, 3))
    images = torch.tensor(nchw(x), requires_grad=True)
    mine = nn.Sequential(nn.AdaptiveAvgPool2d((ho, wo)), nn.Flatten())
    expected = torch.nn.Sequential(torch.nn.AdaptiveAvgPool2d((ho, wo)), torch.nn.Flatten())(images)
    y = mine(x)
    np.testing.assert_allclose(y, expected.detach().numpy(), atol=1e-14)
    dy = np.random.default_rng(1).standard_normal(y.shape)
    expected.backward(torch.tensor(dy))
    np.testing.assert_allclose(nchw(mine.backward(dy)), images.grad.numpy(), atol=1e-12)
