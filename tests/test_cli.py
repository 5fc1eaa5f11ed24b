"""The command line: what it prints, its exit codes, and one sentence for every mistake."""

from __future__ import annotations

import dataclasses
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner
from PIL import Image

from tinyshuffle import checkpoint, data, models, nn
from tinyshuffle.cli import cli

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


LONG = "x" * 3000

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
    *same, views = run("eval", "a", "--flip", "--crops").splitlines()
    assert same == tested.splitlines()
    assert re.match(r"with mirror images \(test-time flip\) and crops: \d+\.\d\d %, loss", views)
    assert re.search(r"test accuracy [\d.]+ %, loss [\d.]+, 4 images; runs.a.best.npz", tested)
    assert run("train", "--resume", "a").strip().splitlines()[-1] == last
    assert run("train", "--resume", "a", "--epochs", 2).strip().splitlines()[-1] == last


def test_resume_contradicted(tiny):
    run("train", *SMALL, "--epochs", 1, "--name", "a")
    assert "--lr 0.7 contradicts" in refused("train", "--resume", "a", "--lr", 0.7)
    assert "--name b contradicts" in refused("train", "--resume", "a", "--name", "b")
    for option, given, before in (("variant", "se=true", "none"), ("time-budget", "5m", "none"),
                                  ("sizes", "8", "none"), ("epochs", "3", "1")):  # fmt: skip
        said = refused("train", "--resume", "a", f"--{option}={given}")
        assert f"--{option} {given} contradicts" in said and f"started with {before}:" in said


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
        ("--optimizer", "sdg", "sgd, adam or muon"),
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


@pytest.mark.parametrize("value", ["1_0", "\u0663", "1_0.5"])
@pytest.mark.parametrize(
    "arguments",
    [("train", "--lr"), ("train", "--epochs"), ("cost", "alexnet", "--batch"), ("bench", "step",
     "--rounds"), ("course", "score", "unit", ".", "--seconds"), ("predict", "a", "b", "--top"),
     ("search", "--latency", "2ms", "--seed"), ("ablate", "units", "--seeds"), ("train", "--sizes"),
     ("eval", "a", "--threads")],
)  # fmt: skip
def test_what_is_a_number_to_python_alone(tiny, arguments, value):
    assert repr(value) in refused(*arguments, value, code=2)


@pytest.mark.parametrize(
    "arguments",
    [("cost", LONG), ("cost", "alexnet", "--by", LONG), ("train", "--model", LONG), (LONG,),
     ("train", "--name", LONG), ("bench", "step", "--peer", LONG), ("ablate", LONG), ("eval", LONG),
     ("models", LONG), ("search", "--latency", LONG), ("gradcheck", LONG), ("predict", LONG, LONG),
     ("course", "score", "unit", LONG), ("train", "--epochs", LONG), ("train", "--variant", LONG),
     ("cost", "--table", LONG), ("train", "--data-dir", LONG, "--data", LONG),
     ("train", "--recipe", LONG), ("train", "--time-budget", LONG), ("compare", LONG),
     ("cost", "alexnet", "--plot", LONG), ("bench", "guidelines", LONG)],
)  # fmt: skip
def test_no_sentence_repeats_thousands_of_letters(tiny, arguments):
    result = CliRunner().invoke(cli, list(arguments))
    assert result.exit_code in (1, 2) and result.stdout == "", result.output
    assert "Error: " in result.stderr and len(result.stderr) < 1500, result.stderr


def test_a_figure_that_cannot_be_written_is_refused_before_the_work(tiny, monkeypatch):
    for command in (("bench", "layers"), ("bench", "nets"), ("cost", "alexnet"), ("compare", "a"),
                    ("search", "--latency", "2ms")):  # fmt: skip
        assert "'x.gif' has no format" in refused(*command, "--plot", "x.gif", code=2)
        assert "there is no directory no" in refused(*command, "--plot", "no/x.png", code=2)


