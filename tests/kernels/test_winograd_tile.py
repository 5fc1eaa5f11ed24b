"""What Winograd's tiles are made of, beside the matrices of Lavin and Gray, section 4.1."""

from __future__ import annotations

import numpy as np
import pytest
from numba import njit

from tinyshuffle.kernels import winograd_tile as tile

B = np.array([[1, 0, -1, 0], [0, 1, 1, 0], [0, -1, 1, 0], [0, 1, 0, -1]])
G = np.array([[1, 0, 0], [0.5, 0.5, 0.5], [0.5, -0.5, 0.5], [0, 0, 1]])
A = np.array([[1, 1, 1, 0], [0, 1, -1, -1]])
LAST = np.array([1, 1, 1, -1])  # whose sign is turned for results, and turned back for windows
CHANNELS = 16, 17, 31, 32, 40


def compiled(kernel):
    """Called from Python: a kernel that only others call has no way in."""
    return njit(lambda *arguments: kernel(*arguments))


points_of_images = compiled(tile.points_of_images)
points_of_results = compiled(tile.points_of_results)
points_of_window = compiled(tile.points_of_window)
results_of_points = compiled(tile.results_of_points)
gradient_of_window = compiled(tile.gradient_of_window)


def normal(*shape):
    return np.random.default_rng(0).standard_normal(shape)


def planes(points, tiles, c, slack=5):
    """The planes of 16 points, (4, 4, tiles, C), with a few numbers of NaN behind each."""
    made = np.full((16, tiles * c + slack), np.nan)
    made[:, : tiles * c] = points.reshape(16, -1)
    return made


def test_the_matrices_make_a_convolution():
    d, g = normal(4), normal(3)
    np.testing.assert_allclose(A @ (G @ g * (B @ d)), np.correlate(d, g), atol=1e-14)


@pytest.mark.parametrize("c", CHANNELS)
@pytest.mark.parametrize("tiles", [1, 2, 5])
def test_points_of_images(c, tiles):
    x = normal(4, 2 * tiles + 2, c)
    made = np.full((16, tiles * c + 5), np.nan)
    points_of_images(made.ravel(), 0, made.shape[1], x.ravel(), 0, x[0].size, c, tiles)
    seen = np.stack([x[:, 2 * t : 2 * t + 4] for t in range(tiles)])
    right = np.einsum("ip,jq,tpqc->ijtc", B, B, seen)
    np.testing.assert_allclose(made, planes(right, tiles, c), rtol=0, atol=1e-13)


@pytest.mark.parametrize("c", CHANNELS)
@pytest.mark.parametrize("tiles", [1, 2, 5])
def test_points_of_results(c, tiles):
    y = normal(2, 2 * tiles, c)
    made = np.full((16, tiles * c + 5), np.nan)
    points_of_results(made.ravel(), 0, made.shape[1], y.ravel(), 0, y[0].size, c, tiles)
    seen = y.reshape(2, tiles, 2, c)
    right = np.einsum("pi,qj,ptqc->ijtc", A * LAST, A * LAST, seen)
    np.testing.assert_allclose(made, planes(right, tiles, c), rtol=0, atol=1e-13)


@pytest.mark.parametrize("size", [16, 272, 289])
def test_points_of_window(size):
    w, made = normal(3, 3, size), np.full(16 * size + 5, np.nan)
    points_of_window(made, w.ravel(), size)
    right = np.einsum("ip,jq,pqc->ijc", G, G, w)
    np.testing.assert_allclose(made[:-5], right.ravel(), rtol=0, atol=1e-14)
    assert np.isnan(made[-5:]).all()


@pytest.mark.parametrize("o", CHANNELS)
@pytest.mark.parametrize("wo", [1, 2, 5, 6])
@pytest.mark.parametrize("rows", [(True, True), (True, False), (False, True)])
@pytest.mark.parametrize("more", [None, False, True])  # no shifts, shifts, shifts and ReLU
def test_results_of_points(o, wo, rows, more):
    """Pixels may be some channels of wider ones: nothing else is written."""
    tiles, pixel = (wo + 1) // 2, o + 3
    m = normal(4, 4, tiles, o)
    y = np.full((2, wo, pixel), np.nan)
    shifts = np.zeros(0) if more is None else normal(o)
    of = planes(m, tiles, o)
    results_of_points(
        y.ravel(), 0, wo * pixel, pixel, of.ravel(), 0, of.shape[1], o, wo, *rows, shifts,
        bool(more),
    )  # fmt: skip
    right = np.einsum("pi,qj,ijto->ptqo", A, A, m).reshape(2, 2 * tiles, o)[:, :wo]
    right = right + (0 if more is None else shifts)
    right = np.maximum(right, 0) if more else right
    np.testing.assert_allclose(y[rows, :, :o], right[list(rows)], rtol=0, atol=1e-13)
    assert np.isnan(y[:, :, o:]).all() and np.isnan(y[[not row for row in rows]]).all()


@pytest.mark.parametrize(("c", "o"), [(1, 16), (3, 17), (2, 40)])
def test_gradient_of_window(c, o):
    s, row = normal(4, 4, c, o), o + 3
    wide = np.full((16, c, row), np.nan)
    wide[:, :, :o] = s.reshape(16, c, o)
    dw = np.full((3, 3, c, o), np.nan)
    gradient_of_window(dw.ravel(), wide.ravel(), c * row, row, c, o)
    back = G * LAST[:, None]
    right = np.einsum("ip,jq,ijco->pqco", back, back, s)
    np.testing.assert_allclose(dw, right[::-1, ::-1], rtol=0, atol=1e-14)


def test_points_of_a_tile_give_the_gradient_of_its_window():
    """Turned around, dw is made of a tile of x and what of dy it is seen by."""
    x, dy = normal(2, 2, 16), normal(4, 4, 16)
    v, d = np.zeros(256), np.zeros(256)
    points_of_results(v, 0, 16, x.ravel(), 0, 32, 16, 1)
    points_of_images(d, 0, 16, dy.ravel(), 0, 64, 16, 1)
    s = np.einsum("pc,po->pco", v.reshape(16, 16), d.reshape(16, 16))
    dw = np.zeros((3, 3, 16, 16))
    gradient_of_window(dw.ravel(), s.ravel(), 256, 16, 16, 16)
    for i in range(3):
        for j in range(3):
            seen = dy[2 - i : 4 - i, 2 - j : 4 - j]
            right = np.einsum("pqc,pqo->co", x, seen)
            np.testing.assert_allclose(dw[i, j], right, rtol=0, atol=1e-13)
