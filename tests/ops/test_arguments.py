"""What operations are given: one rule for the types of numbers, one sentence for what cannot be."""

from __future__ import annotations

import numpy as np
import pytest

import tinyshuffle as ts
from tinyshuffle import TinyshuffleError
from tinyshuffle.backend import F

pytestmark = pytest.mark.usefixtures("each_backend")

X = np.zeros((2, 6, 6, 4), np.float32)
W = np.zeros((3, 3, 4, 4), np.float32)
ROWS = np.zeros((2, 4), np.float32)

COMPUTING = {
    "relu": lambda x: F.relu(x),
    "relu_backward": lambda x: F.relu_backward(x, X),
    "relu6": lambda x: F.relu6(x),
    "relu6_backward": lambda x: F.relu6_backward(x, X),
    "sigmoid": lambda x: F.sigmoid(x),
    "sigmoid_backward": lambda x: F.sigmoid_backward(x, X),
    "tanh": lambda x: F.tanh(x),
    "tanh_backward": lambda x: F.tanh_backward(x, X),
    "add": lambda x: F.add(x, x),
    "channel_scale": lambda x: F.channel_scale(x, ROWS),
    "conv2d": lambda x: F.conv2d(x, W),
    "conv2d weights": lambda x: F.conv2d(X, x[0, :3, :3, :, None]),
    "conv2d_backward": lambda x: F.conv2d_backward(x, X, W, padding=1),
    "pointwise": lambda x: F.pointwise_conv2d(x, W[:1, :1]),
    "pointwise_backward": lambda x: F.pointwise_conv2d_backward(x, X, W[:1, :1]),
    "depthwise": lambda x: F.depthwise_conv2d(x, W[..., 0]),
    "depthwise_backward": lambda x: F.depthwise_conv2d_backward(x, X, W[..., 0], padding=1),
    "linear": lambda x: F.linear(x[:, 0, 0], W[0, 0]),
    "linear_backward": lambda x: F.linear_backward(x[:, 0, 0], ROWS, W[0, 0]),
    "max_pool2d": lambda x: F.max_pool2d(x, 2, 2),
    "avg_pool2d": lambda x: F.avg_pool2d(x, 2, 2),
    "avg_pool2d_backward": lambda x: F.avg_pool2d_backward(x, X.shape, 1, 1),
    "global_avg_pool": lambda x: F.global_avg_pool(x),
    "adaptive_avg_pool2d": lambda x: F.adaptive_avg_pool2d(x, 4),
    "adaptive_backward": lambda x: F.adaptive_avg_pool2d_backward(x, X.shape),
    "dropout": lambda x: F.dropout(x, X),
    "dropout_mask": lambda x: F.dropout_mask(np.random.default_rng(0), (2, 3), 0.5, x.dtype),
    "local_response_norm": lambda x: F.local_response_norm(x, 3),
    "cross_entropy": lambda x: F.cross_entropy(x[:, 0, 0], np.array([0, 1])),
    "pad_end": lambda x: F.pad_end(x, 1, 1, -np.inf),
    "sgd_step": lambda x: F.sgd_step(x.copy(), X, None, 0.1),
    "sgd_step gradient": lambda x: F.sgd_step(X.copy(), x, None, 0.1),
}
TYPES = ["uint8", "int64", "bool", "float16", "complex64"]


@pytest.mark.parametrize("dtype", TYPES)
@pytest.mark.parametrize("name", COMPUTING)
def test_only_float32_and_float64_are_computed_with(name, dtype):
    with pytest.raises(TinyshuffleError, match="float32 or float64"):
        COMPUTING[name](X.astype(dtype))


@pytest.mark.parametrize("dtype", TYPES)
def test_what_only_moves_numbers_moves_all_of_them(dtype):
    x = (np.arange(24) * 7).reshape(1, 2, 2, 6).astype(dtype)
    y = F.channel_shuffle(x, 2)
    assert y.dtype == x.dtype and y[0, 0, 0].tolist() == x[0, 0, 0, [0, 3, 1, 4, 2, 5]].tolist()
    np.testing.assert_array_equal(F.channel_shuffle_backward(y, 2), x)
    a, b = F.channel_split(x, 2)
    np.testing.assert_array_equal(F.concat([a, b]), x)
    np.testing.assert_array_equal(F.flatten_backward(F.flatten(x), x.shape), x)


