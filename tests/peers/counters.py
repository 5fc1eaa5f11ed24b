"""Count torchvision's nets with other people's counters, for docs/counters.md.

    pip install torchvision thop fvcore ptflops torchinfo deepspeed
    python tests/peers/counters.py

writes docs/counters.csv, whose head names the releases. The page is written from it and from the
conventions of tinyshuffle.cost, which reproduce every cell.
"""

from __future__ import annotations

import contextlib
import csv
import io
import logging
import sys
import types
import warnings
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]
TABLE, PAGE = ROOT / "docs" / "counters.csv", ROOT / "docs" / "counters.md"

NETS = [
    "alexnet", "vgg11", "vgg11_bn", "vgg13", "vgg13_bn", "vgg16", "vgg16_bn", "vgg19", "vgg19_bn",
    "googlenet", "resnet18", "resnet34", "resnet50", "resnet101", "resnet152", "resnext50_32x4d",
    "squeezenet1_0", "squeezenet1_1", "densenet121", "densenet169", "densenet201", "mobilenet_v2",
    "shufflenet_v2_x0_5", "shufflenet_v2_x1_0", "shufflenet_v2_x1_5", "shufflenet_v2_x2_0",
]  # fmt: skip


def torchvision_net(name: str) -> Any:
    """A net in evaluation, with fresh weights."""
    # its operators for detection are compiled, against one build of PyTorch; no net needs them
    sys.modules.setdefault(
        "torchvision._meta_registrations", types.ModuleType("torchvision._meta_registrations")
    )
    import torchvision

    more = {"aux_logits": False, "init_weights": False} if name == "googlenet" else {}
    return torchvision.models.get_model(name, weights=None, **more).eval()


def _thop(net: Any, x: Any) -> int:
    from thop import profile

    return int(profile(net, (x,), verbose=False)[0])


def _fvcore(net: Any, x: Any) -> int:
    from fvcore.nn import FlopCountAnalysis

    counted = FlopCountAnalysis(net, x)
    return int(counted.unsupported_ops_warnings(False).uncalled_modules_warnings(False).total())


def _ptflops(backend: str) -> Callable[[Any, Any], int]:
    def count(net: Any, x: Any) -> int:
        from ptflops import get_model_complexity_info

        with contextlib.redirect_stdout(io.StringIO()):
            adds, _ = get_model_complexity_info(
                net, tuple(x.shape[1:]), as_strings=False, print_per_layer_stat=False,
                backend=backend,
            )  # fmt: skip
        return int(adds)

    return count


def _torchinfo(net: Any, x: Any) -> int:
    from torchinfo import summary

    return int(summary(net, input_data=x, verbose=0).total_mult_adds)


def _flop_counter(net: Any, x: Any) -> int:
    from torch.utils.flop_counter import FlopCounterMode

    with FlopCounterMode(display=False) as counter:
        net(x)
    return int(counter.get_total_flops())


def _deepspeed(what: str) -> Callable[[Any, Any], int]:
    def count(net: Any, x: Any) -> int:
        from deepspeed.profiling.flops_profiler import FlopsProfiler

        profiler = FlopsProfiler(net)
        profiler.start_profile()
        net(x)
        found = getattr(profiler, f"get_total_{what}")()
        profiler.end_profile()
        return int(found)

    return count


# name in the table, the package, our convention, how it counts
COUNTERS: dict[str, tuple[str, str, Callable[[Any, Any], int]]] = {
    "thop": ("thop", "thop", _thop),
    "fvcore": ("fvcore", "fvcore", _fvcore),
    "ptflops, pytorch": ("ptflops", "ptflops", _ptflops("pytorch")),
    "ptflops, aten": ("ptflops", "ptflops-aten", _ptflops("aten")),
    "torchinfo": ("torchinfo", "torchinfo", _torchinfo),
    "FlopCounterMode": ("torch", "flopcounter", _flop_counter),
    "deepspeed, MACs": ("deepspeed", "paper", _deepspeed("macs")),
    "deepspeed, FLOPs": ("deepspeed", "deepspeed", _deepspeed("flops")),
}


def count(counter: str, net: str) -> int:
    """What a counter says of a net for one image of 224x224 pixels."""
    import torch

    logging.disable(logging.ERROR)
    try:
        with torch.no_grad(), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return COUNTERS[counter][2](torchvision_net(net), torch.zeros(1, 3, 224, 224))
    finally:
        logging.disable(logging.NOTSET)


def read() -> tuple[str, dict[str, dict[str, int]]]:
    """The releases, and net to counter to count, as they are stored."""
    releases, *lines = TABLE.read_text(encoding="utf-8").splitlines()
    rows = list(csv.DictReader(lines))
    return releases.removeprefix("# "), {
        row["net"]: {counter: int(row[counter]) for counter in COUNTERS} for row in rows
    }


def table() -> str:
    """The page's table of all cells."""
    releases, cells = read()
    lines = ["| | " + " | ".join(COUNTERS) + " |", "|---|" + "---:|" * len(COUNTERS)]
    for net, row in cells.items():
        lines.append(f"| {net} | " + " | ".join(f"{n:,}" for n in row.values()) + " |")
    return "\n".join([*lines, "", f"{releases}.", ""])


def main() -> None:
    packages = dict.fromkeys(["torchvision", *(package for package, _, _ in COUNTERS.values())])
    releases = ", ".join(f"{package} {version(package)}" for package in packages)
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(["net", *COUNTERS])
    for net in NETS:
        writer.writerow([net, *(count(counter, net) for counter in COUNTERS)])
        print(net, flush=True)
    TABLE.write_text(f"# {releases}\n{out.getvalue()}", encoding="utf-8")
    text = PAGE.read_text(encoding="utf-8")
    start = text.index("| | thop |")
    PAGE.write_text(text[:start] + table(), encoding="utf-8")


if __name__ == "__main__":
    main()
