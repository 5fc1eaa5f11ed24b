"""The player: what it does with what changes between passes, and with what goes wrong in them."""

from __future__ import annotations

import os
import signal
import threading
import time

import numpy as np
import pytest
from plan.nets import Swish

import tinyshuffle as ts
import tinyshuffle.plan as plans
from tinyshuffle import TinyshuffleError, nn, parallel
from tinyshuffle.kernels import play as compiled
from tinyshuffle.kernels.record import RECORD
from tinyshuffle.models import ShuffleUnitV2
from tinyshuffle.parallel import usable_cores
from tinyshuffle.plan import fuse, records, trace
from tinyshuffle.plan.play import buckets_of

RNG = np.random.default_rng(0)


def images(n, seed=0):
    return np.random.default_rng(seed).standard_normal((n, 8, 8, 3)).astype(np.float32)


def build(own=False):
    net = nn.Sequential(
        nn.Conv2d(3, 48, 1, bias=False), nn.BatchNorm2d(48), Swish() if own else nn.ReLU(),
        ShuffleUnitV2(48, 48, 1), ShuffleUnitV2(48, 64, 2), nn.GlobalAvgPool(), nn.Linear(64, 5),
    )  # fmt: skip
    return net.initialise(0)


@pytest.fixture(params=[1, 2, 3])
def threads(request, monkeypatch):
    monkeypatch.setattr("tinyshuffle.parallel.usable_cores", lambda: 3)
    ts.set_num_threads(request.param)
    yield request.param
    ts.set_num_threads(None)


def gradients(net, x, dy):
    net.zero_grad()
    net(x)
    dx = net.backward(dy)
    return [dx, *(p.grad for p in net.parameters())]


def same(ours, theirs):
    largest = max(np.abs(b).max() for b in theirs)
    for a, b in zip(ours, theirs, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-3, atol=1e-5 * largest)


DY = RNG.standard_normal((7, 5)).astype(np.float32)


