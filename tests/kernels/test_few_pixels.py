"""Pointwise convolutions of few pixels: alone, with a norm behind, and shared by threads."""

import numpy as np
import pytest

from tinyshuffle.kernels.few_pixels import are_few, few_pixels
from tinyshuffle.kernels.norm_conv import conv_norm_work, norm_conv_work
from tinyshuffle.kernels.record import run
from tinyshuffle.kernels.share import share_of
from tinyshuffle.kernels.tile import PANEL, ROWS
from tinyshuffle.plan.fused import Norm

LEAST = 2 * PANEL
SHAPES = [
    (1, ROWS, 3, LEAST), (1, ROWS + 1, 1, LEAST + 1), (1, ROWS + ROWS // 2, 24, LEAST + 7),
    (7, 7, 232, 232), (7, 7, 60, 1024), (4, 5, 16, 128), (14, 14, 116, 116), (16, 16, 5, 58 + 40),
]  # fmt: skip


def case(shape, dtype, behind, of_channels=False):
    """The work, what it writes to, and what it should write, by NumPy in float64."""
    h, w, c, o = shape
    rng = np.random.default_rng(0)
    x = rng.standard_normal((1, h, w, c + 3)).astype(dtype)
    x = x[..., 2:-1] if of_channels else np.ascontiguousarray(x[..., :c])
    weights = rng.standard_normal((1, 1, c, o)).astype(dtype)
    y = np.full((1, h, w, o), np.nan, dtype)
    wanted = x.astype(float) @ weights[0, 0].astype(float)
    if behind is None:
        return norm_conv_work(y, None, x, None, weights, 1, 0, 1, 1), y, wanted
    gamma, beta, mean, var = (rng.standard_normal(o).astype(dtype) for _ in range(4))
    norm = Norm(gamma, beta, mean, var**2, 1e-3, behind == "relu", 1)
    wanted = (wanted - mean) / np.sqrt(norm.var.astype(float) + norm.eps) * gamma + beta
    if norm.relu:
        wanted = np.maximum(wanted, 0)
    return conv_norm_work(y, x, norm, weights, 1, 0, 1, 1), y, wanted


@pytest.mark.parametrize("of_channels", [False, True])
@pytest.mark.parametrize("behind", [None, "norm", "relu"])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_the_product(shape, dtype, behind, of_channels):
    work, y, wanted = case(shape, dtype, behind, of_channels)
    assert work.kernel is few_pixels
    run(work)
    bound = 1e-5 if dtype == np.float32 else 1e-13
    np.testing.assert_allclose(y, wanted, rtol=0, atol=bound * np.abs(wanted).max())


@pytest.mark.parametrize("ranks", [2, 3, 5, 16])
@pytest.mark.parametrize("behind", [None, "relu"])
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_threads_share_it_to_the_same_bits(shape, behind, ranks):
    work, y, _ = case(shape, np.float32, behind)
    run(work)
    whole = y.copy()
    y[:] = np.nan
    for rank in range(ranks):
        share = share_of(work, rank, ranks)
        if share is not None:
            assert share.record["m"] >= ROWS and share.record["o"] >= PANEL
            run(share)
    np.testing.assert_array_equal(y, whole)


def test_a_nan_and_an_infinity_stay_in_their_pixels():
    work, y, _ = case((7, 7, 60, 1024), np.float32, "relu")
    run(work)
    whole, x = y.copy(), work.arrays[0].reshape(49, 60)
    x[3, 5], x[48, 0] = np.nan, np.inf
    run(work)
    pixels = y.reshape(49, 1024)
    assert np.isnan(pixels[3]).all() and not np.isfinite(pixels[48]).all()
    others = [i for i in range(49) if i not in (3, 48)]
    np.testing.assert_array_equal(pixels[others], whole.reshape(49, 1024)[others])


def test_what_is_not_few():
    assert are_few(ROWS, LEAST, 1) and are_few(256, LEAST, 1)
    for m, o, groups in (ROWS - 1, LEAST, 1), (257, LEAST, 1), (49, LEAST - 1, 1), (49, LEAST, 2):
        assert not are_few(m, o, groups)
