"""Is this backward pass right? Compare it with finite differences.

For a module y = f(x; θ) and a random cotangent dy, the number L = Σ dy · y has the gradients that
``backward(dy)`` returns and accumulates. Each of them is compared with the central difference

    (L(θ + ε v) - L(θ - ε v)) / 2ε,      v a unit vector, or a random direction

computed as Σ dy · (y₊ - y₋) / 2ε, which loses less to rounding than the difference of two sums.

* float64 only: in float32 rounding alone makes an error of 10⁻³ at the best ε.
* A random cotangent, not ones: the gradient of a batch norm is exactly zero for ones, whatever
  its backward pass gets wrong.
* Near a kink (of ReLU, or of a max) the difference straddles two slopes. A smaller ε then helps;
  if none does and the slopes to the left and right differ, the point sits on the kink, where any
  slope in between is right, and the entry is counted apart.
"""

from __future__ import annotations

import difflib
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import numpy as np

from . import nn
from .errors import TinyshuffleError
from .models import create, list_models
from .models.densenet import DenseLayer
from .models.googlenet import Inception
from .models.mobilenet_v2 import InvertedResidual
from .models.resnet import bottleneck
from .models.shufflenet_v1 import ShuffleUnitV1
from .models.shufflenet_v2 import ShuffleUnitV2
from .models.shufflenet_v2_star import ShuffleUnitV2Star
from .models.squeezenet import Fire
from .nn import Module

__all__ = ["CASES", "Report", "Row", "gradcheck", "run_named"]

EPS = (1e-5, 1e-6, 1e-7)  # tried in turn; the smaller ones are for points near a kink
TOLERANCE = 1e-6
ELEMENTWISE_UP_TO = 4000  # entries; beyond, random directions
DIRECTIONS = 2
DIRECTION_TRIES = 5


@dataclass
class Row:
    """What was found for one gradient: a parameter's, or the input's (named ``dx``)."""

    name: str
    shape: tuple[int, ...]
    checked: int = 0  # entries or directions
    near_kink: int = 0  # right with a smaller ε only
    on_kink: int = 0  # left out
    error: float = 0.0  # the worst relative error and where it is
    index: tuple[int, ...] | str = ()
    analytic: float = 0.0
    numeric: float = 0.0
    eps: float = EPS[0]


