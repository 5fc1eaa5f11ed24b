"""Search a small space of ShuffleNets for the most multiply-adds that fit a time budget.

ShuffleNet V2 closes with the wish that its guidelines be put into architecture search. Here the
clock takes part directly: every unit of the space is timed once on this machine, a net's time is
the sum of its units' (a look-up table), and a simple evolution varies widths, depths and groups.

The sum is not the net's time, and often less: a unit that is timed alone finds its weights and its
input in the cache, in a net they have made room for those of the others. So what the evolution
finds is timed as a whole, and while that is too slow, the search is repeated with so much less time
by the table.

Multiply-adds stand in for accuracy: nothing is trained. Among nets of one family more of them are
worth more, which is all that is claimed; train what was found.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np

from .. import models
from ..cost import profile
from ..errors import TinyshuffleError
from ..models.shufflenet_v1 import ShuffleUnitV1
from ..models.shufflenet_v2 import ShuffleUnitV2
from ..models.stem import stem_layers
from ..nn import (
    BatchNorm2d,
    Conv2d,
    GlobalAvgPool,
    Linear,
    Module,
    ReLU,
    Sequential,
)
from ..parallel import DataParallel
from .process import Worker
from .progress import Progress
from .run import OURS
from .sides import sides
from .spread import spread

__all__ = [
    "Clock",
    "Entry",
    "Found",
    "Genome",
    "Space",
    "best",
    "evolve",
    "front",
    "parse_latency",
    "ruled_out",
    "within",
]

# groups 0 are V2's units: a channel split instead of groups
GROUPS = (0, 1, 2, 3, 4, 8)
DEPTHS = (2, 3, 4, 6, 8, 12)  # units of a stage
STEM_WIDTH = 24
# of stage 2: multiples of 24 suit every choice of groups but 4 and 8, which 96 suits
WIDTHS = (48, 96, 144, 192, 288)
LAST_WIDTH = 1024
STAGES = 3


@dataclass(frozen=True)
class Genome:
    """A net of the space.

    Attributes
    ----------
    groups : int
        Of V1's units; 0 for V2's.
    widths : tuple of int
        Output channels of each stage.
    depths : tuple of int
        Units of each stage.
    """

    groups: int
    widths: tuple[int, ...]
    depths: tuple[int, ...]

    @property
    def model(self) -> str:
        """Name of the registered model that this is a variant of."""
        return f"shufflenet_v1_x1_0_g{self.groups}" if self.groups else "shufflenet_v2_x0_5"

    @property
    def variant(self) -> dict[str, Any]:
        """What :func:`tinyshuffle.models.create` has to be told beside the name."""
        return {"stage_channels": list(self.widths), "stage_repeats": list(self.depths)}

    def __str__(self) -> str:
        groups = f"{self.groups} group{'s' if self.groups > 1 else ''}"
        family = f"V1 units, {groups}" if self.groups else "V2 units"
        return (
            f"{family}, widths {', '.join(map(str, self.widths))}, "
            f"depths {', '.join(map(str, self.depths))}"
        )


@dataclass(frozen=True)
class Entry:
    """What one part of a net costs: an entry of the look-up table.

    Attributes
    ----------
    seconds : float
    multiply_adds : int
    """

    seconds: float
    multiply_adds: int

    def __add__(self, other: Entry) -> Entry:
        return Entry(self.seconds + other.seconds, self.multiply_adds + other.multiply_adds)


Size = int | tuple[int, int]
"""A side, or height and width."""


def divided(size: Size | Sequence[int], by: int) -> Size:
    """Return what a stride leaves of each side.

    >>> divided(7, 2), divided((480, 641), 4)
    (4, (120, 161))
    """
    return -(-size // by) if isinstance(size, int) else (-(-size[0] // by), -(-size[1] // by))


# ("stem",), ("unit", groups, c, o, stride, size) or ("head", groups, c, size)
Part = tuple[Any, ...]
Table = dict[Part, Entry]


@dataclass(frozen=True)
class Space:
    """The nets that are searched, for images of one size.

    Attributes
    ----------
    size : int or (height, width)
    classes : int
    groups, widths, depths : tuple of int
        The choices. Widths are those of the first stage; each later one has twice as many to
        choose from.
    """

    size: Size
    classes: int = 10
    groups: tuple[int, ...] = GROUPS
    widths: tuple[int, ...] = WIDTHS
    depths: tuple[int, ...] = DEPTHS

    @property
    def stem(self) -> str:
        """Which stem suits the images."""
        return "cifar" if max(sides(self.size)) < 64 else "imagenet"

    @property
    def stage_sizes(self) -> list[Size]:
        """Pixels a side that each stage reads, and the head last."""
        sizes = [divided(self.size, 1 if self.stem == "cifar" else 4)]
        for _ in range(STAGES):
            sizes.append(divided(sizes[-1], 2))
        return sizes

    def choices(self, groups: int, stage: int) -> list[int]:
        """Return the widths that a stage may have."""
        multiple = 4 * groups if groups else 2
        return [w * 2**stage for w in self.widths if w * 2**stage % multiple == 0]

    def parts(self, genome: Genome) -> Iterator[Part]:
        """Return the parts of a net, in order."""
        yield ("stem",)
        c = STEM_WIDTH
        for stage, (o, depth) in enumerate(zip(genome.widths, genome.depths, strict=True)):
            size = self.stage_sizes[stage]
            yield "unit", genome.groups, c, o, 2, size
            for _ in range(depth - 1):
                yield "unit", genome.groups, o, o, 1, divided(size, 2)
            c = o
        yield "head", genome.groups, c, self.stage_sizes[-1]

    def all_parts(self) -> list[Part]:
        """Return every part that a net of this space can have."""
        out: dict[Part, None] = {("stem",): None}
        for groups in self.groups:
            before = [STEM_WIDTH]
            for stage in range(STAGES):
                size, widths = self.stage_sizes[stage], self.choices(groups, stage)
                for o in widths:
                    for c in before:
                        if self._fit(groups, c, o):
                            out["unit", groups, c, o, 2, size] = None
                    out["unit", groups, o, o, 1, divided(size, 2)] = None
                before = widths
            for c in before:
                out["head", groups, c, self.stage_sizes[-1]] = None
        return list(out)

    @staticmethod
    def _fit(groups: int, c: int, o: int) -> bool:
        """Whether a stage of width o may follow one of width c."""
        return o > c if groups else o >= c

    def module(self, part: Part) -> tuple[Module, tuple[int, int, int, int]]:
        """Build a part; return it with the shape of its input for one image."""
        if part[0] == "stem":
            return Sequential(*stem_layers(STEM_WIDTH, self.stem)), (1, *sides(self.size), 3)
        if part[0] == "head":
            _, groups, c, size = part
            # V2 has one more convolution
            conv5 = [] if groups else [
                Conv2d(c, LAST_WIDTH, 1, bias=False), BatchNorm2d(LAST_WIDTH), ReLU()
            ]  # fmt: skip
            fc = Linear(c if groups else LAST_WIDTH, self.classes)
            return Sequential(*conv5, GlobalAvgPool(), fc), (1, *sides(size), c)
        _, groups, c, o, stride, size = part
        unit: Module
        if groups:
            first = 1 if c == STEM_WIDTH else None
            unit = ShuffleUnitV1(c, o, groups, stride, first)
        else:
            unit = ShuffleUnitV2(c, o, stride)
        return unit, (1, *sides(size), c)

    def build(self, genome: Genome) -> DataParallel:
        """Build a net of this space, with initial weights."""
        return models.create(
            genome.model, num_classes=self.classes, stem=self.stem, **genome.variant
        )

    def draw(self, rng: np.random.Generator) -> Genome:
        """Draw a net at random."""
        groups = int(rng.choice(self.groups))
        depths = tuple(int(d) for d in rng.choice(self.depths, STAGES))
        return Genome(groups, self._widths(groups, rng), depths)

    def mutate(self, genome: Genome, rng: np.random.Generator) -> Genome:
        """Change one thing: the groups, the width of a stage, or its depth."""
        what, stage = rng.integers(3), int(rng.integers(STAGES))
        if what == 0:
            groups = int(rng.choice(self.groups))
            widths = genome.widths if self._possible(groups, genome.widths) else None
            return replace(genome, groups=groups, widths=widths or self._widths(groups, rng))
        if what == 1:
            values = list(genome.widths)
            values[stage] = int(rng.choice(self.choices(genome.groups, stage)))
            possible = self._possible(genome.groups, values)
            return replace(genome, widths=tuple(values)) if possible else genome
        depths = list(genome.depths)
        depths[stage] = int(rng.choice(self.depths))
        return replace(genome, depths=tuple(depths))

    def _widths(self, groups: int, rng: np.random.Generator) -> tuple[int, ...]:
        while True:
            widths = [int(rng.choice(self.choices(groups, stage))) for stage in range(STAGES)]
            if self._possible(groups, widths):
                return tuple(widths)

    def _possible(self, groups: int, widths: Any) -> bool:
        steps = zip((STEM_WIDTH, *widths), widths, strict=False)
        return all(w in self.choices(groups, i) for i, w in enumerate(widths)) and all(
            self._fit(groups, c, o) for c, o in steps
        )

    def cost(self, genome: Genome, table: Table) -> Entry:
        """Add up what the look-up table says of a net's parts."""
        total = Entry(0.0, 0)
        for part in self.parts(genome):
            total = total + table[part]
        return total

    def fastest(self, table: Table) -> tuple[Genome, Entry]:
        """Return the net that takes the least time.

        The shallowest of each choice of groups and widths: there is nothing faster.
        """
        shallow = (min(self.depths),) * STAGES
        nets = [
            Genome(groups, (a, b, c), shallow)
            for groups in self.groups
            for a in self.choices(groups, 0)
            for b in self.choices(groups, 1)
            for c in self.choices(groups, 2)
            if self._possible(groups, (a, b, c))
        ]
        costs = [(genome, self.cost(genome, table)) for genome in nets]
        return min(costs, key=lambda pair: pair[1].seconds)


