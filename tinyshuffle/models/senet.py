"""SENet-154: Hu, Shen, Albanie, Sun, Wu, "Squeeze-and-Excitation Networks", 2017, arXiv 1709.01507.

The net that won ILSVRC 2017 and that ShuffleNet V2's Table 6 compares its largest net with: a
ResNeXt-152 (64x4d) with squeeze-and-excitation in each block and the changes that the paper's
appendix lists: three 3x3 convolutions in the stem, half of the channels in a block's first 1x1
convolution, 3x3 in the projection shortcuts of stages 3 to 5, and dropout.
"""

from __future__ import annotations

from .. import nn
from .arguments import check_stem
from .resnet import EXPANSION, REPEATS, WIDTHS, ResidualBlock

__all__ = ["SENet154", "se_block"]

GROUPS = 64
STEM = (64, 64, 128)


def se_block(
    in_channels: int, width: int, stride: int, kernel: int = 3, groups: int = GROUPS
) -> ResidualBlock:
    """Return 1x1 to 2 w, grouped 3x3 to 4 w, 1x1 to 4 w channels, then squeeze-and-excitation.

    ``kernel`` is that of the projection, where the shape changes.
    """
    out = EXPANSION * width
    shortcut = None
    if stride != 1 or in_channels != out:
        shortcut = nn.Sequential(
            nn.Conv2d(in_channels, out, kernel, stride, kernel // 2, bias=False),
            nn.BatchNorm2d(out),
        )
    return ResidualBlock(
        shortcut,
        conv1=nn.Conv2d(in_channels, 2 * width, 1, bias=False),
        bn1=nn.BatchNorm2d(2 * width),
        relu1=nn.ReLU(),
        conv2=nn.Conv2d(2 * width, out, 3, stride, padding=1, groups=groups, bias=False),
        bn2=nn.BatchNorm2d(out),
        relu2=nn.ReLU(),
        conv3=nn.Conv2d(out, out, 1, bias=False),
        bn3=nn.BatchNorm2d(out),
        se=nn.SqueezeExcitation(out),
    )


class SENet154(nn.Sequential):
    """SENet-154.

    Parameters
    ----------
    num_classes : int
    stem : {"imagenet", "cifar"}
        Three 3x3 convolutions, the first with stride 2, and a max pool; or all with stride 1 and
        no pool.
    """

    def __init__(self, num_classes: int = 1000, stem: str = "imagenet") -> None:
        large = check_stem(stem) == "imagenet"
        convolutions: list[nn.Module] = []
        channels = 3
        for i, out in enumerate(STEM):
            stride = 2 if large and i == 0 else 1
            convolutions += [
                nn.Conv2d(channels, out, 3, stride, padding=1, bias=False),
                nn.BatchNorm2d(out),
                nn.ReLU(),
            ]
            channels = out
        if large:
            convolutions.append(nn.MaxPool2d(3, stride=2, ceil_mode=True))
        layers: dict[str, nn.Module] = {"layer0": nn.Sequential(*convolutions)}
        for stage, (width, repeat) in enumerate(zip(WIDTHS, REPEATS[152], strict=True), 1):
            blocks = []
            for i in range(repeat):
                stride = 2 if stage > 1 and i == 0 else 1
                blocks.append(se_block(channels, width, stride, 3 if stage > 1 else 1))
                channels = EXPANSION * width
            layers[f"layer{stage}"] = nn.Sequential(*blocks)
        super().__init__(
            **layers, avgpool=nn.GlobalAvgPool(), dropout=nn.Dropout(0.2),
            fc=nn.Linear(channels, num_classes),
        )  # fmt: skip
        nn.init.kaiming_normal(self)
