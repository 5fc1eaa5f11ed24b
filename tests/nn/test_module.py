"""Modules: modes, state, names, initial values, and what goes wrong."""

from __future__ import annotations

import sys
import typing

import numpy as np
import pytest

import tinyshuffle as ts
from tinyshuffle import TinyshuffleError, nn

pytestmark = pytest.mark.usefixtures("each_backend")


def small_net() -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(3, 6, 3, padding=1, groups=3),
        nn.BatchNorm2d(6),
        nn.ReLU(),
        tail=nn.Sequential(nn.GlobalAvgPool(), nn.Dropout(0.2), nn.Linear(6, 4)),
    ).initialise(7)


def test_calls_are_typed():
    """Whoever checks a program's types learns that a net makes an array of an array."""
    array = np.ndarray
    for method, argument in ((nn.Module.__call__, "x"), (nn.Module.forward, "x"),
                             (nn.Module.backward, "dy")):  # fmt: skip
        assert typing.get_type_hints(method) == {argument: array, "return": array}


def test_names_and_state():
    net = small_net()
    assert [p.name for p in net.parameters()] == [
        "0.weight", "0.bias", "1.weight", "1.bias", "tail.2.weight", "tail.2.bias",
    ]  # fmt: skip
    state = net.state_dict()
    assert set(state) == {p.name for p in net.parameters()} | {
        "1.running_mean", "1.running_var", "1.num_batches_tracked",
    }  # fmt: skip
    other = small_net().initialise(8)
    assert not np.array_equal(other.state_dict()["0.weight"], state["0.weight"])
    other.load_state_dict(state)
    for name, value in other.state_dict().items():
        np.testing.assert_array_equal(value, state[name])
    state["0.weight"][...] = 0  # copies: neither net sees this
    assert np.abs(other.state_dict()["0.weight"]).min() > 0


def test_all_that_is_wrong_with_a_state_is_in_one_sentence():
    net = small_net()
    before, state = net.state_dict(), net.state_dict()
    del state["0.bias"]
    state["extra"] = np.zeros(1)
    state["1.weight"] = np.zeros(5)
    with pytest.raises(TinyshuffleError) as error:
        net.load_state_dict(state)
    for words in ("missing 0.bias", "unexpected extra", "1.weight has shape (5,) instead of (6,)"):
        assert words in str(error.value)
    for name, value in net.state_dict().items():  # all or nothing
        np.testing.assert_array_equal(value, before[name])


def test_seeds():
    a, b, c = small_net(), small_net(), small_net().initialise(8)
    for p, q, r in zip(a.parameters(), b.parameters(), c.parameters(), strict=True):
        np.testing.assert_array_equal(p.data, q.data)
        if p.data.std() > 0:
            assert not np.array_equal(p.data, r.data)


def test_the_order_in_which_weights_are_first_read_does_not_matter():
    a, b = small_net(), small_net()
    last = b.parameters()[-2].data.copy()
    for p, q in zip(a.parameters(), b.parameters(), strict=True):
        np.testing.assert_array_equal(p.data, q.data)
    np.testing.assert_array_equal(a.parameters()[-2].data, last)


def test_initial_values_have_pytorchs_bounds():
    conv = nn.Conv2d(64, 128, 3, groups=4).initialise(0)
    bound = 1 / np.sqrt(9 * 16)
    assert bound * 0.99 < np.abs(conv.weight.data).max() <= bound
    assert conv.weight.data.std() == pytest.approx(bound / np.sqrt(3), rel=0.02)
    norm = nn.BatchNorm2d(3)
    np.testing.assert_array_equal(norm.weight.data, 1)
    np.testing.assert_array_equal(norm.bias.data, 0)


