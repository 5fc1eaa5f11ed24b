"""Notebook 09: the roofline."""

from __future__ import annotations

from ... import ops
from ..exercise import Exercise, Mistake

__all__ = ["EXERCISES"]

Shape = tuple[int, ...]
Layers = list[tuple[float, float]]


def _intensity(x_shape: Shape, w_shape: Shape) -> float:
    cost = ops.conv2d_cost(x_shape, w_shape, groups=x_shape[-1] // w_shape[2])
    return cost.multiply_adds / (4 * cost.memory_access)


def _parts(x_shape: Shape, w_shape: Shape) -> tuple[int, int, int, int]:
    cost = ops.conv2d_cost(x_shape, w_shape, groups=x_shape[-1] // w_shape[2])
    n, h, w, c = x_shape
    written = cost.output[0] * cost.output[1] * cost.output[2] * cost.output[3]
    return cost.multiply_adds, n * h * w * c, cost.params, written


def _as_if_padded(x: Shape, w: Shape) -> float:
    outputs = x[0] * x[1] * x[2] * w[3]
    weights = w[0] * w[1] * w[2] * w[3]
    moved = x[0] * x[1] * x[2] * x[3] + weights + outputs
    return outputs * w[0] * w[1] * w[2] / (4 * moved)


def _attainable(intensity: float, peak: float, bandwidth: float) -> float:
    return min(peak, intensity * bandwidth)


def _time(layers: Layers, peak: float, bandwidth: float) -> float:
    return sum(max(adds / peak, moved / bandwidth) for adds, moved in layers)


def _totals(layers: Layers) -> tuple[float, float]:
    return sum(adds for adds, _ in layers), sum(moved for _, moved in layers)


EXERCISES = (
    Exercise(
        key="09.1",
        title="Arithmetic intensity",
        name="intensity",
        reference=_intensity,
        cases=lambda: [
            ((1, 1, 1, 2), (1, 1, 2, 2)), ((1, 4, 4, 4), (3, 3, 1, 4)),
            ((3, 7, 9, 4), (4, 2, 2, 6)), ((2, 28, 28, 58), (1, 1, 58, 58)),
        ],
        section=1,
        hints=(
            "Multiply–adds divided by the bytes that are moved. How many bytes has a float32?",
            "Ho · Wo · O · Kh · Kw · Cg multiply–adds an image, where Cg is the weight's third "
            "side; 4 bytes for each input, weight and output.",
        ),
        mistakes=(
            Mistake("it is per byte, and a float32 has four",
                    lambda *a: 4 * _intensity(*a)),
            Mistake("a float32 has four bytes; eight are a float64",
                    lambda *a: _intensity(*a) / 2),
            Mistake("it is upside down: work for each byte, not bytes for each piece of work",
                    lambda *a: 1 / _intensity(*a)),
            Mistake("image and kernel have two sides each: Ho · Wo and Kh · Kw",
                    lambda x, w: _intensity(x[:2] + x[1:2] + x[3:], w[:1] + w[:1] + w[2:])),
            Mistake("without padding the output is smaller than the input: H - Kh + 1 rows",
                    _as_if_padded, "notebook 01, section 1"),
            Mistake("the outputs are forgotten; they are written",
                    lambda *a: _parts(*a)[0] / (4 * sum(_parts(*a)[1:3]))),
            Mistake("the weights are forgotten; they are read",
                    lambda *a: _parts(*a)[0] / (4 * (_parts(*a)[1] + _parts(*a)[3]))),
            Mistake("FLOPs are counted twice: a multiplication with its addition is one",
                    lambda *a: 2 * _intensity(*a), "notebook 01, section 2"),
            Mistake("the groups are forgotten: an output sums over the weight's third side only",
                    lambda x, w: _intensity(x, w) * x[-1] / w[2], "notebook 02, section 2"),
        ),
    ),
    Exercise(
        key="09.2",
        title="The roof",
        name="attainable",
        reference=_attainable,
        cases=lambda: [(1.0, 10.0, 2.0), (5.0, 10.0, 2.0), (8.0, 10.0, 2.0), (0.25, 1e11, 2e10)],
        section=1,
        hints=(
            "Two limits: the arithmetic, and what the memory can deliver in a second.",
            "Memory delivers bandwidth bytes a second, each good for intensity multiply–adds. "
            "The lower of the two limits holds.",
        ),
        mistakes=(
            Mistake("the lower limit holds, not the higher one",
                    lambda intensity, peak, bandwidth: max(peak, intensity * bandwidth)),
            Mistake("below the ridge memory limits: the peak is not reached",
                    lambda intensity, peak, bandwidth: peak),
            Mistake("the roof is flat at the peak: memory limits no more there",
                    lambda intensity, peak, bandwidth: intensity * bandwidth),
            Mistake("bytes a second times work for each byte: multiply, not divide",
                    lambda intensity, peak, bandwidth: min(peak, bandwidth / intensity)),
        ),
    ),
    Exercise(
        key="09.3",
        title="The time of a net",
        name="predicted_time",
        reference=_time,
        cases=lambda: [
            ([(10.0, 2.0)], 10.0, 4.0), ([(10.0, 2.0), (1.0, 8.0)], 10.0, 4.0),
            ([(5e7, 3e6), (4e5, 8e5), (5e7, 3e6)], 5e10, 1e10),
        ],
        section=2,
        hints=(
            "Each layer waits for the slower of its two: arithmetic or memory.",
            "Add up max(multiply_adds / peak, bytes / bandwidth) over the layers.",
        ),
        mistakes=(
            Mistake("the slower one is taken layer by layer, not for the totals: a layer that "
                    "waits for memory cannot lend its arithmetic to another",
                    lambda layers, peak, bandwidth:
                    max(_totals(layers)[0] / peak, _totals(layers)[1] / bandwidth)),
            Mistake("arithmetic and memory run side by side: take the slower one, not the sum",
                    lambda layers, peak, bandwidth:
                    _totals(layers)[0] / peak + _totals(layers)[1] / bandwidth),
            Mistake("a layer waits for the slower of the two, not for the faster",
                    lambda layers, peak, bandwidth:
                    sum(min(a / peak, b / bandwidth) for a, b in layers)),
            Mistake("the bytes are forgotten: FLOPs are not time",
                    lambda layers, peak, bandwidth: _totals(layers)[0] / peak,
                    "notebook 07, section 1"),
        ),
    ),
)  # fmt: skip