def test_what_cannot_be_written_or_measured_is_refused_before_the_work(tiny, monkeypatch):
    Path("file").touch()
    search = ("search", "--latency", "2ms")
    assert "there is no directory no" in refused(*search, "--recipe", "no/x.toml")
    assert "--seed -1 is not possible: give 0" in refused(*search, "--seed", -1)
    assert refused("bench", "guidelines", "g1", "--plots", "file").startswith("file: ")
    for command in ("step", "inference", "layers", "startup", "roofline"):
        said = refused("bench", command, "--model", "vgg11", "--input-size", 8)
        assert "an image of 8x8 pixels is too small for vgg11; the smallest" in said
    run("train", *SMALL, "--epochs", 1, "--name", "a")
    monkeypatch.setattr(data, "load", None)  # neither loaded nor, perhaps, downloaded
    assert "exists already" in refused("train", *SMALL, "--name", "a")
    assert "is not the name of a directory" in refused("train", *SMALL, "--name", "a/b")


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
    from tinyshuffle.gradcheck.cases import CASES

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
    assert '"input_shape": [1, 480, 640, 3]'.replace(" ", "") in run(
        "cost", "shufflenet_v2_x0_5", "--input-size", "480x640", "--format", "json"
    ).replace(" ", "").replace("\n", "")
    assert "| stage2 |" in run("cost", "shufflenet_v2_x0_5", "--by", "stage",
                               "--format", "markdown")  # fmt: skip


def test_cost_prints_the_papers_tables(tmp_path):
    out = run("cost", "--table", "v1-5", "--plot", tmp_path / "accuracy.svg")
    assert "10 printed figures: reproduced 6, a label only 2, differs 2\n" in out
    assert b"<svg" in (tmp_path / "accuracy.svg").read_bytes()
    assert "| 1.0 MobileNet-224 | 569 | 569 |" in run(
        "cost", "--table", "v1-5", "--format", "markdown"
    )


def test_cost_prints_the_errata():
    out = run("cost", "--table", "errata")
    assert "V2, Table 2, g = 8 on the phone" in out
    assert "printed:  180 channels" in out
    assert "errata: misprint" in out
    with pytest.raises(AssertionError):
        run("cost", "--table", "errata", "--format", "csv")


def test_options_without_effect_are_refused(tiny):
    table = ("cost", "--table", "v1-5")
    for option, value in (("--by", "unit"), ("--convention", "paper"), ("--input-size", 224),
                          ("--batch", 1), ("--dtype", "float32")):  # fmt: skip
        assert f"{option} has no effect on a table" in refused(*table, option, value)
    assert "--plot has no effect on the errata" in refused(
        "cost", "--table", "errata", "--plot", "x.png"
    )
    assert "--plot has no effect where the paper prints no accuracy" in refused(
        "cost", "--table", "v1-1", "--plot", "x.png"
    )
    assert "--input-size and --by have no effect" in refused(
        *table, "--input-size", 32, "--by", "type"
    )
    assert "--data-dir has no effect on shapes" in refused("data", "shapes", "--data-dir", ".")
    assert "momentum=0.5 has no effect with adam" in refused(
        "train", *SMALL, "--optimizer", "adam", "--momentum", 0.5
    )
    for command in (("train",), ("ablate", "shuffle", "--data", "shapes")):
        assert "data_dir=" in (said := refused(*command, "--data-dir", "."))
        assert "has no effect with shapes, which are built in" in said
    run("train", *SMALL, "--epochs", 1, "--name", "a")
    for command in (("eval", "a"), ("train", "--resume", "a")):
        assert "has no effect with shapes" in refused(*command, "--data-dir", ".")


