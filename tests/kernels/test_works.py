"""A row that runs without the interpreter writes what its operation returns."""

from __future__ import annotations

import numpy as np
import pytest

from tinyshuffle import ops
from tinyshuffle.kernels import record
from tinyshuffle.kernels.works import _WORKS, works_of

N, C, O = 2, 18, 20  # noqa: E741
X = (N, 7, 6, C)
HALF = (N, 7, 6, 9)
POOLED = (N, 4, 3, C)

# operation, shapes of the arrays, other arguments
CASES = {
    "add": [((X, X), {})],
    "avg_pool2d": [
        ((X,), dict(kernel_size=3, stride=2, padding=1)),
        ((X,), dict(kernel_size=2, stride=2, count_include_pad=False)),
    ],
    "avg_pool2d_backward": [
        ((POOLED,), dict(x_shape=X, kernel_size=3, stride=2, padding=1)),
        ((POOLED,), dict(x_shape=X, kernel_size=3, stride=2, padding=1, count_include_pad=False)),
    ],
    "channel_scale": [((X, (N, C)), {})],
    "channel_scale_backward": [((X, X, (N, C)), {})],
    "channel_shuffle": [((X,), dict(groups=g)) for g in (2, 3, 9)],
    "channel_shuffle_backward": [((X,), dict(groups=g)) for g in (2, 3, 9)],
    "channel_split_backward": [((HALF, X), {})],
    "conv2d": [
        ((X, (3, 3, C, O), (O,)), dict(stride=2, padding=1)),
        ((X, (3, 2, 9, O)), dict(stride=(1, 2), padding=(0, 2), dilation=(2, 1), groups=2)),
        ((X, (1, 1, C, O)), dict(stride=2)),
        (((N, 7, 6, 3), (3, 3, 3, O)), dict(stride=2, padding=1)),
        (((N, 7, 6, 3), (3, 3, 3, O)), dict(stride=1, padding=0)),
        (((N, 7, 6, 3), (3, 3, 3, 5)), dict(stride=1, padding=1)),
        (((N, 40, 40, 7), (3, 3, 7, O)), dict(padding=1)),  # more than a block of rows
        ((X, (3, 3, 3, C), (C,)), dict(padding=1, groups=6)),
    ],
    "conv2d_backward": [
        ((POOLED[:3] + (O,), X, (3, 3, C, O)), dict(stride=2, padding=1)),
        (
            ((N, 3, 5, O), X, (3, 2, 9, O)),
            dict(stride=(1, 2), padding=(0, 2), dilation=(2, 1), groups=2, bias=False),
        ),
        (((N, 4, 3, O), X, (1, 1, C, O)), dict(stride=2)),
        (((N, 4, 3, O), (N, 7, 6, 3), (3, 3, 3, O)), dict(stride=2, padding=1)),
        (((N, 5, 4, O), (N, 7, 6, 3), (3, 3, 3, O)), dict(stride=1, padding=0)),
        (((N, 40, 40, O), (N, 40, 40, 7), (3, 3, 7, O)), dict(padding=1)),
        ((POOLED, X, (3, 3, 3, C)), dict(stride=2, padding=1, groups=6)),
    ],
    "depthwise_conv2d": [
        ((X, (3, 3, C), (C,)), dict(stride=s, padding=1)) for s in (1, 2, (2, 1))
    ] + [((X, (5, 3, C)), dict(stride=2, padding=2, dilation=(1, 2))), ((HALF, (3, 3, 9)), {})],
    "depthwise_conv2d_backward": [
        ((POOLED, X, (3, 3, C)), dict(stride=2, padding=1)),
        ((X, X, (3, 3, C)), dict(stride=1, padding=1, bias=False)),
        ((X, X, (5, 5, C)), dict(stride=1, padding=2)),
        (((N, 5, 4, 9), HALF, (3, 3, 9)), {}),
    ],
    "global_avg_pool": [((X,), {})],
    "global_avg_pool_backward": [(((N, C),), dict(x_shape=X))],
    "linear": [(((5, C), (C, O), (O,)), {}), (((5, C), (C, 3)), {})],
    "linear_backward": [(((5, O), (5, C), (C, O)), {}), (((5, 3), (5, C), (C, 3)), {})],
    "max_pool2d": [((X,), dict(kernel_size=3, stride=2, padding=1))],
    "pointwise_conv2d": [((X, (1, 1, C, O), (O,)), {}), ((X, (1, 1, 9, O)), dict(groups=2))],
    "pointwise_conv2d_backward": [
        (((N, 7, 6, O), X, (1, 1, C, O)), {}),
        (((N, 7, 6, O), X, (1, 1, 9, O)), dict(groups=2, bias=False)),
    ],
    "relu": [((X,), {})],
    "relu6": [((X,), {})],
    "relu_backward": [((X, X), {})],
    "relu6_backward": [((X, X), {})],
}  # fmt: skip
ALL = [(name, i) for name, cases in CASES.items() for i in range(len(cases))]


