"""What is said of times, the environment of the workers, the machine's report, the roofline."""

from __future__ import annotations

import json
import os
import subprocess

import numpy as np
import pytest

import tinyshuffle as ts
from tinyshuffle import kernels, machine, plots
from tinyshuffle.backend import F
from tinyshuffle.bench import ceilings, libraries, peers, run
from tinyshuffle.bench.layers import LayerTime, LayerTimes, time_layers
from tinyshuffle.bench.process import Worker, clean_environment
from tinyshuffle.bench.spread import ratios, spread


def test_spread():
    times = spread([0.9, 0.1, 0.5, 0.3, 0.7])
    assert (times.minimum, times.lower, times.median, times.upper, times.maximum) == (
        pytest.approx((0.1, 0.3, 0.5, 0.7, 0.9))
    )
    assert times.count == 5


def test_ratios_are_taken_turn_by_turn():
    """A machine that becomes ten times slower half-way does not change them."""
    theirs = [[3.0, 3.0, 30.0], [60.0, 60.0], [6.0]]
    ours = [[1.0, 1.0, 1.0], [20.0, 21.0, 19.0], [4.0]]
    found = ratios(theirs, ours)
    assert (found.median, found.minimum, found.maximum) == (3.0, 1.5, 3.0)
    with pytest.raises(ValueError):
        ratios(theirs, ours[:2])


def test_turns_are_taken():
    """A B A B, for equal time."""

    class Side:
        def __init__(self, *times):
            self.times = times

        def ask(self, what, seconds, least):
            assert what == "run" and least == 1
            turns.append((self, seconds))
            return [*self.times]

    turns: list = []
    a, b = Side(0.006, 0.007), Side(0.02)
    assert run.take_turns([a, b], range(3), burst=0.01) == [[[0.006, 0.007]] * 3, [[0.02]] * 3]
    assert turns == [(a, 0), (a, 0.01), (b, 0), (b, 0.01)] * 3  # the first run does not count


def test_a_result_speaks_of_every_side():
    case = run.Case("step", "shufflenet_v2_x0_5", 8, 32, 2, "cifar")
    what = machine.describe(2)
    result = run.Result(case, what, ["OMP_NUM_THREADS"], {"PyTorch": {"logits": 1e-6}}, [
        run.Side("tinyshuffle", "", [[0.1], [0.2]], 200, 150),
        run.Side("PyTorch", "NCHW", [[0.3], [0.4]], None, None),
    ])  # fmt: skip
    record = json.loads(json.dumps(result.to_dict()))
    assert record["model"] == "shufflenet_v2_x0_5" and record["cleared"] == ["OMP_NUM_THREADS"]
    ours, theirs = record["sides"]
    assert "ratio" not in ours and ours["own_memory"] == 50
    assert theirs["ratio"]["median"] == pytest.approx(2.5) and theirs["own_memory"] is None
    assert theirs["differences"] == {"logits": 1e-6} and theirs["format"] == "NCHW"


@pytest.mark.parametrize(
    ("theirs", "words"),
    [
        ({"logits": [1.0, 2.002]}, None),
        ({"logits": [1.0, 2.01]}, "logits differ by 5.0e-03"),
        ({"logits": [1.0, np.nan]}, "logits differ by nan"),
        ({"logits": [1.0]}, "logits differ by inf"),
    ],
)
def test_a_peer_must_compute_the_same(theirs, words):
    ours = {"logits": np.array([1.0, 2.0])}
    theirs = {name: np.array(value) for name, value in theirs.items()}
    if words is None:
        assert run.agree("PyTorch", ours, theirs)["logits"] == pytest.approx(1e-3)
    else:
        with pytest.raises(ts.TinyshuffleError, match=words):
            run.agree("PyTorch", ours, theirs)


DISTORTS = ["OPENBLAS_CORETYPE", "OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS", "OMP_WAIT_POLICY",
            "MKL_NUM_THREADS", "MKL_ENABLE_INSTRUCTIONS", "GOMP_CPU_AFFINITY", "KMP_BLOCKTIME",
            "NUMBA_NUM_THREADS", "ATEN_CPU_CAPABILITY"]  # fmt: skip


def test_the_environment_is_cleared():
    kept = {"PATH": "/bin", "NUMBA_CACHE_DIR": "/cache", "HOME": "/home", "COMP_WORDS": "x"}
    clean, cleared = clean_environment({name: "1" for name in DISTORTS} | kept)
    assert clean == kept and cleared == sorted(DISTORTS)


def test_workers_get_the_clean_environment(monkeypatch):
    given = {}

    def popen(command, env, **options):
        given.update(env)
        raise OSError

    for name in DISTORTS:
        monkeypatch.setenv(name, "1")
    monkeypatch.setattr(subprocess, "Popen", popen)
    with pytest.raises(OSError):
        Worker("a side", {}, {"NUMBA_CACHE_DIR": "/cache"})
    assert not set(DISTORTS) & set(given)
    assert given["NUMBA_CACHE_DIR"] == "/cache" and given["PATH"] == os.environ["PATH"]


def test_the_machine_describes_itself():
    found = machine.describe(threads=3)
    assert found.cpu and found.cores >= 1 and found.threads == 3 and found.blas
    assert {"Python", "NumPy", "numba"} <= found.versions.keys()
    text = "\n".join(found.lines())
    assert found.cpu in text and "threads: 3" in text and found.versions["NumPy"] in text
    assert machine.Machine(**json.loads(json.dumps(found.to_dict()))) == found


@pytest.mark.parametrize("threads", [1, 2])
def test_ceilings_are_measured(threads):
    assert ceilings.matrix_peak(threads, seconds=0.0, size=64) > 0
    assert ceilings.bandwidth(2**20, threads, seconds=0.0) > 0


def test_memory_grows_with_what_is_held():
    before = machine.resident_memory()
    if before is None:
        pytest.skip("this system does not say")
    block = np.ones(2**24)
    after = machine.resident_memory()
    assert after[0] >= before[1] + block.nbytes // 2


def test_a_missing_peer_is_one_sentence(monkeypatch):
    monkeypatch.setattr(peers, "find_spec", lambda name: None if name == "torch" else object())
    with pytest.raises(ts.TinyshuffleError, match="^PyTorch is not installed; pip install torch, "):
        peers.check_peer("torch", "step")
    with pytest.raises(ts.TinyshuffleError, match="^PyTorch, which writes .* --peer onnxruntime$"):
        peers.check_peer("onnxruntime", "inference")


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
