"""A thread that stays on a core of its own for a while."""

from __future__ import annotations

import os
import threading

import pytest

from tinyshuffle.plan import cores

needs_linux = pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="Linux alone has it")


@needs_linux
def test_each_has_its_own_as_long_as_there_are_cores():
    allowed, taken, seen = os.sched_getaffinity(0), [], []
    inside, leave = threading.Barrier(len(allowed) + 1), threading.Event()

    def stay():
        with cores.own_core(taken):
            seen.append(os.sched_getaffinity(0))
            inside.wait()
            leave.wait()

    threads = [threading.Thread(target=stay) for _ in allowed]
    for thread in threads:
        thread.start()
    inside.wait()
    assert sorted(taken) == sorted(allowed) and {len(core) for core in seen} == {1}
    with cores.own_core(taken):  # one more than there are cores
        assert os.sched_getaffinity(0) == allowed
    leave.set()
    for thread in threads:
        thread.join()
    assert taken == []


@needs_linux
def test_afterwards_it_may_go_where_it_might_before():
    allowed = os.sched_getaffinity(0)
    with pytest.raises(KeyboardInterrupt), cores.own_core([]):
        raise KeyboardInterrupt
    assert os.sched_getaffinity(0) == allowed


def test_a_system_that_does_not_tell(monkeypatch):
    monkeypatch.setattr(cores, "_core", None)
    with cores.own_core([]):
        pass
