"""Runs: what they leave, how they stop, and that a resumed one ends with the same bits."""

from __future__ import annotations

import csv
import errno
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from train import tiny_run

import tinyshuffle as ts
from tinyshuffle import data, plots
from tinyshuffle.errors import TinyshuffleError
from tinyshuffle.train import Config, Interrupted, checkpoint, evaluate, evaluate_run, resume, train
from tinyshuffle.train.loop import COLUMNS

CONFIG = dict(epochs=3, batch_size=16, threads=2, backend="numpy")  # 4 steps an epoch
LEARNING_CURVES = plots.learning_curves
TIMES = ("images_per_second", "seconds")


@pytest.fixture(autouse=True)
def tiny(monkeypatch):
    """The tiny net and data, and no time spent on drawing."""
    tiny_run.install(monkeypatch.setattr)
    figure = SimpleNamespace(savefig=lambda file, format: file.write(b"drawn"))
    monkeypatch.setattr(plots, "learning_curves", lambda rows: figure)


@pytest.fixture
def runs(tmp_path):
    return tmp_path / "runs"


def start(runs, name="a", **changes):
    return train(Config(**{**CONFIG, **changes}), name, runs, quiet=True)


def log(run):
    with open(run / "log.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    return [{k: v for k, v in row.items() if k not in TIMES} for row in rows]


def assert_same_end(run, other):
    """The last checkpoints are equal in every bit that is not a time, and so are the logs."""
    mine, yours = (checkpoint.load(r / "last.npz") for r in (run, other))
    for a, b in ((mine.net, yours.net), (mine.optim, yours.optim)):
        assert a.keys() == b.keys()
        for name in a:
            assert a[name].tobytes() == b[name].tobytes(), name
    assert mine.header["random_states"] == yours.header["random_states"]
    assert mine.header["random_states"]  # the dropout layer's is there
    assert log(run) == log(other)


def during(monkeypatch, batch, action):
    """Do something when the n-th batch of the process, training or test, is drawn."""
    original = data.batches
    drawn = 0

    def batches(*args, **options):
        nonlocal drawn
        for item in original(*args, **options):
            drawn += 1
            if drawn == batch:
                action()
            yield item

    monkeypatch.setattr(data, "batches", batches)


def interrupt():
    signal.raise_signal(signal.SIGINT)


# ---- what is left


def test_run_directory(runs, monkeypatch):
    monkeypatch.setattr(plots, "learning_curves", LEARNING_CURVES)
    result = start(runs)
    assert result.run == runs / "a"
    assert sorted(os.listdir(result.run)) == [
        "best.npz", "config.json", "curves.png", "last.npz", "log.csv", "previous.npz",
    ]  # fmt: skip
    assert Config.from_dict(json.loads((result.run / "config.json").read_text())) == Config(
        **CONFIG
    )
    assert (result.run / "curves.png").read_bytes().startswith(b"\x89PNG")
    with open(result.run / "log.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    assert list(rows[0]) == list(COLUMNS)
    assert [row["epoch"] for row in rows] == ["1", "2", "3"]
    assert [row["step"] for row in rows] == ["4", "8", "12"]
    assert float(rows[-1]["test_accuracy"]) == result.accuracy
    assert all(0 < float(row["lr"]) <= 0.1 for row in rows)
    assert f"{100 * result.accuracy:.1f} % after 3 epochs in" in str(result)
    assert str(result.run) in str(result)


def test_default_names_do_not_collide(runs):
    first, second = start(runs, None, epochs=1), start(runs, None, epochs=1)
    assert first.run != second.run
    assert first.run.name.startswith("shapes-shufflenet_v2_x0_5-20")


def test_best_is_the_best(runs):
    result = start(runs, epochs=5, lr=0.5)
    best = max(result.rows, key=lambda row: row["test_accuracy"])
    evaluation, path, epoch = evaluate_run(result.run)
    assert path.name == "best.npz" and epoch == best["epoch"]
    assert evaluation.accuracy == best["test_accuracy"]
    assert evaluation.loss == pytest.approx(best["test_loss"], rel=1e-5)


def test_evaluate_counts_each_class_and_keeps_the_mode():
    _, test = tiny_run.load("shapes")
    net = tiny_run.create("any", 3, "cifar")
    net.train()
    with ts.backend("numpy"):
        found = evaluate(net, test, batch_size=7)
        net.eval()
        logits = net(data.normalise(test.images, test.mean, test.std))
        net.train()
        loss = ts.nn.CrossEntropyLoss()(logits, test.labels)
    right = logits.argmax(1) == test.labels
    assert found.accuracy == right.mean()
    for k in range(3):
        assert found.count[k] == (test.labels == k).sum()
        assert found.right[k] == right[test.labels == k].sum()
    assert found.loss == pytest.approx(loss, rel=1e-5)
    assert net.training


def test_settings_are_put_back(runs):
    before = ts.get_num_threads()
    start(runs, threads=3, epochs=1)
    assert ts.get_num_threads() == before


def test_adam_and_a_batch_larger_than_the_data(runs):
    result = start(runs, optimizer="adam", lr=0.01, batch_size=1000, schedule="cosine")
    assert [row["step"] for row in result.rows] == [1, 2, 3]


# ---- the same bits


def test_two_runs_are_equal(runs):
    assert_same_end(start(runs, "a").run, start(runs, "b").run)
    other = checkpoint.load(start(runs, "c", seed=1).run / "last.npz")
    mine = checkpoint.load(runs / "a" / "last.npz")
    assert any(mine.net[name].tobytes() != other.net[name].tobytes() for name in mine.net)


@pytest.mark.parametrize("optimizer", ["sgd", "adam"])
@pytest.mark.parametrize("batch", [1, 3, 5, 7, 15])  # of 4 + 1 an epoch; 5 and 15 are test batches
def test_interrupted_and_resumed(runs, monkeypatch, optimizer, batch):
    whole = start(runs, "whole", optimizer=optimizer)
    with monkeypatch.context() as patch:
        during(patch, batch, interrupt)
        with pytest.raises(Interrupted, match=r"--resume") as stop:
            start(runs, "stopped", optimizer=optimizer)
    assert stop.value.signum == signal.SIGINT
    saved = checkpoint.load(runs / "stopped" / "last.npz").header
    assert (saved["epoch"], saved["step"]) == ((batch - 1) // 5, min((batch - 1) % 5 + 1, 4))
    result = resume(runs / "stopped", quiet=True)
    assert result.accuracy == whole.accuracy
    assert_same_end(runs / "stopped", runs / "whole")
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


def test_interrupted_many_times(runs, monkeypatch):
    start(runs, "whole")
    attempt, options = start, {"name": "stopped"}
    for _ in range(20):
        with monkeypatch.context() as patch:
            during(patch, 2, interrupt)
            try:
                attempt(runs, **options)
                break
            except Interrupted:
                attempt, options = lambda runs: resume(runs / "stopped", quiet=True), {}
    assert_same_end(runs / "stopped", runs / "whole")


def test_terminated_like_interrupted(runs, monkeypatch):
    during(monkeypatch, 3, lambda: signal.raise_signal(signal.SIGTERM))
    with pytest.raises(Interrupted) as stop:
        start(runs)
    assert stop.value.signum == signal.SIGTERM


def test_second_interrupt_acts_at_once(runs, monkeypatch):
    def twice():
        interrupt()
        interrupt()

    during(monkeypatch, 3, twice)
    with pytest.raises(KeyboardInterrupt) as stop:
        start(runs)
    assert not isinstance(stop.value, Interrupted)
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


def test_resume_of_a_finished_run_changes_nothing(runs):
    result = start(runs)
    before = (result.run / "last.npz").read_bytes()
    (result.run / "log.csv").unlink()
    assert resume(result.run, quiet=True).rows == result.rows
    assert (result.run / "last.npz").read_bytes() == before
    assert len(log(result.run)) == 3


@pytest.mark.skipif(os.name == "nt", reason="there is no SIGKILL on Windows")
def test_killed_and_resumed(runs):
    """kill -9 at moments that nobody chose, again and again, until the run is through."""
    script = Path(tiny_run.__file__)
    env = {**os.environ, "PYTHONPATH": str(Path(ts.__file__).parents[1])}
    options = "--batch-size 16 --threads 2 --backend numpy --epochs 12".split()
    whole = subprocess.Popen(
        [sys.executable, script, "train", *options, "--name", "whole", "--runs-dir", runs],
        env=env,
        stdout=subprocess.DEVNULL,
    )
    killed = runs / "killed"
    begin = [*options, "--name", "killed", "--runs-dir", runs]
    kills = 0
    rng = np.random.default_rng()
    for _ in range(12):
        command = ["--resume", killed] if (killed / "last.npz").exists() else begin
        process = subprocess.Popen(
            [sys.executable, script, "train", *command],
            env={**env, "STEP_SECONDS": "0.02"} if kills < 3 else env,
            stdout=subprocess.DEVNULL,
        )
        deadline = time.monotonic() + 60
        stamp = newest(killed)
        while newest(killed) == stamp and process.poll() is None and time.monotonic() < deadline:
            time.sleep(0.005)  # until it has written something
        if kills < 3:
            time.sleep(rng.uniform(0, 0.3))
            process.kill()
            kills += process.wait() == -signal.SIGKILL
        elif process.wait() == 0:
            break
    assert kills == 3
    assert whole.wait() == 0
    assert_same_end(killed, runs / "whole")


def newest(run):
    times = [path.stat().st_mtime_ns for path in run.glob("*.npz")] if run.is_dir() else []
    return max(times, default=0)


# ---- what goes wrong


def test_damaged_last_falls_back_on_previous(runs, monkeypatch, capsys):
    start(runs, "whole")
    with monkeypatch.context() as patch:
        during(patch, 12, interrupt)
        with pytest.raises(Interrupted):
            start(runs, "a")
    last = runs / "a" / "last.npz"
    last.write_bytes(last.read_bytes()[:-1000])
    resume(runs / "a")
    said = capsys.readouterr().out
    assert "last.npz is truncated" in said and "going on from" in said and "previous.npz" in said
    assert_same_end(runs / "a", runs / "whole")
    assert (runs / "a" / "damaged.npz").exists()


def test_nan_loss_stops_and_keeps_the_last_good_checkpoint(runs, monkeypatch):
    loss = ts.nn.CrossEntropyLoss.__call__
    calls = 0

    def nan(self, logits, labels):
        nonlocal calls
        calls += 1
        return loss(self, logits, labels) if calls != 8 else float("nan")

    monkeypatch.setattr(ts.nn.CrossEntropyLoss, "__call__", nan)
    with pytest.raises(TinyshuffleError) as error:
        start(runs, schedule="constant")
    message = str(error.value)  # call 5 was the first epoch's test, so call 8 is step 7
    for part in ("became nan at step 7 of 12", "learning rate 0.1:", os.path.join("a", "last.npz")):
        assert part in message
    saved = checkpoint.load(runs / "a" / "last.npz")
    assert saved.header["epoch"] == 1
    assert all(np.isfinite(array).all() for array in saved.net.values())


@pytest.mark.filterwarnings("error")
def test_huge_learning_rate_stops(runs):
    with pytest.raises(TinyshuffleError, match=r"with learning rate .*last good checkpoint"):
        start(runs, lr=1e30, schedule="constant", epochs=10)
    saved = checkpoint.load(runs / "a" / "last.npz")
    assert all(np.isfinite(array).all() for array in saved.net.values())


def test_full_disk(runs, monkeypatch):
    start(runs, "whole")
    fsync, calls = os.fsync, 0

    def full(descriptor):
        nonlocal calls
        calls += 1
        if calls > 7:  # config, first checkpoint, then best, last, log, curves; best again or last
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        fsync(descriptor)

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", full)
        with pytest.raises(TinyshuffleError, match=r"No space left.*make room.*--resume"):
            start(runs, "a")
    assert not list((runs / "a").glob(".*"))
    resume(runs / "a", quiet=True)
    assert_same_end(runs / "a", runs / "whole")


def test_full_disk_at_the_start_leaves_nothing(runs, monkeypatch):
    def full(descriptor):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(TinyshuffleError, match=r"No space left"):
        start(runs, "a")
    assert os.listdir(runs) == []


def test_log_that_cannot_be_written_is_no_reason_to_stop(runs, monkeypatch, capsys):
    replace = os.replace

    def locked(source, target):
        if Path(target).name == "log.csv":
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))
        replace(source, target)

    monkeypatch.setattr(os, "replace", locked)
    train(Config(**CONFIG), "a", runs)
    assert "Warning: " in capsys.readouterr().out


def test_an_existing_run_is_never_overwritten(runs):
    start(runs)
    before = {path.name: path.read_bytes() for path in (runs / "a").iterdir()}
    with pytest.raises(TinyshuffleError, match=r"exists already.*--resume"):
        start(runs, lr=0.2)
    assert before == {path.name: path.read_bytes() for path in (runs / "a").iterdir()}


@pytest.mark.parametrize("name", ["", "..", "a/b"])
def test_bad_names(runs, name):
    with pytest.raises(TinyshuffleError, match=r"name of a directory"):
        start(runs, name)


def test_runs_dir_is_a_file(runs):
    runs.write_text("")
    with pytest.raises(TinyshuffleError, match=r"cannot be made.*--runs-dir"):
        start(runs)


def test_contradictory_resume(runs):
    start(runs)
    with pytest.raises(TinyshuffleError, match=r"--epochs 5 contradicts .*started with 3"):
        resume(runs / "a", epochs=5, quiet=True)
    resume(runs / "a", epochs=3, threads=1, quiet=True)


def test_resume_of_nothing(tmp_path):
    with pytest.raises(TinyshuffleError, match=r"no checkpoint to go on from"):
        resume(tmp_path, quiet=True)


@pytest.mark.parametrize(
    "field, value",
    [
        ("epochs", 0), ("batch_size", 0), ("lr", 0.0), ("lr", float("nan")), ("lr", float("inf")),
        ("momentum", 1.0), ("weight_decay", -1.0), ("label_smoothing", 1.0), ("seed", -1),
        ("threads", 0), ("warmup", 3.0), ("warmup", -1.0), ("optimizer", "sdg"),
        ("backend", "cuda"), ("schedule", "cosin"),
    ],
)  # fmt: skip
def test_impossible_configuration(field, value):
    with pytest.raises(TinyshuffleError, match=str(value)):
        Config(**{**CONFIG, field: value})


def test_defaults_depend_on_data_and_optimizer():
    assert Config.make(data="cifar10").epochs > Config.make().epochs
    assert Config.make(optimizer="adam").lr < Config.make().lr
    assert Config.make(optimizer="adam", lr=0.5, epochs=7).lr == 0.5
    with pytest.raises(TinyshuffleError, match=r"'epoch'.*did you mean epochs"):
        Config.make(epoch=3)
