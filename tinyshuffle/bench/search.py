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
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from ..cost.profile import profile
from ..errors import TinyshuffleError
from .libraries import height_and_width
from .process import OURS, Worker
from .progress import Progress
from .search_space import Entry, Genome, Space, Table
from .spread import spread

__all__ = ["Clock", "Found", "best", "evolve", "front", "parse_latency", "ruled_out", "within"]

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
        shape = 1, *height_and_width(self.space.size), 3
        return self._time(shape, bursts=15, genome=asdict(genome))

    def table(self, progress: Progress) -> Table:
        """Time every part of the space, and count its multiply-adds.

        What each pass takes whatever it computes is part of the stem's time, and of no other's.
        """
        nothing = self._time((1, 1, 1, 3), blocks=[])
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
