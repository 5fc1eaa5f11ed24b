"""SqueezeNet: Iandola et al., "SqueezeNet: AlexNet-level accuracy with 50x fewer parameters and
<0.5MB model size", 2016, arXiv 1602.07360; version 1.1 is from the authors' repository.

Layer names are torchvision's, so weights move between the two by transposing.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from .. import nn
from ..backend import F
from ..errors import TinyshuffleError
from .arguments import check_stem

__all__ = ["Fire", "SqueezeNet"]

# Channels and kernel of the first convolution (stride 2, no padding); then what follows: "pool",
# or a fire module's squeeze and expand channels, the latter for each of its two halves. Table 1.
VERSIONS: dict[str, tuple[int, int, tuple[Any, ...]]] = {
    "1.0": (96, 7, ("pool", (16, 64), (16, 64), (32, 128), "pool", (32, 128), (48, 192),
                    (48, 192), (64, 256), "pool", (64, 256))),
    "1.1": (64, 3, ("pool", (16, 64), (16, 64), "pool", (32, 128), (32, 128), "pool",
                    (48, 192), (48, 192), (64, 256), (64, 256))),
}  # fmt: skip


class Fire(nn.Module):
    """The fire module (Figure 1): 1x1 to few channels, then 1x1 and 3x3 side by side.

    Parameters
    ----------
    in_channels, squeezed : int
    expanded : int
        Channels of each half of the output.
    """

    def __init__(self, in_channels: int, squeezed: int, expanded: int) -> None:
        self.expanded = expanded
        self.squeeze = nn.Conv2d(in_channels, squeezed, 1)
        self.squeeze_activation = nn.ReLU()
        self.expand1x1 = nn.Conv2d(squeezed, expanded, 1)
        self.expand1x1_activation = nn.ReLU()
        self.expand3x3 = nn.Conv2d(squeezed, expanded, 3, padding=1)
        self.expand3x3_activation = nn.ReLU()

    def forward(self, x: np.ndarray) -> np.ndarray:
        x = self.squeeze_activation(self.squeeze(x))
        return F.concat([
            self.expand1x1_activation(self.expand1x1(x)),
            self.expand3x3_activation(self.expand3x3(x)),
        ])

    def backward(self, dy: np.ndarray) -> np.ndarray:
        dy1, dy3 = F.concat_backward(dy, [self.expanded] * 2)
        dx = F.add(
            self.expand1x1.backward(self.expand1x1_activation.backward(dy1)),
            self.expand3x3.backward(self.expand3x3_activation.backward(dy3)),
        )
        return self.squeeze.backward(self.squeeze_activation.backward(dx))


class SqueezeNet(nn.Sequential):
    """SqueezeNet (Table 1).

    Parameters
    ----------
    version : {"1.0", "1.1"}
    num_classes : int
    stem : {"imagenet", "cifar"}
        7x7 (3x3 in 1.1) with stride 2 and a max pool, or 3x3 with stride 1, padding and no pool.
    """

    def __init__(
        self, version: str = "1.0", num_classes: int = 1000, stem: str = "imagenet"
    ) -> None:
        if version not in VERSIONS:
            raise TinyshuffleError(
                f"no SqueezeNet {version!r}; versions are {', '.join(VERSIONS)}"
            )
        channels, kernel, plan = VERSIONS[version]
        if check_stem(stem) == "imagenet":
            conv = nn.Conv2d(3, channels, kernel, stride=2)
        else:
            conv, plan = nn.Conv2d(3, channels, 3, padding=1), plan[1:]
        layers: list[nn.Module] = [conv, nn.ReLU()]
        for step in plan:
            if isinstance(step, str):
                layers.append(nn.MaxPool2d(3, stride=2, ceil_mode=True))
            else:
                layers.append(Fire(channels, *step))
                channels = 2 * step[1]
        last = nn.Conv2d(channels, num_classes, 1)
        super().__init__(
            features=nn.Sequential(*layers),
            classifier=nn.Sequential(nn.Dropout(0.5), last, nn.ReLU(), nn.GlobalAvgPool()),
        )
        nn.init.kaiming_uniform(self)
        nn.init.normal(last, 0.01, nn.Conv2d)
