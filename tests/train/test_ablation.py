"""Ablations: equal costs, a plain verdict, and that a second start only does what is missing."""

from __future__ import annotations

import dataclasses
import json
import math
import os
import signal
import statistics
import subprocess
import sys

import numpy as np
import pytest
from click.testing import CliRunner
from joblib import parallel_config
from train import tiny_run

import tinyshuffle as ts
from tinyshuffle import cost, data, models, plots
from tinyshuffle.cli import cli
from tinyshuffle.errors import TinyshuffleError
from tinyshuffle.train.ablation import ABLATIONS, Ablation, Arm, Report, Solved, ablate, solve
from tinyshuffle.train.ablation import run as trainings
from tinyshuffle.train.ablation import widths as solving
from tinyshuffle.train.config import Config
from tinyshuffle.train.trainings import train_all

CONFIG = Config(epochs=2, batch_size=35, threads=1, backend="numpy", lr=0.01)
QUICK = Config(epochs=1, batch_size=500, threads=2, sizes=(8,))  # of the built-in images


SOLVED = {}


def keep(arm, *arguments):
    SOLVED[arm.name] = solve(arm, *arguments)
    return SOLVED[arm.name]


@pytest.fixture
def here(monkeypatch):
    """Small data, widths solved for once, and all trainings in this process."""
    monkeypatch.setattr(data, "load", tiny_run.load)
    monkeypatch.setattr(trainings, "solve", lambda arm, *a: SOLVED.get(arm.name) or keep(arm, *a))
    with parallel_config(backend="sequential"):
        yield


# ---- the nets


@pytest.mark.parametrize("name", [name for name in ABLATIONS if ABLATIONS[name].budget])
def test_arms_cost_the_same(name):
    ablation = ABLATIONS[name]
    (reference,) = (arm for arm in ablation.arms if arm.name == ablation.budget)
    budget = solving.count(reference, ablation.smallest, 32, 10).multiply_adds
    for arm in ablation.arms:
        solved = solve(arm, budget, 32, 10)
        # multipliers have steps; and where widths are not solved for, a gate is added
        coarse = arm.multiplier or not arm.multiple
        assert abs(solved.multiply_adds / budget - 1) < (0.05 if coarse else 0.03), arm.name
        # and that is what the net costs which is trained
        net = models.create(arm.model, num_classes=10, stem="cifar", **solved.variant)
        total = cost.profile(net, (1, 32, 32, 3)).total
        assert (total.multiply_adds, total.params) == (solved.multiply_adds, solved.params)
        if arm.multiple:
            second, third, fourth = solved.variant["stage_channels"]
            assert fourth / second == pytest.approx(4, rel=0.25)
            assert all(c % arm.multiple == 0 for c in (second, third, fourth))


def test_no_widths_come_near_the_budget():
    arm = Arm("coarse", "shufflenet_v1_x0_25_g8", {"stem_channels": 24}, 32)
    with pytest.raises(TinyshuffleError, match=r"no widths of coarse .*another --budget"):
        solve(arm, 500_000, 32, 10)
    with pytest.raises(TinyshuffleError, match=r"V2 has .* whatever the --budget.*leave .* out"):
        solve(ABLATIONS["v1-v2"].arms[0], 40_000_000, 32, 10)


