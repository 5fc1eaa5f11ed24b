"""The tables of the nets that ShuffleNet's papers quote, each in its own paper."""

from __future__ import annotations

from collections.abc import Callable

from .line import G, Line, M, Table, adds_of, counted, params_of, weights_of

__all__ = ["TABLES"]

KILO = 1024  # of GoogLeNet's Table 1, as its undisputed rows show


def _alexnet() -> Table:
    def neurons(index: int | None) -> Callable[[], float]:
        def count() -> float:
            rows = [r for r in counted("alexnet_original", (224, 224), ()).rows if r.multiply_adds]
            sizes = [r.output[1] * r.output[2] * r.output[3] if len(r.output) == 4 else r.output[1]
                     for r in rows]  # fmt: skip
            return sum(sizes) if index is None else sizes[index]

        return count

    printed = ("253440", "186624", "64896", "64896", "43264", "4096", "4096", "1000")
    lines = [
        Line(f"neurons of layer {i}", figure, 1, neurons(i - 1),
             erratum="alexnet-253440" if i == 1 else "")
        for i, figure in enumerate(printed, 1)
    ]  # fmt: skip
    lines += [
        Line("neurons in all", "650000", 1, neurons(None), digits=2, erratum="alexnet-253440"),
        Line("parameters (millions)", "60", M, params_of("alexnet_original"), digits=1),
    ]
    return Table("alexnet", "AlexNet, abstract and section 3.5", lines)


def _vgg_2() -> Table:
    lines = [
        Line(f"{name}, parameters (millions)", printed, M, params_of(f"vgg{depth}", **variant))
        for name, depth, printed, variant in (
            ("A", 11, "133", {}), ("A-LRN", 11, "133", {"lrn": True}), ("B", 13, "133", {}),
            ("C", 16, "134", {"conv1x1": True}), ("D", 16, "138", {}), ("E", 19, "144", {}),
        )
    ]  # fmt: skip
    return Table("vgg-2", "VGG, Table 2: parameters", lines)


def _nin() -> Table:
    megabyte = 2**20 / 4
    return Table("nin", "Network in Network and SqueezeNet: size of their files", [
        Line("NIN for ImageNet in Caffe's model zoo (MB)", "29", megabyte, params_of("nin"),
             "numbers of four bytes, 2²⁰ bytes a MB"),
        Line("SqueezeNet (MB)", "4.8", megabyte, params_of("squeezenet1_0")),
        Line("AlexNet, in SqueezeNet's paper (MB)", "240", M / 4, params_of("alexnet_original"),
             "here with 10⁶ bytes a MB", digits=2),
        Line("AlexNet's parameters over SqueezeNet's", "50", 1,
             lambda: params_of("alexnet_original")() / params_of("squeezenet1_0")(), digits=1),
    ])  # fmt: skip


# Rows of GoogLeNet's Table 1: stages here, and what is printed for parameters (K) and ops (M).
_GOOGLENET = {
    "convolution 7x7": (("conv1",), "2.7", "34"),
    "convolution 3x3": (("conv2", "conv3"), "112", "360"),
    "inception (3a)": (("inception3a",), "159", "128"),
    "inception (3b)": (("inception3b",), "380", "304"),
    "inception (4a)": (("inception4a",), "364", "73"),
    "inception (4b)": (("inception4b",), "437", "88"),
    "inception (4c)": (("inception4c",), "463", "100"),
    "inception (4d)": (("inception4d",), "580", "119"),
    "inception (4e)": (("inception4e",), "840", "170"),
    "inception (5a)": (("inception5a",), "1072", "54"),
    "inception (5b)": (("inception5b",), "1388", "71"),
    "linear": (("fc",), "1000", "1"),
}


