"""Notebook 04: backpropagation by hand."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from ... import ops
from ..exercise import Exercise, Mistake

__all__ = ["EXERCISES"]


def _product(dy: np.ndarray, x: np.ndarray, w: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    dx, dw, _ = ops.linear_backward(dy, x, w)
    return dx, dw


def _products() -> list[tuple[Any, ...]]:
    rng = np.random.default_rng(4)
    sizes = [(2, 2, 2), (3, 2, 4)]  # with C = O a transposed factor does not show in the shapes
    return [
        (np.array([[1.0, 2.0]]), np.array([[3.0, 5.0]]), np.array([[1.0, 2.0], [0.0, 1.0]])),
        *(
            tuple(rng.standard_normal(s) for s in ((m, o), (m, c), (c, o)))
            for m, c, o in sizes
        ),
    ]


def _depthwise(
    dy: np.ndarray, x: np.ndarray, kernel: int, stride: int, padding: int
) -> np.ndarray:
    w = np.zeros((kernel, kernel, x.shape[-1]))
    return ops.depthwise_conv2d_backward(dy, x, w, stride, padding)[1]


def _depthwise_with(
    *, stride: Callable[[int], int] = int, padding: Callable[[int], int] = int
) -> Callable[..., np.ndarray]:
    def wrong(dy: np.ndarray, x: np.ndarray, kernel: int, s: int, p: int) -> np.ndarray:
        xp = np.pad(x, ((0, 0), (padding(p),) * 2, (padding(p),) * 2, (0, 0)))
        ho, wo = dy.shape[1:3]
        dw = np.zeros((kernel, kernel, x.shape[-1]))
        for i, j in np.ndindex(kernel, kernel):
            rows, columns = (slice(a, a + stride(s) * (n - 1) + 1, stride(s)) for a, n in
                             ((i, ho), (j, wo)))
            dw[i, j] = (xp[:, rows, columns] * dy).sum((0, 1, 2))
        return dw

    return wrong  # fmt: skip


def _depthwise_cases() -> list[tuple[Any, ...]]:
    rng = np.random.default_rng(5)
    out = [(np.ones((1, 1, 1, 1)) * 2, np.array([[1.0, 2.0], [3.0, 4.0]])[None, :, :, None],
            2, 1, 0)]  # fmt: skip
    # height and width differ, and so do the two sides of dy
    for n, h, v, c, k, s, p in (
        (1, 5, 7, 1, 2, 2, 0), (2, 6, 4, 3, 3, 1, 1), (2, 8, 5, 2, 3, 2, 1), (3, 6, 7, 2, 5, 1, 2)
    ):  # fmt: skip
        ho, wo = ((side + 2 * p - k) // s + 1 for side in (h, v))
        dy, x = rng.standard_normal((n, ho, wo, c)), rng.standard_normal((n, h, v, c))
        out.append((dy, x, k, s, p))
    return out


def _grouped(dy: np.ndarray, x: np.ndarray, groups: int) -> np.ndarray:
    m, c, o = len(x), x.shape[-1], dy.shape[-1]
    w = np.zeros((1, 1, c // groups, o))
    dw = ops.pointwise_conv2d_backward(
        dy.reshape(1, 1, m, o), x.reshape(1, 1, m, c), w, groups
    )[1]
    return dw[0, 0]


def _strided(a: np.ndarray, groups: int) -> np.ndarray:
    """The channels as somebody reads them who takes (n, G) for (G, n)."""
    return a.reshape(len(a), -1, groups).swapaxes(1, 2).reshape(a.shape)


def _laid_flat(dy: np.ndarray, x: np.ndarray, groups: int) -> np.ndarray:
    m = len(x)
    xg, dyg = (a.reshape(m, groups, -1).transpose(1, 0, 2) for a in (x, dy))
    return (xg.transpose(0, 2, 1) @ dyg).reshape(x.shape[1] // groups, dy.shape[1])


def _grouped_cases() -> list[tuple[Any, ...]]:
    rng = np.random.default_rng(6)
    return [
        (np.array([[1.0, 2.0]]), np.array([[3.0, 5.0]]), 1),
        *(
            (rng.standard_normal((m, o)), rng.standard_normal((m, c)), g)
            for m, c, o, g in ((2, 4, 4, 2), (3, 4, 6, 2), (3, 6, 3, 3))
        ),
    ]


def sum_of_cubes(x: np.ndarray) -> float:
    return float((x**3).sum())


def cube_of_the_sum(x: np.ndarray) -> float:
    return float(x.sum() ** 3)


def _central(f: Callable[[np.ndarray], float], x: np.ndarray, eps: float) -> np.ndarray:
    u = _cubed(f, x)
    return 3 * u**2 + eps**2  # exact for a cube: what the differences have to come to


def _cubed(f: Callable[[np.ndarray], float], x: np.ndarray) -> np.ndarray:
    """For each number of x, what is cubed where it stands."""
    return x if f is sum_of_cubes else np.full(x.shape, x.sum())


def _one_sided(sign: int) -> Callable[..., np.ndarray]:
    return lambda f, x, eps: _central(f, x, eps) + sign * 3 * _cubed(f, x) * eps


def _not_put_back(f: Callable[[np.ndarray], float], x: np.ndarray, eps: float) -> np.ndarray:
    moved, grad = x.copy(), np.zeros(x.shape)
    for i in np.ndindex(x.shape):
        moved[i] += eps
        up = f(moved)
        moved[i] -= 2 * eps
        grad[i] = (up - f(moved)) / (2 * eps)
    return grad


def _dx(
    dy: np.ndarray, w: np.ndarray, x_shape: tuple[int, ...], stride: int, padding: int
) -> np.ndarray:
    return ops.conv2d_backward(dy, np.zeros(x_shape), w, stride, padding)[0]


def _scattered(
    add: bool = True, apart: bool = True, crop: bool = True, turned: bool = False,
    transposed: bool = True,
) -> Callable[..., np.ndarray]:  # fmt: skip
    """The loop over taps, with a mistake."""

    def dx(
        dy: np.ndarray, w: np.ndarray, x_shape: tuple[int, ...], stride: int, padding: int
    ) -> np.ndarray:
        (n, h, wide, c), (ho, wo) = x_shape, dy.shape[1:3]
        out = np.zeros((n, h + 2 * padding, wide + 2 * padding, c))
        step = stride if apart else 1
        for i, j in np.ndindex(w.shape[:2]):
            tap = w[-1 - i, -1 - j] if turned else w[i, j]
            part = dy @ (tap.T if transposed else tap)
            place = out[:, i : i + step * (ho - 1) + 1 : step, j : j + step * (wo - 1) + 1 : step]
            place[...] = place + part if add else part
        return out[:, padding : padding + h, padding : padding + wide] if crop else out

    return dx


def _dense_cases() -> list[tuple[Any, ...]]:
    rng = np.random.default_rng(40)
    row = np.arange(1.0, 4.0).reshape(1, 1, 3, 1)
    cases: list[tuple[Any, ...]] = [(row, row.reshape(1, 3, 1, 1) ** 2, (1, 1, 5, 1), 1, 0)]
    for x_shape, kernel, out, stride, padding in (
        ((2, 5, 6, 3), (3, 2), 3, 1, 1), ((1, 6, 4, 2), (2, 3), 5, 2, 1),
        ((2, 7, 6, 3), (3, 2), 2, 2, 0),
    ):  # fmt: skip
        w = rng.standard_normal((*kernel, x_shape[-1], out))
        y = ops.conv2d(np.zeros(x_shape), w, None, stride, padding)
        cases.append((rng.standard_normal(y.shape), w, x_shape, stride, padding))
    return cases


EXERCISES = (
    Exercise(
        key="04.1",
        title="The gradients of a matrix product",
        name="product_backward",
        reference=_product,
        cases=_products,
        outputs=("dx", "dw"),
        section=4,
        hints=(
            "Which products contain x[m, c]? Which contain w[c, o]? Add up what comes back.",
            "dx = dy · wᵀ and dw = xᵀ · dy. Look at the indices, not at the shapes.",
        ),
        mistakes=(
            Mistake("w is not transposed in dx: the sum runs over the outputs",
                    lambda dy, x, w: (dy @ w, x.T @ dy)),
            Mistake("dw is transposed: it has w's shape, (C, O)",
                    lambda dy, x, w: (dy @ w.T, dy.T @ x)),
            Mistake("dw is a mean over the rows; each row sends its share, and they add up",
                    lambda dy, x, w: (dy @ w.T, x.T @ dy / len(x))),
        ),
    ),
    Exercise(
        key="04.2",
        title="dw of a depthwise convolution",
        name="depthwise_dw",
        reference=_depthwise,
        cases=_depthwise_cases,
        section=6,
        hints=(
            "For one tap (i, j): which input pixel stood beside output pixel (p, q)?",
            "Pad x. For each tap take the view xp[:, i : i + stride · (Ho - 1) + 1 : stride, "
            "j : …], multiply by dy and sum over images and pixels.",
        ),
        mistakes=(
            Mistake("the stride is forgotten: neighbouring outputs lie stride inputs apart",
                    _depthwise_with(stride=lambda s: 1), "notebook 04, section 3"),
            Mistake("the kernel is turned round: tap (i, j) sees pixel p · s + i, not p · s - i",
                    lambda *a: _depthwise(*a)[::-1, ::-1], "notebook 04, section 3"),
            Mistake("it is a mean over the images; each image sends its share, and they add up",
                    lambda dy, *a: _depthwise(dy, *a) / len(dy)),
            Mistake("it is a mean over images and pixels; each output sends its share, and they "
                    "add up",
                    lambda dy, *a: _depthwise(dy, *a) / dy[..., 0].size),
            Mistake("it is a mean over the pixels; each output sends its share, and they add up",
                    lambda dy, *a: _depthwise(dy, *a) / dy[0, ..., 0].size),
            Mistake("only the first image is used",
                    lambda dy, x, *a: _depthwise(dy[:1], x[:1], *a)),
            Mistake("the padding is forgotten, or does not stand around rows and columns alone: "
                    "around both of them, and not around images and channels as well",
                    _depthwise_with(padding=lambda p: 0), "notebook 04, section 3"),
            Mistake("rows and columns of the kernel are swapped",
                    lambda *a: _depthwise(*a).transpose(1, 0, 2)),
        ),
    ),
    Exercise(
        key="04.3",
        title="dw of a grouped pointwise convolution",
        name="grouped_dw",
        reference=_grouped,
        cases=_grouped_cases,
        section=5,
        hints=(
            "Group g multiplies its own columns of x with its own columns of dy, and with nothing "
            "else.",
            "Columns g · Cg to (g + 1) · Cg of x, g · Og to (g + 1) · Og of dy: xᵀ · dy goes into "
            "columns g · Og to (g + 1) · Og of dw.",
        ),
        mistakes=(
            Mistake("transposed groups: the channels of x are stored as (G, Cg), group first, and "
                    "were read as (Cg, G)",
                    lambda dy, x, groups: _grouped(dy, _strided(x, groups), groups)),
            Mistake("transposed groups: the channels of dy are stored as (G, Og), group first, and "
                    "were read as (Og, G)",
                    lambda dy, x, groups: _grouped(_strided(dy, groups), x, groups)),
            Mistake("transposed groups: the channels of x and dy are stored group first, and were "
                    "read group last",
                    lambda dy, x, groups:
                    _grouped(_strided(dy, groups), _strided(x, groups), groups)),
            Mistake("the stack (G, Cg, Og) is laid flat without bringing G beside Og first",
                    _laid_flat),
            Mistake("this is the dense gradient; weights between groups do not exist",
                    lambda dy, x, groups: x.T @ dy),
            Mistake("it is a mean over the pixels; each sends its share, and they add up",
                    lambda dy, x, groups: _grouped(dy, x, groups) / len(x)),
        ),
    ),
    Exercise(
        key="04.4",
        title="A finite difference",
        name="numeric_gradient",
        reference=_central,
        cases=lambda: [
            (sum_of_cubes, np.array([2.0]), 0.1),
            (sum_of_cubes, np.array([1.0, -2.0, 3.0]), 0.1),
            (sum_of_cubes, np.array([[1.0, 2.0], [0.0, 4.0]]), 0.01),
            (cube_of_the_sum, np.array([1.0, -2.0, 4.0]), 0.1),  # here the other numbers count
        ],
        section=7,
        hints=(
            "Move one number of a copy of x up by eps and down by eps, and look at f both times.",
            "(f(up) - f(down)) / (2 · eps), for each index of np.ndindex(x.shape).",
        ),
        mistakes=(
            Mistake("the difference is taken to one side only; its error is far larger",
                    _one_sided(1), "notebook 04, section 8"),
            Mistake("the difference is taken to one side only, the lower one; its error is far "
                    "larger", _one_sided(-1), "notebook 04, section 8"),
            Mistake("the other numbers keep their values: f needs the whole array, with one number "
                    "moved",
                    lambda f, x, eps: _central(sum_of_cubes, x, eps)),
            Mistake("a number that was moved is put back before the next one is", _not_put_back),
            Mistake("the two points lie 2 · eps apart, not eps",
                    lambda f, x, eps: 2 * _central(f, x, eps)),
            Mistake("all numbers are moved at once; move one, and look what it does to f",
                    lambda f, x, eps: (f(x + eps) - f(x - eps)) / (2 * eps)),
            Mistake("each number is given the gradients of all; move one at a time",
                    lambda f, x, eps: np.full(x.shape, _central(f, x, eps).sum())),
            Mistake("up and down are swapped", lambda f, x, eps: -_central(f, x, eps)),
        ),
    ),
    Exercise(
        key="04.5",
        title="dx of a convolution, whole",
        name="conv_dx",
        reference=_dx,
        cases=_dense_cases,
        section=4,
        hints=(
            "Forward, tap (i, j) took a grid of pixels, stride apart, times w[i, j]. Backward it "
            "gives to that same grid. Where two windows overlap, a pixel gets several shares.",
            "Begin with zeros of the padded shape; for each tap add dy @ w[i, j].T to "
            "[:, i : i + stride * (ho - 1) + 1 : stride, j : …]; at the end cut the padding off.",
        ),
        mistakes=(
            Mistake("windows overlap: a tap's share is added to what is there, and does not "
                    "replace it", _scattered(add=False)),
            Mistake("the pixels that a tap sees lie stride apart", _scattered(apart=False)),
            Mistake("the padding is still there: what it got belongs to nobody",
                    _scattered(crop=False)),
            Mistake("the kernel is turned twice: where dy is sent out tap by tap, each tap stays "
                    "at its place", _scattered(turned=True)),
            Mistake("w[i, j] leads from C to O, and back it is transposed",
                    _scattered(transposed=False)),
        ),
    ),
)  # fmt: skip
