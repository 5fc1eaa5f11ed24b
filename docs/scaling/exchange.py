"""How long ranks take for a sum alone, when nobody is late: ``mpiexec -n 2 python …``."""

from __future__ import annotations

import statistics
import time

import numpy as np

from tinyshuffle.ranks import ranks

with ranks() as us:
    for n, dtype in ((3 * 24, "f8"), (3 * 192, "f8"), (3 * 1024, "f8"), (352_042, "f4")):
        a = np.ones(n, dtype)
        times = []
        for _ in range(300):
            us.most(0.0)
            start = time.perf_counter()
            us.add(a)
            times.append(time.perf_counter() - start)
            a[:] = 1
        if us.rank == 0:
            each = 1e6 * statistics.median(times)
            print(f"{us.size} ranks, {a.nbytes:9,} bytes: {each:8.1f} µs")
