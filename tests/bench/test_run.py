"""The commands and their workers, each once and as small as can be. No time is asserted."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from click.testing import CliRunner

import tinyshuffle as ts
from tinyshuffle.bench import process, run, startup
from tinyshuffle.bench.process import Worker
from tinyshuffle.bench.progress import Progress
from tinyshuffle.cli import cli

TINY = ("--model", "shufflenet_v1_x0_25_g1", "--batch", 2, "--input-size", 8, "--rounds", 1)
CASE = run.Case("step", "shufflenet_v1_x0_25_g1", 2, 8, 1, "cifar")


def bench(*arguments):
    result = CliRunner().invoke(cli, ["bench", *map(str, arguments)])
    assert result.exit_code == 0, result.output
    return result.stdout


def refused(*arguments):
    result = CliRunner().invoke(cli, ["bench", *map(str, arguments)])
    assert result.exit_code == 1, result.output
    assert result.stdout == "" and "Traceback" not in result.stderr
    sentence = result.stderr.removeprefix("Error: ").rstrip("\n")
    assert "\n" not in sentence
    return sentence


@pytest.mark.parametrize("task", ["step", "inference"])
def test_ours_alone(task, monkeypatch):
    monkeypatch.setenv("OPENBLAS_CORETYPE", "Haswell")
    monkeypatch.setenv("ATEN_CPU_CAPABILITY", "avx2")
    out = bench(task, *TINY, "--threads", 1)
    assert "shufflenet_v1_x0_25_g1" in out and "2 images of 8x8, cifar stem" in out
    assert "threads: 1" in out and "versions: Python" in out
    assert "not passed on to what was measured: " in out and "OPENBLAS_CORETYPE" in out
    assert "compiled as for another processor: ATEN_CPU_CAPABILITY=avx2" in out
    assert "ratio:" not in out


def test_json():
    (record,) = json.loads(bench("step", *TINY, "--format", "json"))
    assert (record["task"], record["batch"], record["stem"]) == ("step", 2, "cifar")
    (ours,) = record["sides"]
    assert len(ours["bursts"]) == 1 and ours["seconds"]["count"] == len(ours["bursts"][0]) > 0
    assert ours["name"] == "tinyshuffle" and record["machine"]["cpu"]


def test_several_numbers_of_threads():
    arguments = ("inference", *TINY, "--threads", 2, 1, 2, "--format", "json")
    one, two = json.loads(bench(*arguments))
    assert (one["threads"], two["threads"]) == (1, 2)
    assert (one["machine"]["threads"], two["machine"]["threads"]) == (1, 2)
    (first,), (second,) = one["sides"], two["sides"]
    assert first["speed_up"]["median"] == 1 and second["speed_up"]["count"] == 1


def test_a_variant_is_measured_and_named():
    (record,) = json.loads(bench("step", *TINY, "--variant", "se=true", "--format", "json"))
    assert record["variant"] == {"se": True}
    assert "shufflenet_v1_x0_25_g1 se=True" in bench("layers", *TINY, "--variant", "se=true")


def test_layers(tmp_path):
    figure = tmp_path / "roofline.png"
    out = bench("layers", *TINY, "--by", "layer", "--plot", figure)
    for words in ("stage2.0.residual.depthwise", "all layers", "roofline: matrix products", "limit",
                  "GB/s with plain stores", "GB/s with stores past the cache"):
        assert words in out
    assert figure.read_bytes().startswith(b"\x89PNG")
    record = json.loads(bench("layers", *TINY, "--inference", "--format", "json", "--by", "type"))
    *rows, total = record["rows"]
    assert sum(row["seconds"] for row in rows) == pytest.approx(total["seconds"])
    assert sum(row["flops"] for row in rows) == total["flops"] > 0
    assert record["ceilings"]["past_cache"] >= record["ceilings"]["bandwidth"] > 0
    assert {row["limit"] for row in rows} <= {"products", "memory", "past the cache", ""}
    assert record["ceilings"]["flops"] > 0 and record["optimiser_seconds"] == 0


def test_startup_begins_with_an_empty_cache(monkeypatch):
    seen = []

    def first_step(case, cache):
        folder = Path(cache)
        seen.append((cache, len(list(folder.iterdir()))))
        (folder / f"kernel{len(seen)}").touch()
        return 1.5 if len(seen) == 1 else 0.25

    monkeypatch.setattr(startup, "_first_step", first_step)
    out = bench("startup", "--rounds", 2)
    assert "empty cache: 1.5 s" in out and "full cache:  0.25 s, median of 2" in out
    assert [count for _, count in seen] == [0, 1, 2] and len({cache for cache, _ in seen}) == 1


@pytest.mark.slow
def test_startup():
    record = json.loads(bench("startup", *TINY, "--format", "json"))
    assert record["cold_seconds"] > 0 and record["warm_seconds"]["count"] == 1


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("step", "--model", "shufflenet_v2_x0_6"), "did you mean shufflenet_v2_x0_5"),
        (("step", "--batch", 0), "--batch 0 is not possible: give 1 or more"),
        (("inference", "--threads", 0), "--threads 0 is not possible"),
        (("step", "--threads", 1, 2, 0), "--threads 0 is not possible"),
        (("step", "--threads", 5000), "--threads 5000 is too large: give at most 4,096"),
        (("layers", "--rounds", 0), "--rounds 0 is not possible"),
        (("layers", "--by", "hour"), "--by hour is unknown: use layer, unit, stage, type"),
        (("step", "--peer", "tensorflow"), "--peer tensorflow is unknown: use torch, onnxruntime"),
        (("step", "--peer", "onnxruntime"), "ONNX Runtime does not train"),
        (("step", "--variant", "color=red"), "shufflenet_v2_x0_5 has no variant 'color'; it takes"),
        (("layers", "--variant", "se=perhaps"), "se"),
        (("step", "--stem", "large"), "--stem large is unknown: use cifar, imagenet"),
        (("step", "--format", "xml"), "--format xml is unknown"),
        (("step", "--batch", 1, "--input-size", 8), "batch norm in training needs more than one"),
    ],
)
def test_mistakes_are_one_sentence(arguments, words):
    assert words in refused(*arguments)


def test_a_net_without_a_peer_is_refused_before_anything_runs(monkeypatch):
    monkeypatch.setattr("tinyshuffle.bench.peers.installed", lambda name: True)
    monkeypatch.setattr(run, "alone", None)
    nets = ("--model", "googlenet", "--variant", "aux_logits=true")
    sentence = refused("step", "--peer", "torch", *nets)
    assert sentence.startswith("no peer can be made of GoogLeNet: in training it returns (128, 30)")


# ---- workers


def test_a_worker_that_dies_is_reported_with_its_last_words():
    with Worker("the side", CASE.job(run.OURS)) as worker:
        assert worker.ready().keys() == {"memory"}
        with pytest.raises(
            ts.TinyshuffleError,
            match=r"process for the side ended \(exit code 1\): AssertionError: unknown .*'dance'",
        ):
            worker.ask("dance")
    with Worker("the side", CASE.job(run.OURS)) as worker:
        worker.ready()
        worker._process.kill()
        worker._process.wait()
        with pytest.raises(ts.TinyshuffleError, match="process for the side ended"):
            worker.ask("run", seconds=0, least=1)


def test_a_mistake_in_a_worker_is_its_sentence():
    with Worker("the side", CASE.job(run.OURS) | {"model": "shufflenet_v3"}) as worker:
        with pytest.raises(ts.TinyshuffleError, match="^unknown model 'shufflenet_v3'"):
            worker.ready()


def test_ctrl_c_ends_the_workers(monkeypatch):
    started = []

    class Watched(Worker):
        def __init__(self, *arguments):
            super().__init__(*arguments)
            started.append(self)

    def interrupted(*_):
        raise KeyboardInterrupt

    for module in (run, process):
        monkeypatch.setattr(module, "Worker", Watched)
    monkeypatch.setattr(run, "take_turns", interrupted)
    with pytest.raises(KeyboardInterrupt), Progress() as progress:
        run.compare_sides(CASE, [], 1, progress, burst=0.01)
    assert len(started) == 2
    assert all(worker._process.poll() is not None for worker in started)
