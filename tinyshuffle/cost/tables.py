"""The papers' cost tables: what they print, beside what is counted here.

Each figure is kept as the paper prints it, because its digits say how exact it claims to be. It is
reproduced if the count, rounded to as many digits, reads the same. Where it is not, the note of its
line says why; nothing is adjusted to fit.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from functools import cache
from typing import Any

from ..errors import TinyshuffleError
from .profile import Profile, profile

__all__ = ["TABLES", "Line", "Table", "table"]

M, G = 1e6, 1e9


@dataclass(frozen=True)
class Line:
    """One printed figure.

    Attributes
    ----------
    label : str
        What it is of.
    printed : str
        The figure, as printed.
    unit : float
        What one of it stands for: 1e6 for "M".
    count : function or None
        Counts it; None if the library does not have the net.
    note : str
        Why the two differ, or which reading of the paper is counted.
    digits : int or None
        Leading digits that the paper can have meant, where it ends in zeros: 2 for "140".
    error : float or None
        Top-1 error that the paper prints for the net, in per cent.
    """

    label: str
    printed: str
    unit: float
    count: Callable[[], float] | None
    note: str = ""
    error: float | None = None
    digits: int | None = None

    @property
    def ours(self) -> str | None:
        """Our count to as many digits as the paper prints."""
        if self.count is None:
            return None
        decimals = len(self.printed.partition(".")[2])
        return f"{self.count() / self.unit:.{decimals}f}"

    @property
    def reproduced(self) -> bool:
        """Whether our count reads as the paper's figure does, to the digits that it has."""
        if self.count is None or self.digits is None:
            return self.ours == self.printed
        value = self.count() / self.unit
        return float(f"{value:.{self.digits - 1}e}") == float(self.printed)

    @property
    def difference(self) -> float | None:
        """Our count over the printed figure, less 1."""
        if self.count is None:
            return None
        return self.count() / self.unit / float(self.printed) - 1


@dataclass(frozen=True)
class Table:
    """One table of a paper: ``print`` it."""

    name: str
    title: str
    lines: list[Line] = field(default_factory=list)

    def cells(self) -> tuple[list[str], list[list[str]]]:
        """Return headings and cells."""
        headings = ["", "printed", "counted here", "difference", "", "note"]
        rows = []
        for line in self.lines:
            if line.ours is None:
                rows.append([line.label, line.printed, "-", "", "not in the library", line.note])
                continue
            assert line.difference is not None
            rows.append([
                line.label,
                line.printed,
                line.ours,
                "" if line.reproduced else f"{100 * line.difference:+.1f} %",
                "reproduced" if line.reproduced else "differs",
                line.note,
            ])
        return headings, rows


@cache
def _profile(name: str, size: int, variant: tuple[tuple[str, Any], ...]) -> Profile:
    return profile(name, (1, size, size, 3), **dict(variant))


def _adds(name: str, size: int = 224, **variant: Any) -> Callable[[], float]:
    return lambda: _profile(name, size, tuple(variant.items())).total.multiply_adds


def _params(name: str, **variant: Any) -> Callable[[], float]:
    return lambda: _profile(name, 224, tuple(variant.items())).total.params


def _without_fc(name: str) -> Callable[[], float]:
    def count() -> float:
        rows = _profile(name, 224, ()).rows
        return sum(row.multiply_adds for row in rows if row.kind != "linear")

    return count


def _width(name: str, layer: str) -> Callable[[], float]:
    def count() -> float:
        rows = [r for r in _profile(name, 224, ()).rows if r.layer.split(".")[0] == layer]
        return rows[-1].output[-1]

    return count


def _share(name: str, kinds: tuple[str, ...], what: str) -> Callable[[], float]:
    def count() -> float:
        parts: dict[str, int] = {}
        for row in _profile(name, 224, ()).rows:
            # the paper's shares of parameters are of weights: no biases, no batch norm
            bias = row.output[-1] if what == "params" and row.kind == "linear" else 0
            if row.multiply_adds:
                parts[row.kind] = parts.get(row.kind, 0) + getattr(row, what) - bias
        return 100 * sum(parts[kind] for kind in kinds) / sum(parts.values())

    return count


V1, V2 = "shufflenet_v1_x{}_g{}", "shufflenet_v2_x{}"
PAPER: dict[str, Any] = {"downsample": "paper", "fc_bias": False}
NOMINAL = "the paper's label of a class of nets"