def test_cost_refuses_what_cannot_be():
    assert "did you mean alexnet" in refused("cost", "alexnett")
    assert "--table v9 is unknown: use v1-1" in refused("cost", "--table", "v9")
    assert "give one of the two" in refused("cost")
    assert "give 1 or more" in refused("cost", "alexnet", "--batch", 0)
    assert "there are: paper" in refused("cost", "alexnet", "--convention", "flops")
    assert "use layer, unit" in refused("cost", "alexnet", "--by", "layers")
    assert "use table, json" in refused("cost", "alexnet", "--format", "xml")
    assert "the smallest that it takes is" in refused("cost", "vgg16", "--input-size", 20)
    for size in ("480x", "x640", "480x640x3", "4_8x64", "480×640", "wide"):
        assert "its height and width, such as 480x640" in refused(
            "cost", "vgg16", "--input-size", size, code=2
        )
    assert "--input-size" in refused("cost", "vgg16", "--input-size", "224x0")


HUGE = 10**20


@pytest.mark.parametrize(
    "variant, words",
    [
        ("num_classes=3", "no variant 'num_classes'"),
        ("stem=cifar", "no variant 'stem'"),
        ("seed=3", "no variant 'seed'"),
        ("name=x", "no variant 'name'"),
        ("\x1b[31m=3", r"no variant '\x1b[31m'"),
        ("se=maybe", "se='maybe' was given: it must be true or false"),
        ("stage_channels=abc", "stage_channels='abc' was given: it must be a list of whole"),
        ("stage_channels=-24,48,96", "do not suit stages 2, 3 and 4"),
        (f"stem_channels={HUGE}", "is no number of channels"),
        ("stem_channels=many", "stem_channels='many' was given: it must be a whole number"),
    ],
)
def test_variants_that_cannot_be(tiny, variant, words):
    assert words in refused("train", *SMALL, "--epochs", 1, "--variant", variant)
    assert not os.listdir()


def test_a_net_that_memory_cannot_hold_is_refused_before_it_is_made(tiny, monkeypatch):
    with monkeypatch.context() as patch:
        patch.setattr("tinyshuffle.memory.physical", lambda: 2**20)
        assert "has 1 MiB of memory" in refused("train", "--model", "shufflenet_v2_x0_5")
    widths = "stage_channels=60000,60000,60000"
    said = refused("train", "--model", "shufflenet_v2_x0_5", "--epochs", 1, "--variant", widths)
    assert "give smaller widths" in said


def test_a_variant_without_a_value_or_given_twice(tiny):
    assert "'se=' is not of the form KEY=VALUE" in refused("train", "--variant", "se=", code=2)
    twice = ("--variant", "se=1", "--variant", "se=0")
    assert "se was given twice" in refused("train", *twice, code=2)


@pytest.mark.parametrize("word", ["False", "no", "off", "0"])
def test_the_shuffle_is_left_out(tiny, word):
    """A word for false was a text, and a text is true."""
    small = ("--model", "shufflenet_v1_x0_25_g3", "--batch-size", 8, "--backend", "numpy")
    run("train", *small, "--epochs", 1, "--name", "a", "--variant", f"shuffle={word}")
    shown = run("train", *small, "--variant", f"shuffle={word}", "--show")
    assert "variant = { shuffle = false }" in shown
    header = checkpoint.load("runs/a/last.npz").header
    assert header["config"]["variant"] == {"shuffle": False}


