"""Counts against the published ones, against other counters, and against counting by hand."""

from __future__ import annotations

import gc
import json
import time
import tracemalloc

import numpy as np
import pytest

import tinyshuffle as ts
from tinyshuffle import TinyshuffleError, cost, nn
from tinyshuffle.cost.profile import total_cost
from tinyshuffle.ops import Cost

V1 = ("shufflenet_v1_x1_0_g3", {"fc_bias": False})
V2 = ("shufflenet_v2_x1_0", {"fc_bias": False, "downsample": "paper"})


@pytest.mark.parametrize(
    ("convention", "v1", "v2"),
    [  # what each counter says of the authors' own nets at 224x224
        ("paper", 137_460_672, 145_814_296),
        ("torchinfo", 137_485_152, 145_830_476),
        ("fvcore", 143_458_272, 149_714_696),
        ("ptflops", 148_416_288, 153_393_224),
        ("thop", 149_546_208, 153_616_120),
        ("flopcounter", 274_921_344, 291_628_592),
        ("ptflops-aten", 137_460_672, 145_814_296),
    ],
)
def test_the_counters_to_the_digit(convention, v1, v2):
    for (name, variant), expected in ((V1, v1), (V2, v2)):
        profile = cost.profile(name, convention=convention, **variant)
        assert profile.total.multiply_adds == expected
    assert set(cost.CONVENTIONS) == {
        "paper", "torchinfo", "fvcore", "ptflops", "ptflops-aten", "thop", "flopcounter",
        "deepspeed",
    }  # fmt: skip


def test_torchinfo_alone_scales_everything_with_the_batch():
    for convention in cost.CONVENTIONS:
        one, eight = (
            cost.profile(V1[0], (n, 224, 224, 3), convention=convention).total.multiply_adds
            for n in (1, 8)
        )
        assert eight == 8 * one


@pytest.mark.parametrize(
    ("name", "multiply_adds", "params"),
    [  # chenyaofo/pytorch-cifar-models, in millions to two digits, and exact
        ("shufflenet_v2_x0_5", 10_902_016, 352_042),
        ("shufflenet_v2_x1_0", 45_002_112, 1_263_854),
        ("shufflenet_v2_x1_5", 94_259_712, 2_488_874),
        ("shufflenet_v2_x2_0", 187_811_200, 5_365_486),
        ("shufflenet_v1_x1_0_g3", 42_590_592, 914_338),
        ("shufflenet_v1_x1_0_g8", 42_703_872, 913_138),
    ],
)
def test_cifar_nets(name, multiply_adds, params):
    total = cost.profile(name, (1, 32, 32, 3)).total
    assert (total.multiply_adds, total.params) == (multiply_adds, params)


@pytest.mark.parametrize(
    ("name", "multiply_adds"),
    [
        ("shufflenet_v1_x1_0_g1", 143_078_976),
        ("shufflenet_v1_x1_0_g2", 140_836_512),
        ("shufflenet_v1_x1_0_g4", 134_339_776),
        ("shufflenet_v1_x1_0_g8", 138_365_952),
        ("shufflenet_v1_x0_5_g3", 37_589_856),
        ("shufflenet_v1_x0_5_g4", 37_943_936),
        ("shufflenet_v1_x0_5_g8", 40_469_760),
        ("shufflenet_v1_x1_5_g3", 292_443_552),
        ("shufflenet_v1_x2_0_g3", 524_045_184),
        ("shufflenet_v1_x0_25_g4", 13_019_056),
        ("shufflenet_v2_x0_5", 40_476_448),
        ("shufflenet_v2_x1_0", 144_907_992),
        ("shufflenet_v2_x2_0", 583_253_464),
    ],
)
def test_imagenet_nets(name, multiply_adds):
    assert cost.profile(name).total.multiply_adds == multiply_adds


