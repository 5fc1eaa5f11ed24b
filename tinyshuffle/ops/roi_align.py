"""RoIAlign: the part of a map that lies under a box, as P·P numbers a channel, whatever its size.

The box is cut into P·P bins, and in each bin the map is read, between its pixels, at S·S points:

    y[r, i, j, c] = 1/S² Σ_{a, b} x(v[r, iS + a], u[r, jS + b], c)
    v[r, m] = y1·scale - 1/2 + (m + 1/2)·(y2 - y1)·scale / (P·S)       and u alike
    x(v, u, c) = Σ_{h, w} max(0, 1 - |v - h|) · max(0, 1 - |u - w|) · x[n_r, h, w, c]

The weights of rows and of columns are factors, so with A[r, i, h] and B[r, j, w] for their means
over the points of a bin, all of it is two matrix products, and so is the gradient:

    y[r, i, j, c] = Σ_{h, w} A[r, i, h] · B[r, j, w] · x[n_r, h, w, c]
    dx[n, h, w, c] = Σ_{r of n} Σ_{i, j} A[r, i, h] · B[r, j, w] · dy[r, i, j, c]

He et al. 2017, "Mask R-CNN", section 3, with the mean over the points: there is no maximum, so in
x it is linear and has no kinks. In the box it has some, where a point crosses a pixel's centre;
boxes are constants here. A point beyond the outermost centres has their value, and from one pixel
outside of the map on, 0 (as in torchvision with ``aligned=True``).

The position-sensitive one reads each bin from channels of its own, P·P groups of C channels:

    y[r, i, j, c] = Σ_{h, w} A[r, i, h] · B[r, j, w] · x[n_r, h, w, (i·P + j)·C + c]

Dai et al. 2016, "R-FCN", equation 1; Li et al. 2017, "Light-Head R-CNN".
"""

from __future__ import annotations

import numpy as np

from ..errors import TinyshuffleError
from .arguments import check_images, fit, integer, number
from .boxes import check_boxes
from .cost import Cost, size

__all__ = [
    "Taps", "ps_roi_align", "ps_roi_align_backward", "ps_roi_align_cost", "roi_align",
    "roi_align_backward", "roi_align_cost", "taps",
]  # fmt: skip

Taps = tuple[np.ndarray, np.ndarray]
"""The two pixels next to each point along an axis, int64 (R, P·S, 2), and their weights, float64
(R, P·S, 2), with the 1/S of the mean in them."""


def roi_align(
    x: np.ndarray, boxes: np.ndarray, image: np.ndarray, output_size: int, scale: float,
    samples: int = 2,
) -> np.ndarray:  # fmt: skip
    """Read a map under boxes.

    Parameters
    ----------
    x : (N, H, W, C)
    boxes : (R, 4)
        (x1, y1, x2, y2), in pixels of the picture.
    image : int (R,)
        In which of the N pictures each box lies.
    output_size : int
        P.
    scale : float
        Pixels of the map for one of the picture: 1 / stride.
    samples : int
        S.

    Returns
    -------
    y : (R, P, P, C)
    """
    rows, columns = taps(x.shape, boxes, image, output_size, scale, samples)
    check_images(x)
    y = np.zeros((len(boxes), output_size, output_size, x.shape[3]), x.dtype)
    for n, mine, a, b in _of_each_image(x, image, rows, columns, output_size):
        along = np.einsum("rih,hwc->riwc", a, x[n], optimize=True)
        y[mine] = np.einsum("rjw,riwc->rijc", b, along, optimize=True)
    return y


def roi_align_backward(
    dy: np.ndarray, x: np.ndarray, boxes: np.ndarray, image: np.ndarray, output_size: int,
    scale: float, samples: int = 2,
) -> np.ndarray:  # fmt: skip
    """Return dx (N, H, W, C), given ``dy`` (R, P, P, C); of ``x`` only the shape matters."""
    rows, columns = taps(x.shape, boxes, image, output_size, scale, samples)
    check_images(x)
    dy = fit(dy, (len(boxes), output_size, output_size, x.shape[3]), x.dtype)
    dx = np.zeros_like(x)
    for n, mine, a, b in _of_each_image(x, image, rows, columns, output_size):
        along = np.einsum("rjw,rijc->riwc", b, dy[mine], optimize=True)
        dx[n] = np.einsum("rih,riwc->hwc", a, along, optimize=True)
    return dx


def roi_align_cost(
    x: tuple[int, ...], boxes: tuple[int, ...], image: tuple[int, ...], output_size: int,
    scale: float, samples: int = 2,
) -> Cost:  # fmt: skip
    """Cost: each of the S² points of a bin has four pixels around it."""
    y = (boxes[0], output_size, output_size, x[3])
    return _cost(x, boxes, y, samples)


def ps_roi_align(
    x: np.ndarray, boxes: np.ndarray, image: np.ndarray, output_size: int, scale: float,
    samples: int = 2,
) -> np.ndarray:  # fmt: skip
    """Read each bin of the boxes from channels of its own.

    Parameters as of :func:`roi_align`, with ``x`` (N, H, W, P·P·C).

    Returns
    -------
    y : (R, P, P, C)
    """
    rows, columns = taps(x.shape, boxes, image, output_size, scale, samples)
    check_images(x)
    c = bank(x.shape, output_size)
    p, banks = output_size, x.reshape(*x.shape[:3], output_size, output_size, c)
    y = np.zeros((len(boxes), p, p, c), x.dtype)
    for n, mine, a, b in _of_each_image(x, image, rows, columns, p):
        along = np.einsum("rih,hwijc->riwjc", a, banks[n], optimize=True)
        y[mine] = np.einsum("rjw,riwjc->rijc", b, along, optimize=True)
    return y


