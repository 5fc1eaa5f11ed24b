"""What a comparison says of its sides, and when it is refused."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest
from click.testing import CliRunner

import tinyshuffle as ts
from tinyshuffle import bench, machine
from tinyshuffle.bench import run
from tinyshuffle.bench.progress import Progress
from tinyshuffle.cli import cli


def test_turns_are_taken():
    """A B A B, for equal time."""

    class Side:
        def __init__(self, *times):
            self.times = times

        def ask(self, what, seconds, least):
            assert what == "run" and least == 1
            turns.append((self, seconds))
            return [*self.times]

    turns: list = []
    a, b = Side(0.006, 0.007), Side(0.02)
    assert run.take_turns([a, b], range(3), burst=0.01) == [[[0.006, 0.007]] * 3, [[0.02]] * 3]
    assert turns == [(a, 0), (a, 0.01), (b, 0), (b, 0.01)] * 3  # the first run does not count


def test_a_result_speaks_of_every_side():
    case = run.Case("step", "shufflenet_v2_x0_5", 8, 32, 2, "cifar")
    what = machine.describe(2)
    result = run.Result(case, what, ["OMP_NUM_THREADS"], {"PyTorch": {"logits": 1e-6}}, [
        run.Side("tinyshuffle", "", [[0.1], [0.2]], 200, 150),
        run.Side("PyTorch", "NCHW", [[0.3], [0.4]], None, None),
    ])  # fmt: skip
    record = json.loads(json.dumps(result.to_dict()))
    assert record["model"] == "shufflenet_v2_x0_5" and record["cleared"] == ["OMP_NUM_THREADS"]
    ours, theirs = record["sides"]
    assert "ratio" not in ours and ours["own_memory"] == 50
    assert theirs["ratio"]["median"] == pytest.approx(2.5) and theirs["own_memory"] is None
    assert theirs["differences"] == {"logits": 1e-6} and theirs["format"] == "NCHW"


def results(*threads):
    """Of 100 images: ours takes 100 ms with a thread, and theirs 300, less with two."""
    case = run.Case("step", "shufflenet_v2_x0_5", 100, 32, 1, "cifar")
    alike = {"PyTorch": {"logits": 0.0}}
    return [
        run.Result(replace(case, threads=n), machine.describe(n), [], alike, [
            run.Side("tinyshuffle", "", [[0.1 / n], [0.2 / n]], None, None),
            run.Side("PyTorch", "NCHW", [[0.3], [0.6]], None, None),
        ])
        for n in threads
    ]  # fmt: skip


def test_speed_ups_are_taken_turn_by_turn():
    one, three = run.speed_ups(results(1, 3))
    assert [side.median for side in one] == [1, 1]
    assert [side.median for side in three] == [pytest.approx(3), 1]


def test_several_numbers_of_threads_are_one_table(monkeypatch):
    monkeypatch.setenv("COLUMNS", "100")  # wide enough for a row a side
    monkeypatch.setattr(bench, "compare_threads", lambda case, counts, *_: results(*counts))
    result = CliRunner().invoke(cli, ["bench", "step", "--threads", "1", "3"])
    assert result.exit_code == 0, result.output
    ours = [line.split() for line in result.stdout.splitlines() if " tinyshuffle " in line]
    theirs = [line.split() for line in result.stdout.splitlines() if " PyTorch, NCHW " in line]
    assert ours == [["tinyshuffle", "1", "150", "667", "1.00"],
                    ["tinyshuffle", "3", "50.0", "2,000", "3.00"]]  # fmt: skip
    assert theirs[1][2:] == ["3", "450", "222", "1.00", "9.00", "9.00", "to", "9.00"]
    assert "as fast as with --threads 1, turn by turn" in result.stdout


class Fake:
    """A worker that computes nothing: what PyTorch's two formats and its compiled step take."""

    seconds = {"NCHW": 0.3, "channels_last": 0.4}
    fails = differs = False

    def __init__(self, name, job):
        self.name, self.job = name, job

    def ready(self):
        return {"memory": 1}

    def check(self, path):
        if self.job.get("compiled") and self.fails:
            raise ts.TinyshuffleError("it does not compile here: no")
        wrong = self.job.get("compiled") and self.differs
        return {"logits": np.array([2.0 if wrong else 1.0]), "loss": np.array(1.0)}

    def ask(self, what, **_):
        return [self.seconds.get(self.job.get("format"), 0.1)] if what == "run" else 7

    def close(self):
        pass


