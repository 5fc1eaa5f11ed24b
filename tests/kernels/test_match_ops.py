"""Every function of ``kernels`` against its definition, over shapes drawn at random.

The definition is in ``ops``, or in ``plan.fused`` for what is done in one pass there. The truth is
what it computes in float64 from the same numbers. Inputs come in every layout
that a caller may hand over, and must be the same afterwards.
"""

from __future__ import annotations

import inspect
import types

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from tinyshuffle import kernels, ops
from tinyshuffle.errors import TinyshuffleError
from tinyshuffle.plan import fused

TOLERANCE = {np.float32: 1e-5, np.float64: 1e-12}
LAYOUTS = ("contiguous", "slice", "transposed", "readonly")
FUSED = [name for name in fused.__all__ if name[0].islower()]

# derandomised and without a deadline by the profile in conftest.py
few = settings(max_examples=12, derandomize=True, deadline=None)
dtypes = st.sampled_from([np.float32, np.float64])
seeds = st.integers(0, 2**32 - 1)
batches = st.integers(1, 3)
sides = st.integers(1, 9)


def check(name, dtype, *args, layout="contiguous", scale=0.0, **kwargs):
    """Run ``name`` of both backends on ``args`` and compare whatever comes out.

    Errors count relative to the largest entry of each result, or to ``scale`` if that is larger.
    """
    definition = getattr(ops, name, None) or getattr(fused, name)
    truth = definition(*_convert(args, np.float64), **kwargs)
    given_ = _lay_out(_convert(args, dtype), layout)
    before = _convert(given_, None)
    ours = getattr(kernels, name)(*given_, **kwargs)
    for a, b in zip(_arrays(given_), _arrays(before), strict=True):
        np.testing.assert_array_equal(a, b, "an argument was written into")
    twin = definition(*_convert(args, dtype), **kwargs)
    ours, truth, twin = (list(_arrays(r, keep=True)) for r in (ours, truth, twin))
    for mine, right, other in zip(ours, truth, twin, strict=True):
        if right is None:
            assert mine is None
            continue
        mine, right, other = np.asarray(mine), np.asarray(right), np.asarray(other)
        assert mine.shape == right.shape
        assert mine.dtype == other.dtype
        assert np.array_equal(np.isnan(mine), np.isnan(right))
        largest = max(np.abs(np.nan_to_num(right)).max(initial=0.0), scale)
        with np.errstate(invalid="ignore"):  # inf - inf
            error = np.where(mine == right, 0, np.abs(mine - right))
        assert np.nanmax(error, initial=0.0) <= TOLERANCE[dtype] * largest, name
    return ours


def _like(values, items):
    """A list, tuple or named tuple of other items."""
    return values._make(items) if hasattr(values, "_make") else type(values)(items)


def _arrays(values, keep=False):
    """The arrays (with ``keep`` all values) in nested tuples and lists."""
    if isinstance(values, tuple | list):
        for value in values:
            yield from _arrays(value, keep)
    elif keep or isinstance(values, np.ndarray):
        yield values


def _convert(values, dtype):
    """Copies of all arrays; floats of another type if ``dtype`` says which."""
    if isinstance(values, tuple | list):
        return _like(values, [_convert(v, dtype) for v in values])
    if not isinstance(values, np.ndarray):
        return values
    # float64 statistics are float64 in both, as batch norm's
    return values.copy() if dtype is None or values.dtype != np.float32 else values.astype(dtype)


def _lay_out(values, layout):
    if isinstance(values, tuple | list):
        return _like(values, [_lay_out(v, layout) for v in values])
    if not isinstance(values, np.ndarray) or layout == "contiguous":
        return values
    if layout == "readonly":
        values.flags.writeable = False
        return values
    if layout == "slice":
        wide = np.zeros((*values.shape[:-1], values.shape[-1] + 3), values.dtype)
        view = wide[..., 2:-1]
    else:
        view = np.zeros(values.shape[::-1], values.dtype).transpose()
    view[...] = values
    return view


def normal(seed, *shapes):
    """Arrays of float32 numbers, so that both types start from the same."""
    rng = np.random.default_rng(seed)
    return [rng.standard_normal(shape).astype(np.float32) for shape in shapes]


