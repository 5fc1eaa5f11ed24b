"""What a checkpoint has to hold before anything is made of it.

Its check sums say that it is as it was written, and nothing of whether that makes sense: a header
from another program, weights that are no numbers, arrays of another net. All of that would
otherwise fail somewhere in the middle, or evaluate and predict without a word.
"""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np

from .. import checkpoint, data, memory, models, nn
from ..checkpoint import Checkpoint
from ..cost.profile import profile
from ..errors import TinyshuffleError
from ..parallel import DataParallel
from ..ranks import current
from .budget import Pace
from .config import Config
from .groups import pointwise
from .limits import MOST_EPOCHS
from .record import COLUMNS, SUMS, TESTS

__all__ = [
    "best_checkpoint", "build", "build_for", "check", "check_data", "check_ranks", "verify",
    "verify_to_resume",
]  # fmt: skip

LARGEST_SIDE = 1024  # of an image, in pixels: a net takes memory by its square


class _Wrong(Exception):
    """What is wrong, as the end of a sentence."""


def build(config: Config, num_classes: int) -> DataParallel:
    """Return the net of a configuration, with its first weights, which nobody has drawn yet.

    Raises
    ------
    TinyshuffleError
        If the machine has not as much memory as the weights would take.
    """
    net = models.create(
        config.model, num_classes=num_classes, stem=config.stem or "cifar", seed=config.seed,
        **config.variant,
    )  # fmt: skip
    needed = sum(math.prod(p.shape) * p.dtype.itemsize for p in net.parameters())
    there = memory.physical()
    if there and needed > there:
        raise TinyshuffleError(
            f"the weights of this {config.model} take {needed / 2**20:,.0f} MiB, and the machine "
            f"has {there / 2**20:,.0f} MiB of memory: give smaller widths"
        )
    return net


def build_for(config: Config, side: int, num_classes: int) -> DataParallel:
    """Return the net that a configuration trains on images of ``side`` pixels.

    Raises
    ------
    TinyshuffleError
        If the images or the net cannot be what the configuration says, or do not fit each other.
    """
    if largest := [size for size in config.sizes if size > side]:
        raise TinyshuffleError(
            f"sizes={list(config.sizes)} was given, and the images of {config.data} have "
            f"{side} pixels a side: leave out {largest[0]}, they are only made smaller"
        )
    if config.cutout >= side:
        raise TinyshuffleError(
            f"cutout={config.cutout} was given, and the images of {config.data} have "
            f"{side} pixels a side: leave something of them"
        )
    net = build(config, num_classes)
    if config.optimizer == "muon" and not pointwise(net):
        raise TinyshuffleError(
            f"the optimizer muon was given, and {config.model} has no pointwise convolution that "
            "it would move: give sgd, or another --model"
        )
    smallest = min(config.sizes, default=side)
    profile(net, (1, smallest, smallest, 3))  # says how small the images may be
    return net


def check(config: Config) -> None:
    """Refuse what :func:`tinyshuffle.train.train` would refuse, without the data set's files.

    Raises
    ------
    TinyshuffleError
        Names what cannot be.
    """
    check_ranks(config)
    if data.is_folder(config.data):
        side = data.folder.SIDE if config.side is None else config.side
        build_for(config, side, len(data.classes(config.data, config.data_dir)))
    else:
        build_for(config, data.SIDE, len(data.classes(config.data)))


def check_ranks(config: Config) -> None:
    """Refuse what would do nothing without ranks."""
    if config.sync_bn is not None and current() is None:
        raise TinyshuffleError(
            f"sync_bn={config.sync_bn} was given, which has no effect without ranks: leave it out, "
            "or start mpiexec with train --mpi"
        )


def check_data(saved: Checkpoint, found: data.Dataset, run: Path) -> None:
    """Refuse to go on with other images than those that a run began with."""
    facts = saved.header["data"]
    same = list(facts["classes"]) == list(found.classes) and all(
        np.allclose(facts[name], getattr(found, name), rtol=0, atol=1e-6)
        for name in ("mean", "std")
    )
    if not same:
        raise TinyshuffleError(
            f"{run} was trained on other images than these of {found.name!r} (classes, mean or "
            "standard deviation differ): say with --data-dir where those are"
        )


