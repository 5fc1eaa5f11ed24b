"""Notebook 05: batch normalisation."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from ... import ops
from ...nn import BatchNorm2d
from ..exercise import Exercise, Mistake

__all__ = ["EXERCISES"]

AXES = (0, 1, 2)
Pair = tuple[np.ndarray, np.ndarray]


def _count(x: np.ndarray) -> int:
    return x.size // x.shape[-1]


def _statistics(x: np.ndarray) -> Pair:
    return ops.batch_norm_statistics(ops.batch_norm_sums(x))


def _batches() -> list[tuple[np.ndarray]]:
    rng = np.random.default_rng(7)
    return [
        (np.array([1.0, 3.0]).reshape(2, 1, 1, 1),),
        (np.array([1.0, 2.0, 3.0, 6.0]).reshape(2, 1, 2, 1),),
        (rng.standard_normal((2, 3, 2, 3)),),
    ]


def _dx(dy: np.ndarray, x: np.ndarray, gamma: np.ndarray, eps: float) -> np.ndarray:
    sums = ops.batch_norm_sums(x)
    mean, var = ops.batch_norm_statistics(sums)
    rest = dy, x, gamma, np.zeros_like(gamma), mean, var
    return ops.batch_norm_backward(*rest, ops.batch_norm_backward_sums(*rest, eps), sums[0], eps)


def _dx_with(
    mean: float = 1,
    variance: float = 1,
    scale: bool = True,
    count: Callable[[np.ndarray], int] = _count,
    ddof: int = 0,
    inside: bool = True,
) -> Any:
    def wrong(dy: np.ndarray, x: np.ndarray, gamma: np.ndarray, eps: float) -> np.ndarray:
        var = x.var(AXES, ddof=ddof)
        s = 1 / np.sqrt(var + eps) if inside else 1 / (np.sqrt(var) + eps)
        xhat = (x - x.mean(AXES)) * s
        terms = mean * dy.sum(AXES) + variance * xhat * (dy * xhat).sum(AXES)
        return (gamma if scale else 1) * s * (dy - terms / count(x))

    return wrong


def _dx_without_epsilon(
    dy: np.ndarray, x: np.ndarray, gamma: np.ndarray, eps: float
) -> np.ndarray:
    return _dx(dy, x, gamma, 0.0)


def _dx_along(
    axes: Any, dy: np.ndarray, x: np.ndarray, gamma: np.ndarray, eps: float
) -> np.ndarray:
    def mean(a: np.ndarray) -> np.ndarray:
        return a.mean(axes, keepdims=True)

    s = 1 / np.sqrt(x.var(axes, keepdims=True) + eps)
    xhat = (x - mean(x)) * s
    return gamma * s * (dy - mean(dy) - xhat * mean(dy * xhat))


def _dx_over_all(dy: np.ndarray, x: np.ndarray, gamma: np.ndarray, eps: float) -> np.ndarray:
    s = 1 / np.sqrt(x.var(AXES) + eps)
    xhat = (x - x.mean(AXES)) * s
    return gamma * s * (dy - dy.mean() - xhat * (dy * xhat).mean())


def _dx_cases() -> list[tuple[Any, ...]]:
    rng = np.random.default_rng(8)
    return [
        (np.array([1.0, 0.0, 0.0, 2.0]).reshape(2, 1, 2, 1),
         np.array([1.0, 2.0, 3.0, 6.0]).reshape(2, 1, 2, 1), np.array([2.0]), 0.25),
        (rng.standard_normal((2, 3, 2, 3)), rng.standard_normal((2, 3, 2, 3)),
         rng.uniform(0.5, 2, 3), 1e-3),
    ]  # fmt: skip


def _running(mean: np.ndarray, var: np.ndarray, x: np.ndarray, momentum: float) -> Pair:
    layer = BatchNorm2d(x.shape[-1], momentum=momentum).astype(x.dtype)
    layer.load_state_dict(layer.state_dict() | {"running_mean": mean, "running_var": var})
    layer.train()(x)
    state = layer.state_dict()
    return state["running_mean"], state["running_var"]


def _moved(
    mean: np.ndarray, var: np.ndarray, x: np.ndarray, new: float, old: float, ddof: int = 1
) -> Pair:
    return old * mean + new * x.mean(AXES), old * var + new * x.var(AXES, ddof=ddof)


def _running_cases() -> list[tuple[Any, ...]]:
    rng = np.random.default_rng(9)
    return [
        (np.zeros(1), np.ones(1), np.array([1.0, 3.0]).reshape(2, 1, 1, 1), 0.1),
        (rng.standard_normal(3), rng.uniform(1, 2, 3), rng.standard_normal((2, 3, 2, 3)), 0.25),
    ]


def _fold(w: np.ndarray, gamma: np.ndarray, beta: np.ndarray, mean: np.ndarray,
          var: np.ndarray, eps: float) -> Pair:  # fmt: skip
    # batch norm is w·x ↦ s·(w·x) + b: ask it for s·w, and for what it makes of zero
    none = np.zeros_like(beta)
    bias = ops.batch_norm(np.zeros((1, 1, 1, len(beta))), gamma, beta, mean, var, eps)
    return ops.batch_norm(w, gamma, none, none, var, eps), bias.ravel()


def _fold_with(axis: int = -1, epsilon: bool = True, shift: float = 1, root: bool = True) -> Any:
    def wrong(w: np.ndarray, gamma: np.ndarray, beta: np.ndarray, mean: np.ndarray,
              var: np.ndarray, eps: float) -> Pair:  # fmt: skip
        s = gamma / (var + eps * epsilon) ** (0.5 if root else 1)
        scaled = w * s if axis == -1 else w * s[:, None]
        return scaled, beta - s * mean * shift

    return wrong


def _fold_cases() -> list[tuple[Any, ...]]:
    rng = np.random.default_rng(10)
    return [
        (rng.standard_normal(shape), *(rng.uniform(0.5, 2, shape[-1]) for _ in range(4)), 0.1)
        for shape in ((1, 1, 1, 1), (1, 1, 2, 2), (3, 3, 2, 4))
    ]


def _unfold(
    *given: Any, shift: float = 1, root: float = 0.5, weights: float = 1, scaled: bool = True
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    dw_folded, db_folded, w, gamma, mean, var, eps = given
    r = 1 / (var + eps) ** root
    ds = weights * (dw_folded * w).sum(AXES) - shift * mean * db_folded
    return dw_folded * gamma * r if scaled else dw_folded, ds * r, db_folded


def _fold_backward(
    dw_folded: np.ndarray, db_folded: np.ndarray, w: np.ndarray, gamma: np.ndarray,
    mean: np.ndarray, var: np.ndarray, eps: float,
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:  # fmt: skip
    return _unfold(dw_folded, db_folded, w, gamma, mean, var, eps)


def _unfold_cases() -> list[tuple[Any, ...]]:
    rng = np.random.default_rng(41)
    one = np.ones(1)
    cases: list[tuple[Any, ...]] = [
        (one.reshape(1, 1, 1, 1), 2 * one, 3 * one.reshape(1, 1, 1, 1), 4 * one, 5 * one,
         0.25 * one, 0.0)
    ]  # fmt: skip
    for shape, eps in (((3, 3, 2, 4), 0.5), ((1, 2, 5, 3), 0.1)):
        o = shape[-1]
        cases.append((
            rng.standard_normal(shape), rng.standard_normal(o), rng.standard_normal(shape),
            rng.standard_normal(o), rng.standard_normal(o), rng.uniform(0.5, 2, o), eps,
        ))  # fmt: skip
    return cases


EXERCISES = (
    Exercise(
        key="05.1",
        title="Mean and variance of a batch",
        name="statistics",
        reference=_statistics,
        cases=_batches,
        outputs=("mean", "var"),
        section=1,
        hints=(
            "A channel forgets images and pixels: all of its N · H · W numbers count alike.",
            "Sum over the axes (0, 1, 2). The variance is divided by M, not by M - 1.",
        ),
        mistakes=(
            Mistake("the variance is divided by M - 1; the layer normalises with the biased one, "
                    "divided by M",
                    lambda x: (x.mean(AXES), x.var(AXES, ddof=1))),
            Mistake("this is the standard deviation, the root of the variance",
                    lambda x: (x.mean(AXES), x.std(AXES))),
            Mistake("the mean is taken over the images only; the pixels belong to it as well",
                    lambda x: (x.mean(0), x.var(0))),
            Mistake("the mean of the squares is no variance until the mean's square is subtracted",
                    lambda x: (x.mean(AXES), (x**2).mean(AXES))),
            Mistake("the channels are taken for axis 1, as PyTorch has them; here they are last",
                    lambda x: (x.mean((0, 2, 3)), x.var((0, 2, 3)))),
            Mistake("these are the statistics of each image; a channel's run over all images",
                    lambda x: (x.mean((1, 2, 3)), x.var((1, 2, 3)))),
            Mistake("the channels are averaged too; each has statistics of its own",
                    lambda x: (x.mean(), x.var())),
        ),
    ),
    Exercise(
        key="05.2",
        title="dx of batch normalisation",
        name="batch_norm_dx",
        reference=_dx,
        cases=_dx_cases,
        section=4,
        hints=(
            "Three terms: straight through, through the mean, through the variance. Compute "
            "x̂, dβ and dγ first.",
            "γ s (dy - dβ / M - x̂ dγ / M), with s = 1 / √(σ² + ε) and M = N · H · W.",
        ),
        mistakes=(
            Mistake("the mean's gradient is forgotten, - dβ / M", _dx_with(mean=0),
                    "notebook 05, section 5"),
            Mistake("the variance's gradient is forgotten, - x̂ dγ / M", _dx_with(variance=0),
                    "notebook 05, section 5"),
            Mistake("the mean and the variance are taken for constants; that is evaluation, in "
                    "training both depend on x",
                    _dx_with(mean=0, variance=0), "notebook 05, section 6"),
            Mistake("γ is forgotten", _dx_with(scale=False)),
            Mistake("M counts all numbers of a channel, N · H · W, not the images",
                    _dx_with(count=len)),
            Mistake("dβ and dγ are not divided by M", _dx_with(count=lambda x: 1)),
            Mistake("the means run over all channels; each has a mean of its own", _dx_over_all),
            Mistake("the variance is divided by M - 1; the layer normalises with the biased one, "
                    "divided by M",
                    _dx_with(ddof=1), "notebook 05, section 1"),
            Mistake("ε is added to the root; it belongs under the root",
                    _dx_with(inside=False), "notebook 05, section 1"),
            Mistake("the two terms of the statistics have the wrong sign", _dx_with(-1, -1)),
            Mistake("the mean's term has the wrong sign: dβ / M is subtracted", _dx_with(mean=-1)),
            Mistake("the variance's term has the wrong sign: x̂ dγ / M is subtracted",
                    _dx_with(variance=-1)),
            Mistake("ε is forgotten; the layer divides by √(σ² + ε), so its gradient does, too",
                    _dx_without_epsilon, "notebook 05, section 1"),
            Mistake("this is layer norm, with a mean and a variance for each pixel; batch norm has "
                    "them for each channel: the axes (0, 1, 2), not the last",
                    lambda *a: _dx_along(-1, *a), "notebook 05, section 1"),
            Mistake("this is layer norm, with a mean and a variance for each image; batch norm has "
                    "them for each channel: the axes (0, 1, 2), not (1, 2, 3)",
                    lambda *a: _dx_along((1, 2, 3), *a), "notebook 05, section 1"),
        ),
    ),
    Exercise(
        key="05.3",
        title="The running statistics",
        name="running",
        reference=_running,
        cases=_running_cases,
        outputs=("running_mean", "running_var"),
        section=6,
        hints=(
            "New = (1 - momentum) · old + momentum · the batch's, for both.",
            "For the running variance the batch's is taken unbiased: times M / (M - 1).",
        ),
        mistakes=(
            Mistake("the variance is biased; the running one takes M / (M - 1) times as much, an "
                    "estimate of the variance of all images",
                    lambda m, v, x, p: _moved(m, v, x, p, 1 - p, ddof=0)),
            Mistake("the factor is upside down: the unbiased variance is the larger one, "
                    "M / (M - 1) times the biased one",
                    lambda m, v, x, p: (_moved(m, v, x, p, 1 - p)[0],
                                        (1 - p) * v + p * x.var(AXES) * (1 - 1 / _count(x)))),
            Mistake("M counts all numbers of a channel, N · H · W, not the images",
                    lambda m, v, x, p: (_moved(m, v, x, p, 1 - p)[0],
                                        (1 - p) * v + p * x.var(AXES) * len(x) / (len(x) - 1))),
            Mistake("the momentum is the weight of the new batch, not of the old value",
                    lambda m, v, x, p: _moved(m, v, x, 1 - p, p)),
            Mistake("the momentum is the weight of the new batch, and the variance is biased",
                    lambda m, v, x, p: _moved(m, v, x, 1 - p, p, ddof=0)),
            Mistake("the old value is not scaled down, so it grows for ever",
                    lambda m, v, x, p: _moved(m, v, x, p, 1)),
            Mistake("the old values are forgotten", lambda m, v, x, p: _moved(m, v, x, 1, 0)),
        ),
    ),
    Exercise(
        key="05.4",
        title="Fold it into the convolution",
        name="fold",
        reference=_fold,
        cases=_fold_cases,
        outputs=("w", "b"),
        section=7,
        hints=(
            "y = a (w · x - μ) + β, with a = γ / √(σ² + ε). Collect what multiplies x, and what "
            "does not.",
            "a w, where a has one number for each output channel, the last axis of w; and "
            "β - a μ.",
        ),
        mistakes=(
            Mistake("ε is forgotten", _fold_with(epsilon=False)),
            Mistake("the mean is forgotten in the bias: it is scaled as well, and subtracted",
                    _fold_with(shift=0)),
            Mistake("the sign of a μ is wrong: the mean is subtracted", _fold_with(shift=-1)),
            Mistake("the mean is scaled as well: a (w · x - μ), so the bias has a μ, not μ",
                    lambda w, gamma, beta, mean, var, eps:
                    (_fold(w, gamma, beta, mean, var, eps)[0], beta - mean)),
            Mistake("the mean is scaled by all of a = γ / √(σ² + ε), not by γ alone: the bias is "
                    "β - a μ, not β - γ μ",
                    lambda w, gamma, beta, mean, var, eps:
                    (_fold(w, gamma, beta, mean, var, eps)[0], beta - gamma * mean)),
            Mistake("the weights are scaled by all of a = γ / √(σ² + ε), not by γ alone",
                    lambda w, gamma, beta, mean, var, eps:
                    (w * gamma, _fold(w, gamma, beta, mean, var, eps)[1])),
            Mistake("it is divided by the variance instead of its root", _fold_with(root=False)),
            Mistake("the inputs are scaled; batch norm scales outputs, the last axis of w",
                    _fold_with(axis=-2)),
        ),
    ),
    Exercise(
        key="05.5",
        title="Back through the folded convolution",
        name="fold_backward",
        reference=_fold_backward,
        cases=_unfold_cases,
        outputs=("dw", "dgamma", "dbeta"),
        section=7,
        hints=(
            "w' = a w and b' = β - a μ, with a = γ / √(σ² + ε). In how many places does a stand, "
            "and with which numbers?",
            "da = Σ dw' w - μ db', summed over all axes of w but the last. Then dw = a dw', "
            "dγ = da / √(σ² + ε) and dβ = db'.",
        ),
        mistakes=(
            Mistake("a stands in the bias, too: b' = β - a μ sends -μ db' to it",
                    lambda *a: _unfold(*a, shift=0)),
            Mistake("the sign of μ db': the bias is β minus a μ",
                    lambda *a: _unfold(*a, shift=-1)),
            Mistake("a stands in front of all weights of its channel: Σ dw' w goes to it",
                    lambda *a: _unfold(*a, weights=0)),
            Mistake("dw is scaled by a = γ / √(σ² + ε), as the weights were",
                    lambda *a: _unfold(*a, scaled=False)),
            Mistake("it is divided by the variance instead of its root",
                    lambda *a: _unfold(*a, root=1)),
            Mistake("the gradient of a is not that of γ: a = γ / √(σ² + ε)",
                    lambda *a: (_unfold(*a)[0], _unfold(*a)[1] * (a[5] + a[6]) ** 0.5, a[1])),
            Mistake("ε is forgotten",
                    lambda *a: _unfold(*a[:-1], 0.0)),
        ),
    ),
)  # fmt: skip
