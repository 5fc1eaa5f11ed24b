"""Command lines drawn at random: each ends with an answer, or with a sentence.

The commands and their options are asked of click, so a new one is tried as soon as it exists. What
would take long (processes that measure, an ablation's trainings) is stopped where it begins: that
command line was accepted.
"""

from __future__ import annotations

import itertools
import os
import re
import signal
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click
import numpy as np
import pytest
from click.testing import CliRunner
from fuzz.cases import generator
from PIL import Image
from train import tiny_run

import tinyshuffle as ts
from tinyshuffle import data, models
from tinyshuffle.cli import cli
from tinyshuffle.detect import comparison
from tinyshuffle.train.ablation import run as ablation_run

pytestmark = pytest.mark.slow

LINES = 30  # of each command, besides --help and each option alone with each kind of nonsense
SECONDS = 10  # a command that takes so long with a net of two layers hangs
MODEL = "shufflenet_v1_x0_25_g1"

# What nobody means. A number is expected where click says so; of names, only those that exist do.
NO_NUMBER = ["", " ", "abc", "[/x]", "nan", "猫", "1,5", "--", "1 2", "0x10", "\x1b[31m1", "None"]
NO_COUNT = ["-1", "1.5", "inf", "-inf", "1e400", "1e3", "9" * 20, "9" * 400, *NO_NUMBER]
NO_NAME = [
    "", " ", "-1", "nan", "nonsense", "ünïcödé 猫", "[/x]", "[bold]", "\x1b[31mred", "a\nb", "~",
    "../up", "/dev/null/x", "--", "=", "*x*", "%s {} {0}", "x" * 3000, "\udcff", ".", "..", "None",
]  # fmt: skip
# Any text may be meant: a path, the name of a new run. It must not break anything.
TEXT = [*NO_NAME, "~/x", "a=b", "a=", "=b", "shuffle=[/x]", "nope/none", "here.txt", "full.png",
        "/dev/full", "a/b", "x.png/", "CON", "-"]  # fmt: skip

# What is meant, so that not every line ends at its first word; of several commands' options.
GOOD: dict[str, list[str]] = {
    "model": [MODEL], "models": [MODEL], "epochs": ["1", "2"], "batch_size": ["8"],
    "backend": ["numpy"], "threads": ["1", "2"], "runs_dir": ["runs", "~/runs"],
    "run": ["done", "runs/done"], "runs": ["done"], "images": ["photo.png", "grey[draft].png"],
    "data": ["shapes"], "optimizer": ["sgd", "adam"], "lr": ["0.1"], "momentum": ["0.5"],
    "weight_decay": ["0"], "schedule": ["cosine"], "warmup": ["0"], "label_smoothing": ["0.1"],
    "ema": ["0.5"], "cutout": ["2"], "mixup": ["0.2"], "sizes": ["8", "6,8"], "seed": ["3"],
    "early_stop": ["1"], "test_every": ["2"], "variant": ["se=true"], "recipe": ["paper", "zoo"],
    "top": ["1", "2"], "table": ["v1-5"], "input_size": ["32", "32x24"], "batch": ["2"],
    "by": ["stage"], "dtype": ["float32"], "convention": ["thop"],
    "style": ["json", "table"], "plot": ["p.png"],
    "plots": ["figures"], "stem": ["cifar"], "rounds": ["1"], "peers": ["torch"],
    "latency": ["2ms"], "seeds": ["1"], "jobs": ["1"], "project": ["unit"],
    "folder": ["answers"], "seconds": ["5"], "memory": ["2000"], "pattern": ["*x0_25_g1", "mobile"],
    "data_dir": ["."], "over": ["lr=0.1,0.2"], "detector": ["faster"], "pictures": ["64"],
    "side": ["64"], "least": ["0.5"],
}  # fmt: skip
GOOD_NAMES = {"gradcheck": ["relu", "linear"], "ablate": ["shuffle"], "data": ["shapes"],
              "guidelines": ["g1"]}  # fmt: skip

