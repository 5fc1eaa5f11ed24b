"""Convolutions that read their images in frames: every window, every remainder, every share."""

from __future__ import annotations

import importlib

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from kernels.between_norms import check, kernels_of, norm, normal, wide

from tinyshuffle import kernels
from tinyshuffle.kernels import record
from tinyshuffle.kernels.frame import conv
from tinyshuffle.kernels.frame_back import conv_backward
from tinyshuffle.kernels.frame_groups import grouped
from tinyshuffle.kernels.frame_groups_back import grouped_backward
from tinyshuffle.kernels.share import share_of
from tinyshuffle.plan import fused

module = importlib.import_module("tinyshuffle.kernels.norm_conv")
few = settings(max_examples=25, derandomize=True, deadline=None)


@st.composite
def geometries(draw):
    """Sides of an image, and a window, stride, padding and dilation that fit it."""
    kernel = draw(st.tuples(st.integers(1, 7), st.integers(1, 7)))
    stride = draw(st.tuples(st.integers(1, 3), st.integers(1, 3)))
    dilation = draw(st.sampled_from([(1, 1), (1, 1), (2, 1), (1, 2)]))
    padding = draw(st.tuples(st.integers(0, 4), st.integers(0, 4)))
    seen = [d * (k - 1) + 1 for d, k in zip(dilation, kernel, strict=True)]
    size = [max(1, s - 2 * p) + draw(st.integers(0, 8)) for s, p in zip(seen, padding, strict=True)]
    return tuple(size), kernel, (stride, padding, dilation)


@few
@given(
    st.sampled_from([np.float32, np.float64]), st.integers(0, 2**32 - 9), st.integers(1, 4),
    geometries(), st.integers(1, 12), st.integers(1, 30), st.sampled_from([1, 1, 2]),
    st.sampled_from([None, 1, 2]), st.booleans(), st.booleans(),
)  # fmt: skip
@example(np.float32, 0, 3, ((17, 16), (3, 3), (1, 1, 1)), 16, 15, 1, 1, True, True)
@example(np.float64, 1, 2, ((17, 16), (3, 3), (2, 1, 1)), 16, 33, 1, 1, True, True)
@example(np.float64, 2, 9, ((4, 4), (3, 3), (1, 0, 1)), 16, 24, 1, None, True, True)
@example(np.float64, 5, 2, ((6, 5), (3, 3), (2, 1, 1)), 16, 64, 1, 1, True, True)
@example(np.float32, 6, 1, ((5, 5), (3, 3), (1, 2, 1)), 64, 80, 1, 1, True, True)
@example(np.float64, 7, 1, ((5, 6), (3, 3), (2, 1, 1)), 10, 80, 2, None, False, True)
@example(np.float64, 3, 1, ((1, 1), (7, 7), (1, 3, 1)), 3, 5, 1, None, False, True)
@example(np.float64, 4, 2, ((7, 6), (1, 1), (2, 0, 1)), 16, 24, 1, None, True, False)
def test_a_convolution_with_any_window(
    dtype, seed, n, geometry, cg, og, groups, shuffle, behind, plus
):
    size, kernel, arguments = geometry
    if shuffle == 2 and cg * groups % 2:
        shuffle = 1
    check(dtype, seed, (n, *size, cg * groups), (*kernel, cg, og * groups), (*arguments, groups),
          shuffle, behind, plus)  # fmt: skip


