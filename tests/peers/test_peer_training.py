"""Five optimiser steps in both libraries, from the same weights over the same batches.

Learning rate and batch are such that the weights move (those of the first layers by a tenth) and
yet rounding is not multiplied: at a rate of 0.05 on six images of noise the loss rises, and even
PyTorch's own runs in float32 and float64 part within five steps.
"""

from __future__ import annotations

import numpy as np
import pytest
import torch
from peers.parity import (
    NO_GRADIENT,
    Tensors,
    compare,
    leave_the_kinks,
    make_pair,
    nchw,
    shift,
    state,
    torch_step,
    ts_step,
)

import tinyshuffle as ts

SHAPE = (16, 32, 32, 3)
NETS = {
    "v1_x0_5_g3": ("v1", dict(width=0.5, groups=3, stem="cifar")),
    "v2_x0_5": ("v2", dict(width=0.5, stem="cifar")),
}
CASES = [(name, dtype) for name in NETS for dtype in ("float64", "float32")]
SGD = dict(lr=0.002, momentum=0.9, nesterov=True, weight_decay=5e-4)
ADAM = dict(lr=1e-4, weight_decay=5e-4)
TOLERANCE = {"float64": 1e-9, "float32": 1e-3}
# Of what the steps added, relative to itself and not to the weight: in float32 that is the small
# difference of two rounded numbers.
MOVES_TOLERANCE = {"float64": 1e-9, "float32": 1e-2}


def batches(dtype: str) -> list[tuple[np.ndarray, np.ndarray]]:
    rng = np.random.default_rng(1)
    return [(rng.normal(size=SHAPE).astype(dtype), rng.integers(10, size=16)) for _ in range(5)]


def torch_optimiser(name: str, net: torch.nn.Module, options: dict) -> torch.optim.Optimizer:
    """PyTorch decays everything unless told otherwise; tinyshuffle leaves vectors alone."""
    params = list(net.parameters())
    groups = [
        {"params": [p for p in params if p.ndim > 1]},
        {"params": [p for p in params if p.ndim <= 1], "weight_decay": 0.0},
    ]
    return getattr(torch.optim, name)(groups, **options)


def torch_run(peer, optimiser, dtype: str) -> tuple[Tensors, list[Tensors]]:
    """Take five steps; return the losses and the state at the end, and the shifts before each."""
    losses, shifts = [], []
    for x, labels in batches(dtype):
        shifts.append(leave_the_kinks(peer, x))
        losses.append(torch_step(peer, x, labels)["loss"])
        optimiser.step()
    return {"losses": np.array(losses), **state(peer)}, shifts


def ts_run(net, optimiser, dtype: str, shifts: list[Tensors]) -> Tensors:
    losses = []
    for (x, labels), added in zip(batches(dtype), shifts, strict=True):
        shift(net, added)
        losses.append(ts_step(net, x, labels)["loss"])
        optimiser.step()
    return {"losses": np.array(losses), **state(net)}


def moves(end: Tensors, start: Tensors, shifts: list[Tensors]) -> Tensors:
    """What the optimiser did to each parameter that has a gradient."""
    return {
        name: end[name] - before - sum(s.get(name.removeprefix("state "), 0) for s in shifts)
        for name, before in start.items()
        if name.endswith(("weight", "bias")) and not name.endswith(NO_GRADIENT)
    }


def eval_logits(net, x: np.ndarray) -> Tensors:
    net.eval()
    if isinstance(net, torch.nn.Module):
        with torch.no_grad():
            logits = net(torch.tensor(nchw(x))).numpy()
    else:
        logits = net(x)
    net.train()
    return {"logits": logits}


@pytest.fixture(scope="module", params=CASES, ids="-".join)
def sgd(request: pytest.FixtureRequest):
    """A net, its weights before, a batch that was not trained on, and what PyTorch makes of all."""
    name, dtype = request.param
    kind, options = NETS[name]
    net, peer, x, _ = make_pair(kind, SHAPE, dtype, **options)
    theirs, shifts = torch_run(peer, torch_optimiser("SGD", peer, SGD), dtype)
    return net, net.state_dict(), state(net), x, dtype, shifts, theirs, eval_logits(peer, x)


def test_sgd_stays_together(sgd, each_backend: str, threads: int) -> None:
    """Losses, weights, running statistics, and what evaluation makes of them."""
    net, saved, start, x, dtype, shifts, theirs, their_logits = sgd
    net.load_state_dict(saved)
    mine = ts_run(net, ts.optim.SGD(net.parameters(), **SGD), dtype, shifts)
    assert mine["state conv1.1.num_batches_tracked"] == 5
    compare(mine, theirs, TOLERANCE[dtype])
    compare(moves(mine, start, shifts), moves(theirs, start, shifts), MOVES_TOLERANCE[dtype])
    compare(eval_logits(net, x), their_logits, TOLERANCE[dtype])


@pytest.fixture(scope="module")
def adam():
    net, peer, _, _ = make_pair("v2", SHAPE, "float64", width=0.5, stem="cifar")
    theirs, shifts = torch_run(peer, torch_optimiser("Adam", peer, ADAM), "float64")
    return net, net.state_dict(), shifts, theirs


def test_adam_stays_together(adam, each_backend: str) -> None:
    net, saved, shifts, theirs = adam
    net.load_state_dict(saved)
    mine = ts_run(net, ts.optim.Adam(net.parameters(), **ADAM), "float64", shifts)
    compare(mine, theirs, 1e-8)
