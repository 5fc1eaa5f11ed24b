"""A net of the zoo without its head: from pictures to the map that boxes are found in."""

from __future__ import annotations

from math import log2
from typing import Any

import numpy as np

from .. import models, nn
from ..errors import TinyshuffleError
from ..ops.arguments import integer
from ..plan import trace

__all__ = ["backbone", "map_of"]

ENDS = (nn.GlobalAvgPool, nn.AdaptiveAvgPool2d, nn.Flatten, nn.Linear)
"""What the first layer of a classifier's head may be; or a convolution that makes the classes."""


def backbone(
    model: str, stem: str = "cifar", seed: int | np.random.Generator = 0, **variant: Any
) -> nn.Module:
    """Return a net whose last stage's map is its output, (N, Hm, Wm, C).

    The layers of the head are replaced by chains of no layers, which pass on what they get; so the
    net's own ``forward`` and ``backward`` are what runs, whatever net it is. A 1x1 convolution that
    only widens the map for the classifier, as V2, MobileNet V2 and IGCV3 have it, is left out too:
    proposals are found on the last stage's map.

    Raises
    ------
    TinyshuffleError
        If there is no such model, or auxiliary classifiers were asked for.
    """
    if variant.get("aux_logits"):
        raise TinyshuffleError(
            "aux_logits=True was given, and a detector has no auxiliary classifiers: leave it out"
        )
    net = models.create(model, num_classes=1, stem=stem, seed=seed, **variant).net
    layers = dict(net.children())
    names = list(layers)
    classes = [m for m in net.modules() if isinstance(m, nn.Conv2d | nn.Linear)][-1]
    first = next(
        i for i, n in enumerate(names) if _ends(layers[n]) or classes in layers[n].modules()
    )
    if _ends(layers[names[first]]) and _is_pointwise(layers[names[first - 1]]):
        first -= 1
    for name in names[first:]:
        _leave_out(net, name)
    last = layers[names[first - 1]]
    if isinstance(last, nn.Sequential) and _is_pointwise(last[-1]):
        _leave_out(last, list(last._layers)[-1])
    return net


def _leave_out(net: nn.Module, name: str) -> None:
    if isinstance(net, nn.Sequential):
        net._layers[name] = nn.Sequential()
    else:
        setattr(net, name, nn.Sequential())


def _ends(layer: nn.Module) -> bool:
    return isinstance(layer, ENDS)


def _is_pointwise(layer: nn.Module) -> bool:
    kernels = [m.kernel_size for m in layer.modules() if isinstance(m, nn.Conv2d)]
    return kernels == [(1, 1)]


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
