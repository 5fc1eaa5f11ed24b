"""What is pruned are the smallest weights, and nothing else."""

from __future__ import annotations

import numpy as np
import pytest

import tinyshuffle as ts
from tinyshuffle import TinyshuffleError
from tinyshuffle.compress import prune


@pytest.mark.parametrize("share", [0, 0.3, 0.9, 1])
def test_the_smallest_become_zero(share):
    net = ts.models.create("shufflenet_v2_x0_5", num_classes=10, stem="cifar", seed=0)
    before = net.state_dict()
    kept = prune(net, share)
    after = net.state_dict()
    total = sum(mask.size for mask in kept.values())
    assert sum(int(mask.sum()) for mask in kept.values()) == total - round(share * total)
    lost = [np.abs(before[name][~mask]).max(initial=0) for name, mask in kept.items()]
    left = [np.abs(before[name][mask]).min(initial=np.inf) for name, mask in kept.items()]
    assert max(lost) <= min(left)
    for name, value in before.items():
        mask = kept.get(name, True)
        np.testing.assert_array_equal(after[name], np.where(mask, value, 0))
        assert (name in kept) == (name.endswith("weight") and value.ndim > 1)
    assert all(p.dtype == np.float32 for p in net.parameters())


@pytest.mark.parametrize("share", [-0.1, 1.1, "half", None])
def test_a_share_is_from_0_to_1(share):
    with pytest.raises(TinyshuffleError, match="from 0 to 1"):
        prune(ts.nn.Linear(2, 2), share)


def test_what_is_no_net():
    with pytest.raises(TinyshuffleError, match="got a int where a net is expected"):
        prune(3, 0.5)
