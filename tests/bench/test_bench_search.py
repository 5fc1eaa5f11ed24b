"""The latency search: its space, its evolution, and the whole command."""

from __future__ import annotations

import numpy as np
import pytest
from click.testing import CliRunner

import tinyshuffle as ts
from tinyshuffle.bench import search
from tinyshuffle.bench.search import Entry, Genome, Space, best, evolve, front, parse_latency
from tinyshuffle.cli import cli

SPACE = Space(32, 10, groups=(0, 3), widths=(48, 96), depths=(2, 4))


def counted(space, seconds=lambda adds: 1e-5 + adds / 1e10):
    """A look-up table of a machine whose time is known."""
    table = {}
    for part in space.all_parts():
        net, shape = space.module(part)
        adds = ts.cost.profile(net, shape).total.multiply_adds
        table[part] = Entry(seconds(adds), adds)
    return table


@pytest.fixture(scope="module")
def table():
    return counted(SPACE)


def test_times_are_read():
    texts = ("2ms", " 1.5 ms ", "800us", "800µs", ".5ms", "1s")
    assert [parse_latency(text) for text in texts] == [2e-3, 1.5e-3, 8e-4, 8e-4, 5e-4, 1.0]
    for text in ("2", "ms", "-2ms", "0ms", "2 minutes", "1e-3s", ""):
        with pytest.raises(ts.TinyshuffleError, match="is not a time: give a number above 0"):
            parse_latency(text)


def test_a_net_is_the_sum_of_its_parts(table):
    rng = np.random.default_rng(0)
    for _ in range(20):
        genome = SPACE.draw(rng)
        net, entry = SPACE.build(genome), SPACE.cost(genome, table)
        assert ts.cost.profile(net, (1, 32, 32, 3)).total.multiply_adds == entry.multiply_adds
        assert entry.seconds == pytest.approx(
            sum(table[part].seconds for part in SPACE.parts(genome))
        )
    assert net.eval()(np.zeros((1, 32, 32, 3), np.float32)).shape == (1, 10)


def test_mutants_stay_in_the_space(table):
    rng = np.random.default_rng(1)
    genome, seen = SPACE.draw(rng), set()
    for _ in range(300):
        genome = SPACE.mutate(genome, rng)
        seen.add(genome)
        SPACE.cost(genome, table)  # has all parts
    assert {g.groups for g in seen} == {0, 3} and len(seen) > 30


def every_net():
    return [
        Genome(groups, (a, b, c), (d, e, f))
        for groups in SPACE.groups
        for a in SPACE.choices(groups, 0)
        for b in SPACE.choices(groups, 1)
        for c in SPACE.choices(groups, 2)
        if SPACE._possible(groups, (a, b, c))
        for d in SPACE.depths
        for e in SPACE.depths
        for f in SPACE.depths
    ]


def test_the_search_finds_the_best_there_is(table):
    """In a space small enough to look at every net."""
    costs = {genome: SPACE.cost(genome, table) for genome in every_net()}
    times = sorted(entry.seconds for entry in costs.values())
    for latency in (times[0], times[len(times) // 2], 2 * times[-1]):
        seen = evolve(SPACE, table, latency, seed=3)
        found = best(seen, latency)
        assert seen[found] == costs[found] and costs[found].seconds <= latency
        most = max(e.multiply_adds for e in costs.values() if e.seconds <= latency)
        assert costs[found].multiply_adds == most


def test_the_clock_has_its_say():
    """Where grouped units take ten times as long, none is chosen."""
    fair = counted(SPACE)
    slow = {
        part: Entry(e.seconds * (10 if part[0] == "unit" and part[1] == 3 else 1), e.multiply_adds)
        for part, e in fair.items()
    }
    latency = 3 * SPACE.fastest(slow)[1].seconds
    assert best(evolve(SPACE, slow, latency), latency).groups == 0


def test_a_seed_is_a_search(table):
    assert list(evolve(SPACE, table, 0.01, seed=5)) == list(evolve(SPACE, table, 0.01, seed=5))
    assert list(evolve(SPACE, table, 0.01, seed=5)) != list(evolve(SPACE, table, 0.01, seed=6))


def test_an_impossible_budget_is_one_sentence(table):
    fastest = min(SPACE.cost(genome, table).seconds for genome in every_net())
    with pytest.raises(ts.TinyshuffleError) as caught:
        evolve(SPACE, table, fastest / 2)
    assert f"the fastest one there is takes {1e3 * fastest:.3g} ms" in str(caught.value)
    assert "\n" not in str(caught.value)


def test_the_front_is_beaten_by_none():
    a, b, c, d = (Genome(0, (w, w, w), (2, 2, 2)) for w in range(4))
    seen = {a: Entry(1.0, 10), b: Entry(2.0, 9), c: Entry(2.0, 12), d: Entry(3.0, 30)}
    assert front(seen) == [a, c, d]


# ---- the whole command


@pytest.fixture
def tiny(monkeypatch):
    init = search.Clock.__init__
    small = {"groups": (0, 2), "widths": (48,), "depths": (2, 3)}
    monkeypatch.setattr(
        search, "Space", lambda size, classes: Space(size, classes, **small)
    )
    monkeypatch.setattr(
        search.Clock, "__init__", lambda self, space, threads: init(self, space, threads, 0.0)
    )


def run(*arguments):
    return CliRunner().invoke(cli, ["search", "--input-size", "8", "--threads", "1", *arguments])


def test_the_command(tiny, tmp_path):
    figure = tmp_path / "front.png"
    result = run("--latency", "100s", "--plot", str(figure))
    assert result.exit_code == 0, result.output
    assert "found" in result.stdout and "ms measured as a whole" in result.stdout
    # no budget: the deepest net there is
    assert "widths 48, 96, 192, depths 3, 3, 3" in result.stdout
    assert figure.read_bytes().startswith(b"\x89PNG")


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("--latency", "1us"), "no net of the space takes 0.001 ms or less: the fastest one"),
        (("--latency", "soon"), "'soon' is not a time"),
        (("--latency", "1ms", "--input-size", "2"), "--input-size 2 is too small"),
        (("--latency", "1ms", "--threads", "0"), "--threads 0 is not possible"),
    ],
)
def test_mistakes_are_one_sentence(tiny, arguments, words):
    result = run(*arguments)
    assert result.exit_code == 1 and result.stdout == "", result.output
    assert words in result.stderr and result.stderr.count("\n") == 1
