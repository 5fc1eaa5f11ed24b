"""How long a training step takes, and how much of it the ranks exchange.

    mpiexec -n 2 python docs/scaling/step.py --threads 1     # two ranks of a thread
    python docs/scaling/step.py --threads 2                  # one process of two threads
"""

from __future__ import annotations

import argparse
import statistics
import time

import numpy as np

import tinyshuffle as ts
from tinyshuffle.ranks import ranks


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--batch", type=int, default=128)
    parser.add_argument("--steps", type=int, default=30)
    parser.add_argument("--model", default="shufflenet_v2_x0_5")
    parser.add_argument("--sync-bn", default="yes", choices=("yes", "no"))
    given = parser.parse_args()

    ts.set_num_threads(given.threads)
    with ranks(sync_bn=given.sync_bn == "yes") as us:
        waits: list[float] = []  # seconds of each sum over the ranks but the gradient's
        add = us.add

        def clocked(*arrays: np.ndarray) -> None:
            start = time.perf_counter()
            add(*arrays)
            waits.append(time.perf_counter() - start)

        us.add = clocked  # type: ignore[method-assign]
        net = ts.models.create(given.model, num_classes=10, stem="cifar")
        loss = ts.nn.CrossEntropyLoss()
        optim = ts.optim.SGD(net.parameters(), lr=0.01, momentum=0.9, nesterov=True)
        rng = np.random.default_rng(0)
        x = rng.standard_normal((given.batch, 32, 32, 3)).astype(np.float32)
        labels = rng.integers(0, 10, given.batch)
        times = []
        for step in range(given.steps + 5):
            if step == 5:
                waits.clear()
            us.most(0.0)  # all begin together
            start = time.perf_counter()
            loss(net(x), labels)
            net.backward(loss.backward())
            optim.step()
            optim.zero_grad()
            times.append(time.perf_counter() - start)
        times = times[5:]
        if us.rank > 0:
            return
        print(
            f"{us.size} x {given.threads}, {given.model}, {given.batch} images: "
            f"median {1e3 * statistics.median(times):.1f} ms, fastest {1e3 * min(times):.1f} ms"
        )
        if waits:
            print(
                f"  {len(waits) / given.steps:.0f} sums of batch norm a step: median "
                f"{1e6 * statistics.median(waits):.0f} µs, with waiting for the others "
                f"{1e3 * sum(waits) / given.steps:.1f} ms a step"
            )


if __name__ == "__main__":
    main()
