"""Int8: bytes stand for the numbers they should, and sums of them are exact."""

from __future__ import annotations

import os
import subprocess
import sys

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from strategies import convolutions

from tinyshuffle import TinyshuffleError, kernels, ops

seeds = st.integers(0, 2**32 - 1)
both = pytest.mark.parametrize("f", [ops, kernels], ids=["ops", "kernels"])


def quantised(shape, a, seed):
    """Arguments of a convolution of bytes, drawn to the ends of what they may be."""
    rng = np.random.default_rng(seed)
    depthwise = a["groups"] == shape[3] == a["out_channels"] > 1
    o, cg = a["out_channels"], shape[3] // a["groups"]
    kernel = a["kernel_size"] if isinstance(a["kernel_size"], tuple) else (a["kernel_size"],) * 2
    w = rng.integers(-127, 128, (*kernel, o) if depthwise else (*kernel, cg, o)).astype(np.int8)
    x = rng.integers(0, 256, shape).astype(np.uint8)
    b = rng.integers(-30_000, 30_000, o).astype(np.int32)
    rescale = (rng.random(o) * 2e-3).astype(np.float32)
    zeros = int(rng.integers(256)), int(rng.integers(256))
    geometry = a["stride"], a["padding"], a["dilation"], a["groups"]
    return x, w, b, rescale, zeros, *geometry


def check_bits(x, w, *rest):
    """The kernel is its definition, bit for bit; and both are the sum of real numbers, rounded."""
    y = ops.int8_conv2d(x, w, *rest)
    before = x.copy(), w.copy()
    mine = kernels.int8_conv2d(x, w, *rest)
    assert mine.dtype == np.uint8 and mine.flags.writeable
    np.testing.assert_array_equal(mine, y)
    for a, old in zip((x, w), before, strict=True):
        np.testing.assert_array_equal(a, old)
    b, rescale, zeros, *geometry = rest
    # the padding means zero, so it is zero when z_x is taken off x and not off the sum
    real = x.astype(float) - zeros[0]
    correction = zeros[0] * w.astype(int).reshape(-1, w.shape[-1]).sum(0)
    if w.ndim == 3:
        sums = ops.depthwise_conv2d(real, w.astype(float), None, *geometry[:3])
    else:
        sums = ops.conv2d(real, w.astype(float), None, *geometry)
    exact = (sums + correction + b) * rescale.astype(float) + zeros[1]
    assert np.abs(y - exact.clip(0, 255)).max(initial=0) <= 0.5 + 1e-3


@given(convolutions(), seeds)
@example(
    ((2, 5, 4, 192), dict(out_channels=40, kernel_size=(1, 1), stride=1, padding=0, dilation=1,
                          groups=1)), 0,
)  # fmt: skip
def test_the_kernel_is_its_definition_to_the_bit(case, seed):
    shape, a = case
    check_bits(*quantised(shape, a, seed))


@given(convolutions(depthwise=True), seeds)
@example(
    ((2, 6, 7, 40), dict(out_channels=40, kernel_size=(3, 3), stride=2, padding=1, dilation=1,
                         groups=40)), 0,
)  # fmt: skip
@example(
    ((1, 6, 7, 33), dict(out_channels=33, kernel_size=(3, 3), stride=1, padding=1, dilation=1,
                         groups=33)), 0,
)  # fmt: skip
def test_depthwise_to_the_bit(case, seed):
    shape, a = case
    check_bits(*quantised(shape, a, seed))


@both
def test_a_layer_is_right_within_its_steps(f, rng):
    """Real numbers in, bytes through a convolution, real numbers out."""
    x = rng.standard_normal((2, 9, 8, 12)).astype(np.float32)
    w = rng.standard_normal((3, 3, 12, 20)).astype(np.float32)
    bias = rng.standard_normal(20).astype(np.float32)
    y = ops.conv2d(x, w, bias, 1, 1)
    (sx, zx), (sy, zy) = f.int8_range(x.min(), x.max()), f.int8_range(y.min(), y.max())
    q, sw = f.int8_weights(w)
    b = np.rint(bias / (sx * sw)).astype(np.int32) - zx * q.astype(np.int32).sum((0, 1, 2))
    made = f.int8_conv2d(
        f.int8_quantise(x, sx, zx), q, b.astype(np.int32), sx * sw / sy, (zx, zy), 1, 1
    )
    error = f.int8_dequantise(made, sy, zy) - y
    # three roundings: each of x by half a step, as large as its weights; of w likewise; of y
    steps = sy / 2 + 5 * np.sqrt((w**2).sum((0, 1, 2)) * sx**2 / 12 + 108 * sw**2 / 12)
    assert (np.abs(error) < steps).all()
    assert np.abs(error).mean() < 0.01 * np.abs(y).mean() + float(sy)


