r"""The first convolution begins as a whitening of the data's own patches.

The patches :math:`x` of a few images, laid flat and centred, have a covariance
:math:`C = V Λ Vᵀ`. A filter along the k-th principal direction,
:math:`w = v_k / \sqrt{λ_k + ε}`, has an output of variance one, and the outputs of different
directions are uncorrelated: so neighbouring pixels, which are nearly alike, do not make one
direction of the weights learn a hundred times as fast as the others. Of each direction there are
two filters, :math:`w` and :math:`-w`, as the ReLU behind them lets one half of each through.

A. Coates, H. Lee, A. Y. Ng, "An Analysis of Single-Layer Networks in Unsupervised Feature
Learning", 2011, whiten patches; D. Page, "How to Train Your ResNet", 2019, made a first layer of
it, and K. Jordan, arXiv 2404.00498, 2024, took both signs. They hold the layer still; here it
learns on from there.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from ..data import Dataset, normalise
from ..errors import TinyshuffleError
from ..nn import Conv2d, Module

__all__ = ["whiten"]

IMAGES = 1000
"""That the patches are taken of: 900,000 patches of 3x3 pixels say enough of 27 directions."""

EPS = 5e-4
"""Added to the variances, or the finest noise would be blown up to the size of the edges."""


def whiten(net: Module, dataset: Dataset) -> int:
    """Set the weights of a net's first convolution, in place.

    Directions are taken in the order of their variance. If the layer has more than two filters for
    each, or an odd one, the rest keep their random weights.

    Parameters
    ----------
    net : Module
    dataset : Dataset
        Of which the first :data:`IMAGES` images are looked at, as they are in training but for
        augmentation.

    Returns
    -------
    int
        How many filters were set.

    Raises
    ------
    TinyshuffleError
        If the net does not begin with a dense convolution of an image's three channels, or that has
        one filter.
    """
    conv: Any = next((m for m in net.modules() if isinstance(m, Conv2d)), None)
    if conv is None or conv.in_channels != dataset.images.shape[-1] or conv.groups > 1:
        raise TinyshuffleError(
            "whiten=True was given, and the net does not begin with a convolution of all three "
            "colours: leave it out, or take another --model"
        )
    if conv.out_channels < 2:
        raise TinyshuffleError(
            "whiten=True was given, and the net's first convolution has one filter, where each "
            "direction takes two: leave it out, or give the net more width"
        )
    directions, variances = _principal(dataset, conv.kernel_size)
    count = min(conv.out_channels // 2, len(variances))
    filters = directions[:, :count] / np.sqrt(variances[:count] + EPS)  # (Kh·Kw·3, count)
    weight = conv.weight.data.copy()
    both = np.concatenate([filters, -filters], axis=1)
    weight[..., : 2 * count] = both.reshape(*weight.shape[:3], 2 * count)
    conv.weight.data = weight
    return 2 * count


def _principal(dataset: Dataset, kernel: tuple[int, int]) -> tuple[np.ndarray, np.ndarray]:
    """Return the principal directions of patches, as columns, and variances, largest first."""
    total, outer, seen = 0.0, 0.0, 0
    for first in range(0, min(IMAGES, len(dataset)), 100):  # 90,000 patches at a time: 20 MB
        x = normalise(dataset.images[first : first + 100], dataset.mean, dataset.std)
        windows = np.lib.stride_tricks.sliding_window_view(x, kernel, axis=(1, 2))
        # (N, Ho, Wo, 3, Kh, Kw): as the weights lie, the channel comes last
        patches = windows.transpose(0, 1, 2, 4, 5, 3).reshape(-1, kernel[0] * kernel[1] * 3)
        patches = patches.astype(np.float64)
        total, outer = total + patches.sum(0), outer + patches.T @ patches
        seen += len(patches)
    mean = total / seen
    variances, directions = np.linalg.eigh(outer / seen - np.outer(mean, mean))
    return directions[:, ::-1], variances[::-1].clip(0)
