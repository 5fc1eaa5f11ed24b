"""The optimisers against the formulas in their docstrings, written out on plain arrays."""

from __future__ import annotations

import numpy as np
import pytest

import tinyshuffle as ts
from tinyshuffle import nn
from tinyshuffle.errors import TinyshuffleError
from tinyshuffle.nn import Parameter
from tinyshuffle.optim import SGD, Adam, Muon, newton_schulz

SHAPES = [(3, 4), (5,), (2, 2, 3)]


def parameters(dtype=np.float64, seed=0):
    rng = np.random.default_rng(seed)
    found = []
    for i, shape in enumerate(SHAPES):
        p = Parameter(shape, lambda rng: np.zeros(1))
        p.name = f"layer{i}.weight"
        p.data = rng.standard_normal(shape).astype(dtype)
        found.append(p)
    return found


def gradients(steps, dtype=np.float64):
    rng = np.random.default_rng(1)
    return [[rng.standard_normal(shape).astype(dtype) for shape in SHAPES] for _ in range(steps)]


def run(opt, grads):
    for step in grads:
        for p, g in zip(opt.params, step, strict=True):
            p.grad = None if g is None else g.copy()
        opt.step()
        opt.zero_grad()
    return [p.data for p in opt.params]


@pytest.mark.parametrize("momentum, nesterov", [(0.0, False), (0.9, False), (0.9, True)])
@pytest.mark.parametrize("weight_decay", [0.0, 0.1])
@pytest.mark.parametrize("decay_all", [False, True])
def test_sgd_formula(momentum, nesterov, weight_decay, decay_all):
    grads = gradients(5)
    opt = SGD(parameters(), 0.1, momentum, nesterov, weight_decay, decay_all)
    got = run(opt, grads)
    for i, p in enumerate(parameters()):
        p, b = p.data, None
        for step in grads:
            g = step[i]
            if decay_all or p.ndim > 1:
                g = g + weight_decay * p
            b = g if b is None else momentum * b + g
            if nesterov:
                g = g + momentum * b
            elif momentum:
                g = b
            p = p - 0.1 * g
        np.testing.assert_allclose(got[i], p, rtol=1e-13)


@pytest.mark.parametrize("weight_decay", [0.0, 0.1])
@pytest.mark.parametrize("decay_all", [False, True])
def test_adam_formula(weight_decay, decay_all):
    grads = gradients(5)
    opt = Adam(parameters(), 0.1, (0.8, 0.95), 1e-4, weight_decay, decay_all)
    got = run(opt, grads)
    for i, p in enumerate(parameters()):
        p, m, v = p.data, 0.0, 0.0
        for t, step in enumerate(grads, 1):
            g = step[i]
            if decay_all or p.ndim > 1:
                g = g + weight_decay * p
            m = 0.8 * m + (1 - 0.8) * g
            v = 0.95 * v + (1 - 0.95) * g**2
            m_hat, v_hat = m / (1 - 0.8**t), v / (1 - 0.95**t)
            p = p - 0.1 * m_hat / (np.sqrt(v_hat) + 1e-4)
        np.testing.assert_allclose(got[i], p, rtol=1e-12)


@pytest.mark.parametrize("make", [lambda ps: SGD(ps, 0.1, 0.9), lambda ps: Adam(ps, 0.1)])
def test_parameter_without_gradient_rests(make):
    """It moves as if the steps in which it had no gradient had not been."""
    grads = gradients(5)
    with_rest = [[g0, None if t in (0, 2) else g1, g2] for t, (g0, g1, g2) in enumerate(grads)]
    got = run(make(parameters()), with_rest)
    want = run(make(parameters()), [grads[t] for t in (1, 3, 4)])
    np.testing.assert_array_equal(got[1], want[1])


