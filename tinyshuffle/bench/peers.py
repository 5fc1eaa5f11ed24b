"""Which peers there are, and which of their nets stands for which of ours."""

from __future__ import annotations

import re
from typing import Any

from ..errors import TinyshuffleError
from ..files import installed

__all__ = ["PEERS", "check_peer", "installed_peers", "torch_arguments", "torch_net"]

# what each peer is called, and what it needs
PEERS = {"torch": "PyTorch", "onnxruntime": "ONNX Runtime"}
_NEEDS = {"torch": ("torch",), "onnxruntime": ("onnxruntime", "onnx", "torch")}
_WHY = {
    "onnx": "ONNX, which ONNX Runtime's nets are written in,",
    "torch": "PyTorch, which writes ONNX Runtime's nets,",
}


def check_peer(peer: str, task: str) -> None:
    """Say in a sentence why a peer cannot take part, if it cannot."""
    if peer not in PEERS:
        raise TinyshuffleError(f"--peer {peer} is unknown: use {', '.join(PEERS)}")
    if peer == "onnxruntime" and task == "step":
        raise TinyshuffleError(
            "ONNX Runtime does not train: use `bench inference`, or --peer torch"
        )
    for package in _NEEDS[peer]:
        if not installed(package):
            what = PEERS[peer] if package == peer else _WHY[package]
            raise TinyshuffleError(
                f"{what} is not installed; pip install {package}, or leave out --peer {peer}"
            )


def installed_peers() -> list[str]:
    """Return the peers that can take part in inference here."""
    return [peer for peer, needs in _NEEDS.items() if all(map(installed, needs))]


def torch_arguments(model: str) -> dict[str, Any]:
    """Return the arguments of the PyTorch net that has the layers of our ``model``.

    >>> torch_arguments("shufflenet_v1_x1_0_g8")
    {'width': 1.0, 'groups': 8}
    """
    found = re.fullmatch(r"shufflenet_v(?:1_x(0_5|1_0)_g([138])|2_x(\d_\d))", model)
    if found is None:
        raise TinyshuffleError(
            f"there is no peer for {model}: there are for shufflenet_v2_x* and "
            "shufflenet_v1_x{0_5,1_0}_g{1,3,8}; take one of these, or leave out --peer"
        )
    width1, groups, width2 = found.groups()
    arguments: dict[str, Any] = {"width": float((width1 or width2).replace("_", "."))}
    return arguments | ({"groups": int(groups)} if groups else {})


def torch_net(model: str, num_classes: int, stem: str) -> Any:
    """Build the PyTorch net that has the layers of our ``model``."""
    from . import peer_torch

    arguments = torch_arguments(model)
    net = peer_torch.ShuffleNetV1 if "groups" in arguments else peer_torch.ShuffleNetV2
    return net(num_classes=num_classes, stem=stem, **arguments)
