"""Notebook 12: inside the kernels."""

from __future__ import annotations

import numbers
import time
from collections.abc import Callable, Iterable
from typing import Any

import numpy as np

from ... import ops
from ..exercise import Exercise, Mistake

__all__ = ["EXERCISES"]

FASTER = 20


def _depthwise(x: np.ndarray, w: np.ndarray) -> np.ndarray:
    return ops.depthwise_conv2d(x, w, padding=1)


def slow_depthwise(x: np.ndarray, w: np.ndarray) -> np.ndarray:
    """The definition, in plain Python: what 12.1 has to beat."""
    n, h, v, c = x.shape
    y = np.zeros_like(x)
    for image, p, q, i, j in np.ndindex(n, h, v, 3, 3):
        if 0 <= p + i - 1 < h and 0 <= q + j - 1 < v:
            for k in range(c):
                y[image, p, q, k] += x[image, p + i - 1, q + j - 1, k] * w[i, j, k]
    return y


def _images() -> list[tuple[Any, ...]]:
    rng = np.random.default_rng(14)
    return [
        (np.ones((1, 1, 1, 1)), np.arange(9.0).reshape(3, 3, 1)),
        (rng.standard_normal((1, 2, 3, 1)), rng.standard_normal((3, 3, 1))),
        (rng.standard_normal((2, 5, 4, 3)), rng.standard_normal((3, 3, 3))),
    ]


def _fast_enough(answer: Callable[..., np.ndarray]) -> str | None:
    rng = np.random.default_rng(15)
    x, w = rng.standard_normal((1, 14, 14, 16)), rng.standard_normal((3, 3, 16))
    mine, yours = [], []
    for _ in range(3):  # side by side, so that a busy machine slows both
        mine.append(_seconds(slow_depthwise, x, w))
        yours += [_seconds(answer, x, w) for _ in range(5)]
    times = min(mine) / min(yours)
    if times >= FASTER:
        return None
    return (
        f"is right but slow: {times:.1f} times as fast as plain Python, and {FASTER} are asked "
        "for. Let numba compile the loops (@numba.njit), or let NumPy add whole images. "
        "Re-read notebook 12, section 4."
    )


def _seconds(f: Callable[..., Any], *arguments: Any) -> float:
    start = time.perf_counter()
    f(*arguments)
    return time.perf_counter() - start


def _turned(x: np.ndarray, w: np.ndarray) -> np.ndarray:
    return _depthwise(x, w[::-1, ::-1])


def _wrapped(x: np.ndarray, w: np.ndarray) -> np.ndarray:
    taps = np.ndindex(3, 3)
    return sum(np.roll(x, (1 - i, 1 - j), (1, 2)) * w[i, j] for i, j in taps)


def _inside(x: np.ndarray, w: np.ndarray) -> np.ndarray:
    y = np.zeros_like(x)
    y[:, 1:-1, 1:-1] = _depthwise(x, w)[:, 1:-1, 1:-1]
    return y


def _bytes_apart(shape: tuple[int, ...], axis: int) -> int:
    return np.empty(shape, np.float32).strides[axis]


def _ascending(sizes: Any) -> list[int]:
    sizes = list(sizes) if isinstance(sizes, Iterable) else None
    if sizes is None or not all(isinstance(size, numbers.Real) for size in sizes):
        raise ValueError("a list of whole numbers is expected, how many images each core gets")
    return sorted(sizes)


