"""ShuffleNet V2's tables (arXiv 1807.11164)."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

from .line import G, Line, M, Table, adds_of, params_of, width_of, with_relus
from .shufflenet_v1 import NET as V1
from .shufflenet_v1 import label as class_label

__all__ = ["TABLES"]

V2 = "shufflenet_v2_x{}"
PAPER: dict[str, Any] = {"downsample": "paper", "fc_bias": False}


def _v2_5() -> Table:
    adds = {"0_5": "41", "1_0": "146", "1_5": "299", "2_0": "591"}
    weights = {"0_5": "1.4", "1_0": "2.3", "1_5": "3.5", "2_0": "7.4"}
    lines = [
        Line(f"{w.replace('_', '.')}x FLOPs (M)", m, M, adds_of(V2.format(w), **PAPER),
             erratum="v2-41" if w == "0_5" else "")
        for w, m in adds.items()
    ]  # fmt: skip
    lines += [
        Line(f"{w.replace('_', '.')}x weights (M)", m, M, params_of(V2.format(w), **PAPER))
        for w, m in weights.items()
    ]
    widths = {"0_5": (48, 96, 192, 1024), "1_0": (116, 232, 464, 1024),
              "1_5": (176, 352, 704, 1024), "2_0": (244, 488, 976, 2048)}  # fmt: skip
    for w, channels in widths.items():
        layers = ("stage2", "stage3", "stage4", "conv5")
        lines += [
            Line(f"{w.replace('_', '.')}x, output channels of {layer}", str(c), 1,
                 width_of(V2.format(w), layer))
            for layer, c in zip(layers, channels, strict=True)
        ]  # fmt: skip
    return Table("v2-5", "ShuffleNet V2, Table 5: the four nets", lines)


def _v2_6() -> Table:
    lines = [
        Line("ShuffleNet v2-50 (GFLOPs)", "2.3", G, adds_of("shufflenet_v2_50"), error=22.8),
        Line("ShuffleNet v1-50 (GFLOPs)", "2.3", G, adds_of("shufflenet_v1_50"), error=25.2),
        Line("ResNet-50 (GFLOPs)", "3.8", G, adds_of("resnet50", stride_first=True),
             error=24.0, erratum="resnet-cut"),
        Line("SE-ShuffleNet v2-164 (GFLOPs)", "12.7", G, adds_of("se_shufflenet_v2_164"),
             error=18.56, erratum="v2-164"),
        Line("SENet (GFLOPs)", "20.7", G, adds_of("senet154"), error=18.68),
    ]  # fmt: skip
    return Table("v2-6", "ShuffleNet V2, Table 6: large nets", lines)


def _v2_8() -> Table:
    ours = "(the paper's own implementation)"
    condense = "with ReLUs and pools, as its authors count, and unlike the table's other lines"
    lines = [
        Line("ShuffleNet v2 0.5x", "41", M, adds_of(V2.format("0_5"), **PAPER),
             error=39.7, erratum="v2-41"),
        Line("0.25 MobileNet v1", "41", M, adds_of("mobilenet_v1_x0_25"), error=49.4),
        Line("0.4 MobileNet v2, 160x160", "43", M, adds_of("mobilenet_v2_x0_4", 160), ours, 43.4,
             erratum="v2-own-mobilenets"),
        Line("0.15 MobileNet v2", "39", M, adds_of("mobilenet_v2_x0_15"), ours, 55.1,
             erratum="v2-own-mobilenets"),
        class_label("ShuffleNet v1 0.5x (g = 3)", V1.format("0_5", 3), 38, 43.2),
        Line("DenseNet 0.5x", "42", M, None, error=58.6, erratum="v2-own-nets"),
        Line("Xception 0.5x", "40", M, None, error=44.9, erratum="v2-own-nets"),
        Line("IGCV2-0.25", "46", M, None, error=45.1, erratum="igcv2"),
        Line("ShuffleNet v2 1x", "146", M, adds_of(V2.format("1_0"), **PAPER), error=30.6),
        Line("0.5 MobileNet v1", "149", M, adds_of("mobilenet_v1_x0_5"), error=36.3),
        Line("0.75 MobileNet v2, 192x192", "145", M, adds_of("mobilenet_v2_x0_75", 192), ours,
             32.1, erratum="v2-own-mobilenets"),
        Line("0.6 MobileNet v2", "141", M, adds_of("mobilenet_v2_x0_6"), ours, 33.3,
             erratum="v2-own-mobilenets"),
        class_label("ShuffleNet v1 1x (g = 3)", V1.format("1_0", 3), 140, 32.6),
        Line("DenseNet 1x", "142", M, None, error=45.2, erratum="v2-own-nets"),
        Line("Xception 1x", "145", M, None, error=34.1, erratum="v2-own-nets"),
        Line("IGCV2-0.5", "156", M, None, error=34.5, erratum="igcv2"),
        Line("IGCV3-D (0.7)", "210", M, adds_of("igcv3", width=0.7), error=31.5, erratum="igcv3"),
        Line("ShuffleNet v2 1.5x", "299", M, adds_of(V2.format("1_5"), **PAPER), error=27.4),
        Line("0.75 MobileNet v1", "325", M, adds_of("mobilenet_v1_x0_75"), error=31.6),
        Line("1.0 MobileNet v2", "300", M, adds_of("mobilenet_v2"),
             error=28.0, erratum="mobilenet-v2-300"),
        Line("1.0 MobileNet v2 (our impl.)", "301", M, adds_of("mobilenet_v2"), error=28.3),
        Line("ShuffleNet v1 1.5x (g = 3)", "292", M, adds_of(V1.format("1_5", 3)), error=28.5),
        Line("DenseNet 1.5x", "295", M, None, error=39.9, erratum="v2-own-nets"),
        Line("CondenseNet (G=C=8)", "274", M, with_relus("condensenet74_g8"), condense, 29.0),
        Line("Xception 1.5x", "305", M, None, error=29.4, erratum="v2-own-nets"),
        Line("IGCV3-D", "318", M, adds_of("igcv3", width=1.0), error=27.8, erratum="igcv3"),
        Line("ShuffleNet v2 2x", "591", M, adds_of(V2.format("2_0"), **PAPER), error=25.1),
        Line("1.0 MobileNet v1", "569", M, adds_of("mobilenet_v1_x1_0"), error=29.4),
        Line("1.4 MobileNet v2", "585", M, adds_of("mobilenet_v2_x1_4"),
             error=25.3, erratum="mobilenet-v2-1.4"),
        Line("1.4 MobileNet v2 (our impl.)", "587", M, adds_of("mobilenet_v2_x1_4"), ours, 26.7,
             erratum="v2-own-mobilenets"),
        Line("ShuffleNet v1 2x (g = 3)", "524", M, adds_of(V1.format("2_0", 3)), error=26.3),
        Line("DenseNet 2x", "519", M, None, error=34.6, erratum="v2-own-nets"),
        Line("CondenseNet (G=C=4)", "529", M, with_relus("condensenet74_g4"), condense, 26.2),
        Line("Xception 2x", "525", M, None, error=27.6, erratum="v2-own-nets"),
        Line("IGCV2-1.0", "564", M, None, error=29.3, erratum="igcv2"),
        Line("IGCV3-D (1.4)", "610", M, adds_of("igcv3", width=1.4), error=25.5, erratum="igcv3"),
        Line("ShuffleNet v2 2x (with SE)", "597", M, adds_of(V2.format("2_0"), se=True, **PAPER),
             error=24.6, erratum="v2-se"),
        Line("NASNet-A (4@1056)", "564", M, adds_of("nasnet_a_mobile"), error=26.0),
        Line("PNASNet-5", "588", M, adds_of("pnasnet5_mobile"), error=25.8),
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
            Line(f"{label}, output channels of conv{i}_x", str(c), 1, width_of(name, layer))
            for i, (layer, c) in enumerate(zip(layers, widths, strict=True), 2)
        ]
    lines += [replace(line, label=f"{line.label}, FLOPs row") for line in _v2_6().lines[:4]]
    return Table("v2-a2", "ShuffleNet V2, Appendix Table 2: large nets, widths", lines)


TABLES: dict[str, Callable[[], Table]] = {
    "v2-5": _v2_5,
    "v2-6": _v2_6,
    "v2-8": _v2_8,
    "v2-a2": _v2_a2,
}
