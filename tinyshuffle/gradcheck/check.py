"""Check a module's gradients, one after the other."""

from __future__ import annotations

from typing import Any

import numpy as np

from ..nn import Module
from ..ops.arguments import generator, number
from ..values import flags
from .passes import Passes
from .probe import Probe
from .report import EPS, Report, Row

__all__ = ["gradcheck"]

EPS_NET = (1e-6, 1e-7, 1e-8)  # along directions, which are steep and cross many kinks
TOLERANCE = 1e-6
ELEMENTWISE_UP_TO = 4000  # entries; beyond, directions

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
    passes = Passes(module, x, others)
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
            probe = Probe(
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


def _rounding(
    passes: Passes,
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


