"""The rules: what they make of a few rows, and that what goes wrong in a fused row is noticed."""

from __future__ import annotations

import importlib
import itertools

import numpy as np
import pytest

import tinyshuffle as ts
from tinyshuffle import kernels, nn
from tinyshuffle.backend import F
from tinyshuffle.kernels import play, works
from tinyshuffle.models import ShuffleUnitV1, ShuffleUnitV2
from tinyshuffle.plan import Player, fuse, fused, place, trace

SHAPE = (3, 6, 5, 12)


def operations(net, shape=SHAPE, train=True):
    return [row.operation for row in fuse(trace(net, shape, train=train)).rows]


def between(*layers):
    """Layers behind a convolution with its batch norm."""
    return nn.Sequential(nn.Conv2d(12, 12, 1, bias=False), nn.BatchNorm2d(12), *layers)


SMALL = {"batch_norm_statistics", "batch_norm_track", "batch_norm_gradients"}


def large(net, shape=SHAPE, train=True):
    """The rows that read a tensor of images."""
    return [name for name in operations(net, shape, train) if name not in SMALL]


def test_a_batch_norm_between_two_convolutions_is_never_a_pass_of_its_own():
    net = between(nn.ReLU(), nn.ChannelShuffle(3), nn.Conv2d(12, 8, 1, bias=False),
                  nn.BatchNorm2d(8))  # fmt: skip
    assert large(net) == [
        "norm_conv", "norm_conv", "normalised",
        "batch_norm_backward_sums", "norm_conv_backward", "norm_conv_backward",
    ]  # fmt: skip


def test_in_evaluation_a_convolution_does_its_batch_norm():
    net = between(nn.ReLU(), nn.Conv2d(12, 12, 3, groups=12, padding=1, bias=False),
                  nn.BatchNorm2d(12))  # fmt: skip
    assert large(net, train=False) == ["conv_norm", "conv_norm"]


def test_the_units_of_the_papers():
    v2 = nn.Sequential(ShuffleUnitV2(12, 12, 1))
    assert large(v2).count("concat_shuffle") == large(v2).count("concat_shuffle_backward") == 1
    assert not {"concat", "channel_shuffle", "relu", "batch_norm", "add"} & set(large(v2))
    v1 = nn.Sequential(ShuffleUnitV1(24, 24, 3, stride=1))
    names = large(v1, (3, 6, 5, 24))
    assert names.count("norm_add_relu") == names.count("norm_add_relu_backward") == 1
    assert not {"channel_shuffle", "relu", "batch_norm", "add"} & set(names)


def meeting_nets():
    """Units behind each other: where their branches meet, the next pointwise convolution reads."""
    v2 = nn.Sequential(
        ShuffleUnitV2(12, 12, 2), ShuffleUnitV2(12, 12, 1), ShuffleUnitV2(12, 12, 1),
        ShuffleUnitV2(12, 20, 2), ShuffleUnitV2(20, 20, 1),
    )  # fmt: skip
    v1 = nn.Sequential(
        ShuffleUnitV1(12, 24, 3, stride=2), ShuffleUnitV1(24, 24, 3, stride=1),
        ShuffleUnitV1(24, 24, 3, stride=1),
    )  # fmt: skip
    return {"v2": v2, "v1": v1}


@pytest.mark.parametrize(("name", "joined"), [("v2", 7), ("v1", 2)])
def test_branches_meet_together_with_the_products_behind_or_before(name, joined):
    """Block by block or one after the other is the same, and no row writes over what another reads.

    The pixels of an image, 63, are no multiple of those of a block, nor are the slices alike.
    """
    net, rng = meeting_nets()[name].astype(np.float64), np.random.default_rng(0)
    x, found = rng.standard_normal((13, 9, 7, 12)), []
    plan = fuse(trace(net, x.shape, x.dtype, train=True))
    pairs = [i for i, row in enumerate(plan.rows) if row.joined]
    assert len(pairs) == joined and str(plan).count("& ") == joined + 1
    for i in pairs:
        before, row = plan.rows[i - 1 : i + 1]
        lives = {v.buffer for r in (before, row) for v in (*r.reads, *r.writes)}
        placed = [b for b in place(plan).buffers if b.index in lives and b.place is not None]
        for a, b in itertools.combinations(placed, 2):
            assert a.place + a.nbytes <= b.place or b.place + b.nbytes <= a.place
    for slices, together in (1, True), (1, False), (2, True), (3, False):
        player = Player(net, plan, slices)
        for part in player.slices:
            assert len(part.records._joined) == joined
            taken = [part.records.array["kernel"][inner] for _, inner in part.records._joined]
            assert taken == joined * [play.TAKEN]
            part.records.join(together)
        y = player.forward(x)
        dx = player.backward(np.random.default_rng(1).standard_normal(y.shape))
        found.append([y.copy(), dx.copy(), *(p.grad.copy() for p in net.parameters())])
        for p in net.parameters():
            p.grad = None
    for others in found[1:]:
        for a, b in zip(found[0], others, strict=True):
            assert np.abs(a - b).max() <= 1e-11 * max(1, np.abs(a).max())


