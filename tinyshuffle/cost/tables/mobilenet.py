"""MobileNet V1's and V2's tables (arXiv 1704.04861 and 1801.04381)."""

from __future__ import annotations

from collections.abc import Callable

from .line import Line, M, Table, adds_of, params_of, share_of
from .shufflenet_v1 import NET as V1

__all__ = ["TABLES"]


def _mobilenet_6() -> Table:
    rows = {"1_0": ("569", "4.2"), "0_75": ("325", "2.6"), "0_5": ("149", "1.3"),
            "0_25": ("41", "0.5")}  # fmt: skip
    lines = []
    for w, (adds, params) in rows.items():
        name, label = f"mobilenet_v1_x{w}", f"{w.replace('_', '.')} MobileNet-224"
        lines.append(Line(f"{label}, million mult-adds", adds, M, adds_of(name)))
        lines.append(Line(f"{label}, million parameters", params, M, params_of(name)))
    return Table("mobilenet-6", "MobileNet V1, Table 6: width multiplier", lines)


def _mobilenet_7() -> Table:
    name = "mobilenet_v1_x1_0"
    lines = []
    for size, adds in ((224, "569"), (192, "418"), (160, "290"), (128, "186")):
        lines.append(Line(f"1.0 MobileNet-{size}, million mult-adds", adds, M, adds_of(name, size),
                          erratum="mobilenet-290" if size == 160 else ""))  # fmt: skip
        lines.append(Line(f"1.0 MobileNet-{size}, million parameters", "4.2", M, params_of(name)))
    return Table("mobilenet-7", "MobileNet V1, Table 7: resolution", lines)


def _mobilenet_2() -> Table:
    name = "mobilenet_v1_x1_0"
    parts = (
        ("Conv 1x1", ("pointwise",), "94.86", "74.59", ""),
        ("Conv DW 3x3", ("depthwise",), "3.06", "1.06", ""),
        ("Conv 3x3", ("dense",), "1.19", "0.02", "mobilenet-1.19"),
        ("Fully connected", ("linear",), "0.18", "24.33", ""),
    )
    lines = [
        Line(f"{label}, % of mult-adds", adds, 1, share_of(name, kinds, "multiply_adds"),
             erratum=erratum)
        for label, kinds, adds, _, erratum in parts
    ]  # fmt: skip
    lines += [
        Line(f"{label}, % of parameters", params, 1, share_of(name, kinds, "params"))
        for label, kinds, _, params, _ in parts
    ]
    return Table("mobilenet-2", "MobileNet V1, Table 2: where the resources go", lines)


def _mobilenet_v2_4() -> Table:
    lines = [
        Line("MobileNetV1, million MAdds", "575", M, adds_of("mobilenet_v1_x1_0"),
             erratum="mobilenet-575"),
        Line("MobileNetV1, million parameters", "4.2", M, params_of("mobilenet_v1_x1_0")),
        Line("ShuffleNet (1.5), million MAdds", "292", M, adds_of(V1.format("1_5", 3))),
        Line("ShuffleNet (1.5), million parameters", "3.4", M, params_of(V1.format("1_5", 3))),
        Line("ShuffleNet (x2), million MAdds", "524", M, adds_of(V1.format("2_0", 3))),
        Line("ShuffleNet (x2), million parameters", "5.4", M,
             params_of(V1.format("2_0", 3), fc_bias=False), "with the authors' head, without bias"),
        Line("MobileNetV2, million MAdds", "300", M, adds_of("mobilenet_v2"),
             erratum="mobilenet-v2-300"),
        Line("MobileNetV2, million parameters", "3.4", M, params_of("mobilenet_v2"),
             erratum="mobilenet-v2-params"),
        Line("MobileNetV2 (1.4), million MAdds", "585", M, adds_of("mobilenet_v2_x1_4"),
             erratum="mobilenet-v2-1.4"),
        Line("MobileNetV2 (1.4), million parameters", "6.9", M, params_of("mobilenet_v2_x1_4"),
             erratum="mobilenet-v2-1.4"),
    ]  # fmt: skip
    return Table("mobilenet-v2-4", "MobileNet V2, Table 4: against others", lines)


TABLES: dict[str, Callable[[], Table]] = {
    "mobilenet-2": _mobilenet_2,
    "mobilenet-6": _mobilenet_6,
    "mobilenet-7": _mobilenet_7,
    "mobilenet-v2-4": _mobilenet_v2_4,
}
