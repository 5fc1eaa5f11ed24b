"""Layers drawn at random against PyTorch: outputs, gradients and running statistics.

The truth is PyTorch in float64 on the very numbers that the layer gets. What is allowed beside it
follows from the arithmetic, not from the layer: so many roundings of the sum of the magnitudes for
a layer that only multiplies and adds; what roundings of the input do to the truth, and what
PyTorch's own float32 is off by, for a chain.
"""

from __future__ import annotations

import copy
from typing import Any, NamedTuple

import numpy as np
import pytest
from fuzz.cases import run_cases

import tinyshuffle as ts

torch = pytest.importorskip("torch", reason="PyTorch is not installed (pip install torch)")

from tinyshuffle.bench import peer_torch  # noqa: E402 (needs PyTorch)

nn = torch.nn
pytestmark = pytest.mark.slow

Rng = np.random.Generator
Tensors = dict[str, np.ndarray]

STRANGE = np.array([np.inf, -np.inf, np.nan, 3e38, -3e38, 1e-40, -1e-40, 0.0, -0.0])


@pytest.fixture(autouse=True)
def one_torch_thread():
    """PyTorch's threads wait for each other busily; and numbers beyond all bounds are the point."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    with np.errstate(all="ignore"):
        yield
    torch.set_num_threads(before)
    ts.set_num_threads(None)


class Pair(NamedTuple):
    """A layer, PyTorch's, and the numbers for them."""

    layer: Any
    peer: Any  # float64, with the same weights
    x: np.ndarray  # as the layer gets it: NHWC, its dtype
    dtype: str


# ---- drawing


def size(rng: Rng, low: int, high: int) -> tuple[int, int]:
    return int(rng.integers(low, high + 1)), int(rng.integers(low, high + 1))


def values(rng: Rng, shape: tuple[int, ...]) -> tuple[np.ndarray, str]:
    """Numbers as they come, far from zero, or so large, small or broken that care is needed."""
    kind = rng.choice(["plain", "plain", "far", "far", "ties", "tiny", "huge", "strange"])
    x = rng.normal(size=shape)
    if kind == "far":  # |μ| / σ up to 10⁴
        x += rng.choice([-1, 1]) * 10 ** rng.uniform(0, 4)
    elif kind == "ties":
        x = np.round(x)
    elif kind == "tiny":
        x *= rng.choice([1e-40, 1e-38, 1e-30])
    elif kind == "huge":
        x = np.clip(x, -3, 3) * rng.choice([1e19, 1e30, 1e38])
    elif kind == "strange":
        some = rng.random(shape) < rng.choice([0.02, 0.3])
        x[some] = rng.choice(STRANGE, some.sum())
    return x, str(kind)


def laid(rng: Rng, x: np.ndarray) -> np.ndarray:
    """The same numbers, perhaps where a transpose, a flip or a crop leaves them in memory."""
    how = rng.integers(5)
    if how == 1:
        return np.asfortranarray(x)
    if how == 2:
        return x[::-1].copy()[::-1]
    if how == 3:
        wide = np.zeros((*x.shape[:-1], 2 * x.shape[-1]), x.dtype)
        wide[..., ::2] = x
        return wide[..., ::2]
    if how == 4 and x.ndim == 4:
        return np.ascontiguousarray(x.transpose(0, 3, 1, 2)).transpose(0, 2, 3, 1)
    return x


def pair(rng: Rng, layer: Any, peer: Any, x: np.ndarray) -> Pair:
    """Give both the same random weights, which are numbers of the layer's dtype."""
    dtype = str(rng.choice(["float32", "float32", "float64"]))
    layer.astype(dtype)
    drawn = {
        name: rng.uniform(0.2, 2, value.shape) if name.endswith("running_var")
        else value if value.dtype.kind == "i"
        else rng.normal(size=value.shape)
        for name, value in layer.state_dict().items()
    }  # fmt: skip
    layer.load_state_dict(drawn)
    peer_torch.load_state(
        {k: v if v.dtype.kind == "i" else v.astype(float) for k, v in layer.state_dict().items()},
        peer.double(),
    )
    return Pair(layer, peer, x.astype(dtype), dtype)


# ---- running


def nchw(a: np.ndarray) -> np.ndarray:
    return a.transpose(0, 3, 1, 2) if a.ndim == 4 else a


def tensor(a: np.ndarray) -> Any:
    """An array NHWC as PyTorch's NCHW.

    In fresh memory: of images of one channel, a transposed array that is contiguous all the same
    has strides at which PyTorch 2.13's own convolution crashes.
    """
    return torch.tensor(np.array(nchw(a), order="C", copy=True))


