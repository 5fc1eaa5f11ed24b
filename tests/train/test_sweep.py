"""Sweeps: every combination once, continued where stopped, failures listed, a paired verdict."""

from __future__ import annotations

import dataclasses
import json
import os
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest
from click.testing import CliRunner
from joblib import parallel_config
from train import tiny_run

from tinyshuffle import data, models, plots
from tinyshuffle.cli import cli
from tinyshuffle.errors import TinyshuffleError
from tinyshuffle.train import sweep, trainings
from tinyshuffle.train.sweep import Outcome, Sweep, read_over

RECIPE = """
data = "shapes"
epochs = 2
batch_size = 35
lr = 0.01
ema = 0.0
backend = "numpy"
threads = 1
"""
QUICK = """
variant = { stage_repeats = [1, 1, 1], conv5_channels = 32 }
data = "shapes"
epochs = 1
batch_size = 1000
sizes = [8]
threads = 2
"""


@pytest.fixture
def recipe(tmp_path, monkeypatch):
    """A recipe of trainings of a second, in this process."""
    monkeypatch.setattr(data, "load", tiny_run.load)
    monkeypatch.setattr(models, "create", tiny_run.create)
    path = tmp_path / "quick.toml"
    path.write_text(RECIPE)
    with parallel_config(backend="sequential"):
        yield str(path)


def test_every_combination_is_trained_once(recipe, tmp_path, monkeypatch):
    over = {"lr": ["0.01", "0.02"], "cutout": ["0", "2"]}
    found = sweep(recipe, over, seeds=2, runs_dir=tmp_path, quiet=True)
    folder = tmp_path / "sweep-quick"
    runs = sorted(path.name for path in folder.iterdir() if path.is_dir())
    assert len(runs) == 8 and runs[0] == "lr-0.01-cutout-0-seed0"
    config = json.loads((folder / "lr-0.02-cutout-2-seed1" / "config.json").read_text())
    assert (config["lr"], config["cutout"], config["seed"]) == (0.02, 2, 1)
    assert [o.setting for o in found.outcomes][1] == "lr=0.01, cutout=2"
    assert all(set(o.accuracies) == {0, 1} for o in found.outcomes)
    lines = (folder / "report.csv").read_text().splitlines()
    assert len(lines) == 1 + 8 and (folder / "report.png").stat().st_size > 1000
    assert "| lr=0.02, cutout=0 | 2 |" in (folder / "report.md").read_text()

    checkpoints = {path: path.read_bytes() for path in folder.glob("*/last.npz")}
    drawn = []
    batches = data.batches
    monkeypatch.setattr(data, "batches", lambda *a, **k: drawn.append(k) or batches(*a, **k))
    again = sweep(recipe, over, seeds=2, runs_dir=tmp_path, quiet=True)
    assert again == found and not drawn
    assert checkpoints == {path: path.read_bytes() for path in folder.glob("*/last.npz")}
    more = {**over, "lr": ["0.01", "0.02", "0.04"]}
    assert len(sweep(recipe, more, seeds=2, runs_dir=tmp_path, quiet=True).outcomes) == 6
    assert all(path.read_bytes() == before for path, before in checkpoints.items())


def test_a_sweep_on_images_held_out_says_so(recipe, tmp_path, monkeypatch):
    draw, drawn = plots.ablation, []

    def ablation(title, accuracies, dataset, measure):
        drawn.append(measure)
        figure = draw(title, accuracies, dataset, measure)
        assert figure.axes[0].get_xlabel() == f"shapes: {measure}, %"
        return figure

    monkeypatch.setattr(plots, "ablation", ablation)
    found = sweep(recipe, {"lr": ["0.01"]}, 1, tmp_path, quiet=True, validate=20)
    config = json.loads(next(tmp_path.glob("sweep-quick/*/config.json")).read_text())
    assert config["validate"] == 20
    assert "accuracy on 20 training images held out after the last" in found.to_markdown()
    assert drawn == ["accuracy on 20 training images held out"]
    with pytest.raises(TinyshuffleError, match="--over validate changes nothing .*--validate"):
        sweep(recipe, {"validate": ["10", "20"]}, runs_dir=tmp_path)