def best_checkpoint(run: Path) -> tuple[Checkpoint, Path]:
    """Return a run's best checkpoint, or its newest if there is no best one yet, and its path.

    Warns if it is not the one that it should be, because that is damaged.
    """
    return checkpoint.load_best(run, verify)


def verify(saved: Checkpoint) -> str:
    """Say why the net in a checkpoint cannot be tested or asked, or nothing."""
    try:
        _check_net(saved)
    except (_Wrong, TinyshuffleError) as wrong:
        return str(wrong)
    return ""


def verify_to_resume(saved: Checkpoint) -> str:
    """Say why a run cannot be continued from a checkpoint, or nothing."""
    try:
        config, net = _check_net(saved)
        _check_position(saved.header, config)
        _check_finite("optim", saved.optim)
        try:
            net.load_random_states(saved.header["random_states"])
        except (KeyError, TypeError, ValueError, OverflowError) as error:
            raise _Wrong(f"its random_states are not those of its net ({error})") from error
    except (_Wrong, TinyshuffleError) as wrong:
        return str(wrong)
    return ""


def _check_net(saved: Checkpoint) -> tuple[Config, nn.Module]:
    header = saved.header
    fields = _field(header, "config", dict)
    if "detector" in fields:
        raise _Wrong("it is a detector's, for the commands of `detect`")
    for name in ("model", "data"):
        _field(fields, name, str)  # other fields may be younger than the checkpoint
    try:
        config = Config.from_dict(fields)
    except (TinyshuffleError, OverflowError) as error:  # of a whole number that is no float
        raise _Wrong(f"its configuration cannot be ({error})") from error
    _whole(_field(header, "epoch", int), "epoch", 0, MOST_EPOCHS)
    facts = _field(header, "data", dict)
    classes = _field(facts, "classes", list)
    if not classes or not all(isinstance(name, str) for name in classes):
        raise _Wrong(f"its header's classes are {_short(classes)}, not names")
    for name in ("mean", "std"):
        numbers = _field(facts, name, list)
        good = len(numbers) == 3 and all(_is_number(number) for number in numbers)
        if not good or (name == "std" and min(numbers) <= 0):
            raise _Wrong(f"its header's {name} is {_short(numbers)}, not three numbers")
    _whole(_field(facts, "size", int), "size", 1, LARGEST_SIDE)

    _check_finite("net", saved.net)
    _check_finite("average", saved.average)
    if bool(saved.average) != bool(config.ema):
        raise _Wrong(
            f"it was written with ema={config.ema} and has "
            f"{'an' if saved.average else 'no'} average of the weights"
        )
    net = build(config, len(classes))
    net.load_state_dict(saved.net)
    if saved.average:
        net.load_state_dict(saved.average)
    return config, net


def _check_finite(part: str, arrays: dict[str, np.ndarray]) -> None:
    for name, array in arrays.items():
        if array.dtype.kind not in "fiu":
            raise _Wrong(f"its {part}/{name} holds {array.dtype}, not numbers")
        if not np.isfinite(array).all():
            count = np.count_nonzero(~np.isfinite(array))
            raise _Wrong(f"its {part}/{name} has {count:,} of {array.size:,} that are not finite")
        # a variance and the second moment that Adam keeps are means of squares, counts are counts
        positive = name.endswith(("running_var", "num_batches_tracked")) or (
            part == "optim" and (name.startswith("v/") or name == "steps")
        )
        if positive and array.size and array.min() < 0:
            raise _Wrong(f"its {part}/{name} is negative ({array.min():.4g})")