def test_gradients_accumulate_and_clear(rng):
    net = small_net()
    x = rng.standard_normal((2, 5, 4, 3)).astype(np.float32)
    dy = rng.standard_normal((2, 4)).astype(np.float32)
    randoms = net.random_states()
    net(x)
    net.backward(dy)
    once = [p.grad.copy() for p in net.parameters()]
    net.load_random_states(randoms)
    net(x)
    net.backward(dy)
    for p, grad in zip(net.parameters(), once, strict=True):
        np.testing.assert_allclose(p.grad, 2 * grad, rtol=1e-5, atol=1e-6)
    net.zero_grad()
    assert all(p.grad is None for p in net.parameters())


def test_a_relu_behind_a_batch_norm_is_fused_and_changes_nothing(rng):
    x = rng.standard_normal((3, 4, 5, 6))
    dy = rng.standard_normal(x.shape)
    norm, relu = nn.BatchNorm2d(6).astype("float64"), nn.ReLU()
    fused = nn.Sequential(nn.BatchNorm2d(6), nn.ReLU()).astype("float64")
    y, z = relu(norm(x)), fused(x)
    np.testing.assert_allclose(z, y, rtol=1e-12, atol=1e-14)
    np.testing.assert_allclose(
        fused.backward(dy), norm.backward(relu.backward(dy)), rtol=1e-10, atol=1e-12
    )
    assert fused[1]._saved is None  # the ReLU itself was not called


def test_running_statistics(rng):
    norm = nn.BatchNorm2d(2, momentum=0.25)
    x = (3 + 2 * rng.standard_normal((4, 3, 5, 2))).astype(np.float32)
    y = norm(x)
    np.testing.assert_allclose(y.mean((0, 1, 2)), 0, atol=1e-6)
    np.testing.assert_allclose(y.var((0, 1, 2)), 1, atol=1e-4)  # the biased variance
    np.testing.assert_allclose(norm.running_mean, 0.25 * x.mean((0, 1, 2)), rtol=1e-5)
    unbiased = x.astype(np.float64).var((0, 1, 2), ddof=1)
    np.testing.assert_allclose(norm.running_var, 0.75 + 0.25 * unbiased, rtol=1e-5)
    assert norm.num_batches_tracked == 1
    mean = norm.running_mean.copy()
    norm.eval()
    z = norm(x)
    np.testing.assert_array_equal(norm.running_mean, mean)
    expected = (x - norm.running_mean) / np.sqrt(norm.running_var + norm.eps)
    np.testing.assert_allclose(z, expected, rtol=1e-4, atol=1e-5)


def test_dtype_in_is_dtype_out(rng):
    for dtype in (np.float32, np.float64):
        net = small_net().astype(dtype)
        x = rng.standard_normal((2, 5, 4, 3)).astype(dtype)
        y = net(x)
        assert y.dtype == dtype
        assert net.backward(y).dtype == dtype
        assert all(p.grad.dtype == p.data.dtype == dtype for p in net.parameters())


def test_what_a_user_holds_is_not_overwritten(rng):
    net = small_net()
    x = rng.standard_normal((2, 5, 4, 3)).astype(np.float32)
    y = net(x)
    kept, dx = y.copy(), net.backward(y)
    kept_dx = dx.copy()
    net(-x)
    net.backward(y)
    np.testing.assert_array_equal(y, kept)
    np.testing.assert_array_equal(dx, kept_dx)


IMAGE = np.zeros((2, 8, 9, 3), np.float32)


