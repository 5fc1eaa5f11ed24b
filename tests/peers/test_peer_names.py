"""Names and sizes: tinyshuffle's V2 state is torchvision's, tensor by tensor."""

from __future__ import annotations

import numpy as np
import pytest
from torch import nn

import tinyshuffle as ts
from tinyshuffle.bench.peer_torch import ShuffleNetV1, ShuffleNetV2, copy_weights, torch_layout

PARAMETERS = {0.5: 1_366_792, 1.0: 2_278_604, 1.5: 3_503_624, 2.0: 7_393_996}
V1_NETS = [(w, g) for w in (0.5, 1.0) for g in (1, 3, 8)]


def torchvision_keys() -> list[str]:
    """The keys of torchvision's ``shufflenet_v2_*().state_dict()``, in their order."""
    conv = ["weight"]
    norm = ["weight", "bias", "running_mean", "running_var", "num_batches_tracked"]
    branch1 = {0: conv, 1: norm, 2: conv, 3: norm}
    branch2 = {0: conv, 1: norm, 3: conv, 4: norm, 5: conv, 6: norm}

    keys = []

    def add(prefix: str, layers: dict[int, list[str]]) -> None:
        keys.extend(f"{prefix}.{i}.{name}" for i, names in layers.items() for name in names)

    add("conv1", {0: conv, 1: norm})
    for stage, units in (2, 4), (3, 8), (4, 4):
        add(f"stage{stage}.0.branch1", branch1)
        for unit in range(units):
            add(f"stage{stage}.{unit}.branch2", branch2)
    add("conv5", {0: conv, 1: norm})
    return [*keys, "fc.weight", "fc.bias"]


@pytest.mark.parametrize("width", PARAMETERS)
def test_v2_state_is_torchvisions(width: float) -> None:
    mine, theirs = ts.models.ShuffleNetV2(width), ShuffleNetV2(width)
    keys = torchvision_keys()
    assert len(keys) == 338
    assert {
        "conv1.0.weight", "conv1.1.running_mean", "conv1.1.num_batches_tracked",
        "stage2.0.branch1.0.weight", "stage4.3.branch2.6.bias", "conv5.0.weight", "fc.weight",
    } < set(keys)  # fmt: skip
    assert list(theirs.state_dict()) == keys
    assert list(mine.state_dict()) == keys
    assert sum(p.numel() for p in theirs.parameters()) == PARAMETERS[width]
    assert sum(p.data.size for p in mine.parameters()) == PARAMETERS[width]
    assert [p.name for p in mine.parameters()] == [name for name, _ in theirs.named_parameters()]
    copy_weights(mine, theirs)


@pytest.mark.parametrize(("width", "groups"), V1_NETS)
def test_v1_sizes(width: float, groups: int) -> None:
    mine, theirs = ts.models.ShuffleNetV1(width, groups), ShuffleNetV1(width, groups)
    copy_weights(mine, theirs)
    assert [p.name for p in mine.parameters()] == [name for name, _ in theirs.named_parameters()]


def test_weights_move_by_transposing() -> None:
    net, peer = ts.models.ShuffleNetV2(0.5), ShuffleNetV2(0.5)
    copy_weights(net.initialise(3), peer)
    mine, theirs = net.state_dict(), peer.state_dict()
    w, v = mine["conv1.0.weight"], theirs["conv1.0.weight"]
    assert w.shape == (3, 3, 3, 24) and v[7, 2, 0, 1] == w[0, 1, 2, 7]
    w, v = mine["stage2.0.branch1.0.weight"], theirs["stage2.0.branch1.0.weight"]
    assert w.shape == (3, 3, 24) and v[7, 0, 0, 1] == w[0, 1, 7]
    w, v = mine["fc.weight"], theirs["fc.weight"]
    assert w.shape == (1024, 1000) and v[7, 9] == w[9, 7]


@pytest.mark.parametrize(
    ("mine", "peer", "message"),
    [
        (ts.nn.Linear(4, 4, bias=False), nn.Linear(4, 4), "one side: .'bias'"),
        (ts.nn.Linear(4, 4), nn.Linear(4, 4, bias=False), "one side: .'bias'"),
        (ts.nn.Linear(4, 1), nn.Linear(4, 4), r"weight is \(\(1, 4\)"),
        (ts.nn.Linear(4, 4), nn.Linear(4, 4).double(), "float32.*float64"),
        (ts.nn.BatchNorm2d(4), nn.BatchNorm2d(4, track_running_stats=False), "running_var"),
    ],
)
def test_copy_weights_is_strict(mine, peer: nn.Module, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        copy_weights(mine, peer)


def test_torch_layout() -> None:
    assert torch_layout(np.zeros((1, 2, 3, 4))).shape == (4, 3, 1, 2)
    assert torch_layout(np.zeros((1, 2, 3))).shape == (3, 1, 1, 2)
    assert torch_layout(np.zeros((1, 2))).shape == (2, 1)
    assert torch_layout(np.zeros(1)).shape == (1,)
