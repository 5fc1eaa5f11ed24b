"""Each row of a plan has a time, forward and backward, of one slice or several."""

from __future__ import annotations

import pytest

import tinyshuffle as ts
from tinyshuffle.plan.timing import time_rows


@pytest.mark.parametrize("slices", [1, 2])
def test_every_row_is_timed(slices):
    net = ts.models.create("shufflenet_v2_x0_5", num_classes=10, stem="cifar")
    plan = net.plan((2, 16, 16, 3), train=True)
    seconds = time_rows(net.net, plan, slices, rounds=1)
    assert len(seconds) == len(plan.rows)
    timed = {row.operation for row, value in zip(plan.rows, seconds, strict=True) if value > 0}
    assert {row.operation for row in plan.rows} - timed <= {"channel_split"}, "views take no time"