def test_published_figures_are_the_papers():
    """V1 Tables 2, 3 and 4 at their smallest, V2 Table 8 at 0.5x."""
    found = {n: {a.name: a.published for a in ab.arms} for n, ab in ABLATIONS.items()}
    assert found == {
        "shuffle": {"g=3, shuffle": 55.0, "g=3, none": 56.3,
                    "g=8, shuffle": 52.7, "g=8, none": 56.5},
        "groups": {"g=1": 57.1, "g=2": 56.8, "g=3": 55.0, "g=4": 54.2, "g=8": 52.7},
        "units": {"VGG-like": None, "ResNet": 63.7, "Xception-like": 57.1, "ResNeXt": 65.2,
                  "ShuffleNet": 52.7},
        "v1-v2": {"V2": 39.7, "V1, g=3": 43.2},
        "nets": {"V2": 39.7, "V1, g=3": 43.2, "Xception-like": 44.9, "MobileNet V1": 49.4,
                 "MobileNet V2": 55.1},
        "se": {"V1, SE": 24.7, "V1": 26.3, "V2, SE": 24.6, "V2": 25.1},
        "shallow": {"g=4": 41.6, "g=3": 43.2, "g=3, shallow": 42.8},
        "thin": {"thin": 31.6, "shallow": 34.7},
        "residual": dict.fromkeys(
            ["16 units", "16 units, residual", "32 units", "32 units, residual"]
        ),
        "downsample": dict.fromkeys(["authors'", "torchvision's"]),
        "activation": dict.fromkeys(["ReLU", "tanh"]),
        "pooling": dict.fromkeys(["3x3, overlapping", "2x2"]),
        "aux": dict.fromkeys(["auxiliary", "none"]),
        "degradation": dict.fromkeys(["plain 20", "residual 20", "plain 56", "residual 56"]),
    }  # fmt: skip
    for ablation in ABLATIONS.values():
        errors = {arm.name: arm.published for arm in ablation.arms}
        for better, worse in ablation.order:
            assert errors[worse] is None or errors[better] < errors[worse]


@pytest.mark.parametrize(
    "name, variant",
    [
        ("shufflenet_v1_x0_25_g8", {"stage_channels": [96, 192]}),
        ("shufflenet_v1_x0_25_g8", {"stage_channels": [100, 200, 400]}),
        ("shufflenet_v1_x0_25_g8", {"stage_channels": [96, 96, 192]}),
        ("shufflenet_v1_x0_25_g8", {"stage_channels": [96, 192, 384], "stem_channels": 12}),
        ("shufflenet_v1_x0_25_g8", {"stage_channels": [96, 192, 384], "stem_channels": 96}),
        ("resnet_like_13m", {"stage_channels": [6, 12, 24]}),
        ("vgg_like_13m", {"stage_channels": [0, 1, 2]}),
        ("vgg_like_13m", {"stage_channels": [6, 12]}),
    ],
)
def test_widths_that_do_not_suit(name, variant):
    with pytest.raises(TinyshuffleError, match=r"do not suit .*: give three"):
        models.create(name, **variant)


@pytest.mark.parametrize("name", ["shufflenet_v1_x0_25_g3", "vgg_like_13m", "resnext_like_13m"])
def test_given_widths_of_the_paper_change_nothing(name):
    plain = models.create(name, num_classes=10, stem="cifar")
    widths = {
        "shufflenet_v1_x0_25_g3": ([60, 120, 240], 12),
        "vgg_like_13m": ([6, 13, 26], 12),
        "resnext_like_13m": ([24, 48, 96], 12),
    }[name]
    given = models.create(
        name, num_classes=10, stem="cifar", stage_channels=widths[0], stem_channels=widths[1]
    )
    assert {p.name: p.shape for p in given.parameters()} == {
        p.name: p.shape for p in plain.parameters()
    }


# ---- the runs


