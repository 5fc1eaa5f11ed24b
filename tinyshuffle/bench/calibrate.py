"""Measure what :mod:`tinyshuffle.cost.roofline` has to know of this machine, and remember it.

Each class of operations is run at some shapes that were made up for this, in the way that nets run
it: a core each, the same kernels, the same memory. The shapes are not those of any net, so that a
prediction can be wrong.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterator
from itertools import combinations
from pathlib import Path

import numpy as np

from .. import nn
from ..backend import F
from ..cost.roofline import CLASSES, Operation, Rates, Speeds, operations
from ..files import write_text
from ..machine import describe
from ..parallel import DataParallel, get_num_threads, set_num_threads
from ..values import flags
from . import ceilings, libraries
from .layers import time_layers
from .process import Worker
from .progress import Progress

__all__ = ["calibrate", "fit", "this_machine"]

COPIES = 6  # of each operation, one after the other
ROUNDS = 9


class _Copies(nn.Module):
    """The same layer some times over, each with weights of its own, all on the same input."""

    def __init__(self, build: Callable[[], nn.Module]) -> None:
        self._copies = [build() for _ in range(COPIES)]

    def children(self) -> Iterator[tuple[str, nn.Module]]:
        return ((str(i), copy) for i, copy in enumerate(self._copies))

    def forward(self, x: np.ndarray) -> np.ndarray:
        for copy in self._copies:
            y = copy(x)
        return y


class _Halves(nn.Module):
    """Split, and put together again: what moves the channels of a ShuffleNet."""

    def forward(self, x: np.ndarray) -> np.ndarray:
        return F.channel_shuffle(F.concat(F.channel_split(x, x.shape[-1] // 2)), 2)


def _conv(c: int, o: int, kernel: int = 1, stride: int = 1, groups: int = 1) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(c, o, kernel, stride, kernel // 2, groups=groups, bias=False),
        nn.BatchNorm2d(o),
        nn.ReLU(),
    )


def _head(c: int, o: int) -> nn.Sequential:
    return nn.Sequential(nn.GlobalAvgPool(), nn.Linear(c, o))


_POINTWISE = ((56, 16, 64), (56, 24, 48), (28, 64, 64), (28, 48, 128), (28, 128, 32), (14, 96, 96),
              (14, 128, 256), (14, 250, 60), (7, 64, 256), (7, 192, 192), (7, 256, 240),
              (112, 16, 32))  # fmt: skip
_GROUPED = ((28, 96, 96, 3), (28, 48, 192, 3), (28, 192, 48, 3), (28, 64, 64, 2), (14, 96, 384, 3),
            (14, 384, 96, 3), (14, 128, 128, 8), (7, 384, 192, 3), (7, 192, 768, 3),
            (28, 256, 64, 4))  # fmt: skip
_LARGE = ((7, 384, 512), (7, 512, 512), (7, 512, 1024), (14, 256, 512), (14, 512, 512),
          (28, 256, 384), (7, 1024, 256))  # fmt: skip
_DEPTHWISE = ((112, 16), (56, 32), (56, 64), (28, 64), (28, 128), (14, 96), (14, 256), (7, 256),
              (7, 512))  # fmt: skip
_HALVED = ((112, 32), (56, 24), (56, 64), (28, 64), (28, 128), (14, 96), (14, 256))
_DENSE = ((224, 3, 16, 2), (224, 3, 32, 2), (96, 3, 24, 2), (64, 3, 24, 1), (56, 16, 16, 1),
          (28, 32, 32, 1), (14, 64, 64, 1), (28, 64, 96, 2))  # fmt: skip
_HEADS = ((7, 256, 1000), (7, 512, 1000), (7, 1024, 1000), (7, 2048, 500), (4, 192, 10))
_MOVED = ((56, 32), (28, 64), (28, 128), (14, 96), (14, 256), (7, 256), (7, 512))
_PASSED = ((112, 24), (56, 64), (28, 128), (28, 256), (14, 256), (14, 512), (7, 1024))
_POOLED = ((112, 16), (112, 32), (56, 32), (56, 64), (28, 192), (14, 384))


def _shapes() -> Iterator[tuple[int, int, Callable[[], nn.Module]]]:
    """Size, channels and layer of each operation."""
    for size, c, o in (*_POINTWISE, *_LARGE):
        yield size, c, lambda c=c, o=o: _conv(c, o)  # type: ignore[misc]
    for size, c, o, groups in _GROUPED:
        yield size, c, lambda c=c, o=o, g=groups: _conv(c, o, groups=g)  # type: ignore[misc]
    for stride, shapes in ((1, _DEPTHWISE), (2, _HALVED)):
        for size, c in shapes:
            yield size, c, lambda c=c, s=stride: _conv(c, c, 3, s, c)  # type: ignore[misc]
    for size, c, o, stride in _DENSE:
        yield size, c, lambda c=c, o=o, s=stride: _conv(c, o, 3, s)  # type: ignore[misc]
    for size, c, o in _HEADS:
        yield size, c, lambda c=c, o=o: _head(c, o)  # type: ignore[misc]
    for size, c in _MOVED:
        yield size, c, _Halves
    for size, c in _PASSED:
        yield size, c, nn.ReLU
    for size, c in _POOLED:
        yield size, c, lambda: nn.MaxPool2d(3, 2, 1)
        yield size, c, lambda: nn.AvgPool2d(3, 2, 1)


def calibrate(cores: int, threads: int) -> Speeds:
    """Measure the machine with ``cores`` at work at once; takes some ten seconds.

    Parameters
    ----------
    cores : int
        How many slices a batch is cut into.
    threads : int
        What ``tinyshuffle.set_num_threads`` is set to. More than ``cores`` help BLAS only.
    """
    set_num_threads(threads)
    sizes = [2**k for k in range(16, 27, 2)]
    bandwidths = [(n, ceilings.bandwidth(n * cores, cores, 0.1) / cores) for n in sizes]
    peak = ceilings.matrix_peak(cores, 0.3) / cores
    blank = Speeds(cores, peak, bandwidths, {}, 0.0, 0.0)
    rows: dict[str, list[tuple[tuple[float, ...], float]]] = {name: [] for name in CLASSES}
    for size, channels, build in _shapes():
        for operation, seconds in _timed(_Copies(build), (cores, size, size, channels), threads):
            features = blank.features(operation)
            rows[operation.shape_class].append((features, seconds / operation.calls))
    rates = {name: fit(found, 2 / peak) for name, found in rows.items()}
    between, start = _python(cores, threads)
    return Speeds(cores, peak, bandwidths, rates, between, start)


def _side(net: nn.Module, shape: tuple[int, ...], threads: int) -> libraries.Ours:
    images, labels = libraries.draw(shape[0], shape[1], 1, shape[3])
    return libraries.Ours(DataParallel(net.initialise()), images, labels, False, threads)


def _timed(
    net: nn.Module, shape: tuple[int, ...], threads: int
) -> Iterator[tuple[Operation, float]]:
    times = time_layers(_side(net, shape, threads), ROUNDS, warm=2)
    measured = {(row.layer, row.operation): row.forward_seconds for row in times.rows}
    for operation in operations(net, shape, shape[0]):
        yield operation, measured[operation.layer, operation.operation]


def _python(cores: int, threads: int, layers: int = 24) -> tuple[float, float]:
    """Seconds between two operations, and of a pass without any."""
    # neither so small that the threads do nothing but ask for the interpreter, nor large
    shape = cores, 14, 14, 64

    def rest(count: int) -> float:
        net = nn.Sequential(*[layer for _ in range(count) for layer in _conv(64, 64)])
        times = time_layers(_side(net, shape, threads), 3 * ROUNDS, warm=3)
        return times.step_seconds - sum(row.seconds for row in times.rows)

    few, many = rest(1), rest(layers)
    between = max(0.0, (many - few) / (layers - 1))
    return between, max(0.0, few - between)


def fit(rows: list[tuple[tuple[float, ...], float]], least: float = 0.0) -> Rates:
    """Find the numbers, none of them negative, whose predictions have the least relative errors.

    Parameters
    ----------
    rows : list of (features, seconds)
    least : float
        Seconds that a multiply-add takes at the machine's peak. No class is fitted to be faster:
        where a few shapes would say so, the time of their multiply-adds is in other numbers.

    >>> found = fit([((1, 10, 1, 0), 7.0), ((1, 20, 5, 0), 16.0), ((1, 40, 2, 0), 23.0)])
    >>> round(found.call, 6), round(found.multiply_add, 6), round(found.passes, 6), found.packing
    (1.0, 0.5, 1.0, 0.0)
    """
    seconds = np.array([s for _, s in rows])
    a = np.array([features for features, _ in rows]) / seconds[:, None]  # (rows, features)
    least = least if a[:, 1].any() else 0.0
    rest = 1 - least * a[:, 1]  # what is left for the others if all multiply-adds run at the peak
    scale = np.maximum(a.max(axis=0), 1e-300)
    best, smallest = np.zeros(a.shape[1]), np.inf
    for count in range(1, a.shape[1] + 1):
        for chosen in combinations(range(a.shape[1]), count):
            columns = a[:, chosen] / scale[list(chosen)]
            x, *_ = np.linalg.lstsq(columns, rest, rcond=None)
            error = float(np.square(columns @ x - rest).sum())
            if (x >= 0).all() and error < smallest - 1e-12:
                best, smallest = np.zeros(a.shape[1]), error
                best[list(chosen)] = x / scale[list(chosen)]
    best[1] += least
    return Rates(*best.tolist())


# ---- remembering


@flags
def this_machine(
    cores: int,
    threads: int | None = None,
    remeasure: bool = False,
    progress: Progress | None = None,
) -> Speeds:
    """Return what this machine does, measured now or as it is remembered.

    Parameters
    ----------
    cores : int
        At work at once.
    threads : int, optional
        All by default.
    remeasure : bool
        Do not look at what is remembered.
    progress : Progress, optional
    """
    threads = threads or get_num_threads()
    file = _folder() / f"machine-{_fingerprint(threads)}-{cores}.json"
    if not remeasure and file.is_file():
        try:
            return Speeds.from_dict(json.loads(file.read_text(encoding="utf-8")))
        except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError):
            pass  # of another version, or damaged: measure anew
    if progress is None:
        with Progress() as progress:
            return this_machine(cores, threads, True, progress)
    progress.phase(f"measuring the machine with {cores} of its cores")
    job = {"kind": "calibrate", "cores": cores, "threads": threads}
    with Worker("the machine's speeds", job) as worker:
        values = worker.ready()
    file.parent.mkdir(parents=True, exist_ok=True)
    write_text(file, json.dumps(values))
    return Speeds.from_dict(values)


def _folder() -> Path:
    import pooch

    return Path(pooch.os_cache("tinyshuffle"))


def _fingerprint(threads: int) -> str:
    """Changes with the machine, the libraries, the kernels, and what is calibrated."""
    found = describe(threads)
    words = [found.cpu, found.system, str(found.cores), str(threads)]
    words += [found.versions.get(name, "") for name in ("Python", "NumPy", "numba")]
    digest = hashlib.sha256("\n".join(words).encode())
    package = Path(__file__).parents[1]
    files = [*package.glob("kernels/*.py"), package / "cost" / "roofline.py", Path(__file__)]
    for file in sorted(files):
        digest.update(file.read_bytes())
    return digest.hexdigest()[:16]