def divisors(n):
    return [g for g in range(1, n + 1) if n % g == 0]


# ---- convolutions


@st.composite
def windows(draw, largest=5):
    """Sides of an image, and kernel, stride, padding and dilation that fit it."""
    kernel = draw(st.tuples(st.integers(1, largest), st.integers(1, largest)))
    stride = draw(st.one_of(st.integers(1, 3), st.tuples(st.integers(1, 3), st.integers(1, 3))))
    dilation = draw(st.sampled_from([1, 1, 2, (1, 2)]))
    padding = draw(st.one_of(st.integers(0, 3), st.tuples(st.integers(0, 3), st.integers(0, 3))))
    size = []
    for axis in range(2):
        d = dilation if isinstance(dilation, int) else dilation[axis]
        p = padding if isinstance(padding, int) else padding[axis]
        span = d * (kernel[axis] - 1) + 1
        size.append(draw(st.integers(max(1, span - 2 * p), max(1, span - 2 * p) + 7)))
    return tuple(size), kernel, (stride, padding, dilation)


def check_convolution(name, dtype, seed, layout, bias, x_shape, w_shape, channels, arguments):
    x, w, b = normal(seed, x_shape, w_shape, channels)
    (y,) = check(name, dtype, x, w, b if bias else None, *arguments, layout=layout)
    (dy,) = normal(seed + 1, y.shape)
    check(f"{name}_backward", dtype, dy, x, w, *arguments, bias=bias, layout=layout)


@few
@given(dtypes, seeds, st.sampled_from(LAYOUTS), st.booleans(), batches, windows(), st.data())
def test_depthwise_any_window(dtype, seed, layout, bias, n, window, data):
    size, kernel, arguments = window
    c = data.draw(st.integers(1, 20))
    check_convolution(
        "depthwise_conv2d", dtype, seed, layout, bias, (n, *size, c), (*kernel, c), c, arguments
    )


@few
@given(
    dtypes, seeds, st.sampled_from(LAYOUTS), st.booleans(), batches, sides, sides,
    st.integers(16, 40), st.sampled_from([1, 2]),
)  # fmt: skip
@example(np.float32, 0, "contiguous", True, 3, 23, 17, 19, 1)  # more pixels than one float32 sum
@example(np.float32, 0, "contiguous", True, 3, 46, 35, 33, 2)  # takes, and rows of several blocks
@example(np.float64, 0, "contiguous", True, 1, 3, 70, 16, 1)
@example(np.float64, 0, "contiguous", True, 1, 1, 1, 16, 2)
def test_depthwise_3x3(dtype, seed, layout, bias, n, h, w, c, stride):
    check_convolution(
        "depthwise_conv2d", dtype, seed, layout, bias, (n, h, w, c), (3, 3, c), c, (stride, 1, 1)
    )


