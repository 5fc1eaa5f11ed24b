"""On which core a thread runs.

Linux wakes a thread where the one that wakes it runs, in the hope that it will have to wait soon.
Slices do not: two of them on one core take turns for many milliseconds, while another core is idle.
So for the time of a pass each stays on a core of its own.
"""

from __future__ import annotations

import ctypes
import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress

__all__ = ["own_core"]


def _core_function() -> Callable[[], int] | None:
    """The system's function that tells on which core a thread runs; None if there is none."""
    libc = ctypes.PyDLL(None) if sys.platform == "linux" else None
    return getattr(libc, "sched_getcpu", None)


_core = _core_function()


@contextmanager
def own_core(taken: list[int]) -> Iterator[None]:
    """Keep this thread on a core that is not in the list, where it stands meanwhile.

    Where the system says no, or has no such core left, nothing happens.
    """
    if _core is None:
        yield
        return
    allowed = os.sched_getaffinity(0)  # 0 is this thread
    free, here = allowed.difference(taken), _core()
    mine = here if here in free else min(free, default=here)
    taken.append(mine)
    try:
        if free:
            with suppress(OSError):
                os.sched_setaffinity(0, {mine})  # moves it at once
        yield
    finally:
        taken.remove(mine)
        with suppress(OSError):
            os.sched_setaffinity(0, allowed)