def test_what_two_layers_read_is_kept():
    class Both(nn.Module):
        def __init__(self):
            self.front = between(nn.ReLU())
            self.a = nn.Conv2d(12, 12, 1, bias=False)
            self.b = nn.Conv2d(12, 12, 1, bias=False)

        def forward(self, x):
            z = self.front(x)
            return F.add(self.a(z), self.b(z))

        def backward(self, dy):
            return self.front.backward(F.add(self.a.backward(dy), self.b.backward(dy)))

    assert "normalised" in large(Both())


def test_a_convolution_with_a_bias_stays_alone():
    assert "conv2d" in large(nn.Sequential(nn.Conv2d(12, 8, 3), nn.BatchNorm2d(8), nn.ReLU()))


def test_a_layer_in_python_ends_a_row():
    class Own(nn.Module):
        def forward(self, x):
            return x + 1

        def backward(self, dy):
            return dy

    net = between(Own(), nn.ReLU(), nn.Conv2d(12, 8, 1, bias=False))
    assert "python" in large(net) and "relu" in large(net)


# ---- a fault in a fused row


NETS = {
    "v1": lambda: nn.Sequential(ShuffleUnitV1(24, 24, 3, stride=1),
                                ShuffleUnitV1(24, 48, 3, stride=2)),
    "v2": lambda: nn.Sequential(ShuffleUnitV2(24, 24, 1), ShuffleUnitV2(24, 24, 2),
                                ShuffleUnitV2(24, 24, 1)),
    "residual": lambda: nn.Sequential(ShuffleUnitV2(24, 24, 1, residual=True),
                                      ShuffleUnitV2(24, 24, 1)),
    "wider": lambda: nn.Sequential(ShuffleUnitV2(24, 40, 1), ShuffleUnitV2(40, 40, 1)),
}  # fmt: skip
FAULTS = [
    ("v2", "norm_conv", 0), ("v2", "norm_conv", 1), ("v2", "norm_conv_backward", 0),
    ("v2", "norm_conv_backward", 1), ("v2", "norm_conv_backward", 2),
    ("v2", "concat_shuffle", None), ("v2", "concat_shuffle_backward", 0),
    ("v2", "concat_shuffle_backward", 2),
    ("v1", "norm_conv_backward", 0), ("v1", "norm_conv_backward", 2), ("v1", "norm_add_relu", None),
    ("v1", "norm_add_relu_backward", 0), ("v1", "norm_add_relu_backward", 1),
    ("residual", "norm_add_relu_backward", 1), ("v2", "batch_norm_gradients", 1),
]  # fmt: skip


def step(net, x, dy):
    net.zero_grad()
    y, dx = net(x), net.backward(dy)
    return [y, dx, *(p.grad for p in net.parameters())]


def difference(net, alone, x):
    y = alone(x)
    dy = np.random.default_rng(1).standard_normal(y.shape)
    return max(
        np.abs(a - b).max() / np.abs(b).max()
        for a, b in zip(step(net, x, dy), step(alone, x, dy), strict=True)
        if np.abs(b).max() > 1e-10
    )


@pytest.mark.parametrize(("which", "name", "result"), FAULTS)
def test_a_fault_in_a_row_is_noticed(monkeypatch, which, name, result):
    """One part in ten thousand too much, in one result of one kind of row."""
    x = np.random.default_rng(0).standard_normal((2, 6, 6, 24))
    build = lambda: NETS[which]().initialise(0).astype(np.float64)  # noqa: E731
    assert difference(ts.DataParallel(build()), build(), x) < 1e-10
    assert ts.validate(build(), x).passed
    right = getattr(kernels, name)

    def wrong(*args, **kwargs):
        out = right(*args, **kwargs)
        if result is None:
            return out * 1.0001
        out = list(out)
        if out[result] is not None:
            out[result][-1] *= 1.0001
        return tuple(out)

    monkeypatch.setattr(kernels, name, wrong)
    monkeypatch.delitem(works._WORKS, name)  # so that the rows call it
    report = ts.validate(build(), x)
    assert not report.passed and report.plan.rows[report.first].operation == name
    assert str(report).startswith(f"row {report.first}, {name} of ")
    assert difference(ts.DataParallel(build()), build(), x) > 1e-6