def _v1_1() -> Table:
    widths = {1: 144, 2: 200, 3: 240, 4: 272, 8: 384}
    adds = {1: 143, 2: 140, 3: 137, 4: 133, 8: 137}
    lines = [
        Line(f"g = {g}, output channels of stage {stage}", str(c * 2 ** (stage - 2)), 1,
             _width(V1.format("1_0", g), f"stage{stage}"))
        for g, c in widths.items() for stage in (2, 3, 4)
    ]  # fmt: skip
    lines += [
        Line(f"g = {g}, complexity (MFLOPs)", str(m), M, _without_fc(V1.format("1_0", g)),
             "without the fully connected layer: with it g = 2, 3, 4 and 8 would read 1 more")
        for g, m in adds.items()
    ]  # fmt: skip
    return Table("v1-1", "ShuffleNet V1, Table 1: the 1x nets", lines)


def _v1_4() -> Table:
    lines = []
    errors: dict[str, dict[int, float]] = {
        "vgg": {140: 50.7},
        "resnet": {140: 37.3, 38: 48.8, 13: 63.7},
        "xception": {140: 33.6, 38: 45.1, 13: 57.1},
        "resnext": {140: 33.3, 38: 46.0, 13: 65.2},
    }
    for kind, by_budget in errors.items():
        lines += [
            Line(f"{kind}-like, {budget} MFLOPs", str(budget), M,
                 _adds(f"{kind}_like_{budget}m"), NOMINAL, error, digits=2)
            for budget, error in by_budget.items()
        ]  # fmt: skip
    for width, g, budget, error in (("1_0", 8, 140, 32.4), ("0_5", 4, 38, 41.6),
                                    ("0_25", 8, 13, 52.7)):  # fmt: skip
        lines.append(Line(f"ShuffleNet, {budget} MFLOPs (g = {g})", str(budget), M,
                          _adds(V1.format(width, g)), NOMINAL, error, digits=2))  # fmt: skip
    return Table("v1-4", "ShuffleNet V1, Table 4: other units in the same body", lines)


def _v1_5() -> Table:
    lines = [
        Line("1.0 MobileNet-224", "569", M, _adds("mobilenet_v1_x1_0"), error=29.4),
        Line("ShuffleNet 2x (g = 3)", "524", M, _adds(V1.format("2_0", 3)), error=26.3),
        Line("ShuffleNet 2x (with SE, g = 3)", "527", M,
             _adds(V1.format("2_0", 3), se=True),
             "the paper does not print SE's reduction; 16 is counted", 24.7),
        Line("0.75 MobileNet-224", "325", M, _adds("mobilenet_v1_x0_75"), error=31.6),
        Line("ShuffleNet 1.5x (g = 3)", "292", M, _adds(V1.format("1_5", 3)), error=28.5),
        Line("0.5 MobileNet-224", "149", M, _adds("mobilenet_v1_x0_5"), error=36.3),
        Line("ShuffleNet 1x (g = 8)", "140", M, _adds(V1.format("1_0", 8)),
             NOMINAL + "; Table 1 prints 137 for it", 32.4, digits=2),
        Line("0.25 MobileNet-224", "41", M, _adds("mobilenet_v1_x0_25"), error=49.4),
        Line("ShuffleNet 0.5x (g = 4)", "38", M, _adds(V1.format("0_5", 4)),
             "half of Table 1 cannot be built for g = 4; widths rounded up to 16", 41.6),
        Line("ShuffleNet 0.5x (shallow, g = 3)", "40", M,
             _adds("shufflenet_v1_x0_5_g3_shallow"),
             "its widths are unpublished; the nearest that the groups divide is counted", 42.8),
    ]  # fmt: skip
    return Table("v1-5", "ShuffleNet V1, Table 5: against MobileNet (MFLOPs)", lines)


def _v1_6() -> Table:
    lines = [
        Line("VGG-16", "15300", M, _without_fc("vgg16"),
             "without its linear layers; 15,470 M with them", 28.5, digits=3),
        Line("ShuffleNet 2x (g = 3)", "524", M, _adds(V1.format("2_0", 3)), error=26.3),
        Line("GoogleNet (BVLC)", "1500", M, _adds("googlenet"),
             "torchvision's variant is counted, with 3x3 in the place of 5x5", 31.3,
             digits=2),
        Line("ShuffleNet 1x (g = 8)", "140", M, _adds(V1.format("1_0", 8)), NOMINAL, 32.4,
             digits=2),
        Line("AlexNet", "720", M, _adds("alexnet_original"),
             "quoted from elsewhere; the two-tower net of 2012 is counted", 42.8, digits=2),
        Line("SqueezeNet", "833", M, _adds("squeezenet1_0", 227),
             "for images of 227x227 pixels, as SqueezeNet's authors had them", 42.5),
        Line("ShuffleNet 0.5x (g = 4)", "38", M, _adds(V1.format("0_5", 4)), error=41.6),
    ]  # fmt: skip
    return Table("v1-6", "ShuffleNet V1, Table 6: against popular nets (MFLOPs)", lines)


