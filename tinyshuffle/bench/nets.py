"""Whole nets and stacks of units: their times beside the papers', and what foretells them.

ShuffleNet V2's argument is that multiply-adds do not tell time. Here it becomes three numbers: the
rank correlations of measured time with multiply-adds, with memory access, and with the roofline
model.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from ..cost import profile
from ..cost.roofline import Speeds, roofline
from ..machine import Machine
from ..models import create
from ..models.mobilenet_v2 import InvertedResidual
from ..models.shufflenet_v1 import ShuffleUnitV1
from ..models.shufflenet_v2 import ShuffleUnitV2
from ..nn import Module, Sequential
from ..parallel import DataParallel
from .libraries import height_and_width
from .predicted import correlation
from .process import OURS, Worker, alone, cleared
from .progress import Progress
from .spread import Spread, spread

__all__ = ["NETS", "UNITS", "Row", "Rows", "Subject", "measure_rows", "stack"]

REPEATS = 10  # units in a stack: Appendix Table 1 (b)


@dataclass(frozen=True)
class Subject:
    """A net, or a stack of equal units.

    Attributes
    ----------
    name : str
    size : int or (height, width)
        Pixels a side.
    published : dict
        Column of a paper's table to seconds there.
    model : str
        One of the registered nets; empty for a stack.
    variant : dict
        What the net takes.
    unit, channels : str, int
        Of a stack: one of ``v2``, ``v1``, ``mobilenet v2``, ``xception``.
    """

    name: str
    size: int | tuple[int, int]
    published: dict[str, float]
    model: str = ""
    unit: str = ""
    channels: int = 3
    variant: dict[str, Any] = field(default_factory=dict)

    def build(self) -> DataParallel:
        """Build it."""
        if self.model:
            return create(self.model, **self.variant)
        return stack(self.unit, self.channels)

    @property
    def shape(self) -> tuple[int, int, int, int]:
        """Of its input: a single image."""
        return 1, *height_and_width(self.size), self.channels


def stack(unit: str, channels: int) -> DataParallel:
    """Build ten units of a kind."""
    net = Sequential(*[_UNITS[unit][0](channels) for _ in range(REPEATS)])
    net.initialise(0)
    return DataParallel(net)


# How each unit of stride 1 is built, its multiply-adds for a pixel, and what divides its channels.
_Unit = tuple[Callable[[int], Module], Callable[[int], float], int]
_UNITS: dict[str, _Unit] = {
    "v2": (lambda c: ShuffleUnitV2(c, c, 1), lambda c: c * c / 2 + 4.5 * c, 2),
    "v1": (lambda c: ShuffleUnitV1(c, c, 3, 1), lambda c: c * c / 6 + 2.25 * c, 12),
    "mobilenet v2": (lambda c: InvertedResidual(c, c, 1, 6), lambda c: 12 * c * c + 54 * c, 1),
    # the V1 paper's: its unit without groups
    "xception": (lambda c: ShuffleUnitV1(c, c, 1, 1), lambda c: c * c / 2 + 2.25 * c, 4),
}


def equal_channels(unit: str, of: int) -> int:
    """Return the channels at which a unit costs nearest to ShuffleNet V2's of ``of`` channels.

    >>> [equal_channels(unit, 128) for unit in ("v2", "v1", "mobilenet v2", "xception")]
    [128, 228, 25, 132]
    """
    _, count, multiple = _UNITS[unit]
    target = _UNITS["v2"][1](of)
    widths = range(multiple, 4 * of + multiple, multiple)
    return min(widths, key=lambda c: abs(count(c) - target))


def _net(
    model: str, gpu: float = 0, arm: float = 0, v1_arm: float = 0, size: int = 224
) -> Subject:
    published = {}
    if gpu:
        published["V2 GPU"] = 1 / gpu
    if arm:
        published["V2 ARM"] = 1 / arm
    if v1_arm:
        published["V1 ARM"] = v1_arm / 1e3
    return Subject(model + (f" at {size}" if size != 224 else ""), size, published, model)


# V2, Table 8: batches of 8 a second on a GTX 1080Ti, images a second on a Snapdragon 810; V1, Table
# 8: milliseconds on a Snapdragon 820. The papers' DenseNets, Xceptions and IGCV2s are not published
# in enough detail; of CondenseNets no speed is printed, nor of V1 with squeeze-and-excitation, of
# which the text says that it takes 25 to 40 % longer on a phone.
NETS = [
    _net("shufflenet_v2_x1_0", 341, 24.4),
    _net("shufflenet_v2_x0_5", 417, 57.0),
    _net("shufflenet_v2_x1_5", 255, 11.8),
    _net("shufflenet_v2_x2_0", 217, 6.7),
    _net("shufflenet_v1_x0_5_g3", 347, 56.8, 15.2),
    _net("shufflenet_v1_x1_0_g3", 213, 21.8, 37.8),
    _net("shufflenet_v1_x1_5_g3", 164, 10.3),
    _net("shufflenet_v1_x2_0_g3", 133, 6.4, 108.8),
    _net("mobilenet_v1_x0_25", 502, 36.4),
    _net("mobilenet_v1_x0_5", 382, 16.5),
    _net("mobilenet_v1_x0_75", 314, 10.6),
    _net("mobilenet_v1_x1_0", 247, 6.5, 110.0),
    _net("mobilenet_v2_x0_15", 351, 33.6),
    _net("mobilenet_v2_x0_4", 333, 33.2, size=160),
    _net("mobilenet_v2_x0_6", 249, 14.9),
    _net("mobilenet_v2_x0_75", 235, 15.9, size=192),
    _net("mobilenet_v2", 180, 8.9),
    _net("mobilenet_v2_x1_4", 137, 5.4),
    _net("alexnet", v1_arm=184.0),
    Subject("shufflenet_v2_x2_0 with SE", 224, {"V2 GPU": 1 / 161, "V2 ARM": 1 / 5.6},
            "shufflenet_v2_x2_0", variant={"se": True}),
    Subject("shufflenet_v1_x2_0_g3 with SE", 224, {}, "shufflenet_v1_x2_0_g3",
            variant={"se": True}),
    *[Subject(f"igcv3 at {width}x", 224, {"V2 GPU": 1 / gpu, "V2 ARM": 1 / arm}, "igcv3",
              variant={"width": width})
      for width, gpu, arm in ((0.7, 143, 11.7), (1.0, 102, 6.3), (1.4, 82, 4.5))],
    _net("nasnet_a_mobile", 130, 4.6),
    _net("pnasnet5_mobile", 115, 4.1),
]

# V2, Appendix Table 1 (b): GPU and ARM, for 64, 128 and 256 channels of ShuffleNet V2.
_APPENDIX = {
    (56, "v2"): ((216, 142, 81), (34.8, 12.3, 3.9)),
    (56, "v1"): ((127, 73, 45), (24.3, 9.4, 3.0)),
    (56, "mobilenet v2"): ((89, 125, 69), (25.8, 10.0, 3.0)),
    (56, "xception"): ((185, 52, 68), (27.0, 9.7, 3.1)),
    (28, "v2"): ((407, 313, 237), (174.5, 53.4, 16.6)),
    (28, "v1"): ((298, 222, 60), (139.7, 43.9, 13.2)),
    (28, "mobilenet v2"): ((381, 286, 189), (118.3, 46.2, 13.3)),
    (28, "xception"): ((254, 238, 169), (117.0, 45.8, 14.0)),
}
UNITS = [
    Subject(
        f"{unit}, c={of}, {size}x{size}",
        size,
        {"V2 GPU": 1 / gpu[i], "V2 ARM": 1 / arm[i]},
        unit=unit,
        channels=equal_channels(unit, of),
    )
    for i, of in enumerate((64, 128, 256))
    for (size, unit), (gpu, arm) in _APPENDIX.items()
]


@dataclass(frozen=True)
class Row:
    """What one of them took, and what foretold it.

    Attributes
    ----------
    subject : Subject
    seconds : list of float
        The median of each turn.
    multiply_adds, memory_access : int
    predicted : float
        Seconds, by the roofline model.
    """

    subject: Subject
    seconds: list[float]
    multiply_adds: int
    memory_access: int
    predicted: float

    @property
    def spread(self) -> Spread:
        """Of the turns."""
        return spread(self.seconds)


@dataclass(frozen=True)
class Rows:
    """All rows, and what ran."""

    rows: list[Row]
    machine: Machine
    cleared: list[str]

    def relative(self, row: Row) -> Spread:
        """Return a row's time by the first row's, turn by turn: a busy machine slows down both."""
        return spread([a / b for a, b in zip(row.seconds, self.rows[0].seconds, strict=True)])

    def correlations(self) -> dict[str, float]:
        """Return the rank correlation of measured time with what should foretell it."""
        times = [row.spread.median for row in self.rows]
        return {
            "multiply-adds": correlation(times, [row.multiply_adds for row in self.rows]),
            "memory access": correlation(times, [row.memory_access for row in self.rows]),
            "roofline model": correlation(times, [row.predicted for row in self.rows]),
        }

    def published(self) -> dict[str, float]:
        """Return the rank correlation of measured time with each column of the papers."""
        columns = list(dict.fromkeys(c for row in self.rows for c in row.subject.published))
        out = {}
        for column in columns:
            both = [
                (row.spread.median, row.subject.published[column])
                for row in self.rows
                if column in row.subject.published
            ]
            out[column] = correlation(*zip(*both, strict=True))
        return out

    def to_dict(self) -> dict[str, Any]:
        """Return everything as JSON can hold it."""
        return {
            "machine": self.machine.to_dict(),
            "cleared": self.cleared,
            "correlations": self.correlations(),
            "correlations_with_published": self.published(),
            "rows": [
                asdict(row) | {"name": row.subject.name, "spread": asdict(row.spread)}
                for row in self.rows
            ],
        }


def measure_rows(
    subjects: Sequence[Subject],
    speeds: Speeds,
    threads: int,
    rounds: int,
    burst: float,
    progress: Progress,
) -> Rows:
    """Time nets or stacks on one image, in turn, and predict them.

    Parameters
    ----------
    subjects : sequence of Subject
    speeds : Speeds
        Of this machine, with one image at a time.
    threads, rounds : int
    burst : float
        Seconds of a turn.
    progress : Progress
    """
    job = {
        "kind": OURS, "train": False, "batch": 1, "classes": 1000, "stem": "imagenet",
        "threads": threads, "weights": "", "empty": True, "settle": True,
    }  # fmt: skip
    times: dict[str, list[float]] = {subject.name: [] for subject in subjects}
    progress.phase("building the nets")
    with Worker(OURS, job) as worker:
        worker.ready()
        worker.ask("hold", nets={subject.name: asdict(subject) for subject in subjects})
        for name in times:
            worker.ask("run", net=name, seconds=burst, least=2)  # warm now
        for _ in progress.rounds("nets", rounds):
            for name, turns in times.items():
                worker.ask("run", net=name, seconds=0, least=1)  # brings it back to the caches
                runs = worker.ask("run", net=name, seconds=burst, least=1)
                turns.append(spread(runs).median)
    machine = alone({**job, "kind": "machine"}, OURS)["machine"]
    rows = []
    for subject in subjects:
        net = subject.build()
        total = profile(net, subject.shape).total
        predicted = roofline(net, subject.shape, speeds).seconds
        rows.append(
            Row(subject, times[subject.name], total.multiply_adds, total.memory_access, predicted)
        )
    return Rows(rows, Machine(**machine), cleared())
