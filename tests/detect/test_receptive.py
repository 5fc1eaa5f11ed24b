"""The effective receptive field beside nets whose gradient is known."""

from __future__ import annotations

import numpy as np
import pytest

from tinyshuffle import nn
from tinyshuffle.detect.backbone import backbone
from tinyshuffle.detect.receptive import half_width, receptive_field


def chain(k: int, channels: int = 1) -> nn.Sequential:
    """k 3x3 convolutions of ones, the last of which has several channels."""
    widths = [3, *[1] * (k - 1), channels]
    layers = [nn.Conv2d(a, b, 3, padding=1, bias=False) for a, b in zip(widths, widths[1:],
                                                                         strict=False)]  # fmt: skip
    for layer in layers:
        layer.weight.data = np.ones_like(layer.weight.data)
    return nn.Sequential(*layers)


@pytest.mark.parametrize("k", [1, 2, 5])
def test_a_chain_of_convolutions_counts_the_ways(k):
    """So many ways lead from the middle to a pixel: the coefficients of (1 + x + x²)^k."""
    ways = np.array([1.0])
    for _ in range(k):
        ways = np.convolve(ways, [1, 1, 1])
    expected = np.pad(np.outer(ways, ways) ** 2, 10 - k)  # (21, 21)
    field = receptive_field(chain(k), np.zeros((2, 21, 21, 3), np.float32))
    np.testing.assert_allclose(field, expected / expected.sum(), atol=1e-7)
    # a square of whole pixels that holds less than half, and the next one that holds more
    width = half_width(field)
    inner = [field[10 - r : 11 + r, 10 - r : 11 + r].sum() for r in range(11)]
    below = max((r for r in range(11) if inner[r] < 0.5), default=-1)
    assert 2 * below + 1 <= width <= 2 * below + 3
    if k == 1:  # nine equal pixels: a square of half their area
        assert width == pytest.approx(np.sqrt(4.5), rel=1e-6)


def test_channels_do_not_cancel():
    """Two channels with opposite weights have the squared gradient of one, not none."""
    net = chain(2, channels=2)
    last = net[1]
    last.weight.data = last.weight.data * np.array([1, -1], np.float32)
    pictures = np.zeros((400, 9, 9, 3), np.float32)
    field = receptive_field(net, pictures)
    plain = receptive_field(chain(2), pictures[:1])
    np.testing.assert_allclose(field, plain, rtol=1e-5, atol=1e-9)


def test_the_star_looks_further_and_is_left_as_it_was(rng):
    pictures = rng.standard_normal((2, 64, 64, 3)).astype(np.float32)
    widths = {}
    for name in ("shufflenet_v2_x0_5", "shufflenet_v2_star_x0_5"):
        net = backbone(name).train()
        before = {k: v.copy() for k, v in net.state_dict().items()}
        widths[name] = half_width(receptive_field(net, pictures))
        assert net.training and all(p.grad is None or not p.grad.any() for p in net.parameters())
        after = net.state_dict()
        assert all(np.array_equal(before[k], after[k]) for k in before)
    assert widths["shufflenet_v2_star_x0_5"] > 1.1 * widths["shufflenet_v2_x0_5"]


def test_width_of_a_map_with_its_weight_aside():
    field = np.zeros((20, 30))
    field[3:7, 20:24] = 1
    assert half_width(field) == pytest.approx(np.sqrt(8), rel=1e-6)
    assert half_width(field, 1) == pytest.approx(4, rel=1e-6)
