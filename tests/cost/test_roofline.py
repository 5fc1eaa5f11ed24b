"""The roofline model: what it predicts of a known machine, and how a machine is fitted."""

from __future__ import annotations

import json

import numpy as np
import pytest

import tinyshuffle as ts
from tinyshuffle import plots
from tinyshuffle.bench import calibrate, libraries, predicted
from tinyshuffle.bench.ceilings import Ceilings
from tinyshuffle.bench.layers import LayerTime, LayerTimes, time_layers
from tinyshuffle.bench.run import Case
from tinyshuffle.cost.roofline import CLASSES, Operation, Rates, Speeds, operations
from tinyshuffle.machine import describe

# 100 GFLOP/s, 10 GB/s whatever the working set, a microsecond a call, weights read twice
RATES = Rates(call=1e-6, multiply_add=2e-11, passes=1.0, packing=2.0)
MACHINE = Speeds(2, 1e11, [(2**10, 1e10), (2**30, 1e10)], {name: RATES for name in CLASSES},
                 between=1e-6, start=1e-5)  # fmt: skip
NETS = ("shufflenet_v1_x0_25_g3", "shufflenet_v2_x0_5", "mobilenet_v2_x0_15", "squeezenet1_1")


def test_a_time_by_hand():
    operation = Operation("conv", "conv_norm", "pointwise", "pointwise", 10**8, 10**7, 10**6, 3)
    # 1 µs + 2 ms + 1 ms + 0.2 ms, three times
    assert MACHINE.seconds(operation) == pytest.approx(3 * 3.201e-3)


def test_bandwidth_by_the_working_set():
    machine = Speeds(1, 1e11, [(2**16, 64e9), (2**20, 16e9)], {}, 0, 0)
    assert machine.bandwidth(1) == pytest.approx(64e9)
    assert machine.bandwidth(2**18) == pytest.approx(32e9)
    assert machine.bandwidth(2**30) == pytest.approx(16e9)


@pytest.mark.parametrize("model", NETS)
def test_operations_are_those_that_run(model):
    """The layers that are predicted are those that the benchmark times, and cost the same."""
    net = ts.models.create(model)
    side = libraries.Ours(net, *libraries.draw(2, 64, 1000), False, 2)
    try:
        times = time_layers(side, rounds=1, warm=0)
    finally:
        ts.set_num_threads(None)
    rows = {(row.layer, row.operation): row for row in times.rows}
    views = {key for key in rows if key[1] in ("channel_split", "dropout", "flatten")}
    found = {(o.layer, o.operation): o for o in operations(net, (2, 64, 64, 3), 2)}
    assert found.keys() - views == rows.keys() - views
    for key, operation in found.items():
        if operation.multiply_adds:  # the rows hold both slices, of one image each
            assert 2 * operation.multiply_adds == rows[key].multiply_adds, key
            assert operation.kind == rows[key].kind, key


def test_a_prediction_counts_every_multiply_add():
    net = ts.models.create("shufflenet_v2_x0_5")
    found = operations(net, (8, 224, 224, 3), 2)
    counted = ts.cost.profile(net, (8, 224, 224, 3)).total.multiply_adds
    assert sum(o.multiply_adds * o.calls for o in found) * 2 == counted
    assert {o.calls for o in found} == {1}  # four images a core, at a time
    assert {o.calls for o in operations(net, (8, 512, 512, 3), 2)} == {4}  # one at a time
    assert {o.calls for o in operations(net, (128, 32, 32, 3), 2)} == {2}  # 32 at a time


def test_a_prediction_adds_up():
    prediction = ts.cost.roofline("shufflenet_v1_x0_25_g3", (2, 64, 64, 3), MACHINE)
    layers = sum(prediction.layer_seconds)
    calls = len(prediction.operations)
    assert prediction.seconds == pytest.approx(layers + 1e-6 * calls + 1e-5)
    assert "stage2.0" in str(prediction) and "ms predicted" in str(prediction)
    kinds = {o.shape_class for o in prediction.operations}
    assert {"grouped pointwise", "depthwise, stride 2", "avg pool", "dense"} <= kinds


def test_a_machine_is_found_again_from_times():
    rng = np.random.default_rng(0)
    true = Rates(2e-6, 1e-11, 1.5, 0.0)
    features = [
        (1.0, *rng.uniform((1e6, 1e-6, 1e-7), (1e8, 1e-4, 1e-5)).tolist()) for _ in range(12)
    ]
    numbers = true.call, true.multiply_add, true.passes, true.packing
    rows = [(f, float(np.dot(numbers, f))) for f in features]
    found = calibrate.fit(rows)
    assert (found.call, found.multiply_add, found.passes, found.packing) == pytest.approx(
        numbers, rel=1e-6, abs=1e-9
    )


def test_no_number_of_a_machine_is_negative():
    """What least squares would make negative is left out."""
    rows = [((1.0, 1.0, x, 0.0), 10.0 - x) for x in (1.0, 2.0, 3.0)]
    found = calibrate.fit(rows)
    assert found.passes == 0 and min(found.call, found.multiply_add, found.packing) >= 0


