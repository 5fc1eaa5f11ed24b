"""Score a folder of submissions, each in a process of its own, with limits."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from ..errors import TinyshuffleError
from ..text import message, shown
from ..values import read
from .projects import BUDGET

__all__ = ["LEAST_MEGABYTES", "PROJECTS", "Score", "find_submissions", "rank", "score"]

FIGURES: dict[str, dict[str, tuple[float, float]]] = {
    "unit": {
        "score": (0, 100),
        "multiply_adds": (0, BUDGET),
        "memory_access": (0, 1e12),
        "params": (0, 1e12),
    },
    "kernel": {"score": (0, 1000), "milliseconds": (0, 1e9)},
}
"""What each project measures, and from where to where that can be: a kernel a thousand times as
fast as plain loops is none."""

LEAST_MEGABYTES = {"unit": 1500, "kernel": 500}
"""What the library itself takes of an address space, and a little more. With less, whatever comes
first fails, in a way of its own."""

PROJECTS = tuple(FIGURES)

MOST_BYTES = 10_000
"""Of a result file; what the library writes has some two hundred."""


@dataclass(frozen=True)
class Score:
    """What a submission has reached: figures, or an error that says why there are none."""

    student: str
    figures: dict[str, float] = field(default_factory=dict)
    error: str = ""
    seconds: float = 0.0


def find_submissions(folder: str | Path) -> dict[str, Path]:
    """Files by student: ``FOLDER/ada.py`` or ``FOLDER/ada/submission.py``.

    What else lies there is listed too, so that nobody is left out in silence: :func:`score`
    reports that it is no submission. Names that begin with a dot or an underscore are passed over.

    Raises
    ------
    TinyshuffleError
        If there is no such folder, or no submission in it.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise TinyshuffleError(f"{folder} is not a folder: give the one that holds the submissions")
    found = {}
    for path in sorted(p for p in folder.iterdir() if not p.name.startswith((".", "_"))):
        if path.is_dir():
            found[path.name] = path / "submission.py"
        else:
            clash = path.with_suffix("").is_dir()  # ada/ and ada.py
            found[path.stem if path.suffix == ".py" and not clash else path.name] = path
    if not any(_is_submission(file) for file in found.values()):
        raise TinyshuffleError(
            f"{folder} holds no submissions: they are called STUDENT.py or STUDENT/submission.py"
        )
    return found


def _is_submission(file: Path) -> bool:
    return file.suffix == ".py" and file.is_file()


def score(
    project: str, submissions: dict[str, Path], seconds: float = 300, megabytes: int = 4096
) -> Iterator[Score]:
    """Run one submission after the other, and yield what each has reached.

    A submission that does not end within ``seconds``, wants more than ``megabytes`` or fails in any
    other way is reported, and the next one is run. What it prints is thrown away. These limits
    guard against accidents and not against attacks: run strangers' files in a container. Windows
    has no limit of memory here, only that of time. A process that a submission starts is ended with
    it, unless it was detached on purpose (or, on Windows, outlives the one that started it).
    """
    for student, file in submissions.items():
        yield _run(project, student, file.resolve(), seconds, megabytes)


def rank(scores: list[Score]) -> list[Score]:
    """The best first; equal ones by fewer multiply–adds; those without a score last, by name."""

    def place(s: Score) -> tuple[bool, float, float, str]:
        figures = s.figures
        adds = figures.get("multiply_adds", 0)
        return bool(s.error), -round(figures.get("score", 0), 2), adds, s.student

    return sorted(scores, key=place)


def _run(project: str, student: str, file: Path, seconds: float, megabytes: int) -> Score:
    if not _is_submission(file):
        return Score(student, error="no submission: call it STUDENT.py or STUDENT/submission.py")
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
        result = Path(folder) / "result.json"
        command = [
            sys.executable, "-m", "tinyshuffle.course.projects", project, str(file), str(result),
            str(megabytes),
        ]  # fmt: skip
        start = time.perf_counter()
        process = subprocess.Popen(
            command,
            cwd=folder,  # what it writes by a relative path goes away with the folder
            env=_environment(),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,  # so that what it starts can be ended with it
        )
        try:
            process.wait(timeout=seconds)
            ended = True
        except subprocess.TimeoutExpired:
            ended = False
        finally:
            _end(process)
        took = time.perf_counter() - start
        if not ended:
            return Score(student, error=f"it did not end within {seconds:g} s", seconds=took)
        figures, error = _read(project, result, process.returncode)
    return Score(student, figures, error, took)


def _read(project: str, result: Path, code: int) -> tuple[dict[str, float], str]:
    """Return the figures in a result file, or why there are none.

    The process that wrote it also ran a student's code, which may have written something else.
    """
    try:
        with open(result, "rb") as file:
            text = file.read(MOST_BYTES + 1)
    except OSError:
        return {}, _how_it_died(code)
    try:
        if len(text) > MOST_BYTES:
            raise ValueError
        found = json.loads(text)
        if isinstance(found, dict) and isinstance(found.get("error"), str):
            return {}, message(ValueError(found["error"]))
        if set(found) != set(FIGURES[project]):
            raise ValueError
        for name, value in found.items():
            read(name, value, float, text=False)
            least, most = FIGURES[project][name]
            if not least <= value <= most:
                return {}, (
                    f"its result has {name}={shown(value)}, which can be {least:,} to {most:,.0f} "
                    "only: did it write that file itself?"
                )
        return found, ""
    except (ValueError, TypeError, RecursionError):
        return {}, "its result is not what the scoring writes: did it write that file itself?"


def _environment() -> dict[str, str]:
    """One thread each, so that times can be compared; and the library that is running now."""
    library = str(Path(__file__).resolve().parents[2])
    path = os.pathsep.join(filter(None, [library, os.environ.get("PYTHONPATH")]))
    names = ("OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS", "MKL_NUM_THREADS", "NUMBA_NUM_THREADS")
    return os.environ | {name: "1" for name in names} | {"PYTHONPATH": path}


def _end(process: subprocess.Popen[bytes]) -> None:
    """End a submission and what it has started."""
    if sys.platform != "win32":
        try:
            os.killpg(process.pid, signal.SIGKILL)
        except (ProcessLookupError, PermissionError):  # all gone
            pass
    elif process.poll() is None:
        tree = ["taskkill", "/F", "/T", "/PID", str(process.pid)]
        subprocess.run(tree, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, check=False)
        process.kill()
    process.wait()


def _how_it_died(code: int) -> str:
    if code < 0:
        try:
            name = signal.Signals(-code).name
        except ValueError:
            name = f"signal {-code}"
        likely = name in ("SIGKILL", "SIGSEGV", "SIGABRT")
        memory = ", for too much memory perhaps" if likely else ""
        return f"it was ended by {name}{memory}"
    return f"it ended early (exit code {code}) and left no result"
