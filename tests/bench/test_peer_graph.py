"""Which nets a peer can be made of. What it computes: peers/test_peer_graph.py."""

from __future__ import annotations

import numpy as np
import pytest

import tinyshuffle as ts
from tinyshuffle import nn
from tinyshuffle.backend import F
from tinyshuffle.bench.peer_graph import plan_for_peers


class Doubled(nn.Module):
    def forward(self, x):
        return x * 2

    def backward(self, dy):
        return dy * 2


class Scaled(nn.Module):
    """It has a weight, and no layer of PyTorch's has it as well."""

    def __init__(self):
        self.scale = nn.Parameter(np.ones((1, 3), np.float32))

    def forward(self, x):
        return F.linear(x, self.scale.data)

    def backward(self, dy):
        raise NotImplementedError


def test_the_rows_are_those_of_the_layers():
    net = ts.models.create("shufflenet_v2_x0_5", 10, "cifar")
    plan = plan_for_peers(net, (2, 32, 32, 3), train=True)
    assert plan.train and not any(row.parts for row in plan.rows)


@pytest.mark.parametrize(
    ("net", "shape", "words"),
    [
        (nn.Sequential(nn.ReLU(), Doubled()), (2, 4, 4, 3),
         r"of Sequential: there is no rule for what 1 \(Doubled\) does \(python\)"),
        (nn.Sequential(Scaled()), (2, 1),
         r"of Sequential: there is no rule for what 0 \(Scaled\) does \(linear\)"),
        (ts.models.GoogLeNet(10, "cifar", aux_logits=True), (2, 32, 32, 3),
         r"of GoogLeNet: in training it returns \(2, 30\) and in evaluation \(2, 10\)"),
    ],
)  # fmt: skip
def test_what_cannot_be_translated_is_refused_in_a_sentence(net, shape, words):
    with pytest.raises(ts.TinyshuffleError, match=f"no peer can be made {words}") as found:
        plan_for_peers(net, shape, train=isinstance(net, ts.models.GoogLeNet))
    assert "\n" not in str(found.value) and "leave out --peer" in str(found.value)