@both
def test_zero_is_exact_and_ends_are_kept(f):
    for low, high in ((-1.0, 3.0), (0.5, 2.0), (-3.0, -1.0), (0.0, 0.0)):
        scale, zero = f.int8_range(low, high)
        x = np.array([0, low, high], np.float32)
        q = f.int8_quantise(x, scale, zero)
        back = f.int8_dequantise(q, scale, zero)
        assert back[0] == 0 and q[0] == zero
        assert np.abs(back - x).max() <= scale / 2 * 1.001
    assert f.int8_range(0.5, 25.5)[1] == 0  # what is never negative begins at 0: a ReLU is free
    beyond = f.int8_quantise(np.float32([-9, 99]), np.float32(0.1), 0)
    np.testing.assert_array_equal(beyond, [0, 255])


@both
def test_weights_have_a_scale_a_channel(f, rng):
    w = (rng.standard_normal((3, 3, 4, 5)) * 10.0 ** np.arange(5)).astype(np.float32)
    w[..., 2] = 0
    q, scale = f.int8_weights(w)
    assert q.dtype == np.int8 and scale.shape == (5,)
    assert (np.abs(q * scale - w) <= scale / 2 * 1.001).all()
    np.testing.assert_array_equal(np.abs(q).max((0, 1, 2)), [127, 127, 0, 127, 127])


@given(st.integers(0, 5), st.integers(1, 40), st.integers(1, 40), seeds)
def test_linear_to_the_bit(n, c, o, seed):
    rng = np.random.default_rng(seed)
    x, w = rng.integers(0, 256, (n, c)).astype(np.uint8), rng.integers(-127, 128, (c, o))
    b, scale = rng.integers(-999, 999, o).astype(np.int32), rng.random(o).astype(np.float32)
    args = x, w.astype(np.int8), b, scale
    y = ops.int8_linear(*args)
    assert y.dtype == np.float32
    np.testing.assert_array_equal(kernels.int8_linear(*args), y)
    np.testing.assert_allclose(y, (x.astype(int) @ w + b) * scale.astype(float), rtol=1e-6)


@given(st.integers(1, 4), st.integers(1, 20), seeds)
def test_concat_and_shuffle_to_the_bit(groups, n, seed):
    x = np.random.default_rng(seed).integers(0, 256, (2, 3, 1, groups * n)).astype(np.uint8)
    parts = np.split(x, groups, axis=-1)
    y = kernels.int8_concat(parts, groups)
    np.testing.assert_array_equal(y, ops.int8_concat(parts, groups))
    np.testing.assert_array_equal(y, ops.channel_shuffle(x, groups))
    np.testing.assert_array_equal(kernels.int8_concat(parts), x)


@both
@pytest.mark.parametrize(
    ("change", "words"),
    [
        (dict(x=np.zeros((1, 4, 4, 6), np.float32)), "bytes are expected"),
        (dict(x=np.zeros((4, 4, 6), np.uint8)), r"\(4, 4, 6\)"),
        (dict(x=np.zeros((1, 4, 4, 5), np.uint8)), "5 channels does not fit"),
        (dict(w=np.zeros((1, 1, 6, 4), np.uint8)), "got w uint8"),
        (dict(b=np.zeros(3, np.int32)), r"b int32 \(3,\)"),
        (dict(rescale=np.ones(4)), "scales float64"),
        (dict(groups=4), "does not fit|divide"),
        (dict(w=np.zeros((200, 200, 6, 4), np.int8)), "overflow 32 bits"),
    ],
)
def test_what_does_not_fit_is_named(f, change, words):
    given_ = dict(
        x=np.zeros((1, 4, 4, 6), np.uint8), w=np.zeros((1, 1, 6, 4), np.int8),
        b=np.zeros(4, np.int32), rescale=np.ones(4, np.float32), zeros=(0, 0),
    )  # fmt: skip
    with pytest.raises(TinyshuffleError, match=words):
        f.int8_conv2d(**given_ | change)


def test_numbers_without_a_scale_are_refused():
    with pytest.raises(TinyshuffleError, match="have no scale"):
        ops.int8_range(0, np.inf)


def test_the_kernels_run_without_numba():
    """In plain Python, slowly, what is compiled gives the same bits."""
    code = """
import numpy as np
from tinyshuffle import kernels, ops
rng = np.random.default_rng(0)
x, b = rng.integers(0, 256, (1, 3, 3, 5)).astype(np.uint8), rng.integers(-99, 99, 5, np.int32)
rest = b, rng.random(5, np.float32) * np.float32(1e-2), (7, 3), 1, 1
for shape in (3, 3, 5), (3, 3, 5, 5):
    w = rng.integers(-127, 128, shape, np.int8)
    assert np.array_equal(kernels.int8_conv2d(x, w, *rest), ops.int8_conv2d(x, w, *rest))
w = w[1, 1]
assert np.array_equal(kernels.int8_linear(x[0, 0], w, b, rest[1]),
                      ops.int8_linear(x[0, 0], w, b, rest[1]))
x = x[..., :4].copy()
assert np.array_equal(kernels.int8_concat([x], 2), ops.int8_concat([x], 2))
"""
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", code], env=os.environ | {"NUMBA_DISABLE_JIT": "1"},
        capture_output=True, text=True,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
