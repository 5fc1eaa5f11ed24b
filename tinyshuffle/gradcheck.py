"""Is this backward pass right? Compare it with finite differences.

For a module y = f(x; θ) and a random cotangent dy, the number L = Σ dy · y has the gradients that
``backward(dy)`` returns and accumulates. Each of them is compared with the central difference

    (L(θ + ε v) - L(θ - ε v)) / 2ε,      v a unit vector, or a direction

computed as Σ dy · (y₊ - y₋) / 2ε, which loses less to rounding than the difference of two sums.

* float64 only: in float32 rounding alone makes an error of 10⁻³ at the best ε.
* A random cotangent, not ones: the gradient of a batch norm is exactly zero for ones, whatever
  its backward pass gets wrong.
* Everything is computed twice first, and has to come out the same to the bit: where L moves by
  itself, no difference of it means anything.
* Every gradient is *right*, *wrong* or *not judged*. Near a kink (of ReLU, or of a max) the
  difference straddles two slopes. A smaller ε then helps, or another direction. If none does, and
  the gradient is among the slopes that were measured to the left and to the right, then it cannot
  be judged: on a kink, any slope in between is right. A gradient outside of them is wrong.
* A gradient so small beside the others that one of the other sign would be within the tolerance is
  right only if the difference agrees with it by itself, perhaps with a larger ε, which lifts it
  out of the rounding; or if it is nothing but rounding itself, as that of a bias before a batch
  norm is, which is zero. Else it is not judged.
* Parameters' gradients have to be added to what is there: a second backward pass doubles them.
"""

from __future__ import annotations

import copy
import inspect
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np

from .errors import TinyshuffleError
from .nn import Module
from .nn.module import layers_inside
from .ops.arguments import check_plain, generator, number
from .values import flags

__all__ = ["Report", "Row", "gradcheck"]

EPS = (1e-5, 1e-6, 1e-7)  # tried in turn; the smaller ones are for points near a kink
EPS_NET = (1e-6, 1e-7, 1e-8)  # along directions, which are steep and cross many kinks
EPS_SMALL = (1e-4, 1e-3, 1e-2, 1e-1)  # for gradients that are small beside the others
TOLERANCE = 1e-6
AGREES = 0.1  # how closely a difference has to show a gradient that the tolerance does not see
MOST_UNJUDGED = 0.1  # share of a gradient's entries that may go without a judgement
ELEMENTWISE_UP_TO = 4000  # entries; beyond, directions
DIRECTIONS = 2
TRIES = 5  # of other directions, before one is given up


@dataclass
class Row:
    """What was found for one gradient: a parameter's, or the input's (named ``dx``)."""

    name: str
    shape: tuple[int, ...]
    checked: int = 0  # entries or directions: right, wrong and not judged
    near_kink: int = 0  # right, with a smaller ε or another direction only
    on_kink: int = 0  # not judged
    too_small: int = 0  # not judged, as rounding hides them
    wrong: int = 0
    not_added: str = ""  # what two backward passes leave in place of twice the gradient
    error: float = 0.0  # the worst relative error of those that were judged, and where it is
    index: tuple[int, ...] | str = ()
    analytic: float = 0.0
    numeric: float = 0.0
    eps: float = EPS[0]

    @property
    def verdict(self) -> str:
        """"right", "wrong" or "not judged", which is what too many kinks make it."""
        if self.wrong or self.not_added:
            return "wrong"
        return "not judged" if self.unjudged > MOST_UNJUDGED * self.checked else "right"

    @property
    def unjudged(self) -> int:
        return self.on_kink + self.too_small


