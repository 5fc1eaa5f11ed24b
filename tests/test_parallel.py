"""A batch in slices gives what the whole gives; errors and interrupts leave nothing behind."""

from __future__ import annotations

import _thread
import copy
import multiprocessing
import os
import pickle
import subprocess
import sys
import threading
import time
import tracemalloc
from types import SimpleNamespace

import numpy as np
import pytest

import tinyshuffle as ts
from tinyshuffle import TinyshuffleError, nn, parallel
from tinyshuffle.backend import F
from tinyshuffle.detect import trainer
from tinyshuffle.train import run

SLICES = (1, 2, 3, 5)


@pytest.fixture(autouse=True)
def threads_as_before(monkeypatch):
    # as on a machine with many cores: there, a batch has as many slices as threads were asked for
    monkeypatch.setattr("tinyshuffle.parallel.usable_cores", lambda: 8, raising=False)
    yield
    ts.set_num_threads(None)


@pytest.mark.parametrize("settings", [run._settings, trainer.settings])
def test_a_training_among_ranks_leaves_no_share_of_the_cores_behind(settings, monkeypatch):
    """One was set by nobody: it came of the ranks, and ends with them."""
    config = SimpleNamespace(threads=1, backend="numpy")
    ts.set_num_threads(None)  # whatever a test before this one had
    with monkeypatch.context() as among_four:
        ranks = SimpleNamespace(here=4, cores=8)
        among_four.setattr("tinyshuffle.parallel.current", lambda: ranks)
        with settings(config):
            assert ts.get_num_threads() == 1
        assert ts.get_num_threads() == 2
    assert ts.get_num_threads() == 8
    ts.set_num_threads(3)
    with settings(config):
        pass
    assert ts.get_num_threads() == 3


def one_step(
    name: str, dtype: str, threads: int, n: int = 7, seed: int = 0
) -> dict[str, np.ndarray]:
    ts.set_num_threads(threads)
    net = ts.models.create(name, num_classes=5, stem="cifar", se=True).astype(dtype)
    rng = np.random.default_rng(seed)
    for p in net.parameters():
        # With β = 0, as they begin, a BN's γ in front of ReLU, depthwise and BN changes nothing:
        # its gradient would be a small remainder of large sums, and only rounding be compared.
        if p.data.ndim == 1:
            p.data = (p.data + rng.uniform(-0.3, 0.3, p.shape)).astype(dtype)
    x = rng.standard_normal((n, 16, 16, 3)).astype(np.float32).astype(dtype)
    loss = nn.CrossEntropyLoss(0.1)
    logits = net(x)
    value = loss(logits, rng.integers(0, 5, n))
    dx = net.backward(loss.backward())
    out = {"logits": logits, "loss": np.array(value), "dx": dx}
    out |= {f"grad {p.name}": p.grad for p in net.parameters()}
    out |= {name: v for name, v in net.state_dict().items() if "running" in name}
    net.eval()
    out["eval"] = net(x)
    return out


@pytest.mark.parametrize("name", ["shufflenet_v1_x0_25_g3", "shufflenet_v2_x0_5"])
def test_slices_give_what_the_whole_batch_gives(name):
    check_slices(name, "float64", 1e-10, seed=0)


@pytest.mark.parametrize("name", ["shufflenet_v1_x0_25_g3", "shufflenet_v2_x0_5"])
def test_slices_give_what_the_whole_batch_gives_in_float32(name):
    """In two of four batches at most does rounding push a number over a ReLU's kink.

    Then dx jumps by some thousandths, while everything else agrees to 1e-5. A mistake in the sums
    would show in every batch.
    """
    jumps = []
    for seed in range(4):
        try:
            check_slices(name, "float32", 1e-4, seed, (2,))
        except AssertionError as error:
            jumps.append(str(error))
    assert len(jumps) <= 2, jumps


def check_slices(name, dtype, tolerance, seed, slices=SLICES[1:]):
    whole, exact = one_step(name, dtype, 1, seed=seed), one_step(name, "float64", 1, seed=seed)
    steepest = max(np.abs(v).max() for k, v in exact.items() if k.startswith("grad"))
    # A shift in front of a batch norm does nothing: its gradient is zero, and what is found there
    # is rounding, to be measured by the other gradients.
    zero = {
        k for k, v in exact.items()
        if k.startswith("grad") and np.abs(v).max() < 1e-12 * steepest
    }
    assert len(zero) < len(whole) / 5
    for threads in slices:
        sliced = one_step(name, dtype, threads, seed=seed)
        assert sliced.keys() == whole.keys()
        for key, value in whole.items():
            scale = steepest if key in zero else np.abs(value).max()
            worst = np.abs(sliced[key] - value).max()
            assert worst <= tolerance * scale, (threads, key, worst, scale)


