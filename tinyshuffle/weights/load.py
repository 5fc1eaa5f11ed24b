"""Put weights from a file into a net; another number of classes is refused, or left out."""

from __future__ import annotations

import os

import numpy as np

from ..errors import TinyshuffleError
from ..nn import Conv2d, Linear, Module
from ..nn.check import check_net
from ..text import shown
from .files import State, read_state

__all__ = ["AUXILIARY", "HEADS", "head_of", "heads_of", "load", "load_state"]

HEADS = ("keep", "drop")
AUXILIARY = ("aux1.", "aux2.", "AuxLogits.")
"""Classifiers that only training needs, which published files have and a net need not."""


def load(net: Module, path: str | os.PathLike[str], head: str = "keep") -> list[str]:
    """Give a net the weights in a file that :func:`read` can read.

    Parameters
    ----------
    net : Module
        Such as ``models.create`` returns.
    path : path
    head : {"keep", "drop"}
        "drop" leaves the last layer as it is in the net, if the file's is for another number of
        classes. "keep" refuses such a file.

    Returns
    -------
    list of str
        The layers that were left as they are.

    Raises
    ------
    TinyshuffleError
        If the file's names or shapes are not the net's: it says which, with both shapes.

    >>> import tempfile, pathlib
    >>> from tinyshuffle import models
    >>> from tinyshuffle.weights import write
    >>> net = models.create("shufflenet_v2_x0_5", num_classes=10, stem="cifar", seed=1)
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     write(net, pathlib.Path(folder, "net.npz"))
    ...     other = models.create("shufflenet_v2_x0_5", num_classes=3, stem="cifar", seed=2)
    ...     load(other, pathlib.Path(folder, "net.npz"), head="drop")
    ['fc']
    """
    return load_state(net, read_state(path), str(path), head)


def load_state(net: Module, state: State, path: str, head: str = "keep") -> list[str]:
    """Give a net a state that was read from ``path``; see :func:`load`."""
    check_net(net)
    if head not in HEADS:
        raise TinyshuffleError(f"head={shown(head)} is unknown: use {' or '.join(HEADS)}")
    if state.authors and not getattr(net, "authors", False):
        raise TinyshuffleError(
            f"{path} is of the authors' own net, which shuffles in another order: build it with "
            "authors=True (--variant authors=true)"
        )
    # weights that are not drawn yet need not be
    mine = {name: value.shape for name, value in net._state(shapes_only=True).items()}
    given = {name: _fitted(array, mine.get(name)) for name, array in state.arrays.items()}
    for name in mine:
        if name.endswith("num_batches_tracked"):  # older files do not have it, and it only counts
            given.setdefault(name, np.array(0))
    for name in [n for n in given if n not in mine and n.startswith(AUXILIARY)]:
        del given[name]
    dropped = []
    for layer in heads_of(net):
        names = [f"{layer}.{what}" for what in ("weight", "bias")]
        other = [
            f"{name} is {given[name].shape} in the file and {mine[name]} in this net"
            for name in names
            if name in given and name in mine
            and given[name].shape[:-1] == mine[name][:-1]
            and given[name].shape != mine[name]
        ]  # fmt: skip
        if other and head == "keep":
            classes = given[names[0]].shape[-1] if names[0] in given else given[names[1]].shape[-1]
            raise TinyshuffleError(
                f"{path} is for {classes} classes: {'; '.join(other)}; give num_classes={classes}, "
                'or head="drop" (--head drop) to begin with a new last layer'
            )
        if other:
            given |= {p.name: p.data for p in net.parameters() if p.name in names}
            dropped.append(layer)
    _check(given, mine, path)
    net.load_state_dict(given)
    return dropped


def _fitted(array: np.ndarray, shape: tuple[int, ...] | None) -> np.ndarray:
    """Put an axis in that a weight of a single input channel has here, and in the file not."""
    if shape is not None and array.ndim == 3 and len(shape) == 4:
        return array[:, :, None]
    return array


def head_of(net: Module) -> str:
    """Return the name of a net's last layer with weights, which no auxiliary classifier is."""
    return heads_of(net)[0]


def heads_of(net: Module) -> list[str]:
    """Return the names of the layers that tell classes apart: the net's last, and auxiliary ones'.

    >>> from tinyshuffle import models
    >>> heads_of(models.create("googlenet", stem="cifar", aux_logits=True))
    ['fc', 'aux1.fc2', 'aux2.fc2']
    """
    last = {"": ""}  # layer, by the auxiliary classifier that it belongs to
    for path, layer in net.named_modules():
        if isinstance(layer, Linear | Conv2d):
            last[path.partition(".")[0] if path.startswith(AUXILIARY) else ""] = path
    return list(last.values())


def _check(given: dict[str, np.ndarray], mine: dict[str, tuple[int, ...]], path: str) -> None:
    """Refuse a state that is not this net's, and numbers that are none."""
    missing = [name for name in mine if name not in given]
    others = [name for name in given if name not in mine]
    shapes = [
        f"{name} is {given[name].shape} there and {mine[name]} in this net"
        for name in mine
        if name in given and given[name].shape != mine[name]
    ]
    wrong = [
        *([f"it lacks {_some(missing)}"] if missing else []),
        *([f"this net has no {_some(others)}"] if others else []),
        *([_some(shapes)] if shapes else []),
    ]
    if wrong:
        raise TinyshuffleError(
            f"{path} is of another net: {'; '.join(wrong)}; build the net that it was saved from"
            + (", and with its stem (imagenet or cifar)" if shapes else "")
        )
    for name, array in given.items():
        if array.dtype.kind not in "fiu" or not np.isfinite(array).all():
            raise TinyshuffleError(
                f"{path} has a {name} with what are no finite numbers: download or save it again"
            )


def _some(names: list[str]) -> str:
    more = f" and {len(names) - 3} more" if len(names) > 3 else ""
    return ", ".join(map(str, names[:3])) + more