def test_weights_that_are_replaced_are_used(threads):
    net, alone = ts.DataParallel(build()), build()
    for one in (net, alone):
        one(images(7))
        for p in one.parameters():
            p.data = p.data * 1.1
        layers = dict(one.named_modules())
        layers["4.branch2.1"].running_mean = np.full(32, 0.5, np.float32)
    same(gradients(net, images(7), DY), gradients(alone, images(7), DY))
    mine, theirs = net.state_dict(), alone.state_dict()
    for name, value in theirs.items():
        np.testing.assert_allclose(mine[name], value, rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(net.eval()(images(7)), alone.eval()(images(7)), rtol=1e-3, atol=1e-4)


def test_weights_of_another_type_are_taken(threads):
    net, alone = ts.DataParallel(build()), build()
    net(images(7))
    for one in (net, alone):
        one.astype(np.float64)
    same(
        gradients(net, images(7).astype(float), DY.astype(float)),
        gradients(alone, images(7).astype(float), DY.astype(float)),
    )
    with pytest.raises(TinyshuffleError, match="float64 parameters and got float32"):
        net(images(7))


@pytest.mark.parametrize("back", [False, True])
def test_running_statistics_of_another_type_are_taken(threads, back):
    net, alone = ts.DataParallel(build()).eval(), build().eval()
    for one in (net, alone):
        one(images(7))
        layer = dict(one.named_modules())["4.branch2.1"]
        layer.running_mean = np.linspace(-1, 1, 32)
        layer.running_var = np.linspace(1, 2, 32)
        if back:
            one(images(7))
            layer.running_mean = layer.running_mean.astype(np.float32)
            layer.running_var = layer.running_var.astype(np.float32)
    np.testing.assert_allclose(net(images(7)), alone(images(7)), rtol=1e-3, atol=1e-4)


def test_weights_whose_drawing_failed_are_drawn_in_the_next_pass(threads):
    fails = []

    def draw(rng):
        if fails:
            raise fails.pop()
        return rng.standard_normal((1, 1, 3, 48))

    net, alone = ts.DataParallel(build()).eval(), build().eval()
    for one in (net, alone):
        dict(one.named_modules())["0"].weight = nn.Parameter((1, 1, 3, 48), draw)
        one.initialise(0)
        one(images(7))
        one.initialise(1)
    expected = alone(images(7))
    fails.append(KeyboardInterrupt())
    with pytest.raises(KeyboardInterrupt):
        net(images(7))
    np.testing.assert_allclose(net(images(7)), expected, rtol=1e-3, atol=1e-4)


def test_what_another_thread_changes_while_the_layers_are_looked_at(monkeypatch):
    net, alone = ts.DataParallel(build()).eval(), build().eval()
    net(images(7))
    looks = parallel._layers

    def slow(*arguments):
        found = looks(*arguments)
        layer.eps = 0.5
        return found

    monkeypatch.setattr(parallel, "_layers", slow)
    layer = dict(net.named_modules())["1"]
    dict(alone.named_modules())["1"].eps = 0.5
    layer.momentum = 0.2  # the layers are looked at, and the plan is the same
    net(images(7))
    np.testing.assert_allclose(net(images(7)), alone(images(7)), rtol=1e-3, atol=1e-4)


def test_gradients_add_up_and_are_the_callers(threads):
    net = ts.DataParallel(build())
    first = gradients(net, images(7), DY)
    kept = [g.copy() for g in first]
    net(images(7))
    net.backward(DY)
    for p, g in zip(net.parameters(), kept[1:], strict=True):
        np.testing.assert_allclose(p.grad, 2 * g, rtol=1e-4, atol=1e-5)
    again = gradients(net, images(7, 1), DY)  # what was returned before is not written over
    assert any(not np.array_equal(a, b) for a, b in zip(again, kept, strict=True))
    np.testing.assert_array_equal(first[0], kept[0])


def test_the_output_may_be_written_over_before_the_backward_pass(threads):
    net = ts.DataParallel(nn.Sequential(nn.Linear(6, 5), nn.Sigmoid()).initialise(0))
    alone = nn.Sequential(nn.Linear(6, 5), nn.Sigmoid()).initialise(0)
    x = RNG.standard_normal((7, 6)).astype(np.float32)
    alone(x)
    expected = alone.backward(DY)
    y = net(x)
    y[:] = 0
    np.testing.assert_allclose(net.backward(DY), expected, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("own", [False, True])
def test_two_nets_of_the_same_layers_do_not_mix_their_batches(threads, own):
    layers, alone = build(own), build(own)
    first, second = ts.DataParallel(layers), ts.DataParallel(layers)
    expected = gradients(alone, images(7), DY)
    layers.zero_grad()
    first(images(7))
    second(images(7, 1))
    dx = first.backward(DY)
    same([dx, *(p.grad for p in layers.parameters())], expected)


def test_another_batch_size_in_between(threads):
    net, alone = ts.DataParallel(build()), build()
    for n in (7, 4, 7, 1, 7):
        dy = DY[:n]
        same(gradients(net, images(n), dy), gradients(alone, images(n), dy))


CHANGES = {
    "a layer": lambda net: setattr(net, "fc", nn.Linear(1024, 5).initialise(1)),
    "a mode": lambda net: next(m for m in net.modules() if isinstance(m, nn.BatchNorm2d)).eval(),
    "the type": lambda net: net.astype(np.float64),
    "an argument": lambda net: setattr(
        next(m for m in net.modules() if isinstance(m, nn.Conv2d)), "stride", (2, 2)
    ),
}


@pytest.mark.parametrize("change", CHANGES)
def test_the_way_back_is_refused_if_the_layers_have_changed(threads, change):
    net = ts.models.create("shufflenet_v2_x0_5", num_classes=5, stem="cifar")
    x = images(4)
    dy = np.ones((4, 5), np.float32)
    net(x)
    CHANGES[change](net)
    with pytest.raises(TinyshuffleError, match="since the forward pass"):
        net.backward(dy)


def test_what_is_changed_and_changed_back_changes_nothing(threads):
    net = ts.models.create("shufflenet_v2_x0_5", num_classes=5, stem="cifar")
    net(images(4))
    net.eval()
    net.train()
    net.backward(np.ones((4, 5), np.float32))


def test_only_the_newest_pass_can_go_back(threads):
    net = ts.DataParallel(build())
    net(images(7))
    net.eval()
    net(images(7))
    net.train()
    with pytest.raises(TinyshuffleError):
        net.backward(DY)


class Fails(nn.Module):
    broken = False

    def forward(self, x):
        if Fails.broken:
            raise ZeroDivisionError("in a layer")
        return x * 1

    def backward(self, dy):
        return dy * 1


def test_an_exception_in_a_layer_is_the_callers_and_the_net_works_on(threads):
    net = ts.DataParallel(nn.Sequential(nn.BatchNorm2d(3), Fails(), nn.BatchNorm2d(3)))
    x = images(7)
    y = net(x)
    Fails.broken = True
    try:
        with pytest.raises(ZeroDivisionError, match="in a layer"):
            net(x)
    finally:
        Fails.broken = False
    np.testing.assert_array_equal(net(x), y)
    assert net.backward(y).shape == x.shape


@pytest.mark.skipif(not hasattr(signal, "setitimer"), reason="needs a timer of the system")
def test_ctrl_c_is_answered_in_compiled_code():
    net = ts.models.create("shufflenet_v2_x1_0", num_classes=10, stem="cifar")
    x = np.zeros((16, 64, 64, 3), np.float32)
    net(x)  # compiled, and planned
    pressed = []

    def press(*_):
        pressed.append(time.perf_counter())
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGALRM, press)
    try:
        with pytest.raises(KeyboardInterrupt):
            signal.setitimer(signal.ITIMER_REAL, 0.05)
            for _ in range(100):
                net(x)
        answered = time.perf_counter() - pressed[0]
    finally:
        signal.signal(signal.SIGALRM, before)
    assert answered < 5  # half a second on a machine that does nothing else
    assert np.isfinite(net(x)).all()


def test_pauses_change_nothing(monkeypatch, threads):
    expected = gradients(ts.DataParallel(build()), images(7), DY)
    monkeypatch.setattr(records, "_PAUSE", 0.0)
    net = ts.DataParallel(build())
    found = gradients(net, images(7), DY)
    for a, b in zip(found, expected, strict=True):
        np.testing.assert_array_equal(a, b)
    (player,) = net._now.players.values()
    assert sum(f is None for f in player.slices[0].records.python.values()) >= len(player.plan.rows)


def test_without_compiled_rows_it_is_the_same(monkeypatch, threads):
    from tinyshuffle.kernels import works

    expected = gradients(ts.DataParallel(build()), images(7), DY)
    monkeypatch.setattr(works, "_WORKS", {})
    same(gradients(ts.DataParallel(build()), images(7), DY), expected)


@pytest.mark.small_work
@pytest.mark.parametrize(("n", "size", "slices"), [(2, 8, 1), (128, 32, 3)])
def test_tiny_work_is_done_by_one_thread(monkeypatch, n, size, slices):
    monkeypatch.setattr("tinyshuffle.parallel.usable_cores", lambda: 3)
    ts.set_num_threads(3)
    try:
        net = ts.models.create("shufflenet_v2_x0_5", num_classes=10, stem="cifar")
        x = np.zeros((n, size, size, 3), np.float32)
        net(x)
        net.eval()
        net(x)
        trained, *_ = (list(made.players.values()) for made in net._made.values())
        assert len(trained[0].slices) == slices
        assert len({key[3] for key in net._now.players}) == slices  # ranks
    finally:
        ts.set_num_threads(None)


def test_most_rows_need_no_python():
    net = ts.models.create("shufflenet_v2_x0_5", num_classes=10, stem="cifar")
    net(np.zeros((16, 32, 32, 3), np.float32))
    (player,) = net._now.players.values()
    (part, *_) = player.slices
    by_hand = [f for f in part.records.python.values() if f is not None]
    assert not by_hand and len(player.plan.rows) > 300


def test_a_slice_that_fails_sends_the_others_home():
    flags = np.zeros(3 * compiled.APART, np.int64)
    record = np.zeros(1, RECORD)
    record["kernel"] = compiled.MEETING
    where, size = record.__array_interface__["data"][0], record.itemsize
    out = []
    zero = np.float32(0)
    waiting = threading.Thread(
        target=lambda: out.append(compiled.play(where, size, 0, 1, flags, 0, zero))
    )
    waiting.start()
    time.sleep(0.05)
    assert waiting.is_alive()
    flags[-compiled.APART] = 1
    waiting.join(10)
    assert out == [compiled.BROKEN]


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork here")
def test_a_forked_process_plays_on():
    ts.set_num_threads(2)
    try:
        net = ts.DataParallel(build())
        expected = gradients(net, images(7), DY)[0]
        pid = os.fork()
        if pid == 0:
            code = 1
            try:
                code = int(not np.array_equal(gradients(net, images(7), DY)[0], expected))
            finally:
                os._exit(code)
        for _ in range(600):
            done, status = os.waitpid(pid, os.WNOHANG)
            if done:
                break
            time.sleep(0.1)
        else:
            os.kill(pid, 9)
            os.waitpid(pid, 0)
            raise AssertionError("the forked process hangs")
        assert os.waitstatus_to_exitcode(status) == 0
    finally:
        ts.set_num_threads(None)


@pytest.mark.parametrize("bias", [True, False])
def test_as_many_outputs_as_images(threads, bias):
    """A bias's gradient is then as long as the batch."""
    net, alone = (nn.Sequential(nn.Linear(6, 7, bias=bias)).initialise(0) for _ in range(2))
    x, dy = (RNG.standard_normal((7, n)).astype(np.float32) for n in (6, 7))
    same(gradients(ts.DataParallel(net), x, dy), gradients(alone, x, dy))


def test_winners_of_large_windows(threads):
    net, alone = (nn.Sequential(nn.MaxPool2d(17, 1, 8)) for _ in range(2))
    x = images(7).transpose(0, 3, 1, 2).repeat(3, 2).repeat(3, 3)[..., :9].copy()
    y = alone(x)
    np.testing.assert_array_equal(ts.DataParallel(net)(x), y)
    parallel = ts.DataParallel(net)
    parallel(x)
    np.testing.assert_allclose(parallel.backward(y), alone.backward(y), rtol=1e-5)


ONE_IMAGE = {
    "shufflenet_v2_x0_5": dict(stem="imagenet"), "shufflenet_v1_x0_25_g3": dict(stem="cifar"),
    "mobilenet_v2": {}, "resnet20": {}, "squeezenet1_0": {}, "vgg11": {},
}  # fmt: skip


@pytest.mark.parametrize("name", ONE_IMAGE)
def test_threads_share_one_image_to_the_bit(name):
    net = ts.models.create(name, 10, **ONE_IMAGE[name]).eval()
    for layer in net.modules():
        if isinstance(layer, nn.BatchNorm2d):
            layer.running_mean = RNG.normal(0, 0.1, layer.num_features).astype(np.float32)
    x = np.random.default_rng(0).standard_normal((1, 67, 70, 3)).astype(np.float32)
    plan = plans.fuse(plans.trace(net.net, x.shape, x.dtype))
    expected = plans.Player(net.net, plan, 1).forward(x)
    for threads in 2, 3, 5:
        player = plans.Player(net.net, plan, threads, by_pixels=True)
        np.testing.assert_array_equal(player.forward(x), expected)
        assert not np.array_equal(player.forward(x[:, ::-1]), expected)
        np.testing.assert_array_equal(player.forward(x), expected)
    first = next(iter(net.parameters()))
    first.data = first.data * 0  # another array, which every thread has to see
    assert not np.array_equal(player.forward(x), expected)


@pytest.mark.parametrize("left_out", ["pixels", "rows of pixels"])
def test_a_share_that_is_left_out_is_noticed(left_out):
    net = ts.models.create("shufflenet_v2_x0_5", 10, stem="imagenet").eval()
    x = np.random.default_rng(0).standard_normal((1, 64, 64, 3)).astype(np.float32)
    plan = plans.fuse(plans.trace(net.net, x.shape, x.dtype))
    expected = plans.Player(net.net, plan, 1).forward(x)
    player = plans.Player(net.net, plan, 2, by_pixels=True)
    records = player.slices[0].records.array
    if left_out == "pixels":
        records["m"][(records["kernel"] != compiled.MEETING) & (records["m"] > 64)] -= 64
    else:
        records["last"] -= records["last"] > 0
    assert not np.array_equal(player.forward(x), expected)


def test_one_large_image_is_shared():
    net = ts.models.create("shufflenet_v2_x0_5", 10, stem="imagenet").eval()
    net(np.zeros((1, 224, 224, 3), np.float32))
    players = net._now.players.values()
    assert any(player.by_pixels for player in players) == (usable_cores() > 1)


def test_gradients_are_sent_as_soon_as_they_are_there():
    """Each piece behind the last row that writes one of its gradients; together they are all."""
    net = ts.models.create("shufflenet_v2_x0_5", num_classes=10, stem="cifar").net
    plan = fuse(trace(net, (4, 16, 16, 3), train=True))
    learned = [b.index for b in plan.buffers if b.role == "gradient"]
    offsets = [0, *np.cumsum([np.prod(plan.buffers[i].shape) for i in learned]).tolist()]
    pieces = buckets_of(plan, learned, offsets)
    places = [place for _, place in pieces]
    assert [place.start for place in places] == [0, *(place.stop for place in places[:-1])]
    assert places[-1].stop == offsets[-1] and 2 < len(pieces) < 5
    for row, place in pieces:
        starts = zip(learned, offsets, strict=False)
        inside = {i for i, at in starts if place.start <= at < place.stop}
        writers = [i for i, r in enumerate(plan.rows) if inside & {v.buffer for v in r.writes}]
        assert max(writers) == row
    first = pieces[0][0] - plan.forward
    assert first < 0.1 * (len(plan.rows) - plan.forward)  # the classifier's and conv5's
