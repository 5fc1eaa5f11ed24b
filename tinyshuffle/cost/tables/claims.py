"""What the text of V1 and V2 claims in numbers, from the tables that stand beside it."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

from ...models import create
from ...models.resnet import bottleneck
from ...nn import Conv2d, Linear
from .line import Line, M, Table, module_rows

__all__ = ["TABLES"]

# V1, Table 8: milliseconds at 224x224, 480x640 and 720x1280, and complexities.
ALEXNET, V1_2X = (184.0, 1156.7, 3633.9), (108.8, 617.0, 1857.6)
V1_1X, V1_HALF = (37.8, 222.2, 684.5), (15.2, 87.4, 260.1)


def _layers(name: str, **variant: Any) -> Callable[[], float]:
    """Layers with weights."""

    def count() -> float:
        net = create(name, **variant)
        return sum(isinstance(module, Conv2d | Linear) for module in net.modules())

    return count


def _resnext_pointwise() -> float:
    """Per cent of a ResNeXt unit's multiply-adds in its 1x1 convolutions, at 32 groups."""
    rows = module_rows(bottleneck(256, 128, 256, 1, groups=32), (1, 14, 14, 256))
    parts = [row.multiply_adds for row in rows if row.kind == "pointwise"]
    return 100 * sum(parts) / sum(row.multiply_adds for row in rows)


def _mean(slow: tuple[float, ...], fast: tuple[float, ...]) -> float:
    ratios = [a / b for a, b in zip(slow, fast, strict=True)]
    return sum(ratios) / len(ratios)


def _difference(a: float, b: float) -> float:
    return a - b


def _faster(a: float, b: float) -> float:
    """Per cent."""
    return 100 * (a / b - 1)


def _v1() -> Table:
    lines = [
        Line("0.5x against AlexNet on a phone, times faster", "13", 1,
             lambda: _mean(ALEXNET, V1_HALF), "mean of Table 8's three resolutions, 12.1 to 14.0"),
        Line("the same in theory", "18", 1, lambda: 720 / 38, "from Table 8's complexities",
             erratum="v1-alexnet-speed"),
        Line("times faster for 4 times less complexity", "2.6", 1,
             lambda: (_mean(V1_2X, V1_1X) + _mean(V1_1X, V1_HALF)) / 2,
             "mean of Table 8's six ratios", erratum="v1-four-times"),
        Line("times less complexity, of which that is", "4", 1,
             lambda: (524 / 140 + 140 / 38) / 2, "from Table 8"),
        Line("pointwise convolutions in a unit of ResNeXt, % of mult-adds", "93.4", 1,
             _resnext_pointwise),
        Line("PVANET, their own implementation (MFLOPs)", "557", M, None, error=29.7,
             erratum="v1-pvanet"),
        Line("layers of ShuffleNet", "50", 1, _layers("shufflenet_v1_x1_0_g3")),
        Line("layers of the shallow ShuffleNet", "26", 1,
             _layers("shufflenet_v1_x0_5_g3_shallow")),
        Line("layers of MobileNet", "28", 1, _layers("mobilenet_v1_x1_0")),
    ]  # fmt: skip
    lines += [
        Line(f"Table 5, {net}, points better", delta, 1, partial(_difference, worse, better),
             f"from the errors printed beside it, {worse} and {better}")
        for net, delta, worse, better in (
            ("ShuffleNet 2x (g = 3)", "3.1", 29.4, 26.3),
            ("ShuffleNet 2x (with SE, g = 3)", "4.7", 29.4, 24.7),
            ("ShuffleNet 1.5x (g = 3)", "3.1", 31.6, 28.5),
            ("ShuffleNet 1x (g = 8)", "3.9", 36.3, 32.4),
            ("ShuffleNet 0.5x (g = 4)", "7.8", 49.4, 41.6),
            ("ShuffleNet 0.5x (shallow, g = 3)", "6.6", 49.4, 42.8),
        )
    ]  # fmt: skip
    return Table("v1-claims", "ShuffleNet V1: what the text claims", lines)


def _v2() -> Table:
    lines = [
        Line(f"at 500 MFLOPs on a GPU, % faster than {net}", printed, 1,
             partial(_faster, 217, speed),
             f"from Table 8's speeds, 217 and {speed} batches a second")
        for net, printed, speed in (
            ("MobileNet v2", "58", 137), ("ShuffleNet v1", "63", 133), ("Xception", "25", 174),
        )
    ]  # fmt: skip
    lines += [
        Line(f"at 40 MFLOPs, points better than {net}", printed, 1,
             partial(_difference, error, 39.7), f"from Table 8's errors, {error} and 39.7")
        for net, printed, error in (("ShuffleNet v1", "3.5", 43.2), ("MobileNet v2", "3.7", 43.4))
    ]  # fmt: skip
    return Table("v2-claims", "ShuffleNet V2: what the text claims", lines)


TABLES: dict[str, Callable[[], Table]] = {"v1-claims": _v1, "v2-claims": _v2}