def run_torch(peer: Any, x: np.ndarray, dy: np.ndarray | None, seed: int = 0) -> Tensors:
    """Everything that a pass leaves, images as NCHW. ``dy`` is NHWC; None: no backward pass."""
    peer = copy.deepcopy(peer)
    xt = tensor(x).requires_grad_(dy is not None)
    yt = peer(xt)
    found = {"y": yt.detach().numpy()}
    if dy is not None:
        yt.backward(tensor(dy).to(yt.dtype))
        found["dx"] = xt.grad.numpy()
        found |= {f"grad {name}": p.grad.numpy() for name, p in peer.named_parameters()}
    return found | {f"state {name}": b.numpy() for name, b in peer.named_buffers()}


def run_ours(layer: Any, x: np.ndarray, dy: np.ndarray | None) -> Tensors:
    """The same of a layer of ours; neither x nor dy may be changed."""
    layer = copy.deepcopy(layer)
    x_before = x.copy()
    y = layer(x)
    found = {"y": nchw(y)}
    assert y.dtype == x.dtype, f"{y.dtype} comes out of {x.dtype}"
    if dy is not None:
        dy_before, y_before = dy.copy(), y.copy()
        found["dx"] = nchw(layer.backward(dy))
        assert found["dx"].dtype == x.dtype, f"dx is {found['dx'].dtype}"
        assert np.array_equal(dy, dy_before, equal_nan=True), "dy was changed"
        assert np.array_equal(y, y_before, equal_nan=True), "y was changed"
        found |= {f"grad {p.name}": peer_torch.torch_layout(p.grad) for p in layer.parameters()}
    found |= {
        f"state {'.'.join(filter(None, (path, name)))}": getattr(module, name)
        for path, module in layer.named_modules()
        for name in module.buffers
    }
    assert np.array_equal(x, x_before, equal_nan=True), "x was changed"
    return found


def each_side(rng: Rng, p: Pair, dy: np.ndarray | None, threads: bool = False):
    """Run the layer with both backends, in one slice or in several; yields (words, tensors)."""
    x = laid(rng, p.x)
    dy = None if dy is None else laid(rng, dy)
    count = int(rng.integers(1, 4)) if threads else 0
    net = ts.DataParallel(p.layer) if count else p.layer
    ts.set_num_threads(count or 1)
    for backend in "numpy", "numba":
        with ts.backend(backend):
            yield f"{backend}{f', {count} threads' if count else ''}", run_ours(net, x, dy)


# ---- comparing


def compare(
    words: str, mine: Tensors, truth: Tensors, theirs: Tensors, bound: Tensors, dtype: str,
    strict: bool = True,
) -> None:  # fmt: skip
    """Raise unless ``mine`` is within ``bound`` of the truth, and broken where that is broken.

    Where PyTorch's own numbers of this dtype overflow on the way to a number that does not, so
    may ours; with ``strict`` it has to be the same infinity or NaN that comes of an input.
    """
    assert mine.keys() == truth.keys(), f"{words}: only on one side {mine.keys() ^ truth.keys()}"
    largest = float(np.finfo(dtype).max)
    for name, t in truth.items():
        a, p = mine[name], theirs[name]
        assert a.shape == t.shape, f"{words}: {name} has shape {a.shape} instead of {t.shape}"
        if t.dtype.kind == "i":
            assert np.array_equal(a, t), f"{words}: {name} is {a} instead of {t}"
            continue
        a, p, limit = (np.asarray(v, float) for v in (a, p, bound[name]))
        limit = np.broadcast_to(limit, t.shape)
        same = (a == t) | (np.isnan(a) & np.isnan(t))
        broken = ~np.isfinite(t)
        beyond = np.abs(t) > largest * 0.99
        right = same | (np.abs(a - t) <= limit)
        right |= broken & ~np.isfinite(a) & ((not strict) | (np.isnan(p) != np.isnan(t)))
        right |= ~broken & beyond & ~(np.abs(a) < largest * 0.9)
        right |= ~broken & ~np.isfinite(p) | ~(limit < largest) & ~np.isnan(limit)
        if not right.all():
            where = tuple(int(i) for i in np.argwhere(~right)[0])
            raise AssertionError(
                f"{words}: {name}{list(where)} is {a[where]!r}, the truth {t[where]!r}, torch's "
                f"{dtype} {p[where]!r}, allowed {limit[where]!r}; {(~right).sum()} of {t.size}"
            )


def gradient(rng: Rng, p: Pair, strange: bool = False) -> np.ndarray:
    """A dy for what the layer returns (NHWC), in its dtype."""
    with torch.no_grad():
        y = copy.deepcopy(p.peer)(tensor(p.x).double())
    shape = tuple(y.shape)
    shape = (shape[0], *shape[2:], shape[1]) if len(shape) == 4 else shape
    dy = rng.normal(size=shape)
    if strange:
        some = rng.random(shape) < 0.1
        dy[some] = rng.choice(STRANGE, some.sum())
    return dy.astype(p.dtype)


