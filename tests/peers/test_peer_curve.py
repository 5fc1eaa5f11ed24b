"""docs/results/torch_curve.py trains what tinyshuffle trains, and its logs can be drawn."""

from __future__ import annotations

import dataclasses
import json
import runpy
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch

import tinyshuffle as ts
from tinyshuffle.errors import TinyshuffleError
from tinyshuffle.train import Config, loop, train
from tinyshuffle.train.compare import read_run, summary
from tinyshuffle.train.record import COLUMNS, write_rows

RESULTS = Path(ts.__file__).parents[1] / "docs" / "results"
CURVE = runpy.run_path(str(RESULTS / "torch_curve.py"))
DRAW = runpy.run_path(str(RESULTS / "draw_curve.py"))
PUBLISH = runpy.run_path(str(RESULTS / "publish.py"))
NET = dict(stage_channels=(8, 16, 32), conv5_channels=16, residual=True)
OPTIONS = dict(variant=NET, sizes=(8, 12), epochs=2, batch_size=64, ema=0.9, threads=1, warmup=1.5)
RUNS = {
    "sgd": dict(mixup=0.4, cutout=3),
    "all": dict(optimizer="muon", muon_lr=0.01, bias_lr=4.0, whiten=True, alternate=True),
    "adam": dict(optimizer="adam", lr=1e-3),
}


@pytest.fixture(autouse=True)
def few(monkeypatch):
    """So few images that a run takes a second."""
    parts = [ts.data.hold_out(part, n)[1] for part, n in zip(ts.data.load("shapes"), (320, 64),
             strict=True)]  # fmt: skip
    monkeypatch.setattr(ts.data, "load", lambda *arguments, **options: parts)


def ours(config, folder, monkeypatch):
    """The losses of each step and the rows of tinyshuffle's run, in float64."""
    batches, build, losses, step = ts.data.batches, loop.build_for, [], loop.Trainer._step

    def build64(*arguments):
        net = build(*arguments)
        state = net.state_dict()
        net.astype(np.float64).load_state_dict(state)
        return net

    def recording(self, *arguments):
        value, right = step(self, *arguments)
        losses.append(value)
        return value, right

    with monkeypatch.context() as patch:
        patch.setattr(loop, "build_for", build64)
        patch.setattr(loop.Trainer, "_step", recording)
        patch.setattr(
            ts.data, "batches",
            lambda *a, **o: ((x.astype(np.float64), y) for x, y in batches(*a, **o)),
        )  # fmt: skip
        result = train(config, "ours", folder, quiet=True)
    return losses, result.rows


@pytest.mark.parametrize("name", RUNS)
def test_the_twin_takes_the_same_steps(name, tmp_path, monkeypatch):
    config = Config(**{**OPTIONS, "lr": 0.01, **RUNS[name]})
    mine, rows = ours(config, tmp_path, monkeypatch)
    twin = CURVE["Twin"](config, torch.float64)
    theirs, tests, rates = [], [], []
    for epoch in range(config.epochs):
        for i, (x, labels) in enumerate(twin.batches(epoch)):
            theirs.append(twin.step(x.astype(np.float64), labels, epoch, i)[0])
            twin.follow()
        rates.append(twin.lr(twin.steps - 1))
        tests.append(twin.test(epoch))
    assert len(mine) == 10 and len(set(np.round(mine, 4))) == 10  # they move
    np.testing.assert_allclose(mine, theirs, rtol=0, atol=1e-6)
    assert [row["lr"] for row in rows] == rates
    np.testing.assert_allclose([r["test_loss"] for r in rows], [t[0] for t in tests], atol=1e-4)
    assert [row["test_accuracy"] for row in rows] == [t[1] for t in tests]


def test_its_log_is_one_of_ours_and_it_continues(tmp_path):
    config = Config(**OPTIONS)
    rows = CURVE["train"](config, tmp_path / "whole")
    assert [row["size"] for row in rows] == [8, 12]
    run = read_run(tmp_path / "whole")
    assert run.rows == rows and len(summary([run])[1]) == 1
    assert json.loads((tmp_path / "whole" / "machine.json").read_text())[0]["torch"]

    stopped = tmp_path / "stopped"
    test = CURVE["Twin"].test

    def until_the_second(self, epoch):
        if epoch == 1:
            raise KeyboardInterrupt
        return test(self, epoch)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(CURVE["Twin"], "test", until_the_second)
        with pytest.raises(KeyboardInterrupt):
            CURVE["train"](config, stopped)
    assert len(read_run(stopped).rows) == 1
    again = CURVE["train"](config, stopped)
    same = "step", "lr", "train_loss", "test_loss", "test_accuracy"
    assert [[r[k] for k in same] for r in again] == [[r[k] for k in same] for r in rows]
    with pytest.raises(TinyshuffleError, match="begun with another configuration"):
        CURVE["train"](dataclasses.replace(config, seed=1), stopped)


