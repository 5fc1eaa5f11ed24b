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
        Name of the arm whose multiply-adds the others shall have.
    smallest : tuple of int
        That arm's widths.
    """

    title: str
    source: str
    arms: tuple[Arm, ...]
    order: tuple[tuple[str, str], ...]
    budget: str
    smallest: tuple[int, ...] = ()


def _v1(name: str, groups: int, published: float, **variant: Any) -> Arm:
    variant = {"stem_channels": STEM_CHANNELS, **variant}
    model = f"shufflenet_v1_x0_25_g{groups}"
    return Arm(name, model, variant, 4 * groups, published)


def _other(name: str, kind: str, multiple: int, published: float | None) -> Arm:
    variant = {"stem_channels": STEM_CHANNELS}
    return Arm(name, f"{kind}_like_13m", variant, multiple, published)


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
            Arm("V2", "shufflenet_v2_x0_5", {}, published=39.7),
            _v1("V1, g=3", 3, 43.2),
        ),
        (("V2", "V1, g=3"),),
        "V2",
    ),
}  # fmt: skip
