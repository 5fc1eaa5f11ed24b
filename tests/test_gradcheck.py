"""The checker itself: it must pass what is right and fail everything that is wrong."""

from __future__ import annotations

import collections
import functools
import types

import numpy as np
import pytest

import tinyshuffle as ts
from tinyshuffle import TinyshuffleError, nn, ops
from tinyshuffle.backend import F
from tinyshuffle.gradcheck.cases import CASES, run_named


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
    ("batch_norm_relu", "relu_backward", None),
    ("relu", "relu_backward", None),
    ("relu6", "relu6_backward", None),
    ("sigmoid", "sigmoid_backward", None),
    ("tanh", "tanh_backward", None),
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
    *[("shuffle_unit_v1", "pointwise_conv2d_backward", i) for i in (0, 1)],
    *[("shuffle_unit_v1", "depthwise_conv2d_backward", i) for i in (0, 1)],
    *[("shuffle_unit_v1", "batch_norm_gradients", i) for i in (0, 1)],
    ("shuffle_unit_v1", "batch_norm_backward_sums", None),
    ("shuffle_unit_v1", "batch_norm_backward", None),
    ("shuffle_unit_v1", "channel_shuffle_backward", None),
    *[("shuffle_unit_v1", "add_backward", i) for i in (0, 1)],
    ("shuffle_unit_v1_stride2", "concat_backward", 0),
    ("shuffle_unit_v1_stride2", "concat_backward", 1),
    *[("shuffle_unit_v2", "concat_backward", i) for i in (0, 1)],
    ("shuffle_unit_v2", "channel_shuffle_backward", None),
    ("shuffle_unit_v2", "channel_split_backward", None),
    *[("shuffle_unit_v2_stride2", "concat_backward", i) for i in (0, 1)],
    *[("shuffle_unit_v2", "pointwise_conv2d_backward", i) for i in (0, 1)],
    *[("shuffle_unit_v2_residual", "add_backward", i) for i in (0, 1)],
    *[("shuffle_unit_v2_stride2", "depthwise_conv2d_backward", i) for i in (0, 1)],
    ("shuffle_unit_v2_star", "pointwise_conv2d_backward", 0),
    ("bottleneck", "add_backward", 0),
    ("bottleneck", "add_backward", 1),
    ("bottleneck_grouped", "conv2d_backward", 0),
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


@pytest.mark.parametrize(
    "name",
    [
        "shufflenet_v1_x0_25_g3",
        "shufflenet_v2_x0_5",
        "mobilenet_v1_x0_25",  # with β = 0, channels of zeros sit on their ReLU's kink
        "vgg11",  # five poolings: 16x16 pixels are too few
        *[pytest.param(f"vgg{d}", marks=pytest.mark.slow) for d in ("11_bn", "13", "16_bn")],
    ],
)
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


# ---- what cannot be repeated is refused


class Noisy(nn.Module):
    """Its output moves by itself, and its gradient has nothing to do with it."""

    def __init__(self):
        self.generator = np.random.default_rng(0)

    def forward(self, x):
        return x + self.generator.standard_normal(x.shape)

    def backward(self, dy):
        return -37 * dy


class NoisyLinear(nn.Linear):
    """A little noise, and dW of the other sign."""

    size = 1e-6

    def forward(self, x):
        return super().forward(x) + self.size * np.random.standard_normal(self.weight.shape[1])

    def backward(self, dy):
        before = self.weight.grad
        dx = super().backward(dy)
        if before is None:
            self.weight.grad = -self.weight.grad
        return dx


class OwnMask(Noisy):
    """A dropout with a generator that nobody knows of, and the wrong half of its mask."""

    def forward(self, x):
        mask = self.generator.random(x.shape) < 0.5
        self.save(mask)
        return x * mask

    def backward(self, dy):
        (mask,) = self.saved()
        return dy * ~mask