@pytest.mark.parametrize(
    "arguments, words",
    [
        (("train", "--cutout", HUGE), "cutout="),
        (("train", "--cutout", 8), "the images of shapes have 8 pixels a side"),
        (("train", "--epochs", 10**9), "epochs=1000000000 was given: it must be at most 100,000"),
        (("train", "--epochs", HUGE), "at most 100,000"),
        (("train", "--batch-size", HUGE), "at most 1,000,000"),
        (("train", "--batch-size", 10**400), "at most 1,000,000"),
        (("train", "--time-budget", "9" * 400 + "h"), "at most 10000h"),
        (("train", "--threads", HUGE), "1 to 4096"),
        (("train", "--sizes", "9" * 400), "at most 10000"),
        (("train", "--mixup", "1e300"), "0 (none) to 1000"),
        (("train", "--lr", "1e999"), "it must be a finite number"),
        (("cost", "alexnet", "--batch", HUGE), "at most 1,000,000"),
        (("cost", "alexnet", "--input-size", HUGE), "at most 10,000"),
        (("bench", "step", "--rounds", HUGE), "at most 100,000"),
        (("bench", "step", "--batch", HUGE), "at most 1,000,000"),
        (("bench", "layers", "--input-size", HUGE), "at most 10,000"),
        (("bench", "nets", "--threads", HUGE), "at most 4,096"),
        (("ablate", "shuffle", "--seeds", HUGE), "at most 1,000"),
        (("ablate", "shuffle", "--budget", HUGE), "at most 10,000,000,000"),
        (("course", "score", "kernel", ".", "--seconds", "nan"), "at most 86,400 s"),
        (("course", "score", "kernel", ".", "--memory", HUGE), "1,000,000 MB"),
    ],
)
def test_huge_numbers_are_refused_before_the_work(tiny, arguments, words):
    if arguments[0] == "train":
        arguments = (arguments[0], *SMALL, *arguments[1:])
    assert words in refused(*arguments)
    assert not os.listdir()


def test_a_large_time_budget_on_small_data_is_planned_at_once(tiny, monkeypatch):
    """What was tried before was every number of epochs, and each with a list as long."""
    from tinyshuffle.train import loop

    monkeypatch.setattr(loop.Trainer, "_measure", lambda self, stepped: ({8: 1e-6}, {8: 1e-6}))
    monkeypatch.setattr(loop.Trainer, "fit", lambda self: f"{self.plan.epochs} epochs")
    out = run("train", *SMALL, "--time-budget", "1000h")
    assert out.strip().endswith("100000 epochs")


NAMES = ["photo[draft]", "x[bold]", ":cat:", "a\x1b[31m", "$\\frac$", "_run", "=1+1"]


@pytest.mark.skipif(sys.platform == "win32", reason="such names cannot be there")
def test_foreign_names_are_shown_as_they_are(tiny):
    run("train", *SMALL, "--epochs", 1, "--name", NAMES[0])
    for name in NAMES[1:]:
        shutil.copytree(f"runs/{NAMES[0]}", f"runs/{name}")
    out = run("compare", *NAMES)
    for name in NAMES:
        assert name.replace("\x1b", r"\x1b") in out, name
        assert "runs" in run("eval", name)
    assert "\x1b" not in out
    out = refused("predict", NAMES[0], "x[/y].png")
    assert "'x[/y].png' cannot be read" in out
    Image.new("RGB", (8, 8)).save("photo[draft].png")
    Image.new("RGB", (8, 8)).save("a:cat:\x1b[2J.png")
    out = run("predict", NAMES[0], "photo[draft].png", "a:cat:\x1b[2J.png")
    assert "photo[draft].png" in out and r"a:cat:\x1b[2J.png" in out
    for arguments in (("eval", "[/oops]\x1b[2J"), ("cost", "[/oops]\x1b[2J"), ("\x1b[2J",)):
        result = CliRunner().invoke(cli, list(arguments))
        assert result.exit_code in (1, 2) and "\x1b" not in result.output
        assert r"\x1b[2J" in result.stderr


def test_classes_with_markup(tiny, monkeypatch):
    def named(*arguments, **options):
        return tuple(dataclasses.replace(part, classes=("[/cat]", "d\x1b[1mog")) for part in
                     load(*arguments, **options))  # fmt: skip

    monkeypatch.setattr(data, "load", named)
    run("train", *SMALL, "--epochs", 1, "--name", "a")
    out = run("eval", "a")
    assert "[/cat]" in out and r"d\x1b[1mog" in out and "\x1b" not in out