def _v2_5() -> Table:
    adds = {"0_5": "41", "1_0": "146", "1_5": "299", "2_0": "591"}
    weights = {"0_5": "1.4", "1_0": "2.3", "1_5": "3.5", "2_0": "7.4"}
    notes = {"0_5": "40.48 M: the paper rounds up"}
    lines = [
        Line(f"{w.replace('_', '.')}x FLOPs (M)", m, M, _adds(V2.format(w), **PAPER),
             notes.get(w, ""))
        for w, m in adds.items()
    ]  # fmt: skip
    lines += [
        Line(f"{w.replace('_', '.')}x weights (M)", m, M, _params(V2.format(w), **PAPER))
        for w, m in weights.items()
    ]
    widths = {"0_5": (48, 96, 192, 1024), "1_0": (116, 232, 464, 1024),
              "1_5": (176, 352, 704, 1024), "2_0": (244, 488, 976, 2048)}  # fmt: skip
    for w, channels in widths.items():
        layers = ("stage2", "stage3", "stage4", "conv5")
        lines += [
            Line(f"{w.replace('_', '.')}x, output channels of {layer}", str(c), 1,
                 _width(V2.format(w), layer))
            for layer, c in zip(layers, channels, strict=True)
        ]  # fmt: skip
    return Table("v2-5", "ShuffleNet V2, Table 5: the four nets", lines)


def _v2_6() -> Table:
    lines = [
        Line("ShuffleNet v2-50 (GFLOPs)", "2.3", G, _adds("shufflenet_v2_50"), error=22.8),
        Line("ShuffleNet v1-50 (GFLOPs)", "2.3", G, _adds("shufflenet_v1_50"), error=25.2),
        Line("ResNet-50 (GFLOPs)", "3.8", G, _adds("resnet50"),
             "quoted from ResNet's paper, which has the stride in the 1x1 convolution and 3.86 G; "
             "torchvision has it in the 3x3", 24.0),
        Line("SE-ShuffleNet v2-164 (GFLOPs)", "12.7", G, _adds("se_shufflenet_v2_164"),
             "not explained: the widths and repeats of Appendix Table 2 give 12.54 G, and no "
             "reduction of SE makes up for 0.2 G", 18.56),
        Line("SENet (GFLOPs)", "20.7", G, None, "SENet-154 is no net of the two papers", 18.68),
    ]  # fmt: skip
    return Table("v2-6", "ShuffleNet V2, Table 6: large nets", lines)


