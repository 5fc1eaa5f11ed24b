"""Predict a net's time from its multiply-adds and its memory access.

The roofline says that an operation takes at least the time of its multiply-adds and at least the
time of its bytes. What is predicted here is their sum, because the kernels do one after the other,
block by block, and a constant for each call::

    seconds = call + multiply-adds / peak + (passes · activations + packing · weights) / bandwidth

The bandwidth is that of the operation's working set: what fits a cache moves faster. The other four
numbers belong to a class of operations and shapes (:data:`CLASSES`) and are fitted to operations
that were made up for it (``tinyshuffle.bench.calibrate``), never to the net that is predicted.

Williams, Waterman and Patterson 2009, "Roofline: an insightful visual performance model".
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from math import log, prod
from typing import Any

import numpy as np

from ..nn import Module
from ..parallel import DataParallel, _chunk
from ..plan import cut, fuse
from .counting import Count, count_of, traced
from .profile import kind_of, named_net

__all__ = ["CLASSES", "Operation", "Prediction", "Rates", "Speeds", "operations", "roofline"]

LARGE = 2**16  # weights of a group beyond which BLAS multiplies; see kernels.norm_conv

CLASSES = (
    "pointwise",
    "grouped pointwise",
    "large pointwise",
    "depthwise",
    "depthwise, stride 2",
    "dense",
    "linear",
    "shuffle",
    "element-wise",
    "max pool",
    "avg pool",
    "global pool",
)
"""A large pointwise convolution is one whose weights are too many for a kernel's cache, or that has
no batch norm behind it: BLAS multiplies. ``dense`` is all that is larger than 1x1."""


@dataclass(frozen=True)
class Operation:
    """One operation as a core runs it.

    Attributes
    ----------
    layer, operation, kind : str
        As ``tinyshuffle bench layers`` has them: a batch norm, a ReLU and a shuffle behind a
        convolution run with it.
    shape_class : str
        One of :data:`CLASSES`.
    multiply_adds, activations, weights : int
        Of one call; activations and weights in bytes, each tensor once.
    calls : float
        Of each core, one after the other.
    """

    layer: str
    operation: str
    kind: str
    shape_class: str
    multiply_adds: int
    activations: int
    weights: int
    calls: float

    @property
    def nbytes(self) -> int:
        """Of one call."""
        return self.activations + self.weights


@dataclass(frozen=True)
class Rates:
    """What a class of operations costs.

    Attributes
    ----------
    call : float
        Seconds.
    multiply_add : float
        Seconds: two over the peak, in FLOP/s.
    passes, packing : float
        How often activations and weights are read or written, at the bandwidth of the working set.
    """

    call: float
    multiply_add: float
    passes: float
    packing: float


@dataclass(frozen=True)
class Speeds:
    """A machine, measured with so many cores at work at once.

    Attributes
    ----------
    cores : int
    peak : float
        FLOP/s of a core in a large matrix product.
    bandwidths : list of (int, float)
        Bytes of a core's working set, and bytes a second that it moves.
    rates : dict
        Of each of :data:`CLASSES`.
    between : float
        Seconds between one operation and the next: Python.
    start : float
        Seconds of a pass of which no layer knows: threads, and laying the results together.
    """

    cores: int
    peak: float
    bandwidths: list[tuple[int, float]]
    rates: dict[str, Rates]
    between: float
    start: float

    def bandwidth(self, nbytes: float) -> float:
        """Return the bytes a second that a core moves in a working set of ``nbytes``.

        >>> machine = Speeds(1, 1e11, [(2**16, 64e9), (2**20, 16e9)], {}, 0, 0)
        >>> round(machine.bandwidth(2**18) / 1e9, 6)
        32.0
        """
        sizes = [log(size) for size, _ in self.bandwidths]
        speeds = [log(speed) for _, speed in self.bandwidths]
        return float(np.exp(np.interp(log(max(1, nbytes)), sizes, speeds)))

    def features(self, operation: Operation) -> tuple[float, float, float, float]:
        """What the four numbers of :class:`Rates` are multiplied with, for one call."""
        speed = self.bandwidth(operation.nbytes)
        return (
            1.0, operation.multiply_adds, operation.activations / speed, operation.weights / speed
        )  # fmt: skip

    def seconds(self, operation: Operation) -> float:
        """Return the predicted time of all calls."""
        r = self.rates[operation.shape_class]
        call = np.dot((r.call, r.multiply_add, r.passes, r.packing), self.features(operation))
        return float(operation.calls * call)

    def to_dict(self) -> dict[str, Any]:
        """Return everything as JSON can hold it."""
        return asdict(self)

    @staticmethod
    def from_dict(values: dict[str, Any]) -> Speeds:
        """Return what ``to_dict`` was called on."""
        rates = {name: Rates(**rate) for name, rate in values["rates"].items()}
        bandwidths = [(int(size), float(speed)) for size, speed in values["bandwidths"]]
        return Speeds(**values | {"rates": rates, "bandwidths": bandwidths})


@dataclass(frozen=True)
class Prediction:
    """A net's time in evaluation, layer by layer; ``print`` it for a table.

    Attributes
    ----------
    net : str
    input_shape : tuple of int
    speeds : Speeds
    operations : list of Operation
    layer_seconds : list of float
        Of each operation: of all calls that a core makes.
    """

    net: str
    input_shape: tuple[int, ...]
    speeds: Speeds
    operations: list[Operation]
    layer_seconds: list[float]

    @property
    def seconds(self) -> float:
        """Of the whole net: the layers, Python between them, and the start."""
        calls = sum(operation.calls for operation in self.operations)
        return sum(self.layer_seconds) + calls * self.speeds.between + self.speeds.start

    def __str__(self) -> str:
        width = max(len(operation.layer) for operation in self.operations)
        lines = [
            f"{operation.layer.ljust(width)}  {operation.shape_class.ljust(19)} "
            f"{1e3 * seconds:9.4f} ms"
            for operation, seconds in zip(self.operations, self.layer_seconds, strict=True)
        ]
        shape = "x".join(map(str, self.input_shape))
        return "\n".join([
            *lines,
            "",
            f"{self.net}, input {shape}: {1e3 * self.seconds:.3f} ms predicted, of which layers "
            f"{1e3 * sum(self.layer_seconds):.3f} ms",
        ])


def roofline(
    net: Module | str,
    input_shape: tuple[int, ...],
    machine: Speeds,
    **variant: Any,
) -> Prediction:
    """Predict how long a net takes in evaluation.

    Parameters
    ----------
    net : Module or str
        A net, or the name of a registered one, as for :func:`tinyshuffle.cost.profile`.
    input_shape : (N, H, W, C)
    machine : Speeds
        Of this machine they come from :func:`tinyshuffle.bench.calibrate.this_machine`.
    **variant
        For a net given by name, what :func:`tinyshuffle.models.create` takes.

    Raises
    ------
    TinyshuffleError
        If a layer has no cost, or the input does not fit.

    >>> rates = {name: Rates(1e-6, 1e-11, 1.0, 1.0) for name in CLASSES}
    >>> machine = Speeds(1, 2e11, [(2**16, 5e10), (2**24, 2e10)], rates, 1e-6, 1e-5)
    >>> small, large = (roofline("shufflenet_v2_x0_5", (n, 32, 32, 3), machine) for n in (1, 8))
    >>> small.seconds < large.seconds < 8 * small.seconds
    True
    """
    name, module = named_net(net, input_shape, variant)
    found = operations(module, input_shape, machine.cores)
    return Prediction(name, tuple(input_shape), machine, found, [machine.seconds(o) for o in found])


def operations(net: Module, input_shape: tuple[int, ...], cores: int) -> list[Operation]:
    """Return the operations that each core runs in evaluation, without running anything."""
    net = net.net if isinstance(net, DataParallel) else net
    slices = cut(input_shape[0], cores)
    images = slices[-1].stop - slices[-1].start
    chunk = _chunk(input_shape, slices)
    modules = dict(net.named_modules())
    out: list[Operation] = []
    for row in fuse(traced(net, (chunk, *input_shape[1:]))).rows:
        parts = row.parts or (row,)
        # a fused row is named after its convolution, or after its last part
        part = next((p for p in parts if p.operation.endswith("conv2d")), parts[-1])
        out.append(_operation(count_of(modules, part), row.operation, images / chunk))
    return out


def _operation(count: Count, name: str, calls: float) -> Operation:
    kind = "shuffle" if name == "concat_shuffle" else kind_of(count)
    weights = 0 if count.weight is None else prod(count.weight)
    return Operation(
        layer=count.layer,
        operation=name,
        kind=kind,
        shape_class=_class(count, name, kind, weights),
        multiply_adds=count.cost.multiply_adds,
        activations=4 * (count.cost.memory_access - weights),
        weights=4 * weights,
        calls=calls,
    )


def _class(count: Count, name: str, kind: str, weights: int) -> str:
    if kind == "pointwise":
        if name != "conv_norm" or weights // count.groups > LARGE or count.operation == "conv2d":
            return "large pointwise"
        return "grouped pointwise" if count.groups > 1 else "pointwise"
    if kind == "depthwise":
        return "depthwise, stride 2" if count.cost.output[1] < count.input[1] else "depthwise"
    if kind in ("dense", "grouped"):
        return "dense"
    if kind == "pooling":
        word = count.operation.partition("_pool")[0]
        return {"max": "max pool", "avg": "avg pool"}.get(word, "global pool")
    return "element-wise" if kind == "batch norm" else kind
