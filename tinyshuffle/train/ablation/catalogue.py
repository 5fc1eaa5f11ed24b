"""The comparisons of the papers that can be trained again, and the nets of each."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

__all__ = ["ABLATIONS", "STEM_CHANNELS", "Ablation", "Arm"]

STEM_CHANNELS = 24  # for all alike: the smallest number that 2, 3, 4 and 8 groups divide


@dataclass(frozen=True)
class Arm:
    """One of the nets that are compared.

    Attributes
    ----------
    name : str
    model : str
    variant : dict
    multiple : int
        What the widths must be multiples of; 0: the net is taken as it is.
    published : float
        Top-1 error on ImageNet, in per cent, that the paper prints; None if it prints none.
    multiplier : bool
        All widths are scaled by one number, which is solved for (MobileNets).
    """

    name: str
    model: str
    variant: dict[str, Any]
    multiple: int = 0
    published: float | None = None
    multiplier: bool = False


@dataclass(frozen=True)
class Ablation:
    """A comparison of a paper.

    Attributes
    ----------
    title, source : str
        The question, and where the paper answers it.
    arms : tuple of Arm
    order : tuple of (str, str)
        Names of arms: in the paper the first of each pair is better.
    budget : str
        Name of the arm whose multiply-adds the others shall have; empty if the comparison is of
        nets as they are, which cost what they cost.
    smallest : tuple of int, or float
        That arm's widths, or its width multiplier.
    supposed : bool
        The order is no paper's: none has compared these nets, or said which is better.
    """

    title: str
    source: str
    arms: tuple[Arm, ...]
    order: tuple[tuple[str, str], ...]
    budget: str
    smallest: tuple[int, ...] | float = ()
    supposed: bool = False


def _v1(name: str, groups: int, published: float, **variant: Any) -> Arm:
    variant = {"stem_channels": STEM_CHANNELS, **variant}
    model = f"shufflenet_v1_x0_25_g{groups}"
    return Arm(name, model, variant, 4 * groups, published)


def _other(name: str, kind: str, multiple: int, published: float | None) -> Arm:
    variant = {"stem_channels": STEM_CHANNELS}
    return Arm(name, f"{kind}_like_13m", variant, multiple, published)


def _v2(name: str, published: float | None = None, **variant: Any) -> Arm:
    return Arm(name, "shufflenet_v2_x0_5", variant, published=published)


def _deep(name: str, repeats: tuple[int, ...], **variant: Any) -> Arm:
    variant = {"stage_repeats": list(repeats), "conv5_channels": 512, **variant}
    return Arm(name, "shufflenet_v2_x0_5", variant, 2)


def _resnet(name: str, depth: int, shortcut: str) -> Arm:
    return Arm(name, f"resnet{depth}", {"shortcut": shortcut})


_GROUPS = {1: 57.1, 2: 56.8, 3: 55.0, 4: 54.2, 8: 52.7}


ABLATIONS = {
    "shuffle": Ablation(
        "Does the channel shuffle help?",
        "V1 Table 3, 0.25x",
        (
            _v1("g=3, shuffle", 3, 55.0),
            _v1("g=3, none", 3, 56.3, shuffle=False),
            _v1("g=8, shuffle", 8, 52.7),
            _v1("g=8, none", 8, 56.5, shuffle=False),
        ),
        (("g=3, shuffle", "g=3, none"), ("g=8, shuffle", "g=8, none")),
        "g=8, shuffle",
        (96, 192, 384),
    ),
    "groups": Ablation(
        "Do more groups, and so wider layers, help?",
        "V1 Table 2, 0.25x",
        tuple(_v1(f"g={g}", g, error) for g, error in _GROUPS.items()),
        (("g=2", "g=1"), ("g=3", "g=2"), ("g=4", "g=3"), ("g=8", "g=4")),
        "g=8",
        (96, 192, 384),
    ),
    "units": Ablation(
        "Is the ShuffleNet unit better than others?",
        "V1 Table 4, 13 M; it has no VGG-like net there",
        (
            _other("VGG-like", "vgg", 1, None),
            _other("ResNet", "resnet", 4, 63.7),
            _v1("Xception-like", 1, 57.1),
            _other("ResNeXt", "resnext", 8, 65.2),
            _v1("ShuffleNet", 8, 52.7),
        ),
        tuple(
            ("ShuffleNet", other) for other in ("VGG-like", "ResNet", "Xception-like", "ResNeXt")
        ),
        "ShuffleNet",
        (96, 192, 384),
    ),
    "v1-v2": Ablation(
        "Is V2 better than V1?",
        "V2 Table 8, 0.5x",
        (
            _v2("V2", 39.7),
            _v1("V1, g=3", 3, 43.2),
        ),
        (("V2", "V1, g=3"),),
        "V2",
    ),
    "nets": Ablation(
        "Is V2 better than the others at its cost?",
        "V2 Table 8, 0.5x",
        (
            Arm("V2", "shufflenet_v2_x0_5", {}, 2, 39.7),
            _v1("V1, g=3", 3, 43.2),
            _v1("Xception-like", 1, 44.9),
            Arm("MobileNet V1", "mobilenet_v1_x1_0", {}, published=49.4, multiplier=True),
            Arm("MobileNet V2", "mobilenet_v2", {}, published=55.1, multiplier=True),
        ),
        tuple(
            ("V2", other)
            for other in ("V1, g=3", "Xception-like", "MobileNet V1", "MobileNet V2")
        ),
        "MobileNet V2",  # whose widths are multiples of 8, so that few budgets suit it
        0.35,
    ),
    "se": Ablation(
        "Does squeeze-and-excitation help?",
        "V1 Table 5 and V2 Table 8, 2x",
        (
            _v1("V1, SE", 3, 24.7, se=True),
            _v1("V1", 3, 26.3),
            _v2("V2, SE", 24.6, se=True),
            _v2("V2", 25.1),
        ),
        (("V1, SE", "V1"), ("V2, SE", "V2")),
        "V2",
    ),
    "shallow": Ablation(
        "Is a deep net better than a wide one with half as many units?",
        "V1 Tables 5 and 8, 0.5x",
        (
            _v1("g=4", 4, 41.6),
            _v1("g=3", 3, 43.2),
            _v1("g=3, shallow", 3, 42.8, stage_repeats=[2, 4, 2]),
        ),
        (("g=4", "g=3, shallow"), ("g=3, shallow", "g=3")),
        "g=4",
        (96, 192, 384),
    ),
    "thin": Ablation(
        "Is a thin net better than a shallow one?",
        "MobileNet V1 Table 5, 0.75 beside five units less",
        (
            Arm("thin", "mobilenet_v1_x1_0", {}, published=31.6, multiplier=True),
            Arm("shallow", "mobilenet_v1_x1_0", {"shallow": True}, 0, 34.7, multiplier=True),
        ),
        (("thin", "shallow"),),
        "thin",
        0.5,
    ),
    "residual": Ablation(
        "Do V2's units need a shortcut when there are many of them?",
        "V2 Table 6 and section 5, where the net of 164 layers has shortcuts; none is without",
        (
            _deep("16 units", (4, 8, 4)),
            _deep("16 units, residual", (4, 8, 4), residual=True),
            _deep("32 units", (8, 16, 8)),
            _deep("32 units, residual", (8, 16, 8), residual=True),
        ),
        (("32 units, residual", "32 units"),),
        "16 units",
        (48, 96, 192),
        supposed=True,
    ),
    "downsample": Ablation(
        "Where V2 halves the map, shall the shortcut make half of the channels, or as many as it "
        "takes?",
        "V2 Figure 3 (d), which leaves it open, and Table 5, whose multiply-adds are those of the "
        "authors' unit",
        (
            _deep("authors'", (2, 4, 2), downsample="paper"),
            _deep("torchvision's", (2, 4, 2), downsample="torchvision"),
        ),
        (("authors'", "torchvision's"),),
        "torchvision's",
        (80, 160, 320),
        supposed=True,
    ),
    "activation": Ablation(
        "Does a ReLU learn faster than tanh?",
        "AlexNet section 3.1, Figure 1",
        (
            Arm("ReLU", "alexnet", {}, multiplier=True),
            Arm("tanh", "alexnet", {"tanh": True}, multiplier=True),
        ),
        (("ReLU", "tanh"),),
        "ReLU",
        0.2,
    ),
    "pooling": Ablation(
        "Do pools help whose windows overlap?",
        "AlexNet section 3.4",
        (
            Arm("3x3, overlapping", "alexnet", {}, multiplier=True),
            Arm("2x2", "alexnet", {"overlap": False}, multiplier=True),
        ),
        (("3x3, overlapping", "2x2"),),
        "3x3, overlapping",
        0.2,
    ),
    "aux": Ablation(
        "Do auxiliary classifiers help?",
        "GoogLeNet section 5",
        (
            Arm("auxiliary", "googlenet", {"aux_logits": True}, multiplier=True),
            Arm("none", "googlenet", {}, multiplier=True),
        ),
        (("auxiliary", "none"),),
        "none",
        0.15,
    ),
    "degradation": Ablation(
        "Are deep plain nets worse than shallow ones, and residual ones not?",
        "ResNet section 4.2, Figure 6",
        (
            _resnet("plain 20", 20, "none"),
            _resnet("residual 20", 20, "padding"),
            _resnet("plain 56", 56, "none"),
            _resnet("residual 56", 56, "padding"),
        ),
        (("plain 20", "plain 56"), ("residual 56", "plain 56"), ("residual 56", "residual 20")),
        "",
    ),
}  # fmt: skip