def test_profile_counts_what_the_net_does(rng):
    """The rows are those of a run: shapes and parameters agree with the real net's."""
    net = ts.models.create("shufflenet_v1_x0_25_g2", 10, "cifar", se=True)
    profile = cost.profile(net, (3, 20, 28, 3))
    assert profile.total.params == sum(p.data.size for p in net.parameters())
    assert profile.total.output == (3, 10)
    shapes = {}
    for path, module in net.named_modules():
        if isinstance(module, (nn.Conv2d, nn.Linear)):
            forward = module.forward
            module.forward = lambda x, path=path, f=forward: shapes.setdefault(path, f(x))
    net.eval()
    with ts.backend("numpy"):
        net.net(rng.standard_normal((3, 20, 28, 3)).astype(np.float32))
    counted = {row.layer: row.output for row in profile.rows if row.multiply_adds}
    assert counted == {path: y.shape for path, y in shapes.items()}


def test_profile_between_forward_and_backward_disturbs_neither(rng):
    net = nn.Sequential(nn.Conv2d(3, 4, 1), nn.ReLU()).initialise(0)
    x = rng.standard_normal((2, 5, 5, 3)).astype(np.float32)
    y = net(x)
    cost.profile(net, x.shape)
    dx = net.backward(y)
    expected = net(x)
    np.testing.assert_array_equal(dx, net.backward(expected))


@pytest.mark.parametrize("name", ["shufflenet_v1_x0_25_g3", "mobilenet_v2", "resnet20"])
def test_the_total_alone_is_that_of_the_profile(name):
    net = ts.models.create(name, stem="cifar").net
    assert total_cost(net, (1, 32, 32, 3)) == cost.profile(net, (1, 32, 32, 3)).total


def test_adding_up():
    profile = cost.profile("shufflenet_v2_x0_5", (2, 32, 32, 3))
    for by in ("layer", "unit", "stage", "kind", "type"):
        rows = profile.by(by)
        for what in ("params", "multiply_adds", "memory_access", "backward_multiply_adds"):
            assert sum(getattr(r, what) for r in rows) == getattr(profile.total, what)
    stages = [row.layer for row in profile.by("stage")]
    assert stages == ["conv1", "stage2", "stage3", "stage4", "conv5", "globalpool", "fc"]
    units = [row.layer for row in profile.by("unit")]
    assert units[:3] == ["conv1", "stage2.0", "stage2.1"]
    assert units[-3:] == ["conv5", "globalpool", "fc"]
    assert {row.kind for row in profile.rows} <= set(cost.KINDS)
    assert profile.total.backward_multiply_adds == 2 * profile.total.multiply_adds


def test_peak_memory_of_a_chain():
    """Two convolutions: the caller holds x, and a training pass keeps what it needs."""
    net = nn.Sequential(nn.Conv2d(3, 8, 1, bias=False), nn.Conv2d(8, 4, 1, bias=False))
    profile = cost.profile(net, (1, 10, 10, 3))
    assert profile.peak_inference == 4 * 100 * (3 + 8 + 4)
    # x and h are kept; at the end of the forward pass y, its gradient and then dh join them
    assert profile.peak_training == 4 * 100 * (3 + 8 + 4 + 8)
    assert cost.profile(net, (1, 10, 10, 3), dtype="float64").peak_inference == 8 * 100 * 15


def test_large_nets_cost_nothing_to_count():
    net = ts.models.create("shufflenet_v1_x2_0_g1")
    gc.collect()
    tracemalloc.start()
    started = time.perf_counter()
    profile = cost.profile(net, (64, 896, 896, 3))
    seconds = time.perf_counter() - started
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert profile.peak_training > 2e10
    assert peak < 2e7
    assert seconds < 10  # traced; a tenth of this without


def test_formats():
    profile = cost.profile("shufflenet_v2_x0_5", (1, 32, 32, 3))
    record = json.loads(profile.to_json("stage"))
    assert record["rows"][-1]["multiply_adds"] == 10_902_016
    assert record["rows"][0]["layer"] == "conv1"
    lines = profile.to_csv("kind").splitlines()
    assert lines[0].startswith("layer,kind,operation,output,params,multiply_adds")
    assert lines[-1].startswith("total,")
    assert "| pointwise |" in profile.to_markdown("type")
    assert "10,902,016 multiply-adds" in str(profile)


