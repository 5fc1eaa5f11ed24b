"""Batch norm's running statistics, taken anew before a test ("precise BN", Wu & Johnson 2021)."""

from __future__ import annotations

import itertools
from collections.abc import Iterable
from typing import Any

import numpy as np

from ..errors import TinyshuffleError
from ..nn import BatchNorm2d, Module

__all__ = ["update_bn"]


def update_bn(
    net: Module,
    batches: Iterable[tuple[np.ndarray, Any]],
    keep: frozenset[str] = frozenset(),
) -> None:
    """Let every batch norm's running statistics be the mean of what it sees in some batches.

    The running statistics of training lag behind: each batch changes them by a tenth, and was seen
    with weights that have moved since. While the weights move fast, as in the first epochs, a net
    that is right about its training batches can so be wrong about every test image; an average of
    weights has never seen a batch at all. Here the weights stand still.

    ``torch.optim.swa_utils.update_bn`` does the same, but for dropout, which is off here as it
    will be in the test. No weight, gradient, mode or random generator changes.

    Parameters
    ----------
    net : Module
    batches : iterable of (images, labels)
        Such as some of ``ts.data.batches(train, 128)``: the training images as the net has seen
        them. The labels are not looked at.
    keep : set of str
        Names of batch norms that keep their statistics.

    Raises
    ------
    TinyshuffleError
        If there are no batches.

    Y. Wu, J. Johnson, "Rethinking 'Batch' in BatchNorm", 2021, arXiv 2105.07576, section 3.
    """
    named = list(net.named_modules())
    modules = [module for _, module in named]
    norms = [m for path, m in named if isinstance(m, BatchNorm2d) and path not in keep]
    if not norms:
        return
    rest = iter(batches)
    first = next(rest, None)
    if first is None:
        raise TinyshuffleError(
            "update_bn got no batches, and statistics cannot be taken of nothing: give it some, "
            "such as those of ts.data.batches(train, 128)"
        )
    modes = [module.training for module in modules]
    before = [(norm.momentum, norm.num_batches_tracked.copy()) for norm in norms]
    try:
        for path, module in named:  # what draws numbers, dropout, stays as in a test
            module.training = module.rng is None and path not in keep
        for i, (x, _) in enumerate(itertools.chain([first], rest)):
            for norm in norms:
                norm.momentum = 1 / (i + 1)  # makes them the mean of all batches
            net(x)
    finally:
        for module, mode in zip(modules, modes, strict=True):
            module.training = mode
        for norm, (momentum, count) in zip(norms, before, strict=True):
            norm.momentum, norm.num_batches_tracked = momentum, count
