"""The zoo's gradients: units always, whole nets among the slow tests; and steps."""

from __future__ import annotations

from functools import partial

import numpy as np
import pytest

import tinyshuffle as ts
from tinyshuffle import models, nn
from tinyshuffle.models.condensenet import CondenseLayer, FirstChannels
from tinyshuffle.models.densenet import DenseLayer
from tinyshuffle.models.googlenet import Inception
from tinyshuffle.models.igcv3 import InterleavedUnit
from tinyshuffle.models.mobilenet_v1 import dense, separable
from tinyshuffle.models.mobilenet_v2 import InvertedResidual
from tinyshuffle.models.nasnet import NORMAL, REDUCTION, Cell, FactorisedReduction
from tinyshuffle.models.other_units import vgg_unit
from tinyshuffle.models.pnasnet import PROGRESSIVE
from tinyshuffle.models.resnet import basic_block, bottleneck
from tinyshuffle.models.senet import se_block
from tinyshuffle.models.shufflenet_v2_large import WideningUnitV2, _unit_v1
from tinyshuffle.models.shufflenet_v2_star import ShuffleUnitV2Star
from tinyshuffle.models.squeezenet import Fire
from tinyshuffle.models.xception import XceptionBlock


class OnBoth(nn.Module):
    """A cell on an image's channels: the first for the cell before, the others for the last one."""

    def __init__(self, before, *arguments, **more):
        self.before, self.cell = before, Cell(before, *arguments, **more)

    def forward(self, x):
        return self.cell.join(x[..., : self.before].copy(), x[..., self.before :].copy())

    def backward(self, dy):
        return np.concatenate(self.cell.join_backward(dy), axis=-1)


UNITS = {
    "normal cell": (partial(OnBoth, 4, 3, 2, NORMAL), 7),
    "reduction cell": (partial(OnBoth, 3, 4, 2, REDUCTION, 2), 7),
    "reduction cell, the first": (partial(OnBoth, 3, 3, 2, REDUCTION, 2, adjust=False), 6),
    "progressive cell": (partial(OnBoth, 3, 3, 2, PROGRESSIVE), 6),
    "progressive cell, stride 2": (partial(OnBoth, 3, 3, 2, PROGRESSIVE, 2), 6),
    "factorised reduction": (partial(FactorisedReduction, 4, 5), 4),
    "basic": (partial(basic_block, 5, 5, 1), 5),
    "basic, stride 2": (partial(basic_block, 4, 6, 2), 4),
    "bottleneck": (partial(bottleneck, 8, 3, 8, 1), 8),
    "bottleneck, stride 2": (partial(bottleneck, 6, 4, 8, 2), 6),
    "bottleneck, wider only": (partial(bottleneck, 6, 4, 8, 1), 6),
    "bottleneck, grouped": (partial(bottleneck, 8, 6, 8, 1, groups=3), 8),
    "bottleneck, stride first": (partial(bottleneck, 8, 4, 6, 2, 2, True), 8),
    "basic, padding": (partial(basic_block, 4, 7, 2, "padding"), 4),
    "basic, plain": (partial(basic_block, 4, 6, 2, "none"), 4),
    "bottleneck, padding": (partial(bottleneck, 6, 4, 8, 1, shortcut="padding"), 6),
    "bottleneck, SE": (partial(se_block, 6, 2, 2, groups=2), 6),
    "vgg": (partial(vgg_unit, 4, 6, 2), 4),
    "separable": (partial(separable, 5, 7, 1), 5),
    "separable, stride 2": (partial(separable, 6, 4, 2), 6),
    "inverted residual": (partial(InvertedResidual, 4, 4, 1, 6), 4),
    "inverted residual, t = 1": (partial(InvertedResidual, 6, 4, 1, 1), 6),
    "inverted residual, stride 2": (partial(InvertedResidual, 4, 6, 2, 3), 4),
    "condense layer": (partial(CondenseLayer, 8, 4, 4), 8),
    "first channels": (partial(FirstChannels, 3), 7),
    "interleaved": (partial(InterleavedUnit, 4, 8, 4, 1, True), 4),
    "interleaved, stride 2": (partial(InterleavedUnit, 4, 8, 6, 2, False), 4),
    "xception": (partial(XceptionBlock, (4, 4, 4), False), 4),
    "xception, stride 2": (partial(XceptionBlock, (4, 5, 6), True, False), 4),
    "mobilenet, dense": (partial(dense, 4, 5, 2), 4),
    "dense layer": (partial(DenseLayer, 7, 2), 7),
    "fire": (partial(Fire, 8, 3, 5), 8),
    "inception": (partial(Inception, 7, (2, 3, 4, 1, 3, 5)), 7),
    "inception, 5x5": (partial(Inception, 7, (2, 3, 4, 1, 3, 5), 5), 7),
    "V2*": (partial(ShuffleUnitV2Star, 12, 12, 1), 12),
    "V2*, stride 2": (partial(ShuffleUnitV2Star, 6, 16, 2), 6),
    "V2*, SE, residual": (partial(ShuffleUnitV2Star, 12, 12, 1, se=True, residual=True), 12),
    "V2, wider only": (partial(WideningUnitV2, 6, 16), 6),
    "V2, wider only, paper, SE": (partial(WideningUnitV2, 6, 16, "paper", True), 6),
    "V1, half": (partial(_unit_v1, 12, 12, 1), 12),
    "V1, half, stride 2": (partial(_unit_v1, 12, 24, 2), 12),
}


