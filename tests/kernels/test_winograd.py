"""3x3 convolutions in tiles of 2x2 results: every size, blocks, shares of an image, exactness."""

from __future__ import annotations

import importlib

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from kernels.between_norms import check, kernels_of, norm, normal, wide

from tinyshuffle import kernels, ops
from tinyshuffle.kernels import record
from tinyshuffle.kernels.frame import conv
from tinyshuffle.kernels.frame_back import conv_backward
from tinyshuffle.kernels.share import share_of
from tinyshuffle.kernels.winograd import winograd
from tinyshuffle.kernels.winograd_back import winograd_backward
from tinyshuffle.plan import fused

module = importlib.import_module("tinyshuffle.kernels.norm_conv")
tiles = importlib.import_module("tinyshuffle.kernels.winograd")
few = settings(max_examples=25, derandomize=True, deadline=None)
GEOMETRY = 1, 1, 1, 1


@pytest.fixture(autouse=True)
def always(monkeypatch):
    """Tiles even where they do not pay."""
    for file in module, importlib.import_module("tinyshuffle.kernels.conv"):
        monkeypatch.setattr(file, "pays_in_tiles", lambda shape, *rest: min(shape[2:]) >= 16)
    module._way.cache_clear()
    yield
    module._way.cache_clear()


@few
@given(
    st.sampled_from([np.float32, np.float64]), st.integers(0, 2**32 - 9), st.integers(1, 3),
    st.integers(1, 33), st.integers(1, 31), st.integers(16, 80), st.integers(16, 80),
    st.sampled_from([None, 1]), st.booleans(), st.booleans(),
)  # fmt: skip
@example(np.float32, 0, 1, 33, 31, 16, 16, 1, True, True)
@example(np.float32, 1, 1, 1, 1, 16, 80, 1, True, True)
@example(np.float64, 2, 1, 1, 31, 17, 23, None, False, True)
@example(np.float64, 3, 2, 33, 1, 80, 31, None, True, False)
@example(np.float32, 4, 3, 8, 8, 64, 64, 1, True, True)
def test_images_of_any_size(dtype, seed, n, h, wd, c, o, shuffle, behind, plus):
    shapes = (n, h, wd, c), (3, 3, c, o)
    assert kernels_of(*shapes, GEOMETRY) == (winograd, winograd_backward)
    check(dtype, seed, *shapes, GEOMETRY, shuffle, behind, plus)


@pytest.mark.parametrize("frames", [1, 700, 3000, 9000])
def test_some_rows_or_images_at_a_time(monkeypatch, frames):
    monkeypatch.setattr(tiles, "_FRAMES", frames)
    for shuffle in 1, None:
        check(np.float64, 0, (5, 9, 7, 18), (3, 3, 18, 20), GEOMETRY, shuffle, True, True)


@pytest.mark.parametrize("frames", [400, 2**15])
@pytest.mark.parametrize("ranks", [1, 2, 3, 12])
def test_threads_share_an_image_and_its_bits(monkeypatch, frames, ranks):
    """Tiles begin at even rows for all: who begins at an odd one does half a row of tiles."""
    monkeypatch.setattr(tiles, "_FRAMES", frames)
    x, w = normal(0, (1, 11, 7, 18), (3, 3, 18, 20))
    last = norm(1, 20)
    whole = kernels.conv_norm(x, last, w, *GEOMETRY)
    right = fused.conv_norm(*wide((x, last, w)), *GEOMETRY)
    np.testing.assert_allclose(whole, right, rtol=0, atol=1e-5 * np.abs(right).max())
    y = np.full(right.shape, np.nan, np.float32)
    work = module.conv_norm_work(y, x, last, w, *GEOMETRY)
    for rank in range(ranks):
        share = share_of(work, rank, ranks)
        if share is not None:
            record.run(share)
    assert y.tobytes() == whole.tobytes()


@pytest.mark.parametrize("size", [(9, 8), (1, 1), (1, 6), (32, 31)])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_a_layer_has_the_bits_of_a_plan(dtype, size):
    x, w, b, dy = (a.astype(dtype) for a in normal(0, (2, *size, 18), (3, 3, 18, 20), 20,
                                                   (2, *size, 20)))  # fmt: skip
    y, back = kernels.conv2d(x, w, None, 1, 1), kernels.conv2d_backward(dy, x, w, 1, 1)
    assert y.tobytes() == kernels.norm_conv(x, None, w, *GEOMETRY)[0].tobytes()
    planned = kernels.norm_conv_backward(dy, dy, None, x, None, w, *GEOMETRY)[:2]
    assert [a.tobytes() for a in back[:2]] == [a.tobytes() for a in planned]
    most = 1e-12 if dtype == np.float64 else 1e-5
    right = ops.conv2d(*wide((x, w, b)), 1, 1), *ops.conv2d_backward(*wide((dy, x, w)), 1, 1)
    for ours, truth in zip((kernels.conv2d(x, w, b, 1, 1), *back), right, strict=True):
        assert ours.dtype == dtype
        np.testing.assert_allclose(ours, truth, rtol=0, atol=most * np.abs(truth).max())


