"""The nets, one file a paper, and the names they go by."""

from __future__ import annotations

import difflib
import fnmatch
import inspect
import os
import typing
from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np

from .. import nn
from ..errors import TinyshuffleError
from ..ops.arguments import generator
from ..parallel import DataParallel
from ..text import shown
from ..values import read
from .alexnet import AlexNet, AlexNetOriginal
from .arguments import check_count, check_stem
from .condensenet import CondenseNet
from .densenet import DenseNet
from .googlenet import AuxiliaryLoss, GoogLeNet
from .igcv3 import IGCV3
from .mobilenet_v1 import MobileNetV1
from .mobilenet_v2 import MobileNetV2
from .nasnet import NASNetA
from .nin import NetworkInNetwork
from .other_units import OtherUnits
from .pnasnet import PNASNet5
from .resnet import CifarResNet, ResNet
from .senet import SENet154
from .shufflenet_v1 import ShuffleNetV1, ShuffleUnitV1
from .shufflenet_v2 import ShuffleNetV2, ShuffleUnitV2
from .shufflenet_v2_large import SEShuffleNetV2_164, ShuffleNetV1_50, ShuffleNetV2_50
from .shufflenet_v2_star import ShuffleNetV2Star, ShuffleUnitV2Star
from .squeezenet import SqueezeNet
from .vgg import VGG
from .xception import Xception

__all__ = [
    "IGCV3", "VGG", "AlexNet", "AlexNetOriginal", "AuxiliaryLoss", "CifarResNet", "CondenseNet",
    "DenseNet", "GoogLeNet", "MobileNetV1", "MobileNetV2", "NASNetA", "NetworkInNetwork",
    "OtherUnits", "PNASNet5", "ResNet", "SENet154", "SEShuffleNetV2_164", "ShuffleNetV1",
    "ShuffleNetV1_50", "ShuffleNetV2", "ShuffleNetV2Star", "ShuffleNetV2_50", "ShuffleUnitV1",
    "ShuffleUnitV2", "ShuffleUnitV2Star", "SqueezeNet", "Xception", "create", "list_models",
    "read_variant",
]  # fmt: skip

_WIDTHS_V1 = {"0_25": 0.25, "0_5": 0.5, "1_0": 1.0, "1_5": 1.5, "2_0": 2.0}
_WIDTHS_V2 = {"0_5": 0.5, "1_0": 1.0, "1_5": 1.5, "2_0": 2.0}
_WIDTHS_MOBILENET_V1 = {"0_25": 0.25, "0_5": 0.5, "0_75": 0.75, "1_0": 1.0}
# those of the V2 paper's Table 8, 1x apart, and 0.5x
_WIDTHS_MOBILENET_V2 = {
    "0_15": 0.15, "0_4": 0.4, "0_5": 0.5, "0_6": 0.6, "0_75": 0.75, "1_4": 1.4
}  # fmt: skip

_MODELS: dict[str, Callable[..., nn.Module]] = {
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
    **{
        f"shufflenet_v2_star_x{name}": partial(ShuffleNetV2Star, width)
        for name, width in _WIDTHS_V2.items()
    },
    "shufflenet_v1_50": ShuffleNetV1_50,
    "shufflenet_v2_50": ShuffleNetV2_50,
    "se_shufflenet_v2_164": SEShuffleNetV2_164,
    **{
        f"{kind}_like_{budget}m": partial(OtherUnits, kind, budget)
        for kind in ("vgg", "resnet", "resnext")
        for budget in (140, 38, 13)
    },
    **{
        f"xception_like_{budget}m": partial(ShuffleNetV1, width, 1)
        for budget, width in ((140, 1.0), (38, 0.5), (13, 0.25))
    },
    **{
        f"mobilenet_v1_x{name}": partial(MobileNetV1, width=width)
        for name, width in _WIDTHS_MOBILENET_V1.items()
    },
    "mobilenet_v2": MobileNetV2,
    **{
        f"mobilenet_v2_x{name}": partial(MobileNetV2, width=width)
        for name, width in _WIDTHS_MOBILENET_V2.items()
    },
    "alexnet": AlexNet,
    "alexnet_original": AlexNetOriginal,
    "nin": NetworkInNetwork,
    **{f"vgg{depth}": partial(VGG, depth) for depth in (11, 13, 16, 19)},
    **{f"vgg{depth}_bn": partial(VGG, depth, batch_norm=True) for depth in (11, 13, 16, 19)},
    "googlenet": GoogLeNet,
    **{f"resnet{depth}": partial(ResNet, depth) for depth in (18, 34, 50, 101, 152)},
    **{f"resnet{depth}": partial(CifarResNet, depth) for depth in (20, 32, 44, 56, 110)},
    "resnext50_32x4d": partial(ResNet, 50, groups=32, width_per_group=4),
    "squeezenet1_0": partial(SqueezeNet, "1.0"),
    "squeezenet1_1": partial(SqueezeNet, "1.1"),
    **{f"densenet{depth}": partial(DenseNet, depth) for depth in (121, 169, 201)},
    "xception": Xception,
    "igcv3": IGCV3,
    **{f"condensenet74_g{groups}": partial(CondenseNet, groups) for groups in (4, 8)},
    "senet154": SENet154,
    "nasnet_a_mobile": NASNetA,
    "pnasnet5_mobile": PNASNet5,
}