NEEDED = {"model", "epochs", "backend", "recipe"}  # or it takes long

CHOICES = {
    "model", "models", "data", "optimizer", "schedule", "backend", "recipe", "run", "runs",
    "images", "table", "by", "dtype", "convention", "style", "stem", "peers", "latency", "project",
    "folder", "time_budget", "sizes", "variant", "resume", "detector",
}  # fmt: skip
CHOICE_NAMES = {"gradcheck", "ablate", "data", "guidelines"}  # where "name" and "names" are known


_batches = [itertools.count()]  # of this command line, tests and training


class Begun(BaseException):
    """The work has begun: the command line was accepted."""


class Hangs(BaseException):
    """It took too long."""


def commands(group: Any = cli, path: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], Any]]:
    """Visit all commands, with the words that call them."""
    for name, command in group.commands.items():
        if isinstance(command, click.Group):
            yield from commands(command, (*path, name))
        else:
            yield (*path, name), command


COMMANDS = dict(commands())


# ---- a place in which everything is small


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """A directory with a trained run, pictures and answers, from which nothing may get out."""
    there = tmp_path_factory.mktemp("commands") / "inner"  # so that ".." is no folder of classes
    there.mkdir()
    with pytest.MonkeyPatch.context() as patch:
        small(patch, there)
        made = CliRunner().invoke(cli, ["train", "--model", MODEL, "--backend", "numpy",
                                        "--epochs", "1", "--name", "done"])  # fmt: skip
        assert made.exit_code == 0, made.output
        Path("answers").mkdir()
        Path("answers/ann.py").write_text("raise ValueError('[/oops]')\n")
        Image.new("RGB", (9, 7), (200, 10, 10)).save("photo.png")
        Image.new("L", (7, 9), 7).save("grey[draft].png")
        Path("here.txt").write_text("no picture\n")
        yield there


def small(patch: pytest.MonkeyPatch, there: Path) -> None:
    """Tiny data and nets, a home in the directory; long work stops where it begins."""
    from matplotlib import font_manager  # noqa: F401 (looks for fonts, once, with a process)

    patch.chdir(there)
    for name in ("HOME", "USERPROFILE", "XDG_CACHE_HOME", "TMPDIR"):
        (there / "home").mkdir(exist_ok=True)
        patch.setenv(name, str(there / "home"))
    patch.delenv("TINYSHUFFLE_DATA", raising=False)
    patch.setenv("COLUMNS", "120")
    load, create, batches = data.load, models.create, data.batches

    def tiny_data(name: str, *args: Any, **options: Any) -> Any:
        return (tiny_run.load if name in data.NAMES else load)(name, *args, **options)

    def tiny_net(name: str, *args: Any, **options: Any) -> Any:
        net = create(name, *args, **options)
        classes = options.get("num_classes", 10)
        return tiny_run.create(name, classes, "cifar") if classes == 3 else net

    def few_batches(*args: Any, **options: Any) -> Iterator[Any]:
        for batch in batches(*args, **options):
            if next(_batches[0]) > 400:
                raise Begun
            yield batch

    def begin(*_: Any, **__: Any) -> None:
        raise Begun

    patch.setattr(data, "load", tiny_data)
    patch.setattr(data.scenes, "load", begin)
    patch.setattr(comparison, "solve", begin)
    patch.setattr(ablation_run, "solve", begin)
    patch.setattr(data, "batches", few_batches)
    patch.setattr(models, "create", tiny_net)
    patch.setattr("subprocess.Popen.__init__", begin)
    patch.setattr("subprocess.Popen.__del__", lambda self: None)
    patch.setattr("joblib.Parallel.__call__", begin)
    patch.setattr("socket.socket.connect", begin)


_watched: dict[str, Any] = {"inside": None, "outside": []}


