"""How many threads NumPy's matrix products may use."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from threadpoolctl import ThreadpoolController

__all__ = ["limit"]

_lock = threading.Lock()
_limits: list[tuple[int, int]] = []  # those that hold now: whose thread, and how many
_before: list[Any] = []  # remembers what each library was set to when none held


@contextmanager
def limit(threads: int) -> Iterator[None]:
    """Within this context, matrix products use at most so many threads, in the whole process.

    One thread, wherever a net's slices run side by side or are about to: the library's other
    threads do not sleep after a product but wait busily for the next one, for some hundredths of a
    second, on the cores that the slices need.

    Several threads may each be in a context of their own, and leave them in any order: the lowest
    limit holds, and behind the last one the process has what it had before.
    """
    mine = threading.get_ident(), threads
    with _lock:
        _limits.append(mine)
        if len(_limits) == 1:
            _before[:] = [_set(threads)]
        else:
            _apply()
    try:
        yield
    finally:
        with _lock:
            _limits.remove(mine)
            _apply()


def _apply() -> None:
    if _limits:
        _set(min(threads for _, threads in _limits))
    elif _before:
        before = _before.pop()
        if before is not None:
            before.restore_original_limits()


def _set(threads: int) -> Any:
    controller = _controller()
    return controller and controller.limit(limits=threads, user_api="blas")


def _forget_other_threads() -> None:
    """In a forked process, in which they do not exist and will not leave their contexts."""
    _lock._at_fork_reinit()  # type: ignore[attr-defined]
    if _limits:
        _limits[:] = [mine for mine in _limits if mine[0] == threading.get_ident()]
        _apply()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget_other_threads)


@cache
def _controller() -> ThreadpoolController | None:
    try:
        from threadpoolctl import ThreadpoolController
    except ModuleNotFoundError:  # as in a browser, which has one thread
        return None
    return ThreadpoolController()