def terms(layer: Any, x: np.ndarray, y: np.ndarray) -> float:
    """At most so many products go into one number of y, dx or dw."""
    return max([x.size, y.size, *(w.data.size for w in layer.parameters())])


def check_linear(rng: Rng, p: Pair, what: str, exact: bool = False, strange: bool = False) -> None:
    """A layer that multiplies and adds: within some roundings of the sum of the magnitudes."""
    dy = gradient(rng, p, strange)
    truth = run_torch(p.peer, p.x.astype(float), dy.astype(float))
    theirs = run_torch(copy.deepcopy(p.peer).to(getattr(torch, p.dtype)), p.x, dy)
    absolute = copy.deepcopy(p.peer)
    with torch.no_grad():
        for w in absolute.parameters():
            w.abs_()
    magnitudes, finite = (
        run_torch(absolute, there(np.abs(p.x.astype(float))), there(np.abs(dy.astype(float))))
        for there in (np.asarray, lambda a: np.where(np.isfinite(a), a, 0))
    )
    info = np.finfo(p.dtype)
    roundings = 4 + terms(p.layer, p.x, dy) ** 0.5
    sums = 1 if p.layer.parameters() else p.x[0].size  # a mean is a sum first
    bound = {
        name: np.where(  # a part of such a sum may be beyond all bounds where the whole is not
            finite[name] * sums < info.max, roundings * (info.eps * m + info.smallest_subnormal),
            np.inf,
        )
        for name, m in magnitudes.items()
    }  # fmt: skip
    if exact:
        largest = np.abs(dy[np.isfinite(dy)]).max(initial=0)
        bound = {"y": np.zeros(()), "dx": roundings * info.eps * largest}
    for words, mine in each_side(rng, p, dy, threads=rng.random() < 0.2):
        compare(f"{what}; {words}", mine, truth, theirs, bound, p.dtype)


# ---- the kinds


def window(rng: Rng, most: int = 4) -> tuple[dict[str, Any], tuple[int, int]]:
    """Kernel, stride, padding and dilation, and an image on which the kernel (just) fits."""
    kernel, stride, dilation = size(rng, 1, most), size(rng, 1, 3), size(rng, 1, 3)
    padding = size(rng, 0, 3)
    spans = (d * (k - 1) + 1 for k, d in zip(kernel, dilation, strict=True))
    image = tuple(
        max(1, s - 2 * p) + int(rng.integers(6)) for s, p in zip(spans, padding, strict=True)
    )
    options = dict(kernel_size=kernel, stride=stride, padding=padding, dilation=dilation)
    return options, image  # type: ignore[return-value]


def convolution(rng: Rng) -> str:
    kind = str(rng.choice(["dense", "grouped", "depthwise", "pointwise"]))
    options, image = window(rng)
    groups = 1 if kind == "dense" else int(rng.integers(2, 7))
    c, o = (groups * n for n in size(rng, 1, 5))
    if kind == "depthwise":
        groups = c = o = int(rng.choice([2, 3, 5, 16, 17, 33]))
    elif kind == "pointwise":
        options = dict(kernel_size=1)
        image, groups = size(rng, 1, 6), int(rng.choice([1, groups]))
    options |= dict(groups=groups, bias=bool(rng.integers(2)))
    x, how = values(rng, (int(rng.integers(1, 4)), *image, c))
    p = pair(rng, ts.nn.Conv2d(c, o, **options), nn.Conv2d(c, o, **options), x)
    check_linear(rng, p, f"{p.layer} {p.dtype}{p.x.shape} {how}")
    return kind


def linear(rng: Rng) -> str:
    n, c, o = (int(rng.choice([1, 2, 3, 7, 16, 33])) for _ in range(3))
    bias = bool(rng.integers(2))
    x, how = values(rng, (n, c))
    p = pair(rng, ts.nn.Linear(c, o, bias), nn.Linear(c, o, bias), x)
    check_linear(rng, p, f"{p.layer} {p.dtype}{p.x.shape} {how}")
    return how


class Shuffle(nn.Module):
    def __init__(self, groups: int) -> None:
        super().__init__()
        self.groups = groups

    def forward(self, x):
        return x.unflatten(1, (self.groups, -1)).transpose(1, 2).flatten(1, 2)