_OF_THE_TASK = ("name", "num_classes", "stem", "seed", "weights", "head")
"""Arguments of :func:`create` that are no variant of a net."""

MOST_CLASSES = 1_000_000


def list_models(pattern: str = "*") -> list[str]:
    """Return the names of all models that fit a glob pattern.

    >>> list_models("shufflenet_v2_x*")
    ['shufflenet_v2_x0_5', 'shufflenet_v2_x1_0', 'shufflenet_v2_x1_5', 'shufflenet_v2_x2_0']
    """
    return [name for name in _MODELS if fnmatch.fnmatchcase(name, pattern)]


def create(
    name: str,
    num_classes: int = 1000,
    stem: str = "imagenet",
    seed: int | np.random.Generator = 0,
    weights: str | os.PathLike[str] | None = None,
    head: str = "keep",
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
    weights : path, optional
        A file of weights for the net, which :func:`tinyshuffle.weights.read` can read. Those of
        the authors' own ShuffleNets get their net, as if ``authors=True`` were given.
    head : {"keep", "drop"}
        With ``weights`` for another number of classes: refuse them, or begin with a new last
        layer.
    **variant
        What else the net takes, such as ``se=True``; see its class.

    Raises
    ------
    TinyshuffleError
        For an unknown name (the nearest ones are offered) or variant, or weights that cannot be
        read or are another net's.

    >>> net = create("shufflenet_v2_x0_5", num_classes=10, stem="cifar")
    >>> net(np.zeros((2, 32, 32, 3), np.float32)).shape
    (2, 10)
    """
    state = None
    if weights is None and head != "keep":
        raise TinyshuffleError(f"head={shown(head)} has no effect without weights: leave it out")
    if weights is not None:
        from ..weights.files import read_state

        state = read_state(weights)
        if state.authors:
            variant = {"authors": True, **variant}
    variant = _typed(name, variant, text=False)
    num_classes = check_count("num_classes", num_classes, MOST_CLASSES)
    check_stem(stem)
    rng = generator(seed)
    net = _MODELS[name](num_classes=num_classes, stem=stem, **variant)
    net.initialise(rng)
    if state is not None:
        from ..weights.load import load_state

        load_state(net, state, str(weights), head)
    return DataParallel(net)


def read_variant(name: str, variant: dict[str, Any]) -> dict[str, Any]:
    """Return a variant, as somebody wrote it on the command line or in a recipe, with its types.

    Raises
    ------
    TinyshuffleError
        If there is no such model, it has no such argument, or a value is not of its type.

    >>> read_variant("shufflenet_v1_x0_25_g3", {"shuffle": "False", "stage_channels": "24,48,96"})
    {'shuffle': False, 'stage_channels': [24, 48, 96]}
    """
    return _typed(name, variant, text=True)


def _typed(name: str, variant: dict[str, Any], text: bool) -> dict[str, Any]:
    if not isinstance(name, str) or name not in _MODELS:
        near = difflib.get_close_matches(str(name), _MODELS, n=3, cutoff=0.4)
        raise TinyshuffleError(
            f"unknown model {shown(name)}; "
            + (f"did you mean {' or '.join(near)}? All names: " if near else "all names: ")
            + "python -m tinyshuffle models"
        )
    build = _MODELS[name]
    known = [key for key in inspect.signature(build).parameters if key not in _OF_THE_TASK]
    kinds = typing.get_type_hints(getattr(build, "func", build).__init__)
    if unknown := [key for key in variant if key not in known]:
        task = [key for key in unknown if key in _OF_THE_TASK]
        raise TinyshuffleError(
            f"{name} has no variant {', '.join(map(shown, unknown))}; it takes "
            + (", ".join(known) or "none")
            + (f" (the data, the model and the seed decide {', '.join(task)})" if task else "")
        )
    # Python's callers give the types themselves: the nets say which numbers suit them. But a word
    # for a bool would be true without a word.
    return {
        key: read(key, value, kinds[key], text) if text or kinds[key] is bool else value
        for key, value in variant.items()
    }
