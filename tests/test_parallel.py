"""A batch in slices gives what the whole gives; errors and interrupts leave nothing behind."""

from __future__ import annotations

import _thread
import copy
import threading
import time

import numpy as np
import pytest

import tinyshuffle as ts
from tinyshuffle import TinyshuffleError, nn

SLICES = (1, 2, 3, 5)


@pytest.fixture(autouse=True)
def threads_as_before():
    yield
    ts.set_num_threads(None)


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