def test_failures_are_listed_and_not_fatal(recipe, tmp_path):
    result = CliRunner().invoke(cli, [
        "sweep", recipe, "--over", "lr=0.01,1e30", "--seeds", "1", "--runs-dir", str(tmp_path),
    ])  # fmt: skip
    assert result.exit_code == 0, result.output
    assert "lr-1e30-seed0 failed: the " in result.stdout
    assert "failed" in (tmp_path / "sweep-quick" / "report.md").read_text()
    with pytest.raises(TinyshuffleError, match=r"all 1 training failed, the first: the .*lr"):
        sweep(recipe, {"lr": ["1e30"]}, seeds=1, runs_dir=tmp_path / "b", quiet=True)


def test_a_sweep_that_is_another_is_left_alone(recipe, tmp_path):
    sweep(recipe, {"lr": ["0.01"]}, seeds=1, runs_dir=tmp_path, quiet=True)
    with pytest.raises(TinyshuffleError, match=r"belongs to another sweep .epochs is 2, not 3"):
        sweep(recipe, {"lr": ["0.01"]}, seeds=1, runs_dir=tmp_path, quiet=True, epochs=3)


def test_entries_of_the_variant_are_fields(recipe, tmp_path):
    path = Path(recipe)
    path.write_text(path.read_text() + "variant = { conv5_channels = 64 }\n")
    sweep(recipe, {"variant.se": ["true", "false"]}, seeds=1, runs_dir=tmp_path, quiet=True)
    for word, value in (("true", True), ("false", False)):
        run = tmp_path / "sweep-quick" / f"variant.se-{word}-seed0"
        config = json.loads((run / "config.json").read_text())
        assert config["variant"] == {"conv5_channels": 64, "se": value}


@pytest.mark.parametrize(
    ("texts", "words"),
    [
        (["lr"], "write it as --over lr=0.05,0.1"),
        (["lr=0.1,"], "write it as --over lr=0.05,0.1"),
        (["lr=0.1", "lr=0.2"], "--over lr was given twice"),
        (["lr=0.1,0.1"], "has a value twice"),
    ],
)
def test_fields_that_cannot_be_read(texts, words):
    with pytest.raises(TinyshuffleError, match=words):
        read_over(texts)


@pytest.mark.parametrize(
    ("field", "values"),
    [
        ("lr", ["0.1", "0.10"]),
        ("lr", ["0.2", "1e-1", "0.1"]),
        ("lr", [0.1, "0.1"]),
        ("cutout", ["2", "02"]),
        ("whiten", ["yes", "true"]),
        ("alternate", ["no", "none"]),  # which is no if it is not set
        ("bias_lr", ["1", "none"]),
        ("sizes", ["4,8", "[4, 8]"]),
        ("time_budget", ["60s", "1m"]),
        ("variant.se", ["on", "1"]),
        ("test_every", ["1", "none"]),
        ("test_every", ["1", "2"]),  # the weights are the same to the bit
    ],
)
def test_a_setting_written_in_two_ways_is_one(recipe, tmp_path, field, values):
    words = rf"{field}=.* and {field}=.* are the same training: leave one of them out"
    with pytest.raises(TinyshuffleError, match=words):
        sweep(recipe, {field: values, "ema": ["0", "0.9"]}, runs_dir=tmp_path, quiet=True)
    assert not list(tmp_path.glob("sweep-*"))


def test_how_often_a_net_is_tested_may_decide_when_its_training_ends(recipe, tmp_path):
    found = sweep(recipe, {"test_every": ["1", "2"]}, 1, tmp_path, quiet=True, early_stop=1)
    assert [o.setting for o in found.outcomes] == ["test_every=1", "test_every=2"]
    assert all(o.accuracies for o in found.outcomes)


@pytest.mark.parametrize(
    ("field", "advice"),
    [
        ("threads", "give --threads for all"),
        ("data_dir", "give --data-dir for all"),
        ("backend", "write one into the recipe"),
        ("strict", "write it into the recipe"),
        ("sync_bn", "no effect without ranks"),
    ],
)
def test_fields_that_change_nothing(recipe, field, advice):
    with pytest.raises(TinyshuffleError, match=f"--over {field} changes nothing .*{advice}"):
        sweep(recipe, {"lr": ["0.1"], field: ["1", "2"]}, quiet=True)


