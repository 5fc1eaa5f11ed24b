"""What ``python -m tinyshuffle gradcheck`` can check by name: layers, units and whole nets."""

from __future__ import annotations

import difflib
from collections.abc import Callable, Iterator
from functools import partial

import numpy as np

from .. import nn
from ..errors import TinyshuffleError
from ..models import create, list_models
from ..models.densenet import DenseLayer
from ..models.googlenet import Inception
from ..models.mobilenet_v2 import InvertedResidual
from ..models.resnet import bottleneck
from ..models.shufflenet_v1 import ShuffleUnitV1
from ..models.shufflenet_v2 import ShuffleUnitV2
from ..models.shufflenet_v2_star import ShuffleUnitV2Star
from ..models.squeezenet import Fire
from ..nn import Module
from .check import gradcheck
from .report import Report

__all__ = ["CASES", "DEFAULT_NETS", "run_named"]

INPUTS = 3  # for a net, as long as it cannot be judged

Case = tuple[Callable[[], Module], tuple[int, ...]]

CASES: dict[str, Case] = {
    "conv2d": (partial(nn.Conv2d, 4, 6, 3, stride=2, padding=1), (2, 5, 4, 4)),
    "conv2d_dilated": (partial(nn.Conv2d, 3, 4, 3, padding=2, dilation=2), (2, 5, 6, 3)),
    "conv2d_grouped": (partial(nn.Conv2d, 6, 9, 3, padding=1, groups=3), (2, 5, 4, 6)),
    "pointwise": (partial(nn.Conv2d, 5, 7, 1), (2, 4, 3, 5)),
    "pointwise_grouped": (partial(nn.Conv2d, 6, 9, 1, groups=3), (2, 4, 3, 6)),
    "depthwise": (partial(nn.Conv2d, 6, 6, 3, padding=1, groups=6), (2, 5, 4, 6)),
    "depthwise_stride2": (
        partial(nn.Conv2d, 6, 6, 3, stride=2, padding=1, groups=6), (2, 5, 6, 6),
    ),
    "batch_norm": (partial(nn.BatchNorm2d, 5), (3, 4, 3, 5)),
    "batch_norm_relu": (
        lambda: nn.Sequential(nn.BatchNorm2d(5), nn.ReLU()), (3, 4, 3, 5),
    ),
    "relu": (nn.ReLU, (2, 4, 3, 5)),
    "relu6": (nn.ReLU6, (2, 4, 3, 5)),
    "sigmoid": (nn.Sigmoid, (2, 5)),
    "tanh": (nn.Tanh, (2, 5)),
    "channel_shuffle": (partial(nn.ChannelShuffle, 3), (2, 3, 2, 12)),
    "max_pool2d": (partial(nn.MaxPool2d, 3, stride=2, padding=1), (2, 6, 5, 3)),
    "avg_pool2d": (partial(nn.AvgPool2d, 3, stride=2, padding=1), (2, 6, 5, 3)),
    "max_pool2d_ceil": (partial(nn.MaxPool2d, 3, stride=2, ceil_mode=True), (2, 6, 7, 3)),
    "adaptive_avg_pool2d": (partial(nn.AdaptiveAvgPool2d, (2, 3)), (2, 5, 4, 3)),
    "global_avg_pool": (nn.GlobalAvgPool, (2, 3, 4, 5)),
    "flatten": (nn.Flatten, (2, 3, 4, 5)),
    "local_response_norm": (partial(nn.LocalResponseNorm, 4, alpha=0.5, k=2), (2, 3, 2, 7)),
    "linear": (partial(nn.Linear, 6, 4), (3, 6)),
    "dropout": (partial(nn.Dropout, 0.4), (4, 6)),
    "squeeze_excitation": (partial(nn.SqueezeExcitation, 8, 4), (2, 3, 4, 8)),
    "shuffle_unit_v1": (partial(ShuffleUnitV1, 24, 24, 3, 1), (2, 6, 5, 24)),
    "shuffle_unit_v1_stride2": (partial(ShuffleUnitV1, 12, 36, 3, 2), (2, 6, 5, 12)),
    "shuffle_unit_v2": (partial(ShuffleUnitV2, 16, 16, 1), (2, 6, 5, 16)),
    "shuffle_unit_v2_stride2": (partial(ShuffleUnitV2, 8, 16, 2), (2, 6, 5, 8)),
    "shuffle_unit_v2_residual": (
        partial(ShuffleUnitV2, 16, 16, 1, residual=True), (2, 6, 5, 16)
    ),
    "shuffle_unit_v2_star": (partial(ShuffleUnitV2Star, 16, 16, 1), (2, 6, 5, 16)),
    "bottleneck": (partial(bottleneck, 12, 6, 12, 1), (2, 4, 3, 12)),
    "bottleneck_grouped": (partial(bottleneck, 9, 6, 12, 2, groups=3), (2, 5, 4, 9)),
    "inverted_residual": (partial(InvertedResidual, 6, 6, 1, 3), (2, 4, 5, 6)),
    "dense_layer": (partial(DenseLayer, 6, 3), (2, 4, 3, 6)),
    "fire": (partial(Fire, 6, 3, 4), (2, 4, 3, 6)),
    "inception": (partial(Inception, 6, (3, 2, 4, 2, 3, 2)), (2, 4, 3, 6)),
}
DEFAULT_NETS = ("shufflenet_v1_x0_25_g3", "shufflenet_v2_x0_5")


def run_named(names: list[str]) -> Iterator[tuple[str, Report]]:
    """Check layers, units and nets by name; without names every case and two nets.

    Yields
    ------
    name, report

    Raises
    ------
    TinyshuffleError
        For an unknown name, before anything is checked; the nearest ones are offered.
    """
    known = [*CASES, *list_models()]
    for name in names:
        if name not in known:
            near = difflib.get_close_matches(name, known, n=3, cutoff=0.4)
            raise TinyshuffleError(
                f"nothing to check is called {name!r}; "
                + (f"did you mean {' or '.join(near)}? There are " if near else "there are ")
                + f"the layers and units {', '.join(CASES)}, and every model's name"
            )
    return _run_named(names or [*CASES, *DEFAULT_NETS])


def _run_named(names: list[str]) -> Iterator[tuple[str, Report]]:
    for name in names:
        if name in CASES:
            build, shape = CASES[name]
            module = build().initialise(0)
        else:
            module, shape = create(name, num_classes=5, stem="cifar"), (2, 32, 32, 3)
        module.astype("float64")
        rng = np.random.default_rng(1)
        for p in module.parameters():
            if np.ptp(p.data) == 0:
                # γ = 1 hides a factor, and β = 0 puts a channel of zeros onto its ReLU's kink
                p.data += rng.uniform(-0.3, 0.3, p.shape)
        for _ in range(INPUTS):  # one of a net's 10⁵ ReLUs can happen to be too near to its kink
            report = gradcheck(module, rng.standard_normal(shape))
            if report.verdict != "not judged":
                break
        yield name, report
