"""The table: what a row reads and writes, how long a buffer lives, and how it is shown."""

from __future__ import annotations

import json
import re

import numpy as np
import pytest

import tinyshuffle as ts
from tinyshuffle import nn
from tinyshuffle.plan import View, fuse, place, trace

SHAPE = (4, 16, 16, 3)


@pytest.fixture(scope="module")
def net():
    return ts.models.create("shufflenet_v2_x0_5", num_classes=10, stem="cifar")


@pytest.fixture(scope="module")
def written(net):
    return net.plan(SHAPE, as_written=True)


@pytest.fixture(scope="module")
def fused(net):
    return net.plan(SHAPE)


def test_bytes_of_an_operation():
    layer = nn.Sequential(nn.Conv2d(4, 8, 1, bias=False))
    plan = trace(layer, (2, 3, 3, 4), train=True)
    forward, backward = plan.rows
    assert plan.nbytes(forward) == 4 * (72 + 32 + 144)  # x, w and y
    assert plan.nbytes(backward) == 4 * (144 + 72 + 32 + 72 + 32 + 8)  # dy, x, w; dx, dw, db


def test_a_split_moves_nothing_and_halves_are_read_as_halves(written):
    splits = [row for row in written.rows if row.operation == "channel_split"]
    assert splits and all(not row.writes for row in splits)
    read = [v for row in written.rows for v in row.reads if isinstance(v, View) and v.start]
    assert all(v.shape[-1] + v.start == written.buffers[v.buffer].shape[-1] for v in read)


@pytest.mark.parametrize("which", ["written", "fused"])
def test_what_is_read_was_written_and_is_still_there(request, which):
    plan = request.getfixturevalue(which)
    there = {b.index for b in plan.buffers if b.role in ("input", "parameter", "state")}
    for i, row in enumerate(plan.rows):
        if i == plan.forward:
            there |= {b.index for b in plan.buffers if b.role == "output's gradient"}
        for view in row.reads:
            buffer = plan.buffers[view.buffer]
            assert view.buffer in there, (i, row.operation)
            assert buffer.last >= i
        for view in row.writes:
            assert plan.buffers[view.buffer].first <= i <= plan.buffers[view.buffer].last
        there |= {v.buffer for v in row.writes}
    for kept in (plan.output, plan.gradient):
        assert kept.buffer in there


def test_nothing_is_lost_by_fusing(written, fused):
    """Each row as written is a part of one fused row: the same work, in fewer passes."""
    parts = [p for row in fused.rows for p in (row.parts or (row,))]
    moved = [r for r in written.rows if r.operation != "channel_split"]
    assert len(fused.rows) < len(parts)
    assert {id(r) for r in parts} <= {id(r) for r in parts}
    for what in ("multiply_adds", "elementwise"):
        assert sum(getattr(r, what) for r in fused.rows) <= sum(getattr(r, what) for r in moved)
    assert sum(r.multiply_adds for r in fused.rows) == sum(r.multiply_adds for r in written.rows)
    assert fused.peak_bytes < written.peak_bytes
    assert fused.meetings <= written.meetings


def test_multiply_adds_are_those_of_the_cost_model(net, written):
    counted = ts.cost.profile(net, SHAPE).total
    forward = sum(r.multiply_adds for r in written.rows if not r.backward)
    assert forward == counted.multiply_adds
    backward = sum(r.multiply_adds for r in written.rows if r.backward)
    assert backward == counted.backward_multiply_adds


def test_shown(fused):
    text = str(fused)
    heading, first, *_, totals, adds = text.splitlines()
    assert heading.split()[:3] == ["row", "layer", "operation"]
    assert first.split()[:4] == ["0", "conv1.0", "norm_conv", "x"]
    assert f"of {len(fused.rows)} rows, behind {fused.meetings} of which" in totals
    assert "multiply-adds" in adds and "MiB" in adds
    # buffers are numbered in the order in which they are written
    numbers = [int(n) for n in re.findall(r"\bb(\d+)\b", text)]
    assert list(dict.fromkeys(numbers)) == list(range(1, max(numbers) + 1))


def test_json(fused):
    found = json.loads(fused.to_json())
    assert len(found["rows"]) == len(fused.rows)
    assert found["peak_bytes"] == fused.peak_bytes and found["meetings"] == fused.meetings
    assert {"name", "role", "bytes", "first", "last", "place"} <= set(found["buffers"][0])
    assert found["rows"][0]["layer"] == "conv1.0"


def test_evaluation_and_training_differ(net):
    plan = net.plan(SHAPE, train=False)
    assert plan.gradient is None and plan.meetings == 0 and not any(r.backward for r in plan.rows)
    assert net.training  # it was only looked at


@pytest.mark.parametrize("model", ["shufflenet_v2_x0_5", "shufflenet_v1_x0_25_g3", "resnet18",
                                   "googlenet", "densenet121", "squeezenet1_0"])  # fmt: skip
@pytest.mark.parametrize("train", [True, False])
def test_places_do_not_collide(model, train):
    plan = place(fuse(trace(ts.models.create(model, num_classes=10).net, (2, 64, 64, 3),
                            train=train)))  # fmt: skip
    living = [b for b in plan.buffers if plan.alive(b)]
    assert living and all(b.place is not None and b.place % 64 == 0 for b in living)
    for a in living:
        for b in living:
            together = a.first <= b.last and b.first <= a.last
            if a.index < b.index and together:
                assert a.place + a.nbytes <= b.place or b.place + b.nbytes <= a.place
    assert plan.peak_bytes <= plan.block_bytes <= 1.15 * plan.peak_bytes


def test_a_buffer_that_is_put_on_another_is_noticed():
    """The check above bites."""
    plan = place(trace(nn.Sequential(nn.Conv2d(3, 4, 1), nn.ReLU()), (2, 8, 8, 3), train=True))
    first, second = [b for b in plan.buffers if plan.alive(b)][:2]
    assert first.last >= second.first
    assert not np.isclose(first.place, second.place)