def pool(rng: Rng) -> str:
    kind = str(rng.choice(["max", "average", "adaptive", "global"]))
    most = 20 if rng.random() < 0.1 else 4  # more than 256 taps, too
    kernel = size(rng, 1, most)
    padding = tuple(int(rng.integers(k // 2 + 1)) for k in kernel)
    stride = None if rng.random() < 0.3 else size(rng, 1, 4)
    image = tuple(
        max(1, k - 2 * p) + int(rng.integers(6)) for k, p in zip(kernel, padding, strict=True)
    )
    options = dict(kernel_size=kernel, stride=stride, padding=padding)
    if kind == "max":
        options |= dict(ceil_mode=bool(rng.integers(2)))
        layer, peer = ts.nn.MaxPool2d(**options), nn.MaxPool2d(**options)
    elif kind == "average":
        options |= dict(count_include_pad=bool(rng.integers(2)))
        layer, peer = ts.nn.AvgPool2d(**options), nn.AvgPool2d(**options)
    elif kind == "adaptive":
        to, image = size(rng, 1, 5), size(rng, 1, 7)
        layer, peer = ts.nn.AdaptiveAvgPool2d(to), nn.AdaptiveAvgPool2d(to)
    else:
        layer = ts.nn.GlobalAvgPool()
        peer = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten())
    x, how = values(rng, (int(rng.integers(1, 4)), *image, int(rng.choice([1, 2, 3, 16, 19]))))
    p = pair(rng, layer, peer, x)
    check_linear(rng, p, f"{p.layer} {p.dtype}{p.x.shape} {how}", exact=kind == "max",
                 strange=kind == "max" and how != "huge" and rng.random() < 0.2)  # fmt: skip
    return kind


def activation(rng: Rng) -> str:
    kind = str(rng.choice(["relu", "relu6", "shuffle", "flatten", "sigmoid"]))
    n = int(rng.choice([1, 2, 5, 11]))
    groups = int(rng.integers(1, 6))
    layer, peer = {
        "relu": (ts.nn.ReLU(), nn.ReLU()),
        "relu6": (ts.nn.ReLU6(), nn.ReLU6()),
        "shuffle": (ts.nn.ChannelShuffle(groups), Shuffle(groups)),
        "flatten": (ts.nn.Flatten(), nn.Flatten()),
        "sigmoid": (ts.nn.Sigmoid(), nn.Sigmoid()),
    }[kind]
    x, how = values(rng, (int(rng.integers(1, 4)), *size(rng, 1, 5), groups * n))
    at_kinks = rng.random(x.shape) < 0.2
    x[at_kinks] = rng.choice([0.0, -0.0, 6.0, 60.0, -60.0, 90.0, -90.0], at_kinks.sum())
    p = pair(rng, layer, peer, x)
    dy = gradient(rng, p, strange=kind != "sigmoid" and rng.random() < 0.2)
    truth = run_torch(peer, p.x.astype(float), dy.astype(float))
    theirs = run_torch(copy.deepcopy(peer).to(getattr(torch, p.dtype)), p.x, dy)
    eps = np.finfo(p.dtype).eps
    # 1 / (1 + e⁻ˣ) is within a rounding of 1; the rest is copied or set to zero
    bound = {"y": 2 * eps, "dx": 2 * eps * np.abs(nchw(dy))} if kind == "sigmoid" else {
        "y": 0, "dx": 0
    }  # fmt: skip
    at_nan = nchw(np.isnan(p.x)) if kind == "relu6" else False  # PyTorch's ReLU6 does either there
    for words, mine in each_side(rng, p, dy):
        mine["dx"] = np.where(at_nan, truth["dx"], mine["dx"])
        compare(f"{kind} {p.dtype}{x.shape} {how}; {words}", mine, truth, theirs, bound, p.dtype)
    return kind


def batch_norm(rng: Rng) -> str:
    """In training and evaluation, in one slice or several, up to |μ| / σ = 10⁴."""
    mode = str(rng.choice(["train", "train", "eval"]))
    n, (h, w), c = int(rng.integers(1, 7)), size(rng, 1, 6), int(rng.choice([1, 3, 8, 16, 21]))
    if n * h * w < 4:  # of two numbers batch norm leaves but the signs
        n += 3
    options = dict(eps=float(rng.choice([1e-5, 1e-3])), momentum=float(rng.choice([0.1, 0.5, 1.0])))
    x, how = values(rng, (n, h, w, c))
    if rng.random() < 0.1:
        x[..., 0] = rng.choice([0.0, 3.0, -1e4])  # a channel of one value
        how += ", one constant"
    p = pair(rng, ts.nn.BatchNorm2d(c, **options), nn.BatchNorm2d(c, **options), x)
    p.layer.train(mode == "train")
    p.peer.train(mode == "train")
    dy = gradient(rng, p)
    wide, dwide = p.x.astype(float), dy.astype(float)
    truth = run_torch(p.peer, wide, dwide)

    # what one rounding of x, of the mean and of the variance does, for each channel
    training, axes, info = mode == "train", (0, 1, 2), np.finfo(p.dtype)
    mean = wide.mean(axes) if training else p.layer.running_mean.astype(float)
    var = wide.var(axes) if training else p.layer.running_var.astype(float)
    std, gamma = np.sqrt(var + options["eps"]), np.abs(p.layer.weight.data.astype(float))
    beta, offset = np.abs(p.layer.bias.data.astype(float)), np.abs(mean) / std
    if p.dtype == "float64" and training:  # its variance is one of sums of squares
        offset = offset + offset**2
    xhat, ady = np.abs(wide - mean) / std, np.abs(dwide)
    seen = xhat + offset
    # where 1 / σ or products with dy are so small that they lose digits
    lost = float(info.smallest_subnormal)
    size_y = gamma * seen * (1 + lost * std / info.eps) + beta
    size_g = (ady * seen).sum(axes)
    size_dx = ady
    if training:
        size_dx = ady + ady.mean(axes) + seen * (ady * xhat).mean(axes)
        size_dx = size_dx + xhat * (ady * offset).mean(axes)
        size_dx = size_dx + offset * np.abs((dwide * (wide - mean) / std).mean(axes))
    m = options["momentum"] if training else 0.0
    few = (4 if p.dtype == "float32" else 32) * info.eps
    tiny = 4 * lost
    # the kernels add up a few pixels in float32 before they go on in float64: that is one rounding
    # more of the mean and of the deviation
    sums = info.eps if p.dtype == "float32" and training else 0.0
    bound = {
        "y": few * nchw(size_y) + sums * nchw(gamma * seen),
        "dx": few * nchw(gamma / std * size_dx) + tiny,
        "grad weight": (few + info.eps * (h * w * n) ** 0.5) * size_g + tiny * n * h * w / std,
        "grad bias": (few + info.eps * (h * w * n) ** 0.5) * ady.sum(axes),
        "state running_mean": few * (m * np.abs(wide).mean(axes) + 10) + tiny,
        "state running_var": few * (m * var * (10 + offset) + 10) + tiny,
    }
    # sums of x and x² do not overflow on the way to a finite number, as they may in PyTorch's
    # float32: no `theirs`; x̂ and sums of dy x̂ may, if μ and σ are not of this batch
    fits = np.maximum(size_g, seen.max(axes)) < info.max
    bound["grad weight"] = np.where(fits, bound["grad weight"], np.inf)
    for words, mine in each_side(rng, p, dy, threads=training and rng.random() < 0.5):
        compare(
            f"{p.layer} {mode} {options} {p.dtype}{p.x.shape} {how}; {words}",
            mine, truth, truth, bound, p.dtype, strict=False,
        )  # fmt: skip
    return mode


def check_chain(rng: Rng, p: Pair, what: str, broken: bool, threads: bool) -> str:
    """A chain: as near to the truth as PyTorch, or as what roundings of its input do to it."""
    training = p.layer.training
    inferring = not training and rng.random() < 0.5  # layers are joined, and nothing is kept
    dy = None if inferring or (threads and not training) else gradient(rng, p)
    wide, dwide = p.x.astype(float), None if dy is None else dy.astype(float)
    truth, at = watched(p.peer, wide, dwide)
    theirs = run_torch(copy.deepcopy(p.peer).to(getattr(torch, p.dtype)), p.x, dy)
    eps, word = float(np.finfo(p.dtype).eps), "trained" if training else "evaluated"
    if p.dtype == "float64":  # its variances are of sums of squares: (μ / σ)² roundings
        with_noise = p.x.std((0, 1, 2)) > 0
        far = np.abs(p.x.mean((0, 1, 2)))[with_noise] / p.x.std((0, 1, 2))[with_noise]
        eps *= max([1000.0, *far[np.isfinite(far)]])
    moved, kinked = dict.fromkeys(truth, 0.0), False
    for _ in range(0 if broken else 3):
        other, _ = watched(shaken(rng, p.peer, eps), shake(rng, wide, eps),
                           None if dy is None else shake(rng, dwide, eps))  # fmt: skip
        moved = {k: np.maximum(moved[k], np.abs(other[k] - t).max()) for k, t in truth.items()}
        _, near = watched(shaken(rng, p.peer, 16 * eps), shake(rng, wide, 16 * eps), None)
        kinked |= any(not np.array_equal(a, b) for a, b in zip(at, near, strict=True))
    if kinked and dy is not None:  # two right answers: on which side of a kink a number lies
        word += ", on a kink: outputs only"
    # a gradient that is zero, of what a batch norm takes away, is rounding of numbers of this size
    # and a sigmoid's is a rounding of 1 where it is flat
    grads = [np.abs(t).max() for k, t in truth.items() if k.startswith(("dx", "grad"))]
    largest = max(grads, default=0.0)
    flat = 0.0 if dy is None else float(np.abs(dwide).max())
    bound = {
        k: 16 * np.maximum(moved[k], np.abs(theirs[k] - t).max())
        + 16 * eps * np.maximum(np.abs(t).max(), {"g": largest, "d": flat}.get(k[0], 0.0))
        for k, t in truth.items()
        if t.dtype.kind != "i"
    }
    if broken:  # where numbers break, and nowhere else
        bound = {k: np.where(np.isfinite(t), np.inf, 0) for k, t in truth.items()}
    for words, mine in each_side(rng, p, dy, threads):
        there = truth
        if kinked:
            there = {k: t for k, t in truth.items() if not k.startswith(("dx", "grad"))}
            mine = {k: v for k, v in mine.items() if k in there}
        if broken:
            for k, t in there.items():
                fine = np.isfinite(t) & np.isfinite(theirs[k]) & (np.abs(t) < 1e30)
                healthy = bool(np.isfinite(mine[k][fine]).all())
                # beside an infinite pixel a depthwise kernel's padding is 0 · ∞
                healthy |= k.startswith("grad") and t.ndim == 4
                assert healthy, f"{what}; {words}: {k} is broken, the truth is not"
        compare(f"{what}; {words}", mine, there, theirs, bound, p.dtype, strict=False)
    return word


def shake(rng: Rng, x: np.ndarray, eps: float) -> np.ndarray:
    """Each number moved by a rounding."""
    return x * (1 + eps * rng.choice([-1, 1], x.shape))


def shaken(rng: Rng, peer: Any, eps: float) -> Any:
    peer = copy.deepcopy(peer)
    with torch.no_grad():
        for w in peer.parameters():
            w.copy_(torch.tensor(shake(rng, w.numpy(), eps)))
    return peer


def watched(peer: Any, x: np.ndarray, dy: np.ndarray | None) -> tuple[Tensors, list[np.ndarray]]:
    """A pass, and on which side of its kinks each number lay."""
    at: list[np.ndarray] = []

    def look(module: Any, args: Any, out: Any) -> None:
        if isinstance(module, nn.ReLU):
            at.append((args[0] > 0).numpy())
        elif isinstance(module, nn.ReLU6):
            at.append(((args[0] > 0).byte() + (args[0] < 6).byte()).numpy())
        elif isinstance(module, nn.MaxPool2d):
            at.append(nn.functional.max_pool2d(
                args[0], module.kernel_size, module.stride, module.padding, return_indices=True
            )[1].numpy())  # fmt: skip

    peer = copy.deepcopy(peer)
    for module in peer.modules():
        module.register_forward_hook(look)
    return run_torch(peer, x, dy), at


class Add(nn.Module):
    """relu(x + f(x))"""

    def __init__(self, layers: list[Any]) -> None:
        super().__init__()
        for i, layer in enumerate(layers):
            self.add_module(str(i), layer)

    def forward(self, x):
        *f, relu = self.children()
        y = x
        for layer in f:
            y = layer(y)
        return relu(x + y)


def layers(rng: Rng, c: int, count: int, depth: int = 0) -> tuple[list[Any], list[Any], int]:
    """Layers in a row, in both libraries, and how many channels come out of them."""
    ours: list[Any] = []
    theirs: list[Any] = []

    def add(name: str, *args: Any, **options: Any) -> None:
        ours.append(getattr(ts.nn, name)(*args, **options))
        theirs.append({"ChannelShuffle": Shuffle}.get(name, getattr(nn, name, None))(
            *args, **options))  # fmt: skip

    while len(ours) < count:
        what = rng.choice(
            ["conv", "conv", "norm", "bare", "shuffle", "block", "pool", "inner", "relu"]
        )
        groups = int(rng.choice([g for g in (1, 2, 3, 4) if c % g == 0]))
        if what in ("conv", "block"):
            kind = rng.choice(["depthwise", "pointwise", "grouped", "dense"])
            o = c if kind == "depthwise" else groups * int(rng.integers(1, 4))
            shape = dict(kernel_size=1) if kind == "pointwise" else dict(
                kernel_size=3, padding=1, stride=size(rng, 1, 2)
            )  # fmt: skip
            g = {"depthwise": c, "dense": 1}.get(str(kind), groups)
            add("Conv2d", c, o, groups=g, bias=bool(rng.random() < 0.2), **shape)
            c = o
            if what == "block":
                add("BatchNorm2d", c)
                if rng.random() < 0.7:
                    add("ReLU")
                if rng.random() < 0.5:
                    add("ChannelShuffle", int(rng.choice([g for g in (1, 2, 3, 4) if c % g == 0])))
        elif what == "norm":
            add("BatchNorm2d", c)
        elif what in ("relu", "bare"):
            add(str(rng.choice(["ReLU", "ReLU6", "Sigmoid"])))
        elif what == "shuffle":
            add("ChannelShuffle", groups)
        elif what == "pool":
            add(str(rng.choice(["MaxPool2d", "AvgPool2d"])), 3, 2, 1)
        elif what == "inner" and depth < 2:
            mine, peer, o = layers(rng, c, int(rng.integers(1, 4)), depth + 1)
            if rng.random() < 0.5:  # brought back to c channels, it can be added
                mine = [ts.nn.Conv2d(c, c, 1, bias=False), ts.nn.BatchNorm2d(c), ts.nn.ReLU()]
                peer = [nn.Conv2d(c, c, 1, bias=False), nn.BatchNorm2d(c), nn.ReLU()]
                ours.append(ts.nn.Residual(*mine))
                theirs.append(Add(peer))
            else:
                ours.append(ts.nn.Sequential(*mine))
                theirs.append(nn.Sequential(*peer))
                c = o
    return ours, theirs, c


def chain(rng: Rng) -> str:
    """Sequential: convolutions, batch norms, ReLUs and shuffles joined where they can be."""
    c = int(rng.choice([2, 3, 4, 6, 12, 16]))
    ours, theirs, o = layers(rng, c, int(rng.integers(2, 7)))
    if rng.random() < 0.3:
        classes = int(rng.integers(1, 5))
        ours += [ts.nn.GlobalAvgPool(), ts.nn.Linear(o, classes)]
        theirs += [nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(o, classes)]
    ours, theirs = ts.nn.Sequential(*ours), nn.Sequential(*theirs)
    if len(theirs) > len(ours):  # names: PyTorch's pool is two layers
        *rest, last = theirs
        theirs = nn.Sequential(*rest[:-2], nn.Sequential(*rest[-2:]), last)
    n = int(rng.integers(2, 5))
    x = rng.normal(size=(n, *size(rng, 4, 8), c))
    how = str(rng.choice(["plain", "plain", "far", "strange"]))
    if how == "far":
        x += rng.choice([-1, 1]) * 10 ** rng.uniform(0, 4)
    elif how == "strange":
        x[tuple(int(rng.integers(n)) for n in x.shape)] = rng.choice(STRANGE[:4])
    p = pair(rng, ours, theirs, x)
    training = bool(rng.random() < 0.6)
    p.layer.train(training)
    p.peer.train(training)
    what = f"{'train' if training else 'eval'} {p.dtype}{x.shape} {how} {p.layer}"
    return check_chain(rng, p, what, how == "strange", threads=bool(rng.random() < 0.4))


def unit(rng: Rng) -> str:
    """The papers' units: channel split, concatenation, shuffle and addition."""
    stride = int(rng.integers(1, 3))
    if rng.random() < 0.5:
        c = 4 * int(rng.integers(1, 5))
        o = c if stride == 1 else c + 4 * int(rng.integers(1, 4))
        options = dict(downsample=str(rng.choice(["torchvision", "paper"])))
        if options["downsample"] == "paper" and stride == 2:
            o = max(o, c + 4)
        residual = bool(rng.integers(2))
        mine = ts.models.ShuffleUnitV2(c, o, stride, residual=residual, **options)
        peer = peer_torch.UnitV2(c, o, stride, options["downsample"], residual)
    else:
        groups = int(rng.integers(1, 4))
        c = 4 * groups * int(rng.integers(1, 3))
        o = c if stride == 1 else c + 4 * groups * int(rng.integers(1, 3))
        first = int(rng.choice([1, groups]))
        mine = ts.models.ShuffleUnitV1(c, o, groups, stride, first_groups=first)
        peer = peer_torch.UnitV1(c, o, groups, stride, first)
    x = rng.normal(size=(int(rng.integers(2, 5)), *size(rng, 3, 7), c))
    x = np.abs(x)  # as behind a ReLU: what V1's shortcut takes as it is
    p = pair(rng, mine, peer, x)
    training = bool(rng.random() < 0.7)
    p.layer.train(training)
    p.peer.train(training)
    what = f"{'train' if training else 'eval'} {p.dtype}{x.shape} {p.layer}"
    return check_chain(rng, p, what, broken=False, threads=bool(rng.random() < 0.5))


def response_norm(rng: Rng) -> str:
    options = dict(
        size=int(rng.integers(1, 8)), alpha=float(rng.choice([1e-4, 0.1, 1.0])),
        beta=float(rng.choice([0.5, 0.75, 1.0])), k=float(rng.choice([1.0, 2.0])),
    )  # fmt: skip
    x = rng.normal(size=(int(rng.integers(1, 4)), *size(rng, 1, 4), int(rng.integers(1, 12))))
    x *= rng.choice([1e-30, 1.0, 100.0, 1e6])
    layer, peer = ts.nn.LocalResponseNorm(**options), nn.LocalResponseNorm(**options)
    p = pair(rng, layer, peer, x)
    check_chain(rng, p, f"{p.layer} {p.dtype}{x.shape}", broken=False, threads=False)
    return p.dtype


def dropout(rng: Rng) -> str:
    """One mask forward and backward, the same for every number of threads and both backends."""
    share, seed = float(rng.choice([0.0, 0.1, 0.5, 0.9])), int(rng.integers(1000))
    dtype = str(rng.choice(["float32", "float64"]))
    x = rng.uniform(1, 2, (int(rng.integers(1, 8)), *size(rng, 1, 6), int(rng.integers(1, 9))))
    x = laid(rng, x.astype(dtype))
    dy = rng.uniform(1, 2, x.shape).astype(dtype)
    masks = []
    for backend in "numpy", "numba":
        for threads in 1, 2, 3:
            net = ts.DataParallel(ts.nn.Sequential(ts.nn.Dropout(share)).initialise(seed))
            ts.set_num_threads(threads)
            with ts.backend(backend):
                y, dx = net(x), net.backward(dy)
                assert np.array_equal(net.eval()(x), x), "evaluation changes the numbers"
            assert y.dtype == dx.dtype == np.dtype(dtype)
            kept = y != 0
            scale = np.where(kept, 1 / (1 - share), 0)
            for got, wanted in (y, x * scale), (dx, dy * scale):
                assert np.allclose(got, wanted, rtol=4 * np.finfo(dtype).eps, atol=0), net
            masks.append(kept)
    assert all(np.array_equal(masks[0], mask) for mask in masks), "masks differ"
    spread = 5 * (share * (1 - share) * x.size) ** 0.5
    assert abs((~masks[0]).sum() - share * x.size) <= spread, f"{(~masks[0]).mean()} for {share}"
    return dtype


def cross_entropy(rng: Rng) -> str:
    n, k = int(rng.integers(1, 7)), int(rng.choice([1, 2, 3, 10, 100]))
    smoothing = float(rng.choice([0.0, 0.0, 0.1, 1.0]))
    dtype = str(rng.choice(["float32", "float64"]))
    how = str(rng.choice(["plain", "wide", "far", "strange", "-inf"]))
    z = rng.normal(size=(n, k))
    if how == "wide":
        z *= 10 ** rng.uniform(0, 38)
    elif how == "far":
        z += 10 ** rng.uniform(0, 4)
    elif how == "strange":
        some = rng.random(z.shape) < 0.1
        z[some] = rng.choice(STRANGE, some.sum())
    elif how == "-inf":
        z[rng.random(z.shape) < 0.5] = -np.inf
    if smoothing == 1 and not np.isfinite(z).all():
        smoothing = 0.9  # with 1 PyTorch multiplies the label's infinity by zero
    z = z.astype(dtype)
    labels = rng.integers(k, size=n).astype(rng.choice(["int64", "uint8", "int32"]))

    def theirs(dtype: str) -> Tensors:
        logits = torch.tensor(z.astype(dtype), requires_grad=True)
        value = nn.CrossEntropyLoss(label_smoothing=smoothing)(
            logits, torch.tensor(labels.astype(np.int64))
        )
        value.backward()
        return {"loss": value.detach().numpy(), "dlogits": logits.grad.numpy()}

    truth = theirs("float64")
    eps, wide = float(np.finfo(dtype).eps), z.astype(float)
    far = np.abs(np.where(np.isfinite(wide), wide, 0)).max(axis=1)
    # softmax's exponent is off by a rounding of z, and a softmax is flat where it is 0 or 1
    bound = {"loss": 8 * eps * (1 + far.mean()), "dlogits": 8 * eps * (1 + far[:, None]) / n}
    for backend in "numpy", "numba":
        with ts.backend(backend):
            loss = ts.nn.CrossEntropyLoss(smoothing)
            mine = {"loss": np.asarray(loss(laid(rng, z), labels)), "dlogits": loss.backward()}
        what = f"smoothing {smoothing} {dtype} {how} {z.tolist()} {labels.tolist()}; {backend}"
        compare(what, mine, truth, theirs(dtype), bound, dtype)
    return how


COUNTS = {
    convolution: 1400,
    linear: 300,
    pool: 900,
    activation: 500,
    batch_norm: 1000,
    chain: 800,
    unit: 150,
    response_norm: 150,
    dropout: 100,
    cross_entropy: 500,
}


@pytest.mark.parametrize("case", COUNTS, ids=lambda case: case.__name__)
def test_layers(case) -> None:
    run_cases(case.__name__, COUNTS[case], case)
