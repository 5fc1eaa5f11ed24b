"""docs/counters.csv against the counters themselves, where they are installed."""

from __future__ import annotations

import pytest
from peers.counters import COUNTERS, NETS, count, read

from tinyshuffle.files import installed

LIGHT = ("alexnet", "resnet18", "squeezenet1_0", "mobilenet_v2", "shufflenet_v2_x1_0")

pytestmark = pytest.mark.skipif(
    not installed("torchvision"), reason="torchvision is not installed"
)


@pytest.mark.parametrize("counter", COUNTERS)
@pytest.mark.parametrize(
    "net", [pytest.param(n, marks=() if n in LIGHT else pytest.mark.slow) for n in NETS]
)
def test_a_cell(counter, net):
    package = COUNTERS[counter][0]
    if not installed(package):
        pytest.skip(f"{package} is not installed")
    assert count(counter, net) == read()[1][net][counter]
