"""The large separable convolution: a k x k window at the price of k + k.

    y = (1 x k)((k x 1)(x)) + (k x 1)((1 x k)(x))

A column and then a row, and a row and then a column, through few channels in between. Szegedy et
al. 2016, section 3.2, for the factors; Peng et al. 2017, "Large Kernel Matters", Figure 2 (B), for
the sum of both; Li et al. 2017, "Light-Head R-CNN", section 3.1.1, with k = 15, to make a thin map
that sees far.
"""

from __future__ import annotations

import numpy as np

from .. import nn
from ..backend import F
from ..errors import TinyshuffleError
from ..ops.arguments import integer

__all__ = ["LargeSeparableConv2d"]


class LargeSeparableConv2d(nn.Module):
    """A large separable convolution.

    Parameters
    ----------
    in_channels, middle_channels, out_channels : int
    kernel_size : int
        k, odd, so that the map keeps its size.
    """

    def __init__(
        self, in_channels: int, middle_channels: int, out_channels: int, kernel_size: int = 15
    ) -> None:
        k = integer(kernel_size, "kernel_size")
        if k % 2 == 0:
            raise TinyshuffleError(f"kernel_size={k} is even: give an odd one, or the map shrinks")
        column, row = ((k, 1), 1, (k // 2, 0)), ((1, k), 1, (0, k // 2))  # kernel, stride, padding
        c, m, o = in_channels, middle_channels, out_channels
        self.down = nn.Sequential(nn.Conv2d(c, m, *column, bias=False), nn.Conv2d(m, o, *row))
        self.across = nn.Sequential(
            nn.Conv2d(c, m, *row, bias=False), nn.Conv2d(m, o, *column, bias=False)
        )
        nn.init.kaiming_normal(self, "fan_in")

    def forward(self, x: np.ndarray) -> np.ndarray:
        return F.add(self.down(x), self.across(x))

    def backward(self, dy: np.ndarray) -> np.ndarray:
        ddown, dacross = F.add_backward(dy)
        return F.add(self.down.backward(ddown), self.across.backward(dacross))