def _googlenet_1() -> Table:
    def part(stages: tuple[str, ...], what: str) -> Callable[[], float]:
        def count() -> float:
            rows = counted("googlenet", (224, 224), (("branch5x5", True),)).rows
            rows = [row for row in rows if row.stage in stages and row.multiply_adds]
            bias = sum(row.output[-1] for row in rows if row.kind == "linear")
            total: float = sum(getattr(row, what) for row in rows)
            return total - bias if what == "params" else total

        return count

    lines = []
    for name, (stages, params, ops) in _GOOGLENET.items():
        weights = part(stages, "params")
        right = f"{weights() / KILO:.0f}" == params
        first = "googlenet-conv1" if stages == ("conv1",) else ""
        cut = {"inception (4a)": "googlenet-cut", "inception (5a)": "googlenet-params"}
        lines += [
            Line(f"{name}, parameters (K)", params, KILO, weights,
                 erratum="" if right else first or "googlenet-params"),
            Line(f"{name}, ops (M)", ops, M, part(stages, "multiply_adds"),
                 erratum=first or cut.get(name, "")),
        ]  # fmt: skip
    lines += [
        Line("all ops, \"1.5 billion\" (M)", "1500", M, adds_of("googlenet", branch5x5=True),
             digits=2, erratum="googlenet-conv1"),
        Line("AlexNet's parameters over its own", "12", 1,
             lambda: params_of("alexnet_original")() / weights_of("googlenet", branch5x5=True)(),
             erratum="googlenet-12"),
    ]  # fmt: skip
    return Table("googlenet-1", "GoogLeNet, Table 1: the net, with true 5x5 branches", lines)


def _resnet_1() -> Table:
    cut = {50: "resnet-cut"}
    lines = [
        Line(f"ResNet-{depth} (GFLOPs)", printed, G, adds_of(f"resnet{depth}", **variant), remark,
             erratum=cut.get(depth, ""))
        for depth, printed, variant, remark in (
            (18, "1.8", {"shortcut": "padding"}, ""),
            (34, "3.6", {"shortcut": "padding"}, "with option A; projections would make it 3.7"),
            (50, "3.8", {"stride_first": True}, ""),
            (101, "7.6", {"stride_first": True}, ""),
            (152, "11.3", {"stride_first": True}, ""),
        )
    ]  # fmt: skip
    lines += [
        Line("34-layer plain net (GFLOPs)", "3.6", G, adds_of("resnet34", shortcut="none")),
        Line("VGG-19 (GFLOPs)", "19.6", G, adds_of("vgg19")),
    ]
    return Table("resnet-1", "ResNet, Table 1 and Figure 3", lines)


def _resnet_6() -> Table:
    lines = [
        Line(f"ResNet-{depth} for CIFAR, parameters (millions)", printed, M,
             params_of(f"resnet{depth}", 32))
        for depth, printed in ((20, "0.27"), (32, "0.46"), (44, "0.66"), (56, "0.85"), (110, "1.7"))
    ]  # fmt: skip
    return Table("resnet-6", "ResNet, Table 6: nets for CIFAR-10", lines)


def _resnext_1() -> Table:
    weights = "without batch norm's"
    return Table("resnext-1", "ResNeXt, Table 1: ResNet-50 and ResNeXt-50 (32x4d)", [
        Line("ResNet-50, parameters (millions)", "25.5", M, weights_of("resnet50"), weights),
        Line("ResNeXt-50 (32x4d), parameters (millions)", "25.0", M, weights_of("resnext50_32x4d"),
             weights),
        Line("ResNet-50 (GFLOPs)", "4.1", G, adds_of("resnet50"),
             "with the stride in the 3x3 convolution"),
        Line("ResNeXt-50 (32x4d) (GFLOPs)", "4.2", G, adds_of("resnext50_32x4d")),
    ])  # fmt: skip


def _xception_3() -> Table:
    return Table("xception-3", "Xception, Table 3: parameters", [
        Line("Xception", "22855952", 1, params_of("xception", 299)),
    ])  # fmt: skip


TABLES: dict[str, Callable[[], Table]] = {
    "alexnet": _alexnet,
    "vgg-2": _vgg_2,
    "nin": _nin,
    "googlenet-1": _googlenet_1,
    "resnet-1": _resnet_1,
    "resnet-6": _resnet_6,
    "resnext-1": _resnext_1,
    "xception-3": _xception_3,
}
