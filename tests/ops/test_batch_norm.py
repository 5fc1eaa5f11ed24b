"""Batch norm of numbers far from zero, in hostile orders, and near the end of float32.

In both backends, alone and joined with what stands around it. The truth is float64, two passes.
"""

from __future__ import annotations

import numpy as np
import pytest

import tinyshuffle as ts
from tinyshuffle import kernels, nn, ops
from tinyshuffle.backend import F
from tinyshuffle.plan import fused

AXES = (0, 1, 2)
EPS = 1e-5
WIDTHS = 1, 3, 24, 58
dtypes = pytest.mark.parametrize("dtype", [np.float32, np.float64])


@pytest.fixture(autouse=True)
def threads_as_before():
    yield
    ts.set_num_threads(None)


def truth(x, dy, gamma, beta, relu):
    """σ², y, dβ and dγ, and dx in float64."""
    x, dy, gamma, beta = (a.astype(np.float64) for a in (x, dy, gamma, beta))
    var = x.var(AXES)
    inv_std = 1 / np.sqrt(var + EPS)
    xhat = (x - x.mean(AXES)) * inv_std
    y = gamma * xhat + beta
    dz = dy * (y > 0) if relu else dy
    sums = np.stack([dz.sum(AXES), (dz * xhat).sum(AXES)])  # (2, C)
    mean_dz, mean_dz_xhat = sums / (x.size / x.shape[-1])
    dx = gamma * inv_std * (dz - mean_dz - xhat * mean_dz_xhat)
    return var, np.maximum(y, 0) if relu else y, sums, dx