def test_ablate_leaves_runs_and_a_report(here, tmp_path):
    report = ablate("v1-v2", CONFIG, seeds=2, runs_dir=tmp_path, quiet=True)
    folder = tmp_path / "ablate-v1-v2"
    assert sorted(name for name in os.listdir(folder) if not name.startswith(".")) == [
        "config.json", "report.csv", "report.md", "report.png",
        "v1-g-3-seed0", "v1-g-3-seed1", "v2-seed0", "v2-seed1",
    ]  # fmt: skip
    for arm, slug in (("V2", "v2"), ("V1, g=3", "v1-g-3")):
        for seed in (0, 1):
            run = folder / f"{slug}-seed{seed}"
            rows = [json.loads(line) for line in (run / "log.jsonl").read_text().splitlines()]
            assert len(rows) == 2 and rows[-1]["test_accuracy"] == report.accuracies[arm][seed]
            config = json.loads((run / "config.json").read_text())
            assert config["seed"] == seed and config["batch_size"] == 35
    trained = ts.load(folder / "v1-g-3-seed1")
    solved = {s.arm.name: s for s in report.arms}["V1, g=3"]
    assert sum(p.data.size for p in trained.net.parameters()) == solved.params
    text = (folder / "report.md").read_text()
    measured, published = text.split("Published, not measured here")
    assert report.verdict in measured and "43.2 %" not in measured and "43.2 %" in published
    lines = (folder / "report.csv").read_text().splitlines()
    assert len(lines) == 5 and lines[0].endswith("seed,test_accuracy")
    assert (folder / "report.png").read_bytes().startswith(b"\x89PNG")


def test_begun_again_it_does_what_is_missing(here, tmp_path, monkeypatch):
    whole = ablate("v1-v2", CONFIG, seeds=2, runs_dir=tmp_path / "whole", quiet=True)
    original, drawn = data.batches, 0

    def batches(*arguments, **options):
        nonlocal drawn
        for item in original(*arguments, **options):
            drawn += 1
            # in the second epoch of the second training: each draws 2 (2 + 2 + 1), for the steps,
            # batch norm's statistics and the test
            if drawn == 16:
                signal.raise_signal(signal.SIGINT)
            yield item

    monkeypatch.setattr(data, "batches", batches)
    with pytest.raises(KeyboardInterrupt):
        ablate("v1-v2", CONFIG, seeds=2, runs_dir=tmp_path / "stopped", quiet=True)
    assert drawn == 16  # the third is not begun
    (tmp_path / "stopped" / "ablate-v1-v2" / "v2-seed1").mkdir()  # killed at once
    drawn = 100
    report = ablate("v1-v2", CONFIG, seeds=2, runs_dir=tmp_path / "stopped", quiet=True)
    assert report.accuracies == whole.accuracies
    drawn = 100
    ablate("v1-v2", CONFIG, seeds=3, runs_dir=tmp_path / "stopped", quiet=True)
    assert drawn == 100 + 2 * 10  # the third seed of both


