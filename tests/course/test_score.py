"""A class is scored to the end, whatever a submission does."""

from __future__ import annotations

import csv
import json
import os
import re
import sys
import time
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from click.testing import CliRunner

import tinyshuffle as ts
from tinyshuffle import ops
from tinyshuffle.cli import cli
from tinyshuffle.course import projects
from tinyshuffle.course.score import Score, find_submissions, rank, score

ROOT = Path(__file__).parents[2]
STARTERS = ROOT / "docs" / "course" / "projects"

GOOD = (STARTERS / "kernel" / "submission.py").read_text(encoding="utf-8")
NUMPY = """
import numpy as np
def depthwise(x, w):
    n, h, v, c = x.shape
    xp = np.pad(x, ((0, 0), (1, 1), (1, 1), (0, 0)))
    return sum(xp[:, i:i+h, j:j+v] * w[i, j] for i in range(3) for j in range(3))
"""


def folder_of(tmp_path: Path, **files: str) -> Path:
    for name, text in files.items():
        (tmp_path / f"{name}.py").write_text(text, encoding="utf-8")
    return tmp_path


def run(folder: Path, project: str = "kernel", seconds: float = 600, megabytes: int = 4096):
    found = score(project, find_submissions(folder), seconds, megabytes)
    return {s.student: s for s in found}


def test_each_submission_is_reported_for_itself(tmp_path):
    folder = folder_of(
        tmp_path,
        good=GOOD,
        raises="1 / 0",
        leaves="import sys; sys.exit(0)",
        dies="import os; os._exit(3)",
        prints="print('x' * 10**7)\n" + NUMPY,
        nothing="",
        wrong=NUMPY.replace("xp[:, i:i+h, j:j+v]", "xp[:, :h, :v]"),
        syntax="def depthwise(:",
        pretends="print('{\"score\": 99, \"milliseconds\": 0}')\ndef depthwise(x, w): return x",
        empty="def depthwise(x, w): pass",
        **{"Zoë Ångström 李": NUMPY},
    )
    (folder / "notes.txt").write_text("not Python", encoding="utf-8")
    (folder / "no file").mkdir()
    scores = run(folder, seconds=60, megabytes=3000)
    assert len(scores) == 13
    assert not scores["good"].error and scores["good"].figures["score"] > 0.2
    assert not scores["prints"].error and not scores["Zoë Ångström 李"].error
    said = {
        "raises": "ZeroDivisionError: division by zero (line 1)",
        "leaves": "SystemExit",
        "dies": "exit code 3",
        "nothing": "has no function depthwise",
        "wrong": "depthwise is wrong for x of shape (1, 1, 1, 1)",
        "syntax": "SyntaxError",
        "pretends": "depthwise is wrong for x of shape (1, 1, 1, 1)",
        "empty": "returns a NoneType: return an array",
        "notes.txt": "no submission: call it STUDENT.py",
        "no file": "no submission: call it STUDENT.py",
    }
    for student, words in said.items():
        assert words in scores[student].error, scores[student]


CHILD = """
import subprocess, sys
subprocess.Popen([sys.executable, "-c", '''
import time, pathlib
while True:
    pathlib.Path({!r}).write_text(str(time.time()))
    time.sleep(0.05)
'''])
"""


def test_a_submission_is_ended_with_all_that_it_started(tmp_path):
    """If it does not end, and if it ends before its child does."""
    signs = [tmp_path / f".{name}" for name in ("loops", "ends")]
    folder = folder_of(
        tmp_path,
        loops=CHILD.format(str(signs[0])) + "while True:\n    print('x' * 1000)",
        ends=CHILD.format(str(signs[1])) + "import time\ntime.sleep(1)\n1 / 0",
    )
    scores = run(folder, seconds=8)
    assert "did not end within 8 s" in scores["loops"].error
    assert "ZeroDivisionError" in scores["ends"].error  # the class goes on
    if hasattr(os, "killpg"):
        time.sleep(0.3)
        last = [sign.read_text() for sign in signs]
        time.sleep(0.3)
        assert [sign.read_text() for sign in signs] == last