def _v2_8() -> Table:
    ours = "(the paper's own implementation)"
    other = "not among the library's nets; the paper does not print its widths"
    lines = [
        Line("ShuffleNet v2 0.5x", "41", M, _adds(V2.format("0_5"), **PAPER),
             "40.48 M: the paper rounds up", 39.7),
        Line("0.25 MobileNet v1", "41", M, _adds("mobilenet_v1_x0_25"), error=49.4),
        Line("0.4 MobileNet v2, 160x160", "43", M, _adds("mobilenet_v2_x0_4", 160), ours, 43.4),
        Line("0.15 MobileNet v2", "39", M, _adds("mobilenet_v2_x0_15"), ours, 55.1),
        Line("ShuffleNet v1 0.5x (g = 3)", "38", M, _adds(V1.format("0_5", 3)), error=43.2),
        Line("DenseNet 0.5x", "42", M, None, other, 58.6),
        Line("Xception 0.5x", "40", M, None, other, 44.9),
        Line("IGCV2-0.25", "46", M, None, other, 45.1),
        Line("ShuffleNet v2 1x", "146", M, _adds(V2.format("1_0"), **PAPER), error=30.6),
        Line("0.5 MobileNet v1", "149", M, _adds("mobilenet_v1_x0_5"), error=36.3),
        Line("0.75 MobileNet v2, 192x192", "145", M, _adds("mobilenet_v2_x0_75", 192), ours,
             32.1),
        Line("0.6 MobileNet v2", "141", M, _adds("mobilenet_v2_x0_6"), ours, 33.3),
        Line("ShuffleNet v1 1x (g = 3)", "140", M, _adds(V1.format("1_0", 3)),
             NOMINAL + "; V1 Table 1 prints 137 for it", 32.6, digits=2),
        Line("DenseNet 1x", "142", M, None, other, 45.2),
        Line("Xception 1x", "145", M, None, other, 34.1),
        Line("IGCV2-0.5", "156", M, None, other, 34.5),
        Line("IGCV3-D (0.7)", "210", M, None, other, 31.5),
        Line("ShuffleNet v2 1.5x", "299", M, _adds(V2.format("1_5"), **PAPER), error=27.4),
        Line("0.75 MobileNet v1", "325", M, _adds("mobilenet_v1_x0_75"), error=31.6),
        Line("1.0 MobileNet v2", "300", M, _adds("mobilenet_v2"),
             "300.77 M: MobileNet V2's paper cuts it off; the line below rounds it", 28.0),
        Line("1.0 MobileNet v2 (our impl.)", "301", M, _adds("mobilenet_v2"), error=28.3),
        Line("ShuffleNet v1 1.5x (g = 3)", "292", M, _adds(V1.format("1_5", 3)), error=28.5),
        Line("DenseNet 1.5x", "295", M, None, other, 39.9),
        Line("CondenseNet (G=C=8)", "274", M, None, other, 29.0),
        Line("Xception 1.5x", "305", M, None, other, 29.4),
        Line("IGCV3-D", "318", M, None, other, 27.8),
        Line("ShuffleNet v2 2x", "591", M, _adds(V2.format("2_0"), **PAPER), error=25.1),
        Line("1.0 MobileNet v1", "569", M, _adds("mobilenet_v1_x1_0"), error=29.4),
        Line("1.4 MobileNet v2", "585", M, _adds("mobilenet_v2_x1_4"),
             "582.2 M with torchvision's rounding of widths", 25.3),
        Line("1.4 MobileNet v2 (our impl.)", "587", M, _adds("mobilenet_v2_x1_4"), ours, 26.7),
        Line("ShuffleNet v1 2x (g = 3)", "524", M, _adds(V1.format("2_0", 3)), error=26.3),
        Line("DenseNet 2x", "519", M, None, other, 34.6),
        Line("CondenseNet (G=C=4)", "529", M, None, other, 26.2),
        Line("Xception 2x", "525", M, None, other, 27.6),
        Line("IGCV2-1.0", "564", M, None, other, 29.3),
        Line("IGCV3-D (1.4)", "610", M, None, other, 25.5),
        Line("ShuffleNet v2 2x (with SE)", "597", M, _adds(V2.format("2_0"), se=True, **PAPER),
             "the paper does not print SE's reduction or place; 16 at the end of the main branch "
             "is counted", 24.6),
        Line("NASNet-A (4@1056)", "564", M, None, "a searched net, not in the library", 26.0),
        Line("PNASNet-5", "588", M, None, "a searched net, not in the library", 25.8),
    ]  # fmt: skip
    return Table("v2-8", "ShuffleNet V2, Table 8: complexity (MFLOPs)", lines)


def _v2_a2() -> Table:
    lines = []
    for name, label, widths in (
        ("shufflenet_v1_50", "v1-50", (360, 720, 1440, 2880)),
        ("shufflenet_v2_50", "v2-50", (244, 488, 976, 1952)),
        ("resnet50", "ResNet-50", (256, 512, 1024, 2048)),
        ("se_shufflenet_v2_164", "SE v2-164", (340, 680, 1360, 2720)),
    ):
        first, last = (1, 5) if name == "resnet50" else (2, 6)
        layers = [f"{'layer' if name == 'resnet50' else 'conv'}{i}" for i in range(first, last)]
        lines += [
            Line(f"{label}, output channels of conv{i}_x", str(c), 1, _width(name, layer))
            for i, (layer, c) in enumerate(zip(layers, widths, strict=True), 2)
        ]
    lines += [replace(line, label=f"{line.label}, FLOPs row") for line in _v2_6().lines[:4]]
    return Table("v2-a2", "ShuffleNet V2, Appendix Table 2: large nets, widths", lines)