class Swish(nn.Module):
    def forward(self, x):
        return x / (1 + np.exp(-x))

    def backward(self, dy):
        return dy


class Counted(Swish):
    def cost(self, x):
        return Cost(output=x, elementwise=4 * int(np.prod(x)), memory_access=2 * int(np.prod(x)))


def test_a_layer_without_a_cost_is_named_and_told_what_to_write():
    net = nn.Sequential(nn.Conv2d(3, 4, 1), Swish())
    with pytest.raises(TinyshuffleError) as error:
        cost.profile(net, (1, 8, 8, 3))
    assert str(error.value).startswith("1 (Swish) does not say what it costs")
    assert "def cost(self, x)" in str(error.value)
    assert isinstance(net[1], Swish)
    x = np.ones((1, 2, 2, 3), np.float32)
    assert np.isfinite(net(x)).all()  # the net computes as before


def test_a_users_own_layer_with_a_cost():
    net = nn.Sequential(nn.Conv2d(3, 4, 1), Counted(), nn.ReLU())
    profile = cost.profile(net, (1, 8, 8, 3))
    assert [row.operation for row in profile.rows] == ["pointwise_conv2d", "Counted", "relu"]
    assert profile.rows[1].elementwise == 4 * 256


class Remembers(Counted):
    def forward(self, x):
        self.save(x)
        return super().forward(x)

    def backward(self, dy):
        (x,) = self.saved()
        return dy * x


def test_a_users_own_layer_may_save_what_its_backward_needs():
    plain = nn.Sequential(nn.Conv2d(3, 4, 1), Counted(), nn.ReLU())
    net = nn.Sequential(nn.Conv2d(3, 4, 1), Remembers(), nn.ReLU())
    found, expected = (cost.profile(n, (1, 8, 8, 3)) for n in (net, plain))
    assert found.total == expected.total
    assert found.peak_training == expected.peak_training


class Again(nn.Module):
    """conv(conv(x)) with one convolution."""

    def __init__(self):
        self.conv = nn.Conv2d(4, 4, 3, padding=1)

    def forward(self, x):
        y = self.conv(x)
        self.save(x, y)
        return self.conv(y)

    def backward(self, dy):
        for x in reversed(self.saved()):
            self.conv.save(x)
            dy = self.conv.backward(dy)
        return dy


def test_what_is_used_twice_has_its_parameters_once():
    once = cost.profile(nn.Conv2d(4, 4, 3, padding=1), (1, 8, 8, 4)).total
    twice = cost.profile(Again(), (1, 8, 8, 4)).total
    assert twice.multiply_adds == 2 * once.multiply_adds
    assert twice.params == once.params == 148
    tied = nn.Sequential(nn.Conv2d(4, 4, 3), nn.Conv2d(4, 4, 3), nn.BatchNorm2d(4))
    tied[1].weight = tied[0].weight  # and a bias of its own
    assert cost.profile(tied, (1, 8, 8, 4)).total.params == 148 + 4 + 8
    assert sum(p.data.size for p in tied.parameters()) == 148 + 4 + 8


@pytest.mark.parametrize(
    ("act", "words"),
    [
        (lambda: cost.profile("shufflenet_v2_x0_5", convention="flops"), "unknown convention"),
        (lambda: cost.profile("shufflenet_v2_x0_5", convention="flops"), "flopcounter"),
        (lambda: cost.profile("shufflenet_v3"), "did you mean"),
        (lambda: cost.profile("shufflenet_v2_x0_5").by("layers"), "use layer, unit, stage"),
        (lambda: cost.profile("shufflenet_v2_x0_5", (1, 3, 32, 32)), "channels last"),
    ],
)
def test_errors_say_what_to_do(act, words):
    with pytest.raises(TinyshuffleError) as error:
        act()
    assert words in str(error.value)


def test_the_backend_is_as_before_after_an_error():
    with pytest.raises(TinyshuffleError):
        cost.profile(nn.Sequential(Swish()), (1, 4, 4, 3))
    assert nn.ReLU()(np.ones(3)).tolist() == [1, 1, 1]
