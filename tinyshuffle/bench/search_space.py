"""The nets that are searched: V1's and V2's units in three stages of many widths and depths."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from .. import models
from ..models.shufflenet_v1 import ShuffleUnitV1
from ..models.shufflenet_v2 import ShuffleUnitV2
from ..models.stem import stem_layers
from ..nn import BatchNorm2d, Conv2d, GlobalAvgPool, Linear, Module, ReLU, Sequential
from ..parallel import DataParallel
from .libraries import height_and_width

__all__ = [
    "RULES", "Entry", "Genome", "Part", "Rule", "Space", "Table", "anything", "divided",
    "obeys", "ruled_out_by",
]  # fmt: skip

# groups 0 are V2's units: a channel split instead of groups
GROUPS = (0, 1, 2, 3, 4, 8)
DEPTHS = (2, 3, 4, 6, 8, 12)  # units of a stage
STEM_WIDTH = 24
# of stage 2: multiples of 24 suit every choice of groups but 4 and 8, which 96 suits
WIDTHS = (48, 96, 144, 192, 288)
LAST_WIDTH = 1024
STAGES = 3

BOTTLENECK = 4  # of V1's units, which V2's authors name as against G1
RULES = {
    "G1": f"1x1 convolutions with {BOTTLENECK} times the channels, or a {BOTTLENECK}th",
    "G2": "groups",
    "G3": "more than two branches (no unit here has them)",
    "G4": "additions",
}
"""V2's guidelines (section 2), as what each of them forbids the units of a net."""


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


def ruled_out_by(genome: Genome) -> tuple[str, ...]:
    """Return which of V2's guidelines a net is against.

    V1's units have a bottleneck of a quarter, an addition and, but for g = 1, groups. V2's were
    built to have none of these; but where a stage is many times as wide as what it reads, their
    first convolutions are as uneven as a bottleneck.

    >>> ruled_out_by(Genome(3, (240, 480, 960), (4, 8, 4)))
    ('G1', 'G2', 'G4')
    >>> ruled_out_by(Genome(0, (48, 96, 192), (4, 8, 4)))
    ()
    >>> ruled_out_by(Genome(0, (192, 384, 768), (4, 8, 4)))  # 24 to 96 channels
    ('G1',)
    """
    if genome.groups:
        return ("G1", "G2", "G4") if genome.groups > 1 else ("G1", "G4")
    steps = zip((STEM_WIDTH, *genome.widths), genome.widths, strict=False)
    return ("G1",) if any(o // 2 >= BOTTLENECK * c for c, o in steps) else ()


def obeys(genome: Genome) -> bool:
    """Return whether no guideline rules out a net."""
    return not ruled_out_by(genome)


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


Rule = Callable[[Genome], bool]
"""Whether a net takes part in a search."""


def anything(_: Genome) -> bool:
    """Allow every net."""
    return True


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
        return "cifar" if max(height_and_width(self.size)) < 64 else "imagenet"

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
            stem = Sequential(*stem_layers(STEM_WIDTH, self.stem))
            return stem, (1, *height_and_width(self.size), 3)
        if part[0] == "head":
            _, groups, c, size = part
            # V2 has one more convolution
            conv5 = [] if groups else [
                Conv2d(c, LAST_WIDTH, 1, bias=False), BatchNorm2d(LAST_WIDTH), ReLU()
            ]  # fmt: skip
            fc = Linear(c if groups else LAST_WIDTH, self.classes)
            return Sequential(*conv5, GlobalAvgPool(), fc), (1, *height_and_width(size), c)
        _, groups, c, o, stride, size = part
        unit: Module
        if groups:
            first = 1 if c == STEM_WIDTH else None
            unit = ShuffleUnitV1(c, o, groups, stride, first)
        else:
            unit = ShuffleUnitV2(c, o, stride)
        return unit, (1, *height_and_width(size), c)

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

    def shallowest(self) -> list[Genome]:
        """Return a net of the fewest units for each choice of groups and widths."""
        shallow = (min(self.depths),) * STAGES
        return [
            Genome(groups, (a, b, c), shallow)
            for groups in self.groups
            for a in self.choices(groups, 0)
            for b in self.choices(groups, 1)
            for c in self.choices(groups, 2)
            if self._possible(groups, (a, b, c))
        ]

    def count(self, rule: Rule) -> int:
        """Return how many nets a rule allows that does not ask for depths."""
        return len(self.depths) ** STAGES * sum(map(rule, self.shallowest()))

    def fastest(self, table: Table, rule: Rule = anything) -> tuple[Genome, Entry]:
        """Return the net that takes the least time of those that a rule allows.

        The shallowest of each choice of groups and widths: there is nothing faster.
        """
        costs = [(genome, self.cost(genome, table)) for genome in filter(rule, self.shallowest())]
        return min(costs, key=lambda pair: pair[1].seconds)