@pytest.mark.parametrize(
    ("act", "words"),
    [
        (lambda: nn.Conv2d(30, 8, 1, groups=4), "groups=4 does not divide in_channels=30"),
        (lambda: nn.Conv2d(32, 30, 1, groups=4), "(nearest that do: 28, 32)"),
        (lambda: small_net()(IMAGE.transpose(0, 3, 1, 2)), "use x.transpose(0, 2, 3, 1)"),
        (lambda: small_net()(IMAGE[0]), "x[None]"),
        (lambda: small_net()(IMAGE[:, :, :, :2]), "expects 3 channels in the last axis, got 2"),
        (lambda: small_net()(IMAGE[:0]), "empty batch"),
        (lambda: small_net()(IMAGE.astype(np.float64)), "float32 parameters and got float64"),
        (lambda: small_net()(IMAGE.astype(np.uint8)), "normalise them"),
        (lambda: nn.Linear(3, 4)(IMAGE), "expects shape (N, 3)"),
        (lambda: small_net().backward(IMAGE), "before forward, or twice"),
        (lambda: nn.BatchNorm2d(3)(IMAGE[:1, :1, :1]), "more than one pixel per channel"),
        (lambda: nn.Dropout(1.0), "use 0 <= p < 1"),
        (lambda: nn.CrossEntropyLoss(2.0), "from 0 to 1"),
        (lambda: nn.CrossEntropyLoss().backward(), "before the loss was computed"),
        (
            lambda: nn.CrossEntropyLoss()(np.zeros((2, 10)), np.array([3, 10])),
            "labels go from 3 to 10, and the net has 10 classes",
        ),
        (lambda: nn.CrossEntropyLoss()(np.zeros((2, 10)), np.array([1.0, 2.0])), "whole numbers"),
        (lambda: nn.CrossEntropyLoss()(np.zeros((2, 10)), np.array([1])), "one label for each"),
        (lambda: nn.Module()(IMAGE), "has no forward"),
        (lambda: ts.backend("nunba").__enter__(), "did you mean 'numba'"),
        (lambda: ts.set_num_threads(0), "from 1 up"),
    ],
)
def test_errors_say_what_to_do(act, words):
    with pytest.raises(TinyshuffleError) as error:
        act()
    assert words in str(error.value)


def test_backward_twice():
    net = small_net()
    y = net(IMAGE)
    net.backward(y)
    with pytest.raises(TinyshuffleError, match="twice after one forward"):
        net.backward(y)


@pytest.mark.parametrize("layers", [(), (nn.Conv2d(4, 4, 1),), (nn.ReLU(), nn.BatchNorm2d(4))])
def test_a_residual_without_its_relu_is_refused(layers):
    with pytest.raises(TinyshuffleError, match="has to be its ReLU"):
        nn.Residual(*layers)


# ---- what a parameter owns


@pytest.mark.parametrize(
    "layout",
    [
        lambda a: a,
        lambda a: np.asfortranarray(a),
        lambda a: a.repeat(2, 0)[::2],
        lambda a: a[::-1, ::-1].copy()[::-1, ::-1],
        lambda a: np.frombuffer(a.tobytes(), a.dtype).reshape(a.shape),  # read-only
    ],
    ids=["plain", "transposed", "sliced", "reversed", "read-only"],
)
@pytest.mark.parametrize("momentum", [0.0, 0.9])
def test_weights_of_any_layout_learn(layout, momentum, rng):
    values = rng.standard_normal((6, 4)).astype(np.float32)
    given = layout(values)
    layer = nn.Linear(6, 4, bias=False)
    layer.weight.data = given
    sgd = ts.optim.SGD(layer.parameters(), lr=0.5, momentum=momentum)
    x, dy = rng.standard_normal((3, 6)).astype("f4"), rng.standard_normal((3, 4)).astype("f4")
    layer(x)
    layer.backward(dy)
    sgd.step()
    np.testing.assert_allclose(layer.weight.data, values - 0.5 * x.T @ dy, rtol=1e-5, atol=1e-6)
    np.testing.assert_array_equal(given, values)  # the caller's, as it was


def test_two_layers_given_one_array_are_two():
    a, b = nn.Linear(2, 2, bias=False), nn.Linear(2, 2, bias=False)
    a.weight.data = b.weight.data = np.ones((2, 2), np.float32)
    a.weight.data[...] = 5
    assert (b.weight.data == 1).all()