@pytest.fixture
def fake(monkeypatch):
    class Worker(Fake):
        pass

    monkeypatch.setattr(run, "Worker", Worker)
    monkeypatch.setattr(run, "PAUSE", 0)
    monkeypatch.setattr(run, "alone", lambda *_: {"machine": machine.describe(1).to_dict()})
    monkeypatch.setattr(run, "check_peer", lambda *_: None)
    monkeypatch.setattr(run, "no_compiler", lambda: "")
    return Worker


def compared(task="step"):
    case = run.Case(task, "shufflenet_v2_x0_5", 8, 32, 2, "cifar")
    with Progress() as progress:
        return run.compare_sides(case, ["torch"], 2, progress, burst=0)


def test_a_compiled_step_stands_beside_the_eager_one(fake):
    result = compared()
    assert [(side.name, side.format) for side in result.sides] == [
        ("tinyshuffle", ""), ("PyTorch", "NCHW"), ("torch.compile", "NCHW")
    ]  # fmt: skip
    assert result.left_out == "" and result.ratio(result.sides[2]).median == pytest.approx(3)
    assert len(compared("inference").sides) == 2


def test_what_does_not_compile_is_left_out_with_the_reason(fake, monkeypatch):
    fake.fails = True
    result = compared()
    assert len(result.sides) == 2 and result.left_out == "it does not compile here: no"
    monkeypatch.setattr(run, "no_compiler", lambda: "there is no g++")
    assert compared().left_out == "there is no g++"


def test_a_compiled_step_that_computes_something_else_is_left_out(fake):
    fake.differs = True
    result = compared()
    assert [side.name for side in result.sides] == ["tinyshuffle", "PyTorch"]
    assert result.left_out.startswith("torch.compile computes something else")
    assert "torch.compile" not in result.differences


def test_an_eager_step_that_computes_something_else_is_refused(fake, monkeypatch):
    ours = fake.check
    monkeypatch.setattr(
        fake, "check", lambda self, path: {name: array + ("format" in self.job)
                                           for name, array in ours(self, path).items()}
    )  # fmt: skip
    with pytest.raises(ts.TinyshuffleError, match="^PyTorch computes something else"):
        compared()


def test_threads_have_sides_of_their_own_that_take_turns(fake):
    case = run.Case("step", "shufflenet_v2_x0_5", 8, 32, 2, "cifar")
    with Progress() as progress:
        one, four = run.compare_threads(case, [1, 4], ["torch"], 2, progress, burst=0)
    assert (one.case.threads, four.case.threads, four.machine.threads) == (1, 4, 4)
    assert [len(result.sides) for result in (one, four)] == [2, 2]


@pytest.mark.parametrize(
    ("theirs", "words"),
    [
        ({"logits": [1.0, 2.002]}, None),
        ({"logits": [1.0, 2.01]}, "logits differ by 5.0e-03"),
        ({"logits": [1.0, np.nan]}, "logits differ by nan"),
        ({"logits": [1.0]}, "logits differ by inf"),
    ],
)
def test_a_peer_must_compute_the_same(theirs, words):
    ours = {"logits": np.array([1.0, 2.0])}
    theirs = {name: np.array(value) for name, value in theirs.items()}
    if words is None:
        assert run.agree("PyTorch", ours, theirs)["logits"] == pytest.approx(1e-3)
    else:
        with pytest.raises(ts.TinyshuffleError, match=words):
            run.agree("PyTorch", ours, theirs)
