"""The checker itself: it must pass what is right and fail everything that is wrong."""

from __future__ import annotations

import numpy as np
import pytest

import tinyshuffle as ts
from tinyshuffle import TinyshuffleError, nn, ops
from tinyshuffle.backend import F
from tinyshuffle.gradcheck import CASES, run_named


def zeroed(a):
    return np.zeros_like(a)


def flipped(a):
    return -a


def one_percent_off(a):
    return a * 1.01


def groups_transposed(a):
    """The channels as if (G, n) had been read as (n, G)."""
    return ops.channel_shuffle(a.reshape(1, 1, -1, a.shape[-1]), 3).reshape(a.shape)


def first_missing(a):
    a = a.copy()
    a.reshape(-1)[0] = 0
    return a


# case, the function that is broken, which of its results
PLACES = [
    ("conv2d", "conv2d_backward", 0),
    ("conv2d", "conv2d_backward", 1),
    ("conv2d", "conv2d_backward", 2),
    ("conv2d_grouped", "conv2d_backward", 0),
    ("conv2d_grouped", "conv2d_backward", 1),
    ("pointwise_grouped", "pointwise_conv2d_backward", 0),
    ("pointwise_grouped", "pointwise_conv2d_backward", 1),
    ("pointwise_grouped", "pointwise_conv2d_backward", 2),
    ("depthwise", "depthwise_conv2d_backward", 0),
    ("depthwise", "depthwise_conv2d_backward", 1),
    ("depthwise", "depthwise_conv2d_backward", 2),
    ("batch_norm", "batch_norm_backward", None),
    ("batch_norm_relu", "batch_norm_backward", None),
    ("relu", "relu_backward", None),
    ("relu6", "relu6_backward", None),
    ("sigmoid", "sigmoid_backward", None),
    ("channel_shuffle", "channel_shuffle_backward", None),
    ("max_pool2d", "max_pool2d_backward", None),
    ("avg_pool2d", "avg_pool2d_backward", None),
    ("max_pool2d_ceil", "max_pool2d_backward", None),
    ("max_pool2d_ceil", "pad_end_backward", None),
    ("adaptive_avg_pool2d", "adaptive_avg_pool2d_backward", None),
    ("global_avg_pool", "global_avg_pool_backward", None),
    ("flatten", "flatten_backward", None),
    ("local_response_norm", "local_response_norm_backward", None),
    ("linear", "linear_backward", 0),
    ("linear", "linear_backward", 1),
    ("linear", "linear_backward", 2),
    ("dropout", "dropout_backward", None),
    ("squeeze_excitation", "channel_scale_backward", 0),
    ("squeeze_excitation", "channel_scale_backward", 1),
    ("shuffle_unit_v1", "norm_add_relu_backward", 0),
    ("shuffle_unit_v1", "norm_add_relu_backward", 1),
    *[("shuffle_unit_v1", "norm_conv_backward", i) for i in range(3)],
    ("shuffle_unit_v1_stride2", "concat_backward", 0),
    ("shuffle_unit_v1_stride2", "concat_backward", 1),
    *[("shuffle_unit_v2", "concat_shuffle_backward", i) for i in (0, 2)],
    *[("shuffle_unit_v2_stride2", "concat_shuffle_backward", i) for i in range(3)],
    *[("shuffle_unit_v2", "norm_conv_backward", i) for i in range(3)],
    *[("shuffle_unit_v2_residual", "norm_add_relu_backward", i) for i in (0, 1)],
    *[("shuffle_unit_v2_stride2", "norm_conv_backward", i) for i in range(3)],
    ("shuffle_unit_v2_star", "norm_conv_backward", 0),
    ("bottleneck", "add_backward", 0),
    ("bottleneck", "add_backward", 1),
    ("bottleneck_grouped", "norm_conv_backward", 0),
    ("inverted_residual", "add_backward", 0),
    ("inverted_residual", "add_backward", 1),
    ("dense_layer", "concat_backward", 0),
    ("dense_layer", "concat_backward", 1),
    ("fire", "concat_backward", 0),
    ("fire", "concat_backward", 1),
    *[("inception", "concat_backward", i) for i in range(4)],
]


