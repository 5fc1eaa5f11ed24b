"""Training in both libraries, from the same weights over the same batches: five optimiser steps
to many digits, the first twenty of the recipes, and the accuracies that whole runs end with.

Learning rate and batch are such that the weights move (those of the first layers by a tenth) and
yet rounding is not multiplied: at a rate of 0.05 on six images of noise the loss rises, and even
PyTorch's own runs in float32 and float64 part within five steps.
"""

from __future__ import annotations

import dataclasses
import statistics
from collections.abc import Callable
from pathlib import Path
from typing import Any

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
from tinyshuffle.bench.peer_torch import ShuffleNetV2, copy_weights
from tinyshuffle.train import Config, loop, run, train
from tinyshuffle.train.whiten import whiten

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


# ---- whole runs: the same net, recipe, seed and data order


class Stop(Exception):
    """After enough steps."""


def ts_losses(config: Config, steps: int, monkeypatch, tmp_path) -> tuple[list[float], Any]:
    """The losses of the first steps of ``train``, and the trainer as it stands then."""
    losses, trainers, step = [], [], loop.Trainer._step

    def recording(self, *arguments):
        if len(losses) == steps:  # at the next step: the average has seen this one
            raise Stop
        value, right = step(self, *arguments)
        losses.append(value)
        trainers.append(self)
        return value, right

    with monkeypatch.context() as patch:
        patch.setattr(loop.Trainer, "_step", recording)
        with pytest.raises(Stop):
            train(config, "run", tmp_path, quiet=True)
    return losses, trainers[-1]


def torch_train(
    config: Config, steps: int | None = None
) -> tuple[list[float], torch.nn.Module, Tensors]:
    """What a PyTorch user would write for this configuration; only the batches are tinyshuffle's.

    Returns the losses, the net, and its state averaged over the steps.
    """
    train_set, _ = ts.data.load(config.data)
    ours = run.build(config, len(train_set.classes))
    dtype = getattr(torch, str(ours.parameters()[0].dtype))
    net = ShuffleNetV2(
        width=0.5, num_classes=len(train_set.classes), stem="cifar", **config.variant
    ).to(dtype)
    if config.whiten:
        whiten(ours, train_set)
    copy_weights(ours, net)
    net.train()
    average = {name: value.clone() for name, value in net.state_dict().items()}
    options = dict(
        lr=config.lr, momentum=config.momentum, nesterov=True, weight_decay=config.weight_decay
    )
    optimiser = torch_optimiser("SGD", net, options)
    if config.bias_lr is not None:
        biases = [p for name, p in net.named_parameters() if name.endswith("bias")]
        vectors = optimiser.param_groups[1]["params"]
        vectors[:] = [p for p in vectors if all(p is not bias for bias in biases)]
        optimiser.add_param_group(
            {"params": biases, "lr": config.bias_lr * config.lr, "weight_decay": 0.0}
        )
    per_epoch = len(train_set) // config.batch_size
    total = config.epochs * per_epoch
    rise = total // 4 if config.warmup is None else round(config.warmup * per_epoch)
    shapes: dict[str, Callable[[int], float]] = {
        "one-cycle": lambda t: (t + 1) / (rise + 1) if t < rise else (total - t) / (total - rise),
        "step": lambda t: (t + 1) / (rise + 1),  # of which the rise is seen
    }
    scheduler = torch.optim.lr_scheduler.LambdaLR(optimiser, shapes[config.schedule])
    losses: list[float] = []
    for epoch in range(config.epochs):
        stream = ts.data.batches(
            train_set, config.batch_size, seed=config.seed, epoch=epoch, drop_last=True,
            cutout=config.cutout, size=config.size(epoch, config.epochs, 32),
            alternate=bool(config.alternate),
        )  # fmt: skip
        for i, (x, labels) in enumerate(stream):
            parts = [(1.0, labels)]
            if config.mixup:
                rng = np.random.default_rng([config.seed, epoch, 1 + i, 1])
                share = rng.beta(config.mixup, config.mixup)
                x = share * x + (1 - share) * x[::-1]
                parts = [(share, labels), (1 - share, labels[::-1].copy())]
            logits = net(torch.tensor(nchw(x), dtype=dtype))
            loss = torch.zeros((), dtype=dtype)
            for share, y in parts:
                loss = loss + share * torch.nn.functional.cross_entropy(
                    logits, torch.tensor(y), label_smoothing=config.label_smoothing
                )
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
            scheduler.step()
            t = len(losses)
            decay = min(config.ema, (1 + t) / (10 + t)) ** 4 if t % 4 == 3 else 1.0
            decay = decay if config.ema else 0.0  # without an average, the weights themselves
            for name, value in net.state_dict().items():
                mean = decay * average[name] + (1 - decay) * value
                average[name] = mean if value.is_floating_point() else value.clone()
            losses.append(float(loss.detach()))
            if len(losses) == steps:
                return losses, net, average_state(average)
    return losses, net, average_state(average)