def _sizes(images: int, cores: int) -> list[int]:
    return sorted((images + i) // cores for i in range(cores))


_Row = tuple[str, tuple[int, ...], int]
OPERATIONS = ("conv", "batch_norm", "relu", "add", "norm_relu")  # a reply shows their places


def _tables() -> list[tuple[list[_Row], int]]:
    stretch: list[_Row] = [("conv", (0,), 1), ("batch_norm", (1,), 2), ("relu", (2,), 3)]
    return [
        (stretch, 3),
        ([*stretch, ("conv", (3,), 4), ("relu", (4,), 5)], 5),  # nothing is normalised there
        ([("relu", (0,), 1), ("batch_norm", (1,), 2)], 2),  # the other way round
        ([*stretch, ("add", (2, 3), 4)], 4),  # two read it
        ([*stretch], 2),  # the caller gets it; a list of its own, as an answer may write into it
        ([*stretch, ("relu", (2,), 4), ("add", (3, 4), 5)], 5),  # two of them read it
        ([*stretch[:2], ("add", (2, 0), 3), ("relu", (3,), 4)], 4),
        ([*stretch[:2], ("conv", (0,), 6), ("batch_norm", (6,), 7), ("relu", (7,), 8),
          ("relu", (2,), 9), ("add", (8, 9), 10)], 10),
    ]  # fmt: skip


def _allowed(
    rows: list[_Row], output: int,
    makers: tuple[str, ...] = ("batch_norm",), readers: tuple[str, ...] = ("relu",),
    ask_rows: bool = True, ask_caller: bool = True, next_row: bool = False,
) -> list[tuple[int, int]]:
    """The places of each pair that becomes one; what a mistake does not ask is left out."""
    pairs = []
    for i, (first, _, between) in enumerate(rows):
        of = [j for j, (_, reads, _) in enumerate(rows) if between in reads]
        joined = [j for j in of if rows[j][0] in readers]
        if first not in makers or not joined or (next_row and joined[0] != i + 1):
            continue
        if (len(of) == 1 or not ask_rows) and (between != output or not ask_caller):
            pairs.append((i, joined[0]))
    return pairs


def _fused(rows: list[_Row], output: int, early: bool = False, **asked: Any) -> np.ndarray:
    out: list[_Row | None] = list(rows)
    for i, j in _allowed(rows, output, **asked):
        row = "norm_relu", rows[i][1], rows[j][2]
        out[i], out[j] = (row, None) if early else (None, row)
    return _as_numbers([row for row in out if row is not None])


def _rule(rows: list[_Row], output: int) -> np.ndarray:
    return _fused(rows, output)


def _kept(rows: list[_Row], output: int) -> np.ndarray:
    """With the batch norm's row still there."""
    fused = {rows[j]: ("norm_relu", rows[i][1], rows[j][2]) for i, j in _allowed(rows, output)}
    return _as_numbers([fused.get(row, row) for row in rows])


def _as_numbers(rows: Any) -> np.ndarray:
    """(rows, 4): the operation's place, the buffer written, and those read, -1 for none."""
    if isinstance(rows, np.ndarray):  # it is one already
        return rows
    out = []
    for row in rows:
        try:
            operation, reads, write = row
            first, second = [*reads, -1][:2]
            out.append([OPERATIONS.index(operation), write, first, second])
        except (TypeError, ValueError):
            raise ValueError(
                "each row is a triple (operation, buffers read, buffer written), and operations "
                f"are {', '.join(OPERATIONS)}"
            ) from None
    return np.array(out)


EXERCISES = (
    Exercise(
        key="12.1",
        title="A faster loop",
        name="fast_depthwise",
        reference=_depthwise,
        cases=_images,
        further=_fast_enough,
        section=4,
        hints=(
            "Get it right with plain loops first: output pixel (p, q) and tap (i, j) meet input "
            "pixel (p + i - 1, q + j - 1), where there is one.",
            "Put @numba.njit above the loops, with the channels as the innermost one. Or loop over "
            "the nine taps only, and let NumPy add shifted images.",
        ),
        mistakes=(
            Mistake("the kernel is turned round: tap (i, j) sees pixel (p + i - 1, q + j - 1)",
                    _turned, "notebook 01, section 1"),
            Mistake("the border is left out: there the taps that fall on the image still count",
                    _inside, "notebook 01, section 1"),
            Mistake("rows and columns of the kernel are swapped",
                    lambda x, w: _depthwise(x, w.transpose(1, 0, 2))),
            Mistake("the picture goes on behind its border with the other side, as index -1 and "
                    "np.roll have it; there are zeros", _wrapped, "notebook 01, section 1"),
            Mistake("the window begins at the output pixel; with padding 1 it is centred on it",
                    lambda x, w: np.pad(_depthwise(x, w), ((0, 0), (0, 1), (0, 1), (0, 0)))
                    [:, 1:, 1:]),
        ),
    ),
    Exercise(
        key="12.2",
        title="How far apart in memory?",
        name="bytes_apart",
        reference=_bytes_apart,
        cases=lambda: [
            ((1, 2, 3, 4), 3), ((1, 2, 3, 4), 2), ((2, 28, 28, 58), 1), ((2, 28, 28, 58), 0)
        ],
        section=5,
        hints=(
            "The last axis lies side by side. How many numbers stand between two neighbours of "
            "another axis?",
            "The product of the sides behind that axis, times 4 bytes.",
        ),
        mistakes=(
            Mistake("this is counted in numbers; a float32 has four bytes",
                    lambda shape, axis: _bytes_apart(shape, axis) / 4),
            Mistake("a float32 has four bytes; eight are a float64",
                    lambda shape, axis: 2 * _bytes_apart(shape, axis)),
            Mistake("the first axis is the slowest here, not the last: multiply the sides behind "
                    "the axis, not those before it",
                    lambda shape, axis: 4 * int(np.prod(shape[:axis]))),
            Mistake("the axis's own side does not count, only those behind it",
                    lambda shape, axis: 4 * int(np.prod(shape[axis:]))),
        ),
    ),
    Exercise(
        key="12.3",
        title="A batch in slices",
        name="slice_sizes",
        reference=_sizes,
        cases=lambda: [(4, 2), (5, 2), (2, 3), (8, 3), (9, 4), (128, 3)],
        observe=_ascending,
        section=8,
        hints=(
            "Every core gets images // cores. How many images are left, and who gets them?",
            "images % cores of the slices get one more.",
        ),
        mistakes=(
            Mistake("the remainder is dropped: some images are in no slice",
                    lambda images, cores: [images // cores] * cores),
            Mistake("one slice takes the whole remainder, and the other cores wait for it",
                    lambda images, cores: sorted(
                        [images // cores] * (cores - 1)
                        + [images - images // cores * (cores - 1)])),
            Mistake("rounding up leaves too little for the last slice, and the others are slower "
                    "than they need be",
                    lambda images, cores: sorted(
                        max(0, min(-(-images // cores), images - i * -(-images // cores)))
                        for i in range(cores))),
            Mistake("each core has a slice: with fewer images than cores, some slices are empty",
                    lambda images, cores: [n for n in _sizes(images, cores) if n]),
            Mistake("the slices are not whole images",
                    lambda images, cores: [images / cores] * cores),
        ),
    ),
    Exercise(
        key="12.4",
        title="A rule that fuses two rows",
        name="fuse",
        reference=_rule,
        cases=_tables,
        observe=_as_numbers,
        section=10,
        hints=(
            "Note for each buffer which row writes it, and how many rows read it.",
            "At each relu look at the row that writes what it reads. If that is a batch_norm, the "
            "buffer has one reader and is not the output, put the new row here and drop that one.",
        ),
        mistakes=(
            Mistake("another row reads what lies between, too, and now nobody writes it",
                    lambda rows, output: _fused(rows, output, ask_rows=False)),
            Mistake("the caller gets what lies between, and now nobody writes it",
                    lambda rows, output: _fused(rows, output, ask_caller=False)),
            Mistake("the ReLU need not be the next row: look for the row that reads what the batch "
                    "norm writes", lambda rows, output: _fused(rows, output, next_row=True)),
            Mistake("the new row stands in the place of the batch norm; it belongs where the "
                    "ReLU was", lambda rows, output: _fused(rows, output, early=True)),
            Mistake("the batch norm's own row is still there, and is done twice", _kept),
            Mistake("only a batch norm can be fused with its ReLU, and no convolution",
                    lambda rows, output: _fused(rows, output, makers=("batch_norm", "conv"))),
            Mistake("an add reads other buffers, too: only a ReLU is fused",
                    lambda rows, output: _fused(rows, output, readers=("relu", "add"))),
        ),
    ),
)  # fmt: skip