def breaks(monkeypatch, name, which, mutate):
    right = getattr(F, name)

    def wrong(*args, **kwargs):
        result = right(*args, **kwargs)
        if which is None:
            return mutate(result)
        result = list(result)
        if result[which] is not None:
            result[which] = mutate(result[which])
        return result

    monkeypatch.setitem(F.__dict__, name, wrong)


GROUPED = {
    "conv2d_grouped", "pointwise_grouped", "depthwise", "shuffle_unit_v1_stride2",
    "bottleneck_grouped",
}  # fmt: skip
BREAKS = [
    (*place, mutate)
    for place in PLACES
    for mutate in (zeroed, flipped, one_percent_off, groups_transposed)
    if mutate is not groups_transposed or place[0] in GROUPED
]


@pytest.mark.parametrize(("case", "name", "which", "mutate"), BREAKS)
def test_a_broken_backward_fails(monkeypatch, case, name, which, mutate):
    breaks(monkeypatch, name, which, mutate)
    ((_, report),) = run_named([case])
    assert not report.passed, f"{name} with {mutate.__name__} went unnoticed:\n{report}"
    assert any("analytic" in line and "numeric" in line for line in report.failures)


def test_a_gradient_that_is_not_put_in_its_place_fails(monkeypatch):
    monkeypatch.setattr(nn.Sequential, "joined", False)  # joined, the kernels write it there
    monkeypatch.setitem(F.__dict__, "overwrite", lambda there, dx: there)
    ((_, report),) = run_named(["shuffle_unit_v2_residual"])
    assert not report.passed


@pytest.mark.parametrize("case", ["batch_norm", "batch_norm_relu"])
@pytest.mark.parametrize("term", [0, 1])
def test_batch_norm_without_a_term_of_bn_7_fails(monkeypatch, case, term):
    """Forget the gradient's way through the mean, or through the variance."""
    right = F.batch_norm_backward

    def wrong(dy, x, gamma, beta, mean, var, sums, *rest):
        sums = sums.copy()
        sums[term] = 0
        return right(dy, x, gamma, beta, mean, var, sums, *rest)

    monkeypatch.setitem(F.__dict__, "batch_norm_backward", wrong)
    ((_, report),) = run_named([case])
    assert not report.passed


@pytest.mark.parametrize("name", ["batch_norm_backward", "batch_norm_backward_sums"])
def test_batch_norm_without_the_relus_mask_fails(monkeypatch, name):
    right = getattr(F, name)
    monkeypatch.setitem(F.__dict__, name, lambda *args: right(*args[:-1], False))
    ((_, report),) = run_named(["batch_norm_relu"])
    assert not report.passed


def test_one_wrong_entry_is_found_and_named(monkeypatch):
    breaks(monkeypatch, "linear_backward", 1, first_missing)
    ((_, report),) = run_named(["linear"])
    (sentence,) = report.failures
    assert sentence.startswith("weight (6, 4) is wrong at index (0, 0): analytic 0, numeric ")
    assert "eps 1e-05" in sentence


def test_a_cotangent_of_ones_would_miss_what_a_random_one_finds(rng):
    """Why the cotangent is random: with ones, a batch norm without any dx looks right."""
    x = rng.standard_normal((4, 3, 3, 2))
    norm = nn.BatchNorm2d(2).astype("float64")
    norm(x)
    assert np.abs(norm.backward(np.ones_like(x))).max() < 1e-12


@pytest.mark.parametrize("case", CASES)
def test_every_case_passes(each_backend, case):
    ((name, report),) = run_named([case])
    assert name == case
    assert report.passed, report
    assert report.max_relative_error <= 1e-6
    assert all(row.checked > 0 for row in report.rows)


