"""Runs of several trainings: each is trained once, whoever is at it."""

from __future__ import annotations

import json
import threading
from dataclasses import replace
from types import SimpleNamespace

import pytest
from joblib import parallel_config

from tinyshuffle.train import trainings
from tinyshuffle.train.trainings import Kind, train_all

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


def config(epochs=1):
    return SimpleNamespace(epochs=epochs, threads=1, to_dict=lambda: {"epochs": epochs})


def leave(run, *lines):
    """What a finished training leaves."""
    run.mkdir(parents=True)
    (run / "log.jsonl").write_text("".join(f"{line}\n" for line in lines))
    (run / "report.html").touch()


@pytest.fixture
def quick():
    """A training that is done at once."""

    def begin(run, fields):
        leave(run, json.dumps({"hits": 0.25}))

    with parallel_config(backend="sequential"):
        yield Kind("hits", "report.html", begin, begin)


def test_a_log_that_is_another_when_it_is_read_again_ends_nothing(
    tmp_path, quick, monkeypatch, capsys
):
    """As on a network's disk, where it may be out of reach for a while."""
    read_rows, read = trainings.read_rows, []

    def once(run, measure):
        rows = read_rows(run, measure)
        read.append(len(rows))
        return rows if sum(read) <= 1 else []

    monkeypatch.setattr(trainings, "read_rows", once)
    assert train_all([(tmp_path / "a", config())], 1, False, quick) == {}
    assert "a: 25.00 %" in capsys.readouterr().out


def test_a_log_that_ends_in_the_midst_of_a_row_is_that_run_s_failure_alone(tmp_path, quick):
    leave(tmp_path / "a", '{"hits": 0.2')
    failed = train_all([(tmp_path / name, config()) for name in "ab"], 1, True, quick)
    assert list(failed) == [tmp_path / "a"] and "log.jsonl is damaged" in failed[tmp_path / "a"]
    assert trainings.read_rows(tmp_path / "b", "hits") == [{"hits": 0.25}]


def test_a_log_whose_last_epoch_has_no_test_is_not_that_of_a_finished_training(tmp_path, quick):
    leave(tmp_path / "a", '{"hits": 0.2}', '{"hits": null}')
    (tmp_path / "a" / "last.npz").touch()
    resumed = []
    kind = replace(quick, go_on=lambda run, fields: resumed.append(run))
    assert train_all([(tmp_path / "a", config(2))], 1, False, kind) == {}
    assert resumed == [tmp_path / "a"]
