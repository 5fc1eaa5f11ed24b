"""How a training ends, or does not end, when the system asks it to: Ctrl-C, SIGTERM, SIGHUP."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any

__all__ = ["Interrupted", "Signals", "outlive_terminal", "sigterm_as_interrupt"]

_MOMENT = 0.01  # seconds until a signal is looked at again


class Interrupted(KeyboardInterrupt):
    """The run was stopped by a signal between two steps, and its checkpoint is written."""

    def __init__(self, message: str, signum: int) -> None:
        super().__init__(message)
        self.signum = signum

    def __reduce__(self) -> tuple:  # a pool of processes that cannot send it on hangs
        return type(self), (str(self), self.signum)


class Signals:
    """Remember the first Ctrl-C or SIGTERM, so that the step under way can end.

    While ``at_once`` is set, to what makes an exception of a signal, it does not wait for that: a
    run's first step compiles the kernels, and nothing is lost as its checkpoint is written.
    """

    received = 0
    at_once: Callable[[int], Interrupted] | None = None

    def __enter__(self) -> Signals:
        self._before: dict[int, Any] = {}
        if threading.current_thread() is threading.main_thread():
            for signum in (signal.SIGINT, signal.SIGTERM):
                handler = signal.getsignal(signum)
                if handler not in (signal.SIG_IGN, None):  # nohup's wish is respected
                    self._before[signum] = handler
                    signal.signal(signum, self._note)
        return self

    def _note(self, signum: int, frame: FrameType | None) -> None:
        if self.at_once is not None and _is_lost(frame):
            again = threading.Timer(_MOMENT, _send_main, (signum,))
            again.daemon = True
            again.start()
            return
        self.received = signum
        self.__exit__()  # the second one acts at once
        if self.at_once is not None:
            raise self.at_once(signum)

    def __exit__(self, *_: object) -> None:
        for signum, handler in self._before.items():
            signal.signal(signum, handler)


def _send_main(signum: int) -> None:
    """Send a signal to the main thread, which may sleep."""
    if hasattr(signal, "pthread_kill"):
        signal.pthread_kill(threading.main_thread().ident or 0, signum)
    else:
        signal.raise_signal(signum)


def _is_lost(frame: FrameType | None) -> bool:
    """Whether an exception that is raised here would be printed, and the program go on.

    LLVM calls Python back while it compiles, and what Python raises cannot pass through it.
    """
    while frame is not None:
        if os.path.join("llvmlite", "binding") in frame.f_code.co_filename:
            return True
        frame = frame.f_back
    return False


@contextmanager
def outlive_terminal() -> Iterator[None]:
    """Go on when the terminal is closed, as under ``nohup``: nobody is there to start again."""
    if not hasattr(signal, "SIGHUP") or threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        yield
    finally:
        signal.signal(signal.SIGHUP, before)


@contextmanager
def sigterm_as_interrupt() -> Iterator[None]:
    """Let a SIGTERM do what Ctrl-C does, or the pool's processes would train on without us."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def stop(*_: object) -> None:
        raise KeyboardInterrupt  # not by way of SIGINT, which a job in the background ignores

    before = signal.signal(signal.SIGTERM, stop)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)