@pytest.mark.parametrize("name", ["shufflenet_v1_x0_25_g3", "shufflenet_v2_x0_5"])
def test_whole_nets_pass(name):
    ((_, report),) = run_named([name])
    assert report.passed, "\n".join(report.failures)
    assert report.max_relative_error <= 1e-6


def test_float32_is_refused():
    layer = nn.Linear(3, 2)
    with pytest.raises(TinyshuffleError, match="needs float64, and x is float32"):
        ts.gradcheck(layer, np.zeros((1, 3), np.float32))
    with pytest.raises(TinyshuffleError, match="weight is float32"):
        ts.gradcheck(layer, np.zeros((1, 3)))


class Cubed:
    """A layer as somebody would write it in a notebook, without the library's base class."""

    def __call__(self, x):
        self.x = x
        return x**3

    def backward(self, dy):
        return 3 * self.x**2 * dy


class WronglyCubed(Cubed):
    def backward(self, dy):
        return 2 * self.x**2 * dy


class Scaled(nn.Module):
    def __init__(self):
        self.scale = nn.Parameter((3,), lambda rng: np.array([1.0, 2.0, 3.0]))

    def forward(self, x):
        self.save(x)
        return x * self.scale.data

    def backward(self, dy):
        (x,) = self.saved()
        self.scale.accumulate((dy * x).sum(axis=0))
        return dy * self.scale.data


def test_a_users_own_layer(rng):
    x = rng.standard_normal((4, 3))
    assert ts.gradcheck(Cubed(), x).passed
    assert not ts.gradcheck(WronglyCubed(), x).passed
    report = ts.gradcheck(Scaled().astype("float64"), x)
    assert report.passed
    assert [row.name for row in report.rows] == ["dx", "scale"]


def test_points_on_a_kink_are_told_from_errors():
    x = np.array([[0.0, 1.0, -1.0, 2.0, 3.0, -2.0, 4.0, 5.0, 6.0, 7.0]])
    report = ts.gradcheck(nn.ReLU(), x)
    assert report.passed
    assert report.rows[0].on_kink == 1
    zeros = ts.gradcheck(nn.ReLU(), np.zeros((2, 5)))
    assert not zeros.passed
    assert "sit on a kink" in zeros.failures[0]


def test_points_near_a_kink_are_checked_with_a_smaller_step():
    report = ts.gradcheck(nn.ReLU(), np.array([[3e-6, 1.0, -1.0]]))
    assert report.passed
    assert (report.rows[0].near_kink, report.rows[0].on_kink) == (1, 0)


def test_the_module_is_left_as_it_was(rng):
    net = nn.Sequential(nn.BatchNorm2d(3), nn.Dropout(0.5)).astype("float64")
    x = rng.standard_normal((2, 4, 4, 3))
    net.backward(net(x))
    state, randoms = net.state_dict(), net.random_states()
    grads = [p.grad.copy() for p in net.parameters()]
    kept = x.copy()
    assert ts.gradcheck(net, x).passed
    np.testing.assert_array_equal(x, kept)
    assert net.random_states() == randoms
    for name, value in net.state_dict().items():
        np.testing.assert_array_equal(value, state[name])
    for p, grad in zip(net.parameters(), grads, strict=True):
        np.testing.assert_array_equal(p.grad, grad)


def test_unknown_names_are_answered_with_near_ones():
    with pytest.raises(TinyshuffleError, match="did you mean batch_norm"):
        run_named(["batchnorm"])


def test_shapes_that_do_not_fit_are_named():
    class Wrong(Cubed):
        def backward(self, dy):
            return dy.ravel()

    with pytest.raises(TinyshuffleError, match="must return the gradient of the input"):
        ts.gradcheck(Wrong(), np.ones((2, 2)))
