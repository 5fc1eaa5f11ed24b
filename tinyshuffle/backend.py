"""Which of the two implementations runs: ``ops`` (NumPy) or ``kernels`` (numba, the default).

Where numba is not installed, as in a browser, NumPy is the default, and a line says so.

Layers call ``F.conv2d(…)`` and know nothing of this choice.
"""

from __future__ import annotations

import difflib
import importlib
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from .errors import TinyshuffleError
from .files import installed

__all__ = ["DEFAULT", "F", "backend"]

DEFAULT = "numba" if installed("numba") else "numpy"
"""The backend of a thread that has not said which."""

if DEFAULT == "numpy":
    print(
        "tinyshuffle: numba is not installed, so NumPy does the work: same results, but slowly",
        file=sys.stderr,
    )

_MODULES = {
    "numpy": "tinyshuffle.ops",
    "numba": "tinyshuffle.kernels",
    "trace": "tinyshuffle.ops",  # whose rows are written down: see ``plan.trace``
}


class _Functions(threading.local):
    """The operations of the backend that this thread uses, looked up at the moment of the call."""

    name = DEFAULT

    def __getattr__(self, operation: str) -> Any:
        # found once, kept as an attribute until the backend changes
        function = getattr(importlib.import_module(_MODULES[self.name]), operation)
        self.__dict__[operation] = function
        return function

    def use(self, name: str) -> None:
        self.__dict__.clear()
        self.name = name

    def follow(self, functions: dict[str, Any]) -> None:
        """Use in this thread what ``vars(F)`` was in another."""
        self.__dict__.clear()
        self.__dict__.update(functions)


F = _Functions()


@contextmanager
def backend(name: str) -> Iterator[None]:
    """Use the ``"numpy"`` or the ``"numba"`` implementation, in this thread, inside a ``with``.

    A net's own threads use what the thread uses that calls the net. The default is numba, and
    NumPy where numba is not installed.

    >>> import numpy as np
    >>> import tinyshuffle as ts
    >>> x = np.arange(6.0).reshape(1, 1, 1, 6)
    >>> with ts.backend("numpy"):
    ...     print(ts.nn.ChannelShuffle(groups=3)(x).ravel())
    [0. 2. 4. 1. 3. 5.]
    """
    if name not in ("numpy", "numba"):
        near = difflib.get_close_matches(str(name), ["numpy", "numba"], n=1, cutoff=0)
        raise TinyshuffleError(
            f"unknown backend {name!r}; use 'numpy' or 'numba' (did you mean {near[0]!r}?)"
        )
    if name == "numba" and not installed("numba"):
        raise TinyshuffleError(
            "the backend 'numba' was asked for, and numba is not installed: "
            "pip install numba, or use 'numpy'"
        )
    before = F.name
    F.use(name)
    try:
        yield
    finally:
        F.use(before)