@pytest.mark.parametrize(
    "make",
    [
        lambda ps: SGD(ps, 0.1, 0.9, nesterov=True, weight_decay=0.1),
        lambda ps: SGD(ps, 0.1),
        lambda ps: Adam(ps, 0.1, weight_decay=0.1),
    ],
)
def test_in_place_dtype_and_gradients_untouched(make):
    params = parameters(np.float32)
    arrays = [p.data for p in params]
    opt = make(params)
    grads = gradients(1, np.float32)[0]
    for p, g in zip(params, grads, strict=True):
        p.grad = g.copy()
    opt.lr = np.float64(0.1)  # a schedule may give NumPy's numbers
    opt.step()
    for p, a, g in zip(params, arrays, grads, strict=True):
        assert p.data is a and p.data.dtype == np.float32
        np.testing.assert_array_equal(p.grad, g)


@pytest.mark.parametrize("make", [lambda ps: SGD(ps, 0.1, 0.9), lambda ps: Adam(ps, 0.1)])
def test_dtype_follows_the_parameter(make):
    params = parameters(np.float32)
    opt = make(params)
    for p in params:
        p.astype(np.float64)
    run(opt, gradients(2))
    assert {a.dtype for name, a in opt.state_dict().items() if name != "steps"} == {
        np.dtype(np.float64)
    }


@pytest.mark.parametrize(
    "make", [lambda ps: SGD(ps, 0.1, 0.9, nesterov=True), lambda ps: Adam(ps, 0.1)]
)
def test_state_continues_bit_for_bit(make):
    grads = gradients(6)
    want = run(make(parameters()), grads)
    first = make(parameters())
    half = [a.copy() for a in run(first, grads[:3])]
    second = make(parameters())
    for p, a in zip(second.params, half, strict=True):
        p.data = a
    second.load_state_dict(first.state_dict())
    for a, b in zip(run(second, grads[3:]), want, strict=True):
        np.testing.assert_array_equal(a, b)


def test_load_names_all_that_is_wrong_and_changes_nothing():
    opt = SGD(parameters(), 0.1, 0.9)
    run(opt, gradients(1))
    before = opt.state_dict()
    state = opt.state_dict()
    del state["momentum/layer0.weight"]
    state["momentum/layer9.weight"] = np.zeros(3)
    state["momentum/layer1.weight"] = np.zeros(7)
    with pytest.raises(TinyshuffleError) as error:
        opt.load_state_dict(state)
    for part in ("missing: momentum/layer0.weight", "unexpected: momentum/layer9.weight", "(7,)"):
        assert part in str(error.value)
    for name, array in opt.state_dict().items():
        np.testing.assert_array_equal(array, before[name])


@pytest.mark.parametrize(
    "make, word",
    [
        (lambda: SGD([], 0.1), "no parameters"),
        (lambda: SGD(parameters()[:1] * 2, 0.1), "twice"),
        (lambda: SGD(parameters(), -0.1), "lr=-0.1"),
        (lambda: SGD(parameters(), float("nan")), "lr=nan"),
        (lambda: SGD(parameters(), 0.1, momentum=1.0), "momentum=1.0"),
        (lambda: SGD(parameters(), 0.1, nesterov=True), "nesterov"),
        (lambda: SGD(parameters(), 0.1, weight_decay=-1), "weight_decay=-1"),
        (lambda: Adam(parameters(), 0.1, betas=(0.9, 1.0)), "betas"),
        (lambda: Adam(parameters(), 0.1, eps=-1), "eps=-1"),
        (lambda: SGD(parameters() + parameters(), 0.1, 0.9).state_dict(), "layer0.weight"),
    ],
)
def test_bad_arguments(make, word):
    with pytest.raises(TinyshuffleError, match=word):
        make()


@pytest.mark.parametrize("make", [lambda p: SGD(p, 0.1), lambda p: SGD(p, 0.1, 0.9, nesterov=True),
                                  lambda p: Adam(p, 0.1)])  # fmt: skip