def _mobilenet_6() -> Table:
    rows = {"1_0": ("569", "4.2"), "0_75": ("325", "2.6"), "0_5": ("149", "1.3"),
            "0_25": ("41", "0.5")}  # fmt: skip
    lines = []
    for w, (adds, params) in rows.items():
        name, label = f"mobilenet_v1_x{w}", f"{w.replace('_', '.')} MobileNet-224"
        lines.append(Line(f"{label}, million mult-adds", adds, M, _adds(name)))
        lines.append(Line(f"{label}, million parameters", params, M, _params(name)))
    return Table("mobilenet-6", "MobileNet V1, Table 6: width multiplier", lines)


def _mobilenet_7() -> Table:
    name = "mobilenet_v1_x1_0"
    lines = []
    for size, adds in ((224, "569"), (192, "418"), (160, "290"), (128, "186")):
        note = "290.7 M: cut off, not rounded" if size == 160 else ""
        lines.append(
            Line(f"1.0 MobileNet-{size}, million mult-adds", adds, M, _adds(name, size), note)
        )
        lines.append(Line(f"1.0 MobileNet-{size}, million parameters", "4.2", M, _params(name)))
    return Table("mobilenet-7", "MobileNet V1, Table 7: resolution", lines)


def _mobilenet_v2_4() -> Table:
    lines = [
        Line("MobileNetV1, million MAdds", "575", M, _adds("mobilenet_v1_x1_0"),
             "MobileNet V1's own paper prints 569"),
        Line("MobileNetV1, million parameters", "4.2", M, _params("mobilenet_v1_x1_0")),
        Line("ShuffleNet (1.5), million MAdds", "292", M, _adds(V1.format("1_5", 3))),
        Line("ShuffleNet (1.5), million parameters", "3.4", M, _params(V1.format("1_5", 3))),
        Line("ShuffleNet (x2), million MAdds", "524", M, _adds(V1.format("2_0", 3))),
        Line("ShuffleNet (x2), million parameters", "5.4", M,
             _params(V1.format("2_0", 3), fc_bias=False), "with the authors' head, without bias"),
        Line("MobileNetV2, million MAdds", "300", M, _adds("mobilenet_v2"),
             "300.77 M: cut off, not rounded"),
        Line("MobileNetV2, million parameters", "3.4", M, _params("mobilenet_v2"),
             "3.50 M in every implementation of the table's layers"),
        Line("MobileNetV2 (1.4), million MAdds", "585", M, _adds("mobilenet_v2_x1_4"),
             "582.2 M with torchvision's rounding of widths"),
        Line("MobileNetV2 (1.4), million parameters", "6.9", M, _params("mobilenet_v2_x1_4"),
             "6.11 M with torchvision's rounding of widths"),
    ]  # fmt: skip
    return Table("mobilenet-v2-4", "MobileNet V2, Table 4: against others", lines)


def _mobilenet_2() -> Table:
    name = "mobilenet_v1_x1_0"
    first = "the table's column sums to 99.29; 1.91 makes it 100"
    parts = (
        ("Conv 1x1", ("pointwise",), "94.86", "74.59", ""),
        ("Conv DW 3x3", ("depthwise",), "3.06", "1.06", ""),
        ("Conv 3x3", ("dense",), "1.19", "0.02", first),
        ("Fully connected", ("linear",), "0.18", "24.33", ""),
    )
    lines = [
        Line(f"{label}, % of mult-adds", adds, 1, _share(name, kinds, "multiply_adds"), note)
        for label, kinds, adds, _, note in parts
    ]
    lines += [
        Line(f"{label}, % of parameters", params, 1, _share(name, kinds, "params"))
        for label, kinds, _, params, _ in parts
    ]
    return Table("mobilenet-2", "MobileNet V1, Table 2: where the resources go", lines)


TABLES: dict[str, Callable[[], Table]] = {
    "v1-1": _v1_1,
    "v1-4": _v1_4,
    "v1-5": _v1_5,
    "v1-6": _v1_6,
    "v2-5": _v2_5,
    "v2-6": _v2_6,
    "v2-8": _v2_8,
    "v2-a2": _v2_a2,
    "mobilenet-6": _mobilenet_6,
    "mobilenet-7": _mobilenet_7,
    "mobilenet-2": _mobilenet_2,
    "mobilenet-v2-4": _mobilenet_v2_4,
}


def table(name: str) -> Table:
    """Return one of the papers' tables.

    >>> [line.ours for line in table("v2-5").lines[:4]]
    ['40', '146', '299', '591']
    """
    if name not in TABLES:
        raise TinyshuffleError(f"unknown table {name!r}; there are: {', '.join(TABLES)}")
    return TABLES[name]()