def check(x, relu=False, y_tolerance=1e-4, var_tolerance=1e-5, seed=0):
    """Compare a forward and a backward pass with the truth."""
    rng = np.random.default_rng(seed)
    c = x.shape[-1]
    gamma = rng.uniform(0.5, 1.5, c).astype(x.dtype)
    beta = rng.uniform(0.5, 1.5, c).astype(x.dtype)
    dy = rng.standard_normal(x.shape).astype(x.dtype)
    var, y, sums, dx = truth(x, dy, gamma, beta, relu)

    batch = F.batch_norm_sums(x)
    assert (batch[0] == x.size // c).all()
    statistics = gamma, beta, *F.batch_norm_statistics(batch)
    np.testing.assert_allclose(statistics[3], var, rtol=var_tolerance, atol=1e-9)
    np.testing.assert_allclose(F.batch_norm(x, *statistics, EPS, relu), y, atol=y_tolerance)
    if relu:  # the mask may differ at the kink
        dy *= np.abs(y - beta) > 10 * y_tolerance
        var, y, sums, dx = truth(x, dy, gamma, beta, relu)
    mine = F.batch_norm_backward_sums(dy, x, *statistics, EPS, relu)
    largest = np.abs(dy).sum(AXES).max(initial=1)
    np.testing.assert_allclose(mine, sums, atol=y_tolerance * largest)
    got = F.batch_norm_backward(dy, x, *statistics, mine, batch[0], EPS, relu)
    # next to the one pixel that a channel may have, x̂ is 0 and dx a remainder of rounding
    slope = np.abs(gamma / np.sqrt(var + EPS)).max()
    np.testing.assert_allclose(got, dx, atol=10 * y_tolerance * slope)


@dtypes
@pytest.mark.parametrize("c", WIDTHS)
@pytest.mark.parametrize("ratio", [100, 1000, 10_000])
@pytest.mark.parametrize("shape", [(1, 1, 2), (1, 3, 3), (3, 2, 7), (4, 32, 32)])
def test_far_from_zero(each_backend, dtype, c, ratio, shape):
    """|μ| / σ up to 10⁴."""
    rng = np.random.default_rng(c)
    x = rng.standard_normal((*shape, c))
    x = (x - x.mean(AXES)) / x.std(AXES) + ratio * rng.choice([-1, 1], c)
    x = x.astype(dtype)
    check(x, relu=False)
    check((x * 1e-3).astype(dtype), y_tolerance=1e-3)  # σ² is near ε


def orders(c):
    """Some 50,000 pixels around 1000 as they should not come, one name and one array at a time."""
    rng = np.random.default_rng(c)
    n, h, w = 12, 64, 64 if c < 24 else 8
    x = 1000 + rng.standard_normal((n, h, w, c))
    yield "as they come", x
    yield "rising", np.sort(x.reshape(-1, c), axis=0).reshape(x.shape)
    yield "falling", np.sort(x.reshape(-1, c), axis=0)[::-1].reshape(x.shape)
    for value in 0, -1e4, 1e4:
        y = x.copy()
        y[0, 0, 0] = value
        yield f"the first pixel is {value}", y
    y = x.copy()
    y[0] = 0
    yield "the first image is zero", y
    y = x.copy()
    y[:-1] = 0
    yield "all images but the last are zero", y
    y = x.copy()
    y[:, 0] = y[:, -1] = y[:, :, 0] = y[:, :, -1] = 0
    yield "a border of zeros", y
    yield "each image has another mean", x + 300 * rng.standard_normal((n, 1, 1, 1))
    yield "each row has another mean", x + 300 * rng.standard_normal((n, h, 1, 1))
    y = x.copy()
    y[..., c // 2] = 1234.567
    yield "a channel is constant", y
    yield "each channel has another mean", x * 10 ** rng.uniform(-3, 3, c)
    yield "by turns", x * np.where(np.arange(w) % 2, 1, -1)[:, None]


@dtypes
@pytest.mark.parametrize("c", WIDTHS)
def test_hostile_orders(each_backend, dtype, c):
    for name, x in orders(c):
        x = x.astype(dtype)
        sums = F.batch_norm_sums(x)
        mean, var = F.batch_norm_statistics(sums)
        wide = x.astype(np.float64)
        expected = wide.var(AXES)
        # a constant channel's is a remainder of rounding in float64
        np.testing.assert_allclose(var, expected, rtol=1e-5, atol=1e-6, err_msg=name)
        worst = np.abs(mean - wide.mean(AXES)) / np.sqrt(expected + EPS)
        assert worst.max() < 1e-5, name


@pytest.mark.parametrize("c", WIDTHS)
@pytest.mark.parametrize("shape", [(1, 1, 2), (1, 2, 2), (2, 5, 5), (4, 32, 32)])
@pytest.mark.parametrize("size", [1e18, 1e20, 1e30, 3e38])
def test_huge_numbers(each_backend, c, shape, size):
    """Their squares, and even x - μ, are no float32 numbers. Results that are have to be right."""
    rng = np.random.default_rng(c)
    for kind in "uniform", "a pair", "mostly positive", "one of them":
        x = size * rng.uniform(-1, 1, (*shape, c))
        if kind == "a pair":
            x = size * rng.choice([-1, 1], x.shape)
        elif kind == "mostly positive":
            x = np.full(x.shape, size)
            x[0, 0, 0] = -size
        elif kind == "one of them":
            x = rng.standard_normal(x.shape)
            x[-1, -1, -1] = size
        x = x.astype(np.float32)
        if size < 1e30:
            check(x, y_tolerance=1e-3)
            check(x, relu=True, y_tolerance=1e-3)
            continue
        # dx is so small that it has few digits, if any
        ones, zeros = np.ones(c, np.float32), np.zeros(c, np.float32)
        dy = rng.standard_normal(x.shape).astype(np.float32)
        var, y, sums, _ = truth(x, dy, ones, zeros, False)
        batch = F.batch_norm_sums(x)
        statistics = ones, zeros, *F.batch_norm_statistics(batch)
        np.testing.assert_allclose(statistics[3], var, rtol=1e-5, err_msg=kind)
        np.testing.assert_allclose(
            F.batch_norm(x, *statistics), y, rtol=1e-3, atol=1e-3, err_msg=kind
        )
        mine = F.batch_norm_backward_sums(dy, x, *statistics)
        np.testing.assert_allclose(mine, sums, rtol=1e-3, atol=0.1, err_msg=kind)
        dx = F.batch_norm_backward(dy, x, *statistics, mine, batch[0])
        assert np.isfinite(dx).all() and np.abs(dx[..., var > 0]).max(initial=0) < 1e-10, kind


@dtypes
@pytest.mark.parametrize("strange", [np.inf, -np.inf, np.nan])
def test_what_is_not_finite_stays_in_its_channel(each_backend, dtype, strange):
    """And all other channels are as they would be without it."""
    for c in 3, 24:
        x = np.random.default_rng(c).standard_normal((2, 9, 9, c)).astype(dtype)
        expected = F.batch_norm_sums(x)
        x[1, 4, 4, 1] = strange
        sums = F.batch_norm_sums(x)
        others = np.arange(c) != 1
        np.testing.assert_allclose(sums[:, others], expected[:, others], rtol=1e-6, atol=1e-5)
        np.testing.assert_array_equal(sums[:, 1], ops.batch_norm_sums(x)[:, 1])
        with np.errstate(invalid="ignore"):
            statistics = np.ones(c, dtype), np.zeros(c, dtype), *F.batch_norm_statistics(sums)
            for relu in False, True:
                assert np.isnan(F.batch_norm(x, *statistics, EPS, relu)[..., 1]).all()
                assert np.isfinite(F.batch_norm(x, *statistics, EPS, relu)[..., others]).all()
            mine = F.batch_norm_backward_sums(x[::-1], x, *statistics)
            twin = ops.batch_norm_backward_sums(x[::-1], x, *statistics)
        np.testing.assert_allclose(mine, twin, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("relu", [False, True])
def test_what_is_not_finite_in_evaluation(each_backend, relu):
    """μ and σ² are constants then: dx is dy, or 0 where a ReLU is closed; at NaN it is open."""
    x = np.ones((1, 2, 2, 3), np.float32)
    x[0, 0] = [[np.inf, -np.inf, np.nan], [3, -3, 0.5]]
    dy = np.full_like(x, 2)
    dy[0, 0, 1] = np.inf
    statistics = (np.ones(3, np.float32), np.zeros(3, np.float32), np.zeros(3), np.ones(3), 0, relu)
    with np.errstate(invalid="ignore"):
        dx = F.batch_norm_eval_backward(dy, x, *statistics)
    expected = np.where(x <= 0, 0, dy) if relu else dy
    np.testing.assert_array_equal(dx, expected)


# ---- joined with convolutions, and where branches meet

JOINED = {  # weights, and stride, padding, dilation and groups
    "pointwise": ((1, 1, 24, 20), (1, 0, 1, 1)),
    "grouped": ((1, 1, 8, 12), (1, 0, 1, 3)),
    "depthwise": ((3, 3, 24), (1, 1, 1, 24)),
    "depthwise, stride 2": ((3, 3, 24), (2, 1, 1, 24)),
    "3x3": ((3, 3, 24, 8), (1, 1, 1, 1)),
}
joined = pytest.mark.parametrize("kind", JOINED)


def a_norm(c, mean, var, relu=False):
    rng = np.random.default_rng(c)
    gamma, beta = (rng.uniform(0.5, 1.5, c).astype(np.float32) for _ in range(2))
    return fused.Norm(gamma, beta, mean, var, EPS, relu)


def wide(values):
    """Arrays as float64."""
    if isinstance(values, tuple):
        items = [wide(v) for v in values]
        return values._make(items) if hasattr(values, "_make") else tuple(items)
    return values.astype(np.float64) if isinstance(values, np.ndarray) else values


def as_good(name, *arguments, floor=1e-5):
    """Whether the kernel is as near to float64 as the NumPy backend is."""
    definition = getattr(ops, name, None) or getattr(fused, name)
    right = definition(*wide(arguments))
    twin, mine = definition(*arguments), getattr(kernels, name)(*arguments)
    if not isinstance(right, tuple):
        right, twin, mine = (right,), (twin,), (mine,)
    for a, b, c in zip(right, twin, mine, strict=True):
        if a is not None:
            error, allowed = np.abs(c - a).max(), np.abs(b - a).max()
            assert error <= 4 * allowed + floor * max(1, np.abs(a).max()), (name, error, allowed)
    return mine


@joined
@pytest.mark.parametrize("ratio", [1000, 10_000])
def test_joined_far_from_zero(kind, ratio):
    """A convolution with weights ≥ 0 of numbers far from zero, between two batch norms."""
    shape, geometry = JOINED[kind]
    rng = np.random.default_rng(1)
    x = (ratio + rng.standard_normal((3, 12, 13, 24))).astype(np.float32)
    w = (np.abs(rng.standard_normal(shape)) / np.prod(shape[:3])).astype(np.float32)
    if len(shape) == 3:  # a border would take the batch away from its mean
        w *= np.arange(9).reshape(3, 3, 1) == 4
    y, _ = kernels.norm_conv(x, None, w, *geometry)
    exact, _ = fused.norm_conv(*wide((x, None, w)), *geometry)
    o = y.shape[-1]

    def normalised(backend):
        y, sums = (fused if backend is ops else kernels).norm_conv(x, None, w, *geometry)
        mean, var = ops.batch_norm_statistics(sums)
        return backend.batch_norm(y, np.ones(o, np.float32), np.zeros(o, np.float32), mean, var)

    right = (exact - exact.mean(AXES)) / np.sqrt(exact.var(AXES) + EPS)
    error, allowed = (np.abs(normalised(b) - right).max() for b in (kernels, ops))
    assert error <= 3 * allowed + 1e-5

    mean, var = exact.mean(AXES), exact.var(AXES)
    for relu in False, True:
        as_good("conv_norm", x, a_norm(o, mean, var, relu), w, *geometry)
    # the norm in front, of the same numbers, and the one behind
    before = a_norm(24, x.astype(np.float64).mean(AXES), x.astype(np.float64).var(AXES), True)
    z, sums = as_good("norm_conv", x, before, w, *geometry)
    dz = rng.standard_normal(z.shape).astype(np.float32)
    behind = a_norm(o, *ops.batch_norm_statistics(sums))
    totals = ops.batch_norm_backward_sums(dz, z, *behind[:6])
    gradient = fused.Gradient(behind, totals, sums[0])
    as_good("norm_conv_backward", dz, z, gradient, x, before, w, *geometry, floor=1e-4)


def test_meetings_far_from_zero():
    rng = np.random.default_rng(2)
    x1, x2, dy = (
        (m + rng.standard_normal((3, 12, 13, c))).astype(np.float32)
        for m, c in ((1e4, 24), (-1e4, 24), (0, 48))
    )
    norms = [
        a_norm(24, x.mean(AXES, dtype=np.float64), x.astype(np.float64).var(AXES), True)
        for x in (x1, x2)
    ]
    as_good("concat_shuffle", x1, x2, *norms)
    as_good("concat_shuffle_backward", dy, 24, x1, x2, *norms)
    y = as_good("norm_add_relu", x1, norms[0]._replace(relu=False), x2 + np.float32(1e4))[0]
    as_good("norm_add_relu_backward", dy[..., :24], y, x1, norms[0]._replace(relu=False))


@joined
def test_a_fold_that_is_too_large_is_not_made(kind):
    """γ / √(σ² + ε) times the weights, or μ, is infinite where the normalised result is 0."""
    shape, geometry = JOINED[kind]
    x = np.full((1, 4, 4, 24), 3e38, np.float32)
    w = np.zeros(shape, np.float32)
    w[shape[0] // 2, shape[1] // 2, 0] = 1  # one of the inputs
    if len(shape) == 3:
        w[1, 1] = 1
    o = shape[-1]
    ones, mean = np.ones(o, np.float32), np.full(o, x[0, 0, 0, 0])
    for relu in False, True:
        norm = fused.Norm(ones, ones, mean, np.zeros(o), EPS, relu)
        for backend in kernels, fused:
            y = backend.conv_norm(x, norm, w, *geometry)
            assert (y == 1).all()


# ---- in nets


@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize("layout", ["alone", "joined"])
def test_running_statistics_far_from_zero(each_backend, threads, layout):
    ts.set_num_threads(threads)
    rng = np.random.default_rng(3)
    x = (1e4 + rng.standard_normal((6, 24, 24, 8))).astype(np.float32)
    x[0] += 2  # a slice with another mean
    norm = nn.BatchNorm2d(8, momentum=1.0)
    layers = [norm]
    if layout == "joined":
        pick = nn.Conv2d(8, 8, 1, bias=False)
        pick.weight.data = np.eye(8, dtype=np.float32)[::-1].reshape(1, 1, 8, 8).copy()
        layers = [pick, norm]
        expected = x[..., ::-1].astype(np.float64)
    else:
        expected = x.astype(np.float64)
    net = ts.DataParallel(nn.Sequential(*layers))
    y = net(x)
    count = x.size // 8
    unbiased = expected.var(AXES) * count / (count - 1)
    right = (expected - expected.mean(AXES)) / np.sqrt(expected.var(AXES) + EPS)
    np.testing.assert_allclose(y, right, atol=1e-4)
    np.testing.assert_allclose(norm.running_var, unbiased, rtol=1e-5)
    np.testing.assert_allclose(norm.running_mean, expected.mean(AXES), rtol=1e-7)
    # in evaluation the running mean is a float32 number, half a thousandth away from μ
    np.testing.assert_allclose(net.eval()(x), right, atol=2e-3)


@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize("size", [1e30, 3e38])
def test_nets_of_huge_numbers(each_backend, threads, size):
    """What comes out of a net that begins with a batch norm, and goes back, is finite."""
    ts.set_num_threads(threads)
    rng = np.random.default_rng(4)
    x = (size * rng.uniform(-1, 1, (4, 6, 6, 3))).astype(np.float32)
    net = ts.DataParallel(
        nn.Sequential(
            nn.BatchNorm2d(3), nn.Conv2d(3, 16, 1, bias=False), nn.BatchNorm2d(16), nn.ReLU()
        )
    )
    with np.errstate(over="ignore"):  # the running variance is infinite, as PyTorch's is
        y = net(x)
        dx = net.backward(rng.standard_normal(y.shape).astype(np.float32))
    assert np.isfinite(y).all() and y.std() > 0.3
    assert np.isfinite(dx).all()
    assert all(np.isfinite(p.grad).all() for p in net.parameters())
    with np.errstate(over="ignore"):
        assert np.isfinite(net.eval()(x)).all()
