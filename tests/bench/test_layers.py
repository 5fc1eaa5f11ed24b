"""The time of layers, beside the roofline."""

from __future__ import annotations

import json

import numpy as np
import pytest

import tinyshuffle as ts
from tinyshuffle import kernels, plots
from tinyshuffle.backend import F
from tinyshuffle.bench import ceilings, libraries
from tinyshuffle.bench.layers import LayerTime, LayerTimes, past_cache_nbytes, time_layers
from tinyshuffle.plan import Buffer, Plan, Row, View

# ---- layers


SYNTHETIC = [
    # 1 GFLOP forward at a ceiling of 100 GFLOP/s: 10 ms; backward, 400 MB at 10 GB/s: 40 ms
    LayerTime("stage2.0.a", "pointwise_conv2d", "pointwise", 0.020, 0.080,
              multiply_adds=500_000_000, backward_nbytes=400_000_000),
    LayerTime("stage2.0.b", "batch_norm", "batch norm", 0.020, nbytes=200_000_000),
    LayerTime("fc", "linear", "linear", 0.001),
]  # fmt: skip
CEILINGS = ceilings.Ceilings(flops=100e9, bandwidth=10e9)


def test_rows_add_up():
    times = LayerTimes(True, SYNTHETIC, 0.004, 0.120, 0.130)
    total = times.total(CEILINGS)
    assert total.seconds == pytest.approx(0.121) and total.flops == 1e9
    assert total.nbytes == 600e6 and total.roofline_seconds == pytest.approx(0.070)
    assert times.between_seconds == pytest.approx(0.130 - 0.004 - 0.121)
    for what in ("layer", "unit", "stage", "type"):
        parts = times.by(what, CEILINGS)
        for quantity in ("seconds", "flops", "nbytes", "roofline_seconds"):
            added = sum(getattr(part, quantity) for part in parts)
            assert added == pytest.approx(getattr(total, quantity)), (what, quantity)
    unit, fc = times.by("unit", CEILINGS)
    assert (unit.name, fc.name) == ("stage2.0", "fc")
    assert unit.attained == pytest.approx(0.070 / 0.120) and fc.attained == 0
    assert LayerTimes.from_dict(json.loads(json.dumps(times.to_dict()))) == times


def test_memory_has_two_ceilings():
    """10 GB/s with plain stores, 20 past the cache: each row is judged by what it can reach."""
    two = ceilings.Ceilings(flops=100e9, bandwidth=10e9, past_cache=20e9)
    a, _, fc = SYNTHETIC
    b = LayerTime("stage2.0.b", "batch_norm", "batch norm", 0.020, nbytes=200_000_000,
                  past_cache_nbytes=200_000_000)  # fmt: skip
    times = LayerTimes(True, [a, b, fc], 0.004, 0.120, 0.130)
    first, second, third = times.by("layer", two)
    assert first.roofline_seconds == pytest.approx(0.050) and first.limit == "memory"
    assert second.roofline_seconds == pytest.approx(0.010) and second.limit == "past the cache"
    assert third.limit == ""  # nothing to do
    assert times.total(two).limit == "memory"
    figure = plots.roofline(times, two)
    assert len(figure.axes[0].lines) == 2


def test_what_can_be_stored_past_the_cache():
    """Whole buffers, and those halves that begin and end at a line: with as much that is read."""
    shapes = {"activation": [(2, 4, 4, 24), (2, 4, 4, 48)], "sums": [(3, 24)]}
    of = [(shape, role) for role in shapes for shape in shapes[role]]
    buffers = tuple(Buffer(i, shape, "float32", role) for i, (shape, role) in enumerate(of))
    whole, sums = View(0, (2, 4, 4, 24)), View(2, (3, 24))
    line, half = View(1, (2, 4, 4, 16), 16), View(1, (2, 4, 4, 24), 24)

    def past(reads, *writes):
        row = Row("relu", "relu", False, reads, writes)
        plan = Plan("net", (2, 4, 4, 3), "float32", False, (row,), buffers, whole)
        return past_cache_nbytes(plan, row)

    assert past((half,), whole) == 2 * 4 * 32 * 24  # all: as much is read
    assert past((half, View(1, (2, 4, 4, 24))), whole) == 2 * 4 * 32 * 24  # of three times as much
    assert past((whole,), line, sums) == 2 * 4 * 32 * 16
    assert past((), line) == 4 * 32 * 16  # and no more than there is
    assert past((whole,), half) == past((whole,), half, line) == past((whole,), sums) == 0


