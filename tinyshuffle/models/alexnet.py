"""AlexNet: Krizhevsky, Sutskever, Hinton, "ImageNet Classification with Deep Convolutional Neural
Networks", NIPS 2012, and the one-tower version that torchvision ships (Krizhevsky, "One Weird
Trick for Parallelizing Convolutional Neural Networks", 2014, arXiv 1404.5997).

The original was trained on two cards, each with half of the channels: its second, fourth and
fifth convolution see only the channels on their own card. That is a convolution in two groups,
five years before ShuffleNet; the third convolution is where the cards talk to each other.

Layer names of ``alexnet`` are torchvision's, so weights move between the two by transposing.
"""

from __future__ import annotations

from functools import partial

from .. import nn
from ..values import flags
from .arguments import check_stem, check_width

__all__ = ["AlexNet", "AlexNetOriginal"]

# Output channels, kernel, padding, groups of convolutions 1 to 5. The first has stride 4. The
# paper gives 224x224 images a first layer of 55x55, which needs a padding of 2.
ONE_TOWER = ((64, 11, 2, 1), (192, 5, 2, 1), (384, 3, 1, 1), (256, 3, 1, 1), (256, 3, 1, 1))
TWO_TOWERS = ((96, 11, 2, 1), (256, 5, 2, 2), (384, 3, 1, 1), (384, 3, 1, 2), (256, 3, 1, 2))
POOL_BEHIND = (1, 2, 5)
NORM_BEHIND = (1, 2)  # and before the pool (section 3.5)
HIDDEN = 4096


class AlexNet(nn.Sequential):
    """torchvision's AlexNet: one tower, no normalisation.

    Parameters
    ----------
    num_classes : int
    stem : {"imagenet", "cifar"}
        11x11 with stride 4, for images from 63x63 up. "cifar", which is nobody's published net:
        3x3 with stride 1, pools that halve the map, the last map averaged to one pixel, 256 hidden
        units, and convolutions drawn as He et al. do (2015), without which the ReLUs do not begin
        to learn for some epochs.
    tanh : bool
        In place of every ReLU, as in Figure 1 of 2012: to reach the same error took six times as
        long.
    overlap : bool
        Pools of 3x3 with stride 2. Without, 2x2, which leaves maps of the same size (section 3.4:
        0.4 points worse in top-1).
    width : float
        All widths are scaled by it; the paper's net has 1.
    """

    @flags
    def __init__(
        self,
        num_classes: int = 1000,
        stem: str = "imagenet",
        tanh: bool = False,
        overlap: bool = True,
        width: float = 1.0,
    ) -> None:
        activation = nn.Tanh if tanh else nn.ReLU
        width = check_width(width)
        table = tuple((max(1, int(out * width)), *rest) for out, *rest in ONE_TOWER)
        super().__init__(
            features=nn.Sequential(*_features(table, stem, False, activation, overlap)),
            **_head(num_classes, stem, activation, width),
        )
        if stem == "cifar":
            nn.init.kaiming_normal(self, "fan_in")


class AlexNetOriginal(nn.Sequential):
    """The paper's AlexNet: two towers, local response normalisation, overlapping pools.

    Section 3.3 has k = 2, n = 5, α = 10⁻⁴, β = 0.75 with α not divided by n, hence 5 α here. The
    weights are drawn as in section 5: N(0, 0.01²), and biases of 1 where the ReLUs shall begin
    with positive inputs. ``num_classes``, ``stem`` and ``tanh`` as of :class:`AlexNet`.
    """

    @flags
    def __init__(
        self, num_classes: int = 1000, stem: str = "imagenet", tanh: bool = False
    ) -> None:
        activation = nn.Tanh if tanh else nn.ReLU
        super().__init__(
            features=nn.Sequential(*_features(TWO_TOWERS, stem, True, activation)),
            **_head(num_classes, stem, activation),
        )
        convolutions = [layer for layer in self.modules() if isinstance(layer, nn.Conv2d)]
        linears = [layer for layer in self.modules() if isinstance(layer, nn.Linear)]
        for number, conv in enumerate(convolutions, 1):
            nn.init.normal(conv, 0.01, nn.Conv2d, bias=float(number in (2, 4, 5)))
        for linear in linears:
            nn.init.normal(linear, 0.01, bias=float(linear is not linears[-1]))


def _features(
    table: tuple[tuple[int, ...], ...],
    stem: str,
    norm: bool,
    activation: type[nn.Module],
    overlap: bool = True,
) -> list[nn.Module]:
    small = check_stem(stem) == "cifar"
    size, padding = (3, int(small)) if overlap else (2, 0)
    pool = partial(nn.MaxPool2d, size, stride=2, padding=padding)
    layers: list[nn.Module] = []
    channels = 3
    for number, (out, kernel, padding, groups) in enumerate(table, 1):
        stride = 4 if number == 1 else 1
        if number == 1 and small:
            kernel, padding, stride = 3, 1, 1
        layers += [nn.Conv2d(channels, out, kernel, stride, padding, groups=groups), activation()]
        if norm and number in NORM_BEHIND:
            layers.append(nn.LocalResponseNorm(5, alpha=5e-4, beta=0.75, k=2.0))
        if number in POOL_BEHIND:
            layers.append(pool())
        channels = out
    return layers


def _head(
    num_classes: int, stem: str, activation: type[nn.Module], width: float = 1.0
) -> dict[str, nn.Module]:
    """From the last map to the logits."""
    channels, hidden = (max(1, int(full * width)) for full in (256, HIDDEN))
    size = 6
    if stem == "cifar":
        size, hidden = 1, channels
    return {
        "avgpool": nn.AdaptiveAvgPool2d(size),
        "flatten": nn.Flatten(),
        "classifier": nn.Sequential(
            nn.Dropout(0.5), nn.Linear(channels * size * size, hidden), activation(),
            nn.Dropout(0.5), nn.Linear(hidden, hidden), activation(),
            nn.Linear(hidden, num_classes),
        ),
    }  # fmt: skip