@few
@given(
    st.sampled_from([np.float32, np.float64]), st.integers(0, 2**32 - 9), st.integers(1, 3),
    geometries(), st.integers(1, 8), st.integers(1, 8), st.integers(0, 9),
    st.sampled_from([None, 1, 2]), st.booleans(), st.booleans(),
)  # fmt: skip
@example(np.float32, 0, 3, ((16, 15), (3, 3), (1, 1, 1)), 3, 3, 10, 1, True, True)
@example(np.float64, 1, 2, ((8, 8), (3, 3), (2, 1, 1)), 6, 6, 13, 1, True, True)
@example(np.float32, 2, 1, ((1, 1), (7, 7), (1, 3, 1)), 4, 4, 0, None, False, True)
def test_groups_side_by_side(dtype, seed, n, geometry, cg, og, more, shuffle, behind, plus):
    size, kernel, arguments = geometry
    groups = -(-16 // min(cg, og)) + more
    shuffle = 1 if shuffle == 2 and cg * groups % 2 else shuffle
    check(dtype, seed, (n, *size, cg * groups), (*kernel, cg, og * groups), (*arguments, groups),
          shuffle, behind, plus)  # fmt: skip


@pytest.mark.parametrize(
    ("cg", "og", "groups", "shuffle", "kind"),
    [
        (3, 3, 16, 1, (grouped, grouped_backward)),
        (6, 6, 16, 1, (grouped, grouped_backward)),
        (2, 4, 8, 1, (grouped, grouped_backward)),
        (3, 3, 16, 3, (conv, conv_backward)),  # a shuffle in between
        (3, 3, 5, 1, (conv, conv_backward)),  # less channels than a vector has
        (8, 1, 16, 1, (conv, conv_backward)),  # 16 channels see more than two vectors'
        (12, 12, 16, 1, (conv, conv_backward)),
        (24, 15, 1, 1, (conv, conv_backward)),
        (15, 24, 1, 1, (conv, conv_backward)),
    ],
)
def test_which_way_a_convolution_goes(cg, og, groups, shuffle, kind):
    shapes = (1, 5, 5, cg * groups), (3, 3, cg, og * groups)
    assert kernels_of(*shapes, (1, 1, 1, groups), norm(1, cg * groups, True, shuffle)) == kind


@pytest.mark.parametrize("frames", [1, 400, 1500, 4000])
@pytest.mark.parametrize(
    ("w_shape", "groups"), [((3, 3, 18, 14), 1), ((3, 2, 3, 18), 6), ((1, 1, 18, 16), 1)]
)
@pytest.mark.parametrize("stride", [1, 2])
def test_some_rows_or_images_at_a_time(monkeypatch, frames, w_shape, groups, stride):
    """Frames so small that there are several, and a rest."""
    monkeypatch.setattr(module, "_FRAMES", frames)
    padding = 0 if w_shape[0] == 1 else 1
    for shuffle in 1, None:
        check(np.float64, 0, (5, 9, 7, 18), w_shape, (stride, padding, 1, groups), shuffle, True,
              True)  # fmt: skip


@pytest.mark.parametrize("frames", [400, 2**15])
@pytest.mark.parametrize(("w_shape", "groups"), [((3, 3, 18, 14), 1), ((3, 3, 3, 18), 6)])
@pytest.mark.parametrize("ranks", [1, 2, 3, 12])
def test_threads_share_an_image(monkeypatch, frames, w_shape, groups, ranks):
    monkeypatch.setattr(module, "_FRAMES", frames)
    x, w = wide(normal(0, (1, 11, 7, 18), w_shape))
    last, geometry = wide(norm(1, w_shape[-1])), (2, 1, 1, groups)
    right = fused.conv_norm(x, last, w, *geometry)
    y = np.full(right.shape, np.nan)
    work = module.conv_norm_work(y, x, last, w, *geometry)
    for rank in range(ranks):
        share = share_of(work, rank, ranks)
        if share is not None:
            record.run(share)
    np.testing.assert_allclose(y, right, rtol=0, atol=1e-12 * np.abs(right).max())


@pytest.mark.parametrize(("w_shape", "groups"), [((3, 3, 18, 14), 1), ((3, 3, 3, 18), 6)])
def test_infinity_and_nan_stay_where_they_are_seen(w_shape, groups):
    x, w = normal(0, (1, 9, 9, 18), w_shape)
    x[0, 4, 4], x[0, 0, 8] = np.nan, np.inf
    with np.errstate(invalid="ignore"):
        right = fused.norm_conv(x, None, w, 1, 1, 1, groups)[0]
    y = kernels.norm_conv(x, None, w, 1, 1, 1, groups)[0]
    np.testing.assert_array_equal(np.isfinite(y), np.isfinite(right))


@pytest.mark.parametrize(("w_shape", "groups"), [((3, 3, 18, 14), 1), ((3, 3, 3, 18), 6)])
def test_same_input_same_bits(w_shape, groups):
    x, w, dy = normal(0, (3, 9, 8, 18), w_shape, (3, 9, 8, w_shape[-1]))
    runs = [
        (
            *kernels.norm_conv(x, None, w, 1, 1, 1, groups),
            *kernels.norm_conv_backward(dy, dy, None, x, None, w, 1, 1, 1, groups)[:2],
        )
        for _ in range(2)
    ]
    assert all(a.tobytes() == b.tobytes() for a, b in zip(*runs, strict=True))