def test_no_class_multiplies_faster_than_the_machine():
    """What the shapes would put above the peak goes into the other numbers."""
    rng = np.random.default_rng(1)
    peak, true = 1e11, np.array([2e-6, 1e-12, 1.5, 0.0])  # 20 times as fast as the peak
    features = [
        (1.0, *rng.uniform((1e5, 1e-6, 1e-7), (1e6, 1e-4, 1e-5)).tolist()) for _ in range(12)
    ]
    rows = [(f, float(true @ f)) for f in features]
    assert calibrate.fit(rows).multiply_add == pytest.approx(1e-12, rel=1e-6)
    assert calibrate.fit(rows, 2 / peak).multiply_add >= 2 / peak
    slower = [(f, seconds + 3e-11 * f[1]) for f, seconds in rows]  # below it nothing changes
    assert calibrate.fit(slower, 2 / peak).multiply_add == pytest.approx(3.1e-11, rel=1e-6)
    still = [((1.0, 0.0, *f[2:]), seconds) for f, seconds in rows]  # a shuffle multiplies nothing
    assert calibrate.fit(still, 2 / peak) == calibrate.fit(still)


def test_a_machine_is_measured_for_every_class(monkeypatch):
    shapes = [s for s in calibrate._shapes() if s[0] <= 14 or s[1] == 3 or s[0] == 112]
    monkeypatch.setattr(calibrate, "_shapes", lambda: iter(shapes))
    monkeypatch.setattr(calibrate, "ROUNDS", 1)
    monkeypatch.setattr(calibrate, "COPIES", 1)
    monkeypatch.setattr(calibrate.ceilings, "bandwidth", lambda *_: 1e10)
    monkeypatch.setattr(calibrate.ceilings, "matrix_peak", lambda *_: 1e11)
    try:
        found = calibrate.calibrate(1, 1)
    finally:
        ts.set_num_threads(None)
    assert found.rates.keys() == set(CLASSES) and found.bandwidths[0][1] == 1e10
    for name, rates in found.rates.items():
        assert max(rates.call, rates.multiply_add, rates.passes, rates.packing) > 0, name
        assert rates.multiply_add == 0 or rates.multiply_add >= 2 / found.peak, name
    assert Speeds.from_dict(json.loads(json.dumps(found.to_dict()))) == found


def test_a_machine_is_measured_once(monkeypatch, tmp_path):
    asked = []

    class Measuring:
        def __init__(self, name, job):
            asked.append(job)

        def __enter__(self):
            return self

        def __exit__(self, *_):
            pass

        def ready(self):
            return MACHINE.to_dict()

    monkeypatch.setattr(calibrate, "Worker", Measuring)
    monkeypatch.setattr(calibrate, "_folder", lambda: tmp_path / "cache")
    assert calibrate.this_machine(2, 2) == calibrate.this_machine(2, 2) == MACHINE
    assert len(asked) == 1 and asked[0]["cores"] == 2
    calibrate.this_machine(1, 2)
    calibrate.this_machine(2, 2, remeasure=True)
    assert len(asked) == 3
    for file in (tmp_path / "cache").iterdir():
        file.write_text('{"cores": 2')  # damaged
    assert calibrate.this_machine(2, 2) == MACHINE and len(asked) == 4


# ---- beside the clock


def compared():
    case = Case("inference", "shufflenet_v1_x0_25_g3", 2, 64, 2, "imagenet")
    prediction = ts.cost.roofline(case.model, (2, 64, 64, 3), MACHINE)
    rows = [
        # each layer takes 25 % longer than predicted, but for every third, which takes half
        LayerTime(o.layer, o.operation, o.kind, s * (0.5 if i % 3 == 0 else 1.25),
                  multiply_adds=2 * o.multiply_adds, nbytes=2 * o.nbytes)
        for i, (o, s) in enumerate(
            zip(prediction.operations, prediction.layer_seconds, strict=True)
        )
    ]  # fmt: skip
    times = LayerTimes(False, rows, 0.0, prediction.seconds / 1.1, 1.0)
    return predicted.Compared(case, describe(2), Ceilings(1e11, 1e10), [], prediction, times)


def test_residuals_of_known_times():
    found = compared()
    assert found.net_error == pytest.approx(0.1)
    assert found.layer_error == pytest.approx(0.2)
    residuals = {r.name: r for r in found.residuals()}
    assert sum(r.count for r in residuals.values()) == len(found.layers())
    assert residuals["depthwise"].upper > residuals["depthwise"].lower
    record = json.loads(json.dumps(found.to_dict()))
    assert record["layer_error"] == found.layer_error


def test_the_prediction_is_drawn():
    above, middle, below = plots.prediction(compared()).axes
    assert "20 % off" in above.get_title() and middle.get_xscale() == "log"
    assert len(below.get_yticks()) == len(compared().residuals())


def test_rank_correlations():
    # by hand: differences of ranks 1, 1, 0, 0, so 1 - 6 · 2 / (4 · 15)
    assert predicted.correlation([1, 2, 3, 4], [20, 10, 30, 40]) == pytest.approx(0.8)
    assert predicted.correlation([1, 2, 3], [3, 2, 1]) == -1
    assert predicted.ranks([5, 5, 1, 5]).tolist() == [3, 3, 1, 3]
    assert predicted.correlation([1, 1, 2, 3], [1, 2, 3, 4]) == pytest.approx(0.948683298)