def _audit(event: str, args: tuple[Any, ...]) -> None:
    inside = _watched["inside"]
    if inside is None:
        return
    written = {"os.mkdir": 1, "os.rename": 2, "os.remove": 1, "os.rmdir": 1, "os.symlink": 2,
               "os.truncate": 1, "shutil.rmtree": 1}.get(event, 0)  # fmt: skip
    paths = list(args[:written])
    if event == "open" and isinstance(args[2], int) and args[2] & (os.O_WRONLY | os.O_RDWR):
        paths.append(args[0])
    for path in paths:
        if not isinstance(path, (str, bytes, os.PathLike)):
            continue
        full = os.path.realpath(os.path.join(inside, os.path.expanduser(os.fsdecode(path))))
        if not full.startswith((inside, *_watched["allowed"])):
            _watched["outside"].append(f"{event} {full}")


sys.addaudithook(_audit)


# ---- one line


def run(there: Path, words: list[str]) -> tuple[str, str]:
    """Run a command line. Returns how it ended ("done", "begun", "refused") and what it printed."""

    def stop(*_: Any) -> None:
        raise Hangs

    cache = os.environ.get("NUMBA_CACHE_DIR")
    package = str(Path(ts.__file__).resolve().parent)
    _watched.update(
        inside=str(there.resolve()), outside=[],
        allowed=("/dev/", package, *([os.path.realpath(cache)] if cache else [])),
    )  # fmt: skip
    _batches[0] = itertools.count()
    before = signal.signal(signal.SIGALRM, stop)
    signal.setitimer(signal.ITIMER_REAL, SECONDS)
    try:
        result = CliRunner().invoke(cli, words, catch_exceptions=True)
        ended, code, error = "", result.exit_code, result.exception
        printed, errors = result.output, result.stderr
    except Begun:
        return "begun", ""
    except Hangs:
        raise AssertionError(f"takes more than {SECONDS} s") from None
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
        _watched["inside"] = None
        ts.set_num_threads(None)
        os.chdir(there)
    assert error is None or isinstance(error, SystemExit), f"raises {error!r}"
    assert "Traceback" not in printed
    assert not _watched["outside"], f"writes to {_watched['outside']}"
    assert not (there / "~").exists(), "makes a directory called ~"
    ended = "refused" if code else "done"
    if not code:
        assert printed.strip(), "prints nothing"
        return ended, printed
    assert re.search(r"^Error: \S", errors, re.M), f"exit code {code} without a sentence: {printed}"
    said = re.split(r"^Error: ", errors, flags=re.M)[1:]
    for sentence in said:
        lines = [line for line in sentence.rstrip("\n").split("\n") if line.strip()]
        assert len(lines) == 1, f"an error of several lines: {sentence!r}"
        assert sentence.isprintable() or sentence.rstrip("\n").isprintable(), f"prints {sentence!r}"
    return ended, printed


def check(there: Path, words: list[str], nonsense: str, outcomes: dict[str, int]) -> str:
    """Run a line; return what is wrong with it, or nothing."""
    try:
        ended, printed = run(there, words)
        outcomes[ended] = outcomes.get(ended, 0) + 1
        if nonsense and ended != "refused" and "--help" not in words:
            raise AssertionError(f"{nonsense} is accepted ({ended}): {printed[:300]}")
    except AssertionError as error:
        return f"{words!r}: {error}"
    return ""


# ---- drawing lines


def is_count(param: click.Parameter) -> bool:
    return isinstance(param.type, (click.types.IntParamType, click.IntRange))


def is_number(param: click.Parameter) -> bool:
    return is_count(param) or isinstance(param.type, (click.types.FloatParamType, click.FloatRange))


def is_choice(name: str, param: click.Parameter) -> bool:
    if str(param.name).startswith("name"):
        return name in CHOICE_NAMES
    return str(param.name) in CHOICES