def test_a_folder_and_a_file_of_the_same_name(tmp_path):
    folder = folder_of(tmp_path, ada="", _helper="")
    (folder / "ada").mkdir()
    (folder / "ada" / "submission.py").write_text("", encoding="utf-8")
    (folder / ".git").mkdir()
    assert find_submissions(folder) == {
        "ada": folder / "ada" / "submission.py",
        "ada.py": folder / "ada.py",
    }


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="no limit of memory here")
def test_a_submission_that_allocates_without_end_is_stopped(tmp_path):
    folder = folder_of(
        tmp_path,
        grows="kept = []\nwhile True:\n    kept.append(bytearray(10**8))",
        fills="file = open('large', 'wb')\nfile.seek(10**10)\nfile.write(b'the end')\nfile.flush()",
        raises="raise ValueError('after it')",
    )
    scores = run(folder, megabytes=3000)
    assert "more memory than is allowed" in scores["grows"].error
    assert "File too large (line 4)" in scores["fills"].error
    assert "after it" in scores["raises"].error


def test_the_kernel_starter_is_the_plain_one_and_is_not_fast_enough():
    import inspect

    plain = inspect.getsource(projects.slow_depthwise).split("\n", 1)[1]
    starter = GOOD.split('"""3x3,')[1].split("\n", 1)[1]
    assert plain == starter


@pytest.mark.slow
def test_the_unit_starter_is_scored(tmp_path):
    text = (STARTERS / "unit" / "submission.py").read_text(encoding="utf-8")
    (tmp_path / "ada").mkdir()
    (tmp_path / "ada" / "submission.py").write_text(text, encoding="utf-8")
    (found,) = run(tmp_path, "unit").values()
    assert found.student == "ada" and not found.error
    assert found.figures["multiply_adds"] <= projects.BUDGET
    assert 45 < found.figures["score"] < 75  # ten classes; and there is room for better ones


@pytest.mark.slow
def test_a_better_unit_is_seen_to_be_better():
    def with_bottleneck(c: int = 116, m: int = 24):
        return ts.nn.Residual(
            ts.nn.Conv2d(c, m, 1, bias=False), ts.nn.BatchNorm2d(m), ts.nn.ReLU(),
            ts.nn.Conv2d(m, m, 3, padding=1, groups=m, bias=False), ts.nn.BatchNorm2d(m),
            ts.nn.Conv2d(m, c, 1, bias=False), ts.nn.BatchNorm2d(c), ts.nn.ReLU(),
        )  # fmt: skip

    class Submission:
        make_unit = staticmethod(with_bottleneck)

    starter = projects.load(str(STARTERS / "unit" / "submission.py"))
    better, plain = (projects.measure_unit(one)["score"] for one in (Submission, starter))
    assert better > plain + 10


def test_the_unit_starter_is_accepted(monkeypatch):
    monkeypatch.setattr(projects, "TRAIN", 64)
    monkeypatch.setattr(projects, "EPOCHS", 1)
    starter = projects.load(str(STARTERS / "unit" / "submission.py"))
    assert projects.measure_unit(starter)["multiply_adds"] <= projects.BUDGET


@pytest.mark.parametrize(
    ("unit", "said"),
    [
        (lambda: ts.models.ShuffleUnitV2(116, 116, stride=1), "5,684,000 multiply-adds"),
        (lambda: ts.nn.Conv2d(116, 8, 1), "has to keep the shape"),
    ],
)
def test_units_that_break_the_rules(unit, said):
    class Submission:
        make_unit = staticmethod(unit)

    with pytest.raises(ts.TinyshuffleError, match=said):
        projects.measure_unit(Submission)


def test_a_unit_with_a_wrong_gradient():
    class Straight(ts.nn.Conv2d):
        def backward(self, dy):
            super().backward(dy)
            return dy

    class Submission:
        @staticmethod
        def make_unit():
            return Straight(116, 116, 1, groups=4)

    with pytest.raises(ts.TinyshuffleError, match="gradient is wrong"):
        projects.measure_unit(Submission)


def layer(groups=4, **options):
    return ts.nn.Conv2d(116, 116, 1, groups=groups, **options)


@pytest.mark.parametrize(
    ("later", "said"),
    [
        (lambda: layer(groups=1), "one unit of 2,637,376 multiply-adds, .* another of 10,"),
        (lambda: layer(groups=4, bias=False), "3,480 parameters, and then another of .* 3,364:"),
        (lambda: None, r"make_unit\(\) returns an object of type NoneType: return a"),
        (lambda: 5, r"make_unit\(\) returns an object of type int: return a"),
    ],
)
def test_a_unit_that_is_another_at_the_second_call(later, said):
    calls = iter([layer, later])
    with pytest.raises(ts.TinyshuffleError, match=said):
        projects.measure_unit(SimpleNamespace(make_unit=lambda: next(calls)()))