@pytest.mark.parametrize("threads", SLICES)
def test_the_same_threads_give_the_same_bits(threads):
    a, b = (one_step("shufflenet_v2_x0_5", "float32", threads) for _ in range(2))
    for key, value in a.items():
        np.testing.assert_array_equal(value, b[key], err_msg=key)


def test_dropout_does_not_depend_on_the_slices(rng):
    x = rng.standard_normal((7, 6)).astype(np.float32)
    outs = []
    for threads in SLICES:
        ts.set_num_threads(threads)
        net = ts.DataParallel(nn.Sequential(nn.Dropout(0.5)).initialise(3))
        outs.append(np.concatenate([net(x), net(x)]))  # a second draw differs from the first
    for out in outs[1:]:
        np.testing.assert_array_equal(out, outs[0])
    assert not np.array_equal(outs[0][:7], outs[0][7:])


def test_gradients_accumulate_over_passes(rng):
    ts.set_num_threads(3)
    net = ts.DataParallel(nn.Sequential(nn.Linear(4, 2)).initialise(0))
    x, dy = rng.standard_normal((5, 4)).astype(np.float32), np.ones((5, 2), np.float32)
    net(x)
    net.backward(dy)
    once = net.parameters()[0].grad.copy()
    net(x)
    net.backward(dy)
    np.testing.assert_allclose(net.parameters()[0].grad, 2 * once, rtol=1e-6)


def test_results_are_the_callers(rng):
    ts.set_num_threads(2)
    net = ts.models.create("shufflenet_v2_x0_5", 10, "cifar")
    x = rng.standard_normal((4, 32, 32, 3)).astype(np.float32)
    logits = net(x)
    dx = net.backward(logits)
    grads = [p.grad for p in net.parameters()]
    kept = [a.copy() for a in (logits, dx, *grads)]
    net.zero_grad()
    for _ in range(2):
        net.backward(net(-2 * x))
        net.zero_grad()
    for now, then in zip((logits, dx, *grads), kept, strict=True):
        np.testing.assert_array_equal(now, then)


class Fails(nn.Module):
    """Passes images on, but not one whose first pixel is 13."""

    def forward(self, x):
        if (x[:, 0, 0, 0] == 13).any():
            raise ArithmeticError("thirteen")
        return x

    def backward(self, dy):
        return dy


@pytest.mark.parametrize("image", range(5))
def test_an_exception_in_a_slice_surfaces_once_and_nothing_hangs(image):
    ts.set_num_threads(5)
    net = ts.DataParallel(nn.Sequential(Fails(), nn.BatchNorm2d(1), nn.BatchNorm2d(1)))
    x = np.arange(5 * 4, dtype=np.float32).reshape(5, 2, 2, 1)
    bad = x.copy()
    bad[image, 0, 0, 0] = 13
    good = net(np.where(x == 13, 0, x))
    before = threading.active_count()
    for _ in range(3):
        with pytest.raises(ArithmeticError, match="thirteen"):
            net(bad)
    assert threading.active_count() <= before
    np.testing.assert_array_equal(net(np.where(x == 13, 0, x)), good)


class Waits(nn.Module):
    """Takes long in every slice, the first one's thread included."""

    def forward(self, x):
        for _ in range(200):
            time.sleep(0.01)
        return x


def test_ctrl_c_comes_through():
    ts.set_num_threads(2)
    net = ts.DataParallel(nn.Sequential(nn.BatchNorm2d(1), Waits(), nn.BatchNorm2d(1)))
    x = np.random.default_rng(0).standard_normal((4, 2, 2, 1)).astype(np.float32)
    timer = threading.Timer(0.3, _thread.interrupt_main)
    timer.start()
    with pytest.raises(KeyboardInterrupt):
        net(x)
    timer.join()
    # the layers work on their own again: nobody waits for slices that are gone
    net.net[0](x)


def test_weights_modes_and_layers_set_on_the_net_reach_every_slice(rng):
    ts.set_num_threads(3)
    net = ts.models.create("shufflenet_v2_x0_5", 10, "cifar")
    alone = copy.deepcopy(net.net)
    x = rng.standard_normal((6, 16, 16, 3)).astype(np.float32)
    net(x)  # the replicas are made
    fresh = nn.Linear(1024, 4).initialise(5)
    net.fc = fresh
    alone.fc = fresh
    for module in (*net.modules(), *alone.modules()):
        if isinstance(module, nn.BatchNorm2d):
            module.eps = 0.5
    for n in (net, alone):
        n.conv1[0].weight.data = np.flip(n.conv1[0].weight.data, axis=0).copy()
        n.stage2[0].branch1[1].eval()
    frozen = net.stage2[0].branch1[1].running_mean.copy()
    alone.stage2[0].branch1[1].running_mean = frozen
    alone.stage2[0].branch1[1].running_var = net.stage2[0].branch1[1].running_var
    np.testing.assert_allclose(net(x), alone(x), rtol=1e-3, atol=1e-4)
    np.testing.assert_array_equal(net.stage2[0].branch1[1].running_mean, frozen)
    net.stage3[1].branch2 = nn.Sequential(nn.Conv2d(48, 48, 1).initialise(1))
    alone.stage3[1].branch2 = net.stage3[1].branch2
    np.testing.assert_allclose(net(x), alone(x), rtol=1e-3, atol=1e-4)


