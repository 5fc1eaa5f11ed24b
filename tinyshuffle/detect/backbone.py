"""A net of the zoo without its head: from pictures to the map that boxes are found in."""

from __future__ import annotations

from math import log2

import numpy as np

from .. import models, nn
from ..errors import TinyshuffleError
from ..ops.arguments import integer
from ..plan import trace

__all__ = ["backbone", "map_of"]

ENDS = (nn.GlobalAvgPool, nn.AdaptiveAvgPool2d, nn.Flatten, nn.Linear)
"""What the first layer of a classifier's head may be; or a convolution that makes the classes."""


def backbone(
    model: str, stem: str = "cifar", seed: int | np.random.Generator = 0
) -> nn.Module:
    """Return a net whose last stage's map is its output, (N, Hm, Wm, C).

    The layers of the head are replaced by chains of no layers, which pass on what they get; so the
    net's own ``forward`` and ``backward`` are what runs, whatever net it is. ``conv5`` of V2, which
    widens the map for the classifier, is left out too: proposals are found on stage 4.

    Raises
    ------
    TinyshuffleError
        If there is no such model.
    """
    net = models.create(model, num_classes=1, stem=stem, seed=seed).net
    head = False
    for name, child in list(net.children()):
        head = head or isinstance(child, ENDS) or _decides(child)
        head = head or name == "conv5" and _is_pointwise(child)
        if head:
            if isinstance(net, nn.Sequential):
                net._layers[name] = nn.Sequential()
            else:
                setattr(net, name, nn.Sequential())
    return net


def _decides(layer: nn.Module) -> bool:
    """Whether its output has one channel a class, of which there is one."""
    return any(isinstance(m, nn.Conv2d) and m.out_channels == 1 for m in layer.modules())


def _is_pointwise(layer: nn.Module) -> bool:
    return all(m.kernel_size == (1, 1) for m in layer.modules() if isinstance(m, nn.Conv2d))


def map_of(net: nn.Module, side: int) -> tuple[tuple[int, int, int], int]:
    """Return (Hm, Wm, C) of the map of a picture of ``side`` pixels a side, and its stride.

    The stride is a power of two, and so many pixels lie between two of the map, but for what a net
    loses at the edges of pictures that it does not divide.
    """
    side = integer(side, "side")
    _, h, w, c = trace(net, (1, side, side, 3), train=False).output.shape
    if h < 2 or w < 2:
        raise TinyshuffleError(
            f"of pictures with {side} pixels a side this net leaves a map of {h}x{w}, in which no "
            "box can be found: give larger pictures, or the stem cifar"
        )
    return (h, w, c), 2 ** round(log2(side / h))
