"""The two projects: what a submission is measured by. Each runs in a process of its own.

A submission is one Python file.

``unit``: ``make_unit()`` returns a :class:`tinyshuffle.nn.Module` that maps (N, H, W, 116) to the
same shape, with at most five million multiply–adds at 28x28. A ShuffleNet V2 unit has 5.7 million.
``kernel``: ``depthwise(x, w)`` convolves float32 images (N, H, W, C) with (3, 3, C), padding 1,
at least twice as fast as :func:`slow_depthwise`.
"""

from __future__ import annotations

import copy
import importlib.util
import json
import sys
import time
import traceback
from collections.abc import Callable
from types import ModuleType
from typing import Any

import numpy as np

from ..errors import TinyshuffleError
from ..files import write_text
from ..text import message
from .exercise import describe

__all__ = ["BUDGET", "CHANNELS", "PROJECTS", "measure", "slow_depthwise"]

BUDGET = 5_000_000
CHANNELS = 116
SIZE = 28
# drawn images; about ten seconds on one core. With fewer steps all units are as bad as each other.
TRAIN, TEST, BATCH, EPOCHS = 4096, 1024, 64, 6
TIMINGS = 15


def measure_unit(submission: Any) -> dict[str, float]:
    """Multiply–adds, memory access, parameters, and the accuracy of a small net with two units.

    The two units that are trained are the ones that are counted and checked.
    """
    from .. import gradcheck

    units = _two_units(_get(submission, "make_unit"))
    shape = (1, SIZE, SIZE, CHANNELS)
    counted, other = (_total(unit, shape) for unit in units)
    if counted != other:
        raise TinyshuffleError(
            f"make_unit() returns one unit of {counted.multiply_adds:,} multiply-adds, "
            f"{counted.memory_access:,} elements of memory access and {counted.params:,} "
            f"parameters, and then another of {other.multiply_adds:,}, {other.memory_access:,} "
            f"and {other.params:,}: let it return the same unit at each call"
        )
    if counted.output != shape:
        raise TinyshuffleError(
            f"the unit makes {counted.output} of {shape}: it has to keep the shape"
        )
    if counted.multiply_adds > BUDGET:
        raise TinyshuffleError(
            f"the unit has {counted.multiply_adds:,} multiply-adds at {SIZE}x{SIZE}; at most "
            f"{BUDGET:,} are allowed"
        )
    rng = np.random.default_rng(0)
    x = rng.standard_normal((2, 5, 4, CHANNELS))
    for unit in units:
        report = gradcheck(copy.deepcopy(unit).initialise(0).astype("float64"), x)
        if not report.passed:
            raise TinyshuffleError(
                f"the unit's gradient is {report.verdict}: {report.failures[0]}"
            )
    return {
        "score": 100 * _accuracy(units),
        "multiply_adds": counted.multiply_adds,
        "memory_access": counted.memory_access,
        "params": counted.params,
    }


def _two_units(make: Callable[[], Any]) -> tuple[Any, Any]:
    """The units of the net, which share nothing."""
    from ..nn import Module

    first, second = make(), make()
    for unit in (first, second):
        if not isinstance(unit, Module):
            raise TinyshuffleError(
                f"make_unit() returns an object of type {type(unit).__name__}: return a "
                "tinyshuffle.nn.Module"
            )
    mine, others = ({id(p) for p in (*u.modules(), *u.parameters())} for u in (first, second))
    if mine & others:
        raise TinyshuffleError(
            "make_unit() returns the same layers at each call, and the net has two units of its "
            "own: build new ones each time"
        )
    return first, second


def _total(unit: Any, shape: tuple[int, ...]) -> Any:
    from ..cost import profile

    return profile(unit, shape).total


