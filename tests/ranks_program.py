"""Five steps of a net, for tests/test_ranks.py: run alone, or under ``mpiexec``.

``python ranks_program.py OUT.npz THREADS SYNC`` writes what came of it. With ``SYNC`` "none" the
program is one process; "yes" and "no" are batch norm's.
"""

from __future__ import annotations

import sys
from contextlib import nullcontext

import numpy as np

import tinyshuffle as ts
from tinyshuffle import parallel
from tinyshuffle.parallel import DataParallel
from tinyshuffle.ranks import ranks


class Doubled(ts.nn.Module):
    """A layer without a row of its own: Python runs it, on the whole batch."""

    def forward(self, x):
        self.save(x.mean(0))
        return 2 * x - x.mean(0)

    def backward(self, dy):
        self.saved()
        return 2 * dy - dy.mean(0)


def nets():
    yield "v2", ts.models.create(
        "shufflenet_v2_x0_5", num_classes=10, stem="cifar", stage_repeats=(1, 1, 1),
        conv5_channels=32, seed=1,
    )  # fmt: skip
    small = ts.nn.Sequential(
        ts.nn.Conv2d(3, 8, 3, padding=1, bias=False), ts.nn.BatchNorm2d(8), ts.nn.ReLU(),
        ts.nn.GlobalAvgPool(), Doubled(), ts.nn.Dropout(0.3), ts.nn.Linear(8, 10),
    )  # fmt: skip
    yield "small", DataParallel(small.initialise(2))


def run(dtype):
    rng = np.random.default_rng(0)
    x = rng.standard_normal((13, 8, 8, 3)).astype(dtype)  # no number of ranks divides 13
    labels = rng.integers(0, 10, 13)
    for name, net in nets():
        net.astype(dtype)
        loss = ts.nn.CrossEntropyLoss()
        optim = ts.optim.SGD(net.parameters(), lr=0.05, momentum=0.9, nesterov=True)
        for step in range(5):
            yield f"{name}/loss{step}", np.array(loss(net(x), labels))
            net.backward(loss.backward())
            if step == 0:
                for p in net.parameters():
                    yield f"{name}/grad/{p.name}", p.grad.copy()
            optim.step()
            optim.zero_grad()
        for key, value in net.state_dict().items():
            yield f"{name}/state/{key}", value
        yield f"{name}/test", net.eval()(x)


def main():
    out, threads, sync = sys.argv[1:]
    ts.set_num_threads(int(threads))
    parallel.worthwhile = lambda plan, slices, *_: slices  # so few images would have one thread
    with nullcontext() if sync == "none" else ranks(sync_bn=sync == "yes") as us:
        found = {
            f"{np.dtype(dtype).name}/{key}": value
            for dtype in (np.float64, np.float32)
            for key, value in run(dtype)
        }
        if us is None or us.rank == 0:
            np.savez(out, **found)


if __name__ == "__main__":
    main()
