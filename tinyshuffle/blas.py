"""How many threads NumPy's matrix products may use."""

from __future__ import annotations

from contextlib import AbstractContextManager
from functools import cache
from typing import Any

from threadpoolctl import ThreadpoolController

__all__ = ["limit"]


def limit(threads: int) -> AbstractContextManager[Any]:
    """Within this context, matrix products use so many threads, in the whole process.

    One thread, wherever a net's slices run side by side or are about to: the library's other
    threads do not sleep after a product but wait busily for the next one, for some hundredths of a
    second, on the cores that the slices need.
    """
    return _controller().limit(limits=threads, user_api="blas")


@cache
def _controller() -> ThreadpoolController:
    return ThreadpoolController()
