"""Runs: what they leave, how they stop, and that a resumed one ends with the same bits."""

from __future__ import annotations

import csv
import dataclasses
import errno
import json
import os
import pickle
import re
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
from tinyshuffle import checkpoint, data, plots
from tinyshuffle.errors import TinyshuffleError
from tinyshuffle.train import (
    Config,
    Evaluation,
    Interrupted,
    evaluate,
    evaluate_run,
    loop,
    resume,
    train,
)
from tinyshuffle.train.record import COLUMNS

CONFIG = dict(epochs=3, batch_size=16, threads=2, backend="numpy")  # 4 steps an epoch
FIGURES = {name: getattr(plots, name) for name in ("confusion", "learning_curves", "worst_images")}
# all that has, or needs, state
EXTRAS = dict(ema=0.9, mixup=0.4, cutout=3, sizes=(4, 6, 8), alternate=True)
TIMES = ("images_per_second", "step_seconds", "seconds")


@pytest.fixture(autouse=True)
def tiny(monkeypatch):
    """The tiny net and data, and no time spent on drawing."""
    tiny_run.install(monkeypatch.setattr)
    figure = SimpleNamespace(savefig=lambda file, format: file.write(b"drawn"))
    for name in FIGURES:
        monkeypatch.setattr(plots, name, lambda *arguments: figure)
    monkeypatch.setattr(loop, "update_bn", uncounted)


counted = True  # whether a batch that is drawn is one of a step or a test


def uncounted(net, batches, *keep, update_bn=loop.update_bn):
    global counted
    counted = False
    try:
        update_bn(net, batches, *keep)
    finally:
        counted = True


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
    parts = "net", "optim", "average"
    for a, b in ((getattr(mine, part), getattr(yours, part)) for part in parts):
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
            drawn += counted
            if counted and drawn == batch:
                action()
            yield item

    monkeypatch.setattr(data, "batches", batches)


def interrupt():
    signal.raise_signal(signal.SIGINT)


# ---- what is left


def test_run_directory(runs, monkeypatch):
    for name, function in FIGURES.items():
        monkeypatch.setattr(plots, name, function)
    result = start(runs)
    assert result.run == runs / "a"
    assert sorted(os.listdir(result.run)) == [
        ".lock", "best.npz", "config.json", "confusion.png", "curves.png", "last.npz", "log.csv",
        "log.jsonl", "machine.json", "previous.npz", "report.html", "worst.png",
    ]  # fmt: skip
    assert Config.from_dict(json.loads((result.run / "config.json").read_text())) == Config(
        **CONFIG
    )
    for name in ("curves", "confusion", "worst"):
        assert (result.run / f"{name}.png").read_bytes().startswith(b"\x89PNG")
    lines = (result.run / "log.jsonl").read_text().splitlines()
    assert [json.loads(line) for line in lines] == result.rows
    assert json.loads((result.run / "machine.json").read_text())[0]["threads"] == 2
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


def test_evaluate_refuses_a_net_of_other_classes():
    _, test = tiny_run.load("shapes")
    with pytest.raises(TinyshuffleError, match=r"has 3 classes: build it with num_classes=3"):
        evaluate(tiny_run.create("any", 4, "cifar"), test)


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


