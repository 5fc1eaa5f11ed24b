"""VGG: Simonyan, Zisserman, "Very Deep Convolutional Networks for Large-Scale Image Recognition",
2014, arXiv 1409.1556. With batch norm, which came later, as torchvision has it.

Layer names are torchvision's, so weights move between the two by transposing.
"""

from __future__ import annotations

from .. import nn
from ..errors import TinyshuffleError
from ..values import flags
from .arguments import check_stem

__all__ = ["VGG"]

# Table 1: the 3x3 convolutions between two pools, by configuration (A, B, C or D, E).
REPEATS = {
    11: (1, 1, 2, 2, 2),
    13: (2, 2, 2, 2, 2),
    16: (2, 2, 3, 3, 3),
    19: (2, 2, 4, 4, 4),
}
WIDTHS = (64, 128, 256, 512, 512)
HIDDEN = 4096


class VGG(nn.Sequential):
    """VGG (Table 1).

    Parameters
    ----------
    depth : int
        11, 13, 16 or 19 layers with weights.
    num_classes : int
    stem : {"imagenet", "cifar"}
        All convolutions have stride 1 anyway. For "imagenet" the last map is averaged to 7x7 and
        the hidden linear layers have 4096 units; for "cifar" it is averaged to one pixel and they
        have 512, as in chenyaofo's nets for CIFAR.
    batch_norm : bool
        Behind every convolution.
    lrn : bool
        Local response normalisation behind the first convolution: with 11 layers, A-LRN.
    conv1x1 : bool
        The third convolution of a block is 1x1: with 16 layers, C in place of D.
    """

    @flags
    def __init__(
        self,
        depth: int = 16,
        num_classes: int = 1000,
        stem: str = "imagenet",
        batch_norm: bool = False,
        lrn: bool = False,
        conv1x1: bool = False,
    ) -> None:
        if depth not in REPEATS:
            raise TinyshuffleError(
                f"no VGG has {depth} layers; depths are {', '.join(map(str, REPEATS))}"
            )
        if conv1x1 and depth != 16:
            raise TinyshuffleError(
                f"configuration C, with 1x1 convolutions, has 16 layers and not {depth}"
            )
        small = check_stem(stem) == "cifar"
        layers: list[nn.Module] = []
        channels = 3
        for out, repeat in zip(WIDTHS, REPEATS[depth], strict=True):
            for i in range(repeat):
                kernel = 1 if conv1x1 and i == 2 else 3
                layers.append(nn.Conv2d(channels, out, kernel, padding=kernel // 2))
                layers += [nn.BatchNorm2d(out), nn.ReLU()] if batch_norm else [nn.ReLU()]
                if lrn and channels == 3:
                    layers.append(nn.LocalResponseNorm(5, alpha=5e-4, beta=0.75, k=2.0))
                channels = out
            layers.append(nn.MaxPool2d(2))
        size, hidden = (1, channels) if small else (7, HIDDEN)
        super().__init__(
            features=nn.Sequential(*layers),
            avgpool=nn.AdaptiveAvgPool2d(size),
            flatten=nn.Flatten(),
            classifier=nn.Sequential(
                nn.Linear(channels * size * size, hidden), nn.ReLU(), nn.Dropout(0.5),
                nn.Linear(hidden, hidden), nn.ReLU(), nn.Dropout(0.5),
                nn.Linear(hidden, num_classes),
            ),
        )  # fmt: skip
        nn.init.kaiming_normal(self)
        nn.init.normal(self, 0.01)
