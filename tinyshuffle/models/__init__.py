"""The nets, one file a paper, and the names they go by."""

from __future__ import annotations

import difflib
import fnmatch
import inspect
from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np

from ..errors import TinyshuffleError
from ..nn import Module
from ..parallel import DataParallel
from .shufflenet_v1 import ShuffleNetV1, ShuffleUnitV1
from .shufflenet_v2 import ShuffleNetV2, ShuffleUnitV2

__all__ = [
    "ShuffleNetV1",
    "ShuffleNetV2",
    "ShuffleUnitV1",
    "ShuffleUnitV2",
    "create",
    "list_models",
]

_WIDTHS_V1 = {"0_25": 0.25, "0_5": 0.5, "1_0": 1.0, "1_5": 1.5, "2_0": 2.0}
_WIDTHS_V2 = {"0_5": 0.5, "1_0": 1.0, "1_5": 1.5, "2_0": 2.0}

_MODELS: dict[str, Callable[..., Module]] = {
    **{
        f"shufflenet_v1_x{name}_g{g}": partial(ShuffleNetV1, width, g)
        for name, width in _WIDTHS_V1.items()
        for g in (1, 2, 3, 4, 8)
    },
    "shufflenet_v1_x0_5_g3_shallow": partial(ShuffleNetV1, 0.5, 3, shallow=True),
    **{
        f"shufflenet_v2_x{name}": partial(ShuffleNetV2, width)
        for name, width in _WIDTHS_V2.items()
    },
}


def list_models(pattern: str = "*") -> list[str]:
    """Return the names of all models that fit a glob pattern.

    >>> list_models("shufflenet_v2_*")
    ['shufflenet_v2_x0_5', 'shufflenet_v2_x1_0', 'shufflenet_v2_x1_5', 'shufflenet_v2_x2_0']
    """
    return [name for name in _MODELS if fnmatch.fnmatchcase(name, pattern)]


def create(
    name: str,
    num_classes: int = 1000,
    stem: str = "imagenet",
    seed: int | np.random.Generator = 0,
    **variant: Any,
) -> DataParallel:
    """Build a net that uses as many cores as ``tinyshuffle.set_num_threads`` allows.

    Parameters
    ----------
    name : str
        One of :func:`list_models`.
    num_classes : int
    stem : {"imagenet", "cifar"}
        For images of about 224x224, or of 32x32.
    seed : int or numpy Generator
        Of the initial weights.
    **variant
        What else the net takes, such as ``se=True``; see its class.

    Raises
    ------
    TinyshuffleError
        For an unknown name (the nearest ones are offered) or variant.

    >>> net = create("shufflenet_v2_x0_5", num_classes=10, stem="cifar")
    >>> net(np.zeros((2, 32, 32, 3), np.float32)).shape
    (2, 10)
    """
    if name not in _MODELS:
        near = difflib.get_close_matches(name, _MODELS, n=3, cutoff=0.4)
        raise TinyshuffleError(
            f"unknown model {name!r}; "
            + (f"did you mean {' or '.join(near)}? " if near else "")
            + "All names: python -m tinyshuffle models"
        )
    build = _MODELS[name]
    known = inspect.signature(build).parameters
    if unknown := [key for key in variant if key not in known]:
        raise TinyshuffleError(
            f"{name} has no variant {', '.join(unknown)}; it takes "
            + ", ".join(key for key in known if key not in ("num_classes", "stem"))
        )
    net = build(num_classes=num_classes, stem=stem, **variant)
    net.initialise(seed)
    return DataParallel(net)