def test_it_stands_in_for_the_net():
    net = ts.models.create("shufflenet_v2_x0_5", 10, "cifar")
    assert repr(net).startswith("ShuffleNetV2(")
    assert net.eval() is not None
    assert not net.training
    twin = copy.deepcopy(net)
    twin.train()
    assert twin.training
    assert not net.training
    assert net.parameters()[0].name == "conv1.0.weight"
    with pytest.raises(AttributeError):
        net.no_such_layer  # noqa: B018


def test_errors_say_what_to_do():
    net = ts.models.create("shufflenet_v2_x0_5", 10, "cifar")
    x = np.zeros((4, 16, 16, 3), np.float32)
    with pytest.raises(TinyshuffleError, match="before forward"):
        net.backward(np.zeros((4, 10), np.float32))
    y = net(x)
    with pytest.raises(TinyshuffleError, match="for 3 images, and the forward pass had 4"):
        net.backward(y[:3])
    net.backward(y)
    with pytest.raises(TinyshuffleError, match="twice after one forward"):
        net.backward(y)
    with pytest.raises(TinyshuffleError, match="empty batch"):
        net(x[:0])
    with pytest.raises(TinyshuffleError, match=r"x\.transpose\(0, 2, 3, 1\)"):
        net(x.transpose(0, 3, 1, 2))
    net.eval()
    net(x)
    with pytest.raises(TinyshuffleError, match=r"call net\.train\(\)"):
        net.backward(y)


# ---- a net inside of a net


class Headed(nn.Module):
    """A backbone from ``models.create``, which is a net in slices itself, and a head."""

    def __init__(self, backbone):
        self.backbone, self.drop, self.head = backbone, nn.Dropout(0.5), nn.Linear(6, 4)

    def forward(self, x):
        return self.head(self.drop(self.backbone(x)))

    def backward(self, dy):
        return self.backbone.backward(self.drop.backward(self.head.backward(dy)))


def backbone():
    return ts.models.create("shufflenet_v2_x0_5", 6, "cifar", se=True)


NESTED = {
    "in a module": lambda: Headed(backbone()),
    "twice": lambda: Headed(ts.DataParallel(ts.DataParallel(backbone()))),
    "in a row": lambda: nn.Sequential(backbone(), nn.Linear(6, 4)),
    "copied": lambda: copy.deepcopy(Headed(backbone())),
    "copied whole": lambda: copy.deepcopy(ts.DataParallel(Headed(backbone()))),
    "pickled": lambda: pickle.loads(pickle.dumps(Headed(backbone()))),
}


def nested_step(build, threads: int, train_backbone: bool = True) -> dict[str, np.ndarray]:
    ts.set_num_threads(threads)
    net = ts.DataParallel(build()).initialise(7).astype("float64")
    rng = np.random.default_rng(0)
    for p in net.parameters():
        if p.data.ndim == 1:
            p.data = p.data + rng.uniform(-0.3, 0.3, p.shape)
    if not train_backbone:
        net.backbone.eval()
    x, labels = rng.standard_normal((7, 16, 16, 3)), rng.integers(0, 4, 7)
    out = {}
    for i in range(2):
        loss = nn.CrossEntropyLoss()
        out[f"loss {i}"] = np.array(loss(net(x), labels))
        out[f"dx {i}"] = net.backward(loss.backward())
    out |= {f"grad {p.name}": p.grad for p in net.parameters()}
    out |= {k: v for k, v in net.state_dict().items() if "running" in k or "tracked" in k}
    out["eval"] = net.eval()(x)
    return out


@pytest.mark.parametrize("how", NESTED)
def test_a_net_inside_of_a_net_has_the_whole_batchs_statistics(how):
    whole = nested_step(NESTED[how], 1)
    for threads in (2, 3):
        check_same(nested_step(NESTED[how], threads), whole)


def test_a_frozen_net_inside_of_a_net():
    whole = nested_step(NESTED["in a module"], 1, train_backbone=False)
    check_same(nested_step(NESTED["in a module"], 3, train_backbone=False), whole)


def check_same(sliced, whole):
    assert sliced.keys() == whole.keys()
    scale = max(np.abs(v).max() for k, v in whole.items() if k.startswith("grad"))
    for key, value in whole.items():
        size = scale if key.startswith("grad") else np.abs(value).max()
        assert np.abs(sliced[key] - value).max() <= 1e-9 * size, key