@pytest.mark.parametrize("form", ["--data-dir=~/x", "--data-dir=~/x/"])
def test_home_is_expanded_wherever_a_path_is_written(tiny, tmp_path, monkeypatch, form):
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.setenv("USERPROFILE", str(tmp_path / "home"))
    (tmp_path / "home").mkdir()
    out = run("train", form, "--data", "cifar10", "--show")
    line = next(x for x in out.splitlines() if "data_dir" in x)
    assert "~" not in line and os.path.join("home", "x") in line
    (tmp_path / "home" / "mine.toml").write_text('epochs = 3\ndata_dir = "~/x"')
    shown = run("train", "--recipe=~/mine.toml", "--show")
    assert "epochs = 3" in shown and "~" not in shown
    run("train", *SMALL, "--epochs", 1, "--name", "a", "--runs-dir=~/runs")
    assert "test accuracy" in run("eval", "~/runs/a")
    run("compare", "a", "--runs-dir=~/runs", "--plot=~/c.png")
    run("cost", "alexnet", "--plot=~/cost.png")
    assert not [name for name in os.listdir() if name.startswith("~")]
    assert {"c.png", "cost.png", "runs"} <= set(os.listdir("home"))
    assert "test accuracy" in run("train", "--resume=~/runs/a")


def test_paths_that_are_none(tiny):
    for path in ("", " "):
        said = refused("train", "--data-dir", path, code=2)
        assert said.startswith(f"Invalid value for '--data-dir': {path!r} is no path: write")
    user = "~nobody-of-this-name/x"
    assert "that this machine does not know" in refused("train", "--data-dir", user, code=2)
    assert not os.listdir()


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="no device that is always full")
@pytest.mark.parametrize("arguments", [["train", "--help"], ["models", "v2_x0_5"], ["--help"]])
def test_a_full_disk_at_the_other_end_is_a_sentence(arguments):
    with open("/dev/full", "w") as full:
        done = subprocess.run(
            [sys.executable, "-m", "tinyshuffle", *arguments],
            stdout=full, stderr=subprocess.PIPE, text=True, cwd=ROOT,
        )  # fmt: skip
    assert done.returncode == 1
    assert done.stderr.count("\n") == 1 and done.stderr.startswith("Error: the output cannot be")


def test_a_reader_that_has_gone_is_quiet():
    done = subprocess.Popen(
        [sys.executable, "-m", "tinyshuffle", "models"],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=ROOT,
    )  # fmt: skip
    assert done.stdout and done.stderr
    done.stdout.close()
    assert done.stderr.read() == "" and done.wait() == 1


def test_our_own_faults_keep_their_traceback(tiny, monkeypatch):
    def broken(*arguments, **options):
        raise ZeroDivisionError("ours")

    monkeypatch.setattr(data, "load", broken)
    result = CliRunner().invoke(cli, ["train"])
    assert isinstance(result.exception, ZeroDivisionError)


def test_too_little_memory_is_a_sentence(tiny, monkeypatch):
    def broken(*arguments, **options):
        raise MemoryError

    monkeypatch.setattr(data, "load", broken)
    assert "there is not enough memory" in refused("train", *SMALL)


def test_a_name_of_two_lines_is_still_one_sentence():
    sentence = refused("bench", "step", "--stem", "a\nb")
    assert sentence.startswith(r"--stem a\nb is unknown")


@pytest.mark.parametrize("option", ["--format", "--by", "--convention"])
def test_nothing_is_not_the_default(option):
    assert "unknown" in refused("cost", "shufflenet_v2_x0_5", f"{option}=")


def test_more_threads_than_machines_have(tiny):
    run("train", *SMALL, "--epochs", 1, "--name", "a")
    assert "--threads" in refused("eval", "a", "--threads", 10**30)
    assert "--threads" in refused("predict", "a", "x.png", "--threads", 10**30)
