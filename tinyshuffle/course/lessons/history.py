"""Notebook 11: from AlexNet to ShuffleNet."""

from __future__ import annotations

from ... import ops
from ...cost.profile import profile
from ..exercise import Exercise, Mistake
from .unit_v1 import _depthwise, _pointwise

__all__ = ["EXERCISES"]


def _conv(hw: int, c: int, o: int, kernel: int, g: int = 1) -> int:
    side = (1, 1, hw, c)
    w = (kernel, kernel, c // g, o)
    return ops.conv2d_cost(side, w, padding=kernel // 2, groups=g).multiply_adds


def _bottleneck(hw: int, c: int, m: int, g: int) -> int:
    return _pointwise(hw, c, m, 1) + _conv(hw, m, m, 3, g) + _pointwise(hw, m, c, 1)


def _inverted(hw: int, c: int, t: int) -> int:
    return 2 * _pointwise(hw, c, t * c, 1) + _depthwise(hw, t * c)


def _saved(c: int, o: int, r: int) -> float:
    return _conv(1, c, o, 3) / (_pointwise(1, c, r, 1) + _conv(1, r, o, 3))


def _vgg_share(net: str = "vgg16") -> float:
    counted = profile(net)
    linear = sum(row.params for row in counted.rows if row.operation == "linear")
    return 100 * linear / counted.total.params


EXERCISES = (
    Exercise(
        key="11.1",
        title="The bottlenecks of ResNet and ResNeXt",
        name="bottleneck_multiply_adds",
        reference=_bottleneck,
        cases=lambda: [(1, 4, 2, 1), (4, 8, 4, 2), (3136, 256, 64, 1), (3136, 256, 128, 32)],
        section=8,
        hints=(
            "Reduce, convolve, restore: 1×1, 3×3, 1×1. Which of them is grouped?",
            "hw (2cm + 9m² / g).",
        ),
        mistakes=(
            Mistake("only the 3×3 convolution is grouped; grouping the 1×1 as well is what "
                    "ShuffleNet adds",
                    lambda hw, c, m, g: hw * (2 * c * m + 9 * m * m) / g),
            Mistake("the groups are forgotten",
                    lambda hw, c, m, g: hw * (2 * c * m + 9 * m * m)),
            Mistake("there are two 1×1 convolutions",
                    lambda hw, c, m, g: hw * (c * m + 9 * m * m / g)),
            Mistake("the 3×3 convolution has g groups, 9m² / g; 9m would be a depthwise one",
                    lambda hw, c, m, g: hw * (2 * c * m + 9 * m)),
            Mistake("the 3×3 kernel has nine taps",
                    lambda hw, c, m, g: hw * (2 * c * m + 3 * m * m / g)),
            Mistake("it is divided by the groups twice",
                    lambda hw, c, m, g: hw * (2 * c * m + 9 * m * m / g**2),
                    "notebook 02, section 2"),
        ),
    ),
    Exercise(
        key="11.2",
        title="The bottleneck inside out",
        name="inverted_multiply_adds",
        reference=_inverted,
        cases=lambda: [(1, 2, 1), (1, 2, 6), (784, 32, 6)],
        section=11,
        hints=(
            "Narrow at the ends, t times as wide in the middle, and the middle is depthwise.",
            "c · tc for the way up, 9 · tc for the depthwise convolution, tc · c for the way down.",
        ),
        mistakes=(
            Mistake("the 3×3 convolution is depthwise: it has no sum over channels",
                    lambda hw, c, t: hw * (2 * t * c * c + 9 * (t * c) ** 2)),
            Mistake("the depthwise convolution works on the wide middle, t · c channels",
                    lambda hw, c, t: hw * (2 * t * c * c + 9 * c)),
            Mistake("there are two 1×1 convolutions, up and down",
                    lambda hw, c, t: hw * (t * c * c + 9 * t * c)),
            Mistake("the ends stay narrow: c · tc, not tc · tc",
                    lambda hw, c, t: hw * (2 * (t * c) ** 2 + 9 * t * c)),
        ),
    ),
    Exercise(
        key="11.3",
        title="Reduce, then convolve",
        name="saved",
        reference=_saved,
        cases=lambda: [(8, 8, 2), (192, 128, 96), (480, 208, 96)],
        section=4,
        hints=(
            "Compare a 3×3 convolution c → o with a 1×1 c → r that is followed by a 3×3 r → o.",
            "9co / (cr + 9ro). The number of pixels cancels.",
        ),
        mistakes=(
            Mistake("it is upside down: how many times cheaper, direct over detour",
                    lambda c, o, r: 1 / _saved(c, o, r)),
            Mistake("the 1×1 convolution costs something too, c · r",
                    lambda c, o, r: c / r),
            Mistake("the 3×3 convolution behind the reduction still has nine taps",
                    lambda c, o, r: 9 * c * o / (c * r + r * o)),
            Mistake("the reduction is 1×1: one tap, not nine",
                    lambda c, o, r: c * o / (c * r + r * o)),
        ),
    ),
    Exercise(
        key="11.4",
        title="Where VGG-16's parameters are",
        name="linear_share",
        reference=_vgg_share,
        tolerance=0.002,  # without the last of the three layers it is 0.4 % less
        section=3,
        hints=(
            "Three linear layers stand at the end; the first one reads 7 × 7 × 512 numbers.",
            "25,088 · 4,096 + 4,096 · 4,096 + 4,096 · 1,000, by the sum of these and 14.7 million.",
        ),
        mistakes=(
            Mistake("this is the share of the convolutions, the rest",
                    lambda: 100 - _vgg_share()),
            Mistake("this is the share of the multiply–adds, which are nearly all in the "
                    "convolutions",
                    lambda: 100 * 123_633_664 / 15_470_264_320, "notebook 01, section 7"),
            Mistake("the answer is asked for in per cent", lambda: _vgg_share() / 100),
            Mistake("this is AlexNet's share, whose linear layers read 6 × 6 × 256 numbers",
                    lambda: _vgg_share("alexnet_original"), "notebook 11, section 1"),
            Mistake("the last layer, with its 1,000 classes, is the third of the three",
                    lambda: 100 * (25_088 * 4096 + 4096 * 4096)
                    / (14_714_688 + 25_088 * 4096 + 4096 * 4096)),
            Mistake("the layer of 4,096 to 4,096 is the second of the three",
                    lambda: 100 * (25_088 * 4096 + 4096 * 1000)
                    / (14_714_688 + 25_088 * 4096 + 4096 * 1000)),
            Mistake("the first linear layer reads 7 × 7 pixels of 512 channels, not one",
                    lambda: 100 * (512 * 4096 + 4096 * 4096 + 4096 * 1000)
                    / (14_714_688 + 512 * 4096 + 4096 * 4096 + 4096 * 1000)),
        ),
    ),
)  # fmt: skip