def test_a_net_inside_of_a_net_can_be_exchanged(rng):
    ts.set_num_threads(3)
    x = rng.standard_normal((6, 16, 16, 3)).astype(np.float32)
    net = ts.DataParallel(Headed(backbone())).eval()
    net(x)
    other = backbone().initialise(5).eval()
    expected = Headed(other)
    expected.head = net.head
    expected.eval()
    net.backbone.net = other.net
    np.testing.assert_allclose(net(x), expected(x), rtol=1e-4, atol=1e-5)


def test_dropout_in_evaluation_does_not_depend_on_the_slices(rng):
    """Dropout left in training, as to see how sure a net is; more images than go in one chunk."""
    x = rng.standard_normal((300, 16, 16, 2)).astype(np.float32)
    outs = []
    for threads in SLICES:
        ts.set_num_threads(threads)
        drop = nn.Dropout(0.5)
        net = ts.DataParallel(nn.Sequential(drop).initialise(3)).eval()
        drop.train()
        outs.append(np.concatenate([net(x), net(x)]))
    for out in outs[1:]:
        np.testing.assert_array_equal(out, outs[0])


class Patches(nn.Module):
    """Each image as two rows of a batch twice as large."""

    def forward(self, x):
        return x.reshape(2 * len(x), -1)

    def backward(self, dy):
        return dy.reshape(len(dy) // 2, -1)


def test_dropout_of_several_rows_an_image_does_not_depend_on_the_slices(rng):
    x = rng.standard_normal((7, 6)).astype(np.float32)
    outs = []
    for threads in SLICES:
        ts.set_num_threads(threads)
        outs.append(ts.DataParallel(nn.Sequential(Patches(), nn.Dropout(0.5)).initialise(3))(x))
    for out in outs[1:]:
        np.testing.assert_array_equal(out, outs[0])


class Routes(nn.Module):
    """A batch norm for dark images only."""

    def __init__(self):
        self.norm = nn.BatchNorm2d(1)

    def forward(self, x):
        return self.norm(x) if x.mean() < 0 else x


def test_a_net_that_looks_at_numbers_sees_the_whole_batch():
    ts.set_num_threads(2)
    x = np.concatenate([np.full((2, 2, 2, 1), v, np.float32) for v in (-1, 1)])
    for images in x + 0.1, x - 0.1:
        np.testing.assert_array_equal(ts.DataParallel(Routes())(images), Routes()(images))


# ---- several threads of the user's


def small(seed: int = 0) -> ts.DataParallel:
    net = nn.Sequential(
        nn.Conv2d(3, 8, 3, bias=False), nn.BatchNorm2d(8), nn.ReLU(), nn.GlobalAvgPool(),
        nn.Linear(8, 4),
    )  # fmt: skip
    return ts.DataParallel(net.initialise(seed))


def images(n: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal((n, 8, 8, 3)).astype(np.float32)


def in_threads(*jobs):
    """Run jobs in threads of their own, a minute at most; return what each returned, or raised."""
    outs = [TimeoutError("a thread hangs")] * len(jobs)

    def run(i):
        try:
            outs[i] = jobs[i]()
        except Exception as error:
            outs[i] = error

    threads = [threading.Thread(target=run, args=(i,), daemon=True) for i in range(len(jobs))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    return outs


def test_one_net_evaluates_batches_of_several_sizes_in_several_threads():
    ts.set_num_threads(2)
    net = small().eval()
    sizes = (1, 2, 5, 40)
    expected = {n: net(images(n)) for n in sizes}

    def evaluate(n):
        return [net(images(n)) for _ in range(20)]

    for n, outs in zip(sizes, in_threads(*(lambda n=n: evaluate(n) for n in sizes)), strict=True):
        for out in outs:
            np.testing.assert_array_equal(out, expected[n])


@pytest.mark.parametrize("train", [True, False])
def test_a_thread_that_calls_a_net_in_the_middle_of_anothers_pass(train):
    """Both get what they would have got alone."""
    ts.set_num_threads(2)
    inside, done = threading.Event(), threading.Event()

    class Pauses(nn.Module):
        def forward(self, x):
            if not inside.is_set():
                inside.set()
                done.wait(0.3)  # in vain, if the other thread has to wait
            return x

    def build():
        return ts.DataParallel(nn.Sequential(nn.BatchNorm2d(3), Pauses(), nn.BatchNorm2d(3)))

    def late():
        assert inside.wait(60)
        y = net(images(9))
        done.set()
        return y

    net = build().train(train)
    first, second = in_threads(lambda: net(images(6)), late)
    alone = build().train(train)  # which does not pause any more
    np.testing.assert_array_equal(first, alone(images(6)))
    np.testing.assert_array_equal(second, alone(images(9)))


def taking_turns(net, x):
    """Two threads: both go forward, then both backward."""
    both = threading.Barrier(2, timeout=60)

    def step():
        y = net(x)
        both.wait()
        try:
            net.backward(y)
        except TinyshuffleError as error:
            return str(error)
        return "right"

    return in_threads(step, step)


@pytest.mark.parametrize("threads", [1, 2])
def test_one_net_trained_by_two_threads_is_refused_in_one(threads):
    ts.set_num_threads(threads)
    net, x = small(), images(6)
    net.backward(net(x))
    once = [p.grad.copy() for p in net.parameters()]
    net.zero_grad()
    words = sorted(taking_turns(net, x))
    assert words[1] == "right"
    assert "another thread" in words[0] or "before forward, or twice" in words[0]
    for p, grad in zip(net.parameters(), once, strict=True):
        np.testing.assert_array_equal(p.grad, grad)


def test_a_layer_does_not_go_back_through_another_threads_pass():
    layer, turn = nn.Linear(3, 2).initialise(0), threading.Event()
    x, dy = np.ones((2, 3), np.float32), np.ones((2, 2), np.float32)

    def disturbed():
        layer(x)
        turn.set()
        assert other.join(60) is None
        with pytest.raises(TinyshuffleError, match="another thread called the forward pass"):
            layer.backward(dy)

    other = threading.Thread(target=lambda: turn.wait(60) and layer(-x))
    other.start()
    disturbed()


def test_forward_and_backward_may_be_in_different_threads():
    ts.set_num_threads(2)
    net, x = small(), images(4)
    (y,) = in_threads(lambda: net(x))
    assert net.backward(y).shape == x.shape


def test_several_nets_train_in_several_threads(each_backend):
    ts.set_num_threads(2)

    def train(seed):
        with ts.backend(each_backend):
            net, x, loss = small(seed), images(9, seed), nn.CrossEntropyLoss()
            sgd = ts.optim.SGD(net.parameters(), lr=0.1)
            for _ in range(5):
                loss(net(x), np.arange(9) % 4)
                net.backward(loss.backward())
                sgd.step()
                sgd.zero_grad()
            return net.state_dict()

    alone = [train(seed) for seed in range(4)]
    together = in_threads(*(lambda seed=seed: train(seed) for seed in range(4)))
    for a, b in zip(alone, together, strict=True):
        for name in a:
            np.testing.assert_array_equal(b[name], a[name])


def test_a_net_that_another_only_calls_is_right():
    """It is no attribute of a layer, so that nobody can look into it."""
    ts.set_num_threads(2)
    teacher, x = small().eval(), images(6)

    class Asks(nn.Module):
        def forward(self, x):
            return teacher(x)

    net = ts.DataParallel(Asks())
    for _ in range(5):
        np.testing.assert_allclose(net(x), teacher(x), rtol=1e-5, atol=1e-6)
    teacher.train()
    np.testing.assert_allclose(net(x), teacher(x), rtol=1e-5, atol=1e-6)


def test_the_users_handling_of_floating_point_errors_holds_in_every_slice():
    ts.set_num_threads(2)

    class Log(nn.Module):
        def forward(self, x):
            return np.log(x)

    x = np.array([[1.0], [0.0]])
    with np.errstate(all="raise"), pytest.raises(FloatingPointError):
        ts.DataParallel(Log())(x)


# ---- other processes


def run_in_a_fork(job) -> None:
    """Run a job in a fork of this process, and fail if it fails or does not come to an end."""
    pid = os.fork()
    if pid == 0:
        code = 1
        try:
            job()
            code = 0
        finally:
            os._exit(code)
    for _ in range(6000):
        done, status = os.waitpid(pid, os.WNOHANG)
        if done:
            break
        time.sleep(0.01)
    else:
        os.kill(pid, 9)
        os.waitpid(pid, 0)
        pytest.fail("the forked process hangs")
    assert status == 0


needs_fork = pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork on this system")
# a process with threads may be forked here: that is what the tests are about
may_fork = pytest.mark.filterwarnings("ignore:.*multi-threaded.*fork:DeprecationWarning")


@needs_fork
@may_fork
def test_a_used_net_works_in_a_fork():
    ts.set_num_threads(3)
    net, x = small(), images(7)
    y = net(x)
    dx = net.backward(y)
    net(x)

    def go_on():
        np.testing.assert_array_equal(net.backward(y), dx)  # of the pass before the fork
        np.testing.assert_array_equal(net(x), y)
        np.testing.assert_array_equal(net.backward(y), dx)
        net.eval()(x)

    run_in_a_fork(go_on)
    go_on()


@needs_fork
@may_fork
def test_a_fork_in_the_middle_of_another_threads_pass():
    ts.set_num_threads(2)
    started, go = threading.Event(), threading.Event()

    class Pauses(nn.Module):
        def forward(self, x):
            started.set()
            go.wait(60)
            return x

        def backward(self, dy):
            return dy

    net = ts.DataParallel(nn.Sequential(nn.BatchNorm2d(1), Pauses(), nn.BatchNorm2d(1)))
    x = np.arange(16, dtype=np.float32).reshape(4, 2, 2, 1)
    thread = threading.Thread(target=net, args=(x,))
    thread.start()
    started.wait(60)

    def use():
        go.set()
        y = net(x)
        net.backward(y)

    try:
        run_in_a_fork(use)
    finally:
        go.set()
        thread.join()


@pytest.mark.parametrize("method", ["fork", "spawn"])
@may_fork
def test_a_net_goes_through_a_pool_of_processes(method):
    if method not in multiprocessing.get_all_start_methods():
        pytest.skip("not on this system")
    ts.set_num_threads(2)
    net, batches = small().eval(), [images(5, seed) for seed in range(2)]
    expected = [net(x) for x in batches]
    with multiprocessing.get_context(method).Pool(1) as pool:
        got = pool.map_async(net, batches).get(120)
    for mine, theirs in zip(got, expected, strict=True):
        np.testing.assert_allclose(mine, theirs, rtol=1e-5, atol=1e-6)


def test_a_net_goes_through_joblib():
    from joblib import Parallel, delayed

    ts.set_num_threads(2)
    net, x = small(), images(5)
    net.backward(net(x))
    net.eval()
    (got,) = Parallel(n_jobs=2, timeout=120)([delayed(net)(x)])
    np.testing.assert_allclose(got, net(x), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("used", [False, True])
def test_a_pickled_net_is_the_same_net(used):
    ts.set_num_threads(2)
    net, x = ts.models.create("shufflenet_v1_x0_25_g3", 5, "cifar", seed=3), images(5)
    if used:
        net(x)
    twin = pickle.loads(pickle.dumps(net))
    assert repr(twin) == repr(net)
    y = net(x)
    np.testing.assert_array_equal(twin(x), y)
    np.testing.assert_array_equal(twin.backward(y), net.backward(y))
    # and it can be drawn anew
    for a, b in zip(
        twin.initialise(9).parameters(), net.initialise(9).parameters(), strict=True
    ):
        np.testing.assert_array_equal(a.data, b.data)


# ---- how many threads


@pytest.mark.parametrize(
    "n", [0, -1, 2.5, 2.0, "3", True, np.float64(2), np.array([2]), [2], -(10**30)]
)
def test_numbers_of_threads_that_are_none_are_refused(n):
    ts.set_num_threads(3)
    with pytest.raises(TinyshuffleError, match="whole number from 1 up"):
        ts.set_num_threads(n)
    assert ts.get_num_threads() == 3


@pytest.mark.parametrize("n", [3, np.int64(3), np.uint8(3)])
def test_whole_numbers_of_threads_are_taken(n):
    ts.set_num_threads(n)
    assert ts.get_num_threads() == 3 and type(ts.get_num_threads()) is int


def test_more_threads_than_cores_are_not_used(monkeypatch):
    """They would take turns, and each slice costs some time of its own."""
    monkeypatch.setattr("tinyshuffle.parallel.usable_cores", lambda: 2, raising=False)
    for threads in (2, 48):
        ts.set_num_threads(threads)
        with ts.plan.clocked() as events:
            small()(images(48))
        assert len({event.thread for event in events}) == 2
        assert {event.share for event in events} == {0.5}


CGROUPS = {
    "v2": {"/sys/fs/cgroup/cpu.max": "100000 100000"},
    "v1": {
        "/sys/fs/cgroup/cpu/cpu.cfs_quota_us": "100000",
        "/sys/fs/cgroup/cpu/cpu.cfs_period_us": "100000",
    },
}


@pytest.mark.parametrize("version", CGROUPS)
def test_the_default_is_the_share_of_a_container(version):
    """A cgroup says how much time, in microseconds, a container has of how much: here one core."""
    script = f"FILES = {CGROUPS[version]}" + """
import builtins, io, os
real_open, real_exists = builtins.open, os.path.exists
def fake_open(path, *a, **k):
    if "cgroup" in str(path):
        if str(path) not in FILES:
            raise FileNotFoundError(path)
        return io.StringIO(FILES[str(path)] + "\\n")
    return real_open(path, *a, **k)
builtins.open = io.open = fake_open
os.path.exists = lambda p: str(p) in FILES if "cgroup" in str(p) else real_exists(p)
os.sched_getaffinity = lambda pid: {0, 1, 2, 3}
os.cpu_count = lambda: 4
import tinyshuffle as ts
print(ts.get_num_threads())
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert done.stdout == "1\n", done.stderr


# ---- words


@pytest.mark.parametrize("train", [True, False])
@pytest.mark.parametrize("threads", [1, 2, 3])
def test_errors_speak_of_the_batch_that_was_given(threads, train):
    ts.set_num_threads(threads)
    net = small().train(train)
    for x in (np.zeros((70, 3, 64, 64), np.float32), np.zeros((70, 64, 64, 2), np.float32)):
        with pytest.raises(TinyshuffleError) as error:
            net(x)
        assert str(x.shape) in str(error.value)
    net = ts.DataParallel(nn.Sequential(nn.Linear(3, 4))).train(train)
    with pytest.raises(TinyshuffleError, match=r"got \(70, 5\)"):
        net(np.zeros((70, 5), np.float32))


class Unfit(nn.Module):
    """A shortcut around a convolution that changes the size."""

    def __init__(self):
        self.conv = nn.Conv2d(3, 3, 3)

    def forward(self, x):
        return F.add(x, self.conv(x))


@pytest.mark.parametrize("threads", [1, 2, 3])
def test_errors_inside_of_a_net_speak_of_the_batch_that_was_given(threads, each_backend):
    ts.set_num_threads(threads)
    with pytest.raises(TinyshuffleError, match=r"\(70, 32, 32, 3\) and \(70, 30, 30, 3\)"):
        ts.DataParallel(Unfit())(np.zeros((70, 32, 32, 3), np.float32))


def test_a_gradient_of_another_shape_is_refused():
    ts.set_num_threads(2)
    net = small()
    y = net(images(7))
    with pytest.raises(TinyshuffleError, match=r"has shape \(7, 3\).* returned \(7, 4\)"):
        net.backward(y[:, :3])
    assert net.backward(y).shape == (7, 8, 8, 3)


def test_a_net_works_on_after_ctrl_c(monkeypatch):
    ts.set_num_threads(2)
    wait = threading.Event()

    class Stops(nn.Module):
        def forward(self, x):
            if not wait.is_set():
                wait.set()
                raise KeyboardInterrupt
            return x

        def backward(self, dy):
            return dy

    net = ts.DataParallel(nn.Sequential(nn.BatchNorm2d(3), Stops(), nn.BatchNorm2d(3)))
    with pytest.raises(KeyboardInterrupt):
        net(images(6))
    with pytest.raises(TinyshuffleError, match="before forward"):
        net.backward(images(6))
    fresh = ts.DataParallel(nn.Sequential(nn.BatchNorm2d(3), Stops(), nn.BatchNorm2d(3)))
    y = net(images(6))
    np.testing.assert_array_equal(y, fresh(images(6)))
    np.testing.assert_array_equal(net.backward(y), fresh.backward(y))


GLOBAL_GROUPS = 1


class Shuffle(nn.Module):
    """A layer whose setting may stand anywhere."""

    of_the_class = 1

    def __init__(self):
        self.options, self.numbers, self._private = {"groups": 1}, [1], 1

    def groups(self):
        return self.options["groups"] * self.numbers[0] * self._private * self.of_the_class

    def forward(self, x):
        self.save()
        return F.channel_shuffle(x, self.groups() * GLOBAL_GROUPS)

    def backward(self, dy):
        self.saved()
        return F.channel_shuffle_backward(dy, self.groups() * GLOBAL_GROUPS)


@pytest.mark.parametrize("where", ["option", "options", "list", "private", "class", "global"])
def test_a_setting_of_the_users_layer_counts_wherever_it_stands(where, monkeypatch):
    layer = Shuffle()
    net = ts.DataParallel(nn.Sequential(layer))
    x = np.arange(8, dtype=np.float32).reshape(1, 1, 1, 8)
    assert np.array_equal(net(x), x)
    for groups in 2, 4, 2:
        match where:
            case "option":
                layer.options["groups"] = groups
            case "options":
                layer.options = {"groups": groups}
            case "list":
                layer.numbers[0] = groups
            case "private":
                layer._private = groups
            case "class":
                monkeypatch.setattr(Shuffle, "of_the_class", groups)
            case "global":
                monkeypatch.setitem(globals(), "GLOBAL_GROUPS", groups)
        assert np.array_equal(net(x), F.channel_shuffle(x, groups))


def test_settings_of_layers_may_be_numbers_of_numpy():
    layer = nn.BatchNorm2d(2)
    net = ts.DataParallel(nn.Sequential(layer)).eval()
    x = np.ones((1, 1, 1, 2), np.float32)
    for eps in np.float32(0.0), np.float32(3.0), np.float64(8.0):
        layer.eps = eps
        np.testing.assert_allclose(net(x), x / np.sqrt(1 + eps), rtol=1e-6)
    for name, value in (("eps", "a"), ("momentum", None), ("momentum", 2)):
        with pytest.raises(TinyshuffleError, match=f"{name}="):
            setattr(layer, name, value)


def test_a_large_array_of_a_layer_is_not_looked_at_in_every_pass():
    class Table(nn.ReLU):
        def __init__(self):
            self.table = np.zeros(2**20)

    net = ts.DataParallel(nn.Sequential(Table()))
    x = np.float32([[[[-1, 2]]]])
    net(x)
    assert list(net._now.plans.values())[0].reasons
    tracemalloc.start()
    try:
        assert np.array_equal(net(x), [[[[0, 2]]]])
        assert tracemalloc.get_traced_memory()[1] < net.net[0].table.nbytes / 8
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize(
    "threads, n, chunk", [(1, 250, 125), (2, 500, 125), (2, 333, 84), (3, 5, 2), (2, 129, 65)]
)
def test_a_large_batch_is_evaluated_with_one_plan(threads, n, chunk, rng):
    """Whatever its number of images is: those that are left over need no plan of their own."""
    ts.set_num_threads(threads)
    layers = nn.Sequential(nn.Conv2d(3, 8, 3), nn.ReLU(), nn.GlobalAvgPool(), nn.Linear(8, 5))
    net = ts.parallel.DataParallel(layers.initialise(0)).eval()
    x = rng.standard_normal((n, 16, 16, 3)).astype(np.float32)
    with ts.backend("numpy"):
        expected = net(x)
    found = net(x)
    assert found.shape == expected.shape
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-5)
    assert {shape for shape, _ in net._now.plans} == {(chunk, 16, 16, 3)}


def test_players_of_many_shapes_do_not_pile_up():
    ts.set_num_threads(2)
    net = ts.DataParallel(nn.Sequential(nn.Conv2d(3, 4, 3, padding=1), nn.ReLU()))
    before = threading.active_count()
    for side in range(3, 40):
        x = np.ones((2, side, side, 3), np.float32)
        y = net(x)
        assert net.backward(y).shape == x.shape
    assert len(net._now.players) <= 8 and threading.active_count() <= before + 8


@pytest.mark.parametrize("threads", [1, 3])
@pytest.mark.parametrize("name", ["shufflenet_v2_x0_5", "resnet20", "shufflenet_v1_x0_25_g3"])
def test_the_images_gradient_is_left_out_on_request(name, threads, rng):
    ts.set_num_threads(threads)
    net = ts.models.create(name, num_classes=5, stem="cifar") if "net_v" in name else (
        ts.models.create(name, num_classes=5)
    )  # fmt: skip
    x = rng.standard_normal((4, 16, 16, 3)).astype(np.float32)

    def step(**keywords):
        net.zero_grad()
        net(x)
        dx = net.backward(np.ones((4, 5), np.float32), **keywords)
        return dx, [p.grad.copy() for p in net.parameters()]

    dx, grads = step()
    nothing, same = step(images=False)
    again, _ = step()
    assert nothing is None and np.array_equal(again, dx)
    for a, b in zip(grads, same, strict=True):
        np.testing.assert_array_equal(a, b)


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda net: net([1, 2]), "got a list where a NumPy array"),
        (lambda net: net(None), "got a NoneType where a NumPy array"),
        (lambda net: net(np.ones((2, 0, 8, 3), np.float32)), "in which there is nothing"),
        (lambda net: net.eval()(np.ones((2, 0, 8, 3), np.float32)), "in which there is nothing"),
        (lambda net: net.plan(None), "shape=None is not possible"),
        (lambda net: net.plan((-1, 8, 8, 3)), r"shape=\(-1, 8, 8, 3\) is not possible"),
        (lambda net: net.plan("8x32"), "shape='8x32' is not possible"),
        (lambda net: ts.DataParallel(None), "got a NoneType where a net"),
        (lambda net: ts.validate(None, None), "got a NoneType where a net"),
        (lambda net: ts.validate(net, [1]), "got a list where a NumPy array"),
        (lambda net: net.backward(np.ones((2, 5), np.float32)), "before forward"),
        (lambda net: (net(IMAGES), net.backward(np.ones((2, 5), int))), "int64"),
    ],
)
def test_what_is_no_batch_and_no_net_is_refused(call, words):
    net = ts.models.create("shufflenet_v2_x0_5", num_classes=5, stem="cifar")
    with pytest.raises(TinyshuffleError, match=words):
        call(net)


IMAGES = np.ones((2, 8, 8, 3), np.float32)


@pytest.mark.parametrize(
    ("side", "images"), [(8, 512), (32, 32), (64, 8), (128, 4), (224, 4), (256, 4), (512, 1)]
)
def test_large_images_go_by_fours_in_evaluation(side, images):
    assert parallel._chunk((1024, side, side, 3), [slice(0, 1024)]) == images