@pytest.mark.parametrize(
    ("value", "words"),
    [
        (np.ones((3, 4)), r"has shape \(4, 3\) and was given an array of shape \(3, 4\)"),
        (np.ones((4, 3), int), "float32 or float64"),
        (np.ones((4, 3), np.float16), "float32 or float64"),
        (np.ones((4, 3), complex), "float32 or float64"),
        ([[1.0] * 3] * 4, "a list where a NumPy array is expected"),
        (np.float32(1), "NumPy array is expected"),
    ],
)
def test_values_and_gradients_that_do_not_fit(value, words):
    p = nn.Linear(4, 3).weight
    before = p.data.copy()
    with pytest.raises(TinyshuffleError, match=words):
        p.data = value
    with pytest.raises(TinyshuffleError, match=words):
        p.accumulate(value)
    with pytest.raises(TinyshuffleError, match=words):
        p.grad = value
    p.accumulate(np.ones((4, 3), np.float32))
    with pytest.raises(TinyshuffleError, match=words):
        p.accumulate(value)
    np.testing.assert_array_equal(p.data, before)


class Twice(nn.Module):
    """y = (a + b) x, whose two gradients are the same array."""

    def __init__(self):
        self.a, self.b = nn.Parameter(np.ones(4)), nn.Parameter(np.ones(4))

    def forward(self, x):
        self.save(x)
        return x * (self.a.data + self.b.data)

    def backward(self, dy):
        (x,) = self.saved()
        g = (dy * x).sum(axis=(0, 1, 2))
        self.a.accumulate(g)
        self.b.accumulate(g)
        return dy * (self.a.data + self.b.data)


@pytest.mark.parametrize("threads", [1, 2, 3, 4])
def test_a_gradient_given_to_two_parameters_is_each_ones_own(threads):
    layer = Twice()
    net, x = ts.parallel.DataParallel(layer), np.ones((8, 4, 4, 4), np.float32)
    ts.set_num_threads(threads)
    try:
        for times in 1, 2:
            net.backward(np.ones_like(net(x)))
            assert layer.a.grad.tolist() == layer.b.grad.tolist() == [128 * times] * 4
    finally:
        ts.set_num_threads(None)
    layer.a.grad *= 0.5  # as one who clips gradients does
    assert layer.a.grad.tolist() == [128] * 4 and layer.b.grad.tolist() == [256] * 4


def test_a_gradient_stays_the_callers(rng):
    p, g = nn.Parameter(np.ones(3)), rng.standard_normal(3).astype("f4")
    before = g.copy()
    p.accumulate(g)
    p.accumulate(g)
    np.testing.assert_array_equal(g, before)
    g[:] = 7  # a buffer that is used again
    np.testing.assert_allclose(p.grad, 2 * before)


def test_a_parameter_of_an_array():
    start = np.arange(6).reshape(2, 3)
    p = nn.Parameter(start)
    assert p.shape == (2, 3) and p.dtype == p.data.dtype == np.float32
    p.data += 1
    np.testing.assert_array_equal(start, np.arange(6).reshape(2, 3))
    p.initialise(np.random.default_rng(0))  # begins again
    np.testing.assert_array_equal(p.data, start)
    for arguments in ((3, 4),), (3, lambda rng: 1), ([1.0, 2.0],), ((-1,), lambda rng: 1):
        with pytest.raises(TinyshuffleError):
            nn.Parameter(*arguments)
    with pytest.raises(TinyshuffleError, match=r"shape \(2,\) and was given"):
        nn.Parameter((2,), lambda rng: np.ones(3)).data  # noqa: B018


