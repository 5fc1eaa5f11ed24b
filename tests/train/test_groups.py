"""Which parameter learns at which rate and in which way, and that such runs continue to the bit."""

from __future__ import annotations

import numpy as np
import pytest

import tinyshuffle as ts
from tinyshuffle import checkpoint, nn
from tinyshuffle.errors import TinyshuffleError
from tinyshuffle.optim import SGD, Adam, Muon
from tinyshuffle.train import Config, resume, train
from tinyshuffle.train.groups import Groups, optimizer
from tinyshuffle.train.verify import check

NET = dict(num_classes=4, stem="cifar", stage_channels=(8, 16, 32), conv5_channels=16)


@pytest.fixture(scope="module")
def net():
    return ts.models.create("shufflenet_v2_x0_5", **NET)


def rates(optim):
    return {p.name: part * optim.lr for one, part in optim.parts for p in one.params}


def test_one_optimiser_where_all_is_alike(net):
    assert type(optimizer(Config(), net)) is SGD
    assert type(optimizer(Config(optimizer="adam"), net)) is Adam


def test_biases_have_a_rate_of_their_own(net):
    optim = optimizer(Config(lr=0.1, bias_lr=8.0), net)
    optim.lr = 0.2
    found = rates(optim)
    assert found.keys() == {p.name for p in net.parameters()}
    for name, rate in found.items():
        assert rate == pytest.approx(1.6 if name.endswith(".bias") else 0.2), name
    assert {one.lr for one, _ in optim.parts} == {1.6, 0.2}
    shifts = [m.bias for m in net.modules() if isinstance(m, nn.BatchNorm2d)]
    assert all(found[p.name] == pytest.approx(1.6) for p in shifts)


def test_muon_has_the_pointwise_weights_and_sgd_all_others(net):
    optim = optimizer(Config(optimizer="muon", lr=0.1, muon_lr=0.02, bias_lr=3.0), net)
    kinds = {p.name: type(one) for one, _ in optim.parts for p in one.params}
    found = rates(optim)
    pointwise = {
        m.weight.name
        for m in net.modules()
        if isinstance(m, nn.Conv2d) and m.kind == "pointwise"
    }
    assert pointwise == {name for name, kind in kinds.items() if kind is Muon}
    assert len(pointwise) > 20 and set(kinds.values()) == {Muon, SGD}
    for name in kinds:
        expected = 0.02 if name in pointwise else 0.3 if name.endswith(".bias") else 0.1
        assert found[name] == pytest.approx(expected), name
    grouped = ts.models.create("shufflenet_v1_x0_25_g3", num_classes=4, stem="cifar")
    (muon,) = [one for one, _ in optimizer(Config(optimizer="muon"), grouped).parts
               if isinstance(one, Muon)]  # fmt: skip
    assert set(muon.groups) == {1, 3}


def test_a_net_of_which_muon_would_move_nothing_is_refused():
    words = "resnet20 has no pointwise convolution that it would move: give sgd"
    with pytest.raises(TinyshuffleError, match=words):
        check(Config(model="resnet20", optimizer="muon"))
    check(Config(model="resnet20"))


@pytest.mark.parametrize("name", ["sgd", "adam", "muon"])
def test_states_are_one_and_come_apart_again(net, name):
    config = Config(optimizer=name, bias_lr=2.0)
    one, two = optimizer(config, net), optimizer(config, net)
    rng = np.random.default_rng(0)
    for p in net.parameters():
        p.grad = rng.standard_normal(p.shape).astype(np.float32)
    before = net.state_dict()
    one.step()
    state = one.state_dict()
    two.load_state_dict(state)
    assert isinstance(one, Groups) and state.keys() == two.state_dict().keys()
    for key, array in state.items():
        np.testing.assert_array_equal(two.state_dict()[key], array)
    one.zero_grad()
    assert all(p.grad is None for p in net.parameters())
    net.load_state_dict(before)
    with pytest.raises(TinyshuffleError, match="missing: "):
        two.load_state_dict(dict(list(state.items())[1:]))
    with pytest.raises(TinyshuffleError, match="unexpected: x"):
        two.load_state_dict({**state, "x": np.zeros(3)})


def test_a_run_with_all_of_it_learns_and_continues(tmp_path, capsys):
    """Built-in images, so few that it takes a second."""
    train_set, test_set = ts.data.load("shapes")
    parts = [ts.data.hold_out(part, count)[1] for part, count in ((train_set, 256), (test_set, 64))]
    config = Config(
        variant={k: NET[k] for k in ("stage_channels", "conv5_channels")}, sizes=(8,), epochs=2,
        batch_size=64, optimizer="muon", bias_lr=4.0, whiten=True, alternate=True, ema=0.9,
    )  # fmt: skip
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(ts.data, "load", lambda *arguments, **options: parts)
        whole = train(config, "whole", tmp_path)
        said = capsys.readouterr().out
        assert "muon moves" in said and "million multiply-adds a step" in said
        again = train(config, "again", tmp_path, quiet=True)
        first = checkpoint.load(whole.run / "last.npz")
        for run in (again.run, resume(again.run, quiet=True).run):
            second = checkpoint.load(run / "last.npz")
            for part in ("net", "optim", "average"):
                a, b = getattr(first, part), getattr(second, part)
                assert a.keys() == b.keys()
                assert all(a[key].tobytes() == b[key].tobytes() for key in a)
    assert whole.rows[-1]["train_loss"] < whole.rows[0]["train_loss"]


def test_rates_that_cannot_be():
    with pytest.raises(TinyshuffleError, match="muon_lr=0.1 .* without the optimizer muon"):
        Config(muon_lr=0.1)
    with pytest.raises(TinyshuffleError, match="bias_lr=-1.0 .*0 to 1000"):
        Config(bias_lr=-1.0)
    assert Config.make("coffee", optimizer="muon").lr == Config.make("coffee").lr
