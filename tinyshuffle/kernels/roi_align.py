"""The map under boxes, with and without channels for each bin: see ``ops.roi_align``."""

from __future__ import annotations

import numpy as np

from .. import memory
from ..ops.arguments import check_images, fit
from ..ops.roi_align import Taps, bank, taps
from .jit import fused

__all__ = ["ps_roi_align", "ps_roi_align_backward", "roi_align", "roi_align_backward"]


def roi_align(
    x: np.ndarray, boxes: np.ndarray, image: np.ndarray, output_size: int, scale: float,
    samples: int = 2,
) -> np.ndarray:  # fmt: skip
    """Return y (R, P, P, C); see ``ops.roi_align``."""
    places = taps(x.shape, boxes, image, output_size, scale, samples)
    check_images(x)
    y = np.zeros((len(boxes), output_size, output_size, x.shape[3]), x.dtype)
    _read(y, np.ascontiguousarray(x), *_plain(image, places, x.dtype), samples, 0)
    return y


def roi_align_backward(
    dy: np.ndarray, x: np.ndarray, boxes: np.ndarray, image: np.ndarray, output_size: int,
    scale: float, samples: int = 2,
) -> np.ndarray:  # fmt: skip
    """Return dx (N, H, W, C); see ``ops.roi_align_backward``."""
    places = taps(x.shape, boxes, image, output_size, scale, samples)
    check_images(x)
    dy = fit(dy, (len(boxes), output_size, output_size, x.shape[3]), x.dtype)
    return _backward(dy, x, image, places, samples, 0)


def ps_roi_align(
    x: np.ndarray, boxes: np.ndarray, image: np.ndarray, output_size: int, scale: float,
    samples: int = 2,
) -> np.ndarray:  # fmt: skip
    """Return y (R, P, P, C); see ``ops.ps_roi_align``."""
    places = taps(x.shape, boxes, image, output_size, scale, samples)
    check_images(x)
    c = bank(x.shape, output_size)
    y = np.zeros((len(boxes), output_size, output_size, c), x.dtype)
    _read(y, np.ascontiguousarray(x), *_plain(image, places, x.dtype), samples, c)
    return y


def ps_roi_align_backward(
    dy: np.ndarray, x: np.ndarray, boxes: np.ndarray, image: np.ndarray, output_size: int,
    scale: float, samples: int = 2,
) -> np.ndarray:  # fmt: skip
    """Return dx (N, H, W, P·P·C); see ``ops.ps_roi_align_backward``."""
    places = taps(x.shape, boxes, image, output_size, scale, samples)
    check_images(x)
    c = bank(x.shape, output_size)
    dy = fit(dy, (len(boxes), output_size, output_size, c), x.dtype)
    return _backward(dy, x, image, places, samples, c)


def _backward(
    dy: np.ndarray, x: np.ndarray, image: np.ndarray, places: tuple[Taps, Taps], samples: int,
    step: int,
) -> np.ndarray:  # fmt: skip
    dx = memory.empty(x.shape, x.dtype)
    dx[...] = 0
    _write(dx, np.ascontiguousarray(dy), *_plain(image, places, x.dtype), samples, step)
    return dx


def _plain(
    image: np.ndarray, places: tuple[Taps, Taps], dtype: np.dtype
) -> tuple[np.ndarray, ...]:
    (rows, a), (columns, b) = places
    return image.astype(np.int64), rows, a.astype(dtype), columns, b.astype(dtype)


@fused
def _read(y, x, image, rows, a, columns, b, samples, step):
    """``step`` is from the channels of one bin to those of the next; 0 if they are the same."""
    p, c = y.shape[1], y.shape[3]
    for r in range(len(y)):
        plane = x[image[r]]
        for i in range(p):
            for j in range(p):
                out = y[r, i, j]
                first = (i * p + j) * step
                for m in range(i * samples, (i + 1) * samples):
                    low, high = plane[rows[r, m, 0]], plane[rows[r, m, 1]]
                    for q in range(j * samples, (j + 1) * samples):
                        left, right = columns[r, q, 0], columns[r, q, 1]
                        w00, w01 = a[r, m, 0] * b[r, q, 0], a[r, m, 0] * b[r, q, 1]
                        w10, w11 = a[r, m, 1] * b[r, q, 0], a[r, m, 1] * b[r, q, 1]
                        x00, x01 = low[left, first:], low[right, first:]
                        x10, x11 = high[left, first:], high[right, first:]
                        for k in range(c):
                            out[k] += (
                                w00 * x00[k] + w01 * x01[k] + w10 * x10[k] + w11 * x11[k]
                            )


@fused
def _write(dx, dy, image, rows, a, columns, b, samples, step):
    p, c = dy.shape[1], dy.shape[3]
    for r in range(len(dy)):
        plane = dx[image[r]]
        for i in range(p):
            for j in range(p):
                d = dy[r, i, j]
                first = (i * p + j) * step
                for m in range(i * samples, (i + 1) * samples):
                    for q in range(j * samples, (j + 1) * samples):
                        for e in range(2):
                            for f in range(2):
                                w = a[r, m, e] * b[r, q, f]
                                out = plane[rows[r, m, e], columns[r, q, f], first:]
                                for k in range(c):
                                    out[k] += w * d[k]