def test_ported_weights_move_in_both_backends(make):
    """PyTorch's weights are transposed views, and a step has to move them as it does any others."""
    rng, moved = np.random.default_rng(0), {}
    linear = rng.standard_normal((4, 6)).astype("f4")
    conv = rng.standard_normal((5, 3, 2, 2)).astype("f4")
    grads = [rng.standard_normal(s).astype("f4") for s in ((6, 4), (2, 2, 3, 5))]
    for name, copied in (("numpy", False), ("numba", False), ("numba", True)):
        with ts.backend(name):
            layers = nn.Linear(6, 4, bias=False), nn.Conv2d(3, 5, 2, bias=False)
            for layer, w in zip(layers, (linear.T, conv.transpose(2, 3, 1, 0)), strict=True):
                layer.weight.data = w.copy() if copied else w
            opt = make([layer.weight for layer in layers])
            for _ in range(3):
                for p, g in zip(opt.params, grads, strict=True):
                    p.grad = g
                opt.step()
            moved[name, copied] = [p.data for p in opt.params]
    for other in ("numpy", False), ("numba", True):
        for a, b in zip(moved["numba", False], moved[other], strict=True):
            np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-6)
    assert np.abs(moved["numba", False][0] - linear.T).min() > 1e-3


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda p: SGD(p, "0.1"), "lr='0.1' is not possible"),
        (lambda p: SGD(p, float("nan")), "lr=nan"),
        (lambda p: SGD(p, float("inf")), "lr=inf"),
        (lambda p: SGD(p, True), "lr=True"),
        (lambda p: SGD(p, 0.1, momentum=None), "momentum=None"),
        (lambda p: SGD(p, 0.1, weight_decay="x"), "weight_decay='x'"),
        (lambda p: Adam(p, 0.1, betas=0.9), "betas=0.9"),
        (lambda p: Adam(p, 0.1, betas=(0.9, "x")), "one of betas='x'"),
        (lambda p: Adam(p, 0.1, eps=float("nan")), "eps=nan"),
    ],
)
def test_numbers_that_cannot_be(make, words):
    with pytest.raises(TinyshuffleError, match=words):
        make(parameters())
    assert SGD(parameters(), np.float32(0.5)).lr == 0.5


@pytest.mark.parametrize("bad", [[0.1], np.array([0.1]), "x", b"1", None, np.nan, -0.1, True, 1j])
@pytest.mark.parametrize(
    ("make", "names"),
    [
        (lambda p: SGD(p, 0.1, 0.9), ["lr", "weight_decay", "momentum"]),
        (lambda p: Adam(p, 0.1), ["lr", "weight_decay", "eps", "betas"]),
    ],
)
def test_settings_are_checked_whenever_they_are_set(make, names, bad):
    opt = make(parameters())
    for name in names:
        before = getattr(opt, name)
        with pytest.raises(TinyshuffleError, match=rf"^{name}=.* is not possible; use "):
            setattr(opt, name, bad)
        assert getattr(opt, name) == before


def test_flags_of_an_optimiser_are_checked_whenever_they_are_set():
    opt = SGD(parameters(), 0.1, 0.9)
    for name in ("decay_all", "nesterov"):
        with pytest.raises(TinyshuffleError, match=f"{name}='no' was given"):
            setattr(opt, name, "no")
        assert getattr(opt, name) is False
        setattr(opt, name, np.bool_(True))
        assert getattr(opt, name) is True
    opt = SGD(parameters(), 0.1)
    with pytest.raises(TinyshuffleError, match="needs a momentum"):
        opt.nesterov = True
    assert opt.nesterov is False