@dataclass
class Report:
    """The result of :func:`gradcheck`; ``print`` it for a table.

    Attributes
    ----------
    rows : list of Row
        One for dx and one for each parameter.
    verdict : str
        "right" if every row is; "wrong" if one is; "not judged" otherwise.
    passed : bool
        Whether the verdict is "right".
    max_relative_error : float
        Of what was judged: relative to the largest entry of the gradient's tensor, or to the
        slope along the direction.
    """

    rows: list[Row] = field(default_factory=list)

    @property
    def max_relative_error(self) -> float:
        return max((row.error for row in self.rows), default=0.0)

    @property
    def verdict(self) -> str:
        verdicts = {row.verdict for row in self.rows} or {"not judged"}
        return next(v for v in ("wrong", "not judged", "right") if v in verdicts)

    @property
    def failures(self) -> list[str]:
        """One sentence for each gradient that is wrong, or that could not be judged."""
        out = []
        for row in self.rows:
            if row.not_added:
                out.append(
                    f"{row.name} {row.shape} is set and not added to: two backward passes without "
                    f"zero_grad leave {row.not_added}; use accumulate(…) in place of grad = …"
                )
            if row.wrong:
                where = row.index if isinstance(row.index, str) else f"index {row.index}"
                out.append(
                    f"{row.name} {row.shape} is wrong at {where}: analytic {row.analytic:.10g}, "
                    f"numeric {row.numeric:.10g} with eps {row.eps:g} "
                    f"(relative error {row.error:.2e})"
                )
            if row.verdict != "not judged":
                continue
            if row.on_kink:
                out.append(
                    f"{row.name} {row.shape}: {row.on_kink} of {row.checked} entries sit on a "
                    "kink, or too near to one, and cannot be judged; use another x"
                )
            if row.too_small:
                out.append(
                    f"{row.name} {row.shape}: {row.too_small} of {row.checked} entries are so "
                    "small beside the other gradients that rounding hides them, and cannot be "
                    "judged; scale x or the parameters so that all gradients are of about one size"
                )
        return out

    @property
    def passed(self) -> bool:
        return self.verdict == "right"

    def __str__(self) -> str:
        width = max([9, *(len(row.name) for row in self.rows)])
        lines = [f"{'gradient':<{width}}  {'shape':<20} {'checked':>7} {'kinks':>5} {'error':>9}"]
        for row in self.rows:
            mark = {"right": "", "wrong": "  WRONG", "not judged": "  not judged"}[row.verdict]
            lines.append(
                f"{row.name:<{width}}  {row.shape!s:<20} {row.checked:>7} "
                f"{row.near_kink + row.on_kink:>5} {row.error:>9.1e}{mark}"
            )
        words = {"right": "passed", "wrong": "FAILED", "not judged": "not judged"}[self.verdict]
        lines.append(f"{words}: largest relative error {self.max_relative_error:.1e}")
        if unjudged := sum(row.unjudged for row in self.rows):
            lines[-1] += f", {unjudged} of {sum(row.checked for row in self.rows)} not judged"
        return "\n".join(lines + self.failures)

    __repr__ = __str__