def _accuracy(units: tuple[Any, Any]) -> float:
    """Train stem, unit, unit, mean, linear on the built-in images; the same for everybody."""
    from .. import nn
    from ..data import batches, normalise, shapes
    from ..optim import SGD
    from ..train.schedule import factor

    train, test = shapes.load(TRAIN, TEST)
    net = nn.Sequential(
        nn.Conv2d(3, CHANNELS, 3, stride=2, padding=1, bias=False), nn.BatchNorm2d(CHANNELS),
        nn.ReLU(), nn.MaxPool2d(3, stride=2, padding=1), *units, nn.GlobalAvgPool(),
        nn.Linear(CHANNELS, len(train.classes)),
    ).initialise(0)  # fmt: skip
    loss = nn.CrossEntropyLoss()
    optimiser = SGD(net.parameters(), lr=0.1, momentum=0.9, nesterov=True, weight_decay=1e-4)
    steps = -(-TRAIN // BATCH)
    for epoch in range(EPOCHS):
        for step, (x, labels) in enumerate(batches(train, BATCH, epoch=epoch, augment=False)):
            optimiser.lr = 0.1 * factor("one-cycle", epoch * steps + step, EPOCHS * steps)
            loss(net(x), labels)
            net.backward(loss.backward())
            optimiser.step()
            optimiser.zero_grad()
    net.eval()
    logits = net(normalise(test.images, test.mean, test.std))
    return float((logits.argmax(1) == test.labels).mean())


def slow_depthwise(x: np.ndarray, w: np.ndarray) -> np.ndarray:
    n, h, v, c = x.shape
    y = np.zeros((n, h, v, c), np.float32)
    for image in range(n):
        for k in range(c):
            for p in range(h):
                for q in range(v):
                    for i in range(3):
                        for j in range(3):
                            a, b = p + i - 1, q + j - 1
                            if 0 <= a < h and 0 <= b < v:
                                y[image, p, q, k] += x[image, a, b, k] * w[i, j, k]
    return y


def measure_kernel(submission: Any) -> dict[str, float]:
    """Right on odd shapes, and how many times as fast as :func:`slow_depthwise`, compiled."""
    import numba

    slow = numba.njit(slow_depthwise)
    theirs = _get(submission, "depthwise")
    rng = np.random.default_rng(0)

    def arrays(*shape: int) -> tuple[np.ndarray, np.ndarray]:
        x, w = rng.standard_normal(shape), rng.standard_normal((3, 3, shape[-1]))
        return x.astype(np.float32), w.astype(np.float32)

    for shape in ((1, 1, 1, 1), (1, 2, 1, 3), (2, 7, 5, 3), (1, 4, 9, 16), (3, 14, 14, 58)):
        x, w = arrays(*shape)
        _compare(theirs(x.copy(), w.copy()), x, w)
    x, w = arrays(8, 28, 28, 58)
    slow(x, w)
    ours, yours = [], []
    for _ in range(TIMINGS):  # side by side, so that a busy machine slows both
        x += 1e-3  # new numbers, so that no result can be kept; and both find x in the cache
        ours.append(_seconds(slow, x, w)[0])
        x += 1e-3
        mine, weights = x.copy(), w.copy()  # whatever is done to them, the next run is not touched
        seconds, got = _seconds(theirs, mine, weights)
        yours.append(seconds)
        _compare(got, x, w)
    median = float(np.median(yours))
    return {"score": float(np.median(ours)) / median, "milliseconds": 1e3 * median}


def _compare(got: Any, x: np.ndarray, w: np.ndarray) -> None:
    from .. import ops

    right = ops.depthwise_conv2d(x, w, padding=1)
    if not isinstance(got, np.ndarray):
        raise TinyshuffleError(f"depthwise returns a {type(got).__name__}: return an array")
    if got.shape != right.shape:
        raise TinyshuffleError(
            f"depthwise returns shape {got.shape} for x of shape {x.shape}: keep the shape"
        )
    if not np.allclose(got, right, rtol=1e-4, atol=1e-4):
        raise TinyshuffleError(f"depthwise is wrong for x of shape {x.shape}: mend it first")


def _seconds(f: Callable[..., Any], *arguments: Any) -> tuple[float, Any]:
    start = time.perf_counter()
    result = f(*arguments)
    return time.perf_counter() - start, result


PROJECTS: dict[str, Callable[[Any], dict[str, float]]] = {
    "unit": measure_unit,
    "kernel": measure_kernel,
}


def _get(submission: Any, name: str) -> Any:
    if not callable(getattr(submission, name, None)):
        raise TinyshuffleError(f"the file has no function {name}(): write it")
    return getattr(submission, name)


def load(file: str) -> ModuleType:
    """Run a submission's file."""
    spec = importlib.util.spec_from_file_location("submission", file)
    assert spec and spec.loader
    module = importlib.util.module_from_spec(spec)
    sys.modules["submission"] = module  # numba looks a function's module up
    spec.loader.exec_module(module)
    return module


def measure(project: str, file: str) -> dict[str, Any]:
    """Run a submission, a student's code: its figures, or ``{"error": a sentence}``."""
    try:
        return dict(PROJECTS[project](load(file)))
    except TinyshuffleError as error:
        return {"error": message(error)}
    except (MemoryError, SystemError):  # CPython's word where nobody looked for the first
        return {"error": "it asks for more memory than is allowed"}
    except BaseException as error:  # sys.exit() too
        frames = traceback.extract_tb(error.__traceback__)
        lines = [frame.lineno for frame in frames if frame.filename == file]
        where = f" (line {lines[-1]})" if lines else ""
        return {"error": f"it raises {describe(error)}{where}"}
    finally:
        sys.modules.pop("submission", None)  # and with it what it may have kept


def main() -> None:
    """``python -m tinyshuffle.course.projects PROJECT FILE RESULT MEGABYTES``."""
    project, file, result, megabytes = sys.argv[1:]
    limit(int(megabytes))
    figures = measure(project, file)
    write_text(result, json.dumps(figures))


def limit(megabytes: int) -> None:
    """Let this process have no more memory, and write no larger file, where the system can."""
    if sys.platform == "win32":
        return
    import resource

    most = megabytes * 2**20
    for which in (resource.RLIMIT_AS, resource.RLIMIT_DATA, resource.RLIMIT_FSIZE):
        try:
            resource.setrlimit(which, (most, most))
        except (ValueError, OSError):  # macOS knows the names and refuses some of them
            continue
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))


if __name__ == "__main__":
    main()
