"""One training step of whole nets: logits, loss, every gradient, dx and running statistics."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pytest
import torch
from peers.parity import Tensors, compare, make_pair, nchw, torch_step, ts_step
from torch import nn

TOLERANCE = {"float64": 1e-9, "float32": 1e-3}

NETS = {
    "v1_x0_5_g1": ("v1", (6, 32, 32, 3), dict(width=0.5, groups=1, stem="cifar")),
    "v1_x1_0_g3": ("v1", (5, 31, 35, 3), dict(width=1.0, groups=3, stem="cifar")),
    "v1_x1_0_g8": ("v1", (6, 32, 32, 3), dict(width=1.0, groups=8, stem="cifar")),
    "v2_x0_5": ("v2", (6, 32, 32, 3), dict(width=0.5, stem="cifar")),
    "v2_x1_0": ("v2", (5, 31, 35, 3), dict(width=1.0, stem="cifar")),
    "v2_x1_0_paper": ("v2", (6, 32, 32, 3), dict(width=1.0, stem="cifar", downsample="paper")),
    # a max pool has kinks as well: with this seed no window's winner leads by less than 5e-5
    "v1_x0_5_g3_imagenet": (
        "v1", (6, 65, 63, 3), dict(width=0.5, groups=3, stem="imagenet", seed=4)
    ),
    "v2_x0_5_imagenet": ("v2", (6, 64, 64, 3), dict(width=0.5, stem="imagenet", seed=4)),
}  # fmt: skip


@dataclass
class Case:
    net: object
    start: dict[str, np.ndarray]
    x: np.ndarray
    labels: np.ndarray
    theirs: Tensors
    tolerance: float


@pytest.fixture(scope="module", params=[(n, d) for n in NETS for d in TOLERANCE], ids="-".join)
def case(request: pytest.FixtureRequest) -> Case:
    name, dtype = request.param
    kind, shape, options = NETS[name]
    net, peer, x, labels = make_pair(kind, shape, dtype, **options)
    theirs = torch_step(peer, x, labels)
    return Case(net, net.state_dict(), x, labels, theirs, TOLERANCE[dtype])


def test_one_step(case: Case, each_backend: str, threads: int) -> None:
    case.net.load_state_dict(case.start)
    compare(ts_step(case.net, case.x, case.labels), case.theirs, case.tolerance)


def test_the_batch_keeps_clear_of_the_kinks() -> None:
    """The float32 cases mean something: every ReLU has work to do, and none hangs on rounding."""
    _, peer, x, _ = make_pair("v2", (6, 32, 32, 3), "float64", width=0.5, stem="cifar")
    nearest, positive = [], []

    def look(_: nn.Module, args: tuple[torch.Tensor]) -> None:
        nearest.append(args[0].abs().min().item())
        positive.append((args[0] > 0).double().mean().item())

    for module in peer.modules():
        if isinstance(module, nn.ReLU):
            module.register_forward_pre_hook(look)
    with torch.no_grad():
        peer(torch.tensor(nchw(x)))
    assert len(nearest) == 1 + 3 * 3 + 13 * 2 + 1
    assert min(nearest) > 1e-5
    assert 0.3 < min(positive) and max(positive) < 0.7
