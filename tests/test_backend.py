"""Which implementation runs is a matter of the thread that says so, and of its nets."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor

import numpy as np

import tinyshuffle as ts
from tinyshuffle import nn
from tinyshuffle.backend import F

PATIENCE = 60  # seconds


def running() -> str:
    return F.relu.__module__.split(".")[1]


def test_a_backend_does_not_leak_into_other_threads():
    first_in, second_in, first_out = (threading.Event() for _ in range(3))
    seen = {}

    def first():
        with ts.backend("numpy"):
            first_in.set()
            assert second_in.wait(PATIENCE)
            seen["first"] = running()
        first_out.set()

    def second():
        assert first_in.wait(PATIENCE)
        seen["before"] = running()
        with ts.backend("numba"):
            second_in.set()
            assert first_out.wait(PATIENCE)
            seen["second"] = running()
        seen["after"] = running()

    with ThreadPoolExecutor(2) as pool:
        for done in [pool.submit(job) for job in (first, second)]:
            done.result(PATIENCE)
    assert seen == {
        "first": "ops", "before": "kernels", "second": "kernels", "after": "kernels"
    }  # fmt: skip
    assert running() == "kernels"


def test_the_layers_of_a_net_use_the_backend_of_the_thread_that_calls_it(monkeypatch):
    monkeypatch.setattr("tinyshuffle.parallel.usable_cores", lambda: 8, raising=False)
    seen = []

    class Looks(nn.Module):
        def forward(self, x):
            y = x + 1  # looked at without numbers, it comes to this point
            seen.append(running())
            return y

    net, x = ts.DataParallel(Looks()), np.zeros((3, 2), np.float32)
    ts.set_num_threads(3)
    try:
        for name, room in ("numpy", "ops"), ("numba", "kernels"), ("numpy", "ops"):
            with ts.backend(name):
                net(x)
            assert seen == [room]
            seen.clear()
        net(x)
        assert seen == ["kernels"]
    finally:
        ts.set_num_threads(None)


def test_counting_in_one_thread_does_not_disturb_a_net_in_another():
    net, x = ts.models.create("shufflenet_v2_x0_5", 5, "cifar").eval(), np.ones((1, 8, 8, 3))
    x = x.astype(np.float32)
    expected, inside, done = net(x), threading.Event(), threading.Event()

    class Slow(nn.Module):
        def cost(self, x):
            inside.set()
            assert done.wait(PATIENCE)
            return ts.ops.Cost(output=x, elementwise=1, memory_access=1)

        def backward(self, dy):
            return dy

    with ThreadPoolExecutor(1) as pool:
        counted = pool.submit(ts.cost.profile, Slow(), (1, 8, 8, 3))
        try:
            assert inside.wait(PATIENCE)
            np.testing.assert_array_equal(net(x), expected)
        finally:
            done.set()
        assert counted.result(PATIENCE).total.elementwise >= 1