@flags
def gradcheck(
    module: Any,
    x: np.ndarray,
    *others: Any,
    seed: int | np.random.Generator = 0,
    tolerance: float = TOLERANCE,
    elementwise: bool | None = None,
) -> Report:
    """Check every gradient of ``module`` at ``x`` against finite differences.

    Parameters
    ----------
    module : Module
        Anything with ``module(x)`` and ``backward(dy) -> dx``; if it has parameters, with
        ``parameters()``. Or a loss: ``module(x, labels)`` is one number, and ``backward()`` takes
        no argument. Its weights, gradients, running statistics and random generators are the same
        afterwards as before.
    x : ndarray, float64
        Random numbers are a good choice; zeros sit on the kink of every ReLU.
    *others
        What else the module takes, such as a loss its labels. It is handed on as it is.
    seed : int or numpy Generator
        Of the cotangent and the directions.
    tolerance : float
        For the error relative to the largest entry of each gradient.
    elementwise : bool, optional
        Check entry by entry, or along directions. By default by entries for a layer of up to a
        few thousand of them, along directions for units, nets and whatever is larger.

    Returns
    -------
    Report

    Raises
    ------
    TinyshuffleError
        If an argument is not possible, or there is nothing to judge: ``x`` or a parameter is not
        float64, ``x`` is empty, a gradient does not have the shape and dtype of its tensor, two
        runs on the same ``x`` differ, the module writes into its input, its output is not finite,
        or it holds layers where their parameters are not found.

    >>> from tinyshuffle import nn
    >>> layer = nn.Linear(3, 2).astype("float64")
    >>> gradcheck(layer, np.random.default_rng(0).standard_normal((4, 3))).passed
    True
    >>> logits = np.random.default_rng(0).standard_normal((4, 3))
    >>> gradcheck(nn.CrossEntropyLoss(), logits, np.array([0, 1, 2, 0])).passed
    True
    """
    tolerance = number(tolerance, "tolerance", lambda t: 0 < t < 1, "a number such as 1e-6")
    rng = generator(seed)
    passes = _Passes(module, x, others)
    try:
        y = passes.forward()
        dy = np.ones(()) if passes.is_loss else rng.standard_normal(y.shape)
        grads = passes.backward(dy)
        passes.repeat(y, dy, grads)
        twice = passes.backward_again(dy)
        if elementwise is None:
            leaf = not (isinstance(module, Module) and any(True for _ in module.children()))
            elementwise = leaf and sum(grad.size for grad in grads) <= ELEMENTWISE_UP_TO
        # What rounding explains is no evidence; but where it would explain every gradient that
        # there is, nothing can be judged.
        steepest = max(float(np.linalg.norm(grad[np.isfinite(grad)])) for grad in grads)
        steps = EPS if elementwise else EPS_NET
        rounding, noises = _rounding(passes, y, dy, grads, rng)
        floor = min(rounding / steps[0] / tolerance, steepest)
        report = Report()
        for name, tensor, grad, noise, both in zip(
            passes.names, passes.tensors, grads, noises, twice, strict=True
        ):
            row = Row(name, grad.shape)
            probe = _Probe(
                passes.forward, tensor, grad, y, dy, steps, floor, tolerance, row, rounding, noise
            )
            if not np.isfinite(grad).all():
                probe.not_finite()
            elif elementwise:
                probe.along_entries()
            elif grad.size:
                probe.along_directions(rng)
            if both is not None and not row.wrong:
                probe.added_to(both)
            report.rows.append(row)
        passes.repeat(y, dy, grads)  # a layer may count its calls and change late
    finally:
        passes.leave()
    return report