def test_a_shared_parameter_is_one():
    net = nn.Sequential(nn.Linear(4, 4, bias=False), nn.Linear(4, 4, bias=False))
    net[1].weight = net[0].weight
    (p,) = net.parameters()
    assert p.name == "0.weight"
    assert list(net.state_dict()) == ["0.weight"]
    sgd = ts.optim.SGD(net.parameters(), lr=0.1)
    x = np.ones((1, 4), np.float32)
    before = p.data.copy()
    net.backward(np.ones_like(net(x)))
    sgd.step()
    hidden, w = x @ before, before
    gradient = x.T @ (np.ones((1, 4)) @ w.T) + hidden.T @ np.ones((1, 4))
    np.testing.assert_allclose(p.data, before - 0.1 * gradient, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("dtype", [int, "bool", np.float16, complex])
def test_a_net_computes_with_real_numbers(dtype):
    net = small_net()
    with pytest.raises(TinyshuffleError, match="float32 or float64"):
        net.astype(dtype)
    assert {p.dtype for p in net.parameters()} == {np.dtype(np.float32)}
    state = net.state_dict()
    state["0.bias"] = np.array(["a"] * 6)
    with pytest.raises(TinyshuffleError, match="0.bias holds <U1 instead of real numbers"):
        net.load_state_dict(state)


class Hides(nn.Module):
    def __init__(self, hidden):
        self.seen = nn.Linear(3, 3)
        self.blocks = hidden


class MoreThanAChain(nn.Sequential):
    """A chain does not list what is set on it as an attribute."""

    def __init__(self):
        super().__init__(nn.ReLU())
        self.head = nn.Linear(3, 3)


@pytest.mark.parametrize(
    "hidden",
    [
        [nn.Linear(3, 3)],
        (nn.ReLU(), nn.ReLU()),
        {"a": nn.Linear(3, 3)},
        {1: [("name", nn.Linear(3, 3))]},
        [nn.Linear(3, 3).weight],
    ],
)
def test_layers_that_nobody_would_see_are_refused(hidden):
    net = nn.Sequential(nn.ReLU(), Hides(hidden))
    for use in (
        net.parameters, net.state_dict, net.eval, net.zero_grad, net.initialise,
        lambda: net.astype("float64"), lambda: list(net.modules()),
        lambda: ts.DataParallel(net).parameters(),
    ):  # fmt: skip
        with pytest.raises(TinyshuffleError, match=r"Hides\.blocks is a .*nn\.Sequential\(\*lay"):
            use()


def test_layers_set_on_a_sequential_are_refused():
    with pytest.raises(TinyshuffleError, match=r"MoreThanAChain\.head is a Linear with layers"):
        MoreThanAChain().parameters()


def test_lists_of_other_things_are_no_layers():
    net = Hides([1, "a", None, {"b": np.ones(2)}])
    assert [p.name for p in net.parameters()] == ["seen.weight", "seen.bias"]


def test_what_a_parameter_is_given_has_no_mask():
    masked = np.ma.array(np.ones((2, 3), np.float32), mask=np.eye(2, 3))
    layer = nn.Linear(2, 3, bias=False)
    p = layer.weight
    for give in (
        lambda: nn.Parameter(masked),
        lambda: setattr(p, "data", masked),
        lambda: setattr(p, "grad", masked),
        lambda: p.accumulate(masked),
        lambda: layer.load_state_dict({"weight": masked}),
    ):
        with pytest.raises(TinyshuffleError, match="masked array"):
            give()


SET = {
    "an attribute": lambda layer: setattr(layer, "stride", 2),
    "no attribute": lambda layer: delattr(layer, "bias"),
    "values of another type": lambda layer: setattr(layer.weight, "data", np.ones((1, 1, 2, 3))),
    "another type": lambda layer: layer.weight.astype("float64"),
}


@pytest.mark.parametrize("what", SET)
def test_who_sees_a_count_of_changes_sees_the_change(what):
    """As another thread may, which comes in between any two instructions."""
    layer = nn.Conv2d(2, 3, 1)
    p, seen = layer.weight, []
    p.data = np.zeros(p.shape, np.float32)
    before = nn.Module.changes, nn.Parameter.moves

    def look(frame, event, argument):
        frame.f_trace_opcodes = True
        for count, first in zip((nn.Module.changes, nn.Parameter.moves), before, strict=True):
            if count != first:
                seen.append(({**vars(layer)}, p._dtype, id(p._data)))
        return look

    earlier = sys.gettrace()
    sys.settrace(look)
    try:
        SET[what](layer)
    finally:
        sys.settrace(earlier)
    assert seen and all(s == (vars(layer), p.dtype, id(p.data)) for s in seen)