@pytest.mark.parametrize(
    "limit", [{"early_stop": 1, "epochs": 9}, {"time_budget": "3s", "epochs": None}]
)
def test_runs_whose_epochs_are_not_known_before_are_trained_once(
    recipe, tmp_path, monkeypatch, capsys, limit
):
    """Their last epoch is the one after which they ended, and not that of the configuration."""
    path = Path(recipe)
    lines = [line for line in RECIPE.splitlines() if "epochs" not in line or limit["epochs"]]
    path.write_text("\n".join(lines))
    limit = {name: value for name, value in limit.items() if value is not None}
    from tinyshuffle.train import loop

    evaluate = loop.evaluate
    monkeypatch.setattr(  # never better than at first
        loop, "evaluate", lambda *a, **k: dataclasses.replace(evaluate(*a, **k), accuracy=0.5)
    )
    found = sweep(recipe, {"lr": ["0.01", "0.02"]}, 1, tmp_path, **limit)
    out = capsys.readouterr().out
    assert "2 trainings, 0 done before" in out
    assert "lr-0.01-seed0: 50.00 %" in out and "lr-0.02-seed0: 50.00 %" in out
    if "early_stop" in limit:
        log = tmp_path / "sweep-quick" / "lr-0.01-seed0" / "log.jsonl"
        assert len(log.read_text().splitlines()) == 2
    monkeypatch.setattr(trainings, "resume", None)  # nobody is to come back to them
    monkeypatch.setattr(trainings, "train", None)
    assert sweep(recipe, {"lr": ["0.01", "0.02"]}, 1, tmp_path, **limit) == found
    assert "2 trainings, 2 done before" in capsys.readouterr().out


def test_a_report_does_not_end_a_run_that_may_stop_early(recipe, tmp_path, monkeypatch):
    """As ``report RUN`` writes one of a run that was stopped, too."""
    limit = {"early_stop": 5, "epochs": 3}
    found = sweep(recipe, {"lr": ["0.01"]}, 1, tmp_path, quiet=True, **limit)
    run = tmp_path / "sweep-quick" / "lr-0.01-seed0"
    (run / "previous.npz").replace(run / "last.npz")  # as if it had been stopped in epoch 3
    lines = (run / "log.jsonl").read_text().splitlines()
    (run / "log.jsonl").write_text("\n".join(lines[:2]) + "\n")
    assert sweep(recipe, {"lr": ["0.01"]}, 1, tmp_path, quiet=True, **limit) == found
    assert len((run / "log.jsonl").read_text().splitlines()) == 3


def test_mistakes(recipe):
    for over, options, words in (
        ({}, {}, "give --over"),
        ({"seed": ["1"]}, {}, "give --seeds N for all"),
        ({"lr": ["x"]}, {}, "lr='x' was given"),
        ({"learning": ["1"]}, {}, "'learning' is not a field"),
        ({"model.x": ["1"]}, {}, "only variant has entries"),
        ({"lr": ["0.1"]}, {"seeds": 0}, "--seeds 0 was given"),
        ({"lr": ["0.1"]}, {"seed": 3}, "seed=3 was given, and a sweep begins with 0, 1, 2"),
        ({"lr": ["0.1"]}, {"seeds": 10**5}, "a sweep has 10,000 at most"),
        ({"lr": ["0.1"]}, {"jobs": 0}, "--jobs 0 was given: it must be 1 or more"),
        ({"lr": ["0.1"]}, {"jobs": 4097}, "--jobs 4097 was given: it must be at most 4,096"),
    ):
        with pytest.raises(TinyshuffleError, match=words):
            sweep(recipe, over, quiet=True, **options)


def test_the_verdict_is_paired_by_seed():
    """Seeds differ by points, and the settings within each by little: only the pairs tell."""
    a = {0: 0.70, 1: 0.74, 2: 0.78}
    b = {seed: value - 0.010 - 0.001 * seed for seed, value in a.items()}
    far = {0: 0.60, 1: 0.60}
    found = Sweep("", "", [Outcome("b", b), Outcome("a", a), Outcome("c", far),
                           Outcome("d", {}), Outcome("e", {1: 0.5})], {})  # fmt: skip
    assert found.best.setting == "a" and found.against_best(found.best)[2] == "best"
    difference, error, verdict = found.against_best(found.outcomes[0])
    assert difference == pytest.approx(0.011) and error == pytest.approx(0.001 / 3**0.5)
    assert verdict == "worse"  # 19 standard errors, where t is 4.30
    assert found.against_best(found.outcomes[2])[0] == pytest.approx(0.12)  # of two pairs
    assert found.against_best(found.outcomes[2])[2] == "is not settled"  # 6, where t is 12.71
    assert found.against_best(found.outcomes[4])[2] == "is not settled"
    _, lines = found.table()
    assert [line[-1] for line in lines] == [
        "worse", "best", "is not settled", "failed", "is not settled"
    ]
    assert lines[1][2:4] == ["74.00 %", "2.31"]


