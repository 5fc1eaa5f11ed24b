"""Single layers against PyTorch's, over shapes drawn at random: forward, dx and every gradient."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from peers.parity import Tensors, compare, nchw, state
from torch import nn

import tinyshuffle as ts
from tinyshuffle.bench.peer_torch import SqueezeExcitation, copy_weights, torch_layout

TOLERANCE = 1e-11

few = settings(max_examples=25)
both_backends = pytest.mark.parametrize("backend", ["numpy", "numba"])
seeds = st.integers(0, 2**32 - 1)


def pairs(low: int, high: int) -> st.SearchStrategy[tuple[int, int]]:
    """(vertical, horizontal)"""
    return st.tuples(st.integers(low, high), st.integers(low, high))


def at_least(draw: st.DrawFn, spans: tuple[int, int], padding: tuple[int, int]) -> tuple[int, int]:
    """Draw (H, W) on which a window fits; small ones too, on which it only just does."""
    return tuple(
        draw(st.integers(max(1, span - 2 * p), max(1, span - 2 * p) + 5))
        for span, p in zip(spans, padding, strict=True)
    )


def check(backend: str, layer, peer: nn.Module, x: np.ndarray, rng: np.random.Generator) -> None:
    """Compare a layer with its peer: y, dx, gradients and state, with a random dy."""
    images = x.ndim == 4
    there = (lambda a: torch.tensor(nchw(a))) if images else torch.tensor
    xt = there(x).requires_grad_()
    yt = peer(xt)
    dyt = torch.tensor(rng.normal(size=yt.shape))
    yt.backward(dyt)
    theirs: Tensors = {"y": yt.detach().numpy(), "dx": xt.grad.numpy(), **state(peer)}
    theirs |= {f"grad {name}": p.grad.numpy() for name, p in peer.named_parameters()}
    with ts.backend(backend):
        y = layer(x)
        dy = np.ascontiguousarray(dyt.numpy().transpose(0, 2, 3, 1)) if y.ndim == 4 else dyt.numpy()
        dx = layer.backward(dy)
    mine: Tensors = {"y": y, "dx": dx, **state(layer)}
    mine = {k: nchw(v) if k in ("y", "dx") and v.ndim == 4 else v for k, v in mine.items()}
    mine |= {f"grad {p.name}": torch_layout(p.grad) for p in layer.parameters()}
    compare(mine, theirs, TOLERANCE)


def twins(layer, peer: nn.Module, rng: np.random.Generator):
    """Bring both to float64 and to the same weights, all of them random."""
    layer.astype(np.float64)
    drawn = {
        name: rng.uniform(0.2, 2, value.shape) if name.endswith("running_var")
        else value if value.dtype.kind == "i"
        else rng.normal(size=value.shape)
        for name, value in layer.state_dict().items()
    }  # fmt: skip
    layer.load_state_dict(drawn)
    copy_weights(layer, peer.double())
    return layer, peer


@st.composite
def convolutions(draw: st.DrawFn, kind: str):
    groups = {"dense": 1, "pointwise": draw(st.sampled_from([1, 2, 3]))}.get(
        kind, draw(st.integers(2, 5))
    )
    if kind == "depthwise":
        c = o = groups
    else:
        c, o = groups * draw(st.integers(1, 4)), groups * draw(st.integers(1, 4))
    if kind == "pointwise":
        kernel, stride, padding, dilation = (1, 1), (1, 1), (0, 0), (1, 1)
    else:
        kernel, stride, padding = draw(pairs(1, 4)), draw(pairs(1, 3)), draw(pairs(0, 2))
        dilation = draw(pairs(1, 3))
    spans = tuple(d * (k - 1) + 1 for k, d in zip(kernel, dilation, strict=True))
    options = dict(
        kernel_size=kernel, stride=stride, padding=padding, dilation=dilation, groups=groups,
        bias=draw(st.booleans()),
    )  # fmt: skip
    return (draw(st.integers(1, 3)), *at_least(draw, spans, padding), c), o, options


@both_backends
@pytest.mark.parametrize("kind", ["dense", "grouped", "depthwise", "pointwise"])
@few
@given(data=st.data(), seed=seeds)
def test_conv2d(backend: str, kind: str, data: st.DataObject, seed: int) -> None:
    shape, o, options = data.draw(convolutions(kind))
    rng, c = np.random.default_rng(seed), shape[-1]
    layer, peer = twins(ts.nn.Conv2d(c, o, **options), nn.Conv2d(c, o, **options), rng)
    check(backend, layer, peer, rng.normal(size=shape), rng)


@both_backends
@pytest.mark.parametrize(
    ("size", "c", "o"), [((33, 31), 16, 17), ((7, 5), 40, 64), ((2, 2), 80, 16)]
)
def test_conv2d_in_tiles(backend: str, size: tuple[int, int], c: int, o: int) -> None:
    rng, options = np.random.default_rng(0), dict(kernel_size=3, padding=1)
    layer, peer = twins(ts.nn.Conv2d(c, o, **options), nn.Conv2d(c, o, **options), rng)
    check(backend, layer, peer, rng.normal(size=(2, *size, c)), rng)


@both_backends
@pytest.mark.parametrize("mode", ["train", "eval"])
@pytest.mark.parametrize("relu", [False, True], ids=["alone", "relu"])
@few
@given(
    shape=st.tuples(
        st.integers(1, 4), st.integers(1, 5), st.integers(1, 5), st.integers(1, 5)
    ).filter(lambda s: s[0] * s[1] * s[2] > 3),  # of 2 numbers batch norm leaves but the signs
    momentum=st.sampled_from([0.1, 0.5]),
    eps=st.sampled_from([1e-5, 1e-3]),
    offset=st.sampled_from([0.0, 10.0]),
    seed=seeds,
)
def test_batch_norm(
    backend: str,
    mode: str,
    relu: bool,
    shape: tuple[int, ...],
    momentum: float,
    eps: float,
    offset: float,
    seed: int,
) -> None:
    rng, c = np.random.default_rng(seed), shape[-1]
    layers = [ts.nn.BatchNorm2d(c, eps, momentum), *([ts.nn.ReLU()] if relu else [])]
    peers = [nn.BatchNorm2d(c, eps, momentum), *([nn.ReLU()] if relu else [])]
    layer, peer = twins(ts.nn.Sequential(*layers), nn.Sequential(*peers), rng)
    layer.train(mode == "train")
    peer.train(mode == "train")
    check(backend, layer, peer, rng.normal(offset, 2, shape), rng)


@st.composite
def pools(draw: st.DrawFn):
    kernel = draw(pairs(1, 4))
    stride = draw(st.none() | pairs(1, 4))
    padding = tuple(draw(st.integers(0, k // 2)) for k in kernel)
    shape = (draw(st.integers(1, 3)), *at_least(draw, kernel, padding), draw(st.integers(1, 4)))
    return shape, dict(kernel_size=kernel, stride=stride, padding=padding)


@both_backends
@few
@given(case=pools(), ties=st.booleans(), seed=seeds)
def test_max_pool(backend: str, case, ties: bool, seed: int) -> None:
    """Of equals the same one wins, also among negative numbers beside the padding."""
    shape, options = case
    rng = np.random.default_rng(seed)
    x = rng.normal(-1, 1, shape)
    x = np.round(x) if ties else x
    check(backend, ts.nn.MaxPool2d(**options), nn.MaxPool2d(**options), x, rng)


@both_backends
@pytest.mark.parametrize("count_include_pad", [True, False])
@few
@given(case=pools(), seed=seeds)
def test_avg_pool(backend: str, count_include_pad: bool, case, seed: int) -> None:
    shape, options = case
    options = options | {"count_include_pad": count_include_pad}
    rng = np.random.default_rng(seed)
    x = rng.normal(size=shape)
    check(backend, ts.nn.AvgPool2d(**options), nn.AvgPool2d(**options), x, rng)


@both_backends
@few
@given(n=st.integers(1, 5), c=st.integers(1, 9), o=st.integers(1, 9), bias=st.booleans(),
       seed=seeds)  # fmt: skip
def test_linear(backend: str, n: int, c: int, o: int, bias: bool, seed: int) -> None:
    rng = np.random.default_rng(seed)
    layer, peer = twins(ts.nn.Linear(c, o, bias), nn.Linear(c, o, bias), rng)
    check(backend, layer, peer, rng.normal(size=(n, c)), rng)


@both_backends
@few
@given(shape=st.tuples(*[st.integers(1, 4)] * 3), c=st.integers(1, 40),
       reduction=st.sampled_from([1, 4, 16]), seed=seeds)  # fmt: skip
def test_squeeze_excitation(backend: str, shape, c: int, reduction: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    layer, peer = twins(ts.nn.SqueezeExcitation(c, reduction), SqueezeExcitation(c, reduction), rng)
    check(backend, layer, peer, rng.normal(size=(*shape, c)), rng)


@both_backends
@few
@given(shape=st.tuples(*[st.integers(1, 4)] * 3), groups=st.integers(1, 5), n=st.integers(1, 5),
       seed=seeds)  # fmt: skip
def test_without_weights(backend: str, shape, groups: int, n: int, seed: int) -> None:
    """Shuffle, global pool and activations; these at their kinks too."""
    rng = np.random.default_rng(seed)
    x = rng.normal(3, 4, (*shape, groups * n))
    x.flat[::3] = rng.choice([0.0, 6.0, -0.0, 60.0, -60.0], x.flat[::3].shape)
    check(backend, ts.nn.ChannelShuffle(groups), nn.ChannelShuffle(groups), x, rng)
    pool = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten())
    check(backend, ts.nn.GlobalAvgPool(), pool, x, rng)
    check(backend, ts.nn.ReLU(), nn.ReLU(), x, rng)
    check(backend, ts.nn.ReLU6(), nn.ReLU6(), x, rng)
    check(backend, ts.nn.Sigmoid(), nn.Sigmoid(), x, rng)
    check(backend, ts.nn.Tanh(), nn.Tanh(), x, rng)


@both_backends
@few
@given(n=st.integers(1, 6), k=st.integers(2, 12), smoothing=st.sampled_from([0.0, 0.1, 0.5, 1.0]),
       spread=st.sampled_from([1.0, 1000.0]), seed=seeds)  # fmt: skip
def test_cross_entropy(
    backend: str, n: int, k: int, smoothing: float, spread: float, seed: int
) -> None:
    rng = np.random.default_rng(seed)
    logits, labels = rng.normal(0, spread, (n, k)), rng.integers(k, size=n)
    zt = torch.tensor(logits, requires_grad=True)
    value = nn.CrossEntropyLoss(label_smoothing=smoothing)(zt, torch.tensor(labels))
    value.backward()
    with ts.backend(backend):
        loss = ts.nn.CrossEntropyLoss(smoothing)
        mine = {"loss": np.float64(loss(logits, labels)), "dlogits": loss.backward()}
    compare(mine, {"loss": value.detach().numpy(), "dlogits": zt.grad.numpy()}, TOLERANCE)


@both_backends
@few
@given(data=st.data(), channels=st.sampled_from([2, 16, 19]), ceil_mode=st.booleans(), seed=seeds)
def test_max_pool_of_infinities_and_nan(backend, data, channels, ceil_mode, seed) -> None:
    """The same winners, by where the gradient goes."""
    kernel, stride = data.draw(pairs(1, 4)), data.draw(pairs(1, 3))
    padding = tuple(data.draw(st.integers(0, k // 2)) for k in kernel)
    rng = np.random.default_rng(seed)
    x = rng.integers(-1, 2, (2, 7, 6, channels)).astype(np.float64)
    x[rng.random(x.shape) < 0.5] = -np.inf
    x[rng.random(x.shape) < rng.choice([0, 0.1])] = np.nan
    xt = torch.tensor(nchw(x)).requires_grad_()
    yt = nn.functional.max_pool2d(xt, kernel, stride, padding, ceil_mode=ceil_mode)
    dyt = torch.tensor(rng.normal(size=yt.shape))
    yt.backward(dyt)
    with ts.backend(backend):
        layer = ts.nn.MaxPool2d(kernel, stride, padding, ceil_mode)
        y = layer(x)
        dx = layer.backward(np.ascontiguousarray(dyt.numpy().transpose(0, 2, 3, 1)))
    np.testing.assert_array_equal(nchw(y), yt.detach().numpy())
    np.testing.assert_allclose(nchw(dx), xt.grad.numpy(), rtol=1e-13, atol=1e-13)


@both_backends
@few
@given(smoothing=st.sampled_from([0.0, 0.1, 0.7]), dtype=st.sampled_from(["f4", "f8"]), seed=seeds)
def test_cross_entropy_of_numbers_at_their_ends(backend, smoothing, dtype, seed) -> None:
    rng = np.random.default_rng(seed)
    x = rng.choice([0, 1, -2, 3e38, -3e38, -np.inf], (6, 5)).astype(dtype)
    x[:, 0] = rng.normal(size=6)  # of nothing but -inf there is no softmax
    labels = rng.integers(0, 5, 6)
    xt = torch.tensor(x).requires_grad_()
    loss = nn.CrossEntropyLoss(label_smoothing=smoothing, reduction="none")(
        xt, torch.tensor(labels)
    )
    loss.mean().backward()
    with ts.backend(backend):
        mine = ts.nn.CrossEntropyLoss(smoothing)
        value = mine(x, labels)
        np.testing.assert_allclose(mine.backward(), xt.grad.numpy(), rtol=1e-5, atol=1e-7)
        each = [mine(x[i : i + 1], labels[i : i + 1]) for i in range(6)]
    np.testing.assert_allclose(each, loss.detach().numpy(), rtol=1e-5, atol=1e-6)
    # PyTorch's own mean is a float32, in which two losses of 3e38 are infinite
    np.testing.assert_allclose(value, loss.double().mean().item(), rtol=1e-5, atol=1e-6)
