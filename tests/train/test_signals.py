"""What a signal makes of a training that compiles."""

from __future__ import annotations

import os
import signal
import time

import pytest

from tinyshuffle.train.signals import Interrupted, Signals


def test_a_signal_where_llvm_calls_python_back_is_raised_a_moment_later():
    """An exception would be printed there, and the compiler go on without what it waits for."""
    inside = compile(
        "def notify(send, signum):\n    send(signum)\n    return 'went on'\n",
        os.path.join("packages", "llvmlite", "binding", "executionengine.py"), "exec",
    )  # fmt: skip
    space: dict = {}
    exec(inside, space)
    with Signals() as signals:
        signals.at_once = lambda signum: Interrupted("stopped", signum)
        assert space["notify"](signal.raise_signal, signal.SIGINT) == "went on"
        assert not signals.received
        with pytest.raises(Interrupted, match="stopped"):
            time.sleep(10)
    assert signals.received == signal.SIGINT
