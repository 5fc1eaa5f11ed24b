"""Notebook 13: bytes, zeros, ranks and teachers."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from math import ceil
from typing import Any

import numpy as np

from ... import compress, nn, ops
from ..exercise import Exercise, Mistake

__all__ = ["EXERCISES"]


def _ranges() -> list[tuple[Any, ...]]:
    rng = np.random.default_rng(16)
    return [
        (np.array([-1.0, 0.0, 4.1]),),
        (np.array([1.0, 2.0, 5.1]),),
        (np.array([-5.1, -2.0]),),
        (np.array([-1.0, 0.25, 3.0]),),  # -a / scale is 63.75, so cutting it off shows
        (rng.uniform(-2, 3, (4, 5)),),
    ]


def _to_bytes(x: np.ndarray) -> tuple[np.ndarray, np.float32, int]:
    scale, zero = ops.int8_range(x.min(), x.max())
    return ops.int8_quantise(x, scale, zero), scale, zero


def _by_hand(x: np.ndarray, a: float, b: float, steps: int = 255) -> tuple[Any, ...]:
    """The formula with other ends, or another number of steps."""
    scale = (b - a) / steps
    zero = np.rint(-a / scale)
    return np.clip(np.rint(x / scale) + zero, 0, 255), scale, zero


def _from_0(x: np.ndarray) -> tuple[float, float]:
    return min(x.min(), 0.0), max(x.max(), 0.0)


def _without_zero(x: np.ndarray) -> tuple[np.ndarray, np.float32, int]:
    _, scale, zero = _to_bytes(x)
    return np.rint(x / scale).astype(np.int64), scale, zero


def _wrapped(x: np.ndarray) -> tuple[np.ndarray, np.float32, int]:
    q, scale, zero = _without_zero(x)
    return q.astype(np.uint8), scale, zero


def _sums(qx: np.ndarray, zx: int, qw: np.ndarray) -> np.ndarray:
    return (qx.astype(np.int32) - zx) @ qw.astype(np.int32)


def _bytes() -> list[tuple[Any, ...]]:
    rng = np.random.default_rng(17)
    return [
        (np.array([[100, 3]], np.uint8), 5, np.array([[2], [-7]], np.int8)),
        (rng.integers(0, 256, (2, 6), dtype=np.uint8), 128,
         rng.integers(-127, 128, (6, 3)).astype(np.int8)),
        (np.full((1, 64), 255, np.uint8), 0, np.full((64, 1), 127, np.int8)),
        # an odd sum above 2**24, which float32 does not hold
        (np.full((1, 601), 255, np.uint8), 0, np.full((601, 1), 127, np.int8)),
    ]  # fmt: skip


def _pruned(weights: list[np.ndarray], share: float) -> np.ndarray:
    layers = [_layer(w) for w in weights]
    compress.prune(nn.Sequential(*layers), share)
    return _end_to_end([layer.weight.data for layer in layers])


def _layer(w: np.ndarray) -> nn.Linear:
    layer = nn.Linear(w.shape[0], w.shape[1], bias=False)
    layer.weight.data = w.copy()
    return layer


def _with_sizes(
    weights: list[np.ndarray], share: float, size: Callable[[np.ndarray], np.ndarray],
    keep_largest: bool = True, whole: Callable[[float], int] = round,
) -> np.ndarray:  # fmt: skip
    """Pruning by another order."""
    flat = _end_to_end(weights)
    order = np.argsort(_end_to_end([size(w) for w in weights]))
    zeros = whole(share * flat.size)
    flat[order[:zeros] if keep_largest else order[flat.size - zeros :]] = 0
    return flat


def _end_to_end(weights: Any) -> np.ndarray:
    """All numbers of a list of arrays. What is laid end to end already stays as it is."""
    if not isinstance(weights, Iterable):
        raise ValueError("a list of arrays is expected, one for each layer")
    return np.concatenate([np.ravel(w) for w in weights])


def _layers() -> list[tuple[Any, ...]]:
    rng = np.random.default_rng(18)
    small, large = rng.standard_normal((3, 4)), 5 * rng.standard_normal((4, 2))
    return [
        ([np.array([[1.0, -4.0], [3.0, 2.0]])], 0.5),
        ([small, large], 0.48),  # of 20 numbers 9.6: ten become zero
        ([small, large], 0.22),  # and here 4.4: four
        ([large.T, small.T], 0.75),
    ]


def _keeps_shapes_and_all(answer: Callable[..., Any]) -> str | None:
    """Each layer keeps its shape, and all of its weights where none becomes zero."""
    w = np.array([[1.0, -4.0, 6.0], [3.0, 2.0, 5.0]])
    shapes = [np.shape(kept) for kept in answer([w.copy(), 10 * w.T], 0.5)]
    if shapes != [(2, 3), (3, 2)]:
        return (
            "has the right numbers, but not in an array for each layer, of the shape of its "
            "weights: what was laid flat has to be cut and reshaped, or leave each layer as it is "
            "and compare it with a threshold. Re-read notebook 13, section 3."
        )
    if np.array_equal(_end_to_end(answer([w.copy()], 0.05)), w.ravel()):
        return None
    return (
        "is right where some weights become zero. But 0.05 of 6 weights rounds to none, and then "
        "all of them have to stay. (If the threshold is number zeros - 1 of the sorted sizes: "
        "number -1 is the largest.) Re-read notebook 13, section 3."
    )


def _nearest(w: np.ndarray, r: int) -> np.ndarray:
    first, second = (p.data for p in compress.low_rank(_layer(w), r).parameters())
    return first @ second


def _svd(w: np.ndarray, r: slice, sigma: float = 1) -> np.ndarray:
    """A few of the singular values, each to a power."""
    u, s, vt = np.linalg.svd(w, full_matrices=False)
    return u[:, r] * s[r] ** sigma @ vt[r]


def _turned(w: np.ndarray, r: int) -> np.ndarray:
    u, s, vt = np.linalg.svd(w)
    return u[:, :r] * s[:r] @ vt[:, :r].T


def _matrices() -> list[tuple[Any, ...]]:
    rng = np.random.default_rng(19)
    return [
        (np.diag([3.0, 2.0, 1.0])[[2, 0, 1]], 2),
        (rng.standard_normal((4, 3)), 1),
        (rng.standard_normal((5, 8)), 3),
    ]


def _from_teacher(z: np.ndarray, t: np.ndarray, T: float) -> np.ndarray:
    return ops.distillation_backward(*ops.distillation(z, t, T)[1:], T)


def _answers() -> list[tuple[Any, ...]]:
    rng = np.random.default_rng(20)
    return [
        (np.zeros((1, 2)), np.array([[2.0, 0.0]]), 2.0),
        (*rng.standard_normal((2, 3, 4)), 4.0),
        (np.array([[1000.0, 0.0], [0.0, 1.0]]), np.array([[0.0, 900.0], [5.0, 0.0]]), 0.5),
    ]


def _overflowing(z: np.ndarray, t: np.ndarray, T: float) -> np.ndarray:
    q, p = np.exp(z / T), np.exp(t / T)
    return T * (q / q.sum(1, keepdims=True) - p / p.sum(1, keepdims=True)) / len(z)


EXERCISES = (
    Exercise(
        key="13.1",
        title="Numbers as bytes",
        name="to_bytes",
        reference=_to_bytes,
        cases=_ranges,
        outputs=("q", "scale", "zero"),
        section=2,
        hints=(
            "From the smallest to the largest number are 255 steps. Zero has to lie among them, "
            "even if all numbers are positive.",
            "a = min(x.min(), 0), b = max(x.max(), 0), scale = (b - a) / 255, "
            "zero = round(-a / scale), and q = round(x / scale) + zero, cut off at 0 and 255.",
        ),
        mistakes=(
            Mistake("the range has to hold 0, or padding and what a ReLU leaves are not exact: "
                    "a = min(x.min(), 0), b = max(x.max(), 0)",
                    lambda x: _by_hand(x, x.min(), x.max())),
            Mistake("256 numbers have 255 steps between them",
                    lambda x: _by_hand(x, *_from_0(x), 256)),
            Mistake("the zero point is not added, so that negative numbers have no byte",
                    _without_zero),
            Mistake("the zero point is not added: a byte has no sign, so negative numbers wrap",
                    _wrapped),
            Mistake("this range is the same on both sides of 0, which is for weights; here it goes "
                    "from a to b",
                    lambda x: _by_hand(x, -abs(x).max(), abs(x).max())),
            Mistake("x / scale is rounded, and then the zero point, rounded too, is added; "
                    "rounding (x - a) / scale puts some numbers one byte off",
                    lambda x: (np.rint((x - _from_0(x)[0]) / _to_bytes(x)[1]), *_to_bytes(x)[1:])),
            Mistake("the zero point is subtracted from q; it is added to round(x / scale)",
                    lambda x: (lambda q, s, z: (np.clip(np.rint(x / s) - z, 0, 255), s, z))
                    (*_by_hand(x, *_from_0(x)))),
        ),
    ),
    Exercise(
        key="13.2",
        title="A sum of whole numbers",
        name="byte_sums",
        reference=_sums,
        cases=_bytes,
        tolerance=0.0,
        section=2,
        hints=(
            "What type has the product of two bytes in NumPy? Which numbers does that type hold?",
            "Make both int32 before the product: (qx.astype(np.int32) - zx) @ "
            "qw.astype(np.int32). Or take zx times the sums of qw's columns off afterwards.",
        ),
        mistakes=(
            Mistake("the zero point is forgotten",
                    lambda qx, zx, qw: _sums(qx, 0, qw)),
            Mistake("uint8 @ int8 is int16, which holds nothing above 32,767: the sum wraps",
                    lambda qx, zx, qw: qx @ qw - zx * qw.sum(0, dtype=np.int32)),
            Mistake("16 bits hold nothing above 32,767, which two products of bytes may be above: "
                    "make them int32 first",
                    lambda qx, zx, qw: (qx.astype(np.int16) - np.int16(zx)) @ qw),
            Mistake("float32 has 24 bits, and loses the last ones of a larger sum: make them int32",
                    lambda qx, zx, qw: (qx.astype(np.float32) - zx) @ qw.astype(np.float32)),
            Mistake("a byte minus a byte is a byte again, which has no negative numbers",
                    lambda qx, zx, qw: (qx - np.uint8(zx)).astype(np.int32) @ qw.astype(np.int32)),
            Mistake("the zero point is taken off once, and belongs to each of the products: zx "
                    "times the sum of the weights",
                    lambda qx, zx, qw: _sums(qx, 0, qw) - zx),
            Mistake("the weights' sum is over all channels; each output channel has its own",
                    lambda qx, zx, qw: _sums(qx, 0, qw) - zx * qw.sum(dtype=np.int32)),
        ),
    ),
    Exercise(
        key="13.3",
        title="The smallest weights of all layers",
        name="prune",
        reference=_pruned,
        cases=_layers,
        observe=_end_to_end,
        further=_keeps_shapes_and_all,
        section=3,
        hints=(
            "All layers share one threshold: put their absolute values into one array and sort it.",
            "threshold = np.sort(sizes)[zeros - 1], where zeros = round(share * sizes.size); then "
            "[np.where(abs(w) > threshold, w, 0) for w in weights]. If zeros is 0, all stay.",
        ),
        mistakes=(
            Mistake("each layer is pruned by its own threshold; all are compared with the same one",
                    lambda weights, share: np.concatenate([_pruned([w], share) for w in weights])),
            Mistake("the number of zeros is cut off; round it to the nearest",
                    lambda weights, share: _with_sizes(weights, share, abs, whole=int)),
            Mistake("the number of zeros is rounded up; round it to the nearest",
                    lambda weights, share: _with_sizes(weights, share, abs, whole=ceil)),
            Mistake("-4 is not a small weight: compare absolute values",
                    lambda weights, share: _with_sizes(weights, share, lambda w: w)),
            Mistake("the share is what becomes zero, not what is kept",
                    lambda weights, share: _pruned(weights, 1 - share)),
            Mistake("these are the largest ones; the smallest become zero",
                    lambda weights, share: _with_sizes(weights, share, abs, False)),
            Mistake("the threshold is a share of the largest weight; a share of the weights is "
                    "asked for",
                    lambda weights, share: (lambda flat: np.where(
                        abs(flat) > share * abs(flat).max(), flat, 0))(_end_to_end(weights))),
        ),
    ),
    Exercise(
        key="13.4",
        title="The nearest matrix of rank r",
        name="nearest",
        reference=_nearest,
        cases=_matrices,
        section=4,
        hints=(
            "np.linalg.svd gives U, the singular values from the largest to the smallest, and "
            "Vᵀ: W = U diag(σ) Vᵀ. Which parts of the sum stay?",
            "u, s, vt = np.linalg.svd(w, full_matrices=False), then u[:, :r] * s[:r] @ vt[:r].",
        ),
        mistakes=(
            Mistake("NumPy returns Vᵀ, not V: take its first rows, and do not transpose it",
                    _turned),
            Mistake("the singular values are forgotten: this is U Vᵀ",
                    lambda w, r: _svd(w, slice(r), 0)),
            Mistake("the singular values are there twice",
                    lambda w, r: _svd(w, slice(r), 2)),
            Mistake("this is what is lost; the largest singular values come first, and stay",
                    lambda w, r: _svd(w, slice(r, None))),
            Mistake("these are the smallest singular values; they come last",
                    lambda w, r: _svd(w, slice(-r, None))),
        ),
    ),
    Exercise(
        key="13.5",
        title="What a teacher says",
        name="distillation_gradient",
        reference=_from_teacher,
        cases=_answers,
        section=5,
        hints=(
            "It is the gradient of exercise 10.1 with the teacher's probabilities in the place of "
            "the label. Which factors come from the temperature?",
            "q - p from the softmax, 1/T by the chain rule, T² in front of the loss, 1/N for the "
            "mean: T (q - p) / N, with q = softmax(z / T) and p = softmax(t / T).",
        ),
        mistakes=(
            Mistake("the T² in front of the loss is forgotten",
                    lambda z, t, T: _from_teacher(z, t, T) / T**2),
            Mistake("the chain rule gives a factor 1/T, as z is divided by T",
                    lambda z, t, T: _from_teacher(z, t, T) * T),
            Mistake("the factor T is forgotten: T² of the loss times 1/T of the chain rule",
                    lambda z, t, T: _from_teacher(z, t, T) / T),
            Mistake("the loss is a mean over the batch: divide by N",
                    lambda z, t, T: _from_teacher(z, t, T) * len(z)),
            Mistake("the sign is turned round: this would lead away from the teacher",
                    lambda z, t, T: -_from_teacher(z, t, T)),
            Mistake("only the teacher's logits are divided by T; the student's are, too",
                    lambda z, t, T: _from_teacher(z * T, t, T)),
            Mistake("exp of a large logit overflows: subtract the row's largest one first",
                    _overflowing),
        ),
    ),
)  # fmt: skip
