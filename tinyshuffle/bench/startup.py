"""How long a fresh process takes until its first training step is done."""

from __future__ import annotations

import tempfile
import time
from dataclasses import dataclass

from ..machine import Machine
from .process import OURS, Worker, alone, cleared
from .progress import Progress
from .run import Case

__all__ = ["Startup", "measure_startup"]


@dataclass(frozen=True)
class Startup:
    """Seconds from the start of a process to the end of its first training step.

    Attributes
    ----------
    cold : float
        With an empty cache of compiled kernels, as after an installation.
    warm : list of float
        With a full one.
    """

    case: Case
    machine: Machine
    cleared: list[str]
    cold: float
    warm: list[float]


def measure_startup(case: Case, rounds: int, progress: Progress) -> Startup:
    """Start a process with an empty cache once, and then ``rounds`` with the full one."""
    with tempfile.TemporaryDirectory(prefix="tinyshuffle-bench-") as folder:
        progress.phase("empty cache: compiling")
        cold = _first_step(case, folder)
        warm = [_first_step(case, folder) for _ in progress.rounds("full cache", rounds)]
    machine = alone(case.job("machine"), OURS)["machine"]
    return Startup(case, Machine(**machine), cleared(), cold, warm)


def _first_step(case: Case, cache: str) -> float:
    start = time.perf_counter()
    with Worker(OURS, case.job(OURS), {"NUMBA_CACHE_DIR": cache}) as worker:
        worker.ready()
        worker.ask("run", seconds=0, least=1)
        return time.perf_counter() - start