def _check_position(header: dict[str, Any], config: Config) -> None:
    plan = _field(header, "plan", list)
    if len(plan) != 2:
        raise _Wrong(f"its header's plan is {_short(plan)}, not epochs and steps of each")
    epochs = _whole(plan[0], "plan", 1, MOST_EPOCHS)
    steps = _whole(plan[1], "plan", 1, 2**40)
    if config.time_budget is None and epochs != config.epochs:
        raise _Wrong(f"its header plans {epochs} epochs, and its configuration {config.epochs}")
    epoch = _whole(header["epoch"], "epoch", 0, epochs)
    _whole(_field(header, "step", int), "step", 0, steps)
    sums = _field(header, "sums", dict)
    for name in SUMS:
        _number(sums, name)
    if header["step"] and not (sums["images"] > 0 and sums["seconds"] > 0):
        raise _Wrong(f"its header counts {sums['images']} images after {header['step']} steps")
    _number(header, "seconds")
    _whole(header.get("ranks", 1), "ranks", 1, 2**31)  # older ones do not say
    rows = _field(header, "rows", list)
    if len(rows) != epoch:
        raise _Wrong(f"its header has {len(rows)} rows of the log after {epoch} epochs")
    for i, row in enumerate(rows):
        if not isinstance(row, dict):
            raise _Wrong(f"its header has {_short(row)} as a row of the log")
        # of those between two tests; one that ends the run is tested
        without = i + 1 < epochs and all(row.get(name, 0) is None for name in TESTS)
        for name in COLUMNS:
            if not (without and name in TESTS):
                _number(row, name)
        if row["epoch"] != i + 1:
            raise _Wrong(f"its header has epoch {row['epoch']} as row {i + 1} of the log")
    _check_budget(header, config)
    _field(header, "random_states", dict)


def _check_budget(header: dict[str, Any], config: Config) -> None:
    """What a run has that was planned again; an older one has nothing of it."""
    budget = header.get("budget")
    if budget is None:
        return
    if not isinstance(budget, dict) or config.time_budget is None:
        raise _Wrong(f"its header's budget is {_short(budget)}, and its run has none")
    try:
        pace = Pace.from_dict(budget["pace"])
        (steps, warmup), (epoch, begun, position) = budget["schedule"], budget["from"]
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise _Wrong(f"its header's budget is {_short(budget)}, no pace and plan") from error
    sizes = set(config.sizes) or {header["data"]["size"]}
    for of in (pace.step, pace.test):
        if of.keys() != sizes or not all(0 < s < math.inf for s in of.values()):
            raise _Wrong(f"its header's pace is {_short(of)}, not seconds for each size")
    _whole(steps, "schedule", 1, 2**62)
    _whole(warmup, "schedule", 0, steps - 1)
    _whole(epoch, "budget", 0, header["epoch"])
    _whole(begun, "budget", 0, 2**62)
    if not _is_number(position) or not 0 <= position < steps:
        raise _Wrong(f"its header's position is {_short(position)}, not one in its schedule")


def _field(table: dict[str, Any], name: str, kind: type) -> Any:
    if name not in table:
        raise _Wrong(f"its header lacks {name}")
    value = table[name]
    if not isinstance(value, kind) or isinstance(value, bool):
        kinds = {dict: "a table", list: "a list", int: "a whole number", str: "text"}
        raise _Wrong(f"its header's {name} is {_short(value)}, not {kinds[kind]}")
    return value


def _whole(value: Any, name: str, least: int, most: int) -> int:
    if not isinstance(value, int) or isinstance(value, bool) or not least <= value <= most:
        raise _Wrong(
            f"its header's {name} is {_short(value)}, not a whole number from {least:,} to {most:,}"
        )
    return value


def _number(table: dict[str, Any], name: str) -> None:
    if not _is_number(table.get(name)):
        raise _Wrong(f"its header's {name} is {_short(table.get(name))}, not a finite number")


def _is_number(value: Any) -> bool:
    number = isinstance(value, (int, float)) and not isinstance(value, bool)
    return number and abs(value) < 1e300 and math.isfinite(value)


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:57]}..."
