"""The comparison has teeth: a net with a mistake in it must not pass for PyTorch's."""

from __future__ import annotations

import sys
from collections.abc import Callable

import numpy as np
import pytest
from peers.parity import Tensors, compare, make_pair, torch_step, ts_step

import tinyshuffle as ts
from tinyshuffle import ops

SHAPE = (6, 16, 16, 3)


@pytest.fixture(scope="module", params=["v1", "v2"])
def pair(request: pytest.FixtureRequest):
    options = {"v1": dict(width=0.5, groups=3), "v2": dict(width=0.5)}[request.param]
    net, peer, x, labels = make_pair(request.param, SHAPE, "float64", stem="cifar", **options)
    theirs = torch_step(peer, x, labels)
    return net, net.state_dict(), x, labels, theirs


def step(pair) -> Tensors:
    net, start, x, labels, _ = pair
    net.load_state_dict(start)
    with ts.backend("numpy"):
        return ts_step(net, x, labels)


right_batch_norm_backward = ops.batch_norm_backward
right_cross_entropy_backward = ops.cross_entropy_backward


def batch_norm_without_its_last_term(dy, x, gamma, beta, mean, var, sums, *rest):
    only_the_mean = sums * [[1.0], [0.0]]
    return right_batch_norm_backward(dy, x, gamma, beta, mean, var, only_the_mean, *rest)


def broken(name: str, result: int, change: Callable[[np.ndarray], np.ndarray]) -> Callable:
    """An operation one of whose results has been changed."""
    right = getattr(ops, name)

    def wrong(*args, **kwargs):
        results = list(right(*args, **kwargs))
        results[result] = change(results[result])
        return tuple(results)

    return wrong


MISTAKES = {
    "batch norm without the gradient through the variance": (
        "batch_norm_backward", batch_norm_without_its_last_term,
    ),
    "depthwise weight gradient with its taps mirrored": (
        "depthwise_conv2d_backward",
        broken("depthwise_conv2d_backward", 1, lambda dw: dw[::-1].copy()),
    ),
    "pointwise dx with the wrong sign": (
        "pointwise_conv2d_backward", broken("pointwise_conv2d_backward", 0, np.negative),
    ),
    "pointwise dx a millionth too large": (
        "pointwise_conv2d_backward",
        broken("pointwise_conv2d_backward", 0, lambda dx: dx * (1 + 1e-6)),
    ),
    "shuffle backward that shuffles forward": ("channel_shuffle_backward", ops.channel_shuffle),
    "smoothing left out of the loss's gradient": (
        "cross_entropy_backward", lambda p, labels, _: right_cross_entropy_backward(p, labels),
    ),
}  # fmt: skip


def test_the_right_net_passes(pair) -> None:
    assert compare(step(pair), pair[-1], 1e-9) > 0


@pytest.mark.parametrize("mistake", MISTAKES)
def test_a_wrong_operation_fails(pair, mistake: str, monkeypatch: pytest.MonkeyPatch) -> None:
    name, wrong = MISTAKES[mistake]
    with monkeypatch.context() as m:
        for module in [x for path, x in sys.modules.items() if path.startswith("tinyshuffle.ops")]:
            if hasattr(module, name):
                m.setattr(module, name, wrong)
        mine = step(pair)
    with pytest.raises(AssertionError, match=r"differ by more than 1e-09: (grad|dx)"):
        compare(mine, pair[-1], 1e-9)


def test_one_wrong_weight_fails(pair) -> None:
    net, start, x, labels, theirs = pair
    start = {name: value.copy() for name, value in start.items()}
    start["stage3.4.residual.expand.weight" if "stage3.4.residual.expand.weight" in start
          else "stage3.4.branch2.5.weight"][0, 0, 3, 5] += 1e-6  # fmt: skip
    mine = step((net, start, x, labels, theirs))
    with pytest.raises(AssertionError, match="differ by more than 1e-09"):
        compare(mine, theirs, 1e-9)


def test_a_biased_running_variance_fails(pair) -> None:
    mine, theirs = step(pair), pair[-1]
    name, m = "state conv1.1.running_var", 6 * 16 * 16
    mine[name] = 0.9 + (mine[name] - 0.9) * (m - 1) / m
    with pytest.raises(AssertionError, match=r"conv1\.1\.running_var"):
        compare(mine, theirs, 1e-9)


@pytest.mark.parametrize("fault", ["nan", "missing", "unexpected", "layout", "count"])
def test_what_else_compare_refuses(pair, fault: str) -> None:
    mine, theirs = step(pair), pair[-1]
    name = "grad fc.weight"
    if fault == "nan":
        mine[name] = np.full_like(mine[name], np.nan)
    elif fault == "missing":
        del mine[name]
    elif fault == "unexpected":
        mine["grad fc.scale"] = mine[name]
    elif fault == "layout":
        mine[name] = mine[name].T
    else:
        mine["state conv1.1.num_batches_tracked"] = np.array(2)
    with pytest.raises(AssertionError):
        compare(mine, theirs, 1e-9)


def test_a_gradient_that_should_be_zero_fails(pair) -> None:
    """The loss does not depend on these shifts; a gradient there, however small, is a mistake."""
    mine, theirs = step(pair), pair[-1]
    name = next(n for n in mine if n.endswith(("residual.bn2.bias", "branch1.1.bias")))
    assert np.abs(mine[name]).max() < 1e-12
    mine[name] = np.full_like(mine[name], 1e-8)
    with pytest.raises(AssertionError, match=name):
        compare(mine, theirs, 1e-9)