def test_runs_of_another_ablation_are_left_alone(here, tmp_path):
    ablate("v1-v2", CONFIG, seeds=1, runs_dir=tmp_path, quiet=True)
    folder = tmp_path / "ablate-v1-v2"
    before = {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}
    other = dataclasses.replace(CONFIG, lr=0.5)
    with pytest.raises(TinyshuffleError, match=r"belongs to another ablation .lr is 0.01, not 0.5"):
        ablate("v1-v2", other, seeds=1, runs_dir=tmp_path, quiet=True)
    assert before == {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_finished_runs_need_no_checkpoint(here, tmp_path, monkeypatch):
    before = ablate("v1-v2", CONFIG, seeds=1, runs_dir=tmp_path, quiet=True)
    run = tmp_path / "ablate-v1-v2" / "v2-seed0"
    for path in run.glob("*.npz"):
        path.unlink()
    monkeypatch.setattr(data, "batches", None)
    assert ablate("v1-v2", CONFIG, seeds=1, runs_dir=tmp_path, quiet=True).accuracies == (
        before.accuracies
    )
    log = run / "log.jsonl"
    log.write_text(log.read_text().splitlines()[0] + "\n")
    with pytest.raises(TinyshuffleError, match=r"v2-seed0 has a log and no checkpoint"):
        ablate("v1-v2", CONFIG, seeds=1, runs_dir=tmp_path, quiet=True)
    assert log.exists()


def test_a_log_that_could_not_be_written(here, tmp_path, monkeypatch):
    from tinyshuffle.train import loop

    monkeypatch.setattr(loop.Trainer, "write_log", lambda trainer: None)
    with pytest.raises(TinyshuffleError, match=r"log.jsonl is not complete"):
        ablate("v1-v2", CONFIG, seeds=1, runs_dir=tmp_path, quiet=True)
    monkeypatch.undo()
    monkeypatch.setattr(data, "load", tiny_run.load)
    with parallel_config(backend="sequential"):
        ablate("v1-v2", CONFIG, seeds=1, runs_dir=tmp_path, quiet=True)  # resuming writes it


def test_sigterm_reaches_what_runs_in_the_pool(tmp_path, monkeypatch):
    def pool(**options):
        return lambda calls: map(signal.raise_signal, [signal.SIGTERM])

    monkeypatch.setattr("joblib.Parallel", pool)
    before = signal.getsignal(signal.SIGTERM)
    with pytest.raises(KeyboardInterrupt, match="the same command continues"):
        train_all([], 2, True)
    assert signal.getsignal(signal.SIGTERM) is before


def test_failures_are_sentences(here, tmp_path):
    with pytest.raises(TinyshuffleError, match=r"learning rate .*\(\d of 2 runs\)"):
        hot = dataclasses.replace(CONFIG, lr=1e30, schedule="constant", epochs=5)
        ablate("v1-v2", hot, seeds=1, runs_dir=tmp_path, quiet=True)
    with pytest.raises(TinyshuffleError, match=r"no ablation 'suffle'"):
        ablate("suffle", CONFIG)
    for option in ("seeds", "jobs", "budget"):
        with pytest.raises(TinyshuffleError, match=rf"--{option} 0 was given"):
            ablate("shuffle", CONFIG, **{option: 0})
        with pytest.raises(TinyshuffleError, match=rf"--{option} 9{{20}} was given: .* at most"):
            ablate("shuffle", CONFIG, **{option: int("9" * 20)})
    with pytest.raises(TinyshuffleError, match=r"give --epochs"):
        ablate("shuffle", dataclasses.replace(CONFIG, time_budget="5m"))
    with pytest.raises(TinyshuffleError, match=r"without early_stop"):
        ablate("shuffle", dataclasses.replace(CONFIG, early_stop=3))
    with pytest.raises(TinyshuffleError, match=r"stem=imagenet was given"):
        ablate("shuffle", dataclasses.replace(CONFIG, stem="imagenet"))


def test_what_one_of_the_nets_cannot_be_trained_with_none_is(here, tmp_path):
    with pytest.raises(TinyshuffleError, match=r"resnet20 has no pointwise convolution"):
        muon = dataclasses.replace(CONFIG, optimizer="muon")
        ablate("degradation", muon, seeds=1, runs_dir=tmp_path, quiet=True)
    assert not list(tmp_path.iterdir())


def test_multiply_adds_are_those_at_the_size_that_a_run_ends_with(here, tmp_path, monkeypatch):
    sides = []

    def solved(arm, budget, side, classes):
        sides.append(side)
        return solving.count(arm, (60, 120, 240) if arm.multiple else (), side, classes)

    monkeypatch.setattr(trainings, "solve", solved)
    config = dataclasses.replace(CONFIG, sizes=(4, 6), validate=9)
    drawn = []
    draw = plots.ablation
    monkeypatch.setattr(plots, "ablation", lambda *a: drawn.append(a[3]) or draw(*a))
    report = ablate("v1-v2", config, seeds=1, runs_dir=tmp_path, quiet=True)
    assert sides == [6, 6] and drawn == ["accuracy on 9 training images held out"]
    net = models.create("shufflenet_v2_x0_5", num_classes=3, stem="cifar")
    assert report.arms[0].multiply_adds == cost.profile(net, (1, 6, 6, 3)).total.multiply_adds
    common = json.loads((tmp_path / "ablate-v1-v2" / "config.json").read_text())
    assert common["sizes"] == [4, 6] and not {"model", "variant", "seed"} & common.keys()


@pytest.mark.slow
def test_in_a_process_pool(tmp_path):
    result = CliRunner().invoke(cli, [
        "ablate", "v1-v2", "--seeds", "1", "--jobs", "2", "--runs-dir", str(tmp_path),
        "--recipe", recipe(tmp_path),
    ])  # fmt: skip
    assert result.exit_code == 0, result.output
    assert "2 trainings, 0 done before" in result.stdout
    assert "is not settled" in result.stdout  # one seed tells nothing of the spread
    config = json.loads((tmp_path / "ablate-v1-v2" / "v2-seed0" / "config.json").read_text())
    assert config["threads"] == 1  # two trainings share two threads


def recipe(folder):
    path = folder / "quick.toml"
    path.write_text(QUICK.to_toml())
    return str(path)


@pytest.mark.slow
def test_on_a_dask_cluster(tmp_path):
    distributed = pytest.importorskip("distributed")
    with distributed.LocalCluster(
        n_workers=2, threads_per_worker=1, dashboard_address=None, local_directory=str(tmp_path)
    ) as cluster:
        result = CliRunner().invoke(cli, [
            "ablate", "v1-v2", "--seeds", "1", "--runs-dir", str(tmp_path / "runs"),
            "--recipe", recipe(tmp_path), "--dask", cluster.scheduler_address,
        ])  # fmt: skip
        assert result.exit_code == 0, result.output
        with cluster.get_client() as client:
            log = client.get_worker_logs()
        assert len(log) == 2
    for run in ("v2", "v1-g-3"):
        path = tmp_path / "runs" / "ablate-v1-v2" / f"{run}-seed0" / "machine.json"
        assert json.loads(path.read_text())[0]["threads"] == 1


def test_without_a_dask_cluster():
    pytest.importorskip("distributed")
    arguments = ["ablate", "shuffle", "--dask", "nowhere://"]
    result = CliRunner().invoke(cli, arguments)
    assert result.exit_code == 1 and "no Dask scheduler at nowhere://" in result.stderr


@pytest.mark.slow
def test_on_a_ray_cluster(tmp_path):
    ray = pytest.importorskip("ray")
    context = ray.init(num_cpus=2, include_dashboard=False, logging_level="error")
    address = context.address_info["gcs_address"]
    try:
        code = [sys.executable, "-m", "tinyshuffle", "ablate", "v1-v2", "--seeds", "1"]
        options = ["--runs-dir", str(tmp_path / "runs"), "--recipe", recipe(tmp_path)]
        done = subprocess.run(
            [*code, *options, "--ray", address], capture_output=True, text=True, timeout=600
        )
    finally:
        ray.shutdown()
    assert done.returncode == 0, done.stderr
    assert "2 trainings, 0 done before" in done.stdout
    for run in ("v2", "v1-g-3"):
        path = tmp_path / "runs" / "ablate-v1-v2" / f"{run}-seed0"
        assert json.loads((path / "machine.json").read_text())[0]["threads"] == 1


def test_two_clusters_at_once_and_none(monkeypatch):
    both = CliRunner().invoke(cli, ["ablate", "shuffle", "--dask", "a:1", "--ray", "auto"])
    assert both.exit_code == 1 and "--dask and --ray are two clusters" in both.stderr
    monkeypatch.setattr("tinyshuffle.cli.sweep.installed", lambda name: False)
    none = CliRunner().invoke(cli, ["ablate", "shuffle", "--ray", "auto"])
    assert none.exit_code == 1 and "pip install ray" in none.stderr


def test_help_names_all():
    text = CliRunner().invoke(cli, ["ablate", "--help"]).stdout
    named = text.partition("NAME is one of ")[2].partition(".")[0]
    assert named.replace(",", " ").split() == list(ABLATIONS)


# ---- the verdict


def report(**accuracies):
    arms = tuple(Arm(name, "any", {}) for name in accuracies)
    order = (("a", "b"), ("a", "c")) if "c" in accuracies else (("a", "b"),)
    ablation = Ablation("Better?", "somewhere", arms, order, "a")
    return Report(ablation, CONFIG, [Solved(arm, {}, 1, 1) for arm in arms], accuracies)


def test_verdicts():
    a, b = [0.70, 0.71, 0.72], [0.60, 0.61, 0.64]
    (verdict,) = report(a=a, b=b).verdicts
    # by seed: 0.10, 0.10, 0.08
    assert verdict.found.difference == pytest.approx(0.28 / 3)
    assert verdict.found.error == pytest.approx(statistics.stdev([0.10, 0.10, 0.08]) / 3**0.5)
    assert verdict.found.word == "holds"
    assert str(verdict).startswith("a better than b: holds (by +9.33 points, standard error")
    # differences with a standard error of 0.01 / √3, and t of 4.30
    for mean, word in ((0.0247, "is not settled"), (0.0249, "holds")):
        other = [x - mean - d for x, d in zip(a, (-0.01, 0, 0.01), strict=True)]
        assert report(a=a, b=other).verdicts[0].found.word == word
    assert report(a=a, b=b).verdict == "The paper's order holds here."
    assert report(a=b, b=a).verdict == "The paper's order does not hold here."
    near = [0.69, 0.70, 0.73]
    assert report(a=a, b=near).verdict == "The paper's order is not settled by these runs."
    assert report(a=a, b=b, c=near).verdict == "The paper's order is not settled by these runs."
    assert report(a=b, b=a, c=near).verdict == "The paper's order does not hold here."
    assert report(a=[0.9], b=[0.1]).verdicts[0].found.word == "is not settled"


def test_what_the_paper_prints_no_figure_of_is_said_so():
    found = report(a=[0.7], b=[0.6])
    assert "for the order only: it prints no number of these nets." in found.published


@pytest.mark.parametrize("name", ["residual", "downsample"])
def test_an_order_that_no_paper_has_is_not_said_to_be_its(name):
    ablation = ABLATIONS[name]
    (better, worse), *_ = ablation.order
    accuracies = {arm.name: [0.5, 0.5, 0.5] for arm in ablation.arms}
    accuracies |= {better: [0.7, 0.71, 0.72], worse: [0.6, 0.61, 0.63]}
    arms = [Solved(arm, {"stage_channels": [2, 4, 8]}, 1, 1) for arm in ablation.arms]
    found = Report(ablation, CONFIG, arms, accuracies)
    assert found.verdict == "The supposed order holds here."
    assert found.published.endswith("prints no number of these nets, and no order of them.")


def test_nets_that_are_compared_as_they_are_take_no_budget(here, tmp_path):
    with pytest.raises(TinyshuffleError, match="the nets of degradation are as they are"):
        ablate("degradation", CONFIG, budget=10**7, runs_dir=tmp_path)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(trainings, "train_all", lambda runs, *_: {"x": "enough"})
        patch.setattr(trainings, "check_same", lambda *_: None)
        with pytest.raises(TinyshuffleError, match="enough"):
            ablate("degradation", CONFIG, runs_dir=tmp_path, quiet=True)


def test_table_and_figure():
    found = report(a=[0.70, 0.72], b=[0.60, 0.61])
    headings, lines = found.table()
    line = dict(zip(headings, lines[0], strict=True))
    assert line["accuracy"] == "71.00 %" and line["std"] == "1.41" and line["seeds"] == "2"
    assert (line["lowest"], line["highest"]) == ("70.00", "72.00")
    figure = plots.ablation(found.ablation.title, found.accuracies, found.config.data)
    points = [line.get_xdata() for line in figure.axes[0].get_lines()]
    assert [list(p) for p in points] == [[70, 72], [71], [60, 61], [60.5]]
    first, _ = (bar.get_segments()[0] for bar in figure.axes[0].collections)
    half = 100 * statistics.stdev([0.70, 0.72]) / math.sqrt(2)
    np.testing.assert_allclose(first, [[71 - half, 0], [71 + half, 0]])