@pytest.mark.parametrize(
    "arguments",
    [
        {"stride": 0},
        {"stride": (1, 0)},
        {"stride": 1.0},
        {"stride": True},
        {"stride": (1, 1, 1)},
        {"stride": "1"},
        {"padding": -1},
        {"padding": (0, -2)},
        {"padding": np.float64(1)},
        {"stride": 2**70},
        {"dilation": 0},
        {"dilation": None},
    ],
    ids=str,
)
def test_windows_that_cannot_be(arguments):
    (name,) = arguments
    for call in (
        lambda: F.conv2d(X, W, **arguments),
        lambda: F.depthwise_conv2d(X, W[..., 0], **arguments),
        lambda: F.conv2d_backward(X, X, W, **{"padding": 1} | arguments),
        lambda: F.depthwise_conv2d_backward(X, X, W[..., 0], **{"padding": 1} | arguments),
    ):
        with pytest.raises(TinyshuffleError, match=f"{name}=.*is not possible; use"):
            call()
    if name == "dilation":
        return
    for pool in F.max_pool2d, F.avg_pool2d:
        with pytest.raises(TinyshuffleError, match=f"{name}=.*is not possible; use"):
            pool(X, 3, **{"stride": 1} | arguments)


@pytest.mark.parametrize("kernel", [0, -1, 2.0, "2", (2, 2, 2), (2,), None, False, (2, 0)], ids=str)
def test_kernels_that_cannot_be(kernel):
    for pool in F.max_pool2d, F.avg_pool2d:
        with pytest.raises(TinyshuffleError, match="kernel_size=.*is not possible"):
            pool(X, kernel, 1)
    with pytest.raises(TinyshuffleError, match="output_size=.*is not possible"):
        F.adaptive_avg_pool2d(X, kernel)


@pytest.mark.parametrize("integer", [np.int64, np.uint8, np.int8])
def test_integers_of_numpy_are_integers(integer, rng):
    x, w = rng.standard_normal((2, 7, 6, 4)), rng.standard_normal((3, 3, 2, 4))
    two, one = integer(2), integer(1)
    np.testing.assert_array_equal(
        F.conv2d(x, w, None, two, (one, two), one, two), F.conv2d(x, w, None, 2, (1, 2), 1, 2)
    )
    filters = w[:, :, 0]
    np.testing.assert_array_equal(
        F.depthwise_conv2d(x, filters, None, one, one), F.depthwise_conv2d(x, filters, None, 1, 1)
    )
    for pool in F.max_pool2d, F.avg_pool2d:
        y, z = pool(x, integer(3), two, one), pool(x, 3, 2, 1)
        for mine, right in zip(np.atleast_1d(y), np.atleast_1d(z), strict=True):
            np.testing.assert_array_equal(mine, right)
    np.testing.assert_array_equal(F.adaptive_avg_pool2d(x, two), F.adaptive_avg_pool2d(x, 2))
    np.testing.assert_array_equal(F.channel_shuffle(x, two), F.channel_shuffle(x, 2))


def test_groups_that_cannot_be():
    for groups in 0, -2, 2.0, True, "2":
        with pytest.raises(TinyshuffleError, match="groups=.*is not possible; use 1 or more"):
            F.channel_shuffle(X, groups)
        with pytest.raises(TinyshuffleError, match="groups=.*is not possible; use 1 or more"):
            F.conv2d(X, W, groups=groups)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_a_gradient_has_the_outputs_shape_and_gets_its_type(dtype):
    x, other = X.astype(dtype), np.float64 if dtype == np.float32 else np.float32
    rows, w = ROWS.astype(dtype), W[0, 0].astype(dtype)
    for call, shape in (
        (lambda dy: F.relu_backward(dy, x), x.shape),
        (lambda dy: F.sigmoid_backward(dy, x), x.shape),
        (lambda dy: F.tanh_backward(dy, x), x.shape),
        (lambda dy: F.conv2d_backward(dy, x, W.astype(dtype), padding=1)[0], x.shape),
        (lambda dy: F.pointwise_conv2d_backward(dy, x, w[None, None])[0], x.shape),
        (lambda dy: F.depthwise_conv2d_backward(dy, x, W[..., 0].astype(dtype))[0], (2, 4, 4, 4)),
        (lambda dy: F.linear_backward(dy, rows, w)[0], rows.shape),
        (lambda dy: F.local_response_norm_backward(dy, x, 3), x.shape),
        (lambda dy: F.dropout_backward(dy, x), x.shape),
    ):
        assert call(np.zeros(shape, other)).dtype == dtype
        with pytest.raises(TinyshuffleError, match="shape"):
            call(np.zeros((*shape[:-1], 1), dtype))