@pytest.mark.parametrize(
    ("x_shape", "w_shape", "geometry", "yes"),
    [
        ((1, 8, 8, 16), (3, 3, 16, 16), (1, 1, 1, 1), True),
        ((1, 7, 5, 64), (3, 3, 64, 80), (1, (1, 1), 1, 1), True),
        ((1, 2, 2, 16), (3, 3, 16, 16), (1, 1, 1, 1), True),
        ((1, 3, 3, 16), (3, 3, 16, 16), (1, 1, 1, 1), False),  # 64 products, not 81
        ((1, 1, 9, 16), (3, 3, 16, 16), (1, 1, 1, 1), False),
        ((1, 8, 8, 15), (3, 3, 15, 16), (1, 1, 1, 1), False),
        ((1, 8, 8, 16), (3, 3, 16, 15), (1, 1, 1, 1), False),
        ((1, 8, 8, 16), (3, 3, 16, 16), (2, 1, 1, 1), False),
        ((1, 8, 8, 16), (3, 3, 16, 16), ((1, 2), 1, 1, 1), False),
        ((1, 8, 8, 16), (3, 3, 16, 16), (1, 0, 1, 1), False),
        ((1, 8, 8, 16), (3, 3, 16, 16), (1, 2, 2, 1), False),
        ((1, 8, 8, 32), (3, 3, 16, 32), (1, 1, 1, 2), False),
        ((1, 8, 8, 16), (5, 5, 16, 16), (1, 1, 1, 1), False),
        ((1, 8, 8, 16), (3, 1, 16, 16), (1, 1, 1, 1), False),
        ((1, 4, 4, 256), (3, 3, 256, 256), (1, 1, 1, 1), True),
        ((1, 4, 4, 512), (3, 3, 512, 512), (1, 1, 1, 1), False),  # BLAS, in layers and plans
    ],
)
def test_where_tiles_pay(x_shape, w_shape, geometry, yes):
    """By the sizes of an image and its window alone, not by how many images there are."""
    assert tiles.pays_in_tiles(w_shape, x_shape, *geometry) == yes
    assert tiles.pays_in_tiles(w_shape, (9, *x_shape[1:]), *geometry) == yes


def test_an_image_has_the_same_bits_alone_and_among_others():
    x, w, dy = normal(0, (7, 9, 8, 18), (3, 3, 18, 20), (7, 9, 8, 20))
    y = kernels.norm_conv(x, None, w, *GEOMETRY)[0]
    dx = kernels.norm_conv_backward(dy, dy, None, x, None, w, *GEOMETRY)[0]
    for i in range(7):
        one = slice(i, i + 1)
        alone = kernels.norm_conv(x[one], None, w, *GEOMETRY)[0]
        assert alone.tobytes() == y[one].tobytes()
        back = kernels.norm_conv_backward(dy[one], dy[one], None, x[one], None, w, *GEOMETRY)
        assert back[0].tobytes() == dx[one].tobytes()


def test_infinity_and_nan_stay_where_they_are_seen():
    for p, q in ((4, 4), (0, 8), (5, 3), (2, 1), (8, 0)):
        x, w, dy = normal(0, (1, 9, 9, 18), (3, 3, 18, 20), (1, 9, 9, 20))
        x[0, p, q], dy[0, p, q, 3] = np.nan, np.inf
        with np.errstate(invalid="ignore"):
            right = fused.norm_conv(x, None, w, *GEOMETRY)[0]
            back = fused.norm_conv_backward(dy, dy, None, x, None, w, *GEOMETRY)[0]
        y = kernels.norm_conv(x, None, w, *GEOMETRY)[0]
        dx = kernels.norm_conv_backward(dy, dy, None, x, None, w, *GEOMETRY)[0]
        np.testing.assert_array_equal(np.isfinite(y), np.isfinite(right))
        np.testing.assert_array_equal(np.isfinite(dx), np.isfinite(back))


@pytest.mark.parametrize("size", [(32, 32), (16, 16), (8, 8), (7, 7), (33, 31)])
def test_errors_are_at_most_twice_those_of_a_product(monkeypatch, size):
    """Root mean squares of the errors in float32, beside those of the frames' kernels.

    Those of y and dx are smaller: their sums are shorter.
    """
    x, w, dy = normal(0, (4, *size, 32), (3, 3, 32, 32), (4, *size, 32))
    y64, _ = fused.norm_conv(*wide((x, None, w)), *GEOMETRY)
    right = y64, *fused.norm_conv_backward(*wide((dy, dy, None, x, None, w)), *GEOMETRY)[:2]
    errors = []
    for yes, kinds in (True, (winograd, winograd_backward)), (False, (conv, conv_backward)):
        monkeypatch.setattr(module, "pays_in_tiles", lambda *_, yes=yes: yes)
        module._way.cache_clear()
        assert kernels_of(x.shape, w.shape, GEOMETRY) == kinds
        y, _ = kernels.norm_conv(x, None, w, *GEOMETRY)
        dx, dw, _ = kernels.norm_conv_backward(dy, dy, None, x, None, w, *GEOMETRY)
        both = zip((y, dx, dw), right, strict=True)
        errors.append([np.sqrt(np.square(a - b).mean()) for a, b in both])
    for ours, plain, most in zip(*errors, (1, 1, 2), strict=True):
        assert ours <= most * plain


def test_same_input_same_bits():
    x, w, dy = normal(0, (3, 9, 8, 18), (3, 3, 18, 20), (3, 9, 8, 20))
    runs = [
        (
            *kernels.norm_conv(x, None, w, *GEOMETRY),
            *kernels.norm_conv_backward(dy, dy, None, x, None, w, *GEOMETRY)[:2],
        )
        for _ in range(2)
    ]
    assert all(a.tobytes() == b.tobytes() for a, b in zip(*runs, strict=True))
