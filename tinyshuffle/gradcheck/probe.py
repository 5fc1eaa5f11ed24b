"""Move one tensor to and fro, and judge its gradient by how far L moves."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from .report import Row

__all__ = ["Probe"]

EPS_SMALL = (1e-4, 1e-3, 1e-2, 1e-1)  # for gradients that are small beside the others
AGREES = 0.1  # how closely a difference has to show a gradient that the tolerance does not see
DIRECTIONS = 2
TRIES = 5  # of other directions, before one is given up


class _Finding(NamedTuple):
    verdict: str
    near_kink: bool  # the largest ε did not do
    where: tuple[int, ...] | str
    error: float
    analytic: float
    numeric: float
    eps: float


@dataclass
class Probe:
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
