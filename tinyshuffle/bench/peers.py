"""Which peers there are, and what stands for our nets there.

ShuffleNets V1 and V2 stand in :mod:`~tinyshuffle.bench.peer_torch` as a PyTorch user would write
them. All other nets, and all variants, are translated from what their layers ask for: to PyTorch by
:mod:`~tinyshuffle.bench.peer_graph`, and for ONNX Runtime by :func:`tinyshuffle.onnx.export`.
"""

from __future__ import annotations

import os
import re
import shlex
import shutil
import sys
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from ..errors import TinyshuffleError
from ..files import installed
from ..text import shown
from ..values import flags

if TYPE_CHECKING:
    from ..nn import Module

__all__ = [
    "COMPILED", "PEERS", "check_peer", "installed_peers", "no_compiler", "torch_arguments",
    "torch_net",
]  # fmt: skip

# what each peer is called, and what it needs
PEERS = {"torch": "PyTorch", "onnxruntime": "ONNX Runtime"}
COMPILED = "torch.compile"
_NEEDS = {"torch": ("torch",), "onnxruntime": ("onnxruntime", "onnx", "torch")}
_WHY = {
    "onnx": "ONNX, which ONNX Runtime's nets are written in,",
    "torch": "PyTorch, which writes ONNX Runtime's nets,",
}


@flags
def check_peer(peer: str, task: str, by_hand: bool = True) -> None:
    """Say in a sentence why a peer cannot take part, if it cannot.

    Of a net that is not written ``by_hand`` in PyTorch, ONNX Runtime's is written without PyTorch.
    """
    if peer not in PEERS:
        raise TinyshuffleError(f"--peer {peer} is unknown: use {', '.join(PEERS)}")
    if peer == "onnxruntime" and task == "step":
        raise TinyshuffleError(
            "ONNX Runtime does not train: use `bench inference`, or --peer torch"
        )
    for package in _NEEDS[peer]:
        if not installed(package) and (by_hand or package in (peer, "onnx")):
            what = PEERS[peer] if package == peer else _WHY[package]
            raise TinyshuffleError(
                f"{what} is not installed; pip install {package}, or leave out --peer {peer}"
            )


def installed_peers() -> list[str]:
    """Return the peers that can take part in inference here."""
    return [peer for peer, needs in _NEEDS.items() if all(map(installed, needs))]


def no_compiler() -> str:
    """Say why ``torch.compile`` cannot make code for this machine; nothing if it can.

    What it writes for a CPU is C++, and the compiler is the one that ``CXX`` names, as for PyTorch.
    """
    usual = {"darwin": "clang++", "win32": "cl"}.get(sys.platform, "g++")
    name = (shlex.split(os.environ.get("CXX", "")) or [usual])[0]
    return "" if shutil.which(name) else f"it needs a C++ compiler, and there is no {shown(name)}"


def torch_arguments(model: str, variant: Mapping[str, Any]) -> dict[str, Any] | None:
    """Return the arguments of the net in ``peer_torch`` that has the layers of our ``model``.

    None says that there is no such net.

    >>> torch_arguments("shufflenet_v1_x1_0_g8", {})
    {'width': 1.0, 'groups': 8}
    """
    found = re.fullmatch(r"shufflenet_v(?:1_x(0_5|1_0)_g([138])|2_x(\d_\d))", model)
    if found is None or variant:
        return None
    width1, groups, width2 = found.groups()
    arguments: dict[str, Any] = {"width": float((width1 or width2).replace("_", "."))}
    return arguments | ({"groups": int(groups)} if groups else {})


@flags
def torch_net(
    net: Module,
    shape: tuple[int, ...],
    train: bool,
    model: str,
    variant: Mapping[str, Any],
    **options: Any,
) -> Any:
    """Build the PyTorch net that has the layers of ``net``, with weights of its own.

    Parameters
    ----------
    net : Module
    shape : (N, H, W, C)
    train : bool
    model, variant
        What ``net`` was created from.
    **options
        ``num_classes`` and ``stem``.
    """
    arguments = torch_arguments(model, variant)
    if arguments is None:
        from .peer_graph import torch_graph

        return torch_graph(net, shape, train)
    from . import peer_torch

    build = peer_torch.ShuffleNetV1 if "groups" in arguments else peer_torch.ShuffleNetV2
    return build(**arguments, **options)