def test_a_layer_in_the_cache_makes_up_for_no_other():
    fast = LayerTime("fc", "linear", "linear", 0.001, nbytes=100_000_000)  # 10 ms from memory
    times = LayerTimes(True, [*SYNTHETIC[:2], fast], 0.0, 0.12, 0.13)
    assert times.by("layer", CEILINGS)[-1].attained == pytest.approx(10)
    assert times.total(CEILINGS).roofline_seconds == pytest.approx(0.050 + 0.020 + 0.001)


def test_the_roofline_is_drawn():
    figure = plots.roofline(LayerTimes(True, SYNTHETIC, 0.0, 0.12, 0.13), CEILINGS, "a net")
    above, below = figure.axes
    assert [line.get_ydata()[-1] for line in above.lines] == [100]
    assert {text.get_text() for text in above.get_legend().get_texts()} == {"pointwise"}
    labels = [text.get_text() for text in below.get_yticklabels()]
    assert set(labels) == {"pointwise", "linear", "batch norm"}
    assert " 50 %" in {text.get_text() for text in below.texts}


@pytest.fixture
def two_threads():
    yield
    ts.set_num_threads(None)


@pytest.mark.parametrize("train", [True, False])
@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize("model", ["shufflenet_v2_x0_5", "shufflenet_v1_x0_25_g2"])
def test_layers_of_a_net(model, train, threads, two_threads):
    net = ts.models.create(model, num_classes=10, stem="cifar")
    side = libraries.Ours(net, *libraries.draw(4, 8, 10), train, threads)
    times = time_layers(side, rounds=1, warm=0)
    profile = ts.cost.profile(net, side.images.shape)
    rows = {row.layer: row for row in times.rows if row.multiply_adds}
    counted = {row.layer: row for row in profile.rows if row.multiply_adds}
    assert list(rows) == list(counted)
    for layer, row in counted.items():
        mine = rows[layer]
        assert (mine.kind, mine.multiply_adds) == (row.kind, row.multiply_adds), layer
        assert mine.backward_multiply_adds == row.backward_multiply_adds * train
        assert 0 <= mine.past_cache_nbytes <= mine.nbytes
        # what goes in and what comes out, and the weights for each slice
        assert mine.nbytes >= 4 * row.memory_access
        assert mine.forward_seconds > 0 and (mine.backward_seconds > 0) == train
    assert 0 < sum(row.seconds for row in times.rows) <= times.watched_seconds
    assert (times.optimiser_seconds > 0) == train
    # nothing is left of the watching
    assert F.linear is kernels.linear
    assert type(net.net).forward.__qualname__ == f"{type(net.net).__name__}.forward"
    assert side.sgd is None or "step" not in vars(side.sgd)


def test_a_watch_ends_with_its_step():
    net = ts.models.create("shufflenet_v2_x0_5", num_classes=10, stem="cifar")
    side = libraries.Ours(net, *libraries.draw(2, 8, 10), True, 1)
    side.labels = np.array([0])  # does not fit
    with pytest.raises(ts.TinyshuffleError):
        time_layers(side, rounds=1)
    assert F.linear is kernels.linear
    assert type(net.net).forward.__qualname__ == "ShuffleNetV2.forward"
    ts.set_num_threads(None)


def test_auxiliary_classifiers_are_timed_with_the_loss_that_trains_them():
    small = {"width": 0.05, "aux_logits": True}
    net = ts.models.create("googlenet", 10, "cifar", **small)
    side = libraries.Ours(net, *libraries.draw(2, 8, 10), True, 1)
    for name, layer in net.named_modules():
        if name.endswith("dropout"):
            layer.p = 0.0
    logits = net(side.images)
    assert logits.shape == (2, 30)
    expected = ts.models.AuxiliaryLoss(libraries.SMOOTHING)(logits, side.labels)
    assert side.check()["loss"] == pytest.approx(expected, rel=1e-5)
    side.run()