def nonsense_of(name: str, param: click.Parameter) -> list[str]:
    """Values that this parameter has to refuse."""
    if is_count(param):  # any whole number is a seed
        return [v for v in NO_COUNT if not (param.name == "seed" and v.isdigit())]
    if is_number(param):
        return [*NO_NUMBER, "inf", "-inf", "1e400", "-1"]
    return NO_NAME if is_choice(name, param) else []


def meant(name: str, param: click.Parameter) -> list[str]:
    if str(param.name).startswith("name"):
        return GOOD_NAMES.get(name, [])
    return GOOD.get(str(param.name), [])


def words_of(param: click.Parameter, value: str) -> list[str]:
    if isinstance(param, click.Argument):
        return [value]
    return [f"{max(param.opts, key=len)}={value}"]


def line(
    rng: np.random.Generator, path: tuple[str, ...], command: Any, given: dict[str, str]
) -> list[str]:
    """Words for a command with what is ``given``, and what it needs besides."""
    options, arguments = [], []
    for param in command.params:
        values = meant(path[-1], param)
        if param.name in given:
            value = given[param.name]
        elif (isinstance(param, click.Argument) or param.name in NEEDED) and values:
            value = str(rng.choice(values))
        else:
            continue
        if getattr(param, "is_flag", False):
            options.append(max(param.opts, key=len))
        elif isinstance(param, click.Argument):
            arguments.append(value)
        else:
            options += words_of(param, value)
    if any(a.startswith("-") for a in arguments):
        arguments.insert(0, "--")
    return [*path, *options, *arguments]


@pytest.mark.parametrize("path", COMMANDS, ids=" ".join)
def test_commands(path: tuple[str, ...], place: Path) -> None:
    """Every option with every kind of nonsense, alone and beside others."""
    command, outcomes, failures = COMMANDS[path], dict[str, int](), list[str]()
    kind = " ".join(path)
    lines: list[tuple[list[str], str]] = [([*path, "--help"], "")]
    rng = generator(kind, 0)
    for param in command.params:
        few = rng.permutation(nonsense_of(path[-1], param))[:4]
        for value in map(str, few):
            words = line(rng, path, command, {str(param.name): value})
            lines.append((words, f"{param.name} {value[:40]!r}"))
    lines.append(([*path, "--nonsense"], "an unknown option"))
    lines.append(([*path, *["x"] * 9, "--", "-1"], ""))
    for number in range(1, LINES + 1):
        rng, given, nonsense = generator(kind, number), {}, ""
        mood = rng.choice(["meant", "one", "wild"])
        chosen = [param for param in command.params if rng.random() < 0.3]
        if mood == "one" and command.params:
            chosen.append(command.params[rng.integers(len(command.params))])
        for param in chosen:
            bad, good = nonsense_of(path[-1], param), meant(path[-1], param)
            now = param is chosen[-1] if mood == "one" else mood == "wild" and rng.random() < 0.3
            if bad and now:
                given[str(param.name)] = str(rng.choice(bad))
                nonsense = f"{param.name} {given[str(param.name)][:40]!r}"
            elif mood == "wild" and not is_number(param) and rng.random() < 0.5:
                given[str(param.name)] = str(rng.choice(TEXT))
            elif good or getattr(param, "is_flag", False):
                given[str(param.name)] = str(rng.choice(good or [""]))
        lines.append((line(rng, path, command, given), nonsense))
    lines = [each for i, each in enumerate(lines) if each not in lines[:i]]
    for words, nonsense in lines:
        wrong = check(place, words, nonsense, outcomes)
        if wrong:
            failures.append(wrong)
    counts = ", ".join(f"{n} {word}" for word, n in sorted(outcomes.items()))
    print(f"\n{kind}: {len(lines)} command lines, {len(failures)} failures; {counts}")
    assert not failures, f"{len(failures)} of {len(lines)} fail:\n" + "\n".join(failures)
