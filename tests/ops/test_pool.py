"""Max pooling's winners: any number of taps, -inf, NaN."""

from __future__ import annotations

import numpy as np
import pytest

from tinyshuffle import nn
from tinyshuffle.backend import F

pytestmark = pytest.mark.usefixtures("each_backend")


@pytest.mark.parametrize("channels", [3, 16])
@pytest.mark.parametrize("kernel", [16, 17, 20, (1, 300), (300, 1)], ids=str)
def test_the_gradient_of_a_large_window_goes_to_its_winner(kernel, channels, rng):
    kh, kw = (kernel, kernel) if isinstance(kernel, int) else kernel
    x = rng.standard_normal((2, kh + 1, kw + 1, channels))
    x[:, kh - 1, kw - 1] += 9  # the last tap of the first window
    y, winner = F.max_pool2d(x, kernel, 1)
    assert winner[0, 0, 0].tolist() == [kh * kw - 1] * channels
    dy = rng.standard_normal(y.shape)
    dx = F.max_pool2d_backward(dy, winner, x.shape, kernel, 1)
    expected = np.zeros_like(x)
    for n, p, q, c in np.ndindex(y.shape):
        window = x[n, p : p + kh, q : q + kw, c]
        i, j = np.unravel_index(window.argmax(), window.shape)
        assert y[n, p, q, c] == window[i, j]
        expected[n, p + i, q + j, c] += dy[n, p, q, c]
    np.testing.assert_allclose(dx, expected, rtol=1e-13, atol=1e-13)


@pytest.mark.parametrize("channels", [2, 19])
@pytest.mark.parametrize("ceil_mode", [False, True])
@pytest.mark.parametrize(("kernel", "stride", "padding"), [(3, 2, 1), (4, 3, 2), (2, 2, 0)])
def test_no_gradient_of_minus_infinity_is_lost(kernel, stride, padding, ceil_mode, channels):
    x = np.full((2, 6, 5, channels), -np.inf, np.float32)
    pool = nn.MaxPool2d(kernel, stride, padding, ceil_mode)
    y = pool(x)
    assert (y == -np.inf).all()
    dx = pool.backward(np.ones_like(y))
    assert dx.sum() == y.size  # padding never wins
    rows = np.maximum(0, np.arange(y.shape[1]) * stride - padding)
    columns = np.maximum(0, np.arange(y.shape[2]) * stride - padding)
    assert (dx[:, rows[:, None], columns] > 0).all()  # of equals the first


@pytest.mark.parametrize("channels", [2, 19])
def test_the_last_nan_of_a_window_wins(channels):
    """As in PyTorch: a value that is greater than the best so far, or NaN."""
    x = np.arange(9.0).reshape(1, 3, 3, 1).repeat(channels, 3)
    x[:, 0, 1] = x[:, 1, 2] = np.nan
    y, winner = F.max_pool2d(x, 3, 1)
    assert np.isnan(y).all() and (winner == 5).all()
    dx = F.max_pool2d_backward(np.ones_like(y), winner, x.shape, 3, 1)
    assert (dx[0, 1, 2] == 1).all() and dx.sum() == channels