RULES = {
    "the norm in front forgets its ReLU": ("normalised", lambda n: n._replace(relu=False)),
    "the norm in front forgets its shuffle": ("normalised", lambda n: n._replace(shuffle=1)),
}


@pytest.mark.parametrize("name", RULES)
def test_a_rule_that_forgets_a_term_is_noticed(monkeypatch, name):
    """What the rule says is what runs, so the layers themselves have to differ from it."""
    module = importlib.import_module("tinyshuffle.plan.fuse")
    _, forgets = RULES[name]

    def norm(table, i):
        module.normalised(table, i)
        row = table.rows[i]
        if row is not None and row.operation == "normalised":
            x, n = row.arguments
            table.rows[i] = module.replace(row, arguments=(x, forgets(n)))

    rules = [norm if rule is module.normalised else rule for rule in module.RULES]
    monkeypatch.setattr(module, "RULES", rules)
    x = np.random.default_rng(0).standard_normal((2, 6, 6, 24))
    build = lambda: NETS["v1"]().initialise(0).astype(np.float64)  # noqa: E731
    assert difference(ts.DataParallel(build()), build(), x) > 1e-3


FIELDS = {
    "norm_conv": lambda r: r["before"].__setitem__("relu", 0),
    "norm_conv_backward": lambda r: r["behind"].__setitem__("pixels", r["behind"]["pixels"] + 1),
    "concat_shuffle": lambda r: r["behind"].__setitem__("eps", 0.1),
    "concat_shuffle_backward": lambda r: r["behind"].__setitem__("relu", 0),
    "batch_norm_gradients": lambda r: r.__setitem__("dx", r["y"]),
    "batch_norm_track": lambda r: r.__setitem__("n", r["n"] + 9),
    "batch_norm_statistics": lambda r: r.__setitem__("c", r["c"] - 1),
}


@pytest.mark.parametrize("name", FIELDS)
def test_a_wrong_number_in_a_record_is_noticed(monkeypatch, name):
    x = np.random.default_rng(0).standard_normal((2, 6, 6, 48))
    net = nn.Sequential(ShuffleUnitV2(48, 48, 1), ShuffleUnitV2(48, 48, 1))
    net.initialise(0).astype(np.float64)
    make = works._WORKS[name]

    def wrong(*given):
        work = make(*given)
        if work is not None:
            FIELDS[name](work.record)
        return work

    monkeypatch.setitem(works._WORKS, name, wrong)
    report = ts.validate(net, x)
    assert not report.passed and report.plan.rows[report.first].operation == name


def test_a_meeting_that_is_left_out_is_noticed():
    x = np.random.default_rng(0).standard_normal((4, 6, 6, 24)) + np.arange(4.0).reshape(4, 1, 1, 1)
    build = lambda: NETS["v2"]().initialise(0).astype(np.float64)  # noqa: E731
    ts.set_num_threads(2)
    try:
        net = ts.DataParallel(build())
        assert difference(net, build(), x) < 1e-9
        (player,) = net._now.players.values()
        for part in player.slices:
            meetings = part.records.array["kernel"] == play.MEETING
            assert meetings.sum() > 10
            part.records.array["m"][meetings] = 0  # they meet, and add up nothing
        assert difference(net, build(), 2 * x + 1) > 1e-3
    finally:
        ts.set_num_threads(None)


def test_every_name_of_a_fused_row_has_a_definition_and_a_kernel():
    for name in fused.__all__:
        if name[0].islower():
            assert callable(getattr(kernels, name)), name


def test_a_result_that_is_no_number_is_noticed():
    from tinyshuffle.plan.replay import _difference

    nan, one = np.array([np.nan, 1.0]), np.ones(2)
    assert _difference([nan], one, 1.0) == _difference([one], nan, 1.0) == np.inf
    assert _difference([nan], nan.copy(), 1.0) == 0
    assert _difference([np.array([np.inf, 1.0])], np.array([-np.inf, 1.0]), 1.0) == np.inf