@dataclass
class Report:
    """The result of :func:`gradcheck`; ``print`` it for a table.

    Attributes
    ----------
    rows : list of Row
    tolerance : float
    max_relative_error : float
        Of a gradient, relative to the largest entry of that gradient's tensor.
    passed : bool
    """

    rows: list[Row] = field(default_factory=list)
    tolerance: float = TOLERANCE

    @property
    def max_relative_error(self) -> float:
        return max((row.error for row in self.rows), default=0.0)

    @property
    def failures(self) -> list[str]:
        """One sentence for each gradient that is wrong, or that could not be judged."""
        out = []
        for row in self.rows:
            if not row.error <= self.tolerance:
                where = row.index if isinstance(row.index, str) else f"index {row.index}"
                out.append(
                    f"{row.name} {row.shape} is wrong at {where}: analytic {row.analytic:.10g}, "
                    f"numeric {row.numeric:.10g} with eps {row.eps:g} "
                    f"(relative error {row.error:.2e})"
                )
            elif row.on_kink > max(1, row.checked // 10):
                out.append(
                    f"{row.name} {row.shape}: {row.on_kink} of {row.checked} entries sit on a "
                    "kink and cannot be judged; use another x"
                )
        return out

    @property
    def passed(self) -> bool:
        return not self.failures

    def __str__(self) -> str:
        width = max([9, *(len(row.name) for row in self.rows)])
        lines = [f"{'gradient':<{width}}  {'shape':<20} {'checked':>7} {'kinks':>5} {'error':>9}"]
        for row in self.rows:
            mark = "" if row.error <= self.tolerance else "  WRONG"
            lines.append(
                f"{row.name:<{width}}  {row.shape!s:<20} {row.checked:>7} "
                f"{row.near_kink + row.on_kink:>5} {row.error:>9.1e}{mark}"
            )
        verdict = "passed" if self.passed else "FAILED"
        lines.append(f"{verdict}: largest relative error {self.max_relative_error:.1e}")
        return "\n".join(lines + self.failures)

    __repr__ = __str__


def gradcheck(
    module: Any,
    x: np.ndarray,
    *,
    seed: int | np.random.Generator = 0,
    tolerance: float = TOLERANCE,
    elementwise: bool | None = None,
) -> Report:
    """Check every gradient of ``module`` at ``x`` against finite differences.

    Parameters
    ----------
    module : Module
        Anything with ``module(x)`` and ``backward(dy) -> dx``; if it has parameters, with
        ``parameters()`` and ``zero_grad()``. Its weights, gradients, running statistics and
        random generators are the same afterwards as before.
    x : ndarray, float64
        Random numbers are a good choice; zeros sit on the kink of every ReLU.
    seed : int or numpy Generator
        Of the cotangent and the directions.
    tolerance : float
        For the error relative to the largest entry of each gradient.
    elementwise : bool, optional
        Check entry by entry, or along random directions. By default by entries for a layer of up
        to a few thousand of them, along directions for units, nets and whatever is larger.

    Returns
    -------
    Report

    Raises
    ------
    TinyshuffleError
        If ``x`` or a parameter is not float64, or the shape of dx is not that of x.

    >>> layer = nn.Linear(3, 2).astype("float64")
    >>> gradcheck(layer, np.random.default_rng(0).standard_normal((4, 3))).passed
    True
    """
    parameters = module.parameters() if hasattr(module, "parameters") else []
    _require_float64(x, parameters)
    rng = np.random.default_rng(seed)
    run = _Repeatable(module)

    before = [p.grad for p in parameters]
    for p in parameters:
        p.grad = None
    y = run(x)
    dy = rng.standard_normal(y.shape)
    dx = np.array(module.backward(dy.copy()))
    if dx.shape != x.shape:
        raise TinyshuffleError(
            f"{type(module).__name__}.backward returned shape {dx.shape} for an input of "
            f"{x.shape}; it must return the gradient of the input"
        )
    x = x.copy()  # it is moved below, and the caller's stays as it is
    tensors = [("dx", x, dx)]
    for i, p in enumerate(parameters):
        grad = np.zeros(p.data.shape) if p.grad is None else np.array(p.grad)
        if grad.shape != p.data.shape:
            raise TinyshuffleError(
                f"the gradient of {p.name} has shape {grad.shape}, the parameter {p.data.shape}; "
                "they must be the same"
            )
        tensors.append((p.name or f"parameter {i}", p.data, grad))
    for p, grad in zip(parameters, before, strict=True):
        p.grad = grad

    if elementwise is None:
        leaf = not (isinstance(module, Module) and any(True for _ in module.children()))
        elementwise = leaf and sum(t.size for _, t, _ in tensors) <= ELEMENTWISE_UP_TO
    report = Report(tolerance=tolerance)
    rounding = _rounding(run, x, y, dy, rng)
    for name, tensor, grad in tensors:
        probe = _Probe(run, x, tensor, grad, y, dy, rounding, tolerance)
        row = Row(name, grad.shape)
        if elementwise:
            probe.along_entries(row)
        else:
            probe.along_directions(row, rng)
        report.rows.append(row)
    run.rewind()
    return report


def _rounding(
    run: Callable[[np.ndarray], np.ndarray],
    x: np.ndarray,
    y: np.ndarray,
    dy: np.ndarray,
    rng: np.random.Generator,
) -> float:
    """Measure what rounding does to L: move x by its last bit, and see how far L moves."""
    ulp = np.finfo(np.float64).eps
    moves = [0.25 * ulp * float(np.linalg.norm(dy * y))]
    for _ in range(4):
        moved = run(x * (1 + ulp * rng.choice([-1, 1], x.shape)))
        moves.append(abs(float((dy * (moved - y)).sum())))
    return 4 * max(moves)


@dataclass
class _Probe:
    """Moves one tensor to and fro and watches L = Σ dy · y."""

    run: Callable[[np.ndarray], np.ndarray]
    x: np.ndarray
    tensor: np.ndarray
    grad: np.ndarray
    y: np.ndarray
    dy: np.ndarray
    rounding: float
    tolerance: float

    def along_entries(self, row: Row) -> None:
        largest = float(np.abs(self.grad).max(initial=0.0))
        for index in np.ndindex(self.grad.shape):
            v = np.zeros(self.grad.shape)
            v[index] = 1.0
            row.checked += 1
            self._check(row, index, v, largest)

    def along_directions(self, row: Row, rng: np.random.Generator) -> None:
        # how steep a random direction is, typically; one can happen to be almost level
        typical = float(np.linalg.norm(self.grad)) / np.sqrt(max(self.grad.size, 1))
        for i in range(DIRECTIONS):
            row.checked += 1
            # In a net with 10⁵ ReLUs now and then a direction crosses a kink, whatever ε. Another
            # one then hardly does; a backward pass that is wrong, is wrong in every direction.
            for tries_left in reversed(range(DIRECTION_TRIES)):
                v = rng.standard_normal(self.grad.shape)
                v /= np.linalg.norm(v)
                last = tries_left == 0
                if self._check(row, f"random direction {i}", v, typical, record_failure=last):
                    row.near_kink += tries_left < DIRECTION_TRIES - 1
                    break

    def _check(
        self,
        row: Row,
        where: tuple[int, ...] | str,
        v: np.ndarray,
        typical: float,
        record_failure: bool = True,
    ) -> bool:
        """Compare the slope along ``v`` with the gradient; write what is found into ``row``."""
        analytic = float((self.grad * v).sum())
        # differences that rounding explains at the largest eps are no evidence
        floor = self.rounding / EPS[0] / self.tolerance
        best = (np.inf, 0.0, EPS[0])
        for eps in EPS:
            right, left = self._slopes(v, eps)
            numeric = (right + left) / 2
            scale = max(typical, abs(analytic), abs(numeric), floor)
            error = abs(numeric - analytic) / scale if scale else 0.0
            if np.isfinite(error) and error < best[0] / 2:
                best = (error, numeric, eps)
            if error <= self.tolerance:
                break
        error, numeric, eps = best
        passed = error <= self.tolerance
        if passed:
            row.near_kink += eps != EPS[0]
        else:
            slack = self.tolerance * scale
            if right - left > 2 * slack or left - right > 2 * slack:
                if min(right, left) - slack <= analytic <= max(right, left) + slack:
                    row.on_kink += 1
                    return True
        if (passed or record_failure) and (error > row.error or row.index == ()):
            row.error, row.index, row.eps = error, where, eps
            row.analytic, row.numeric = analytic, numeric
        return passed

    def _slopes(self, v: np.ndarray, eps: float) -> tuple[float, float]:
        """Return the slope of L along ``v`` to the right and to the left."""
        original = self.tensor.copy()
        slopes = []
        for step in (eps, -eps):
            self.tensor[...] = original + step * v
            try:
                moved = self.run(self.x)
            finally:
                self.tensor[...] = original
            slopes.append(float((self.dy * (moved - self.y)).sum()) / step)
        return slopes[0], slopes[1]


class _Repeatable:
    """A forward pass that always starts from the same running statistics and random states."""

    def __init__(self, module: Any) -> None:
        self.module = module
        modules = list(module.modules()) if isinstance(module, Module) else []
        self.buffers = [(m, name, getattr(m, name)) for m in modules for name in m.buffers]
        self.randoms = module.random_states() if modules else {}

    def rewind(self) -> None:
        for module, name, value in self.buffers:
            setattr(module, name, value.copy())
        if self.randoms:
            self.module.load_random_states(self.randoms)

    def __call__(self, x: np.ndarray) -> np.ndarray:
        self.rewind()
        return np.array(self.module(x))


def _require_float64(x: np.ndarray, parameters: list[Any]) -> None:
    what = [("x", np.asarray(x).dtype)] + [(p.name, p.data.dtype) for p in parameters]
    for name, dtype in what:
        if dtype != np.float64:
            raise TinyshuffleError(
                f"gradcheck needs float64, and {name or 'a parameter'} is {dtype}: rounding in "
                "float32 hides errors; use module.astype('float64') and x.astype('float64')"
            )


# ---- what `python -m tinyshuffle gradcheck` can check by name

Case = tuple[Callable[[], Module], tuple[int, ...]]

CASES: dict[str, Case] = {
    "conv2d": (partial(nn.Conv2d, 4, 6, 3, stride=2, padding=1), (2, 5, 4, 4)),
    "conv2d_dilated": (partial(nn.Conv2d, 3, 4, 3, padding=2, dilation=2), (2, 5, 6, 3)),
    "conv2d_grouped": (partial(nn.Conv2d, 6, 9, 3, padding=1, groups=3), (2, 5, 4, 6)),
    "pointwise": (partial(nn.Conv2d, 5, 7, 1), (2, 4, 3, 5)),
    "pointwise_grouped": (partial(nn.Conv2d, 6, 9, 1, groups=3), (2, 4, 3, 6)),
    "depthwise": (partial(nn.Conv2d, 6, 6, 3, padding=1, groups=6), (2, 5, 4, 6)),
    "depthwise_stride2": (
        partial(nn.Conv2d, 6, 6, 3, stride=2, padding=1, groups=6), (2, 5, 6, 6),
    ),
    "batch_norm": (partial(nn.BatchNorm2d, 5), (3, 4, 3, 5)),
    "batch_norm_relu": (
        lambda: nn.Sequential(nn.BatchNorm2d(5), nn.ReLU()), (3, 4, 3, 5),
    ),
    "relu": (nn.ReLU, (2, 4, 3, 5)),
    "relu6": (nn.ReLU6, (2, 4, 3, 5)),
    "sigmoid": (nn.Sigmoid, (2, 5)),
    "channel_shuffle": (partial(nn.ChannelShuffle, 3), (2, 3, 2, 12)),
    "max_pool2d": (partial(nn.MaxPool2d, 3, stride=2, padding=1), (2, 6, 5, 3)),
    "avg_pool2d": (partial(nn.AvgPool2d, 3, stride=2, padding=1), (2, 6, 5, 3)),
    "max_pool2d_ceil": (partial(nn.MaxPool2d, 3, stride=2, ceil_mode=True), (2, 6, 7, 3)),
    "adaptive_avg_pool2d": (partial(nn.AdaptiveAvgPool2d, (2, 3)), (2, 5, 4, 3)),
    "global_avg_pool": (nn.GlobalAvgPool, (2, 3, 4, 5)),
    "flatten": (nn.Flatten, (2, 3, 4, 5)),
    "local_response_norm": (partial(nn.LocalResponseNorm, 4, alpha=0.5, k=2), (2, 3, 2, 7)),
    "linear": (partial(nn.Linear, 6, 4), (3, 6)),
    "dropout": (partial(nn.Dropout, 0.4), (4, 6)),
    "squeeze_excitation": (partial(nn.SqueezeExcitation, 8, 4), (2, 3, 4, 8)),
    "shuffle_unit_v1": (partial(ShuffleUnitV1, 24, 24, 3, 1), (2, 6, 5, 24)),
    "shuffle_unit_v1_stride2": (partial(ShuffleUnitV1, 12, 36, 3, 2), (2, 6, 5, 12)),
    "shuffle_unit_v2": (partial(ShuffleUnitV2, 16, 16, 1), (2, 6, 5, 16)),
    "shuffle_unit_v2_stride2": (partial(ShuffleUnitV2, 8, 16, 2), (2, 6, 5, 8)),
    "shuffle_unit_v2_residual": (
        partial(ShuffleUnitV2, 16, 16, 1, residual=True), (2, 6, 5, 16)
    ),
    "shuffle_unit_v2_star": (partial(ShuffleUnitV2Star, 16, 16, 1), (2, 6, 5, 16)),
    "bottleneck": (partial(bottleneck, 12, 6, 12, 1), (2, 4, 3, 12)),
    "bottleneck_grouped": (partial(bottleneck, 9, 6, 12, 2, groups=3), (2, 5, 4, 9)),
    "inverted_residual": (partial(InvertedResidual, 6, 6, 1, 3), (2, 4, 5, 6)),
    "dense_layer": (partial(DenseLayer, 6, 3), (2, 4, 3, 6)),
    "fire": (partial(Fire, 6, 3, 4), (2, 4, 3, 6)),
    "inception": (partial(Inception, 6, (3, 2, 4, 2, 3, 2)), (2, 4, 3, 6)),
}
DEFAULT_NETS = ("shufflenet_v1_x0_25_g3", "shufflenet_v2_x0_5")


def run_named(
    names: list[str], on_start: Callable[[str], None] = lambda name: None
) -> Iterator[tuple[str, Report]]:
    """Check layers, units and nets by name; without names every case and two nets.

    Yields
    ------
    name, report

    Raises
    ------
    TinyshuffleError
        For an unknown name, before anything is checked; the nearest ones are offered.
    """
    known = [*CASES, *list_models()]
    for name in names:
        if name not in known:
            near = difflib.get_close_matches(name, known, n=3, cutoff=0.4)
            raise TinyshuffleError(
                f"nothing to check is called {name!r}; "
                + (f"did you mean {' or '.join(near)}? " if near else "")
                + f"Layers and units: {', '.join(CASES)}; and every model's name"
            )
    return _run_named(names or [*CASES, *DEFAULT_NETS], on_start)


def _run_named(names: list[str], on_start: Callable[[str], None]) -> Iterator[tuple[str, Report]]:
    for name in names:
        on_start(name)
        if name in CASES:
            build, shape = CASES[name]
            module = build().initialise(0)
        else:
            module, shape = create(name, num_classes=5, stem="cifar"), (2, 16, 16, 3)
        module.astype("float64")
        x = np.random.default_rng(1).standard_normal(shape)
        yield name, gradcheck(module, x)