def average_state(average: dict[str, torch.Tensor]) -> Tensors:
    return {f"state {name}": value.numpy() for name, value in average.items()}


THEIR_MEANS = (".branch1.3.running_mean", ".branch2.6.running_mean")

# With a long warm-up, as lecture has: at a rate of 0.01 a fresh net's training is chaotic, and
# 1e-15 becomes 1e-3 within four steps.
RUNS = {
    "coffee": Config.make("coffee", data="shapes", epochs=56),
    "lecture": Config.make("lecture", data="shapes"),
    "zoo": Config.make("zoo", data="shapes", warmup=40.0, batch_size=64),
    "everything": Config.make("lecture", data="shapes", mixup=0.4, cutout=8, ema=0.95),
}


@pytest.fixture
def in_float64(monkeypatch):
    """Make both sides train in float64, from weights and batches that float32 can hold.

    In float32 two correct runs part by 1e-2 within ten steps from fresh weights, PyTorch's in
    float32 and in float64 as much as any other two: some activations come to lie on the other side
    of a ReLU's kink, and each such step adds to the number in the next. In float64 there are none.
    """
    batches = ts.data.batches

    def in64(build):
        def build64(*arguments):
            net = build(*arguments)
            state = net.state_dict()
            net.astype(np.float64).load_state_dict(state)
            return net

        return build64

    def batches64(*arguments, **options):
        return ((x.astype(np.float64), y) for x, y in batches(*arguments, **options))

    for module, name in ((run, "build"), (loop, "build_for")):
        monkeypatch.setattr(module, name, in64(getattr(module, name)))
    monkeypatch.setattr(ts.data, "batches", batches64)


@pytest.mark.parametrize("name", RUNS)
def test_the_first_losses_of_recipes(name: str, in_float64, monkeypatch, tmp_path) -> None:
    """Of a run's first twenty steps (1e-3 is asked for), and the average of the weights then."""
    config = RUNS[name]
    mine, trainer = ts_losses(config, 20, monkeypatch, tmp_path)
    theirs, _, average = torch_train(config, 20)
    np.testing.assert_allclose(mine, theirs, rtol=0, atol=1e-9)
    assert len(set(np.round(mine, 3))) > 10  # they move
    found = state(trainer._tested_net)
    for side in (found, average):  # without shifts that only rounding moves, and their means
        for key in [key for key in side if key.endswith((*NO_GRADIENT, *THEIR_MEANS))]:
            del side[key]
    compare(found, average, 1e-7)


def whole_runs(config: Config, folder: Path, seeds: int = 3) -> tuple[list[float], list[float]]:
    """The accuracies that tinyshuffle's and PyTorch's runs of a configuration end with."""
    mine, theirs = [], []
    for seed in range(seeds):
        seeded = dataclasses.replace(config, seed=seed)
        mine.append(train(seeded, f"seed{seed}", folder, quiet=True).accuracy)
        _, net, average = torch_train(seeded)
        net.load_state_dict({name[6:]: torch.tensor(value) for name, value in average.items()})
        net.eval()
        _, test = ts.data.load(config.data)
        size = config.size(config.epochs - 1, config.epochs, 32)
        right = 0
        with torch.no_grad():
            for x, labels in ts.data.batches(test, 500, augment=False, shuffle=False, size=size):
                right += int((net(torch.tensor(nchw(x))).argmax(1).numpy() == labels).sum())
        theirs.append(right / len(test))
    print(f"tinyshuffle {mine}, PyTorch {theirs}")
    return mine, theirs


@pytest.mark.slow
def test_whole_runs_end_with_the_same_accuracy(tmp_path) -> None:
    """Three seeds: the means differ by no more than the seeds do."""
    mine, theirs = whole_runs(Config.make(data="shapes", sizes=(20,), ema=0.99), tmp_path)
    spread = max(max(mine) - min(mine), max(theirs) - min(theirs))
    assert min(mine + theirs) > 0.8  # or the seeds differ by too much to tell
    assert abs(statistics.mean(mine) - statistics.mean(theirs)) <= max(spread, 0.01)