@pytest.mark.parametrize("unit", UNITS)
@pytest.mark.parametrize("size", [(5, 6), (4, 3)])
def test_units(each_backend, unit, size):
    build, c = UNITS[unit]
    module = build().initialise(1).astype("float64")
    rng = np.random.default_rng(2)
    for p in module.parameters():  # away from the ones and zeros that would hide a factor
        p.data += rng.uniform(-0.2, 0.2, p.shape)
    report = ts.gradcheck(module, rng.standard_normal((3, *size, c)))
    assert report.passed, report
    assert report.max_relative_error <= 1e-6


# One of each kind, with a small image that leaves batch norm a few pixels.
NETS = {
    "alexnet": 15,
    "nin": 8,
    "vgg11": 32,
    "vgg11_bn": 32,
    "resnet18": 8,
    "squeezenet1_0": 8,
    "squeezenet1_1": 8,
    "resnet20": 8,
    "mobilenet_v1_x0_25": 16,
    "mobilenet_v2_x0_15": 16,
    "vgg_like_13m": 16,
    "resnet_like_13m": 16,
    "resnext_like_13m": 16,
    "shufflenet_v2_star_x0_5": 16,
}
# With so many ReLUs (or so small weights) that some kink is always near: see Softplus.
SMOOTHED = {
    "alexnet_original": 15,
    "googlenet": 8,
    "resnet50": 8,
    "resnext50_32x4d": 8,
    "densenet121": 8,
    "shufflenet_v1_50": 8,
    "shufflenet_v2_50": 8,
}


def step(name: str, side: int, **variant) -> None:
    """A step along the gradient lowers the loss by what it should."""
    net = models.create(name, num_classes=7, stem="cifar", **variant)
    for module in net.modules():
        if isinstance(module, nn.Dropout):
            module.p = 0.0
    aux = variant.get("aux_logits", False)
    loss = models.AuxiliaryLoss() if aux else nn.CrossEntropyLoss()
    rng = np.random.default_rng(5)
    x = rng.standard_normal((4, side, side, 3)).astype(np.float32)
    labels = np.array([0, 6, 3, 3])
    first = loss(net(x), labels)
    assert net.backward(loss.backward()).shape == x.shape
    grads = [p.grad for p in net.parameters()]
    assert all(np.isfinite(g).all() for g in grads)
    length = 0.01 / sum(float((g.astype(np.float64) ** 2).sum()) for g in grads)
    for p in net.parameters():
        p.data -= length * p.grad
    assert first - loss(net(x), labels) == pytest.approx(0.01, rel=0.5)
    net.eval()
    assert net(x).shape == (4, 7)


LIGHT = (
    "alexnet", "alexnet_original", "nin", "googlenet", "resnet18", "resnet20", "igcv3",
    "squeezenet1_1", "mobilenet_v1_x0_25", "mobilenet_v2_x0_15", "vgg_like_13m", "resnext_like_13m",
    "shufflenet_v2_star_x0_5",
)  # fmt: skip
REST = [
    name
    for name in models.list_models()
    if not name.startswith(("shufflenet_v1_x", "shufflenet_v2_x")) and name not in LIGHT
]


def side(name: str) -> int:
    return 32 if name.startswith("vgg1") else 16


@pytest.mark.parametrize("name", LIGHT)
def test_light_nets_take_a_step(name):
    step(name, side(name))


@pytest.mark.parametrize(
    "name, variant",
    [
        ("alexnet", {"overlap": False, "width": 0.3}),
        ("alexnet", {"tanh": True, "width": 0.3}),
        ("googlenet", {"aux_logits": True, "width": 0.1}),
    ],
)
def test_nets_at_other_widths_take_a_step(name, variant):
    step(name, 16, **variant)


@pytest.mark.slow
@pytest.mark.parametrize("name", REST)
def test_all_other_nets_take_a_step(name):
    step(name, side(name))


@pytest.mark.slow
def test_googlenet_takes_a_step_with_its_auxiliary_classifiers():
    step("googlenet", 16, aux_logits=True)


class Softplus(nn.Module):
    """ln(1 + eˣ): a ReLU without a kink."""

    def forward(self, x):
        y = np.logaddexp(0, x)
        self.save(y)
        return y

    def backward(self, dy):
        (y,) = self.saved()
        return dy * -np.expm1(-y)


def check(net: nn.Module, shape: tuple[int, ...]) -> None:
    net.astype("float64")
    report = ts.gradcheck(net, np.random.default_rng(1).standard_normal(shape))
    assert report.passed, "\n".join(report.failures)
    assert report.max_relative_error <= 1e-6


@pytest.mark.slow
@pytest.mark.parametrize("name", NETS)
def test_whole_nets(name):
    check(models.create(name, num_classes=3, stem="cifar").net, (3, NETS[name], NETS[name], 3))


@pytest.mark.slow
@pytest.mark.parametrize("name", SMOOTHED)
def test_whole_nets_without_kinks(name):
    """Here every direction in which a weight can move crosses some of 10⁵ kinks: smoothed."""
    variant = {"aux_logits": True} if name == "googlenet" else {}
    net = models.create(name, num_classes=3, stem="cifar", **variant).net
    for module in net.modules():
        if type(module) is nn.ReLU:
            module.__class__ = Softplus
    check(net, (8, SMOOTHED[name], SMOOTHED[name], 3))
