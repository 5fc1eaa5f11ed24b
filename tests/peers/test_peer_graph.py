"""Nets that were translated to PyTorch, beside those that were written in it by hand."""

from __future__ import annotations

from collections import Counter
from typing import Any

import numpy as np
import pytest
import torch
from peers.parity import nchw
from peers.torch_zoo import TWINS
from peers.torch_zoo_more import MORE_TWINS
from peers.torch_zoo_searched import SEARCHED_TWINS
from torch.utils._python_dispatch import TorchDispatchMode

import tinyshuffle as ts
from tinyshuffle.bench import libraries
from tinyshuffle.bench.peer_graph import torch_graph
from tinyshuffle.bench.peer_torch import ShuffleNetV1, ShuffleNetV2, copy_weights, torch_layout

CLASSES = 5
# a ReLU for each of two branches, where the twin has one behind both; the twin's shuffle, padding
# and slices are other functions of PyTorch's
OTHERWISE = ("squeezenet1_0", "igcv3", "condensenet74_g8", "resnet20", "nasnet_a_mobile",
             "pnasnet5_mobile")  # fmt: skip
# other nets have the same layers
SLOW = ("resnet50", "nasnet_a_mobile", "xception", "resnext50_32x4d", "densenet121")


class Watch(TorchDispatchMode):
    """Write down every operation that PyTorch runs, with the shapes that it sees."""

    def __init__(self) -> None:
        super().__init__()
        self.seen: list[tuple[str, list[tuple[int, ...]]]] = []

    def __torch_dispatch__(self, op: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        shapes = [tuple(a.shape) for a in args if isinstance(a, torch.Tensor)]
        self.seen.append((str(op), shapes))
        return op(*args, **kwargs or {})


def a_step(net: torch.nn.Module, x: np.ndarray) -> tuple[dict[str, np.ndarray], list]:
    """Logits and gradients of a training step, and the operations that it took."""
    dropouts = [m for m in net.modules() if isinstance(m, torch.nn.Dropout)]
    for layer in dropouts:  # two nets draw two masks
        layer.p = 0.0
    images = torch.tensor(nchw(x))
    with Watch() as watch:
        logits = net.train()(images)
        logits.backward(torch.ones_like(logits))
    found = {name: p.grad.numpy() for name, p in net.named_parameters()}
    found |= {name: b.numpy() for name, b in net.named_buffers()}
    return found | {"logits": logits.detach().numpy()}, watch.seen


def count(operations: list) -> Counter[str]:
    return Counter(name for name, _ in operations)


@pytest.mark.parametrize(
    ("model", "variant", "by_hand"),
    [
        ("shufflenet_v1_x0_5_g3", {}, lambda: ShuffleNetV1(0.5, 3, CLASSES, "cifar")),
        ("shufflenet_v1_x1_0_g8", {}, lambda: ShuffleNetV1(1.0, 8, CLASSES, "cifar")),
        ("shufflenet_v2_x0_5", {}, lambda: ShuffleNetV2(0.5, CLASSES, "cifar")),
        ("shufflenet_v2_x1_0", {"downsample": "paper", "residual": True},
         lambda: ShuffleNetV2(1.0, CLASSES, "cifar", "paper", residual=True)),
    ],
)  # fmt: skip
def test_a_translated_shufflenet_is_the_one_by_hand(model, variant, by_hand):
    """The same operations, so the same time; in V2 in the same order, so the same bits.

    In V1 our ReLU stands in front of the concatenation, as means of what is not negative need none.
    """
    net = ts.models.create(model, CLASSES, "cifar", **variant)
    x = np.random.default_rng(0).standard_normal((2, 32, 32, 3))
    translated, written = torch_graph(net, x.shape, train=True), by_hand()
    for peer in (translated, written):
        copy_weights(net, peer)
    mine, my_operations = a_step(translated.double(), x)
    theirs, their_operations = a_step(written.double(), x)
    same_order = model.startswith("shufflenet_v2")
    if same_order:
        assert my_operations == their_operations
    assert count(my_operations) == count(their_operations)
    assert mine.keys() == theirs.keys()
    largest = max(np.abs(value).max() for value in theirs.values())
    for name, value in theirs.items():
        error = np.abs(mine[name] - value).max()
        assert error == 0 or (not same_order and error < 1e-9 * largest), name


@pytest.mark.parametrize(
    ("name", "build", "stem", "side", "variant"),
    [
        pytest.param(
            *twin,
            id=" ".join([twin[0], *map(str, twin[4].values())]),
            marks=[pytest.mark.slow] if twin[0].endswith(SLOW) else [],
        )
        for twin in [*TWINS, *MORE_TWINS, *SEARCHED_TWINS]
        if "aux_logits" not in twin[4]  # refused: bench/test_peer_graph.py
    ],
)
def test_a_translated_net_computes_what_its_twin_does(name, build, stem, side, variant):
    net = ts.models.create(name, CLASSES, stem, **variant)
    x = np.random.default_rng(0).standard_normal((2, side, side, 3))
    translated, twin = torch_graph(net, x.shape, train=True), build(CLASSES)
    for peer in (translated, twin):
        copy_weights(net, peer)
    mine, my_operations = a_step(translated.double(), x)
    theirs, their_operations = a_step(twin.double(), x)
    if name not in OTHERWISE and variant.get("shortcut", "") != "padding":
        assert count(my_operations) == count(their_operations)
    assert mine.keys() == theirs.keys()
    largest = max(np.abs(value).max() for value in theirs.values())
    for key, value in theirs.items():
        assert np.abs(mine[key] - value).max() < 1e-9 * largest, key
    images = torch.tensor(nchw(x))
    ours, theirs = translated.eval()(images), twin.eval()(images)
    torch.testing.assert_close(ours, theirs, rtol=1e-9, atol=1e-9)


def test_dropout_is_timed_and_not_compared():
    """Two libraries draw two masks, so the check does without; the step that is timed does not."""
    net = ts.models.create("alexnet", CLASSES, "cifar")
    images, labels = libraries.draw(2, 32, CLASSES)
    peer = torch_graph(net, images.shape, train=True)
    copy_weights(net, peer)
    theirs = libraries.Torch(peer, images, labels, True, 1, "NCHW")
    ours = libraries.Ours(net, images, labels, True, 1)
    mine, found = ours.check(), theirs.check()
    for what, value in mine.items():
        assert np.abs(found[what] - value).max() < 1e-3 * np.abs(value).max(), what
    shares = [m.p for side in (net, peer) for m in side.modules() if type(m).__name__ == "Dropout"]
    assert shares == [0.5] * 4
    ts.set_num_threads(None)


def test_what_layers_are_told_is_passed_on():
    """Arguments that no net of the zoo needs, or only one that is large."""
    net = ts.nn.Sequential(
        ts.nn.Conv2d(3, 6, (3, 2), stride=(1, 2), padding=(2, 1), dilation=(2, 1), groups=3),
        ts.nn.BatchNorm2d(6, eps=0.1, momentum=0.7),
        ts.nn.AvgPool2d(3, stride=1, padding=1, count_include_pad=False),
        ts.nn.MaxPool2d(3, stride=2, ceil_mode=True),
        ts.nn.Conv2d(6, 6, 3, padding=2, dilation=2, groups=6),
        ts.nn.Conv2d(6, 8, 1, groups=2),
        ts.nn.AvgPool2d(2, stride=1, padding=1),
        ts.nn.GlobalAvgPool(),
    ).initialise(0)
    # the max pool's last window hangs over, below and at the right
    x = np.random.default_rng(0).standard_normal((2, 10, 15, 3))
    peer = torch_graph(net, x.shape, train=True)
    copy_weights(net, peer)
    theirs, operations = a_step(peer.double(), x)
    assert "aten.constant_pad_nd.default" not in count(operations)  # ceil_mode does it
    y = net.astype("float64").train()(x)
    net.backward(np.ones_like(y))
    mine = {p.name: torch_layout(p.grad) for p in net.parameters()}
    mine |= {name: v for name, v in net.state_dict().items() if name not in mine} | {"logits": y}
    assert mine.keys() == theirs.keys()
    for name, value in theirs.items():
        np.testing.assert_allclose(mine[name], value, rtol=1e-9, atol=1e-9, err_msg=name)