def evolve(
    space: Space,
    table: Table,
    latency: float,
    seed: int = 0,
    population: int = 64,
    generations: int = 60,
) -> dict[Genome, Entry]:
    """Search for the net of the most multiply-adds within a time budget.

    The better half of a population lives on; each of it has a child that differs in one thing.

    Parameters
    ----------
    space : Space
    table : dict
        An :class:`Entry` for each part.
    latency : float
        Seconds.
    seed, population, generations : int

    Returns
    -------
    dict
        Every net that was looked at, with its cost; :func:`best` picks.

    Raises
    ------
    TinyshuffleError
        If no net of the space is that fast.
    """
    genome, entry = space.fastest(table)
    if entry.seconds > latency:
        raise TinyshuffleError(
            f"no net of the space takes {1e3 * latency:.3g} ms or less: the fastest one there is "
            f"takes {1e3 * entry.seconds:.3g} ms ({genome}); allow that, or use smaller images"
        )
    rng = np.random.default_rng(seed)
    seen: dict[Genome, Entry] = {genome: entry}

    def fitness(genome: Genome) -> tuple[float, float]:
        if genome not in seen:
            seen[genome] = space.cost(genome, table)
        found = seen[genome]
        late = found.seconds > latency  # the least late is the best of those that are late
        return (-found.seconds, 0.0) if late else (0.0, float(found.multiply_adds))

    living = [genome, *(space.draw(rng) for _ in range(population - 1))]
    for _ in range(generations):
        living.sort(key=fitness, reverse=True)
        parents = living[: population // 2]
        children = [space.mutate(parent, rng) for parent in parents]
        living = [*dict.fromkeys(parents + children)]
        living += [space.draw(rng) for _ in range(population - len(living))]
    for genome in living:
        fitness(genome)
    return seen


def best(seen: dict[Genome, Entry], latency: float) -> Genome:
    """Return the net of the most multiply-adds among those within the budget."""
    fit = {genome: entry for genome, entry in seen.items() if entry.seconds <= latency}
    return max(fit, key=lambda genome: (fit[genome].multiply_adds, -fit[genome].seconds))


def front(seen: Mapping[Genome, Entry]) -> list[Genome]:
    """Return the nets that no other one beats in both: less time, and more multiply-adds.

    In the order of their times.
    """
    out: list[Genome] = []
    most = -1
    for genome in sorted(seen, key=lambda g: (seen[g].seconds, -seen[g].multiply_adds)):
        if seen[genome].multiply_adds > most:
            most = seen[genome].multiply_adds
            out.append(genome)
    return out


@dataclass(frozen=True)
class Found:
    """What a search found.

    Attributes
    ----------
    genome : Genome
        The net, whose time as a whole is within the budget.
    measured : dict of Genome to float
        Seconds of every net that was timed as a whole, in that order; the one that fits is last.
    seen : dict of Genome to Entry
        Every net that was looked at, with its cost by the look-up table.
    """

    genome: Genome
    measured: dict[Genome, float]
    seen: dict[Genome, Entry]


def within(
    space: Space, table: Table, latency: float, measure: Callable[[Genome], float], seed: int = 0
) -> Found:
    """Search for the net of the most multiply-adds whose measured time is within a budget.

    Parameters
    ----------
    space : Space
    table : dict
        An :class:`Entry` for each part.
    latency : float
        Seconds.
    measure : function
        Seconds of a net as a whole, such as :meth:`Clock.net`.
    seed : int

    Raises
    ------
    TinyshuffleError
        If not even the fastest net of the space is that fast.
    """
    seen: dict[Genome, Entry] = {}
    measured: dict[Genome, float] = {}
    allowed = latency  # by the table
    fastest, entry = space.fastest(table)
    while entry.seconds <= allowed:
        seen |= evolve(space, table, allowed, seed)
        genome = best(seen, allowed)
        measured[genome] = seconds = measure(genome)
        if seconds <= latency:
            return Found(genome, measured, seen)
        # Less than this net has by the table: it is not looked at again, and the loop ends.
        allowed = seen[genome].seconds * latency / seconds
    if fastest not in measured:
        measured[fastest] = measure(fastest)
        if measured[fastest] <= latency:
            return Found(fastest, measured, seen | {fastest: entry})
    raise TinyshuffleError(
        f"no net of the space takes {1e3 * latency:.3g} ms or less: the fastest one there is "
        f"takes {1e3 * measured[fastest]:.3g} ms ({fastest}); allow that, or use smaller images"
    )


class Clock:
    """Times parts and nets of a space, in a process of its own: ``with Clock(…) as clock:``.

    Parameters
    ----------
    space : Space
    threads : int
    seconds : float
        How long each part runs.
    """

    def __init__(self, space: Space, threads: int, seconds: float = 0.02) -> None:
        self.space, self.seconds = space, seconds
        job = {
            "kind": OURS, "train": False, "batch": 1, "classes": space.classes,
            "threads": threads, "weights": "", "empty": True, "space": asdict(space),
        }  # fmt: skip
        self._worker = Worker(OURS, job)

    def __enter__(self) -> Clock:
        self._worker.ready()
        return self

    def __exit__(self, *_: object) -> None:
        self._worker.close()

    def _time(
        self, shape: tuple[int, int, int, int], bursts: int = 1, **what: Any
    ) -> float:
        more = {"size": shape[1:3], "channels": shape[3], **what}
        self._worker.ask("hold", nets={"": more})
        self._worker.ask("run", seconds=0, least=2)  # warm now
        return spread([
            spread(self._worker.ask("run", seconds=self.seconds, least=5)).median
            for _ in range(bursts)
        ]).median

    def net(self, genome: Genome) -> float:
        """Return the seconds of a whole net: the median of several bursts of passes."""
        shape = 1, *sides(self.space.size), 3
        return self._time(shape, bursts=15, genome=asdict(genome))

    def table(self, progress: Progress) -> Table:
        """Time every part of the space, and count its multiply-adds.

        What each pass takes whatever it computes is part of the stem's time, and of no other's.
        """
        nothing = self._time((1, 1, 1, 3), plan=[])
        parts, table = self.space.all_parts(), {}
        for i in progress.rounds("look-up table", len(parts)):
            part = parts[i]
            net, shape = self.space.module(part)
            seconds = self._time(shape, part=part)
            if part[0] != "stem":
                seconds = max(0.0, seconds - nothing)
            table[part] = Entry(seconds, profile(net, shape).total.multiply_adds)
        return table


def ruled_out(seen: Mapping[Genome, Entry], winner: Genome) -> str:
    """Say which nets V2's guidelines would have ruled out, and what that would have cost.

    V1's units have a bottleneck of a quarter (against G1), an addition (against G4) and, but for
    g = 1, groups (against G2); V2's were built so that they have none of the three.

    Parameters
    ----------
    seen : mapping of Genome to Entry
        All nets that were looked at.
    winner : Genome
    """
    against = [genome for genome in seen if genome.groups]
    seconds = seen[winner].seconds
    best = {
        kind: max(
            (entry.multiply_adds for genome, entry in seen.items()
             if bool(genome.groups) == kind and entry.seconds <= seconds), default=0
        )
        for kind in (True, False)
    }  # fmt: skip
    words = {
        kind: f"{adds / 1e6:.1f} M" if adds else "none of them" for kind, adds in best.items()
    }
    return (
        f"V2's guidelines would rule out {len(against)} of {len(seen)} nets: V1's units, which "
        "have a bottleneck (G1), an addition (G4) and, but for g = 1, groups (G2). In the time of "
        f"what was found, by parts, the most multiply-adds are {words[True]} with V1's units, and "
        f"{words[False]} with V2's"
    )


def parse_latency(text: str) -> float:
    """Return the seconds that a text such as ``2ms``, ``1.5 ms`` or ``800us`` says.

    >>> [parse_latency(text) for text in ("2ms", "1.5 ms", "800us", "0.01 s")]
    [0.002, 0.0015, 0.0008, 0.01]
    """
    found = re.fullmatch(r"\s*(\d+\.?\d*|\.\d+)\s*(s|ms|us|µs|μs)\s*", text)
    scale = {"s": 1.0, "ms": 1e3}.get(found[2], 1e6) if found else 1.0
    if found is None or float(found[1]) == 0:
        raise TinyshuffleError(
            f"{text!r} is not a time: give a number above 0 and its unit, such as 2ms or 800us"
        )
    return float(found[1]) / scale