def test_its_clock_begins_when_images_and_net_are_there_as_ours_does(tmp_path, monkeypatch):
    now = 0.0

    class Late(CURVE["Twin"]):
        def __init__(self, config):
            nonlocal now
            super().__init__(config)
            now += 100

        def step(self, *arguments):
            nonlocal now
            now += 1
            return super().step(*arguments)

    names = CURVE["train"].__globals__
    monkeypatch.setitem(names, "Twin", Late)
    monkeypatch.setitem(names, "time", SimpleNamespace(perf_counter=lambda: now))
    with ts.backend("numpy"):
        rows = CURVE["train"](Config(**OPTIONS), tmp_path / "a")
    assert [row["seconds"] for row in rows] == [5, 10]


def test_all_machines_of_a_run_are_kept(tmp_path):
    for threads in (1, 1, 2, 2):
        CURVE["machine"](tmp_path, threads)
    machines = json.loads((tmp_path / "machine.json").read_text())
    assert [machine["threads"] for machine in machines] == [1, 2]
    assert all(machine["torch"] == torch.__version__ for machine in machines)


def test_nets_and_recipes_without_a_twin():
    for fields in (dict(model="shufflenet_v1_x0_25_g3", variant={}), dict(variant={"se": True})):
        with pytest.raises(TinyshuffleError, match="PyTorch's side is ShuffleNet V2"):
            CURVE["Twin"](Config(**{**OPTIONS, **fields}))
    with pytest.raises(TinyshuffleError, match="give a recipe with epochs"):
        CURVE["Twin"](Config(**{**OPTIONS, "time_budget": "5m"}))


MACHINE = {"processor": "one", "cores": 2, "threads": 2, "system": "any"}


def logged(folder, tests, machines=(MACHINE,), **fields):
    """A run of which only the small files are there; tests are seconds and accuracies."""
    config = Config(**{"epochs": len(tests), "threads": 2, **fields}).to_dict()
    rows = [
        dict.fromkeys(COLUMNS, 1) | {"epoch": i, "seconds": seconds, "test_accuracy": accuracy}
        for i, (seconds, accuracy) in enumerate(tests, 1)
    ]
    folder.mkdir(parents=True)
    (folder / "config.json").write_text(json.dumps(config))
    (folder / "machine.json").write_text(json.dumps(machines))
    write_rows(folder, rows, COLUMNS)
    return DRAW["read_run"](folder)


def test_the_figure_and_what_each_side_has_at_the_minute(tmp_path):
    def run(name, tests, **fields):
        return logged(tmp_path / name, tests, **fields)

    ours = [run("a", [(60, 0.5), (120, 0.8)]), run("b", [(50, 0.4), (110, 0.7)], seed=1)]
    long = [run("c", [(100, 0.4), (200, 0.9)]), run("d", [(121, 0.5), (240, 0.85)], seed=1)]
    sides = DRAW["sides_of"](ours, [*long, run("e", [(90, 0.6)])])
    assert list(sides) == ["tinyshuffle, 2 epochs", "PyTorch, 1 epoch", "PyTorch, 2 epochs"]
    first, short, second = DRAW["summary"](sides)
    assert first.startswith("tinyshuffle, 2 epochs, 2 seeds: after 2.0 min 75.00 % (80.00, 70.00)")
    assert short.startswith("PyTorch, 1 epoch, 1 seed: after 2.0 min 60.00 %")
    assert "after 2.0 min 20.00 % (40.00, 0.00); at its end, 3.7 min, 87.50 %" in second
    (axes,) = DRAW["draw"](sides).axes
    lines = axes.get_lines()
    assert [list(line.get_xdata()) for line in lines][0] == [1, 2]
    assert len({(line.get_color(), line.get_linestyle()) for line in lines}) == 3
    assert axes.get_ylabel() == "test accuracy, %"
    held = run("f", [(9, 0.5)], validate=20)
    (axes,) = DRAW["draw"](DRAW["sides_of"]([held], [held])).axes
    assert axes.get_ylabel() == "accuracy on 20 training images held out, %"