def test_images_without_their_batch_axis():
    for call in (
        lambda x: F.conv2d(x, W),
        lambda x: F.max_pool2d(x, 2, 2),
        lambda x: F.global_avg_pool(x),
        lambda x: F.adaptive_avg_pool2d(x, 2),
    ):
        with pytest.raises(TinyshuffleError, match="add the batch axis"):
            call(X[0])
    with pytest.raises(TinyshuffleError, match="images of 0x3 pixels"):
        F.global_avg_pool(np.zeros((2, 0, 3, 4)))
    with pytest.raises(TinyshuffleError, match="a list where a NumPy array is expected"):
        F.relu([1.0, 2.0])


def test_a_window_of_channels_wider_than_any_image_ends_at_once(rng):
    x = rng.standard_normal((1, 2, 2, 3))
    y = F.local_response_norm(x, 10**9, alpha=10.0**9)
    np.testing.assert_allclose(y, x * (1 + (x * x).sum(-1, keepdims=True)) ** -0.75)
    y = F.local_response_norm(x.astype(np.float32), 3, np.float64(1), np.float64(2))
    assert y.dtype == np.float32
    assert ts.nn.LocalResponseNorm(np.int64(3), np.float32(1)).alpha == 1


@pytest.mark.parametrize("x", [None, 3.0, "x", [[1.0]]], ids=repr)
@pytest.mark.parametrize(
    "layer",
    [
        ts.nn.ReLU, ts.nn.Sigmoid, ts.nn.Flatten, ts.nn.GlobalAvgPool,
        lambda: ts.nn.MaxPool2d(2), lambda: ts.nn.MaxPool2d(2, ceil_mode=True),
        lambda: ts.nn.AvgPool2d(2), lambda: ts.nn.AdaptiveAvgPool2d(1),
        lambda: ts.nn.ChannelShuffle(2), lambda: ts.nn.LocalResponseNorm(3),
        lambda: ts.nn.Dropout(0.5),
    ],
)  # fmt: skip
def test_what_is_no_array(layer, x):
    with pytest.raises(TinyshuffleError, match="array is expected"):
        layer()(x)


def test_no_channels_cannot_be_shuffled():
    with pytest.raises(TinyshuffleError, match="does not divide channels=0"):
        F.channel_shuffle(X[..., :0], 2)


def test_an_infinite_gradient_is_not_multiplied_by_zero():
    """Where the way is closed the gradient is 0, as in PyTorch, also that of ∞."""
    x = np.array([-1.0, 2, 0, 8], np.float32).reshape(1, 1, 4, 1)
    dy = np.full_like(x, np.inf)
    assert np.array_equal(F.relu_backward(dy, x).ravel(), [0, np.inf, 0, np.inf])
    assert np.array_equal(F.relu6_backward(dy, x).ravel(), [0, np.inf, 0, 0])
    _, winner = F.max_pool2d(x, (1, 2), (1, 2))
    dx = F.max_pool2d_backward(dy[:, :, :2], winner, x.shape, (1, 2), (1, 2))
    assert np.array_equal(dx.ravel(), [0, np.inf, 0, np.inf])


def test_nan_lets_the_gradient_through_a_relu():
    """As in PyTorch: what is broken must not look as if it had only nothing to learn."""
    x = np.array([np.nan, -1.0, 1.0, 2.0], np.float32).reshape(1, 1, 4, 1)
    dy = np.float32([3, 4, 5, 6]).reshape(x.shape)
    assert np.array_equal(F.relu_backward(dy, x).ravel(), [3, 0, 5, 6])
    layer = ts.nn.Sequential(ts.nn.BatchNorm2d(1), ts.nn.ReLU())
    layer(x)
    layer.backward(dy)
    assert layer[0].bias.grad == 18 and np.isnan(layer[0].weight.grad)


def test_what_only_moves_numbers_drops_no_mask(each_backend):
    x = np.ma.array(np.ones((2, 2, 2, 4), np.float32), mask=True)
    plain = x.data
    for call in (
        lambda: F.channel_split(x, 2),
        lambda: F.channel_split_backward(x, plain),
        lambda: F.concat([plain, x]),
        lambda: F.concat_backward(x, [2, 2]),
        lambda: F.channel_shuffle(x, 2),
        lambda: F.channel_shuffle_backward(x, 2),
        lambda: F.flatten(x),
        lambda: F.flatten_backward(x.reshape(2, 16), (2, 2, 2, 4)),
        lambda: F.add(plain, x),
    ):
        with pytest.raises(TinyshuffleError, match="masked array"):
            call()
