"""A worker process, seen from its parent: a clean environment, questions and answers.

Both are lines of JSON. A worker that nobody asks anything sleeps, blocked on its input, and costs
the others nothing.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from ..errors import TinyshuffleError

__all__ = ["OURS", "Worker", "alone", "clean_environment", "cleared", "other_cpu"]

OURS = "tinyshuffle"

# Variables that choose other kernels or other numbers of threads than a user gets by default.
_PREFIXES = (
    "ATEN_", "BLIS_", "DNNL_", "GOMP_", "GOTO_", "KMP_", "MKL_", "NUMBA_", "NVPL_", "OMP_",
    "ONEDNN_", "OPENBLAS_", "VECLIB_",
)  # fmt: skip
# These make this machine act as another one, on purpose; whoever sets them is told so.
_OTHER_CPU = (
    "ATEN_CPU_CAPABILITY", "NUMBA_CPU_FEATURES", "NUMBA_CPU_NAME", "ONEDNN_MAX_CPU_ISA",
)  # fmt: skip
_KEPT = ("NUMBA_CACHE_DIR", *_OTHER_CPU)


def clean_environment(environment: Mapping[str, str]) -> tuple[dict[str, str], list[str]]:
    """Return a copy without what distorts speed, and the names that were taken out.

    >>> clean_environment({"PATH": "/bin", "OPENBLAS_CORETYPE": "Haswell"})
    ({'PATH': '/bin'}, ['OPENBLAS_CORETYPE'])
    """
    cleared = sorted(
        name for name in environment if name.startswith(_PREFIXES) and name not in _KEPT
    )
    return {name: v for name, v in environment.items() if name not in cleared}, cleared


def cleared() -> list[str]:
    """Return the names of this process's variables that workers do not get."""
    return clean_environment(os.environ)[1]


def other_cpu() -> list[str]:
    """Return the variables, with their values, by which workers compile for another processor."""
    return [f"{name}={os.environ[name]}" for name in _OTHER_CPU if os.environ.get(name)]


class Worker:
    """A process that runs one side of a comparison. Use as ``with Worker(…) as worker:``.

    Parameters
    ----------
    name : str
        For messages, such as ``"PyTorch"``.
    job : dict
        What to prepare; see :mod:`tinyshuffle.bench.worker`.
    environment : dict, optional
        Added to the clean environment.

    Raises
    ------
    TinyshuffleError
        In a browser, where Python cannot start a process.
    """

    def __init__(
        self, name: str, job: dict[str, Any], environment: Mapping[str, str] | None = None
    ) -> None:
        self.name = name
        if sys.platform == "emscripten":
            raise TinyshuffleError(
                f"{name} is measured in a process of its own, which a browser cannot start: run "
                "this where Python is installed"
            )
        clean, _ = clean_environment(os.environ)
        root = str(Path(__file__).resolve().parents[2])
        paths = [root, *filter(None, [clean.get("PYTHONPATH")])]
        clean |= {"PYTHONPATH": os.pathsep.join(paths), "PYTHONIOENCODING": "utf-8"}
        self._errors = tempfile.TemporaryFile("w+", encoding="utf-8", errors="replace")
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tinyshuffle.bench.worker"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._errors,
            env=clean | dict(environment or {}),
            encoding="utf-8",
        )
        self._send(job)

    def ready(self) -> dict[str, Any]:
        """Wait until the worker has prepared its job; return what it says of it."""
        return self._receive()

    def ask(self, what: str, **arguments: Any) -> Any:
        """Have the worker do something, and return its answer."""
        self._send({"ask": what} | arguments)
        return self._receive()

    def check(self, path: Path, **more: Any) -> dict[str, np.ndarray]:
        """Return the arrays that must be alike on every side, by way of a file."""
        self.ask("check", path=str(path), **more)
        with np.load(path, allow_pickle=False) as file:
            return dict(file)

    def _send(self, message: dict[str, Any]) -> None:
        assert self._process.stdin is not None
        try:
            self._process.stdin.write(json.dumps(message) + "\n")
            self._process.stdin.flush()
        except OSError:
            raise self._death() from None

    def _receive(self) -> Any:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line.endswith("\n"):
            raise self._death()
        answer = json.loads(line)
        if "error" in answer:
            raise TinyshuffleError(answer["error"])
        return answer["answer"]

    def _death(self) -> TinyshuffleError:
        code = self._process.wait()
        self._errors.seek(0)
        lines = [line.strip() for line in self._errors if line.strip()]
        last = lines[-1] if lines else "it said nothing"
        return TinyshuffleError(f"the process for {self.name} ended (exit code {code}): {last}")

    def close(self) -> None:
        """End the process, whatever it is doing."""
        process = self._process
        process.kill()  # it has nothing to lose: results were sent, files belong to the parent
        process.wait()
        for stream in (process.stdin, process.stdout, self._errors):
            assert stream is not None
            try:
                stream.close()
            except OSError:  # what was still to be written to it
                pass

    def __enter__(self) -> Worker:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def alone(job: dict[str, Any], name: str) -> dict[str, Any]:
    """Have a worker do a job that has no questions to follow."""
    with Worker(name, job) as worker:
        return worker.ready()