def test_two_units_that_are_one():
    shared = layer()
    for make in (lambda: shared, lambda: ts.nn.Sequential(shared)):
        with pytest.raises(ts.TinyshuffleError, match="build new ones each time"):
            projects.measure_unit(SimpleNamespace(make_unit=make))


def test_the_units_that_are_counted_are_trained(monkeypatch):
    """And no third one is made, which nobody has looked at."""
    monkeypatch.setattr(projects, "TRAIN", 64)
    monkeypatch.setattr(projects, "EPOCHS", 1)
    made = []

    def make_unit():
        made.append(layer())
        return made[-1]

    figures = projects.measure_unit(SimpleNamespace(make_unit=make_unit))
    assert len(made) == 2 and figures["multiply_adds"] == 116 * 116 // 4 * 28 * 28
    for unit in made:  # trained: zeros are what a bias begins with
        assert np.abs(unit.bias.data).max() > 0


def test_a_wrong_gradient_in_the_second_unit():
    class Straight(ts.nn.Conv2d):
        def backward(self, dy):
            super().backward(dy)
            return dy

    calls = iter([ts.nn.Conv2d, Straight])
    with pytest.raises(ts.TinyshuffleError, match="gradient is wrong"):
        projects.measure_unit(
            SimpleNamespace(make_unit=lambda: next(calls)(116, 116, 1, groups=4))
        )


def test_the_best_comes_first():
    scores = [
        Score("failed", error="it raises"),
        Score("dear", {"score": 50.0, "multiply_adds": 4e6}),
        Score("cheap", {"score": 50.001, "multiply_adds": 3e6}),
        Score("best", {"score": 60.0, "multiply_adds": 5e6}),
    ]
    assert [s.student for s in rank(scores)] == ["best", "cheap", "dear", "failed"]


def command(*arguments: str):
    return CliRunner().invoke(cli, ["course", *arguments])


