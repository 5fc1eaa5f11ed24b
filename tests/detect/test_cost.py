"""What a detector costs, part by part, beside what can be counted by hand."""

from __future__ import annotations

import pytest

from tinyshuffle import cost
from tinyshuffle.detect.cost import detector_cost
from tinyshuffle.detect.detector import Detector


@pytest.mark.parametrize("kind", ["light-head", "faster"])
def test_its_parts(kind):
    net = Detector(kind, "shufflenet_v2_x0_5", 10, 128)
    counted = detector_cost(net, name="a name")
    parts = {row.layer: row for row in counted.by("stage")}
    whole = cost.profile("shufflenet_v2_x0_5", (1, 128, 128, 3), num_classes=10, stem="cifar")
    trunk = sum(row.multiply_adds for row in whole.rows if row.stage not in ("conv5", "fc"))
    assert parts["backbone"].multiply_adds == trunk
    anchors = 16 * 16 * (9 * 192 + 192 * 128 + 128 * 60)
    assert parts["proposals"].multiply_adds == anchors
    inputs = 25 * (10 if kind == "light-head" else 192)
    assert parts["head"].multiply_adds == 100 * (inputs * 256 + 256 * 15)
    if kind == "light-head":
        assert parts["thin"].multiply_adds == 2 * 256 * 15 * (192 * 32 + 32 * 250)
    assert parts["boxes"].elementwise == 100 * inputs * 16
    assert counted.total.params == sum(p.data.size for p in net.parameters())
    assert detector_cost(net, batch=3).total.multiply_adds == 3 * counted.total.multiply_adds
    assert "a name" in counted.summary()