@pytest.mark.parametrize(
    ("tests", "fields", "words"),
    [
        ([(9, 0.5)], {"epochs": 4}, "is not finished, as it has 1 of 4 epochs: continue it"),
        ([(9, 0.5), (18, "")], {}, "is not finished"),
        ([(9, 0.5)], {"epochs": 4, "early_stop": 1}, "an early stop: give runs of given epochs"),
        ([(9, 0.5)], {"time_budget": "5m"}, "has a time budget or"),
        ([(9, 0.5), (18, 0.6)], {"lr": 0.2}, "differ in lr: give runs of one recipe"),
        ([(9, 0.5), (18, 0.6)], {"validate": 9}, "differ in validate"),
        ([(9, 0.5), (18, 0.6)], {"test_every": 2}, "differ in test_every"),
        ([(9, 0.5), (18, 0.6)], {"warmup": 0.2}, "differ in warmup"),
        ([(9, 0.5), (18, 0.6)], {"machines": [MACHINE | {"processor": "two"}]}, "other machines"),
        ([(9, 0.5), (18, 0.6)], {"machines": [MACHINE | {"threads": 1}]}, "other threads"),
        ([(9, 0.5), (18, 0.6)], {"machines": [MACHINE, MACHINE | {"cores": 4}]}, "names one"),
        ([(9, 0.5), (18, 0.6)], {"machines": []}, "no machine.json that names one machine"),
    ],
)
def test_what_cannot_be_drawn_beside_each_other(tmp_path, tests, fields, words):
    ours = logged(tmp_path / "ours", [(9, 0.5)], warmup=0.2)
    other = logged(tmp_path / "other", tests, **{"warmup": 0.2 * len(tests), **fields})
    with pytest.raises(TinyshuffleError, match=words):
        DRAW["sides_of"]([ours], [other])
    with pytest.raises(TinyshuffleError, match=words):
        DRAW["sides_of"]([ours, other], [ours])


def test_seeds_are_those_of_ours(tmp_path):
    ours = [logged(tmp_path / f"a{seed}", [(9, 0.5)], seed=seed) for seed in range(2)]
    two = logged(tmp_path / "b", [(9, 0.5)], seed=2)
    with pytest.raises(TinyshuffleError, match="PyTorch has runs of seed 2, which tinyshuffle has"):
        DRAW["sides_of"](ours, [ours[0], two])
    assert len(DRAW["sides_of"]([*ours, two], [ours[0]])) == 2  # one may have fewer


def test_runs_of_ours_are_of_one_length(tmp_path):
    one = logged(tmp_path / "a", [(9, 0.5)], warmup=0.2, test_every=1)
    two = logged(tmp_path / "b", [(9, 0.5), (18, 0.6)], warmup=0.4)
    assert list(DRAW["sides_of"]([one], [two])) == ["tinyshuffle, 1 epoch", "PyTorch, 2 epochs"]
    with pytest.raises(TinyshuffleError, match="tinyshuffle's runs have several numbers of epochs"):
        DRAW["sides_of"]([one, two], [one])


def test_a_curve_becomes_a_result(tmp_path):
    runs = [
        logged(tmp_path / name, [(seconds, 0.5)])
        for name, seconds in (("ours", 60), ("torch", 170))
    ]
    for run in runs:
        text = json.dumps({**run.config, "data_dir": "/somewhere"})
        (run.folder / "config.json").write_text(text)
    sides = DRAW["sides_of"](runs[:1], runs[1:])
    results = tmp_path / "results"
    DRAW["write"]("both", sides, results)
    assert sorted(path.name for path in (results / "both").iterdir()) == [
        "curve.md", "curve.png", *(
            f"{side}-1-epochs-{file}"
            for side in ("pytorch", "tinyshuffle")
            for file in ("config.json", "seed0-machine.json", "seed0.csv")
        ),
    ]  # fmt: skip
    for path in (results / "both").glob("*.json"):
        assert "/somewhere" not in path.read_text()
    (results / "published.csv").write_bytes((RESULTS / "published.csv").read_bytes())
    text = PUBLISH["page"](results)
    assert "- PyTorch, 1 epoch, 1 seed: after 1.0 min 0.00 %" in text
    assert "](both/curve.png)" in text
    with pytest.raises(TinyshuffleError, match="exists already"):
        DRAW["write"]("both", sides, results)
    with pytest.raises(TinyshuffleError, match="PyTorch, 1 epoch: two runs have the same seed"):
        DRAW["write"]("twice", DRAW["sides_of"](runs[:1], [runs[1], runs[1]]), results)
    longer = [logged(tmp_path / f"{n}", [(i, 0.5) for i in range(n)]) for n in (1, 2, 3)]
    with pytest.raises(TinyshuffleError, match="3 numbers of epochs: give runs of 2 at most"):
        DRAW["sides_of"](runs[:1], longer)