@pytest.mark.parametrize("style", ["table", "json", "csv"])
def test_the_command_prints_a_leaderboard(tmp_path, style):
    folder_of(tmp_path, ada=NUMPY, bob="1 / 0")
    result = command("score", "kernel", str(tmp_path), "--format", style)
    assert result.exit_code == 0, result.output
    assert "1 of 2: ada" in result.stderr and "s left" in result.stderr
    if style == "json":
        rows = json.loads(result.stdout)
        assert [r["student"] for r in rows] == ["ada", "bob"] and rows[0]["score"] > 0
    assert "ada" in result.stdout and "ZeroDivisionError" in result.stdout


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["score", "unite", "."], "PROJECT unite is unknown: use unit, kernel"),
        (["score", "unit", "nowhere"], "nowhere is not a folder"),
        (["score", "unit", ".", "--seconds", "0"], "have to be above zero"),
        (["score", "unit", ".", "--memory", "1"], "--memory 1 is less than the library itself"),
        (["score", "kernel", ".", "--memory", "499"], "give at least 500"),
    ],
)
def test_mistakes_end_in_a_sentence(arguments, said, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    result = command(*arguments)
    assert result.exit_code == 1 and said in result.output


def leaderboard(folder, style="table"):
    result = command("score", "kernel", str(folder), "--format", style, "--seconds", "60")
    assert result.exit_code == 0 and "\x1b" not in result.output, result.exception
    return result.stdout


@pytest.mark.skipif(sys.platform == "win32", reason="such names cannot be there")
def test_what_a_submission_raises_and_is_called_does_nothing_to_the_others(tmp_path):
    raised = {
        "[markup] :cat:": 'raise ValueError("[/oops]")',
        "a\x1b[2J": 'raise ValueError("\\x1b[2J\\x07" + "x" * 10**6)',
        "=1+1": "class E(Exception):\n    def __str__(self): 1 / 0\nraise E",
        "silent": "from tinyshuffle import TinyshuffleError\nraise TinyshuffleError('')",
    }
    out = leaderboard(folder_of(tmp_path, good=NUMPY, **raised))
    for words in ("[markup] :cat:", "ValueError: [/oops] (line 1)", r"a\x1b[2J", "good",
                  r"ValueError: \x1b[2J\x07xxx", "cannot be shown", "no message"):  # fmt: skip
        assert words in out, words
    assert max(map(len, out.splitlines())) < 400


@pytest.mark.skipif(sys.platform == "win32", reason="needs a shell")
@pytest.mark.parametrize("style", ["table", "narrow table", "json", "csv"])
def test_a_result_that_a_submission_wrote_itself(tmp_path, monkeypatch, style):
    monkeypatch.setenv("COLUMNS", "40" if style == "narrow table" else "1000")
    texts = {
        "list": "[1]", "number": "5", "other": '{"x": 1}', "text": '"a"', "null": "null",
        "word": '{"score": "a", "milliseconds": 1}', "deep": "[" * 10**5, "nothing": "",
        "nan": '{"score": NaN, "milliseconds": 1}', "half": '{"score": 1}',
        "inf": '{"score": Infinity, "milliseconds": 1}', "letters": "a" * 2 * 10**7,
        "digits": '{"score": 1' + 4000 * "0" + ', "milliseconds": 1}', "bytes": "\udcff",
        "bool": '{"score": true, "milliseconds": 1}', "error": '{"error": [1]}',
        "more": '{"score": 9, "milliseconds": 1, "=1+1": 2}', "list in it": '{"score": [1]}',
    }  # fmt: skip
    beyond = {
        "huge": '{"score": 1e300, "milliseconds": 1}', "below": '{"score": -1, "milliseconds": 1}',
        "past": '{"score": 1, "milliseconds": -1e-9}',
    }  # fmt: skip
    for name, text in {**texts, **beyond}.items():
        (tmp_path / f"{name}.py").write_bytes(text.encode(errors="surrogateescape"))
    folder_of(tmp_path, fine='{"score": 3.5, "milliseconds": 2}', bad='{"error": "=1+1\\u001b"}')
    # in the place of Python: -m MODULE PROJECT FILE RESULT, where the file is the result
    copies = tmp_path / ".copies"
    copies.write_text('#!/bin/sh\ncp "$4" "$5"\n')
    copies.chmod(0o755)
    monkeypatch.setattr(sys, "executable", str(copies))
    out = leaderboard(tmp_path, style.removeprefix("narrow "))
    lines = out.splitlines()
    if style == "narrow table":  # a line for each figure, below the place: one row again
        lines = re.sub(r"\n +", "  ", out).splitlines()
        assert len(lines) == len(texts) + len(beyond) + 2
    if style == "json":
        rows = {row["student"]: row for row in json.loads(out)}
        assert rows["fine"]["score"] == 3.5 and rows["bad"]["error"] == r"=1+1\x1b"
        for name in texts:
            assert "its result is not what the scoring writes" in rows[name]["error"], name
        assert "score=1e+300, which can be 0 to 1,000 only" in rows["huge"]["error"]
        assert "score=-1, which" in rows["below"]["error"] and len(rows["huge"]) == 2
        assert "milliseconds=-1e-09, which can be 0 to" in rows["past"]["error"]
    else:
        assert sum("its result is not what the scoring writes" in x for x in lines) == len(texts)
        (fine,) = (line for line in lines if "fine" in line)
        assert "3.50" in fine and "2.00" in fine
    if style == "csv":
        cells = [cell for row in csv.reader(lines) for cell in row]
        assert r"'=1+1\x1b" in cells and not any(cell.startswith("=") for cell in cells)


def test_an_empty_folder(tmp_path):
    result = command("score", "unit", str(tmp_path))
    assert result.exit_code == 1 and "holds no submissions" in result.output


def test_progress_is_a_command(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    ts.course.check("02.4", 288)
    result = command("progress")
    assert result.exit_code == 0 and "02.4  done" in result.output


def test_a_kernel_is_checked_against_arrays_that_it_cannot_write_to():
    def depthwise(x, w):
        if len(x) == 8:  # the shape that is timed
            w[:] = 0
            return np.zeros_like(x)
        return ops.depthwise_conv2d(x, w, padding=1)

    with pytest.raises(ts.TinyshuffleError, match="depthwise is wrong for x of shape"):
        projects.measure_kernel(SimpleNamespace(depthwise=depthwise))
