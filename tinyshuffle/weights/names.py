"""Whose names and layout a file has, and what they are here."""

from __future__ import annotations

import re

import numpy as np

__all__ = ["AUTHORS", "is_authors", "ours", "our_layout", "torch_layout"]

PREFIXES = ("module.", "_orig_mod.")
"""In front of every name if the net was in PyTorch's DataParallel, or compiled."""

AUTHORS = "first_conv."
"""The authors' nets begin with this layer (github.com/megvii-model/ShuffleNet-Series)."""

REPEATS = (4, 8, 4)  # units of stages 2, 3, 4, which they count from 0 to 15

# the layers of their V1 unit, which is two chains
UNIT_V1 = {
    "branch_main_1.0": "compress", "branch_main_1.1": "bn1", "branch_main_1.3": "depthwise",
    "branch_main_1.4": "bn2", "branch_main_2.0": "expand", "branch_main_2.1": "bn3",
}  # fmt: skip
CHAINS_V2 = {"branch_main": "branch2", "branch_proj": "branch1"}
OUTSIDE = {"first_conv": "conv1", "conv_last": "conv5", "classifier.0": "fc"}

# torchvision's DenseNets were saved when their layers were called norm.1, relu.1, conv.1, …
_DENSE = re.compile(r"(.*denselayer\d+\.(?:norm|relu|conv))\.([12]\..*)")
_UNIT = re.compile(r"features\.(\d+)\.(\w+)\.(\d+)\.(\w+)")


def is_authors(names: list[str]) -> bool:
    """Whether these are the names of the authors' released nets."""
    return any(name.startswith(AUTHORS) for name in _without_prefix(names))


def ours(names: list[str]) -> list[str]:
    """Return what is called so in a file, as it is called here.

    >>> ours(["module.first_conv.0.weight", "module.features.4.branch_main.5.weight"])
    ['conv1.0.weight', 'stage3.0.branch2.5.weight']
    >>> ours(["features.denseblock1.denselayer2.norm.1.bias"])
    ['features.denseblock1.denselayer2.norm1.bias']
    """
    authors = is_authors(names)
    return [_author(name) if authors else _dense(name) for name in _without_prefix(names)]


def _without_prefix(names: list[str]) -> list[str]:
    for prefix in PREFIXES:
        if names and all(name.startswith(prefix) for name in names):
            return _without_prefix([name.removeprefix(prefix) for name in names])
    return names


def _dense(name: str) -> str:
    found = _DENSE.fullmatch(name)
    return found[1] + found[2] if found else name


def _author(name: str) -> str:
    found = _UNIT.fullmatch(name)
    if found is None:
        for theirs, mine in OUTSIDE.items():
            if name.startswith(theirs + "."):
                return mine + name.removeprefix(theirs)
        return name
    number, chain, layer, what = int(found[1]), found[2], found[3], found[4]
    stage = 2
    for repeat in REPEATS[:-1]:
        if number >= repeat:
            number, stage = number - repeat, stage + 1
        else:
            break
    unit = f"stage{stage}.{number}"
    if (there := f"{chain}.{layer}") in UNIT_V1:
        return f"{unit}.residual.{UNIT_V1[there]}.{what}"
    return f"{unit}.{CHAINS_V2.get(chain, chain)}.{layer}.{what}"


def our_layout(array: np.ndarray) -> np.ndarray:
    """Look at a tensor of PyTorch's as it is laid out here; its number of axes tells which it is.

    A weight with one input channel a group is taken for a depthwise one; that of a convolution of
    grey images has the same numbers in the same order.

    >>> our_layout(np.zeros((8, 4, 3, 3))).shape, our_layout(np.zeros((8, 1, 3, 3))).shape
    ((3, 3, 4, 8), (3, 3, 8))
    """
    if array.ndim == 4:
        if array.shape[1] == 1 < array.shape[0]:
            return array[:, 0].transpose(1, 2, 0)  # (C, 1, Kh, Kw) -> (Kh, Kw, C)
        return array.transpose(2, 3, 1, 0)  # (O, Cg, Kh, Kw) -> (Kh, Kw, Cg, O)
    return array.T if array.ndim == 2 else array


def torch_layout(array: np.ndarray) -> np.ndarray:
    """Look at a tensor of ours as PyTorch lays it out.

    >>> torch_layout(np.zeros((3, 3, 4, 8))).shape, torch_layout(np.zeros((3, 3, 8))).shape
    ((8, 4, 3, 3), (8, 1, 3, 3))
    """
    if array.ndim == 4:
        return array.transpose(3, 2, 0, 1)  # (Kh, Kw, Cg, O) -> (O, Cg, Kh, Kw)
    if array.ndim == 3:
        return array.transpose(2, 0, 1)[:, None]  # (Kh, Kw, C) -> (C, 1, Kh, Kw)
    return array.T if array.ndim == 2 else array
