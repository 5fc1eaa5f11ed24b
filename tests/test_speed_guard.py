"""What makes a step fast, and can be counted: fresh memory, and kernels to compile."""

from __future__ import annotations

import subprocess
import sys
import tracemalloc
from pathlib import Path

import numpy as np
import pytest

import tinyshuffle as ts

MEGABYTE = 2**20


@pytest.fixture(autouse=True)
def threads_as_before():
    yield
    ts.set_num_threads(None)


def training(name: str, batch: int):
    net = ts.models.create(name, num_classes=10, stem="cifar")
    loss = ts.nn.CrossEntropyLoss(0.1)
    opt = ts.optim.SGD(net.parameters(), lr=0.01, momentum=0.9, nesterov=True)
    x = np.random.default_rng(0).standard_normal((batch, 32, 32, 3), np.float32)
    labels = np.arange(batch) % 10

    def step() -> None:
        opt.zero_grad()
        loss(net(x), labels)
        net.backward(loss.backward())
        opt.step()

    return net, x, step


def held(net: ts.DataParallel) -> list[int]:
    """The memory that each thread of a net holds, in bytes."""
    players = [p for made in net._made.values() for p in made.players.values()]
    return [p.nbytes + p.gradients.nbytes for p in players]


@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize("name", ["shufflenet_v2_x0_5", "shufflenet_v1_x0_5_g3"])
def test_a_step_allocates_nothing_large(name, threads):
    """After the first steps all large tensors live in memory that is used again.

    The gradient of the batch is the caller's, fresh at every step: here 12 images, 147 kB.
    """
    ts.set_num_threads(threads)
    net, x, step = training(name, 12)
    for _ in range(3):
        step()
    pools = held(net)
    tracemalloc.start()
    step()
    fresh = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    # scratch memory of a kernel in each thread, at most conv5's weights as they are laid out and
    # their gradient, 2 MB, which the threads may need at the same moment; and small change
    assert fresh < (2 * threads + 1) * MEGABYTE
    assert held(net) == pools


def test_the_guard_sees_an_allocation():
    tracemalloc.start()
    big = np.zeros(4 * MEGABYTE, np.uint8)
    fresh = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert fresh >= big.nbytes


def test_few_kernels_are_compiled():
    """In a process of its own: a V2 step and an evaluation need at most this many."""
    code = (
        "import sys, numpy as np; sys.path.insert(0, 'tests'); import test_speed_guard as t\n"
        "import tinyshuffle.kernels as k, pkgutil, importlib\n"
        "net, x, step = t.training('shufflenet_v2_x0_5', 2); step(); net.eval(); net(x)\n"
        "found = {}\n"
        "for m in pkgutil.iter_modules(k.__path__):\n"
        "    for f in vars(importlib.import_module(f'tinyshuffle.kernels.{m.name}')).values():\n"
        "        if hasattr(f, 'signatures') and hasattr(f, 'py_func'):\n"
        "            found[id(f)] = f.py_func.__qualname__, len(f.signatures)\n"
        "print(sum(n for _, n in found.values()), sorted(v for v in found.values() if v[1]))\n"
    )
    root = Path(__file__).parents[1]
    run = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, cwd=root, check=True
    )
    assert int(run.stdout.split()[0]) <= 60, run.stdout