class _Passes:
    """A module's two passes, always from the same running statistics and random states."""

    def __init__(self, module: Any, x: np.ndarray, others: tuple[Any, ...]) -> None:
        self.module, self.others, self.kind = module, others, type(module).__name__
        self._require_passes(x)
        parameters = module.parameters() if hasattr(module, "parameters") else []
        self.parameters = list({id(p): p for p in parameters}.values())  # a shared one once
        self.names = ["dx", *(p.name or f"parameter {i}" for i, p in enumerate(self.parameters))]
        self._require_float64(x)
        self.x = x.copy()  # it is moved, and the caller's stays as it is
        self.tensors = [self.x, *(p.data for p in self.parameters)]
        self.is_loss = not inspect.signature(module.backward).parameters
        modules = list(module.modules()) if isinstance(module, Module) else []
        self.buffers = [(m, name, getattr(m, name)) for m in modules for name in m.buffers]
        self.randoms = module.random_states() if modules else {}
        self.grads = [p.grad for p in self.parameters]

    def leave(self) -> None:
        """Give the module back what it had before."""
        self._rewind()
        for p, grad in zip(self.parameters, self.grads, strict=True):
            p.grad = grad

    def forward(self) -> np.ndarray:
        """Return the output."""
        self._rewind()
        self.given = self.x.copy()
        y = self.module(self.given, *copy.deepcopy(self.others))
        self._require_unwritten("forward", self.given, self.x)
        if _dtype(y) != np.float64 or np.size(y) == 0 or (self.is_loss and np.size(y) != 1):
            raise TinyshuffleError(
                f"{self.kind} returned {_what(y)}; gradcheck needs one float64 array that is not "
                "empty (several outputs can be concatenated), or from a loss, whose backward() "
                "has no dy, one number"
            )
        return np.array(y)

    def backward_again(self, dy: np.ndarray) -> list[np.ndarray | None]:
        """Return what parameters' gradients are after another backward pass; None for dx."""
        self.forward()
        _, *grads = self.backward(dy, clear=False)
        return [None, *grads]

    def backward(self, dy: np.ndarray, clear: bool = True) -> list[np.ndarray]:
        """Return dx and the parameters' gradients."""
        if clear:
            for p in self.parameters:
                p.grad = None
        given = dy.copy()
        dx = self.module.backward() if self.is_loss else self.module.backward(given)
        self._require_unwritten("backward", self.given, self.x)
        self._require_unwritten("backward", given, dy)
        if (_dtype(dx), np.shape(dx)) != (np.float64, self.x.shape):
            raise TinyshuffleError(
                f"{self.kind}.backward returned {_what(dx)} for an input of {self.x.shape}; it "
                "must return the gradient of the input, a float64 array of its shape"
            )
        grads = [np.array(dx)]
        for name, p in zip(self.names[1:], self.parameters, strict=True):
            grad = np.zeros(p.data.shape) if p.grad is None else p.grad
            if (_dtype(grad), np.shape(grad)) != (np.float64, p.data.shape):
                raise TinyshuffleError(
                    f"the gradient of {name} is {_what(grad)}, the parameter {_what(p.data)}; they "
                    "must have the same shape and dtype"
                )
            grads.append(np.array(grad))
        return grads

    def repeat(self, y: np.ndarray, dy: np.ndarray, grads: list[np.ndarray]) -> None:
        """Raise unless both passes give the same again, to the bit, and numbers at all."""
        again = [self.forward(), *self.backward(dy)]
        names = ["output", "dx", *(f"gradient of {name}" for name in self.names[1:])]
        for name, first, second in zip(names, [y, *grads], again, strict=True):
            if not np.array_equal(first, second, equal_nan=True):
                raise TinyshuffleError(
                    f"{self.kind} cannot be checked: two runs on the same x differ in the {name}, "
                    f"by up to {np.nanmax(abs(first - second)):.1e}. Draw random numbers from "
                    "self.rng, list running statistics in buffers (gradcheck rewinds both), keep "
                    "nothing else from call to call, or check it after eval()"
                )
        if not np.isfinite(y).all():
            raise TinyshuffleError(
                f"{self.kind} returned NaN or infinite numbers, which have no gradient; "
                "use another x"
            )

    def _rewind(self) -> None:
        for module, name, value in self.buffers:
            setattr(module, name, value.copy())
        if self.randoms:
            self.module.load_random_states(self.randoms)

    def _require_passes(self, x: np.ndarray) -> None:
        module = self.module
        if isinstance(module, type) or not (callable(module) and hasattr(module, "backward")):
            raise TinyshuffleError(
                "gradcheck needs a layer, an object with forward and backward such as nn.ReLU(), "
                f"and got {module!r}"
            )
        for call in (module, getattr(module, "forward", module)):
            try:
                inspect.signature(call).bind(x, *self.others)
            except TypeError as error:
                raise TinyshuffleError(
                    f"{self.kind} cannot be called with {1 + len(self.others)} input(s): {error}; "
                    "gradcheck(module, x, …) hands it x and what follows x"
                ) from None
        if isinstance(module, Module):  # which looks for them itself
            return
        listed = {id(p) for p in module.parameters()} if hasattr(module, "parameters") else set()
        for held in layers_inside(module):
            own = held.parameters() if isinstance(held, Module) else [held]
            if not listed or not all(id(p) in listed for p in own):
                raise TinyshuffleError(
                    f"{self.kind} has layers or parameters, and no parameters() that lists them "
                    "for the check; derive it from nn.Module"
                )

    def _require_float64(self, x: np.ndarray) -> None:
        for name, array in zip(self.names, [x, *(p.data for p in self.parameters)], strict=True):
            check_plain(array)
            if not isinstance(array, np.ndarray) or array.dtype != np.float64:
                raise TinyshuffleError(
                    f"gradcheck needs float64, and {'x' if name == 'dx' else name} is "
                    f"{_dtype(array) or _what(array)}: rounding in float32 hides errors, and whole "
                    "numbers have no gradient; use module.astype('float64') and "
                    "x.astype('float64')"
                )
        if x.size == 0:
            raise TinyshuffleError(f"x is empty, {x.shape}: nothing to check; give it some entries")

    def _require_unwritten(self, which: str, given: np.ndarray, kept: np.ndarray) -> None:
        if not np.array_equal(given, kept, equal_nan=True):
            raise TinyshuffleError(
                f"{self.kind}.{which} writes into the array that it was given, which other layers "
                "still need; write the result into a new one"
            )


