"""Search a small space of ShuffleNets for the most multiply-adds that fit a time budget.

ShuffleNet V2 closes with the wish that its guidelines be put into architecture search. Here they
choose the nets that take part (:func:`.search_space.ruled_out_by`), and the clock judges those:
every unit of the space is timed once on this machine, a net's time is the sum of its units' (a
look-up table), and a simple evolution varies widths and depths. What the guidelines rule out is
searched as well, apart, so that everybody can see what they cost or save on this machine.

The sum is not the net's time. It is often less: a unit that is timed alone finds its weights and
its input in the cache, in a net they have made room for those of the others. It is often more: a
net of small units has fewer calls to make than its parts have. So what the evolution finds is timed
as a whole, and the search is repeated with as much more or less time by the table.

Multiply-adds stand in for accuracy: nothing is trained. Among nets of one family more of them are
worth more, which is all that is claimed, and one more reason to rule out the other; train what was
found.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass
from functools import cache, partial
from typing import Any

import numpy as np

from ..cost.profile import profile
from ..errors import TinyshuffleError
from .libraries import height_and_width
from .process import OURS, Worker
from .progress import Progress
from .search_space import (
    RULES,
    Entry,
    Genome,
    Rule,
    Space,
    Table,
    anything,
    obeys,
    ruled_out_by,
)
from .spread import spread

__all__ = [
    "Clock", "Found", "Guided", "NoneFits", "best", "evolve", "front", "guided", "parse_latency",
    "within",
]  # fmt: skip




class NoneFits(TinyshuffleError):
    """Not even the fastest net of a search is within its budget."""

    def __init__(self, latency: float, fastest: Genome, seconds: float) -> None:
        which = "that V2's guidelines allow " if obeys(fastest) else ""
        super().__init__(
            f"no net of the space {which}takes {1e3 * latency:.3g} ms or less: the fastest one "
            f"there is takes {1e3 * seconds:.3g} ms ({fastest}); allow that, or use smaller images"
        )


POPULATION, GENERATIONS = 64, 60


def evolve(
    space: Space,
    table: Table,
    latency: float,
    seed: int = 0,
    rule: Rule = anything,
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
    seed : int
    rule : function
        Whether a net takes part.

    Returns
    -------
    dict
        Every net that was looked at, with its cost; :func:`best` picks.

    Raises
    ------
    TinyshuffleError
        If no net of the space is that fast.
    """
    genome, entry = space.fastest(table, rule)
    if entry.seconds > latency:
        raise NoneFits(latency, genome, entry.seconds)
    rng = np.random.default_rng(seed)
    seen: dict[Genome, Entry] = {genome: entry}

    def fitness(genome: Genome) -> tuple[float, float]:
        if genome not in seen:
            seen[genome] = space.cost(genome, table)
        found = seen[genome]
        late = found.seconds > latency  # the least late is the best of those that are late
        return (-found.seconds, 0.0) if late else (0.0, float(found.multiply_adds))

    def draw() -> Genome:
        while not rule(genome := space.draw(rng)):
            pass
        return genome

    living = [genome, *(draw() for _ in range(POPULATION - 1))]
    for _ in range(GENERATIONS):
        living.sort(key=fitness, reverse=True)
        parents = living[: POPULATION // 2]
        children = [space.mutate(parent, rng) for parent in parents]
        living = [*filter(rule, dict.fromkeys(parents + children))]
        living += [draw() for _ in range(POPULATION - len(living))]
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
        Seconds of every net that was timed as a whole, in that order.
    seen : dict of Genome to Entry
        Every net that was looked at, with its cost by the look-up table.
    """

    genome: Genome
    measured: dict[Genome, float]
    seen: dict[Genome, Entry]


TRIES = 8
"""Nets that are timed as a whole, at most, once one of them is within the budget."""


def within(
    space: Space,
    table: Table,
    latency: float,
    measure: Callable[[Genome], float],
    seed: int = 0,
    rule: Rule = anything,
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
    rule : function
        Whether a net takes part.

    Raises
    ------
    TinyshuffleError
        If not even the fastest net is that fast.
    """
    seen: dict[Genome, Entry] = {}
    measured: dict[Genome, float] = {}
    fastest, entry = space.fastest(table, rule)
    # By the table: the most that was within the budget, and the least that was not.
    early, late, allowed = 0.0, math.inf, latency
    while late > early and not (early and len(measured) == TRIES):
        allowed = max(allowed, entry.seconds)
        seen |= evolve(space, table, allowed, seed, rule=rule)
        genome = best(seen, allowed)
        if genome in measured:
            break
        measured[genome] = seconds = measure(genome)
        by_table = seen[genome].seconds
        if seconds <= latency:
            early = max(early, by_table)
        else:
            late = min(late, by_table)
        allowed = by_table * latency / seconds
        if not early <= allowed < late:
            allowed = (early + late) / 2
    fit = {genome: seen[genome] for genome, seconds in measured.items() if seconds <= latency}
    if fit:
        return Found(best(fit, math.inf), measured, seen)
    if fastest not in measured:
        measured[fastest] = measure(fastest)
    raise NoneFits(latency, fastest, measured[fastest])


@dataclass(frozen=True)
class Guided:
    """What a search by V2's guidelines found, and what they ruled out.

    Attributes
    ----------
    found : Found
        Among the nets that the guidelines allow.
    counts : dict of str to int
        How many nets of the space each of :data:`.search_space.RULES` rules out.
    measured, seen : dict
        As of a :class:`Found`, of the nets that were ruled out.
    best : dict of str to Genome
        For each rule the largest net, of those that it rules out, that was timed as a whole and is
        within the same budget; none if none is.
    """

    found: Found
    counts: dict[str, int]
    measured: dict[Genome, float]
    seen: dict[Genome, Entry]
    best: dict[str, Genome]


def guided(
    space: Space, table: Table, latency: float, measure: Callable[[Genome], float], seed: int = 0
) -> Guided:
    """Search the nets that V2's guidelines allow, and apart those that each of them rules out.

    Parameters
    ----------
    space, table, latency, measure, seed
        As of :func:`within`. No net is timed as a whole twice.

    Raises
    ------
    TinyshuffleError
        If not even the fastest net that the guidelines allow is that fast.
    """
    timed = cache(measure)
    found = within(space, table, latency, timed, seed, obeys)
    rules = {name: partial(_breaks, name) for name in RULES}
    counts = {name: space.count(rule) for name, rule in rules.items()}
    measured: dict[Genome, float] = {}
    seen: dict[Genome, Entry] = {}
    for name, rule in rules.items():
        if counts[name]:
            with suppress(NoneFits):
                one = within(space, table, latency, timed, seed, rule)
                measured |= one.measured
                seen |= one.seen
    fit = {genome: seen[genome] for genome, seconds in measured.items() if seconds <= latency}
    largest = {}
    for name, rule in rules.items():
        # by any of the searches: most nets are against several guidelines
        if of_these := {genome: entry for genome, entry in fit.items() if rule(genome)}:
            largest[name] = best(of_these, math.inf)
    return Guided(found, counts, measured, seen, largest)


def _breaks(name: str, genome: Genome) -> bool:
    return name in ruled_out_by(genome)


BURSTS = 15


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
        self._yardstick: tuple[str, float] | None = None
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
        self, shape: tuple[int, int, int, int], *nets: dict[str, Any], bursts: int = 1
    ) -> list[list[float]]:
        """Return the median of each burst of each net; they take turns."""
        names = [str(i) for i in range(len(nets))]
        common = {"size": shape[1:3], "channels": shape[3]}
        held = {name: common | net for name, net in zip(names, nets, strict=True)}
        self._worker.ask("hold", nets=held)
        for name in names:
            self._worker.ask("run", net=name, seconds=0, least=2)  # warm now
        turns = [
            [
                spread(self._worker.ask("run", net=name, seconds=self.seconds, least=5)).median
                for name in names
            ]
            for _ in range(bursts)
        ]
        return [list(times) for times in zip(*turns, strict=True)]

    def yardstick(self, model: str) -> float:
        """Time a registered net, and from now on all others in turns with it.

        Their ratio is steady though the machine is not: what slows down one, slows down both.

        Returns
        -------
        float
            Its seconds.
        """
        [times] = self._time(self._images, {"yardstick": model}, bursts=BURSTS)
        self._yardstick = model, spread(times).median
        return self._yardstick[1]

    @property
    def _images(self) -> tuple[int, int, int, int]:
        return 1, *height_and_width(self.space.size), 3

    def net(self, genome: Genome) -> float:
        """Return the seconds of a whole net: the median of several bursts of passes."""
        net = {"genome": asdict(genome)}
        if self._yardstick is None:
            return spread(self._time(self._images, net, bursts=BURSTS)[0]).median
        model, seconds = self._yardstick
        own, other = self._time(self._images, net, {"yardstick": model}, bursts=BURSTS)
        return seconds * spread([a / b for a, b in zip(own, other, strict=True)]).median

    def table(self, progress: Progress) -> Table:
        """Time every part of the space, and count its multiply-adds.

        What each pass takes whatever it computes is part of the stem's time, and of no other's.
        """
        [[nothing]] = self._time((1, 1, 1, 3), {"blocks": []})
        parts, table = self.space.all_parts(), {}
        for i in progress.rounds("look-up table", len(parts)):
            part = parts[i]
            net, shape = self.space.module(part)
            [[seconds]] = self._time(shape, {"part": part})
            if part[0] != "stem":
                seconds = max(0.0, seconds - nothing)
            table[part] = Entry(seconds, profile(net, shape).total.multiply_adds)
        return table


def parse_latency(text: str) -> float:
    """Return the seconds that a text such as ``2ms``, ``1.5 ms`` or ``800us`` says.

    >>> [parse_latency(text) for text in ("2ms", "1.5 ms", "800us", "0.01 s")]
    [0.002, 0.0015, 0.0008, 0.01]
    """
    found = re.fullmatch(r"\s*(\d+\.?\d*|\.\d+)\s*(s|ms|us|µs|μs)\s*", text)
    scale = {"s": 1.0, "ms": 1e3}.get(found[2], 1e6) if found else 1.0
    if found is None or float(found[1]) == 0:
        raise TinyshuffleError(
            f"{text!r} is not a time: give a number above 0 and its unit, such as 2ms or 800us, or "
            "the name of a net"
        )
    return float(found[1]) / scale
