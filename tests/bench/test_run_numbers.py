"""What a comparison says of its sides, and when it is refused."""

from __future__ import annotations

import json

import numpy as np
import pytest

import tinyshuffle as ts
from tinyshuffle import machine
from tinyshuffle.bench import run


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
