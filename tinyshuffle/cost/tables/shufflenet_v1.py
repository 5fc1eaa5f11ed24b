"""ShuffleNet V1's tables (arXiv 1707.01083v2)."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from .line import Line, M, Table, adds_of, width_of, without_fc

__all__ = ["TABLES"]

NET = "shufflenet_v1_x{}_g{}"
GROUPS = (1, 2, 3, 4, 8)


def label(words: str, name: str, budget: int, error: float | None = None, **more: Any) -> Line:
    """A line whose figure is the name of a class of nets: 140, 38 or 13 M multiply-adds."""
    return Line(words, str(budget), M, adds_of(name), error=error, nominal=True,
                erratum="v1-labels", **more)  # fmt: skip


def _table_1() -> Table:
    widths = {1: 144, 2: 200, 3: 240, 4: 272, 8: 384}
    adds = {1: 143, 2: 140, 3: 137, 4: 133, 8: 137}
    lines = [
        Line(f"g = {g}, output channels of stage {stage}", str(c * 2 ** (stage - 2)), 1,
             width_of(NET.format("1_0", g), f"stage{stage}"))
        for g, c in widths.items() for stage in (2, 3, 4)
    ]  # fmt: skip
    lines += [
        Line(f"g = {g}, complexity (MFLOPs)", str(m), M, without_fc(NET.format("1_0", g)),
             "without the fully connected layer: with it g = 2, 3, 4 and 8 would read 1 more")
        for g, m in adds.items()
    ]  # fmt: skip
    return Table("v1-1", "ShuffleNet V1, Table 1: the 1x nets", lines)


def _table_2() -> Table:
    errors = {
        ("1_0", 140): (33.6, 32.7, 32.6, 32.8, 32.4),
        ("0_5", 38): (45.1, 44.4, 43.2, 41.6, 42.3),
        ("0_25", 13): (57.1, 56.8, 55.0, 54.2, 52.7),
    }
    lines = [
        label(f"ShuffleNet {w.replace('_', '.')}x, g = {g}", NET.format(w, g), budget, error)
        for (w, budget), row in errors.items()
        for g, error in zip(GROUPS, row, strict=True)
    ]
    return Table(
        "v1-2", "ShuffleNet V1, Table 2: three complexities (MFLOPs), each for five nets", lines
    )


def _table_3() -> Table:
    return Table("v1-3", "ShuffleNet V1, Table 3: what the shuffle brings, points of error", [
        _points(f"{net}, error without less error with shuffle", delta, without, with_shuffle)
        for net, without, with_shuffle, delta in (
            ("1x, g = 3", 34.5, 32.6, "1.9"), ("1x, g = 8", 37.6, 32.4, "5.2"),
            ("0.5x, g = 3", 45.7, 43.2, "2.5"), ("0.5x, g = 8", 48.1, 42.3, "5.8"),
            ("0.25x, g = 3", 56.3, 55.0, "1.3"), ("0.25x, g = 8", 56.5, 52.7, "3.8"),
        )
    ])  # fmt: skip


def _points(words: str, printed: str, worse: float, better: float) -> Line:
    return Line(words, printed, 1, lambda: worse - better,
                f"from the errors printed beside it, {worse} and {better}")  # fmt: skip


def _table_4() -> Table:
    errors: dict[str, dict[int, float]] = {
        "vgg": {140: 50.7},
        "resnet": {140: 37.3, 38: 48.8, 13: 63.7},
        "xception": {140: 33.6, 38: 45.1, 13: 57.1},
        "resnext": {140: 33.3, 38: 46.0, 13: 65.2},
    }
    lines = [
        label(f"{kind}-like, {budget} MFLOPs", f"{kind}_like_{budget}m", budget, error)
        for kind, by_budget in errors.items()
        for budget, error in by_budget.items()
    ]
    for w, g, budget, error in (("1_0", 8, 140, 32.4), ("0_5", 4, 38, 41.6), ("0_25", 8, 13, 52.7)):
        words = f"ShuffleNet, {budget} MFLOPs (g = {g})"
        lines.append(label(words, NET.format(w, g), budget, error))
    lines += [
        Line(f"{kind}-like, 38 MFLOPs, output channels of stage 4", str(channels), 1,
             width_of(name, "stage4"), erratum="v1-576" if channels == 576 else "")
        for kind, name, channels in (
            ("vgg", "vgg_like_38m", 50), ("resnet", "resnet_like_38m", 192),
            ("xception", "xception_like_38m", 288), ("resnext", "resnext_like_38m", 192),
            ("ShuffleNet", NET.format("0_5", 4), 576),
        )
    ]  # fmt: skip
    title = "ShuffleNet V1, Table 4 and section 4.2: other units in the same body"
    return Table("v1-4", title, lines)


def _table_5() -> Table:
    lines = [
        Line("1.0 MobileNet-224", "569", M, adds_of("mobilenet_v1_x1_0"), error=29.4),
        Line("ShuffleNet 2x (g = 3)", "524", M, adds_of(NET.format("2_0", 3)), error=26.3),
        Line("ShuffleNet 2x (with SE, g = 3)", "527", M, adds_of(NET.format("2_0", 3), se=True),
             error=24.7, erratum="v1-se"),
        Line("0.75 MobileNet-224", "325", M, adds_of("mobilenet_v1_x0_75"), error=31.6),
        Line("ShuffleNet 1.5x (g = 3)", "292", M, adds_of(NET.format("1_5", 3)), error=28.5),
        Line("0.5 MobileNet-224", "149", M, adds_of("mobilenet_v1_x0_5"), error=36.3),
        label("ShuffleNet 1x (g = 8)", NET.format("1_0", 8), 140, 32.4),
        Line("0.25 MobileNet-224", "41", M, adds_of("mobilenet_v1_x0_25"), error=49.4),
        label("ShuffleNet 0.5x (g = 4)", NET.format("0_5", 4), 38, 41.6,
              remark="widths rounded up to 16"),
        Line("ShuffleNet 0.5x (shallow, g = 3)", "40", M,
             adds_of("shufflenet_v1_x0_5_g3_shallow"), error=42.8, erratum="v1-shallow"),
    ]  # fmt: skip
    return Table("v1-5", "ShuffleNet V1, Table 5: against MobileNet (MFLOPs)", lines)


def _table_6() -> Table:
    lines = [
        Line("VGG-16", "15300", M, without_fc("vgg16"),
             "without its linear layers; 15,470 M with them", 28.5, digits=3),
        Line("ShuffleNet 2x (g = 3)", "524", M, adds_of(NET.format("2_0", 3)), error=26.3),
        Line("GoogleNet (BVLC)", "1500", M, adds_of("googlenet", branch5x5=True), error=31.3,
             digits=2, erratum="googlenet-conv1"),
        label("ShuffleNet 1x (g = 8)", NET.format("1_0", 8), 140, 32.4),
        Line("AlexNet", "720", M, adds_of("alexnet_original"),
             "quoted from elsewhere; the two-tower net of 2012 is counted", 42.8, digits=2),
        Line("SqueezeNet", "833", M, adds_of("squeezenet1_0", 227),
             "for images of 227x227 pixels, as SqueezeNet's authors had them", 42.5),
        label("ShuffleNet 0.5x (g = 4)", NET.format("0_5", 4), 38, 41.6),
    ]  # fmt: skip
    return Table("v1-6", "ShuffleNet V1, Table 6: against popular nets (MFLOPs)", lines)


TABLES: dict[str, Callable[[], Table]] = {
    "v1-1": _table_1,
    "v1-2": _table_2,
    "v1-3": _table_3,
    "v1-4": _table_4,
    "v1-5": _table_5,
    "v1-6": _table_6,
}
