"""Runs of several trainings: each is trained once, whoever is at it."""

from __future__ import annotations

import json
import threading

import pytest

from tinyshuffle.train import trainings
from tinyshuffle.train.trainings import Kind

FIELDS = {"epochs": 1}


@pytest.fixture
def kind():
    """A training that writes its log when it may end."""
    begun, may_end = threading.Event(), threading.Event()
    trained = []

    def begin(run, fields):
        run.mkdir(parents=True)  # it is there already if a second one is at it
        begun.set()
        assert may_end.wait(10)
        (run / "log.jsonl").write_text(json.dumps({"hits": 1.0}) + "\n")
        trained.append(run)

    kind = Kind("hits", "report.html", begin, begin)
    kind.__dict__.update(begun=begun, may_end=may_end, trained=trained)
    return kind


def test_a_worker_of_a_killed_driver_and_the_next_one_are_not_at_a_run_together(tmp_path, kind):
    ends = []

    def work():
        ends.append(trainings._run_one(str(tmp_path / "sweep" / "a"), FIELDS, kind))

    first, second = threading.Thread(target=work), threading.Thread(target=work)
    first.start()
    assert kind.begun.wait(10)
    second.start()
    second.join(0.2)
    assert second.is_alive()  # waits, and has deleted nothing
    assert (tmp_path / "sweep" / "a").is_dir()
    kind.may_end.set()
    first.join(10)
    second.join(10)
    assert ends == [(str(tmp_path / "sweep" / "a"), "")] * 2
    assert len(kind.trained) == 1


def test_a_place_that_cannot_be_written_to_is_a_sentence(tmp_path, kind):
    (tmp_path / "sweep").write_text("a file\n")
    run, why = trainings._run_one(str(tmp_path / "sweep" / "a"), FIELDS, kind)
    assert "cannot be written to" in why and "--runs-dir" in why