def test_settings_can_be_changed_between_steps():
    grads = gradients(4)
    want = run(SGD(parameters(), 0.05, 0.8, True, 0.1, decay_all=True), grads)
    opt = SGD(parameters(), 0.1)
    opt.lr, opt.momentum, opt.weight_decay = 0.05, 0.8, np.float32(0.125)
    opt.nesterov, opt.decay_all, opt.weight_decay = True, 1, 0.1
    for a, b in zip(run(opt, grads), want, strict=True):
        np.testing.assert_array_equal(a, b)
    want = run(Adam(parameters(), 0.1, (0.8, 0.95), 1e-4), grads)
    adam = Adam(parameters(), 0.1)
    adam.betas, adam.eps = [0.8, 0.95], 1e-4
    for a, b in zip(run(adam, grads), want, strict=True):
        np.testing.assert_array_equal(a, b)


def test_momentum_can_begin_and_end_later():
    """It begins with a velocity of zero, as at construction; the state has it from then on."""
    grads = gradients(6)
    opt = SGD(parameters(), 0.1)
    run(opt, grads[:2])
    opt.momentum = 0.9
    assert len(opt.state_dict()) == len(SHAPES)
    fresh = SGD(parameters(), 0.1, 0.9)
    for p, q in zip(fresh.params, opt.params, strict=True):
        p.data = q.data
    for a, b in zip(run(opt, grads[2:4]), run(fresh, grads[2:4]), strict=True):
        np.testing.assert_array_equal(a, b)
    opt.momentum = 0
    before = [p.data.copy() for p in opt.params]
    for a, b, g in zip(before, run(opt, grads[4:5]), grads[4], strict=True):
        np.testing.assert_allclose(b, a - 0.1 * g, rtol=1e-13)


@pytest.mark.parametrize(
    ("given", "words"),
    [
        (nn.Linear(2, 3), "a Linear in place"),
        (nn.Sequential(nn.Linear(2, 3)), "a Sequential of Linear in place"),
        (nn.Linear(2, 3).weight, "a Parameter in place"),
        (nn.Linear(2, 3).parameters, "a method in place"),
        ([{"params": nn.Linear(2, 3).parameters()}], "a list of dict in place"),
        (nn.Linear(2, 3).state_dict(), "a dict of str in place"),
        ([np.ones(3)], "a list of ndarray in place"),
        (None, "a NoneType in place"),
    ],
)
def test_what_holds_no_parameters_is_named(given, words):
    for kind in (SGD, Adam):
        with pytest.raises(TinyshuffleError, match=rf"{words}.*pass net\.parameters\(\)"):
            kind(given, 0.1)


# ---- muon