def _dtype(value: Any) -> np.dtype | None:
    """Return the dtype of an array or a number, None of anything else."""
    return np.asarray(value).dtype if isinstance(value, np.ndarray | np.generic | float) else None


def _what(value: Any) -> str:
    if _dtype(value) is None:
        return "None" if value is None else f"a {type(value).__name__}"
    return f"{_dtype(value)} of shape {np.shape(value)}"


def _rounding(
    passes: _Passes,
    y: np.ndarray,
    dy: np.ndarray,
    grads: list[np.ndarray],
    rng: np.random.Generator,
) -> tuple[float, list[np.ndarray]]:
    """Measure what rounding does to L and to gradients.

    To L: move x by its last bit, and see how far L moves. A gradient that is all rounding changes
    by as much as it is if x moves by a millionth, and one that is not, changes by a millionth.
    """
    ulp = np.finfo(np.float64).eps
    moves = [0.25 * ulp * float(np.linalg.norm(dy * y))]
    noises = [np.zeros(grad.shape) for grad in grads]
    kept = passes.x.copy()
    for _ in range(8):
        signs = rng.choice([-1, 1], kept.shape)
        passes.x[...] = kept * (1 + ulp * signs)
        moves.append(abs(float((dy * (passes.forward() - y)).sum())))
        passes.x[...] = kept * (1 + 1e-6 * signs)
        passes.forward()
        with np.errstate(invalid="ignore"):  # of gradients that are infinite
            for noise, before, after in zip(noises, grads, passes.backward(dy), strict=True):
                np.fmax(noise, abs(after - before), out=noise)
    passes.x[...] = kept
    return 4 * max(moves), [4 * noise for noise in noises]


class _Finding(NamedTuple):
    verdict: str
    near_kink: bool  # the largest ε did not do
    where: tuple[int, ...] | str
    error: float
    analytic: float
    numeric: float
    eps: float


