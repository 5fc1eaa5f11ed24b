"""What this machine is: processor, memory, libraries, and what a process takes of them.

A benchmark asks in a worker process: there the environment is clean, so the BLAS that is named is
the one that is measured.
"""

from __future__ import annotations

import platform
import re
import subprocess
import sys
from dataclasses import asdict, dataclass
from importlib import metadata
from pathlib import Path
from typing import Any

from .memory import physical
from .parallel import usable_cores

__all__ = ["Machine", "describe", "last_level_cache", "resident_memory"]

PACKAGES = {"NumPy": "numpy", "numba": "numba", "PyTorch": "torch", "ONNX Runtime": "onnxruntime"}
GIGABYTE = 2**30


@dataclass(frozen=True)
class Machine:
    """What ran.

    Attributes
    ----------
    cpu, system : str
    cores : int
        That this process may run on.
    threads : int
        That the run used.
    memory : int
        Bytes, 0 if unknown.
    cache : int
        Bytes of the last-level cache, 0 if unknown.
    blas : str
        The library behind NumPy's products, its version, and the core that it chose kernels for.
    versions : dict
        Of Python, NumPy, numba, and those peers that are installed.
    """

    cpu: str
    system: str
    cores: int
    threads: int
    memory: int
    cache: int
    blas: str
    versions: dict[str, str]

    def lines(self) -> list[str]:
        """Return the report as text."""
        memory = f"{self.memory / GIGABYTE:.0f} GiB" if self.memory else "of unknown size"
        return [
            f"machine: {self.cpu}, {self.cores} cores, memory {memory}, {self.system}",
            f"threads: {self.threads}; NumPy's products: {self.blas}",
            "versions: " + ", ".join(f"{name} {v}" for name, v in self.versions.items()),
        ]

    def to_dict(self) -> dict[str, Any]:
        """Return the report as JSON can hold it."""
        return asdict(self)


def describe(threads: int) -> Machine:
    """Look at this machine and at the libraries of this process."""
    versions = {"Python": platform.python_version()}
    for name, package in PACKAGES.items():
        try:
            versions[name] = metadata.version(package)
        except metadata.PackageNotFoundError:
            pass
    return Machine(
        cpu=_cpu(),
        system=f"{platform.system()} {platform.release()} {platform.machine()}",
        cores=usable_cores(),
        threads=threads,
        memory=physical(),
        cache=last_level_cache(),
        blas=_blas(),
        versions=versions,
    )


def _cpu() -> str:
    name = ""
    if sys.platform == "linux":
        found = re.search(r"^model name\s*: (.+)$", _read("/proc/cpuinfo"), re.M)
        name = found[1] if found else ""
    elif sys.platform == "darwin":
        name = _sysctl("machdep.cpu.brand_string")
    elif sys.platform == "win32":
        import winreg

        where = r"HARDWARE\DESCRIPTION\System\CentralProcessor\0"
        with winreg.OpenKey(winreg.HKEY_LOCAL_MACHINE, where) as key:
            name = str(winreg.QueryValueEx(key, "ProcessorNameString")[0])
    return " ".join(name.split()) or platform.processor() or "unknown processor"


def last_level_cache() -> int:
    """Return the bytes of the largest cache that a core has, or 0 if the system does not say."""
    if sys.platform == "darwin":
        return max(int(_sysctl(f"hw.{level}cachesize") or 0) for level in ("l2", "l3"))
    sizes = [0]
    for file in Path("/sys/devices/system/cpu/cpu0/cache").glob("index*/size"):
        found = re.fullmatch(r"(\d+)([KM]?)", _read(str(file)).strip())
        if found:
            sizes.append(int(found[1]) * {"": 1, "K": 2**10, "M": 2**20}[found[2]])
    return max(sizes)


def _blas() -> str:
    from threadpoolctl import threadpool_info

    found = [info for info in threadpool_info() if info["user_api"] == "blas"]
    # a process that has imported PyTorch too may hold two
    found.sort(key=lambda info: "numpy" not in info["filepath"])
    if not found:
        return "a BLAS that threadpoolctl does not know"
    info = found[0]
    core = info.get("architecture")
    words = [info["internal_api"], info.get("version") or ""]
    return " ".join(word for word in words if word) + (f", core {core}" if core else "")


def _read(path: str) -> str:
    try:
        return Path(path).read_text(encoding="utf-8")
    except OSError:
        return ""


def _sysctl(name: str) -> str:
    done = subprocess.run(["sysctl", "-n", name], capture_output=True, text=True, check=False)
    return done.stdout.strip()


# ---- what a process takes


def resident_memory() -> tuple[int, int]:
    """Return the bytes of memory that this process holds at its peak and now."""
    import psutil

    found = psutil.Process().memory_info()
    if sys.platform == "win32":
        return found.peak_wset, found.rss
    if sys.platform == "linux":
        # getrusage's ru_maxrss would begin with the peak of the process that started this one
        peak = re.search(r"^VmHWM:\s*(\d+) kB", _read("/proc/self/status"), re.M)
        return (int(peak[1]) * 1024 if peak else found.rss), found.rss
    import resource

    scale = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * scale, found.rss