def pointwise(c, o, groups=1, dtype=np.float64, seed=0):
    rng = np.random.default_rng(seed)
    p = Parameter((1, 1, c // groups, o), lambda rng: np.zeros(1))
    p.name = f"conv{c}x{o}.weight"
    p.data = rng.standard_normal((1, 1, c // groups, o)).astype(dtype)
    return p


@pytest.mark.parametrize("shape", [(5, 5), (3, 8), (8, 3), (2, 4, 6), (1, 7)])
def test_newton_schulz_is_a_polynomial_of_the_singular_values(shape):
    x = np.random.default_rng(0).standard_normal(shape)
    u, s, vt = np.linalg.svd(x, full_matrices=False)
    s = s / np.sqrt((s**2).sum(-1, keepdims=True))
    for _ in range(5):
        s = 3.4445 * s - 4.7750 * s**3 + 2.0315 * s**5
    np.testing.assert_allclose(newton_schulz(x), (u * s[..., None, :]) @ vt, atol=1e-6)


def test_newton_schulz_makes_steps_nearly_orthogonal():
    for shape in ((24, 24), (48, 192), (192, 48)):
        x = np.random.default_rng(1).standard_normal(shape).astype(np.float32)
        y = newton_schulz(x)
        assert y.dtype == np.float32 and y.shape == shape
        values = np.linalg.svd(y)[1]
        assert np.linalg.svd(x)[1].min() / np.linalg.svd(x)[1].max() < values.min() / 1.3
        assert 0.3 < values.min() and values.max() < 1.3
    assert not newton_schulz(np.zeros((3, 4))).any()  # and no division by nothing


@pytest.mark.parametrize("c, o, groups", [(6, 6, 1), (4, 10, 1), (10, 4, 1), (6, 12, 3)])
def test_muon_formula(c, o, groups):
    p, rng = pointwise(c, o, groups), np.random.default_rng(2)
    opt = Muon([p], 0.1, 0.8, 0.3, [groups])
    expected, b = p.data.copy(), 0.0
    for _ in range(4):
        g = rng.standard_normal(p.shape)
        p.grad = g.copy()
        opt.step()
        b = 0.8 * b + g
        u = g + 0.8 * b
        expected *= 1 - 0.1 * 0.3
        for j in range(groups):  # a group's outputs lie side by side
            own = np.s_[0, 0, :, j * o // groups : (j + 1) * o // groups]
            factor = max(1, (o // groups) / (c // groups)) ** 0.5
            expected[own] -= 0.1 * factor * newton_schulz(u[own])
        assert (p.grad == g).all()
    np.testing.assert_allclose(p.data, expected, rtol=1e-10)


def test_muon_descends_where_sgd_is_slow():
    """Ten directions whose curvatures differ a thousandfold, and steps of one length in each."""
    rng = np.random.default_rng(3)
    q, _ = np.linalg.qr(rng.standard_normal((10, 10)))
    curved = q * np.geomspace(1, 1e-3, 10) @ q.T
    target = rng.standard_normal((10, 10))

    def loss_after(make):
        p = pointwise(10, 10)
        opt = make([p])
        for t in range(100):
            opt.lr = 0.3 * (1 - t / 100)
            p.grad = (curved @ (p.data[0, 0] - target))[None, None]
            opt.step()
        return float(((p.data[0, 0] - target) ** 2).mean())

    assert loss_after(lambda p: Muon(p, 0.3)) < 0.1 * loss_after(lambda p: SGD(p, 0.3, 0.9, True))


def test_muon_counts_its_multiply_adds(monkeypatch):
    from tinyshuffle import optim

    counted = []

    class Counting(np.ndarray):
        def __matmul__(self, other):
            y = np.asarray(self) @ np.asarray(other)
            counted.append(y.size * self.shape[-1])
            return y.view(Counting)

    params = [pointwise(6, 6), pointwise(4, 10), pointwise(10, 4), pointwise(6, 12, 3)]
    opt = Muon(params, 0.1, groups=[1, 1, 1, 3])
    original = optim.newton_schulz
    monkeypatch.setattr(
        optim, "newton_schulz", lambda x: np.asarray(original(x.view(Counting)))
    )
    for p in params:
        p.grad = np.ones(p.shape)
    opt.step()
    assert sum(counted) == opt.multiply_adds
    m, n = 192, 1024
    big = Muon([pointwise(m, n)], 0.1)
    assert big.multiply_adds == 5 * (2 * m * m * n + m**3) == 412876800


def test_muon_continues_and_refuses():
    p, q = pointwise(4, 6), pointwise(4, 6)
    rng = np.random.default_rng(4)
    one, two = Muon([p], 0.1), Muon([q], 0.1)
    grads = rng.standard_normal((4, 1, 1, 4, 6))
    for g in grads[:2]:
        p.grad = g
        one.step()
    q.data = p.data
    two.load_state_dict(one.state_dict())
    for g in grads[2:]:
        p.grad, q.grad = g, g
        one.step()
        two.step()
    assert p.data.tobytes() == q.data.tobytes()
    for shape, groups in (((3, 3, 4, 6), 1), ((6,), 1), ((1, 1, 4, 6), 4)):
        with pytest.raises(TinyshuffleError, match="weights of pointwise convolutions"):
            Muon([Parameter(np.zeros(shape))], 0.1, groups=[groups])
    with pytest.raises(TinyshuffleError, match="give one number for each"):
        Muon([p], 0.1, groups=[1, 1])