def test_a_setting_of_which_some_runs_fail_is_not_the_best():
    found = Sweep("", "", [Outcome("a", {0: 0.70, 1: 0.71, 2: 0.72}),
                           Outcome("b", {1: 0.80, 2: 0.80})], {"b-seed0": "diverged"})  # fmt: skip
    assert found.best.setting == "a"
    assert found.against_best(found.outcomes[1])[0] == pytest.approx(-0.085)
    assert found.against_best(found.outcomes[1])[2] == "is not settled"


def test_a_log_that_lacks_the_last_epochs_is_not_taken_for_the_whole(recipe, tmp_path, monkeypatch):
    from tinyshuffle.train import loop

    limit = {"early_stop": 5, "epochs": 3}
    write = loop.Trainer.write_log
    with monkeypatch.context() as patch:
        patch.setattr(
            loop.Trainer, "write_log", lambda one: None if len(one.rows) > 1 else write(one)
        )
        with pytest.raises(TinyshuffleError, match=r"log.jsonl is not complete"):
            sweep(recipe, {"lr": ["0.01"]}, 1, tmp_path, quiet=True, **limit)
    (outcome,) = sweep(recipe, {"lr": ["0.01"]}, 1, tmp_path, quiet=True, **limit).outcomes
    log = tmp_path / "sweep-quick" / "lr-0.01-seed0" / "log.jsonl"
    rows = [json.loads(line) for line in log.read_text().splitlines()]
    assert len(rows) == 3 and outcome.accuracies == {0: rows[-1]["test_accuracy"]}


def start(tmp_path, *options, over="lr=0.05,0.1,0.2,0.4"):
    (tmp_path / "quick.toml").write_text(QUICK)
    return subprocess.Popen(
        [sys.executable, "-m", "tinyshuffle", "sweep", "quick.toml", "--seeds", "3",
         "--over", over, *options],
        cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
        env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])},
    )  # fmt: skip


@pytest.mark.slow
def test_a_driver_that_is_killed_loses_nothing(tmp_path):
    driver = start(tmp_path)
    folder = tmp_path / "runs" / "sweep-quick"
    while len(finished := list(folder.glob("*/worst.png"))) < 4:
        assert driver.poll() is None, driver.communicate()[0]
        time.sleep(0.02)
    driver.kill()
    driver.wait()
    before = {run.parent: (run.parent / "last.npz").stat().st_mtime_ns for run in finished}
    out, _ = (again := start(tmp_path)).communicate(timeout=500)
    assert again.returncode == 0, out
    assert "failed" not in out
    for run, when in before.items():
        assert (run / "last.npz").stat().st_mtime_ns == when  # not trained a second time
    logs = [path.read_text().splitlines() for path in folder.glob("*/log.jsonl")]
    assert len(logs) == 12 and all(len(log) == 1 for log in logs)


@pytest.mark.slow
def test_a_dask_worker_that_is_killed_loses_nothing(tmp_path):
    distributed = pytest.importorskip("distributed")
    with distributed.LocalCluster(
        n_workers=2, threads_per_worker=1, dashboard_address=None, local_directory=str(tmp_path)
    ) as cluster:
        with cluster.get_client() as client:
            pids = list(client.run(os.getpid).values())
        driver = start(tmp_path, "--dask", cluster.scheduler_address, over="lr=0.1,0.2")
        folder = tmp_path / "runs" / "sweep-quick"
        while len(list(folder.glob("*/worst.png"))) < 2:
            assert driver.poll() is None, driver.communicate()[0]
            time.sleep(0.02)
        psutil.Process(pids[0]).kill()
        out, _ = driver.communicate(timeout=500)
    assert driver.returncode == 0 and "failed" not in out, out
    assert len(list(folder.glob("*/worst.png"))) == 6
