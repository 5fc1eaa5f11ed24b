"""V1 Table 4: ShuffleNet's body with other people's units at the same complexity.

Section 3.2 and 4.2: the units of stages 2 to 4 are replaced, the rest stays, and the widths are
chosen "to ensure the complexity remains unchanged", at 140, 38 and 13 M multiply-adds.

* VGG-like: two 3x3 convolutions, each with BN and ReLU.
* ResNet: bottlenecks of a quarter of the width, with projection shortcuts.
* ResNeXt: cardinality 16, bottlenecks of half of the width.
* Xception-like: "ShuffleNet without pointwise group convolution and channel shuffle", which is
  ``ShuffleNetV1(width, groups=1)``.

The paper prints the widths of stage 4 at 38 M only: 50, 192, 192 and 288. The others are solved
for: stages of w/4, w/2, w channels, w the multiple of 16 (VGG-like: of 2) whose count comes nearest
to the budget; and the stem that ShuffleNet has there, 24 channels at 140 M, 12 below. This finds
the printed widths at 38 M if the stride of a stage sits on the first 1x1 convolution, as He et al.
have it (on the 3x3, ResNeXt with 192 would have 41 M). Everything then simply doubles:

              140 M                38 M                13 M
    VGG-like   98   138.1 M         50   37.6 M         26   13.2 M
    ResNet    384   137.2 M        192   36.4 M         96   12.3 M
    ResNeXt   384   143.1 M        192   38.9 M (37.9)  96   14.0 M (12.7)
    Xception  576   143.1 M        288   38.5 M        144   13.2 M

ResNeXt's 192 cannot be built as printed: half of stage 2's 48 channels are 24, which 16 groups do
not divide. In brackets is the count that the paper's formula, hw(2cm + 9m²/g), gives for g = 16
all the same. Here the groups are the largest power of two up to 16 that divides the bottleneck.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import gcd

from .. import nn
from ..errors import TinyshuffleError
from .arguments import check_channels, check_stages
from .resnet import bottleneck
from .stem import stem_layers

__all__ = ["OtherUnits", "vgg_unit"]

# Channels of stage 4, by unit and by budget in millions of multiply-adds.
WIDTHS = {
    "vgg": {140: 98, 38: 50, 13: 26},
    "resnet": {140: 384, 38: 192, 13: 96},
    "resnext": {140: 384, 38: 192, 13: 96},
}
STEM_WIDTH = {140: 24, 38: 12, 13: 12}
REPEATS = (4, 8, 4)
CARDINALITY = 16


def vgg_unit(in_channels: int, out_channels: int, stride: int) -> nn.Sequential:
    """Return two 3x3 convolutions, each with BN and ReLU."""
    return nn.Sequential(
        conv1=nn.Conv2d(in_channels, out_channels, 3, stride, padding=1, bias=False),
        bn1=nn.BatchNorm2d(out_channels),
        relu1=nn.ReLU(),
        conv2=nn.Conv2d(out_channels, out_channels, 3, padding=1, bias=False),
        bn2=nn.BatchNorm2d(out_channels),
        relu2=nn.ReLU(),
    )


def _unit(kind: str, in_channels: int, out_channels: int, stride: int) -> nn.Module:
    if kind == "vgg":
        return vgg_unit(in_channels, out_channels, stride)
    middle = out_channels // (4 if kind == "resnet" else 2)
    groups = 1 if kind == "resnet" else gcd(CARDINALITY, middle)
    return bottleneck(in_channels, middle, out_channels, stride, groups, stride_first=True)


class OtherUnits(nn.Sequential):
    """ShuffleNet V1's body with other units (V1 Table 4).

    Parameters
    ----------
    kind : {"vgg", "resnet", "resnext"}
    budget : int
        140, 38 or 13 million multiply-adds for a 224x224 image.
    num_classes : int
    stem : {"imagenet", "cifar"}
        3x3 stride 2 and max pool, or 3x3 stride 1 alone.
    stage_channels : three int, optional
        Other widths of stages 2, 3 and 4 than the budget's: multiples of 4 (``vgg``: any).
    stem_channels : int, optional
        Another width of the first convolution.
    """

    def __init__(
        self,
        kind: str,
        budget: int = 140,
        num_classes: int = 1000,
        stem: str = "imagenet",
        stage_channels: Sequence[int] | None = None,
        stem_channels: int | None = None,
    ) -> None:
        if kind not in WIDTHS or budget not in STEM_WIDTH:
            raise TinyshuffleError(
                f"no net of {kind!r} units at {budget} M in V1 Table 4; units are "
                f"{', '.join(WIDTHS)}, budgets {', '.join(map(str, STEM_WIDTH))}"
            )
        if stage_channels is None:
            last = WIDTHS[kind][budget]
            stage_channels = last // 4, last // 2, last
        else:
            stage_channels = check_stages(stage_channels, 1 if kind == "vgg" else 4)
        channels = STEM_WIDTH[budget]
        if stem_channels is not None:
            channels = check_channels("stem_channels", stem_channels)
        conv1, maxpool = stem_layers(channels, stem)
        stages: dict[str, nn.Module] = {}
        for stage, (out, repeat) in enumerate(zip(stage_channels, REPEATS, strict=True), 2):
            units = []
            for i in range(repeat):
                units.append(_unit(kind, channels, out, 2 if i == 0 else 1))
                channels = out
            stages[f"stage{stage}"] = nn.Sequential(*units)
        super().__init__(
            conv1=conv1,
            maxpool=maxpool,
            **stages,
            globalpool=nn.GlobalAvgPool(),
            fc=nn.Linear(channels, num_classes),
        )
        nn.init.kaiming_normal(self)
