"""Kernels that other processes compile ahead, and what if these are killed."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

import tinyshuffle
from tinyshuffle.kernels import ahead

ROOT = Path(tinyshuffle.__file__).parents[1]


class Kernel:
    """Of a module that kills whoever imports it."""

    def __init__(self, module, name):
        self.__name__, self.py_func = name, type("function", (), {"__module__": module})


def test_processes_that_are_killed_are_no_fault(tmp_path, monkeypatch):
    """As by a SIGTERM to all of a job, or for want of memory: this process compiles as it goes."""
    for name in ("doomed_a", "doomed_b"):
        (tmp_path / f"{name}.py").write_text(
            "import os, signal\nos.kill(os.getpid(), signal.SIGTERM)\n"
        )
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr("joblib.cpu_count", lambda: 2)
    monkeypatch.setattr(ahead, "_is_there", lambda *_: False)
    kernels = [
        (Kernel(module, f"kernel_{i}"), np.dtype("float32"))
        for module in ("doomed_a", "doomed_b")
        for i in range(4)
    ]
    walked = []
    ahead.compile_ahead(kernels, lambda: walked.append(1))
    assert walked == [1]


@pytest.mark.slow
@pytest.mark.skipif(not hasattr(os, "killpg"), reason="POSIX has groups of processes")
@pytest.mark.parametrize("signum", [signal.SIGTERM, signal.SIGINT])
def test_a_job_that_is_stopped_while_kernels_compile_ends_in_a_sentence(tmp_path, signum):
    """A batch system signals every process of a job, a terminal every one in front."""
    job = subprocess.Popen(
        [sys.executable, "-m", "tinyshuffle", "train", "--name", "run", "--threads", "1"],
        cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        start_new_session=True,
        env={**os.environ, "PYTHONPATH": str(ROOT), "NUMBA_CACHE_DIR": str(tmp_path / "kernels")},
    )  # fmt: skip
    while not (tmp_path / "runs" / "run" / "last.npz").exists():
        assert job.poll() is None, job.communicate()
        time.sleep(0.05)
    time.sleep(5)  # the kernels of a first step take half a minute
    os.killpg(job.pid, signum)
    _, said = job.communicate(timeout=300)
    assert job.returncode == 128 + signum and "Traceback" not in said, said
    assert said.startswith("stopped after step 0 of 125 in epoch 1; continue with: "), said


@pytest.mark.skipif(not os.path.exists("/proc/self/status"), reason="Linux tells what is blocked")
def test_ctrl_c_does_not_reach_the_processes():
    """In a process of its own, in which nothing has started one before."""
    program = """
from joblib.externals.loky import ProcessPoolExecutor
from tinyshuffle.kernels import ahead
look = "[int(s.split()[1], 16) >> 1 & 1 for s in open('/proc/self/status') if 'SigBlk' in s]"
pool = ProcessPoolExecutor(2)
with ahead._without_ctrl_c():
    found = [pool.submit(eval, look) for _ in range(4)]
print([one.result() for one in found])
pool.shutdown()
"""
    env = {**os.environ, "PYTHONPATH": str(ROOT)}
    said = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, env=env)
    assert said.stdout.strip() == "[[1], [1], [1], [1]]", said.stderr