@few
@given(dtypes, seeds, st.sampled_from(LAYOUTS), st.booleans(), batches, windows(), st.data())
def test_convolution_any_window(dtype, seed, layout, bias, n, window, data):
    size, kernel, arguments = window
    c, o = data.draw(st.integers(1, 8)), data.draw(st.integers(1, 8))
    groups = data.draw(st.sampled_from([g for g in divisors(c) if o % g == 0]))
    check_convolution(
        "conv2d", dtype, seed, layout, bias, (n, *size, c), (*kernel, c // groups, o), o,
        (*arguments, groups),
    )  # fmt: skip


@few
@given(
    dtypes, seeds, st.sampled_from(LAYOUTS), st.booleans(), batches, windows(1), st.data()
)
def test_convolution_1x1_with_strides(dtype, seed, layout, bias, n, window, data):
    size, kernel, (stride, padding, dilation) = window
    c = data.draw(st.sampled_from([1, 4, 6]))
    groups = data.draw(st.sampled_from(divisors(c)))
    check_convolution(
        "conv2d", dtype, seed, layout, bias, (n, *size, c), (1, 1, c // groups, 2 * c), 2 * c,
        (stride, data.draw(st.sampled_from([0, padding])), dilation, groups),
    )  # fmt: skip


@few
@given(
    dtypes, seeds, st.sampled_from(LAYOUTS), st.booleans(), batches, st.integers(3, 9),
    st.integers(3, 9), st.integers(1, 40), st.integers(1, 3), st.integers(0, 2),
)  # fmt: skip
@example(np.float32, 0, "contiguous", True, 1, 37, 41, 24, 1, 1)
@example(np.float32, 0, "contiguous", True, 2, 37, 41, 12, 1, 1)
def test_stem(dtype, seed, layout, bias, n, h, w, o, stride, padding):
    check_convolution(
        "conv2d", dtype, seed, layout, bias, (n, h, w, 3), (3, 3, 3, o), o, (stride, padding)
    )


@pytest.mark.parametrize("arguments", [(1, 1, 2), (1, 1, 1, 8), (2, 0, (2, 1), 4)])
def test_what_only_looks_like_a_stem(arguments):
    groups = arguments[3] if len(arguments) > 3 else 1
    check_convolution(
        "conv2d", np.float64, 0, "contiguous", True, (2, 8, 7, 3 * groups), (3, 3, 3, 24), 24,
        arguments,
    )  # fmt: skip


@pytest.mark.parametrize("groups", [1, 2, 6])
def test_convolution_a_few_rows_at_a_time(monkeypatch, groups):
    """Blocks so small that there are several, and a rest."""
    monkeypatch.setattr(kernels.conv, "_COLUMNS", 500)
    monkeypatch.setattr(kernels.pointwise, "_rows", lambda a, b: 4)
    for name, window in (("conv2d", (3, 3)), ("conv2d", (1, 1)), ("pointwise_conv2d", (1, 1))):
        arguments = (groups,) if name == "pointwise_conv2d" else (1, 1, 1, groups)
        check_convolution(
            name, np.float64, 0, "contiguous", True, (2, 7, 5, 6), (*window, 6 // groups, 12), 12,
            arguments,
        )  # fmt: skip


@few
@given(
    dtypes, seeds, st.sampled_from(LAYOUTS), st.booleans(), batches, sides, sides,
    st.sampled_from([1, 6, 8, 30]), st.integers(1, 3), st.data(),
)  # fmt: skip
def test_pointwise(dtype, seed, layout, bias, n, h, w, c, times, data):
    groups = data.draw(st.sampled_from(divisors(c)))
    check_convolution(
        "pointwise_conv2d", dtype, seed, layout, bias, (n, h, w, c),
        (1, 1, c // groups, times * groups), times * groups, (groups,),
    )  # fmt: skip


@few
@given(dtypes, seeds, st.sampled_from(LAYOUTS), st.booleans(), *[st.integers(1, 20)] * 3)
def test_linear(dtype, seed, layout, bias, n, c, o):
    x, w, b, dy = normal(seed, (n, c), (c, o), (o,), (n, o))
    check("linear", dtype, x, w, b if bias else None, layout=layout)
    check("linear_backward", dtype, dy, x, w, layout=layout)


# ---- batch norm


@few
@given(
    dtypes, seeds, st.sampled_from(LAYOUTS), st.booleans(), batches, sides, sides,
    st.integers(1, 50),
)  # fmt: skip
@example(np.float32, 0, "contiguous", True, 3, 40, 41, 5)  # more blocks than one float32 sum takes
@example(np.float64, 0, "contiguous", False, 1, 1, 1, 1)
def test_batch_norm(dtype, seed, layout, relu, n, h, w, c):
    x, dy, gamma, beta = normal(seed, (n, h, w, c), (n, h, w, c), (c,), (c,))
    (sums,) = check("batch_norm_sums", dtype, x, layout=layout)
    count, (mean, var) = sums[0], ops.batch_norm_statistics(sums)
    statistics = (gamma, beta, mean, var, 1e-3, relu)
    check("batch_norm", dtype, x, *statistics, layout=layout)
    check("batch_norm_eval_backward", dtype, dy, x, *statistics, layout=layout)
    # one pixel a channel has x̂ = 0, so that dγ and dx are rounding errors of numbers this large
    slope = np.abs(gamma / np.sqrt(var + 1e-3)).max() * np.abs(dy).max()
    check(
        "batch_norm_backward_sums", dtype, dy, x, *statistics, layout=layout,
        scale=np.abs(dy).max(),
    )  # fmt: skip
    means = kernels.batch_norm_backward_sums(dy, x, *statistics)
    arguments = (gamma, beta, mean, var, means, count, 1e-3, relu)
    check("batch_norm_backward", dtype, dy, x, *arguments, layout=layout, scale=slope)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("c", [3, 24, 58])
def test_relu_mask_is_the_same_to_the_bit(dtype, c):
    """The backward pass computes the mask again, of numbers as near to the kink as they get."""
    rng = np.random.default_rng(c)
    gamma, beta = (rng.standard_normal(c).astype(dtype) for _ in range(2))
    mean, var = rng.standard_normal(c), rng.random(c) + 0.1
    kink = mean - beta * np.sqrt(var + 1e-5) / gamma
    ulps = rng.integers(-3, 4, (4, 9, 7, c)) * np.spacing(np.abs(kink).astype(dtype))
    x = (kink + ulps).astype(dtype)
    dy = np.ones_like(x)
    statistics = (gamma, beta, mean, var, 1e-5, True)
    mask = kernels.batch_norm(x, *statistics) > 0
    assert 0.2 < mask.mean() < 0.8
    assert np.array_equal(mask, ops.batch_norm(x, *statistics) > 0)
    assert np.array_equal(mask, kernels.batch_norm_eval_backward(dy, x, *statistics) != 0)
    sums = kernels.batch_norm_backward_sums(dy, x, *statistics)
    assert np.array_equal(mask.sum(axis=(0, 1, 2)), sums[0])
    nothing = np.zeros_like(sums), np.ones(c)
    assert np.array_equal(
        mask, kernels.batch_norm_backward(dy, x, *statistics[:4], *nothing, 1e-5, True) != 0
    )


def test_long_sums_keep_their_precision():
    """A quarter of a million numbers a channel, summed in float32 bit by bit."""
    x, dy = normal(0, (61, 64, 64, 5), (61, 64, 64, 5))
    x += 3
    gamma, beta = normal(1, 5, 5)
    wide = x.astype(np.float64).reshape(-1, 5)
    sums = kernels.batch_norm_sums(x)
    np.testing.assert_allclose(sums[1], wide.sum(axis=0), rtol=1e-6)
    np.testing.assert_allclose(sums[2], (wide**2).sum(axis=0), rtol=1e-6)
    statistics = ops.batch_norm_statistics(sums)
    check("batch_norm_backward_sums", np.float32, dy, x, gamma, beta, *statistics, 1e-5, True)
    (w,) = normal(2, (1, 1, 5, 7))
    (dz,) = normal(3, (61, 64, 64, 7))
    check("pointwise_conv2d_backward", np.float32, dz, x, w)
    x, dy, w = normal(4, (7, 95, 96, 16), (7, 95, 96, 16), (3, 3, 16))
    check("depthwise_conv2d_backward", np.float32, dy, x, w, 1, 1)
    check("depthwise_conv2d_backward", np.float32, dy[:, ::2, ::2].copy(), x, w, 2, 1)


# ---- the rest


@few
@given(
    st.sampled_from([np.float32, np.float64]), seeds, st.sampled_from(LAYOUTS), batches, sides,
    sides, st.sampled_from([1, 2, 6, 12, 30]), st.data(),
)  # fmt: skip
def test_channel_shuffle(dtype, seed, layout, n, h, w, c, data):
    groups = data.draw(st.sampled_from(divisors(c)))
    (x,) = normal(seed, (n, h, w, c))
    (y,) = check("channel_shuffle", dtype, x, groups, layout=layout)
    check("channel_shuffle_backward", dtype, y.astype(np.float32), groups, layout=layout)
    assert np.array_equal(kernels.channel_shuffle_backward(y, groups), x)


@st.composite
def pools(draw):
    kernel = draw(st.tuples(st.integers(1, 4), st.integers(1, 4)))
    stride = draw(st.tuples(st.integers(1, 3), st.integers(1, 3)))
    padding = tuple(draw(st.integers(0, k // 2)) for k in kernel)
    size = tuple(draw(st.integers(k, k + 6)) for k in kernel)
    return size, draw(st.sampled_from([(kernel, stride, padding), (3, 2, 1)]))


@few
@given(
    dtypes, seeds, st.sampled_from(LAYOUTS), batches, pools(), st.integers(1, 20), st.booleans()
)
def test_pools(dtype, seed, layout, n, pool, c, count_include_pad):
    (h, w), arguments = pool
    (x,) = normal(seed, (n, max(h, 3), max(w, 3), c))
    x.flat[::7] = x.flat[0]  # ties: the first of equals wins
    y, winner = check("max_pool2d", dtype, x, *arguments, layout=layout)
    (dy,) = normal(seed + 1, y.shape)
    check("max_pool2d_backward", dtype, dy, winner, x.shape, *arguments, layout=layout)
    check("avg_pool2d", dtype, x, *arguments, count_include_pad, layout=layout)
    check("avg_pool2d_backward", dtype, dy, x.shape, *arguments, count_include_pad, layout=layout)
    check("global_avg_pool", dtype, x, layout=layout)
    check("global_avg_pool_backward", dtype, x[:, 0, 0], x.shape, layout=layout)


@pytest.mark.parametrize("c", [2, 18])
def test_max_pool_of_strange_numbers(c):
    x = np.full((1, 6, 6, c), -np.inf, np.float32)
    x[0, 4, 4, 0] = x[0, 4, 5, 0] = np.nan
    x[0, 0, 2, 1], x[0, 3, 3, -1] = np.inf, 1
    y, winner = check("max_pool2d", np.float32, x, 3, 2, 1)
    check("max_pool2d_backward", np.float32, np.ones_like(y), winner, x.shape, 3, 2, 1)


@few
@given(
    dtypes, seeds, st.sampled_from(LAYOUTS), st.lists(st.integers(1, 9), min_size=1, max_size=4)
)
def test_activations(dtype, seed, layout, shape):
    x, dy = normal(seed, shape, shape)
    x *= 5
    x.flat[:: x.size // 2 + 1] = 0
    for name in "relu", "relu6", "sigmoid", "tanh":
        (y,) = check(name, dtype, x, layout=layout)
        y = np.asarray(y, np.float32)
        check(f"{name}_backward", dtype, dy, y, layout=layout)


def test_activations_of_strange_numbers():
    x = np.array([np.nan, np.inf, -np.inf, 0.0, -0.0, 6.0, 7.0], np.float32)
    for name in "relu", "relu6":
        check(name, np.float32, x)
        check(f"{name}_backward", np.float32, np.ones_like(x), np.abs(x))


@few
@given(
    dtypes, seeds, st.sampled_from(LAYOUTS), batches, sides, sides,
    st.lists(st.integers(1, 9), min_size=2, max_size=4),
)  # fmt: skip
def test_branches(dtype, seed, layout, n, h, w, channels):
    xs = normal(seed, *[(n, h, w, c) for c in channels])
    (y,) = check("concat", dtype, xs, layout=layout)
    y = y.astype(np.float32)
    check("concat_backward", dtype, y, channels, layout=layout)
    check("channel_split", dtype, y, channels[0], layout=layout)
    check("channel_split_backward", dtype, xs[0], xs[1], layout=layout)
    check("add", dtype, y, 2 * y, layout=layout)
    check("add_backward", dtype, y, layout=layout)


@few
@given(dtypes, seeds, st.sampled_from(LAYOUTS), batches, sides, sides, st.integers(1, 20))
def test_channel_scale(dtype, seed, layout, n, h, w, c):
    x, dy, s = normal(seed, (n, h, w, c), (n, h, w, c), (n, c))
    check("channel_scale", dtype, x, s, layout=layout)
    check("channel_scale_backward", dtype, dy, x, s, layout=layout)


# ---- a convolution between two batch norms, and where branches meet


def norm(seed, c, relu, shuffle=1):
    gamma, beta, mean, var = normal(seed, c, c, c, c)
    return fused.Norm(gamma, beta, mean.astype(float), var.astype(float) ** 2, 1e-3, relu, shuffle)


@few
@given(
    dtypes, seeds, st.sampled_from(LAYOUTS), batches, sides, sides,
    st.sampled_from([1, 6, 8, 30, 48]), st.sampled_from([1, 5, 8, 13]), st.booleans(),
    st.booleans(), st.booleans(), st.data(),
)  # fmt: skip
@example(np.float32, 0, "contiguous", 3, 40, 41, 48, 1, True, True, True, None)  # several blocks
def test_norm_pointwise(dtype, seed, layout, n, h, w, c, times, before, behind, plus, data):
    groups = 2 if data is None else data.draw(st.sampled_from(divisors(c)))
    shuffle = 3 if data is None else data.draw(st.sampled_from(divisors(c)))
    weights = (1, 1, c // groups, times * groups)
    check_norm_conv(dtype, seed, layout, (n, h, w, c), weights, (1, 0, 1, groups),
                    shuffle if before else None, behind, plus)  # fmt: skip


@few
@given(
    dtypes, seeds, st.sampled_from(LAYOUTS), batches, sides, sides,
    st.sampled_from([3, 16, 18, 40]), st.integers(1, 2), st.booleans(), st.booleans(),
    st.booleans(), st.data(),
)  # fmt: skip
@example(np.float32, 0, "contiguous", 3, 20, 31, 48, 1, True, True, True, None)
@example(np.float32, 0, "contiguous", 3, 20, 31, 48, 2, True, True, True, None)
def test_norm_depthwise(dtype, seed, layout, n, h, w, c, stride, before, behind, plus, data):
    shuffle = 4 if data is None else data.draw(st.sampled_from(divisors(c)))
    check_norm_conv(dtype, seed, layout, (n, h, w, c), (3, 3, c), (stride, 1, 1, c),
                    shuffle if before else None, behind, plus)  # fmt: skip


def test_norm_of_other_convolutions():
    for weights, geometry in (
        ((3, 3, 4, 6), (1, 1, 1, 2)),
        ((3, 3, 2, 18), (1, 1, 1, 9)),
        ((1, 1, 8, 6), (2, 0, 1, 1)),
        ((5, 5, 8), (1, 2, 1, 8)),
        ((1, 1, 512, 256), (1, 0, 1, 1)),  # more weights than suit a block
    ):
        c = weights[2] * (geometry[3] if len(weights) == 4 else 1)
        for behind in False, True:
            check_norm_conv(np.float32, 0, "contiguous", (2, 5, 4, c), weights, geometry, 2,
                            behind, False)  # fmt: skip


def check_norm_conv(dtype, seed, layout, x_shape, w_shape, geometry, shuffle, behind, plus):
    x, w = normal(seed, x_shape, w_shape)
    before = None if shuffle is None else norm(seed + 1, x_shape[-1], shuffle % 2 == 0, shuffle)
    y, sums = check("norm_conv", dtype, x, before, w, *geometry, layout=layout)
    y, o = y.astype(np.float32), w_shape[-1]
    check("conv_norm", dtype, x, norm(seed + 2, o, True), w, *geometry, layout=layout)
    dy, more = normal(seed + 3, y.shape, x_shape)
    after = None
    if behind:
        after = fused.Gradient(norm(seed + 4, o, False), sums[1:], sums[0])
    check(
        "norm_conv_backward", dtype, dy, y, after, x, before, w, *geometry,
        more if plus and before is None else None, layout=layout, scale=np.abs(dy).max(),
    )  # fmt: skip
    if before is None:  # into some channels of a tensor, and nowhere else
        wide = np.ones((*x_shape[:-1], x_shape[-1] + 3), dtype)
        arguments = _convert((dy, y, after, x, before, w), dtype)
        added = more.astype(dtype) if plus else None
        for backend in kernels, fused:
            expected, *_ = backend.norm_conv_backward(*arguments, *geometry, added)
            backend.norm_conv_backward(*arguments, *geometry, added, wide[..., 2:-1])
            np.testing.assert_array_equal(wide[..., 2:-1], expected)
            assert (wide[..., :2] == 1).all() and (wide[..., -1] == 1).all()


@few
@given(dtypes, seeds, st.sampled_from(LAYOUTS), batches, sides, sides, *[st.integers(1, 30)] * 2)
@example(np.float32, 0, "contiguous", 3, 40, 41, 24, 24)
def test_meetings(dtype, seed, layout, n, h, w, c1, c2):
    first, second, x3 = normal(seed, (n, h, w, c1), (n, h, w, c2), (n, h, w, c1))
    norms = norm(seed, c1, True), norm(seed + 2, c1, False), norm(seed + 3, c2, True)
    pairs = [(first, x3, None, None), (first, x3, None, norms[1]), (first, x3, *norms[:2])]
    if (c1 + c2) % 2 == 0:
        pairs += [(first, second, None, None), (first, second, norms[0], norms[2])]
    for pair in pairs:
        (y,) = check("concat_shuffle", dtype, *pair, layout=layout)
        x1, x2, *both = pair
        check("concat_shuffle_backward", dtype, y.astype(np.float32), x1.shape[-1],
              None if both[0] is None else x1, None if both[1] is None else x2, *both,
              layout=layout, scale=np.abs(y).max())  # fmt: skip
    before = norm(seed + 1, c1, False)
    (y,) = check("norm_add_relu", dtype, first, before, x3, layout=layout)
    check("norm_add_relu_backward", dtype, x3, y.astype(np.float32), first, before, layout=layout,
          scale=np.abs(x3).max())  # fmt: skip


# ---- detection


@few
@given(
    dtypes, seeds, st.sampled_from(LAYOUTS), batches, sides, sides, st.integers(1, 20),
    st.integers(1, 4), st.integers(1, 3), st.integers(0, 6),
)  # fmt: skip
def test_maps_under_boxes(dtype, seed, layout, n, h, w, c, p, samples, count):
    rng = np.random.default_rng(seed)
    corner, sides_ = rng.uniform(-8, 40, (count, 2)), rng.uniform(0, 40, (count, 2))
    boxes = np.concatenate([corner, corner + sides_], axis=1).astype(np.float32)
    image = rng.integers(0, n, count)
    for name, channels in ("roi_align", c), ("ps_roi_align", c * p * p):
        (x,) = normal(seed, (n, h, w, channels))
        where = boxes, image, p, 0.25, samples
        (y,) = check(name, dtype, x, *where, layout=layout)
        (dy,) = normal(seed + 1, y.shape)
        check(f"{name}_backward", dtype, dy, x, *where, layout=layout)


@few
@given(dtypes, seeds, st.sampled_from(LAYOUTS), st.integers(0, 60), st.floats(0, 1))
def test_who_stays(dtype, seed, layout, count, threshold):
    rng = np.random.default_rng(seed)
    corner = rng.integers(0, 9, (count, 2))
    boxes = np.concatenate([corner, corner + rng.integers(0, 9, (count, 2))], axis=1)
    scores = (rng.integers(0, 9, count) / 8).astype(np.float32)
    for limit in None, 3:
        given_ = boxes.astype(np.float32), scores, threshold, limit
        (ours,) = check("nms", dtype, *given_, layout=layout)
        np.testing.assert_array_equal(ours, ops.nms(*given_))


# ---- the two modules as wholes


def _functions(module):
    return {
        name: value
        for name, value in vars(module).items()
        if not name.startswith("_") and not isinstance(value, types.ModuleType)
    }


def test_same_names_and_signatures():
    for name, function in _functions(ops).items():
        twin = getattr(kernels, name)
        assert inspect.signature(twin) == inspect.signature(function), name
    for name in FUSED:
        mine, definition = (inspect.signature(getattr(m, name)) for m in (kernels, fused))
        assert mine == definition, name


def test_results_are_the_callers():
    """No result shares memory with an argument (but a split's, and an addition's gradient)."""
    x, w, s = normal(0, (2, 4, 4, 16), (3, 3, 16), (2, 16))
    for y in (
        kernels.depthwise_conv2d(x, w, None, 1, 1),
        kernels.pointwise_conv2d(x, normal(1, (1, 1, 16, 16))[0]),
        kernels.channel_shuffle(x, 1),
        kernels.relu(np.abs(x)),
        kernels.concat([x]),
        kernels.concat_shuffle(x, x),
        kernels.channel_scale(x, s),
        kernels.avg_pool2d(x, 1, 1),
    ):
        assert not np.shares_memory(x, y)
        assert y.flags.c_contiguous


def test_same_input_same_bits():
    x, dy, w, gamma, beta = normal(0, (3, 9, 11, 29), (3, 9, 11, 29), (3, 3, 29), 29, 29)
    statistics = ops.batch_norm_statistics(kernels.batch_norm_sums(x))
    for call in (
        lambda: kernels.depthwise_conv2d_backward(dy, x, w, 1, 1),
        lambda: kernels.batch_norm_sums(x),
        lambda: kernels.batch_norm_backward_sums(dy, x, gamma, beta, *statistics, 1e-5, True),
        lambda: kernels.pointwise_conv2d_backward(dy, x, normal(1, (1, 1, 29, 29))[0]),
    ):
        for first, second in zip(_arrays(call()), _arrays(call()), strict=True):
            assert first.tobytes() == second.tobytes()


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda x: kernels.depthwise_conv2d(x, x[0, :3, :3, :15]), "weights for 15"),
        (lambda x: kernels.conv2d(x, np.zeros((3, 3, 3, 16))), "weights for 3"),
        (lambda x: kernels.conv2d(x, np.zeros((3, 3, 3, 16)), groups=3), "groups=3 does not"),
        (lambda x: kernels.pointwise_conv2d(x, np.zeros((1, 1, 4, 9))), "weights for 4"),
        (lambda x: kernels.channel_shuffle(x, 3), "groups=3 does not divide"),
        (lambda x: kernels.conv2d(x, np.zeros((9, 9, 16, 1))), "smaller than the 9 pixels"),
        (lambda x: kernels.batch_norm(x, *np.zeros((4, 15))), "shape (15,) where (16,)"),
        (lambda x: kernels.relu_backward(x, x[0]), "shape"),
        (lambda x: kernels.relu(x.astype(int)), "float32 or float64"),
        (
            lambda x: kernels.depthwise_conv2d_backward(x, x, np.zeros((3, 3, 16)), 2, 1),
            "(2, 4, 4, 16) where (2, 2, 2, 16)",
        ),
        (lambda x: kernels.concat([x, x[:1]]), "must agree"),
        (lambda x: kernels.channel_split(x, 16), "cannot split"),
        (lambda x: kernels.add(x, x[:1]), "cannot add"),
        (lambda x: kernels.max_pool2d(x, 2, 1, 2), "more than half"),
    ],
)
def test_bad_input_is_named(call, words):
    with pytest.raises(TinyshuffleError, match=words.replace("(", r"\(").replace(")", r"\)")):
        call(np.zeros((2, 4, 4, 16), np.float32))


@pytest.mark.parametrize("momentum", [0.0, 0.9])
@pytest.mark.parametrize("layout", ["transposed", "sliced", "velocity"])
def test_a_step_writes_into_arrays_of_any_layout(momentum, layout):
    p, grad, velocity = normal(0, (6, 5), (6, 5), (6, 5))
    results = []
    for backend in ops, kernels:
        q, v = p.copy(), velocity.copy()
        if layout == "transposed":
            q, v = np.asfortranarray(q), np.asfortranarray(v)
        elif layout == "sliced":
            q, v = q.repeat(2, 1)[:, ::2], v.repeat(2, 1)[:, ::2]
        else:
            v = np.asfortranarray(v)
        backend.sgd_step(q, grad, v if momentum else None, 0.1, momentum, True, 0.01)
        results.append((q, v))
    for mine, right in zip(*results, strict=True):
        np.testing.assert_allclose(mine, right, rtol=1e-5, atol=1e-6)
    assert np.abs(results[1][0] - p).min() > 1e-6


@pytest.mark.parametrize("backend", [ops, kernels])
def test_a_step_that_cannot_be_taken(backend):
    p, g = np.ones(3), np.ones(3)
    frozen = np.ones(3)
    frozen.flags.writeable = False
    for arguments, words in (
        ((frozen, g, None), "read-only"),
        ((p, g, frozen), "read-only"),
        ((p, np.ones(1), None), "shape"),
        ((p, g, np.ones(4)), "shape"),
        ((p, g, np.ones(3, np.float32)), "velocity float32"),
    ):
        with pytest.raises(TinyshuffleError, match=words):
            backend.sgd_step(*arguments, 0.1, 0.9)
    np.testing.assert_array_equal(p, 1)