def compare(operation, arrays, keywords):
    """Whether a row of an operation writes what the operation returns, over what was there."""
    out = getattr(ops, operation)(*arrays, **keywords)
    expected = out if isinstance(out, tuple | list) else (out,)
    there = [None if a is None else np.full(a.shape, 7, a.dtype) for a in expected]
    works = works_of(operation, tuple(there), tuple(arrays), keywords)
    assert works, "the row would run in Python"
    for work in works:
        record.run(work)
    tolerance = 1e-12 if arrays[0].dtype == np.float64 else 2e-5
    return all(
        np.abs(a - b.astype(float)).max() <= tolerance * np.abs(b.astype(float)).max()
        for a, b in zip(there, expected, strict=True)
        if a is not None
    )


def arguments(operation, i, dtype=np.float64):
    shapes, keywords = CASES[operation][i]
    rng = np.random.default_rng(i)
    return [(3 * rng.standard_normal(s)).astype(dtype) for s in shapes], keywords


@pytest.mark.parametrize("dtype", [np.float64, np.float32])
@pytest.mark.parametrize(("operation", "i"), ALL)
def test_a_row_writes_what_its_operation_returns(operation, i, dtype):
    assert compare(operation, *arguments(operation, i, dtype))


@pytest.mark.parametrize("operation", ["concat", "concat_backward", "accumulate"])
def test_rows_that_move_channels(operation):
    a, b, c = (np.random.default_rng(k).standard_normal((2, 3, 4, 10)) for k in range(3))
    if operation == "concat":
        left, right = a[..., :6], b[..., 2:5]
        y = np.zeros((2, 3, 4, 9))
        works = works_of("concat", (y,), ([left, right],), {})
        pairs = [(y, np.concatenate([left, right], -1))]
    elif operation == "concat_backward":
        dx1, dx2 = np.zeros((2, 3, 4, 7)), np.zeros((2, 3, 4, 3))
        works = works_of("concat_backward", (dx1, dx2), (a, [7, 3]), {})
        pairs = [(dx1, a[..., :7].copy()), (dx2, a[..., 7:].copy())]
    else:
        works = works_of("accumulate", (c,), (c, a), {})
        pairs = [(c, c + a)]
    for work in works:
        record.run(work)
    assert works
    for mine, expected in pairs:
        np.testing.assert_array_equal(mine, expected)


def test_the_winner_of_a_maximum_gets_the_gradient():
    x, dy = (np.random.default_rng(k).standard_normal(s) for k, s in enumerate((X, POOLED)))
    y, winner = ops.max_pool2d(x, 3, 2, 1)
    assert compare("max_pool2d_backward", [dy, winner], dict(
        x_shape=X, kernel_size=3, stride=2, padding=1
    ))  # fmt: skip


def test_nan_and_infinity_pass_as_in_the_operations():
    x = np.array([np.nan, np.inf, -np.inf, -1.0, 0.0, 5.0, 6.0, 7.0] * 4).reshape(2, 16)
    dy = np.arange(1.0, 33).reshape(2, 16)
    for operation in "relu", "relu6":
        y = getattr(ops, operation)(x)
        for name, given in ((operation, (x,)), (operation + "_backward", (dy, y))):
            to = np.zeros_like(x)
            (work,) = works_of(name, (to,), given, {})
            record.run(work)
            np.testing.assert_array_equal(to, getattr(ops, name)(*given), name)


def test_every_operation_that_has_a_row_is_tested():
    elsewhere = {  # by tests/plan and test_kernels_match_ops
        name for name in _WORKS if name.startswith(("batch_norm", "norm", "concat_shuffle"))
    } | {"conv_norm", "concat", "concat_backward", "accumulate", "max_pool2d_backward"}  # fmt: skip
    assert {*CASES} | elsewhere == {*_WORKS}
