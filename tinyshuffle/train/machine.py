"""What a run has run on: written beside its results, as speed and last bits depend on it."""

from __future__ import annotations

import os
import platform
from importlib.metadata import version
from pathlib import Path
from typing import Any

__all__ = ["machine"]


def machine(threads: int) -> dict[str, Any]:
    """Describe processor, system and libraries, as JSON can hold them."""
    from threadpoolctl import threadpool_info

    blas = [pool for pool in threadpool_info() if pool["user_api"] == "blas"]
    return {
        "processor": _processor(),
        "cores": os.cpu_count(),
        "threads": threads,
        "system": f"{platform.system()} {platform.machine()}",
        "python": platform.python_version(),
        "numpy": version("numpy"),
        "numba": version("numba"),
        "blas": " ".join(
            f"{pool['internal_api']} {pool['version']} {pool.get('architecture', '')}".strip()
            for pool in blas[:1]
        ),
    }


def _processor() -> str:
    """The processor's name; on Linux Python does not know it."""
    try:
        for line in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    except OSError:
        pass
    return platform.processor() or platform.machine()
