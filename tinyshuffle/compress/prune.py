"""Magnitude pruning: the smallest weights become zero (Han et al. 2015, arXiv 1506.02626).

With the numbers a net can do without, its file can be packed smaller. Its time stays what it was:
the kernels multiply by zero as long as by anything else, and one that looks up which products to
leave out takes longer, until nearly all are.
"""

from __future__ import annotations

import numpy as np

from ..nn import Module
from ..nn.check import check_net
from ..ops.arguments import number

__all__ = ["prune"]


def prune(net: Module, share: float) -> dict[str, np.ndarray]:
    """Set the smallest weights of all convolutions and linear layers to zero, in place.

    All are compared with the same threshold. Biases and batch norms are left as they are.

    Parameters
    ----------
    net : Module
    share : float
        Of the weights, from 0 to 1.

    Returns
    -------
    dict of bool arrays, by the weight's name
        What was kept: to train on, multiply the weights by it after each step.

    >>> from tinyshuffle import nn
    >>> layer = nn.Linear(2, 2)
    >>> layer.weight.data = np.float32([[1, -4], [3, 2]])
    >>> kept = prune(layer, 0.5)
    >>> layer.weight.data.tolist(), kept["weight"].tolist()
    ([[0.0, -4.0], [3.0, 0.0]], [[False, True], [True, False]])
    """
    check_net(net)
    share = number(share, "share", lambda s: 0 <= s <= 1, "a number from 0 to 1")
    weights = [p for p in net.parameters() if p.data.ndim > 1]
    sizes = np.concatenate([np.abs(p.data).ravel() for p in weights] or [np.zeros(0)])
    kept = np.ones(sizes.size, bool)
    kept[np.argsort(sizes, kind="stable")[: round(share * sizes.size)]] = False
    masks, start = {}, 0
    for p in weights:
        masks[p.name] = kept[start : start + p.data.size].reshape(p.shape)
        start += p.data.size
        p.data = np.where(masks[p.name], p.data, 0).astype(p.dtype)
    return masks