def ps_roi_align_backward(
    dy: np.ndarray, x: np.ndarray, boxes: np.ndarray, image: np.ndarray, output_size: int,
    scale: float, samples: int = 2,
) -> np.ndarray:  # fmt: skip
    """Return dx (N, H, W, P·P·C), given ``dy`` (R, P, P, C); of ``x`` only the shape matters."""
    rows, columns = taps(x.shape, boxes, image, output_size, scale, samples)
    check_images(x)
    p, c = output_size, bank(x.shape, output_size)
    dy = fit(dy, (len(boxes), p, p, c), x.dtype)
    dx = np.zeros((*x.shape[:3], p, p, c), x.dtype)
    for n, mine, a, b in _of_each_image(x, image, rows, columns, p):
        along = np.einsum("rjw,rijc->riwjc", b, dy[mine], optimize=True)
        dx[n] = np.einsum("rih,riwjc->hwijc", a, along, optimize=True)
    return dx.reshape(x.shape)


def ps_roi_align_cost(
    x: tuple[int, ...], boxes: tuple[int, ...], image: tuple[int, ...], output_size: int,
    scale: float, samples: int = 2,
) -> Cost:  # fmt: skip
    """Cost: that of :func:`roi_align_cost` for the channels of one bin."""
    y = (boxes[0], output_size, output_size, bank(x, output_size))
    return _cost(x, boxes, y, samples)


def bank(x_shape: tuple[int, ...], output_size: int) -> int:
    """Return C of a map of P·P·C channels, or raise."""
    c, rest = divmod(x_shape[-1], integer(output_size, "output_size") ** 2)
    if rest or not c:
        raise TinyshuffleError(
            f"{x_shape[-1]} channels are not the same number for each of {output_size}x"
            f"{output_size} bins: give a multiple of {output_size**2}"
        )
    return c


def taps(
    x_shape: tuple[int, ...], boxes: np.ndarray, image: np.ndarray, output_size: int, scale: float,
    samples: int,
) -> tuple[Taps, Taps]:  # fmt: skip
    """Check everything but ``x``, and return where rows and columns are read, in float64."""
    check_boxes(boxes)
    integer(output_size, "output_size")
    integer(samples, "samples")
    number(scale, "scale", lambda s: 0 < s < np.inf, "a finite number above 0")
    if image.shape != (len(boxes),) or image.dtype.kind not in "iu":
        raise TinyshuffleError(
            f"image has to say in whole numbers in which picture each of {len(boxes)} boxes lies, "
            f"got {image.dtype} of shape {image.shape}"
        )
    if len(image) and not 0 <= image.min() <= image.max() < x_shape[0]:
        raise TinyshuffleError(
            f"boxes lie in the pictures {image.min()} to {image.max()}, and there are "
            f"{x_shape[0]}, from 0 on"
        )
    points = output_size * samples
    where = (np.arange(points) + 0.5) / points  # 0 to 1 along a box
    found = []
    for axis, length in ((1, x_shape[1]), (0, x_shape[2])):
        low, high = scale * boxes[:, axis].astype(np.float64), scale * boxes[:, axis + 2]
        at = low[:, None] - 0.5 + where * (high - low)[:, None]  # (R, P·S)
        inside = (at >= -1) & (at <= length)
        at = at.clip(0, length - 1)
        first = np.minimum(at.astype(np.int64), max(length - 2, 0))
        part = at - first
        index = np.stack([first, np.minimum(first + 1, length - 1)], axis=-1)
        weight = np.stack([1 - part, part], axis=-1) * inside[..., None] / samples
        found.append((index, weight))
    return found[0], found[1]


def _of_each_image(x, image, rows, columns, p):  # type: ignore[no-untyped-def]
    """Visit n, which boxes are its, and their A (R, P, H) and B (R, P, W)."""
    for n in range(len(x)):
        mine = np.flatnonzero(image == n)
        if len(mine):
            a, b = (
                _matrix(index[mine], weight[mine], p, length).astype(x.dtype)
                for (index, weight), length in zip((rows, columns), x.shape[1:3], strict=True)
            )
            yield n, mine, a, b


def _matrix(index: np.ndarray, weight: np.ndarray, p: int, length: int) -> np.ndarray:
    """Return the weights as a matrix a box, (R, P, length)."""
    out = np.zeros((len(index), p, length))
    r, i = np.arange(len(index))[:, None, None], np.arange(p)[:, None]
    shape = len(index), p, -1  # the points of a bin, and their two pixels, side by side
    np.add.at(out, (r, i, index.reshape(shape)), weight.reshape(shape))
    return out


def _cost(x: tuple[int, ...], boxes: tuple[int, ...], y: tuple[int, ...], samples: int) -> Cost:
    products = 4 * samples**2 * size(y)
    return Cost(
        output=y,
        elementwise=products,
        memory_access=products + size(boxes) + size(y),
        backward_elementwise=products,
        backward_memory_access=2 * products + size(boxes) + size(y) + size(x),
    )
