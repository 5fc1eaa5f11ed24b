"""The command line: what it prints, its exit codes, and one sentence for every mistake."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner

from tinyshuffle import data, models, nn
from tinyshuffle.cli import cli
from tinyshuffle.train import checkpoint

ROOT = Path(data.__file__).parents[2]


def load(name, root=None, download=True):
    """Twenty images of 8x8 pixels in two classes, so that a real net trains in a second."""
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (20, 8, 8, 3)).astype(np.uint8)
    labels = rng.integers(0, 2, 20)
    statistics = np.full(3, 0.5, np.float32), np.full(3, 0.25, np.float32)

    def part(chosen):
        return data.Dataset(name, images[chosen], labels[chosen], ("cat", "dog"), *statistics)

    return part(slice(0, 16)), part(slice(16, 20))


@pytest.fixture
def tiny(monkeypatch, tmp_path):
    monkeypatch.setattr(data, "load", load)
    monkeypatch.chdir(tmp_path)


def run(*arguments, code=0):
    result = CliRunner().invoke(cli, [str(a) for a in arguments])
    assert result.exit_code == code, result.output
    assert "Traceback" not in result.output
    return result.output


def refused(*arguments, code=1):
    """The error: one sentence, on the error stream."""
    result = CliRunner().invoke(cli, [str(a) for a in arguments])
    assert result.exit_code == code, result.output
    assert result.stdout == "" and "Traceback" not in result.stderr
    sentence = result.stderr.rsplit("Error: ", 1)[1]
    assert "\n" not in sentence.rstrip("\n")
    return sentence


SMALL = ("--model", "shufflenet_v1_x0_25_g1", "--batch-size", 8, "--backend", "numpy")


def test_train_eval_resume(tiny):
    out = run("train", *SMALL, "--epochs", 2, "--name", "a")
    assert "shufflenet_v1_x0_25_g1 on shapes: 16 training and 4 test images" in out
    assert re.search(r"^epoch 1/2  train loss \d", out, re.M)
    last = out.strip().splitlines()[-1]
    assert re.fullmatch(r"test accuracy [\d.]+ % after 2 epochs in \d+ s; runs.a", last)

    tested = run("eval", "a")
    assert "cat" in tested and "dog" in tested
    assert run("eval", os.path.join("runs", "a"), "--threads", 1) == tested
    assert re.search(r"test accuracy [\d.]+ %, loss [\d.]+, 4 images; runs.a.best.npz", tested)
    assert run("train", "--resume", "a").strip().splitlines()[-1] == last
    assert run("train", "--resume", "a", "--epochs", 2).strip().splitlines()[-1] == last


def test_resume_contradicted(tiny):
    run("train", *SMALL, "--epochs", 1, "--name", "a")
    assert "--lr 0.7 contradicts" in refused("train", "--resume", "a", "--lr", 0.7)
    assert "--name b contradicts" in refused("train", "--resume", "a", "--name", "b")


def test_unknown_names_offer_the_nearest(tiny):
    assert "shufflenet_v2_x0_5" in refused("train", "--model", "shufflenet_v2_x05")
    assert "--epochs" in refused("train", "--epoch", 3, code=2)
    assert "'train'" in refused("trian", code=2)
    assert "conv2d" in refused("gradcheck", "conv2")
    assert "shufflenet_v2_x0_5" in refused("models", "shufflenet_v2_x05")
    run("train", *SMALL, "--epochs", 1, "--name", "first")
    assert f"did you mean {os.path.join('runs', 'first')}?" in refused("eval", "frist")
    assert os.listdir("runs") == ["first"]


def test_unknown_data_set(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert "cifar10" in refused("train", "--data", "cifar1")
    assert not os.listdir(tmp_path)


@pytest.mark.parametrize(
    "option, value, word",
    [
        ("--epochs", 0, "epochs=0"),
        ("--batch-size", 0, "batch_size=0"),
        ("--lr", "nan", "lr=nan"),
        ("--warmup", 99, "warmup=99"),
        ("--optimizer", "sdg", "sgd or adam"),
        ("--schedule", "cosin", "did you mean cosine"),
        ("--backend", "cuda", "numba or numpy"),
        ("--threads", 0, "threads=0"),
        ("--seed", -1, "seed=-1"),
        ("--name", "../x", "name of a directory"),
    ],
)
def test_impossible_options(tiny, option, value, word):
    assert word in refused("train", *SMALL, option, value)
    assert not os.listdir()


def test_options_that_are_not_numbers(tiny):
    assert "'--epochs'" in refused("train", "--epochs", "many", code=2)


def test_existing_run(tiny):
    run("train", *SMALL, "--epochs", 1, "--name", "a")
    result = CliRunner().invoke(cli, ["train", "--name", "a"])
    assert result.exit_code == 1 and "exists already: continue it with --resume" in result.stderr


def test_damaged_foreign_and_newer_checkpoints(tiny, monkeypatch):
    os.makedirs("runs/empty")
    assert "no checkpoint to go on from" in refused("train", "--resume", "empty")
    assert "no checkpoint to go on from" in refused("eval", "empty")
    for name, content in (("cut", b"PK\x03\x04"), ("foreign", b"not a checkpoint")):
        os.makedirs(f"runs/{name}")
        with open(f"runs/{name}/last.npz", "wb") as file:
            file.write(content)
        assert "truncated, damaged or not a" in refused("train", "--resume", name)
        assert "truncated, damaged or not a" in refused("eval", name)
    run("train", *SMALL, "--epochs", 1, "--name", "new")
    with monkeypatch.context() as patch:
        patch.setattr(checkpoint, "VERSION", 99)
        checkpoint.save("runs/new/last.npz", checkpoint.load("runs/new/last.npz"))
        checkpoint.save("runs/new/best.npz", checkpoint.load("runs/new/last.npz"))
    assert "newer tinyshuffle" in refused("train", "--resume", "new")
    assert "newer tinyshuffle" in refused("eval", "new")


def test_nan_loss(tiny, monkeypatch):
    monkeypatch.setattr("tinyshuffle.nn.CrossEntropyLoss.__call__", lambda *a: float("nan"))
    result = CliRunner().invoke(cli, [str(a) for a in ("train", *SMALL, "--name", "a")])
    assert result.exit_code == 1
    assert result.stderr.startswith("Error: the loss became nan at step 1 of ")


def test_operating_system_errors_are_sentences(tiny, monkeypatch):
    def broken(*arguments, **options):
        raise PermissionError(13, "Permission denied", "some/file")

    monkeypatch.setattr(data, "load", broken)
    assert "some/file: Permission denied" in refused("train", *SMALL)


def test_interrupt_exits_130(tiny, monkeypatch):
    def interrupted(*arguments, **options):
        raise KeyboardInterrupt

    monkeypatch.setattr(data, "load", interrupted)
    result = CliRunner().invoke(cli, [str(a) for a in ("train", *SMALL)])
    assert result.exit_code == 130 and result.stderr == "stopped\n"


def test_interrupt_while_training_says_how_to_continue(tiny, monkeypatch):
    import signal

    original = data.batches

    def batches(*arguments, **options):
        for i, batch in enumerate(original(*arguments, **options)):
            if i == 1:
                signal.raise_signal(signal.SIGINT)
            yield batch

    monkeypatch.setattr(data, "batches", batches)
    result = CliRunner().invoke(cli, [str(a) for a in ("train", *SMALL, "--name", "a")])
    assert result.exit_code == 130
    assert f"train --resume {os.path.join('runs', 'a')}" in result.stderr
    monkeypatch.undo()


def test_models():
    out = run("models")
    assert all(name in out for name in models.list_models())
    row = next(line for line in run("models", "v2_x1_0").splitlines() if "v2_x1_0" in line)
    assert row.split() == ["shufflenet_v2_x1_0", "1,263,854", "2,278,604"]


def test_gradcheck_passes_and_fails(monkeypatch):
    assert "passed" in run("gradcheck", "relu", "linear")
    from tinyshuffle.nn import Linear

    backward = Linear.backward
    monkeypatch.setattr(Linear, "backward", lambda self, dy: 2 * backward(self, dy))
    result = CliRunner().invoke(cli, ["gradcheck", "relu", "linear"])
    assert result.exit_code == 1
    assert "dx" in result.stdout and "gradients of linear are wrong" in result.stderr


class OnItsKink(nn.Module):
    """|w| x, with some w = 0, where every slope from -1 to 1 is right."""

    def __init__(self):
        self.w = nn.Parameter((3,), lambda rng: np.array([0, 1, 0]))

    def forward(self, x):
        self.save(x)
        return np.abs(self.w.data) * x

    def backward(self, dy):
        (x,) = self.saved()
        self.w.accumulate((dy * x).sum(axis=0) * np.where(self.w.data, 1, 0.3))
        return np.abs(self.w.data) * dy


def test_gradcheck_tells_three_verdicts(monkeypatch):
    from tinyshuffle.gradcheck import CASES

    assert "3 right, 0 wrong, 0 not judged" in run("gradcheck", "relu", "linear", "flatten")
    monkeypatch.setitem(CASES, "on_its_kink", (OnItsKink, (2, 3)))
    assert "1 right, 0 wrong, 1 not judged" in run("gradcheck", "relu", "on_its_kink", code=1)
    backward = nn.Linear.backward
    monkeypatch.setattr(nn.Linear, "backward", lambda self, dy: -backward(self, dy))
    result = CliRunner().invoke(cli, ["gradcheck", "relu", "linear", "on_its_kink"])
    assert result.exit_code == 1
    assert "1 right, 1 wrong, 1 not judged" in result.stdout
    assert result.stderr == (
        "Error: the gradients of linear are wrong, and the gradients of on_its_kink are not "
        "judged: see above\n"
    )


def test_help_is_quick_and_complete():
    code = (
        "import sys; from tinyshuffle.cli import main\n"
        "try: main()\n"
        "except SystemExit as stop: assert stop.code == 0\n"
        "heavy = {'numba', 'matplotlib', 'rich', 'PIL'} & set(sys.modules)\n"
        "assert not heavy, heavy\n"
    )
    for command in ([], ["train"], ["eval"], ["models"], ["data"], ["gradcheck"]):
        done = subprocess.run(
            [sys.executable, "-c", code, *command, "--help"],
            capture_output=True,
            text=True,
            cwd=ROOT,
        )
        assert done.returncode == 0, done.stderr
        assert "Usage: python -m tinyshuffle" in done.stdout


def test_python_m():
    done = subprocess.run(
        [sys.executable, "-m", "tinyshuffle", "train", "--epochs", "0"],
        capture_output=True,
        text=True,
        cwd=ROOT,
    )
    assert done.returncode == 1
    assert done.stderr == "Error: epochs=0 was given: it must be 1 or more\n"


def test_cost_counts_a_net(tmp_path):
    out = run("cost", "shufflenet_v1_x1_0_g3", "--plot", tmp_path / "cost.png")
    assert "137,460,672 multiply-adds, 1,865,728 parameters" in out
    assert "stage2.0" in out and "pointwise" not in out
    assert (tmp_path / "cost.png").read_bytes().startswith(b"\x89PNG")
    assert "pointwise" in run("cost", "shufflenet_v2_x0_5", "--by", "type")
    assert run("cost", "shufflenet_v2_x0_5", "--by", "stage", "--format", "csv").count("\n") == 10
    assert '"multiply_adds": 10902016' in run(
        "cost", "shufflenet_v2_x0_5", "--input-size", 32, "--format", "json"
    )
    assert "| stage2 |" in run("cost", "shufflenet_v2_x0_5", "--by", "stage",
                               "--format", "markdown")  # fmt: skip


def test_cost_prints_the_papers_tables(tmp_path):
    out = run("cost", "--table", "v1-5", "--plot", tmp_path / "accuracy.svg")
    assert "8 of 10 figures are reproduced" in out
    assert b"<svg" in (tmp_path / "accuracy.svg").read_bytes()
    assert "| 1.0 MobileNet-224 | 569 | 569 |" in run(
        "cost", "--table", "v1-5", "--format", "markdown"
    )


def test_cost_refuses_what_cannot_be():
    assert "did you mean alexnet" in refused("cost", "alexnett")
    assert "there are: v1-1" in refused("cost", "--table", "v9")
    assert "give one of the two" in refused("cost")
    assert "give 1 or more" in refused("cost", "alexnet", "--batch", 0)
    assert "there are: paper" in refused("cost", "alexnet", "--convention", "flops")
    assert "use layer, unit" in refused("cost", "alexnet", "--by", "layers")
    assert "use table, json" in refused("cost", "alexnet", "--format", "xml")
    assert "the smallest that it takes is" in refused("cost", "vgg16", "--input-size", 20)
