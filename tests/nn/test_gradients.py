"""Every layer's backward pass against finite differences, with either implementation."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from strategies import batches, convolutions, divisors, pools, sizes

import tinyshuffle as ts
from tinyshuffle import nn

seeds = st.integers(0, 99)
backends = pytest.mark.parametrize("backend", ["numpy", "numba"])


def check(backend: str, layer: nn.Module, shape: tuple[int, ...], seed: int) -> None:
    layer.initialise(seed).astype("float64")
    for p in layer.parameters():  # away from the ones and zeros that would hide a factor
        p.data += np.random.default_rng(seed).uniform(-0.3, 0.3, p.shape)
    x = np.random.default_rng(seed + 1).standard_normal(shape)
    with ts.backend(backend):
        report = ts.gradcheck(layer, x, seed=seed)
    assert report.passed, f"\n{layer}\nx {shape}\n{report}"
    assert report.max_relative_error <= 1e-6
    assert {row.name for row in report.rows} == {"dx", *(p.name for p in layer.parameters())}


@backends
@given(convolutions(), seeds)
def test_convolution(backend, case, seed):
    shape, arguments = case
    check(backend, nn.Conv2d(**arguments), shape, seed)


@backends
@given(convolutions(depthwise=True), seeds)
def test_depthwise_convolution(backend, case, seed):
    shape, arguments = case
    layer = nn.Conv2d(**arguments)
    assert layer.kind == "depthwise"
    check(backend, layer, shape, seed)


@backends
@given(st.data(), batches, sizes, seeds)
def test_pointwise_convolution(backend, data, n, size, seed):
    g, cg, og = data.draw(st.integers(1, 3)), data.draw(st.integers(2, 3)), 2
    layer = nn.Conv2d(g * cg, g * og, 1, groups=g, bias=data.draw(st.booleans()))
    assert layer.kind == "pointwise"
    check(backend, layer, (n, *size, g * cg), seed)


@backends
@given(st.integers(1, 6), batches, sizes, seeds, st.booleans(), st.booleans())
def test_batch_norm(backend, c, n, size, seed, relu, training):
    norm = nn.BatchNorm2d(c)
    layer = nn.Sequential(norm, nn.ReLU()) if relu else norm
    norm.running_mean = np.linspace(-0.5, 0.5, c).astype(np.float32)
    norm.running_var = np.linspace(0.5, 2, c).astype(np.float32)
    layer.train(training)
    check(backend, layer, (n, *size, c), seed)


@backends
@given(st.data(), batches, sizes, seeds)
def test_channel_shuffle(backend, data, n, size, seed):
    c = data.draw(st.integers(1, 12))
    check(backend, nn.ChannelShuffle(data.draw(divisors(c))), (n, *size, c), seed)


@backends
@given(pools(), seeds)
def test_max_pool(backend, case, seed):
    shape, arguments = case
    check(backend, nn.MaxPool2d(**arguments), shape, seed)


@backends
@given(pools(), st.booleans(), seeds)
def test_avg_pool(backend, case, count_include_pad, seed):
    shape, arguments = case
    check(backend, nn.AvgPool2d(**arguments, count_include_pad=count_include_pad), shape, seed)


@backends
@pytest.mark.parametrize("layer", [nn.ReLU, nn.ReLU6, nn.Sigmoid, nn.Tanh, nn.GlobalAvgPool])
@settings(max_examples=5)
@given(batches, sizes, st.integers(1, 5), seeds)
def test_layers_without_parameters(backend, layer, n, size, c, seed):
    check(backend, layer(), (n, *size, c), seed)


@backends
@given(st.integers(1, 5), st.integers(1, 6), st.integers(1, 6), st.booleans(), seeds)
def test_linear(backend, n, c, o, bias, seed):
    check(backend, nn.Linear(c, o, bias), (n, c), seed)


@backends
@given(st.floats(0, 0.9), st.booleans(), seeds)
def test_dropout(backend, p, training, seed):
    check(backend, nn.Dropout(p).train(training), (3, 7), seed)


@backends
@settings(max_examples=5)
@given(batches, sizes, seeds)
def test_squeeze_excitation(backend, n, size, seed):
    check(backend, nn.SqueezeExcitation(8, 2), (n, *size, 8), seed)
