"""MobileNet V1's and V2's tables (arXiv 1704.04861 and 1801.04381)."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

from ...models.mobilenet_v1 import dense, separable
from ...nn import Module
from .line import Line, M, Table, adds_of, module_rows, params_of, share_of, weights_of, without_fc
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


def _of_convolutions(layer: Module, shape: tuple[int, ...], what: str) -> float:
    return sum(getattr(row, what) for row in module_rows(layer, shape) if row.multiply_adds)


def _mobilenet_3() -> Table:
    layers = (
        ("convolutional layer", dense(512, 512, 1), (1, 14, 14, 512), "462", "2.36"),
        ("separable layer", separable(512, 512, 1), (1, 14, 14, 512), "52.3", "0.27"),
        ("with α = 0.75", separable(384, 384, 1), (1, 14, 14, 384), "29.6", "0.15"),
        ("with ρ = 0.714", separable(384, 384, 1), (1, 10, 10, 384), "15.1", "0.15"),
    )
    lines = []
    for label, layer, shape, adds, params in layers:
        lines += [
            Line(f"{label}, million mult-adds", adds, M,
                 partial(_of_convolutions, layer, shape, "multiply_adds")),
            Line(f"{label}, million parameters", params, M,
                 partial(_of_convolutions, layer, shape, "params")),
        ]  # fmt: skip
    return Table("mobilenet-3", "MobileNet V1, Table 3: a layer of 14x14x512, step by step", lines)


def _pair(
    label: str, adds: str, params: str, name: str, erratum: str = "", **variant: Any
) -> list[Line]:
    """Multiply-adds and parameters of a net, in millions."""
    return [
        Line(f"{label}, million mult-adds", adds, M, adds_of(name, **variant),
             erratum=erratum),
        Line(f"{label}, million parameters", params, M, params_of(name, **variant)),
    ]  # fmt: skip


def _mobilenet_4() -> Table:
    return Table("mobilenet-4", "MobileNet V1, Tables 4 and 5: without separable layers; shallow", [
        *_pair("Conv MobileNet", "4866", "29.3", "mobilenet_v1_x1_0", factorised=False,
               erratum="mobilenet-4866"),
        *_pair("MobileNet", "569", "4.2", "mobilenet_v1_x1_0"),
        *_pair("0.75 MobileNet", "325", "2.6", "mobilenet_v1_x0_75"),
        *_pair("Shallow MobileNet", "307", "2.9", "mobilenet_v1_x1_0", shallow=True),
    ])  # fmt: skip


def _mobilenet_8() -> Table:
    return Table("mobilenet-8", "MobileNet V1, Tables 8 and 9: against popular nets", [
        *_pair("1.0 MobileNet-224", "569", "4.2", "mobilenet_v1_x1_0"),
        Line("GoogleNet, million mult-adds", "1550", M, adds_of("googlenet", branch5x5=True),
             erratum="googlenet-1550"),
        Line("GoogleNet, million parameters", "6.8", M, weights_of("googlenet", branch5x5=True),
             "without batch norm, which it had not", erratum="googlenet-1550"),
        Line("VGG 16, million mult-adds", "15300", M, without_fc("vgg16"),
             "without its linear layers", digits=3),
        Line("VGG 16, million parameters", "138", M, params_of("vgg16")),
        Line("0.50 MobileNet-160, million mult-adds", "76", M, adds_of("mobilenet_v1_x0_5", 160),
             erratum="mobilenet-76"),
        Line("0.50 MobileNet-160, million parameters", "1.32", M, weights_of("mobilenet_v1_x0_5"),
             "without batch norm's"),
        Line("Squeezenet, million mult-adds", "1700", M, adds_of("squeezenet1_0", 227), digits=2,
             erratum="squeezenet-1700"),
        Line("Squeezenet, million parameters", "1.25", M, params_of("squeezenet1_0")),
        Line("AlexNet, million mult-adds", "720", M, adds_of("alexnet_original"), digits=2),
        Line("AlexNet, million parameters", "60", M, params_of("alexnet_original"), digits=1),
    ])  # fmt: skip


TABLES: dict[str, Callable[[], Table]] = {
    "mobilenet-2": _mobilenet_2,
    "mobilenet-3": _mobilenet_3,
    "mobilenet-4": _mobilenet_4,
    "mobilenet-6": _mobilenet_6,
    "mobilenet-7": _mobilenet_7,
    "mobilenet-8": _mobilenet_8,
    "mobilenet-v2-4": _mobilenet_v2_4,
}