@dataclass
class _Probe:
    """Moves one tensor to and fro and watches L = Σ dy · y."""

    forward: Callable[[], np.ndarray]
    tensor: np.ndarray
    grad: np.ndarray
    y: np.ndarray
    dy: np.ndarray
    steps: tuple[float, ...]
    floor: float
    tolerance: float
    row: Row
    rounding: float  # of L
    noise: np.ndarray  # a gradient that is smaller may be rounding alone

    def added_to(self, both: np.ndarray) -> None:
        """Note it if the gradient after two backward passes is not twice the gradient."""
        off = abs(both - 2 * self.grad)
        largest = np.abs(self.grad).max(initial=0.0)
        if (off <= self.tolerance * largest + self.rounding).all():
            return
        index = tuple(int(i) for i in np.unravel_index(int(off.argmax()), off.shape))
        self.row.not_added = (
            f"{both[index]:.10g} at index {index}, and not twice {self.grad[index]:.10g}"
        )

    def not_finite(self) -> None:
        """Count a gradient of NaN, which is wrong, whatever the differences are."""
        index = tuple(int(i) for i in np.argwhere(~np.isfinite(self.grad))[0])
        found = float(self.grad[index])
        self._count(_Finding("wrong", False, index, np.inf, found, np.nan, self.steps[0]))

    def along_entries(self) -> None:
        largest = float(np.abs(self.grad).max(initial=0.0))
        for index in np.ndindex(self.grad.shape):
            v = np.zeros(self.grad.shape)
            v[index] = 1.0
            self._count(self._judge(index, v, largest, float(self.noise[index])))

    def along_directions(self, rng: np.random.Generator) -> None:
        """Half along the gradient, which is steep, and half in a random direction.

        Of 10⁶ entries, a random direction's slope is 10³ times smaller than the gradient's own,
        and drowns in rounding and kinks. Along the gradient alone, an entry that the backward pass
        forgets would not be moved.
        """
        length, noise = float(np.linalg.norm(self.grad)), float(np.linalg.norm(self.noise))
        for i in range(DIRECTIONS):
            # In a net with 10⁵ ReLUs many a direction crosses a kink, whatever ε. Another one may
            # not; a backward pass that is wrong, is wrong in every direction.
            found: list[_Finding] = []
            verdicts: list[str] = []
            while len(found) < TRIES and "right" not in verdicts and verdicts.count("wrong") < 3:
                v = rng.standard_normal(self.grad.shape)
                v /= np.linalg.norm(v)
                if length:
                    v *= np.copysign(1.0, (v * self.grad).sum())
                    v += self.grad / length
                share = self.grad.size**-0.5
                found.append(self._judge(f"direction {i}", v, length, noise, share))
                verdicts.append(found[-1].verdict)
            usual = "right" if "right" in verdicts else max(verdicts, key=verdicts.count)
            final = found[verdicts.index(usual)]
            self._count(final._replace(near_kink=final.near_kink or len(found) > 1))

    def _judge(
        self,
        where: tuple[int, ...] | str,
        v: np.ndarray,
        typical: float,
        noise: float,
        share: float = 1.0,
    ) -> _Finding:
        """Compare the slope along ``v`` with the gradient's, as closely as can be.

        ``share`` is what a single entry adds to a steep slope. To see one that is wrong the
        difference has to be that much smaller; where kinks or rounding do not allow for it, the
        tolerance has to do.
        """
        analytic = float((self.grad * v).sum())
        best = _Finding("wrong", False, where, np.inf, analytic, np.nan, self.steps[0])
        slopes = []
        for eps in self.steps:
            right, left = self._slopes(v, eps)
            numeric = (right + left) / 2
            scale = max(typical, abs(analytic), abs(numeric), self.floor)
            error = abs(numeric - analytic) / scale if scale else 0.0
            if error < best.error / 2:
                near_kink = best.error < np.inf and best.error > self.tolerance
                best = _Finding("wrong", near_kink, where, error, analytic, numeric, eps)
            if error <= self.tolerance * share:
                seen = AGREES * max(abs(analytic), abs(numeric)) > self.tolerance * scale
                right_one = seen or self._small_but_right(v, analytic, numeric, noise, eps)
                return best._replace(verdict="right" if right_one else "too small")
            slopes.append((right, left))
        # Among the slopes on both sides, give or take how much either still changes with ε?
        last = np.array(slopes[1:])  # (ε, side)
        slack = float(np.ptp(last, axis=0).max()) + self.tolerance * share * scale
        if last.min() - slack > analytic or last.max() + slack < analytic:
            return best
        return best._replace(verdict="right" if best.error <= self.tolerance else "not judged")

    def _small_but_right(
        self, v: np.ndarray, analytic: float, numeric: float, noise: float, eps: float
    ) -> bool:
        """Whether a gradient that is zero beside the others is shown to be right for itself."""
        if numeric == analytic == 0:
            return True
        for larger in (*EPS_SMALL, None):
            near = abs(numeric - analytic) <= AGREES * abs(analytic)
            if near and self.rounding / eps <= abs(analytic):  # it is no chance
                return True
            if larger is not None:
                numeric, eps = sum(self._slopes(v, larger)) / 2, larger
        # or both are rounding alone
        return abs(analytic) <= noise and abs(numeric - analytic) <= self.rounding / eps

    def _slopes(self, v: np.ndarray, eps: float) -> tuple[float, float]:
        """Return the slope of L along ``v`` to the right and to the left."""
        original = self.tensor.copy()
        slopes = []
        for step in (eps, -eps):
            self.tensor[...] = original + step * v
            try:
                moved = self.forward()
            finally:
                self.tensor[...] = original
            slopes.append(float((self.dy * (moved - self.y)).sum()) / step)
        return slopes[0], slopes[1]

    def _count(self, found: _Finding) -> None:
        row = self.row
        row.checked += 1
        if found.verdict == "not judged":
            row.on_kink += 1
            return
        if found.verdict == "too small":
            row.too_small += 1
            return
        row.wrong += found.verdict == "wrong"
        row.near_kink += found.verdict == "right" and found.near_kink
        if found.error > row.error or row.index == ():
            _, _, row.index, row.error, row.analytic, row.numeric, row.eps = found
