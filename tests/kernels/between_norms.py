"""A convolution between two batch norms, both ways, beside its definition in float64."""

from __future__ import annotations

import importlib

import numpy as np

from tinyshuffle import kernels
from tinyshuffle.plan import fused

module = importlib.import_module("tinyshuffle.kernels.norm_conv")
TOLERANCE = {np.float64: 1e-12, np.float32: 1e-5}


def normal(seed, *shapes):
    rng = np.random.default_rng(seed)
    return tuple(rng.standard_normal(shape).astype(np.float32) for shape in shapes)


def norm(seed, c, relu=True, shuffle=1):
    gamma, beta, mean, var = normal(seed, c, c, c, c)
    return fused.Norm(gamma, beta, mean.astype(float), var.astype(float) ** 2, 1e-3, relu, shuffle)


def wide(values):
    """The same numbers in float64."""
    if isinstance(values, np.ndarray):
        return values.astype(float)
    if isinstance(values, tuple):
        made = [wide(v) for v in values]
        return values._make(made) if hasattr(values, "_make") else tuple(made)
    return values


def check(dtype, seed, x_shape, w_shape, geometry, shuffle, behind, plus):
    """Compare both ways of a convolution between norms with their definition in float64."""
    def close(ours, right, largest):
        for mine, truth in zip(ours, right, strict=True):
            if truth is not None:
                error = np.abs(mine.astype(float) - truth).max(initial=0)
                assert error <= TOLERANCE[dtype] * max(np.abs(truth).max(initial=0), largest)

    def given_(*values):
        return wide(values) if dtype == np.float64 else values

    x, w = normal(seed, x_shape, w_shape)
    c, o = x_shape[-1], w_shape[-1]
    before = None if shuffle is None else norm(seed + 1, c, True, shuffle)
    y, sums = fused.norm_conv(*wide((x, before, w)), *geometry)
    close(kernels.norm_conv(*given_(x, before, w), *geometry), (y, sums), 0)
    last = norm(seed + 2, o)
    right = fused.conv_norm(*wide((x, last, w)), *geometry)
    close([kernels.conv_norm(*given_(x, last, w), *geometry)], [right], 0)
    dy, more = normal(seed + 3, y.shape, x_shape)
    after = fused.Gradient(norm(seed + 4, o, False), sums[1:], sums[0]) if behind else None
    arguments = dy, y.astype(np.float32), after, x, before, w
    added = more if plus and before is None else None
    close(
        kernels.norm_conv_backward(*given_(*arguments), *geometry, *given_(added)),
        fused.norm_conv_backward(*wide(arguments), *geometry, wide(added)),
        np.abs(dy).max(),
    )


def kernels_of(x_shape, w_shape, geometry, before=None):
    """The kernels that run for a convolution, forward and backward."""
    x, w = normal(0, x_shape, w_shape)
    y, sums = fused.norm_conv(x, before, w, *geometry)
    there = module.norm_conv_work(y, sums, x, before, w, *geometry)
    back = module.norm_conv_backward_work(x, w, None, y, y, None, x, before, w, *geometry)
    return there.kernel, back.kernel