class CountsItsCalls(nn.Module):
    """Forward multiplies by a number that changes after so many calls; dx forgets it."""

    calls, every = 0, 1

    def forward(self, x):
        self.calls += 1
        return x * (1 + self.calls // self.every)

    def backward(self, dy):
        return np.zeros_like(dy)


class CountsLate(CountsItsCalls):
    every = 30


class RandomBackward(Noisy):
    def forward(self, x):
        return x.copy()

    def backward(self, dy):
        return dy + 1e-9 * self.generator.standard_normal(dy.shape)


class RandomBias(nn.Linear):
    """dx and dW repeat themselves, db does not."""

    def backward(self, dy):
        dx = super().backward(dy)
        self.bias.grad = self.bias.grad + 1e-12 * np.random.standard_normal(self.bias.shape)
        return dx


@pytest.mark.parametrize(
    ("layer", "what"),
    [
        (Noisy(), "output"),
        (NoisyLinear(3, 4), "output"),
        (OwnMask(), "output"),
        (CountsItsCalls(), "output"),
        (CountsLate(), "output"),
        (RandomBackward(), "dx"),
        (RandomBias(3, 4), "gradient of bias"),
        (nn.Sequential(nn.Linear(3, 5), Noisy()), "output"),
    ],
)
def test_what_does_not_repeat_itself_is_refused(rng, layer, what):
    layer.astype("float64")
    with pytest.raises(TinyshuffleError, match=f"two runs on the same x differ in the {what}, by"):
        ts.gradcheck(layer, rng.standard_normal((2, 3)))


@pytest.mark.parametrize("size", [1e-3, 1e-6, 1e-9, 1e-12, 1e-15])
def test_noise_of_any_size_is_refused(rng, size):
    layer = NoisyLinear(3, 4).astype("float64")
    layer.size = size
    with pytest.raises(TinyshuffleError, match=r"self\.rng.*buffers.*eval\(\)"):
        ts.gradcheck(layer, rng.standard_normal((2, 3)))


class KnownMask(OwnMask):
    """The same from a generator that gradcheck rewinds: checkable."""

    def __init__(self):
        self.rng = np.random.default_rng(0)

    @property
    def generator(self):
        return self.rng


class RightMask(KnownMask):
    def backward(self, dy):
        (mask,) = self.saved()
        return dy * mask


def test_layers_that_draw_from_self_rng_are_checked(rng):
    x = rng.standard_normal((4, 6))
    assert ts.gradcheck(RightMask(), x).passed
    assert ts.gradcheck(nn.Dropout(0.5), x).passed
    report = ts.gradcheck(KnownMask(), x)
    assert not report.passed
    assert report.verdict == "wrong"


class HashedNoise(NoisyLinear):
    """Noise that repeats itself: it is the same for the same x, and another for the next x."""

    def forward(self, x):
        noise = np.random.default_rng(np.frombuffer(x.tobytes(), np.uint32))
        return nn.Linear.forward(self, x) + 1e-6 * noise.standard_normal(self.weight.shape[1])


class Offset(nn.Module):
    """1e12 + x: the digits in which x moves the output are rounded away."""

    def forward(self, x):
        return 1e12 + x

    def backward(self, dy):
        return -dy


def test_what_drowns_in_rounding_does_not_pass(rng):
    x = rng.standard_normal((2, 3))
    assert not ts.gradcheck(HashedNoise(3, 4).astype("float64"), x).passed
    assert not ts.gradcheck(Offset(), x).passed


# ---- right, wrong, not judged


class Mutated(nn.Module):
    """A layer whose dx is changed by a function."""

    def __init__(self, layer, change):
        self.layer = layer
        self.change = change

    def forward(self, x):
        return self.layer(x)

    def backward(self, dy):
        return self.change(self.layer.backward(dy))


def test_there_are_three_verdicts(rng):
    x = rng.standard_normal((3, 5))
    for layer, at, verdict in [
        (nn.ReLU(), x, "right"),
        (nn.ReLU(), np.zeros((3, 5)), "not judged"),
        (Mutated(nn.ReLU(), flipped), x, "wrong"),
    ]:
        report = ts.gradcheck(layer, at)
        assert report.verdict == verdict
        assert [row.verdict for row in report.rows] == [verdict]
        assert report.passed == (verdict == "right")
    assert "not judged: " in str(ts.gradcheck(nn.ReLU(), np.zeros((3, 5))))


def test_a_few_entries_on_a_kink_pass_and_are_printed():
    x = np.arange(-10.0, 10.0)[None]
    report = ts.gradcheck(nn.ReLU(), x)
    assert report.passed
    assert "1 of 20 not judged" in str(report)
    x[0, :3] = 0
    assert ts.gradcheck(nn.ReLU(), x).verdict == "not judged"


@pytest.mark.parametrize("change", [flipped, lambda dx: 2 * dx, lambda dx: dx + 0.5])
@pytest.mark.parametrize("share", [0.1, 0.5, 1.0])
def test_a_kink_is_no_excuse(rng, change, share):
    """However many entries sit on the kink: what no slope next to them explains is wrong."""
    x = rng.standard_normal((4, 10))
    x[:, : int(10 * share)] = 0

    class Kinked(nn.Module):
        def forward(self, x):
            self.save(x)
            return np.maximum(x, 0)

        def backward(self, dy):
            (x,) = self.saved()
            return change(dy * (x >= 0))

    assert ts.gradcheck(Kinked(), x).verdict == "wrong"


def test_ties_of_max_pooling_are_not_judged_and_wrong_signs_are_wrong(rng):
    x = np.ones((1, 4, 4, 2))
    pool = nn.MaxPool2d(2, stride=2)
    assert ts.gradcheck(pool, x).verdict == "not judged"
    assert ts.gradcheck(Mutated(pool, flipped), x).verdict == "wrong"
    x = rng.standard_normal((2, 6, 6, 3))
    assert ts.gradcheck(pool, x).verdict == "right"
    assert ts.gradcheck(Mutated(pool, flipped), x).verdict == "wrong"


@pytest.mark.parametrize(
    ("name", "which", "mutate"),
    [
        ("linear_backward", 1, flipped),
        ("pointwise_conv2d_backward", 1, flipped),
        ("pointwise_conv2d_backward", 0, one_percent_off),
    ],
)
def test_wrong_gradients_of_a_net_with_many_kinks_are_wrong(monkeypatch, name, which, mutate):
    breaks(monkeypatch, name, which, mutate)
    net = nn.Sequential(
        nn.Conv2d(3, 8, 3, padding=1, bias=False), nn.BatchNorm2d(8), nn.ReLU(), nn.MaxPool2d(2),
        nn.Conv2d(8, 16, 1, bias=False), nn.BatchNorm2d(16), nn.ReLU(),
        nn.Conv2d(16, 16, 1, bias=False), nn.BatchNorm2d(16), nn.ReLU(),
        nn.GlobalAvgPool(), nn.Linear(16, 4),
    )  # fmt: skip
    net.initialise(0).astype("float64")
    x = np.random.default_rng(1).standard_normal((2, 16, 16, 3))
    assert ts.gradcheck(net, x).verdict == "wrong"


def test_an_entry_that_is_missing_in_a_large_tensor_is_wrong(monkeypatch, rng):
    breaks(monkeypatch, "linear_backward", 1, first_missing)
    layer = nn.Linear(200, 100).initialise(0).astype("float64")
    report = ts.gradcheck(layer, rng.standard_normal((2, 200)))
    assert {row.name: row.verdict for row in report.rows} == {
        "dx": "right", "weight": "wrong", "bias": "right",
    }  # fmt: skip


@pytest.mark.parametrize("elementwise", [True, False])
@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_a_gradient_that_is_not_finite_is_wrong(rng, elementwise, bad):
    def spoil(dx):
        dx = dx.copy()
        dx[1, 2] = bad
        return dx

    report = ts.gradcheck(
        Mutated(nn.Sigmoid(), spoil), rng.standard_normal((3, 4)), elementwise=elementwise
    )
    assert report.verdict == "wrong"
    assert report.max_relative_error == np.inf
    assert "dx (3, 4) is wrong at index (1, 2)" in report.failures[0]


# ---- gradients that are small beside the others


class Small(nn.Module):
    """y = x (a + s b), and a gradient of b that is right, turned round, or of another size."""

    def __init__(self, s, factor):
        self.a, self.b = (nn.Parameter(np.array([1.0, 2.0, 3.0])) for _ in range(2))
        self.s, self.factor = s, factor

    def forward(self, x):
        self.save(x)
        return x * (self.a.data + self.s * self.b.data)

    def backward(self, dy):
        (x,) = self.saved()
        g = (dy * x).sum(axis=0)
        self.a.accumulate(g)
        self.b.accumulate(self.factor * self.s * g)
        return dy * (self.a.data + self.s * self.b.data)


@pytest.mark.parametrize("elementwise", [True, False])
@pytest.mark.parametrize("s", [1, 1e-6, *10.0 ** -np.arange(8, 17), 1e-30, 1e-200])
def test_a_small_gradient_of_the_other_sign_does_not_pass(rng, s, elementwise):
    x = rng.standard_normal((4, 3))
    for factor in (-1, 2):
        report = ts.gradcheck(Small(s, factor).astype("float64"), x, elementwise=elementwise)
        assert not report.passed
        assert report.verdict == ("wrong" if s >= 1e-6 else report.rows[2].verdict)
        if s < 1e-9:
            assert "so small beside the other gradients" in report.failures[0]
    right = ts.gradcheck(Small(s, 1).astype("float64"), x, elementwise=elementwise)
    assert right.verdict == "right" if s > 2e-11 else right.verdict != "wrong"


@pytest.mark.parametrize("s", [1e-6, 1e-9, 1e-12, 1e-15])
def test_a_small_entry_of_the_other_sign_is_not_judged(rng, s):
    class Within(Scaled):
        small, sign = np.array([1, 1, s]), 1

        def forward(self, x):
            return super().forward(x * self.small)

        def backward(self, dy):
            dx = super().backward(dy) * self.small
            if self.sign < 0:
                self.scale.grad *= [1, 1, -1]
            return dx

    layer = Within().astype("float64")
    x = rng.standard_normal((4, 3))
    assert all(row.verdict == "right" or s < 2e-11 for row in ts.gradcheck(layer, x).rows)
    layer.sign = -1
    report = ts.gradcheck(layer, x)
    assert report.rows[1].verdict == "not judged"
    assert report.rows[1].too_small == 1


@pytest.mark.parametrize("elementwise", [True, False])
@pytest.mark.parametrize("seed", range(4))
def test_a_bias_before_a_batch_norm_is_right(seed, elementwise):
    """Its gradient is zero, and what is computed of it is rounding."""
    net = nn.Sequential(
        nn.Conv2d(3, 6, 3, padding=1), nn.BatchNorm2d(6), nn.ReLU(),
        nn.Conv2d(6, 4, 3), nn.BatchNorm2d(4),
    ).initialise(seed).astype("float64")  # fmt: skip
    x = np.random.default_rng(seed).standard_normal((2, 6, 6, 3))
    report = ts.gradcheck(net, x, elementwise=elementwise)
    biases = {row.name: row.verdict for row in report.rows if row.name.endswith("bias")}
    assert biases == dict.fromkeys(["0.bias", "1.bias", "3.bias", "4.bias"], "right")


# ---- gradients that are not added to what is there


class Sets(nn.Linear):
    """Sets one of its gradients, and adds the other to what is there."""

    def __init__(self, which):
        super().__init__(3, 4)
        self.which = which

    def backward(self, dy):
        (x,) = self.saved()
        for name, grad in (("weight", x.T @ dy), ("bias", dy.sum(axis=0))):
            p = getattr(self, name)
            if name == self.which:
                p.grad = grad
            else:
                p.accumulate(grad)
        return dy @ self.weight.data.T


@pytest.mark.parametrize("elementwise", [True, False])
@pytest.mark.parametrize("which", ["weight", "bias", None])
def test_gradients_have_to_be_added_to_what_is_there(rng, which, elementwise):
    layer = Sets(which).astype("float64")
    report = ts.gradcheck(layer, rng.standard_normal((2, 3)), elementwise=elementwise)
    assert report.verdict == ("right" if which is None else "wrong")
    assert {row.name: row.verdict for row in report.rows} == {
        name: "wrong" if name == which else "right" for name in ("dx", "weight", "bias")
    }
    if which is not None:
        (sentence,) = report.failures
        assert sentence.startswith(which) and "two backward passes" in sentence


def test_a_shared_weight_may_add_in_any_order(rng):
    class Twice(nn.Module):
        def __init__(self):
            self.first, self.second = nn.Linear(3, 3, bias=False), nn.Linear(3, 3, bias=False)
            self.second.weight = self.first.weight

        def forward(self, x):
            return self.second(self.first(x))

        def backward(self, dy):
            return self.first.backward(self.second.backward(dy))

    layer = Twice().initialise(0).astype("float64")
    assert ts.gradcheck(layer, rng.standard_normal((2, 3))).passed


# ---- losses


@pytest.mark.parametrize("smoothing", [0.0, 0.1, 1.0])
@pytest.mark.parametrize(
    ("loss", "width"), [(nn.CrossEntropyLoss, 5), (ts.models.AuxiliaryLoss, 15)]
)
def test_losses_are_checked(each_backend, rng, loss, width, smoothing):
    logits, labels = rng.standard_normal((4, width)), np.array([0, 4, 2, 2])
    report = ts.gradcheck(loss(smoothing), logits, labels)
    assert report.passed
    assert [row.name for row in report.rows] == ["dx"]
    assert report.rows[0].checked == logits.size


def test_wrong_gradients_of_losses_are_wrong(monkeypatch, rng):
    logits, labels = rng.standard_normal((4, 5)), np.array([0, 4, 2, 2])
    for mutate in (flipped, one_percent_off, first_missing, lambda g: g * 4):
        with monkeypatch.context() as patch:
            breaks(patch, "cross_entropy_backward", None, mutate)
            assert ts.gradcheck(nn.CrossEntropyLoss(), logits, labels).verdict == "wrong"


class MeanSquare:
    """A loss as somebody would write it in a notebook."""

    def __call__(self, y, target):
        self.difference = y - target
        return (self.difference**2).mean()

    def backward(self):
        return 2 * self.difference / self.difference.size


def test_a_users_own_loss(rng):
    y, target = rng.standard_normal((2, 3, 4))
    assert ts.gradcheck(MeanSquare(), y, target).passed
    with pytest.raises(TinyshuffleError, match="cannot be called with 1 input.*'target'"):
        ts.gradcheck(MeanSquare(), y)


# ---- what nets could not work with is refused


class InPlace(nn.Module):
    def forward(self, x):
        x *= 2
        return x

    def backward(self, dy):
        return 2 * dy


class InPlaceBackward(InPlace):
    def forward(self, x):
        return 2 * x

    def backward(self, dy):
        dy *= 2
        return dy


class InPlaceOfX(Cubed):
    def backward(self, dy):
        self.x **= 2
        return 3 * self.x * dy


@pytest.mark.parametrize(
    ("layer", "which"),
    [(InPlace(), "forward"), (InPlaceBackward(), "backward"), (InPlaceOfX(), "backward")],
)
def test_layers_that_write_into_what_they_are_given_are_refused(rng, layer, which):
    x = rng.standard_normal((2, 3))
    kept = x.copy()
    with pytest.raises(TinyshuffleError, match=rf"\.{which} writes into the array"):
        ts.gradcheck(layer, x)
    np.testing.assert_array_equal(x, kept)


@pytest.mark.parametrize(
    ("x", "sentence"),
    [
        (np.zeros((0, 3)), "x is empty"),
        (np.zeros((2, 3), int), "x is int64.*astype"),
        (np.zeros((2, 3), np.uint8), "x is uint8"),
        ([[1.0, 2.0, 3.0]], "x is a list"),
        (np.ma.array(np.ones((2, 3)), mask=np.eye(2, 3)), "masked array"),
        (np.full((2, 3), np.nan), "NaN or infinite"),
        (np.full((2, 3), np.inf), "NaN or infinite"),
    ],
)
def test_an_x_that_says_nothing_is_refused(x, sentence):
    for layer in (nn.ReLU(), Cubed()):
        with pytest.raises(TinyshuffleError, match=sentence):
            ts.gradcheck(layer, x)


class Returns(nn.Module):
    """Returns what it is told to."""

    def __init__(self, y=None, dx=None, grad=None):
        self.y, self.dx, self.grad = y, dx, grad
        self.scale = nn.Parameter((3,), lambda rng: np.ones(3))

    def forward(self, x):
        return x * self.scale.data if self.y is None else self.y(x)

    def backward(self, dy):
        self.scale.grad = dy.sum(axis=0) if self.grad is None else self.grad
        return dy if self.dx is None else self.dx(dy)


@pytest.mark.parametrize(
    ("wrong", "sentence"),
    [
        ({"dx": lambda dy: np.float32(dy)}, "returned float32 of shape"),
        ({"dx": lambda dy: (dy, dy)}, "returned a tuple for an input"),
        ({"dx": lambda dy: [1.0]}, "returned a list for an input"),
        ({"dx": lambda dy: dy[:1]}, r"returned float64 of shape \(1, 3\) for an input of \(2, 3\)"),
        ({"y": lambda x: (x, x)}, "returned a tuple; gradcheck needs one float64 array"),
        ({"y": lambda x: {}}, "returned a dict; gradcheck needs one float64 array"),
        ({"y": lambda x: np.float32(x)}, "returned float32 .*; gradcheck needs one float64 array"),
        ({"y": lambda x: x[:0]}, "needs one float64 array that is not empty"),
        ({"grad": np.ones(4)}, r"shape \(4,\)"),
    ],
)
def test_what_passes_return_has_to_fit(rng, wrong, sentence):
    with pytest.raises(TinyshuffleError, match=sentence):
        ts.gradcheck(Returns(**wrong).astype("float64"), rng.standard_normal((2, 3)))


def test_a_backward_that_returns_nothing_is_refused(rng):
    class Forgets(Cubed):
        def backward(self, dy):
            pass

    with pytest.raises(TinyshuffleError, match="returned None for an input of"):
        ts.gradcheck(Forgets(), rng.standard_normal((2, 3)))


class Forgetful(Scaled):
    def backward(self, dy):
        self.saved()
        return dy * self.scale.data


class Unused(Cubed, nn.Module):
    def __init__(self):
        self.idle = nn.Parameter((3,), lambda rng: np.ones(3))


def test_a_parameter_without_a_gradient_has_to_be_one_that_does_nothing(rng):
    x = rng.standard_normal((4, 3))
    report = ts.gradcheck(Forgetful().astype("float64"), x)
    assert {row.name: row.verdict for row in report.rows} == {"dx": "right", "scale": "wrong"}
    assert ts.gradcheck(Unused().astype("float64"), x).passed


@pytest.mark.parametrize("what", [nn.ReLU, np.tanh, None, "relu"])
def test_what_is_no_layer_is_refused(what):
    with pytest.raises(TinyshuffleError, match="needs a layer, an object with forward and back"):
        ts.gradcheck(what, np.ones((2, 3)))


@pytest.mark.parametrize("tolerance", [0, -1, 2, np.nan, np.inf, "1e-3", None, True, [1e-6]])
def test_a_tolerance_that_lets_everything_pass_is_refused(tolerance):
    with pytest.raises(TinyshuffleError, match="tolerance="):
        ts.gradcheck(nn.ReLU(), np.ones((2, 3)), tolerance=tolerance)


@pytest.mark.parametrize("seed", [-1, "x", None, 1.5, True, [1]])
def test_a_seed_that_is_none_is_refused(seed):
    for use in (
        lambda: ts.gradcheck(nn.ReLU(), np.ones((2, 3)), seed=seed),
        lambda: nn.Linear(2, 3).initialise(seed),
        lambda: ts.models.create("shufflenet_v2_x0_5", seed=seed),
    ):
        with pytest.raises(TinyshuffleError, match="^seed=.* is not possible: give a whole number"):
            use()


@pytest.mark.parametrize("seed", [0, np.int64(3), 2**80, np.random.default_rng(1)])
def test_seeds(rng, seed):
    x = rng.standard_normal((2, 3))
    assert ts.gradcheck(nn.Sigmoid(), x, seed=seed, tolerance=np.float64(1e-6)).passed


class Slotted:
    __slots__ = ("layer",)

    def __init__(self, layer):
        self.layer = layer


class Inside(nn.Module):
    """Calls a layer that sits somewhere inside, and turns its weight's gradient round."""

    def __init__(self, hide):
        linear = nn.Linear(3, 3).initialise(0).astype("float64")
        self.hidden = hide(linear)
        self.layer = lambda: linear

    def forward(self, x):
        return self.layer()(x)

    def backward(self, dy):
        linear = self.layer()
        linear.weight.grad = None
        dx = linear.backward(dy)
        linear.weight.grad = -linear.weight.grad
        return dx


@pytest.mark.parametrize(
    "hide",
    [
        lambda layer: [layer],
        lambda layer: (layer,),
        lambda layer: {"a": layer},
        lambda layer: [[nn.ReLU()], {"a": (layer,)}],
        lambda layer: [layer.weight, layer.bias],
        lambda layer: collections.deque([layer]),
        lambda layer: {layer: "a"},
        lambda layer: {"a": (1, (layer.weight,))},
        lambda layer: types.SimpleNamespace(a=[layer]),
        lambda layer: functools.partial(layer.forward),
        lambda layer: functools.partial(print, layer),
        lambda layer: lambda x: layer(x),
        lambda layer: lambda x, weight=layer.weight: x @ weight.data,
        lambda layer: layer.forward,
        lambda layer: np.array([layer, None]),
        lambda layer: Slotted(layer),
        lambda layer: type("Holder", (), {"layer": layer}),
        lambda layer: type("Holder", (), {"layers": [layer]})(),
        lambda layer: iter([layer]),
    ],
)
def test_layers_in_plain_lists_are_refused(rng, hide):
    with pytest.raises(TinyshuffleError, match=r"Inside\.hidden is a .* with layers.*Sequential"):
        ts.gradcheck(Inside(hide), rng.standard_normal((2, 3)))


def test_layers_inside_what_is_no_module_are_refused(rng):
    class Plain(Cubed):
        def __init__(self):
            self.layer = nn.Linear(3, 3)

    class Slots(Slotted):
        def __call__(self, x):
            return self.layer(x)

        def backward(self, dy):
            return self.layer.backward(dy)

    class ListsSome(Slots):
        def parameters(self):
            return [self.layer.bias]

    linear = nn.Linear(3, 3).astype("float64")
    for layer in (Plain(), Slots(linear), ListsSome(linear)):
        with pytest.raises(TinyshuffleError, match="derive it from nn.Module"):
            ts.gradcheck(layer, rng.standard_normal((2, 3)))


def test_layers_that_are_a_classs_own_are_refused(rng):
    class Shared(Scaled):
        relu = nn.ReLU()

    with pytest.raises(TinyshuffleError, match=r"Shared\.relu is a ReLU with layers"):
        ts.gradcheck(Shared(), rng.standard_normal((2, 3)))


OTHER = nn.Linear(3, 3)


def test_a_pass_that_was_replaced_by_another_layers_is_refused(rng):
    for forward in (nn.Linear(3, 3).forward, lambda x: OTHER(x), functools.partial(OTHER)):
        layer = nn.Linear(3, 3).astype("float64")
        layer.forward = forward
        with pytest.raises(TinyshuffleError, match=r"Linear\.forward is a .* with layers"):
            ts.gradcheck(layer, rng.standard_normal((2, 3)))


def test_what_only_looks_at_layers_is_no_layer(rng):
    """A pass that was wrapped, an object that points back, and one that points at a child."""
    net = nn.Sequential(nn.Linear(3, 3), nn.Sigmoid()).astype("float64")
    first, seen = net[0], []
    forward = first.forward
    first.forward = lambda x: seen.append(net) or forward(x)
    net.log = types.SimpleNamespace(owner=net, first=first, weight=first.weight)
    assert ts.gradcheck(net, rng.standard_normal((2, 3))).passed
    assert seen


def test_a_check_that_is_refused_leaves_the_module_as_it_was(rng):
    net = nn.Sequential(nn.BatchNorm2d(3), nn.Dropout(0.5), Noisy()).astype("float64")
    x = rng.standard_normal((2, 4, 4, 3))
    net.backward(net(x))
    state, randoms = net.state_dict(), net.random_states()
    grads = [p.grad.copy() for p in net.parameters()]
    with pytest.raises(TinyshuffleError):
        ts.gradcheck(net, x)
    assert net.random_states() == randoms
    for name, value in net.state_dict().items():
        np.testing.assert_array_equal(value, state[name])
    for p, grad in zip(net.parameters(), grads, strict=True):
        np.testing.assert_array_equal(p.grad, grad)