@pytest.mark.parametrize("options", [{}, {"optimizer": "adam"}, EXTRAS], ids=["sgd", "adam", "all"])
@pytest.mark.parametrize("batch", [1, 3, 5, 7, 15])  # of 4 + 1 an epoch; 5 and 15 are test batches
def test_interrupted_and_resumed(runs, monkeypatch, options, batch):
    whole = start(runs, "whole", **options)
    with monkeypatch.context() as patch:
        during(patch, batch, interrupt)
        with pytest.raises(Interrupted, match=r"--resume") as stop:
            start(runs, "stopped", **options)
    assert stop.value.signum == signal.SIGINT
    saved = checkpoint.load(runs / "stopped" / "last.npz").header
    # a run's first step may compile for a minute, and is not waited for
    step = 0 if batch == 1 else min((batch - 1) % 5 + 1, 4)
    assert (saved["epoch"], saved["step"]) == ((batch - 1) // 5, step)
    result = resume(runs / "stopped", quiet=True)
    assert result.accuracy == whole.accuracy
    assert_same_end(runs / "stopped", runs / "whole")
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


def test_the_time_of_a_test_that_was_interrupted_is_kept(runs, monkeypatch):
    now = 0.0

    def late():
        nonlocal now
        now += 50
        interrupt()

    def clock():
        nonlocal now
        now += 0.001
        return now

    monkeypatch.setattr(loop, "time", SimpleNamespace(perf_counter=clock))
    with monkeypatch.context() as patch:
        during(patch, 5, late)  # the first epoch's test
        with pytest.raises(Interrupted):
            start(runs)
    saved = checkpoint.load(runs / "a" / "last.npz").header
    assert saved["step"] == 4 and 50 < saved["seconds"] < 51
    assert 50 < resume(runs / "a", quiet=True).rows[0]["seconds"] < 51


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
    options += "--ema 0.9 --mixup 0.4 --cutout 3 --sizes 4,6,8".split()
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
    try:
        return max((path.stat().st_mtime_ns for path in run.glob("*.npz")), default=0)
    except FileNotFoundError:  # it has just got its final name
        return newest(run)


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
        if calls > 9:  # config, machine, checkpoint; best, last, logs, curves; best again or last
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        fsync(descriptor)

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", full)
        with pytest.raises(TinyshuffleError, match=r"No space left.*make room.*--resume"):
            start(runs, "a")
    assert not list((runs / "a").glob(".*.tmp"))
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


# ---- smaller images, averages, budgets, early stop


def test_sizes_follow_the_epochs(runs):
    result = start(runs, epochs=5, sizes=(4, 6, 8))
    assert [row["size"] for row in result.rows] == [4, 6, 6, 8, 8]
    best = checkpoint.load(result.run / "best.npz").header
    assert best["epoch"] >= 4 and best["data"]["size"] == 8
    evaluation, _, epoch = evaluate_run(result.run)
    assert evaluation.accuracy == result.rows[epoch - 1]["test_accuracy"]


def test_a_run_of_small_images_is_tested_with_them(runs):
    result = start(runs, epochs=2, sizes=(4,))
    evaluation, _, epoch = evaluate_run(result.run)
    assert evaluation.accuracy == result.rows[epoch - 1]["test_accuracy"]
    assert evaluation.loss == pytest.approx(result.rows[epoch - 1]["test_loss"], rel=1e-5)


def test_sizes_larger_than_the_images(runs):
    with pytest.raises(TinyshuffleError, match=r"sizes=\[4, 9\] .*8 pixels a side: leave out 9"):
        start(runs, sizes=(4, 9))
    assert not runs.exists()


def test_the_average_is_what_is_tested_and_kept(runs):
    result = start(runs, ema=0.9)
    saved = checkpoint.load(result.run / "last.npz")
    mine = result.net.state_dict()
    assert all(mine[name].tobytes() == saved.average[name].tobytes() for name in mine)
    assert any(saved.net[name].tobytes() != saved.average[name].tobytes() for name in mine)
    _, test = tiny_run.load("shapes")
    with ts.backend("numpy"):
        assert evaluate(result.net, test).accuracy == result.accuracy
    # and it changes nothing in the training itself; statistics are those of what is tested
    plain = checkpoint.load(start(runs, "plain").run / "last.npz")
    weights = [name for name in mine if name.endswith(("weight", "bias"))]
    assert all(plain.net[name].tobytes() == saved.net[name].tobytes() for name in weights)
    assert not plain.average


def test_mixup_is_the_blend_of_two_losses(runs, monkeypatch):
    """A share of one leaves everything as it is; any other one does not."""
    plain = checkpoint.load(start(runs, "plain").run / "last.npz")
    different = checkpoint.load(start(runs, "mixed", mixup=1.0).run / "last.npz")
    monkeypatch.setattr(data, "mix", lambda x, labels, alpha, rng: (x, labels[::-1], 1.0))
    same = checkpoint.load(start(runs, "same", mixup=1.0).run / "last.npz")
    for name, array in plain.net.items():
        np.testing.assert_allclose(same.net[name], array, rtol=1e-5, atol=1e-7)
    assert any((different.net[name] != array).any() for name, array in plain.net.items())


def test_test_time_flip_is_the_mean_of_both(runs):
    result = start(runs)
    _, test = tiny_run.load("shapes")
    mirrored = dataclasses.replace(test, images=test.images[:, :, ::-1])
    with ts.backend("numpy"):
        net = result.net.eval()
        x, y = (data.normalise(d.images, d.mean, d.std) for d in (test, mirrored))
        mean = (net(x) + net(y)) / 2
        flipped = evaluate(net, test, flip=True)
    assert flipped.accuracy == (mean.argmax(1) == test.labels).mean()
    assert flipped.loss == pytest.approx(ts.nn.CrossEntropyLoss()(mean, test.labels), rel=1e-5)


def test_each_view_is_computed_once_and_counts_as_it_should(runs):
    """The image and its mirror image count 1, the four crops a half each."""
    net, (_, test) = start(runs).net.eval(), tiny_run.load("shapes")
    seen = []

    class Counting:
        training, train, eval = False, net.train, net.eval

        def __call__(self, x):
            seen.append(x)
            return net(x)

    with ts.backend("numpy"):
        plain = evaluate(net, test)
        found = evaluate(Counting(), test, flip=True, crops=True)
        assert len(seen) == 6
        wide = np.pad(seen[0], ((0, 0), (1, 1), (1, 1), (0, 0)), "reflect")
        views = [seen[0], wide[:, :8, :8], wide[:, 2:, 2:]]
        views += [view[:, :, ::-1] for view in views]
        for view in views:
            assert sum(np.array_equal(view, x) for x in seen) == 1
        shares = np.array([2, 1, 1, 2, 1, 1]) / 8
        logits = [net(np.ascontiguousarray(view)) for view in views]
    mean = np.tensordot(shares, logits, 1)
    loss = ts.nn.CrossEntropyLoss()(mean.astype(np.float32), test.labels)
    assert found.loss == pytest.approx(loss, rel=1e-5)
    assert found.accuracy == (mean.argmax(1) == test.labels).mean()
    assert (found.plain.loss, found.plain.accuracy) == (plain.loss, plain.accuracy)
    assert plain.plain is None


def test_choices_are_made_on_training_images_alone(runs, monkeypatch):
    """With ``validate`` no test image is loaded into a training; only ``evaluate_run`` has them."""
    train_set, test_set = tiny_run.load("shapes")
    marked = dataclasses.replace(test_set, labels=np.full(len(test_set), 2))
    monkeypatch.setattr(data, "load", lambda *arguments, **options: (train_set, marked))
    seen = []
    original = data.batches

    def batches(dataset, *arguments, **options):
        seen.append(dataset)
        return original(dataset, *arguments, **options)

    monkeypatch.setattr(data, "batches", batches)
    legends = []
    draw = plots.learning_curves
    monkeypatch.setattr(
        plots, "learning_curves", lambda rows, word: legends.append(word) or draw(rows, word)
    )
    result = start(runs, validate=20)
    assert set(legends) == {"held out"}
    assert {len(dataset) for dataset in seen} == {20, 50}
    assert marked not in seen
    assert str(result).startswith("accuracy on 20 training images held out")
    tested, _, _ = evaluate_run(result.run)
    assert tested.count.tolist() == [0, 0, 20]
    assert_same_end(resume(result.run, quiet=True).run, result.run)
    with pytest.raises(TinyshuffleError, match=r"70 of the 70 training images .* give 1 to 69"):
        start(runs, "all", validate=70)


def test_early_stop(runs, monkeypatch):
    from tinyshuffle.train import loop

    accuracies = iter([0.3, 0.5, 0.4, 0.5, 0.45, 0.9])
    original = loop.evaluate

    def fake(*arguments, **options):
        return dataclasses.replace(original(*arguments, **options), accuracy=next(accuracies))

    with monkeypatch.context() as patch:
        patch.setattr(loop, "evaluate", fake)
        result = start(runs, epochs=6, early_stop=3)
    assert len(result.rows) == 5  # the second was the best
    assert "stopped early: not better for 3 epochs" in str(result)
    assert checkpoint.load(result.run / "best.npz").header["epoch"] == 2
    again = resume(result.run, quiet=True)
    assert again.rows == result.rows and "stopped early" in str(again)
    accuracies = iter([0.3, 0.5, 0.4, 0.5, 0.45])
    with monkeypatch.context() as patch:
        patch.setattr(loop, "evaluate", fake)
        assert start(runs, "whole", epochs=5, early_stop=3).ended == ""  # nothing is left out


def test_early_stop_counts_only_the_epochs_at_the_last_size(runs, monkeypatch):
    from tinyshuffle.train import loop

    original = loop.evaluate
    monkeypatch.setattr(
        loop, "evaluate", lambda *a, **o: dataclasses.replace(original(*a, **o), accuracy=0.5)
    )
    assert len(start(runs, epochs=6, early_stop=1, sizes=(4, 8)).rows) == 5


# ---- tests of some epochs only


def are_tested(result):
    return [row["epoch"] for row in result.rows if row["test_accuracy"] is not None]


@pytest.mark.parametrize("options", [{}, EXTRAS], ids=["plain", "all"])
def test_every_few_epochs_and_the_last_one_are_tested(runs, options, capsys):
    every = start(runs, "every", epochs=5, **options)
    result = train(Config(**{**CONFIG, "epochs": 5, "test_every": 2}, **options), "some", runs)
    assert are_tested(result) == [2, 4, 5]
    lines = [json.loads(line) for line in (result.run / "log.jsonl").read_text().splitlines()]
    assert lines == result.rows
    said = [line for line in capsys.readouterr().out.splitlines() if line.startswith("epoch ")]
    for row, other, line, out in zip(log(result.run), log(every.run), lines, said, strict=True):
        tests = {name: row.pop(name) for name in ("test_loss", "test_accuracy")}
        others = {name: other.pop(name) for name in tests}
        assert row == other
        if line["test_loss"] is None:
            assert set(tests.values()) == {""} and line["test_accuracy"] is None
        else:
            assert tests == others
        assert ("test loss" in out) == (line["test_loss"] is not None) and "train loss" in out
    mine, theirs = (checkpoint.load(r.run / "last.npz") for r in (result, every))
    for part in ("net", "optim", "average"):
        a, b = getattr(mine, part), getattr(theirs, part)
        assert a.keys() == b.keys() and all(a[key].tobytes() == b[key].tobytes() for key in a)


@pytest.mark.parametrize("options", [{}, EXTRAS], ids=["plain", "all"])
def test_a_run_stopped_after_an_untested_epoch_is_as_good_as_a_tested_one(runs, options):
    """Batch norm's statistics are those of the last weights, whoever tests them later."""
    found = []
    for every in (1, 3):
        run = start(runs, f"every{every}", **{"epochs": 3, "test_every": every, **options}).run
        found.append(checkpoint.load(run / "previous.npz"))  # after the second epoch
    for part in ("net", "average"):
        a, b = (getattr(saved, part) for saved in found)
        assert a.keys() == b.keys() and all(a[key].tobytes() == b[key].tobytes() for key in a)


def test_the_best_is_one_of_those_that_are_tested(runs, monkeypatch):
    accuracies = iter([0.5, 0.7, 0.6])
    original = loop.evaluate

    def fake(*arguments, **options):
        return dataclasses.replace(original(*arguments, **options), accuracy=next(accuracies))

    monkeypatch.setattr(loop, "evaluate", fake)
    result = start(runs, epochs=5, test_every=2)
    assert checkpoint.load(result.run / "best.npz").header["epoch"] == 4
    assert result.accuracy == 0.6


@pytest.mark.parametrize("batch", [3, 4, 5, 8, 9, 10, 12, 13, 14])
def test_interrupted_between_two_tests_and_resumed(runs, monkeypatch, batch):
    """4 steps, 4 steps and a test, 4 and a test: 14 batches are drawn."""
    options = {**EXTRAS, "test_every": 2}
    start(runs, "whole", **options)
    with monkeypatch.context() as patch:
        during(patch, batch, interrupt)
        with pytest.raises(Interrupted):
            start(runs, "stopped", **options)
    assert are_tested(resume(runs / "stopped", quiet=True)) == [2, 3]
    assert_same_end(runs / "stopped", runs / "whole")


def test_early_stop_ends_with_a_test(runs, monkeypatch):
    accuracies = iter([0.5, 0.4, 0.3])
    original = loop.evaluate

    def fake(*arguments, **options):
        return dataclasses.replace(original(*arguments, **options), accuracy=next(accuracies))

    with monkeypatch.context() as patch:
        patch.setattr(loop, "evaluate", fake)
        result = start(runs, epochs=12, early_stop=3, test_every=2)
    assert are_tested(result) == [2, 4, 6] and len(result.rows) == 6
    assert "stopped early: not better for 4 epochs" in str(result)
    assert resume(result.run, quiet=True).rows == result.rows


def test_a_checkpoint_whose_last_epoch_was_not_tested_is_no_finished_run(runs, capsys):
    result = start(runs, epochs=3, test_every=2)
    for name in ("test_loss", "test_accuracy"):
        spoil(result.run, header=put("rows", 2, name, value=None))
    resume(result.run)
    assert "last.npz cannot be used, as its header's test_loss is None" in capsys.readouterr().out
    result = start(runs, "half", epochs=3, test_every=2)
    spoil(result.run, header=put("rows", 0, "test_loss", value=1.0))
    resume(result.run)
    assert "header's test_accuracy is None" in capsys.readouterr().out


class Clock:
    """Time that passes only when a batch is drawn, for a step or a test: a second each."""

    def __init__(self, monkeypatch):
        self.now = 0.0
        self.pace = 1.0
        monkeypatch.setattr(time, "perf_counter", lambda: self.now)
        original = data.batches

        def batches(*arguments, **options):
            for item in original(*arguments, **options):
                self.now += self.pace * counted
                yield item

        monkeypatch.setattr(data, "batches", batches)


OPTIONS = {}, {"sizes": (4, 6, 8), "ema": 0.9}, {"sizes": (4, 8), "test_every": 4}


@pytest.mark.parametrize("budget", [60, 61, 63, 90, 137])
@pytest.mark.parametrize("options", OPTIONS, ids=str)
def test_time_budget_is_kept_and_used(runs, monkeypatch, budget, options):
    # the highest learning rate would be too much for a fresh net, and is not used in measuring
    Clock(monkeypatch)  # eight steps and two tests of one batch for each size, then 4 + 1 an epoch
    result = start(runs, time_budget=f"{budget}s", warmup=1, **options)
    assert result.ended == ""
    # to a step an epoch, as the epochs are equal, or to an epoch
    left = max(5, len(result.rows) + 1)
    assert 0.97 * budget - left <= result.rows[-1]["seconds"] <= budget
    assert result.rows[-1]["lr"] < 0.03  # the schedule came to its end
    header = checkpoint.load(result.run / "last.npz").header
    assert header["plan"] == [len(result.rows), result.rows[0]["step"]]


def test_time_budget_stays_with_the_run(runs, monkeypatch):
    Clock(monkeypatch)
    whole = start(runs, "whole", time_budget="50s", **EXTRAS)
    with monkeypatch.context() as patch:
        during(patch, 45, interrupt)  # 30 batches are measured
        with pytest.raises(Interrupted):
            start(runs, "stopped", time_budget="50s", **EXTRAS)
    resume(runs / "stopped", quiet=True)
    assert len(whole.rows) > 2
    assert_same_end(runs / "stopped", runs / "whole")
    with pytest.raises(TinyshuffleError, match=r"--time-budget 60s contradicts .*with 50s"):
        resume(runs / "stopped", time_budget="60s", quiet=True)


def test_time_budget_shorter_than_an_epoch(runs, monkeypatch):
    Clock(monkeypatch)
    with pytest.raises(TinyshuffleError, match=r"budget of 14s is shorter than one epoch, .* 15 s"):
        start(runs, time_budget="14s")
    assert not runs.exists()
    assert len(start(runs, time_budget="16s").rows) == 1


PACES = {
    "slower": [1, 1.5, 2, 3, 4],
    "much slower from then on": [1, 1, 8],
    "faster": [1, 0.7, 0.5, 0.3],
    "to and fro": [1, 3, 0.5, 2, 1, 4, 0.25],
    "a stop": [1, 1, 12, 1],
}


@pytest.mark.parametrize("options", OPTIONS, ids=str)
@pytest.mark.parametrize("change", PACES)
def test_the_budget_is_kept_by_a_machine_whose_speed_changes(runs, monkeypatch, change, options):
    """Every twenty batches, within epochs: never over by more than 5 %, and little is left over."""
    clock = Clock(monkeypatch)
    for i, pace in enumerate(PACES[change]):
        during(monkeypatch, 40 + 20 * i, lambda pace=pace: setattr(clock, "pace", pace))
    result = start(runs, time_budget="300s", **options)
    seconds = result.rows[-1]["seconds"]
    assert 0.8 * 300 <= seconds <= 1.05 * 300
    assert result.ended == "" and result.rows[-1]["lr"] < 0.03  # the schedule came to its end
    last, every = len(result.rows), options.get("test_every", 1)
    assert are_tested(result) == sorted({*range(every, last + 1, every), last})
    if options:
        sizes = [row["size"] for row in result.rows]
        assert sizes[0] == 4 and sizes[-1] == 8
    rates = [row["lr"] for row in result.rows]
    top = rates.index(max(rates))
    assert rates[top:] == sorted(rates[top:], reverse=True)  # it never jumps back up
    steps = [row["step"] for row in result.rows]
    assert all(0 < b - a <= 4 for a, b in zip([0, *steps], steps, strict=False))


def test_a_plan_that_has_changed_is_kept_when_a_run_is_resumed(runs, monkeypatch):
    """The clock runs on by itself here: so the same batches are as slow in both."""

    def paced(patch):
        clock = Clock(patch)
        during(patch, 50, lambda: setattr(clock, "pace", 3.0))
        return clock

    with monkeypatch.context() as patch:
        paced(patch)
        whole = start(runs, "whole", time_budget="200s", **EXTRAS)
    header = checkpoint.load(whole.run / "last.npz").header
    planned_at, begun, position = header["budget"]["from"]
    assert 0 < planned_at < len(whole.rows) and begun == whole.rows[planned_at - 1]["step"]
    assert 0 < position < header["budget"]["schedule"][0] != whole.rows[-1]["step"]
    with monkeypatch.context() as patch:
        clock = paced(patch)
        during(patch, 71, interrupt)
        with pytest.raises(Interrupted):
            start(runs, "stopped", time_budget="200s", **EXTRAS)
        assert clock.pace == 3.0
        resume(runs / "stopped", quiet=True)
    assert_same_end(runs / "stopped", runs / "whole")


@pytest.mark.parametrize("every", [1, 100])
def test_a_machine_that_slows_within_an_epoch_cuts_the_run(runs, monkeypatch, every):
    clock = Clock(monkeypatch)
    during(monkeypatch, 370, lambda: setattr(clock, "pace", 4.0))
    result = start(runs, batch_size=2, time_budget="400s", test_every=every)
    assert re.search(r"cut off in epoch \d+ of \d+: the time budget is spent", str(result))
    assert 390 < result.rows[-1]["seconds"] <= 1.05 * 400
    assert resume(result.run, quiet=True).rows == result.rows
    assert are_tested(result)[-1] == len(result.rows)


@pytest.mark.parametrize("pace", [2, 3, 4, 6, 9])
def test_a_test_is_made_when_there_is_no_time_for_another_epoch(runs, monkeypatch, pace):
    """The machine becomes so slow with the last batches of an epoch that is not to be tested."""
    clock = Clock(monkeypatch)
    plan = start(runs, "plan", time_budget="100s", test_every=100)
    last = 10 + sum(plan.rows[0]["step"] for _ in plan.rows[:-1])  # 10 batches are measured
    for before in range(3):
        with monkeypatch.context() as patch:
            clock.now, clock.pace = 0.0, 1.0
            during(patch, last - before, lambda: setattr(clock, "pace", 3.0 * pace))
            result = start(runs, f"a{before}", time_budget="100s", test_every=100)
        assert are_tested(result) == [len(result.rows)]


def test_warm_up_that_does_not_fit_the_budget(runs, monkeypatch):
    Clock(monkeypatch)
    with pytest.raises(TinyshuffleError, match=r"warm-up of \d+ steps does not fit"):
        start(runs, time_budget="30s", warmup=50)


def test_time_left_counts_pixels(runs, monkeypatch):
    from tinyshuffle.train.progress import Progress

    seen = []
    monkeypatch.setattr(Progress, "step", lambda self, done, *figures: seen.append(done))
    start(runs, epochs=2, sizes=(4, 8))
    quarter, full = 1 / (4 * 5), 4 / (4 * 5)
    assert seen == pytest.approx(np.cumsum([quarter] * 4 + [full] * 4))


def test_bare_steps_are_part_of_the_whole(runs):
    for row in start(runs).rows:
        assert 0 < row["step_seconds"] < row["seconds"]


def test_machine_is_written_again_when_it_changes(runs):
    start(runs, epochs=1)
    path = runs / "a" / "machine.json"
    resume(runs / "a", quiet=True)
    assert len(json.loads(path.read_text())) == 1
    resume(runs / "a", threads=1, quiet=True)
    assert [m["threads"] for m in json.loads(path.read_text())] == [2, 1]


def test_confusion_and_worst_images():
    _, test = tiny_run.load("shapes")
    net = tiny_run.create("any", 3, "cifar")
    with ts.backend("numpy"):
        found = evaluate(net, test)
    taken = found.probabilities.argmax(1)
    for i in range(3):
        for j in range(3):
            assert found.confusion[i, j] == ((test.labels == i) & (taken == j)).sum()
    figure = FIGURES["confusion"](found.confusion, found.classes)
    shown = figure.axes[0].images[0].get_array()
    np.testing.assert_allclose(shown, 100 * found.confusion / found.count[:, None])
    figure = FIGURES["worst_images"](test, found.probabilities, count=4)
    own = found.probabilities[np.arange(20), test.labels]
    wrong = [i for i in np.argsort(own) if taken[i] != test.labels[i]][:4]
    drawn = [axes.images[0].get_array() for axes in figure.axes if axes.images]
    assert len(drawn) == len(wrong) > 0
    for picture, i in zip(drawn, wrong, strict=True):
        assert (picture == test.images[i]).all()
        assert f"{test.classes[taken[i]]} (" in figure.axes[wrong.index(i)].texts[0].get_text()


def test_a_run_that_is_cut_off_in_its_last_epoch_says_so(runs, monkeypatch):
    clock = Clock(monkeypatch)
    plan = start(runs, "plan", time_budget="100s")
    steps = plan.rows[0]["step"]
    # 10 batches are measured, and a test has one
    last = 10 + (len(plan.rows) - 1) * (steps + 1) + 1
    during(monkeypatch, last, lambda: setattr(clock, "pace", 100.0))
    result = start(runs, "cut", time_budget="100s")
    assert len(result.rows) == len(plan.rows) and result.rows[-1]["step"] < plan.rows[-1]["step"]
    assert f"cut off in epoch {len(plan.rows)} of {len(plan.rows)}" in str(result)


def test_one_training_in_a_directory(runs, monkeypatch):
    def again():
        with pytest.raises(TinyshuffleError, match="is being trained by another process"):
            resume(runs / "a", quiet=True)

    during(monkeypatch, 2, again)
    result = start(runs)
    assert resume(result.run, quiet=True).rows == result.rows  # and then it may be


def test_other_images_are_refused(runs, monkeypatch):
    result = start(runs)
    train_set, test = tiny_run.load("shapes")
    others = [dataclasses.replace(d, mean=d.mean + 0.01) for d in (train_set, test)]
    monkeypatch.setattr(data, "load", lambda *_, **__: others)
    for action in (lambda: resume(result.run, quiet=True), lambda: evaluate_run(result.run)):
        with pytest.raises(TinyshuffleError, match="was trained on other images.*--data-dir"):
            action()


def test_a_damaged_best_checkpoint_is_not_the_end(runs):
    result = start(runs)
    (result.run / "best.npz").write_bytes(b"PK")
    with pytest.warns(UserWarning, match=r"best.npz is truncated.*going on with .*last.npz"):
        _, path, _ = evaluate_run(result.run)
    assert path.name == "last.npz"


# ---- checkpoints that are whole files and cannot be used


def spoil(run, name="last.npz", **changes):
    """Write a run's checkpoint again with something changed in it: part -> function."""
    saved = checkpoint.load(run / name)
    for part, change in changes.items():
        change(getattr(saved, part))
    checkpoint.save(run / name, saved)


def put(*path, value):
    """A change that puts a value into tables in tables."""

    def change(table):
        for key in path[:-1]:
            table = table[key]
        table[path[-1]] = value

    return change


def fill(name, value):
    """A change of one element of the array whose name ends like that."""

    def change(arrays):
        (array,) = (a for key, a in arrays.items() if key.endswith(name))
        array.reshape(-1)[-1] = value

    return change


def drop(name):
    return lambda table: table.pop(name)


NET_FAULTS = {
    "a weight that is NaN": (dict(net=fill("5.weight", np.nan)), "5.weight has 1 of .* not finite"),
    "an infinite weight": (dict(net=fill("0.weight", np.inf)), "not finite"),
    "a negative variance": (dict(net=fill("running_var", -1.0)), r"running_var is negative .-1"),
    "a weight less": (dict(net=drop("0.weight")), "missing 0.weight"),
    "another shape": (dict(net=put("5.bias", value=np.zeros(4, np.float32))), r"5.bias has shape"),
    "text as weights": (dict(net=put("5.bias", value=np.array(["a"] * 3))), "5.bias holds <U1"),
    "a class more": (dict(header=put("data", "classes", value=list("abcd"))), "does not fit this"),
    "no classes": (dict(header=put("data", "classes", value=[])), "classes are"),
    "classes that are numbers": (dict(header=put("data", "classes", value=[1, 2, 3])), "not names"),
    "no config": (dict(header=drop("config")), "lacks config"),
    "an empty config": (dict(header=put("config", value={})), "lacks model"),
    "another config": (dict(header=put("config", value=[1])), "config is .1., not a table"),
    "no data": (dict(header=drop("data")), "lacks data"),
    "data of two means": (dict(header=put("data", "mean", value=[0.5, 0.5])), "mean is .* not thr"),
    "a deviation of 0": (dict(header=put("data", "std", value=[0.2, 0, 0.2])), "std is .* not thr"),
    "a huge size": (dict(header=put("data", "size", value=10**9)), "size is 1000000000"),
    "an epoch as text": (dict(header=put("epoch", value="x")), "epoch is 'x', not a whole number"),
    "an average out of place": (dict(average=lambda a: a.update(w=np.zeros(3))), "average of the"),
}
POSITION_FAULTS = {
    "a plan that never ends": (dict(header=put("plan", value=[10**9, 4])), "plan is 1000000000"),
    "a plan of text": (dict(header=put("plan", value="abc")), "plan is 'abc', not a list"),
    "epochs that never end": (dict(header=put("config", "epochs", value=10**12)), "1000000000000"),
    "a step of another type": (dict(header=put("step", value=None)), "step is None"),
    "no sums": (dict(header=put("sums", value={})), "loss is None, not a finite number"),
    "rows that are missing": (dict(header=put("rows", value=[])), "0 rows .* after 3 epochs"),
    "rows that are none": (dict(header=put("rows", value=[1, 2, 3])), "1 as a row"),
    "a row that is empty": (dict(header=put("rows", 1, value={})), "epoch is None"),
    "seconds that are no number": (dict(header=put("seconds", value=float("nan"))), "seconds is n"),
    "no random states": (dict(header=put("random_states", value={})), "random_states are not"),
    "a budget out of place": (dict(header=put("budget", value={"pace": {}})), "its run has none"),
    "a momentum that is NaN": (dict(optim=fill("5.bias", np.nan)), "5.bias has 1 of 3"),
}


@pytest.mark.parametrize("fault", NET_FAULTS)
def test_a_net_that_cannot_be_is_refused_everywhere(runs, fault):
    changes, reason = NET_FAULTS[fault]
    result = start(runs, epochs=1)
    for name in ("best.npz", "last.npz", "previous.npz"):
        spoil(result.run, name, **changes)
    for action in (
        lambda: resume(result.run, quiet=True),
        lambda: evaluate_run(result.run),
        lambda: ts.load(result.run),
        lambda: ts.load(result.run / "best.npz"),
    ):
        with pytest.raises(TinyshuffleError, match=rf"npz cannot be used, as .*{reason}"):
            action()


@pytest.mark.parametrize("fault", [*NET_FAULTS, *POSITION_FAULTS])
def test_resume_falls_back_on_previous_whatever_is_wrong_with_last(runs, fault, capsys):
    changes, reason = {**NET_FAULTS, **POSITION_FAULTS}[fault]
    result = start(runs)
    before = checkpoint.load(result.run / "last.npz")
    spoil(result.run, **changes)
    resume(result.run)
    said = capsys.readouterr().out
    assert re.search(rf"last.npz cannot be used, as .*{reason}.*; going on from .*previous", said)
    after = checkpoint.load(result.run / "last.npz")
    assert after.header["epoch"] == 3
    assert all(after.net[name].tobytes() == before.net[name].tobytes() for name in before.net)


@pytest.mark.parametrize(
    "path, value, reason",
    [
        (["pace"], {"step": {"8": 1.0}}, "no pace and plan"),
        (["pace", "step"], {"8": 0.0}, "not seconds for each size"),
        (["pace", "test"], {"9": 1.0}, "not seconds for each size"),
        (["schedule"], [0, 0], "schedule is 0, not a whole number from 1"),
        (["schedule"], [10, 10], "schedule is 10, not a whole number from 0 to 9"),
        (["from"], [99, 0, 0.0], "budget is 99"),
        (["from"], [0, 0, 1e9], "not one in its schedule"),
        (["from"], [0, 0, float("nan")], "not one in its schedule"),
    ],
)
def test_a_plan_that_cannot_be_is_not_gone_on_with(runs, monkeypatch, path, value, reason, capsys):
    Clock(monkeypatch)
    result = start(runs, time_budget="40s")
    assert len(result.rows) > 2
    spoil(result.run, header=put("budget", *path, value=value))
    assert resume(result.run).rows == result.rows
    said = capsys.readouterr().out
    assert re.search(rf"last.npz cannot be used, as .*{reason}.*; going on from .*previous", said)


def test_a_run_from_before_plans_could_change_goes_on_with_the_one_it_has(runs, monkeypatch):
    Clock(monkeypatch)
    whole = start(runs, "whole", time_budget="50s")
    during(monkeypatch, 23, interrupt)
    with pytest.raises(Interrupted):
        start(runs, "stopped", time_budget="50s")
    spoil(runs / "stopped", header=drop("budget"))
    resume(runs / "stopped", quiet=True)
    assert_same_end(runs / "stopped", whole.run)


def test_a_directory_or_nothing_in_place_of_last(runs, capsys):
    result = start(runs)
    (result.run / "last.npz").unlink()
    (result.run / "last.npz").mkdir()
    resume(result.run)
    assert "last.npz cannot be read" in capsys.readouterr().out


def test_more_steps_than_there_are_batches(runs):
    result = start(runs)
    for name in ("last.npz", "previous.npz"):
        spoil(result.run, name, header=put("plan", value=[3, 5]))
    with pytest.raises(TinyshuffleError, match=r"5 steps an epoch .* 70 images have only 4"):
        resume(result.run, quiet=True)


@pytest.mark.parametrize("content", [b"{}", b"5", b"null", b'"x"', b"\xff\xfe", b"[" * 10**5])
def test_machine_of_another_shape_is_written_anew(runs, content):
    result = start(runs)
    (result.run / "machine.json").write_bytes(content)
    resume(result.run, quiet=True)
    assert json.loads((result.run / "machine.json").read_text())[-1]["threads"] == 2


# ---- stopped before the first checkpoint


def begun(runs, name="a"):
    """What a run leaves that was killed before its first checkpoint."""
    result = start(runs, name)
    for path in result.run.iterdir():
        if path.name not in ("config.json", "machine.json", ".lock"):
            path.unlink()
    (result.run / ".next.npz.0a1b2c3d.tmp").write_bytes(b"PK")
    return result.run


def test_killed_before_the_first_checkpoint_and_resumed(runs, capsys):
    whole = start(runs, "whole")
    run = begun(runs)
    with pytest.raises(TinyshuffleError, match="--lr 0.5 contradicts"):
        resume(run, lr=0.5, quiet=True)
    resume(run)
    assert "before its first checkpoint: starting it from its configuration" in (
        capsys.readouterr().out
    )
    assert_same_end(run, whole.run)


def test_killed_before_the_first_checkpoint_and_started_again(runs, capsys):
    whole = start(runs, "whole")
    begun(runs)
    train(Config(**CONFIG), "a", runs)
    assert "before its first checkpoint: starting it anew" in capsys.readouterr().out
    assert_same_end(runs / "a", whole.run)


@pytest.mark.parametrize("content", [None, b"", b"{}", b"5", b"\xff"])
def test_killed_before_there_was_a_configuration(runs, content):
    """The message says what can be done, and that can be done."""
    run = begun(runs)
    (run / "config.json").unlink()
    if content is not None:
        (run / "config.json").write_bytes(content)
    with pytest.raises(TinyshuffleError, match="start it again with the same options and --name a"):
        resume(run, quiet=True)
    assert len(start(runs).rows) == 3


def test_what_is_no_run_is_never_used(runs):
    (runs / "a").mkdir(parents=True)
    (runs / "a" / "thesis.tex").write_text("years of work")
    with pytest.raises(TinyshuffleError, match="not a run, as it holds thesis.tex"):
        start(runs)
    assert os.listdir(runs / "a") == ["thesis.tex"]


# ---- nobody who reads


def command(runs, name, **options):
    """The command line in a process of its own."""
    arguments = "--batch-size 16 --threads 1 --backend numpy --epochs 2".split()
    return subprocess.Popen(
        [sys.executable, tiny_run.__file__, "train", *arguments, "--name", name,
         "--runs-dir", runs],
        env={**os.environ, "PYTHONPATH": str(Path(ts.__file__).parents[1])},
        **options,
    )  # fmt: skip


def assert_trained(run):
    assert checkpoint.load(run / "last.npz").header["epoch"] == 2
    assert len(log(run)) == 2 and (run / "confusion.png").exists()


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="there is no /dev/full")
def test_output_that_cannot_be_written_does_not_stop_a_training(runs):
    with open("/dev/full", "w") as full:
        process = command(runs, "full", stdout=full, stderr=subprocess.PIPE)
    gone = command(runs, "gone", stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    gone.stdout.readline()
    gone.stdout.close()  # as `| head -1` does
    for one, name in ((process, "full"), (gone, "gone")):
        assert (one.stderr.read(), one.wait()) == (b"", 0)
        one.stderr.close()
        assert_trained(runs / name)


@pytest.mark.skipif(os.name == "nt", reason="Windows has no SIGHUP")
def test_a_closed_terminal_does_not_stop_a_training(runs):
    import fcntl
    import pty
    import termios

    ours, theirs = pty.openpty()
    process = command(
        runs, "a", stdin=theirs, stdout=theirs, stderr=theirs, start_new_session=True,
        preexec_fn=lambda: fcntl.ioctl(0, termios.TIOCSCTTY, 0),
    )  # fmt: skip
    os.close(theirs)
    deadline = time.monotonic() + 60
    while not (runs / "a" / "last.npz").exists() and time.monotonic() < deadline:
        time.sleep(0.005)
    os.close(ours)  # which sends SIGHUP
    assert process.wait() == 0
    assert_trained(runs / "a")


@pytest.mark.parametrize("dtype", [np.uint8, np.int8, np.int64])
def test_a_confusion_matrix_of_many_classes_counts_every_image(dtype):
    labels = np.arange(100).astype(dtype)
    classes = tuple(map(str, labels))
    seen = Evaluation(0.0, 1.0, classes, labels, np.eye(100, dtype=np.float32))
    np.testing.assert_array_equal(seen.confusion, np.eye(100, dtype=int))
    assert seen.right.sum() == seen.count.sum() == 100


def test_an_interrupted_run_can_be_reported_to_another_process():
    """An exception that cannot be unpickled leaves a pool of processes waiting for ever."""
    error = pickle.loads(pickle.dumps(Interrupted("stopped", signal.SIGTERM)))
    assert (str(error), error.signum) == ("stopped", signal.SIGTERM)
