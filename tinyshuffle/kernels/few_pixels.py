"""A pointwise convolution of few pixels, such as the last ones of a single large image.

Then the weights are more than the pixels. To lay them out for the product, and to multiply them by
what a norm behind does, would take a quarter of the time, so they are read where they lie. But
those whose rows are a multiple of 512 bytes apart have few places in the cache: one panel of them
at a time is laid out.
"""

from __future__ import annotations

from .batch_norm import normalise, table_of
from .jit import fused, scratch
from .record import floats, record_at
from .tile import PANEL, ROWS, multiply_few

__all__ = ["are_few", "few_pixels"]

_FEW = 256  # pixels at most
_APART = 512  # bytes


def are_few(m: int, o: int, groups: int) -> bool:
    """Whether so many pixels, which get so many channels, are few, but enough for whole tiles."""
    return ROWS <= m <= _FEW and o >= 2 * PANEL and groups == 1


@fused
def few_pixels(address, zero):
    """y = conv(x), or y = norm(conv(x)) with a norm behind."""
    r = record_at(address)
    m, c, o, x_row, y_row, w_row = r.m, r.c, r.o, r.x_row, r.y_row, r.w_row
    x, y = floats(r.x, (m - 1) * x_row + c, zero), floats(r.y, (m - 1) * y_row + o, zero)
    w = floats(r.w, (c - 1) * w_row + o, zero)
    after, relu = table_of(r.behind, o, r.period, x, zero), r.behind.relu != 0
    spare = scratch(c * PANEL if w_row * x.itemsize % _APART == 0 else 0, x)
    multiply_few(y, y_row, x, x_row, w, w_row, m, c, o, spare)
    if after.size > 0 and y_row == o:
        normalise(y, y, after, relu)
    elif after.size > 0:  # some columns of all pixels, which several threads share
        for pixel in range(0, m * y_row, y_row):
            normalise(y[pixel : pixel + o], y[pixel : pixel + o], after, relu)
